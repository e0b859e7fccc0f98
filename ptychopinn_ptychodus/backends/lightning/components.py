"""The Lightning workflow in the shape that scripts use: loaders, training, a whole run, opening a model.

What may be handed over as data is said in :mod:`..workflow`. Whoever calls one of these functions has chosen
the engine: a configuration's ``backend`` is for the dispatcher in front of the engines.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...config import ExecutionConfig, InferenceConfig, TrainingConfig, to_dict
from .. import workflow
from ..base import Progress
from ..mlflow_run import recorded, show
from ..physics import initial_physics
from ..workflow import Data
from .engine import LightningEngine

logger = logging.getLogger(__name__)

MODEL_NAME = "model.ckpt"
"""What a run leaves in its output directory."""

_CONFIGS = ("model", "data", "training", "inference")
"""What a module is made from, in the order of its constructor."""


def _build_lightning_dataloaders(
    train_container: Data,
    test_container: Data | None,
    config: TrainingConfig,
    execution_config: ExecutionConfig | None = None,
) -> tuple[Any, Any]:
    """Training and validation loaders (the latter None without a test container) of TensorDict batches."""
    LightningEngine().load()
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

    Module and trainer are looked up now, as ``PtychoPINN_Lightning`` in :mod:`.module` and ``Trainer`` in
    ``lightning.pytorch``, and may be anything that is used like them: the first is called with the model,
    data, training and inference configuration and nothing else, and what is asked of it afterwards every
    ``LightningModule`` has. If it has a method ``prepare_training`` (see ours), it gets the rest by that.

    Returns
    -------
    ``history`` (lists ``train_loss`` and ``val_loss``, empty where the module logs none), ``train_container``
    and ``test_container`` (the very objects that were handed in), ``groups`` (both of them grouped),
    ``models`` (with ``lightning_module``; ours is at its best state), ``trainer``, and, with
    ``logger_backend = 'mlflow'``, ``mlflow_run``.

    Raises
    ------
    RuntimeError
        If the framework is missing or broken, or training fails; the message says what to do.
    ValueError
        If data and configuration do not fit each other.
    """
    LightningEngine().load()
    import lightning.pytorch as pl
    from lightning.pytorch.utilities import rank_zero_only

    from . import module as modules
    from .inference import predict
    from .training import fit, own_callbacks

    execution, progress = execution_config or ExecutionConfig(), progress or Progress()
    train, test = workflow.as_containers(train_container, test_container, config)
    if config.seed is not None:
        pl.seed_everything(config.seed, workers=True, verbose=False)
    physics = initial_physics(train, config)
    inference = InferenceConfig(model=config.model)
    configs = (config.model, physics.data, config, inference)
    module: Any = modules.PtychoPINN_Lightning(*configs)
    module.save_hyperparameters()
    if isinstance(module, pl.LightningModule) and not module.hparams:
        # one that has not named any: its checkpoints are to say what it was made from
        named = {f"{name}_config": to_dict(each) for name, each in zip(_CONFIGS, configs, strict=True)}
        pl.LightningModule.save_hyperparameters(module, named)
    history: dict[str, list[float]] = {"train_loss": [], "val_loss": []}
    callbacks = own_callbacks(config, execution, progress, validated=test is not None)
    prepare = getattr(module, "prepare_training", None)
    if prepare is not None:
        prepare(physics, execution, history, callbacks)
    loaders = _build_lightning_dataloaders(train, test, config, execution)
    # of several processes that train one model, the first one keeps the record
    alone = execution.devices == execution.num_nodes == 1
    logged = execution.logger_backend == "mlflow" and (alone or getattr(rank_zero_only, "rank", 0) == 0)
    with recorded(logged, config.output_dir, *configs, execution, progress=progress) as run:
        trainer = fit(module, *loaders, config, execution, history, progress, run)
        kept = getattr(getattr(trainer, "checkpoint_callback", None), "best_model_path", "")
        if run is not None and kept:
            run.model(Path(kept))  # until the model is written elsewhere
        if run is not None and is_own(module) and not progress.stopped:
            show(run, lambda data: predict(module, data, execution, should_stop=progress.should_stop), train)
    callbacks.clear()  # what reports progress would otherwise live, and be pickled, with the module
    results = {
        "history": {name: list(values) for name, values in history.items()},
        "train_container": train_container,
        "test_container": test_container,
        "groups": (train, test),
        "models": {"lightning_module": module, "autoencoder": module, "diffraction_to_obj": module},
        "trainer": trainer,
    }
    return results if run is None else {**results, "mlflow_run": run}


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
    LightningEngine().load()
    train, test = workflow.training_data(train_data, test_data, config)
    results = _train_with_lightning(train, test, config, execution_config)
    results["model_path"] = keep_model(results, Path(config.output_dir) / MODEL_NAME)
    return results


def keep_model(results: dict[str, Any], path: Path) -> Path | None:
    """Write the model of :func:`_train_with_lightning` to ``path``, and say so where its run is recorded.

    A module that is not ours is written as a checkpoint of Lightning's, which its own class can open. Returns
    None, with a warning, where the trainer cannot do that either.
    """
    from .checkpoint import save_model

    module, trainer = results["models"]["lightning_module"], results["trainer"]
    if is_own(module):
        save_model(module, path)
    elif hasattr(trainer, "save_checkpoint"):
        trainer.save_checkpoint(path)
    else:
        logger.warning("No model file was written: neither module nor trainer is one that could do so.")
        return None
    if "mlflow_run" in results:
        results["mlflow_run"].model(path)
    return path


def is_own(module: Any) -> bool:
    """Whether it is a ``PtychoPINN_Lightning`` or a subclass: it can be applied, and saved as our model."""
    return getattr(module, "engine_name", None) == LightningEngine.name


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
    LightningEngine().load()
    from .module import PtychoPINN_Lightning

    path, state = workflow.open_bundle(bundle_dir, config, model_name, MODEL_NAME, LightningEngine.name)
    return PtychoPINN_Lightning.from_state(state, path), workflow.parameters(state, config)
