"""The grouped data of several scans as one container: each with its own probe, exposure and mask."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from . import large_arrays
from .container import PtychoDataContainer
from .detector import PATTERNS
from .interpolation import CHUNK, PatchCutter
from .simulation import diffraction_intensity


def joined(
    scans: Sequence[PtychoDataContainer],
    *,
    with_objects: bool = False,
    shown: Sequence[NDArray[np.complex64]] | None = None,
) -> PtychoDataContainer:
    """The grouped data of several scans as one container, with a probe for each scan.

    Patterns and probe of a scan are scaled such that the mean of ``Σ|amplitude|²`` over its patterns is 1,
    and the probe's power is the same. A model for any probe scales each scan that it is applied to in the
    same way. Exposures of single patterns and bad pixels are those of their scan. Positions keep a meaning
    within groups, and in the object of their scan.

    With ``with_objects``, each scan's object is kept, as the true one of its patterns. It is scaled, too:
    that its amplitude is what the probe's and the patterns' say is what data terms and object agree on.

    ``shown`` are probes that networks are shown in place of the scans' own, (modes, N, N) complex64 for each
    scan, of any scale: they become :attr:`.PtychoDataContainer.shown_probes`.

    Raises
    ------
    ValueError
        If a scan has no object, and they are asked for.
    """
    modes = max(len(probe) for probe in (*(scan.probe for scan in scans), *(shown or ())))
    starts = np.cumsum([0, *(len(scan.amplitude) for scan in scans)])
    size = scans[0].N
    amplitude = large_arrays.empty((int(starts[-1]), size, size), np.float32, PATTERNS)
    probes = _of_power_1([scan.probe for scan in scans], modes)
    exposures, objects = [], []
    for number, scan in enumerate(scans):
        unit = 0.5 * scan.N / scan.input_scale
        for part in large_arrays.blocks(scan.amplitude):
            whole = slice(starts[number] + part.start, starts[number] + part.stop)
            amplitude[whole] = scan.amplitude[part] / np.float32(unit)
        if scan.exposures is not None:
            exposures.append(scan.exposures / unit**2)
        if with_objects:
            objects.append(_scaled_object(scan, unit))
    masks = np.stack([scan.bad_pixels for scan in scans])
    return PtychoDataContainer(
        amplitude=amplitude,
        nn_indices=np.concatenate(
            [scan.nn_indices + start for scan, start in zip(scans, starts[:-1], strict=True)]
        ),
        coords_offsets=np.concatenate([scan.coords_offsets for scan in scans]),
        coords_relative=np.concatenate([scan.coords_relative for scan in scans]),
        coords=np.concatenate([scan.coords for scan in scans]),
        probe=probes[0],
        bad_pixels=np.asarray(masks.any(0)),
        photons_per_pattern=1.0,
        probes=probes,
        probe_index=np.repeat(np.arange(len(scans)), np.diff(starts)),
        exposures=np.concatenate(exposures) if len(exposures) == len(scans) else None,
        masks=None if (masks == masks[0]).all() else masks,
        objects=tuple(objects) if with_objects else None,
        shown_probes=None if shown is None else _of_power_1(shown, modes),
    )


def _of_power_1(probes: Sequence[NDArray[np.complex64]], modes: int) -> NDArray[np.complex64]:
    """Probes, with modes of zeros where they have fewer: (K, modes, N, N) complex64, ``Σ|P|² = 1`` each."""
    alike = np.zeros((len(probes), modes, *probes[0].shape[1:]), np.complex64)
    for number, probe in enumerate(probes):
        power = float((np.abs(probe.astype(np.complex128)) ** 2).sum())
        alike[number, : len(probe)] = probe / math.sqrt(power)
    return alike


def _scaled_object(scan: PtychoDataContainer, unit: float) -> NDArray[np.complex64]:
    """The object of a scan, times what makes a probe of power 1 give its patterns divided by ``unit``.

    Light is compared on the good pixels of the patterns that are in groups: others may be broken, and the
    probe of a file is of any scale.
    """
    if scan.object_guess is None:
        raise ValueError("A scan has no objectGuess to learn from: leave it out, or add its object.")
    cut, good = PatchCutter(scan.object_guess, scan.N, order=3), ~scan.bad_pixels
    probe = scan.probe.astype(np.complex128)
    probe /= math.sqrt(float((np.abs(probe) ** 2).sum()))
    members = np.unique(scan.nn_indices)
    measured = modelled = 0.0
    for start in range(0, len(members), CHUNK):
        chosen = members[start : start + CHUNK]
        light = diffraction_intensity(cut(*scan.coords[chosen].T), probe)[:, good].sum(1)
        relative = 1.0 if scan.exposures is None else scan.exposures[chosen] / unit**2
        modelled += float((light * relative).sum())
        measured += float((scan.amplitude[chosen][:, good].astype(np.float64) ** 2).sum()) / unit**2
    if modelled == 0.0:
        raise ValueError("An object is zero wherever the probe is: there is nothing of it to learn from.")
    return scan.object_guess * np.float32(math.sqrt(measured / modelled))
