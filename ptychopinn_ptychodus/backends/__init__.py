"""Training and inference engines; each framework is imported only when its engine is chosen."""

TORCH_HINT = 'pip install "ptychopinn-ptychodus[torch]"'
TENSORFLOW_HINT = 'pip install "ptychopinn-ptychodus[tensorflow]"'

INSTALL_HINT = f"{TORCH_HINT} or {TENSORFLOW_HINT}"
"""For an installation without any framework."""

CHECKPOINT_DIRECTORY = "checkpoints"
"""Where, in a run's output directory, an engine keeps the best state so far until the model is written."""
