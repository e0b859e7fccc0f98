"""The Python interface: arrays and dataclasses in, arrays and dataclasses out; nothing of Ptychodus.

Everything here is also at the top of the package: ``from ptychopinn_ptychodus import RawData, train``. Scans
are examined before anything is computed from them, and results are judged afterwards. What was found is
logged under the name ``PtychoPINN-Plugin``, warnings as such, and is in the ``findings`` of what is returned.

``train``, ``reconstruct`` and ``refine`` work in a child process, unless ``in_process`` is True: then the
framework that they import stays in this one.

The examples below share a scan of 36 patterns, made as a user would make one:

>>> import numpy as np
>>> from ptychopinn_ptychodus import *
>>> x, y = raster_positions(6, 6, step=7.0, origin=38.0)
>>> truth = make_object((112, 112), seed=0)
>>> scan = simulate_scan(truth, make_probe(64), x, y, photons=1e6, seed=0)
"""

from __future__ import annotations

from ..backends.base import EpochReport, ModelFileError
from ..backends.framework import EngineUnavailableError
from ..config import ExecutionConfig, InferenceConfig, ModelConfig, TrainingConfig
from ..data.confidence import Confidence
from ..data.examination import ExaminationConfig, ExaminationError, Finding, Report
from ..data.metrics import Comparison, compare, illumination_mask
from ..data.raw import RawData
from ..data.simulation import make_object, make_probe, raster_positions, simulate_scan
from ..live.session import LiveReconstruction
from ..live.state import LiveObject, LiveState
from ..refinement import RefinementConfig, RefinementReport
from ..worker.running import Observer
from ..worker.warm import warm_worker
from .defaults import default_execution_config, default_refinement_config, default_training_config
from .reconstruction import reconstruct, reconstruct_live, refine
from .results import Model, Reconstruction, open_model
from .training import train

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
