"""The way of a refinement through the plugin: two outputs, what is in them, how it stops, what it refuses.

What a refinement is worth is the business of tests/refinement.
"""

from __future__ import annotations

import dataclasses
import logging
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_engine
import numpy as np
import pytest
from plugin_support import make_library, run
from ptychodus.api.assemble import AssembledDiffractionData
from ptychodus.api.geometry import PixelGeometry
from ptychodus.api.object import Object, ObjectCenter
from ptychodus.api.probe import ProbeSequence
from ptychodus.api.probe_positions import ProbePosition, ProbePositionSequence
from ptychodus.api.product import Product
from ptychodus.api.reconstruct import ReconstructInput, ReconstructOutput, prepare_reconstruct_input

from ptychopinn_ptychodus.backends.registry import get_engine
from ptychopinn_ptychodus.config import ExecutionConfig, ModelConfig, TrainingConfig
from ptychopinn_ptychodus.data.estimate import Estimate
from ptychopinn_ptychodus.data.examination import Report
from ptychopinn_ptychodus.data.metrics import compare, illumination_mask
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import make_object, make_probe, raster_positions, simulate_scan
from ptychopinn_ptychodus.plugin.settings import make_refinement_config
from ptychopinn_ptychodus.ptychodus_io.ingest import from_reconstruct_input, object_positions
from ptychopinn_ptychodus.ptychodus_io.products import with_network, with_refinement
from ptychopinn_ptychodus.ptychodus_io.standard_scan import in_ptychodus
from ptychopinn_ptychodus.refinement.solver import refine

pytestmark = pytest.mark.usefixtures("fake_site")

SHAPE = (106, 112)
CENTER_M = (3e-7, -5e-7)
STRETCH = 1.5  # height of a pixel over its width
EARLIER = "mine\nptychopinn-ptychodus: network only, earlier.ckpt"


def simulated(modes: int = 1) -> RawData:
    """81 patterns of 64 × 64, of an object with detail at all scales."""
    x, y = raster_positions(9, 9, 5.0, jitter=0.3, origin=34.0, seed=1)
    return simulate_scan(make_object(SHAPE, seed=2), make_probe(64, modes=modes), x, y, photons=1e6, seed=3)


def parameters_of(raw: RawData, errors_px: np.ndarray | float = 0.0) -> ReconstructInput:
    """What Ptychodus hands over: a flat object off the origin, pixels that are not square, old comments.

    The positions are those of the scan and ``errors_px``, (M, 2) [x, y].
    """
    _, product = in_ptychodus(
        raw, np.ones(SHAPE), photons=1e6, name="scan", comments=EARLIER, center_m=CENTER_M
    )
    before = product.object_.get_pixel_geometry()
    pixel = PixelGeometry(width_m=before.width_m, height_m=STRETCH * before.height_m)
    errors_m = np.broadcast_to(errors_px, (raw.n_patterns, 2)) * (pixel.width_m, pixel.height_m)
    positions = [
        ProbePosition(
            7 + point.index,  # numbers of patterns need not begin at 0
            point.x_m + x_m,
            CENTER_M[1] + STRETCH * (point.y_m - CENTER_M[1]) + y_m,
            100.0 + point.index,
        )
        for point, (x_m, y_m) in zip(product.probe_positions, errors_m.tolist(), strict=True)
    ]
    product = dataclasses.replace(
        product,
        probe_positions=ProbePositionSequence(positions),
        probes=ProbeSequence(product.probes.get_array(), None, pixel),
        object_=Object(product.object_.get_array(), pixel, ObjectCenter(*CENTER_M), []),
    )
    counts = np.rint(np.square(raw.diff3d, dtype=np.float64)).astype(np.uint32)
    numbers = np.array([position.index for position in positions])
    data = AssembledDiffractionData(numbers, counts, PixelGeometry(7.5e-5, 7.5e-5), raw.bad_pixels)
    return prepare_reconstruct_input(data, product)


def positions_of(product: Product) -> np.ndarray:
    return np.stack(object_positions(product), -1)


def line_of(product: Product) -> str:
    """How the object came about: the plugin's first line of the comments, after what the user wrote."""
    mine, line, *findings = product.metadata.comments.splitlines()
    assert mine == "mine"
    heading = re.compile("ptychopinn-ptychodus: (Mended|Warning|Noted): ")
    assert all(heading.match(finding) for finding in findings)
    return line.removeprefix("ptychopinn-ptychodus: ")


