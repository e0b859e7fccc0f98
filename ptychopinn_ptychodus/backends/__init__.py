"""Training and inference engines; each framework is imported only when its engine is chosen."""

INSTALL_HINT = 'pip install "ptychopinn-ptychodus[torch]"'

CHECKPOINT_DIRECTORY = "checkpoints"
"""Where, in a run's output directory, an engine keeps the best state so far until the model is written."""
