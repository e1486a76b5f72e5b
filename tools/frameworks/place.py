"""Where rows save and load: a local disk, a store, and two mounts of it as two machines have them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import ceph_rgw

BUCKET = "frameworks"


class Place:
    """A directory with a disk side, a store and mounts; `close` takes all mounts down that are left."""

    def __init__(self, directory: Path, store: str) -> None:
        self.directory = directory
        self.store = store
        self._mounted: list[Path] = []
        (directory / "home").mkdir()
        self.disk("")
        modelfs(self, "init", store)

    @property
    def environment(self) -> dict[str, str]:
        """That of ``modelfs``: caches, journals and logs lie in the directory."""
        gone = ("XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "AWS_PROFILE")
        kept = {name: value for name, value in os.environ.items() if name not in gone}
        return {**kept, "HOME": str(self.directory / "home")}

    def disk(self, name: str) -> Path:
        """A directory of that name on the local disk."""
        path = self.directory / "disk" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    @contextlib.contextmanager
    def mount(self, name: str, *options: str) -> Iterator[Path]:
        """A mount of the store with a cache that is empty: another machine, each time."""
        mountpoint = self.directory / name
        mountpoint.mkdir(exist_ok=True)
        cache = self.directory / "caches" / uuid.uuid4().hex
        modelfs(self, "mount", self.store, mountpoint, "--cache-dir", cache, *options)
        self._mounted.append(mountpoint)
        try:
            yield mountpoint
            modelfs(self, "umount", mountpoint)
        finally:
            self._take_down(mountpoint)

    def stored(self, path: str) -> dict[str, int]:
        """Bytes in the store for each directory in ``path``, after deduplication and compression."""
        found = json.loads(modelfs(self, "du", self.store, path, "--by", "path", "--json"))
        return {row["path"].rstrip("/").rpartition("/")[2]: row["stored"] for row in found["paths"]}

    def close(self) -> None:
        """What a run that failed has left."""
        for mountpoint in list(self._mounted):
            self._take_down(mountpoint)

    def _take_down(self, mountpoint: Path) -> None:
        """Without waiting for anything; nothing happens where the mount has ended in order."""
        self._mounted.remove(mountpoint)
        subprocess.run(["fusermount3", "-u", "-z", "--", str(mountpoint)], check=False, stderr=subprocess.DEVNULL)


def two_machines(place: Place) -> tuple[AbstractContextManager[Path], AbstractContextManager[Path]]:
    """A mount to save to and one to load from that are there together: the second asks at every open what is new."""
    return place.mount("saving"), place.mount("loading", "--refresh", "0")


def settle(mountpoint: Path) -> None:
    """Wait until the store has all that was saved to a mount. RuntimeError when that takes a minute."""
    deadline = time.monotonic() + 60
    while json.loads((mountpoint / ".modelfs" / "status.json").read_text())["pending"]:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{mountpoint}: what was saved is not in the store after a minute")
        time.sleep(0.05)


def modelfs(place: Place, *arguments: Any) -> str:
    """Run a command of this modelfs; RuntimeError with what it said when it fails."""
    command = [sys.executable, "-m", "modelfs", *map(str, arguments)]
    try:
        done = subprocess.run(
            command,
            env=place.environment,
            timeout=180,
            check=False,
            cwd=place.directory,
            capture_output=True,
            text=True,
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"modelfs {' '.join(command[3:])}: no end within 180 s") from error
    if done.returncode:
        raise RuntimeError(f"modelfs {' '.join(command[3:])}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


@contextlib.contextmanager
def local(directory: Path) -> Iterator[Place]:
    """A place whose store is a directory."""
    place = Place(directory, str(directory / "store"))
    try:
        yield place
    finally:
        place.close()


@contextlib.contextmanager
def on_s3(directory: Path) -> Iterator[Place]:
    """A place whose store is in a bucket of a Ceph gateway that runs meanwhile."""
    cluster = directory / "ceph"
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL")
    saved = {name: os.environ.get(name) for name in names}
    try:
        endpoint = ceph_rgw.start(cluster, ceph_rgw.free_port(), 20_000_000_000, on_disk=True)
        os.environ |= dict(zip(names, (ceph_rgw.ACCESS_KEY, ceph_rgw.SECRET_KEY, "us-east-1", endpoint), strict=True))
        ceph_rgw.make_bucket(endpoint, BUCKET)
        place = Place(directory, f"s3://{BUCKET}/models")
        try:
            yield place
        finally:
            place.close()
    finally:
        ceph_rgw.stop(cluster)
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