def correlation(product: Product, raw: RawData) -> float:
    assert raw.objectGuess is not None
    lit = illumination_mask(raw.probeGuess, raw.xcoords, raw.ycoords, SHAPE)
    found = np.asarray(product.object_.get_layer(0))
    return float(compare(found, raw.objectGuess, lit).complex_correlation_centred)


class Monitor:
    """Ptychodus' task monitor; Stop is pressed once ``pressed`` says so."""

    is_processing = True

    def __init__(self, pressed: Callable[[], bool] = lambda: False) -> None:
        self.progress: list[int] = []
        self._pressed = pressed

    @property
    def is_stopping(self) -> bool:
        return self._pressed()

    def update_progress(self, progress: int, goal: int) -> None:
        assert goal == 100
        self.progress.append(progress)


@pytest.fixture
def reconstruct(tmp_path: Path) -> Callable[..., list[ReconstructOutput]]:
    """``reconstruct(parameters, Group_Name=value)``: the outputs, of a model for groups of four."""
    path = tmp_path / "model.ckpt"
    training = TrainingConfig(model=ModelConfig(gridsize=2))
    container = simulated().generate_grouped_data(64, 6, None, gridsize=2, seed=0)
    get_engine("pytorch").train(container, None, training, ExecutionConfig(), model_path=path)

    def reconstruct(
        parameters: ReconstructInput, monitor: Monitor | None = None, **settings: Any
    ) -> list[ReconstructOutput]:
        library = make_library(Training_Accelerator="cpu", **settings)
        reconstructor = next(iter(library))
        reconstructor.load_model_from_file(path)
        if monitor is not None:
            reconstructor.attach_task_monitor(monitor)
        return run(reconstructor.reconstruct(parameters))

    return reconstruct


def test_the_networks_object_comes_first_and_then_the_refined_one(
    reconstruct: Callable[..., list[ReconstructOutput]], log: pytest.LogCaptureFixture
) -> None:
    raw, monitor = simulated(), Monitor()
    parameters = parameters_of(raw, np.random.default_rng(4).normal(0.0, 0.4, (raw.n_patterns, 2)))
    product, settings = parameters.product, {"Inference_NumGroups": 30}
    outputs = reconstruct(parameters, monitor, Refinement_Epochs=8, **settings)
    assert [output.progress for output in outputs] == [50, 100]
    network, refined = (output.product for output in outputs)

    # the first is what there is without a refinement
    (alone,) = (output.product for output in reconstruct(parameters, Refinement_Epochs=0, **settings))
    assert np.array_equal(network.object_.get_array(), alone.object_.get_array())
    assert np.array_equal(network.probes.get_array(), alone.probes.get_array())
    assert network.probe_positions is product.probe_positions
    assert network.losses == alone.losses
    assert line_of(network) == line_of(alone) == "network only, model.ckpt"

    # the second is what becomes of it
    config = make_refinement_config(make_library(Refinement_Epochs=8).settings)
    assert config is not None
    expected = refine(
        from_reconstruct_input(parameters, with_object=False),
        np.asarray(network.object_.get_layer(0)),
        np.asarray(network.probes.get_array())[0],
        config,
        device="cpu",
    )
    np.testing.assert_allclose(refined.object_.get_layer(0), expected.object, atol=1e-3)
    np.testing.assert_allclose(positions_of(refined), expected.positions, atol=1e-4)
    probe = np.asarray(refined.probes.get_array())
    np.testing.assert_allclose(probe, expected.probe[None], atol=1e-3 * np.abs(probe).max())
    assert [loss.value for loss in refined.losses] == pytest.approx(expected.history, rel=1e-3)
    assert [loss.epoch for loss in refined.losses] == list(range(1, 9))
    assert line_of(refined).startswith("network, model.ckpt, then 8 epochs of refinement")
    assert "positions refined" in line_of(refined)

    # and it is better
    assert refined.losses[-1].value < 0.2 * refined.losses[0].value
    assert correlation(refined, raw) > 0.9
    truth = np.stack((raw.xcoords, raw.ycoords), -1)
    errors = [positions_of(one) - truth for one in (product, refined)]
    before, after = (np.std(error, axis=0) for error in errors)
    assert (after < 0.6 * before).all()

    # both are the product in all else
    for found in (network, refined):
        assert found.object_.get_geometry() == product.object_.get_geometry()
        assert found.object_.get_array().shape == (1, *SHAPE)
        assert found.object_.dtype == product.object_.dtype
        assert found.probes.dtype == product.probes.dtype
        assert found.probes.get_pixel_geometry() == product.probes.get_pixel_geometry()
        metadata = dataclasses.replace(found.metadata, comments=EARLIER)
        assert metadata == product.metadata
        for one, other in zip(found.probe_positions, product.probe_positions, strict=True):
            assert one.index == other.index
            assert one.probe_photon_count == other.probe_photon_count

    assert monitor.progress == sorted(monitor.progress)
    assert {45, 54, 85} <= set(monitor.progress)  # network's, first and last but one of the epochs
    assert max(monitor.progress) < 100
    assert sum("Refinement, epoch" in record.message for record in log.records) == 8
    assert re.search(r"Normalised error: \S+ of the network, \S+ after 8 epochs", log.text)


