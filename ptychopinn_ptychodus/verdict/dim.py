"""What is said of a network's object where patterns hold hardly more than their noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..data.examination.findings import Action, Finding
from ..data.raw import RawData
from ..refinement.arrays import arrays_on
from ..refinement.chosen_start import is_found_anew
from ..refinement.measured import Measured


def nearly_noise(
    raw: RawData, shape: tuple[int, int], probe: NDArray[np.complexfloating], *, device: str
) -> Finding | None:
    """The warning that an even object leaves nearly nothing but noise; None: it does not.

    Parameters
    ----------
    raw
        The scan, with its own probe.
    shape
        (H, W) of the object.
    probe
        (modes, N, N) complex, the network's, any scale.
    device
        As :func:`~ptychopinn_ptychodus.refinement.arrays.arrays_for` takes it.

    Raises
    ------
    StartError, ValueError
        If the probe is of no use.
    """
    with arrays_on(device) as arrays:
        if not is_found_anew(Measured.of(raw, arrays), shape, probe, raw.probeGuess):
            return None
    return Finding(
        code="nearly-noise",
        subject="result",
        action=Action.IGNORED,
        seen=(
            "The patterns are so dim that an even object leaves of them nearly nothing but their noise: a "
            "network, which sees a few of them at a time, takes much of that for an object."
        ),
        done="Have it refined: then the object is found from all patterns at once.",
        setting="PtychoPINNPluginRefinement.Epochs",
    )
