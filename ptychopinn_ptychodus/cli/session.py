"""One run of Ptychodus without a window: its ``ModelCore``, settings, and the plugin's reconstructors."""

from __future__ import annotations

import copy
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ..importing import collector_paused
from ..launchers import follows
from ..live.status import OnProgress
from ..ptychodus_io.names import (
    DIFFRACTION_FILE,
    GOAL,
    KEYS,
    LIBRARY,
    NETWORK_DONE,
    PRODUCT_FILE,
    TRAINABLE,
    product_in,
)
from ..ptychodus_io.standard_files import check_standard_files
from ..settings_table import PREFIX
from ..settings_table import SETTINGS as SETTINGS_TABLE
from .errors import CommandError, UsageError
from .progress import ProgressDisplay, TimeLeft
from .settings import assign_all, open_settings_file

if TYPE_CHECKING:
    from ptychodus.api.workflow import ProductWorkflowAPI
    from ptychodus.model import ModelCore

    from ..data.examination import Report
    from ..plugin.shown import ConfidenceFiles

STOPPED_FILE = "stopped.h5"
"""Product of a reconstruction that was stopped, where there was one before that it must not replace."""

_POLL_S = 0.25
# What a failed run logs is raised as well, and shown once, by the command.
_ECHOES = (LIBRARY, "ptychodus.model.task_manager")

# Ptychodus warns that the example path in its own default settings does not exist.
_PLACEHOLDER = "/path/to/"


