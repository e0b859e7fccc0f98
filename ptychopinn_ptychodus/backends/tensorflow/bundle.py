"""Model files: a zip archive of a manifest, the configuration and ``wts.h5``, written whole or not at all.

Both models of a bundle, ``autoencoder`` and ``diffraction_to_obj``, are made of the same weights, which are
stored once, as :class:`~ptychopinn_ptychodus.backends.base.ModelState` has them. No layer is deserialised:
the configuration says how to build the network. Bundles are read and written without TensorFlow.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ...config import ExecutionConfig, to_dict
from ...data.container import PtychoDataContainer
from ...files import replacing
from ..any_probe import adapted
from ..base import ModelFileError, ModelState
from ..conversion import read_model
from ..model_file import MODELS, manifest, model_state, require_model_file
from .names import CONFIGURATION, MANIFEST, NAME, WEIGHTS

if TYPE_CHECKING:
    from .module import PtychoPINN_TensorFlow

_LARGEST_TEXT = 2**20
"""Bytes; manifests and configurations take some thousand, and a little more for every epoch."""


def save_model(model: PtychoPINN_TensorFlow, path: Path) -> Path:
    """Write ``model`` to ``path``; returns ``path``.

    A full disk, a kill or an error leaves an earlier model as it was.
    """
    state = model.state()
    about = manifest(state.description.engine, state.description.version, state.description.history)
    configuration = {
        "model_config": to_dict(state.description.model),
        "data_config": to_dict(state.description.data),
        "training_config": to_dict(state.training),
    }
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        for name, array in state.arrays.items():
            file.create_dataset(name, data=array)
    path.parent.mkdir(parents=True, exist_ok=True)
    # stored, not deflated: weights are noise to a compressor, and a reader knows their size beforehand
    with replacing(path) as target, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(MANIFEST, json.dumps({"models": sorted(MODELS), **about}, indent=1))
        archive.writestr(CONFIGURATION, json.dumps(configuration, indent=1))
        archive.writestr(WEIGHTS, weights.getvalue())
    return path


def open_model(
    path: Path, execution: ExecutionConfig | None = None, container: PtychoDataContainer | None = None
) -> PtychoPINN_TensorFlow:
    """Rebuild the model at ``path``, whichever engine wrote it, for a run of ``execution``.

    One for any probe is made one for ``container``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If it is damaged or foreign, or this engine has no such model.
    """
    from .module import PtychoPINN_TensorFlow

    state = read_model(path)
    if container is not None:
        state = adapted(state, container)
    return PtychoPINN_TensorFlow.from_state(state, path, execution)


def looks_like_bundle(path: Path) -> bool:
    """Whether ``path`` is a bundle of this engine, going by its content."""
    try:
        with zipfile.ZipFile(path) as archive:
            about = _read_json(archive, MANIFEST)
            return about["backend"] == NAME and bool(about["models"])
    except Exception:  # damaged, encrypted, foreign, or no archive at all: whatever that leads to
        return False


def read_bundle(path: Path) -> ModelState:
    """The model at ``path`` as arrays.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If it is truncated, foreign, incomplete or from a newer version.
    """
    require_model_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            about, configs = _read_json(archive, MANIFEST), _read_json(archive, CONFIGURATION)
            arrays = _read_weights(archive)
    except Exception as exc:  # whatever a damaged archive, JSON or HDF5 file leads to
        raise ModelFileError(
            f'"{path}" is truncated or not a bundle of this package '
            f"({type(exc).__name__}: {str(exc)[:200]}). Copy it again or train again."
        ) from exc
    return model_state(NAME, about, configs, arrays, path)


def _read_json(archive: zipfile.ZipFile, name: str) -> dict[str, Any]:
    if archive.getinfo(name).file_size > _LARGEST_TEXT:
        raise ValueError(f"{name} is too large")
    content = json.loads(_entry(archive, name))
    if not isinstance(content, dict):
        raise ValueError(f"{name} holds no JSON object")
    return content


def _read_weights(archive: zipfile.ZipFile) -> dict[str, NDArray[Any]]:
    content = _entry(archive, WEIGHTS)
    with h5py.File(io.BytesIO(content), "r") as file:
        for name in file:
            _check_array(file, name)
        # several names of one array could stand for more than there is memory for
        if sum(file[name].nbytes for name in file) > len(content):
            raise ValueError(f"{WEIGHTS} holds less than it declares")
        return {name: np.asarray(file[name][()]) for name in file}


def _entry(archive: zipfile.ZipFile, name: str) -> bytes:
    # what is stored as it is, as we do, cannot be larger than the file
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed")
    return archive.read(name)


def _check_array(file: Any, name: str) -> None:
    # a link could lead to another file, and so could a dataset that keeps its values elsewhere
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name} is a link")
    item = file[name]
    if not isinstance(item, h5py.Dataset) or item.dtype.kind != "f" or item.is_virtual or item.external:
        raise ValueError(f"{name} is no plain array of numbers")
    # a few bytes can claim, or be deflated from, terabytes
    if item.chunks is not None or item.id.get_storage_size() != item.nbytes:
        raise ValueError(f"{name} does not hold the values that it declares")
