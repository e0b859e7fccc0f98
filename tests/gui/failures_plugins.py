"""Scenarios with more than one of something: applications in a process, plugins in an application."""

from __future__ import annotations

import logging

from driven_window import Window
from ptychodus.model import ModelCore
from PyQt5.QtTest import QTest
from PyQt5.QtWidgets import QLabel
from stage import PINN, Stage

from ptychopinn_ptychodus.plugin.reconstructor import PtychoPINNReconstructor

LIBRARY = """
from ptychodus.api.reconstruct import Reconstructor, ReconstructorLibrary, ReconstructOutput

class Echo(Reconstructor):
    name = "Echo"

    def get_progress_goal(self):
        return 1

    def reconstruct(self, parameters):
        yield ReconstructOutput(parameters.product, 1)

class Library(ReconstructorLibrary):
    def __init__(self, name):
        super().__init__(name)
        self._name = name

    name = property(lambda self: self._name)

    def __iter__(self):
        return iter([Echo()])

def good(settings_registry, is_developer_mode_enabled):
    return Library("Good")

def bare(settings_registry, is_developer_mode_enabled):
    return Library("Bare")

def mute(settings_registry, is_developer_mode_enabled):
    return Library("Mute")
"""

PANELS = """
from PyQt5.QtWidgets import QLabel

class Panels:
    name = "Good"

    def create_view_controller(self, reconstructor_name):
        return QLabel("The page of " + reconstructor_name)

def good(library, file_dialog_factory):
    return Panels()

def mute(library, file_dialog_factory):
    raise RuntimeError("the panel has failed on purpose")
"""

ENTRY_POINTS = """
[ptychodus.reconstructor_libraries]
Good = others_library:good
Bare = others_library:bare
Mute = others_library:mute
Lame = others_lame:make
[ptychodus.view_controller_factories]
Good = others_panels:good
Mute = others_panels:mute
"""


def other_plugins(stage: Stage) -> int:
    """Others use the same entry points: what works is listed with its page, what fails is named."""
    stage.use_fake_engine()
    stage.add_distribution(
        "others",
        ENTRY_POINTS,
        others_library=LIBRARY,
        others_panels=PANELS,
        others_lame="raise ImportError('the library has failed on purpose')",
    )
    directory = stage.scan()
    records: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record.getMessage())

    logging.getLogger().addHandler(Keep(logging.WARNING))

    def script(window: Window) -> None:
        window.resize(1280, 880)
        listed = [window.algorithms.itemText(i) for i in range(window.algorithms.count())]
        for name in (PINN, "ptychopinn-plugin_supervised", "good_echo", "bare_echo", "mute_echo"):
            assert listed.count(name) == 1, listed
        assert not any("lame" in name for name in listed), listed
        assert any("Lame" in text and "on purpose" in text for text in records), records
        window.load(directory)
        window.show("processing")
        for name, expected in (
            ("good_echo", "The page of echo"),
            ("bare_echo", "There is no panel"),
            ("mute_echo", "the panel has failed on purpose"),
        ):
            window.pick_algorithm(name)
            page = window.processing._stacked_widget.currentWidget()
            said = "\n".join(
                label.text() for label in [page, *page.findChildren(QLabel)] if hasattr(label, "text")
            )
            assert expected in said, said
            window.shot(f"others_{name.split('_')[0]}")
            assert window.infer_button.text() == "Reconstruct"
            assert window.infer_button.isEnabled()
            window.load(directory)
            QTest.qWait(100)
            assert window.infer_button.isEnabled(), "disabled by a plugin that it is no matter of"
        products = window.products
        window.infer_button.click()
        window.wait_until_idle(120)
        assert window.error is None, window.error
        assert window.products == products + 1

        window.pick_algorithm(PINN)
        window.settings("Training.Epochs").set_value(1)
        window.train(directory)
        window.wait_until_idle(120)
        assert window.error is None, window.error
        window.wait_for(window.infer_button.isEnabled, 120, "Infer")

    return stage.run(script)


def two_cores(stage: Stage) -> int:
    """Two applications in one process: each with its own settings, models and products."""
    stage.use_fake_engine()
    directory = stage.scan()
    with ModelCore() as one, ModelCore() as two:
        for epochs, model in ((2, one), (3, two)):
            listed = list(model.workflow_api.available_reconstructors())
            assert listed.count(PINN) == listed.count("ptychopinn-plugin_supervised") == 1, listed
            model.processing_core.algorithm_parameter.set_value(PINN)
            training = model.settings_registry["PtychoPINNPluginTraining"].parameters()
            training["Epochs"].set_value(epochs)
            # what is computed besides is no matter of two applications, and takes its time
            model.settings_registry["PtychoPINNPluginRefinement"].parameters()["Epochs"].set_value(1)
            for name in ("Judge", "Confidence"):
                model.settings_registry["PtychoPINNPluginExamination"].parameters()[name].set_value(False)
            diffraction = model.workflow_api.load_assembled_diffraction_data(directory / "diffraction.h5")
            model.workflow_api.load_product(directory / "product.h5", diffraction=diffraction)
        found = []
        for number, model in enumerate((one, two)):
            output = stage.scratch / str(number)
            api = model.processing_core.processing_api
            api.train(directory, output, product_index=0, block=True)
            trained = model.processing_core.algorithm_parameter.get_current_reconstructor()
            assert isinstance(trained, PtychoPINNReconstructor)
            assert trained.require_model().parent == output
            found.append(len((output / "training_history.csv").read_text().splitlines()) - 1)
            api.reconstruct(product_index=0, block=True)
            assert len(model.product_core.product_repository) == 2
        assert found == [2, 3], found
    return 0
