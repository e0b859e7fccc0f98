"""A refinement computes the same on every device."""

from __future__ import annotations

import numpy as np
import pytest

from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.arrays import TorchArrays
from ptychopinn_ptychodus.refinement.report import Refined
from ptychopinn_ptychodus.refinement.solver import refine


def assert_same(one: Refined, other: Refined) -> None:
    """The same but for rounding, which the steps at dim borders multiply."""
    assert one.error == pytest.approx(other.error, rel=1e-2)
    inside = np.s_[20:-20, 20:-20]
    np.testing.assert_allclose(one.object[inside], other.object[inside], atol=2e-2)
    np.testing.assert_allclose(one.positions, other.positions, atol=2e-3)


def test_torch_computes_the_same(scan: RawData, flat: np.ndarray) -> None:
    pytest.importorskip("torch")
    config = RefinementConfig(epochs=3, probe_modes=2)
    one = refine(scan, flat, scan.probeGuess, config, device="cpu")
    assert_same(refine(scan, flat, scan.probeGuess, config, device=TorchArrays("cpu")), one)


def test_a_gpu_computes_the_same(scan: RawData, flat: np.ndarray) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch finds no GPU")
    config = RefinementConfig(epochs=3, probe_modes=2)
    one = refine(scan, flat, scan.probeGuess, config, device="cpu")
    assert_same(refine(scan, flat, scan.probeGuess, config, device="cuda"), one)
