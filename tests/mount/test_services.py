"""A mount as a service: what the manager hears, restarts, the hardening of the units, mount(8) and fstab's words.

There is no systemd in charge where the tests run, so a supervisor of a few lines stands in its place: it has the same
socket, waits for the same signs, and starts the daemon anew by the same rules. The units are judged by systemd itself.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mounting import Machine
from namespaces import unshared

from modelfs.fuse.claim import lift
from modelfs.fuse.mountpoint import mount_table

UNITS = Path(__file__).parents[2] / "systemd"
MODELFS = [sys.executable, "-m", "modelfs"]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="takes root")
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")


def run(*command: object) -> subprocess.CompletedProcess[str]:
    """A command to its end."""
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=100, check=False)


class Supervisor:
    """Runs one foreground mount at a time, as Type=notify with a watchdog means it."""

    def __init__(self, directory: Path, store: str) -> None:
        self.mountpoint = directory / "mnt"
        self.mountpoint.mkdir()
        self._store = store
        self._log = directory / "log"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(directory / "notify"))
        self._socket.settimeout(30)
        self._cache = directory / "c"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *before: str, watchdog: float | None = None) -> None:
        """Start the daemon, after the command ``before``, and wait until it says that it is ready."""
        environment = {**os.environ, "NOTIFY_SOCKET": self._socket.getsockname()}
        if watchdog is not None:
            environment["WATCHDOG_USEC"] = str(int(watchdog * 1e6))
        where = [self._store, str(self.mountpoint), "--cache-dir", str(self._cache)]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*before, *MODELFS, "mount", "--foreground", *where], env=environment, stdout=log, stderr=log
            )
        self.until("READY=1")

    def heard(self) -> list[str]:
        """The lines of the next datagram."""
        return self._socket.recv(65536).decode().split("\n")

    def until(self, line: str) -> list[str]:
        """The first datagram that has ``line``."""
        while line not in (lines := self.heard()):
            pass
        return lines

    def silent(self, seconds: float) -> bool:
        """True when nothing is heard for so long."""
        self._socket.settimeout(seconds)
        try:
            self._socket.recv(65536)
        except TimeoutError:
            return True
        finally:
            self._socket.settimeout(30)
        return False

    def end(self, number: int) -> int:
        """Send a signal and wait; the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(90)

    def log(self) -> str:
        return self._log.read_text()

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if any(entry.path == str(self.mountpoint) for entry in mount_table()):
            subprocess.run(["fusermount3", "-u", "-z", "--", str(self.mountpoint)], check=False)
        lift(self.mountpoint)
        self._socket.close()


@pytest.fixture
def supervisor(machine: Machine, store: str) -> Iterator[Supervisor]:
    made = Supervisor(machine.directory, store)
    try:
        yield made
    finally:
        made.close()


def test_ready_when_the_mount_answers_and_stopping_before_it_ends(supervisor: Supervisor, store: str) -> None:
    supervisor.start(watchdog=0.3)
    assert any(entry.path == str(supervisor.mountpoint) for entry in mount_table())
    assert os.listdir(supervisor.mountpoint) == []
    (supervisor.mountpoint / "f").write_text("kept")
    while not any(line.startswith(f"STATUS=main@2 of {store}") for line in supervisor.until("WATCHDOG=1")):
        pass
    assert supervisor.end(signal.SIGTERM) == 0
    lines = supervisor.until("STOPPING=1")
    assert lines[1].startswith("STATUS=ending")
    # More than --drain-timeout, whatever the unit says.
    assert int(lines[2].removeprefix("EXTEND_TIMEOUT_USEC=")) > 60e6
    assert not any(entry.path == str(supervisor.mountpoint) for entry in mount_table())


def test_a_stuck_daemon_gives_no_sign_and_is_started_anew_over_its_dead_mount(supervisor: Supervisor) -> None:
    supervisor.start(watchdog=0.3)
    (supervisor.mountpoint / "f").write_bytes(b"acknowledged" * 1000)
    assert supervisor.process is not None
    supervisor.process.send_signal(signal.SIGSTOP)
    with contextlib.suppress(TimeoutError):
        while not supervisor.silent(1.0):
            pass
    supervisor.process.send_signal(signal.SIGABRT)  # as WatchdogSignal= is by default
    assert supervisor.end(signal.SIGCONT) == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in supervisor.log()
    with pytest.raises(OSError):
        os.listdir(supervisor.mountpoint)
    supervisor.start(watchdog=0.3)
    assert (supervisor.mountpoint / "f").read_bytes() == b"acknowledged" * 1000
    assert supervisor.end(signal.SIGTERM) == 0


