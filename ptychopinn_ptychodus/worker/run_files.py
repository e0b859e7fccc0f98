"""What a run leaves: the names of its files, whether they are new, and a checkpoint that becomes the model.

Importing it imports next to nothing, for the sake of the command line.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path

from ..backends import CHECKPOINT_DIRECTORY
from ..files import identity, replacing
from ..ptychodus_io.names import MODEL_BASENAME

PREVIEW_FILE = "preview.npy"
PICTURE_FILE = "preview.png"
EXAMINATION_FILE = "examination.json"
"""What the examination of a scan and of its reconstruction has found."""

CONFIDENCE_FILE = "confidence.npz"
"""The map of confidence of a result and its rings, see :meth:`.Confidence.save`."""

CONFIDENCE_PICTURE = "confidence.png"

TRAINING_EXAMINATION_FILE = "training_examination.json"
"""What the examination of the data that a model has learnt from has found."""


def models_in(directory: Path) -> list[Path]:
    """Model files under their usual name, of whatever engine."""
    from ..backends.registry import loadable_engines

    # an engine that cannot be loaded has nothing to open its models with
    suffixes = {engine.model_suffix for engine in loadable_engines(on_broken=lambda _: None)}
    paths = (directory / f"{MODEL_BASENAME}{suffix}" for suffix in suffixes)
    return sorted(path for path in paths if path.is_file())


def require_writable(directory: Path) -> None:
    """Make the directory; raise ``OSError`` now, not after hours of work, if it cannot be written to."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"\0" * 4096)
            file.flush()
    except OSError as exc:
        raise type(exc)(
            exc.errno,
            f"The output directory cannot be written to ({exc.strerror}): choose another one, or mend it",
            str(directory),
        ) from exc


class RunFiles:
    """What a training run has left, told apart from what was there when this was made.

    Parameters
    ----------
    model_path
        Where the run is to leave its model.
    """

    def __init__(self, model_path: Path) -> None:
        self.model_path = model_path
        self._checkpoints = model_path.parent / CHECKPOINT_DIRECTORY
        self._before = {path: identity(path) for path in (model_path, *self._checkpoints.glob("*"))}

    def has_model(self) -> bool:
        """Whether the run has written its model."""
        return self._is_new(self.model_path)

    def checkpoint(self) -> Path | None:
        """The newest checkpoint of the run that is a model an engine can open, or None."""
        from ..backends.base import ModelFileError
        from ..backends.registry import guess_engine

        found = [path for path in self._checkpoints.glob("*") if path.is_file() and self._is_new(path)]
        for path in sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True):
            with contextlib.suppress(ModelFileError, OSError):
                guess_engine(path)
                return path
        return None

    def keep_checkpoint(self) -> bool:
        """Make the newest checkpoint the model, unless the run has written that; whether there was one.

        Raises
        ------
        OSError
            As :meth:`promote`.
        """
        checkpoint = None if self.has_model() else self.checkpoint()
        if checkpoint is not None:
            self.promote(checkpoint)
        return checkpoint is not None

    def promote(self, checkpoint: Path) -> None:
        """Make a checkpoint the model.

        Raises
        ------
        OSError
            If the model cannot be written; checkpoint and earlier model are then as they were.
        """
        # copied and not renamed: whoever wrote the checkpoint may have kept others from reading it
        with checkpoint.open("rb") as source, replacing(self.model_path) as target:
            shutil.copyfileobj(source, target)
        with contextlib.suppress(OSError):  # what stays there does no harm
            checkpoint.unlink()
            self._checkpoints.rmdir()

    def _is_new(self, path: Path) -> bool:
        return identity(path) not in ((), self._before.get(path))
