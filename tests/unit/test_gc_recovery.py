"""The journal of a mount that died before the retention dropped the commit that it stood on."""

from __future__ import annotations

import pytest
from gc_world import GRACE, World, save

from modelfs.errors import CollectedError, NotFoundError
from modelfs.journal.log import Announce
from modelfs.repository.retention import Retention
from modelfs.vfs.recovery import _base, _landed


def test_the_newest_commit_stands_in_and_what_landed_is_found_behind_the_gap() -> None:
    world = World()
    repo = world.open()
    records = [save(repo, b"f", b"%d" % i) for i in range(5)]
    repo.tag("kept", records[3])
    for _ in range(2):
        world.time.advance(GRACE + 1)
        world.collect(Retention(last=1))
    fresh = world.open()
    assert _base(fresh, "main", 2).number == 6
    assert _base(fresh, "main", 5).number == 5
    with pytest.raises(NotFoundError):
        _base(fresh, "main", 9)
    assert _landed(fresh, "main", Announce(1, 5, records[3].id))
    assert not _landed(fresh, "main", Announce(1, 5, b"another commit"))
    assert _landed(fresh, "main", Announce(1, 4, records[2].id)), "collected, and what followed names it"
    assert not _landed(fresh, "main", Announce(1, 4, b"another commit"))
    with pytest.raises(CollectedError, match="main@3, which may or may not hold"):
        _landed(fresh, "main", Announce(1, 3, records[1].id))
    assert not _landed(fresh, "main", Announce(1, 9, b"not made"))
