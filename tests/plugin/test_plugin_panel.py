"""The settings panel: what it shows, what an edit does, and the box of the loaded model."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from plugin_support import make_library, run
from ptychodus.api.settings import SettingsRegistry

from ptychopinn_ptychodus.data.confidence import Confidence
from ptychopinn_ptychodus.live.status import LiveStatus
from ptychopinn_ptychodus.live.status import Stage as LiveStage
from ptychopinn_ptychodus.plugin.library import PtychoPINNPluginLibrary
from ptychopinn_ptychodus.plugin.reconstructor import PtychoPINNReconstructor
from ptychopinn_ptychodus.plugin.settings import PluginSettings
from ptychopinn_ptychodus.plugin.shown import ConfidenceFiles
from ptychopinn_ptychodus.settings_table import PREFIX, SETTINGS, WITHOUT_MODEL, with_effort
from ptychopinn_ptychodus.worker.confidence_picture import picture

if TYPE_CHECKING:
    from PyQt5.QtWidgets import QApplication, QWidget

    from ptychopinn_ptychodus.plugin.panel.page import SettingsPage


PROBE = "import sys; from PyQt5.QtWidgets import QApplication; QApplication(sys.argv)"

WIDEST_PX = 400
"""Half of the narrowest window that Ptychodus opens on a screen of 1280 pixels."""


@pytest.fixture(scope="module")
def application() -> QApplication:
    """Qt without a screen; it ends the process where it cannot start, so a child tries first."""
    if importlib.util.find_spec("PyQt5") is None:
        pytest.skip("needs PyQt5 (extra gui)")
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    tried = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"Qt cannot be started here: {tried.stderr.strip().splitlines()[-1]}")
    from PyQt5.QtWidgets import QApplication

    application = QApplication.instance() or QApplication(["test"])
    assert isinstance(application, QApplication)
    return application


class Dialogs:
    """Ptychodus' file dialogs, answered."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self.filters: list[str] = []

    def get_open_file_path(
        self, parent: object, caption: str, name_filters: list[str], selected_name_filter: str
    ) -> tuple[Path | None, str]:
        self.filters = name_filters
        return self.path, selected_name_filter

    get_save_file_path = get_open_file_path


@pytest.fixture
def dialogs() -> Dialogs:
    return Dialogs()


@pytest.fixture
def open_page(
    application: QApplication, fake_site: Path, dialogs: Dialogs, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., SettingsPage]]:
    """The page of a reconstructor, as the window makes and shows it."""
    from ptychopinn_ptychodus.plugin import panel
    from ptychopinn_ptychodus.plugin.panel import engines

    monkeypatch.setattr(engines, "DELAY_MS", 3_600_000)  # most tests ask no engine
    pages = []

    def open_page(library: PtychoPINNPluginLibrary, name: str = "pinn") -> SettingsPage:
        factory = panel.PtychoPINNPluginViewControllerFactory(library, dialogs)
        page = factory.create_view_controller(name)
        assert isinstance(page, panel.Page)
        assert page.settings_page is None  # nothing is built before it is shown
        pages.append((page, factory))
        page.show()
        application.processEvents()
        shown: SettingsPage | None = vars(page)["settings_page"]  # which show() has set
        assert shown is not None
        return shown

    yield open_page
    for page, _ in pages:
        page.close()
        page.deleteLater()
    application.processEvents()


