"""The journal of a mount that died before the retention dropped the commit that it stood on."""

from __future__ import annotations

import pytest
from gc_world import GRACE, World, save

from modelfs.errors import NotFoundError
from modelfs.journal.log import Begin
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
    assert _landed(fresh, Begin("main", 2), records[3].commit.root.content) == 5
    assert _landed(fresh, Begin("main", 2), b"another tree") is None