def test_what_is_not_to_be_refined_stays_as_it_is(
    reconstruct: Callable[..., list[ReconstructOutput]],
) -> None:
    parameters = parameters_of(simulated(modes=2))
    network, refined = (
        output.product
        for output in reconstruct(
            parameters, Refinement_Epochs=2, Refinement_Probe=False, Refinement_Positions=False
        )
    )
    assert refined.probe_positions is parameters.product.probe_positions
    assert "positions" not in line_of(refined)
    # the probe's power is fitted to the data, nothing else
    before, after = (np.asarray(product.probes.get_array()).ravel() for product in (network, refined))
    factor = np.vdot(before, after) / np.vdot(before, before)
    np.testing.assert_allclose(after, factor * before, atol=1e-5 * np.abs(after).max())
    assert factor.real > 0
    assert not np.allclose(network.object_.get_array(), refined.object_.get_array(), atol=0.01)


def test_all_modes_of_the_probe_are_refined(reconstruct: Callable[..., list[ReconstructOutput]]) -> None:
    raw = simulated(modes=2)
    network, refined = (output.product for output in reconstruct(parameters_of(raw), Refinement_Epochs=4))
    assert refined.probes.get_array().shape == network.probes.get_array().shape == (1, 2, 64, 64)
    before, after = (np.asarray(product.probes.get_array())[0] for product in (network, refined))
    np.testing.assert_allclose(
        before, fake_engine.PROBE_FACTOR * raw.probeGuess, atol=1e-5 * np.abs(before).max()
    )
    powers = np.sum(np.abs(after) ** 2, axis=(1, 2))
    assert powers[0] > powers[1] > 0
    assert abs(np.vdot(after[0], after[1])) < 1e-3 * np.sqrt(powers.prod())


def test_poisson_is_another_objective(reconstruct: Callable[..., list[ReconstructOutput]]) -> None:
    settings = {"Refinement_Epochs": 2, "Refinement_Positions": False}
    found = [
        reconstruct(parameters_of(simulated()), Refinement_Metric=metric, **settings)[-1].product
        for metric in ("amplitude", "poisson")
    ]
    amplitude, poisson = ([loss.value for loss in product.losses] for product in found)
    assert amplitude != pytest.approx(poisson, rel=0.01)


def test_stop_hands_over_what_is_refined_until_then(
    reconstruct: Callable[..., list[ReconstructOutput]], log: pytest.LogCaptureFixture
) -> None:
    monitor = Monitor(lambda: "Refinement, epoch 2/" in log.text)
    network, stopped = reconstruct(parameters_of(simulated()), monitor, Refinement_Epochs=1000)
    assert (network.progress, stopped.progress) == (50, 100)
    epochs = len(stopped.product.losses)
    assert 2 <= epochs < 1000
    assert line_of(stopped.product).startswith(f"network, model.ckpt, then {epochs} epochs of refinement")
    assert stopped.product.losses[-1].value < stopped.product.losses[0].value
    assert not np.array_equal(stopped.product.object_.get_array(), network.product.object_.get_array())


def test_stop_before_an_epoch_is_over_leaves_the_networks_object(
    reconstruct: Callable[..., list[ReconstructOutput]],
    wish: Callable[..., None],
    log: pytest.LogCaptureFixture,
) -> None:
    wish(interrupts=True)
    (network,) = reconstruct(parameters_of(simulated()), Refinement_Epochs=1000)
    assert network.progress == 50
    assert line_of(network.product) == "network only, model.ckpt"
    assert re.search("topped before an epoch.* was over", log.text)


