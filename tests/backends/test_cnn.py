"""The architecture ``cnn``, with either engine: what it starts from, and that groups are learnt from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from engine_support import FROZEN, QUICK, Bench, without_graphs
from numpy.typing import NDArray

from ptychopinn_ptychodus.backends import model_file
from ptychopinn_ptychodus.backends.base import Engine, ModelFileError
from ptychopinn_ptychodus.backends.physics import initial_physics
from ptychopinn_ptychodus.config import ModelConfig, TrainingConfig
from ptychopinn_ptychodus.data import simulation
from ptychopinn_ptychodus.data.container import PtychoDataContainer
from ptychopinn_ptychodus.data.raw import RawData


def _loss_of_an_empty_object(data: PtychoDataContainer) -> float:
    """Poisson deviance per photon of a constant object that explains the mean number of photons."""
    counts = data.amplitude[data.nn_indices].astype(np.float64) ** 2
    photons = counts.sum((-2, -1)).mean()
    intensity = simulation.diffraction_intensity(np.ones((1, data.N, data.N)), data.probe)[0]
    expected = intensity * photons / intensity.sum() + 1e-6 * photons / data.N**2
    excess = simulation.poisson_nll(counts, np.broadcast_to(expected, counts.shape))
    excess -= simulation.poisson_floor(counts)
    return float(excess / photons / np.prod(counts.shape[:2]))


def _centres(patches: NDArray[np.complex64]) -> NDArray[np.complex64]:
    n = patches.shape[-1]
    inside = slice(n // 4, -n // 4)
    return patches[..., inside, inside].reshape(-1, n // 2, n // 2)


@pytest.mark.parametrize("n", [64, 128])
def test_a_fresh_model_explains_the_photons_and_tells_patterns_apart(
    engine: Engine, make_scan: Callable[..., RawData], tmp_path: Path, n: int
) -> None:
    """What is wrong with all patches alike is learnt first, and can end in one saturated patch for all."""
    bench = Bench(engine, make_scan(count=4, n=n, step=n / 10), tmp_path)
    data = bench.groups(2, 8)
    with without_graphs(engine):
        result = bench.train(FROZEN, data=data, N=n, gridsize=2)
        patches = _centres(bench.patches(data))
    assert result.history["train_loss"][0] < 1.5 * _loss_of_an_empty_object(data)
    assert abs(np.abs(patches).mean() - 1) < 0.1
    structure = patches - patches.mean((-2, -1), keepdims=True)
    assert np.linalg.norm(structure - structure.mean(0)) > 0.3 * np.linalg.norm(structure)


def test_groups_are_better_explained_than_by_an_empty_object(
    engine: Engine, scan: RawData, tmp_path: Path
) -> None:
    bench = Bench(engine, scan, tmp_path)
    data = bench.groups(2, 32)
    execution = replace(QUICK, scheduler="one_cycle", gradient_clip_val=1.0)
    result = bench.train(execution, data=data, gridsize=2, nepochs=8)
    assert result.history["train_loss"][-1] < 0.95 * _loss_of_an_empty_object(data)
    patches = _centres(bench.patches(data))
    assert np.linalg.norm(patches - patches.mean(0)) > 0.03 * np.linalg.norm(patches)


@pytest.mark.parametrize(("n", "gridsize", "warned"), [(128, 2, True), (128, 1, False), (64, 2, False)])
def test_that_it_hardly_learns_from_groups_of_large_patterns_is_said(
    make_scan: Callable[..., RawData], caplog: pytest.LogCaptureFixture, n: int, gridsize: int, warned: bool
) -> None:
    data = make_scan(count=4, n=n, step=n / 10).generate_grouped_data(n, 4, 8, gridsize=gridsize, seed=0)
    initial_physics(data, TrainingConfig(model=ModelConfig(N=n, gridsize=gridsize)))
    assert ("'cnn' with gridsize = 2 at N = 128" in caplog.text) == warned


@pytest.mark.parametrize("architecture", ["cnn", "unrolled"])
def test_cnn_of_the_first_format_is_refused_by_name(
    engine: Engine, scan: RawData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str
) -> None:
    """Its weights fit, but are for another input: it would give patches, and wrong ones."""
    bench = Bench(engine, scan, tmp_path)
    monkeypatch.setattr(model_file, "FORMAT_VERSION", 1)
    with without_graphs(engine):
        bench.train(FROZEN, data=bench.groups(2, 4), gridsize=2, architecture=architecture)
    monkeypatch.undo()
    if architecture == "unrolled":
        engine.read_state(bench.model_path)
        return
    with pytest.raises(ModelFileError, match=r"model\..*'cnn' of model format 1.*Train again"):
        engine.read_state(bench.model_path)
