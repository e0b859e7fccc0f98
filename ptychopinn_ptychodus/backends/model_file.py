"""What the model files of all engines have in common: names, manifest, configuration and arrays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import DataConfig, ModelConfig, TrainingConfig, UnknownFieldError, from_dict
from ..installed import own_version
from .base import ModelDescription, ModelFileError, ModelState
from .hyperparameters import WIDTH

FORMAT_VERSION = 2
"""Of the files that this version writes. Those of 1 may hold a 'cnn' that took and gave other values."""


MODELS = ("diffraction_to_obj", "autoencoder")
"""The models of a bundle: patches from patterns, and the trained whole, physics included."""


def require_model_file(path: Path) -> None:
    """Raise ``FileNotFoundError`` if there is no such file."""
    if not path.is_file():
        raise FileNotFoundError(f'There is no model file "{path}". Train a model or choose another file.')


def manifest(engine: str, version: str, history: Mapping[str, list[float]]) -> dict[str, Any]:
    """The entry by which a model file of any engine names itself."""
    return {
        "format": FORMAT_VERSION,
        "backend": engine,
        "version": version,
        "history": {key: [float(v) for v in values] for key, values in history.items()},
    }


def model_state(
    engine: str,
    about: Mapping[str, Any],
    configs: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    path: Path,
) -> ModelState:
    """A model from what its file holds: manifest, configuration as plain dictionaries, and arrays.

    Raises
    ------
    ModelFileError
        If it is of another engine or a newer version, or not of the shape that this one writes.
    """
    try:
        json.dumps([about, configs])  # plain values alone: an array among them could take long to print
        if about["backend"] != engine:
            raise ModelFileError(
                f'"{path}" says that it was written by the engine {str(about["backend"])[:40]!r}, but is a '
                f"file of {engine!r}. Use a model written by this package."
            )
        if int(about["format"]) > FORMAT_VERSION:
            raise ModelFileError(
                f'"{path}" has model format {str(about["format"])[:40]}, newer than this version reads '
                f"({FORMAT_VERSION}). Upgrade with: pip install --upgrade ptychopinn-ptychodus"
            )
        state = ModelState(
            description=ModelDescription(
                engine=engine,
                version=str(about["version"]),
                model=from_dict(ModelConfig, configs["model_config"]),
                data=from_dict(DataConfig, configs["data_config"]),
                history={name: _numbers(values) for name, values in about["history"].items()},
            ),
            training=from_dict(TrainingConfig, configs["training_config"]),
            arrays=dict(arrays),
        )
        if int(about["format"]) < 2 and state.description.model.architecture == "cnn":
            raise ModelFileError(
                f"\"{path}\" holds a 'cnn' of model format 1, whose network takes and gives other "
                "values than this version's. Train again, or apply it with the version that wrote it "
                f"({state.description.version[:40]})."
            )
        _check_arrays(state, path.stat().st_size)
        return state
    except ModelFileError:
        raise
    except UnknownFieldError as exc:  # a damaged file does not make fields up: a version that has them did
        raise ModelFileError(
            f'"{path}" does not describe its model as this version ({own_version()}) expects: it has '
            f"{exc.fields}. A newer version wrote it ({str(about['version'])[:40]}). Upgrade with: pip "
            "install --upgrade ptychopinn-ptychodus"
        ) from exc
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as exc:
        raise ModelFileError(  # not of the shape that we write
            f'"{path}" does not describe its model as this version expects '
            f"({type(exc).__name__}: {str(exc)[:200]}). Train again."
        ) from exc


def _numbers(values: Any) -> list[float]:
    if not isinstance(values, list):
        raise TypeError(f"the history holds a {type(values).__name__} for a list")
    return [float(value) for value in values]


def _check_arrays(state: ModelState, file_size: int) -> None:
    """Raise ``ValueError`` for values that are no weights, and for a network far larger than its weights.

    Which arrays there are, and their shapes, are for the engine that builds the network: but it should not
    build one that the file could never fill.
    """
    if sum(array.nbytes for array in state.arrays.values()) > file_size:
        raise ValueError("its arrays share their values: they are larger than the file")
    for name, array in state.arrays.items():
        if not isinstance(name, str):
            raise TypeError(f"an array is named {name!r}")
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise ValueError(f"{name} holds other than finite real numbers")
    model, data = state.description.model, state.description.data
    shape = state.arrays["probe_planes"].shape
    if shape != (data.probe_modes, model.N, model.N, 2):
        raise ValueError(f"probe_planes {shape} is not of the shape that probe_modes and N say")
    if model.gaussian_smoothing_sigma > model.N:
        raise ValueError(f"it smooths over more than its {model.N} pixels")
    width = WIDTH * model.n_filters_scale
    fewest = 9 * width * max(width, model.channels if model.architecture == "cnn" else 1)
    if fewest > sum(array.size for array in state.arrays.values()):
        raise ValueError(f"it has fewer weights than n_filters_scale = {model.n_filters_scale} takes")
