"""The record of a training run that ``logger_backend = 'mlflow'`` keeps, the same for every engine.

Runs are kept in a SQLite database in the output directory: MLflow 3 refuses its former store, a tree of plain
files, unless an environment variable is set, and all versions that the extra ``mlflow`` installs read a
database. ``mlflow ui --backend-store-uri sqlite:///…/mlflow.db`` shows it.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import to_dict
from ..data.container import PtychoDataContainer
from ..data.display import centred_phase, grey_levels
from . import MLFLOW_HINT
from .base import Prediction
from .framework import one_line
from .reporter import TrainingReporter

logger = logging.getLogger(__name__)

DATABASE = "mlflow.db"
ARTIFACTS = "mlflow_artifacts"
"""What lies in the output directory."""

PICTURE = "object.png"
"""Name of the picture among a run's artifacts."""

MODEL_PATH = "model_path"
"""Name of the tag that says where the model file is."""

_NEEDED = ("mlflow", "sqlalchemy", "alembic")  # mlflow-skinny alone, which Ptychodus brings, has no database
_GAP_PX = 8
_MOST_AT_ONCE = 100  # parameters in one request to MLflow


@dataclass(frozen=True)
class MlflowRun:
    """One run in one store. Plain strings, so that a process of a training's own can be given it.

    Attributes
    ----------
    store
        MLflow's tracking URI, ``sqlite:///…/mlflow.db``.
    run_id
        MLflow's name of the run.
    """

    store: str
    run_id: str

    @classmethod
    def start(cls, output_dir: Path, *configs: object) -> MlflowRun:
        """A new run in ``output_dir``, with every field of ``configs`` as a parameter (``Class.field``).

        Raises
        ------
        RuntimeError
            If MLflow is not installed, cannot be imported, or cannot write there; the message says what to
            do.
        ValueError
            If the name of the directory holds a question mark.
        """
        directory = output_dir.absolute()
        if "?" in str(directory):
            raise ValueError(
                f'logger_backend = \'mlflow\' cannot keep its database in "{directory}": what follows a "?" '
                "is no part of a database's address. Use another output directory, or choose 'csv'."
            )
        try:
            directory.mkdir(parents=True, exist_ok=True)
            store = f"sqlite:///{(directory / DATABASE).as_posix()}"
            client = _client(store)
            # artifacts lie where the experiment was begun: an output directory that was moved begins another
            name = f"ptychopinn-ptychodus: {directory}"
            found = client.get_experiment_by_name(name)
            experiment = (
                client.create_experiment(name, (directory / ARTIFACTS).as_uri())
                if found is None
                else found.experiment_id
            )
            run = cls(store, client.create_run(experiment).info.run_id)
            run._parameters(configs)
        except _Missing:
            raise
        except Exception as exc:  # MLflow's, the database's and the file system's
            raise RuntimeError(
                f"MLflow cannot keep a run in {directory} ({one_line(exc)}). Remove {DATABASE} there if "
                "another version of MLflow wrote it, or set logger_backend to 'csv'."
            ) from exc
        return run

    def _parameters(self, configs: tuple[object, ...]) -> None:
        from mlflow.entities import Param

        values = {
            f"{type(config).__name__}.{name}": value
            for config in configs
            for name, value in to_dict(config).items()
            if not isinstance(value, Mapping)  # the model's, which comes by itself
        }
        parameters = [Param(name, str(value)) for name, value in values.items()]
        for first in range(0, len(parameters), _MOST_AT_ONCE):
            _client(self.store).log_batch(self.run_id, params=parameters[first : first + _MOST_AT_ONCE])

    def losses(self, epoch: int, losses: Mapping[str, float]) -> None:
        """What an epoch (they are counted from 1) has come to."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(name, float(value), now, epoch) for name, value in losses.items()]
        _client(self.store).log_batch(self.run_id, metrics=metrics)

    def model(self, path: Path) -> None:
        """Where the model file is."""
        _client(self.store).set_tag(self.run_id, MODEL_PATH, str(path.absolute()))

    def picture(self, image: NDArray[np.complexfloating]) -> None:
        """The object (H, W): amplitude and phase, side by side."""
        panels = grey_levels(np.abs(image)), grey_levels(centred_phase(image))
        gap = np.full((len(image), _GAP_PX), 255, np.uint8)
        picture = np.hstack((panels[0], gap, panels[1]))
        _client(self.store).log_image(self.run_id, np.repeat(picture[..., None], 3, -1), PICTURE)

    def finish(self, status: str) -> None:
        """Set MLflow's status: ``FINISHED``, ``KILLED`` (by Stop) or ``FAILED``."""
        _client(self.store).set_terminated(self.run_id, status)


@contextmanager
def recorded(
    wanted: bool, output_dir: Path, *configs: object, reporter: TrainingReporter
) -> Iterator[MlflowRun | None]:
    """A run for the time of a training; None unless ``wanted``. How the training ends is its status."""
    if not wanted:
        yield None
        return
    run = MlflowRun.start(output_dir, *configs)
    try:
        yield run
    except BaseException:
        run.finish("FAILED")
        raise
    run.finish("KILLED" if reporter.stopped else "FINISHED")


def show(
    run: MlflowRun, predict: Callable[[PtychoDataContainer], Prediction], container: PtychoDataContainer
) -> None:
    """Add a picture of the object that a trained model finds in ``container``.

    Whatever is in its way is a warning: the model is worth more than its picture.
    """
    try:
        if container.probes is not None:
            raise ValueError("the patterns are of several objects")
        run.picture(predict(container).stitch(container).object)
    except Exception as exc:
        logger.warning("MLflow gets no picture of the object: %s", one_line(exc))


class _Missing(RuntimeError):
    """MLflow is not there, or broken."""


def _client(store: str) -> Any:
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise _Missing(
            f"logger_backend = 'mlflow' needs {', '.join(missing)}, not installed: {MLFLOW_HINT}, "
            "or choose 'csv'."
        )
    # a training at a beamline reports to nobody
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # the making of the database is of no interest to users
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        from mlflow.tracking import MlflowClient
    except Exception as exc:  # a version that does not fit has many ways to fail
        raise _Missing(
            f"logger_backend = 'mlflow' needs mlflow, which is installed and cannot be imported "
            f"({one_line(exc)}): {MLFLOW_HINT}, or choose 'csv'."
        ) from exc
    return MlflowClient(tracking_uri=store)
