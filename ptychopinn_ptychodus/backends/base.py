"""The interface of an engine, and the plain objects that go in and come out of it.

An engine is found by name (:mod:`.registry`), constructed without importing its framework, and imports that
framework inside the methods that need it. numpy arrays and dataclasses go in, numpy arrays and dataclasses
come out; tensors never do.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..config import DataConfig, ExecutionConfig, ModelConfig, TrainingConfig
from ..data.container import PtychoDataContainer
from .framework import Framework, refuse

if TYPE_CHECKING:  # the application imports this module, and does not wait for all of scipy
    from ..data.assembly import PatchArithmetic
    from ..data.stitching import Canvas


@dataclass(frozen=True)
class EpochReport:
    """State of a training run after one epoch (losses are NaN-free; ``val_loss`` is None without data)."""

    epoch: int
    nepochs: int
    train_loss: float
    val_loss: float | None
    seconds: float
    patterns_per_second: float

    @property
    def seconds_left(self) -> float:
        """Time left at the average speed so far."""
        return self.seconds / self.epoch * (self.nepochs - self.epoch)


OnBatch = Callable[[], None]
"""Called after every batch of a training, whether it was learnt from or validated with."""

OnEpoch = Callable[[EpochReport], None]
"""Called after every epoch of a training."""

OnProgress = Callable[[float], None]
"""Called with the part of the work that is done, 0 to 1."""

ShouldStop = Callable[[], bool]
"""Answers whether to stop; it may be asked at any time, and does nothing else."""


@dataclass(frozen=True)
class ModelDescription:
    """What a model file says about itself.

    ``history`` holds the lists ``train_loss`` and ``val_loss``, one value an epoch.
    """

    engine: str
    version: str
    model: ModelConfig
    data: DataConfig
    history: Mapping[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelState:
    """A trained model without its framework: what one engine hands to another.

    Attributes
    ----------
    description
        What the model file says about itself.
    training
        How it was trained.
    arrays
        Weights and frozen physics by name. Names and axes are those of PyTorch's ``state_dict`` of
        ``PtychoPINN_Lightning``: convolution kernels ``network.….weight`` are (out, in, rows, columns),
        ``probe_planes`` (modes, N, N, 2), ``log_scale`` (), ``good_pixels`` (N, N), all float32.
    """

    description: ModelDescription
    training: TrainingConfig
    arrays: Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class TrainingState:
    """A training after one of its epochs.

    Attributes
    ----------
    engine
        The engine that trains.
    training, execution
        What was asked for.
    data
        The :func:`.fingerprint` of the data.
    history
        ``train_loss`` and ``val_loss``, one value an epoch.
    seconds, patterns
        Time that was spent on learning so far, and number of patterns that were learnt from in it.
    values
        The engine's own, plain values of JSON types.
    arrays
        The engine's own: weights, what the optimiser keeps of each, the best weights so far.
    """

    engine: str
    training: TrainingConfig
    execution: ExecutionConfig
    data: str
    history: Mapping[str, list[float]]
    seconds: float
    patterns: int
    values: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        """Number of epochs that are done."""
        return len(self.history["train_loss"])

    def named(self, prefix: str) -> dict[str, NDArray[Any]]:
        """The arrays whose names begin with ``prefix`` and a slash, by the rest of their names."""
        start = f"{prefix}/"
        return {name[len(start) :]: array for name, array in self.arrays.items() if name.startswith(start)}


@dataclass(frozen=True, eq=False)
class Beginning:
    """Where a training begins, and where it keeps what it takes to go on with it.

    Attributes
    ----------
    model
        Begin with the network of this model, see :func:`.begun`; None: with a fresh one.
    state
        Go on from here; what :attr:`model` says was done when that training began.
    kept
        File of the state after each epoch; None: it is not kept, and the training cannot be resumed.
    """

    model: ModelState | None = None
    state: TrainingState | None = None
    kept: Path | None = None


@dataclass(frozen=True)
class TrainingResult:
    """A finished (or stopped) training run: the model file that it left and how it got there."""

    model_path: Path
    history: Mapping[str, list[float]]
    stopped: bool


def require_window(window: int, size: int, name: str = "window") -> None:
    """Raise ``ValueError`` unless ``window`` pixels of a patch of ``size`` can be stitched (0: all)."""
    if not 0 <= window <= size:
        raise ValueError(f"{name} = {window} is not valid: use 1 to {size}, or 0 for whole patches.")


@dataclass(frozen=True)
class Prediction:
    """Object patches and the probe that goes with them.

    Attributes
    ----------
    patches
        (B, C, N, N) complex64, each centred on its pattern's position.
    probe
        (modes, N, N) complex64, scaled so that ``Σ_m |FFT_ortho(probe_m · patch)|²`` is in counts.
    arithmetic
        For :func:`.assemble`, where the device that made the patches is also the one to assemble them.
    """

    patches: NDArray[np.complex64]
    probe: NDArray[np.complex64]
    arithmetic: PatchArithmetic | None = None

    @property
    def weight(self) -> NDArray[np.float32]:
        """(N, N) float32 counts, ``Σ_m |probe_m|²``: how much each pixel of a patch is worth in stitching."""
        return np.asarray(np.sum(np.abs(self.probe) ** 2, axis=0))

    def stitch(
        self, container: PtychoDataContainer, shape: tuple[int, int] | None = None, *, window: int = 0
    ) -> Canvas:
        """Make one object of the patches: give all of them one phase, and average them where they overlap.

        Where single patterns leave open which of a patch and its twin they are of, the neighbours decide, see
        :mod:`ptychopinn_ptychodus.data.twins`. What the object then lacks of slowly varying phase,
        its patterns say, see :mod:`ptychopinn_ptychodus.data.phase_field`.

        Parameters
        ----------
        container
            The grouped data that the patches were predicted for.
        shape
            (H, W) of the object, whose pixels the container's positions are in. None stands for a canvas that
            just holds the scan; its ``origin`` is where it lies among those pixels.
        window
            Each patch takes part with its central ``window`` × ``window`` pixels; 0 stands for all of them.

        Raises
        ------
        ValueError
            If the container does not say where its groups lie, a patch's centre lies outside of ``shape``,
            ``window`` is larger than a patch, or the patches are not finite.
        """
        from ..data.assembly import assemble
        from ..data.phase_field import with_phase_of_patterns
        from ..data.twins import twin_of_probe

        container.require_located()
        size = container.N
        require_window(window, size)
        weight = self.weight
        if window:
            inside = slice((size - window) // 2, (size - window) // 2 + window)
            masked = np.zeros_like(weight)
            masked[inside, inside] = weight[inside, inside]
            weight = masked
        coords, origin = container.coords, np.zeros(2)
        if shape is None:
            origin = np.floor(coords.min(0)) - size // 2
            coords = coords - origin
            width, height = np.ceil(coords.max(0)).astype(int) + size // 2 + 1
            shape = (int(height), int(width))
        twin = twin_of_probe(self.probe) if container.gridsize == 1 else None
        canvas = assemble(self.patches, container.nn_indices, coords, shape, weight, self.arithmetic, twin)
        object_ = with_phase_of_patterns(
            canvas.object,
            self.probe,
            container.amplitude,
            coords,
            container.bad_pixels,
            np.unique(container.nn_indices),
        )
        return replace(canvas, object=object_, origin=origin)


Apply = Callable[[PtychoDataContainer], Prediction]
"""Applies a network as it is at the moment, in the middle of its training."""

PreviewCallback = Callable[[EpochReport, Apply], None]
"""Called after an epoch; whether it applies the network, and what that may cost, is its own decision."""


class ModelFileError(ValueError):
    """A file is not a model that the engine can open; the message names file, reason and remedy."""


class Engine(ABC):
    """One framework's way to train and apply a model.

    A class of its own sets all of the attributes below that have no value, each a text; the registry refuses
    one that does not. :meth:`problem` and :meth:`load` read ``framework``, ``needed`` and ``imported``. A
    field of a configuration that it cannot honour it refuses with a ``ValueError`` that names engine, field
    and value: none is ignored.
    """

    name: ClassVar[str]
    """The value of the ``backend`` setting that selects this engine."""

    title: ClassVar[str]
    """Name for people."""

    model_suffix: ClassVar[str]
    """Extension of its model files, with the dot."""

    model_filter: ClassVar[str]
    """File-dialog filter for its model files."""

    install_hint: ClassVar[str]
    """The command that installs its framework."""

    framework: ClassVar[str] = ""
    """Its framework's name, for people; where it is empty, ``title`` is."""

    needed: ClassVar[tuple[str, ...]] = ()
    """The packages that its framework consists of; none where what this package needs is enough."""

    imported: ClassVar[tuple[str, ...]] = ()
    """What :meth:`load` imports besides: the engine's own modules that need the framework."""

    takes_beginning: ClassVar[bool] = False
    """Whether its :meth:`train` takes the argument ``beginning``, a :class:`Beginning` or None.

    It then begins there, keeps its state where that says, and removes it once the training is complete and
    its model written. Other engines begin with fresh networks, and cannot go on with a training.
    """

    def problem(self) -> str | None:
        """None if the framework is installed (found, not imported), else what is missing and the remedy."""
        return self._framework().problem()

    def require(self) -> None:
        """Raise :class:`EngineUnavailableError` unless the framework is installed (found, not imported)."""
        refuse(self.problem())

    def load(self) -> None:
        """Import the framework and what of this engine needs it: afterwards, ``import`` finds them loaded.

        Raises
        ------
        EngineUnavailableError
            As :meth:`Framework.load`.
        """
        self.require()
        self._framework().load()

    def _framework(self) -> Framework:
        return Framework(self.framework or self.title, self.needed, self.imported, self.install_hint)

    @abstractmethod
    def accelerators(self) -> list[str]:
        """Devices that the framework can use on this machine (imports the framework)."""

    @abstractmethod
    def recognises(self, path: Path) -> bool:
        """Whether the content of ``path`` looks like a model of this engine; imports no framework."""

    @abstractmethod
    def describe(self, path: Path) -> ModelDescription:
        """Read what a model file says about itself, without running code from it."""

    def read_state(self, path: Path) -> ModelState:
        """A model file as arrays, for any engine to go on with; imports no framework.

        Raises
        ------
        ModelFileError
            As :meth:`describe`, or if this engine does not hand over its models.
        """
        raise ModelFileError(
            f'"{path}" was written by the engine {self.name!r}, which does not hand over its models.'
        )

    def write_state(self, state: ModelState, path: Path) -> None:
        """Write a model of any engine as a model file of this one, replaced atomically.

        Raises
        ------
        ModelFileError
            If this engine has no such model; the message names both engines and the reason.
        """
        raise ModelFileError(
            f"The engine {self.name!r} does not take over models, such as this one of "
            f"{state.description.engine!r}."
        )

    def workflow(self, name: str) -> Callable[..., Any]:
        """The engine's own ``run_cdi_example``, ``train_cdi_model`` or ``load_inference_bundle``.

        Raises
        ------
        EngineUnavailableError
            If the framework is not installed, or cannot be imported.
        RuntimeError
            If the engine has none.
        """
        raise RuntimeError(f"The engine {self.name!r} has no {name}: use it by way of Ptychodus.")

    @abstractmethod
    def train(
        self,
        train: PtychoDataContainer,
        validation: PtychoDataContainer | None,
        config: TrainingConfig,
        execution: ExecutionConfig,
        *,
        model_path: Path,
        on_batch: OnBatch | None = None,
        on_epoch: OnEpoch | None = None,
        should_stop: ShouldStop | None = None,
        preview: PreviewCallback | None = None,
    ) -> TrainingResult:
        """Train and leave the best model at ``model_path``, replaced atomically.

        Parameters
        ----------
        on_batch
            Called after every batch of an epoch, before ``should_stop`` is asked.
        on_epoch
            Called after every epoch.
        should_stop
            Asked after every batch; when it answers True the best state so far is written.
        preview
            Called after every epoch; what it does makes no difference to the model, and the batches that it
            applies the network to are none of the training's.
        """

    @abstractmethod
    def predict(
        self,
        model_path: Path,
        container: PtychoDataContainer,
        execution: ExecutionConfig,
        *,
        on_progress: OnProgress | None = None,
        should_stop: ShouldStop | None = None,
    ) -> Prediction:
        """Apply the model to every group of ``container``.

        Parameters
        ----------
        on_progress
            Called after every batch.
        should_stop
            Asked before every batch.

        Raises
        ------
        ModelFileError
            If the file is not a model of this engine, or was made for another N or gridsize.
        InterruptedError
            If ``should_stop`` answered True.
        """

    def rest(self) -> None:  # noqa: B027 (most have nothing to give back)
        """Give back memory of a device that the process keeps for later, before it waits for another run.

        Called in processes that stay for a while, whether the framework has been imported or not; it must not
        be imported here. By default, nothing is given back.
        """
