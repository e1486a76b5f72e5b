"""What a row asks of the file system: its system calls on the files of each case, in words."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path

# System calls of one meaning, by the word of the page. Those that are not here are not shown.
WORDS = {
    "stat": "stat lstat fstat newfstatat statx",
    "read": "read readv pread64 preadv preadv2",
    "write": "write writev",
    "pwrite": "pwrite64 pwritev pwritev2",
    "rename": "rename renameat renameat2",
    "unlink": "unlink",
    "rmdir": "rmdir",
    "mkdir": "mkdir mkdirat",
    "list": "getdents64",
    "ftruncate": "ftruncate truncate",
    "fsync": "fsync fdatasync",
    "sync_file_range": "sync_file_range",
    "flock": "flock",
    "chmod": "chmod fchmod fchmodat",
    "chown": "chown fchown lchown fchownat",
    "utimes": "utimensat utime utimes futimesat",
    "link": "link linkat",
    "symlink": "symlink symlinkat",
    "fallocate": "fallocate",
    "copy_file_range": "copy_file_range",
    "sendfile": "sendfile",
    "xattr": "getxattr lgetxattr fgetxattr listxattr setxattr removexattr",
    "access": "access faccessat faccessat2",
}
WORD_OF = {call: word for word, calls in WORDS.items() for call in calls.split()}
LINE = re.compile(r"^\d+\s+(\w+)\((.*)")


def available() -> bool:
    """True where strace is installed."""
    return shutil.which("strace") is not None


def traced(command: list[str], directory: Path, log: Path) -> list[str]:
    """The command, under strace; the calls on files below ``directory`` are appended to ``log``."""
    traced = ["strace", "-f", "-qq", "-y", "-s", "200", "--seccomp-bpf", "-e", "trace=%file,%desc"]
    return [*traced, "-o", f"|grep -F {directory}/ >> {log}", *command]


def of_cases(log: Path, directory: Path) -> dict[str, Counter[str]]:
    """For each case, that is each directory in ``directory``, how often it does what."""
    found: dict[str, Counter[str]] = {}
    place = re.compile(re.escape(str(directory)) + r"/([\w-]+)/")
    with log.open(errors="replace") as lines:
        for line in lines:
            call, where = LINE.match(line), place.search(line)
            if call and where:
                found.setdefault(where[1], Counter()).update(_words(call[1], call[2]))
    return found


def in_words(counted: Counter[str]) -> str:
    """``open 3, read 12, rename 1``, the most frequent first."""
    return ", ".join(f"{word} {count:,}" for word, count in counted.most_common())


def _words(call: str, rest: str) -> list[str]:
    if call in ("open", "openat", "openat2", "creat"):
        if "O_DIRECTORY" in rest:
            return []
        flags = [name for name in ("O_EXCL", "O_APPEND", "O_RDWR", "RESOLVE_BENEATH") if name in rest]
        return ["open", *(f"open {name}" for name in flags)]
    if call == "mmap":
        shared = "MAP_SHARED" in rest
        return [("mmap shared" if shared else "mmap") + (" for writing" if shared and "PROT_WRITE" in rest else "")]
    if call == "fcntl":
        return ["fcntl lock"] if "SETLK" in rest else []
    if call == "unlinkat":
        return ["rmdir" if "AT_REMOVEDIR" in rest else "unlink"]
    if call == "lseek":
        return []
    return [WORD_OF[call]] if call in WORD_OF else []
