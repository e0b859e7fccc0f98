"""What an engine is given to train on: the scan, with the probe that the patterns tell."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ptychopinn_ptychodus.config import ExecutionConfig, ModelConfig, TrainingConfig
from ptychopinn_ptychodus.data.container import PtychoDataContainer
from ptychopinn_ptychodus.data.simulation import make_object, make_probe, raster_positions, simulate_scan
from ptychopinn_ptychodus.worker import train
from ptychopinn_ptychodus.worker.job import DATA_DIRECTORY, TrainJob
from ptychopinn_ptychodus.worker.request import TrainingRequest


@dataclass
class Engine:
    """Keeps what it is to train on."""

    title: str = "Stub"
    takes_beginning: bool = False
    given: list[tuple[PtychoDataContainer, TrainingConfig]] = field(default_factory=list)

    def require(self) -> None:
        pass

    def train(
        self, container: PtychoDataContainer, held_out: object, config: TrainingConfig, *_: Any, **__: Any
    ) -> Any:
        self.given.append((container, config))
        return SimpleNamespace(stopped=False)


@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("step", [6.0, 40.0])
def test_the_probe_is_found_first_where_it_is_to_be_learnt(
    learns: bool, step: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine()
    monkeypatch.setattr(train, "get_engine", lambda name: engine)
    x, y = raster_positions(6, 6, step, origin=34.0, jitter=0.2, seed=0)
    truth = make_object((round(y.max()) + 34, round(x.max()) + 34), seed=1)
    scan = simulate_scan(truth, make_probe(64), x, y, photons=1e6, seed=2)
    given = scan.probeGuess.copy()
    scan.to_directory(tmp_path / DATA_DIRECTORY)
    config = TrainingConfig(model=ModelConfig(gridsize=1), probe_trainable=learns, probe_modes=3)
    job = TrainJob(
        asked=TrainingRequest.of(config),
        execution=ExecutionConfig(accelerator="cpu"),
        model_path=tmp_path / "model.ckpt",
        validation_fraction=0.0,
        preview=False,
        log_level=20,
    )
    told: list[float] = []

    def send(kind: str, **fields: Any) -> None:
        if kind == "progress":
            told.append(fields["fraction"])

    assert train.train(job, send, lambda: False, tmp_path) == {"stopped": False}
    ((container, used),) = engine.given
    if learns and step < 20:  # far apart, patterns do not tell a probe by themselves
        assert (used.probe_trainable, used.probe_modes) == (False, len(container.probe))
        assert not np.array_equal(container.probe, given)
        assert 0.1 < told[-1] < 0.5  # the rest is the training's
    else:
        assert (used.probe_trainable, used.probe_modes) == (learns, 3)
        np.testing.assert_array_equal(container.probe, given)
