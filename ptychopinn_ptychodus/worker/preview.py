"""What a training shows of its object while it learns: which groups, how often, and the files it leaves."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..backends.base import Apply, EpochReport
from ..data.container import PtychoDataContainer
from ..data.display import centred_phase, grey_levels
from ..data.grouping import nearest_to_grid
from ..data.large_arrays import all_finite
from ..files import replacing
from ..ptychodus_io.names import LIBRARY
from .run_files import PICTURE_FILE, PREVIEW_FILE

logger = logging.getLogger(LIBRARY)

LARGEST_SHARE = 0.05
"""Part of the training's own time that all its previews together may take."""

# a guess for the first one: a network is applied in a third of the time of learning; graphs and imports add
_SETUP_S, _AS_LEARNING = 1.0, 0.5
_GAP_PX = 8
_LARGEST_BYTES = 1 << 29
_LARGEST_CANVAS_PX = 1 << 26
_LARGEST_PICTURE_PX = 2048


def covering(container: PtychoDataContainer) -> NDArray[np.int64]:
    """Numbers of the groups that suffice to show the whole scan: they lie half the width of the probe apart.

    The width is the root of the area ``(Σ|P|²)² / Σ|P|⁴`` that a probe of even power would cover. Fewer
    groups are taken where their patches would need more than half a gigabyte.
    """
    power = np.sum(np.abs(container.probe) ** 2, axis=0, dtype=np.float64)
    pitch = max(1.0, 0.5 * np.sqrt(power.sum() ** 2 / np.sum(power**2)))
    room = _LARGEST_BYTES // (container.nn_indices.shape[1] * container.N**2 * np.complex64().itemsize)
    centres = container.coords_offsets[:, 0, :, 0]
    while len(chosen := nearest_to_grid(centres, pitch)) > max(room, 1):
        pitch *= 1.25
    return chosen


class PreviewWriter:
    """Writes the object to ``directory`` after an epoch, if :data:`LARGEST_SHARE` of the time allows it.

    ``preview.npy`` is complex64, on a canvas that just holds the scan; ``preview.png`` shows amplitude and
    phase side by side.

    Parameters
    ----------
    container
        The groups of the whole scan, of which those that are needed are chosen here.
    directory
        Where the files are written.
    tell
        Called with the number of the epoch whose object has been written.

    Raises
    ------
    ValueError
        If the scan is spread over too large an area for one picture.
    """

    def __init__(
        self, container: PtychoDataContainer, directory: Path, tell: Callable[[int], object]
    ) -> None:
        extent = np.ptp(container.coords, axis=0) + container.N
        if extent.prod() > _LARGEST_CANVAS_PX:
            raise ValueError("an object of {:.0f} × {:.0f} pixels is too large for one".format(*extent))
        self._container = container.subset(covering(container))
        self._directory = directory
        self._tell = tell
        self._spent_s = 0.0
        self._last_s: float | None = None
        self._is_broken = False

    def __call__(self, report: EpochReport, apply: Apply) -> None:
        """After an epoch: apply the network, if there is time for it.

        Raises
        ------
        InterruptedError
            If training was asked to stop meanwhile.
        """
        if self._is_broken:
            return
        expected_s = self._last_s
        if expected_s is None:
            learning_s = self._container.nn_indices.size / max(report.patterns_per_second, 1e-9)
            expected_s = _SETUP_S + _AS_LEARNING * learning_s
        if self._spent_s + expected_s > LARGEST_SHARE * (report.seconds - self._spent_s):
            return
        started = time.monotonic()
        try:
            self._make(report.epoch, apply)
        except InterruptedError:
            raise
        except Exception as exc:  # a training goes on, whatever is wrong with its picture
            self._is_broken = True
            logger.warning("There will be no further preview: %s", exc)
        finally:
            self._last_s = time.monotonic() - started
            self._spent_s += self._last_s

    def _make(self, epoch: int, apply: Apply) -> None:
        prediction = apply(self._container)
        if not (all_finite(prediction.patches) and all_finite(prediction.probe)):
            return  # the training reports this itself
        object_ = prediction.stitch(self._container).object
        with replacing(self._directory / PREVIEW_FILE) as file:
            np.save(file, object_)
        self._draw(object_)
        self._tell(epoch)

    def _draw(self, object_: NDArray[np.complex64]) -> None:
        from PIL import Image

        gap = np.full((len(object_), _GAP_PX), 255, np.uint8)
        images = (grey_levels(np.abs(object_)), gap, grey_levels(centred_phase(object_)))
        picture = Image.fromarray(np.concatenate(images, axis=1))
        picture.thumbnail((_LARGEST_PICTURE_PX, _LARGEST_PICTURE_PX))
        with replacing(self._directory / PICTURE_FILE) as file:
            picture.save(file, format="png")
