"""From what a detector wrote to amplitude: checks on values, counts or amplitude, bad pixels.

All of it works in chunks of patterns, so that a large scan is never held twice.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from . import large_arrays

logger = logging.getLogger(__name__)

PATTERNS = "The patterns"
"""What they are called where there is no room for them."""

_CHUNK = 256
_SUM_CHUNK = 32  # good pixels are copied, and stay in the cache
_FILL_NEIGHBOURS = 8

_T = TypeVar("_T", bound=np.generic)


def chunks(patterns: NDArray[_T]) -> Iterator[NDArray[_T]]:
    """The patterns, (M, N, N), a few hundred at a time: views, so that a scan is not copied as a whole."""
    for start in range(0, len(patterns), _CHUNK):
        yield patterns[start : start + _CHUNK]


def require_finite(array: NDArray[Any], name: str) -> None:
    """Raise ``ValueError`` with ``name`` if a value is NaN or infinite."""
    wrong = array.size - np.count_nonzero(np.isfinite(array))
    if wrong:
        raise ValueError(f"{name} has {wrong} values that are NaN or infinite: remove or repair them.")


def check_values(patterns: NDArray[Any], good: NDArray[np.bool_]) -> None:
    """Finite and not negative on good pixels; some light. What a bad pixel holds is of no account."""
    dark = 0
    for chunk in chunks(patterns):
        floating = chunk.dtype.kind == "f"
        if floating and not np.isfinite(chunk).all():
            require_finite(chunk[:, good], "diff3d")
        if chunk.dtype.kind != "u" and np.fmin.reduce(chunk, axis=None) < 0 and (chunk[:, good] < 0).any():
            raise ValueError(
                "diff3d has negative values on good pixels: counts and amplitudes are not negative; "
                "mark such pixels in bad_pixels, or clip what background subtraction left below 0."
            )
        lit = chunk.any(axis=(1, 2)) if good.all() else chunk[:, good].any(axis=1)
        dark += len(chunk) - int(np.count_nonzero(lit))
    if dark == len(patterns):
        raise ValueError("diff3d is zero everywhere: no pattern holds any light; check what was exported.")
    if dark:
        logger.warning("diff3d: %d of %d patterns hold no light.", dark, len(patterns))


def guess_domain(patterns: NDArray[Any], good: NDArray[np.bool_]) -> str:
    """What the patterns, (M, N, N), seem to hold on the good pixels, (N, N): ``counts`` or ``amplitude``.

    Integers are counts. Floating-point numbers are counts, and a warning says so, if all of them are whole
    and one is above 1.
    """
    if patterns.dtype.kind != "f":
        return "counts"
    largest = 0.0
    for chunk in chunks(patterns):
        values = chunk if good.all() else chunk[:, good]
        if not np.array_equal(values, np.rint(values)):
            return "amplitude"
        largest = max(largest, float(values.max()))
    if largest <= 1.0:
        return "amplitude"
    logger.warning(
        "diff3d does not say whether it holds amplitude or counts; all its values are whole numbers up to "
        "%g, so they are taken as counts. If they are amplitude, say so (domain='amplitude').",
        largest,
    )
    return "counts"


def to_amplitude(patterns: NDArray[Any], domain: str, shift: tuple[int, int] = (0, 0)) -> NDArray[np.float32]:
    """Amplitude, float32, each pattern rolled by ``shift`` (rows, columns); in a file if it is large.

    What is amplitude already is not copied.
    """
    as_it_is = domain == "amplitude" and not any(shift)
    if as_it_is and patterns.dtype == np.float32 and patterns.flags.c_contiguous:
        return patterns
    amplitude = large_arrays.empty(patterns.shape, np.float32, PATTERNS)
    for source, target in zip(chunks(patterns), chunks(amplitude), strict=True):
        if domain == "amplitude":
            target[...] = source
        else:
            # below 0 are only bad pixels, which are filled later
            np.sqrt(np.maximum(source, 0), out=target, dtype=np.float32, casting="unsafe")
        if any(shift):
            target[...] = np.roll(target, shift, (1, 2))
    return amplitude


def fill_bad_pixels(
    amplitude: NDArray[np.float32], bad: NDArray[np.bool_], *, in_place: bool = False
) -> NDArray[np.float32]:
    """Replace bad pixels by the mean of their nearest good ones, weighted with inverse squared distance.

    What needs no filling is not copied; nor is anything ``in_place``.
    """
    if not bad.any():
        return amplitude
    good_pixels = np.argwhere(~bad)
    neighbours = min(_FILL_NEIGHBOURS, len(good_pixels))
    distance, nearest = cKDTree(good_pixels).query(np.argwhere(bad), k=np.arange(1, neighbours + 1))
    weights = distance**-2.0
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    source = np.flatnonzero(~bad)[nearest]
    target = np.flatnonzero(bad)
    filled = amplitude
    for start in range(0, len(amplitude), _CHUNK):
        pixels = amplitude[start : start + _CHUNK].reshape(-1, bad.size)
        values = np.zeros((len(pixels), len(target)), dtype=np.float32)
        for k in range(neighbours):
            values += weights[:, k] * pixels[:, source[:, k]]
        # files written here hold filled patterns: those are kept as they are, without a copy
        if filled is amplitude and np.array_equal(pixels[:, target], values):
            continue
        if filled is amplitude and not in_place:
            filled = large_arrays.copied(amplitude, PATTERNS)
        filled[start : start + _CHUNK].reshape(-1, bad.size)[:, target] = values
    return filled


def frame_energies(amplitude: NDArray[np.float32], bad: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Σ amplitude² over good pixels of each pattern, (M,) float64: photons, if the amplitude is √counts."""
    good = None if not bad.any() else ~bad
    sums = []
    for start in range(0, len(amplitude), _SUM_CHUNK):
        block = np.asarray(amplitude[start : start + _SUM_CHUNK])
        pixels = block.reshape(len(block), -1) if good is None else block[:, good]
        # in float32 per pattern
        sums.append(np.einsum("kp,kp->k", pixels, pixels))
    return np.concatenate(sums).astype(np.float64)


def mean_energy(amplitude: NDArray[np.float32], bad: NDArray[np.bool_]) -> float:
    """Mean over patterns of Σ amplitude² over good pixels: photons, if the amplitude is √counts."""
    return float(frame_energies(amplitude, bad).mean())


def mean_pattern(amplitude: NDArray[np.float32], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of amplitude² over patterns, with a weight for each of them, (M,); (N, N) float64."""
    total = np.zeros(amplitude.shape[1:])
    for start in range(0, len(amplitude), _SUM_CHUNK):
        block = np.asarray(amplitude[start : start + _SUM_CHUNK], dtype=np.float64)
        total += np.einsum("k,kij,kij->ij", weights[start : start + _SUM_CHUNK], block, block)
    return np.asarray(total / weights.sum())
