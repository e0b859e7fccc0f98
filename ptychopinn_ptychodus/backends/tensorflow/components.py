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
from .. import workflow
from ..base import Progress
from ..mlflow_run import recorded, show
from ..workflow import Data
from .engine import TensorFlowEngine

BUNDLE_NAME = "wts.h5.zip"
"""What a run leaves in its output directory."""


def _train_with_keras(
    train_container: Data,
    test_container: Data | None,
    config: TrainingConfig,
    execution_config: ExecutionConfig | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train a fresh model with ``keras.Model.fit``.

    Returns
    -------
    ``history`` (``train_loss`` and ``val_loss`` lists), ``train_container`` and ``test_container`` (the very
    objects that were handed in), ``groups`` (both of them grouped), ``models`` (``autoencoder`` and
    ``diffraction_to_obj``, at their best state), ``best_state``, which holds the checkpoints, and, with
    ``logger_backend = 'mlflow'``, ``mlflow_run``.

    Raises
    ------
    RuntimeError
        If the framework is missing or broken, or training fails; the message says what to do.
    ValueError
        If data and configuration do not fit each other, or this engine lacks what ``execution_config`` asks.
    """
    TensorFlowEngine().load()
    import keras
    import tensorflow as tf

    from .inference import on_device, predict, require_supported
    from .loaders import build_dataset
    from .module import PtychoPINN_TensorFlow
    from .training import fit

    execution, progress = execution_config or ExecutionConfig(), progress or Progress()
    require_supported(execution)
    train, test = workflow.as_containers(train_container, test_container, config)
    if execution.deterministic:
        tf.config.experimental.enable_op_determinism()
    if config.seed is not None:
        keras.utils.set_random_seed(config.seed)
    # the test data are seen through the training data's normalisation: it is part of the model
    scale, with_object = train.input_scale, config.realspace_mae_weight > 0
    train_data = build_dataset(
        train,
        scale,
        config.batch_size,
        execution,
        with_object=with_object,
        shuffle=not config.sequential_sampling,
        seed=config.seed,
    )
    test_data = None
    if test is not None:
        test_data = build_dataset(test, scale, config.batch_size, execution, with_object=with_object)
    # the weights, too, belong where they are used
    with on_device(execution.accelerator):
        model = PtychoPINN_TensorFlow.for_data(train, config, execution)
        configs = (config.model, model.data_config, config, InferenceConfig(model=config.model), execution)
        logged = execution.logger_backend == "mlflow"
        with recorded(logged, config.output_dir, *configs, progress=progress) as run:
            best = fit(model, train_data, test_data, config, len(train), progress, run)
            if run is not None and best is not None and best.saved:
                run.model(best.saved[0][1])  # until the model is written elsewhere
            if run is not None and not progress.stopped:
                show(
                    run, lambda data: predict(model, data, execution, should_stop=progress.should_stop), train
                )
    results = {
        "history": {name: list(values) for name, values in model.loss_history.items()},
        "train_container": train_container,
        "test_container": test_container,
        "groups": (train, test),
        "models": {"autoencoder": model, "diffraction_to_obj": model.diffraction_to_obj},
        "best_state": best,
    }
    return results if run is None else {**results, "mlflow_run": run}


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
    TensorFlowEngine().load()
    train, test = workflow.training_data(train_data, test_data, config)
    results = _train_with_keras(train, test, config, execution_config)
    results["model_path"] = keep_model(results, Path(config.output_dir) / BUNDLE_NAME)
    return results


def keep_model(results: dict[str, Any], path: Path) -> Path:
    """Write the model of :func:`_train_with_keras` to ``path``, and say so where its run is recorded."""
    from .bundle import save_model

    save_model(results["models"]["autoencoder"], path)
    if "mlflow_run" in results:
        results["mlflow_run"].model(path)
    return path


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
    workflow.require_window(M, config.model.N)
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
    return workflow.reconstruct_cdi(TensorFlowEngine(), config, execution_config, BUNDLE_NAME)


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
    TensorFlowEngine().load()
    from .module import PtychoPINN_TensorFlow

    path, state = workflow.open_bundle(bundle_dir, config, model_name, BUNDLE_NAME, TensorFlowEngine.name)
    model = PtychoPINN_TensorFlow.from_state(state, path)
    opened = model if model_name == "autoencoder" else model.diffraction_to_obj
    return opened, workflow.parameters(state, config)
