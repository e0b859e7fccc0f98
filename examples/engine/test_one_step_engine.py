"""The example engine by the suite for engines, and by way of the Python interface.

pip install "./examples/engine[test]" && pytest examples/engine
"""

from __future__ import annotations

from pathlib import Path

from one_step_engine import OneStepEngine

import ptychopinn_ptychodus as pinn
from ptychopinn_ptychodus.testing.engine import EngineContract


class TestOneStepEngine(EngineContract):
    engine = OneStepEngine


def test_a_scan_becomes_an_object(tmp_path: Path) -> None:
    x, y = pinn.raster_positions(9, 9, 5.0, jitter=0.3, origin=34.0, seed=1)
    scan = pinn.simulate_scan(
        pinn.make_object((106, 112), seed=2), pinn.make_probe(64), x, y, photons=1e6, seed=3
    )
    config = pinn.default_training_config(scan, nepochs=3, backend="one_step")
    model = pinn.train(scan, config, output_dir=tmp_path)
    assert model.history["train_loss"][-1] < model.history["train_loss"][0]
    assert pinn.open_model(tmp_path).path == model.path
    result = pinn.reconstruct(scan, model, refinement=None)
    assert scan.objectGuess is not None
    found = pinn.compare(
        result.object, scan.objectGuess, pinn.illumination_mask(result.probe, x, y, (106, 112))
    )
    assert found.complex_correlation_centred > 0.3
