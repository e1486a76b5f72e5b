"""What a PyTorch pickle says about its storages, without running it.

`pickletools` names the opcodes; this walks them on a stack of inert values. Nothing is imported, called or built, so
a hostile pickle can at worst be not understood. Persistent ids of torch.save are the tuples
``("storage", <storage class>, <key>, <location>, <number of elements>)``
(https://github.com/pytorch/pytorch/blob/main/torch/serialization.py, ``persistent_id``).
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from modelfs import limits
from modelfs.formats.layout import Budget

_DTYPES: Final = {
    "DoubleStorage": ("F64", 8),
    "FloatStorage": ("F32", 4),
    "HalfStorage": ("F16", 2),
    "BFloat16Storage": ("BF16", 2),
    "LongStorage": ("I64", 8),
    "IntStorage": ("I32", 4),
    "ShortStorage": ("I16", 2),
    "CharStorage": ("I8", 1),
    "ByteStorage": ("U8", 1),
    "BoolStorage": ("BOOL", 1),
    "ComplexFloatStorage": ("C64", 8),
    "ComplexDoubleStorage": ("C128", 16),
    "UntypedStorage": ("U8", 1),
}
_TYPES: Final = {  # types without a storage class of their own, as `_rebuild_tensor_v3` names them
    "torch uint16": "U16",
    "torch uint32": "U32",
    "torch uint64": "U64",
    "torch float8_e4m3fn": "F8_E4M3",
    "torch float8_e5m2": "F8_E5M2",
}
_NAMES_DEPTH: Final = 128
_ORDERED: Final = "collections OrderedDict"
_OTHERS_MAX: Final = 1000


@dataclass(slots=True)
class Storage:
    """A storage of a PyTorch file: ``length`` bytes. ``name`` and ``shape``: of the first tensor that lies in it."""

    key: str
    dtype: str
    length: int
    count: int
    name: str = ""
    shape: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class View:
    """A tensor as the pickle has it: elements of a storage from ``offset`` on, with a ``stride`` for each side of
    ``shape``, all counted in elements of ``dtype``. ``name``: the keys on the way to it, joined by dots."""

    name: str
    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in a pickle. ``others``: names of values that are no tensors, or of what they are in; ``unread``: (name,
    what it is) of tensors that are more than a run of a storage (sparse, quantised); ``nameless``: storages of which no
    tensor was found."""

    views: tuple[View, ...]
    others: tuple[str, ...]
    unread: tuple[tuple[str, str], ...]
    nameless: int


@dataclass(slots=True)
class _Global:
    name: str


@dataclass(slots=True)
class _Call:
    """Something that unpickling would call. ``state``: what BUILD would give it."""

    function: object
    arguments: object
    state: object = None


@dataclass(slots=True)
class _Tensor:
    storage: Storage
    shape: tuple[int, ...]
    dtype: str
    offset: object = 0
    stride: object = ()


@dataclass(slots=True)
class _Pairs:
    """A dict, its keys being whatever they are."""

    items: list[tuple[object, object]]


class _NotUnderstoodError(ValueError):
    pass


_MARK: Final = object()
_NONSENSE: Final = (ValueError, IndexError, KeyError, TypeError, OverflowError, RecursionError, MemoryError)


def read(data: bytes, budget: Budget | None = None) -> tuple[int, dict[str, Storage]] | None:
    """Length of the pickle that ``data`` starts with, and its storages by key. None when that makes no sense, or
    when ``data`` ends before the pickle does. ``budget``: of the archive that the pickle lies in."""
    machine = _Machine(budget or Budget())
    try:
        length = machine.run(data)
        if length is not None:
            machine.name_storages()
            return length, machine.storages
    except _NONSENSE:
        return None
    return None


def contents(data: bytes) -> Contents | None:
    """Every tensor in a pickle. None when it makes no sense."""
    machine = _Machine(Budget())
    try:
        return machine.contents() if machine.run(data) is not None else None
    except _NONSENSE:
        return None


