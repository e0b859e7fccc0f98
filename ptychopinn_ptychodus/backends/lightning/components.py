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
from .. import workflow
from ..base import Progress
from ..workflow import Data
from .engine import LightningEngine

MODEL_NAME = "model.ckpt"
"""What a run leaves in its output directory."""


def _build_lightning_dataloaders(
    train_container: Data,
    test_container: Data | None,
    config: TrainingConfig,
    execution_config: ExecutionConfig | None = None,
) -> tuple[Any, Any]:
    """Training and validation loaders (the latter None without a test container) of TensorDict batches."""
    LightningEngine().require()
    from .loaders import GroupDataset, build_loader

    execution = execution_config or ExecutionConfig()
    train, test = workflow.as_containers(train_container, test_container, config)
    scale = train.input_scale
    with_object = config.realspace_mae_weight > 0
    train_loader = build_loader(
        GroupDataset(train, scale, with_object=with_object),
        config.batch_size,
        execution,
        shuffle=not config.sequential_sampling,
        seed=config.seed,
    )
    if test is None:
        return train_loader, None
    # the test data are seen through the training data's normalisation: it is part of the model
    dataset = GroupDataset(test, scale, with_object=with_object)
    return train_loader, build_loader(dataset, config.batch_size, execution)


def _train_with_lightning(
    train_container: Data,
    test_container: Data | None,
    config: TrainingConfig,
    execution_config: ExecutionConfig | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train a fresh model with ``lightning.pytorch.Trainer``.

    Returns
    -------
    ``history`` (``train_loss`` and ``val_loss`` lists), ``train_container``, ``test_container``, ``models``
    (with ``lightning_module``, at its best state) and ``trainer``.

    Raises
    ------
    RuntimeError
        If the framework is missing or training fails; the message says what to do.
    ValueError
        If data and configuration do not fit each other.
    """
    LightningEngine().require()
    from lightning.pytorch import seed_everything

    from .module import PtychoPINN_Lightning
    from .training import fit

    execution = execution_config or ExecutionConfig()
    train, test = workflow.as_containers(train_container, test_container, config)
    if config.seed is not None:
        seed_everything(config.seed, workers=True, verbose=False)
    module = PtychoPINN_Lightning.for_data(train, config, execution)
    loaders = _build_lightning_dataloaders(train, test, config, execution)
    trainer = fit(module, *loaders, config, execution, progress)
    return {
        "history": {name: list(values) for name, values in module.history.items()},
        "train_container": train,
        "test_container": test,
        "models": {"lightning_module": module, "autoencoder": module, "diffraction_to_obj": module},
        "trainer": trainer,
    }


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
    train, test = workflow.training_data(train_data, test_data, config)
    results = _train_with_lightning(train, test, config, execution_config)
    from .checkpoint import save_model

    results["model_path"] = save_model(
        results["models"]["lightning_module"], Path(config.output_dir) / MODEL_NAME
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
    workflow.require_window(M, config.model.N)
    results = train_cdi_model_torch(train_data, test_data, config, execution_config)
    if not do_stitching:
        return None, None, results
    from .inference import predict

    module, execution = results["models"]["diffraction_to_obj"], execution_config or ExecutionConfig()
    return workflow.with_images(
        results,
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
    return workflow.reconstruct_cdi(LightningEngine(), config, execution_config, MODEL_NAME)


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
    LightningEngine().require()
    from .module import PtychoPINN_Lightning

    path, state = workflow.open_bundle(bundle_dir, config, model_name, MODEL_NAME, LightningEngine.name)
    return PtychoPINN_Lightning.from_state(state, path), workflow.parameters(state, config)
