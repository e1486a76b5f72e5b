"""Layouts of every format: what the libraries write is understood, to the byte; what lies is not believed."""

from __future__ import annotations

import collections
import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import gguf
import h5py
import msgspec
import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from safetensors.numpy import save

from modelfs import limits
from modelfs.formats import detect
from modelfs.formats.layout import Growing, Layout, read_all
from modelfs.formats.pickle import read as read_pickle

Arrays = dict[str, np.ndarray]


def model(count: int = 6, seed: int = 0) -> Arrays:
    random = np.random.default_rng(seed)
    found: Arrays = {}
    for i in range(count):
        found[f"h.{i}.weight"] = random.standard_normal((40 + i, 30)).astype(np.float32)
        found[f"h.{i}.bias"] = random.standard_normal(7 + i).astype(np.float16)
    return found


def layout_of(data: bytes) -> Layout | None:
    return read_all(detect.parse(len(data)), lambda offset, length: data[offset : offset + length])


def to_torch(arrays: Arrays) -> bytes:
    file = io.BytesIO()
    tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
    torch.save({"model": collections.OrderedDict(tensors), "step": 7, "note": ["a", ("b", None, True)]}, file)
    return file.getvalue()


def to_npz(arrays: Arrays) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def to_hdf5(arrays: Arrays, **options: object) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w", **options) as made:
        for name, array in arrays.items():
            made.create_dataset(name.replace(".", "/"), data=array).attrs["unit"] = "none"
    return file.getvalue()


def to_hdf5_latest(arrays: Arrays) -> bytes:
    return to_hdf5(arrays, libver="latest")


def to_gguf(arrays: Arrays) -> bytes:
    path = Path(to_gguf.directory) / "m.gguf"  # type: ignore[attr-defined]
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_array("tokenizer.ggml.tokens", ["a", "bc", "déf"])
    writer.add_custom_alignment(64)
    for name, array in arrays.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def to_onnx(arrays: Arrays) -> bytes:
    weights = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    first = next(iter(arrays))
    output = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, arrays[first].shape)
    graph = helper.make_graph([helper.make_node("Identity", [first], ["y"])], "g", [], [output], weights)
    return helper.make_model(graph).SerializeToString()


def to_msgpack(arrays: Arrays) -> bytes:
    """As flax.serialization.to_bytes does: nested maps, arrays as extension 1 of (shape, dtype, bytes)."""
    encode = msgspec.msgpack.Encoder().encode

    def packed(array: np.ndarray) -> msgspec.msgpack.Ext:
        return msgspec.msgpack.Ext(1, encode((array.shape, array.dtype.name, array.tobytes())))

    tree: dict[str, object] = {"step": 3, "lr": 0.5, "tags": ["x", None, True]}
    for name, array in arrays.items():
        layer, _, leaf = name.rpartition(".")
        tree.setdefault(layer.replace(".", "_"), {})[leaf] = packed(array)  # type: ignore[index]
    return encode(tree)


WRITERS: dict[str, Callable[[Arrays], bytes]] = {
    "safetensors": save,
    "torch": to_torch,
    "npz": to_npz,
    "hdf5": to_hdf5,
    "hdf5-latest": to_hdf5_latest,
    "gguf": to_gguf,
    "onnx": to_onnx,
    "msgpack": to_msgpack,
}


@pytest.fixture(autouse=True, scope="module")
def _directory(tmp_path_factory: pytest.TempPathFactory) -> None:
    to_gguf.directory = tmp_path_factory.mktemp("gguf")  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def files(_directory: None) -> dict[str, bytes]:
    return {name: write(model()) for name, write in WRITERS.items()}


def check_spans(data: bytes, layout: Layout, arrays: Arrays) -> None:
    """Every array is exactly the bytes of one span."""
    assert layout.size == len(data)
    found = {data[s.offset : s.offset + s.length]: s for s in layout.spans}
    for array in arrays.values():
        span = found[array.tobytes()]
        assert span.shape == array.shape
        assert span.dtype == {4: "F32", 2: "F16"}[array.itemsize]


