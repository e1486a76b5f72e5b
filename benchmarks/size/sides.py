"""The sides of the comparison. Each gets the steps of a series one after the other and is asked what it stores.

Every tool keeps all state below a directory of its own, so nothing of the user's is read or changed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import lz4.block
from blake3 import blake3

from modelfs.config import MountOptions
from modelfs.fuse import daemon
from modelfs.repository.repository import Repository
from modelfs.store.open import open_store

BLOCK = 4 * 1024 * 1024
PIECE = 1024 * 1024


class Side(ABC):
    """One tool with one empty store. ``available`` says whether it can run here."""

    name = ""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True)

    @classmethod
    def available(cls) -> bool:
        """True when the tool is installed."""
        return True

    @abstractmethod
    def save(self, number: int, step: Path, root: Path) -> None:
        """Add one step of a series: the directory or file ``step`` below ``root``."""

    @abstractmethod
    def stored(self) -> int:
        """Bytes that the store holds."""

    def cpu(self) -> float:
        """CPU seconds spent outside this process and its children."""
        return 0.0

    def close(self) -> None:
        """Let go of everything; the directory is removed afterwards. Most have nothing to let go of."""
        return


def files_of(step: Path) -> list[Path]:
    """The files of a step, sorted."""
    return [step] if step.is_file() else sorted(path for path in step.rglob("*") if path.is_file())


def size_of(directory: Path, keep: Callable[[Path], bool] = lambda path: True) -> int:
    """Sum of the lengths of the files below a directory."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file() and keep(path))


def run(*command: object, **environment: str) -> None:
    """A tool that must succeed; its output is shown when it does not."""
    done = subprocess.run(
        [str(part) for part in command], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{command[0]} failed: {done.stdout}{done.stderr}")


class Restic(Side):
    """restic, repository version 2, compression as it chooses."""

    name = "restic"

    @classmethod
    def available(cls) -> bool:
        return shutil.which("restic") is not None

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._run("init", "--repository-version", "2")

    def _run(self, *arguments: object) -> None:
        environment = {"RESTIC_PASSWORD": "x", "RESTIC_CACHE_DIR": str(self.directory / "cache")}
        run("restic", "--repo", self.directory / "repo", "--quiet", *arguments, **environment)

    def save(self, number: int, step: Path, root: Path) -> None:
        self._run("backup", step)

    def stored(self) -> int:
        return size_of(self.directory / "repo")


class Borg(Side):
    """borg with its default compression, lz4."""

    name = "borg lz4"
    compression = "lz4"

    @classmethod
    def available(cls) -> bool:
        return shutil.which("borg") is not None

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._run("init", "--encryption=none", self.directory / "repo")

    def _run(self, *arguments: object) -> None:
        run("borg", *arguments, BORG_BASE_DIR=str(self.directory / "base"))

    def save(self, number: int, step: Path, root: Path) -> None:
        self._run("create", f"--compression={self.compression}", f"{self.directory / 'repo'}::{number}", step)

    def stored(self) -> int:
        return size_of(self.directory / "repo")


class BorgZstd(Borg):
    """borg with zstd."""

    name = "borg zstd"
    compression = "zstd,3"


class Casync(Side):
    """casync, indexes counted."""

    name = "casync"

    @classmethod
    def available(cls) -> bool:
        return shutil.which("casync") is not None

    def save(self, number: int, step: Path, root: Path) -> None:
        index = self.directory / f"{number}.{'caibx' if step.is_file() else 'caidx'}"
        run("casync", f"--store={self.directory / 'default.castr'}", "make", index, step)

    def stored(self) -> int:
        return size_of(self.directory)


class Xet(Side):
    """hf-xet itself, which the Hugging Face Hub stores by: its data and shards in a local folder."""

    name = "hf-xet"

    @classmethod
    def available(cls) -> bool:
        try:
            import hf_xet  # noqa: F401
        except ImportError:
            return False
        return True

    def save(self, number: int, step: Path, root: Path) -> None:
        code = "import sys, hf_xet; hf_xet.upload_files(sys.argv[2:], sys.argv[1], None, None, None, 'model')"
        cache = {"HF_HOME": str(self.directory / "home"), "HF_XET_CACHE": str(self.directory / "cache")}
        run(sys.executable, "-W", "ignore", "-c", code, f"local://{self.directory / 'store'}", *files_of(step), **cache)

    def stored(self) -> int:
        data = self.directory / "store" / "xet" / "xorbs"
        return sum(size_of(data / part, lambda path: path.suffix != ".tagset") for part in ("xorbs", "shards"))


class Fixed(Side):
    """Blocks of 4 MiB from the start of the file, each lz4: what JuiceFS stores."""

    name = "fixed 4M + lz4"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._seen: set[bytes] = set()
        self._stored = 0

    def save(self, number: int, step: Path, root: Path) -> None:
        for path in files_of(step):
            with path.open("rb") as file:
                while block := file.read(BLOCK):
                    name = blake3(block).digest()
                    if name not in self._seen:
                        self._seen.add(name)
                        self._stored += min(len(lz4.block.compress(block, store_size=False)), len(block))

    def stored(self) -> int:
        return self._stored


class Modelfs(Side):
    """modelfs, saved through a mount file by file."""

    name = "modelfs"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.store = directory / "store"
        self._mounted: Path | None = None
        self._cpu = 0.0
        opened = open_store(str(self.store), create=True)
        Repository.create(opened)
        opened.close()
        self.mnt = self._mount("mnt", "cache")

    def _mount(self, name: str, cache: str) -> Path:
        point = self.directory / name
        point.mkdir()
        daemon.mount_background(
            MountOptions(
                store_url=str(self.store),
                mountpoint=point,
                cache_dir=self.directory / cache,
                log_file=self.directory / "log",
            )
        )
        self._mounted = point
        return point

    def _unmount(self) -> None:
        if self._mounted is not None:
            self._cpu = self.cpu()
            point, self._mounted = self._mounted, None
            daemon.unmount(point, progress=lambda facts: None, timeout=600)

    def save(self, number: int, step: Path, root: Path) -> None:
        for path in files_of(step):
            target = self.mnt / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            with path.open("rb") as source, target.open("wb", buffering=0) as file:
                while piece := source.read(PIECE):
                    file.write(piece)

    def stored(self) -> int:
        self._unmount()
        return size_of(self.store)

    def cpu(self) -> float:
        if self._mounted is None:
            return self._cpu
        pid = daemon.status(self._mounted)["pid"]
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def verify(self, root: Path) -> None:
        """Compare every file with its source on a mount that has nothing cached."""
        again = self._mount("again", "cold")
        for path in files_of(root):
            with path.open("rb") as a, (again / path.relative_to(root)).open("rb") as b:
                while piece := a.read(BLOCK):
                    if piece != b.read(BLOCK):
                        raise SystemExit(f"{path} came back wrong")
        self._unmount()

    def close(self) -> None:
        self._unmount()


SIDES: tuple[type[Side], ...] = (Restic, Borg, BorgZstd, Casync, Xet, Fixed, Modelfs)
