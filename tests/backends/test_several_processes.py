"""Trainings that several processes share: one learning curve, one model, one who reports; Stop and death."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_support import QUICK, Bench, require_engine
from numpy.typing import NDArray

from ptychopinn_ptychodus.backends.base import EpochReport, TrainingResult
from ptychopinn_ptychodus.backends.lightning import group, ranks
from ptychopinn_ptychodus.config import TrainingConfig
from ptychopinn_ptychodus.data.joining import joined
from ptychopinn_ptychodus.data.raw import RawData

TWO = replace(QUICK, devices=2, learning_rate=1e-3)
PARITY = 1e-3
"""How far apart two learning curves may be, relative to one of them."""

GROUPS = 13
"""In batches of 4, the last of which has one group, and so none for the second process."""


@pytest.fixture
def bench(scan: RawData, tmp_path: Path) -> Bench:
    return Bench(require_engine("pytorch"), scan, tmp_path)


def _train(bench: Bench, execution: Any, **hooks: Any) -> TrainingResult:
    data, validation = bench.groups(count=GROUPS), bench.groups(count=5)
    return bench.train(execution, data=data, validation=validation, hooks=hooks, nepochs=2)


def _closest(losses: Mapping[str, list[float]], to: Mapping[str, list[float]]) -> None:
    assert losses.keys() == to.keys()
    for name in to:
        np.testing.assert_allclose(losses[name], to[name], rtol=PARITY, err_msg=name)


@pytest.fixture(scope="module")
def alone(scan: RawData, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingResult, dict[str, Any]]:
    """The training that all others are compared with: in one process."""
    bench = Bench(require_engine("pytorch"), scan, tmp_path_factory.mktemp("alone"))
    result = _train(bench, replace(TWO, devices=1))
    return result, dict(bench.arrays())


def _compare(
    arrays: Mapping[str, NDArray[Any]], expected: Mapping[str, NDArray[Any]], tolerance: float
) -> None:
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(arrays[name], array, atol=tolerance * max(1.0, np.abs(array).max()))


def test_two_processes_learn_as_one_does_and_leave_one_model(
    bench: Bench, alone: tuple[TrainingResult, dict[str, Any]]
) -> None:
    reports: list[EpochReport] = []
    batches: list[int] = []
    previews: list[tuple[int, ...]] = []
    container = bench.groups(count=3)
    variables = dict(os.environ)
    result = _train(
        bench,
        TWO,
        on_epoch=reports.append,
        on_batch=lambda: batches.append(1),
        preview=lambda report, apply: previews.append(apply(container).patches.shape),
    )
    _closest(result.history, alone[0].history)
    assert [report.epoch for report in reports] == [1, 2]
    assert [report.train_loss for report in reports] == result.history["train_loss"]
    # of the whole batch, not of the part that the first process has
    assert len(batches) == 2 * (4 + 2)
    learnt = reports[-1].patterns_per_second * reports[-1].seconds
    assert learnt == pytest.approx(2 * GROUPS)
    assert previews == [(3, 1, 64, 64)] * 2
    _compare(bench.arrays(), alone[1], 5e-3)
    assert bench.engine.describe(bench.model_path).history == result.history
    assert [path.name for path in bench.directory.iterdir()] == [bench.model_path.name]
    assert not torch.distributed.is_initialized()
    assert dict(os.environ) == variables


def test_known_objects_of_several_scans_reach_all_processes(bench: Bench) -> None:
    data = joined([bench.groups(count=count) for count in (4, 3)], with_objects=True)
    by_objects: dict[str, Any] = {
        "architecture": "unrolled",
        "nll_weight": 0.0,
        "realspace_aligned_weight": 1.0,
        "probe_trainable": False,
        "intensity_scale_trainable": False,
        "nepochs": 1,
    }
    histories = [
        bench.train(replace(TWO, devices=devices), data=data, **by_objects).history for devices in (1, 2)
    ]
    _closest(*histories)


def test_stop_ends_all_processes_with_the_best_model_kept(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = _watch_pids(monkeypatch)
    reports: list[EpochReport] = []
    asked: list[float] = []

    def should_stop() -> bool:
        if reports and not asked:
            asked.append(time.monotonic())
        return bool(asked)

    result = bench.train(
        TWO,
        data=bench.groups(count=GROUPS),
        hooks={"on_epoch": reports.append, "should_stop": should_stop},
        nepochs=500,
    )
    assert time.monotonic() - asked[0] < 2.0
    assert result.stopped
    assert len(result.history["train_loss"]) == 1
    assert bench.engine.describe(result.model_path).history == result.history
    _gone(pids)


def test_killed_process_is_an_error_that_names_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = _watch_pids(monkeypatch)
    killed: list[float] = []

    def kill(report: EpochReport) -> None:
        if not killed:
            killed.append(time.monotonic())
            os.kill(pids[0], signal.SIGKILL)

    with pytest.raises(RuntimeError) as caught:
        bench.train(TWO, data=bench.groups(count=GROUPS), hooks={"on_epoch": kill}, nepochs=500)
    assert time.monotonic() - killed[0] < 5.0
    assert f"Rank 1 of 2 (process {pids[0]}) was ended by SIGKILL" in str(caught.value)
    assert not bench.model_path.exists()
    _gone(pids)


def test_process_that_cannot_start_is_an_error_that_says_why(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks, "_MODULE", "ptychopinn_ptychodus.no_such_module")
    with pytest.raises(RuntimeError, match=r"Rank 1 of 2 .*no_such_module"):
        bench.train(TWO)


def _watch_pids(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Process ids of the further processes, once they are started."""
    pids: list[int] = []
    start = ranks.Ranks.start

    def started(self: ranks.Ranks) -> None:
        start(self)
        pids.extend(self.pids)

    monkeypatch.setattr(ranks.Ranks, "start", started)
    return pids