@pytest.mark.parametrize("name", WRITERS)
def test_what_the_library_writes_is_understood(files: dict[str, bytes], name: str) -> None:
    layout = layout_of(files[name])
    assert layout is not None
    check_spans(files[name], layout, model())
    assert len(layout.spans) == len(model())
    expected = {key.replace(".", "/") if name.startswith("hdf5") else key for key in model()}
    if name == "torch":
        expected = {f"model.{key}" for key in expected}
    if name == "msgpack":
        expected = {key.replace("h.", "h_", 1) for key in expected}
    assert {span.name for span in layout.spans} == expected


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_ends_too_early_or_goes_on_is_not_believed(files: dict[str, bytes], name: str) -> None:
    data = files[name]
    for length in (0, 1, 7, 8, 9, 63, 64, 65, len(data) // 2, len(data) - 1):
        layout = layout_of(data[:length])
        assert layout is None or all(span.offset + span.length <= length for span in layout.spans)
    longer = layout_of(data + b"x" * 100)
    assert longer is None or longer.size == len(data) + 100


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_file_with_flipped_bytes_never_raises_nor_leaves_the_file(
    files: dict[str, bytes], data: st.DataObject
) -> None:
    broken = bytearray(files[data.draw(st.sampled_from(sorted(files)))])
    # most of what can go wrong is in the headers, which are in front or behind
    place = st.one_of(
        st.integers(0, 2000), st.integers(0, len(broken) - 1), st.integers(len(broken) - 900, len(broken) - 1)
    )
    for at in data.draw(st.lists(place, min_size=1, max_size=6)):
        broken[at] = data.draw(st.integers(0, 255))
    layout = layout_of(bytes(broken))
    if layout is not None:
        end = 0
        for span in layout.spans:
            assert end <= span.offset
            end = span.offset + span.length
        assert end <= layout.size == len(broken)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(
        (b"PK\x03\x04", b"GGUF\x03\0\0\0", b"\x89HDF\r\n\x1a\n\0", b"\x93NUMPY\x01\0", b"\x81\xa1a", b"\x08\x08")
    ),
    st.binary(max_size=300),
)
def test_noise_behind_a_magic_never_raises(magic: bytes, noise: bytes) -> None:
    layout_of(magic + noise)
    growing = Growing(detect.parse(None))
    while (want := growing.want) is not None and want.offset + want.length <= 10_000:
        growing.feed((magic + noise).ljust(10_000, b"\0")[want.offset : want.offset + want.length])


def grow(data: bytes, step: int, state: Callable[[int], bytes] | None = None) -> list[Layout | None]:
    """What is known of a file after every ``step`` bytes. ``state(n)``: its first n bytes as they were then."""
    state = state or (lambda length: data[:length])
    growing = Growing(detect.parse(None))
    known = []
    for length in range(0, len(data) + step, step):
        seen = state(min(length, len(data)))
        while (want := growing.want) is not None and want.offset + want.length <= len(seen):
            growing.feed(seen[want.offset : want.offset + want.length])
        known.append(growing.layout)
    return known


@pytest.mark.parametrize("name", ["safetensors", "torch", "npz", "gguf"])
def test_a_growing_file_tells_its_layout_bit_by_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LAYOUT_TOLD_EVERY", 20_000)
    arrays = model(40)
    data = WRITERS[name](arrays)
    final = layout_of(data)
    assert final is not None
    known = grow(data, 5000)
    told = [layout for layout in known if layout is not None]
    assert told
    for layout in told:
        assert layout.spans == final.spans[: len(layout.spans)]
        assert layout.complete == (layout.size == final.size)
    # half-way through it knows a good part
    half = known[len(known) // 2]
    assert half is not None
    assert len(half.spans) > len(final.spans) // 4


def test_an_npz_is_understood_before_its_headers_are_patched(monkeypatch: pytest.MonkeyPatch) -> None:
    """numpy writes a member's size into its header after the member."""
    monkeypatch.setattr(limits, "LAYOUT_TOLD_EVERY", 20_000)

    class Recorder(io.BytesIO):
        states: dict[int, bytes]  # file length -> content when it first was so long

        def write(self, data: object) -> int:
            count = super().write(data)  # type: ignore[arg-type]
            self.states.setdefault(len(self.getvalue()), self.getvalue())
            return count

    file = Recorder()
    file.states = {}
    np.savez(file, **model(40))
    data = file.getvalue()
    lengths = sorted(file.states)

    def state(length: int) -> bytes:
        return file.states[max((n for n in lengths if n <= length), default=lengths[0])][:length]

    final = layout_of(data)
    assert final is not None
    told = [layout for layout in grow(data, 10_000, state) if layout is not None]
    assert told
    assert all(layout.spans == final.spans[: len(layout.spans)] for layout in told)


@pytest.mark.parametrize("name", ["hdf5", "onnx", "msgpack"])
def test_what_cannot_tell_before_it_is_closed_says_nothing_before(files: dict[str, bytes], name: str) -> None:
    growing = Growing(detect.parse(None))
    growing.feed(files[name][:64])
    assert growing.want is not None
    assert growing.want.length > 1 << 60
    assert not growing.told


def test_archives_one_after_the_other_are_one_file() -> None:
    """As PyTorch's distributed checkpoints are."""
    arrays = model(3)
    data = b"".join(to_torch({name: array}) for name, array in arrays.items())
    layout = layout_of(data)
    assert layout is not None
    check_spans(data, layout, arrays)


def test_a_whole_module_and_an_optimizer_are_understood() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(50, 40), torch.nn.Linear(40, 1))
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.ones(50)).backward()
    optimizer.step()
    file = io.BytesIO()
    torch.save({"net": net, "optimizer": optimizer.state_dict()}, file)
    layout = layout_of(file.getvalue())
    assert layout is not None
    names = {span.name for span in layout.spans}
    assert "optimizer.state.0.exp_avg_sq" in names
    assert any(name.endswith("0._parameters.weight") for name in names)


