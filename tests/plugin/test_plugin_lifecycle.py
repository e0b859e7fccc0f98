"""Train, reconstruct, save, open: the reconstructors as Ptychodus calls them, with a fake engine."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fake_engine
import numpy as np
import pytest
from plugin_support import CENTER, SHAPE, make_library, run
from ptychodus.api.reconstruct import ReconstructInput

from ptychopinn_ptychodus.backends.base import ModelFileError
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.plugin.reconstructor import PtychoPINNReconstructor
from ptychopinn_ptychodus.worker import process
from ptychopinn_ptychodus.worker.job import Job
from ptychopinn_ptychodus.worker.wire import ChildDiedError

pytestmark = pytest.mark.usefixtures("fake_site")

HANGS_S = 120.0
"""After as long, something waits that should not: no measure of speed, for the machine may be busy."""


def pinn(**settings: Any) -> PtychoPINNReconstructor:
    return next(iter(make_library(**settings)))


def supervised(**settings: Any) -> PtychoPINNReconstructor:
    _, second, _ = iter(make_library(**settings))
    return second


def trained(directory: Path, tmp_path: Path, **settings: Any) -> PtychoPINNReconstructor:
    reconstructor = pinn(**{"Training_Epochs": 3, **settings})
    run(reconstructor.train(directory, tmp_path / "out"))
    return reconstructor


@pytest.fixture
def ready(fake_model: Callable[..., Path]) -> PtychoPINNReconstructor:
    """A reconstructor with a model of three epochs, which lies in ``out``."""
    reconstructor = pinn()
    reconstructor.load_model_from_file(fake_model())
    return reconstructor


@pytest.fixture
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails if a worker is started."""

    def start(self: process.ChildProcess, job: Job) -> None:
        pytest.fail("A worker was started.")

    monkeypatch.setattr(process.ChildProcess, "start", start)


def wait_for(generator: Iterator[object], path: Path) -> None:
    deadline = time.monotonic() + HANGS_S
    while not path.is_file() and time.monotonic() < deadline:
        next(generator)
    assert path.is_file()


class Monitor:
    """The part of Ptychodus' task monitor that reconstructors look at."""

    def __init__(self) -> None:
        self.is_processing = True
        self.is_stopping = False
        self.progress: list[tuple[int, int]] = []

    def update_progress(self, progress: int, goal: int) -> None:
        self.progress.append((progress, goal))


