"""Some of what files and directories must do, once with each way of speaking with the kernel.

The whole tier runs with the session that `auto` takes; MODELFS_SESSION=native|pyfuse3 runs it with another.
"""

from __future__ import annotations

import pytest
from test_directories import test_long_and_strange_names as test_long_and_strange_names
from test_directories import test_no_name_is_missing_while_commits_run as test_no_name_is_missing_while_commits_run
from test_directories import test_rename_flags as test_rename_flags
from test_directories import test_special_files as test_special_files
from test_files import test_append as test_append
from test_files import test_exclusive_creation as test_exclusive_creation
from test_files import test_extended_attributes as test_extended_attributes
from test_files import test_history_is_mounted_read_only as test_history_is_mounted_read_only
from test_files import test_locks as test_locks
from test_files import test_many_threads_one_mount as test_many_threads_one_mount
from test_files import test_random_rewrites as test_random_rewrites
from test_files import test_shared_writable_mmap as test_shared_writable_mmap
from test_files import test_times_modes_and_owner as test_times_modes_and_owner
from test_files import test_truncate_and_extend as test_truncate_and_extend

from modelfs.fuse import device

REFUSAL = device.may_mount()


@pytest.fixture(
    autouse=True,
    params=["pyfuse3", pytest.param("native", marks=pytest.mark.skipif(bool(REFUSAL), reason=f"native: {REFUSAL}"))],
)
def session(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELFS_SESSION", request.param)