class _Machine:
    """The pickle machine with inert values."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.storages: dict[str, Storage] = {}
        self._stack: list[object] = []
        self._memo: dict[int, object] = {}

    def run(self, data: bytes) -> int | None:
        """All opcodes: the length of the pickle, None when ``data`` ends before it does."""
        for opcode, argument, position in pickletools.genops(data):
            self.budget.operation()
            if opcode.name == "STOP":
                return (position or 0) + 1
            self.step(opcode.name, argument)
        return None

    def step(self, name: str, argument: object) -> None:
        """One opcode. An exception when it makes no sense here."""
        if name in _PUSHED:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name]())
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            assert isinstance(argument, int)
            self._memo[argument] = self._stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = self._stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            assert isinstance(argument, int)
            self._stack.append(self._memo[argument])
        elif name not in ("PROTO", "FRAME"):
            operation = _OPERATIONS.get(name)
            if operation is None:
                raise _NotUnderstoodError(name)
            operation(self, argument)

    # -- operations ---------------------------------------------------------------------------------------------

    def _pop(self, count: int) -> list[object]:
        if len(self._stack) < count:
            raise _NotUnderstoodError("the stack is empty")
        found = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        return found

    def _to_mark(self) -> list[object]:
        found: list[object] = []
        while (value := self._stack.pop()) is not _MARK:
            found.append(value)
        found.reverse()
        return found

    def _tuple(self, count: int) -> None:
        self._stack.append(tuple(self._pop(count)))

    def _extend(self, values: list[object]) -> None:
        target = self._stack[-1]
        if isinstance(target, list):
            target.extend(values)

    def _set(self, values: list[object]) -> None:
        target = self._stack[-1]
        if isinstance(target, _Call) and _named(target.function, _ORDERED):
            # torch saves state dicts so; what they hold is what counts
            target.arguments = target.arguments if isinstance(target.arguments, _Pairs) else _Pairs([])
            target = target.arguments
        if isinstance(target, _Pairs):
            target.items.extend(zip(values[::2], values[1::2], strict=False))

    def _global(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise _NotUnderstoodError("a name that is no text")
        self._stack.append(_Global(f"{module} {name}"))

    def _reduce(self) -> None:
        function, arguments = self._pop(2)
        tensor = self._rebuilt(function, arguments)
        self._stack.append(tensor if tensor is not None else _Call(function, arguments))

    def _rebuilt(self, function: object, arguments: object) -> object | None:
        """The tensor that a call to one of torch's rebuilding functions stands for."""
        if not isinstance(function, _Global) or not isinstance(arguments, tuple) or not arguments:
            return None
        if function.name.startswith("torch._utils _rebuild_parameter") and isinstance(arguments[0], _Tensor):
            return arguments[0]
        if not function.name.startswith("torch._utils _rebuild_tensor") or not isinstance(arguments[0], Storage):
            return None
        shape = arguments[2] if len(arguments) > 2 else ()
        storage = arguments[0]
        if not isinstance(shape, tuple) or len(shape) > limits.LAYOUT_SIDES_MAX or not all(map(_is_count, shape)):
            return None
        dtype = storage.dtype
        if function.name.endswith("_rebuild_tensor_v3"):
            chosen = arguments[6] if len(arguments) > 6 else None
            dtype = _TYPES.get(chosen.name, "") if isinstance(chosen, _Global) else ""
        offset, stride = arguments[1:4:2] if len(arguments) > 3 else (None, None)
        return _Tensor(storage, shape, dtype, offset, stride)

    def _build(self) -> None:
        (state,) = self._pop(1)
        target = self._stack[-1]
        if isinstance(target, _Call):
            target.state = state

    def _persistent(self) -> None:
        (pid,) = self._pop(1)
        match pid:
            case ("storage", _Global(name), str(key), _, int(count), *_) if _is_count(count):
                dtype, width = _DTYPES.get(name.rpartition(" ")[2], ("", 0))
                if not width:
                    raise _NotUnderstoodError(name)
                storage = self.storages.setdefault(key, Storage(key, dtype, count * width, count))
                self._stack.append(storage)
            case _:
                raise _NotUnderstoodError("a persistent id of another program")

    # -- names --------------------------------------------------------------------------------------------------

    def name_storages(self) -> None:
        """Give each storage the path of the first tensor that lies in it."""
        for path, value in self._leaves():
            if isinstance(value, _Tensor) and not value.storage.name:
                storage = value.storage
                storage.name = path or storage.key
                whole = math.prod(value.shape) == storage.count
                storage.shape = value.shape if whole else (storage.count,)
        for storage in self.storages.values():
            if not storage.name:
                storage.name, storage.shape = storage.key, (storage.count,)

    def contents(self) -> Contents:
        """Tensors and what else there is, by name. ValueError when a tensor makes no sense."""
        views: list[View] = []
        others: dict[str, None] = {}
        unread: dict[str, str] = {}
        for path, value in self._leaves():
            if isinstance(value, _Tensor):
                views.append(_view(path, value))
            elif isinstance(value, _Call) and (kind := _tensor_kind(value)):
                unread[path] = kind
            elif not isinstance(value, (list, tuple, _Pairs, _Call, _Global)) and len(others) < _OTHERS_MAX:
                others[path] = None
        nameless = self.storages.keys() - {view.storage.key for view in views}
        return Contents(tuple(views), tuple(others), tuple(unread.items()), len(nameless))

    def _leaves(self) -> Iterator[tuple[str, object]]:
        """Every value below the one that the pickle makes, with the keys on the way to it; a container before what is
        in it, and once."""
        # Names are put together when their turn comes: many members may have one long name above them.
        waiting: list[tuple[str, str, object, int]] = [("", "", self._stack[-1], 0)]
        seen: set[int] = set()
        while waiting:
            above, key, value, depth = waiting.pop()
            if depth > _NAMES_DEPTH:
                continue
            if not isinstance(value, (_Tensor, list, tuple, _Pairs, _Call)):
                yield above or key, value  # there may be millions: they are not worth a name of their own
                continue
            key = key[: limits.PATH_MAX]
            path = self.budget.name(f"{above}.{key}" if above and key else above or key)
            if isinstance(value, (list, tuple, _Pairs, _Call)):
                if id(value) in seen:
                    continue
                seen.add(id(value))
                waiting.extend(reversed([(path, name, item, depth + 1) for name, item in _members(value)]))
            yield path, value


