"""What a format says about a file: spans of bytes that are tensors.

A parser is a generator that does no I/O: it yields `Want` for bytes and is sent them, yields a `Layout` that is not
``complete`` when a growing file has told a part of itself, and returns the layout of the whole file or None. So one
parser serves files in memory, on a disk, in a store, and files that an application is still writing.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace

from modelfs import limits


@dataclass(frozen=True, slots=True)
class Span:
    """One tensor: ``length`` bytes at ``offset``. ``dtype`` as safetensors spells it ("BF16", "F32", …), "" unknown."""

    offset: int
    length: int
    dtype: str
    shape: tuple[int, ...]
    name: str


@dataclass(frozen=True, slots=True)
class Layout:
    """Spans sorted by offset, not overlapping, within ``size``.

    ``complete``: ``size`` is the size of the file. Otherwise more of it is to come, of which nothing is known.
    """

    format: str
    spans: tuple[Span, ...]
    size: int
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Want:
    """Bytes that a parser asks for. It is sent fewer only where the file ends."""

    offset: int
    length: int


# Yields what it wants (is sent bytes) or what it knows so far (is sent b""); returns the layout, None: not this format.
Parser = Generator[Want | Layout, bytes, Layout | None]


def layout(format: str, spans: list[Span], size: int, *, complete: bool = True) -> Layout | None:
    """A layout in order, or None when the spans overlap or leave the file. Empty tensors are left out."""
    found = sorted((span for span in spans if span.length), key=lambda span: span.offset)
    if len(found) > limits.LAYOUT_SPANS_MAX:
        return None
    if any(span.offset < 0 or span.length < 0 for span in found) or (found and end_of(found[-1]) > size):
        return None
    if any(end_of(a) > b.offset for a, b in itertools.pairwise(found)):
        return None
    return Layout(format, tuple(found), size, complete)


def whole_file() -> Want:
    """What a parser wants that can tell nothing before the file is finished."""
    return Want(0, limits.FILE_SIZE_MAX)


class TooMuchError(ValueError):
    """A file makes its parser work harder, or remember more, than any honest one does."""


class Budget:
    """What the parser of one file may spend beside the bytes that it asks for: a file of a few kilobytes can lead its
    reader in circles, and can have one long name mean thousands of tensors. Each method raises TooMuchError."""

    def __init__(self) -> None:
        self._steps = limits.LAYOUT_STEPS_MAX
        self._operations = limits.PICKLE_OPS_MAX
        self._characters = limits.LAYOUT_NAMES_MAX

    def step(self) -> None:
        """One look at the file."""
        self._steps -= 1
        if self._steps < 0:
            raise TooMuchError("the file leads in circles")

    def operation(self) -> None:
        """One opcode of a pickle."""
        self._operations -= 1
        if self._operations < 0:
            raise TooMuchError("too many opcodes")

    def name(self, text: str) -> str:
        """A name that is kept, cut to what the store has room for."""
        text = text[: limits.PATH_MAX]
        self.spell(len(text))
        return text

    def spell(self, characters: int) -> None:
        """Characters of a name."""
        self._characters -= characters
        if self._characters < 0:
            raise TooMuchError("too many names")


class Window:
    """Bytes of the file around where a parser reads, so that walking it in small steps asks for few, large pieces."""

    def __init__(self, ahead: int = limits.LAYOUT_READ_AHEAD, budget: Budget | None = None) -> None:
        self.budget = budget or Budget()
        self._ahead = ahead
        self._start = 0
        self._data = b""

    def read(self, offset: int, length: int) -> Generator[Want | Layout, bytes, bytes]:
        """``length`` bytes at ``offset``, fewer at the end of the file. Use with ``yield from``. TooMuchError."""
        self.budget.step()
        at = offset - self._start
        if not 0 <= at <= at + length <= len(self._data):
            self._data = yield Want(offset, max(length, self._ahead))
            self._start, at = offset, 0
        return self._data[at : at + length]


def unique_names(layout: Layout) -> Iterator[str]:
    """The name of each span, with a number behind those that came before in the same file."""
    seen: Counter[str] = Counter()
    for span in layout.spans:
        seen[span.name] += 1
        yield span.name if seen[span.name] == 1 else f"{span.name}#{seen[span.name]}"


def end_of(span: Span) -> int:
    """Offset of the first byte behind a span."""
    return span.offset + span.length


def read_all(parser: Parser, read: Callable[[int, int], bytes]) -> Layout | None:
    """Drive a parser over a finished file. ``read(offset, length)``: those bytes, fewer at the end of the file.

    A parser that asks for too much (`limits.LAYOUT_READS_MAX`, `limits.LAYOUT_BYTES_MAX`, `Budget`) finds no layout.
    """
    total = 0
    try:
        item = next(parser)
        for _ in range(limits.LAYOUT_READS_MAX):
            if isinstance(item, Layout):
                item = parser.send(b"")
                continue
            total += item.length
            if total > limits.LAYOUT_BYTES_MAX:
                break
            item = parser.send(read(item.offset, item.length))
    except StopIteration as stop:
        found: Layout | None = stop.value
        return found
    except TooMuchError:
        return None
    parser.close()
    return None


def within(parser: Parser, offset: int, prefix: str) -> Parser:
    """The parser of a file that lies inside another one at ``offset``; names get ``prefix`` in front."""
    try:
        item = next(parser)
        while True:
            if isinstance(item, Want):
                item = parser.send((yield Want(item.offset + offset, item.length)))
            else:
                item = parser.send((yield _moved(item, offset, prefix)))
    except StopIteration as stop:
        inner: Layout | None = stop.value
        return inner and _moved(inner, offset, prefix)


class Growing:
    """A parser that is fed while its file is being written.

    ``want`` is what it needs next (None: it has ended); ``layout`` the newest that it told. ``told``: there is
    something to go by, be it that the format is unknown.
    """

    def __init__(self, parser: Parser) -> None:
        self._parser = parser
        self._reads = self._bytes = 0
        self.layout: Layout | None = None
        self.want: Want | None = None
        self._take(lambda: next(parser))

    @property
    def told(self) -> bool:
        """True when bytes may be cut: by ``layout``, or, when there is none, by content."""
        return self.layout is not None or self.want is None

    def feed(self, data: bytes) -> None:
        """Answer ``want``."""
        self._reads += 1
        self._bytes += len(data)
        if self._reads > limits.LAYOUT_READS_MAX or self._bytes > limits.LAYOUT_BYTES_MAX:
            self.layout = self.want = None
        else:
            self._take(lambda: self._parser.send(data))

    def _take(self, step: Callable[[], Want | Layout]) -> None:
        try:
            item = step()
            while isinstance(item, Layout):
                self.layout = item
                item = self._parser.send(b"")
            self.want = item
        except StopIteration as stop:
            self.layout, self.want = stop.value, None
        except TooMuchError:
            self.layout = self.want = None


def _moved(inner: Layout, offset: int, prefix: str) -> Layout:
    spans = tuple(replace(span, offset=span.offset + offset, name=prefix + span.name) for span in inner.spans)
    return replace(inner, spans=spans, size=inner.size + offset)
