"""NumPy and h5py on a mount."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

Twice = Callable[[Callable[[Path], None], Callable[[Path], None]], None]


def _array(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((400, 1000))


def test_npy_npz(twice: Twice) -> None:
    def save(mnt: Path) -> None:
        np.save(mnt / "a.npy", _array())
        np.savez(mnt / "b.npz", x=_array(1), y=_array(2))
        np.savez_compressed(mnt / "c.npz", x=_array(3))

    def check(mnt: Path) -> None:
        assert np.array_equal(np.load(mnt / "a.npy"), _array())
        assert np.array_equal(np.load(mnt / "a.npy", mmap_mode="r"), _array())
        with np.load(mnt / "b.npz") as both:
            assert np.array_equal(both["x"], _array(1))
            assert np.array_equal(both["y"], _array(2))
        with np.load(mnt / "c.npz") as one:
            assert np.array_equal(one["x"], _array(3))

    twice(save, check)


def test_memmap(twice: Twice) -> None:
    def save(mnt: Path) -> None:
        made = np.lib.format.open_memmap(mnt / "m.npy", mode="w+", dtype="float64", shape=(400, 1000))
        made[:] = _array()
        made.flush()
        del made
        again = np.load(mnt / "m.npy", mmap_mode="r+")
        again[7] = 42.0
        del again

    def check(mnt: Path) -> None:
        expected = _array()
        expected[7] = 42.0
        assert np.array_equal(np.load(mnt / "m.npy"), expected)

    twice(save, check)


def test_hdf5(twice: Twice) -> None:
    def save(mnt: Path) -> None:
        with h5py.File(mnt / "w.h5", "w") as file:
            file["dense/kernel"] = _array()
            file.create_dataset("chunked", data=_array(1), chunks=(50, 100), compression="gzip")
            file.attrs["step"] = 1
        with h5py.File(mnt / "w.h5", "r+") as file:
            file["dense/kernel"][3] = 1.0
            file["added"] = np.arange(10)
            file.attrs["step"] = 2

    def check(mnt: Path) -> None:
        expected = _array()
        expected[3] = 1.0
        with h5py.File(mnt / "w.h5", "r") as file:
            assert np.array_equal(file["dense/kernel"][:], expected)
            assert np.array_equal(file["chunked"][:], _array(1))
            assert file.attrs["step"] == 2

    twice(save, check)
