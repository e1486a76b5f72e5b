"""modelfs journal: what dead and living mounts left, shown and handled from the command line."""

from __future__ import annotations

import os
import shutil

import pytest
from mounting import Machine, hand_over
from running import Run

BASE = os.urandom(5_000_000)
PENDING = os.urandom(700_000)
PATCH = os.urandom(8192)
PATCHED = BASE[: 1 << 20] + PATCH + BASE[(1 << 20) + len(PATCH) :]


@pytest.fixture
def left(machine: Machine, store: str) -> str:
    """A mount with --write-back died while the store took nothing: a new file, renamed and with another mode, was
    acknowledged; an old file was half patched, and a new one half written and renamed. Returns the session's name."""
    mnt = machine.mount(store, write_back=True)
    (mnt / "runs").mkdir()
    (mnt / "runs/old.bin").write_bytes(BASE)
    machine.umount(mnt)
    mnt = machine.mount(store, write_back=True)
    machine.freeze_uploads(store)
    (mnt / "runs/tmp").write_bytes(PENDING)
    os.rename(mnt / "runs/tmp", mnt / "runs/new.bin")
    (mnt / "runs/new.bin").chmod(0o640)
    patched, half = os.open(mnt / "runs/old.bin", os.O_RDWR), os.open(mnt / "half", os.O_WRONLY | os.O_CREAT)
    os.pwrite(patched, PATCH, 1 << 20)
    os.pwrite(half, b"h" * 100_000, 0)
    for descriptor in (patched, half):
        hand_over(descriptor)
    os.rename(mnt / "half", mnt / "half.part")
    machine.kill(mnt)
    for descriptor in (patched, half):
        with pytest.raises(OSError):
            os.close(descriptor)
    [session] = (machine.directory.parent / "state/modelfs/journal").glob("*/main/*")
    return session.name


def test_what_a_dead_mount_left(modelfs: Run, machine: Machine, store: str, left: str) -> None:
    [facts] = modelfs("journal", "ls", "--json").json
    assert (facts["session"], facts["state"], facts["store"]) == (left, "dead", store)
    assert {(f["path"], f["state"], f["size"]) for f in facts["files"]} == {
        ("runs/new.bin", "pending", len(PENDING)),
        ("runs/old.bin", "unfinished", len(BASE)),
        ("half.part", "unfinished", 100_000),
    }
    said = modelfs("journal", "ls", store).out
    assert f"{left[:12]}  main of {store}: its mount at {machine.directory / 'mnt'} of" in said
    assert "pending upload  runs/new.bin" in said
    assert "change" in said
    assert "journal retry" in said
    # The store takes nothing: it is said why, and nothing is gone.
    refused = modelfs("journal", "retry", code=1)
    assert "could not be replayed and is kept: " in refused.out
    assert "could not be replayed: " in modelfs("journal", "ls", store).out
    machine.thaw_uploads(store)
    [outcome] = modelfs("journal", "retry", store, "--json").json
    assert (outcome["session"], outcome["failure"], sorted(outcome["kept"])) == (
        left,
        "",
        ["half.part", "runs/old.bin"],
    )
    modelfs("get", store, "runs/new.bin", "new.bin")
    assert (machine.directory.parent / "new.bin").read_bytes() == PENDING
    assert (machine.directory.parent / "new.bin").stat().st_mode & 0o777 == 0o640
    [facts] = modelfs("journal", "ls", "--json").json
    assert (facts["failure"], facts["changes"]) == ("", 0)
    assert {f["path"] for f in facts["files"]} == {"half.part", "runs/old.bin"}
    assert "nothing pending; 2 files kept" in modelfs("journal", "retry").out
    # What nobody acknowledged is not in the store, and can be saved or deleted.
    assert modelfs("ls", store).out.split() == ["runs/"]
    modelfs("journal", "export", left[:8], "saved")
    saved = machine.directory.parent / "saved"
    assert (saved / "half.part").read_bytes() == b"h" * 100_000
    assert (saved / "runs/old.bin").read_bytes() == PATCHED
    assert "nobody can be asked" in modelfs("journal", "drop", f"{left}/half.part", code=2).err
    assert "half.part" in modelfs("journal", "drop", f"{left}/half.part", "--yes").out
    assert [f["path"] for f in modelfs("journal", "ls", "--json").json[0]["files"]] == ["runs/old.bin"]
    modelfs("journal", "drop", left, "--yes")
    assert modelfs("journal", "ls").out == "nothing is left in the journal\n"
    assert modelfs("journal", "retry").out == "no dead mount has left anything\n"


