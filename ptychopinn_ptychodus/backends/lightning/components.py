"""The Lightning workflow in the shape that scripts use: loaders, training, a whole run, opening a model.

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
from .names import MODEL_NAME, NAME


def _build_lightning_dataloaders(
    train_container: Data,
    test_container: Data | None,
    config: TrainingConfig,
    execution_config: ExecutionConfig | None = None,
) -> tuple[Any, Any]:
    """Training and validation loaders (the latter None without a test container) of TensorDict batches."""
    FRAMEWORK.load()
    from .loaders import build_loaders

    train, test = workflow.as_containers(train_container, test_container, config)
    return build_loaders(train, test, config, execution_config or ExecutionConfig())


def _train_with_lightning(
    train_container: Data,
    test_container: Data | None,
    config: TrainingConfig,
    execution_config: ExecutionConfig | None = None,
    reporter: TrainingReporter | None = None,
) -> dict[str, Any]:
    """Train a fresh model with ``lightning.pytorch.Trainer``.

    Module and trainer are looked up now, as ``PtychoPINN_Lightning`` in :mod:`.module` and ``Trainer`` in
    ``lightning.pytorch``, and may be anything that is used like them: the first is called with the model,
    data, training and inference configuration and nothing else, and what is asked of it afterwards every
    ``LightningModule`` has. If it has a method ``prepare_training`` (see ours), it gets the rest by that.

    Returns
    -------
    ``history`` (lists ``train_loss`` and ``val_loss``, empty where the module logs none), ``train_container``
    and ``test_container`` (the very objects that were handed in), ``containers`` (both of them as grouped
    data), ``models`` (with ``lightning_module``; ours is at its best state), ``trainer``, and, with
    ``logger_backend = 'mlflow'``, ``mlflow_run``.

    Raises
    ------
    RuntimeError
        If the framework is missing or broken, or training fails; the message says what to do.
    ValueError
        If data and configuration do not fit each other.
    """
    FRAMEWORK.load()
    from . import training

    train, test = workflow.as_containers(train_container, test_container, config)
    trained = training.train(
        train,
        test,
        config,
        execution_config or ExecutionConfig(),
        reporter or TrainingReporter(),
        build=_build_lightning_dataloaders,
    )
    module = trained.module
    results = {
        "history": trained.history,
        "train_container": train_container,
        "test_container": test_container,
        "containers": (train, test),
        "models": {"lightning_module": module, "autoencoder": module, "diffraction_to_obj": module},
        "trainer": trained.trainer,
    }
    return results if trained.run is None else {**results, "mlflow_run": trained.run}


def train_cdi_model_torch(
    train_data: Data | None,
    test_data: Data | None,
    config: TrainingConfig,
    execution_config: ExecutionConfig | None = None,
) -> dict[str, Any]:
    """As :func:`_train_with_lightning`, and leave the model in ``config.output_dir``.

    Data that are None are read from ``config.train_data_file`` and ``config.test_data_file``, NPZ files.

    Raises
    ------
    FileNotFoundError
        If there are no training data, or a file that the configuration names is missing.
    """
    FRAMEWORK.load()
    from .training import keep_model

    train, test = workflow.training_data(train_data, test_data, config)
    results = _train_with_lightning(train, test, config, execution_config)
    results["model_path"] = keep_model(
        results["models"]["lightning_module"],
        results["trainer"],
        Path(config.output_dir) / MODEL_NAME,
        results.get("mlflow_run"),
    )
    return results


def run_cdi_example_torch(
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
    Amplitude and phase images (None without stitching) and the results of :func:`train_cdi_model_torch`.
    """
    require_window(M, config.model.N, "M")
    results = train_cdi_model_torch(train_data, test_data, config, execution_config)
    if not do_stitching:
        return None, None, results
    from .inference import predict
    from .training import is_own

    module, execution = results["models"]["diffraction_to_obj"], execution_config or ExecutionConfig()
    if not is_own(module):
        raise RuntimeError(
            f"{type(module).__name__} was trained, but cannot be applied to be stitched: use "
            "PtychoPINN_Lightning or a subclass of it, or do_stitching=False."
        )
    return workflow.with_images(
        results,
        config,
        lambda container: predict(module, container, execution),
        window=M,
        flip_x=flip_x,
        flip_y=flip_y,
        transpose=transpose,
    )


def reconstruct_cdi_torch(
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

    return workflow.reconstruct_cdi(NAME, predict, config, execution_config, MODEL_NAME)


def load_inference_bundle_torch(
    bundle_dir: str | Path,
    config: TrainingConfig | InferenceConfig | None = None,
    model_name: str = "diffraction_to_obj",
) -> tuple[Any, dict[str, Any]]:
    """Open a trained model of either engine: ``(module, params)``.

    The module is both models, ``diffraction_to_obj`` (it is called) and ``autoencoder`` (its
    ``expected_counts``). ``params`` holds the configuration and frozen statistics as plain dictionaries.

    Raises
    ------
    FileNotFoundError
        If ``bundle_dir`` holds no model (it may also be the file itself).
    ModelFileError
        If the file cannot be opened, or ``config`` asks for another N or gridsize.
    """
    FRAMEWORK.load()
    from .module import PtychoPINN_Lightning

    path, state = workflow.open_bundle(bundle_dir, config, model_name, MODEL_NAME, NAME)
    return PtychoPINN_Lightning.from_state(state, path), workflow.parameters(state, config)
