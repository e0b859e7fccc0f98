"""What a training shows of its object while it learns, at which cost, and what goes wrong."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from plugin_support import make_library, run
from ptychodus.api.observer import Observable
from ptychodus.api.reconstruct import ReconstructInput

from ptychopinn_ptychodus.backends.base import EpochReport, Prediction
from ptychopinn_ptychodus.data import metrics, simulation
from ptychopinn_ptychodus.data.container import PtychoDataContainer
from ptychopinn_ptychodus.plugin.reconstructor import PtychoPINNReconstructor
from ptychopinn_ptychodus.plugin.shown import PreviewPicture
from ptychopinn_ptychodus.worker import preview
from ptychopinn_ptychodus.worker.preview import LARGEST_SHARE, PreviewWriter, covering

LONG = 1e6


def make_container(count: int = 8, gridsize: int = 2, seed: int = 0) -> PtychoDataContainer:
    n, step = 64, 6.0
    shape = (n + int(step * count) + 8,) * 2
    x, y = simulation.raster_positions(count, count, step, jitter=0.3, origin=n / 2 + 3, seed=seed)
    object_ = simulation.make_object(shape, seed=seed)
    raw = simulation.simulate_scan(object_, simulation.make_probe(n, modes=1), x, y, photons=1e6, seed=seed)
    return raw.generate_grouped_data(n, 6, None, gridsize=gridsize, seed=seed)


@pytest.fixture(scope="module")
def container() -> PtychoDataContainer:
    return make_container()


def report(epoch: int = 1, seconds: float = LONG, patterns_per_second: float = 100.0) -> EpochReport:
    return EpochReport(epoch, 99, 1.0, None, seconds, patterns_per_second)


def truth(container: PtychoDataContainer) -> Prediction:
    """A network that has learnt everything."""
    patches = np.moveaxis(container.patches_for(slice(None)), -1, 1)
    return Prediction(np.ascontiguousarray(patches), container.probe)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(preview, "time", clock)
    return clock


# ---- the picture ------------------------------------------------------------------------------------------


def test_the_object_is_left_as_array_and_picture(container: PtychoDataContainer, tmp_path: Path) -> None:
    told: list[int] = []
    PreviewWriter(container, tmp_path, told.append)(report(epoch=7), truth)
    assert told == [7]
    object_ = np.load(tmp_path / "preview.npy", allow_pickle=False)
    assert object_.dtype == np.complex64
    height, width = object_.shape
    x, y = np.floor(container.coords.min(0)).astype(int) - container.N // 2
    assert container.object_guess is not None
    expected = container.object_guess[y : y + height, x : x + width]
    inside = (slice(25, -25),) * 2  # where the light of the outer groups does not end
    scores = metrics.compare(object_[inside], expected[inside])
    assert scores.complex_correlation_centred > 0.99
    picture = np.asarray(Image.open(tmp_path / "preview.png"))
    assert picture.shape == (height, 2 * width + 8)
    assert picture.dtype == np.uint8
    amplitude = np.abs(object_)
    # 1 % of the pixels are darker than black, and 1 % are brighter than white
    middle = (amplitude > np.percentile(amplitude, 5)) & (amplitude < np.percentile(amplitude, 95))
    assert np.corrcoef(picture[:, :width][middle], amplitude[middle])[0, 1] > 0.99


@settings(deadline=None)  # the first example makes the scan
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 200), width=st.floats(2.0, 12.0))
def test_few_groups_are_near_to_every_place_of_the_scan(seed: int, count: int, width: float) -> None:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64] - 31.5
    probe = np.exp(-(x**2 + y**2) / (2 * width**2)).astype(np.complex64)[None]
    centres = rng.uniform(0, 150, (count, 1, 2, 1))
    container = dataclasses.replace(make_small(), probe=probe, coords_offsets=centres)
    chosen = covering(container)
    assert len(set(chosen)) == len(chosen)
    # of a Gaussian, (Σ|P|²)² / Σ|P|⁴ is 2π width²
    pitch = max(1.0, 0.5 * np.sqrt(2 * np.pi) * width)
    places = centres[:, 0, :, 0]
    distance = np.abs(places[:, None] - places[chosen]).max(-1)
    assert distance.min(axis=1).max() <= 1.01 * pitch
    assert len(chosen) <= (150 / pitch + 2) ** 2


@functools.cache
def make_small() -> PtychoDataContainer:
    return make_container(count=2, gridsize=1)


# ---- its cost ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cost_s", [0.1, 3.0, 40.0])
@pytest.mark.parametrize("epoch_s", [2.0, 30.0, 600.0])
def test_previews_take_their_share_of_the_time_and_no_more(
    tmp_path: Path, clock: Clock, cost_s: float, epoch_s: float
) -> None:
    container, made = make_small(), []

    def apply(container: PtychoDataContainer) -> Prediction:
        clock.now += cost_s
        made.append(clock.now)
        return truth(container)

    previews = PreviewWriter(container, tmp_path, lambda epoch: None)
    patterns = len(covering(container))
    rate = patterns / 20.0  # training on what a preview shows would take 20 s
    guess, learning = 1.0 + 0.5 * 20.0, 0.0
    for epoch in range(1, 41):
        clock.now += epoch_s
        learning += epoch_s
        previews(report(epoch, clock.now, rate), apply)
        if len(made) > 1 or cost_s <= guess:  # what the first one costs is a guess
            assert clock.now - learning <= LARGEST_SHARE * learning + 1e-9
    # the first has to wait for what it might cost, the others for what it did
    paid = LARGEST_SHARE * learning
    if paid < guess:
        assert not made
    else:
        waiting = math.ceil(max(guess, cost_s) / LARGEST_SHARE / epoch_s)
        assert len(made) >= min(40 - waiting, int(paid / cost_s))


def test_there_is_none_before_the_first_can_be_paid_for(tmp_path: Path) -> None:
    applied = []

    def apply(container: PtychoDataContainer) -> Prediction:
        applied.append(container)
        return truth(container)

    container = make_small()
    patterns = len(covering(container))
    previews = PreviewWriter(container, tmp_path, lambda epoch: None)
    previews(report(seconds=200.0, patterns_per_second=patterns / 19), apply)
    assert applied == []
    previews(report(seconds=200.0, patterns_per_second=patterns / 17), apply)
    assert len(applied) == 1


def test_patches_take_their_share_of_the_memory_and_no_more(
    container: PtychoDataContainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = covering(container)
    monkeypatch.setattr(preview, "_LARGEST_BYTES", 3 * 4 * 64 * 64 * 8)  # three groups of four patches
    assert 1 <= len(covering(container)) <= 3 < len(everything)


# ---- what goes wrong --------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["disk", "memory"])
def test_a_preview_that_fails_does_not_end_the_training(
    container: PtychoDataContainer, tmp_path: Path, log: pytest.LogCaptureFixture, what: str
) -> None:
    applied: list[PtychoDataContainer] = []
    told: list[int] = []

    def apply(container: PtychoDataContainer) -> Prediction:
        applied.append(container)
        if what == "memory":
            raise MemoryError("as the test asked")
        return truth(container)

    previews = PreviewWriter(container, tmp_path / "gone", told.append)
    previews(report(1), apply)
    previews(report(2, 2 * LONG), apply)
    assert len(applied) == 1
    assert told == []
    assert "There will be no further preview" in log.text


def test_scans_too_far_apart_for_one_picture(container: PtychoDataContainer, tmp_path: Path) -> None:
    far = dataclasses.replace(container, coords=container.coords * 1000.0)
    with pytest.raises(ValueError, match="too large"):
        PreviewWriter(far, tmp_path, print)


def test_no_picture_of_a_network_that_has_diverged(container: PtychoDataContainer, tmp_path: Path) -> None:
    def apply(container: PtychoDataContainer) -> Prediction:
        prediction = truth(container)
        prediction.patches[0, 0, 0, 0] = np.nan
        return prediction

    output = tmp_path / "out"
    output.mkdir()
    PreviewWriter(container, output, print)(report(), apply)
    assert list(output.iterdir()) == []


def test_stop_passes_through(container: PtychoDataContainer, tmp_path: Path) -> None:
    def apply(container: PtychoDataContainer) -> Prediction:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        PreviewWriter(container, tmp_path, print)(report(), apply)


# ---- in a training ----------------------------------------------------------------------------------------


class Watch:
    """What an observer of the reconstructor sees."""

    def __init__(self, reconstructor: PtychoPINNReconstructor) -> None:
        from ptychodus.api.observer import Observer

        self.seen: list[PreviewPicture | None] = []
        seen = self.seen

        class Watching(Observer):
            def _update(self, observable: Observable) -> None:
                if not seen or seen[-1] != reconstructor.preview:
                    seen.append(reconstructor.preview)

        self.observer = Watching()
        reconstructor.add_observer(self.observer)


@pytest.mark.usefixtures("fake_site")
def test_the_reconstructor_tells_of_previews(
    standard_directory: Path, tmp_path: Path, wish: Callable[..., None]
) -> None:
    wish(seconds_more=LONG)
    reconstructor = next(iter(make_library(Training_Epochs=2)))
    watch, output = Watch(reconstructor), tmp_path / "out"
    for _ in range(2):  # the second training takes away the picture of the first
        run(reconstructor.train(standard_directory, output))
    assert [None if shown is None else shown.epoch for shown in watch.seen] == [None, 1, 2, None, 1, 2]
    assert reconstructor.preview is not None
    assert reconstructor.preview.path == output / "preview.png"
    assert Image.open(output / "preview.png").size[0] > 0
    assert np.load(output / "preview.npy").dtype == np.complex64


@pytest.mark.usefixtures("fake_site")
def test_training_again_in_a_directory_that_has_one(
    scan: Callable[..., ReconstructInput], tmp_path: Path, wish: Callable[..., None]
) -> None:
    wish(seconds_more=LONG)
    reconstructor = next(iter(make_library(Training_Epochs=1)))
    reconstructor.export_training_data(tmp_path / "some.npz", scan())
    for _ in range(2):  # whatever arrays lie there are looked at as training data
        run(reconstructor.train(tmp_path, tmp_path))
    assert (tmp_path / "preview.npy").is_file()


@pytest.mark.usefixtures("fake_site")
def test_the_setting_switches_it_off(
    standard_directory: Path, tmp_path: Path, wish: Callable[..., None]
) -> None:
    wish(seconds_more=LONG)
    for shown in (True, False):  # nor does that of an earlier model stay beside another one
        reconstructor = next(iter(make_library(Training_Epochs=2, Training_Preview=shown)))
        run(reconstructor.train(standard_directory, tmp_path / "out"))
        assert (reconstructor.preview is not None) == shown
        assert bool(list((tmp_path / "out").glob("preview*"))) == shown
