"""Layouts told from the first bytes of a file, of honest, growing, truncated and hostile ones."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from modelfs import limits
from modelfs.formats import detect
from modelfs.formats.layout import Growing, Layout, Want, read_all


def _file(header: object, data: int = 100) -> bytes:
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    return len(text).to_bytes(8, "little") + text + bytes(data)


def layout_of(data: bytes) -> Layout | None:
    return read_all(detect.parse(len(data)), lambda offset, length: data[offset : offset + length])


def _tensor(begin: int, end: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": [(end - begin) // 4], "data_offsets": [begin, end]}


def test_what_the_library_writes_is_understood() -> None:
    arrays = {f"t{i}": np.full((i + 1, 7), i, dtype=np.float32) for i in range(20)}
    data = save(arrays, metadata={"format": "pt"})
    layout = layout_of(data)
    assert isinstance(layout, Layout)
    assert layout.size == len(data)
    assert {s.name for s in layout.spans} == set(arrays)
    for span in layout.spans:
        found = np.frombuffer(data, np.float32, span.length // 4, span.offset).reshape(span.shape)
        assert np.array_equal(found, arrays[span.name])


def test_a_growing_file_says_what_it_takes() -> None:
    data = save({"w": np.zeros(1000, np.float32)})
    header = int.from_bytes(data[:8], "little")
    growing = Growing(detect.parse(None))
    asked = []
    while growing.want is not None:
        assert not growing.told
        asked.append(growing.want)
        growing.feed(data[growing.want.offset : growing.want.offset + growing.want.length])
    assert asked[-1] == Want(8, header)
    assert growing.layout == layout_of(data)
    assert layout_of(b"") is None
    assert layout_of(data[:5]) is None


@pytest.mark.parametrize(
    "header",
    [
        {"a": _tensor(0, 60), "b": _tensor(40, 100)},  # overlap
        {"a": _tensor(60, 40)},  # backwards
        {"a": _tensor(-4, 100)},
        {"a": _tensor(0, 2**70)},
        {"a": _tensor(0, limits.FILE_SIZE_MAX)},
        {"a": _tensor(0, 50)},  # ends before the file does
        {"a": _tensor(0, 500)},  # ends after it
        {"a": {"dtype": "F32"}},
        {"a": 7},
        {"a": {**_tensor(0, 100), "shape": "wide"}},
        b"{" * 200_000 + b"}",
        b'{"a": ',
        b"{\xff\xfe}",
        [1, 2],
    ],
)
def test_a_file_that_lies_has_no_layout(header: object) -> None:
    data = _file(header)
    assert layout_of(data) is None


def test_a_header_too_large_to_hold_is_not_asked_for() -> None:
    for length in (limits.SAFETENSORS_HEADER_MAX + 1, 2**63, 0, 1):
        growing = Growing(detect.parse(None))
        growing.feed(length.to_bytes(8, "little") + b"{" + bytes(55))
        assert growing.want is None
        assert growing.layout is None


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 60))
def test_noise_never_raises(noise: bytes, length: int) -> None:
    for data in (noise, length.to_bytes(8, "little") + b"{" + noise):
        found = layout_of(data)
        if found is not None:
            assert all(span.offset + span.length <= len(data) for span in found.spans)
