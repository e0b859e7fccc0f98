"""The work itself: settings that win, training, reconstruction, export, the demo, and the examples."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from cli_support import SOONEST_MODEL
from ptychodus.api.io import load_product
from ptychodus.api.product import Product
from ptychodus.api.reconstruct import ReconstructInput, ReconstructOutput
from ptychodus.model import ModelCore

from ptychopinn_ptychodus.cli import demo, main, session
from ptychopinn_ptychodus.cli.session import open_session
from ptychopinn_ptychodus.cli.settings import open_settings_file
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.plugin.reconstruction import ReconstructionRun
from ptychopinn_ptychodus.ptychodus_io import standard_scan
from ptychopinn_ptychodus.ptychodus_io.names import GOAL, NETWORK_DONE
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.settings_table import with_effort

POSITIONS = 5  # along each axis, as in the fixture
EXAMPLES = Path(__file__).parents[2] / "examples"
PNG = b"\x89PNG"

Capture = pytest.CaptureFixture[str]

Done = subprocess.CompletedProcess[str]
Command = Callable[..., Done]
Demonstration = tuple[Path, Done]


def epochs_of(app: session.Session) -> int:
    parameters = app._core.settings_registry["PtychoPINNPluginTraining"].parameters()
    return int(parameters["Epochs"].get_value())


# ---- settings ---------------------------------------------------------------------------------------------


def test_later_settings_win(tmp_path: Path) -> None:
    first, second = tmp_path / "settings.ini", tmp_path / "mine.ini"
    first.write_text("[PtychoPINNPluginTraining]\nEpochs = 3\nBatchSize = 5\n")
    second.write_text("[PtychoPINNPluginTraining]\nEpochs = 4\n")
    with open_session(settings_files=[first, second]) as app:
        assert epochs_of(app) == 4
        parameters = app._core.settings_registry["PtychoPINNPluginTraining"].parameters()
        assert parameters["BatchSize"].get_value() == 5
    assignments = ["PtychoPINNPluginTraining.Epochs=6"]
    with open_session(settings_files=[first, second], assignments=assignments) as app:
        assert epochs_of(app) == 6


def test_an_effort_gives_way_to_what_is_set_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "settings.ini"
    path.write_text("[PtychoPINNPluginTraining]\nEffort = quick\nEpochs = 30\n")
    efforts = {effort: f"PtychoPINNPluginTraining.Effort={effort}" for effort in ("quick", "thorough")}
    with open_session(settings_files=[path]) as app:
        assert epochs_of(app) == 30
    for effort, assignment in efforts.items():  # said later than the file, even if the file says the same
        with open_session(settings_files=[path], assignments=[assignment]) as app:
            assert epochs_of(app) == with_effort(effort)["Training.Epochs"]
    assignments = ["PtychoPINNPluginTraining.Epochs=7", efforts["thorough"]]
    with open_session(settings_files=[path], assignments=assignments) as app:
        assert epochs_of(app) == 7


@pytest.mark.parametrize(
    ("in_file", "asked", "expected"),
    [
        ("pty-chi_lsqml", None, "PINN"),
        ("PtychoPINN-Plugin_Supervised", None, "Supervised"),
        ("ptychopinn-plugin_supervised", "PINN", "PINN"),
    ],
)
def test_one_of_our_reconstructors_runs(
    in_file: str, asked: str | None, expected: str, tmp_path: Path
) -> None:
    path = tmp_path / "settings.ini"
    path.write_text(f"[Processing]\nAlgorithm = {in_file}\n")
    with open_session(settings_files=[path], algorithm=asked) as app:
        assert app.name == expected
        assert app._reconstructor.name == expected


# ---- training ---------------------------------------------------------------------------------------------


def test_supervised_training_on_a_flat_object_is_refused(
    command: Command, scan: Path, small: list[str], tmp_path: Path
) -> None:
    done = command("train", "-i", scan, "-o", tmp_path, "--algorithm", "Supervised", *small)
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "flat" in errors[0]
    assert done.stderr.count("is flat") == 1  # said once, not by every layer


@pytest.mark.parametrize(
    ("engine", "module", "name"),
    [("pytorch", "torch", "model.ckpt"), ("tensorflow", "tensorflow", "model.wts.h5.zip")],
)
def test_interrupted_training_keeps_its_best_model(
    engine: str,
    module: str,
    name: str,
    interrupted: Command,
    scan: Path,
    small: list[str],
    tmp_path: Path,
) -> None:
    pytest.importorskip(module)
    choice = [
        "--set",
        f"PtychoPINNPluginModel.Backend={engine}",
        "--set",
        "PtychoPINNPluginTraining.Epochs=100000",
    ]
    arguments = ["train", "-i", scan, "-o", tmp_path, *small, *choice]
    done = interrupted(arguments, tmp_path, within_s=300)
    assert done.returncode == 130, done.stderr
    assert (tmp_path / name).is_file()
    assert "Best model so far" in done.stdout
    assert str(tmp_path / name) in done.stdout


# ---- reconstruction ---------------------------------------------------------------------------------------


def test_without_a_model_the_object_is_found_by_refinement(
    command: Command, scan: Path, tmp_path: Path
) -> None:
    done = command(
        "reconstruct", "-i", scan, "-o", tmp_path, "--set", "PtychoPINNPluginWithoutModel.Epochs=2"
    )
    assert done.returncode == 0, done.stderr
    assert "by Refinement" in done.stdout
    product = load_product(tmp_path / "product.h5")
    assert "flat object, then 2 epochs of refinement" in product.metadata.comments
    assert len(product.losses) == 2
    assert not (tmp_path / "network.h5").exists()
    assert (tmp_path / "object.png").read_bytes().startswith(PNG)
    assert (tmp_path / "examination.json").is_file()
    assert done.stdout.splitlines()[-1] == f"Report: {tmp_path / 'report.html'}"
    assert "PtychoPINNPluginWithoutModel.Epochs" in (tmp_path / "report.html").read_text()


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Reconstructions take no time, and leave here which model they were made with."""
    models = []

    def worked(
        self: ReconstructionRun, parameters: ReconstructInput, model_path: Path, backend: str
    ) -> Iterator[ReconstructOutput]:
        models.append(model_path)
        yield ReconstructOutput(product=parameters.product, progress=100)

    monkeypatch.setattr(ReconstructionRun, "outputs", worked)
    return models


