"""One way to train a small model with either engine, through what every engine offers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ptychopinn_ptychodus.backends.base import Engine, TrainingResult
from ptychopinn_ptychodus.backends.registry import get_engine
from ptychopinn_ptychodus.config import ExecutionConfig, ModelConfig, TrainingConfig
from ptychopinn_ptychodus.data.container import PtychoDataContainer
from ptychopinn_ptychodus.data.raw import RawData

ENGINES = ("tensorflow", "pytorch")

QUICK = ExecutionConfig(accelerator="cpu", learning_rate=2e-3, scheduler="constant", logger_backend="none")
FROZEN = replace(QUICK, gradient_clip_val=1e-30)
"""Trains without moving anything: Adam's step drowns such gradients in its epsilon."""


def require_engine(name: str) -> Engine:
    """The engine, or a skip that says what is missing."""
    engine = get_engine(name)
    problem = engine.problem()
    if problem is not None:
        pytest.skip(problem)
    return engine


@contextmanager
def without_graphs(engine: Engine) -> Iterator[None]:
    """TensorFlow without tracing, which takes most of the time of a run of a few batches."""
    if engine.name != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


def has_convolution(engine: Engine, precision: str) -> bool:
    """Whether the framework convolves in this precision here: TensorFlow does not on every processor."""
    if engine.name != "tensorflow":
        return True
    import keras
    import tensorflow as tf

    policy = {"16-mixed": "mixed_float16", "bf16-mixed": "mixed_bfloat16"}[precision]
    try:
        keras.layers.Conv2D(2, 3, activation="relu", dtype=policy)(tf.ones((1, 8, 8, 1)))
    except tf.errors.OpError:
        return False
    return True


@dataclass
class Bench:
    """A scan, an engine and a place to train in."""

    engine: Engine
    scan: RawData
    directory: Path

    @property
    def model_path(self) -> Path:
        return self.directory / f"model{self.engine.model_suffix}"

    def config(self, **changes: Any) -> TrainingConfig:
        """A configuration for few groups; ``changes`` are of it or of its model."""
        of_model = {f.name for f in dataclasses.fields(ModelConfig)} & changes.keys()
        model = ModelConfig(**{"n_filters_scale": 1} | {name: changes.pop(name) for name in of_model})
        values: dict[str, Any] = {
            "model": model,
            "nepochs": 1,
            "batch_size": 4,
            "subsample_seed": 0,
            "n_groups": 12,
        }
        values |= {"output_dir": self.directory, "backend": self.engine.name} | changes
        return TrainingConfig(**values)

    def groups(self, gridsize: int = 1, count: int = 12, **changes: Any) -> PtychoDataContainer:
        container = self.scan.generate_grouped_data(self.scan.N, 8, count, gridsize=gridsize, seed=0)
        return replace(container, **changes)

    def train(
        self,
        execution: ExecutionConfig = QUICK,
        *,
        data: PtychoDataContainer | None = None,
        validation: PtychoDataContainer | None = None,
        hooks: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> TrainingResult:
        """Train on ``data`` (else :meth:`groups`); ``hooks``: as of Engine.train."""
        config = self.config(**changes)
        data = data or self.groups(config.model.gridsize)
        return self.engine.train(
            data, validation, config, execution, model_path=self.model_path, **hooks or {}
        )

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Of the trained model."""
        return self.engine.read_state(self.model_path).arrays

    def patches(self, data: PtychoDataContainer, execution: ExecutionConfig = QUICK) -> NDArray[np.complex64]:
        return self.engine.predict(self.model_path, data, execution).patches


def distance(a: Mapping[str, NDArray[Any]], b: Mapping[str, NDArray[Any]]) -> float:
    """Root of the sum of squared differences between two models."""
    assert a.keys() == b.keys()
    return float(np.sqrt(sum(((a[name].astype(float) - b[name]) ** 2).sum() for name in a)))


def relative_error(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    """In the maximum norm."""
    return float(np.abs(actual - expected).max() / np.abs(expected).max())
