"""Engines without a framework, for tests: what they do wrong is asked of them in ``FAKE_ENGINE``.

The environment variable holds a JSON object: ``epoch_seconds``, ``prints``, ``raises`` (an exception's
name), ``checkpoint`` (leaves one, readable by its owner alone), ``hangs``, ``has_children``,
``fails_to_predict``, ``interrupts`` (the process, as Ctrl-C does, when the prediction is done), ``dies``
(the process, then and there), ``seconds_more`` (that training claims to have taken), ``installed`` (names of
the engines that have their framework; by default not ``tensorflow``, so that ``auto`` is ``pytorch``),
``unconvertible``.
"""

from __future__ import annotations

import builtins
import dataclasses
import json
import logging
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ptychopinn_ptychodus.backends.any_probe import fits_size
from ptychopinn_ptychodus.backends.base import (
    Engine,
    EpochReport,
    ModelDescription,
    ModelFileError,
    ModelState,
    OnBatch,
    OnEpoch,
    OnProgress,
    Prediction,
    PreviewCallback,
    ShouldStop,
    TrainingResult,
)
from ptychopinn_ptychodus.backends.conversion import not_convertible, read_model
from ptychopinn_ptychodus.config import (
    DataConfig,
    ExecutionConfig,
    ModelConfig,
    TrainingConfig,
    from_dict,
    to_dict,
)
from ptychopinn_ptychodus.data.container import PtychoDataContainer

VALUE = 0.8 * np.exp(0.5j)
PROBE_FACTOR = 3.0


def wishes() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(os.environ.get("FAKE_ENGINE", "{}"))
    return found


