"""The grouped data of several scans as one container: each with its own probe, exposure and mask."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from . import large_arrays
from .container import PtychoDataContainer
from .detector import PATTERNS


def joined(scans: Sequence[PtychoDataContainer]) -> PtychoDataContainer:
    """The grouped data of several scans as one container, with a probe for each scan.

    Patterns and probe of a scan are scaled such that the mean of ``Σ|amplitude|²`` over its patterns is 1,
    and the probe's power is the same. A model for any probe scales each scan that it is applied to in the
    same way. Exposures of single patterns and bad pixels are those of their scan. Positions keep a meaning
    within groups only.
    """
    modes = max(len(scan.probe) for scan in scans)
    starts = np.cumsum([0, *(len(scan.amplitude) for scan in scans)])
    size = scans[0].N
    amplitude = large_arrays.empty((int(starts[-1]), size, size), np.float32, PATTERNS)
    probes = np.zeros((len(scans), modes, size, size), np.complex64)
    exposures = []
    for number, scan in enumerate(scans):
        unit = 0.5 * scan.N / scan.input_scale
        for part in large_arrays.blocks(scan.amplitude):
            whole = slice(starts[number] + part.start, starts[number] + part.stop)
            amplitude[whole] = scan.amplitude[part] / np.float32(unit)
        power = float((np.abs(scan.probe.astype(np.complex128)) ** 2).sum())
        probes[number, : len(scan.probe)] = scan.probe / math.sqrt(power)
        if scan.exposures is not None:
            exposures.append(scan.exposures / unit**2)
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
    )
