"""The application and the worker are two processes: what passes between them, and what becomes of either."""

from __future__ import annotations

import dataclasses
import errno
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plugin_support import make_library, run
from ptychodus.api.reconstruct import ReconstructInput

from ptychopinn_ptychodus.backends.base import ModelFileError
from ptychopinn_ptychodus.backends.framework import EngineUnavailableError
from ptychopinn_ptychodus.config import ExecutionConfig, ModelConfig, TrainingConfig
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.ptychodus_io.ingest import join_scans
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.worker import interpreter, process
from ptychopinn_ptychodus.worker.job import ReconstructJob, TrainJob, read_job, write_job
from ptychopinn_ptychodus.worker.request import ReconstructionRequest, TrainingRequest
from ptychopinn_ptychodus.worker.wire import describe_error, rebuild_error


def carried(exc: BaseException) -> Exception:
    return rebuild_error(json.loads(json.dumps(describe_error(exc))))


@pytest.mark.parametrize(
    "exc",
    [
        ValueError("text"),
        FileNotFoundError("text"),
        ModelFileError("text"),
        EngineUnavailableError("text"),
        MemoryError("text"),
    ],
)
def test_an_error_keeps_its_type_and_text(exc: Exception) -> None:
    assert type(carried(exc)) is type(exc)
    assert str(carried(exc)) == str(exc)


def test_an_operating_system_error_keeps_its_number_and_file() -> None:
    exc = carried(OSError(errno.ENOSPC, "No space left on device", Path("/data/model.ckpt")))
    assert isinstance(exc, OSError)
    assert (exc.errno, exc.filename) == (errno.ENOSPC, "/data/model.ckpt")


def test_an_unknown_error_becomes_the_nearest_known_one() -> None:
    class FrameworkError(Exception):
        pass

    class OutOfMemoryError(RuntimeError):
        pass

    assert type(carried(FrameworkError("text"))) is RuntimeError
    assert str(carried(FrameworkError("text"))) == "FrameworkError: text"
    assert str(carried(OutOfMemoryError("text"))) == "OutOfMemoryError: text"
    assert type(carried(UnicodeDecodeError("utf-8", b"", 0, 1, "text"))) is UnicodeError
    assert str(carried(MemoryError())) == "MemoryError"


def test_jobs_survive_the_file(tmp_path: Path) -> None:
    train = TrainJob(
        asked=TrainingRequest.of(TrainingConfig(model=ModelConfig(gridsize=2), train_data_file=tmp_path)),
        execution=ExecutionConfig(gradient_clip_val=1.0),
        model_path=tmp_path / "model.ckpt",
        validation_fraction=0.1,
        preview=True,
        log_level=10,
    )
    refined = ReconstructJob(
        asked=ReconstructionRequest(tmp_path / "model.ckpt", {}),
        execution=ExecutionConfig(),
        refinement=RefinementConfig(epochs=3, positions=False, metric="poisson"),
        model_type="pinn",
        shape=(3, 4),
        log_level=20,
    )
    for job in (train, refined, dataclasses.replace(refined, refinement=None)):
        write_job(job, tmp_path)
        assert read_job(tmp_path) == job


