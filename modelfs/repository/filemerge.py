"""Three-way merge of one file: content with its time, and each attribute: ours where we changed it, else theirs.

Who only changed a mode does not bring back the content that he saw. `merge` calls this for names, `linkmerge` for files
with several of them, a mount's `Rebase` for what is changed and not committed.
"""

from __future__ import annotations

import msgspec

from modelfs.repository.objects import Entry, Kind


def merge_files(base: Entry, ours: Entry, theirs: Entry | None) -> Entry | None:
    """What becomes of a name that was no directory and is none with us, and that we changed. A modification time goes
    with its content. A linked file was merged as a whole before (`linkmerge`): what still differs is which file has the
    name."""
    if base.group or ours.group or (theirs is not None and theirs.group):
        return ours if _content(ours) != _content(base) else theirs
    if _content(ours) != _content(base):
        if theirs is None or theirs.kind is Kind.DIRECTORY:
            return ours
        return attributes_of(base, ours, theirs, ours)
    if theirs is None or theirs.kind is Kind.DIRECTORY:
        return theirs
    mtime_ns = ours.mtime_ns
    if _content(theirs) != _content(base) or mtime_ns == base.mtime_ns:
        mtime_ns = theirs.mtime_ns
    return msgspec.structs.replace(attributes_of(base, ours, theirs, theirs), mtime_ns=mtime_ns)


def _content(entry: Entry) -> tuple[Kind, bytes, int, bytes]:
    """What makes it another file, or another version of one."""
    return entry.kind, entry.content, entry.size, entry.group


def attributes_of(base: Entry, ours: Entry, theirs: Entry, into: Entry) -> Entry:
    """``into`` with owner, mode and extended attributes: ours where we changed them, else theirs."""
    return msgspec.structs.replace(
        into,
        mode=theirs.mode if ours.mode == base.mode else ours.mode,
        uid=theirs.uid if ours.uid == base.uid else ours.uid,
        gid=theirs.gid if ours.gid == base.gid else ours.gid,
        xattrs=theirs.xattrs if ours.xattrs == base.xattrs else ours.xattrs,
    )
