"""Groups and data sets: from the root group to the bytes of every data set."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from modelfs import limits
from modelfs.formats.hdf5 import messages
from modelfs.formats.hdf5.messages import Message
from modelfs.formats.hdf5.reading import Bytes, LieError, Reading
from modelfs.formats.layout import Span

_CONTIGUOUS, _CHUNKED = 1, 2
_SINGLE_CHUNK, _IMPLICIT = 1, 2
_TREE_LEVELS: Final = 32
_SYMBOL_REST: Final = 24  # of a symbol table entry, behind its two addresses


def walk(source: Bytes, root: int, spans: list[Span], passed: list[str]) -> Reading[None]:
    """Add the bytes of every data set that can be reached from the group at ``root``. ``passed`` gets the paths of
    those that are not one run of bytes, and of groups that are not understood."""
    waiting: list[tuple[int, str]] = [(root, "")]
    seen: set[int] = set()
    while waiting and len(spans) <= limits.LAYOUT_SPANS_MAX:
        address, path = waiting.pop()
        if address in seen:
            continue
        seen.add(address)
        found = yield from messages.messages(source, address)
        by_kind = {message.kind: message for message in reversed(found)}
        if (layout := by_kind.get(messages.LAYOUT)) is not None:
            before = len(spans)
            one_run = yield from _data_set(source, path, layout, by_kind, spans)
            if not one_run or len(spans) != before + 1:
                passed.append(path)
            continue
        if (info := by_kind.get(messages.LINK_INFO)) is not None and (yield from messages.dense(source, info)):
            passed.append(path)
        links = []
        for message in found:
            if message.kind == messages.LINK:
                link = yield from messages.link(source, message)
                links += [link] if link is not None else []
        if (table := by_kind.get(messages.SYMBOL_TABLE)) is not None:
            links += yield from _symbols(source, table)
        waiting.extend((where, source.budget.name(f"{path}/{name}" if path else name)) for name, where in links)


def _symbols(source: Bytes, table: Message) -> Reading[list[tuple[str, int]]]:
    """Links of an old-style group."""
    tree = yield from source.address(table.start)
    heap = yield from source.address(table.start + source.offset_width)
    if tree is None or heap is None or (yield from source.read(heap, 4)) != b"HEAP":
        raise LieError
    size = yield from source.length(heap + 8)
    names = yield from source.address(heap + 8 + 2 * source.length_width)
    if names is None or names + size > source.size:
        raise LieError
    links = []
    for _, node in (yield from _leaves(source, tree, 0, source.length_width)):
        head = yield from source.read(node, 8)
        if head[:4] != b"SNOD":
            raise LieError
        entry = 2 * source.offset_width + _SYMBOL_REST
        for i in range(int.from_bytes(head[6:8], "little")):
            name = yield from source.number(node + 8 + i * entry, source.offset_width)
            where = yield from source.address(node + 8 + i * entry + source.offset_width)
            if where is not None and name < size:
                links.append(((yield from source.text(names + name, size - name)), where))
    return links


def _leaves(source: Bytes, root: int, kind: int, key_width: int) -> Reading[list[tuple[bytes, int]]]:
    """What the leaves of a version 1 B-tree point to, each with the key before it."""
    found: list[tuple[bytes, int]] = []
    waiting = [(root, _TREE_LEVELS)]
    seen: set[int] = set()
    while waiting:
        node, above = waiting.pop()
        head = yield from source.read(node, 8)
        level, used = head[5], int.from_bytes(head[6:8], "little")
        if head[:4] != b"TREE" or head[4] != kind or level >= above or node in seen:
            raise LieError
        seen.add(node)
        first = node + 8 + 2 * source.offset_width
        step = key_width + source.offset_width
        for i in range(used):
            key = yield from source.read(first + i * step, key_width)
            child = yield from source.address(first + i * step + key_width)
            if child is None or len(found) > limits.LAYOUT_SPANS_MAX:
                raise LieError
            if level:
                waiting.append((child, level))
            else:
                found.append((key, child))
    return found


def _data_set(
    source: Bytes, path: str, layout: Message, by_kind: dict[int, Message], spans: list[Span]
) -> Reading[bool]:
    """True when the data set is one run of bytes."""
    if messages.DATASPACE not in by_kind:
        return False
    shape = yield from messages.dataspace(source, by_kind[messages.DATASPACE])
    dtype, width = "", 1
    if messages.DATATYPE in by_kind:
        dtype, width = yield from messages.datatype(source, by_kind[messages.DATATYPE])
    version, kind = yield from source.read(layout.start, 2)
    at = layout.start + 2
    if version not in (3, 4):
        return False
    if kind == _CONTIGUOUS:
        address = yield from source.address(at)
        length = yield from source.length(at + source.offset_width)
        if address is not None and address + length <= source.size:
            spans.append(Span(address, length, dtype, shape, path))
    elif kind == _CHUNKED and messages.FILTERS not in by_kind:
        read = _chunks3 if version == 3 else _chunks4
        for where, (address, length) in (yield from read(source, at, shape, width)):
            if address + length > source.size:
                raise LieError
            spans.append(Span(address, length, dtype, (), source.budget.name(f"{path}[{where}]")))
    return kind == _CONTIGUOUS


Places = list[tuple[str, tuple[int, int]]]  # (place in the data set, (address, length))


def _chunks3(source: Bytes, at: int, shape: tuple[int, ...], width: int) -> Reading[Places]:
    dimensions = yield from source.number(at, 1)
    tree = yield from source.address(at + 1)
    if dimensions != len(shape) + 1:
        raise LieError
    if tree is None:
        return []
    found: Places = []
    for key, address in (yield from _leaves(source, tree, 1, 8 + 8 * dimensions)):
        place = (int.from_bytes(key[i : i + 8], "little") for i in range(8, len(key) - 8, 8))
        found.append((",".join(map(str, place)), (address, int.from_bytes(key[:4], "little"))))
    return found


def _chunks4(source: Bytes, at: int, shape: tuple[int, ...], width: int) -> Reading[Places]:
    _, dimensions, encoded = yield from source.read(at, 3)
    if dimensions != len(shape) + 1 or not 1 <= encoded <= 8:
        raise LieError
    chunk = []
    for i in range(dimensions):
        chunk.append((yield from source.number(at + 3 + i * encoded, encoded)))
    at += 3 + dimensions * encoded
    index = yield from source.number(at, 1)
    if index not in (_SINGLE_CHUNK, _IMPLICIT) or 0 in chunk:
        return []
    address = yield from source.address(at + 1)
    length = math.prod(chunk)  # the last dimension is the bytes of an element
    if address is None or chunk[-1] != width or length > limits.FILE_SIZE_MAX:
        return []
    places = ["0"] if index == _SINGLE_CHUNK else list(_places(shape, chunk))
    return [(place, (address + i * length, length)) for i, place in enumerate(places)]


def _places(shape: tuple[int, ...], chunk: list[int]) -> Iterator[str]:
    counts = [-(-size // step) for size, step in zip(shape, chunk, strict=False)]
    if math.prod(counts) > limits.LAYOUT_SPANS_MAX:
        raise LieError
    for number in range(math.prod(counts)):
        place = []
        for count, step in zip(reversed(counts), reversed(chunk[:-1]), strict=True):
            number, i = divmod(number, count)
            place.append(str(i * step))
        yield ",".join(reversed(place))
