"""Ptychodus' stream processor, as this package's reconstructors need it.

``ptychodus.ptychodus_stream_processor`` receives frames and positions by PV Access and, when it is told to,
reconstructs a directory of files: what it received takes no part in that. :func:`attach` has the scan that is
streamed followed by a :class:`.StreamedScan`, and reconstructed in the end, as long as the algorithm is one
that offers ``begin_stream``; any other runs as ever. It is called where Ptychodus' plugins are loaded, which
the processor does as it is made, and imports nothing of pvapy.
"""

from __future__ import annotations

import functools
import logging
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..files import identity
from ..live.timed_positions import TimedPositions
from ..ptychodus_io.names import GOAL, LIBRARY, MODEL_BASENAME, PRODUCT_FILE, SETTINGS_FILE
from .extension import MARK, Survive, task_managers
from .stream import StreamedScan
from .stream_shown import RunProgress

logger = logging.getLogger(LIBRARY)

_BASE = "pvapy.hpc.adImageProcessor"
_PROCESSOR = "PtychodusAdImageProcessor"
_NS = 1e-9
_WAIT_S = 0.5


def attach() -> None:
    """Extend Ptychodus' stream processor, where this process has one; safe to call repeatedly."""
    module = sys.modules.get(_BASE)
    if module is None:
        return
    for cls in module.AdImageProcessor.__subclasses__():
        if cls.__name__ == _PROCESSOR and not hasattr(cls, MARK):
            with Survive("Ptychodus' stream processor could not be extended"):
                _extend(cls)


def _extend(cls: type) -> None:
    followers: weakref.WeakKeyDictionary[Any, _Follower] = weakref.WeakKeyDictionary()

    def follower(processor: Any) -> _Follower | None:
        if processor not in followers:
            with Survive("Ptychodus' stream processor could not be followed"):
                followers[processor] = _Follower(processor)
        return followers.get(processor)

    def extended(name: str, make: Callable[..., Any]) -> None:
        original = getattr(cls, name)

        @functools.wraps(original)
        def method(self: Any, *args: Any) -> Any:
            found, own = follower(self), functools.partial(original, self, *args)
            return own() if found is None else make(found, own, *args)

        setattr(cls, name, method)

    extended("configure", _Follower.configure)
    extended("process", _Follower.process)
    extended("getStats", _Follower.stats)
    extended("stop", _Follower.stop)
    setattr(cls, MARK, True)


