"""Model files: written whole or not at all, and opened as data."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import lightning
import torch

from ... import __version__
from ...config import DataConfig, ModelConfig, from_dict
from ...files import replacing
from ..base import FORMAT_VERSION, ModelDescription, ModelFileError, manifest
from .module import MANIFEST_KEY, PtychoPINN_Lightning


def save_model(module: PtychoPINN_Lightning, path: Path) -> Path:
    """Write ``module`` to ``path`` so that ``load_from_checkpoint(path)`` works alone; returns ``path``.

    A full disk, a kill or an error leaves an earlier model as it was.
    """
    content = {
        "pytorch-lightning_version": lightning.__version__,
        "epoch": len(module.history["train_loss"]),
        "global_step": 0,
        "state_dict": {name: tensor.detach().cpu() for name, tensor in module.state_dict().items()},
        module.CHECKPOINT_HYPER_PARAMS_KEY: dict(module.hparams),
        MANIFEST_KEY: manifest(module.engine_name, __version__, module.history),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        torch.save(content, file)
    return path


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a model file, tensors and plain values only.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If it is truncated, foreign, from a newer version, or would need code to be run.
    """
    if not path.is_file():
        raise FileNotFoundError(f'There is no model file "{path}". Train a model or choose another file.')
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as exc:
        raise ModelFileError(
            f'"{path}" was refused: it holds more than tensors and plain values, and opening that '
            "could run code. Use a model written by this package."
        ) from exc
    except (RuntimeError, EOFError, zipfile.BadZipFile, ValueError, KeyError) as exc:
        raise ModelFileError(
            f'"{path}" is truncated or not a PyTorch file ({type(exc).__name__}). '
            "Copy it again or train again."
        ) from exc
    about = content.get(MANIFEST_KEY) if isinstance(content, dict) else None
    if not isinstance(about, dict):
        raise ModelFileError(
            f'"{path}" is a PyTorch file, but not a model of this package. '
            "Choose one that its training wrote."
        )
    if about.get("backend") != PtychoPINN_Lightning.engine_name:
        raise ModelFileError(
            f'"{path}" was written by the engine {about.get("backend")!r} and cannot be opened by '
            f"{PtychoPINN_Lightning.engine_name!r}. Select the engine that wrote it."
        )
    if int(about.get("format", 0)) > FORMAT_VERSION:
        raise ModelFileError(
            f'"{path}" has model format {about["format"]}, newer than this version reads ({FORMAT_VERSION}). '
            "Upgrade with: pip install --upgrade ptychopinn-ptychodus"
        )
    return dict(content)


def describe(path: Path) -> ModelDescription:
    """What the model file at ``path`` says about itself; see :func:`read_checkpoint` for errors."""
    return _describe(path, read_checkpoint(path))


def _describe(path: Path, content: dict[str, Any]) -> ModelDescription:
    try:
        about, configs = content[MANIFEST_KEY], content[PtychoPINN_Lightning.CHECKPOINT_HYPER_PARAMS_KEY]
        return ModelDescription(
            engine=about["backend"],
            version=about["version"],
            model=from_dict(ModelConfig, configs["model_config"]),
            data=from_dict(DataConfig, configs["data_config"]),
            history=about["history"],
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise ModelFileError(
            f'"{path}" does not describe its model as this version expects ({exc!r}). Train again.'
        ) from exc


def open_model(path: Path, expected: ModelConfig | None = None) -> PtychoPINN_Lightning:
    """Rebuild the model at ``path``; ``expected``, if given, must agree in N and gridsize."""
    content = read_checkpoint(path)
    model = _describe(path, content).model
    if expected is not None and (model.N, model.gridsize) != (expected.N, expected.gridsize):
        raise ModelFileError(
            f'"{path}" was trained for N = {model.N}, gridsize = {model.gridsize}, but N = {expected.N}, '
            f"gridsize = {expected.gridsize} is asked for. Use data of that size or train another model."
        )
    try:
        module = PtychoPINN_Lightning.from_content(content)
    except (RuntimeError, KeyError, TypeError, ValueError) as exc:  # missing or misshapen entries
        raise ModelFileError(f'"{path}" does not fit its own description: {exc}') from exc
    module.eval()
    return module
