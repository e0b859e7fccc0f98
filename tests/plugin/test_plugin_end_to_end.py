"""The Lightning engine in the stock command: ``ptychodus -b train``, then ``ptychodus -b reconstruct``."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ptychodus.api.io import load_product

from ptychopinn_ptychodus.cli.demo import simulate, write_standard_directory
from ptychopinn_ptychodus.data.metrics import compare, illumination_mask, normalised_amplitude_residual

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("lightning") is None, reason="needs PyTorch (extra torch)"),
    pytest.mark.skipif(
        importlib.util.find_spec("ptychodus.plugins.ptychopinn_ptychodus_attach") is None,
        reason="needs the installed package: pip install -e . places the file that Ptychodus finds",
    ),
]

SETTINGS = """\
[Processing]
Algorithm = ptychopinn-plugin_pinn

[PtychoPINNPluginModel]
GridSize = 2

[PtychoPINNPluginData]
ValidationFraction = 0

[PtychoPINNPluginTraining]
Epochs = 2
ProbeModes = 1
Accelerator = cpu
"""


def ptychodus(action: str, source: Path, target: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ptychodus", "-b", action, "-i", str(source), "-o", str(target)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_simulated_scan_is_recovered(tmp_path: Path) -> None:
    source, target = tmp_path / "scan", tmp_path / "result"
    source.mkdir()
    raw = simulate(6)
    write_standard_directory(raw, source)
    (source / "settings.ini").write_text(SETTINGS)

    ptychodus("train", source, source)
    model = source / "model.ckpt"
    (tmp_path / "ordinary").touch()
    assert (
        model.stat().st_mode == (tmp_path / "ordinary").stat().st_mode
    )  # others read it as they read any file

    ptychodus("reconstruct", source, target)
    assert [path.name for path in target.iterdir()] == ["product.000100.h5"]
    before, after = load_product(source / "product.h5"), load_product(target / "product.000100.h5")
    assert after.object_.get_geometry() == before.object_.get_geometry()

    truth, found = raw.objectGuess, np.asarray(after.object_.get_layer(0))
    assert truth is not None
    lit = illumination_mask(raw.probeGuess, raw.xcoords, raw.ycoords, truth.shape)
    comparison = compare(found, truth, lit)
    print(comparison)
    assert comparison.complex_correlation_centred > 0.8
    assert np.abs(comparison.alignment.shift_px).max() < 1.0
    residual = normalised_amplitude_residual(raw, found, np.asarray(after.probes.get_array())[0])
    flat = normalised_amplitude_residual(raw, np.ones_like(found), raw.probeGuess)
    print(residual, flat)
    assert residual < flat / 3
