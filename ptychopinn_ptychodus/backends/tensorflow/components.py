"""The TensorFlow workflow in the shape that scripts use: training, a whole run, opening a model.

What may be handed over as data is said in :mod:`..workflow`. Whoever calls one of these functions has chosen
the engine: a configuration's ``backend`` is for the dispatcher in front of the engines.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...config import ExecutionConfig, InferenceConfig, TrainingConfig
from ...data.container import PtychoDataContainer
from .. import workflow
from ..base import Prediction, require_window
from ..reporter import TrainingReporter
from ..workflow import Data
from .framework import FRAMEWORK
from .names import BUNDLE_NAME, NAME


def _train_with_keras(
    train_container: Data,
    test_container: Data | None,
    config: TrainingConfig,
    execution_config: ExecutionConfig | None = None,
    reporter: TrainingReporter | None = None,
) -> dict[str, Any]:
    """Train a fresh model with ``keras.Model.fit``.

    Returns
    -------
    ``history`` (``train_loss`` and ``val_loss`` lists), ``train_container`` and ``test_container`` (the very
    objects that were handed in), ``containers`` (both of them as grouped data), ``models`` (``autoencoder``
    and ``diffraction_to_obj``, at their best state), ``best_state``, which holds the checkpoints, and, with
    ``logger_backend = 'mlflow'``, ``mlflow_run``; and ``group``, the processes that have trained together.

    Raises
    ------
    RuntimeError
        If the framework is missing or broken, or training fails; the message says what to do.
    ValueError
        If data and configuration do not fit each other, or this engine lacks what ``execution_config`` asks.
    """
    FRAMEWORK.load()
    from . import training
    from .inference import require_supported

    execution = execution_config or ExecutionConfig()
    require_supported(execution)
    train, test = workflow.as_containers(train_container, test_container, config)
    trained = training.train(train, test, config, execution, reporter or TrainingReporter())
    results = {
        "history": trained.history,
        "train_container": train_container,
        "test_container": test_container,
        "containers": (train, test),
        "models": {"autoencoder": trained.model, "diffraction_to_obj": trained.model.diffraction_to_obj},
        "best_state": trained.best,
        "group": trained.group,
    }
    return results if trained.run is None else {**results, "mlflow_run": trained.run}


def train_cdi_model(
    train_data: Data | None,
    test_data: Data | None,
    config: TrainingConfig,
    execution_config: ExecutionConfig | None = None,
) -> dict[str, Any]:
    """As :func:`_train_with_keras`, and leave the model in ``config.output_dir``.

    Data that are None are read from ``config.train_data_file`` and ``config.test_data_file``, NPZ files.

    Raises
    ------
    FileNotFoundError
        If there are no training data, or a file that the configuration names is missing.
    """
    FRAMEWORK.load()
    from .training import keep_model

    train, test = workflow.training_data(train_data, test_data, config)
    results = _train_with_keras(train, test, config, execution_config)
    results["model_path"] = keep_model(
        results["models"]["autoencoder"],
        Path(config.output_dir) / BUNDLE_NAME,
        results.get("mlflow_run"),
        results["group"],
    )
    return results


def run_cdi_example(
    train_data: Data | None,
    test_data: Data | None,
    config: TrainingConfig,
    flip_x: bool = False,
    flip_y: bool = False,
    transpose: bool = False,
    M: int = 20,
    do_stitching: bool = False,
    execution_config: ExecutionConfig | None = None,
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None, dict[str, Any]]:
    """Train, and with ``do_stitching`` reconstruct the test data (else the training data).

    Parameters
    ----------
    flip_x, flip_y, transpose
        Applied to the stitched object, in this order: transpose, then flips.
    M
        Stitch the central M × M pixels of each patch; 0 stands for the whole patch, weighted by illumination.

    Returns
    -------
    Amplitude and phase images (None without stitching) and the results of :func:`train_cdi_model`.
    """
    require_window(M, config.model.N, "M")
    results = train_cdi_model(train_data, test_data, config, execution_config)
    if not do_stitching:
        return None, None, results
    from .inference import predict

    model, execution = results["models"]["autoencoder"], execution_config or ExecutionConfig()
    return workflow.with_images(
        results,
        config,
        lambda container: predict(model, container, execution),
        window=M,
        flip_x=flip_x,
        flip_y=flip_y,
        transpose=transpose,
    )


def reconstruct_cdi(
    config: InferenceConfig, execution_config: ExecutionConfig | None = None
) -> tuple[NDArray[np.complex64], dict[str, Any]]:
    """Apply ``config.model_path`` to the scan in ``config.test_data_file``, an NPZ file.

    Leaves ``reconstruction.npz`` in ``config.output_dir``: ``object`` (H, W) complex64, ``origin`` ``[x, y]``
    of its first pixel in the pixels of the scan's positions, ``probe``, and, with ``debug``, ``patches``.

    Returns
    -------
    The object, and what the file holds besides it.

    Raises
    ------
    FileNotFoundError
        If the configuration names no model or no data, or they are not there.
    """

    def predict(path: Path, container: PtychoDataContainer, execution: ExecutionConfig) -> Prediction:
        FRAMEWORK.load()
        from .inference import predict_with

        return predict_with(path, container, execution)

    return workflow.reconstruct_cdi(NAME, predict, config, execution_config, BUNDLE_NAME)


def load_inference_bundle(
    bundle_dir: str | Path,
    config: TrainingConfig | InferenceConfig | None = None,
    model_name: str = "diffraction_to_obj",
) -> tuple[Any, dict[str, Any]]:
    """Open a trained model of either engine: ``(model, params)``, a Keras model.

    ``params`` holds the configuration and frozen statistics as plain dictionaries.

    Raises
    ------
    FileNotFoundError
        If ``bundle_dir`` holds no model (it may also be the file itself).
    ModelFileError
        If the file cannot be opened, or ``config`` asks for another N or gridsize.
    """
    FRAMEWORK.load()
    from .module import PtychoPINN_TensorFlow

    path, state = workflow.open_bundle(bundle_dir, config, model_name, BUNDLE_NAME, NAME)
    model = PtychoPINN_TensorFlow.from_state(state, path)
    opened = model if model_name == "autoencoder" else model.diffraction_to_obj
    return opened, workflow.parameters(state, config)
