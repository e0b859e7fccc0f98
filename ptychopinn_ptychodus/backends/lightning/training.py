"""Training with ``lightning.pytorch.Trainer``: the module and its data, loggers, model files, errors."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
import types
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.loggers import CSVLogger, Logger
from numpy.typing import NDArray
from torch.multiprocessing.spawn import ProcessRaisedException

from ...config import ExecutionConfig, InferenceConfig, TrainingConfig, to_dict
from ...data.container import PtychoDataContainer
from ..base import TrainingState
from ..batch_size import out_of_memory_in_training
from ..beginning import Course
from ..framework import one_line, require_logger
from ..mlflow_run import MlflowRun, recorded, show
from ..physics import InitialPhysics, require_alike
from ..reporter import StopRequested, TrainingReporter
from . import module as modules  # what stands there may be replaced, and is looked up where it is called
from .callbacks import History, HistoryCallback, own_callbacks
from .checkpoint import save_model
from .group import Member, membership
from .inference import choose_device, predict
from .loaders import GroupDataset, build_loaders
from .names import NAME
from .ranks import RankError, Ranks, is_lost, started
from .resuming import resume, rewind

logger = logging.getLogger(__name__)
# hardware summaries and advertisements; warnings still come through
for _name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(_name).setLevel(logging.WARNING)

BuildLoaders = Callable[
    [PtychoDataContainer, PtychoDataContainer | None, TrainingConfig, ExecutionConfig], tuple[Any, Any]
]
"""Training and validation loaders of a training."""

_CONFIGS = ("model", "data", "training", "inference")
"""What a module is made from, in the order of its constructor."""


@dataclass(frozen=True)
class Trained:
    """What a training leaves.

    Attributes
    ----------
    module
        The trained module. One of this package is at its best state.
    trainer
        Lightning's trainer, which knows the checkpoints.
    history
        ``train_loss`` and ``val_loss``, one value an epoch; empty if the module logs none.
    run
        The record of the training, if ``logger_backend = 'mlflow'``.
    """

    module: Any
    trainer: Any
    history: History
    run: MlflowRun | None


def train(
    train: PtychoDataContainer,
    test: PtychoDataContainer | None,
    config: TrainingConfig,
    execution: ExecutionConfig,
    reporter: TrainingReporter,
    build: BuildLoaders = build_loaders,
    course: Course | None = None,
    *,
    member: Member | None = None,
    physics: InitialPhysics | None = None,
    on_ready: Callable[[], None] | None = None,
) -> Trained:
    """Train a module of the class that has the name ``PtychoPINN_Lightning`` in :mod:`.module` now.

    ``course`` says what it begins with; without one, it is fresh. Of a module that is not ours there is no
    state to go on from, and it begins with no model.

    On several devices, this is one of several processes, and starts the others if nothing else has. The first
    one reports and writes; all take part in each batch, and end with the same weights.

    Parameters
    ----------
    member, physics, on_ready
        For a process that the first one has started: which one it is, with what it begins, and what it says
        as soon as only the others are missing.

    Raises
    ------
    RuntimeError, ValueError
        As :func:`fit`, or if data and configuration do not fit each other.
    """
    if test is not None:
        require_alike(train, test)
    if config.seed is not None:
        pl.seed_everything(config.seed, workers=True, verbose=False)
    course = course or Course(None, NAME, train, test, config, execution)
    member = member or membership(config, execution, ours=_makes_ours())
    if member.rank > 0:
        reporter.mute()
    network: Mapping[str, NDArray[Any]] = {}
    if physics is None:
        physics, network = course.physics(train, config)
    with started(member, train, test, config, execution, physics) as ranks:
        return _train_as(
            member,
            ranks,
            (train, test),
            config,
            execution,
            reporter,
            build,
            course,
            physics,
            network,
            on_ready,
        )


def _train_as(
    member: Member,
    ranks: Ranks | None,
    data: tuple[PtychoDataContainer, PtychoDataContainer | None],
    config: TrainingConfig,
    execution: ExecutionConfig,
    reporter: TrainingReporter,
    build: BuildLoaders,
    course: Course,
    physics: InitialPhysics,
    network: Mapping[str, NDArray[Any]],
    on_ready: Callable[[], None] | None,
) -> Trained:
    """:func:`train`, once it is known which of several processes this is, and the others are on their way."""
    train, test = data
    inference = InferenceConfig(model=config.model)
    configs = (config.model, physics.data, config, inference)
    module: Any = modules.PtychoPINN_Lightning(*configs)
    module.save_hyperparameters()
    if isinstance(module, pl.LightningModule) and not module.hparams:
        # for a module without hyperparameters: its checkpoints should say what it was made from
        named = {f"{name}_config": to_dict(each) for name, each in zip(_CONFIGS, configs, strict=True)}
        pl.LightningModule.save_hyperparameters(module, named)
    history: History = {"train_loss": [], "val_loss": []}
    callbacks = own_callbacks(config, execution, reporter, validated=test is not None, course=course)
    prepare = getattr(module, "prepare_training", None)
    if prepare is not None:
        prepare(physics, execution, history, callbacks)
    loaders = build(train, test, config, execution)
    if member.size > 1:
        for loader in loaders:
            if isinstance(getattr(loader, "dataset", None), GroupDataset):
                loader.dataset.divide(member.rank, member.size)
    if is_own(module):
        module.set_arrays(network)
    if is_own(module) and course.state is not None:
        resume(course.state, module, callbacks)
    if member.rank == 0:
        course.starts()
    if on_ready is not None:
        on_ready()
    # of several processes that train one model, the first one keeps the record
    logged = execution.logger_backend == "mlflow" and member.rank == 0
    with recorded(logged, config.output_dir, *configs, execution, reporter=reporter) as run:
        trainer = fit(
            module, *loaders, config, execution, history, reporter, run, course.state, member, ranks
        )
        kept = getattr(getattr(trainer, "checkpoint_callback", None), "best_model_path", "")
        if run is not None and kept:
            run.model(Path(kept))  # until the model is written elsewhere
        if run is not None and is_own(module) and not reporter.stopped:
            alone = dataclasses.replace(execution, devices=1)  # the other processes have the other devices
            show(run, lambda data: predict(module, data, alone, should_stop=reporter.should_stop), train)
    callbacks.clear()  # otherwise the callbacks would be kept, and pickled, with the module
    return Trained(module, trainer, {name: list(values) for name, values in history.items()}, run)


def _makes_ours() -> bool:
    """Whether it is this package's class that is trained, and not one that a script has put in its place."""
    made: Any = modules.PtychoPINN_Lightning
    return getattr(made, "__module__", "") == modules.__name__


def is_own(module: Any) -> bool:
    """Whether it is a ``PtychoPINN_Lightning`` or a subclass: it can be applied, and saved as our model."""
    return getattr(module, "engine_name", None) == NAME


def keep_model(module: Any, trainer: Any, path: Path, run: MlflowRun | None = None) -> Path | None:
    """Write what :func:`train` has trained to ``path``, and say so where its run is recorded.

    A module that is not ours is written as a checkpoint of Lightning's, which its own class can open. Returns
    None, with a warning, where the trainer cannot do that either. Of several processes that a launcher has
    started, the first one writes, and the others wait for it.

    Raises
    ------
    RuntimeError
        If the first one could not write.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return _write(module, trainer, path, run)
    kept, failure = None, None
    if torch.distributed.get_rank() == 0:
        try:
            kept = _write(module, trainer, path, run)
        except Exception as exc:
            failure = exc
    told = [failure is None, kept is not None]
    torch.distributed.broadcast_object_list(told)
    if failure is not None:
        raise failure
    if not told[0]:
        raise RuntimeError("The model was not written: the first of the processes that train says why.")
    return path if told[1] else None


def _write(module: Any, trainer: Any, path: Path, run: MlflowRun | None) -> Path | None:
    if is_own(module):
        save_model(module, path)
    elif hasattr(trainer, "save_checkpoint"):
        trainer.save_checkpoint(path)
    else:
        logger.warning("No model file was written: neither module nor trainer is one that could do so.")
        return None
    if run is not None:
        run.model(path)
    return path


def fit(
    module: Any,
    train_loader: Any,
    validation_loader: Any | None,
    config: TrainingConfig,
    execution: ExecutionConfig,
    history: History,
    reporter: TrainingReporter,
    run: MlflowRun | None = None,
    state: TrainingState | None = None,
    member: Member | None = None,
    ranks: Ranks | None = None,
) -> Any:
    """Train ``module`` in place, any ``LightningModule``, and return the trainer.

    ``lightning.pytorch.Trainer`` is looked up when this is called, so that a script or a test may replace it;
    only its method ``fit(module, train_dataloaders=…, val_dataloaders=…)`` is used. Losses are appended to
    ``history``. With ``state``, the epochs before it are left out. ``member`` says which of several processes
    this is, and ``ranks`` are those that it has started.

    Raises
    ------
    RuntimeError
        If the device is missing or out of memory, if the training diverged, or if anything else failed in it;
        the message says what to change.
    ValueError
        If Lightning cannot do what ``execution`` asks.
    """
    device = choose_device(execution.accelerator)
    member = member or membership(config, execution, ours=False)
    statistics = getattr(module, "data_config", None)
    unused = not (config.nll_weight or config.mae_weight) or getattr(statistics, "any_probe", True)
    returned = Path(config.output_dir) / f".history-{os.getpid()}.json"
    recorder = HistoryCallback(history, run, returned)
    try:
        trainer = pl.Trainer(
            max_epochs=config.nepochs,
            accelerator=execution.accelerator if execution.accelerator == "auto" else device.type,
            devices=execution.devices,
            num_nodes=execution.num_nodes,
            strategy=member.strategy(execution, unused=unused),
            use_distributed_sampler=False,  # the data set divides the batches
            precision=execution.precision,  # type: ignore[arg-type]
            deterministic=execution.deterministic,
            gradient_clip_val=execution.gradient_clip_val,
            accumulate_grad_batches=execution.accum_steps,
            log_every_n_steps=1,
            default_root_dir=config.output_dir,
            enable_progress_bar=execution.enable_progress_bar,
            enable_checkpointing=execution.enable_checkpointing,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            logger=_make_logger(execution, Path(config.output_dir)),
            callbacks=[recorder],
            plugins=member.environment,
        )
        if state is not None:
            rewind(trainer, state)
        with warnings.catch_warnings():
            # a beamline machine's core count is no advice for a scan that sits in memory
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
            warnings.filterwarnings("ignore", message=".*have no `val_dataloader`.*")
            warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
            if ranks is not None:
                ranks.wait(reporter)
            trainer.fit(module, train_dataloaders=train_loader, val_dataloaders=validation_loader)
    except StopRequested:
        logger.info("Training was stopped after %d epochs.", len(history["train_loss"]))
    except torch.OutOfMemoryError as exc:
        raise out_of_memory_in_training(config) from exc
    except (ValueError, OSError, MemoryError, RankError):
        raise  # its message says what is wrong, and with which value or file
    except MisconfigurationException as exc:
        raise ValueError(f"Lightning cannot train as ExecutionConfig asks: {one_line(exc)}") from exc
    except Exception as exc:
        ended = ranks.error() if ranks is not None and is_lost(exc) else None
        raise ended or RuntimeError(_explanation(exc, several=member.size > 1)) from exc
    if recorder.take_back(trainer):
        for epoch in range(len(history["train_loss"])):
            so_far = {name: values[: epoch + 1] for name, values in history.items()}
            reporter.epoch(so_far, config.nepochs, None)
    return trainer


def _explanation(exc: Exception, *, several: bool = False) -> str:
    """Text of the error for a training that failed in a way that is not foreseen here."""
    if several and is_lost(exc):
        return (
            f"Training failed: another of the processes that train together has ended; what has started them "
            f"says which one, and why ({one_line(exc)})."
        )
    if isinstance(exc, FloatingPointError):
        return str(exc)
    elsewhere = isinstance(exc, ProcessRaisedException)  # its text is the traceback of another process
    cause = str(exc).strip().splitlines()[-1] if elsewhere else one_line(exc)
    return (
        f"Training failed: {cause}. Mend what that names. If it is about the device or several processes, "
        "train with ExecutionConfig(accelerator='cpu', devices=1, strategy='auto', precision='32-true')."
    )


def _make_logger(execution: ExecutionConfig, output_dir: Path) -> Logger | bool:
    backend = execution.logger_backend
    if backend in ("none", "mlflow"):  # the latter is kept by HistoryCallback, the same for every engine
        return False
    if backend == "csv":
        return CSVLogger(output_dir, name="logs")
    require_logger(backend)
    from lightning.pytorch.loggers import TensorBoardLogger

    # TensorBoard does not import TensorFlow if there is a module of this name
    sys.modules.setdefault("tensorboard.compat.notf", types.ModuleType("tensorboard.compat.notf"))
    return TensorBoardLogger(output_dir, name="logs")
