"""Models for any probe: patterns of several probes to learn from; the scan's own where they are applied."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_support import FROZEN, QUICK, Bench, relative_error, require_engine, without_graphs

from ptychopinn_ptychodus.backends.base import Engine, ModelFileError
from ptychopinn_ptychodus.backends.conversion import convert
from ptychopinn_ptychodus.config import DataConfig, from_dict, to_dict
from ptychopinn_ptychodus.data import simulation
from ptychopinn_ptychodus.data.container import PtychoDataContainer
from ptychopinn_ptychodus.data.joining import joined
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.pretraining.probes import out_of_focus

FIXED: dict[str, Any] = {
    "architecture": "unrolled",
    "gridsize": 2,
    "probe_trainable": False,
    "intensity_scale_trainable": False,
}
"""What patterns of several probes can teach."""


def scan_with(modes: int, photons: float, seed: int, n: int = 64) -> RawData:
    """36 patterns; each of these scans has a probe of its own."""
    x, y = simulation.raster_positions(6, 6, 5.0, jitter=0.3, origin=n / 2 + 3, seed=seed)
    probe = simulation.make_probe(n, diameter=0.3 + 0.1 * seed, defocus=3.0 + 4 * seed, modes=modes)
    object_ = simulation.make_object((n + 36,) * 2, seed=seed)
    return simulation.simulate_scan(object_, probe, x, y, photons, seed)


def groups_of(raw: RawData, gridsize: int = 2, count: int = 8) -> PtychoDataContainer:
    return raw.generate_grouped_data(raw.N, 8, count, gridsize=gridsize, seed=0)


@pytest.fixture(scope="session")
def scans() -> list[PtychoDataContainer]:
    return [groups_of(scan_with(1, 1e6, 0)), groups_of(scan_with(2, 1e4, 1))]


def loss_of(bench: Bench, data: PtychoDataContainer, **changes: Any) -> float:
    """Of a network that training leaves as it is: the same for every run."""
    with without_graphs(bench.engine):
        return bench.train(FROZEN, data=data, batch_size=8, **FIXED | changes).history["train_loss"][0]


@pytest.mark.parametrize("changes", [{}, {"mae_weight": 1.0}, {"object_big": False}])
def test_several_probes_cost_what_they_cost_one_at_a_time(
    changes: dict[str, Any], bench: Bench, scans: Sequence[PtychoDataContainer]
) -> None:
    alone = [loss_of(bench, scan, **changes) for scan in scans]
    together = loss_of(bench, joined(scans), **changes)
    assert not math.isclose(alone[0], alone[1], rel_tol=0.01)
    assert together == pytest.approx(np.mean(alone), rel=1e-4)


OBJECT_ONLY: dict[str, Any] = {"nll_weight": 0.0, "realspace_aligned_weight": 1.0}


@pytest.mark.parametrize("changes", [OBJECT_ONLY, {"gridsize": 1, "mae_weight": 0.5} | OBJECT_ONLY])
def test_several_known_objects_cost_what_they_cost_one_at_a_time(
    changes: dict[str, Any], bench: Bench
) -> None:
    gridsize = changes.get("gridsize", 2)
    scans = [groups_of(scan_with(modes, 1e6, modes), gridsize) for modes in (1, 2)]
    alone = [loss_of(bench, joined([scan], with_objects=True), **changes) for scan in scans]
    assert not math.isclose(alone[0], alone[1], rel_tol=0.01)
    together = loss_of(bench, joined(scans, with_objects=True), **changes)
    assert together == pytest.approx(np.mean(alone), rel=1e-4)


def test_the_difference_from_a_known_object_is_that_of_what_the_network_makes(bench: Bench) -> None:
    data = joined([groups_of(scan_with(1, 1e6, 1))], with_objects=True)
    loss = loss_of(bench, data, **OBJECT_ONLY)
    made = bench.engine.predict(bench.model_path, groups_of(scan_with(1, 1e6, 1)), QUICK).patches
    weight = (np.abs(data.probe) ** 2).sum(0)
    truth = np.moveaxis(data.patches_for(slice(None)), -1, 1)
    assert loss == pytest.approx(simulation.aligned_mae(made, truth, weight), rel=1e-3)
    turned = truth * np.exp(0.1j * np.arange(truth.size // 64**2)).reshape(*truth.shape[:2], 1, 1)
    assert loss == pytest.approx(simulation.aligned_mae(made, turned, weight), rel=1e-3)


def with_rough_probe(data: PtychoDataContainer) -> PtychoDataContainer:
    """The same with a probe that is out of focus, of its own power, as it would be applied."""
    return dataclasses.replace(data, probe=out_of_focus(data.probe, 2.0))


@pytest.mark.parametrize("frames", [True, False])
def test_the_network_sees_the_probe_that_is_shown_and_is_judged_by_the_true_one(
    frames: bool, bench: Bench
) -> None:
    groups = groups_of(scan_with(1, 1e6, 1), 1 if frames else 2)
    rough = with_rough_probe(groups)
    data = joined([groups], with_objects=True, shown=[rough.probe])
    gridsize = {"gridsize": groups.gridsize}
    by_object = loss_of(bench, data, **OBJECT_ONLY | gridsize)
    truth = np.moveaxis(data.patches_for(slice(None)), -1, 1)

    made, of_true = (bench.engine.predict(bench.model_path, seen, QUICK).patches for seen in (rough, groups))

    def difference(patches: np.ndarray, weighing: PtychoDataContainer) -> float:
        return simulation.aligned_mae(patches, truth, (np.abs(weighing.probe) ** 2).sum(0))

    assert by_object == pytest.approx(difference(made, groups), rel=1e-3)
    for others in ((of_true, groups), (made, rough), (of_true, rough)):
        assert not math.isclose(by_object, difference(*others), rel_tol=2e-3)
    if not frames:  # of groups, the network moves the probe by parts of a pixel, and not its patches
        return
    by_amplitude = loss_of(bench, data, nll_weight=0.0, mae_weight=1.0, **gridsize)
    # of a network that training leaves as it is: it makes the same patches again
    counts = data.batch(slice(None))[..., 0] ** 2
    expected = simulation.diffraction_intensity(made[:, 0], data.probe)
    # patterns of power 1, on 64² pixels
    assert by_amplitude == pytest.approx(64 * simulation.amplitude_mae(counts, expected), rel=0.01)


def test_a_frame_that_does_not_tell_an_object_from_its_twin_costs_the_smaller_difference(
    bench: Bench,
) -> None:
    """Only under a probe that is its own twin, and only of single frames: groups tell by their overlap."""
    open_, closed = scan_with(1, 1e6, 1), scan_with(1, 1e6, 2)
    probe = np.abs(open_.probeGuess)  # without phase, and symmetric
    assert open_.objectGuess is not None
    open_ = simulation.simulate_scan(open_.objectGuess, probe, open_.xcoords, open_.ycoords, 1e6, 1)
    data = joined([groups_of(scan, 1) for scan in (open_, closed)], with_objects=True)
    assert data.has_twins
    assert not joined([groups_of(closed, 1)], with_objects=True).has_twins
    assert not joined([groups_of(open_, 2)], with_objects=True).has_twins
    loss = loss_of(bench, data, gridsize=1, **OBJECT_ONLY)
    expected = []
    for number, scan in enumerate((open_, closed)):
        groups = groups_of(scan, 1)
        made = bench.engine.predict(bench.model_path, groups, QUICK).patches
        weight = (np.abs(data.probes[number]) ** 2).sum(0)  # type: ignore[index]
        own = slice(number * len(groups), (number + 1) * len(groups))
        truth = np.moveaxis(data.patches_for(own), -1, 1)
        differences = [simulation.aligned_mae(made, truth, weight)]
        if number == 0:
            turned = truth[..., ::-1, ::-1].conj()
            differences.append(simulation.aligned_mae(made, truth, weight, turned))
            assert differences[1] < 0.999 * differences[0]
        expected.append(differences[-1])
    assert loss == pytest.approx(np.mean(expected), rel=1e-3)


def test_objects_that_are_not_known_are_missed_by_name(
    bench: Bench, scans: Sequence[PtychoDataContainer]
) -> None:
    with pytest.raises(ValueError, match="objectGuess"):
        loss_of(bench, joined(scans), **OBJECT_ONLY)
    with pytest.raises(ValueError, match="objectGuess"):
        joined([dataclasses.replace(scans[0], object_guess=None)], with_objects=True)


@pytest.mark.parametrize(
    ("changes", "warned"), [(OBJECT_ONLY, False), ({"nll_weight": 0.0, "mae_weight": 1.0}, True)]
)
def test_single_frames_are_warned_of_where_no_object_was_known(
    changes: dict[str, Any], warned: bool, bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """A network that was pretrained on single frames with their objects is what to use for them."""
    data = groups_of(scan_with(1, 1e6, 1), gridsize=1)
    with caplog.at_level(logging.WARNING):
        loss_of(bench, joined([data], with_objects=True), gridsize=1, **changes)
        bench.engine.predict(bench.model_path, data, QUICK)
    assert caplog.text.count("Single frames") == 2 * warned


@pytest.mark.parametrize("changes", [{"mae_weight": 1.0}, {"object_big": False}])
def test_each_of_several_scans_has_its_own_mask_and_exposures(
    changes: dict[str, Any], bench: Bench, scans: Sequence[PtychoDataContainer]
) -> None:
    """A pixel that is bad in one scan is learnt from in the other; an unsteady beam is known to be one."""
    bad = np.zeros((64, 64), bool)
    bad[28:36, 20:40] = True
    spoiled = scans[0].amplitude.copy()
    spoiled[:, bad] = 1e3
    exposures = scans[1].exposures
    assert exposures is not None
    unsteady = exposures * np.linspace(0.7, 1.3, len(exposures))
    changed = [
        dataclasses.replace(scans[0], bad_pixels=bad, amplitude=spoiled),
        dataclasses.replace(scans[1], exposures=unsteady),
    ]
    alone = [loss_of(bench, scan, **changes) for scan in changed]
    together = loss_of(bench, joined(changed), **changes)
    assert together == pytest.approx(np.mean(alone), rel=1e-4)
    assert not math.isclose(alone[1], loss_of(bench, scans[1], **changes), rel_tol=1e-5)


def test_one_of_several_probes_is_learnt_from_as_if_it_was_the_only_one(
    bench: Bench, scans: Sequence[PtychoDataContainer]
) -> None:
    order = FIXED | {"sequential_sampling": True}
    with without_graphs(bench.engine):
        bench.train(data=scans[1], **order)
        alone = bench.arrays()
        bench.train(data=joined([scans[1]]), **order)
        together = bench.arrays()
    for name in alone:
        if name.startswith("network."):
            np.testing.assert_allclose(together[name], alone[name], atol=2e-4, err_msg=name)


@pytest.fixture(scope="module")
def model(
    engine: Engine, scans: Sequence[PtychoDataContainer], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A model for any probe, which nobody writes to."""
    bench = Bench(engine, scan_with(1, 1e6, 0), tmp_path_factory.mktemp(engine.name))
    with without_graphs(engine):
        bench.train(data=joined(scans), validation=joined(scans[:1]), **FIXED)
    return bench.model_path


