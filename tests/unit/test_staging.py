"""Staged files against a plain bytearray: random writes, truncations and cuts."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from modelfs.ids import digest
from modelfs.repository.objects import Extent, Manifest
from modelfs.writer.staging import StagedFile

_op = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 300), st.binary(min_size=1, max_size=60)),
    st.tuples(st.just("truncate"), st.integers(0, 400), st.just(b"")),
    st.tuples(st.just("cut"), st.integers(1, 50), st.just(b"")),
)


def _cut(staged: StagedFile, chunks: dict[bytes, bytes], content: bytes, length: int) -> None:
    """Cut everything that is uncut into pieces of ``length``."""
    for start, end in staged.gaps():
        claim = staged.claim(start, end)
        extents = []
        for at in range(start, end, length):
            piece = content[at : min(at + length, end)]
            chunks[digest(piece)] = piece
            extents.append(Extent(digest(piece), len(piece)))
        assert staged.settle(claim, extents)


@settings(max_examples=200)
@given(st.binary(max_size=200), st.integers(1, 64), st.lists(_op, max_size=25))
def test_against_a_bytearray(base: bytes, piece: int, ops: list[tuple[str, int, bytes]]) -> None:
    chunks: dict[bytes, bytes] = {}
    extents = []
    for at in range(0, len(base), piece):
        part = base[at : at + piece]
        chunks[digest(part)] = part
        extents.append(Extent(digest(part), len(part)))
    with TemporaryDirectory() as directory:
        staged = StagedFile(Path(directory) / "f", Manifest(len(base), tuple(extents)))
        model = bytearray(base)

        def read_base(offset: int, length: int) -> bytes:
            return base[offset : offset + length]

        def content() -> bytes:
            plan = list(staged.pieces(0, staged.size))
            return bytes(staged.read(plan, read_base)) if plan else b""

        for what, number, data in ops:
            if what == "write":
                staged.note_write(number, number + len(data))
                staged.pwrite(data, number)
                model.extend(bytes(max(0, number + len(data) - len(model))))
                model[number : number + len(data)] = data
            elif what == "truncate":
                staged.truncate(number)
                del model[number:]
                model.extend(bytes(number - len(model)))
            else:
                _cut(staged, chunks, content(), number)
            assert staged.size == len(model)
            assert content() == model
        _cut(staged, chunks, content(), piece)
        manifest = staged.manifest()
        assert manifest.size == len(model)
        assert b"".join(chunks[e.id] for e in manifest.chunks) == model
        staged.close()


def test_a_write_spoils_a_cut_in_progress(tmp_path: Path) -> None:
    staged = StagedFile(tmp_path / "f", None)
    staged.note_write(0, 100)
    claim = staged.claim(0, 100)
    staged.note_write(50, 51)
    assert not staged.settle(claim, [Extent(b"x" * 32, 100)])
    assert staged.gaps() == [(0, 100)]
    staged.close()


def test_short_pieces_beside_a_gap_are_cut_again(tmp_path: Path) -> None:
    staged = StagedFile(tmp_path / "f", Manifest(110, (Extent(b"a" * 32, 100), Extent(b"b" * 32, 10))))
    staged.note_write(110, 120)
    assert staged.gaps(absorb_below=50) == [(100, 120)]
    staged.close()


def test_a_write_on_its_way_is_not_settled(tmp_path: Path) -> None:
    staged = StagedFile(tmp_path / "f", None)
    staged.note_write(0, 100)
    assert staged.settled(0, 100)
    staged.begin_write(50, 60)
    staged.begin_write(50, 60)
    assert staged.settled(0, 50)
    assert staged.settled(60, 100)
    assert not staged.settled(0, 100)
    assert not staged.settled(59, 61)
    claim = staged.claim(0, 60)
    staged.end_write(50, 60)
    assert not claim.valid  # what was read of the range meanwhile does not count
    assert not staged.settled(0, 100)
    staged.end_write(50, 60)
    assert staged.settled(0, 100)
    assert not staged.settled(0, 101)
    staged.close()
