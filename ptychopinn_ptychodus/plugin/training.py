"""A training, as the application sees it: losses and progress while it runs, and the model that it leaves."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ptychodus.api.reconstruct import TrainOutput

from ..backends.base import EpochReport
from ..backends.training_state import state_path
from ..data.examination import Report
from ..formatting import counted, duration
from ..launchers import follows
from ..ptychodus_io.names import GOAL, MODEL_BASENAME
from ..refinement import RefinementReport
from ..settings_table import FROM_MODEL, NEW, RESUME, SETTINGS, START
from ..worker.job import TrainJob
from ..worker.run_files import (
    PICTURE_FILE,
    PREVIEW_FILE,
    TRAINING_EXAMINATION_FILE,
    RunFiles,
    require_writable,
)
from ..worker.running import ChildRun, HandOver, JobObserver
from ..worker.warm import WarmWorker
from .history import TrainingHistory
from .selection import select_engine
from .settings import (
    PluginSettings,
    make_examination_config,
    make_execution_config,
    make_training_request,
    naming_settings,
)
from .shown import PreviewPicture, Shown, Task, percent


def make_train_job(
    settings: PluginSettings,
    model_type: str,
    input_path: Path | None,
    output_path: Path,
    log_level: int,
    loaded: Path | None = None,
    scans: Sequence[str] = (),
) -> TrainJob:
    """The job that the settings stand for; ``output_path`` is made, where it is missing.

    Parameters
    ----------
    input_path
        The directory of the data; None, if the scans are handed over.
    log_level
        Least level of the log records that are sent.
    loaded
        The loaded model, for a training that starts from it.
    scans
        Names of the scans that are handed over.

    Raises
    ------
    ValueError
        If a setting is not valid; the message names it.
    EngineUnavailableError
        If there is no engine of the kind that is set.
    OSError
        If ``output_path`` cannot be written to, or there is no model to start from.
    """
    engine = select_engine(settings)
    asked = make_training_request(
        settings, model_type, backend=engine.name, input_path=input_path, output_path=output_path
    )
    start = settings.choice(START)
    start_model = None
    if start == FROM_MODEL:
        start_model = _model_to_start_from(loaded, input_path, engine.model_suffix)
    require_writable(output_path)
    return TrainJob(
        asked=asked,
        execution=make_execution_config(settings),
        model_path=output_path / f"{MODEL_BASENAME}{engine.model_suffix}",
        validation_fraction=settings.value("Data.ValidationFraction"),
        preview=settings.value("Training.Preview"),
        log_level=log_level,
        examination=make_examination_config(settings),
        start_model=start_model,
        resume=start == RESUME,
        scans=tuple(scans),
        skip_damaged=settings.value("Data.SkipDamaged"),
    )


def _model_to_start_from(loaded: Path | None, input_path: Path | None, suffix: str) -> Path:
    """The loaded model, else that of the input directory, as a reconstruction without the window takes it."""
    path = loaded
    if path is None and input_path is not None:
        path = input_path / f"{MODEL_BASENAME}{suffix}"
    if loaded is None and (path is None or not path.is_file()):
        nor = "" if path is None else f', and there is no "{path}"'
        raise FileNotFoundError(
            f"There is no model to start from: the setting {SETTINGS[START].full_name} is {FROM_MODEL!r}, "
            f"but none is loaded{nor}. Load one, or set it to {NEW!r}."
        )
    assert path is not None
    if not path.is_file():
        raise FileNotFoundError(f'The loaded model file "{path}" is no longer there. Load another one.')
    return path


@contextmanager
def output_directory(settings: PluginSettings, output_path: Path, logger: logging.Logger) -> Iterator[Path]:
    """Where a training leaves what it makes.

    For a process that only takes part in a training of another, as ``srun`` and ``torchrun`` start them, that
    is a directory which is not kept, and nothing but errors is logged.
    """
    if not follows(settings.value("Training.Devices") * settings.value("Training.Nodes")):
        yield output_path
        return
    level = logger.level
    with tempfile.TemporaryDirectory(prefix="ptychopinn-", ignore_cleanup_errors=True) as scratch:
        logger.setLevel(logging.ERROR)
        try:
            yield Path(scratch)
        finally:
            logger.setLevel(level)


class TrainingRun(JobObserver):
    """One training, in a child process.

    Parameters
    ----------
    job
        What is to be learnt, and where the model is to be left.
    shown
        What the window shows of it.
    task
        The application's task, which may be stopped.
    adopt
        Called with the path of the model that the run has left, however it ended.
    logger
        The library's.
    warm
        Where its process waits for the next run.
    hand_over
        Leaves the scans in the job's directory, where ``job`` names no directory that they are in.
    """

    def __init__(
        self,
        job: TrainJob,
        shown: Shown,
        task: Task,
        adopt: Callable[[Path], object],
        logger: logging.Logger,
        warm: WarmWorker | None = None,
        hand_over: HandOver | None = None,
    ) -> None:
        self._job = job
        self._shown = shown
        self._task = task
        self._adopt = adopt
        self._logger = logger
        self._warm = warm
        self._hand_over = hand_over
        self._output_path = job.model_path.parent
        self._history = TrainingHistory()
        self._progress = 0

    def outputs(self) -> Iterator[TrainOutput]:
        """Train, and yield what the application shows; closed early, the best state so far is kept."""
        self._shown.show_findings(Report())
        (self._output_path / TRAINING_EXAMINATION_FILE).unlink(missing_ok=True)
        files = RunFiles(self._job.model_path)
        run = ChildRun(self._job, self, self._logger, self._warm)
        try:
            self._shown.curves = self._history.curves
            self._shown.show_preview(None)
            with naming_settings(), run.started(self._hand_over):
                for _ in run.steps():
                    # Ptychodus looks at its Stop button between two of these, and only then
                    yield self._output(self._progress)
        finally:
            # not before the child has ended: until then it may still write
            self._shown.curves = {}
            self._shown.reading = ""
            self._keep(files, run)
        yield self._output(GOAL)

    def _output(self, progress: int) -> TrainOutput:
        return TrainOutput(self._history.training, self._history.validation, progress)

    # ---- what the run tells and asks

    def on_learning(self) -> None:
        self._shown.reading = ""

    def on_epoch(self, report: EpochReport | RefinementReport) -> None:
        assert isinstance(report, EpochReport)
        self._history.append(report)
        validation = "" if report.val_loss is None else f", validation {report.val_loss:.5g}"
        self._logger.info(
            "Epoch %d/%d: loss %.5g%s, %.0f patterns/s, %s left",
            report.epoch,
            report.nepochs,
            report.train_loss,
            validation,
            report.patterns_per_second,
            duration(report.seconds_left),
        )
        self._shown.show_epoch()
        self._progress = max(self._progress, min(GOAL - 1, GOAL * report.epoch // report.nepochs))

    def on_scan(self, name: str, number: int, count: int) -> None:
        self._shown.show_reading(name, number, count)

    def on_resumed(self, history: dict[str, list[float]]) -> None:
        self._history.restore(history)
        epochs = len(history["train_loss"])
        self._logger.info("The training goes on after %s.", counted(epochs, "epoch"))

    def on_progress(self, fraction: float) -> None:
        self._progress = max(self._progress, percent(fraction))

    def on_findings(self, findings: Report) -> None:
        self._shown.add_findings(findings)
        self._shown.save_findings(self._output_path / TRAINING_EXAMINATION_FILE)

    def on_preview(self, epoch: int) -> None:
        self._shown.show_preview(PreviewPicture(self._output_path / PICTURE_FILE, epoch))

    def should_stop(self) -> bool:
        return self._task.should_stop()

    # ---- what it leaves

    def _keep(self, files: RunFiles, run: ChildRun) -> None:
        """See to it that the best state is the model, and that losses and preview lie beside it.

        A worker that was asked to stop and had to be ended may have left its best state as a checkpoint only:
        that becomes the model. After a failure nobody asked for it, and the earlier model stays.
        """
        epochs, model_path = counted(len(self._history.training), "epoch"), files.model_path
        # a worker that was ended has not told us whether it left one
        has_model = files.has_model() or self._promote_checkpoint(files, stopped=run.stopped)
        if has_model:
            self._adopt(model_path)
        if run.is_complete:
            self._logger.info('Trained for %s; the model is "%s".', epochs, model_path)
        elif has_model:
            self._logger.warning(
                'Training ended early, after %s; the best model so far is "%s".', epochs, model_path
            )
        elif run.stopped:
            self._logger.warning("Training was stopped before there was a model to keep.")
        if not run.is_complete and state_path(model_path).is_file():
            self._logger.info(
                "To go on with it, train once more with %s = %s.", SETTINGS[START].full_name, RESUME
            )
        try:
            if has_model and self._shown.preview is None:
                # else that of an earlier model would lie beside this one
                for name in (PREVIEW_FILE, PICTURE_FILE):
                    (model_path.parent / name).unlink(missing_ok=True)
            self._history.save(model_path.parent)
        except OSError as exc:  # the model is what counts
            self._logger.warning("The training history was not written: %s", exc)

    def _promote_checkpoint(self, files: RunFiles, *, stopped: bool) -> bool:
        """True if a checkpoint has become the model."""
        checkpoint = files.checkpoint()
        if checkpoint is None:
            return False
        if stopped:
            try:
                files.promote(checkpoint)
            except OSError as exc:
                self._logger.warning('The model "%s" was not written: %s', files.model_path, exc)
            else:
                self._logger.info('The checkpoint "%s" is taken as the model.', checkpoint)
                return True
        self._logger.warning('Training left its best state in "%s": load that file to use it.', checkpoint)
        return False
