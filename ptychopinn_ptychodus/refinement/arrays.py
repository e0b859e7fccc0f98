"""The few operations that numpy on a CPU and torch on a GPU do differently.

The numerics of this package are written once, with operators and with functions that both libraries have
under the same name (``xp``). No framework is imported before its device is asked for.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from ..data import large_arrays
from .threads import Part, Result, Threads

Array = Any
"""An array of the library in use."""

LEAST = float(np.finfo(np.float64).tiny)
"""A divisor that is no smaller than this keeps 0 / 0 finite, whatever the scale of the patterns."""


class Arrays(Protocol):
    """What differs between the libraries.

    Attributes
    ----------
    device
        Where the arrays are, for people.
    xp
        The library's namespace.
    elements
        Complex numbers of exit waves to work on at a time. That says how a batch is divided, and does not
        depend on the number of threads.
    """

    device: str
    xp: Any
    elements: int

    def each(
        self, function: Callable[[Part], Result], parts: Sequence[Part], take: Callable[[Result], object]
    ) -> None:
        """Call a function of every part, and have the results taken: :meth:`.threads.Threads.each`."""

    def in_rows(self, function: Callable[[slice], object], shape: tuple[int, ...]) -> None:
        """Call a function of all rows of a canvas of this shape, some at a time, in any order."""

    def of_both(self, function: Callable[[int], Result]) -> tuple[Result, Result]:
        """What a function says of 0 and of 1: of the two parts of a canvas, which are numpy's, at once."""

    def close(self) -> None:
        """End the threads."""

    def put(self, array: NDArray[Any]) -> Array:
        """A copy of a numpy array on the device."""

    def get(self, array: Array) -> NDArray[Any]:
        """The array as numpy, without a copy where it is that already."""

    def copy(self, array: Array) -> Array:
        """A copy on the device."""

    def empty_like(self, array: Array, count: int) -> Array:
        """``count`` arrays like this one, (count, …), of any values; in a file if they are large."""

    def zeros(self, shape: tuple[int, ...], like: Array) -> Array:
        """Zeros of the type of an array."""

    def fft(self, waves: Array) -> Array:
        """Orthonormal 2-D FFT of the last two axes; ``waves`` may be overwritten."""

    def ifft(self, waves: Array) -> Array:
        """Inverse of :meth:`fft`; ``waves`` may be overwritten."""

    def filtered(self, images: Array, transfers: Array) -> Array:
        """Real images, (K, H, W), each multiplied in Fourier space by something real, (K, H, W // 2 + 1)."""

    def cut(self, canvas: Array, rows: NDArray[np.int64], columns: NDArray[np.int64], size: int) -> Array:
        """The (size, size) patches of a canvas with these corners, (B, size, size)."""

    def add(self, canvas: Array, patches: Array, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> None:
        """Add patches (B, size, size), or the same (size, size) patch, to a canvas at these corners."""


_BAND = 1 << 15
"""Pixels of a canvas to work on at a time: 256 KB of complex numbers."""


class NumpyArrays:
    """Arrays of numpy, and threads that work on parts of them; see :mod:`.threads`.

    Parameters
    ----------
    threads
        How many; None: as many as the process may use.
    """

    device: str = "cpu"
    elements: int = 1 << 17  # 1 MB: with less, threads wait for the interpreter; with more, for each other

    def __init__(self, threads: int | None = None) -> None:
        self.xp: Any = np
        self._threads = Threads(threads)

    def each(
        self, function: Callable[[Part], Result], parts: Sequence[Part], take: Callable[[Result], object]
    ) -> None:
        self._threads.each(function, parts, take)

    def in_rows(self, function: Callable[[slice], object], shape: tuple[int, ...]) -> None:
        height, width = shape
        count = min(height * width // _BAND, height)
        ends = np.linspace(0, height, max(1, count + count % 2) + 1).round().astype(int).tolist()
        self.each(function, [slice(*band) for band in itertools.pairwise(ends)], lambda _: None)

    def of_both(self, function: Callable[[int], Result]) -> tuple[Result, Result]:
        def with_half_the_threads(number: int) -> Result:
            with scipy.fft.set_workers(max(1, self._threads.count // 2)):
                return function(number)

        found: list[Result] = []
        self.each(with_half_the_threads, (0, 1), found.append)
        return found[0], found[1]

    def close(self) -> None:
        self._threads.close()

    def put(self, array: NDArray[Any]) -> Array:
        return np.array(array)

    def get(self, array: Array) -> NDArray[Any]:
        return np.asarray(array)

    def copy(self, array: Array) -> Array:
        return array.copy()

    def empty_like(self, array: Array, count: int) -> Array:
        return large_arrays.empty((count, *array.shape), array.dtype, "The moved probes")

    def zeros(self, shape: tuple[int, ...], like: Array) -> Array:
        return np.zeros(shape, like.dtype)

    # the threads have parts of a batch each, not parts of a transform
    def fft(self, waves: Array) -> Array:
        return scipy.fft.fft2(waves, norm="ortho", overwrite_x=True, workers=1)

    def ifft(self, waves: Array) -> Array:
        return scipy.fft.ifft2(waves, norm="ortho", overwrite_x=True, workers=1)

    def filtered(self, images: Array, transfers: Array) -> Array:
        workers = self._threads.count if images[0].size > _BAND else 1
        spectra = scipy.fft.rfft2(images, workers=workers)
        spectra *= transfers
        return scipy.fft.irfft2(spectra, s=images.shape[1:], overwrite_x=True, workers=workers)

    def cut(self, canvas: Array, rows: NDArray[np.int64], columns: NDArray[np.int64], size: int) -> Array:
        patches = np.empty((len(rows), size, size), canvas.dtype)
        for patch, row, column in zip(patches, rows.tolist(), columns.tolist(), strict=True):
            patch[:] = canvas[row : row + size, column : column + size]
        return patches

    def add(self, canvas: Array, patches: Array, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> None:
        size = patches.shape[-1]
        each = np.broadcast_to(patches, (len(rows), size, size))
        for patch, row, column in zip(each, rows.tolist(), columns.tolist(), strict=True):
            canvas[row : row + size, column : column + size] += patch


class TorchArrays:
    """Arrays of torch, on the device of that name."""

    elements: int = 1 << 24

    def __init__(self, device: str) -> None:
        import torch

        self.device = device
        self.xp: Any = torch

    def put(self, array: NDArray[Any]) -> Array:
        return self.xp.tensor(np.ascontiguousarray(array), device=self.device)

    def get(self, array: Array) -> NDArray[Any]:
        host: NDArray[Any] = array.cpu().numpy()
        return host

    def copy(self, array: Array) -> Array:
        return array.clone()

    def empty_like(self, array: Array, count: int) -> Array:
        return array.new_empty((count, *array.shape))

    def zeros(self, shape: tuple[int, ...], like: Array) -> Array:
        return like.new_zeros(shape)

    def each(
        self, function: Callable[[Part], Result], parts: Sequence[Part], take: Callable[[Result], object]
    ) -> None:
        for part in parts:
            take(function(part))

    def in_rows(self, function: Callable[[slice], object], shape: tuple[int, ...]) -> None:
        function(slice(None))

    def of_both(self, function: Callable[[int], Result]) -> tuple[Result, Result]:
        return function(0), function(1)

    def close(self) -> None:
        pass

    def fft(self, waves: Array) -> Array:
        return self.xp.fft.fft2(waves, norm="ortho")

    def ifft(self, waves: Array) -> Array:
        return self.xp.fft.ifft2(waves, norm="ortho")

    def filtered(self, images: Array, transfers: Array) -> Array:
        return self.xp.fft.irfft2(self.xp.fft.rfft2(images) * transfers, s=images.shape[1:])

    def cut(self, canvas: Array, rows: NDArray[np.int64], columns: NDArray[np.int64], size: int) -> Array:
        return canvas.reshape(-1)[self._pixels(canvas, rows, columns, size)]

    def add(self, canvas: Array, patches: Array, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> None:
        size = patches.shape[-1]
        pixels = self._pixels(canvas, rows, columns, size)
        canvas.view(-1).index_add_(0, pixels.reshape(-1), patches.expand(pixels.shape).reshape(-1))

    def _pixels(self, canvas: Array, rows: NDArray[np.int64], columns: NDArray[np.int64], size: int) -> Array:
        width = canvas.shape[-1]
        corners = self.put(np.asarray(rows * width + columns, dtype=np.int64))
        axis = self.xp.arange(size, device=self.device)
        return corners[:, None, None] + (axis[:, None] * width + axis)


def arrays_for(device: str) -> Arrays:
    """The library for a device.

    Parameters
    ----------
    device
        ``"cpu"``: numpy. ``"cuda"`` or ``"cuda:N"``: torch on that GPU. ``"auto"``: torch on the GPU if torch
        is in use in this process and finds one, else numpy. torch is not imported to find out: that would
        take longer than most refinements.

    Raises
    ------
    ValueError
        If the device is none of these.
    RuntimeError
        If a GPU is asked for that torch does not find.
    """
    if device == "cpu":
        return NumpyArrays()
    if device == "auto":
        torch = sys.modules.get("torch")
        return TorchArrays("cuda") if torch is not None and torch.cuda.is_available() else NumpyArrays()
    kind, _, number = device.partition(":")
    if kind != "cuda" or (number and not number.isdecimal()):
        raise ValueError(f"device = {device!r} is not valid: use 'auto', 'cpu', 'cuda' or 'cuda:N'.")
    try:
        import torch as found
    except Exception as error:  # one that is installed, but broken, has many ways to fail
        raise RuntimeError(
            f"device = {device!r} needs torch, which is not installed or cannot be imported ({error}): "
            "use 'cpu', or pip install torch."
        ) from error
    if int(number or 0) >= found.cuda.device_count():
        raise RuntimeError(
            f"device = {device!r} is not there: torch finds {found.cuda.device_count()} GPUs. Use 'cpu'."
        )
    return TorchArrays(device)


@contextlib.contextmanager
def arrays_on(device: str | Arrays) -> Iterator[Arrays]:
    """The library for a device, as :func:`arrays_for` has it, whose threads end with the context.

    A library that is there already is left as it is.
    """
    if not isinstance(device, str):
        yield device
        return
    arrays = arrays_for(device)
    try:
        yield arrays
    finally:
        arrays.close()
