"""A process that stays after its run: what the next run gains by it, and that nobody else loses by it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from plugin_support import make_library, run
from ptychodus.api.reconstruct import ReconstructInput, ReconstructOutput

from ptychopinn_ptychodus.backends.kept import KeptModel
from ptychopinn_ptychodus.config import ExecutionConfig
from ptychopinn_ptychodus.plugin.reconstructor import PtychoPINNReconstructor
from ptychopinn_ptychodus.worker.interpreter import Interpreter
from ptychopinn_ptychodus.worker.warm import WarmWorker, shared_worker, warm_worker
from ptychopinn_ptychodus.worker.wire import ChildDiedError

HANGS_S = 60.0
"""After as long, something waits that should not: no measure of speed, for the machine may be busy."""


pytestmark = pytest.mark.usefixtures("fake_site")

Scan = Callable[..., ReconstructInput]


def is_alive(pid: int) -> bool:
    """Whether there is such a process that has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + HANGS_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Window:
    """A library as the window has it, with a model of ``PINN`` loaded."""

    def __init__(self, model: Path, scan: Scan, **values: object) -> None:
        self.library = make_library(Training_Epochs=1, **values)
        self.library.warm.stay()
        self.worker: WarmWorker = self.library.warm.worker
        reconstructor = next(iter(self.library))
        assert isinstance(reconstructor, PtychoPINNReconstructor)
        self.pinn = reconstructor
        reconstructor.load_model_from_file(model)
        self._scan = scan

    def infer(self, count: int = 30, n: int = 64) -> ReconstructOutput:
        """The last product of a reconstruction."""
        return run(self.pinn.reconstruct(self._scan(count, n)))[-1]

    def begin(self) -> int:
        """Reconstruct, and say the process that waits afterwards."""
        self.infer()
        return self.pid

    @property
    def pid(self) -> int:
        """Of what waits."""
        assert self.worker.pid is not None
        return self.worker.pid


@pytest.fixture
def model(fake_model: Callable[..., Path]) -> Path:
    """A model."""
    return fake_model(epochs=1)


@pytest.fixture
def window(model: Path, scan: Scan) -> Iterator[Window]:
    window = Window(model, scan)
    yield window
    window.library.close()


def test_the_next_run_begins_in_the_process_of_the_last_one(window: Window) -> None:
    alone = window.infer().product.object_
    first = window.pid
    again = window.infer().product.object_
    assert window.pid == first
    assert window.library.warm.says == "Ready: Fake PyTorch"
    assert (again.get_array() == alone.get_array()).all()


def test_a_training_has_a_process_of_its_own_which_stays(
    window: Window, standard_directory: Path, tmp_path: Path
) -> None:
    first = window.begin()
    run(window.pinn.train(standard_directory, tmp_path / "out"))
    assert window.pid != first
    assert not is_alive(first)


def test_a_run_without_a_model_uses_it_too(window: Window, scan: Scan) -> None:
    first = window.begin()
    window.library.settings["WithoutModel.Epochs"].set_value(1)
    refinement = list(window.library)[-1]
    run(refinement.reconstruct(scan()))
    assert (window.pid, window.worker.engine) == (first, "pytorch")


