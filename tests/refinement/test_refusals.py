"""What a refinement refuses: starts and scans that cannot be used, settings out of range, devices."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from refinement_support import made_scan

from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.arrays import arrays_for
from ptychopinn_ptychodus.refinement.solver import refine

QUICK = RefinementConfig(epochs=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"object_": np.full((124, 120), np.nan)}, "not finite"),
        ({"object_": np.ones((1, 124, 120))}, "one layer"),
        ({"object_": np.ones((60, 60))}, "outside the object"),
        ({"object_": np.zeros((124, 120))}, "no light"),
        ({"probe": np.zeros((64, 64))}, "zero everywhere"),
        ({"probe": np.full((1, 64, 64), np.inf)}, "not finite"),
        ({"probe": np.ones((32, 32))}, "64 × 64"),
        ({"config": RefinementConfig(probe_modes=1), "probe": np.ones((2, 64, 64))}, "probe modes"),
    ],
)
def test_starts_that_cannot_be_used_are_refused(
    scan: RawData, flat: np.ndarray, change: dict[str, Any], message: str
) -> None:
    arguments: dict[str, Any] = {"object_": flat, "probe": scan.probeGuess, "config": QUICK} | change
    with pytest.raises(ValueError, match=message):
        refine(scan, **arguments, device="cpu")


@pytest.mark.parametrize("part_of_a_scan", [False, True])
def test_a_scan_without_counts_is_refused(scan: RawData, flat: np.ndarray, part_of_a_scan: bool) -> None:
    """A part knows how much light the whole scan has; its own patterns are dark all the same."""
    dark = scan.select(np.arange(len(scan))) if part_of_a_scan else made_scan(photons=1e6, seed=1)
    dark.diff3d = np.zeros_like(scan.diff3d)
    with pytest.raises(ValueError, match="no counts" if part_of_a_scan else "no light"):
        refine(dark, flat, scan.probeGuess, QUICK, device="cpu")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", -1),
        ("epochs", 2.5),
        ("batch_size", 0),
        ("batch_size", 3),
        ("probe", 1),
        ("positions", "yes"),
        ("metric", "mse"),
        ("prior", "on"),
        ("probe_modes", 0),
        ("object_step", 0.0),
        ("probe_step", 2.5),
        ("position_step", float("nan")),
        ("momentum", 1.0),
        ("momentum", -0.1),
        ("illumination_floor", 0.0),
        ("ridge", -1.0),
        ("position_limit", 0.0),
        ("position_range", float("inf")),
        ("position_range", 65.0),
        ("seed", -1),
    ],
)
def test_settings_out_of_range_are_refused_by_name(field: str, value: float | str) -> None:
    with pytest.raises(ValueError, match=rf"RefinementConfig\.{field} = .* is not valid: use"):
        RefinementConfig(**cast(dict[str, Any], {field: value}))


def test_devices_that_are_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match="device = 'tpu' is not valid"):
        arrays_for("tpu")
    pytest.importorskip("torch")
    with pytest.raises(RuntimeError, match="is not there"):
        arrays_for("cuda:99")
