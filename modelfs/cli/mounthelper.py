"""``mount.modelfs``: what mount(8) starts for ``mount -t modelfs STORE DIR -o …`` and for lines of fstab(5).

Translates mount's way of calling a helper (mount(8), "External helpers") into `modelfs mount`; returns when the mount
answers. STORE may be ``@NAME``.
"""

from __future__ import annotations

import getopt
import sys

from modelfs.cli import app
from modelfs.cli.options import mount_words
from modelfs.errors import UsageError

_USAGE = "mount.modelfs STORE DIR [-sfnv] [-N NAMESPACE] [-o OPTION,…] [-t TYPE]"


def main() -> None:
    """Mount and exit, with mount(8)'s exit codes: 0 done, 1 wrong usage, 32 the mount failed."""
    try:
        given, places = getopt.gnu_getopt(sys.argv[1:], "sfnvhN:o:t:")
    except getopt.GetoptError as error:
        _refuse(str(error))
    flags = dict(given)
    if "-h" in flags or len(places) != 2:
        _refuse(_USAGE)
    if "-N" in flags:
        _refuse("-N: mount into another namespace with nsenter(1)")
    if "-f" in flags:
        sys.exit(0)  # a dry run: mount(8) has looked at the arguments
    words = [word for name, group in given if name == "-o" for word in group.split(",") if word]
    if "-s" in flags:
        words = [word for word in words if _known(word)]
    options = ["-o", ",".join(words)] if words else []
    try:
        app.main(["mount", *options, "--", *places])
    except SystemExit as done:
        sys.exit(32 if done.code else 0)
    sys.exit(0)


def _known(word: str) -> bool:
    try:
        mount_words([word])
    except UsageError:
        return False
    return True


def _refuse(why: str) -> None:
    print(f"mount.modelfs: {why}", file=sys.stderr)  # noqa: T201  # a program of its own
    sys.exit(1)
