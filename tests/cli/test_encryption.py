"""Encrypted stores and signing keys on the command line: every source of a secret, every mistake, no secret shown."""

from __future__ import annotations

import json
import os
import pty
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mounting import Machine
from running import Run, runner
from spoiling import spoil

from modelfs.cli import app
from modelfs.fuse.mountpoint import mount_table

CANARY = "canary-of-a-passphrase"
Refused = Callable[..., str]


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """A file with a passphrase."""
    path = tmp_path / "words"
    path.write_text(CANARY + "\n")
    return path


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """A file with a raw key."""
    path = tmp_path / "raw.key"
    path.write_bytes(os.urandom(32))
    return path


@pytest.fixture
def sealed(modelfs: Run, words: Path, tmp_path: Path) -> Path:
    """An encrypted store that the passphrase opens, with one file."""
    modelfs("init", tmp_path / "sealed", "--encrypt", "--passphrase-file", words)
    (tmp_path / "file").write_text("content")
    modelfs("put", tmp_path / "sealed", "file", "file", "--passphrase-file", words)
    return tmp_path / "sealed"


@pytest.fixture
def refused(modelfs: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """Run a command that must be refused, in this process; returns its one line, which shows no secret."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> str:
        capsys.readouterr()
        with monkeypatch.context() as changed:
            changed.setattr(sys, "argv", ["modelfs", *map(str, arguments)])
            with pytest.raises(SystemExit) as ended:
                app.main()
        err = capsys.readouterr().err
        assert ended.value.code == 2, err
        assert err.startswith("modelfs: ")
        assert err.count("\n") == 1, err
        assert CANARY not in err
        return err

    return run


def test_fsck_of_an_encrypted_store_and_its_mirror(
    modelfs: Run, sealed: Path, words: Path, refused: Refused, tmp_path: Path
) -> None:
    """format.json and chunks come back from a mirror; another store cannot help, and a cache needs the key."""
    given = ("--passphrase-file", words)
    (tmp_path / "large").write_bytes(os.urandom(300_000))
    modelfs("put", sealed, "large", "large", *given)
    shutil.copytree(sealed, tmp_path / "mirror")
    modelfs("init", tmp_path / "stranger", "--encrypt", *given)
    (sealed / "format.json").unlink()
    (chunk,) = (path for path in (sealed / "data").rglob("*") if path.is_file())
    spoil(chunk)
    repair = ("fsck", sealed, "--read-data", "--repair", "--json", *given)
    assert modelfs(*repair, "--from", tmp_path / "stranger", code=1).json["repaired"] == 0
    found = modelfs(*repair, "--from", tmp_path / "mirror").json
    assert (found["damaged"], found["repaired"]) == (2, 2)
    assert "is no mirror of" in refused("fsck", sealed, "--repair", "--from", tmp_path / "stranger", *given)
    (tmp_path / "mnt").mkdir()
    modelfs("mount", sealed, tmp_path / "mnt", "--cache-dir", tmp_path / "cache", *given)
    try:
        assert (tmp_path / "mnt/large").read_bytes() == (tmp_path / "large").read_bytes()
    finally:
        modelfs("umount", tmp_path / "mnt")
    verify = ("cache", "verify", "--cache-dir", tmp_path / "cache")
    assert "encrypted store: name the store" in refused(*verify)
    (row,) = modelfs(*verify, sealed, "--json", *given).json
    assert (row["chunks"] > 0, row["damaged_chunks"]) == (True, 0)
    spoil(chunk)
    found = modelfs(*repair, "--cache-dir", tmp_path / "cache").json
    assert [damage["repaired_from"] for damage in found["damage"]] == [f"the cache {tmp_path / 'cache'}"]
    assert modelfs("fsck", sealed, "--read-data", "--json", *given).json["clean"] is True


def test_every_command_opens_an_encrypted_store(modelfs: Run, sealed: Path, words: Path, tmp_path: Path) -> None:
    given = ("--passphrase-file", words)
    assert modelfs("ls", sealed, *given).out == "file\n"
    modelfs("cp", sealed, "file", "copy", *given)
    modelfs("get", sealed, "copy", "got", *given)
    assert (tmp_path / "got").read_text() == "content"
    modelfs("tag", sealed, "v1", *given)
    assert [tag["name"] for tag in modelfs("tag", sealed, "--json", *given).json] == ["v1"]
    assert len(modelfs("log", sealed, "--json", *given).json) == 3
    assert "copy" in modelfs("diff", sealed, "main@2", "main@3", *given).out
    assert modelfs("du", sealed, "--json", *given).json["files"] == 2
    assert modelfs("stat", sealed, "copy", "--json", *given).json["size"] == 7
    assert modelfs("fsck", sealed, "--read-data", "--json", *given).json["clean"] is True
    assert modelfs("scrub", sealed, "--json", *given).json["clean"] is True


def test_init_says_that_it_is_encrypted(modelfs: Run, words: Path, tmp_path: Path) -> None:
    assert "made an encrypted store" in modelfs("init", tmp_path / "a", "--encrypt", "--passphrase-file", words).out
    facts = modelfs("init", tmp_path / "b", "--encrypt", "--passphrase-file", words, "--json").json
    assert facts["encrypted"] is True
    assert "encryption" in json.loads((tmp_path / "b" / "format.json").read_text())


def test_every_source_of_a_secret(
    modelfs: Run, sealed: Path, words: Path, key_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modelfs("key", "add", sealed, "--name", "raw", "--new-key-file", key_file, "--passphrase-file", words)
    assert modelfs("ls", sealed, "--key-file", key_file).out == "file\n"
    assert modelfs("ls", sealed, "--passphrase-command", f"cat {words}").out == "file\n"
    assert modelfs("ls", sealed, "--passphrase-command", f"printf %s $(cat {words})").out == "file\n"
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert "is encrypted: give" in modelfs("ls", sealed, code=2).err
    (credentials / "modelfs.key").write_bytes(key_file.read_bytes())
    assert modelfs("ls", sealed).out == "file\n"
    (credentials / "modelfs.passphrase").write_text("wrong")
    assert "opens no key slot" in modelfs("ls", sealed, code=2).err
    monkeypatch.setenv("MODELFS_KEY_FILE", str(key_file))
    assert modelfs("ls", sealed).out == "file\n"
    monkeypatch.setenv("MODELFS_PASSPHRASE_FILE", str(credentials / "modelfs.passphrase"))
    assert "one of them, please" in modelfs("ls", sealed, code=2).err
    monkeypatch.delenv("MODELFS_KEY_FILE")
    assert "opens no key slot" in modelfs("ls", sealed, code=2).err
    assert modelfs("ls", sealed, "--passphrase-file", words).out == "file\n"


def test_bad_secrets(refused, modelfs: Run, sealed: Path, words: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    def write(content: bytes) -> Path:
        path = tmp_path / "bad"
        path.write_bytes(content)
        return path

    assert "is encrypted: give --passphrase-file" in refused("ls", sealed)
    assert "opens no key slot" in refused("ls", sealed, "--passphrase-file", write(CANARY.encode() + b"x"))
    assert "one of them" in refused("ls", sealed, "--passphrase-file", words, "--key-file", words)
    assert "the passphrase is empty" in refused("ls", sealed, "--passphrase-file", write(b"\n"))
    assert "4096 bytes at most" in refused("ls", sealed, "--passphrase-file", write(b"x" * 5000))
    assert "No such file" in refused("ls", sealed, "--passphrase-file", tmp_path / "none")
    assert "Is a directory" in refused("ls", sealed, "--passphrase-file", tmp_path)
    assert "32 random bytes" in refused("ls", sealed, "--key-file", write(bytes(31)))
    assert "32 random bytes" in refused("ls", sealed, "--key-file", write(bytes(33)))
    assert "failed (exit code 3)" in refused("ls", sealed, "--passphrase-command", f"cat {words}; exit 3")
    assert "the passphrase is empty" in refused("ls", sealed, "--passphrase-command", "true")
    assert "but not --encrypt" in refused("init", tmp_path / "new", "--passphrase-file", words)
    assert not (tmp_path / "new").exists()
    assert "no terminal to ask" in refused("init", tmp_path / "new", "--encrypt")
    modelfs("init", tmp_path / "plain")
    assert "is not encrypted, but" in refused("ls", tmp_path / "plain", "--passphrase-file", words)
    assert "is not encrypted, so it has no keys" in refused("key", "ls", tmp_path / "plain")
    assert "is not encrypted, so it has no keys" in refused("key", "rm", tmp_path / "plain", "x")


def test_key_slots(refused, modelfs: Run, sealed: Path, words: Path, key_file: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    given = ("--passphrase-file", words)
    made = modelfs("key", "add", sealed, "--name", "raw", "--new-key-file", key_file, *given, "--json").json
    assert (made["name"], made["kind"]) == ("raw", "key-file")
    assert "already" in refused("key", "add", sealed, "--name", "raw", "--new-key-file", key_file, *given)
    assert "not a name" in refused("key", "add", sealed, "--name", "a/b", "--new-key-file", key_file, *given)
    assert "no terminal" in refused("key", "add", sealed, "--name", "x", *given)
    assert "one of them" in refused(
        "key", "add", sealed, "--name", "x", "--new-key-file", key_file, "--new-passphrase-file", words, *given
    )
    assert [slot["name"] for slot in modelfs("key", "ls", sealed, "--json").json] == ["first", "raw"]
    assert CANARY not in modelfs("key", "ls", sealed).out
    assert "raw cannot be carried on" in refused("key", "rotate", sealed, *given)
    kept = modelfs("key", "rotate", sealed, *given, "--keep-key-file", key_file, "--json").json
    assert kept["slots"] == ["first", "raw"]
    assert "no key slot 'nobody'" in refused("key", "rm", sealed, "nobody", *given)
    modelfs("key", "rm", sealed, "first", "--key-file", key_file)
    assert "opens no key slot" in refused("ls", sealed, *given)
    assert "is the last key slot" in refused("key", "rm", sealed, "raw", "--key-file", key_file)
    modelfs("key", "add", sealed, "--name", "again", "--new-passphrase-command", f"cat {words}", "--key-file", key_file)
    dropped = modelfs("key", "rotate", sealed, *given, "--drop-others")
    assert "slot raw is dropped" in dropped.err
    assert modelfs("ls", sealed, *given).out == "file\n"
    assert "opens no key slot" in refused("ls", sealed, "--key-file", key_file)


def test_a_lock_that_was_left(refused, modelfs: Run, sealed: Path, words: Path) -> None:  # type: ignore[no-untyped-def]
    given = ("--passphrase-file", words)
    (sealed / "keys.lock").write_text("left")
    assert "--break-lock" in refused("key", "rotate", sealed, *given)
    modelfs("key", "rotate", sealed, *given, "--break-lock")
    assert not (sealed / "keys.lock").exists()


def test_signing_keys(refused, modelfs: Run, local_store: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    public = modelfs("key", "sign-init", "sign.key").out.strip()
    path = tmp_path / "sign.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert public.startswith("ed25519:")
    assert "File exists" in refused("key", "sign-init", "sign.key")
    other = modelfs("key", "sign-init", "other.key", "--json").json["public"]
    (tmp_path / "f").write_text("x")
    assert "main@1 in" in refused("log", local_store, "--verify-with", public)
    modelfs("put", local_store, "f", "f", "--sign-with", path)
    (tmp_path / "trusted").write_text(f"# whom we trust\n{other}  # a colleague\n{public}\n")
    shown = modelfs("log", local_store, "--json", "--verify-with", "trusted").json
    assert [commit["signed_by"] for commit in shown] == [public, None]
    assert "is signed by a key that is not trusted" in refused("log", local_store, "--verify-with", other)
    modelfs("get", local_store, "f", "got", "--verify-with", public)
    assert "needs --sign-with" in refused("put", local_store, "f", "g", "--verify-with", public)
    assert "among them" in refused(
        "put", local_store, "f", "g", "--verify-with", public, "--sign-with", tmp_path / "other.key"
    )
    modelfs("cp", local_store, "f", "g", "--verify-with", public, "--sign-with", path)
    modelfs("cp", local_store, "f", "h")
    assert "main@4" in refused("ls", local_store, "--verify-with", public)
    path.chmod(0o644)
    assert "others can read this signing key" in refused("cp", local_store, "f", "i", "--sign-with", path)
    assert "not a signing key" in refused("cp", local_store, "f", "i", "--sign-with", _private(tmp_path / "f"))
    assert "not a public key" in refused("log", local_store, "--verify-with", "ed25519:00")
    assert "No such file" in refused("log", local_store, "--verify-with", "nowhere")
    (tmp_path / "none").write_text("# nobody\n")
    assert "no public key in it" in refused("log", local_store, "--verify-with", "none")
    (tmp_path / "none").write_bytes(b"\xff\xfe")
    assert "not text" in refused("log", local_store, "--verify-with", "none")
    assert "not text" in refused("cp", local_store, "f", "i", "--sign-with", _private(tmp_path / "none"))


def _private(path: Path) -> Path:
    path.chmod(0o600)
    return path


def test_a_mount_refuses_what_is_not_signed(refused, modelfs: Run, local_store: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    public = modelfs("key", "sign-init", "sign.key").out.strip()
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    assert "is not signed" in refused("mount", local_store, mountpoint, "--read-only", "--verify-with", public)
    assert "needs --sign-with" in refused("mount", local_store, mountpoint, "--verify-with", public)
    assert not any(entry.path == str(mountpoint) for entry in mount_table())


def test_a_store_that_was_rolled_back(refused, modelfs: Run, local_store: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "f").write_text("x")
    modelfs("put", local_store, "f", "f")
    newest = local_store / "commits" / "main" / "2".zfill(20)
    newest.unlink()
    line = refused("ls", local_store)
    assert "has been rolled back: shows main@1, and main@2 was seen here" in line
    (tmp_path / "mnt").mkdir()
    assert "rolled back" in refused("mount", local_store, tmp_path / "mnt")
    Path(line.rpartition("remove ")[2].strip()).unlink()
    assert modelfs("ls", local_store).out == ""


# -- a person at a terminal -------------------------------------------------------------------------------------------


def at_terminal(directory: Path, arguments: list[object], *answers: str) -> tuple[int, str]:
    """Run ``modelfs`` on a terminal of its own, answering each prompt for a passphrase: exit code and screen."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(directory)
        os.execv(sys.executable, [sys.executable, "-m", "modelfs", *map(str, arguments)])
    screen, answered = b"", 0
    try:
        while True:
            try:
                more = os.read(terminal, 4096)
            except OSError:  # the other end is closed
                break
            if not more:
                break
            screen += more
            asked = screen.count(b"passphrase: ") + screen.count(b"confirmation: ")
            if answered < min(asked, len(answers)):
                os.write(terminal, answers[answered].encode() + b"\n")
                answered += 1
    finally:
        os.close(terminal)
        _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), screen.decode()


