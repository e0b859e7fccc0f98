"""Training and inference engines; each framework is imported only when its engine is chosen."""


def install_line(extra: str) -> str:
    """The command that installs an extra of this package, from the index and from a checkout."""
    return f'pip install "ptychopinn-ptychodus[{extra}]" (from a checkout: pip install .[{extra}])'


TORCH_HINT = install_line("torch")
TENSORFLOW_HINT = install_line("tensorflow")
MLFLOW_HINT = install_line("mlflow")

INSTALL_HINT = f"{TORCH_HINT} or {TENSORFLOW_HINT}"
"""For an installation without any framework."""

CHECKPOINT_DIRECTORY = "checkpoints"
"""Where, in a run's output directory, an engine keeps the best state so far until the model is written."""