class Session:
    """A running ``ModelCore`` with one of the plugin's reconstructors selected; see :func:`open_session`."""

    def __init__(
        self, core: ModelCore, reconstructor: str, log: _LogToConsole, *, is_asked_for: bool
    ) -> None:
        self._core = core
        self._log = log
        self.is_asked_for = is_asked_for
        """Whether the settings or the command line name the reconstructor."""
        self.select(reconstructor)

    def select(self, reconstructor: str) -> None:
        """Go on with this one of the plugin's reconstructors."""
        self.key = KEYS[reconstructor]
        self.name = reconstructor
        self._core.processing_core.processing_api.set_reconstructor_if_provided(self.key)

    @property
    def _reconstructor(self) -> Any:
        return self._core.processing_core.algorithm_parameter.get_current_reconstructor()

    @property
    def model_extension(self) -> str:
        """Extension of model files, with the dot."""
        return str(self._reconstructor.get_model_file_extension())

    @property
    def findings(self) -> Report:
        """What the examination of the newest run's scan, and of its result, has found."""
        report: Report = self._reconstructor.findings
        return report

    @property
    def confidence(self) -> ConfidenceFiles | None:
        """How far the newest run's result is to be believed; None where that was not found out."""
        confidence: ConfidenceFiles | None = self._reconstructor.confidence
        return confidence

    @property
    def settings_read(self) -> dict[str, dict[str, str]]:
        """Values of the settings that the reconstructor reads, as a file has them, by group and name."""
        model_type = self._reconstructor.model_type
        read: dict[str, dict[str, str]] = {}
        for row in SETTINGS_TABLE.values():
            if model_type in row.of:
                group = PREFIX + row.group
                parameter = self._core.settings_registry[group].parameters()[row.name]
                read.setdefault(group, {})[row.name] = parameter.get_value_as_string()
        return read

    @property
    def follows(self) -> bool:
        """Whether this process only takes part in a training of which another reports, and writes."""
        training = self._core.settings_registry[f"{PREFIX}Training"].parameters()
        return follows(int(training["Devices"].get_value()) * int(training["Nodes"].get_value()))

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Say nothing, neither in print nor in the log."""
        with (
            Path(os.devnull).open("w", encoding="utf-8") as nowhere,
            redirect_stdout(nowhere),
            redirect_stderr(nowhere),
            self._log.into(nowhere),
        ):
            yield

    def open_scan(self, directory: Path) -> ProductWorkflowAPI:
        """Load a standard directory.

        Raises
        ------
        UsageError
            If a file is missing.
        CommandError
            If a file cannot be read.
        """
        patterns, product = directory / DIFFRACTION_FILE, product_in(directory)
        for path in (patterns, product):
            if not path.is_file():
                raise UsageError(
                    f'There is no {path.name} in "{directory}". Save the scan there with Ptychodus (a '
                    f"standard directory holds {DIFFRACTION_FILE} and {PRODUCT_FILE})."
                )
        workflow = self._core.workflow_api
        try:
            check_standard_files(patterns, product)
        except ValueError as exc:
            raise CommandError(str(exc)) from exc
        path = patterns
        try:
            diffraction = workflow.load_assembled_diffraction_data(path)
            path = product
            return workflow.load_product(path, diffraction=diffraction)
        except Exception as exc:  # Ptychodus' reader lets through what the libraries beneath it raise
            reason = str(exc.__cause__ or exc).strip("'\"")
            raise CommandError(
                f'"{path}" cannot be read ({reason}). It may be incomplete or of another kind: save it again.'
            ) from exc

    def load_model(self, path: Path) -> None:
        """Load a model of any engine, which a training may start from."""
        self._log.drop_echoes = True
        self._core.processing_core.processing_api.load_model_from_file(path, self.key)

    def train(self, scan: ProductWorkflowAPI | None, input_path: Path, output_path: Path) -> bool:
        """Train with progress; True if it ran to its end.

        Without a scan, the reconstructor is given the directory directly: Ptychodus' own way to it leads past
        a product, which a directory of NPZ files does not have.
        """
        training = self._core.settings_registry["PtychoPINNPluginTraining"].parameters()
        epochs = int(training["Epochs"].get_value())
        trainer = self._reconstructor
        left = TimeLeft()

        def work() -> None:
            if scan is not None:
                scan.train_reconstructor_local(input_path, output_path, algorithm=self.key, block=True)
                return
            with self._monitor as monitor:
                for result in trainer.train(input_path, output_path):
                    monitor.update_progress(result.progress, trainer.get_progress_goal())
                    if monitor.is_stopping:
                        break

        def show(display: ProgressDisplay) -> None:
            curves = {label: losses[-1] for label, losses in list(trainer.training_curves.items()) if losses}
            fraction = self._monitor.get_progress() / max(1, self._monitor.get_progress_goal())
            note = trainer.reading or ("until the first epoch is over" if fraction > 0 else "loading")
            if curves:
                epoch = max(loss.epoch for loss in curves.values())
                losses = ", ".join(f"{label.lower()} {loss.value:.4g}" for label, loss in curves.items())
                note = f"epoch {epoch}/{epochs}  loss: {losses}"
            # the run is over when the model is written, not when its last epoch is
            display.update(min(fraction, 0.999), left.at(fraction), note)

        return self._follow("training", work, show)

    def reconstruct(
        self,
        scan: ProductWorkflowAPI,
        model: Path | None,
        output: Path,
        network: Path,
        *,
        on_progress: OnProgress | None = None,
        stopped: Path | None = None,
    ) -> bool:
        """Reconstruct into the product file ``output``, with progress; True if that has been written.

        ``model`` is None for the reconstructor that needs none.
        If that is refined, the network's own result goes to ``network``, whatever becomes of the refinement.
        What there was before is replaced only by what has become of this run; what a run has found that was
        stopped goes to ``stopped``, if one is given, instead.
        """
        self._log.drop_echoes = True
        if model is not None:
            self.load_model(model)
        left = TimeLeft()

        def work(target: Path) -> None:
            scan.reconstruct_local(algorithm=self.key, output_product_file=target, block=True)

        def show(display: ProgressDisplay) -> None:
            fraction = self._monitor.get_progress() / max(1, self._monitor.get_progress_goal())
            if fraction > 0:
                display.update(min(fraction, 0.999), left.at(fraction))
            if on_progress is not None:
                report = self._reconstructor.refinement
                seconds_left, epochs = left.at(fraction), (0, 0)
                if report is not None:
                    epochs = (report.epoch, report.nepochs)
                    seconds_left = report.seconds_left if seconds_left is None else seconds_left
                on_progress(min(fraction, 0.999), seconds_left, *epochs)

        # what belongs to the result is left where that will be, by the command
        self._reconstructor.leaves_beside = False
        # Ptychodus puts the progress into the name of the file that it writes
        with tempfile.TemporaryDirectory(prefix=".reconstruct-", dir=output.parent) as scratch:

            def keep(progress: int, path: Path) -> bool:
                written = list(Path(scratch).glob(f"*.{progress:06d}.h5"))
                for file in written:
                    file.replace(path)
                return bool(written)

            try:
                finished = self._follow("reconstruction", lambda: work(Path(scratch) / PRODUCT_FILE), show)
            finally:
                keep(NETWORK_DONE, network)
            if not finished and stopped is not None:
                keep(GOAL, stopped)
                return False
            # not after an error: it may have been that of writing this file
            return keep(GOAL, output) and finished

    def export(self, scan: ProductWorkflowAPI, path: Path) -> None:
        """Write training data."""
        self._log.drop_echoes = True
        scan.export_training_data(path, algorithm=self.key)

    @property
    def _monitor(self) -> Any:
        return self._core.processing_core.processing_api.task_monitor

    def _follow(self, title: str, work: Callable[[], None], show: Callable[[ProgressDisplay], None]) -> bool:
        """Run ``work`` in a thread and show how far it is; True if nobody interrupted it."""
        failures: list[BaseException] = []
        # not Thread.join and is_alive: a join that Ctrl-C ends takes the thread for dead
        over = threading.Event()

        def run() -> None:
            try:
                work()
            except BaseException as exc:
                failures.append(exc)
            finally:
                over.set()

        self._log.drop_echoes = True
        thread = threading.Thread(target=run, name=title, daemon=True)
        interrupted = False
        with ProgressDisplay(title) as display, self._log.through(display):
            thread.start()
            while not over.is_set():
                try:
                    over.wait(_POLL_S)
                    show(display)
                except KeyboardInterrupt:
                    if interrupted:
                        raise
                    interrupted = True
                    display.console.print("Stopping; Ctrl-C again to give up at once.")
                    self._monitor.stop_processing()
            if not (failures or interrupted):
                display.update(1.0, None, "done")
        if failures and not interrupted:
            raise failures[0]
        return not interrupted


@contextmanager
def open_session(
    *,
    settings_files: Sequence[Path] = (),
    assignments: Sequence[str] = (),
    algorithm: str | None = None,
    algorithms: Sequence[str] = TRAINABLE,
    stock: bool = False,
    verbose: bool = False,
    debug: bool = False,
) -> Iterator[Session]:
    """Start Ptychodus without a window, apply settings (the later win), select a reconstructor.

    Parameters
    ----------
    settings_files
        Applied in this order.
    assignments
        ``Section.Key=value``, applied after the files.
    algorithm
        One of ``algorithms``; by default what the settings select, if it is one of them, else ``"PINN"``.
    algorithms
        Names of the reconstructors that can do what is going to be asked for.
    stock
        Rely on Ptychodus to find the plugin, as its own commands do. Otherwise it is attached here, which
        also works in an environment that is layered over the one that holds Ptychodus.

    Raises
    ------
    UsageError
        If a settings file or an assignment is not valid.
    CommandError
        If the plugin is not part of this Ptychodus.
    """
    with _LogToConsole(verbose=verbose, debug=debug) as log:
        if not stock:
            from ..plugin.attach import attach

            attach()
        with collector_paused():
            from ptychodus.model import ModelCore

        core = ModelCore()
        available = set(core.workflow_api.available_reconstructors())
        if not available.issuperset(KEYS.values()):
            raise CommandError(
                "Ptychodus does not list this package's reconstructors. `ptychopinn-ptychodus doctor` "
                "says why, and how to mend it."
            )
        for path in settings_files:
            open_settings_file(core.settings_registry, path)
        assign_all(core.settings_registry, assignments)
        chosen = core.processing_core.algorithm_parameter.get_value()
        named = algorithm or {KEYS[name]: name for name in algorithms if name in KEYS}.get(chosen)
        with core:
            yield Session(core, named or "PINN", log, is_asked_for=named is not None)


class _LogToConsole:
    """Log entries on standard error, beside the progress; the loggers as before when it ends."""

    def __init__(self, *, verbose: bool, debug: bool) -> None:
        self._level = logging.INFO if verbose or debug else logging.WARNING
        self._debug = debug
        self._handler = logging.StreamHandler(sys.stderr)
        self._handler.setFormatter(_Formatter(tracebacks=debug))
        self._handler.addFilter(self._wanted)
        self.drop_echoes = False

    def _wanted(self, record: logging.LogRecord) -> bool:
        echo = record.levelno >= logging.ERROR and record.name in _ECHOES
        return self._debug or not ((echo and self.drop_echoes) or _PLACEHOLDER in record.getMessage())

    @contextmanager
    def into(self, stream: TextIO) -> Iterator[None]:
        """Write to another stream."""
        before = self._handler.setStream(stream)
        try:
            yield
        finally:
            if before is not None:
                self._handler.setStream(before)

    @contextmanager
    def through(self, display: ProgressDisplay) -> Iterator[None]:
        """Write above the bar while there is one."""
        before = self._handler.setStream(_ConsoleStream(display)) if display.console.is_terminal else None
        try:
            yield
        finally:
            if before is not None:
                self._handler.setStream(before)

    def __enter__(self) -> _LogToConsole:
        root, own = logging.getLogger(), logging.getLogger(LIBRARY)
        self._before = (root.level, own.level)
        # Ptychodus would log to standard output, unless somebody has set up logging
        root.addHandler(self._handler)
        root.setLevel(self._level)
        if self._debug:
            own.setLevel(logging.DEBUG)
        return self

    def __exit__(self, *_: object) -> None:
        root, own = logging.getLogger(), logging.getLogger(LIBRARY)
        root.removeHandler(self._handler)
        root.setLevel(self._before[0])
        own.setLevel(self._before[1])


class _Formatter(logging.Formatter):
    """One entry a line: Ptychodus logs tracebacks of what it then does without."""

    def __init__(self, *, tracebacks: bool) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        if self._tracebacks or not record.exc_info:
            return super().format(record)
        brief = copy.copy(record)
        brief.exc_info = brief.exc_text = None
        return f"{super().format(brief)} ({record.exc_info[1]}; --debug shows where)"


class _ConsoleStream:
    def __init__(self, display: ProgressDisplay) -> None:
        self._display = display

    def write(self, text: str) -> int:
        self._display.console.print(text, end="", markup=False, highlight=False, soft_wrap=True)
        return len(text)

    def flush(self) -> None:
        pass
