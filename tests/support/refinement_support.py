"""What the tests of the refinement share."""

from __future__ import annotations

import numpy as np

from ptychopinn_ptychodus.data import metrics
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import make_object, make_probe, raster_positions, simulate_scan
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.report import Refined

QUICK = RefinementConfig(epochs=2)


def made_scan(photons: float, seed: int) -> RawData:
    """169 patterns of 64 × 64, sub-pixel positions, an object of 124 × 120; photon noise."""
    x, y = raster_positions(13, 13, 5.0, jitter=0.3, origin=30.0, seed=seed)
    object_ = make_object((124, 120), seed=seed + 1)
    return simulate_scan(object_, make_probe(64), x, y, photons=photons, seed=seed + 2)


def correlation(found: np.ndarray, scan: RawData) -> float:
    """Centred correlation with the truth, ramp and phase taken off, well inside of the scan."""
    truth = scan.objectGuess
    assert truth is not None
    inside = np.zeros(truth.shape, bool)
    inside[30:-30, 30:-30] = True
    return float(metrics.compare(found, truth, inside).complex_correlation_centred)


def displaced(scan: RawData, by: np.ndarray) -> RawData:
    return RawData(
        xcoords=scan.xcoords + by[:, 0],
        ycoords=scan.ycoords + by[:, 1],
        diff3d=scan.diff3d,
        probeGuess=scan.probeGuess,
        domain="amplitude",
    )


def with_patterns(scan: RawData, patterns: np.ndarray) -> RawData:
    """The scan with other patterns, (M, N, N) amplitudes."""
    return RawData(
        xcoords=scan.xcoords,
        ycoords=scan.ycoords,
        diff3d=patterns,
        probeGuess=scan.probeGuess,
        domain="amplitude",
    )


def as_found(scan: RawData, result: Refined) -> RawData:
    """The scan with the probe and positions of a result."""
    return RawData(
        xcoords=result.positions[:, 0],
        ycoords=result.positions[:, 1],
        diff3d=scan.diff3d,
        probeGuess=result.probe,
        domain="amplitude",
    )


def with_bright_frame(scan: RawData, index: int) -> RawData:
    """The scan with one frame of noise that has ten times the energy of the one it replaces."""
    patterns = scan.diff3d.copy()
    energy = 10 * float((patterns[index] ** 2).sum())
    noise = np.random.default_rng(0).poisson(energy / scan.N**2, (scan.N, scan.N))
    patterns[index] = np.sqrt(noise)
    return with_patterns(scan, patterns)


def true_positions(scan: RawData) -> np.ndarray:
    return np.stack((scan.xcoords, scan.ycoords), -1)
