"""``Refinement``: an object without a model, through the plugin."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plugin_support import make_library, run
from ptychodus.api.object import Object
from ptychodus.api.product import Product
from ptychodus.api.reconstruct import ReconstructInput, TrainableReconstructor, prepare_reconstruct_input

from ptychopinn_ptychodus.data.confidence import Confidence
from ptychopinn_ptychodus.data.metrics import compare, illumination_mask
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import make_object, make_probe, raster_positions, simulate_scan
from ptychopinn_ptychodus.plugin.refiner import RefinementReconstructor
from ptychopinn_ptychodus.ptychodus_io.standard_scan import in_ptychodus
from ptychopinn_ptychodus.settings_table import SETTINGS, WITHOUT_MODEL

SHAPE = (106, 112)


@pytest.fixture(scope="module")
def raw() -> RawData:
    x, y = raster_positions(9, 9, 5.0, jitter=0.3, origin=34.0, seed=1)
    return simulate_scan(make_object(SHAPE, seed=2), make_probe(64), x, y, photons=1e6, seed=3)


def parameters_of(raw: RawData, start: np.ndarray) -> ReconstructInput:
    return prepare_reconstruct_input(*in_ptychodus(raw, start, photons=1e6, name="scan"))


def reconstructor(**settings: Any) -> RefinementReconstructor:
    found = [one for one in make_library(**settings) if one.name == "Refinement"]
    assert isinstance(found[0], RefinementReconstructor)
    return found[0]


def correlation(product: Product, raw: RawData) -> float:
    assert raw.objectGuess is not None
    lit = illumination_mask(raw.probeGuess, raw.xcoords, raw.ycoords, SHAPE)
    found = np.asarray(product.object_.get_layer(0))
    return float(compare(found, raw.objectGuess, lit).complex_correlation_centred)


def test_it_finds_the_object_from_a_flat_one(
    raw: RawData, log: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    one = reconstructor(Examination_Judge=True, Examination_Confidence=True)
    assert not isinstance(one, TrainableReconstructor)  # else the window would wait for a model
    parameters = parameters_of(raw, np.ones(SHAPE))
    (output,) = run(one.reconstruct(parameters))
    product = output.product
    assert output.progress == one.get_progress_goal() == 100
    assert correlation(product, raw) > 0.98
    how, *findings = product.metadata.comments.splitlines()
    assert how.startswith("ptychopinn-ptychodus: flat object, then ")
    assert any("explains" in line for line in findings)
    assert any(finding.subject == "result" for finding in one.findings.findings)
    said = one.findings.by_code("confidence")
    assert said is not None
    assert said.seen in product.metadata.comments
    half = said.values["half_period_nm"]
    assert ("down to the pixel" if half is None else f"{half:.3g} nm") in said.seen
    confidence = one.confidence
    assert confidence is not None
    confidence.write(tmp_path)
    assert Confidence.load(tmp_path / "confidence.npz").spread.shape == SHAPE
    (tmp_path / "product.h5").touch()
    one.leave_beside(tmp_path / "product.h5")
    assert (tmp_path / "confidence.png").read_bytes() == confidence.picture
    one.leaves_beside = False  # as our own command has it, which leaves it with the result
    (tmp_path / "elsewhere").mkdir()
    one.leave_beside(tmp_path / "elsewhere" / "product.h5")
    assert not list((tmp_path / "elsewhere").iterdir())
    assert product.probes.get_array().shape == (1, 3, 64, 64)  # ProbeModes
    assert product.object_.get_geometry() == parameters.product.object_.get_geometry()
    assert 'Effort "normal": epochs 30.' in log.text
    assert "of the flat object" in log.text


@pytest.mark.parametrize(
    ("start", "setting", "origin"),
    [
        ("truth", "auto", "the product's object"),
        ("truth", "flat", "flat object"),
        ("random", "auto", "flat object"),
        ("random", "object", "the product's object"),
        ("nothing", "auto", "flat object"),
    ],
)
def test_what_it_starts_from(start: str, setting: str, origin: str, raw: RawData) -> None:
    assert raw.objectGuess is not None
    rng = np.random.default_rng(5)
    objects = {
        "truth": raw.objectGuess,
        "random": np.exp(1j * rng.uniform(-3, 3, SHAPE)),
        "nothing": np.zeros(SHAPE),
    }
    settings = {"WithoutModel_Epochs": 1, "Training_ProbeModes": 1}
    one = reconstructor(WithoutModel_Start=setting, **settings)
    (output,) = run(one.reconstruct(parameters_of(raw, objects[start])))
    assert f"ptychopinn-ptychodus: {origin}, then 1 epoch" in output.product.metadata.comments
    assert one.confidence is None
    assert "confidence" not in output.product.metadata.comments
    if origin == "the product's object" and start == "truth":
        assert correlation(output.product, raw) > 0.95


def test_a_start_that_there_is_not_is_named(raw: RawData) -> None:
    one = reconstructor(WithoutModel_Start="nowhere")
    with pytest.raises(ValueError, match=r"PtychoPINNPluginWithoutModel\.Start = 'nowhere'.*'auto', 'flat'"):
        run(one.reconstruct(parameters_of(raw, np.ones(SHAPE))))


def test_stop_hands_over_what_was_found_until_then(raw: RawData, log: pytest.LogCaptureFixture) -> None:
    class Monitor:
        is_processing = True

        @property
        def is_stopping(self) -> bool:
            return "Refinement, epoch 2/" in log.text

        def update_progress(self, progress: int, goal: int) -> None:
            pass

    one = reconstructor(WithoutModel_Epochs=1000, Refinement_Metric="amplitude")
    one.attach_task_monitor(Monitor())
    (output,) = run(one.reconstruct(parameters_of(raw, np.ones(SHAPE))))
    assert 2 <= len(output.product.losses) < 1000


def test_a_product_without_an_object_is_refused(raw: RawData) -> None:
    parameters = parameters_of(raw, np.ones(SHAPE))
    product = parameters.product
    empty = Object(
        np.zeros((1, 0, 0), complex), product.object_.get_pixel_geometry(), product.object_.get_center(), []
    )
    parameters = dataclasses.replace(parameters, product=dataclasses.replace(product, object_=empty))
    with pytest.raises(ValueError, match="has no object yet"):
        run(reconstructor().reconstruct(parameters))


def test_a_model_that_is_missing_names_it() -> None:
    with pytest.raises(RuntimeError, match=r'Refinement \("ptychopinn-plugin_refinement"\)'):
        next(iter(make_library())).require_model()


def test_it_needs_no_framework() -> None:
    """Of all that its worker imports, nothing imports one; nor what takes longer than the rest together."""
    code = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in ('torch', 'tensorflow', 'keras'): raise ModuleNotFoundError(name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "import ptychopinn_ptychodus.worker.main, ptychopinn_ptychodus.plugin.library\n"
        "from ptychopinn_ptychodus import *\n"
        "x, y = raster_positions(6, 6, step=7.0, origin=38.0)\n"
        "scan = simulate_scan(make_object((112, 112), seed=0), make_probe(64), x, y, photons=1e6, seed=0)\n"
        "assert len(refine(scan, config=RefinementConfig(epochs=1), in_process=True).errors) == 1\n"
        "assert not {'scipy.stats', 'scipy.signal'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# ---- its page ---------------------------------------------------------------------------------------------


@pytest.fixture
def application(monkeypatch: pytest.MonkeyPatch) -> Any:
    widgets = pytest.importorskip("PyQt5.QtWidgets")
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    return widgets.QApplication.instance() or widgets.QApplication([])


def test_its_page_has_what_it_reads_and_nothing_else(application: Any) -> None:
    from PyQt5.QtWidgets import QGroupBox

    from ptychopinn_ptychodus.plugin.panel import Page, PtychoPINNPluginViewControllerFactory

    library = make_library()
    factory = PtychoPINNPluginViewControllerFactory(library, None)

    def open_page(name: str) -> Any:
        page = factory.create_view_controller(name)
        assert isinstance(page, Page)
        page.show()
        application.processEvents()
        assert page.settings_page is not None
        return page, page.settings_page

    keep, page = open_page("refinement")
    library.settings["Training.BatchSize"].set_value(7)  # off its default, and of others all the same
    application.processEvents()
    expected = [path for path, row in SETTINGS.items() if WITHOUT_MODEL in row.of]
    assert [row.setting.path for row in page.rows] == expected
    assert {"WithoutModel.Start", "WithoutModel.Epochs", "Training.ProbeModes", "Refinement.Metric"} <= set(
        expected
    )
    assert "Loaded Model" not in [box.title() for box in page.findChildren(QGroupBox)]
    assert page.effort_says.text() == "epochs 30"
    library.settings["Training.Effort"].set_value("quick")
    application.processEvents()
    assert page.effort_says.text() == "epochs 10"
    keep.close()
    keep, page = open_page("pinn")
    assert not any(row.setting.group == "WithoutModel" for row in page.rows)
    keep.close()