def _view(name: str, tensor: _Tensor) -> View:
    offset, stride = tensor.offset, tensor.stride
    if not _is_count(offset) or not isinstance(stride, tuple) or len(stride) != len(tensor.shape):
        raise _NotUnderstoodError(name)
    if not all(map(_is_count, stride)):
        raise _NotUnderstoodError(name)
    assert isinstance(offset, int)
    return View(name, tensor.storage, tensor.dtype, offset, tensor.shape, stride)


def _tensor_kind(call: _Call) -> str:
    """What torch would rebuild by a call that is not understood; "" for other calls."""
    name = call.function.name if isinstance(call.function, _Global) else ""
    module, _, function = name.partition(" ")
    return function if module.startswith("torch") and function.startswith("_rebuild") else ""


def _is_count(value: object) -> bool:
    """True for a number of elements; True itself is an int, but none that a table of tensors takes."""
    return type(value) is int and 0 <= value <= limits.FILE_SIZE_MAX


def _named(value: object, name: str) -> bool:
    return isinstance(value, _Global) and value.name == name


def _members(value: object) -> Iterable[tuple[str, object]]:
    if isinstance(value, _Pairs):
        return [(str(key), item) for key, item in value.items if isinstance(key, (str, int))]
    if isinstance(value, _Call):
        if _named(value.function, _ORDERED):  # its state is what torch notes of modules: versions
            return [("", value.arguments)]
        state = [("", value.state)] if value.state is not None else []
        return [("", value.arguments), *state]  # these have no names of their own worth showing
    return [(str(i), item) for i, item in enumerate(value)] if isinstance(value, (list, tuple)) else []


_NUMBERS: Final = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT")
_TEXTS: Final = ("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8")
_BYTES: Final = ("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8")
_PUSHED: Final = frozenset((*_NUMBERS, *_TEXTS, *_BYTES))
_CONSTANTS: Final[dict[str, Callable[[], object]]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": lambda: _Pairs([]),
    "EMPTY_SET": list,
    "MARK": lambda: _MARK,
}
_OPERATIONS: Final[dict[str, Callable[[_Machine, object], object]]] = {
    "POP": lambda m, _: m._stack.pop(),
    "POP_MARK": lambda m, _: m._to_mark(),
    "DUP": lambda m, _: m._stack.append(m._stack[-1]),
    "TUPLE": lambda m, _: m._stack.append(tuple(m._to_mark())),
    "TUPLE1": lambda m, _: m._tuple(1),
    "TUPLE2": lambda m, _: m._tuple(2),
    "TUPLE3": lambda m, _: m._tuple(3),
    "LIST": lambda m, _: m._stack.append(m._to_mark()),
    "FROZENSET": lambda m, _: m._stack.append(m._to_mark()),
    "DICT": lambda m, _: m._stack.append(_Pairs(list(zip(*[iter(m._to_mark())] * 2, strict=False)))),
    "APPEND": lambda m, _: m._extend(m._pop(1)),
    "APPENDS": lambda m, _: m._extend(m._to_mark()),
    "ADDITEMS": lambda m, _: m._extend(m._to_mark()),
    "SETITEM": lambda m, _: m._set(m._pop(2)),
    "SETITEMS": lambda m, _: m._set(m._to_mark()),
    "GLOBAL": lambda m, argument: m._stack.append(_Global(str(argument))),
    "STACK_GLOBAL": lambda m, _: m._global(*m._pop(2)),
    "REDUCE": lambda m, _: m._reduce(),
    "NEWOBJ": lambda m, _: m._reduce(),
    "BUILD": lambda m, _: m._build(),
    "BINPERSID": lambda m, _: m._persistent(),
}
