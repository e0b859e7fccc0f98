"""One scan that is streamed to Ptychodus: frames and positions, the object meanwhile, and what is left.

Frames are those that Ptychodus has assembled: cropped and so on, as its settings say. All are written to a
standard directory as they come, whatever becomes of the live object or of this process, and in their order in
the end; that directory is reconstructed as any.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.raw import RawData
from ..formatting import counted
from ..live.frames import Frames
from ..live.networks import NetworkProcess
from ..live.session import LiveReconstruction
from ..live.state import LiveState
from ..live.status import Stage
from ..live.timed_positions import TimedPositions
from ..ptychodus_io import kept_directory
from ..ptychodus_io.kept_directory import Kept
from ..ptychodus_io.kept_frames import KeptFrames
from ..ptychodus_io.live_products import SCAN_DIRECTORY, ProductTemplate
from ..ptychodus_io.names import (
    DIFFRACTION_FILE,
    MODEL_BASENAME,
    SETTINGS_FILE,
    product_in,
)
from .earlier_stream import frames_before, require_known_first, require_no_other
from .lost_positions import warnings_of
from .stream_shown import RunProgress, StreamShown

_ROOM = 256  # frames, where nobody has said how many there will be
LIVE_DIRECTORY = "live"
"""In the output, with the object meanwhile: what a live run leaves, so that a window can follow it."""


SILENCE_S = 60.0
"""Without a frame, after which that is said."""


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
    promised
        How many frames are going to come: room for them is taken on the disk. 0: nobody has said so.
    dtype
        Of the patterns.
    resume
        Whether it goes on with the frames that a process has left in ``target`` that was killed or stopped.

    Raises
    ------
    ValueError
        If the product cannot be used, its probe has another size than the frames, another process writes to
        ``target``, or there is nothing to go on with; the message says which.
    OSError
        If there is no room for the frames, or ``target`` cannot be written to.
    FileNotFoundError, ModelFileError, EngineUnavailableError
        As :class:`.NetworkProcess`.

    Attributes
    ----------
    is_over
        Whether no more frames are taken.
    directory
        The standard directory that frames are written to.
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
        promised: int = 0,
        dtype: Any = np.uint16,
        resume: bool = False,
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
        if resume:
            require_known_first(positions)
        live = target / LIVE_DIRECTORY
        require_no_other(live)
        live.mkdir(parents=True, exist_ok=True)
        self.directory = target / SCAN_DIRECTORY
        self._frames = Frames(size, bad_pixels, domain)
        self._positions = positions
        self._promised = promised
        self._lock = threading.Lock()
        self._late = 0
        network = None if model is None else NetworkProcess(model)
        before = frames_before(self.directory, size, logger, resume=resume)
        self._kept = KeptFrames(
            self.directory,
            self._template,
            bad_pixels,
            room=promised or _ROOM,
            dtype=np.dtype(dtype),
            logger=logger,
            kept=before,
        )
        self._shown = StreamShown(live, self._template, logger)
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
        self._failed_with: Exception | None = None
        self.is_over = self._is_written = False
        self._came = threading.Event()  # a frame, or the end
        threading.Thread(target=self._listen, name="streamed scan", daemon=True).start()
        if before is not None:
            self._take_up(before)

    @property
    def state(self) -> LiveState:
        """How the live object stands."""
        return self._live.state

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person must not miss of positions that belong to other frames."""
        return self._shown.warnings

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
            taken = self._frames.add(numbers.tolist(), list(patterns))
        self._came.set()
        self._kept.add(list(taken), taken.values())
        self._hand_over(lambda running: running.add(patterns, numbers=numbers))

    def _place(self, *, is_last: bool = False) -> None:
        with self._lock:
            numbers, metres = self._positions.found(is_last=is_last)
            pixels = self._template.pixels(metres)
            self._warn(tuple(shift.in_words() for shift in self._positions.shifts))
            if not numbers or self.is_over:
                return
            self._frames.place(numbers, pixels)
        self._kept.place(numbers, metres)
        self._hand_over(lambda running: running.place(numbers, pixels))

    def _take_up(self, before: Kept) -> None:
        """Go on with the frames of a run before."""
        placed = np.isfinite(before.positions_m).all(1)
        numbers, pixels = before.numbers[placed].tolist(), self._template.pixels(before.positions_m[placed])
        with self._lock:
            self._frames.add(before.numbers.tolist(), list(before.patterns))
            self._frames.place(numbers, pixels)
        self._hand_over(lambda running: running.add(before.patterns, numbers=before.numbers))
        self._hand_over(lambda running: running.place(numbers, pixels))

    def _warn(self, warnings: tuple[str, ...]) -> None:
        """Say what is new of it, once."""
        for warning in warnings:
            if warning not in self.warnings:
                self._shown.warnings += (warning,)
                self._logger.warning("%s", warning)

    def _listen(self) -> None:
        """Say it if no frame comes any more: whoever sends them may have died."""
        while not self.is_over:
            came = self._came.wait(SILENCE_S)
            self._came.clear()
            count = len(self._frames)
            if came or self.is_over or not count or 0 < self._promised <= count:
                continue
            of = f" of {self._promised}" if self._promised else ""
            self._logger.warning(
                "No frame has come for %g s: %d%s are there. If the detector has ended, have them "
                "reconstructed, or stop the consumer; either keeps them.",
                SILENCE_S,
                count,
                of,
            )

    # ------------------------------------------------------------------ what is left

    def finish(self) -> Path:
        """End the scan, and write its frames in their order: the standard directory to be reconstructed.

        If that fails, they are there as they came.

        Raises
        ------
        ValueError
            If no frame has a position.
        OSError
            If it cannot be written.
        """
        self._end_live()
        try:
            return self._finish()
        except Exception as exc:
            self._tell_end(exc)
            raise

    def _finish(self) -> Path:
        self._place(is_last=True)
        with self._lock:
            self.is_over = True
            numbers, patterns, positions = self._frames.all_placed()
            notes = (*self._frames.sentences(), *self._positions.sentences())
        self._came.set()
        self._kept.close()
        for note in notes:
            self._logger.warning("%s", note)
        if not len(numbers):
            raise ValueError(
                f"Of {counted(len(self._frames), 'frame')}, none has a position: there is nothing to "
                "reconstruct. Positions have to come by the channels pos_x_pv and pos_y_pv of the processor, "
                "which are among the consumer's metadata channels, too."
            )

        def scan() -> RawData:
            return RawData(
                xcoords=positions[:, 0],
                ycoords=positions[:, 1],
                diff3d=patterns,
                probeGuess=self._template.probe,
                bad_pixels=self._frames.bad_pixels,
                domain=self._frames.domain,
            )

        self._shown.warnings = ()
        self._warn(warnings_of(self._positions, scan, numbers, self.directory))
        directory = self.directory
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
            comment="\n".join(self.warnings),
        )
        self._is_written = True
        self._logger.info(
            'The %s of the scan: "%s".', counted(len(numbers), "frame"), directory / DIFFRACTION_FILE
        )
        if self._failed_with is None:
            says = "all are reconstructed together: the stream has ended"
            self._shown.tell(Stage.COMPLETING, says, scan=directory)
        else:
            self._tell_end(None)
        return directory

    @contextmanager
    def reconstructing(self, look: Callable[[], RunProgress | None]) -> Iterator[None]:
        """Within the block, :meth:`finish` comes first, and then its frames are reconstructed.

        How far that is, ``look`` gives, see :meth:`.StreamShown.reconstructing`.
        """
        with self._shown.reconstructing(look):
            yield

    def is_reconstructed(self, product: Path) -> None:
        """Take note of the result: the frames make room for those of the next scan."""
        kept_directory.are_reconstructed(self.directory)
        self._shown.take_result(product)

    def is_not_reconstructed(self, reason: str) -> None:
        """Take note that there is no result, and why: the frames stay."""
        self._shown.tell(Stage.FAILED, f"the frames were not reconstructed: {reason}")

    def close(self) -> None:
        """End the scan. Frames that are not in their order on the disk yet are so afterwards."""
        if len(self._frames) and not self._is_written:
            try:
                directory = self.finish()
            except (ValueError, OSError) as exc:
                self._logger.error(
                    "The frames of the scan were not written in their order (%s); as they came, they are in "
                    '"%s".',
                    exc,
                    self.directory,
                )
            else:
                self._logger.warning(
                    'The scan ended before it was reconstructed; its frames: "%s".', directory
                )
                self._tell_end(None)
        self._end_live()
        self.is_over = True
        self._came.set()
        self._kept.close()
        if not len(self._frames):
            kept_directory.are_reconstructed(self.directory)  # there are none
            self._tell_end(None)

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
        if reason is not None:
            self._failed_with = RuntimeError(f"frames are kept without a live object: {reason}")
            self._tell_end(None)
            self._logger.error("The live object has failed, and frames are kept without it: %s", reason)

    def _tell_end(self, reason: Exception | None) -> None:
        """Say how it has ended, to whoever follows it."""
        reason = reason or self._failed_with
        if reason is None:
            self._shown.tell(Stage.DONE, "the stream has ended", scan=self.directory)
        else:
            self._shown.tell(Stage.FAILED, str(reason))

    def _show(self, state: LiveState) -> None:
        self._shown.show(self._live, state, self._promised or None)


def _unchanged(scan: RawData) -> RawData:
    return scan
