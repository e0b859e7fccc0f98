"""Names of the engine ``pytorch``, and of what is in its model files; imports nothing."""

from __future__ import annotations

NAME = "pytorch"
"""The value of the ``backend`` setting that selects it."""

MODEL_SUFFIX = ".ckpt"
MODEL_NAME = "model.ckpt"
"""What a script's run leaves in its output directory."""

MANIFEST_KEY = "ptychopinn_ptychodus"
WEIGHTS_KEY = "state_dict"
CONFIGURATION_KEY = "hyper_parameters"
"""Lightning's own names for these."""
