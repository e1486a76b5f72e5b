"""Several processes and machines: forks, programs that end, programs that die, mounts beside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from mounting import Machine

from modelfs import config
from modelfs.filesystem import engine
from modelfs.filesystem.spec import ModelFileSystem
from modelfs.journal.look import sessions

HEAD = """
import os, sys, fsspec
from modelfs.filesystem.spec import ModelFileSystem
fsspec.register_implementation("modelfs", ModelFileSystem, clobber=True)
fs = fsspec.filesystem("modelfs", store=sys.argv[1], cache_dir=sys.argv[2], refresh=0)
"""


def program(script: Path, text: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a program whose ``fs`` is a file system on argument 1."""
    script.write_text(HEAD + text)
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> str:
    """What a program said until it ended well."""
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert "Traceback" not in err, err
    return out


def in_child(work: Callable[[], None]) -> None:
    """Run ``work`` in a forked child; it must return."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001  # the test's process must not go on here
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_mount_and_a_program_see_what_the_other_closes(machine: Machine, store: str, opened: Any) -> None:
    mnt, fs = machine.mount(store, refresh=0), opened(store, cache="cache-2")
    (mnt / "from-mount").write_bytes(b"m" * 5_000_000)
    assert fs.cat_file("from-mount") == b"m" * 5_000_000
    fs.pipe_file("from-program", b"p" * 5_000_000)
    assert (mnt / "from-program").read_bytes() == b"p" * 5_000_000
    with open(mnt / "shared", "wb") as file:
        file.write(b"half")
        file.flush()
        assert not fs.exists("shared")
    fs.mv("shared", "moved")
    assert os.listdir(mnt) == ["from-mount", "from-program", "moved"]
    reader = fs.open("moved")
    (mnt / "moved").write_bytes(b"a new version")
    assert (reader.read(), fs.cat_file("moved")) == (b"half", b"a new version")


def test_two_programs_write_different_and_the_same_paths(machine: Machine, store: str, opened: Any) -> None:
    one, two = opened(store), opened(store, cache="cache-2")

    def save(job: tuple[ModelFileSystem, int]) -> None:
        fs, i = job
        fs.pipe_file(f"runs/{i}/{fs._place.settings.cache_dir.name}", b"%d" % i)
        fs.pipe_file("last", f"{fs._place.settings.cache_dir.name}".encode() * 1000)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(save, [(fs, i) for i in range(6) for fs in (one, two)]))
    assert (
        one.find("runs") == two.find("runs") == [f"runs/{i}/{name}" for i in range(6) for name in ("cache", "cache-2")]
    )
    assert one.cat_file("last") == two.cat_file("last") in (b"cache" * 1000, b"cache-2" * 1000)


def test_threads_share_an_engine(fs: ModelFileSystem, store: str) -> None:
    def work(i: int) -> bytes:
        same = ModelFileSystem(store=store, cache_dir=fs._place.settings.cache_dir, refresh=0)
        same.pipe_file(f"{i}", b"%d" % i)
        return same.cat_file(f"{i}")

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(16))) == [b"%d" % i for i in range(16)]
    assert len([thread for thread in threading.enumerate() if thread.name.startswith("modelfs ")]) == 1


def test_a_forked_child_has_an_engine_of_its_own(fs: ModelFileSystem) -> None:
    fs.pipe_file("a", b"parent")
    reader, writer = fs.open("a"), fs.open("unfinished", "wb")
    writer.write(b"of the parent")

    def child() -> None:
        assert fs.cat_file("a") == b"parent"
        fs.pipe_file("b", b"child")
        with pytest.raises(OSError, match="before this process was forked"):
            reader.read()
        writer.close()
        assert not fs.exists("unfinished")
        fs.close()

    in_child(child)
    assert fs.cat_file("b") == b"child"
    assert reader.read() == b"parent"
    writer.close()
    assert fs.cat_file("unfinished") == b"of the parent"


def test_a_child_cannot_use_the_connections_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_parent_used_obstore", True)
    with pytest.raises(ValueError, match=r"s3://bucket/prefix:main: this process was forked .* spawn or forkserver"):
        ModelFileSystem(store="s3://bucket/prefix").ls("")


def test_children_of_multiprocessing_close_in_order(machine: Machine, store: str, script: Path, opened: Any) -> None:
    done = program(
        script,
        """
import multiprocessing
def work(i):
    fs.pipe_file(f"child-{i}", b"c")
    left = globals()["left"] = fs.open(f"left-open-{i}", "wb")
    left.write(b"closed at the end")
fs.pipe_file("parent", b"p")
children = [multiprocessing.get_context("fork").Process(target=work, args=(i,)) for i in range(2)]
for child in children: child.start()
for child in children: child.join(); assert child.exitcode == 0
""",
        store,
        machine.directory / "cache",
    )
    ended(done)
    fs = opened(store)
    assert fs.find("") == ["child-0", "child-1", "left-open-0", "left-open-1", "parent"]
    assert fs.cat_file("left-open-1") == b"closed at the end"


@pytest.mark.parametrize("mode", ["close", "write-back"])
def test_nothing_is_lost_when_a_program_ends(
    mode: str, machine: Machine, store: str, script: Path, opened: Any
) -> None:
    done = program(
        script,
        """
fs = fsspec.filesystem("modelfs", store=sys.argv[1], cache_dir=sys.argv[2], write_back=sys.argv[3] == "write-back")
fs.pipe_file("a", b"1" * 3_000_000)
fs.makedirs("empty")
with fs.transaction:
    fs.pipe_file("b", b"2")
left = fs.open("left-open", "wb")
left.write(b"x" * 1000)
""",
        store,
        machine.directory / "cache",
        mode,
    )
    ended(done)
    fs = opened(store, cache="cache-2", read_only=True)
    assert (fs.find("", withdirs=True), fs.size("left-open")) == (["a", "b", "empty", "left-open"], 1000)
    assert not sessions(config.journals_directory())


def test_what_a_close_acknowledged_survives_a_kill(machine: Machine, store: str, script: Path, opened: Any) -> None:
    process = program(
        script,
        """
fs = fsspec.filesystem("modelfs", store=sys.argv[1], cache_dir=sys.argv[2], write_back=True)
fs.pipe_file("a", b"1" * 3_000_000)
left = fs.open("left-open", "wb")
left.write(b"x" * 1_000_000)
left.flush()
print("closed", flush=True)
sys.stdin.read()
""",
        store,
        machine.directory / "cache",
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "closed\n"
    process.kill()
    process.wait()
    fs = opened(store)
    assert (fs.find(""), fs.size("a")) == (["a"], 3_000_000)


def test_ctrl_c_ends_a_wait(machine: Machine, store: str, script: Path) -> None:
    process = program(
        script,
        """
import signal, trio
from modelfs.filesystem.tree import Tree
async def forever(self, path):
    print("waiting", flush=True)
    await trio.sleep_forever()
Tree.touch = forever
signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored where the tests were started
fs.pipe_file("a", b"1")
try:
    fs.touch("a", truncate=False)
except KeyboardInterrupt:
    print("interrupted", fs.cat_file("a"), flush=True)
""",
        store,
        machine.directory / "cache",
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    assert ended(process) == "interrupted b'1'\n"


def test_the_mask_of_the_program_counts_and_stays(fs: ModelFileSystem) -> None:
    mask = os.umask(0o027)
    try:
        fs.pipe_file("a", b"1")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(mask)
    assert fs.info("a")["mode"] & 0o777 == 0o640