def test_a_person_is_asked(modelfs: Run, tmp_path: Path, machine: Machine) -> None:
    store = tmp_path / "typed"
    code, screen = at_terminal(tmp_path, ["init", store, "--encrypt"], CANARY, CANARY)
    assert code == 0, screen
    assert CANARY not in screen
    (tmp_path / "words").write_text(CANARY)
    modelfs("ls", store, "--passphrase-file", "words")
    code, screen = at_terminal(tmp_path, ["ls", store], CANARY)
    assert code == 0, screen
    code, screen = at_terminal(tmp_path, ["ls", store], "wrong")
    assert code == 2
    assert "opens no key slot" in screen
    mountpoint = machine.directory / "mnt"
    mountpoint.mkdir()
    try:
        code, screen = at_terminal(tmp_path, ["mount", store, mountpoint], CANARY)
        assert code == 0, screen
        (mountpoint / "f").write_text("written")
    finally:
        machine._mounted[mountpoint] = machine.pid(mountpoint)
    modelfs("umount", mountpoint)
    machine._mounted.clear()
    assert modelfs("ls", store, "--passphrase-file", "words").out == "f\n"


def test_nobody_is_asked_for_a_plain_store(local_store: Path, tmp_path: Path) -> None:
    assert at_terminal(tmp_path, ["ls", local_store]) == (0, "")