class TestItsEnd:
    def test_it_ends_by_itself(self, model: Path, scan: Scan) -> None:
        window = Window(model, scan, Inference_KeepWarm=2)
        told: list[bool] = []
        window.worker.on_change = lambda: told.append(window.worker.waits)
        pid = window.begin()
        # it is told after the wait has ended, in another thread
        wait_until(lambda: told == [True, False])
        wait_until(lambda: not is_alive(pid))
        assert window.library.warm.says == ""

    def test_it_can_be_switched_off(self, model: Path, scan: Scan) -> None:
        window = Window(model, scan, Inference_KeepWarm=0)
        window.infer()
        assert not window.worker.waits

    def test_without_a_window_each_run_has_a_process_of_its_own(self, model: Path, scan: Scan) -> None:
        library = make_library()
        reconstructor = next(iter(library))
        reconstructor.load_model_from_file(model)
        run(reconstructor.reconstruct(scan()))
        assert not library.warm.worker.waits

    def test_it_is_released_on_request(self, window: Window) -> None:
        pid = window.begin()
        window.library.warm.release()
        wait_until(lambda: not is_alive(pid))
        assert not window.worker.waits

    def test_closing_the_window_ends_it(self, window: Window) -> None:
        pid = window.begin()
        window.library.close()
        assert not is_alive(pid)

    @pytest.mark.parametrize(
        ("setting", "value"),
        [("Model.Backend", "tensorflow"), ("Training.Accelerator", "cpu"), ("Inference.KeepWarm", 0)],
    )
    def test_a_change_of_what_it_is_for_ends_it(self, setting: str, value: object, window: Window) -> None:
        pid = window.begin()
        window.library.settings[setting].set_value(value)
        wait_until(lambda: not is_alive(pid))
        assert not window.worker.waits

    def test_a_run_in_another_environment_has_another_one(
        self, window: Window, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pid = window.begin()
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
        window.infer()
        assert window.pid != pid
        assert not is_alive(pid)

    def test_it_does_not_outlive_its_parent(self, tmp_path: Path) -> None:
        script = textwrap.dedent("""
            import os, signal, sys
            import numpy as np
            from ptychopinn_ptychodus import *
            x, y = raster_positions(6, 6, step=7.0, origin=38.0)
            scan = simulate_scan(make_object((112, 112), seed=0), make_probe(64), x, y, photons=1e6, seed=0)
            with warm_worker(600) as worker:
                refine(scan, config=RefinementConfig(epochs=1), execution=ExecutionConfig(accelerator="cpu"))
                print(worker.pid, flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
        """)
        done = subprocess.run(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=False, timeout=HANGS_S
        )
        assert done.returncode == -signal.SIGKILL
        pid = int(done.stdout)
        wait_until(lambda: not is_alive(pid))


class TestItsFailures:
    def test_one_that_has_died_meanwhile_is_replaced(self, window: Window) -> None:
        pid = window.begin()
        os.kill(pid, signal.SIGKILL)
        assert window.infer()
        assert window.pid != pid

    def test_a_crash_is_an_error_of_that_run_alone(
        self, window: Window, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        window.begin()
        begin = Interpreter.begin

        def begin_and_die(self: Interpreter, directory: Path, stay_s: float) -> bool:
            begun = begin(self, directory, stay_s)
            os.kill(self.pid, signal.SIGKILL)
            return begun

        with monkeypatch.context() as patch:
            patch.setattr(Interpreter, "begin", begin_and_die)
            with pytest.raises(ChildDiedError, match="SIGKILL"):
                window.infer()
        assert not window.worker.waits
        assert window.infer()

    def test_one_that_does_not_answer_is_replaced(
        self, window: Window, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("ptychopinn_ptychodus.worker.interpreter.BEGIN_S", 0.2)
        pid = window.begin()
        os.kill(pid, signal.SIGSTOP)
        assert window.infer()
        assert not is_alive(pid)

    def test_a_run_that_fails_leaves_nothing_behind(self, window: Window) -> None:
        pid = window.begin()
        with pytest.raises(ValueError, match="N = 64"):
            window.infer(n=32)
        assert not window.worker.waits
        wait_until(lambda: not is_alive(pid))

    def test_a_run_in_it_can_be_stopped(self, window: Window, scan: Scan) -> None:
        pid = window.begin()
        window.library.settings["Refinement.Epochs"].set_value(1000)
        outputs = window.pinn.reconstruct(scan())
        next(outputs)  # the network's object; its refinement goes on
        started = time.monotonic()
        outputs.close()
        assert time.monotonic() - started < HANGS_S
        assert not window.worker.waits
        assert not is_alive(pid)

    def test_ctrl_c_while_it_waits_stops_no_later_run(self, window: Window) -> None:
        pid = window.begin()
        os.kill(pid, signal.SIGINT)
        time.sleep(0.2)
        assert window.infer()
        assert window.pid == pid


def resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, and the C library of GNU")
def test_it_keeps_no_memory_of_the_scan(window: Window) -> None:
    window.begin()
    time.sleep(0.5)
    before = resident_mb(window.pid)
    window.infer(3000)  # 49 MB of patterns, and four times that of groups
    wait_until(lambda: resident_mb(window.pid) < before + 20)


class TestSharing:
    def test_runs_in_the_block_share_it(self) -> None:
        assert shared_worker() is None
        with warm_worker() as worker:
            assert shared_worker() is worker
        assert shared_worker() is None

    def test_special_runs_do_not_stay(self) -> None:
        from ptychopinn_ptychodus.config import TrainingConfig
        from ptychopinn_ptychodus.refinement import RefinementConfig
        from ptychopinn_ptychodus.worker.job import RefineJob, TrainJob
        from ptychopinn_ptychodus.worker.request import TrainingRequest

        worker = WarmWorker(lambda: 7.0)
        asked, model = TrainingRequest.of(TrainingConfig()), Path("model.ckpt")
        for execution, stays in ((ExecutionConfig(), 7.0), (ExecutionConfig(devices=2), 0.0)):
            training = TrainJob(asked, execution, model, 0.1, preview=False, log_level=20)
            assert worker.stays_after(training) == stays
            # several devices are threads of one process there
            applied = RefineJob(refinement=RefinementConfig(), execution=execution, log_level=20)
            assert worker.stays_after(applied) == 7.0


class TestKeptModel:
    def open(self, kept: KeptModel, path: Path, of: str = "", *, keeps: bool = True) -> object:
        return kept.opened(path, of, object, lambda _: keeps)

    def test_it_is_kept_only_if_asked_for(self, tmp_path: Path) -> None:
        path = tmp_path / "model"
        path.write_text("one")
        kept = KeptModel()
        assert self.open(kept, path) is not self.open(kept, path)
        kept.keep()
        assert self.open(kept, path) is self.open(kept, path)

    def test_another_file_device_or_scan_is_another_model(self, tmp_path: Path) -> None:
        path = tmp_path / "model"
        path.write_text("one")
        kept = KeptModel()
        kept.keep()
        first = self.open(kept, path)
        assert self.open(kept, path, "gpu") is not first
        again = self.open(kept, path)
        path.write_text("trained again")
        assert self.open(kept, path) is not again
        made_for_a_scan = self.open(kept, path, "other", keeps=False)
        assert self.open(kept, path, "other", keeps=False) is not made_for_a_scan
