"""What it takes to go on with an interrupted training, as a file that is data and nothing else.

A file is a zip archive of two entries, neither of them compressed: a description as JSON, which also says
what the arrays are called, of which type and of which shape, and the bytes of all arrays, one after another.
Nothing in it is unpickled, imported or called, and what a reader allocates is bounded by the file's size.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import ExecutionConfig, TrainingConfig, from_dict, to_dict
from ..data.container import PtychoDataContainer
from ..files import replacing
from ..installed import own_version
from . import CHECKPOINT_DIRECTORY
from .base import ModelFileError, TrainingState

STATE_FILE = "training.state"
FORMAT_VERSION = 1

_DESCRIPTION, _ARRAYS = "training.json", "arrays"
_LARGEST_DESCRIPTION = 2**24
"""Bytes; most of it is the history, some twenty for each loss."""

_TYPES = ("float64", "float32", "float16", "int64", "int32", "uint8", "bool")
_MOST_HASHED = 64
"""Patterns of a scan by which it is recognised."""

_FREE_TRAINING = ("model", "output_dir", "train_data_file", "test_data_file", "nphotons")
"""Fields of a TrainingConfig that a training may go on with otherwise: where files lie, and what data say."""

_FREE_EXECUTION = (
    "accelerator",
    "deterministic",
    "num_workers",
    "pin_memory",
    "persistent_workers",
    "prefetch_factor",
    "enable_progress_bar",
    "checkpoint_save_top_k",
    "logger_backend",
    "inference_batch_size",
)
"""Fields of an ExecutionConfig that make no difference to what is learnt."""


def state_path(model_path: Path) -> Path:
    """Where a training that leaves its model at ``model_path`` keeps its state."""
    return model_path.parent / CHECKPOINT_DIRECTORY / STATE_FILE


def fingerprint(*containers: PtychoDataContainer | None) -> str:
    """By what the data of a training are recognised: their groups, and some of their patterns.

    What is hashed comes from the data without a sum of many numbers, which another processor may round
    otherwise.
    """
    digest = hashlib.blake2b(digest_size=16)
    for container in containers:
        if container is None:
            digest.update(b"none")
            continue
        step = max(1, len(container.amplitude) // _MOST_HASHED)
        # by numbers: a slice of a large array would be a view, and all that it is mapped from stay resident
        some = container.amplitude[np.arange(0, len(container.amplitude), step)]
        patterns = np.ascontiguousarray(some[:, ~container.bad_pixels])
        for array in (container.nn_indices, patterns):
            digest.update(f"{array.shape} of {len(container.amplitude)}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        if container.shown_probes is not None and container.probes is not None:
            # which of them differ, and not by how much: that is made of sums
            differ = (container.shown_probes != container.probes).any((1, 2, 3))
            digest.update(b"shown" + differ.tobytes())
    return digest.hexdigest()


def require_same(
    state: TrainingState,
    engine: str,
    training: TrainingConfig,
    execution: ExecutionConfig,
    data: str,
    path: Path | None,
) -> None:
    """Raise ``ValueError`` unless a training is the one that is asked for; the message says why not."""
    where = "The interrupted training" if path is None else f'The interrupted training in "{path}"'
    remedy = "Go on with what it was begun with, or train without resuming."
    if engine != state.engine:
        raise ValueError(
            f"{where} was begun with the engine {state.engine!r}, and not with {engine!r}. {remedy}"
        )
    different = _differences(state.training.model, training.model, ())
    different += _differences(state.training, training, _FREE_TRAINING)
    different += _differences(state.execution, execution, _FREE_EXECUTION)
    if different:
        raise ValueError(f"{where} was begun otherwise. {' '.join(different)} {remedy}")
    if data != state.data:
        raise ValueError(
            f"{where} was begun with other data: other patterns, other groups of them, or other probes to "
            f"be shown. {remedy}"
        )


def write_state(state: TrainingState, path: Path) -> None:
    """Write the state, replaced atomically.

    Raises
    ------
    OSError
        If it cannot be written, or would leave less room on the disk than the model may need.
    """
    table, size = [], 0
    for name, array in state.arrays.items():
        if str(array.dtype) not in _TYPES:
            raise TypeError(f"{name} is of the type {array.dtype}")
        table.append([name, str(array.dtype), list(array.shape)])
        size += array.nbytes
    text = json.dumps(
        {
            "format": FORMAT_VERSION,
            "version": own_version(),
            "engine": state.engine,
            "training": to_dict(state.training),
            "execution": to_dict(state.execution),
            "data": state.data,
            "history": {name: list(values) for name, values in state.history.items()},
            "seconds": state.seconds,
            "patterns": state.patterns,
            "values": state.values,
            "arrays": table,
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    # the earlier one is there until this one is whole; a model is a part of either
    if shutil.disk_usage(path.parent).free < 2 * (size + len(text)):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    with replacing(path) as target, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(_DESCRIPTION, text)
        with archive.open(_ARRAYS, "w", force_zip64=True) as entry:
            for array in state.arrays.values():
                entry.write(np.ascontiguousarray(array).tobytes())


def read_state(path: Path) -> TrainingState:
    """Inverse of :func:`write_state`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If it is damaged, foreign or of a newer version.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _from(archive)
    except FileNotFoundError:
        raise
    except _NewerError as exc:
        raise ModelFileError(
            f'"{path}" was left by version {str(exc)[:40]} of this package, which is newer than this one '
            f"({own_version()}). Upgrade with: pip install --upgrade ptychopinn-ptychodus"
        ) from exc
    except Exception as exc:  # whatever a damaged archive or description leads to
        raise ModelFileError(
            f'"{path}", which an interrupted training has left, is damaged '
            f"({type(exc).__name__}: {str(exc)[:200]}). Train without resuming; the best model so far is a "
            "file beside it, or the model itself."
        ) from exc