def test_reconstruction_leaves_product_and_preview(
    scan: Path, model: Path, tmp_path: Path, loaded: list[Path], capsys: Capture
) -> None:
    renamed = Path(shutil.copy(model, tmp_path / "anything.ckpt"))
    output = tmp_path / "out"
    assert main(["reconstruct", "-i", str(scan), "-o", str(output), "-m", str(renamed)]) == 0
    assert loaded == [renamed]
    # the result under its plain name, a preview, a report, and nothing else
    assert sorted(path.name for path in output.iterdir()) == ["object.png", "product.h5", *REPORT]
    assert (output / "object.png").read_bytes().startswith(PNG)
    assert str(output / "product.h5") in capsys.readouterr().out
    before, after = load_product(scan / "product.h5"), load_product(output / "product.h5")
    assert after.object_.get_geometry() == before.object_.get_geometry()


def with_object(product: Product, value: complex) -> Product:
    """The product with a constant object; the comments say which."""
    object_ = product.object_.copy()
    object_.get_array()[...] = value
    metadata = dataclasses.replace(product.metadata, comments=str(value))
    return dataclasses.replace(product, object_=object_, metadata=metadata)


NETWORK, REFINED = 0.7 + 0.1j, 0.9 + 0.2j

Refine = Callable[..., None]


@pytest.fixture
def refining(monkeypatch: pytest.MonkeyPatch) -> Iterator[Refine]:
    """What a reconstruction yields in no time; an interruption comes when the network's object is there."""
    # whoever was started in the background has Ctrl-C ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    looked = threading.Event()  # whoever waits for the run looks how far it is: Ctrl-C has an addressee

    def monitor(self: session.Session) -> object:
        looked.set()
        return self._core.processing_core.processing_api.task_monitor

    monkeypatch.setattr(session.Session, "_monitor", property(monitor))

    def refining(*, network: bool, refined: bool, interrupted: bool = False) -> None:
        def worked(
            self: ReconstructionRun, parameters: ReconstructInput, model_path: Path, backend: str
        ) -> Iterator[ReconstructOutput]:
            if network:
                yield ReconstructOutput(with_object(parameters.product, NETWORK), NETWORK_DONE)
            if interrupted:
                assert looked.wait(120)
                os.kill(os.getpid(), signal.SIGINT)
                deadline = time.monotonic() + 120
                while not self.should_stop():
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
            if refined:
                yield ReconstructOutput(with_object(parameters.product, REFINED), GOAL)

        monkeypatch.setattr(ReconstructionRun, "outputs", worked)

    yield refining
    signal.signal(signal.SIGINT, before)


