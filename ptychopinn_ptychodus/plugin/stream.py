"""One scan that is streamed to Ptychodus: frames and positions, the object meanwhile, and what is left.

Frames are those that Ptychodus has assembled: cropped and so on, as its settings say. All are kept, whatever
becomes of the live object, and are written as a standard directory in the end, which is reconstructed as any.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..data.raw import RawData
from ..formatting import counted
from ..live.frames import Frames
from ..live.networks import NetworkProcess
from ..live.session import LiveReconstruction
from ..live.state import LiveState
from ..live.status import OBJECT_PICTURE, Stage, StatusFile
from ..live.timed_positions import TimedPositions
from ..ptychodus_io.live_products import SCAN_DIRECTORY, ProductTemplate
from ..ptychodus_io.names import (
    DIFFRACTION_FILE,
    LIBRARY,
    MODEL_BASENAME,
    PRODUCT_FILE,
    SETTINGS_FILE,
    product_in,
)
from ..worker.live_files import LiveFiles

LIVE_DIRECTORY = "live"
"""In the output, with the object meanwhile: what a live run leaves, so that a window can follow it."""


class StreamedScan:
    """A scan while it is streamed. Its methods may be called from any thread.

    Parameters
    ----------
    source
        Directory with the product whose probe and pixel size are the scan's, and with its settings.
    target
        Directory of what is left: the object meanwhile, and the frames.
    bad_pixels
        (N, N) bool, of the frames as they are assembled.
    positions
        Which frame was taken where.
    domain
        What frames hold: ``"counts"`` or ``"amplitude"``.
    model
        Makes first objects of new frames; None: there is none.
    logger
        Where everything is said.

    Raises
    ------
    ValueError
        If the product cannot be used, or its probe has another size than the frames; the message says which.
    FileNotFoundError, ModelFileError, EngineUnavailableError
        As :class:`.NetworkProcess`.

    Attributes
    ----------
    is_over
        Whether no more frames are taken.
    """

    def __init__(
        self,
        source: Path,
        target: Path,
        bad_pixels: NDArray[np.bool_],
        positions: TimedPositions,
        *,
        domain: str,
        model: Path | None,
        logger: logging.Logger,
    ) -> None:
        product = product_in(source)
        self._source, self._target, self._model, self._logger = source, target, model, logger
        self._template = ProductTemplate.read(product)
        size = self._template.probe.shape[-1]
        if bad_pixels.shape != (size, size):
            height, width = bad_pixels.shape
            raise ValueError(
                f'The probe in "{product}" has {size} × {size} pixels, and frames will have {width} × '
                f"{height}: set detector_width_px and detector_height_px of the processor, or Ptychodus' "
                "crop, to the probe's size, or give a product with a probe of the frames' size."
            )
        live = target / LIVE_DIRECTORY
        live.mkdir(parents=True, exist_ok=True)
        self._frames = Frames(size, bad_pixels, domain)
        self._positions = positions
        self._lock = threading.Lock()
        self._late = 0
        self._files = LiveFiles(self._template, live / PRODUCT_FILE, live / OBJECT_PICTURE, LIBRARY)
        self._status = StatusFile(live)
        self._status.tell(Stage.WAITING, "the first frame of a stream")
        network = None if model is None else NetworkProcess(model)
        self._live: LiveReconstruction[RawData] = LiveReconstruction(
            self._template.probe,
            _unchanged,
            bad_pixels=bad_pixels,
            domain=domain,
            network=network,
            on_update=self._show,
        )
        self._live.__enter__()
        self._is_live = True
        self.is_over = self._is_written = False

    @property
    def state(self) -> LiveState:
        """How the live object stands."""
        return self._live.state

    # ------------------------------------------------------------------ what comes

    def take_time(self, number: int, time: float) -> None:
        """Take note of when a frame was taken, seconds."""
        with self._lock:
            self._positions.frame(number, time)

    def take_positions(self, axis: int, values_m: Sequence[float], times: Sequence[float]) -> None:
        """Take positions along x (``axis`` = 0) or y (1), metres, and when they were reported, seconds."""
        with self._lock:
            self._positions.add(axis, values_m, times)
        self._place()

    def take_frames(self, numbers: NDArray[np.integer], patterns: NDArray[np.number]) -> None:
        """Take frames, (B, N, N), which must not change afterwards; waits where too many are waiting."""
        with self._lock:
            if self.is_over:
                if not self._late:
                    self._logger.warning(
                        "Frame %s came after the end: it and all others are left out.", numbers
                    )
                self._late += 1
                return
            self._frames.add(numbers.tolist(), list(patterns))
        self._hand_over(lambda running: running.add(patterns, numbers=numbers))

    def _place(self, *, is_last: bool = False) -> None:
        with self._lock:
            numbers, metres = self._positions.found(is_last=is_last)
            pixels = self._template.pixels(metres)
            if not numbers or self.is_over:
                return
            self._frames.place(numbers, pixels)
        self._hand_over(lambda running: running.place(numbers, pixels))

    # ------------------------------------------------------------------ what is left

    def finish(self) -> Path:
        """End the scan, and write its frames: the standard directory to be reconstructed.

        Raises
        ------
        ValueError
            If no frame has a position.
        OSError
            If it cannot be written.
        """
        self._end_live()
        self._place(is_last=True)
        with self._lock:
            self.is_over = True
            numbers, patterns, positions = self._frames.all_placed()
            for note in (*self._frames.sentences(), *self._positions.sentences()):
                self._logger.warning("%s", note)
        if not len(numbers):
            raise ValueError(
                f"Of {counted(len(self._frames), 'frame')}, none has a position: there is nothing to "
                "reconstruct. Positions have to come by the channels pos_x_pv and pos_y_pv of the processor, "
                "which are among the consumer's metadata channels, too."
            )
        directory = self._target / SCAN_DIRECTORY
        directory.mkdir(parents=True, exist_ok=True)
        for stale in (directory / SETTINGS_FILE, *directory.glob(f"{MODEL_BASENAME}.*")):
            stale.unlink(missing_ok=True)  # of an earlier scan: batch mode would take them for this one's
        for name in (SETTINGS_FILE, *([] if self._model is None else [self._model.name])):
            if (self._source / name).is_file():
                shutil.copy2(self._source / name, directory)
        self._template.write_directory(
            directory,
            numbers=numbers,
            patterns=patterns,
            positions=positions,
            bad_pixels=self._frames.bad_pixels,
        )
        self._is_written = True
        self._logger.info(
            'The %s of the scan: "%s".', counted(len(numbers), "frame"), directory / DIFFRACTION_FILE
        )
        return directory

    def close(self) -> None:
        """End the scan. Frames that have not been written yet are written now, so that none is lost."""
        if len(self._frames) and not self._is_written:
            try:
                directory = self.finish()
            except (ValueError, OSError) as exc:
                self._logger.error("The frames of the scan were not written: %s", exc)
            else:
                self._logger.warning(
                    'The scan ended before it was reconstructed; its frames: "%s".', directory
                )
        self._end_live()
        self.is_over = True

    # ------------------------------------------------------------------ the live object

    def _hand_over(self, hand: Callable[[LiveReconstruction[RawData]], None]) -> None:
        """Give the live object something; should it fail, that is the end of it, and of nothing else."""
        if self._is_live:
            try:
                hand(self._live)
            except Exception as exc:
                self._end_live(exc)

    def _end_live(self, reason: Exception | None = None) -> None:
        """End the live object, if nobody has done so yet, and say what it failed with."""
        with self._lock:
            was_live, self._is_live = self._is_live, False
        if not was_live:
            return
        try:
            self._live.__exit__(None, None, None)
        except Exception as exc:
            reason = exc
        try:
            if reason is None:
                self._status.tell(Stage.DONE, "the stream has ended")
            else:
                self._status.tell(Stage.FAILED, f"frames are kept without a live object: {reason}")
        except OSError as exc:
            reason = reason or exc
        if reason is not None:
            self._logger.error("The live object has failed, and frames are kept without it: %s", reason)

    def _show(self, state: LiveState) -> None:
        is_new = self._files.show(self._live)
        # after the product that has these frames
        self._status.show(self._live.state if is_new else state, None, at_once=is_new)


def _unchanged(scan: RawData) -> RawData:
    return scan
