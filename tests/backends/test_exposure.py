"""Scans of another exposure, and scans of several: the object does not depend on it, the probe does."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from engine_support import FROZEN, QUICK, Bench, relative_error, without_graphs

from ptychopinn_ptychodus.backends.physics import other_exposure
from ptychopinn_ptychodus.config import InferenceConfig
from ptychopinn_ptychodus.data.container import PtychoDataContainer
from ptychopinn_ptychodus.data.raw import RawData

SUPERVISED = {"model_type": "supervised", "nll_weight": 0.0, "realspace_mae_weight": 1.0}


def with_patterns(scan: RawData, amplitude: np.ndarray, **more: np.ndarray) -> RawData:
    names = ("xcoords", "ycoords", "probeGuess", "objectGuess")
    fields = {name: getattr(scan, name) for name in names}
    return RawData(**{**fields, **more}, diff3d=amplitude.astype(np.float32), domain="amplitude")


def groups_of(raw: RawData, gridsize: int = 1) -> PtychoDataContainer:
    return raw.generate_grouped_data(raw.N, 8, 12, gridsize=gridsize, seed=0)


@pytest.fixture
def brighter(scan: RawData) -> RawData:
    """The same photons, each counted four times."""
    return with_patterns(scan, 2 * scan.diff3d)


@pytest.mark.parametrize("changes", [{"architecture": "unrolled", "gridsize": 2}, SUPERVISED])
def test_a_scan_four_times_as_bright_has_the_same_object(
    changes: dict[str, Any], bench: Bench, scan: RawData, brighter: RawData
) -> None:
    gridsize = int(str(changes.get("gridsize", 1)))
    with without_graphs(bench.engine):
        bench.train(data=groups_of(scan, gridsize), **changes)
        own = bench.engine.predict(bench.model_path, groups_of(scan, gridsize), QUICK)
        other = bench.engine.predict(bench.model_path, groups_of(brighter, gridsize), QUICK)
    assert relative_error(other.patches, own.patches) < 1e-3
    assert relative_error(other.probe, 2 * own.probe) < 1e-5
    data = bench.engine.describe(bench.model_path).data
    assert data.input_scale == groups_of(scan).input_scale  # frozen
    assert other_exposure(data, groups_of(scan)) is None
    finding = other_exposure(data, groups_of(brighter))
    assert finding is not None
    assert finding.values["brightness"] == pytest.approx(4.0, rel=1e-5)


def test_a_drifting_beam_shows_the_same_patches(bench: Bench, scan: RawData) -> None:
    drift = np.linspace(1.5, 0.5, len(scan))
    drifting = with_patterns(scan, scan.diff3d * np.sqrt(drift)[:, None, None], exposures=drift)
    with without_graphs(bench.engine):
        bench.train(data=groups_of(scan))
        own, other = (
            bench.engine.predict(bench.model_path, groups_of(raw), QUICK) for raw in (scan, drifting)
        )
    assert relative_error(other.patches, own.patches) < 1e-3
    assert relative_error(other.probe, own.probe) < 1e-4


@pytest.mark.parametrize("weights", [{}, {"nll_weight": 0.0, "mae_weight": 1.0}])
def test_objectives_are_of_the_counts_that_were_recorded(
    weights: dict[str, Any], bench: Bench, scan: RawData
) -> None:
    """A pattern that was exposed e times as long weighs e times as much in the likelihood of its counts."""
    exposures = np.where(np.arange(len(scan)) % 2, 1.8, 0.2)
    patterns = scan.diff3d.copy()
    patterns[1::2] = np.roll(patterns[1::2], 8, axis=2)  # which fit worse
    steady = with_patterns(scan, patterns)
    exposed = with_patterns(scan, patterns * np.sqrt(exposures)[:, None, None], exposures=exposures)

    def loss(raw: RawData, which: slice) -> float:
        data = raw.generate_grouped_data(raw.N, 8, None).subset(np.arange(len(raw))[which])
        with without_graphs(bench.engine):
            return bench.train(FROZEN, data=data, batch_size=6, **weights).history["train_loss"][0]

    dim, bright = loss(steady, slice(0, 12, 2)), loss(steady, slice(1, 12, 2))
    factors = np.array([0.2, 1.8]) if not weights else np.sqrt([0.2, 1.8])
    expected = float(factors @ [dim, bright]) / 2
    assert expected > 1.1 * (dim + bright) / 2 or weights
    assert loss(exposed, slice(0, 12)) == pytest.approx(expected, rel=2e-3)


def test_scans_of_two_exposures_teach_one_scale(
    bench: Bench, scan: RawData, make_scan: Callable[..., RawData]
) -> None:
    dim = np.random.default_rng(0).binomial(np.rint(scan.diff3d.astype(float) ** 2).astype(int), 0.1)
    both = with_patterns(
        scan,
        np.concatenate([scan.diff3d, np.sqrt(dim)]),
        xcoords=np.tile(scan.xcoords, 2),
        ycoords=np.tile(scan.ycoords, 2),
        scan_index=np.repeat([0, 1], len(scan)),
    )
    with without_graphs(bench.engine):
        bench.train(data=both.generate_grouped_data(64, 8, 24, seed=0))
        from_bright = bench.engine.predict(bench.model_path, groups_of(scan), QUICK)
        alone = with_patterns(scan, np.sqrt(dim))
        from_dim = bench.engine.predict(bench.model_path, groups_of(alone), QUICK)
    bright, faint = (
        float(np.abs(found.patches[..., 24:40, 24:40]).mean()) for found in (from_bright, from_dim)
    )
    assert faint == pytest.approx(bright, rel=0.02)
    ratio = np.linalg.norm(from_dim.probe) / np.linalg.norm(from_bright.probe)
    assert ratio == pytest.approx(np.sqrt(alone.photons_per_pattern / scan.photons_per_pattern), rel=1e-4)


def test_reconstructing_another_exposure_is_told_of(
    bench: Bench, scan: RawData, brighter: RawData, caplog: pytest.LogCaptureFixture
) -> None:
    with without_graphs(bench.engine):
        bench.train(data=groups_of(scan))
        for name, raw in (("own", scan), ("other", brighter)):
            raw.to_file(bench.directory / f"{name}.npz")
            config = InferenceConfig(
                model=replace(bench.config().model),
                model_path=bench.model_path,
                test_data_file=bench.directory / f"{name}.npz",
                output_dir=bench.directory / name,
                backend=bench.engine.name,
            )
            caplog.clear()
            with caplog.at_level(logging.INFO):
                from ptychopinn_ptychodus.backends.workflow import reconstruct_cdi

                canvas, results = reconstruct_cdi(
                    bench.engine.name, bench.engine.predict, config, QUICK, bench.model_path.name
                )
            if name == "own":
                expected, before = canvas, results
                assert "4 times as many" not in caplog.text
    assert "4 times as many" in caplog.text
    assert np.abs(canvas - expected).max() < 2e-2 * np.abs(expected).max()
    assert relative_error(results["probe"], 2 * before["probe"]) < 1e-5