def object_in(path: Path) -> complex:
    return complex(load_product(path).object_.get_array()[0, 0, 0])


def reconstruct(scan: Path, model: Path, output: Path) -> int:
    return main(["reconstruct", "-i", str(scan), "-o", str(output), "-m", str(model)])


FILES = ["network.h5", "network.png", "object.png", "product.h5"]
REPORT = ["reconstruction_record.json", "report.html"]


def test_the_networks_object_and_the_refined_one_are_left(
    scan: Path, model: Path, tmp_path: Path, refining: Refine, capsys: Capture
) -> None:
    refining(network=True, refined=True)
    assert reconstruct(scan, model, tmp_path) == 0
    said = capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == [*FILES, *REPORT]
    assert object_in(tmp_path / "network.h5") == pytest.approx(NETWORK)
    assert object_in(tmp_path / "product.h5") == pytest.approx(REFINED)
    for name in ("network.png", "object.png"):
        assert (tmp_path / name).read_bytes().startswith(PNG)
    assert f"Result: {tmp_path / 'product.h5'}" in said
    assert f"Network alone: {tmp_path / 'network.h5'}" in said
    assert all(str(tmp_path / name) in said for name in FILES)
    assert "Interrupted" not in said

    # a later run that is not refined: what is beside its result would not belong to it
    refining(network=False, refined=True)
    assert reconstruct(scan, model, tmp_path) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["object.png", "product.h5", *REPORT]
    assert "Network alone" not in capsys.readouterr().out


@pytest.mark.parametrize("refined", [True, False])
def test_an_interrupted_refinement_leaves_what_there_is_and_says_so(
    scan: Path, model: Path, tmp_path: Path, refining: Refine, capsys: Capture, refined: bool
) -> None:
    refining(network=True, refined=refined, interrupted=True)
    assert reconstruct(scan, model, tmp_path) == 130
    said = capsys.readouterr().out
    assert "Interrupted: it was not refined to the end." in said
    left = FILES if refined else FILES[:2]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*left, *REPORT]
    assert object_in(tmp_path / "network.h5") == pytest.approx(NETWORK)
    assert (f"Result: {tmp_path / 'product.h5'}" in said) is refined


def test_an_interrupted_reconstruction_leaves_earlier_results_alone(
    scan: Path, model: Path, tmp_path: Path, refining: Refine, capsys: Capture
) -> None:
    for name in FILES:
        (tmp_path / name).write_bytes(b"earlier")
    refining(network=False, refined=False, interrupted=True)
    assert reconstruct(scan, model, tmp_path) == 130
    assert "Interrupted: there is no result." in capsys.readouterr().out
    assert [(tmp_path / name).read_bytes() for name in FILES] == [b"earlier"] * 4


def test_the_model_of_another_engine_is_found_and_said_to_be_used(
    scan: Path, model: Path, tmp_path: Path, loaded: list[Path], capsys: Capture
) -> None:
    source = Path(shutil.copytree(scan, tmp_path / "scan"))
    left, right = source / "model.ckpt", source / "model.wts.h5.zip"
    for present, engine, missing in ((left, "tensorflow", right), (right, "pytorch", left)):
        shutil.copy(model, present)
        choice = ["--set", f"PtychoPINNPluginModel.Backend={engine}"]
        assert main(["reconstruct", "-i", str(source), "-o", str(tmp_path / "out"), *choice]) == 0
        said = capsys.readouterr().out
        assert f'There is no "{missing.name}"' in said
        assert f'"{present.name}" is used' in said
        assert loaded.pop() == present
        present.unlink()