@pytest.fixture
def pretrained(bench: Bench, model: Path) -> Iterator[Bench]:
    """A bench with a copy of that model."""
    shutil.copyfile(model, bench.model_path)
    with without_graphs(bench.engine):
        yield bench


def test_the_scans_own_probe_and_dose_take_the_place_of_the_models(pretrained: Bench) -> None:
    """Applied to a scan, it is the model of that scan with the same network."""
    raw = scan_with(1, 1e5, 3)
    data = groups_of(raw)
    found = pretrained.engine.predict(pretrained.model_path, data, QUICK)
    np.testing.assert_allclose((np.abs(found.probe) ** 2).sum(), raw.photons_per_pattern, rtol=1e-4)
    shape = relative_error(found.probe / found.probe[0].max(), raw.probeGuess / raw.probeGuess[0].max())
    assert shape < 1e-5

    state = pretrained.engine.read_state(pretrained.model_path)
    pretrained.train(FROZEN, data=data, **FIXED)
    own = pretrained.engine.read_state(pretrained.model_path)
    network = {name: array for name, array in state.arrays.items() if name.startswith("network.")}
    path = pretrained.directory / f"own{pretrained.engine.model_suffix}"
    pretrained.engine.write_state(dataclasses.replace(own, arrays={**own.arrays, **network}), path)
    expected = pretrained.engine.predict(path, data, QUICK)
    assert not own.description.data.any_probe
    assert relative_error(found.patches, expected.patches) < 1e-5
    assert relative_error(found.probe, expected.probe) < 1e-5


