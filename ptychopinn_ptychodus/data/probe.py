"""A probe's width and its modes: further incoherent ones, and orthogonal ones."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

EXTRA_MODE_POWER = 0.04
"""Power of each added mode relative to the given ones: enough to learn from, too little to mislead."""

_NEGLIGIBLE = 1e-4  # of a mode's amplitude: single precision leaves about that


def probe_width(probe: NDArray[np.complex64]) -> float:
    """Diameter of the even disk that is as concentrated as a probe, pixels: ``√(4/π (ΣI)² / ΣI²)``.

    Parameters
    ----------
    probe
        (modes, N, N) complex, I is the sum of the modes' intensities; 0.0 for one that is zero everywhere.
    """
    intensity = (np.abs(probe.astype(np.complex128)) ** 2).sum(0)
    squares = float((intensity**2).sum())
    return float(np.sqrt(4 / np.pi / squares) * intensity.sum()) if squares > 0 else 0.0


def with_modes(probe: NDArray[np.complex64], count: int) -> NDArray[np.complex64]:
    """``probe`` with further incoherent modes, for a beam that is only partly coherent.

    The added modes are the first one times x, y, xy, x², y², … (Hermite-like), made orthogonal to all
    before them. The total power stays as it was. Modes that are zero everywhere stay so, and take no part.

    Parameters
    ----------
    probe
        (modes, N, N) complex64, not zero everywhere.
    count
        Number of modes to return; as many as are there already, or more.

    Returns
    -------
    (count, N, N) complex64.

    Raises
    ------
    ValueError
        If ``count`` is smaller than the number of modes that the probe has, or more than can be made of it.
    """
    modes, size, _ = probe.shape
    if count < modes:
        raise ValueError(
            f"{count} probe modes were asked for, but the probe has {modes}: ask for {modes} or more, or "
            "give a probe with fewer."
        )
    if count == modes:
        return probe
    axis = np.linspace(-1.0, 1.0, size)
    power = float((np.abs(probe) ** 2).sum())
    basis = [mode.astype(np.complex128).ravel() for mode in probe]
    first = next(mode for mode in basis if mode.any())
    span: list[NDArray[np.complex128]] = []
    for mode in basis:
        _extend(span, mode)
    for across, down in _powers():
        if len(basis) == count:
            break
        # what the given modes amount to already adds nothing but rounding
        if _extend(span, first * np.outer(axis**down, axis**across).ravel()):
            basis.append(span[-1] * np.sqrt(EXTRA_MODE_POWER * power))
    if len(basis) < count:
        raise ValueError(
            f"The probe is too narrow to make {count} modes of it: ask for {len(basis)} or fewer."
        )
    stack = np.reshape(basis, (count, size, size))
    return np.asarray(stack * np.sqrt(power / (np.abs(stack) ** 2).sum()), np.complex64)


def orthogonal_modes(modes: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """The same incoherent sum by orthogonal modes, the strongest first.

    A unitary mixture of modes shows the same intensities (Thibault & Menzel, Nature 494, 68, 2013).
    """
    flat = modes.reshape(len(modes), -1).astype(np.complex128)
    _, vectors = np.linalg.eigh(flat @ flat.conj().T)
    mixed = vectors.conj().T[::-1] @ flat
    # the phase of the first mode goes on from where it was
    phase = np.vdot(flat[0], mixed[0])
    mixed[0] *= np.conj(phase) / abs(phase) if abs(phase) > 0 else 1.0
    return np.asarray(mixed.reshape(modes.shape), np.complex64)


def _powers() -> Iterator[tuple[int, int]]:
    """Powers of x and y by total order, far beyond what any but a probe of a few pixels needs."""
    for order in range(1, 16):
        for down in range(order + 1):
            yield order - down, down


def _extend(span: list[NDArray[np.complex128]], vector: NDArray[np.complex128]) -> bool:
    """Add the direction of ``vector`` that the orthonormal ``span`` lacks; False if it lacks none."""
    rest = vector
    for other in span:
        rest = rest - other * np.vdot(other, rest)
    size = np.linalg.norm(rest)
    if size <= _NEGLIGIBLE * np.linalg.norm(vector):
        return False
    span.append(rest / size)
    return True
