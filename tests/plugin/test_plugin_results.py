"""What is left beside a product that Ptychodus writes to a file: before the run is over for whoever waits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ptychodus.api.reconstruct import ReconstructOutput
from ptychodus.model.processing import monitor

from ptychopinn_ptychodus.data.simulation import make_object, make_probe, raster_positions, simulate_scan
from ptychopinn_ptychodus.plugin import attach_results
from ptychopinn_ptychodus.ptychodus_io.names import GOAL
from ptychopinn_ptychodus.ptychodus_io.standard_scan import in_ptychodus


class _Run:
    """A reconstructor and the monitor of its run; what happened, in order."""

    def __init__(self, product: Any, *, stops: bool = False, fails: bool = False) -> None:
        self.is_stopping, self._product, self._fails = stops, product, fails
        self.events: list[str] = []

    def reconstruct(self, parameters: object) -> Iterator[ReconstructOutput]:
        if self._fails:
            raise ValueError("nothing is found")
        yield ReconstructOutput(self._product, GOAL)

    def get_progress_goal(self) -> int:
        return GOAL

    def leave_beside(self, file: Path) -> None:
        assert next(file.parent.glob("*.h5")).is_file()
        self.events.append("left")

    def update_progress(self, *_: object) -> None: ...

    def update_product(self, *_: object) -> None: ...

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.events.append("over")


@pytest.mark.parametrize(
    ("case", "events"),
    [({}, ["left", "over"]), ({"stops": True}, ["left", "over"]), ({"fails": True}, ["over"])],
)
def test_what_lies_beside_a_product_is_there_when_the_run_is_over(
    case: dict[str, bool], events: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task: Any = getattr(monitor, "ReconstructBackgroundTask", None)
    if task is None:
        pytest.skip("this Ptychodus does not say where it writes results")
    x, y = raster_positions(2, 2, 5.0, origin=34.0)
    scan = simulate_scan(make_object((80, 80)), make_probe(64), x, y, photons=1e6, seed=0)
    _, product = in_ptychodus(scan, np.ones((80, 80)), photons=1e6, name="scan")
    run = _Run(product, **case)
    attach_results.attach()
    asked = task(run, run, None, None, tmp_path / "product.h5")
    if case.get("fails"):
        with pytest.raises(ValueError, match="nothing is found"):
            asked()
    else:
        asked()
    assert run.events == events