def test_units_of_counts_and_probe_make_no_difference(pretrained: Bench) -> None:
    data = groups_of(scan_with(1, 1e5, 3))
    assert data.photons_per_pattern is not None
    assert data.exposures is not None
    brighter = dataclasses.replace(
        data,
        amplitude=data.amplitude * np.float32(8.0),
        probe=data.probe * np.complex64(8.0),
        photons_per_pattern=64 * data.photons_per_pattern,
        exposures=64 * data.exposures,
    )
    found, other = (pretrained.engine.predict(pretrained.model_path, d, QUICK) for d in (data, brighter))
    assert relative_error(other.patches, found.patches) < 1e-3
    assert relative_error(other.probe, 8 * found.probe) < 1e-5


def test_bad_pixels_are_those_of_the_scan(pretrained: Bench) -> None:
    data = groups_of(scan_with(1, 1e5, 3))
    bad = np.zeros((64, 64), bool)
    bad[30:34, 20:44] = True
    spoilt = np.where(bad, np.float32(50.0), data.amplitude)
    masked = dataclasses.replace(data, amplitude=spoilt, bad_pixels=bad)
    unmasked = dataclasses.replace(data, amplitude=spoilt)
    clean, careful, careless = (pretrained.patches(d) for d in (data, masked, unmasked))
    assert relative_error(careful, clean) < 0.5 * relative_error(careless, clean)


