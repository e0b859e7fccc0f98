"""TensorFlow's trainings on several devices and processes: one learning curve, one model; Stop and death."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_support import QUICK, Bench, require_engine, without_graphs
from numpy.typing import NDArray

from ptychopinn_ptychodus.backends.base import TrainingResult
from ptychopinn_ptychodus.backends.tensorflow.group import Group, group_of
from ptychopinn_ptychodus.config import ExecutionConfig, to_dict
from ptychopinn_ptychodus.data.raw import RawData

ONE = replace(QUICK, learning_rate=1e-3, gradient_clip_val=0.02)
PARITY = 1e-3
"""How far apart two learning curves may be, relative to one of them."""

GROUPS = 13
"""In batches of 3, of which one replica has two and the other one; the last is of one, and none."""

BATCH = 3


@pytest.fixture
def bench(scan: RawData, tmp_path: Path) -> Bench:
    return Bench(require_engine("tensorflow"), scan, tmp_path)


@dataclass(frozen=True)
class Alone:
    """The training that all others are compared with: on one device."""

    result: TrainingResult
    arrays: Mapping[str, NDArray[Any]]

    def compare(self, bench: Bench, model: Path) -> None:
        """Learning curves, and what the optimiser has made of the gradients."""
        history = bench.engine.describe(model).history
        assert history.keys() == self.result.history.keys()
        for name, losses in self.result.history.items():
            np.testing.assert_allclose(history[name], losses, rtol=PARITY, err_msg=name)
        # every step moves it by about the learning rate, one way or the other
        scales = [float(each["log_scale"]) for each in (bench.engine.read_state(model).arrays, self.arrays)]
        assert scales[0] == pytest.approx(scales[1], abs=0.05 * ONE.learning_rate)


@pytest.fixture(scope="module")
def alone(scan: RawData, tmp_path_factory: pytest.TempPathFactory) -> Alone:
    bench = Bench(require_engine("tensorflow"), scan, tmp_path_factory.mktemp("alone"))
    data = bench.groups(count=GROUPS)
    with without_graphs(bench.engine):
        result = bench.train(ONE, data=data, validation=bench.groups(count=5), nepochs=2, batch_size=BATCH)
    return Alone(result, bench.arrays())


# ---------------------------------------------------------------------- one process: MirroredStrategy

REPLICAS = """
import json, sys
from pathlib import Path

import tensorflow as tf

from ptychopinn_ptychodus.backends.registry import get_engine
from ptychopinn_ptychodus.config import ExecutionConfig, TrainingConfig, from_dict
from ptychopinn_ptychodus.data.raw import RawData

asked = json.loads(Path(sys.argv[1]).read_text())
tf.config.run_functions_eagerly(asked["eagerly"])
raw = RawData.from_directory(Path(asked["scan"]))
groups = lambda count: raw.generate_grouped_data(raw.N, 8, count, gridsize=1, seed=0)
seen = {"epochs": [], "batches": 0, "previews": [], "error": ""}
few = groups(3)


def on_batch():
    seen["batches"] += 1


def on_epoch(report):
    seen["epochs"].append(report.train_loss)
    print(report.epoch, flush=True)


def preview(report, apply):
    seen["previews"].append(list(apply(few).patches.shape))


try:
    result = get_engine("tensorflow").train(
        groups(asked["groups"]),
        groups(5),
        from_dict(TrainingConfig, asked["config"]),
        from_dict(ExecutionConfig, asked["execution"]),
        model_path=Path(asked["config"]["output_dir"]) / "model.wts.h5.zip",
        on_batch=on_batch,
        on_epoch=on_epoch,
        preview=preview,
        should_stop=lambda: len(seen["epochs"]) == asked["stop_after"],
    )
    seen |= {"history": result.history, "stopped": result.stopped}
except RuntimeError as exc:
    seen["error"] = str(exc)
