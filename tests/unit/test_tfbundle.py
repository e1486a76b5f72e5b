"""The index of a TensorFlow bundle: what TensorFlow writes is understood, what lies is not believed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelfs.formats.tfbundle import parse_index, shard_of


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def entry(offset: int, size: int, *, dtype: int = 1, shape: tuple[int, ...] = (), shard: int = 0) -> bytes:
    dims = b"".join(b"\x12" + varint(len(d)) + d for d in (b"\x08" + varint(n) for n in shape))
    return (
        b"\x08"
        + varint(dtype)
        + b"\x12"
        + varint(len(dims))
        + dims
        + b"\x18"
        + varint(shard)
        + b"\x20"
        + varint(offset)
        + b"\x28"
        + varint(size)
        + b"\x35"
        + b"crc!"
    )


def block(pairs: list[tuple[bytes, bytes]]) -> bytes:
    out, last = b"", b""
    for key, value in pairs:
        shared = next((i for i, (a, b) in enumerate(zip(key, last, strict=False)) if a != b), min(len(key), len(last)))
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    return out + bytes(4) + (1).to_bytes(4, "little")


def index_of(pairs: list[tuple[bytes, bytes]]) -> bytes:
    data = block(pairs)
    handle = varint(0) + varint(len(data))
    top = block([(b"zzz", handle)])
    at = len(data) + 5
    footer = varint(0) + varint(0) + varint(at) + varint(len(top))
    return data + b"\0crc!" + top + b"\0crc!" + footer.ljust(40, b"\0") + (0xDB4775248B80FB57).to_bytes(8, "little")


INDEX = index_of(
    [
        (b"", b"\x08\x01"),
        (b"model/a", entry(0, 400, shape=(10, 10))),
        (b"model/abc", entry(400, 20, dtype=14, shape=(10,))),
        (b"other", entry(0, 8, dtype=9, shard=1)),
    ]
)


def test_a_table_is_understood() -> None:
    layout = parse_index(INDEX, 0)
    assert layout is not None
    assert [(s.name, s.offset, s.length, s.dtype, s.shape) for s in layout.spans] == [
        ("model/a", 0, 400, "F32", (10, 10)),
        ("model/abc", 400, 20, "BF16", (10,)),
    ]
    assert layout.size == 420
    other = parse_index(INDEX, 1)
    assert other is not None
    assert other.size == 8
    assert parse_index(INDEX, 2) is None


def test_data_files_are_told_by_their_names() -> None:
    assert shard_of(b"ckpt-7.data-00000-of-00001") == 0
    assert shard_of(b"part-00003-of-00004.data-00002-of-00004.tempstate1234") == 2
    assert shard_of(b"ckpt-7.index") is None
    assert shard_of(b"data-00000-of-00001.txt") is None


@pytest.mark.tensorflow
def test_what_tensorflow_writes_is_understood(tmp_path: Path) -> None:
    import tensorflow as tf

    arrays = {f"v{i:03}": np.random.default_rng(i).standard_normal((50 + i, 3)).astype(np.float32) for i in range(300)}
    tf.train.Checkpoint(**{name: tf.Variable(array) for name, array in arrays.items()}).write(str(tmp_path / "c"))
    layout = parse_index((tmp_path / "c.index").read_bytes(), 0)
    data = (tmp_path / "c.data-00000-of-00001").read_bytes()
    assert layout is not None
    assert layout.size == len(data)
    found = {span.name.partition("/")[0]: span for span in layout.spans}
    for name, array in arrays.items():
        span = found[name]
        assert data[span.offset : span.offset + span.length] == array.tobytes()
        assert (span.dtype, span.shape) == ("F32", array.shape)


@settings(max_examples=500, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(INDEX) - 1), st.integers(0, 255)), max_size=5), st.integers(0, len(INDEX)))
def test_a_damaged_index_never_raises(changes: list[tuple[int, int]], length: int) -> None:
    broken = bytearray(INDEX)
    for at, value in changes:
        broken[at] = value
    for index in (bytes(broken), bytes(broken[:length])):
        layout = parse_index(index, 0)
        if layout is not None:
            assert all(span.offset + span.length <= layout.size for span in layout.spans)
