"""The sides of each comparison: modelfs, the mounts that one would pick instead, download-then-load, and plain ext4.

A side is mounted anew with `fresh`, empty or with what its local cache had, and knows the processes whose CPU time is
its own. All sides that need a store use one bucket: modelfs the prefix ``modelfs``, the others plain objects under
``plain``.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import obstore
from obstore.store import S3Store

from modelfs.config import MountOptions
from modelfs.fuse import daemon
from modelfs.fuse.mountpoint import mounted_at
from modelfs.process import alive

MiB = 1 << 20
PLAIN = "plain"
MODELFS = "modelfs"


@dataclass(frozen=True)
class Place:
    """An S3 endpoint, a bucket and the keys."""

    endpoint: str
    bucket: str
    access_key: str
    secret_key: str

    def via(self, endpoint: str) -> Place:
        """The same bucket by another way."""
        return Place(endpoint, self.bucket, self.access_key, self.secret_key)

    def objects(self, prefix: str | None = None) -> S3Store:
        """obstore's view of the bucket."""
        options: dict[str, Any] = {
            "endpoint": self.endpoint,
            "access_key_id": self.access_key,
            "secret_access_key": self.secret_key,
            "region": "us-east-1",
        }
        return S3Store(self.bucket, prefix=prefix, config=options, client_options={"allow_http": True})

    def environment(self) -> dict[str, str]:
        """For programs that read their keys from it."""
        return {
            **os.environ,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
        }


def drop_page_cache() -> None:
    """Have the kernel forget the contents of all files. Needs root: the comparison is of cold page caches."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("1")


def cpu_of(pids: list[int]) -> float:
    """CPU seconds that processes have used."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


class Side:
    """One way to get at files. ``root`` is where they appear."""

    name = ""

    def __init__(self, work: Path) -> None:
        self.work = work / self.name.replace(" ", "-")
        self.root = self.work / "mnt"
        self.root.mkdir(parents=True)

    def fresh(self, *, keep_cache: bool = False) -> None:
        """Begin anew: nothing known, nothing cached but, with ``keep_cache``, what its own disk cache holds."""

    def pids(self) -> list[int]:
        """Processes that work for it."""
        return []

    def received(self) -> int:
        """Bytes of objects that came from the store since `fresh`; 0 where that cannot be told."""
        return 0

    def prepare(self, name: str) -> Path:
        """The path to load. What this does counts as part of loading."""
        return self.root / name

    def settle(self) -> None:
        """Wait until everything that was saved is in the store."""

    def close(self) -> None:
        """Leave nothing running."""


class Ext4(Side):
    """A directory of the local disk."""

    name = "ext4"


class Download(Side):
    """obstore's own parallel ranged requests into a local file."""

    name = "download"
    part = 8 * MiB
    parallel = 16

    def __init__(self, work: Path, place: Place) -> None:
        super().__init__(work)
        self._objects = place.objects(PLAIN)

    def fresh(self, *, keep_cache: bool = False) -> None:
        if not keep_cache:
            for path in self.root.iterdir():
                path.unlink()

    def prepare(self, name: str) -> Path:
        path = self.root / name
        if not path.exists():
            download(self._objects, name, path)
        return path


def download(objects: S3Store, name: str, path: Path) -> None:
    """Fetch an object into a file, 16 ranges of 8 MiB at a time."""
    size = obstore.head(objects, name)["size"]
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.ftruncate(fd, size)

        def part(start: int) -> None:
            data = obstore.get_range(objects, name, start=start, length=min(Download.part, size - start))
            os.pwrite(fd, memoryview(data), start)

        with ThreadPoolExecutor(Download.parallel) as pool:
            list(pool.map(part, range(0, size, Download.part)))
    finally:
        os.close(fd)


def upload(objects: S3Store, path: Path, name: str) -> None:
    """Send a file as one object, in parallel parts."""
    obstore.put(objects, name, path, use_multipart=True, chunk_size=Download.part, max_concurrency=Download.parallel)


