"""Checkpoints on a mount cost what is new in them: across formats, across versions, across machines."""

from __future__ import annotations

import io
import itertools
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from mounting import Machine
from safetensors.torch import load_file, save, save_file

from modelfs.codecs import codec_name
from modelfs.ids import ChunkId, ManifestId, TreeId
from modelfs.repository.keys import chunk_key
from modelfs.repository.objects import Kind
from modelfs.repository.repository import Repository
from modelfs.repository.usage import Usage, chunk_sizes
from modelfs.store.open import open_store

SHAPES = {"wte.weight": (3000, 256), "h.0.fc.weight": (1024, 256), "h.0.proj.weight": (256, 1024), "ln.weight": (256,)}

Weights = dict[str, torch.Tensor]


def new_weights(seed: int = 0) -> Weights:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) * 0.02 for name, shape in SHAPES.items()}


def step(weights: Weights, seed: int, by: float = 1e-5) -> Weights:
    generator = torch.Generator().manual_seed(1000 + seed)
    return {n: t + by * torch.randn(t.shape, generator=generator) for n, t in weights.items()}


def nbytes(weights: Weights) -> int:
    return sum(tensor.nbytes for tensor in weights.values())


def stored(store: str) -> int:
    return sum(path.stat().st_size for path in (Path(store) / "data").rglob("*") if path.is_file())


def codecs_of(store: str, path: bytes) -> list[str]:
    """Codec of each chunk of a committed file."""
    opened = open_store(store)
    try:
        repo = Repository.open(opened)
        head = repo.head()
        assert head is not None
        entry = repo.find(head.commit.root, path)
        assert entry is not None
        assert entry.kind is Kind.FILE
        chunks = repo.read_manifest(ManifestId(entry.content)).chunks
        return [
            codec_name((Path(store) / chunk_key(ChunkId(extent.id))).read_bytes()) for extent in chunks if extent.id
        ]
    finally:
        opened.close()


@pytest.fixture
def store(machine: Machine) -> str:
    return machine.new_store()


def test_one_model_in_five_formats_is_stored_once(machine: Machine, store: str) -> None:
    mnt = machine.mount(store)
    weights = new_weights()
    save_file(weights, mnt / "m.safetensors")
    once = stored(store)
    torch.save(weights, mnt / "m.pt")
    np.savez(mnt / "m.npz", **{name: tensor.numpy() for name, tensor in weights.items()})
    with h5py.File(mnt / "m.h5", "w") as file:
        for name, tensor in weights.items():
            file[name.replace(".", "/")] = tensor.numpy()
    (mnt / "shards").mkdir()
    for i, (name, tensor) in enumerate(weights.items()):
        save_file({name: tensor}, mnt / "shards" / f"model-{i}.safetensors")
    grown = {**weights, "wte.weight": torch.cat([weights["wte.weight"], torch.zeros(10, 256)])}
    save_file(grown, mnt / "grown.safetensors")
    machine.umount(mnt)
    # what is new are headers, and the last piece of the table that has grown
    last_piece = weights["wte.weight"].nbytes
    assert stored(store) < once + last_piece + 0.03 * nbytes(weights)
    again = machine.mount(store, "again", "cold")
    for loaded in (load_file(again / "m.safetensors"), torch.load(again / "m.pt"), dict(np.load(again / "m.npz"))):
        assert all(torch.equal(torch.as_tensor(loaded[name]), tensor) for name, tensor in weights.items())
    assert torch.equal(load_file(again / "grown.safetensors")["wte.weight"], grown["wte.weight"])


@pytest.mark.parametrize("kind", ["safetensors", "torch"])
def test_checkpoints_beside_each_other_cost_what_changed(machine: Machine, store: str, kind: str) -> None:
    """Every checkpoint in a directory of its own, written to a temporary name and renamed, as trainers do."""
    mnt = machine.mount(store)
    weights, sizes = new_weights(), [0]
    versions = []
    for number in range(4):
        weights = step(weights, number)
        versions.append(weights)
        directory = mnt / f"checkpoint-{number}"
        directory.mkdir()
        if kind == "safetensors":
            save_file(weights, directory / "tmpXYZ")
        else:
            torch.save({"model": weights, "step": number}, directory / "tmpXYZ")
        (directory / "tmpXYZ").rename(directory / f"model.{kind}")
        sizes.append(stored(store))
    costs = [b - a for a, b in itertools.pairwise(sizes)]
    assert costs[0] > 0.7 * nbytes(weights)
    assert all(cost < 0.65 * costs[0] for cost in costs[1:])
    machine.umount(mnt)
    assert codecs_of(store, f"checkpoint-3/model.{kind}".encode()).count("delta") >= 3
    again = machine.mount(store, "again", "cold")
    for number, version in enumerate(versions):
        path = again / f"checkpoint-{number}" / f"model.{kind}"
        loaded = load_file(path) if kind == "safetensors" else torch.load(path)["model"]
        assert all(torch.equal(loaded[name], tensor) for name, tensor in version.items())


