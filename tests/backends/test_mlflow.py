"""A training that MLflow keeps a record of, read from the store as MLflow's own tools read it."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from engine_support import QUICK, Bench
from PIL import Image

from ptychopinn_ptychodus.backends import mlflow_run
from ptychopinn_ptychodus.backends.base import Engine
from ptychopinn_ptychodus.data.raw import RawData

pytestmark = pytest.mark.filterwarnings("ignore:.*run_functions_eagerly")

MLFLOW = replace(QUICK, logger_backend="mlflow")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_ALLOW_FILE_STORE", "MLFLOW_DISABLE_TELEMETRY"):
        monkeypatch.delenv(name, raising=False)


def test_parameters_losses_model_and_picture_are_in_the_store(bench: Bench) -> None:
    from mlflow.tracking import MlflowClient

    result = bench.train(MLFLOW, validation=bench.groups(count=6), nepochs=2)
    client = MlflowClient(f"sqlite:///{bench.directory / mlflow_run.DATABASE}")
    [experiment] = [found for found in client.search_experiments() if found.name != "Default"]
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    expected = {
        "TrainingConfig.nepochs": "2",
        "TrainingConfig.backend": bench.engine.name,
        "ModelConfig.N": "64",
        "DataConfig.probe_modes": "1",
        "InferenceConfig.neighbor_count": "4",
        "ExecutionConfig.learning_rate": str(MLFLOW.learning_rate),
    }
    assert expected.items() <= run.data.params.items()
    for name in ("train_loss", "val_loss"):
        found = client.get_metric_history(run.info.run_id, name)
        losses = result.history[name]
        assert [metric.step for metric in found] == list(range(1, len(losses) + 1))
        assert [metric.value for metric in found] == pytest.approx(losses)
    assert run.data.tags[mlflow_run.MODEL_PATH] == str(bench.model_path)
    assert [found.path for found in client.list_artifacts(run.info.run_id)] == [mlflow_run.PICTURE]
    [path] = (bench.directory / mlflow_run.ARTIFACTS).rglob(mlflow_run.PICTURE)
    picture = np.asarray(Image.open(path))
    height, width = picture.shape[:2]
    assert width > 2 * 64 < 2 * height  # amplitude and phase of more than one pattern's width
    assert np.ptp(picture[:, : width // 2]) > 100


def test_a_training_that_fails_is_recorded_as_such(
    bench: Bench, scan: RawData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that cannot be shown trains all the same."""
    kept: dict[str, object] = {"statuses": []}

    class Silent(mlflow_run.MlflowRun):  # the database is the other test's subject, and takes seconds to make
        def losses(self, epoch: int, losses: object) -> None:
            if kept.get("full"):
                raise OSError(28, "No space left on device")

        def model(self, path: Path) -> None:
            kept["path"] = path

        def picture(self, image: object) -> None:
            raise RuntimeError("no colours left")

        def finish(self, status: str) -> None:
            kept["statuses"].append(status)  # type: ignore[attr-defined]

    monkeypatch.setattr(mlflow_run.MlflowRun, "start", lambda *_: Silent("", ""))
    bench.train(MLFLOW)
    kept["full"] = True
    with pytest.raises(OSError, match="No space"):
        bench.train(MLFLOW)
    answers = iter([False, False, True])
    kept["full"] = False
    bench.train(MLFLOW, hooks={"should_stop": lambda: next(answers)})
    assert kept["statuses"] == ["FINISHED", "FAILED", "KILLED"]
    assert kept["path"] == bench.model_path


def test_without_its_packages_the_error_says_what_to_install(
    engine: Engine, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_for = "ptychopinn_ptychodus.backends.mlflow_run.find_spec"
    monkeypatch.setattr(looked_for, lambda name: None if name == "alembic" else find_spec(name))
    with pytest.raises(RuntimeError, match=r"alembic.*ptychopinn-ptychodus\[mlflow\]"):
        bench.train(MLFLOW)


def test_a_directory_that_no_database_can_lie_in_is_refused() -> None:
    with pytest.raises(ValueError, match=r"/why\?/here.*another output directory"):
        mlflow_run.MlflowRun.start(Path("/why?/here"))