class TestTraining:
    def test_leaves_a_model_and_its_history_and_loads_it(
        self, standard_directory: Path, tmp_path: Path, log: pytest.LogCaptureFixture
    ) -> None:
        reconstructor = pinn(Training_Epochs=3, Data_ValidationFraction=0.2)
        outputs = run(reconstructor.train(standard_directory, tmp_path / "out"))
        assert outputs[-1].progress == reconstructor.get_progress_goal() == 100
        assert [loss.value for loss in outputs[-1].training_loss] == pytest.approx([1, 1 / 2, 1 / 3])
        assert [loss.epoch for loss in outputs[-1].validation_loss] == [1, 2, 3]
        assert reconstructor.is_model_loaded()
        names = {path.name for path in (tmp_path / "out").iterdir()}
        assert names == {"model.ckpt", "training_history.csv", "training_history.png"}
        table = (tmp_path / "out" / "training_history.csv").read_text().splitlines()
        assert table[0] == "epoch,train_loss,val_loss"
        assert len(table) == 4
        assert (tmp_path / "out" / "training_history.png").read_bytes().startswith(b"\x89PNG")
        assert sum("Epoch" in record.message for record in log.records) == 3
        assert "left" in log.text
        assert reconstructor.training_curves == {}

    def test_progress_moves_before_the_first_epoch_is_over(
        self, standard_directory: Path, tmp_path: Path, wish: Callable[..., None]
    ) -> None:
        wish(epoch_seconds=1.5)
        outputs = run(pinn(Training_Epochs=2).train(standard_directory, tmp_path / "out"))
        progress = [output.progress for output in outputs]
        assert progress == sorted(progress)
        assert any(0 < output.progress <= 50 for output in outputs if not output.training_loss)

    def test_fewer_probe_modes_than_the_probe_has_are_not_taken_silently(
        self, standard_directory: Path, tmp_path: Path, log: pytest.LogCaptureFixture
    ) -> None:
        trained(standard_directory, tmp_path, Training_ProbeModes=1)
        assert "PtychoPINNPluginTraining.ProbeModes = 1 is below the 2 modes" in log.text
        model = json.loads((tmp_path / "out" / "model.ckpt").read_text())
        assert model["config"]["probe_modes"] == 2

    @pytest.mark.parametrize("modes", [0, 2, 3])
    def test_enough_probe_modes_are_nothing_to_talk_about(
        self, standard_directory: Path, tmp_path: Path, log: pytest.LogCaptureFixture, modes: int
    ) -> None:
        trained(standard_directory, tmp_path, Training_ProbeModes=modes)
        assert "ProbeModes" not in log.text

    def test_takes_size_and_groups_and_photons_from_the_data(
        self, standard_directory: Path, tmp_path: Path
    ) -> None:
        trained(standard_directory, tmp_path, Data_ValidationFraction=0.2)
        model = json.loads((tmp_path / "out" / "model.ckpt").read_text())
        assert model["model"]["N"] == 64
        assert model["model"]["model_type"] == "pinn"
        assert model["groups"] == 24
        assert model["config"]["nphotons"] == pytest.approx(500 * 2 * np.pi * 36, rel=0.05)

    def test_a_setting_takes_effect_at_the_next_run(self, standard_directory: Path, tmp_path: Path) -> None:
        library = make_library(Training_Epochs=2)
        reconstructor = next(iter(library))
        assert len(run(reconstructor.train(standard_directory, tmp_path / "out"))[-1].training_loss) == 2
        library.settings["Training.Epochs"].set_value(4)
        library.settings["Data.NumGroups"].set_value(50)
        library.settings["Model.GridSize"].set_value(2)
        assert len(run(reconstructor.train(standard_directory, tmp_path / "out"))[-1].training_loss) == 4
        model = json.loads((tmp_path / "out" / "model.ckpt").read_text())
        assert (model["groups"], model["data"]["gridsize"]) == (50, 2)

    def test_output_may_be_the_input_directory(self, standard_directory: Path) -> None:
        reconstructor = pinn(Training_Epochs=1)
        run(reconstructor.train(standard_directory, standard_directory))
        run(reconstructor.train(standard_directory, standard_directory))
        assert (standard_directory / "model.ckpt").is_file()

    def test_keeps_yielding_while_the_engine_is_busy(
        self, standard_directory: Path, tmp_path: Path, wish: Callable[..., None]
    ) -> None:
        wish(epoch_seconds=HANGS_S)
        generator = pinn(Training_Epochs=1).train(standard_directory, tmp_path / "out")
        outputs = [next(generator) for _ in range(8)]
        generator.close()
        assert not any(output.training_loss for output in outputs)  # all of them before the first epoch's end

    def test_training_curves_are_there_while_it_runs(
        self, standard_directory: Path, tmp_path: Path, wish: Callable[..., None]
    ) -> None:
        wish(epoch_seconds=0.1)
        reconstructor = pinn(Training_Epochs=3)
        seen = [
            len(reconstructor.training_curves.get("Training", []))
            for _ in reconstructor.train(standard_directory, tmp_path / "out")
        ]
        assert max(seen) == 3

    def test_supervised_learns_from_the_object(self, standard_directory: Path, tmp_path: Path) -> None:
        reconstructor = supervised(Training_Epochs=1)
        run(reconstructor.train(standard_directory, tmp_path / "out"))
        model = json.loads((tmp_path / "out" / "model.ckpt").read_text())
        assert model["model"]["model_type"] == "supervised"
        assert model["config"]["realspace_mae_weight"] == 1.0

    def test_supervised_refuses_a_flat_object(
        self, tmp_path: Path, scan: Callable[..., ReconstructInput]
    ) -> None:
        parameters = scan()
        parameters.product.object_.get_array()[...] = 1.0
        reconstructor = supervised()
        reconstructor.export_training_data(tmp_path / "train_data.npz", parameters)
        with pytest.raises(ValueError, match="is flat"):
            run(reconstructor.train(tmp_path, tmp_path / "out"))