def test_export_of_pending_files_without_the_store(modelfs: Run, machine: Machine, store: str, left: str) -> None:
    """What lies here whole needs no store; what shows through needs it, and that is said."""
    machine.thaw_uploads(store)
    shutil.move(store, f"{store}-away")
    done = modelfs("journal", "export", left, "saved", code=1)
    saved = machine.directory.parent / "saved"
    assert "the store is away" in done.err
    assert f"runs/old.bin: {len(BASE) - len(PATCH)} of its bytes are only in the store" in done.err
    assert (saved / "runs/new.bin").read_bytes() == PENDING
    assert not (saved / "runs/old.bin").exists()
    assert not list(saved.rglob("*.part.*"))
    # The store has come back elsewhere.
    done = modelfs("journal", "export", f"{left}/runs/old.bin", "later", "--store", f"{store}-away", "--json")
    assert done.json["exported"][0]["size"] == len(BASE)
    assert (machine.directory.parent / "later/runs/old.bin").read_bytes() == PATCHED
    assert "exists already" in modelfs("journal", "export", f"{left}/runs/old.bin", "later", code=1).err
    assert modelfs("journal", "retry", f"{store}-away").out.startswith(left[:12])


def test_a_living_mount_is_only_looked_at(modelfs: Run, machine: Machine, store: str) -> None:
    mnt = machine.mount(store, write_back=True)
    assert modelfs("journal", "ls").out == "nothing is left in the journal\n"
    machine.freeze_uploads(store)
    (mnt / "f").write_bytes(PENDING)
    [facts] = modelfs("journal", "ls", store, "--json").json
    assert (facts["state"], facts["pid"], facts["mountpoint"]) == ("mounted", machine.pid(mnt), str(mnt))
    assert [(f["path"], f["state"]) for f in facts["files"]] == [("f", "pending")]
    assert f"mounted at {mnt}, process" in modelfs("journal", "ls").out
    session = facts["session"]
    assert "which lives" in modelfs("journal", "drop", session, "--yes", code=2).err
    assert "which lives" in modelfs("journal", "retry", "--session", session, code=2).err
    assert modelfs("journal", "retry", "--json").json == []
    modelfs("journal", "export", f"{session}/f", "out")
    assert (machine.directory.parent / "out/f").read_bytes() == PENDING
    machine.thaw_uploads(store)
    machine.umount(mnt)
    assert modelfs("journal", "ls", "--json").json == []


def test_bad_input(modelfs: Run, machine: Machine, store: str, left: str) -> None:
    def refused(*arguments: object) -> str:
        err = modelfs("journal", *arguments, code=2).err
        assert err.count("\n") == 1, err
        return err

    assert "no journal 'ffff-none'" in refused("drop", "ffff-none", "--yes")
    assert "no journal ''" in refused("export", "/x", "out")
    assert "no journal '..'" in refused("export", "../../etc", "out")
    assert "has no file 'nope'" in refused("export", f"{left}/nope", "out")
    assert "pending upload" in refused("drop", f"{left}/runs/new.bin", "--yes")
    assert "no such directory" in refused("ls", "/nowhere/at/all")
    modelfs("init", "another")
    assert modelfs("journal", "ls", "another").out == "nothing is left in the journal\n"
    assert "is not of another" in refused("retry", "another", "--session", left)
    assert "another store" in modelfs("journal", "export", left, "o", "--store", "another", code=1).err
    [view] = (machine.directory.parent / "state/modelfs/journal").glob("*/main/*")
    (view / "about").write_text("{")  # as a power loss may leave it
    assert "does not know its store's URL" in refused("retry")
    assert modelfs("journal", "ls", view.parent.parent.name, "--json").json[0]["session"] == left
    machine.thaw_uploads(store)
    assert "brought into the store" in modelfs("journal", "retry", store).out