def _from(archive: zipfile.ZipFile) -> TrainingState:
    about = json.loads(_entry(archive, _DESCRIPTION, _LARGEST_DESCRIPTION))
    if int(about["format"]) > FORMAT_VERSION:
        raise _NewerError(about["version"])
    content = _entry(archive, _ARRAYS, None)
    arrays: dict[str, NDArray[Any]] = {}
    start = 0
    for name, dtype, shape in about["arrays"]:
        if dtype not in _TYPES or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"{str(name)[:40]} is no array of numbers")
        count = math.prod(shape)
        # a ValueError if there are fewer bytes than that
        array = np.frombuffer(content, np.dtype(dtype), count, start) if count else np.zeros(0, dtype)
        arrays[str(name)] = array.reshape(shape)
        start += array.nbytes
    if start != len(content):
        raise ValueError("it holds other arrays than it says")
    history = {str(name): [float(v) for v in values] for name, values in about["history"].items()}
    if not history["train_loss"] or not isinstance(about["values"], dict):
        raise ValueError("it is of no epoch")
    return TrainingState(
        engine=str(about["engine"]),
        training=from_dict(TrainingConfig, about["training"]),
        execution=from_dict(ExecutionConfig, about["execution"]),
        data=str(about["data"]),
        history=history,
        seconds=float(about["seconds"]),
        patterns=int(about["patterns"]),
        values=about["values"],
        arrays=arrays,
    )


class _NewerError(Exception):
    """The version that has written a file."""


def _entry(archive: zipfile.ZipFile, name: str, largest: int | None) -> bytes:
    about = archive.getinfo(name)
    # what is stored as it is cannot be larger than the file
    if about.compress_type != zipfile.ZIP_STORED or (largest is not None and about.file_size > largest):
        raise ValueError(f"{name} is compressed, or too large")
    return archive.read(name)


def _differences(then: Any, now: Any, free: tuple[str, ...]) -> list[str]:
    """A sentence on each field that is another now."""
    before, after = to_dict(then), to_dict(now)
    owner = type(now).__name__
    return [
        f"{owner}.{name} = {after[name]!r} was {before[name]!r} then."
        for name in after
        if name not in free and after[name] != before[name]
    ]
