"""Training sets of many made objects under given or made probes, for models that are for any scan."""

from .config import PretrainingConfig

__all__ = ["PretrainingConfig"]
