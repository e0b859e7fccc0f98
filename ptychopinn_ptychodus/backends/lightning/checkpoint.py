"""Model files: written whole or not at all, and opened as data.

They are read without PyTorch, so that another engine can go on with a model where PyTorch is not installed;
and with fewer rights than ``torch.load(weights_only=True)`` gives a file.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ... import __version__
from ...files import replacing
from ..base import ModelFileError, ModelState, manifest, model_state
from ..conversion import read_model
from .engine import LightningEngine

if TYPE_CHECKING:
    from .module import PtychoPINN_Lightning

MANIFEST_KEY = "ptychopinn_ptychodus"
WEIGHTS_KEY = "state_dict"
CONFIGURATION_KEY = "hyper_parameters"
"""Lightning's own names for these."""

_INDEX = "/data.pkl"
_LARGEST_INDEX = 64 * 2**20
"""Bytes; what names the tensors of a model is thousands of times smaller."""

_STORAGES = {
    f"{name}Storage": np.dtype(dtype)
    for name, dtype in {
        "Double": "<f8",
        "Float": "<f4",
        "Half": "<f2",
        "Long": "<i8",
        "Int": "<i4",
        "Short": "<i2",
        "Char": "<i1",
        "Byte": "<u1",
        "Bool": "?",
        "ComplexFloat": "<c8",
        "ComplexDouble": "<c16",
    }.items()
}


def save_model(module: PtychoPINN_Lightning, path: Path) -> Path:
    """Write ``module`` to ``path`` so that ``load_from_checkpoint(path)`` works alone; returns ``path``.

    A full disk, a kill or an error leaves an earlier model as it was.
    """
    import lightning
    import torch

    content = {
        "pytorch-lightning_version": lightning.__version__,
        "epoch": len(module.history["train_loss"]),
        "global_step": 0,
        WEIGHTS_KEY: {name: tensor.detach().cpu() for name, tensor in module.state_dict().items()},
        CONFIGURATION_KEY: dict(module.hparams),
        MANIFEST_KEY: manifest(LightningEngine.name, __version__, module.history),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        torch.save(content, file)
    return path


def open_model(path: Path) -> PtychoPINN_Lightning:
    """Rebuild the model at ``path``, whichever engine wrote it.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If it is damaged or foreign, or this engine has no such model.
    """
    from .module import PtychoPINN_Lightning

    return PtychoPINN_Lightning.from_state(read_model(path), path)


def looks_like_checkpoint(path: Path) -> bool:
    """Whether ``path`` is a PyTorch file with this package's entries, going by its content."""
    try:
        with zipfile.ZipFile(path) as archive:
            content = _read_index(archive)
    except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, NotImplementedError, ValueError):
        return False  # damaged, encrypted, or no archive at all
    # the manifest's key and the names of Lightning's own entries, as stored, unparsed
    return MANIFEST_KEY.encode() in content and WEIGHTS_KEY.encode() in content


def read_state(path: Path) -> ModelState:
    """The model at ``path`` as arrays; see :func:`read_checkpoint` for errors."""
    content = read_checkpoint(path)
    missing = [key for key in (CONFIGURATION_KEY, WEIGHTS_KEY) if not isinstance(content.get(key), dict)]
    if missing:
        raise ModelFileError(f'"{path}" lacks {" and ".join(map(repr, missing))}. Train again.')
    return model_state(content[MANIFEST_KEY], content[CONFIGURATION_KEY], content[WEIGHTS_KEY], path)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a model file, arrays and plain values only.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If it is truncated, foreign, or would need code to be run.
    """
    if not path.is_file():
        raise FileNotFoundError(f'There is no model file "{path}". Train a model or choose another file.')
    try:
        content = _load(path)
    except _RefusedError as exc:
        raise ModelFileError(
            f'"{path}" was refused: it holds more than tensors and plain values ({exc}), and opening that '
            "could run code. Use a model written by this package."
        ) from exc
    except Exception as exc:  # whatever a damaged pickle or archive leads to
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
    if about.get("backend") != LightningEngine.name:
        raise ModelFileError(
            f'"{path}" says that it was written by the engine {about.get("backend")!r}, but is a file of '
            f"{LightningEngine.name!r}. Use a model written by this package."
        )
    return dict(content)


# ---- PyTorch's file format: a zip archive of one pickle, which names the tensors, and their raw bytes ------


class _RefusedError(pickle.UnpicklingError):
    """The pickle asks for something that is neither a tensor nor a plain value."""


def _load(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        index = _read_index(archive)
        order = [name for name in archive.namelist() if name.endswith("/byteorder")]
        if order and archive.read(order[0]) != b"little":
            raise ValueError("written by a big-endian machine")
        return _Reader(index, archive).load()


def _read_index(archive: zipfile.ZipFile) -> bytes:
    names = [name for name in archive.namelist() if name.endswith(_INDEX)]
    if len(names) != 1 or archive.getinfo(names[0]).file_size > _LARGEST_INDEX:
        raise ValueError("no index of tensors")
    return archive.read(names[0])


class _Reader(pickle.Unpickler):
    """Reads what a model file consists of, numpy arrays in the place of tensors, and refuses all else.

    A pickle can call nothing but what :meth:`find_class` gives it.
    """

    def __init__(self, index: bytes, archive: zipfile.ZipFile) -> None:
        super().__init__(io.BytesIO(index))
        self._archive = archive
        self._folder = next(name for name in archive.namelist() if name.endswith(_INDEX))[: -len(_INDEX)]
        self._storages: dict[str, NDArray[Any]] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise _RefusedError(f"{module}.{name}")

    def persistent_load(self, identifier: Any) -> NDArray[Any]:
        kind, dtype, key, _, count = identifier
        if kind != "storage" or not isinstance(dtype, np.dtype):
            raise _RefusedError(str(kind))
        if key not in self._storages:
            content = self._archive.read(f"{self._folder}/data/{key}")
            self._storages[key] = np.frombuffer(content, dtype, count)
        return self._storages[key]


def _tensor(
    storage: NDArray[Any], offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> NDArray[Any]:
    """A tensor's elements as a contiguous array; a ``ValueError`` if they reach out of its storage."""
    if len(shape) != len(stride) or min((offset, *shape, *stride)) < 0:
        raise ValueError("misshapen tensor")
    last = offset + sum((length - 1) * step for length, step in zip(shape, stride, strict=True))
    size = math.prod(shape)
    if size > storage.size or (size and last >= storage.size):
        raise ValueError("a tensor reaches out of its storage")
    steps = [step * storage.itemsize for step in stride]
    view: NDArray[Any] = np.lib.stride_tricks.as_strided(storage[offset:], shape, steps, writeable=False)
    return view.copy()
