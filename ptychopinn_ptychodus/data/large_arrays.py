"""Large arrays in files instead of in memory: the patterns of a scan, and the patches that a network gives.

Such an array is one of numpy's as any other, mapped from a file that has no name: it is gone with the array,
or with the process, however that ends. Room for the whole of it is taken when it is made, so that a full disk
is an error then, and not a process that dies while it writes.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from ..files import NoRoomError, is_full_disk, take_room

MOST_IN_MEMORY = 32 << 20
"""Bytes up to which an array is in memory. What is larger is hardly slower to read from a file: as long as
there is memory to spare, the system keeps the file there."""

_RESIDENT = 4 << 20
"""Bytes that are looked at before what is mapped is let go of. With what the system maps around them, several
times as many may be resident meanwhile."""
BLOCK = 8 << 20  # bytes that are copied at a time
_SPARE = 64 << 20  # bytes that are left free

_T = TypeVar("_T", bound=np.generic)


class _Mapping:
    """The file that an array and its views are mapped from, as far as it is resident.

    ``file`` is that of an array which has it for itself, ``reader`` what its values may be read from instead.
    """

    def __init__(self, file: IO[bytes] | None, reader: IO[bytes] | None = None) -> None:
        self.file = file
        self.reader = (file if reader is None else reader) if hasattr(os, "preadv") else None
        self._seen = 0

    def see(self, array: np.memmap[Any, Any], count: int) -> None:
        """So many bytes of the array are looked at: after enough of them, let go of what is mapped.

        It stays in the file, of which the system keeps in memory what it has room for.
        """
        self._seen += count
        if self._seen < _RESIDENT:
            return
        self._seen = 0
        mapped = getattr(array, "_mmap", None)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            with contextlib.suppress(OSError, ValueError):
                mapped.madvise(mmap.MADV_DONTNEED)


class LargeArray(np.memmap[Any, Any]):
    """An array that is mapped from a file, of which little is resident at a time.

    Only views of it are of this class, and what is gathered of it and large as well; whatever else is
    computed of it is an array in memory.
    """

    _mapping: _Mapping | None

    def __array_finalize__(self, obj: Any) -> None:
        super().__array_finalize__(obj)
        self._mapping = getattr(obj, "_mapping", None) if getattr(self, "_mmap", None) is not None else None

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, np.ndarray) and index.ndim == 1 and self._is_much(index):
            return taken(self, index, "The values that are gathered")
        return self.part(index)

    def part(self, index: Any) -> Any:
        """As ``self[index]``; what is gathered is in memory, however large."""
        read = self._read(index)
        if read is not None:
            return read
        found = super().__getitem__(index)
        if self._mapping is not None and isinstance(found, np.ndarray):
            self._mapping.see(self, found.nbytes)
        return _plain(found)

    def _read(self, index: Any) -> NDArray[Any] | None:
        """As ``self[index]`` for numbers of the first axis, read from the file; None if that cannot be.

        To look at what is mapped there would make megabytes resident around every part that is gathered.
        """
        reader = None if self._mapping is None else self._mapping.reader
        is_numbers = isinstance(index, np.ndarray) and index.dtype.kind in "iu" and index.size > 0
        if reader is None or not is_numbers or self.ndim < 2 or not self.flags.c_contiguous:
            return None
        if index.min() < -len(self) or index.max() >= len(self):
            return None  # numpy's own error says which
        found = np.empty((*index.shape, *self.shape[1:]), self.dtype)
        each = self.nbytes // len(self)
        if each == 0:
            return found
        start = self._place_in_file()
        parts = found.reshape(-1).view(np.uint8).data
        for number, place in enumerate((index % len(self)).ravel().tolist()):
            part = parts[number * each : (number + 1) * each]
            done = 0
            while done < each:
                count = os.preadv(reader.fileno(), [part[done:]], start + place * each + done)
                if count == 0:
                    raise OSError(errno.EIO, "A temporary file with patterns ends before its time")
                done += count
        return found

    def _place_in_file(self) -> int:
        """Where the array's first byte is in the file that it is mapped from."""
        mapped = cast(Any, self)
        first = np.frombuffer(mapped._mmap, np.uint8).ctypes.data
        # numpy maps from where a file may be mapped at all
        return int(mapped.offset - mapped.offset % mmap.ALLOCATIONGRANULARITY + self.ctypes.data - first)

    def _is_much(self, indices: NDArray[Any]) -> bool:
        count = int(np.count_nonzero(indices)) if indices.dtype == np.bool_ else len(indices)
        return count * (self.nbytes // max(1, len(self))) > MOST_IN_MEMORY

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(index, value)
        if self._mapping is not None:
            self._mapping.see(self, np.asarray(value).nbytes)

    def __array_wrap__(self, array: Any, *context: Any) -> Any:
        if array is self:
            return array
        plain = np.asarray(array)
        return plain[()] if context[-1:] == (True,) or (not plain.shape and len(context) < 2) else plain

    def __reduce__(self) -> Any:  # to another process goes what it holds
        return np.asarray(self).__reduce__()


def _plain(array: Any) -> Any:
    """What is not mapped as an array of numpy's own class."""
    if isinstance(array, LargeArray) and getattr(array, "_mmap", None) is None:
        return array.view(np.ndarray)
    return array


# ---- making them ------------------------------------------------------------------------------------------


def empty(shape: Sequence[int], dtype: Any, what: str, *, together: int = 1) -> NDArray[Any]:
    """An array of any values, in memory or in a file in the system's directory for temporary ones.

    Parameters
    ----------
    shape, dtype
        Of the array.
    what
        What it holds, in words, for the error.
    together
        How many such arrays there are going to be.

    Raises
    ------
    NoRoomError
        If there is no room for it; the message says where, how much it takes and what to do.
    """
    dtype = np.dtype(dtype)
    if int(np.prod(shape, dtype=np.int64)) * dtype.itemsize * together <= MOST_IN_MEMORY:
        return np.empty(shape, dtype)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    directory = require_room(size, what)
    file = _nameless(directory)
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": tuple(shape)}
    np.lib.format.write_array_header_1_0(file, header)
    offset = file.tell()
    _take_room(file, directory, offset + size, what)
    return _mapped(file, dtype, "r+", offset, tuple(shape), file)


def opened(path: Path) -> NDArray[Any]:
    """The array in a ``.npy`` file, mapped to be read."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.nbytes <= MOST_IN_MEMORY:
        return cast(NDArray[Any], array)
    found = _mapped(path, array.dtype, "r", array.offset, array.shape, None)
    found._mapping = _Mapping(None, path.open("rb"))
    return found


def adopted(array: NDArray[Any]) -> NDArray[Any]:
    """An array that somebody else has mapped, as one of those here."""
    found = array.view(LargeArray)
    found._mapping = _Mapping(None)
    return found


def as_array(values: Any) -> NDArray[Any]:
    """As :func:`numpy.asarray`, which would make an array of numpy's own class of one that is in a file."""
    return values if isinstance(values, LargeArray) else np.asarray(values)


def require_room(size: int, what: str) -> Path:
    """The directory for temporary files; a :class:`.NoRoomError` if it has no room for so many bytes."""
    directory = Path(tempfile.gettempdir())
    free = shutil.disk_usage(directory).free
    if free < size + _SPARE:
        raise _no_room(directory, size, free, what)
    return directory


def _mapped(
    source: Any, dtype: np.dtype[Any], mode: Any, offset: int, shape: tuple[int, ...], file: IO[bytes] | None
) -> LargeArray:
    array = LargeArray(source, dtype, mode, offset, shape)
    array._mapping = _Mapping(file)
    return array


def _nameless(directory: Path) -> IO[bytes]:
    """A file without a name; on Linux, one that can be given a name later."""
    if hasattr(os, "O_TMPFILE"):
        with contextlib.suppress(OSError):  # not every file system has them
            return os.fdopen(os.open(directory, os.O_RDWR | os.O_TMPFILE, 0o600), "w+b")
    return cast(IO[bytes], tempfile.TemporaryFile(dir=directory))


def _take_room(file: IO[bytes], directory: Path, size: int, what: str) -> None:
    """Take ``size`` bytes of the disk for the file."""
    try:
        take_room(file, size)
    except OSError as exc:
        if is_full_disk(exc):
            raise _no_room(directory, size, shutil.disk_usage(directory).free, what) from exc
        raise


def _no_room(directory: Path, size: int, free: int, what: str) -> NoRoomError:
    return NoRoomError(
        f'{os.strerror(errno.ENOSPC)} in "{directory}": {what} take {size:,} bytes there, and {free:,} are '
        "free. Make room there, or set TMPDIR to another directory."
    )


# ---- what is made of them ---------------------------------------------------------------------------------


def blocks(array: NDArray[Any]) -> Iterator[slice]:
    """Parts of the first axis, a few MB each."""
    each = max(1, array.nbytes // max(1, len(array)))
    step = max(1, BLOCK // each)
    for start in range(0, len(array), step):
        yield slice(start, min(start + step, len(array)))


def set_aside(array: NDArray[_T], what: str, *, together: int = 1) -> NDArray[_T]:
    """An array that is not needed for a while: as it is if it is small, else in a file.

    Parameters and errors as for :func:`empty`.
    """
    if array.nbytes * together <= MOST_IN_MEMORY:
        return array
    return copied(array, what, together=together)


def copied(array: NDArray[_T], what: str, *, together: int = 1) -> NDArray[_T]:
    """A copy of an array; parameters and errors as for :func:`empty`."""
    copy = empty(array.shape, array.dtype, what, together=together)
    for part in blocks(array):
        copy[part] = array[part]
    return copy


def taken(array: NDArray[_T], indices: NDArray[Any] | slice, what: str) -> NDArray[_T]:
    """``array[indices]``, with numbers or a mask of the first axis, or a slice, which makes a view."""
    if isinstance(indices, slice):
        return array[indices]
    chosen = np.flatnonzero(indices) if indices.dtype == np.bool_ else indices
    gather = array.part if isinstance(array, LargeArray) else array.__getitem__
    size = len(chosen) * (array.nbytes // max(1, len(array))) if chosen.ndim == 1 else 0
    if size <= MOST_IN_MEMORY:
        return cast(NDArray[_T], gather(chosen))
    found = empty((len(chosen), *array.shape[1:]), array.dtype, what)
    for part in blocks(found):
        found[part] = gather(chosen[part])
    return found


def each(array: NDArray[_T], numbers: NDArray[np.int64]) -> Iterator[NDArray[_T]]:
    """Parts of the first axis by their numbers, one at a time: of an array in a file, only these are read."""
    gather = array.part if isinstance(array, LargeArray) else array.__getitem__
    for number in numbers:
        yield gather(np.array([number]))[0]


def concatenated(arrays: Sequence[NDArray[_T]], what: str) -> NDArray[_T]:
    """Several arrays of one type along their first axis."""
    starts = np.cumsum([0, *(len(array) for array in arrays)])
    joined = empty((int(starts[-1]), *arrays[0].shape[1:]), arrays[0].dtype, what)
    for array, start in zip(arrays, starts[:-1], strict=True):
        for part in blocks(array):
            joined[start + part.start : start + part.stop] = array[part]
    return joined


def all_finite(array: NDArray[Any]) -> bool:
    """Whether no number is NaN or infinite."""
    return all(bool(np.isfinite(array[part]).all()) for part in blocks(array))


# ---- as files of a directory ------------------------------------------------------------------------------


def save(array: NDArray[Any], path: Path) -> None:
    """Leave an array in a ``.npy`` file; one that is in a file of its own already only gets a name."""
    if not _named(array, path):
        np.save(path, np.asarray(array))


def _named(array: NDArray[Any], path: Path) -> bool:
    """Give the file of a whole array a name, where system and file system can do so."""
    mapping = getattr(array, "_mapping", None)
    if mapping is None or mapping.file is None or not array.flags.c_contiguous:
        return False
    file = mapping.file
    if os.fstat(file.fileno()).st_size != cast(Any, array).offset + array.nbytes:  # a part of it
        return False
    path.unlink(missing_ok=True)
    try:
        root = os.open("/", os.O_RDONLY)  # that one is given makes it follow the link; it is not looked at
        try:
            os.link(f"/proc/self/fd/{file.fileno()}", path, src_dir_fd=root, follow_symlinks=True)
        finally:
            os.close(root)
    except (OSError, NotImplementedError):
        return False
    return True