class TestTrainingData:
    def test_exported_data_train(self, tmp_path: Path, scan: Callable[..., ReconstructInput]) -> None:
        (tmp_path / "in").mkdir()
        reconstructor = pinn(Training_Epochs=1)
        reconstructor.export_training_data(tmp_path / "in" / "train_data.npz", scan(30))
        reconstructor.export_training_data(tmp_path / "in" / "test_data.npz", scan(8))
        outputs = run(reconstructor.train(tmp_path / "in", tmp_path / "out"))
        assert len(outputs[-1].validation_loss) == 1
        assert json.loads((tmp_path / "out" / "model.ckpt").read_text())["groups"] == 30

    def test_export_keeps_positions_object_and_bad_pixels(
        self, tmp_path: Path, scan: Callable[..., ReconstructInput]
    ) -> None:
        parameters = scan()
        pinn().export_training_data(tmp_path / "data", parameters)
        raw = RawData.from_file(tmp_path / "data.npz")
        point = parameters.product.probe_positions[7]
        geometry = parameters.product.object_.get_geometry()
        position = geometry.map_coordinates_probe_to_object(point)
        assert (raw.xcoords[7], raw.ycoords[7]) == pytest.approx((position.x_px, position.y_px))
        assert raw.objectGuess is not None
        assert raw.objectGuess.shape == SHAPE
        assert raw.bad_pixels[3, 5]
        good = ~raw.bad_pixels
        counts = parameters.diffraction_patterns[7].astype(float)
        np.testing.assert_allclose(raw.diff3d[7][good] ** 2, counts[good], rtol=1e-5)

    def test_several_files_are_taken_together(
        self, tmp_path: Path, scan: Callable[..., ReconstructInput]
    ) -> None:
        (tmp_path / "in").mkdir()
        reconstructor = pinn(Training_Epochs=1, Model_GridSize=2, Data_ValidationFraction=0.0)
        reconstructor.export_training_data(tmp_path / "in" / "a.npz", scan(20))
        reconstructor.export_training_data(tmp_path / "in" / "b.npz", scan(10))
        run(reconstructor.train(tmp_path / "in", tmp_path / "out"))
        assert json.loads((tmp_path / "out" / "model.ckpt").read_text())["groups"] == 30

    def test_an_epoch_of_a_large_scan_is_no_longer_than_it_need_be(
        self, tmp_path: Path, scan: Callable[..., ReconstructInput], log: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "in").mkdir()
        reconstructor = pinn(Training_Epochs=1, Model_GridSize=2, Data_ValidationFraction=0.0)
        reconstructor.export_training_data(tmp_path / "in" / "a.npz", scan(1200))
        run(reconstructor.train(tmp_path / "in", tmp_path / "out"))
        assert json.loads((tmp_path / "out" / "model.ckpt").read_text())["groups"] == 1000
        assert "Training on 1200 patterns of 64 × 64" in log.text
        assert "in 1 epoch of 1000 groups" in log.text

    def test_no_file_is_left_with_too_few_patterns_for_a_group(
        self, tmp_path: Path, scan: Callable[..., ReconstructInput], log: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "in").mkdir()
        reconstructor = pinn(Training_Epochs=1, Model_GridSize=2, Data_ValidationFraction=0.3)
        for name in ("a", "b", "c"):  # of 5 patterns each: 4 or 5 of one file would be held out
            reconstructor.export_training_data(tmp_path / "in" / f"{name}.npz", scan(5))
        outputs = run(reconstructor.train(tmp_path / "in", tmp_path / "out"))
        assert outputs[-1].validation_loss == []
        assert "too few" in log.text

    def test_files_of_different_sizes_are_refused_by_name(
        self, tmp_path: Path, scan: Callable[..., ReconstructInput]
    ) -> None:
        (tmp_path / "in").mkdir()
        reconstructor = pinn()
        reconstructor.export_training_data(tmp_path / "in" / "a.npz", scan(5))
        reconstructor.export_training_data(tmp_path / "in" / "b.npz", scan(5, 128))
        with pytest.raises(ValueError, match=r"a\.npz holds patterns of 64 × 64 .* b\.npz of 128 × 128"):
            run(reconstructor.train(tmp_path / "in", tmp_path / "out"))

    def test_a_directory_without_data_is_an_error_that_says_what_was_looked_for(self, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        with pytest.raises(FileNotFoundError, match=r"train_data\.npz.*diffraction\.h5"):
            run(pinn().train(tmp_path / "in", tmp_path / "out"))

    def test_other_arrays_in_the_directory_are_passed_over(
        self, standard_directory: Path, tmp_path: Path, log: pytest.LogCaptureFixture
    ) -> None:
        np.savez(standard_directory / "truth.npz", object=np.ones((3, 3)))
        run(pinn(Training_Epochs=1).train(standard_directory, tmp_path / "out"))
        assert "truth.npz holds no training data" in log.text

    def test_a_damaged_file_is_named(self, standard_directory: Path, tmp_path: Path) -> None:
        (standard_directory / "product.h5").write_bytes(b"nonsense")
        with pytest.raises(ValueError, match=r"product\.h5"):
            run(pinn().train(standard_directory, tmp_path / "out"))


class TestStop:
    def test_closing_the_generator_keeps_the_best_model(
        self,
        standard_directory: Path,
        tmp_path: Path,
        wish: Callable[..., None],
        log: pytest.LogCaptureFixture,
    ) -> None:
        wish(epoch_seconds=0.1)
        reconstructor = pinn(Training_Epochs=1000)
        generator = reconstructor.train(standard_directory, tmp_path / "out")
        for output in generator:
            if len(output.training_loss) >= 2:
                break
        generator.close()
        assert reconstructor.is_model_loaded()
        assert (tmp_path / "out" / "model.ckpt").is_file()
        assert (tmp_path / "out" / "training_history.csv").is_file()
        assert "best model so far" in log.text

    def test_stop_is_seen_through_the_task_monitor(
        self, standard_directory: Path, tmp_path: Path, wish: Callable[..., None]
    ) -> None:
        wish(epoch_seconds=0.1)
        reconstructor = pinn(Training_Epochs=1000)
        monitor = Monitor()
        reconstructor.attach_task_monitor(monitor)
        for output in reconstructor.train(standard_directory, tmp_path / "out"):
            monitor.is_stopping = len(output.training_loss) >= 1
        assert reconstructor.is_model_loaded()

    def test_a_stop_of_an_earlier_task_stops_nothing(self, standard_directory: Path, tmp_path: Path) -> None:
        reconstructor = pinn(Training_Epochs=2)
        monitor = Monitor()
        monitor.is_processing, monitor.is_stopping = False, True
        reconstructor.attach_task_monitor(monitor)
        assert len(run(reconstructor.train(standard_directory, tmp_path / "out"))[-1].training_loss) == 2

    def test_closing_the_window_ends_a_training(
        self, standard_directory: Path, tmp_path: Path, wish: Callable[..., None]
    ) -> None:
        wish(epoch_seconds=0.1)
        library = make_library(Training_Epochs=1000)
        reconstructor = next(iter(library))
        for output in reconstructor.train(standard_directory, tmp_path / "out"):
            if output.training_loss:
                library.close()
        assert reconstructor.is_model_loaded()
        with pytest.raises(RuntimeError, match="closing"):
            run(reconstructor.train(standard_directory, tmp_path / "out"))

    def test_an_engine_that_does_not_listen_is_ended(
        self,
        ready: PtychoPINNReconstructor,
        standard_directory: Path,
        tmp_path: Path,
        wish: Callable[..., None],
        monkeypatch: pytest.MonkeyPatch,
        log: pytest.LogCaptureFixture,
    ) -> None:
        earlier = (tmp_path / "out" / "model.ckpt").read_bytes()
        (tmp_path / "out" / "checkpoints").mkdir()
        stale = tmp_path / "out" / "checkpoints" / "best-epoch=0007.ckpt"  # of a run that was killed
        stale.write_bytes(earlier.replace(b"0.5", b"0.7"))
        monkeypatch.setattr("ptychopinn_ptychodus.worker.process.ChildProcess.stop.__defaults__", (1.0,))
        wish(hangs=True)
        reconstructor = pinn()
        generator = reconstructor.train(standard_directory, tmp_path / "out")
        next(generator)
        time.sleep(1.5)
        started = time.monotonic()
        generator.close()
        assert time.monotonic() - started < HANGS_S
        assert (tmp_path / "out" / "model.ckpt").read_bytes() == earlier
        assert stale.is_file()
        assert not reconstructor.is_model_loaded()
        assert "before there was a model" in log.text

    def test_before_anything_is_learnt_nothing_is_waited_for(
        self,
        standard_directory: Path,
        tmp_path: Path,
        wish: Callable[..., None],
        monkeypatch: pytest.MonkeyPatch,
        log: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(process.ChildProcess.stop, "__defaults__", (10 * HANGS_S,))
        wish(hangs=True)
        reconstructor = pinn()
        generator = reconstructor.train(standard_directory, tmp_path / "out")
        next(generator)
        started = time.monotonic()
        generator.close()
        assert time.monotonic() - started < HANGS_S
        assert "before there was a model" in log.text

    def test_its_checkpoint_becomes_the_model(
        self,
        ready: PtychoPINNReconstructor,
        standard_directory: Path,
        tmp_path: Path,
        wish: Callable[..., None],
        monkeypatch: pytest.MonkeyPatch,
        log: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr("ptychopinn_ptychodus.worker.process.ChildProcess.stop.__defaults__", (1.0,))
        wish(hangs=True, checkpoint=True)
        reconstructor = pinn()
        generator = reconstructor.train(standard_directory, tmp_path / "out")
        wait_for(generator, tmp_path / "out" / "checkpoints" / "best-epoch=0000.ckpt")
        generator.close()
        model = tmp_path / "out" / "model.ckpt"
        assert json.loads(model.read_text())["history"] == {"train_loss": [0.5]}
        assert reconstructor.require_model() == model
        (tmp_path / "ordinary").touch()
        assert model.stat().st_mode == (tmp_path / "ordinary").stat().st_mode
        assert not (tmp_path / "out" / "checkpoints").exists()
        assert "best model so far" in log.text

    def test_a_reconstruction_can_be_stopped(
        self,
        ready: PtychoPINNReconstructor,
        scan: Callable[..., ReconstructInput],
        wish: Callable[..., None],
        log: pytest.LogCaptureFixture,
    ) -> None:
        wish(predict_seconds=60)
        monitor = Monitor()
        ready.attach_task_monitor(monitor)
        timer = threading.Timer(2.0, lambda: setattr(monitor, "is_stopping", True))
        timer.start()
        assert run(ready.reconstruct(scan())) == []
        assert "stopped" in log.text


class TestReconstruction:
    @pytest.mark.parametrize("gridsize", [1, 2])
    def test_one_output_on_the_grid_of_the_product(
        self, standard_directory: Path, tmp_path: Path, scan: Callable[..., ReconstructInput], gridsize: int
    ) -> None:
        reconstructor = trained(standard_directory, tmp_path, Model_GridSize=gridsize)
        monitor = Monitor()
        reconstructor.attach_task_monitor(monitor)
        parameters = scan()
        (output,) = run(reconstructor.reconstruct(parameters))
        before, after = parameters.product, output.product
        assert output.progress == 100
        assert after.object_.get_array().shape == (1, *SHAPE)
        assert after.object_.get_center() == CENTER
        assert after.object_.get_pixel_geometry() == before.object_.get_pixel_geometry()
        assert after.object_.dtype == before.object_.dtype
        assert after.probe_positions is before.probe_positions
        assert dataclasses.replace(after.metadata, comments=before.metadata.comments) == before.metadata
        assert after.probes.get_array().shape == (1, 2, 64, 64)
        assert after.probes.dtype == before.probes.dtype
        np.testing.assert_allclose(
            after.probes.get_array(), fake_engine.PROBE_FACTOR * before.probes.get_array(), rtol=1e-5
        )
        assert after.object_.get_array()[0, 50, 60] == pytest.approx(fake_engine.VALUE, abs=1e-4)
        assert len(after.losses) == 3
        assert monitor.progress
        assert all(goal == 100 and 0 <= value < 100 for value, goal in monitor.progress)

    def test_a_new_reconstructor_reads_the_model_file(
        self, ready: PtychoPINNReconstructor, tmp_path: Path, scan: Callable[..., ReconstructInput]
    ) -> None:
        reconstructor = pinn()
        assert not reconstructor.is_model_loaded()
        reconstructor.load_model_from_file(tmp_path / "out" / "model.ckpt")
        assert reconstructor.is_model_loaded()
        assert len(run(reconstructor.reconstruct(scan()))) == 1

    def test_without_a_model_the_error_says_how_to_get_one(
        self, scan: Callable[..., ReconstructInput]
    ) -> None:
        with pytest.raises(RuntimeError, match=r"Train one, or load .*model\.ckpt.*\.Backend decides"):
            run(pinn().reconstruct(scan()))

    def test_a_model_file_that_went_away(
        self, ready: PtychoPINNReconstructor, tmp_path: Path, scan: Callable[..., ReconstructInput]
    ) -> None:
        (tmp_path / "out" / "model.ckpt").unlink()
        assert ready.is_model_loaded()
        with pytest.raises(FileNotFoundError, match="no longer there"):
            run(ready.reconstruct(scan()))

    def test_a_model_for_another_pattern_size_names_both(
        self, ready: PtychoPINNReconstructor, scan: Callable[..., ReconstructInput]
    ) -> None:
        with pytest.raises(ModelFileError, match=r"N = 64 .* N = 128"):
            run(ready.reconstruct(scan(6, 128)))

    @pytest.mark.parametrize("architecture", ["unrolled", "cnn"])
    def test_a_model_for_any_probe_is_for_other_sizes_if_its_network_is(
        self,
        ready: PtychoPINNReconstructor,
        tmp_path: Path,
        scan: Callable[..., ReconstructInput],
        architecture: str,
    ) -> None:
        path = tmp_path / "out" / "model.ckpt"
        content = json.loads(path.read_text())
        content["data"]["any_probe"] = True
        content["model"]["architecture"] = architecture
        path.write_text(json.dumps(content))
        if architecture == "unrolled":
            (output,) = run(ready.reconstruct(scan(12, 128)))
            assert output.product.probes.get_array().shape[-2:] == (128, 128)
            return
        with pytest.raises(ModelFileError, match=r"N = 64 .* N = 128"):
            run(ready.reconstruct(scan(12, 128)))

    def test_several_layers_are_refused(
        self, ready: PtychoPINNReconstructor, scan: Callable[..., ReconstructInput]
    ) -> None:
        with pytest.raises(ValueError, match="2 layers"):
            run(ready.reconstruct(scan(layers=2)))

    def test_opr_modes_are_left_out_with_a_note(
        self,
        ready: PtychoPINNReconstructor,
        scan: Callable[..., ReconstructInput],
        log: pytest.LogCaptureFixture,
    ) -> None:
        (output,) = run(ready.reconstruct(scan(opr=3)))
        assert output.product.probes.get_array().shape == (1, 2, 64, 64)
        assert output.product.probes.get_opr_weights_or_none() is None
        assert "OPR" in log.text

    def test_positions_beyond_the_object_are_refused(
        self, ready: PtychoPINNReconstructor, scan: Callable[..., ReconstructInput]
    ) -> None:
        parameters = scan()
        parameters.product.probe_positions._coordinates_m[3] += 1e-5
        with pytest.raises(ValueError, match="outside"):
            run(ready.reconstruct(parameters))

    def test_an_error_of_the_engine_arrives_as_itself(
        self,
        ready: PtychoPINNReconstructor,
        scan: Callable[..., ReconstructInput],
        wish: Callable[..., None],
        log: pytest.LogCaptureFixture,
    ) -> None:
        wish(fails_to_predict=True)
        with pytest.raises(ModelFileError, match="as the test asked"):
            run(ready.reconstruct(scan()))
        assert "Reconstruction failed: as the test asked" in log.text

    def test_a_model_of_the_other_reconstructor_is_applied_with_a_warning(
        self,
        ready: PtychoPINNReconstructor,
        tmp_path: Path,
        scan: Callable[..., ReconstructInput],
        log: pytest.LogCaptureFixture,
    ) -> None:
        reconstructor = supervised()
        reconstructor.load_model_from_file(tmp_path / "out" / "model.ckpt")
        assert len(run(reconstructor.reconstruct(scan()))) == 1
        assert 'trained as "pinn"' in log.text


class TestModelFiles:
    def test_save_copies_the_model(self, ready: PtychoPINNReconstructor, tmp_path: Path) -> None:
        ready.save_model(tmp_path / "copy.ckpt")
        assert (tmp_path / "copy.ckpt").read_bytes() == (tmp_path / "out" / "model.ckpt").read_bytes()
        ready.save_model(tmp_path / "out" / "model.ckpt")
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []

    def test_save_without_a_model(self, tmp_path: Path) -> None:
        with pytest.raises(RuntimeError, match="no model"):
            pinn().save_model(tmp_path / "copy.ckpt")

    def test_a_file_that_is_no_model_is_refused_and_the_model_stays(
        self, ready: PtychoPINNReconstructor, tmp_path: Path, scan: Callable[..., ReconstructInput]
    ) -> None:
        (tmp_path / "bad.ckpt").write_bytes(b"nonsense")
        with pytest.raises(ModelFileError, match=r"bad\.ckpt"):
            ready.load_model_from_file(tmp_path / "bad.ckpt")
        with pytest.raises(FileNotFoundError, match=r"none\.ckpt"):
            ready.load_model_from_file(tmp_path / "none.ckpt")
        assert len(run(ready.reconstruct(scan()))) == 1


class TestFailures:
    @pytest.mark.parametrize(
        "name", ["ValueError", "FileNotFoundError", "MemoryError", "RuntimeError", "OSError", "KeyError"]
    )
    def test_exceptions_arrive_as_themselves_and_in_the_log(
        self,
        standard_directory: Path,
        tmp_path: Path,
        wish: Callable[..., None],
        log: pytest.LogCaptureFixture,
        name: str,
    ) -> None:
        wish(raises=name)
        with pytest.raises(Exception, match="as the test asked") as caught:
            run(pinn().train(standard_directory, tmp_path / "out"))
        assert type(caught.value).__name__ == name
        assert "Training failed" in log.text

    def test_an_exception_of_a_framework_becomes_what_it_derives_from(
        self, standard_directory: Path, tmp_path: Path, wish: Callable[..., None]
    ) -> None:
        wish(raises="FrameworkError")
        with pytest.raises(RuntimeError, match="OutOfMemoryError: CUDA out of memory"):
            run(pinn().train(standard_directory, tmp_path / "out"))

    @pytest.mark.parametrize("has_children", [False, True])
    def test_a_killed_worker_is_an_error_at_once(
        self,
        standard_directory: Path,
        tmp_path: Path,
        wish: Callable[..., None],
        has_children: bool,
        log: pytest.LogCaptureFixture,
    ) -> None:
        wish(epoch_seconds=0.1, has_children=has_children, checkpoint=True)
        children = []
        original = process.ChildProcess.start

        def start(self: process.ChildProcess, job: Job) -> None:
            original(self, job)
            children.append(self.pid)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(process.ChildProcess, "start", start)
            reconstructor = pinn(Training_Epochs=1000)
            generator = reconstructor.train(standard_directory, tmp_path / "out")
            for output in generator:
                if output.training_loss:
                    break
        killed = time.monotonic()
        assert children[0] is not None
        os.kill(children[0], signal.SIGKILL)
        with pytest.raises(ChildDiedError, match=r"SIGKILL.*memory"):
            run(generator)
        assert time.monotonic() - killed < HANGS_S  # its children live longer
        assert "best-epoch=0000.ckpt" in log.text
        assert not (tmp_path / "out" / "model.ckpt").exists()
        assert not reconstructor.is_model_loaded()

    def test_a_failure_leaves_the_earlier_model_and_names_the_checkpoint(
        self,
        ready: PtychoPINNReconstructor,
        standard_directory: Path,
        tmp_path: Path,
        wish: Callable[..., None],
        log: pytest.LogCaptureFixture,
    ) -> None:
        ready.save_model(tmp_path / "earlier.ckpt")
        ready.load_model_from_file(tmp_path / "earlier.ckpt")
        earlier = (tmp_path / "out" / "model.ckpt").read_bytes()
        wish(raises="MemoryError", checkpoint=True)
        with pytest.raises(MemoryError):
            run(ready.train(standard_directory, tmp_path / "out"))
        checkpoint = tmp_path / "out" / "checkpoints" / "best-epoch=0000.ckpt"
        assert f'left its best state in "{checkpoint}"' in log.text
        assert (tmp_path / "out" / "model.ckpt").read_bytes() == earlier
        assert ready.require_model() == tmp_path / "earlier.ckpt"
        ready.load_model_from_file(checkpoint)  # it is there, and a model

    def test_stray_output_of_libraries_is_no_message(
        self,
        standard_directory: Path,
        tmp_path: Path,
        wish: Callable[..., None],
        log: pytest.LogCaptureFixture,
    ) -> None:
        wish(prints=True)
        reconstructor = pinn(Training_Epochs=2)
        outputs = run(reconstructor.train(standard_directory, tmp_path / "out"))
        assert len(outputs[-1].training_loss) == 2
        assert "some.framework: framework warning" in log.text
        assert "chatter" not in log.text

    def test_output_that_cannot_be_written_is_an_error_before_training(
        self, standard_directory: Path, tmp_path: Path, no_worker: None
    ) -> None:
        (tmp_path / "out").write_text("a file, where a directory is needed")
        with pytest.raises(OSError, match="cannot be written"):
            run(pinn().train(standard_directory, tmp_path / "out"))

    def test_history_that_cannot_be_written_does_not_spoil_the_model(
        self, standard_directory: Path, tmp_path: Path, log: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "out" / "training_history.csv").mkdir(parents=True)
        reconstructor = trained(standard_directory, tmp_path)
        assert reconstructor.is_model_loaded()
        assert "history was not written" in log.text

    @pytest.mark.parametrize(
        ("setting", "value", "message"),
        [
            ("Model_Backend", "jax", r"PtychoPINNPluginModel\.Backend = 'jax'"),
            ("Model_Architecture", "vit", r"PtychoPINNPluginModel\.Architecture = 'vit'"),
            ("Model_AmplitudeActivation", "tanh", r"PtychoPINNPluginModel\.AmplitudeActivation"),
            ("Training_Epochs", 0, r"PtychoPINNPluginTraining\.Epochs = 0"),
            ("Training_LearningRate", 0.0, r"PtychoPINNPluginTraining\.LearningRate = 0"),
            ("Training_Scheduler", "wild", r"PtychoPINNPluginTraining\.Scheduler"),
            ("Training_NLLWeight", 0.0, "nothing to learn from: set NLLWeight"),
            ("Training_Precision", "8", r"PtychoPINNPluginTraining\.Precision"),
            ("Model_PadObject", False, r"PtychoPINNPluginModel\.PadObject = False"),
            ("Data_ValidationFraction", 1.5, r"PtychoPINNPluginData\.ValidationFraction = 1.5"),
            ("Data_NeighborCount", 2, r"PtychoPINNPluginData\.NeighborCount = 2 .* at least 3"),
        ],
    )
    def test_a_bad_setting_is_named_before_anything_starts(
        self,
        standard_directory: Path,
        tmp_path: Path,
        no_worker: None,
        setting: str,
        value: str | float | bool,
        message: str,
    ) -> None:
        with pytest.raises(ValueError, match=message):
            run(pinn(**{setting: value}).train(standard_directory, tmp_path / "out"))
