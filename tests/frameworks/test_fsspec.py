"""Libraries that save and load through fsspec, on ``modelfs://``: no mount anywhere. The store is a directory or, for
what reads and writes in its own ways, an S3 server as well."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from mounting import Machine
from torch.distributed.checkpoint._fsspec_filesystem import FsspecReader, FsspecWriter

from modelfs.filesystem.spec import ModelFileSystem
from modelfs.repository.repository import Repository
from modelfs.store.open import open_store

both = pytest.mark.parametrize("store", ["directory", "s3"], indirect=True)


@pytest.fixture
def store(machine: Machine, request: pytest.FixtureRequest) -> str:
    """URL of a fresh store."""
    if getattr(request, "param", "directory") == "directory":
        return machine.new_store()
    url = f"{request.getfixturevalue('s3_bucket')}/store"
    opened = open_store(url)
    Repository.create(opened)
    opened.close()
    return url


@pytest.fixture
def url(machine: Machine, home: Path, store: str) -> Iterator[str]:
    """``modelfs://@NAME`` of it."""
    fsspec.register_implementation("modelfs", ModelFileSystem, clobber=True)
    config = home / ".config/modelfs"
    config.mkdir(parents=True, exist_ok=True)
    (config / "frameworks.toml").write_text(f'store = "{store}"\ncache-dir = "{machine.directory / "cache"}"\n')
    yield "modelfs://@frameworks"
    ModelFileSystem(store="@frameworks").close()
    ModelFileSystem.clear_instance_cache()
    (config / "frameworks.toml").unlink()


def _state(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "embed": torch.randn(3000, 256, generator=generator),
        "half": torch.randn(1 << 18, generator=generator).to(torch.bfloat16),
        "step": torch.tensor(seed),
    }


def _same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@both
def test_torch_save_and_load(url: str) -> None:
    with fsspec.open(f"{url}/a.pt", "wb") as file:
        torch.save(_state(7), file)
    assert _same(torch.load(fsspec.open(f"{url}/a.pt").open(), weights_only=True), _state(7))
    with fsspec.open(f"{url}/old.pt", "wb") as file:
        torch.save(_state(8), file, _use_new_zipfile_serialization=False)
    with fsspec.open(f"{url}/old.pt") as file:
        assert _same(torch.load(file, weights_only=True), _state(8))


@both
def test_distributed_checkpoints(url: str, machine: Machine, store: str) -> None:
    for step in (1, 2):
        dcp.save(_state(step), storage_writer=FsspecWriter(f"{url}/run/{step}"), no_dist=True)
    dcp.save(_state(3), checkpoint_id=f"{url}/run/3", no_dist=True)
    for step in (1, 2, 3):
        found = {key: torch.zeros_like(value) for key, value in _state(step).items()}
        dcp.load(found, storage_reader=FsspecReader(f"{url}/run/{step}"), no_dist=True)
        assert _same(found, _state(step))
    found = {key: torch.zeros_like(value) for key, value in _state(3).items()}
    dcp.load(found, checkpoint_id=f"{url}/run/3", no_dist=True)
    assert _same(found, _state(3))
    mnt = machine.mount(store, cache="cache-2")
    found = {key: torch.zeros_like(value) for key, value in _state(2).items()}
    dcp.load(found, checkpoint_id=mnt / "run/2", no_dist=True)
    assert _same(found, _state(2))
    assert sorted(path.name for path in (mnt / "run/2").iterdir()) == [".metadata", "__0_0.distcp"]


def test_a_save_over_a_checkpoint_replaces_it(url: str) -> None:
    for step in (1, 2):
        dcp.save(_state(step), storage_writer=FsspecWriter(f"{url}/last"), no_dist=True)
    found = {key: torch.zeros_like(value) for key, value in _state(2).items()}
    dcp.load(found, storage_reader=FsspecReader(f"{url}/last"), no_dist=True)
    assert _same(found, _state(2))


def test_numpy(url: str) -> None:
    array = np.arange(100_000.0)
    with fsspec.open(f"{url}/a.npz", "wb") as file:
        np.savez(file, weights=array)
    with fsspec.open(f"{url}/a.npz") as file:
        assert np.array_equal(np.load(file)["weights"], array)


def test_workers_of_a_data_loader_are_forked(url: str, machine: Machine, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, fsspec, torch\n"
        "from modelfs.filesystem.spec import ModelFileSystem\n"
        "fsspec.register_implementation('modelfs', ModelFileSystem, clobber=True)\n"
        "fs, _ = fsspec.url_to_fs(sys.argv[1])\n"
        "for i in range(4): fs.pipe_file(f'{i}', bytes([i]) * 100_000)\n"
        "class Files(torch.utils.data.Dataset):\n"
        "    def __len__(self): return 4\n"
        "    def __getitem__(self, i): return fs.cat_file(f'{i}')[5]\n"
        "loader = torch.utils.data.DataLoader(Files(), num_workers=2, multiprocessing_context='fork')\n"
        "print([int(x) for x in loader])\n"
    )
    done = subprocess.run([sys.executable, program, url], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("[0, 1, 2, 3]\n", 0), done.stderr


@both
def test_pandas(url: str) -> None:
    import pandas  # here and below: a second that only who runs this has to wait

    frame = pandas.DataFrame({"a": range(1000), "b": [str(i) for i in range(1000)]})
    frame.to_csv(f"{url}/t.csv", index=False)
    assert pandas.read_csv(f"{url}/t.csv", dtype={"b": str}).equals(frame)
    frame.to_pickle(f"{url}/t.pkl")
    assert pandas.read_pickle(f"{url}/t.pkl").equals(frame)
    frame.to_parquet(f"{url}/t.parquet")
    assert pandas.read_parquet(f"{url}/t.parquet").equals(frame)


@both
def test_pyarrow(url: str) -> None:
    import pyarrow
    from pyarrow import dataset, parquet

    table = pyarrow.table({"a": list(range(1000)), "part": [i % 3 for i in range(1000)]})
    fs, path = fsspec.url_to_fs(f"{url}/d")
    parquet.write_to_dataset(table, path, partition_cols=["part"], filesystem=fs)
    found = dataset.dataset(path, filesystem=fs, partitioning="hive").to_table().sort_by("a")
    assert found["a"].to_pylist() == list(range(1000))
    assert sorted(name.partition("/")[0] for name in (p[len(path) + 1 :] for p in fs.find(path))) == [
        "part=0", "part=1", "part=2",
    ]  # fmt: skip


@both
def test_datasets(url: str) -> None:
    import datasets

    data = datasets.Dataset.from_dict({"a": list(range(100))})
    data.save_to_disk(f"{url}/set")
    assert datasets.load_from_disk(f"{url}/set")["a"][:] == list(range(100))