@pytest.fixture
def wait_for(application: QApplication) -> Callable[..., None]:
    def wait_for(condition: Callable[[], object], what: str, timeout_s: float = 120.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"still not: {what}"
            application.processEvents()
            time.sleep(0.01)

    return wait_for


def texts(widget: QWidget) -> list[str]:
    from PyQt5.QtWidgets import QLabel

    return [label.text() for label in widget.findChildren(QLabel) if label.isVisibleTo(widget)]


def set_in(page: SettingsPage, setting: str, value: Any) -> None:
    """Edit a widget as the user does."""
    from PyQt5.QtTest import QTest
    from PyQt5.QtWidgets import QCheckBox, QComboBox, QLineEdit, QSpinBox

    widget = page.row(setting).widget
    if isinstance(widget, QCheckBox):
        widget.setChecked(value)
    elif isinstance(widget, QComboBox):
        widget.setCurrentText(value)
        widget.textActivated.emit(value)
    elif isinstance(widget, QSpinBox):
        widget.setValue(value)
    else:
        edit = widget.findChild(QLineEdit)
        edit.selectAll()
        QTest.keyClicks(edit, str(value))
        edit.editingFinished.emit()


def shown_in(page: SettingsPage, setting: str) -> object:
    from PyQt5.QtWidgets import QCheckBox, QComboBox, QLineEdit, QSpinBox

    widget = page.row(setting).widget
    if isinstance(widget, QCheckBox):
        return widget.isChecked()
    if isinstance(widget, QComboBox):
        return widget.currentText()
    return widget.value() if isinstance(widget, QSpinBox) else float(widget.findChild(QLineEdit).text())


def train(
    library: PtychoPINNPluginLibrary, source: Path, target: Path, name: str = "PINN"
) -> PtychoPINNReconstructor:
    reconstructor = next(reconstructor for reconstructor in library if reconstructor.name == name)
    run(reconstructor.train(source, target))
    return reconstructor


class TestSections:
    def test_every_setting_has_a_row_with_a_label_and_a_tool_tip(
        self, open_page: Callable[..., SettingsPage]
    ) -> None:
        library = make_library()
        page = open_page(library)
        settings = library.settings
        names = {(group.name, name) for group in settings.groups for name in group.group.parameters()}
        names -= {
            (f"{PREFIX}{row.group}", row.name) for row in SETTINGS.values() if row.of == (WITHOUT_MODEL,)
        }
        shown = {(f"PtychoPINNPlugin{row.setting.group}", row.setting.name) for row in page.rows}
        assert shown == names
        assert len(page.rows) == len(names)
        for row in page.rows:
            assert len(row.setting.tip) > 40, row.setting
            assert f"PtychoPINNPlugin{row.setting.group}.{row.setting.name}" in row.widget.toolTip()

    def test_the_sections_come_in_the_order_of_the_work(self, open_page: Callable[..., SettingsPage]) -> None:
        from PyQt5.QtWidgets import QGroupBox

        page = open_page(make_library())
        titles = [box.title() for box in page.findChildren(QGroupBox)]
        assert titles == [
            "Loaded Model",
            "Live",
            "Examination of the Scan",
            "Confidence",
            "Preview",
            "Effort",
            "Engine",
            "Model",
            "Data and Sampling",
            "Probe",
            "Training",
            "Inference",
            "Refinement",
            "Examination",
            "Advanced",
        ]

    def test_the_live_box_says_how_a_run_stands(
        self, open_page: Callable[..., SettingsPage], tmp_path: Path
    ) -> None:
        library = make_library()
        box = open_page(library).live_box
        assert box.live_button.isEnabled()
        assert not box.stop_button.isEnabled()
        assert not any(value.isVisible() for value in box.values.values())
        status = LiveStatus(
            LiveStage.FOLLOWING,
            "frames come",
            in_object=512,
            promised=1024,
            lag=32,
            lag_s=0.25,
            frames_per_second=301.4,
            error=0.0123,
        )
        library.live.status, library.live.directory = status, tmp_path
        box.refresh()
        shown = {name: value.text() for name, value in box.values.items()}
        assert shown == {
            "Frames": "512 of 1024 in the object",
            "Speed": "301 frames/s",
            "Lag": "32 frames, 0.2 s",
            "Error": "0.0123",
            "Together": "",
        }
        assert all(value.isVisible() == bool(value.text()) for value in box.values.values())
        library.live.status = dataclasses.replace(
            status, stage=LiveStage.COMPLETING, progress=0.43, epoch=4, epochs=10, seconds_left=72.0
        )
        box.refresh()
        assert box.values["Together"].text() == "43 %, epoch 4 of 10, 1:12 left"
        assert box.values["Together"].isVisible()
        library.live.status = dataclasses.replace(status, notes=("1 frame is lost: no frame 3 came.",))
        box.refresh()
        assert box.status.text() == "⚠ 1 frame is lost: no frame 3 came."
        library.live.status = dataclasses.replace(status, stage=LiveStage.FAILED, says="no room")
        box.refresh()
        assert box.status.text() == "⚠ Failed: no room"
        assert not box.picture.isVisible()

    def test_advanced_is_folded_up_and_no_setting(self, open_page: Callable[..., SettingsPage]) -> None:
        page = open_page(make_library())
        seed = page.row("Data.Seed").widget
        assert not seed.isVisible()
        page.show_advanced.set_value(True)
        assert seed.isVisible()

    def test_the_panel_is_narrow(self, open_page: Callable[..., SettingsPage]) -> None:
        page = open_page(make_library(Model_Architecture="cnn"), "supervised")
        page.show_advanced.set_value(True)
        assert page.minimumSizeHint().width() < WIDEST_PX

    def test_labels_are_aligned(
        self, open_page: Callable[..., SettingsPage], application: QApplication
    ) -> None:
        page = open_page(make_library())
        application.processEvents()
        rows = [row.widget for row in page.rows if row.widget.isVisible()]
        edges = {widget.mapTo(page, widget.rect().topLeft()).x() for widget in rows}
        assert max(edges) - min(edges) <= 1, edges


class TestWhatApplies:
    CNN = ("Model.AmplitudeActivation", "Model.PadObject", "Model.ProbeBig")

    def test_settings_of_the_cnn_come_and_go_with_it(self, open_page: Callable[..., SettingsPage]) -> None:
        library = make_library(Model_Architecture="unrolled")
        page = open_page(library)
        for architecture in ("cnn", "unrolled"):
            set_in(page, "Model.Architecture", architecture)
            for setting in self.CNN:
                assert page.row(setting).widget.isVisible() is (architecture == "cnn")

    def test_what_would_be_refused_stays_in_sight(self, open_page: Callable[..., SettingsPage]) -> None:
        page = open_page(make_library(Model_Architecture="cnn", Model_AmplitudeActivation="swish"))
        set_in(page, "Model.Architecture", "unrolled")
        assert page.row("Model.AmplitudeActivation").widget.isVisible()
        set_in(page, "Model.AmplitudeActivation", "sigmoid")
        assert not page.row("Model.AmplitudeActivation").widget.isVisible()

    def test_the_weight_of_the_known_object_is_for_supervised(
        self, open_page: Callable[..., SettingsPage]
    ) -> None:
        library = make_library()
        weight = {
            name: open_page(library, name).row("Training.RealspaceMAEWeight").widget
            for name in ("pinn", "supervised")
        }
        assert weight["supervised"].isVisible()
        assert not weight["pinn"].isVisible()
        library.settings["Training.RealspaceMAEWeight"].set_value(0.5)
        assert weight["pinn"].isVisible()  # it counts, so it shows


class TestEdits:
    VALUES = (
        ("Model.Backend", "pytorch"),
        ("Model.Architecture", "cnn"),
        ("Model.GridSize", 3),
        ("Data.NumSubsample", 77),
        ("Data.ValidationFraction", 0.2),
        ("Training.LearningRate", 0.0005),
        ("Training.Scheduler", "cosine"),
        ("Training.ProbeTrainable", False),
        ("Training.Accelerator", "cpu"),
        ("Training.Precision", "bf16-mixed"),
        ("Inference.NumGroups", 12),
    )

    @pytest.mark.parametrize(("setting", "value"), VALUES)
    def test_an_edit_reaches_the_settings_and_the_other_page(
        self, open_page: Callable[..., SettingsPage], setting: str, value: Any
    ) -> None:
        library = make_library(Training_ProbeTrainable=True)
        page, other = open_page(library), open_page(library, "supervised")
        assert shown_in(page, setting) != value
        set_in(page, setting, value)
        assert page.row(setting).parameter.get_value() == value
        assert shown_in(other, setting) == value

    def test_a_settings_file_shows_in_the_panel(
        self, open_page: Callable[..., SettingsPage], tmp_path: Path
    ) -> None:
        registry = SettingsRegistry()
        changed = PluginSettings(registry)
        for setting, value in self.VALUES:
            changed[setting].set_value(value)
        registry.save_settings(tmp_path / "settings.ini")
        from ptychopinn_ptychodus.plugin.library import PtychoPINNPluginLibrary

        registry = SettingsRegistry()
        page = open_page(PtychoPINNPluginLibrary(registry, False))
        registry.open_settings(tmp_path / "settings.ini")
        for setting, value in self.VALUES:
            assert shown_in(page, setting) == value

    def test_a_value_that_is_no_choice_is_shown_as_it_is(
        self, open_page: Callable[..., SettingsPage]
    ) -> None:
        library = make_library(Model_Backend="abacus")
        page = open_page(library)
        assert shown_in(page, "Model.Backend") == "abacus"
        library.settings["Training.Scheduler"].set_value("sinus")
        assert shown_in(page, "Training.Scheduler") == "sinus"

    def test_zero_says_what_it_stands_for(self, open_page: Callable[..., SettingsPage]) -> None:
        page = open_page(make_library())
        assert page.row("Data.NumSubsample").widget.text() == "all"
        assert page.row("Inference.BatchSize").widget.text() == "automatic"

    def test_an_effort_shows_what_it_has_set(
        self, open_page: Callable[..., SettingsPage], application: QApplication
    ) -> None:
        page = open_page(make_library(Refinement_Epochs=10))
        assert page.rows[0].setting.path == "Training.Effort"
        every = with_effort("quick")
        quick = {path: value for path, value in every.items() if not path.startswith("WithoutModel.")}
        for _ in range(2):  # chosen once more, it sets once more what has been changed
            set_in(page, "Training.Effort", "quick")
            page.row("Training.Effort").widget.activated.emit(0)
            application.processEvents()
            assert {path: shown_in(page, path) for path in quick} == quick
            epochs, refinement = quick["Training.Epochs"], quick["Refinement.Epochs"]
            assert page.effort_says.text() == f"training epochs {epochs}, refinement epochs {refinement}"
            set_in(page, "Training.Epochs", 30)
            application.processEvents()
            assert f"training epochs 30 (quick: {epochs}), " in page.effort_says.text()
            assert shown_in(page, "Training.Effort") == "quick"

    def test_scrolling_past_a_box_changes_nothing(
        self, open_page: Callable[..., SettingsPage], application: QApplication
    ) -> None:
        from PyQt5.QtCore import QPoint, QPointF, Qt
        from PyQt5.QtGui import QWheelEvent

        page = open_page(make_library())
        widget = page.row("Training.Epochs").widget
        widget.clearFocus()
        before = shown_in(page, "Training.Epochs")
        for target in (widget, page.row("Training.Scheduler").widget):
            wheel = QWheelEvent(
                QPointF(2, 2),
                QPointF(2, 2),
                QPoint(),
                QPoint(0, -120),
                Qt.MouseButton.NoButton,
                Qt.KeyboardModifier.NoModifier,
                Qt.ScrollPhase.NoScrollPhase,
                False,
            )
            application.sendEvent(target, wheel)
        assert shown_in(page, "Training.Epochs") == before
        assert shown_in(page, "Training.Scheduler") == "one_cycle"


class TestEngines:
    def test_backends_of_others_are_choices(
        self, open_page: Callable[..., SettingsPage], abacus: str
    ) -> None:
        combo = open_page(make_library()).row("Model.Backend").widget
        assert [combo.itemText(i) for i in range(combo.count())] == [
            "auto",
            "tensorflow",
            "pytorch",
            "abacus",
        ]

    def test_what_is_missing_is_told_with_the_remedy(
        self, open_page: Callable[..., SettingsPage], wish: Callable[..., None]
    ) -> None:
        wish(installed=["pytorch"])
        said = "\n".join(texts(open_page(make_library())))
        assert "✗ not installed" in said
        assert "pip install fake-tensorflow" in said
        assert "● installed" in said  # auto takes it

    def test_accelerators_are_found_by_another_process(
        self,
        open_page: Callable[..., SettingsPage],
        wait_for: Callable[..., None],
        wish: Callable[..., None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        from ptychopinn_ptychodus.plugin.panel import engines

        monkeypatch.setattr(engines, "DELAY_MS", 0)
        wish(installed=["pytorch", "tensorflow"])
        page = open_page(make_library())
        wait_for(lambda: "\n".join(texts(page)).count("CPU only") == 2, "answers of both engines")

    def test_an_engine_that_does_not_work_says_why(
        self,
        open_page: Callable[..., SettingsPage],
        wait_for: Callable[..., None],
        fake_site: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        from plugin_support import add_engines, forget_engines

        from ptychopinn_ptychodus.plugin.panel import engines

        monkeypatch.setattr(engines, "DELAY_MS", 0)
        (fake_site / "broken_engine.py").write_text(
            "from fake_engine import Abacus\n"
            "class Broken(Abacus):\n"
            "    def accelerators(self): raise ImportError('libcudnn is missing')\n"
        )
        add_engines(fake_site, "broken", module="broken_engine", abacus="Broken")
        forget_engines()
        page = open_page(make_library())
        wait_for(lambda: any("does not work" in text for text in texts(page)), "the answer")
        assert "libcudnn is missing" in page._engine_states.state("abacus").tip


class TestModelBox:
    def test_without_a_model_there_is_nothing_to_save(self, open_page: Callable[..., SettingsPage]) -> None:
        box = open_page(make_library()).model_box
        assert not box.save_button.isEnabled()
        assert any("None yet" in text for text in texts(box))

    def test_it_follows_a_training(
        self,
        open_page: Callable[..., SettingsPage],
        wait_for: Callable[..., None],
        standard_directory: Path,
        tmp_path: Path,
    ) -> None:
        library = make_library(Training_Epochs=3)
        page, other = open_page(library), open_page(library, "supervised")
        # the application trains in a thread
        thread = threading.Thread(target=train, args=(library, standard_directory, tmp_path / "out"))
        thread.start()
        wait_for(page.model_box.save_button.isEnabled, "the trained model")
        thread.join()
        said = "\n".join(texts(page.model_box))
        for words in ("model.ckpt", "Fake PyTorch", "3 epochs", "unrolled (pinn), N 64, grid 2 × 2", "0.333"):
            assert words in said
        assert str(standard_directory) in said
        assert not other.model_box.save_button.isEnabled()

    def test_it_follows_a_model_that_is_loaded_elsewhere(
        self,
        open_page: Callable[..., SettingsPage],
        wait_for: Callable[..., None],
        standard_directory: Path,
        tmp_path: Path,
    ) -> None:
        trained = train(make_library(Training_Epochs=1), standard_directory, tmp_path / "out").require_model()
        library = make_library()
        page = open_page(library)
        next(iter(library)).load_model_from_file(trained)
        wait_for(page.model_box.save_button.isEnabled, "the loaded model")

    def test_it_knows_a_model_from_before_it_was_opened(
        self,
        open_page: Callable[..., SettingsPage],
        wait_for: Callable[..., None],
        standard_directory: Path,
        tmp_path: Path,
    ) -> None:
        library = make_library(Training_Epochs=1)
        train(library, standard_directory, tmp_path / "out")
        wait_for(open_page(library).model_box.save_button.isEnabled, "the model")

    def test_save_and_load(
        self,
        open_page: Callable[..., SettingsPage],
        wait_for: Callable[..., None],
        dialogs: Dialogs,
        standard_directory: Path,
        tmp_path: Path,
    ) -> None:
        library = make_library(Training_Epochs=1)
        source = train(library, standard_directory, tmp_path / "out").require_model()
        os.utime(source, (1e9, 1e9))
        box = open_page(library).model_box
        wait_for(box.save_button.isEnabled, "the model")
        dialogs.path = tmp_path / "kept"
        box.save_button.click()
        kept = tmp_path / "kept.ckpt"  # the extension was left out
        assert kept.read_bytes() == source.read_bytes()
        dialogs.path = kept
        box.load_button.click()
        wait_for(lambda: any("kept.ckpt" in text for text in texts(box)), "the loaded model")
        assert any("2001-09-0" in text for text in texts(box))  # a copy is as old as its model
        assert "*.ckpt" in dialogs.filters[0]
        assert "*.wts.h5.zip" in dialogs.filters[0]

    def test_a_dialog_that_is_left_does_nothing(
        self, open_page: Callable[..., SettingsPage], dialogs: Dialogs
    ) -> None:
        box = open_page(make_library()).model_box
        box.load_button.click()
        assert not box.save_button.isEnabled()

    def test_a_wrong_file_is_refused_in_a_dialog(
        self,
        open_page: Callable[..., SettingsPage],
        dialogs: Dialogs,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        from ptychodus.view.widgets import ExceptionDialog

        shown = []
        monkeypatch.setattr(ExceptionDialog, "show_exception", lambda *args: shown.append(args))
        dialogs.path = tmp_path / "wrong.ckpt"
        dialogs.path.write_text("no model")
        box = open_page(make_library()).model_box
        box.load_button.click()
        ((what, exc),) = shown
        assert what == "Load Model"
        assert "not a model" in str(exc)
        assert not box.save_button.isEnabled()

    def test_a_model_that_has_gone_is_missed(
        self,
        open_page: Callable[..., SettingsPage],
        wait_for: Callable[..., None],
        standard_directory: Path,
        tmp_path: Path,
    ) -> None:
        library = make_library(Training_Epochs=1)
        path = train(library, standard_directory, tmp_path / "out").require_model()
        box = open_page(library).model_box
        wait_for(box.save_button.isEnabled, "the model")
        path.unlink()
        box.refresh()
        assert any("no longer there" in text for text in texts(box))
        assert not box.save_button.isEnabled()


def test_the_object_is_shown_while_it_is_learnt(
    open_page: Callable[..., SettingsPage],
    wait_for: Callable[..., None],
    wish: Callable[..., None],
    standard_directory: Path,
    tmp_path: Path,
) -> None:
    wish(seconds_more=1e6, epoch_seconds=0.5)
    library = make_library(Training_Epochs=2)
    reconstructor = next(iter(library))
    page = open_page(library)
    box = page.preview_box
    assert not box.isVisible()
    thread = threading.Thread(target=run, args=(reconstructor.train(standard_directory, tmp_path / "out"),))
    thread.start()
    for epoch in (1, 2):
        wait_for(lambda epoch=epoch: any(f"epoch {epoch}" in text for text in texts(box)), f"epoch {epoch}")
        assert box.isVisible()
    thread.join()
    shown = box.grab().toImage()
    assert len({shown.pixel(x, shown.height() // 2) for x in range(shown.width())}) > 10
    assert page.minimumSizeHint().width() < WIDEST_PX
    # another page that is opened later shows it as well
    assert open_page(library).preview_box.isVisible()


def test_how_far_a_result_is_to_be_believed_is_shown(
    open_page: Callable[..., SettingsPage], wait_for: Callable[..., None]
) -> None:
    library = make_library()
    reconstructor = next(iter(library))
    page = open_page(library)
    box = page.confidence_box
    assert not box.isVisible()
    error = np.linspace(0.0, 1.0, 400, dtype=np.float32).reshape(20, 20)
    picture_of_it = picture(Confidence(error, 0 * error, 0.5, None))
    reconstructor._shown.show_confidence(ConfidenceFiles(b"", picture_of_it))
    wait_for(lambda: box.isVisible() and box.height() > 60, "the picture")
    shown = box.grab().toImage()
    assert len({shown.pixel(x, shown.height() // 2) for x in range(shown.width())}) > 10
    assert page.minimumSizeHint().width() < WIDEST_PX
    reconstructor._shown.show_confidence(None)
    wait_for(lambda: not box.isVisible(), "its end")


def test_a_panel_that_fails_says_so(
    application: QApplication, fake_site: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    from ptychopinn_ptychodus.plugin import panel
    from ptychopinn_ptychodus.plugin.panel import page as module

    def fail(*args: object) -> None:
        raise RuntimeError("as the test asked")

    monkeypatch.setattr(module, "SettingsPage", fail)
    page = panel.PtychoPINNPluginViewControllerFactory(make_library(), None).create_view_controller("pinn")
    page.show()
    application.processEvents()
    assert any("as the test asked" in text for text in texts(page))
    page.deleteLater()


def test_where_there_is_no_panel_the_page_says_what_to_do(application: QApplication) -> None:
    from ptychopinn_ptychodus.plugin.attach_window import Panel

    page = Panel(make_library(), None).create_view_controller("pinn")
    assert "[PtychoPINNPluginTraining]" in page.text()

    def fail() -> None:
        raise RuntimeError("as the test asked")

    assert "as the test asked" in Panel(make_library(), fail).create_view_controller("pinn").text()


def test_no_framework_enters_the_process(application: QApplication, fake_site: Path, tmp_path: Path) -> None:
    code = f"""
import sys; sys.path.append({str(fake_site)!r})
from PyQt5.QtWidgets import QApplication
application = QApplication([])
from ptychodus.api.settings import SettingsRegistry
from ptychopinn_ptychodus.plugin.library import PtychoPINNPluginLibrary
from ptychopinn_ptychodus.plugin.panel import PtychoPINNPluginViewControllerFactory
factory = PtychoPINNPluginViewControllerFactory(PtychoPINNPluginLibrary(SettingsRegistry(), False), None)
page = factory.create_view_controller("pinn")
page.show()
assert page.settings_page is not None
print([name for name in ("torch", "lightning", "tensorflow", "keras") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr
