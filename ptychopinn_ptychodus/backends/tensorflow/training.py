"""Training with ``keras.Model.fit``: callbacks, loggers, checkpoints, and errors that say what to do."""

from __future__ import annotations

import dataclasses
import gc
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from ...config import ExecutionConfig, InferenceConfig, TrainingConfig
from ...data.container import PtychoDataContainer
from .. import CHECKPOINT_DIRECTORY
from ..base import Prediction, TrainingState
from ..batch_size import out_of_memory_in_training
from ..beginning import Course
from ..framework import require_logger
from ..mlflow_run import MlflowRun, recorded, show
from ..physics import require_alike
from ..reporter import StopRequested, TrainingReporter
from ..schedules import PLATEAU_FACTOR, PLATEAU_PATIENCE, plateau_floor, stepwise
from .best_state import BestState
from .bundle import save_model
from .group import Group, group_of, lost
from .inference import predict, require_supported
from .loaders import Order, build_dataset
from .module import PtychoPINN_TensorFlow
from .names import NAME
from .resuming import KeepState, resume

logger = logging.getLogger(__name__)


class _HistoryCallback(keras.callbacks.Callback):
    """Appends each epoch's losses to the model's history, before anything else looks at it."""

    def __init__(self, run: MlflowRun | None) -> None:
        super().__init__()
        self.run = run

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        names = {"train_loss": "loss", "val_loss": "val_loss"}
        losses = {name: float(logs[key]) for name, key in names.items() if key in logs}
        for name, value in losses.items():
            self.model.loss_history[name].append(value)
            if not math.isfinite(value):  # Lightning's early stopping has this built in
                self.model.stop_training = True
        if self.run is not None:
            self.run.losses(epoch + 1, losses)


class _ReporterCallback(keras.callbacks.Callback):
    """Passes on what happens; ends training after the batch in hand when asked to, or when it diverged."""

    def __init__(
        self,
        reporter: TrainingReporter,
        batch_size: int,
        groups: int,
        state: TrainingState | None,
        group: Group,
    ) -> None:
        super().__init__()
        self.reporter = reporter
        self.group = group
        self.taken = (0.0, 0) if state is None else (state.seconds, state.patterns)
        self.batch_size = batch_size
        self.groups = groups

    def on_train_begin(self, logs: Any = None) -> None:
        self.reporter.start(*self.taken)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        model = self.model
        if not math.isfinite(float(logs["loss"])):
            raise FloatingPointError(
                f"Training diverged: the loss is {float(logs['loss'])} in epoch "
                f"{len(model.loss_history['train_loss']) + 1}. Lower the learning rate (now "
                f"{model.execution_config.learning_rate:g}) or set gradient_clip_val."
            )
        size = min(self.batch_size, self.groups - batch * self.batch_size)
        with self._together():
            self.reporter.batch(size * model.model_config.channels)

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        with self._together():
            self.reporter.batch()

    @contextmanager
    def _together(self) -> Iterator[None]:
        try:
            with self.group.together():
                yield
        except StopRequested:
            self.reporter.stopped = True
            raise

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        model = self.model
        alone = dataclasses.replace(model.execution_config, devices=1)  # the others learn

        def apply(container: PtychoDataContainer) -> Prediction:
            return predict(model, container, alone, should_stop=self.reporter.should_stop)

        with self._together():
            self.reporter.epoch(model.loss_history, model.training_config.nepochs, apply)


class _SetOrder(keras.callbacks.Callback):
    """Tells the order of the groups which epoch begins."""

    def __init__(self, order: Order) -> None:
        super().__init__()
        self.order = order

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.order.epoch = epoch


class _StepwiseSchedule(keras.callbacks.Callback):
    """Sets the learning rate before every optimiser step."""

    def __init__(self, execution: ExecutionConfig, batches: int, epochs: int) -> None:
        super().__init__()
        self.steps = math.ceil(batches / execution.accum_steps)
        factor = stepwise(execution.scheduler, self.steps * epochs)
        assert factor is not None, execution.scheduler
        self.factor = factor
        self.rate = execution.learning_rate
        self.accumulated = execution.accum_steps
        self.epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        step = self.epoch * self.steps + batch // self.accumulated
        self.model.optimizer.learning_rate = self.rate * self.factor(step)


