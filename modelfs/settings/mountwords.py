"""Options as mount(8) and fstab(5) write them: ``ro,uid=1000,_netdev``.

Three kinds of words: what the kernel and fusermount3 know is passed on; what only mount(8) itself goes by is left out
(also ``rw``, which it always says); everything else must be an option of modelfs. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from modelfs.errors import UsageError

_PASSED_ON: Final = frozenset(
    ("nodev", "dev", "nosuid", "suid", "noexec", "exec", "noatime", "atime", "sync", "async", "dirsync", "nonempty")
)
_PASSED_ON_WITH_VALUE: Final = frozenset({"max_read", "fsname", "subtype"})
_IGNORED: Final = frozenset(
    ("rw", "defaults", "_netdev", "auto", "noauto", "nofail", "user", "users", "nouser", "group", "owner")
) | {"default_permissions"}
_IGNORED_PREFIXES: Final = ("x-", "X-", "comment=", "user=")


def kernel_words(words: Iterable[str]) -> tuple[str, ...]:
    """``words`` if all are for the kernel. UsageError names the first that is not."""
    for word in words:
        name, _, value = word.partition("=")
        if word not in _PASSED_ON and not (name in _PASSED_ON_WITH_VALUE and value and "," not in value):
            raise UsageError(f"unknown mount option {word[:80]!r}")
    return tuple(words)


def split_words(
    groups: Iterable[str], switches: frozenset[str], others: frozenset[str]
) -> tuple[dict[str, str], list[str]]:
    """``a,b=c`` groups -> (modelfs's options by key, as text; words for the kernel).

    ``switches`` and ``others``: keys of modelfs's options; an underscore is as good as a dash. UsageError for a word
    that nobody knows, and for one that lacks a value or has one too many.
    """
    ours: dict[str, str] = {}
    passed: list[str] = []
    for word in (word for group in groups for word in group.split(",") if word):
        name, equals, value = word.partition("=")
        key = name.replace("_", "-")
        if word == "ro":
            ours["read-only"] = "true"
        elif name in _IGNORED or word.startswith(_IGNORED_PREFIXES):
            continue
        elif key in switches:
            ours[key] = value if equals else "true"
        elif key in others:
            if not value:
                raise UsageError(f"-o {name}: it needs a value")
            ours[key] = value
        else:
            passed += kernel_words([word])
    return ours, passed
