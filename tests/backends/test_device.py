"""What a GPU does, against the CPU; assembling also by torch on the CPU, in the code that a GPU runs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ptychopinn_ptychodus.backends.lightning.assembly import TorchArithmetic
from ptychopinn_ptychodus.backends.lightning.inference import predict
from ptychopinn_ptychodus.backends.lightning.module import PtychoPINN_Lightning
from ptychopinn_ptychodus.config import ExecutionConfig, ModelConfig, TrainingConfig
from ptychopinn_ptychodus.data import simulation
from ptychopinn_ptychodus.data.assembly import PatchArithmetic, assemble
from ptychopinn_ptychodus.data.grouping import group_neighbours
from ptychopinn_ptychodus.data.raw import RawData

Patches = NDArray[np.complex64]
N = 32
FEW = 5 * N**2  # a handful of patches, or pairs, at a time


@pytest.fixture(params=["cpu", "cuda"])
def make(request: pytest.FixtureRequest) -> Callable[[int], PatchArithmetic]:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    return lambda elements: TorchArithmetic(torch.device(request.param), elements).functions()


def spoilt(gridsize: int, gap: float) -> tuple[Patches, NDArray[np.int64], NDArray[np.float64]]:
    """Patches of a known object with a random phase for every group; ``gap`` pixels between two halves."""
    x, y = simulation.raster_positions(8, 6, 3.3, jitter=0.4, origin=30, seed=0)
    x = x + gap * (np.arange(x.size) % 8 >= 4)
    coords = np.stack([x, y], axis=-1)
    halves = np.arange(x.size) % 8 >= 4
    indices = group_neighbours(
        coords, gridsize, gridsize**2 + 2, None, seed=0, scan_index=halves if gap else None
    )
    object_ = simulation.make_object((80, 160))
    x, y = coords[indices.ravel()].T
    patches = simulation.extract_patches(object_, x, y, N)
    turns = np.exp(2j * np.pi * np.random.default_rng(0).random(len(indices)))
    return (
        (patches.reshape(*indices.shape, N, N) * turns[:, None, None, None]).astype(np.complex64),
        indices,
        coords,
    )


@pytest.mark.parametrize("elements", [FEW, 1 << 24])
@pytest.mark.parametrize("gridsize", [1, 2, 3])
@pytest.mark.parametrize("gap", [0.0, 8.0, 60.0])  # of one piece; joined by overlap alone; two islands
def test_a_device_assembles_what_numpy_does(
    make: Callable[[int], PatchArithmetic], gridsize: int, gap: float, elements: int
) -> None:
    patches, indices, coords = spoilt(gridsize, gap)
    weight = (np.abs(simulation.make_probe(N)) ** 2).sum(0)
    shape = (80, 160)
    expected = assemble(patches, indices, coords, shape, weight)
    found = assemble(patches, indices, coords, shape, weight, make(elements))
    np.testing.assert_allclose(found.coverage, expected.coverage, rtol=1e-6)
    np.testing.assert_allclose(found.object, expected.object, atol=1e-5)


def test_patches_beyond_the_edge_and_bad_ones_are_treated_alike(
    make: Callable[[int], PatchArithmetic], caplog: pytest.LogCaptureFixture
) -> None:
    patches, indices, coords = spoilt(1, 0.0)
    weight = np.ones((N, N))
    expected = assemble(patches, indices, coords - 20, (40, 40), weight)
    warned = caplog.text
    caplog.clear()
    found = assemble(patches, indices, coords - 20, (40, 40), weight, make(FEW))
    assert caplog.text == warned != ""
    np.testing.assert_allclose(found.object, expected.object, atol=1e-5)
    patches[3, 0, 5, 5] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        assemble(patches, indices, coords, (80, 160), weight, make(FEW))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("batch_size", [None, 3])
def test_a_gpu_reconstructs_what_the_cpu_does(
    make_scan: Callable[..., RawData], batch_size: int | None
) -> None:
    raw = make_scan()
    data = raw.generate_grouped_data(64, 6, None, gridsize=2, seed=0)
    config = TrainingConfig(model=ModelConfig(gridsize=2, n_filters_scale=1))
    module = PtychoPINN_Lightning.for_data(data, config)
    assert raw.objectGuess is not None
    objects = []
    for accelerator in ("cpu", "gpu"):
        execution = ExecutionConfig(accelerator=accelerator, inference_batch_size=batch_size)
        found = predict(module, data, execution)
        assert (found.arithmetic is not None) == (accelerator == "gpu")
        objects.append(found.stitch(data, raw.objectGuess.shape).object)
    np.testing.assert_allclose(objects[1], objects[0], atol=2e-3)
