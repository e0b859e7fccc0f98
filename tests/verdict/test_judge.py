"""Sound results are not accused; of faulty ones, the remedy is named."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from scipy import ndimage
from verdict_support import Result, judged, refined, with_fields

from ptychopinn_ptychodus.data.examination import Action
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import make_object, make_probe, raster_positions, simulate_scan


def test_a_sound_result_fits_as_noise_allows(scan: RawData, result: Result) -> None:
    finding = judged(scan, result)
    assert (finding.subject, finding.action) == ("result", Action.NOTED)
    # 64² pixels of a quarter each over 1e6 photons, less for dim ones
    assert 0.5 * 64**2 / 4e6 < finding.values["noise"] < 1.2 * 64**2 / 4e6
    assert finding.values["error"] == result.error
    assert finding.values["ratio"] == pytest.approx(result.error / finding.values["noise"])
    assert finding.values["bound"] > 20 * finding.values["error"]
    assert finding.values["unexplained"] < 0.05


def test_the_error_is_computed_where_nobody_gives_it(scan: RawData, result: Result) -> None:
    finding = judged(scan, result, error=None)
    assert finding.values["error"] == pytest.approx(result.error, rel=1e-3)


def test_another_metric_has_its_own_noise(scan: RawData, result: Result) -> None:
    finding = judged(scan, result, metric="poisson", error=None)
    assert finding.action is Action.NOTED
    assert finding.values["error"] == pytest.approx(finding.values["noise"], rel=0.6)


def test_errors_are_of_one_metric(scan: RawData, result: Result) -> None:
    with pytest.raises(ValueError, match='metric is "auto": give what errors are measured by'):
        judged(scan, result, metric="auto")


def test_patterns_that_are_transposed(scan: RawData) -> None:
    finding = judged(with_fields(scan, diff3d=scan.diff3d.swapaxes(1, 2)))
    assert finding.action is Action.IGNORED
    assert "poorly" in finding.seen
    assert "when they are transposed: change Transpose" in finding.done
    assert finding.values["trial"]["as_it_is"] > 5 * finding.values["trial"]["best_error"]


def test_patterns_that_are_turned_by_a_quarter(scan: RawData) -> None:
    turned = np.roll(np.rot90(scan.diff3d, axes=(1, 2)), 1, 1)  # the zero frequency stays where it was
    finding = judged(with_fields(scan, diff3d=np.ascontiguousarray(turned)))
    assert finding.action is Action.IGNORED
    # clockwise is what turns them back
    assert "a quarter turn clockwise" in finding.done


def test_positions_with_both_signs_wrong(scan: RawData) -> None:
    finding = judged(with_fields(scan, xcoords=107 - scan.xcoords, ycoords=107 - scan.ycoords))
    assert finding.action is Action.IGNORED
    assert "when the positions have x and y inverted" in finding.done
    assert "complex conjugate" in finding.done


def test_positions_with_one_sign_wrong_and_the_axes_exchanged(scan: RawData) -> None:
    finding = judged(with_fields(scan, xcoords=scan.ycoords, ycoords=107 - scan.xcoords))
    assert finding.action is Action.IGNORED
    # (x, y) = (107 - y', x'): y' is inverted first, then the two are exchanged
    assert "when the positions have y inverted, and then x and y exchanged" in finding.done


@pytest.mark.parametrize("lag", [-1, 1])
def test_frames_that_lag_from_the_middle_on(scan: RawData, lag: int) -> None:
    shown = np.arange(64)
    shown[25:] = np.clip(shown[25:] + lag, 0, 63)
    finding = judged(with_fields(scan, diff3d=scan.diff3d[shown]))
    assert finding.action is Action.IGNORED
    assert finding.values["lag"]["frames"] == lag
    assert finding.values["lag"]["first"] == pytest.approx(25, abs=3)
    assert f"with the position {'before' if lag < 0 else 'after'} their own" in finding.done


def test_frames_that_lag_from_the_start(scan: RawData) -> None:
    finding = judged(with_fields(scan, diff3d=np.roll(scan.diff3d, 1, axis=0)))
    assert finding.values["lag"]["first"] == 0
    assert "from the first pattern on" in finding.done


def test_positions_on_another_scale(scan: RawData) -> None:
    finding = judged(with_fields(scan, xcoords=scan.xcoords * 1.4, ycoords=scan.ycoords * 1.4))
    assert finding.action is Action.IGNORED
    assert "multiplied by about 0.72" in finding.done
    assert "pixel size" in finding.done


def test_patterns_that_belong_nowhere_are_accused_without_a_remedy(scan: RawData) -> None:
    mixed = np.random.default_rng(0).permutation(scan.diff3d)
    finding = judged(with_fields(scan, diff3d=mixed))
    assert finding.action is Action.IGNORED
    assert "Nothing explains the patterns" in finding.done


def test_a_rough_object_of_a_scan_that_is_read_rightly_is_not_accused(scan: RawData, result: Result) -> None:
    """As a network leaves it: a little blurred, several per cent beyond noise."""
    blurred = ndimage.gaussian_filter(result.object, 1.2)
    finding = judged(scan, dataclasses.replace(result, object=blurred), error=None)
    assert finding.action is Action.NOTED
    assert finding.values["error"] > 5 * finding.values["noise"]
    assert "refining the object for more epochs would better it" in finding.done


def test_an_object_of_another_scan_is_accused(scan: RawData, result: Result) -> None:
    other = make_object(result.object.shape, seed=77)
    finding = judged(scan, dataclasses.replace(result, object=other), error=None)
    assert finding.action is Action.IGNORED
    assert "this is not the object" in finding.done


def test_patterns_that_are_nothing_but_noise_are_not_accused() -> None:
    x, y = raster_positions(8, 8, 5.0, jitter=0.3, origin=36.0)
    weak = np.exp(0.02j * np.angle(make_object((110, 110), seed=2)))
    scan = simulate_scan(weak, make_probe(64), x, y, photons=2e3, seed=3)
    finding = judged(scan)
    assert finding.action is Action.NOTED
    assert finding.values["tells_little"]
    assert "says little" in finding.seen


def test_counts_that_are_no_photons_have_more_noise(scan: RawData) -> None:
    integrating = with_fields(scan, diff3d=scan.diff3d * np.sqrt(40.0))
    finding = judged(integrating, refined(integrating, epochs=10))
    assert finding.action is Action.NOTED
    assert finding.values["counts_per_photon"] == pytest.approx(40, rel=0.4)
    assert "they are no photons" in finding.seen


def test_an_object_without_light_is_told_from_one_that_fits(scan: RawData, result: Result) -> None:
    finding = judged(scan, dataclasses.replace(result, object=0 * result.object), error=None)
    assert finding.action is Action.IGNORED
    assert "no light" in finding.seen
    json.dumps(finding.values, allow_nan=False)


def test_progress_grows_to_one(scan: RawData, result: Result) -> None:
    for patterns in (scan.diff3d, scan.diff3d.swapaxes(1, 2)):
        told: list[float] = []
        judged(with_fields(scan, diff3d=patterns), result, error=None, on_progress=told.append)
        assert told == sorted(told)
        assert told[-1] == 1.0


def test_a_trial_that_is_stopped_leaves_a_verdict(scan: RawData) -> None:
    asked = []

    def should_stop() -> bool:
        asked.append(True)
        return len(asked) > 40

    finding = judged(with_fields(scan, diff3d=scan.diff3d.swapaxes(1, 2)), should_stop=should_stop)
    assert finding.subject == "result"
    assert "was stopped" in finding.done
    assert len(asked) < 60