Path(sys.argv[2]).write_text(json.dumps(seen))
"""


class Script:
    """Scripts that train, each in a process of its own, and what they have seen.

    ``eagerly``, nothing is traced, which takes most of the time of so few batches.
    """

    def __init__(
        self,
        bench: Bench,
        tmp_path: Path,
        execution: ExecutionConfig,
        stop_after: int | None,
        *,
        eagerly: bool = False,
    ) -> None:
        self.directory = tmp_path / "script"
        self.output = tmp_path / "out"
        bench.scan.to_directory(self.directory / "scan")
        config = bench.config(
            nepochs=2 if stop_after is None else 500, output_dir=self.output, batch_size=BATCH
        )
        asked = {
            "scan": str(self.directory / "scan"),
            "groups": GROUPS,
            "config": to_dict(config),
            "execution": to_dict(execution),
            "stop_after": stop_after,
            "eagerly": eagerly,
        }
        (self.directory / "asked.json").write_text(json.dumps(asked))
        (self.directory / "script.py").write_text(REPLICAS)

    def start(self, rank: int, cluster: Mapping[str, list[str]] | None = None) -> subprocess.Popen[str]:

        environment = dict(os.environ)
        if cluster is not None:
            task = {"type": "worker", "index": rank}
            environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
        command = [sys.executable, "script.py", "asked.json", f"told-{rank}.json"]
        with (self.directory / f"log-{rank}").open("w") as log:
            return subprocess.Popen(
                command, cwd=self.directory, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
            )

    def told(self, rank: int, process: subprocess.Popen[str]) -> Any:
        process.communicate(timeout=300)
        assert process.returncode == 0, (self.directory / f"log-{rank}").read_text()[-3000:]
        return json.loads((self.directory / f"told-{rank}.json").read_text())


def test_replicas_of_one_process_learn_as_one_device_does(bench: Bench, tmp_path: Path, alone: Alone) -> None:
    script = Script(bench, tmp_path, replace(ONE, devices=2), None, eagerly=True)
    told = script.told(0, script.start(0))
    assert told["epochs"] == told["history"]["train_loss"]
    assert told["batches"] == 2 * (5 + 2)  # of the whole batch, not of the part that a replica has
    assert told["previews"] == [[3, 1, 64, 64]] * 2
    model = script.output / "model.wts.h5.zip"
    assert bench.engine.describe(model).history == told["history"]
    alone.compare(bench, model)
    assert list(script.output.iterdir()) == [model]


# ---------------------------------------------------------------------- several: MultiWorkerMirroredStrategy


def _cluster(count: int) -> dict[str, list[str]]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return {"worker": [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]}
    finally:
        for each in sockets:
            each.close()


def test_processes_learn_as_one_does_and_stop_together(bench: Bench, tmp_path: Path, alone: Alone) -> None:
    """The first one is stopped after two of 500 epochs; it alone reports and writes."""
    script = Script(bench, tmp_path, replace(ONE, num_nodes=2), 2)
    cluster = _cluster(2)
    processes = [script.start(rank, cluster) for rank in range(2)]
    told = [script.told(rank, process) for rank, process in enumerate(processes)]
    assert [each["error"] for each in told] == ["", ""]
    assert told[0]["history"] == told[1]["history"]
    assert [each["stopped"] for each in told] == [True, True]
    assert [len(each["epochs"]) for each in told] == [2, 0]
    assert told[1]["batches"] == 0
    model = script.output / "model.wts.h5.zip"
    assert bench.engine.describe(model).history == told[0]["history"]
    alone.compare(bench, model)
    assert list(script.output.iterdir()) == [model]


def test_killed_process_is_an_error_that_names_it(bench: Bench, tmp_path: Path) -> None:
    script = Script(bench, tmp_path, replace(ONE, num_nodes=2), 500, eagerly=True)
    cluster = _cluster(2)
    first, second = (script.start(rank, cluster) for rank in range(2))
    assert first.stdout is not None
    assert first.stdout.readline() == "1\n", (script.directory / "log-0").read_text()[-3000:]
    second.kill()
    second.communicate()
    error = script.told(0, first)["error"]
    assert f"Rank 1 of 2 (worker 1, at {cluster['worker'][1]}) has ended" in error
    assert not (script.output / "model.wts.h5.zip").exists()


# ---------------------------------------------------------------------- what is refused

TWO_WORKERS = json.dumps({"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}})


@pytest.mark.parametrize(
    ("variables", "knobs", "message"),
    [
        ({}, {"num_nodes": 2}, r"num_nodes = 2, but TF_CONFIG is not set"),
        ({"TF_CONFIG": TWO_WORKERS}, {"num_nodes": 3}, r"num_nodes = 3, but TF_CONFIG names 2"),
        ({"TF_CONFIG": TWO_WORKERS}, {}, r"TF_CONFIG names 2 processes.*asks for one"),
        (
            {"TF_CONFIG": TWO_WORKERS},
            {"devices": 2, "num_nodes": 2},
            r"devices = 2 on several nodes needs GPUs",
        ),
        ({"TF_CONFIG": "{"}, {"devices": 2}, r"TF_CONFIG has to be JSON.*'\{'"),
        ({}, {"devices": 2, "accum_steps": 2}, r"accum_steps = 2 .*'tensorflow'"),
        (
            {"SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "scan"},
            {"devices": 2},
            r"SLURM has started 2 processes.*TF_CONFIG",
        ),
    ],
)
def test_processes_that_do_not_fit_are_refused(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    knobs: dict[str, Any],
    message: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        group_of(bench.config(), replace(QUICK, **knobs))


def test_devices_need_a_seed(bench: Bench) -> None:
    with pytest.raises(ValueError, match=r"subsample_seed is None"):
        group_of(bench.config(subsample_seed=None), replace(QUICK, devices=2))


def test_one_device_is_no_group(bench: Bench) -> None:
    assert group_of(bench.config(), QUICK) == Group(device="cpu")
