"""The plugin in the stock application: found, driven by ``ModelCore`` and by the command, harmless."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from plugin_support import PLAIN, add_distribution
from ptychodus.api.io import load_product
from ptychodus.api.observer import Observable
from ptychodus.model import ModelCore

from ptychopinn_ptychodus.plugin.reconstructor import PtychoPINNReconstructor

NAMES = {"ptychopinn-plugin_pinn", "ptychopinn-plugin_supervised", "ptychopinn-plugin_refinement"}
FRAMEWORKS = ("torch", "tensorflow", "lightning", "pytorch_lightning", "keras", "mlflow", "PyQt5")

HANGS_S = 120.0
"""After as long, something waits that should not: no measure of speed, for the machine may be busy."""

pytestmark = [
    pytest.mark.usefixtures("fake_site"),
    pytest.mark.skipif(
        importlib.util.find_spec("ptychodus.plugins.ptychopinn_ptychodus_attach") is None,
        reason="needs the installed package: pip install -e . places the file that Ptychodus finds",
    ),
]


def python(code: str, *paths: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter, with ``paths`` after everything else on its path."""
    extend = f"import sys; sys.path += {[str(path) for path in paths]!r}\n"
    return subprocess.run(
        [sys.executable, "-c", extend + code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=5 * HANGS_S,
        check=False,
    )


def batch(action: str, directory: Path, output: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """``ptychodus -b ACTION -i DIRECTORY -o OUTPUT``."""
    arguments = ["ptychodus", "-b", action, "-i", str(directory), "-o", str(output)]
    return python(
        f"sys.argv = {arguments!r}\nfrom ptychodus.__main__ import main\nraise SystemExit(main())", site
    )


def select(directory: Path, **settings: object) -> None:
    """Leave a settings file in ``directory``: PINN, with ``Group_Name=value`` over :data:`PLAIN`."""
    groups = {"Processing": ["Algorithm = ptychopinn-plugin_pinn"]}
    for key, value in {**PLAIN, **settings}.items():
        group, name = key.split("_")
        groups.setdefault(f"PtychoPINNPlugin{group}", []).append(f"{name} = {value}")
    lines = [line for group, values in groups.items() for line in (f"[{group}]", *values)]
    (directory / "settings.ini").write_text("\n".join(lines) + "\n")


@contextlib.contextmanager
def core(**values: object) -> Iterator[ModelCore]:
    """``ModelCore`` as scripts make it, with ``Group_Name=value`` over :data:`PLAIN`."""
    with ModelCore() as model:
        for key, value in {**PLAIN, **values}.items():
            group, name = key.split("_")
            model.settings_registry[f"PtychoPINNPlugin{group}"].parameters()[name].set_value(value)
        yield model


class TestScripts:
    def test_a_model_core_lists_all_reconstructors(self) -> None:
        with ModelCore() as model:
            assert set(model.workflow_api.available_reconstructors()) >= NAMES

    def test_train_then_reconstruct(self, standard_directory: Path, tmp_path: Path) -> None:
        with core(Training_Epochs=2) as model:
            api = model.workflow_api
            diffraction = api.load_assembled_diffraction_data(standard_directory / "diffraction.h5")
            product = api.load_product(standard_directory / "product.h5", diffraction=diffraction)
            algorithm = "ptychopinn-plugin_pinn"
            product.train_reconstructor_local(
                standard_directory, tmp_path / "out", algorithm=algorithm, block=True
            )
            result = product.reconstruct_local(algorithm=algorithm, block=True)
            product.export_training_data(tmp_path / "exported.npz", algorithm=algorithm)
            model.run_tasks()
            array = result.get_product().object_.get_array()
            assert abs(array[0, 50, 60]) == pytest.approx(0.8, abs=1e-4)
            assert (tmp_path / "exported.npz").is_file()

    def test_no_product_appears_without_a_model(self, standard_directory: Path) -> None:
        with ModelCore() as model:
            api = model.workflow_api
            diffraction = api.load_assembled_diffraction_data(standard_directory / "diffraction.h5")
            product = api.load_product(standard_directory / "product.h5", diffraction=diffraction)
            before = len(model.product_core.product_repository)
            with pytest.raises(RuntimeError, match="no model"):
                product.reconstruct_local(algorithm="ptychopinn-plugin_pinn", block=True)
            assert len(model.product_core.product_repository) == before

    def test_stop_keeps_the_model(
        self, standard_directory: Path, tmp_path: Path, wish: Callable[..., None]
    ) -> None:
        wish(epoch_seconds=0.1)
        with core() as model:
            api = model.workflow_api
            diffraction = api.load_assembled_diffraction_data(standard_directory / "diffraction.h5")
            product = api.load_product(standard_directory / "product.h5", diffraction=diffraction)
            monitor = model.processing_core.processing_api.task_monitor
            product.train_reconstructor_local(
                standard_directory, tmp_path / "out", algorithm="ptychopinn-plugin_pinn"
            )
            deadline = time.monotonic() + HANGS_S
            while monitor.get_progress() < 4 and time.monotonic() < deadline:
                time.sleep(0.05)
            monitor.stop_processing()
            while monitor.is_processing and time.monotonic() < deadline:
                time.sleep(0.05)
            assert not monitor.is_processing
            parameter = model.processing_core.algorithm_parameter
            current = parameter.get_current_reconstructor()
            assert isinstance(current, PtychoPINNReconstructor)
            assert current.is_model_loaded()
            assert (tmp_path / "out" / "model.ckpt").is_file()

    def test_infer_is_evaluated_again_when_a_task_ends(
        self, standard_directory: Path, tmp_path: Path
    ) -> None:
        from ptychodus.api.observer import Observer

        class Count(Observer):
            calls = 0

            def _update(self, observable: Observable) -> None:
                self.calls += 1

        with ModelCore() as model:
            parameter = model.processing_core.algorithm_parameter
            monitor = model.processing_core.processing_api.task_monitor
            count = Count()
            parameter.add_observer(count)
            assert parameter.get_value() not in NAMES  # with another algorithm, it is none of our business
            monitor.notify_observers()
            assert count.calls == 0
            parameter.set_value("ptychopinn-plugin_pinn")
            selected = count.calls
            monitor.notify_observers()
            assert count.calls == selected + 1

    def test_two_model_cores_do_not_share_state(self, standard_directory: Path, tmp_path: Path) -> None:
        with core(Training_Epochs=1) as one, core(Training_Epochs=1) as two:
            found = []
            for model in (one, two):
                parameter = model.processing_core.algorithm_parameter
                parameter.set_value("ptychopinn-plugin_pinn")
                current = parameter.get_current_reconstructor()
                assert isinstance(current, PtychoPINNReconstructor)
                found.append(current)
            assert found[0] is not found[1]
            keys = list(one.processing_core.algorithm_parameter.available_reconstructors())
            assert sum(key in NAMES for key in keys) == 3
            list(found[0].train(standard_directory, tmp_path / "out"))
            assert found[0].is_model_loaded()
            assert not found[1].is_model_loaded()

    def test_settings_groups_are_ours_alone(self, tmp_path: Path) -> None:
        with ModelCore() as model:
            groups = [name for name in model.settings_registry if name.startswith("PtychoPINNPlugin")]
            assert len(groups) == len(set(groups)) == 7
            path = tmp_path / "saved.ini"
            model.settings_registry["PtychoPINNPluginData"].parameters()["Seed"].set_value(17)
            model.settings_registry.save_settings(path)
        with ModelCore(path) as model:
            assert model.settings_registry["PtychoPINNPluginData"].parameters()["Seed"].get_value() == 17


class TestCommand:
    def test_train_and_reconstruct_in_one_directory(
        self, standard_directory: Path, tmp_path: Path, fake_site: Path
    ) -> None:
        # a search for positions would be followed by as many epochs again
        select(
            standard_directory,
            Training_Epochs=2,
            Refinement_Epochs=3,
            Refinement_Positions=False,
            Examination_Confidence=True,
        )
        done = batch("train", standard_directory, standard_directory, fake_site)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Epoch 2/2" in done.stdout
        done = batch("reconstruct", standard_directory, tmp_path / "out", fake_site)
        assert done.returncode == 0, done.stdout + done.stderr
        before = load_product(standard_directory / "product.h5")
        names = {"product.000050.h5": 2, "product.000100.h5": 3}  # the network's object, the refined one
        beside = {"confidence.npz", "confidence.png"}
        assert {path.name for path in (tmp_path / "out").iterdir()} == {*names, *beside}
        for name, epochs in names.items():
            after = load_product(tmp_path / "out" / name)
            assert after.object_.get_geometry() == before.object_.get_geometry()
            assert len(after.losses) == epochs
            assert np.iscomplexobj(after.probes.get_array())

    def test_train_and_reconstruct_with_an_engine_of_somebody_else(
        self, standard_directory: Path, tmp_path: Path, fake_site: Path, abacus: str
    ) -> None:
        select(standard_directory, Training_Epochs=2, Model_Backend=abacus)
        done = batch("train", standard_directory, standard_directory, fake_site)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (standard_directory / "model.beads").is_file()
        done = batch("reconstruct", standard_directory, tmp_path / "out", fake_site)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "with Abacus" in done.stdout

    def test_a_model_is_converted_where_its_framework_is_missing(
        self, standard_directory: Path, tmp_path: Path, fake_site: Path, wish: Callable[..., None]
    ) -> None:
        select(standard_directory, Training_Epochs=2)
        assert batch("train", standard_directory, standard_directory, fake_site).returncode == 0
        # the stock command looks for the extension of the engine that is set; what is in the file decides
        (standard_directory / "model.ckpt").rename(standard_directory / "model.wts.h5.zip")
        wish(installed=["tensorflow"])
        done = batch("reconstruct", standard_directory, tmp_path / "out", fake_site)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "was written by Fake PyTorch" in done.stdout
        assert "with Fake TensorFlow" in done.stdout

    def test_failures_have_the_exit_code_one_and_their_reason(
        self, standard_directory: Path, tmp_path: Path, fake_site: Path
    ) -> None:
        select(standard_directory, Training_Epochs=0)
        done = batch("train", standard_directory, tmp_path / "out", fake_site)
        assert done.returncode == 1
        assert "Training failed: The setting PtychoPINNPluginTraining.Epochs = 0" in done.stdout
        done = batch("reconstruct", standard_directory, tmp_path / "out", fake_site)
        assert done.returncode == 1
        assert "PINN has no model" in done.stdout
        assert list((tmp_path / "out").glob("*.h5")) == []

    def test_interrupting_a_training_keeps_its_model(
        self, standard_directory: Path, tmp_path: Path, fake_site: Path, wish: Callable[..., None]
    ) -> None:
        import signal

        wish(epoch_seconds=0.1)
        select(standard_directory, Training_Epochs=1000)
        arguments = ["ptychodus", "-b", "train", "-i", str(standard_directory), "-o", str(tmp_path / "out")]
        code = (
            f"import sys; sys.path.append({str(fake_site)!r}); sys.argv = {arguments!r}\n"
            "from ptychodus.__main__ import main\nraise SystemExit(main())"
        )
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", code],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # a shell has what it starts in the background ignore Ctrl-C, and that is inherited
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert process.stdout is not None
        for line in process.stdout:
            if "Epoch 2/" in line:
                break
        os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C does: to parent and child
        rest, _ = process.communicate(timeout=HANGS_S)
        assert process.returncode != 0
        assert "best model so far" in rest
        assert (tmp_path / "out" / "model.ckpt").is_file()


class TestParent:
    def test_no_framework_enters_the_application(
        self, standard_directory: Path, tmp_path: Path, fake_site: Path
    ) -> None:
        done = python(
            f"""
from pathlib import Path
from ptychodus.model import ModelCore
with ModelCore() as model:
    parameter = model.processing_core.algorithm_parameter
    parameter.set_value("ptychopinn-plugin_pinn")
    reconstructor = parameter.get_current_reconstructor()
    reconstructor.get_model_file_filter()
    training = model.settings_registry["PtychoPINNPluginTraining"].parameters()
    training["ProbeTrainable"].set_value(False)
    list(reconstructor.train(Path({str(standard_directory)!r}), Path({str(tmp_path / "out")!r})))
    assert reconstructor.is_model_loaded()
print([name for name in {FRAMEWORKS!r} if name in sys.modules])
""",
            fake_site,
        )
        assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr

    def test_without_a_framework_the_reconstructors_are_there_and_say_what_to_install(
        self, standard_directory: Path, tmp_path: Path
    ) -> None:
        done = python(
            f"""
from importlib.machinery import PathFinder
class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in {FRAMEWORKS!r} else PathFinder.find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = Without
from pathlib import Path
from ptychodus.model import ModelCore
with ModelCore() as model:
    parameter = model.processing_core.algorithm_parameter
    parameter.set_value("ptychopinn-plugin_pinn")
    reconstructor = parameter.get_current_reconstructor()
    print(reconstructor.name, reconstructor.get_model_file_extension(), reconstructor.is_model_loaded())
    try:
        list(reconstructor.train(Path({str(standard_directory)!r}), Path({str(tmp_path / "out")!r})))
    except RuntimeError as exc:
        print(exc)
"""
        )
        assert "PINN .wts.h5.zip False" in done.stdout, done.stdout + done.stderr
        for extra in ("torch", "tensorflow"):
            assert f'pip install "ptychopinn-ptychodus[{extra}]"' in done.stdout

    def test_the_plugin_adds_little_to_the_start(self) -> None:
        done = python(
            """
import ptychodus.model, time
tic = time.process_time()
import ptychopinn_ptychodus.plugin.library
from ptychopinn_ptychodus.plugin.attach import attach
attach()
print(time.process_time() - tic)
"""
        )
        # of the processor, which other processes on the machine cost little: 0.1
        assert float(done.stdout.splitlines()[-1]) < 0.5, done.stderr

    def test_a_worker_ends_when_its_parent_is_gone(
        self, standard_directory: Path, tmp_path: Path, fake_site: Path, wish: Callable[..., None]
    ) -> None:
        import signal

        wish(epoch_seconds=0.1)
        code = f"""
import sys; sys.path.append({str(fake_site)!r})
from pathlib import Path
from ptychodus.api.settings import SettingsRegistry
from ptychopinn_ptychodus.plugin.library import PtychoPINNPluginLibrary
from ptychopinn_ptychodus.worker import process
original = process.ChildProcess.start
def start(self, job):
    original(self, job)
    print(self.pid, flush=True)
process.ChildProcess.start = start
library = PtychoPINNPluginLibrary(SettingsRegistry(), False)
library.settings["Training.Epochs"].set_value(10000)
library.settings["Training.ProbeTrainable"].set_value(False)
for output in next(iter(library)).train(Path({str(standard_directory)!r}), Path({str(tmp_path / "out")!r})):
    if output.training_loss:
        print("learning", flush=True)
"""
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert process.stdout.readline() == "learning\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        deadline = time.monotonic() + HANGS_S
        while _runs(pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not _runs(pid)
        assert list(tmp_path.glob("ptychopinn-*")) == []
        assert (tmp_path / "out" / "model.ckpt").is_file()


def _runs(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rsplit(")", 1)[1].split()[0] != "Z"


class TestOtherPlugins:
    @pytest.mark.parametrize(
        ("code", "reason"),
        [
            ("raise ImportError('deliberate')", "deliberate"),
            ("def make(registry, developer_mode): raise SystemExit(3)", "SystemExit"),
            ("def make(registry, developer_mode): raise ValueError('deliberate')", "deliberate"),
            ("def make(registry, developer_mode): return 42", "42|name"),
        ],
    )
    def test_one_that_fails_is_named_and_hurts_nobody(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        request: pytest.FixtureRequest,
        code: str,
        reason: str,
    ) -> None:
        module = f"broken_{abs(hash(request.node.name))}"
        (tmp_path / f"{module}.py").write_text(code)
        add_distribution(tmp_path, "broken", f"[ptychodus.reconstructor_libraries]\nBroken = {module}:make\n")
        monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
        with ModelCore() as model:
            assert set(model.workflow_api.available_reconstructors()) >= NAMES
        records = [record for record in caplog.records if "Broken" in record.message]
        assert len(records) == 1
        assert records[0].levelno >= logging.WARNING

    def test_a_stock_name_is_not_taken_over(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "impostor.py").write_text("def make(registry, mode): raise RuntimeError('called')")
        add_distribution(
            tmp_path, "impostor", "[ptychodus.reconstructor_libraries]\npty-chi = impostor:make\n"
        )
        monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
        with ModelCore() as model:
            assert set(model.workflow_api.available_reconstructors()) >= NAMES

    def test_attaching_twice_changes_nothing(self) -> None:
        from ptychodus.model.processing.core import ProcessingCore

        from ptychopinn_ptychodus.plugin.attach import attach

        attach()
        before = ProcessingCore.__init__
        attach()
        assert ProcessingCore.__init__ is before
