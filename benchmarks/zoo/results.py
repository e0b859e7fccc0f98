"""What the refinement makes of a scan of the collection, and the scores of any program's result."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptychopinn_ptychodus.data import metrics
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.solver import refine

from .make import MadeScan


@dataclass(frozen=True)
class Found:
    """A result of any program, and the CPU seconds it took; positions (M, 2) [x, y] in object pixels."""

    object: NDArray[np.complex64]
    probe: NDArray[np.complex64]
    positions: NDArray[np.float64]
    seconds: float


def refined(scan: MadeScan, epochs: int) -> Found:
    """What the refinement's defaults make of a scan."""
    assert scan.raw.objectGuess is not None
    begin = time.process_time()
    config = RefinementConfig(epochs=epochs)
    result = refine(scan.raw, scan.raw.objectGuess, scan.raw.probeGuess, config, device="cpu", quiet=True)
    return Found(result.object, result.probe, result.positions, time.process_time() - begin)


def scores(scan: MadeScan, found: Found) -> dict[str, float]:
    """The object inside of the lit part, the probe's first mode, the positions, and the fit."""
    x, y = scan.positions.T
    lit = metrics.illumination_mask(scan.probe, x, y, scan.object.shape)
    object_ = metrics.compare(found.object, scan.object, lit)
    wrong = found.positions - scan.positions
    wrong -= wrong.mean(axis=0)
    return {
        "corr": object_.complex_correlation_centred,
        "amplitude": object_.amplitude.ssim,
        "phase": object_.phase.ssim,
        "probe": probe_overlap(found.probe, scan.probe),
        "positions": float(np.sqrt((wrong**2).sum(1).mean())),
        "residual": metrics.normalised_amplitude_residual(
            having_positions(scan.raw, found.positions), found.object, found.probe
        ),
        "cpu": found.seconds,
    }


def probe_overlap(found: NDArray[np.complex64], truth: NDArray[np.complex64]) -> float:
    """|⟨a, b⟩| / (‖a‖ ‖b‖) of the first modes, a shift and a ramp apart, which go with the object's."""
    light = np.abs(truth[0])
    aligned, _ = metrics.align(found[0], truth[0], light > 0.1 * light.max())
    return float(abs(np.vdot(aligned, truth[0])) / (np.linalg.norm(aligned) * np.linalg.norm(truth[0])))


def having_positions(raw: RawData, positions: NDArray[np.float64]) -> RawData:
    """The scan elsewhere."""
    return RawData(
        xcoords=positions[:, 0],
        ycoords=positions[:, 1],
        diff3d=raw.diff3d,
        probeGuess=raw.probeGuess,
        bad_pixels=raw.bad_pixels,
        domain="amplitude",
    )
