"""What an engine's patches become: one object, by ``Prediction.stitch``; no framework takes part."""

from __future__ import annotations

import numpy as np
import pytest

from ptychopinn_ptychodus.backends.base import Prediction
from ptychopinn_ptychodus.data import simulation

N = 64


@pytest.mark.parametrize("window", [-4, N + 1, 200])
def test_a_window_that_is_no_part_of_a_patch_is_refused(window: int) -> None:
    x, y = simulation.raster_positions(4, 4, 6.0, origin=40)
    scan = simulation.simulate_scan(
        simulation.make_object((110, 110)), simulation.make_probe(N), x, y, 1e6, seed=0
    )
    container = scan.generate_grouped_data(N, 4, None)
    prediction = Prediction(np.ones((len(container), 1, N, N), np.complex64), scan.probeGuess)
    with pytest.raises(ValueError, match=rf"window = {window} is not valid: use 1 to {N}, or 0"):
        prediction.stitch(container, window=window)
    np.testing.assert_array_equal(
        prediction.stitch(container, window=N).coverage, prediction.stitch(container).coverage
    )