class _LastStep(keras.callbacks.Callback):
    """Learns from the batches that are left over at the end of an epoch: Keras waits for the next one's."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self.batches = batches

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if batch + 1 == self.batches:
            self.model.finish_accumulating()


@dataclass(frozen=True)
class Trained:
    """What a training leaves.

    Attributes
    ----------
    model
        At its best state.
    best
        Holds the checkpoints; None without.
    history
        ``train_loss`` and ``val_loss``, one value an epoch.
    run
        Its record, with ``logger_backend = 'mlflow'``.
    group
        Which replicas and processes have trained it together.
    """

    model: PtychoPINN_TensorFlow
    best: BestState | None
    history: dict[str, list[float]]
    run: MlflowRun | None
    group: Group


def train(
    train: PtychoDataContainer,
    test: PtychoDataContainer | None,
    config: TrainingConfig,
    execution: ExecutionConfig,
    reporter: TrainingReporter,
    course: Course | None = None,
) -> Trained:
    """Train a model; ``course`` says what it begins with, and without one it is fresh.

    Several devices are replicas of one model, each with its part of every batch. Of several processes, the
    first one reports and writes, and all end with the same weights.

    Raises
    ------
    RuntimeError
        As :func:`fit`.
    ValueError
        If data and configuration do not fit each other, or this engine lacks what ``execution`` asks.
    """
    require_supported(execution)
    if test is not None:
        require_alike(train, test)
    group = group_of(config, execution)
    if group.rank > 0:
        reporter.mute()
    if execution.deterministic:
        tf.config.experimental.enable_op_determinism()
    if config.seed is not None:
        keras.utils.set_random_seed(config.seed)
    # the test data are seen through the training data's normalisation: it is part of the model
    scale, with_object = train.input_scale, config.needs_object
    order = None if config.sequential_sampling else Order(config.seed)
    build = partial(
        build_dataset,
        input_scale=scale,
        batch_size=config.batch_size,
        execution=execution,
        with_object=with_object,
    )
    train_data = group.dealt(partial(build, train, order=order))
    test_data = None if test is None else group.dealt(partial(build, test))
    course = course or Course(None, NAME, train, test, config, execution)
    # the weights, too, belong where they are used
    with group.scope():
        physics, network = course.physics(train, config)
        model = PtychoPINN_TensorFlow.of_physics(physics, config, execution)
        model.begin_with(network)
        configs = (config.model, model.data_config, config, InferenceConfig(model=config.model), execution)
        logged = execution.logger_backend == "mlflow" and group.rank == 0
        with recorded(logged, config.output_dir, *configs, reporter=reporter) as run:
            best = fit(
                model,
                train_data,
                test_data,
                config,
                len(train),
                reporter,
                course,
                order,
                run,
                group,
                validation_groups=0 if test is None else len(test),
            )
            if run is not None and best is not None and best.saved:
                run.model(best.saved[0][1])  # until the model is written elsewhere
            if run is not None and not reporter.stopped:
                alone = dataclasses.replace(execution, devices=1)
                show(run, lambda data: predict(model, data, alone, should_stop=reporter.should_stop), train)
    history = {name: list(values) for name, values in model.loss_history.items()}
    return Trained(model, best, history, run, group)


def keep_model(
    model: PtychoPINN_TensorFlow, path: Path, run: MlflowRun | None = None, group: Group | None = None
) -> Path:
    """Write the model to ``path``, and say so where its run is recorded.

    Of the processes of a ``group``, the first one writes, and the others wait for it.

    Raises
    ------
    RuntimeError
        If the first one could not write.
    """
    group, failure = group or Group(), None
    if group.rank == 0:
        try:
            save_model(model, path)
            if run is not None:
                run.model(path)
        except Exception as exc:
            failure = exc
    failed = group.wait(failed=failure is not None)
    if failure is not None:
        raise failure
    if failed:
        raise RuntimeError("The model was not written: the first of the processes that train says why.")
    return path


def fit(
    model: PtychoPINN_TensorFlow,
    train: Any,
    validation: Any | None,
    config: TrainingConfig,
    groups: int,
    reporter: TrainingReporter,
    course: Course | None = None,
    order: Order | None = None,
    run: MlflowRun | None = None,
    group: Group | None = None,
    validation_groups: int = 0,
) -> BestState | None:
    """Train ``model`` in place on ``groups`` groups, and leave it at its best state.

    It is validated with ``validation_groups``.
    ``train`` and ``validation`` are data sets of TensorFlow's, as ``group`` has them dealt out.

    While training runs, the best state so far is in ``config.output_dir / "checkpoints"``; returns what
    keeps it there (None without checkpoints).

    Raises
    ------
    RuntimeError
        If the device is out of memory, training diverged, or another process has ended; the message says what
        to change, or which one it was.
    """
    execution, group = model.execution_config, group or Group()
    resumes = None if course is None else course.state
    monitor = "val_loss"
    if validation is None or execution.checkpoint_monitor_metric == "train_loss":
        monitor = "loss"
    batches = math.ceil(groups / config.batch_size)
    # what is dealt out to several replicas has no end
    steps = None if group.replicas == 1 else batches
    validation_steps = None
    if group.replicas > 1 and validation is not None:
        validation_steps = math.ceil(validation_groups / config.batch_size)
    early = keras.callbacks.EarlyStopping(
        monitor, patience=execution.early_stop_patience, mode=execution.checkpoint_mode
    )
    schedule = _schedule(execution, batches, config.nepochs, validation is not None)
    callbacks: list[keras.callbacks.Callback] = [
        *([] if order is None else [_SetOrder(order)]),
        _LastStep(batches),
        _HistoryCallback(run),
        early,
        *schedule,
        *(_make_logger(execution, Path(config.output_dir)) if group.rank == 0 else ()),
    ]
    best: BestState | None = None
    if execution.enable_checkpointing:
        directory = Path(config.output_dir) / CHECKPOINT_DIRECTORY
        best = BestState(directory, execution, monitor, writes=group.rank == 0)
        callbacks.append(best)
    if course is not None and (course.is_kept or resumes is not None):
        callbacks.append(KeepState(course, reporter, [early, *schedule], best))
    # last: who hears of an epoch, or stops it there, finds its best state on disk
    callbacks.append(_ReporterCallback(reporter, config.batch_size, groups, resumes, group))
    if resumes is None:
        model.configure_optimizer()
    else:
        resume(resumes, model, best)
    if course is not None:
        course.starts()
    try:
        model.fit(
            train,
            validation_data=validation,
            steps_per_epoch=steps,
            validation_steps=validation_steps,
            epochs=config.nepochs,
            initial_epoch=0 if resumes is None else resumes.epochs,
            shuffle=False,  # the dataset does
            callbacks=callbacks,
            verbose="auto" if execution.enable_progress_bar and group.rank == 0 else 0,
        )
    except StopRequested:
        logger.info("Training was stopped after %d epochs.", len(model.loss_history["train_loss"]))
    except tf.errors.ResourceExhaustedError as exc:
        raise out_of_memory_in_training(config) from exc
    except FloatingPointError as exc:
        raise RuntimeError(str(exc)) from exc
    except tf.errors.OpError as exc:
        raise lost(exc) or exc from exc
    # a pass that was cut short is part of a reference cycle: with it, the whole scan would stay in memory
    gc.collect()
    if best is not None:
        best.restore()
    return best


def _schedule(
    execution: ExecutionConfig, batches: int, epochs: int, validated: bool
) -> list[keras.callbacks.Callback]:
    if execution.scheduler == "constant":
        return []
    if execution.scheduler == "plateau":
        plateau = keras.callbacks.ReduceLROnPlateau(
            "val_loss" if validated else "loss",
            factor=PLATEAU_FACTOR,
            patience=PLATEAU_PATIENCE + 1,  # Keras counts the epoch that it acts in
            min_delta=0.0,
            min_lr=plateau_floor(execution.learning_rate),
        )
        return [plateau]
    return [_StepwiseSchedule(execution, batches, epochs)]


def _make_logger(execution: ExecutionConfig, output_dir: Path) -> list[keras.callbacks.Callback]:
    directory = output_dir / "logs"
    if execution.logger_backend == "csv":
        directory.mkdir(parents=True, exist_ok=True)
        return [keras.callbacks.CSVLogger(str(directory / "metrics.csv"))]
    if execution.logger_backend == "tensorboard":
        require_logger("tensorboard")
        return [keras.callbacks.TensorBoard(str(directory))]
    return []