@pytest.mark.tensorflow
def test_the_weights_inside_a_keras_archive_are_found(tmp_path: Path) -> None:
    import keras

    net = keras.Sequential([keras.layers.Input((30,)), keras.layers.Dense(64), keras.layers.Dense(5)])
    net.save(tmp_path / "m.keras")
    data = (tmp_path / "m.keras").read_bytes()
    layout = layout_of(data)
    assert layout is not None
    stored = {data[span.offset : span.offset + span.length] for span in layout.spans}
    assert {np.ascontiguousarray(w).tobytes() for w in net.get_weights()} <= stored


@pytest.mark.parametrize("latest", [False, True])
def test_chunks_of_hdf5_are_found_unless_they_are_packed(latest: bool) -> None:
    random = np.random.default_rng(1)
    plain, packed = (random.standard_normal((60, 60)).astype(np.float32) for _ in range(2))
    file = io.BytesIO()
    with h5py.File(file, "w", libver="latest" if latest else None) as made:
        made.create_dataset("plain", data=plain, chunks=(60, 60) if latest else (20, 30))
        made.create_dataset("packed", data=packed, chunks=(20, 30), compression="gzip")
        made.create_dataset("empty", shape=(0, 3))
        made["scalar"] = 3.5
        made["group/self"] = made["/"]  # a cycle
    data = file.getvalue()
    layout = layout_of(data)
    assert layout is not None
    spans = [span for span in layout.spans if span.name.startswith("plain")]
    assert sum(span.length for span in spans) == plain.nbytes
    if not latest:
        tile = plain[20:40, 30:60]
        [span] = [s for s in spans if s.name == "plain[20,30]"]
        assert data[span.offset : span.offset + span.length] == tile.tobytes()
    assert not [span for span in layout.spans if span.name.startswith("packed")]


def test_a_group_with_many_members_is_walked() -> None:
    arrays = {f"t{i:04}": np.full(20, i, np.float32) for i in range(600)}
    data = to_hdf5(arrays)
    layout = layout_of(data)
    assert layout is not None
    check_spans(data, layout, arrays)


def test_a_zip_without_tensors_has_no_layout() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a.txt", "hello" * 100)
    assert layout_of(file.getvalue()) is None
    npz = io.BytesIO()
    np.savez_compressed(npz, a=np.zeros(1000))
    assert layout_of(npz.getvalue()) is None


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("/nonexistent/touched"),))


def test_a_pickle_is_read_and_not_run() -> None:
    data = pickle.dumps({"a": Bomb(), "b": [1, 2.5, {"c"}], "d": b"x" * 10}, protocol=2)
    assert read_pickle(data + b"rest") == (len(data), {})
    assert read_pickle(data[:-1]) is None
    assert read_pickle(b"\x80\x02r\xff\xff\xff\x7f.") is None  # a memo of two thousand million entries
    assert read_pickle(b"") is None


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_noise_is_no_pickle_or_a_short_one(noise: bytes) -> None:
    found = read_pickle(b"\x80\x02" + noise + b".")
    assert found is None or 0 < found[0] <= len(noise) + 3
