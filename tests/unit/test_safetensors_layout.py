"""Layouts told from the first bytes of a file, of honest, growing, truncated and hostile ones."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from modelfs import limits
from modelfs.formats.detect import detect
from modelfs.formats.layout import Layout, NeedMore


def _file(header: object, data: int = 100) -> bytes:
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    return len(text).to_bytes(8, "little") + text + bytes(data)


def _tensor(begin: int, end: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": [(end - begin) // 4], "data_offsets": [begin, end]}


def test_what_the_library_writes_is_understood() -> None:
    arrays = {f"t{i}": np.full((i + 1, 7), i, dtype=np.float32) for i in range(20)}
    data = save(arrays, metadata={"format": "pt"})
    layout = detect(data, len(data))
    assert isinstance(layout, Layout)
    assert layout.size == len(data)
    assert {s.name for s in layout.spans} == set(arrays)
    for span in layout.spans:
        found = np.frombuffer(data, np.float32, span.length // 4, span.offset).reshape(span.shape)
        assert np.array_equal(found, arrays[span.name])


def test_a_growing_file_says_how_much_it_takes() -> None:
    data = save({"w": np.zeros(1000, np.float32)})
    header = 8 + int.from_bytes(data[:8], "little")
    assert isinstance(detect(b"", None), NeedMore)
    assert detect(data[:20], None) == NeedMore(header)
    assert isinstance(detect(data[:header], None), Layout)
    assert detect(b"", 0) is None
    assert detect(data[:5], 5) is None


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
    assert detect(data, len(data)) is None


def test_a_header_too_large_to_hold_is_not_asked_for() -> None:
    for length in (limits.SAFETENSORS_HEADER_MAX + 1, 2**63, 0, 1):
        assert detect(length.to_bytes(8, "little") + b"{" + bytes(50), None) is None


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.one_of(st.none(), st.integers(0, 1000)), st.integers(0, 60))
def test_noise_never_raises(noise: bytes, size: int | None, length: int) -> None:
    for head in (noise, length.to_bytes(8, "little") + b"{" + noise):
        found = detect(head, size)
        if isinstance(found, Layout):
            ends = [0, *(s.offset + s.length for s in found.spans)]
            assert all(end <= found.size for end in ends)
