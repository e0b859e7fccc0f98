"""``PINN`` and ``Supervised``: the life of a model in Ptychodus, from training data to a product.

This runs in the application's process, in a worker thread under the GUI: no framework, no Qt, no pyplot.
Each train and each reconstruct is one child process (:mod:`.process`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptychodus.api.observer import Observable
from ptychodus.api.product import LossValue
from ptychodus.api.reconstruct import (
    ReconstructInput,
    ReconstructOutput,
    TrainableReconstructor,
    TrainOutput,
)

from ..backends.base import Engine, EngineUnavailableError, EpochReport, ModelFileError
from ..backends.registry import engine_for, guess_engine
from ..data.estimate import Estimate
from ..data.examination import ExaminationError, Report
from ..files import replacing
from ..formatting import counted, duration
from ..ptychodus_io.ingest import from_reconstruct_input
from ..ptychodus_io.names import GOAL, MODEL_BASENAME, NETWORK_DONE
from ..ptychodus_io.products import with_network, with_refinement
from ..refinement import RefinementReport
from ..worker.job import DATA_DIRECTORY, NETWORK_DIRECTORY, REFINED_DIRECTORY, ReconstructJob, TrainJob
from ..worker.process import ChildProcess
from ..worker.run_files import (
    PICTURE_FILE,
    PREVIEW_FILE,
    TRAINING_EXAMINATION_FILE,
    RunFiles,
    require_writable,
)
from ..worker.wire import ChildDiedError, Message
from .history import TrainingHistory
from .selection import model_file_type, preferred_backend, select_engine
from .settings import (
    BACKEND_SETTING,
    PluginSettings,
    make_examination_config,
    make_execution_config,
    make_inference_config,
    make_refinement_config,
    make_training_config,
    naming_settings,
)

SHOW_EVERY_S = 1.0
"""How often, at most, the application is told to look at the losses: it draws them anew each time."""

# Failures that their message explains in full; a traceback in the log pane would only bury it.
_EXPECTED = (ValueError, OSError, MemoryError, EngineUnavailableError, ChildDiedError)


@dataclass(frozen=True)
class Preview:
    """An object that is still being learnt: its picture, and the epochs that it is the result of."""

    path: Path
    epoch: int


class NoModelError(RuntimeError):
    """There is no model to reconstruct with; the message says how to get one."""


class PtychoPINNReconstructor(TrainableReconstructor, Observable):
    """One trainable reconstructor; what it is trained on is ``model_type``.

    It notifies its observers of another loaded model, of epochs and of previews, in whatever thread that
    happens.

    Parameters
    ----------
    name
        As the application lists it.
    model_type
        ``"pinn"`` or ``"supervised"``.
    settings
        Shared by the reconstructors of the library, and read anew at every run.
    logger
        The library's: the application shows only that one beside the progress bar.
    """

    def __init__(self, name: str, model_type: str, settings: PluginSettings, logger: logging.Logger) -> None:
        super().__init__()
        self._name = name
        self.model_type = model_type
        self._settings = settings
        self._logger = logger
        self._model_path: Path | None = None
        self._monitor: Any = None
        self._closing = threading.Event()
        self._shown_at = 0.0
        self.preview: Preview | None = None
        """What the newest training has shown of its object; None before there is something to see."""
        self.findings = Report()
        """What the examination of the newest run's scan, and of its result, has found."""
        self.training_curves: dict[str, list[LossValue]] = {}
        """Losses of the training that is running, for the application's plot; empty when none is."""

    # ---- what the application asks before it does anything: none of it may raise

    @property
    def name(self) -> str:
        return self._name

    def get_progress_goal(self) -> int:
        return GOAL

    def is_model_loaded(self) -> bool:
        return self._model_path is not None

    def get_model_file_filter(self) -> str:
        return model_file_type(self._settings)[1]

    def get_model_file_extension(self) -> str:
        return model_file_type(self._settings)[0]

    def get_training_data_file_filter(self) -> str:
        return "PtychoPINN Training Data (*.npz)"

    # ---- hooks of attach.py

    def attach_task_monitor(self, monitor: Any) -> None:
        """Learn of Stop, and show progress, without yielding a product for it."""
        self._monitor = monitor

    def close(self) -> None:
        """Have what runs keep its best state and end, and start nothing more."""
        self._closing.set()

    def require_model(self) -> Path:
        """The loaded model's path.

        Raises
        ------
        NoModelError
            If none is loaded.
        FileNotFoundError
            If its file is gone.
        """
        path = self._model_path
        if path is None:
            raise NoModelError(
                f"{self.name} has no model. Train one, or load a model file; without the window, leave it in "
                f'the input directory as "{MODEL_BASENAME}{self.get_model_file_extension()}". The setting '
                f"{BACKEND_SETTING} decides on the extension: models of other engines are not looked for."
            )
        if not path.is_file():
            raise FileNotFoundError(
                f'The loaded model file "{path}" is no longer there. Load another one, or train again.'
            )
        return path

    # ---- model files

    def load_model_from_file(self, file_path: Path) -> None:
        with self._reporting("The model was not loaded"):
            path = Path(file_path).absolute()
            writer = guess_engine(path)
            self._take(path)
            self._logger.info('Loaded "%s", a model of %s.', path, writer.title)
            try:
                self._engine_for(path)
            except EngineUnavailableError as exc:
                # no error yet: Ptychodus answers one here with a traceback, and the run says it again
                self._logger.warning("Before it can be used: %s", exc)

    def _take(self, path: Path) -> None:
        self._model_path = path
        self.notify_observers()  # of a retrained model as well, whose path is the same

    def _engine_for(self, path: Path) -> Engine:
        """The engine that opens a model: the one that wrote it, or one to convert it for; the log says so."""
        try:
            return engine_for(path, preferred_backend(self._settings))
        except EngineUnavailableError as exc:
            writer = guess_engine(path)
            raise EngineUnavailableError(
                f'The model "{path}" was written by the engine {writer.name!r}, and no framework that could '
                f"open it is installed. {exc}"
            ) from exc

    def save_model(self, file_path: Path) -> None:
        with self._reporting("The model was not saved"):
            source, target = self.require_model(), Path(file_path).absolute()
            if target.exists() and target.samefile(source):
                return
            with source.open("rb") as model, replacing(target) as copy:
                shutil.copyfileobj(model, copy)
            written = source.stat()
            with contextlib.suppress(OSError):  # a file system without dates
                os.utime(target, ns=(written.st_atime_ns, written.st_mtime_ns))

    def export_training_data(self, file_path: Path, parameters: ReconstructInput) -> None:
        with self._reporting("The training data were not exported"):
            path = Path(file_path)
            if path.suffix != ".npz":
                path = path.with_name(f"{path.name}.npz")
            examination = make_examination_config(self._settings)
            raw = from_reconstruct_input(parameters, with_object=True, examination=examination)
            self._show_findings(raw.findings)
            raw.to_file(path)

    # ---- training

    def train(self, input_path: Path, output_path: Path) -> Iterator[TrainOutput]:
        with self._reporting("Training failed"):
            yield from self._train(Path(input_path).absolute(), Path(output_path).absolute())

    def _train(self, input_path: Path, output_path: Path) -> Iterator[TrainOutput]:
        engine = select_engine(self._settings)
        config = make_training_config(
            self._settings,
            self.model_type,
            backend=engine.name,
            input_path=input_path,
            output_path=output_path,
        )
        settings = self._settings
        require_writable(output_path)
        job = TrainJob(
            config=config,
            execution=make_execution_config(settings),
            model_path=output_path / f"{MODEL_BASENAME}{engine.model_suffix}",
            validation_fraction=settings.data.value("ValidationFraction"),
            use_all_positions=settings.data.value("NumGroups") == 0,
            preview=settings.training.value("Preview"),
            log_level=self._logger.getEffectiveLevel(),
            examination=make_examination_config(settings),
        )
        self._show_findings(Report())
        (output_path / TRAINING_EXAMINATION_FILE).unlink(missing_ok=True)
        history = TrainingHistory()
        files = RunFiles(job.model_path)
        child = ChildProcess(self._logger)
        progress = 0
        stopped = False
        try:
            with child, naming_settings():
                try:
                    self.training_curves = history.curves
                    self._show_preview(None)
                    child.start(job)
                    for message in child.messages():
                        if message is not None:
                            progress = max(progress, self._take_in(message, history, output_path))
                        if self._should_stop():
                            stopped = True
                            self._stop(child, history, output_path)
                            break
                        # Ptychodus looks at its Stop button between two of these, and only then
                        yield TrainOutput(history.training, history.validation, progress)
                except (GeneratorExit, KeyboardInterrupt):
                    stopped = True
                    self._stop(child, history, output_path)
                    raise
        finally:
            # not before the child has ended: until then it may still write
            self.training_curves = {}
            self._adopt(child.result, files, history, stopped=stopped)
        yield TrainOutput(history.training, history.validation, GOAL)

    def _take_in(self, message: Message, history: TrainingHistory, output_path: Path) -> int:
        """What a training reports; the progress that it stands for, or 0."""
        if message["kind"] == "epoch":
            report = EpochReport(**_fields(EpochReport, message))
            history.append(report)
            self._log_epoch(report)
            self._show_epoch()
            return min(GOAL - 1, GOAL * report.epoch // report.nepochs)
        if message["kind"] == "findings":
            self._add_findings(message["findings"])
            self._save_findings(output_path / TRAINING_EXAMINATION_FILE)
        if message["kind"] == "preview":
            self._show_preview(Preview(output_path / PICTURE_FILE, message["epoch"]))
        if message["kind"] == "progress":
            return min(GOAL - 1, int(GOAL * message["fraction"]))
        return 0

    def _stop(self, child: ChildProcess, history: TrainingHistory, output_path: Path) -> None:
        for message in child.stop():  # an epoch that ended meanwhile is in the model, too
            self._take_in(message, history, output_path)

    def _adopt(
        self,
        result: dict[str, Any] | None,
        files: RunFiles,
        history: TrainingHistory,
        *,
        stopped: bool,
    ) -> None:
        """Make what the training left, however it ended, the loaded model.

        A worker that was asked to stop and had to be ended may have left its best state as a checkpoint only:
        that becomes the model. After a failure nobody asked for it, and the earlier model stays.
        """
        epochs, model_path = counted(len(history.training), "epoch"), files.model_path
        # a worker that was ended has not told us whether it left one
        written = files.has_model() or self._promote_checkpoint(files, stopped=stopped)
        if written:
            self._take(model_path)
        if result is not None and not result["stopped"]:
            self._logger.info('Trained for %s; the model is "%s".', epochs, model_path)
        elif written:
            self._logger.warning(
                'Training ended early, after %s; the best model so far is "%s".', epochs, model_path
            )
        elif stopped:
            self._logger.warning("Training was stopped before there was a model to keep.")
        try:
            if written and self.preview is None:  # else that of an earlier model would lie beside this one
                for name in (PREVIEW_FILE, PICTURE_FILE):
                    (model_path.parent / name).unlink(missing_ok=True)
            history.save(model_path.parent)
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

    def _log_epoch(self, report: EpochReport) -> None:
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

    # ---- reconstruction

    def reconstruct(self, parameters: ReconstructInput) -> Iterator[ReconstructOutput]:
        with self._reporting("Reconstruction failed"):
            yield from self._reconstruct(parameters)

    def _reconstruct(self, parameters: ReconstructInput) -> Iterator[ReconstructOutput]:
        model_path = self.require_model()
        engine = self._engine_for(model_path)
        product = parameters.product
        examination = make_examination_config(self._settings)
        self._show_findings(Report())
        raw = from_reconstruct_input(parameters, with_object=False, examination=examination)
        shape = (product.object_.height_px, product.object_.width_px)
        raw.require_inside(shape)
        refinement = make_refinement_config(self._settings)
        job = ReconstructJob(
            config=make_inference_config(self._settings, backend=engine.name, model_path=model_path),
            execution=make_execution_config(self._settings),
            refinement=refinement,
            model_type=self.model_type,
            shape=shape,
            choose_neighbor_count=self._settings.data.value("NeighborCount") == 0,
            log_level=self._logger.getEffectiveLevel(),
            probe_modes=self._settings.training.optional("ProbeModes"),
            examination=examination,
        )
        with ChildProcess(self._logger) as child, naming_settings():
            try:
                raw.to_directory(child.directory / DATA_DIRECTORY)
            except OSError as exc:
                raise child.with_remedy(exc) from exc
            patterns = raw.n_patterns
            del raw
            started = time.monotonic()
            # Few outputs: each one is a file without the window, and freezes the window for a second.
            begin, end = 0, GOAL if refinement is None else NETWORK_DONE
            child.start(job)
            for message in self._until_stopped(child):
                if message["kind"] == "progress":
                    self._show_progress(int(begin + (end - begin) * message["fraction"]))
                elif message["kind"] == "findings":
                    self._add_findings(message["findings"])
                elif message["kind"] == "network":
                    found = Estimate.load(child.directory / NETWORK_DIRECTORY)
                    after_network = with_network(
                        product, found, message["history"], model_path, self.findings, self._logger
                    )
                    yield ReconstructOutput(after_network, NETWORK_DONE)
                    begin, end = NETWORK_DONE, GOAL
                elif message["kind"] == "refinement":
                    self._show_refinement(RefinementReport(**_fields(RefinementReport, message)))
            result = child.result
            if result is None or result["stopped"]:
                self._logger.warning("Reconstruction stopped: there is no further result.")
                return
            self._add_findings(result["verdict"])
            if refinement is None:
                found = Estimate.load(child.directory / NETWORK_DIRECTORY)
                product = with_network(
                    product, found, result["history"], model_path, self.findings, self._logger
                )
            elif result["errors"]:
                found = Estimate.load(child.directory / REFINED_DIRECTORY)
                product = with_refinement(product, found, result, model_path, self.findings, self._logger)
            else:
                self._logger.warning("Stopped before an epoch of refinement was over: it has no result.")
                return
        self._logger.info("Reconstructed from %d patterns in %.1f s.", patterns, time.monotonic() - started)
        yield ReconstructOutput(product, GOAL)

    def _until_stopped(self, child: ChildProcess) -> Iterator[Message]:
        """What the child reports, on Stop with what it still had to say."""
        for message in child.messages():
            if message is not None:
                yield message
            if self._should_stop():
                yield from child.stop()
                return

    def _show_refinement(self, report: RefinementReport) -> None:
        self._logger.info(
            "Refinement, epoch %d/%d: normalised error %.4g, %.0f patterns/s, %s left",
            report.epoch,
            report.nepochs,
            report.error,
            report.patterns_per_second,
            duration(report.seconds_left),
        )

    # ---- helpers

    def _should_stop(self) -> bool:
        monitor = self._monitor
        # a monitor keeps its last Stop until the next task: outside of a task it says nothing about this run
        stopping = monitor is not None and monitor.is_processing and monitor.is_stopping
        return bool(stopping) or self._closing.is_set()

    def _show_epoch(self) -> None:
        """Of more than 100 epochs, not each is a percent, and the application looks at the percents."""
        now = time.monotonic()
        if now - self._shown_at >= SHOW_EVERY_S:
            self._shown_at = now
            self.notify_observers()

    def _show_findings(self, findings: Report) -> None:
        self.findings = findings
        self.notify_observers()

    def _add_findings(self, findings: Iterable[Mapping[str, Any]]) -> None:
        """Take in what the worker has found; it has logged it."""
        self._show_findings(self.findings + Report.from_json(findings))

    def _save_findings(self, path: Path) -> None:
        try:
            self.findings.save(path)
        except OSError as exc:  # the log has them all
            self._logger.warning("The findings were not written: %s", exc)

    def _show_preview(self, preview: Preview | None) -> None:
        self.preview = preview
        self.notify_observers()

    def _show_progress(self, progress: int) -> None:
        monitor = self._monitor
        if monitor is not None and monitor.is_processing:
            monitor.update_progress(min(progress, GOAL - 1), GOAL)

    @contextlib.contextmanager
    def _reporting(self, what: str) -> Iterator[None]:
        """Say in the library's log what failed (the window shows nothing else), and raise it again."""
        try:
            if self._closing.is_set():
                raise RuntimeError("Ptychodus is closing: nothing is started any more.")
            yield
        except GeneratorExit:
            raise
        except Exception as exc:
            if isinstance(exc, ExaminationError):
                self._show_findings(self.findings + exc.report)
            expected = isinstance(exc, (*_EXPECTED, NoModelError, ModelFileError))
            self._logger.error("%s: %s", what, exc, exc_info=None if expected else exc)
            self._logger.debug("Traceback:", exc_info=exc)
            raise


def _fields(cls: Any, message: Mapping[str, Any]) -> dict[str, Any]:
    return {name: message[name] for name in cls.__dataclass_fields__}