def test_a_networks_object_that_is_done_in_the_instant_of_stop_is_handed_over(
    reconstruct: Callable[..., list[ReconstructOutput]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    log: pytest.LogCaptureFixture,
) -> None:
    scratch = tmp_path / "of the worker"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))

    def pressed() -> bool:
        """Once the worker has told of the network's object, of which the plugin has not heard yet."""
        deadline = time.monotonic() + 60
        while not list(scratch.glob("*/network/probe.npy")) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1.0)  # it is told of next
        return True

    first, *_ = reconstruct(parameters_of(simulated()), Monitor(pressed), Refinement_Epochs=1000)
    assert first.progress == 50
    assert line_of(first.product) == "network only, model.ckpt"


def test_whoever_has_seen_enough_may_leave_after_the_first(
    reconstruct: Callable[..., list[ReconstructOutput]], tmp_path: Path
) -> None:
    reconstructor = next(iter(make_library(Refinement_Epochs=1000)))
    reconstructor.load_model_from_file(tmp_path / "model.ckpt")
    outputs = reconstructor.reconstruct(parameters_of(simulated()))
    assert next(outputs).progress == 50
    outputs.close()  # what Ptychodus does if Stop was pressed while it showed the first one
    assert list(outputs) == []


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [("Metric", "x", r"The setting PtychoPINNPluginRefinement\.Metric = 'x'.*'amplitude', 'poisson'")],
)
def test_a_bad_setting_is_named_before_anything_starts(
    reconstruct: Callable[..., list[ReconstructOutput]],
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    value: str,
    message: str,
) -> None:
    monkeypatch.setattr("ptychopinn_ptychodus.worker.process.ChildProcess.start", None)
    with pytest.raises(ValueError, match=message):
        reconstruct(parameters_of(simulated()), Refinement_Epochs=1, **{f"Refinement_{setting}": value})


# ---- what the product says of itself ----------------------------------------------------------------------


def found_in(raw: RawData, positions: np.ndarray | None = None) -> Estimate:
    return Estimate(np.ones(SHAPE, np.complex64), raw.probeGuess, positions)


def refined(
    product: Product, found: Estimate, error: float, *, kept_start: bool = False, denoised: bool = False
) -> Product:
    result = {"errors": [0.2, 0.1], "start_error": 0.3, "error": error}
    result |= {"kept_start": kept_start, "denoised": denoised}
    logger = logging.getLogger("PtychoPINN-Plugin")
    return with_refinement(product, found, result, "network, m.ckpt", Report(), logger)


def test_a_refinement_that_brings_nothing_says_so(log: pytest.LogCaptureFixture) -> None:
    raw = simulated()
    product = refined(parameters_of(raw).product, found_in(raw), 0.3, kept_start=True)
    assert line_of(product).endswith("2 epochs of refinement, which did not improve it")
    assert "has not improved" in log.text
    assert "improve" not in line_of(refined(product, found_in(raw), 0.1))


def test_a_product_says_that_a_prior_holds_its_object_and_how_to_have_it_without() -> None:
    raw = simulated()
    line = line_of(refined(parameters_of(raw).product, found_in(raw), 0.1, denoised=True))
    assert "held by a prior (total variation)" in line
    assert "Refinement.Prior = off" in line
    assert "prior" not in line_of(refined(parameters_of(raw).product, found_in(raw), 0.1))


def test_a_refinement_that_is_better_by_the_likelihood_alone_is_one(log: pytest.LogCaptureFixture) -> None:
    raw = simulated()
    product = refined(parameters_of(raw).product, found_in(raw), 0.4)
    assert "improve" not in line_of(product) + log.text


def test_refined_positions_are_told_of_for_as_long_as_they_are_there(log: pytest.LogCaptureFixture) -> None:
    raw = simulated()
    before = parameters_of(raw).product
    product = refined(before, found_in(raw, positions_of(before) + 0.5), 0.1)
    assert line_of(product).endswith("positions refined")
    again = with_network(product, found_in(raw), {}, Path("n.ckpt"), Report(), logging.getLogger())
    assert line_of(again) == "network only, n.ckpt; positions refined before"
    np.testing.assert_allclose(positions_of(again), positions_of(before) + 0.5)