def test_it_is_for_patterns_of_another_size_and_probes_of_more_modes(pretrained: Bench) -> None:
    found = pretrained.engine.predict(
        pretrained.model_path, groups_of(scan_with(3, 1e5, 2, n=128), count=2), QUICK
    )
    assert found.patches.shape == (2, 4, 128, 128)
    assert found.probe.shape == (3, 128, 128)
    assert np.isfinite(found.patches).all()


def test_with_fourier_layers_it_is_for_patterns_of_its_size(
    bench: Bench, scans: Sequence[PtychoDataContainer]
) -> None:
    with without_graphs(bench.engine):
        bench.train(data=joined(scans), **FIXED | {"architecture": "unrolled_fourier"})
    assert bench.engine.describe(bench.model_path).data.any_probe
    assert np.isfinite(bench.patches(groups_of(scan_with(1, 1e5, 3), count=2))).all()
    with pytest.raises(ModelFileError, match="N = 64"):
        bench.patches(groups_of(scan_with(1, 1e5, 2, n=128), count=2))


def test_another_gridsize_is_refused(pretrained: Bench) -> None:
    with pytest.raises(ModelFileError, match="gridsize = 2"):
        pretrained.patches(groups_of(scan_with(1, 1e5, 3), gridsize=1))


def test_other_models_stay_with_their_size(bench: Bench, scans: Sequence[PtychoDataContainer]) -> None:
    with without_graphs(bench.engine):
        bench.train(data=scans[0], **FIXED)
    assert not bench.engine.describe(bench.model_path).data.any_probe
    with pytest.raises(ModelFileError, match="N = 64"):
        bench.patches(groups_of(scan_with(1, 1e5, 2, n=128), count=2))


def test_the_other_engine_takes_it_for_what_it_is(pretrained: Bench, tmp_path: Path) -> None:
    other = require_engine("pytorch" if pretrained.engine.name == "tensorflow" else "tensorflow")
    target = tmp_path / f"other{other.model_suffix}"
    convert(pretrained.model_path, target, other.name)
    assert other.describe(target).data.any_probe
    data = groups_of(scan_with(2, 1e5, 3))
    expected = pretrained.engine.predict(pretrained.model_path, data, QUICK)
    found = other.predict(target, data, QUICK)
    assert relative_error(found.patches, expected.patches) < 2e-3
    assert relative_error(found.probe, expected.probe) < 1e-5


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architecture": "cnn"}, "architecture"),
        ({"probe_trainable": True}, "probe_trainable"),
        ({"intensity_scale_trainable": True}, "intensity_scale_trainable"),
    ],
)
def test_what_several_probes_cannot_teach_is_refused(
    changes: dict[str, Any], said: str, bench: Bench, scans: Sequence[PtychoDataContainer]
) -> None:
    with pytest.raises(ValueError, match=said):
        bench.train(data=joined(scans), **FIXED | changes)


def test_files_from_before_there_were_such_models_are_of_one_probe() -> None:
    old = to_dict(DataConfig(photons_per_pattern=5.0))
    del old["any_probe"]
    assert from_dict(DataConfig, json.loads(json.dumps(old))) == DataConfig(photons_per_pattern=5.0)
