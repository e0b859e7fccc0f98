"""Where the scale of a refined object and probe comes from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from refinement_support import correlation

from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.arrays import NumpyArrays
from ptychopinn_ptychodus.refinement.iterate import Iterate, chequerboard
from ptychopinn_ptychodus.refinement.model import ScanModel
from ptychopinn_ptychodus.refinement.report import Refined
from ptychopinn_ptychodus.refinement.solver import refine


def changed(scan: RawData, amplitude: np.ndarray, **more: Any) -> RawData:
    fields = {name: getattr(scan, name) for name in ("xcoords", "ycoords", "probeGuess")}
    return RawData(**fields, diff3d=amplitude, domain="amplitude", **more)


def refined(raw: RawData, flat: np.ndarray, metric: str = "amplitude") -> Refined:
    config = RefinementConfig(epochs=4, metric=metric, positions=False)
    return refine(raw, flat, raw.probeGuess, config, device="cpu")


def brightness(found: Refined) -> float:
    return float(np.abs(found.object[40:-40, 40:-40]).mean())


def slope(found: Refined) -> float:
    """Amplitude of what was seen last over that of what was seen first."""
    amplitude = np.abs(found.object[:, 40:-40])
    return float(amplitude[75:90].mean() / amplitude[35:50].mean())


@pytest.fixture(scope="module", params=["amplitude", "poisson"])
def sound(request: pytest.FixtureRequest, scan: RawData, flat: np.ndarray) -> tuple[str, Refined]:
    return request.param, refined(scan, flat, request.param)


@pytest.mark.parametrize("total", [1e-9, 1e12])
def test_the_unit_of_the_patterns_is_that_of_the_probe(
    sound: tuple[str, Refined], scan: RawData, flat: np.ndarray, total: float
) -> None:
    """Floors are relative to the data: the object is the same, whatever a pattern sums up to.

    But for what is known of noise: with a billionth of a count in a pattern, a pixel's cannot be a photon's.
    """
    metric, expected = sound
    near, alike = (3e-3, 0.2) if total < 1 else (1e-3, 2e-2)
    factor = np.float32(np.sqrt(total / scan.photons_per_pattern))
    found = refined(changed(scan, scan.diff3d * factor), flat, metric)
    assert correlation(found.object, scan) == pytest.approx(correlation(expected.object, scan), abs=near)
    assert brightness(found) == pytest.approx(brightness(expected), rel=2e-3)
    assert found.error == pytest.approx(expected.error, rel=alike)
    power, unit = (float((np.abs(one.probe) ** 2).sum()) for one in (found, expected))
    assert power == pytest.approx(unit * total / scan.photons_per_pattern, rel=2e-3)


def test_a_beam_that_drifts_as_the_data_say_gives_the_same_object(
    sound: tuple[str, Refined], scan: RawData, flat: np.ndarray
) -> None:
    metric, expected = sound
    drift = np.linspace(1.6, 0.4, len(scan))
    patterns = scan.diff3d * np.sqrt(drift)[:, None, None].astype(np.float32)
    found = refined(changed(scan, patterns, exposures=7.0 * drift), flat, metric)
    assert correlation(found.object, scan) > correlation(expected.object, scan) - 3e-3
    assert brightness(found) == pytest.approx(brightness(expected), rel=1e-2)
    # unsaid, the object takes on the drift: the last rows are darker than they are
    unsaid = refined(changed(scan, patterns), flat, metric)
    assert slope(found) == pytest.approx(slope(expected), rel=0.02)
    assert slope(unsaid) < 0.8 * slope(expected)


def test_broken_frames_do_not_set_the_scale(
    sound: tuple[str, Refined], scan: RawData, flat: np.ndarray
) -> None:
    metric, expected = sound
    patterns = scan.diff3d.copy()
    patterns[::12] = 0.0
    patterns[[7, 100]] = np.sqrt(3000.0)
    found = refined(changed(scan, patterns), flat, metric)
    assert brightness(found) == pytest.approx(brightness(expected), rel=0.03)


@pytest.mark.parametrize("metric", ["amplitude", "poisson"])
def test_gradients_are_those_of_a_pattern_that_is_so_much_brighter(scan: RawData, metric: str) -> None:
    """One that is e times as bright pulls as e patterns do that show the same."""
    drift = np.where(np.arange(len(scan)) % 2, 1.5, 0.5)
    drift[-1] += len(drift) - drift.sum()  # of mean 1
    exposed = changed(
        scan, scan.diff3d * np.sqrt(drift)[:, None, None].astype(np.float32), exposures=drift.copy()
    )
    arrays = NumpyArrays()
    rng = np.random.default_rng(0)
    canvas = (1 + 0.1 * rng.normal(size=(124, 120))).astype(np.complex64)
    probe = scan.probeGuess * np.sqrt(scan.photons_per_pattern / (np.abs(scan.probeGuess) ** 2).sum())
    iterate = Iterate(
        canvas, (probe * chequerboard(64)).astype(np.complex64), np.stack((scan.xcoords, scan.ycoords), -1)
    )
    for index in (84, 85):
        one, many = (
            ScanModel(raw, arrays, metric).gradients(
                iterate.copy(arrays), np.array([index]), probe=True, positions=True
            )
            for raw in (scan, exposed)
        )
        for name in ("canvas", "probe", "object_power", "positions", "curvature", "errors"):
            value, expected = getattr(many, name), drift[index] * getattr(one, name)
            np.testing.assert_allclose(
                value, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max(), err_msg=name
            )
