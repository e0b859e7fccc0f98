"""Model files: written whole or not at all, and opened as data.

They are read without PyTorch (see :mod:`.reader`), so that another engine can go on with a model where it is
not installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import __version__
from ...data.container import PtychoDataContainer
from ...files import replacing
from ..any_probe import adapted
from ..base import ModelFileError, ModelState
from ..conversion import read_model
from ..model_file import manifest, model_state, require_model_file
from . import reader
from .names import CONFIGURATION_KEY, MANIFEST_KEY, NAME, WEIGHTS_KEY

if TYPE_CHECKING:
    from .module import PtychoPINN_Lightning


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
        MANIFEST_KEY: manifest(NAME, __version__, module.history),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        torch.save(content, file)
    return path


def open_model(path: Path, container: PtychoDataContainer | None = None) -> PtychoPINN_Lightning:
    """Rebuild the model at ``path``, whichever engine wrote it; one for any probe, for ``container``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If it is damaged or foreign, or this engine has no such model.
    """
    from .module import PtychoPINN_Lightning

    state = read_model(path)
    if container is not None:
        state = adapted(state, container)
    return PtychoPINN_Lightning.from_state(state, path)


def looks_like_checkpoint(path: Path) -> bool:
    """Whether ``path`` is a PyTorch file with this package's entries, going by its content."""
    try:
        content = reader.read_index(path)
    except Exception:  # damaged, encrypted, foreign, or no archive at all: whatever that leads to
        return False
    # the manifest's key and the names of Lightning's own entries, as stored, unparsed
    return MANIFEST_KEY.encode() in content and WEIGHTS_KEY.encode() in content


def read_state(path: Path) -> ModelState:
    """The model at ``path`` as arrays; see :func:`read_checkpoint` for errors."""
    content = read_checkpoint(path)
    missing = [key for key in (CONFIGURATION_KEY, WEIGHTS_KEY) if not isinstance(content.get(key), dict)]
    if missing:
        raise ModelFileError(f'"{path}" lacks {" and ".join(map(repr, missing))}. Train again.')
    about, configs, arrays = (content[key] for key in (MANIFEST_KEY, CONFIGURATION_KEY, WEIGHTS_KEY))
    return model_state(NAME, about, configs, arrays, path)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a model file, arrays and plain values only.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If it is truncated, foreign, or would need code to be run.
    """
    require_model_file(path)
    try:
        content = reader.read(path)
    except reader.RefusedError as exc:
        raise ModelFileError(
            f'"{path}" was refused: it holds more than tensors and plain values ({str(exc)[:100]}), and '
            "opening that could run code. Use a model written by this package."
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
    return dict(content)