def test_a_mount_that_remembers_nothing_finds_the_last_checkpoint_in_the_branch(
    machine: Machine, store: str, tmp_path: Path
) -> None:
    first = new_weights()
    mnt = machine.mount(store)
    (mnt / "run" / "checkpoint-1").mkdir(parents=True)
    (mnt / "other").mkdir()
    save_file(new_weights(7), mnt / "other" / "model.safetensors")
    save_file(first, mnt / "run" / "checkpoint-1" / "model.safetensors")
    machine.umount(mnt)
    second = step(first, 1)
    elsewhere = Machine(tmp_path / "elsewhere")
    try:
        mnt = elsewhere.mount(store)
        (mnt / "run" / "checkpoint-2").mkdir()
        save_file(second, mnt / "run" / "checkpoint-2" / "model.safetensors")
        elsewhere.umount(mnt)
        assert "delta" in codecs_of(store, b"run/checkpoint-2/model.safetensors")
        again = elsewhere.mount(store, "again", "cold")
        loaded = load_file(again / "run" / "checkpoint-2" / "model.safetensors")
        assert all(torch.equal(loaded[name], tensor) for name, tensor in second.items())
    finally:
        elsewhere.close()


@pytest.mark.parametrize("on", ["file", "directory"])
def test_the_base_can_be_named(machine: Machine, store: str, on: str, tmp_path: Path) -> None:
    first = new_weights()
    mnt = machine.mount(store)
    (mnt / "a" / "b" / "c").mkdir(parents=True)
    (mnt / "x" / "y").mkdir(parents=True)
    save_file(first, mnt / "a" / "b" / "c" / "base.safetensors")
    machine.umount(mnt)
    elsewhere = Machine(tmp_path / "elsewhere")
    try:
        mnt = elsewhere.mount(store)
        target = mnt / "x" / "y" / "tuned.safetensors"
        if on == "file":
            target.touch()
            os.setxattr(target, "user.modelfs.base", b"/a/b/c/base.safetensors")
        else:
            os.setxattr(target.parent, "user.modelfs.base", b"../../a/b/c")
        target.write_bytes(save(step(first, 1)))
        elsewhere.umount(mnt)
    finally:
        elsewhere.close()
    assert "delta" in codecs_of(store, b"x/y/tuned.safetensors")


def test_compression_is_chosen_by_store_and_by_mount(machine: Machine, store: str) -> None:
    weights = new_weights()
    mnt = machine.mount(store, compression="none")
    save_file(weights, mnt / "a.safetensors")
    machine.umount(mnt)
    assert set(codecs_of(store, b"a.safetensors")) == {"raw"}
    mnt = machine.mount(store)
    save_file(new_weights(2), mnt / "b.safetensors")
    machine.umount(mnt)
    assert "planes" in codecs_of(store, b"b.safetensors")


def test_a_file_that_is_rewritten_in_place_keeps_its_tensors(machine: Machine, store: str) -> None:
    """A new version over the old one, then one number patched: right bytes, little cost."""
    mnt = machine.mount(store)
    weights = new_weights()
    save_file(weights, mnt / "m.safetensors")
    before = stored(store)
    changed = step(weights, 1)
    data = save(changed)
    (mnt / "m.safetensors").write_bytes(data)
    assert stored(store) - before < 0.7 * before
    with (mnt / "m.safetensors").open("r+b") as file:
        file.seek(len(data) - 100)
        file.write(b"\x01\x02\x03\x04")
    machine.umount(mnt)
    again = machine.mount(store, "again", "cold")
    assert (again / "m.safetensors").read_bytes() == data[:-100] + b"\x01\x02\x03\x04" + data[-96:]


@pytest.mark.parametrize("kind", ["torch", "npz", "safetensors"])
def test_nothing_is_uploaded_that_the_finished_file_does_not_have(machine: Machine, store: str, kind: str) -> None:
    """Chunks are cut behind the write head, by what the file has told of itself. The kernel has several writes under
    way: what is not on the disk yet must not be taken for the file's content."""
    mnt = machine.mount(store)
    generator = torch.Generator().manual_seed(1)
    weights = {f"h.{i}.weight": torch.randn(700 + i, 1000, generator=generator) for i in range(30)}
    source = io.BytesIO()
    if kind == "torch":
        torch.save({"model": weights}, source)
    elif kind == "npz":
        np.savez(source, **{name: tensor.numpy() for name, tensor in weights.items()})
    else:
        source.write(save(weights))
    data = source.getbuffer()
    for number in range(3):
        with (mnt / f"{number}.bin").open("wb", buffering=0) as file:
            for at in range(0, len(data), 1 << 20):
                file.write(data[at : at + (1 << 20)])
    machine.umount(mnt)
    opened = open_store(store)
    try:
        repo = Repository.open(opened)
        used = Usage()
        used.add(repo, (entry for _, entry in repo.walk(TreeId(repo.resolve(None).commit.root.content))))
        assert used.files == 3
        assert used.unique == len(data)
        assert set(chunk_sizes(repo)) == {chunk_key(chunk) for chunk in used.chunks}
    finally:
        opened.close()
