"""Who shares the machine: other users beside a mount of root's, with and without --allow-other, and a mount by a user
without privileges. All of it takes root, who can become anybody."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from mounting import Machine
from namespaces import unshared

import modelfs
from modelfs import config
from modelfs.fuse import control

ANNA, BORIS = 65534, 65533  # nobody, and somebody else
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="takes root to become other users")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Where everybody may go: pytest's own directories are root's alone. (It is taken down before a change of the
    environment is undone: the state directory knows how the bare directory was.)"""
    directory = Path(tempfile.mkdtemp(prefix="modelfs-users-", dir="/var/tmp"))
    directory.chmod(0o755)
    made = Machine(directory)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def shared(machine: Machine) -> Path:
    """A mount of root's that lets others in."""
    mnt = machine.mount(machine.new_store(), allow_other=True)
    mnt.chmod(0o755)
    return mnt


def as_user(uid: int, command: str, *arguments: object) -> tuple[bool, str]:
    """Run a line of shell as another user, $1 and so on being the arguments: whether it succeeded, and what it said."""
    done = subprocess.run(
        ["/bin/sh", "-c", command, "sh", *map(str, arguments)],
        user=uid,
        group=uid,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
    )
    return done.returncode == 0, done.stdout + done.stderr


def denied(uid: int, command: str, *arguments: object) -> None:
    worked, said = as_user(uid, command, *arguments)
    assert not worked, f"{command} {arguments}: {said}"
    assert "ermission denied" in said or "not permitted" in said, said


def allowed(uid: int, command: str, *arguments: object) -> str:
    worked, said = as_user(uid, command, *arguments)
    assert worked, f"{command} {arguments}: {said}"
    return said


def test_without_allow_other_nobody_else_gets_in(machine: Machine) -> None:
    mnt = machine.mount(machine.new_store())
    (mnt / "open").write_text("content")
    (mnt / "open").chmod(0o777)
    mnt.chmod(0o777)
    for command in ('ls "$1"', 'cat "$1/open"', 'stat "$1"', 'echo x > "$1/new"', 'env -C "$1" true', 'mkdir "$1/d"'):
        denied(ANNA, command, mnt)
    assert os.listdir(mnt) == ["open"]
    assert "allow_other" not in next(
        line for line in Path("/proc/self/mounts").read_text().splitlines() if str(mnt) in line
    )


def test_modes_hold_for_everybody(shared: Path) -> None:
    """default_permissions: the kernel checks, by the owners and modes that the tree has."""
    for name, mode in (("private", 0o600), ("public", 0o644), ("group", 0o640), ("hers", 0o600)):
        (shared / name).write_text(f"content of {name}")
        (shared / name).chmod(mode)
    os.chown(shared / "group", 0, ANNA)
    os.chown(shared / "hers", ANNA, ANNA)
    denied(ANNA, 'cat "$1"', shared / "private")
    denied(ANNA, 'echo x >> "$1"', shared / "private")
    assert allowed(ANNA, 'cat "$1"', shared / "public") == "content of public"
    denied(ANNA, 'echo x >> "$1"', shared / "public")
    assert allowed(ANNA, 'cat "$1"', shared / "group") == "content of group"
    denied(BORIS, 'cat "$1"', shared / "group")
    assert allowed(ANNA, 'cat "$1"; echo more >> "$1"', shared / "hers") == "content of hers"
    denied(BORIS, 'cat "$1"', shared / "hers")
    for command in ('echo x > "$1/new"', 'rm -f "$1/public"', 'mv "$1/public" "$1/x"', 'ln "$1/public" "$1/x"'):
        denied(ANNA, command, shared)
    for command in ('chmod 777 "$1"', 'chown 65534 "$1"', 'touch -d 2001-01-01 "$1"'):
        denied(ANNA, command, shared / "public")
    denied(ANNA, 'chown 65533 "$1"', shared / "hers")
    assert sorted(os.listdir(shared)) == ["group", "hers", "private", "public"]
    assert (shared / "hers").read_text() == "content of hersmore\n"