def test_a_killed_daemon_is_started_anew(supervisor: Supervisor) -> None:
    supervisor.start()
    (supervisor.mountpoint / "f").write_text("acknowledged")
    assert supervisor.end(signal.SIGKILL) == -signal.SIGKILL
    supervisor.start()
    assert (supervisor.mountpoint / "f").read_text() == "acknowledged"


def test_a_mount_that_cannot_be_is_never_ready(machine: Machine, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(0.1)
        (tmp_path / "mnt").mkdir()
        done = subprocess.run(
            [*MODELFS, "mount", "-f", str(tmp_path / "none"), str(tmp_path / "mnt")],
            env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        with pytest.raises(TimeoutError):
            manager.recv(100)


def test_what_the_kernel_refuses_is_one_line_in_the_foreground_too(store: str, tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    done = run(*MODELFS, "mount", "-f", store, tmp_path / "mnt", "-o", "max_read=x")
    assert done.returncode == 2
    assert "refused the mount" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_daemon_in_the_background_is_no_service(
    machine: Machine, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(0.5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        machine.umount(machine.mount(store))
        with pytest.raises(TimeoutError):
            manager.recv(100)


# -- units ----------------------------------------------------------------------------------------------------------


def _setting(unit: str, name: str) -> str:
    [line] = [line for line in (UNITS / unit).read_text().splitlines() if line.startswith(f"{name}=")]
    return line.partition("=")[2]


# PR_SET_MDWE (since Linux 6.3) with PR_MDWE_REFUSE_EXEC_GAIN is what MemoryDenyWriteExecute= comes to.
REFUSE_EXEC_GAIN = "import ctypes,os,sys; ctypes.CDLL(None).prctl(65,1,0,0,0); os.execvp(sys.argv[1],sys.argv[1:])"


@needs_root
def test_the_daemon_lives_under_the_limits_of_its_unit(supervisor: Supervisor) -> None:
    """Capabilities, NoNewPrivileges and MemoryDenyWriteExecute; the filter of system calls takes systemd itself."""
    assert _setting("modelfs@.service", "NoNewPrivileges") == _setting("modelfs@.service", "MemoryDenyWriteExecute")
    kept = [
        f"+{name.removeprefix('CAP_').lower()}"
        for name in _setting("modelfs@.service", "CapabilityBoundingSet").split()
    ]
    limits = ["setpriv", "--no-new-privs", "--bounding-set", ",".join(["-all", *kept]), "--"]
    supervisor.start(sys.executable, "-c", REFUSE_EXEC_GAIN, *limits)
    assert supervisor.process is not None
    status = Path(f"/proc/{supervisor.process.pid}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    (supervisor.mountpoint / "f").write_bytes(os.urandom(5_000_000))
    os.chown(supervisor.mountpoint / "f", 1234, 1234)
    assert (supervisor.mountpoint / "f").stat().st_uid == 1234
    assert supervisor.end(signal.SIGTERM) == 0, supervisor.log()
    assert "stays writable" not in supervisor.log()


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units, written as for an image, for an instance named team."""
    command = [*MODELFS, "service", "install", "team", "--root", str(tmp_path), "--program", "/bin/true"]
    assert "written" in run(*command).stdout
    again = run(*command)
    assert {line.split()[0] for line in again.stdout.splitlines() if str(tmp_path) in line and "  /" in line} == {
        "unchanged",
        "kept",
    }
    units = tmp_path / "etc/systemd/system"
    for unit in list(units.iterdir()):
        shutil.copy(unit, units / unit.name.replace("@.", "@team."))
    return units


@needs_systemd
def test_systemd_takes_the_units(installed: Path) -> None:
    units = sorted(map(str, installed.glob("*@team.*")))
    assert len(units) == 5
    done = subprocess.run(
        ["systemd-analyze", "verify", *units], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    (installed / "modelfs@team.service").write_text("[Service]\nExecStart=/no/such\nFoo=1\n")
    done = subprocess.run(
        ["systemd-analyze", "verify", units[-1]], capture_output=True, text=True, timeout=60, check=False
    )
    assert "Foo" in done.stderr


@needs_systemd
@pytest.mark.parametrize(("unit", "threshold"), [("modelfs@", 45), ("modelfs-gc@", 30), ("modelfs-scrub@", 30)])
def test_systemd_finds_the_units_tight(unit: str, threshold: int) -> None:
    """Tenths of points; an ordinary unit has 96. That of the mount can have no mount namespace, see there."""
    command = [
        "systemd-analyze",
        "security",
        "--offline=true",
        f"--threshold={threshold}",
        str(UNITS / f"{unit}.service"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout.splitlines()[-1]


def test_nothing_in_the_unit_of_the_mount_hides_it() -> None:
    """What gives a service a mount namespace of its own (systemd.exec(5)) keeps its mount from everybody else."""
    hiding = (
        "Protect",
        "Private",
        "ReadOnlyPaths",
        "ReadWritePaths",
        "InaccessiblePaths",
        "Bind",
        "Root",
        "DynamicUser",
    )
    names = [line.partition("=")[0] for line in (UNITS / "modelfs@.service").read_text().splitlines() if "=" in line]
    assert [name for name in names if name.startswith(hiding)] == ["ProtectHostname", "ProtectClock"]
    assert "NoNewPrivileges" not in (UNITS / "user" / "modelfs@.service").read_text().replace("# NoNew", "")


# -- mount(8) -------------------------------------------------------------------------------------------------------


@pytest.fixture
def helpers(tmp_path: Path) -> Path:
    """A directory with mount.modelfs, as it is installed."""
    helper = tmp_path / "helpers" / "mount.modelfs"
    helper.parent.mkdir()
    root = Path(__file__).parents[2]
    code = f"import sys; sys.path.insert(0, {str(root)!r}); from modelfs.cli.mounthelper import main; main()"
    helper.write_text(f"#!{sys.executable}\n{code}\n")
    helper.chmod(0o755)
    return helper.parent


@needs_root
def test_mount_8_and_fstab(machine: Machine, store: str, helpers: Path, tmp_path: Path) -> None:
    """In a mount namespace of its own, where /sbin has the helper too."""
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    (tmp_path / "fstab").write_text(
        f"{store} {mnt} modelfs noauto,_netdev,x-systemd.automount,ro,cache-dir={tmp_path}/c 0 0\n"
    )
    script = f"""
    set -e
    mount -t overlay overlay -o lowerdir={helpers}:/usr/sbin /usr/sbin
    mount -t modelfs {store} {mnt} -o umask=027,uid=1234,refresh=2,cache_size=1GB,cache-dir={tmp_path}/c,nodev
    grep ' {mnt} fuse.modelfs ' /proc/self/mounts
    echo hello > {mnt}/f
    stat -c 'owner %u' {mnt}/f
    {sys.executable} -m modelfs umount {mnt}
    mount -T {tmp_path}/fstab {mnt}
    cat {mnt}/f
    touch {mnt}/g || echo read-only
    {sys.executable} -m modelfs umount {mnt}
    mount -t modelfs {store} {mnt} -o frobnicate || echo code $?
    mount -f -t modelfs {store} {mnt} && echo nothing done
    mount -s -t modelfs {store} {mnt} -o frobnicate,ro && {sys.executable} -m modelfs umount {mnt} && echo sloppy
    """
    done = subprocess.run(unshared("sh", "-c", script), capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for said in ("owner 1234", "hello", "read-only", "code 32", "nothing done", "sloppy"):
        assert said in done.stdout, (said, done.stdout, done.stderr)
    assert "rw,nosuid,nodev" in done.stdout
    assert "unknown mount option 'frobnicate'" in done.stderr


@pytest.mark.parametrize("words", [["one"], ["a", "b", "c"], ["a", "b", "-N", "5"], ["a", "b", "-x"], ["-h"]])
def test_the_helper_refuses_in_a_line(helpers: Path, words: list[str]) -> None:
    done = run(helpers / "mount.modelfs", *words)
    assert done.returncode == 1
    assert done.stderr.startswith("mount.modelfs: ")
    assert done.stderr.count("\n") == 1