# -- where a secret could show ----------------------------------------------------------------------------------------


def test_a_secret_shows_nowhere(modelfs: Run, sealed: Path, words: Path, machine: Machine, tmp_path: Path) -> None:
    """Command lines and environments of all processes, logs, status, cache, journal, registry, core files."""
    key = tmp_path / "sign.key"
    modelfs("key", "sign-init", key)
    secret_hex = key.read_text().strip().rpartition(":")[2]
    mountpoint = machine.directory / "mnt"
    mountpoint.mkdir()
    words.rename(tmp_path / "moved")
    run = runner(tmp_path)
    command = ("mount", sealed, mountpoint, "--passphrase-file", tmp_path / "moved", "--sign-with", key, "--debug")
    run(*command, "--write-back", "--log-file", tmp_path / "mount.log")
    machine._mounted[mountpoint] = machine.pid(mountpoint)
    (mountpoint / "model.bin").write_bytes(os.urandom(3_000_000))
    (mountpoint / "small").write_text("y")
    daemon = machine.pid(mountpoint)
    canaries = [CANARY.encode(), CANARY.encode().hex().encode(), secret_hex.encode(), bytes.fromhex(secret_hex)]
    shown: list[tuple[object, bytes]] = [
        ("status", modelfs("status", mountpoint).out.encode()),
        ("status --json", modelfs("status", mountpoint, "--json").out.encode()),
        ("environment", Path(f"/proc/{daemon}/environ").read_bytes()),
    ]
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            shown.append((process, process.read_bytes()))
        except OSError:
            continue
    assert "Max core file size        0                    0" in Path(f"/proc/{daemon}/limits").read_text()
    machine.kill(mountpoint)
    places = [p for p in tmp_path.iterdir() if p not in (machine.directory, tmp_path / "moved", key)]
    files = [p for place in places for p in (place, *place.rglob("*")) if p.is_file()]
    assert any("journal" in p.parts for p in files)
    assert any("xdg-cache" in p.parts for p in files)
    shown += [(path, path.read_bytes()) for path in files]
    for where, content in shown:
        for canary in canaries:
            assert canary not in content, where
    run(*command, "--log-file", tmp_path / "mount.log")
    machine._mounted[mountpoint] = machine.pid(mountpoint)
    assert (mountpoint / "small").read_text() == "y"
    modelfs("umount", mountpoint)
    machine._mounted.clear()
