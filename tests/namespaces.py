"""Mount namespaces for tests (root)."""

from __future__ import annotations

_ALONE = 'umount -l -a -t fuse.modelfs 2>/dev/null; exec "$@"'


def unshared(*command: object, flags: tuple[str, ...] = ()) -> list[object]:
    """``command`` in a mount namespace of its own, with more ``flags`` of unshare(1). A namespace has a copy of every
    mount, and a mount ends with its last copy: those of tests that run at the same time are let go of at once."""
    return ["unshare", "--mount", *flags, "sh", "-c", _ALONE, "sh", *command]
