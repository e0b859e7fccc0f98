"""PyTorch's model files as plain values and numpy arrays, without PyTorch.

Such a file is a zip archive of a pickle, which describes the content and names its tensors, and of their raw
bytes. The pickle is not unpickled: its instructions are followed here one by one, as far as they make plain
values and tensors, and any other is refused. Nothing that a file says is imported, called or allocated, and
what a value takes is bounded by the file's own size.
"""

from __future__ import annotations

import math
import pickletools
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_INDEX = "/data.pkl"
_LARGEST_INDEX = 2**18
"""Bytes; what describes a model of this package takes some ten thousand."""

_LONGEST_SHARED = 200
"""Characters of a string that is used more than once, such as a key."""

_MOST_DIMENSIONS = 8
"""Of an array; and values of a tuple that is used more than once, such as a shape."""

_MOST_BITS = 256
"""Of an integer."""

_STORAGES = {
    f"torch {name}Storage": np.dtype(dtype)
    for name, dtype in {
        "Double": "<f8",
        "Float": "<f4",
        "Half": "<f2",
        "Long": "<i8",
        "Int": "<i4",
        "Short": "<i2",
        "Char": "<i1",
        "Byte": "<u1",
        "Bool": "?",
    }.items()
}
_DICT, _TENSOR = object(), object()
_GLOBALS = {
    "collections OrderedDict": _DICT,
    "torch._utils _rebuild_tensor_v2": _TENSOR,
    **_STORAGES,
}
_SCALARS = (int, float, type(None))
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = {"BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class RefusedError(ValueError):
    """The file asks for something that is neither a tensor nor a plain value."""


def read(path: Path) -> Any:
    """The content of the file, dictionaries, lists, plain values and read-only arrays.

    Raises
    ------
    RefusedError
        If it holds anything else.
    Exception
        Whatever kind a damaged file leads to.
    """
    with zipfile.ZipFile(path) as archive:
        # entries that overlap could stand for more than there is memory for
        if sum(entry.compress_size for entry in archive.infolist()) > path.stat().st_size:
            raise ValueError("its entries overlap")
        return _Machine(archive).run()


def read_index(path: Path) -> bytes:
    """The pickle that describes the content, unread; errors as :func:`read`."""
    with zipfile.ZipFile(path) as archive:
        return _entry(archive, _index_name(archive))


def _index_name(archive: zipfile.ZipFile) -> str:
    names = archive.namelist()
    found = [name for name in names if name.endswith(_INDEX)]
    if len(found) != 1 or len(set(names)) != len(names):
        raise ValueError("it has no one index of tensors")
    if archive.getinfo(found[0]).file_size > _LARGEST_INDEX:
        raise ValueError("its index of tensors is too large")
    return found[0]


def _entry(archive: zipfile.ZipFile, name: str) -> bytes:
    # what is stored as it is, as PyTorch does, cannot be larger than the file
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed")
    return archive.read(name)


class _Machine:
    """Follows a pickle's instructions; the names are those of :mod:`pickletools`."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        index = _index_name(archive)
        self._archive = archive
        self._folder = index[: -len(_INDEX)]
        self._index = _entry(archive, index)
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._storages: dict[str, NDArray[Any]] = {}
        order = f"{self._folder}/byteorder"
        if order in archive.namelist() and _entry(archive, order) != b"little":
            raise ValueError("it was written by a big-endian machine")

    def run(self) -> Any:
        argument: Any
        for instruction, argument, _ in pickletools.genops(self._index):
            name = instruction.name
            if name == "STOP":
                return self._stack.pop()
            if name in _VALUES:
                if type(argument) is int and argument.bit_length() > _MOST_BITS:
                    raise ValueError("a number is too large")
                self._push(argument)
            elif name in _CONSTANTS:
                self._push(_CONSTANTS[name])
            elif name in ("EMPTY_DICT", "EMPTY_LIST"):
                self._push({} if name == "EMPTY_DICT" else [])
            elif name in _TUPLES:
                self._push(tuple(self._pop(_TUPLES[name])))
            elif name == "TUPLE":
                self._push(tuple(self._pop_to_mark()))
            elif name == "MARK":
                self._marked.append(self._stack)
                self._stack = []
            elif name in ("BINPUT", "LONG_BINPUT"):
                self._memo[argument] = self._stack[-1]
            elif name in ("BINGET", "LONG_BINGET"):
                self._push(self._remembered(argument))
            elif name in ("APPEND", "APPENDS"):
                values = self._pop(1) if name == "APPEND" else self._pop_to_mark()
                self._top(list).extend(values)
            elif name in ("SETITEM", "SETITEMS"):
                values = self._pop(2) if name == "SETITEM" else self._pop_to_mark()
                self._set(self._top(dict), values)
            elif name == "GLOBAL":
                if argument not in _GLOBALS:
                    raise RefusedError(argument.replace(" ", "."))
                self._push(_GLOBALS[argument])
            elif name == "BINPERSID":
                self._push(self._storage(*self._pop(1)))
            elif name == "REDUCE":
                self._push(self._reduce(*self._pop(2)))
            elif name == "BUILD":  # the notes that PyTorch keeps on a dictionary of weights
                self._pop(1)
                self._top(dict)
            elif name != "PROTO":
                raise RefusedError(f"the instruction {name}")
        raise ValueError("it ends early")

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise ValueError("it takes what it has not made")
        at = len(self._stack) - count
        values = self._stack[at:]
        del self._stack[at:]
        return values

    def _pop_to_mark(self) -> list[Any]:
        values, self._stack = self._stack, self._marked.pop()
        return values

    def _top(self, kind: type) -> Any:
        if type(self._stack[-1]) is not kind:
            raise RefusedError(f"a change of what is no {kind.__name__}")
        return self._stack[-1]

    def _remembered(self, number: int) -> Any:
        value = self._memo[number]
        # what is shared could stand for more than there is memory or time for, if somebody prints it
        if isinstance(value, (list, dict)) or (type(value) is str and len(value) > _LONGEST_SHARED):
            raise RefusedError(f"one {type(value).__name__} in two places")
        if type(value) is tuple and not (
            len(value) <= _MOST_DIMENSIONS and all(isinstance(item, _SCALARS) for item in value)
        ):
            raise RefusedError("one tuple in two places")
        return value

    @staticmethod
    def _set(target: dict[Any, Any], values: list[Any]) -> None:
        for key, value in zip(values[::2], values[1::2], strict=True):
            if type(key) not in (str, int):
                raise RefusedError(f"a key of type {type(key).__name__}")
            target[key] = value

    def _reduce(self, function: Any, arguments: Any) -> Any:
        if function is _DICT and arguments == ():
            return {}
        if function is _TENSOR and type(arguments) is tuple and len(arguments) >= 4:
            return _tensor(*arguments[:4])
        raise RefusedError("a call")

    def _storage(self, identifier: Any) -> NDArray[Any]:
        if type(identifier) is not tuple or len(identifier) != 5 or identifier[0] != "storage":
            raise RefusedError("a reference to something outside")
        _, dtype, key, _, count = identifier
        if not isinstance(dtype, np.dtype) or type(key) is not str or type(count) is not int or count < 0:
            raise RefusedError("a storage of unknown kind")
        if key not in self._storages:
            content = _entry(self._archive, f"{self._folder}/data/{key}")
            self._storages[key] = np.frombuffer(content, dtype, count)
        return self._storages[key]


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any) -> NDArray[Any]:
    """A view of the elements; a ``ValueError`` if they are more than the storage has, or not in it."""
    if not isinstance(storage, np.ndarray) or type(shape) is not tuple or type(stride) is not tuple:
        raise RefusedError("a tensor of unknown kind")
    numbers = (offset, *shape, *stride)
    if len(shape) != len(stride) or len(shape) > _MOST_DIMENSIONS:
        raise ValueError("a tensor is misshapen")
    if any(type(n) is not int or n < 0 for n in numbers):
        raise ValueError("a tensor is misshapen")
    size = math.prod(shape)
    last = offset + sum((length - 1) * step for length, step in zip(shape, stride, strict=True))
    if offset > storage.size or size > storage.size or (size and last >= storage.size):
        raise ValueError("a tensor reaches out of its storage")
    if not size:
        return np.zeros(shape, storage.dtype)
    steps = [step * storage.itemsize for step in stride]
    view: NDArray[Any] = np.lib.stride_tricks.as_strided(storage[offset:], shape, steps, writeable=False)
    return view
