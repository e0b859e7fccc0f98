"""What the engine ``tensorflow`` is made with: found, and imported, when it is needed."""

from __future__ import annotations

import os
import sys

from .. import TENSORFLOW_HINT
from ..framework import EngineUnavailableError, Framework
from .names import NAME


class _KerasOnTensorFlow(Framework):
    def load(self) -> None:
        """As for every framework; Keras is made to run on TensorFlow."""
        self.require()
        # Keras runs on what this names, else on what a file in the user's home does; once imported, for good
        os.environ["KERAS_BACKEND"] = NAME
        if "keras" in sys.modules and (used := sys.modules["keras"].config.backend()) != NAME:
            raise EngineUnavailableError(
                f"TensorFlow backend selected, but it is unavailable: Keras runs on {used!r} in this "
                "process. Start a new one with the environment variable KERAS_BACKEND=tensorflow."
            )
        # else the last words of a process that dies are buried under what TensorFlow was compiled for
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        super().load()


FRAMEWORK = _KerasOnTensorFlow(
    title="TensorFlow",
    needed=("tensorflow", "keras"),
    imported=(f"{__package__}.training",),
    install_hint=TENSORFLOW_HINT,
)