class _Follower:
    """One processor, and the scan that it receives. Its methods are called in the place of the processor's.

    Each is given the processor's own method, bound to its arguments, and then these.
    """

    def __init__(self, processor: Any) -> None:
        self._processor: Any = weakref.proxy(processor)  # which is the key that this object is found by
        self._core = processor._ptychodus
        thread = processor._reconstruction_thread
        self._source = Path(thread._input_product_path)
        self._target = Path(thread._output_product_path)
        self._tasks = task_managers[self._core.processing_core.algorithm_parameter]
        self._scan: StreamedScan | None = None
        self._execute = self._core.batch_mode_execute
        self._core.batch_mode_execute = self._batch_mode_execute

    # ---- before the first frame

    def configure(self, original: Callable[[], None], config: Any) -> None:
        """A scan begins; with what it is followed, is looked at before any frame comes."""
        if not isinstance(config, Mapping) or "num_arrays" not in config:
            raise ValueError(
                f"The processor cannot be configured by {config!r}: give a JSON object with num_arrays, "
                "detector_width_px and detector_height_px."
            )
        self._close()
        first = config.get("first_frame")
        positions = TimedPositions(config.get("positions_by", "time"), None if first is None else int(first))
        settings = self._source / SETTINGS_FILE
        if settings.is_file():  # as batch mode does, only too late for what is shown meanwhile
            self._core.settings_registry.open_settings(settings)
        reconstructor = self._core.processing_core.algorithm_parameter.get_current_reconstructor()
        begin = getattr(reconstructor, "begin_stream", None)
        original()
        if begin is None:
            logger.info(
                'The algorithm "%s" does not follow streams: Ptychodus is left to itself.', reconstructor.name
            )
            return
        if hasattr(reconstructor, "get_model_file_extension"):
            model = self._source / f"{MODEL_BASENAME}{reconstructor.get_model_file_extension()}"
            if model.is_file():
                reconstructor.load_model_from_file(model)
        dataset = self._core.diffraction_core.repository[-1]
        bad_pixels = dataset.get_assembled_data().get_bad_pixels()
        self._scan = scan = begin(
            self._source,
            self._target,
            bad_pixels,
            positions,
            promised=int(config["num_arrays"]) * int(config.get("num_patterns_per_array", 1)),
            dtype=config.get("pattern_dtype", "uint16"),
            resume=bool(config.get("resume", False)),
        )
        dataset.add_observer(_assembled(dataset, scan))
        context = self._processor._ptychodus_streaming_context
        self._processor._ptychodus_streaming_context = _Context(context, scan)

    # ---- while frames come

    def process(self, original: Callable[[], Any], frame: Any) -> Any:
        """A frame has come."""
        scan = self._scan
        if scan is None:
            if not hasattr(self._processor, "_ptychodus_streaming_context"):
                raise RuntimeError(
                    "A frame came before the processor was configured: send the command 'configure' to its "
                    "control channel first."
                )
            return original()
        stamp = frame["timeStamp"]
        scan.take_time(int(frame["uniqueId"]), stamp["secondsPastEpoch"] + stamp["nanoseconds"] * _NS)
        result = original()
        # Ptychodus has put the assembling there, which ends with a task for a window, and there is no window
        self._tasks.put_background_task(self._tasks.run_foreground_tasks)
        return result

    def stats(self, original: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What the consumer reports."""
        if not hasattr(self._processor, "_ptychodus_streaming_context"):
            return {}
        found = original()
        if self._scan is not None:
            state = self._scan.state
            found.update(live_frames=state.in_object, live_lag=state.lag, live_error=state.error)
        return found

    # ---- the end

    def stop(self, original: Callable[[], None]) -> None:
        """The consumer ends."""
        self._close()
        original()

    def _close(self) -> None:
        scan = self._scan
        if scan is None:
            return
        if not scan.is_over:
            with Survive("What came last in the stream is left out"):
                self._take_late_positions()
                self._wait_for_frames()
        self._scan = None
        scan.close()

    def _batch_mode_execute(self, action: str, input_directory: Path, output_directory: Path) -> Any:
        """In the place of the core's: what was streamed is reconstructed, and not what was on the disk."""
        from ptychodus.api.exit_codes import ExitCode

        scan = self._scan
        try:
            if scan is None or action.lower() != "reconstruct":
                code = self._execute(action, input_directory, output_directory)
            else:
                self._take_late_positions()
                self._wait_for_frames()
                code = self._reconstruct(scan, scan.finish(), output_directory)
        except Exception as exc:  # the thread that calls would end, and nobody would hear of it
            expected = isinstance(exc, (ValueError, OSError))
            logger.error("Reconstruction failed: %s", exc, exc_info=None if expected else exc)
            return ExitCode.FAILURE
        logger.info("Reconstruction of the stream: %s.", code.name)
        for warning in () if scan is None else scan.warnings:  # again: the log has scrolled by
            logger.warning("%s", warning)
        return code

    def _reconstruct(self, scan: StreamedScan, directory: Path, output: Path) -> Any:
        """Have the core reconstruct the frames in ``directory``, for whoever looks on, too; its exit code."""
        result = output / Path(PRODUCT_FILE).with_suffix(f".{GOAL:06d}.h5").name
        before = identity(result)
        try:
            with scan.reconstructing(self._progress):
                code = self._execute("reconstruct", directory, output)
        except Exception as exc:
            scan.is_not_reconstructed(str(exc))
            raise
        if identity(result) != before:  # the code alone does not tell
            scan.is_reconstructed(result)
        else:
            scan.is_not_reconstructed(f"the log says why ({code.name})")
        return code

    def _progress(self) -> RunProgress | None:
        """How far the core's reconstruction is; None before it has begun."""
        monitor = self._core.processing_core.processing_api.task_monitor
        if not monitor.is_processing:  # it has the progress of the last one
            return None
        fraction = min(monitor.get_progress() / max(1, monitor.get_progress_goal()), 0.999)
        report = self._core.processing_core.algorithm_parameter.get_current_reconstructor().refinement
        if report is None:
            return fraction, None, 0, 0
        left = report.seconds_left if report.epoch < report.nepochs else None  # what comes then, nobody times
        return fraction, left, report.epoch, report.nepochs

    def _take_late_positions(self) -> None:
        """Those that came after the last frame: Ptychodus looks for positions when a frame comes."""
        from pvaccess import QueueEmpty

        context = self._processor._ptychodus_streaming_context
        axes = (
            (self._processor._pos_x_pv, context.append_positions_x),
            (self._processor._pos_y_pv, context.append_positions_y),
        )
        for name, append in axes:
            queue = self._processor.metadataQueueMap[name]
            while True:
                try:
                    found = queue.get(0)
                except QueueEmpty:
                    break
                times = [each["secondsPastEpoch"] + each["nanoseconds"] * _NS for each in found["t"]]
                append(found["values"], times)

    def _wait_for_frames(self) -> None:
        """Until all frames that came before now are assembled: tasks are done in their order."""
        done = threading.Event()
        self._tasks.put_background_task(done.set)
        while not done.wait(_WAIT_S):
            if self._tasks.is_stopping:
                raise RuntimeError("Ptychodus is closing: the scan is not reconstructed.")


class _Context:
    """Ptychodus' streaming context, which a scan listens to."""

    def __init__(self, context: Any, scan: StreamedScan) -> None:
        self._context, self._scan = context, scan

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def append_positions_x(self, values_m: Any, times: Any) -> None:
        self._context.append_positions_x(values_m, times)
        self._scan.take_positions(0, values_m, times)

    def append_positions_y(self, values_m: Any, times: Any) -> None:
        self._context.append_positions_y(values_m, times)
        self._scan.take_positions(1, values_m, times)


def _assembled(dataset: Any, scan: StreamedScan) -> Any:
    """An observer that hands a dataset's frames over as they are assembled."""
    from ptychodus.model.diffraction.dataset import DiffractionDatasetObserver

    class Assembled(DiffractionDatasetObserver):
        def handle_array_inserted(self, index: int) -> None:
            array = dataset[index]
            scan.take_frames(array.get_indexes(), array.get_patterns())

        def handle_array_changed(self, index: int) -> None:
            pass

        def handle_dataset_reloaded(self) -> None:
            pass

    return Assembled()