@pytest.mark.usefixtures("fake_site")
class TestChannel:
    def test_arrays_do_not_travel_through_the_pipe(
        self,
        standard_directory: Path,
        tmp_path: Path,
        scan: Callable[..., ReconstructInput],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        sizes = []
        original = process.ChildProcess._consume

        def consume(self: process.ChildProcess, message: dict[str, Any]) -> object:
            sizes.append(len(json.dumps(message)))
            return original(self, message)

        monkeypatch.setattr(process.ChildProcess, "_consume", consume)
        reconstructor = next(iter(make_library(Training_Epochs=1)))
        run(reconstructor.train(standard_directory, tmp_path / "out"))
        run(reconstructor.reconstruct(scan(200)))
        assert 0 < sum(sizes) < 10_000

    def test_a_full_scratch_disk_is_an_error_and_leaves_nothing(
        self,
        standard_directory: Path,
        tmp_path: Path,
        scan: Callable[..., ReconstructInput],
        monkeypatch: pytest.MonkeyPatch,
        scratch: Path,
    ) -> None:
        reconstructor = next(iter(make_library(Training_Epochs=1)))
        run(reconstructor.train(standard_directory, tmp_path / "out"))

        def full(self: RawData, path: Path) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(RawData, "to_directory", full)
        with pytest.raises(OSError, match="No space left"):
            run(reconstructor.reconstruct(scan()))
        assert list(scratch.iterdir()) == []

    def test_records_below_the_level_are_not_sent(
        self, standard_directory: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        library = make_library(Training_Epochs=1, Data_ValidationFraction=0.2)
        caplog.set_level(logging.WARNING, logger="PtychoPINN-Plugin")
        run(next(iter(library)).train(standard_directory, tmp_path / "out"))
        levels = [record.levelno for record in caplog.records if record.name == "PtychoPINN-Plugin"]
        # the registry warns of the engines that the fake ones hide
        assert [level for level in levels if level < logging.WARNING] == []


_CHATTY = """
import json, sys, threading, time
asked = threading.Event()
threading.Thread(target=lambda: sys.stdin.readline() and asked.set(), daemon=True).start()
deadline = time.monotonic() + 20
while time.monotonic() < deadline and not (asked.is_set() and LISTENS):
    print(json.dumps({"kind": "log", "level": 20, "name": "PtychoPINN-Plugin", "text": "busy"}), flush=True)
    time.sleep(0.01)
print(json.dumps({"kind": "result", "stopped": asked.is_set()}), flush=True)
"""


@pytest.mark.parametrize("listens", [True, False])
def test_a_worker_that_logs_all_the_time_is_stopped(
    listens: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "chatty.py").write_text(_CHATTY.replace("LISTENS", str(listens)))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(process, "WORKER", "chatty")
    caplog.set_level(logging.INFO, logger="PtychoPINN-Plugin")
    job = ReconstructJob(
        asked=ReconstructionRequest(tmp_path / "model.ckpt", {}),
        execution=ExecutionConfig(),
        refinement=None,
        model_type="pinn",
        shape=(3, 4),
        log_level=20,
    )
    with process.ChildProcess(logging.getLogger("PtychoPINN-Plugin")) as child:
        child.start(job)
        # it is silent only until it has started: from then on, this is a turn among its records
        assert any(message is None and caplog.records for message in child.messages())
        child.stop(grace_s=0.5)
        assert child.result == ({"kind": "result", "stopped": True} if listens else None)
    assert {record.getMessage() for record in caplog.records if record.levelno == logging.INFO} == {"busy"}


def test_the_child_does_not_import_from_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lib").mkdir()
    monkeypatch.setattr(sys, "path", ["", "lib", *sys.path])
    paths = interpreter.child_environment()["PYTHONPATH"].split(os.pathsep)
    assert paths[0] == str(tmp_path / "lib")
    assert str(tmp_path) not in paths


def test_the_child_waits_briefly_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in interpreter.WAITING:
        monkeypatch.delenv(name, raising=False)
    environment = interpreter.child_environment()
    assert environment["OMP_WAIT_POLICY"] == "PASSIVE"
    assert 0 < int(environment["GOMP_SPINCOUNT"]) < 300_000  # GNU's own, which is milliseconds
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    assert interpreter.child_environment()["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    environment = interpreter.child_environment()
    assert environment["OMP_WAIT_POLICY"] == "ACTIVE"
    assert "GOMP_SPINCOUNT" not in environment


def test_matrices_of_numpy_have_one_thread_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    assert interpreter.child_environment()["OPENBLAS_NUM_THREADS"] == "1"
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    assert interpreter.child_environment()["OPENBLAS_NUM_THREADS"] == "2"


def test_an_orphan_that_has_to_be_ended_removes_its_directory(tmp_path: Path) -> None:
    directory = tmp_path / "job"
    directory.mkdir()
    code = f"""
import time
from pathlib import Path
from ptychopinn_ptychodus.worker import main
main.ORPHAN_GRACE_S = 0.2
orders = main.Orders(Path({str(directory)!r}))
time.sleep(60)
"""
    done = subprocess.run([sys.executable, "-c", code], stdin=subprocess.DEVNULL, timeout=120, check=False)
    assert done.returncode == 1
    assert not directory.exists()


@pytest.mark.parametrize("count", [12, 5])  # 5: fewer than there are neighbours to choose from
def test_joined_scans_share_no_neighbours(count: int) -> None:
    def scan(seed: int) -> RawData:
        rng = np.random.default_rng(seed)
        return RawData(
            xcoords=rng.uniform(40, 90, count),
            ycoords=rng.uniform(40, 90, count),
            diff3d=rng.uniform(0.1, 2.0, (count, 64, 64)).astype(np.float32),
            probeGuess=np.ones((64, 64), dtype=np.complex64),
            objectGuess=np.full((130, 130 + seed), np.exp(1j * seed), dtype=np.complex64),
            scan_index=np.full(count, 7),
            domain="amplitude",
        )

    scans = [scan(1), scan(2), scan(3)]
    joined = join_scans(scans)
    np.testing.assert_array_equal(joined.scan_index, np.repeat([0, 1, 2], count))
    container = joined.generate_grouped_data(64, 6, None, gridsize=2, seed=0)
    assert (joined.scan_index[container.nn_indices] == joined.scan_index[:, None]).all()
    patches = container.Y
    assert patches is not None
    for k, one in enumerate(scans):
        expected = np.exp(1j * (k + 1))
        centre = patches[joined.scan_index == k][:, 16:-16, 16:-16]
        np.testing.assert_allclose(centre, expected, atol=1e-5)
        assert one.objectGuess is not None
