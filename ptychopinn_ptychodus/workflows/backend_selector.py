"""The dispatcher: what scripts call, run by the engine that ``config.backend`` names, and by no other.

Each function first writes the configuration into the legacy dictionary ``params.cfg``, once, and only then
looks at ``backend``; a framework is imported later still, by its engine. The log says in one line, of the
level INFO and the same wherever it runs, which function runs with which backend. Errors are those of the
engine, and

ValueError
    if there is no such engine: the message lists those that exist,
RuntimeError
    if its framework is not installed, or cannot be imported: the message says why, and how to install it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import params
from ..backends.registry import get_engine
from ..backends.workflow import Data
from ..config import ExecutionConfig, InferenceConfig, TrainingConfig
from ..params import update_legacy_dict

logger = logging.getLogger(__name__)

Image = NDArray[np.float32]


def run_cdi_example_with_backend(
    train_data: Data | None,
    test_data: Data | None,
    config: TrainingConfig,
    flip_x: bool = False,
    flip_y: bool = False,
    transpose: bool = False,
    M: int = 20,
    do_stitching: bool = False,
    execution_config: ExecutionConfig | None = None,
) -> tuple[Image | None, Image | None, dict[str, Any]]:
    """Train as :func:`train_cdi_model_with_backend`; with ``do_stitching``, reconstruct the test data too.

    Without test data the training data are reconstructed. The central M × M pixels of each patch take part
    (0: all of it); the object is transposed, then mirrored.

    Returns
    -------
    Amplitude and phase images (None without stitching), and the results of the training.
    """
    run, backend = _workflow("run_cdi_example", config)
    amplitude, phase, results = run(
        train_data,
        test_data,
        config,
        flip_x=flip_x,
        flip_y=flip_y,
        transpose=transpose,
        M=M,
        do_stitching=do_stitching,
        execution_config=execution_config,
    )
    return amplitude, phase, {**results, "backend": backend}


def train_cdi_model_with_backend(
    train_data: Data | None,
    test_data: Data | None,
    config: TrainingConfig,
    execution_config: ExecutionConfig | None = None,
) -> dict[str, Any]:
    """Train, and leave the model in ``config.output_dir``.

    Data are what :mod:`..backends.workflow` accepts; None stands for the files that ``config`` names.

    Returns
    -------
    ``history`` (``train_loss`` and ``val_loss`` lists), ``train_container``, ``test_container``, ``models``
    (``autoencoder`` and ``diffraction_to_obj``) and ``backend``, the name of the engine that ran.
    """
    train, backend = _workflow("train_cdi_model", config)
    return {**train(train_data, test_data, config, execution_config=execution_config), "backend": backend}


def load_inference_bundle_with_backend(
    bundle_dir: str | Path,
    config: TrainingConfig | InferenceConfig,
    model_name: str = "diffraction_to_obj",
) -> tuple[Any, dict[str, Any]]:
    """Open the model in a directory, or a model file: ``(model, params)``; another engine's is converted.

    ``params`` holds the configuration and frozen statistics as plain dictionaries, and ``backend``, the name
    of the engine whose model it is now.
    """
    load, backend = _workflow("load_inference_bundle", config)
    model, values = load(bundle_dir, config, model_name=model_name)
    return model, {**values, "backend": backend}


def _workflow(name: str, config: TrainingConfig | InferenceConfig) -> tuple[Callable[..., Any], str]:
    """The engine's own function of that name, looked up now, and the engine's name."""
    update_legacy_dict(params.cfg, config)  # first: scripts rely on it, whatever comes of the rest
    engine = get_engine(config.backend)
    logger.info("%s_with_backend runs with the backend %r.", name, engine.name)
    return engine.workflow(name), engine.name