class FakeEngine(Engine):
    name = "pytorch"
    title = "Fake PyTorch"
    model_suffix = ".ckpt"
    model_filter = "Fake Models (*.ckpt)"
    install_hint = "pip install fake-torch"

    def problem(self) -> str | None:
        if self.name in wishes().get("installed", ("pytorch", "abacus")):
            return None
        return f"{self.title} backend selected, but it is unavailable. Install it with: {self.install_hint}"

    def accelerators(self) -> list[str]:
        return ["cpu"]

    def recognises(self, path: Path) -> bool:
        beginning = b'{"fake": "%s"' % self.name.encode()
        with path.open("rb") as file:
            return file.read(len(beginning)) == beginning

    def describe(self, path: Path) -> ModelDescription:
        return self.read_state(path).description

    def read_state(self, path: Path) -> ModelState:
        if not self.recognises(path):
            raise ModelFileError(f"{path} is no model of {self.name}")
        content = json.loads(Path(path).read_text())
        description = ModelDescription(
            engine=self.name,
            version="1",
            model=from_dict(ModelConfig, content["model"]),
            data=from_dict(DataConfig, content["data"]),
            history=content["history"],
        )
        return ModelState(description, from_dict(TrainingConfig, content["config"]), {})

    def write_state(self, state: ModelState, path: Path) -> None:
        self.require()
        self._refuse(state, path)
        description = state.description
        content = {
            "fake": self.name,
            "model": to_dict(description.model),
            "data": to_dict(description.data),
            "history": description.history,
            "config": to_dict(state.training),
        }
        path.write_text(json.dumps(content))

    def _refuse(self, state: ModelState, path: Path) -> None:
        if wishes().get("unconvertible"):
            raise not_convertible(state, self.name, "as the test asked", path)

    def _save(
        self,
        path: Path,
        config: TrainingConfig,
        container: PtychoDataContainer,
        history: Mapping[str, list[float]],
    ) -> None:
        data = DataConfig(
            N=container.N,
            gridsize=container.gridsize,
            input_scale=container.input_scale,
            photons_per_pattern=container.photons_per_pattern or 1.0,
        )
        content = {
            "fake": self.name,
            "model": to_dict(config.model),
            "data": dataclasses.asdict(data),
            "history": history,
            "config": to_dict(config),
            "groups": len(container),
            "pid": os.getpid(),
        }
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_text(json.dumps(content))
        temporary.replace(path)

    def train(
        self,
        train: PtychoDataContainer,
        validation: PtychoDataContainer | None,
        config: TrainingConfig,
        execution: ExecutionConfig,
        *,
        model_path: Path,
        on_batch: OnBatch | None = None,
        on_epoch: OnEpoch | None = None,
        should_stop: ShouldStop | None = None,
        preview: PreviewCallback | None = None,
    ) -> TrainingResult:
        wish = wishes()
        history: dict[str, list[float]] = {"train_loss": [], "val_loss": []}
        if wish.get("prints"):
            print('{"kind": "result", "stopped": false}')
            os.write(1, b'{"kind": "error"\n')
            print("noise", file=sys.stderr)
            warnings.warn("a warning", UserWarning, stacklevel=1)
            logging.getLogger("some.framework").info("framework chatter")
            logging.getLogger("some.framework").warning("framework warning")
        if wish.get("has_children"):  # as data loaders are: they hold the pipes of the worker
            subprocess.Popen(["sleep", "180"])  # longer than a test waits
        if wish.get("checkpoint"):
            checkpoint = model_path.parent / "checkpoints" / "best-epoch=0000.ckpt"
            checkpoint.parent.mkdir(exist_ok=True)
            self._save(checkpoint, config, train, {"train_loss": [0.5]})
            checkpoint.chmod(0o600)
        if "raises" in wish:
            if wish["raises"] == "FrameworkError":
                raise type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory")
            raise getattr(builtins, wish["raises"])("as the test asked")
        while wish.get("hangs"):
            time.sleep(0.1)
        started = time.monotonic()
        for epoch in range(1, config.nepochs + 1):
            deadline = time.monotonic() + wish.get("epoch_seconds", 0.0)
            while True:
                if on_batch is not None:
                    on_batch()
                if should_stop is not None and should_stop():
                    self._save(model_path, config, train, history)
                    return TrainingResult(model_path, history, stopped=True)
                if time.monotonic() >= deadline:
                    break
                time.sleep(0.02)
            history["train_loss"].append(1.0 / epoch)
            if validation is not None:
                history["val_loss"].append(1.1 / epoch)
            seconds = time.monotonic() - started + 1e-6
            state = EpochReport(
                epoch,
                config.nepochs,
                1.0 / epoch,
                None if validation is None else 1.1 / epoch,
                seconds + wish.get("seconds_more", 0.0),
                epoch * len(train) / seconds,
            )
            if on_epoch is not None:
                on_epoch(state)
            if preview is not None:
                preview(state, _constant)
        self._save(model_path, config, train, history)
        return TrainingResult(model_path, history, stopped=False)

    def predict(
        self,
        model_path: Path,
        container: PtychoDataContainer,
        execution: ExecutionConfig,
        *,
        on_progress: OnProgress | None = None,
        should_stop: ShouldStop | None = None,
    ) -> Prediction:
        wish = wishes()
        if wish.get("fails_to_predict"):
            raise ModelFileError("as the test asked")
        state = read_model(model_path)  # of any engine
        if state.description.engine != self.name:
            self._refuse(state, model_path)
        description = state.description
        fits = fits_size(description.model, description.data, container.N)
        if not fits or description.model.gridsize != container.gridsize:
            raise ModelFileError("wrong N or gridsize")
        deadline = time.monotonic() + wish.get("predict_seconds", 0.0)
        while time.monotonic() < deadline:
            if should_stop is not None and should_stop():
                raise InterruptedError
            time.sleep(0.02)
        if on_progress is not None:
            on_progress(0.5)
            on_progress(1.0)
        if wish.get("interrupts"):
            os.kill(os.getpid(), signal.SIGINT)
        if wish.get("dies"):
            os.kill(os.getpid(), signal.SIGKILL)  # Ctrl-C may be ignored, which is inherited
        return _constant(container)


def _constant(container: PtychoDataContainer) -> Prediction:
    shape = (*container.nn_indices.shape, container.N, container.N)
    return Prediction(np.full(shape, VALUE, dtype=np.complex64), container.probe * PROBE_FACTOR)


class FakeTensorFlow(FakeEngine):
    name = "tensorflow"
    title = "Fake TensorFlow"
    model_suffix = ".wts.h5.zip"
    model_filter = "Fake Models (*.wts.h5.zip)"
    install_hint = "pip install fake-tensorflow"


class Abacus(FakeEngine):
    """Somebody else's engine."""

    name = "abacus"
    title = "Abacus"
    model_suffix = ".beads"
    model_filter = "Abacus Models (*.beads)"
    install_hint = "pip install abacus"