def test_failed_reconstruction_leaves_an_earlier_result_alone(
    scan: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: Path,
    capsys: Capture,
) -> None:
    (tmp_path / "product.h5").write_bytes(b"earlier")

    def broken(self: object, *arguments: object) -> object:
        raise ValueError("The day is not good.")

    monkeypatch.setattr(ReconstructionRun, "outputs", broken)
    assert main(["reconstruct", "-i", str(scan), "-o", str(tmp_path), "-m", str(model)]) == 1
    assert capsys.readouterr().err.count("The day is not good.") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["product.h5"]
    assert (tmp_path / "product.h5").read_bytes() == b"earlier"


# ---- export, and training on what was exported ------------------------------------------------------------


def test_exported_data_can_be_trained_on_by_themselves(
    command: Command, scan: Path, small: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "data" / "train_data.npz"
    assert main(["export", "-i", str(scan), "-o", str(path)]) == 0
    exported, simulated = RawData.from_file(path), demo.simulate(POSITIONS)
    np.testing.assert_allclose(exported.xcoords, simulated.xcoords, atol=1e-6)
    np.testing.assert_allclose(exported.ycoords, simulated.ycoords, atol=1e-6)
    np.testing.assert_allclose(exported.diff3d, simulated.diff3d, atol=1e-3)

    done = command("train", "-i", path.parent, "-o", tmp_path / "model", *small)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model" / SOONEST_MODEL).is_file()


# ---- demo -------------------------------------------------------------------------------------------------


def test_demo(demonstration: Demonstration, extension: str) -> None:
    output, done = demonstration
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "training: 100 %  done" in done.stderr
    for name in (
        "demo.png",
        "truth.npz",
        f"scan/model{extension}",
        "scan/training_history.csv",
        "scan/training_history.png",
        "result/product.h5",
        "result/object.png",
        "result/network.h5",
        "result/network.png",
    ):
        assert (output / name).is_file()
        assert str(output / name) in done.stdout
    assert (output / "demo.png").read_bytes().startswith(PNG)
    # what a training on the scan's directory would take for training data must not be there
    assert not list((output / "scan").glob("*.npz"))


def test_demo_reconstructs_what_was_simulated(demonstration: Demonstration) -> None:
    output, done = demonstration
    said = re.findall(r"^(.+): centred complex correlation (\S+)", done.stdout, flags=re.MULTILINE)
    correlations = {what: float(value) for what, value in said}
    assert 0.8 < correlations["Network alone"] < correlations["Refined"]
    before = load_product(output / "scan/product.h5")
    # losses: of one epoch of training, of the passes of the refinement
    for name, epochs in (("network.h5", 1), ("product.h5", RefinementConfig.epochs)):
        after = load_product(output / "result" / name)
        assert after.object_.get_geometry() == before.object_.get_geometry()
        assert len(after.losses) == epochs


def test_demo_is_a_fair_scan() -> None:
    """The standard directory says what was simulated: a pixel is what geometry and files make it."""
    raw = demo.simulate(POSITIONS)
    assert raw.photons_per_pattern == pytest.approx(demo.PHOTONS, rel=0.01)
    assert pytest.approx(standard_scan.WAVELENGTH_M * standard_scan.DISTANCE_M / (64 * 75e-6)) == demo.PIXEL_M


def test_demo_without_the_plugin_sends_to_the_doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(demo, "QUICK", demo.Size(3, 1))
    monkeypatch.setattr(session, "KEYS", {"PINN": "not-attached_pinn"})
    assert main(["demo", "--quick", "-o", str(tmp_path)]) == 1
    assert "doctor" in capsys.readouterr().err


# ---- examples ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["synthetic.ini", "siemens_star.ini"])
def test_example_settings_are_understood(name: str, caplog: pytest.LogCaptureFixture) -> None:
    core = ModelCore()
    caplog.clear()
    open_settings_file(core.settings_registry, EXAMPLES / name)
    assert not [record for record in caplog.records if "unrecognized" in record.message]
    assert core.processing_core.algorithm_parameter.get_value() == "ptychopinn-plugin_pinn"


def test_example_script(scan: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.ini"
    settings.write_text("[PtychoPINNPluginTraining]\nEpochs = 1\n")
    script = EXAMPLES / "workflow_api.py"
    done = subprocess.run(
        [sys.executable, script, scan, tmp_path / "result", "--settings", settings],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    product = load_product(tmp_path / "result" / "product.h5")
    assert product.object_.get_geometry() == load_product(scan / "product.h5").object_.get_geometry()
    assert np.ptp(np.abs(product.object_.get_layer(0))) > 0.05
