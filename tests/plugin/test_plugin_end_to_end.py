"""The engines in the stock command: ``ptychodus -b train``, then ``ptychodus -b reconstruct``."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ptychodus.api.io import load_product, save_product

from ptychopinn_ptychodus.backends.conversion import read_model
from ptychopinn_ptychodus.cli.demo import simulate, write_standard_directory
from ptychopinn_ptychodus.data.metrics import compare, illumination_mask, normalised_amplitude_residual
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.ptychodus_io.ingest import object_positions

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ptychodus.plugins.ptychopinn_ptychodus_attach") is None,
    reason="needs the installed package: pip install -e . places the file that Ptychodus finds",
)

ENGINES = [
    pytest.param(
        name,
        f"model{suffix}",
        marks=pytest.mark.skipif(
            importlib.util.find_spec(module) is None, reason=f"needs {module} (extra {extra})"
        ),
        id=name,
    )
    for name, suffix, module, extra in (
        ("pytorch", ".ckpt", "lightning", "torch"),
        ("tensorflow", ".wts.h5.zip", "tensorflow", "tensorflow"),
    )
]

SETTINGS = """\
[Processing]
Algorithm = ptychopinn-plugin_{algorithm}

[PtychoPINNPluginModel]
Backend = {engine}
GridSize = 2

[PtychoPINNPluginData]
ValidationFraction = 0

[PtychoPINNPluginTraining]
Epochs = {epochs}
ProbeModes = 1
Accelerator = cpu

[PtychoPINNPluginRefinement]
Epochs = {refinement}

[PtychoPINNPluginExamination]
Judge = {judges}
Confidence = {judges}
"""


def settings(engine: str, algorithm: str, *, epochs: int, refinement: int, judges: bool = True) -> str:
    return SETTINGS.format(
        engine=engine, algorithm=algorithm, epochs=epochs, refinement=refinement, judges=judges
    )


def ptychodus(action: str, source: Path, target: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "ptychodus", "-b", action, "-i", str(source), "-o", str(target)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(("engine", "name"), ENGINES)
def test_a_simulated_scan_is_recovered(engine: str, name: str, tmp_path: Path) -> None:
    source, target = tmp_path / "scan", tmp_path / "result"
    source.mkdir()
    raw = simulate(6)
    write_standard_directory(raw, source)
    (source / "settings.ini").write_text(settings(engine, "pinn", epochs=2, refinement=5))

    ptychodus("train", source, source)
    model = source / name
    assert list(source.glob("model*")) == [model]
    (tmp_path / "ordinary").touch()
    assert (
        model.stat().st_mode == (tmp_path / "ordinary").stat().st_mode
    )  # others read it as they read any file

    ptychodus("reconstruct", source, target)
    names = ["product.000050.h5", "product.000100.h5"]  # the network's object, the refined one
    beside = ["confidence.npz", "confidence.png"]
    assert sorted(path.name for path in target.iterdir()) == beside + names
    truth = raw.objectGuess
    assert truth is not None
    lit = illumination_mask(raw.probeGuess, raw.xcoords, raw.ycoords, truth.shape)
    residuals = [normalised_amplitude_residual(raw, np.ones_like(truth), raw.probeGuess) / 3]
    before = load_product(source / "product.h5")
    for after in (load_product(target / name) for name in names):
        assert after.object_.get_geometry() == before.object_.get_geometry()
        found = np.asarray(after.object_.get_layer(0))
        comparison = compare(found, truth, lit)
        print(comparison)
        assert comparison.complex_correlation_centred > 0.8
        assert np.abs(comparison.alignment.shift_px).max() < 1.0
        x, y = object_positions(after)
        moved = RawData(
            xcoords=x, ycoords=y, diff3d=raw.diff3d, probeGuess=raw.probeGuess, domain="amplitude"
        )
        residuals.append(normalised_amplitude_residual(moved, found, np.asarray(after.probes.get_array())[0]))
    print(residuals)
    flat, network, refined = residuals
    assert refined < network < flat


@pytest.mark.parametrize(("engine", "name"), ENGINES)
def test_supervised(engine: str, name: str, tmp_path: Path) -> None:
    source, target = tmp_path / "scan", tmp_path / "result"
    source.mkdir()
    raw = simulate(4)
    write_standard_directory(raw, source)
    flat = load_product(source / "product.h5")
    known = flat.object_.copy()
    known.get_array()[0] = raw.objectGuess
    save_product(source / "product.h5", dataclasses.replace(flat, object_=known))
    # the network's object is looked at: what becomes of it is the matter of the test above
    text = settings(engine, "supervised", epochs=1, refinement=1, judges=False)
    (source / "settings.ini").write_text(text)

    ptychodus("train", source, source)
    state = read_model(source / name)
    assert (state.description.engine, state.description.model.model_type) == (engine, "supervised")

    save_product(source / "product.h5", flat)  # the object is known at training alone
    said = ptychodus("reconstruct", source, target)
    assert "trained as" not in said
    found = np.asarray(load_product(target / "product.000050.h5").object_.get_layer(0))
    assert np.isfinite(found).all()
    assert np.ptp(np.abs(found)) > 0.05
