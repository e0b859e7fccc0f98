"""An engine without a framework, for tests: what it does wrong is asked of it in ``FAKE_ENGINE``.

The environment variable holds a JSON object: ``epoch_seconds``, ``prints``, ``raises`` (an exception's
name), ``checkpoint`` (leaves one, readable by its owner alone), ``hangs``, ``has_children``,
``fails_to_predict``, ``unavailable``.
"""

from __future__ import annotations

import builtins
import dataclasses
import json
import logging
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from ptychopinn_ptychodus.backends.base import (
    Engine,
    EpochReport,
    ModelDescription,
    ModelFileError,
    Prediction,
    TrainingResult,
)
from ptychopinn_ptychodus.config import DataConfig, ModelConfig, from_dict, to_dict

VALUE = 0.8 * np.exp(0.5j)
PROBE_FACTOR = 3.0


def wishes() -> dict[str, Any]:
    return json.loads(os.environ.get("FAKE_ENGINE", "{}"))


class FakeEngine(Engine):
    name = "pytorch"
    title = "Fake"
    model_suffix = ".ckpt"
    model_filter = "Fake Models (*.ckpt)"

    def problem(self):
        return wishes().get("unavailable")

    def accelerators(self):
        return ["cpu"]

    def recognises(self, path):
        with path.open("rb") as file:
            return file.read(8) == b'{"fake":'

    def describe(self, path):
        content = json.loads(Path(path).read_text())
        return ModelDescription(
            engine=self.name,
            version="1",
            model=from_dict(ModelConfig, content["model"]),
            data=from_dict(DataConfig, content["data"]),
            history=content["history"],
        )

    def _save(self, path, config, container, history):
        data = DataConfig(N=container.N, gridsize=container.gridsize, input_scale=container.input_scale)
        content = {
            "fake": True,
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
        self, train, validation, config, execution, *, model_path, report=None, should_stop=None
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
            subprocess.Popen(["sleep", "20"])
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
                if should_stop is not None and should_stop():
                    self._save(model_path, config, train, history)
                    return TrainingResult(model_path, history, stopped=True)
                if time.monotonic() >= deadline:
                    break
                time.sleep(0.02)
            history["train_loss"].append(1.0 / epoch)
            if validation is not None:
                history["val_loss"].append(1.1 / epoch)
            if report is not None:
                seconds = time.monotonic() - started + 1e-6
                report(
                    EpochReport(
                        epoch,
                        config.nepochs,
                        1.0 / epoch,
                        None if validation is None else 1.1 / epoch,
                        seconds,
                        epoch * len(train) / seconds,
                    )
                )
        self._save(model_path, config, train, history)
        return TrainingResult(model_path, history, stopped=False)

    def predict(self, model_path, container, execution, *, report=None, should_stop=None) -> Prediction:
        wish = wishes()
        if wish.get("fails_to_predict"):
            raise ModelFileError("as the test asked")
        description = self.describe(model_path)
        if (description.model.N, description.model.gridsize) != (container.N, container.gridsize):
            raise ModelFileError("wrong N or gridsize")
        deadline = time.monotonic() + wish.get("predict_seconds", 0.0)
        while time.monotonic() < deadline:
            if should_stop is not None and should_stop():
                raise InterruptedError
            time.sleep(0.02)
        if report is not None:
            report(0.5)
            report(1.0)
        shape = (*container.nn_indices.shape, container.N, container.N)
        return Prediction(np.full(shape, VALUE, dtype=np.complex64), container.probe * PROBE_FACTOR)