def _gone(pids: list[int]) -> None:
    assert pids
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


# ---------------------------------------------------------------------- started by others

SCRIPT = """
import atexit, hashlib, json, os, sys
from pathlib import Path

import torch

# registered first, it is called last
rank = os.environ.get("RANK", os.environ.get("SLURM_PROCID"))
state = Path(sys.argv[1]).parent / f"at-exit-{rank}"
atexit.register(lambda: state.write_text("joined" if torch.distributed.is_initialized() else "left"))

from ptychopinn_ptychodus.backends.lightning.components import train_cdi_model_torch
from ptychopinn_ptychodus.backends.registry import get_engine
from ptychopinn_ptychodus.config import ExecutionConfig, TrainingConfig, from_dict
from ptychopinn_ptychodus.data.raw import RawData

asked = json.loads(Path(sys.argv[1]).read_text())
raw = RawData.from_directory(Path(asked["scan"]))
groups = lambda count: raw.generate_grouped_data(raw.N, 8, count, gridsize=1, seed=0)
config = from_dict(TrainingConfig, asked["config"])
execution = from_dict(ExecutionConfig, asked["execution"])
results = train_cdi_model_torch(groups(asked["groups"]), groups(5), config, execution)
module = results["models"]["lightning_module"]
told = {
    "history": results["history"],
    "weights": hashlib.sha256(b"".join(a.tobytes() for a in module.arrays().values())).hexdigest(),
    "is_there": Path(results["model_path"]).is_file(),
    "rank": results["trainer"].global_rank,
}
(Path(sys.argv[1]).parent / f"told-{told['rank']}.json").write_text(json.dumps(told))
"""


def _prepare(bench: Bench, tmp_path: Path, scan: RawData) -> list[str]:
    """The command of a script that trains; further output goes to ``tmp_path / "out"``."""
    from ptychopinn_ptychodus.config import to_dict

    scan.to_directory(tmp_path / "scan")
    config: TrainingConfig = bench.config(nepochs=2, output_dir=tmp_path / "out")
    asked = {
        "scan": str(tmp_path / "scan"),
        "groups": GROUPS,
        "config": to_dict(config),
        "execution": to_dict(TWO),
    }
    (tmp_path / "asked.json").write_text(json.dumps(asked))
    (tmp_path / "script.py").write_text(SCRIPT)
    return [str(tmp_path / "script.py"), str(tmp_path / "asked.json")]


def _check_told(tmp_path: Path, expected: Mapping[str, list[float]]) -> None:
    told = [json.loads((tmp_path / f"told-{rank}.json").read_text()) for rank in range(2)]
    assert told[0]["weights"] == told[1]["weights"]
    assert told[0]["history"] == told[1]["history"]
    _closest(told[0]["history"], expected)
    assert all(each["is_there"] for each in told)
    # a process that ends while it is in the group may be aborted
    assert [(tmp_path / f"at-exit-{rank}").read_text() for rank in range(2)] == ["left", "left"]
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len([path for path in written if path.parent == tmp_path / "out"]) == 1
    assert len([path for path in written if path.parent.name == "checkpoints"]) == 1


def test_torchrun_starts_the_processes(
    bench: Bench, tmp_path: Path, scan: RawData, alone: tuple[TrainingResult, dict[str, Any]]
) -> None:
    command = _prepare(bench, tmp_path, scan)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    result = subprocess.run([*launcher, *command], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    _check_told(tmp_path, alone[0].history)


def test_srun_starts_the_processes(
    bench: Bench, tmp_path: Path, scan: RawData, alone: tuple[TrainingResult, dict[str, Any]]
) -> None:
    command = _prepare(bench, tmp_path, scan)
    # Lightning makes its port of the last digits
    job = str(os.getpid() % 10000)
    common = {"NTASKS": "2", "NTASKS_PER_NODE": "2", "JOB_NAME": "scan", "JOB_ID": job, "NODEID": "0"}
    processes = []
    for rank in ("0", "1"):
        values = {**common, "PROCID": rank, "LOCALID": rank, "NODELIST": "127.0.0.1"}
        environment = {**os.environ, **{f"SLURM_{name}": value for name, value in values.items()}}
        processes.append(
            subprocess.Popen([sys.executable, *command], env=environment, stderr=subprocess.PIPE, text=True)
        )
    for process in processes:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    _check_told(tmp_path, alone[0].history)


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("variables", "knobs", "message"),
    [
        ({}, {"num_nodes": 2}, r"num_nodes = 2.*srun or torchrun"),
        ({}, {"devices": 2, "strategy": "fsdp"}, r"strategy = 'fsdp'.*'ddp'"),
        ({"torchrun": "3"}, {"devices": 2}, r"torchrun has started 3 processes.*are 2"),
        ({"torchrun": "3"}, {}, r"torchrun has started 3 processes.*ask for one"),
    ],
)
def test_processes_that_do_not_fit_are_refused(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    knobs: dict[str, Any],
    message: str,
) -> None:
    if variables:
        values = {"RANK": "0", "LOCAL_RANK": "0", "TORCHELASTIC_RUN_ID": "x"}
        for name, value in {**values, "WORLD_SIZE": variables["torchrun"]}.items():
            monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        group.membership(bench.config(), replace(QUICK, **knobs))


def test_devices_need_a_seed(bench: Bench) -> None:
    with pytest.raises(ValueError, match=r"subsample_seed is None"):
        group.membership(bench.config(subsample_seed=None), TWO)