def test_modes_hold_for_what_was_read_before(shared: Path) -> None:
    """What the kernel has in memory for one user it does not show to another."""
    (shared / "d").mkdir(mode=0o700)
    (shared / "d" / "f").write_text("secret")
    (shared / "d" / "f").chmod(0o644)
    assert (shared / "d" / "f").read_text() == "secret"
    assert os.listdir(shared / "d") == ["f"]
    denied(ANNA, 'ls "$1"', shared / "d")
    denied(ANNA, 'cat "$1/f"', shared / "d")
    (shared / "d").chmod(0o711)
    assert allowed(ANNA, 'cat "$1/f"', shared / "d") == "secret"
    denied(ANNA, 'ls "$1"', shared / "d")
    (shared / "d" / "f").chmod(0o600)
    denied(ANNA, 'cat "$1/f"', shared / "d")


def test_a_directory_of_mode_0_is_shut_for_its_owner_too(shared: Path) -> None:
    (shared / "hers").mkdir()
    (shared / "hers" / "f").write_text("content")
    (shared / "hers" / "f").chmod(0o666)
    os.chown(shared / "hers", ANNA, ANNA)
    allowed(ANNA, 'ls "$1" && chmod 0 "$1"', shared / "hers")
    for command in ('ls "$1"', 'cat "$1/f"', 'echo x > "$1/new"', 'rm -f "$1/f"', 'env -C "$1" true'):
        denied(ANNA, command, shared / "hers")
        denied(BORIS, command, shared / "hers")
    denied(BORIS, 'chmod 755 "$1"', shared / "hers")
    denied(ANNA, 'rmdir "$1"', shared / "hers")
    assert allowed(ANNA, 'chmod 700 "$1" && cat "$1/f"', shared / "hers") == "content"


def test_a_sticky_directory_is_shared(shared: Path) -> None:
    (shared / "tmp").mkdir()
    (shared / "tmp").chmod(0o1777)
    allowed(ANNA, 'umask 022; echo hers > "$1/a"', shared / "tmp")
    facts = (shared / "tmp" / "a").stat()
    assert (facts.st_uid, facts.st_gid, stat.S_IMODE(facts.st_mode)) == (ANNA, ANNA, 0o644)
    for command in ('rm -f "$1/a"', 'mv "$1/a" "$1/b"', 'echo x > "$1/a"'):
        denied(BORIS, command, shared / "tmp")
    allowed(ANNA, 'mv "$1/a" "$1/b" && rm "$1/b"', shared / "tmp")