class Modelfs(Side):
    """This project. ``options`` are more fields of `MountOptions`."""

    name = "modelfs"

    def __init__(self, work: Path, store_url: str, **options: Any) -> None:
        super().__init__(work)
        self._store_url = store_url
        self._options = options
        self._generation = 0
        self._mounted = False

    @property
    def cache(self) -> Path:
        """The directory of its cache at this moment."""
        return self.work / f"cache{self._generation}"

    def fresh(self, *, keep_cache: bool = False) -> None:
        self.close()
        if not keep_cache:
            shutil.rmtree(self.cache, ignore_errors=True)
            self._generation += 1
        daemon.mount_background(
            MountOptions(
                store_url=self._store_url,
                mountpoint=self.root,
                cache_dir=self.cache,
                log_file=self.work / "log",
                **self._options,
            )
        )
        self._mounted = True

    def facts(self) -> dict[str, Any]:
        """What `modelfs status` says of it."""
        return daemon.status(self.root)

    def pids(self) -> list[int]:
        return [int(self.facts()["pid"])]

    def received(self) -> int:
        return int(self.facts()["store_received_bytes"])

    def settle(self) -> None:
        while self.facts()["pending"]:
            time.sleep(0.05)

    def close(self) -> None:
        if self._mounted:
            daemon.unmount(self.root, progress=lambda facts: None, timeout=600)
            self._mounted = False


class Foreign(Side):
    """Another project's mount, run in the foreground by ``command``."""

    def __init__(self, work: Path) -> None:
        super().__init__(work)
        self._process: subprocess.Popen[bytes] | None = None
        self.cache = self.work / "cache"
        self.cache.mkdir()

    def command(self) -> list[str]:
        """What to run."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """With which environment."""
        return dict(os.environ)

    def fresh(self, *, keep_cache: bool = False) -> None:
        self.close()
        if not keep_cache:
            shutil.rmtree(self.cache, ignore_errors=True)
            self.cache.mkdir()
        with (self.work / "log").open("ab") as log:
            self._process = subprocess.Popen(self.command(), stdout=log, stderr=log, env=self.environment())
        deadline = time.monotonic() + 30
        while mounted_at(self.root) is None:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} did not mount: {(self.work / 'log').read_text()[-500:]}")
            time.sleep(0.01)

    def pids(self) -> list[int]:
        return [self._process.pid] if self._process is not None else []

    def received(self) -> int:
        return sum(path.stat().st_blocks * 512 for path in self.cache.rglob("*") if path.is_file())

    def close(self) -> None:
        if self._process is None:
            return
        subprocess.run(["fusermount3", "-u", self.root], check=False, capture_output=True)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(10)
            subprocess.run(["fusermount3", "-uz", self.root], check=False, capture_output=True)
        assert not alive(self._process.pid)
        self._process = None


class Rclone(Foreign):
    """rclone mount with its full file cache, 16 parallel streams a file, and no checks of the source's times."""

    name = "rclone"

    def __init__(self, work: Path, place: Place, program: str) -> None:
        super().__init__(work)
        self._place = place
        self._program = program

    def command(self) -> list[str]:
        remote = f":s3,provider=Ceph,env_auth=true,endpoint='{self._place.endpoint}':{self._place.bucket}/{PLAIN}"
        return [
            self._program, "mount", remote, str(self.root), "--config", "/dev/null",
            "--vfs-cache-mode", "full", "--cache-dir", str(self.cache), "--vfs-read-chunk-streams", "16",
            "--vfs-read-chunk-size", "8M", "--vfs-fast-fingerprint", "--no-checksum", "--no-modtime",
            "--dir-cache-time", "1h", "--attr-timeout", "1h", "--max-read-ahead", "4M", "--vfs-write-back", "0s",
            "--s3-upload-concurrency", "16", "--transfers", "16",
        ]  # fmt: skip

    def environment(self) -> dict[str, str]:
        return self._place.environment()


class S3fs(Foreign):
    """s3fs with its disk cache, 16 parallel parts and long-lived metadata."""

    name = "s3fs"

    def __init__(self, work: Path, place: Place) -> None:
        super().__init__(work)
        self._place = place

    def command(self) -> list[str]:
        keys = self.work / "keys"
        keys.touch(mode=0o600)
        keys.write_text(f"{self._place.access_key}:{self._place.secret_key}\n")
        options = [
            f"url={self._place.endpoint}", "use_path_request_style", f"use_cache={self.cache}",
            f"passwd_file={keys}", "parallel_count=16", "multipart_size=16", "max_stat_cache_size=200000",
            "stat_cache_expire=3600", "enable_noobj_cache", "kernel_cache", "complement_stat",
        ]  # fmt: skip
        return ["s3fs", f"{self._place.bucket}:/{PLAIN}", str(self.root), "-f", "-o", ",".join(options)]


class Mergerfs(Foreign):
    """mergerfs over a local directory, with the kernel's page cache: the cost of FUSE in C++ alone."""

    name = "mergerfs"

    def __init__(self, work: Path, below: Path) -> None:
        super().__init__(work)
        self._below = below

    def command(self) -> list[str]:
        return ["mergerfs", "-f", "-o", "cache.files=auto-full,fsname=below", str(self._below), str(self.root)]
