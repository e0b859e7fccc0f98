"""Neural-network ptychography reconstructors for Ptychodus, and from Python.

The public names of :mod:`ptychopinn_ptychodus.api` are here as well. They are imported when they are first
used, so that importing the package imports neither numpy nor a framework.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = [
    "Comparison",
    "Confidence",
    "EngineUnavailableError",
    "EpochReport",
    "ExaminationConfig",
    "ExaminationError",
    "ExecutionConfig",
    "Finding",
    "InferenceConfig",
    "LiveObject",
    "LiveReconstruction",
    "LiveState",
    "Model",
    "ModelConfig",
    "ModelFileError",
    "Observer",
    "RawData",
    "Reconstruction",
    "RefinementConfig",
    "RefinementReport",
    "Report",
    "TrainingConfig",
    "__version__",
    "compare",
    "default_execution_config",
    "default_refinement_config",
    "default_training_config",
    "illumination_mask",
    "make_object",
    "make_probe",
    "open_model",
    "raster_positions",
    "reconstruct",
    "reconstruct_live",
    "refine",
    "simulate_scan",
    "train",
    "warm_worker",
]
# Type checkers read __init__.pyi in place of this file; a test holds this list to that of api.py.


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = importlib.import_module(f"{__name__}.installed").own_version()
    elif name in __all__:
        value = getattr(importlib.import_module(f"{__name__}.api"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
