"""Files whose bytes lie elsewhere, through the kernel: read with a cold cache, refused, broken, saved over."""

from __future__ import annotations

import errno
import os
import random
import shutil
from pathlib import Path

import obstore
import pytest
from mounting import Machine, eventually
from obstore.store import S3Store

from modelfs.repository.repository import Repository
from modelfs.store.open import open_store
from modelfs.writer.imports import Import
from modelfs.writer.sources import open_source

SIZE = 20_000_000


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    root.mkdir()
    for name in ("one", "two"):
        (root / name).write_bytes(os.urandom(SIZE))
    return root


def linking(machine: Machine, where: str) -> str:
    """A store that links to all that is there."""
    url = machine.new_store()
    opened = open_store(url)
    repo = Repository.open(opened)
    repo.begin_writing()
    bringing = Import(repo, "main", "", link=True)
    source = open_source(where)
    bringing.run(source, bringing.plan(source, source.items()), lambda count: None)
    source.close()
    opened.close()
    return url


@pytest.fixture
def store(machine: Machine, data: Path) -> str:
    """A store that links to ``data``."""
    return linking(machine, str(data))


def test_a_cold_cache_is_filled_from_the_originals(machine: Machine, store: str, data: Path) -> None:
    mnt = machine.mount(store, allow_source=(str(data),))
    assert (mnt / "one").read_bytes() == (data / "one").read_bytes()
    with (mnt / "two").open("rb") as file:
        assert os.pread(file.fileno(), 100, 13_000_000) == (data / "two").read_bytes()[13_000_000:13_000_100]
    machine.umount(mnt)
    shutil.rmtree(data)
    mnt = machine.mount(store)  # what is cached needs neither the originals nor a permission
    assert len((mnt / "one").read_bytes()) == SIZE
    machine.umount(mnt)


def test_many_small_ranges_of_a_bucket(machine: Machine, data: Path, s3_bucket: str) -> None:
    """A local store whose bytes lie in S3: read in order and at random, with a cold cache, then cached."""
    bucket = S3Store(s3_bucket.removeprefix("s3://"), client_options={"allow_http": True})
    content = (data / "one").read_bytes()
    obstore.put(bucket, "runs/one", content, use_multipart=False)
    mnt = machine.mount(linking(machine, f"{s3_bucket}/runs"), allow_source=(s3_bucket,))
    places = random.Random(1).sample(range(SIZE - 1000), 50)
    with (mnt / "one").open("rb") as file:
        assert all(os.pread(file.fileno(), 1000, at) == content[at : at + 1000] for at in places)
    machine.umount(mnt)
    shutil.rmtree(machine.directory / "cache")
    mnt = machine.mount(str(machine.directory / "store"), allow_source=(f"{s3_bucket}/runs",))
    assert (mnt / "one").read_bytes() == content
    obstore.delete(bucket, "runs/one")
    assert (mnt / "one").read_bytes() == content
    machine.umount(mnt)


def test_what_is_not_allowed_or_broken_is_an_error_with_its_cause_in_the_log(
    machine: Machine, store: str, data: Path
) -> None:
    mnt = machine.mount(store)
    with pytest.raises(OSError) as told:
        (mnt / "one").read_bytes()
    assert told.value.errno == errno.EIO
    assert f"{data}/one may only be read if --allow-source says so" in machine.log()
    assert (mnt / "one").stat().st_size == SIZE
    machine.umount(mnt)
    mnt = machine.mount(store, name="two", allow_source=(str(data),))
    content = bytearray((data / "one").read_bytes())
    content[10] ^= 1
    (data / "one").write_bytes(content)
    (data / "two").unlink()
    for name, why in (("one", "was changed after it was linked"), ("two", "is gone")):
        with pytest.raises(OSError) as told, (mnt / name).open("rb") as file:
            file.read(4096)
        assert told.value.errno == errno.EIO
        assert f"{data}/{name} {why}" in machine.log("two")
    with (mnt / "one").open("rb") as file:  # what did not change is still there
        assert os.pread(file.fileno(), 1000, SIZE - 1000) == content[-1000:]
    machine.umount(mnt)


def test_what_is_saved_through_a_mount_is_in_the_store(machine: Machine, store: str, data: Path) -> None:
    mnt = machine.mount(store, allow_source=(str(data),))
    shutil.copyfile(data / "one", mnt / "own")
    (mnt / "two").rename(mnt / "renamed")
    machine.umount(mnt)
    content = (data / "one").read_bytes()
    shutil.rmtree(data)
    shutil.rmtree(machine.directory / "cache")
    mnt = machine.mount(store)
    eventually((mnt / "renamed").exists, "the new name")
    assert (mnt / "own").read_bytes() == (mnt / "one").read_bytes() == content
    machine.umount(mnt)
