"""The kernel, FUSE, and what this user may have of the machine."""

from __future__ import annotations

import os
import re
import resource
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from modelfs import config, limits
from modelfs.doctor.finding import Finding, fail, ok, warn
from modelfs.errors import UsageError
from modelfs.fuse import daemon, device
from modelfs.fuse.mountpoint import check_fuse

_FUSE_CONF = Path("/etc/fuse.conf")
_BDI = Path("/sys/class/bdi")


def check_machine() -> Iterator[Finding]:
    """All checks of this machine, in the order in which they matter."""
    checks: tuple[Callable[[], Finding], ...] = (
        _kernel, _fuse, _passthrough, _fusermount, _allow_other, _read_ahead, _open_files, _memory, _mounts,
    )  # fmt: skip
    for check in checks:
        yield check()


def _kernel() -> Finding:
    release = os.uname().release
    found = re.match(r"(\d+)\.(\d+)", release)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    if version < limits.KERNEL_OLDEST:
        oldest = ".".join(map(str, limits.KERNEL_OLDEST))
        return warn("kernel", f"Linux {release}", f"nobody tries kernels older than {oldest}: take a newer one")
    return ok("kernel", f"Linux {release}")


def _fuse() -> Finding:
    try:
        check_fuse()
    except UsageError as error:
        return fail("fuse", str(error), "modprobe fuse; apt-get install fuse3; in a container: --device /dev/fuse")
    return ok("fuse", "/dev/fuse can be opened")


def _passthrough() -> Finding:
    """Whether mounts may have the session that lets the kernel read cached files (`mount --session`)."""
    directory = next(path for path in (config.cache_root(), *config.cache_root().parents) if path.is_dir())
    if obstacle := device.probe(directory):
        return ok("passthrough", f"not here, cached files are read through the daemon: {obstacle}")
    return ok("passthrough", f"the kernel can read cached files below {directory} by itself")


def _fusermount() -> Finding:
    path = shutil.which("fusermount3")
    if path is None:
        return fail("fusermount3", "not installed", "apt-get install fuse3")
    done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False)
    version = done.stdout.strip().rpartition(" ")[2] or "of unknown version"
    if os.geteuid() and not Path(path).stat().st_mode & stat.S_ISUID:
        return fail("fusermount3", f"{path} is not setuid root", f"as root: chmod u+s {path}, or mount as root")
    return ok("fusermount3", f"{path} {version}")


def _allow_other() -> Finding:
    try:
        lines = {line.strip() for line in _FUSE_CONF.read_text().splitlines()}
    except OSError:
        lines = set()
    if os.geteuid() == 0 or "user_allow_other" in lines:
        return ok("allow-other", "allowed")
    return warn(
        "allow-other", "only root may mount with --allow-other", f"as root: echo user_allow_other >> {_FUSE_CONF}"
    )


def _read_ahead() -> Finding:
    knobs = next(_BDI.glob("*/read_ahead_kb"), None) if _BDI.is_dir() else None
    if knobs is not None and os.access(knobs, os.W_OK):
        return ok("read-ahead", "can be raised for mounts")
    return warn(
        "read-ahead",
        f"{_BDI} cannot be written, so that large reads are slower",
        f"mount as root, or have root write {limits.KERNEL_READAHEAD // 1024} to the mount's read_ahead_kb",
    )


def _open_files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= limits.OPEN_FILES_GOOD:
        return ok("open files", f"{soft} allowed" if soft > 0 else "as many as wanted")
    return warn(
        "open files",
        f"{soft} allowed (at most {hard})",
        f"ulimit -n {limits.OPEN_FILES_GOOD}, or LimitNOFILE= in the unit: each open file of a mount takes one or two",
    )


def _memory() -> Finding:
    meminfo = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(meminfo["MemAvailable"].split()[0]) * 1024
    for bound in _cgroup_bounds():
        free = min(free, bound)
    said = f"{free / 1e9:.1f} GB to be had"
    if free < limits.MEMORY_NEEDED:
        needed = f"a mount takes up to {limits.MEMORY_NEEDED / 1e6:.0f} MB"
        return fail("memory", said, f"{needed}: end something, or raise the limit of the container or service")
    return ok("memory", said)


def _cgroup_bounds() -> Iterator[int]:
    """``memory.max`` of this process's control group and of those around it, less what they use (cgroup v2)."""
    root = Path("/sys/fs/cgroup")
    try:
        [line] = [line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")]
    except (OSError, ValueError):
        return
    group = root / line.removeprefix("0::/")
    for directory in (group, *group.parents):
        try:
            bound = (directory / "memory.max").read_text().strip()
            if bound != "max":
                yield max(0, int(bound) - int((directory / "memory.current").read_text()))
        except (OSError, ValueError):
            continue


def _mounts() -> Finding:
    found = daemon.mounts()
    sick = [mount for mount in found if mount["state"] != "mounted"]
    if sick:
        where = ", ".join(f"{mount['mountpoint']} ({mount['state']})" for mount in sick)
        return warn(
            "mounts", where, "mount again at the same place, or `modelfs umount` it; nothing acknowledged is lost"
        )
    return ok("mounts", f"{len(found)} mounted, all answer")