def test_what_a_mount_keeps_on_this_machine_is_its_owners_alone(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cache, journal, state, sockets and log, whichever command made the directories, under a mask that is open."""
    for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(machine.directory / name.lower()))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(machine.directory / "run"))
    store = machine.new_store()
    (machine.directory / "source").write_bytes(b"content " * 10_000)
    before = os.umask(0)
    try:
        for verb in (["put", store, machine.directory / "source", "f"], ["log", store], ["scrub", store]):
            subprocess.run(
                [sys.executable, "-m", "modelfs", *map(str, verb)], check=True, capture_output=True, timeout=60
            )
        mnt = machine.mount(store, write_back=True, log_file=None)
        with (mnt / "g").open("wb") as file:
            file.write(b"written " * 10_000)
        assert (mnt / "f").read_bytes() == b"content " * 10_000
        with (mnt / "h").open("wb") as file:
            file.write(b"staged")
            file.flush()
            tops = (
                machine.directory / "cache",
                config.journals_directory(),
                config.mounts_directory(),
                config.log_directory(),
            )
            for top in (*tops, config.state_directory() / "seen", config.state_directory() / "scrub"):
                assert not top.exists() or stat.S_IMODE(top.stat().st_mode) == 0o700, top
                denied(ANNA, 'ls "$1"', top)
            found = [path for top in tops for path in top.rglob("*") if path.is_file()]
            names = {path.name for path in found}
            assert {"index.sqlite", "log", "about", "lock"} <= names
            for path in found:
                denied(ANNA, 'cat "$1"', path)
        sockets = control.socket_directory()
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
        (socket,) = sockets.glob("*.sock")
        denied(ANNA, 'stat "$1"', socket)
        machine.umount(mnt)
    finally:
        os.umask(before)


# -- a mount by somebody without privileges ----------------------------------------------------------------------------


def _python() -> str | None:
    """A Python of this version that another user may run."""
    for found in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        if as_user(ANNA, '"$1" -c "import sys; sys.exit(sys.version_info[:2] < (3, 11))"', found)[0]:
            return found
    return None


_HER_STEPS = """
set -eu
cd "$1"; export HOME="$1/home"; umask 022
m() { python=$1; shift; "$python" -m modelfs "$@"; }
mkdir home mnt
printf 'canary of a passphrase' > words
m "$2" init store --encrypt --passphrase-file words
m "$2" key sign-init sign
m "$2" mount store mnt --passphrase-file words --sign-with sign --write-back
echo content > mnt/f
mkdir mnt/shut
echo inside > mnt/shut/f
chmod 0 mnt/shut
if ls mnt/shut || cat mnt/shut/f; then echo "a shut directory is open"; exit 1; fi
pid=$(m "$2" status mnt --json | tr ',' '\\n' | sed -n 's/.*"pid": *\\([0-9]*\\).*/\\1/p' | head -1)
grep 'Max core file size  *0  *0' /proc/$pid/limits
if cat /proc/$pid/environ || ls /proc/$pid/fd/; then echo "the daemon can be looked into"; exit 1; fi
cat mnt/f
"""
_ROOTS_STEPS = """
set -eu
mknod "$1/fuse" c 10 229; chmod 666 "$1/fuse"; mount --bind "$1/fuse" /dev/fuse
her() { setpriv --reuid 65534 --regid 65534 --clear-groups env PYTHONPATH="$PYTHONPATH" LC_ALL=C /bin/sh "$@"; }
trap 'umount -l "$1/hers/mnt" 2>/dev/null || true' EXIT
her "$1/hers.sh" "$1/hers" "$2"
if ls "$1/hers/mnt" || cat "$1/hers/mnt/f"; then echo "root got in"; exit 1; fi
her -c 'cd "$1" && HOME="$1/home" "$2" -m modelfs umount mnt' sh "$1/hers" "$2"
her -c 'cd "$1" && HOME="$1/home" "$2" -m modelfs ls store --passphrase-file words' sh "$1/hers" "$2"
echo over
"""


def test_a_mount_by_a_user_without_privileges(machine: Machine) -> None:
    """An encrypted store, a signing key: it works, her own shut directory is shut, nobody looks into the daemon, and
    root, who could become her, is not in by himself. In a mount name space of its own, in which /dev/fuse is for
    everybody, as udev makes it."""
    python = _python()
    if python is None or shutil.which("unshare") is None or shutil.which("setpriv") is None:
        pytest.skip("no Python that another user may run, or no unshare or setpriv")
    hers = machine.directory / "hers"
    hers.mkdir()
    os.chown(hers, ANNA, ANNA)
    (machine.directory / "hers.sh").write_text(_HER_STEPS)
    paths = [str(Path(modelfs.__file__).parents[1]), sysconfig.get_path("purelib")]
    done = subprocess.run(
        unshared("/bin/sh", "-c", _ROOTS_STEPS, "sh", machine.directory, python),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": ":".join(paths)},
    )
    if "unshare failed" in done.stderr or "mknod" in done.stderr:
        pytest.skip(f"no mount name space, or no device node here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert "content" in lines
    assert lines[-3:] == ["f", "shut/", "over"] or lines[-3:] == ["f", "shut", "over"]
    assert "canary" not in done.stdout + done.stderr
    assert done.stderr.count("Permission denied") >= 6, done.stderr
