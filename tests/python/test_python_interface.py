"""The Python interface: what it imports, what it returns, and what it refuses."""

from __future__ import annotations

import logging
import operator
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plugin_support import make_data, make_product
from ptychodus.api.io import save_diffraction_data, save_product

import ptychopinn_ptychodus
from ptychopinn_ptychodus import api
from ptychopinn_ptychodus.data.metrics import illumination_mask
from ptychopinn_ptychodus.remembered import models_directory
from ptychopinn_ptychodus.settings_table import EFFORTS, with_effort

needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed")
CPU = api.default_execution_config(accelerator="cpu")
SHORT = api.RefinementConfig(epochs=2)
UNJUDGED = api.ExaminationConfig(judge=False)


class Watcher(api.Observer):
    """Remembers what it is told, and asks to stop after so many epochs."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.batches: list[tuple[int, int, int]] = []
        self.epochs: list[api.EpochReport | api.RefinementReport] = []
        self.progress: list[float] = []
        self._stop_after = stop_after

    def on_batch(self, epoch: int, batch: int, batches: int) -> None:
        self.batches.append((epoch, batch, batches))

    def on_epoch(self, report: api.EpochReport | api.RefinementReport) -> None:
        self.epochs.append(report)

    def on_progress(self, fraction: float) -> None:
        self.progress.append(fraction)

    def should_stop(self) -> bool:
        return self._stop_after is not None and len(self.epochs) >= self._stop_after


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return api.make_object((112, 112), seed=0)


@pytest.fixture(scope="module")
def scan(truth: np.ndarray) -> api.RawData:
    x, y = api.raster_positions(6, 6, step=7.0, origin=38.0)
    return api.simulate_scan(truth, api.make_probe(64), x, y, photons=1e6, seed=0)


def short(scan: api.RawData, directory: Path, **changes: Any) -> api.TrainingConfig:
    """A training of seconds."""
    return api.default_training_config(
        scan, **{"nepochs": 1, "backend": "pytorch", "output_dir": directory, **changes}
    )


@pytest.fixture(scope="module")
def trained(scan: api.RawData, tmp_path_factory: pytest.TempPathFactory) -> tuple[api.Model, Watcher]:
    """What a child process has learnt from the scan, and what it has told meanwhile."""
    watcher = Watcher()
    config = short(scan, tmp_path_factory.mktemp("model"), nepochs=2)
    return api.train(scan, config, execution=CPU, observer=watcher), watcher


def without_object(scan: api.RawData, **changes: Any) -> api.RawData:
    """The scan as a file without an object would hold it."""
    fields = {name: getattr(scan, name) for name in ("xcoords", "ycoords", "diff3d", "probeGuess")}
    return api.RawData(**{**fields, "domain": "amplitude", **changes})


# ---- the package


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, ptychopinn_ptychodus\n"
        "names = {'numpy', 'scipy', 'h5py', 'skimage', 'matplotlib', 'torch', 'lightning', 'tensorflow',"
        " 'keras', 'ptychodus', 'PyQt5', 'importlib_metadata'}\n"
        "print(sorted(names & set(sys.modules)))\n"
        "from ptychopinn_ptychodus import RawData, train\n"
        "names -= {'numpy', 'scipy', 'h5py', 'skimage', 'importlib_metadata'}\n"
        "print(sorted(names & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]


def test_the_package_offers_what_the_interface_offers() -> None:
    offered = set(vars(ptychopinn_ptychodus)["__all__"])
    assert offered - {"__version__"} == set(api.__all__)
    assert offered <= set(dir(ptychopinn_ptychodus))
    for name in api.__all__:
        assert getattr(ptychopinn_ptychodus, name) is getattr(api, name)
    with pytest.raises(AttributeError, match="nothing_like_this"):
        operator.attrgetter("nothing_like_this")(ptychopinn_ptychodus)


# ---- training


def test_where_no_directory_is_named_the_model_goes_to_one_of_its_own(
    scan: api.RawData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[Any] = []

    def running(job: Any, *_: object, **__: object) -> None:
        jobs.append(job)
        raise InterruptedError

    monkeypatch.setattr(api.training, "running", running)
    for output_dir in (None, None, tmp_path):
        with pytest.raises(InterruptedError):
            api.train(scan, output_dir=output_dir)
    first, second, named = (job.model_path.parent for job in jobs)
    assert first != second
    assert first.parent == second.parent == models_directory() / "scan 1"
    assert named == tmp_path


def test_a_standard_directory_is_a_scan(tmp_path: Path) -> None:
    save_diffraction_data(tmp_path / "diffraction.h5", make_data(5))
    save_product(tmp_path / "product.h5", make_product(5))
    assert len(api.scans.read_scan(tmp_path, None)) == 5


def test_an_effort_is_as_long_as_the_plugin_s(scan: api.RawData) -> None:
    for effort in EFFORTS:
        meant = with_effort(effort)
        training = api.default_training_config(scan, effort=effort, backend="pytorch")
        assert training.nepochs == meant["Training.Epochs"]
        assert api.default_refinement_config(effort=effort).epochs == meant["Refinement.Epochs"]
    assert api.default_training_config(scan, effort="quick", nepochs=30, backend="pytorch").nepochs == 30
    assert api.default_refinement_config() == api.RefinementConfig()
    with pytest.raises(ValueError, match=r"Effort = 'great'"):
        api.default_training_config(scan, effort="great")


@needs_torch
def test_a_child_process_and_this_one_learn_the_same(
    scan: api.RawData, trained: tuple[api.Model, Watcher], tmp_path: Path
) -> None:
    model, told = trained
    here = Watcher()
    config = short(scan, tmp_path, nepochs=2)
    other = api.train(scan, config, execution=CPU, observer=here, in_process=True)
    assert other.history == model.history
    assert len(other.history["train_loss"]) == 2
    assert (here.batches, here.progress) == (told.batches, told.progress)
    reports = [report for report in here.epochs if isinstance(report, api.EpochReport)]
    assert len(reports) == len(here.epochs)
    assert [(report.epoch, report.train_loss) for report in reports] == list(
        enumerate(model.history["train_loss"], 1)
    )


@needs_torch
def test_an_observer_is_told_of_batches_and_of_progress(trained: tuple[api.Model, Watcher]) -> None:
    model, told = trained
    assert told.batches == [(epoch, batch, 9) for epoch in (1, 2) for batch in range(1, 10)]
    assert told.progress == sorted(set(told.progress))
    assert told.progress[-1] == 1.0
    assert not model.stopped


@needs_torch
@pytest.mark.parametrize("in_process", [False, True], ids=["child", "in_process"])
def test_a_training_that_is_stopped_keeps_its_best_model(
    scan: api.RawData, tmp_path: Path, in_process: bool
) -> None:
    model = api.train(
        scan,
        short(scan, tmp_path, nepochs=500),
        execution=CPU,
        observer=Watcher(stop_after=1),
        in_process=in_process,
    )
    assert model.stopped
    assert 1 <= len(model.history["train_loss"]) < 500
    assert api.open_model(tmp_path).path == model.path


@needs_torch
def test_a_training_that_is_stopped_at_once_has_no_model(scan: api.RawData, tmp_path: Path) -> None:
    with pytest.raises(InterruptedError, match="before there was a model"):
        api.train(scan, short(scan, tmp_path), observer=Watcher(stop_after=0))
    assert list(tmp_path.glob("*.ckpt")) == []


@needs_torch
def test_what_an_observer_raises_ends_the_run(scan: api.RawData, tmp_path: Path) -> None:
    class Broken(api.Observer):
        def on_batch(self, epoch: int, batch: int, batches: int) -> None:
            raise ZeroDivisionError("of the observer")

    with pytest.raises(ZeroDivisionError, match="of the observer"):
        api.train(scan, short(scan, tmp_path, nepochs=500), observer=Broken())


@needs_torch
def test_another_scan_can_be_validated_with(scan: api.RawData, truth: np.ndarray, tmp_path: Path) -> None:
    training, held_out = scan.split(0.25, seed=0)
    assert held_out is not None
    config = short(training, tmp_path)
    model = api.train(training, config, validation=held_out, execution=CPU, in_process=True)
    assert len(model.history["val_loss"]) == 1
    x, y = api.raster_positions(3, 3, step=8.0, origin=40.0, seed=1)
    other = api.simulate_scan(truth, api.make_probe(64), x, y, photons=1e5, seed=1)
    with pytest.raises(ValueError, match="the validation scan hold different probes"):
        api.train(training, config, validation=other, in_process=True)


@needs_torch
def test_several_scans_are_one_training_and_its_model_is_where_another_starts(
    scan: api.RawData, truth: np.ndarray, tmp_path: Path
) -> None:
    x, y = api.raster_positions(4, 4, step=8.0, origin=40.0, seed=1)
    other = api.simulate_scan(truth, api.make_probe(64), x, y, photons=1e5, seed=1)
    other.to_file(tmp_path / "other.npz")
    (tmp_path / "damaged.npz").write_bytes(b"PK and no more")
    scans: list[Any] = [scan, tmp_path / "other.npz", tmp_path / "damaged.npz"]
    config = short(scan, tmp_path / "many")
    with pytest.raises(ValueError, match=r"1 of 3 scans .*damaged\.npz.*skip_damaged=True"):
        api.train(scans, config, in_process=True)
    many = api.train(scans, config, execution=CPU, in_process=True, skip_damaged=True)
    assert many.description.data.any_probe
    finding = many.findings.by_code("scan-left-out")
    assert finding is not None
    assert finding.values["scan"] == "damaged.npz"
    with pytest.raises(ValueError, match="either start or resume"):
        api.train(scan, start=many, resume=True)
    further = api.train(scan, short(scan, tmp_path / "one"), start=many.path, execution=CPU, in_process=True)
    assert not further.description.data.any_probe


@needs_torch
def test_a_training_that_was_stopped_is_resumed(scan: api.RawData, tmp_path: Path) -> None:
    config = short(scan, tmp_path, nepochs=3)
    whole = api.train(scan, config, output_dir=tmp_path / "whole", execution=CPU, in_process=True)
    stopped = api.train(scan, config, execution=CPU, in_process=True, observer=Watcher(stop_after=1))
    assert stopped.stopped
    watcher = Watcher()
    model = api.train(scan, config, execution=CPU, in_process=True, observer=watcher, resume=True)
    assert watcher.batches[0][0] == 2
    for name, losses in whole.history.items():
        assert model.history[name] == pytest.approx(losses, rel=1e-6), name
    with pytest.raises(FileNotFoundError, match="is a model that is complete"):
        api.train(scan, config, execution=CPU, in_process=True, resume=True)


def test_settings_that_the_data_contradict_are_refused(scan: api.RawData, tmp_path: Path) -> None:
    config = short(scan, tmp_path)
    with pytest.raises(ValueError, match=r"TrainingConfig.model.N = 128.*64 × 64"):
        api.train(scan, replace(config, model=replace(config.model, N=128)))
    with pytest.raises(ValueError, match=r"TrainingConfig.train_data_file is set"):
        api.train(scan, replace(config, train_data_file=Path("scan.npz")))
    with pytest.raises(FileNotFoundError, match=r"nowhere.npz"):
        api.train(tmp_path / "nowhere.npz", config)


# ---- reconstruction


@needs_torch
def test_a_reconstruction_shows_the_object_of_the_scan(
    scan: api.RawData, truth: np.ndarray, trained: tuple[api.Model, Watcher]
) -> None:
    told = Watcher()
    result = api.reconstruct(
        scan, trained[0], refinement=replace(SHORT, epochs=5), execution=CPU, observer=told
    )
    lit = illumination_mask(scan.probeGuess, scan.xcoords, scan.ycoords, truth.shape)
    assert api.compare(result.object, truth, lit).complex_correlation_centred > 0.9
    assert result.verdict is not None
    assert not result.verdict.is_warning
    assert result.network is not None
    assert result.network.shape == result.object.shape == truth.shape
    assert len(result.errors) == len(told.epochs) == 5
    assert told.progress == sorted(told.progress)
    assert told.progress[-1] == 1.0
    assert np.abs(result.positions - np.stack((scan.xcoords, scan.ycoords), -1)).max() < 4


@needs_torch
def test_without_an_object_the_canvas_holds_the_scan_wherever_it_lies(
    scan: api.RawData, trained: tuple[api.Model, Watcher]
) -> None:
    there = without_object(scan, xcoords=scan.xcoords + 1000, ycoords=scan.ycoords - 500)
    options: dict[str, Any] = {"execution": CPU, "examination": UNJUDGED, "in_process": True}
    whole = api.reconstruct(scan, trained[0], refinement=SHORT, **options)
    moved = api.reconstruct(there, trained[0], refinement=SHORT, **options)
    column, row = moved.origin[0] - 1000, moved.origin[1] + 500
    assert (column, row) == tuple(np.floor([scan.xcoords.min(), scan.ycoords.min()]) - 32)
    height, width = moved.object.shape
    window = np.s_[int(row) : int(row) + height, int(column) : int(column) + width]
    lit = illumination_mask(scan.probeGuess, scan.xcoords, scan.ycoords, whole.object.shape)[window]
    alike = api.compare(moved.object, whole.object[window], lit)
    assert alike.complex_correlation_centred > 0.94  # two epochs each, on canvases of two sizes
    assert max(map(abs, alike.alignment.shift_px)) < 0.3
    np.testing.assert_allclose(moved.positions, whole.positions + np.array([1000, -500]), atol=0.5)


@needs_torch
def test_without_refinement_the_object_is_the_networks(
    scan: api.RawData, trained: tuple[api.Model, Watcher], tmp_path: Path
) -> None:
    result = api.reconstruct(scan, trained[0].path, refinement=None, execution=CPU, examination=UNJUDGED)
    assert (result.network, result.errors, result.verdict) == (None, [], None)
    np.testing.assert_array_equal(result.positions[:, 0], scan.xcoords)
    np.testing.assert_array_equal(result.amplitude, np.abs(result.object))
    result.to_file(tmp_path / "result.npz")
    with np.load(tmp_path / "result.npz") as file:
        np.testing.assert_array_equal(file["object"], result.object)


@needs_torch
def test_an_inference_that_is_asked_for_what_there_is_not_is_refused(
    scan: api.RawData, trained: tuple[api.Model, Watcher], tmp_path: Path
) -> None:
    model = trained[0]
    with pytest.raises(ValueError, match=r"InferenceConfig.debug = True is not supported"):
        api.reconstruct(scan, model, api.InferenceConfig(debug=True))
    with pytest.raises(ValueError, match=r"leave model_path at None"):
        api.reconstruct(scan, model, api.InferenceConfig(model_path=tmp_path / "other.ckpt"))
    with pytest.raises(FileNotFoundError):
        api.open_model(tmp_path)
    with pytest.raises(ValueError, match="positions"):
        api.reconstruct(scan, model, shape=(40, 40))


# ---- findings


@needs_torch
def test_findings_are_logged_and_returned(
    scan: api.RawData, trained: tuple[api.Model, Watcher], caplog: pytest.LogCaptureFixture
) -> None:
    counts = np.rint(scan.diff3d.astype(np.float64) ** 2).astype(np.uint16)
    counts[:, 10:12, 20] = 65535
    with caplog.at_level(logging.INFO):
        stuck = without_object(scan, diff3d=counts, domain=None)
        result = api.reconstruct(stuck, trained[0], refinement=SHORT, execution=CPU)
    assert result.findings.by_code("stuck-pixels") is not None
    assert any(
        record.levelno == logging.WARNING and "65535" in record.message
        for record in caplog.records
        if record.name == "PtychoPINN-Plugin"
    )


@needs_torch
def test_a_scan_that_would_give_a_wrong_image_is_refused_with_its_report(
    scan: api.RawData, tmp_path: Path
) -> None:
    there = without_object(scan, xcoords=scan.xcoords * 1e-6, ycoords=scan.ycoords * 1e-6)
    with pytest.raises(api.ExaminationError, match="pixel") as caught:
        api.train(there, short(there, tmp_path))
    assert caught.value.report.by_code("positions-within-a-pixel") is not None
    assert list(tmp_path.iterdir()) == []


# ---- refinement


@pytest.mark.parametrize("in_process", [False, True], ids=["child", "in_process"])
def test_a_refinement_starts_from_nothing_and_goes_on(
    scan: api.RawData, truth: np.ndarray, in_process: bool
) -> None:
    told = Watcher()
    options: dict[str, Any] = {"execution": CPU, "examination": UNJUDGED, "in_process": in_process}
    first = api.refine(scan, config=api.RefinementConfig(epochs=10), observer=told, **options)
    reports = [report for report in told.epochs if isinstance(report, api.RefinementReport)]
    assert len(reports) == len(told.epochs)
    assert [report.error for report in reports] == first.errors
    lit = illumination_mask(scan.probeGuess, scan.xcoords, scan.ycoords, truth.shape)
    assert api.compare(first.object, truth, lit).complex_correlation_centred > 0.9
    assert first.confidence is not None
    assert first.confidence.map.shape == first.object.shape
    assert first.confidence.mean > 0.9
    more = api.refine(scan, first, SHORT, **options)
    assert more.errors[-1] < first.errors[0] / 5
    again = api.refine(scan, first.object, SHORT, probe=first.probe, **options)
    assert again.errors[-1] < first.errors[0] / 5


def test_a_refinement_goes_on_where_the_object_lies(scan: api.RawData) -> None:
    there = without_object(scan, xcoords=scan.xcoords + 1000, ycoords=scan.ycoords - 500)
    options: dict[str, Any] = {"execution": CPU, "examination": UNJUDGED, "in_process": True}
    first = api.refine(there, config=api.RefinementConfig(epochs=8), **options)
    more = api.refine(there, first, SHORT, **options)
    assert more.origin == first.origin
    assert more.errors[-1] < first.errors[0] / 5


def test_a_start_that_does_not_fit_is_refused(scan: api.RawData) -> None:
    with pytest.raises(ValueError, match=r"\(1, 112, 112\).*one layer"):
        api.refine(scan, np.ones((1, 112, 112)))
    with pytest.raises(ValueError, match="positions"):
        api.refine(scan, np.ones((30, 30)))
    with pytest.raises(ValueError, match=r"^The start puts no light"):
        api.refine(scan, np.zeros((112, 112)), config=SHORT)


@needs_torch
def test_a_model_for_any_probe_is_applied_with_a_probe_that_explains_the_scan(
    truth: np.ndarray, tmp_path: Path
) -> None:
    x, y = api.raster_positions(8, 8, step=5.0, origin=38.0, seed=1)
    right, other = api.make_probe(64), api.make_probe(64, diameter=0.6)
    scan, another = (api.simulate_scan(truth, probe, x, y, photons=1e6, seed=0) for probe in (right, other))
    model = api.train([scan, another], short(scan, tmp_path), execution=CPU, in_process=True)
    frequency = np.fft.fftfreq(64)
    wrong = np.fft.ifft2(np.fft.fft2(right) * np.exp(60j * (frequency[:, None] ** 2 + frequency**2)))
    rough = api.RawData(
        xcoords=scan.xcoords, ycoords=scan.ycoords, diff3d=scan.diff3d, probeGuess=wrong, domain="amplitude"
    )

    def probe_of(scan: api.RawData, **options: Any) -> np.ndarray:
        found = api.reconstruct(
            scan, model, refinement=None, execution=CPU, examination=UNJUDGED, in_process=True, **options
        )
        return found.probe

    def likeness(one: np.ndarray, other: np.ndarray) -> float:
        product = np.fft.ifft2(np.fft.fft2(one[0]) * np.conj(np.fft.fft2(other[0])))
        return float(np.abs(product).max() / np.linalg.norm(one[0]) / np.linalg.norm(other[0]))

    assert likeness(wrong, right) < 0.98
    assert likeness(probe_of(rough), right) > 0.98
    assert likeness(probe_of(rough, find_probe=False), wrong) > 0.9999
    # a probe that is right stays what it is
    assert likeness(probe_of(scan), right) > 0.9999
