"""Configuration: frozen, validated dataclasses, one per concern.

``ModelConfig``, ``TrainingConfig`` and ``InferenceConfig`` are canonical and mean the same thing in every
engine. ``ExecutionConfig`` holds run-time knobs and never takes part in a model's identity. ``DataConfig``
records what a model learnt about its training data; it is frozen into the model file.

Every class validates itself on construction (``ValueError`` naming the field, the value and what is allowed)
and converts to and from plain dictionaries of JSON types with :func:`to_dict` and :func:`from_dict`.
"""

from __future__ import annotations

import dataclasses
import types
import typing
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from .installed import entry_points, own_version
from .pattern_sizes import CNN_SIZES
from .validation import check, flags, integer, one_of, pattern_size, real

MOST_REFLECTIONS = 2000
"""Ten times as many as were of use; a model file must not ask for a computation without end."""

MODEL_TYPES = ("pinn", "supervised")
ARCHITECTURES = ("cnn", "unrolled", "unrolled_fourier")
AMP_ACTIVATIONS = ("sigmoid", "swish", "softplus", "relu")
BACKENDS = ("tensorflow", "pytorch")
"""The engines of this package."""

BACKEND_GROUP = "ptychopinn_ptychodus.backends"
"""Entry-point group by which engines are found, those of others among them."""

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
SCHEDULERS = ("constant", "plateau", "cosine", "one_cycle")
LOGGER_BACKENDS = ("csv", "tensorboard", "mlflow", "none")
PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")
STRATEGIES = ("auto", "ddp", "ddp_spawn")
"""How several devices train one model: each has all of it, and its part of every batch."""

DEFAULT_N_GROUPS = 512

_OBJECT_WEIGHTS = ("realspace_mae_weight", "realspace_aligned_weight")

_C = TypeVar("_C")


def backend_names() -> tuple[str, ...]:
    """What ``backend`` may be: this package's engines, installed or not, and those that others add."""
    others = sorted({ep.name for ep in entry_points(group=BACKEND_GROUP)} - set(BACKENDS))
    return (*BACKENDS, *others)


def _backend(owner: Any) -> None:
    if owner.backend not in BACKENDS:  # else nobody has to look for entry points
        one_of(owner, "backend", backend_names())


def _as_path(owner: object, name: str, *, optional: bool = True) -> None:
    value = getattr(owner, name)
    if value is None and optional:
        return
    check(isinstance(value, (str, PathLike)), owner, name, "a path" + (" or None" if optional else ""))
    object.__setattr__(owner, name, Path(value))


def draw_seed(subsample_seed: int | None, *, sequential: bool) -> int | None:
    """Seed of every draw of a training; None where each run is to draw differently.

    ``subsample_seed``; without one, ``sequential_sampling`` still asks for a run that can be repeated.
    """
    return 0 if subsample_seed is None and sequential else subsample_seed


def _model(owner: Any) -> None:
    check(isinstance(owner.model, ModelConfig), owner, "model", "a ModelConfig")


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the network and of the physics around it.

    ``amp_activation``, ``probe_big`` and ``pad_object`` belong to the architecture ``cnn``. ``probe_scale``
    is the scale in which the probe is kept; the scale that is fitted from the data takes it back, so that it
    does not change the result. ``reflections`` is this package's own: how many steps of a hybrid
    projection–reflection of exit waves, in which nothing is learnt, come before an unrolled network's own.
    """

    N: int = 64
    gridsize: int = 1
    n_filters_scale: int = 2
    model_type: str = "pinn"
    architecture: str = "cnn"
    amp_activation: str = "sigmoid"
    object_big: bool = True
    probe_big: bool = True
    probe_mask: bool = False
    pad_object: bool = True
    probe_scale: float = 4.0
    gaussian_smoothing_sigma: float = 0.0
    reflections: int = 0

    def __post_init__(self) -> None:
        pattern_size(self, "N")
        integer(self, "gridsize", 1)
        integer(self, "n_filters_scale", 1)
        one_of(self, "model_type", MODEL_TYPES)
        one_of(self, "architecture", ARCHITECTURES)
        one_of(self, "amp_activation", AMP_ACTIVATIONS)
        flags(self, "object_big", "probe_big", "probe_mask", "pad_object")
        real(self, "probe_scale", exclusive=True)
        real(self, "gaussian_smoothing_sigma")
        integer(self, "reflections", 0)
        check(self.reflections <= MOST_REFLECTIONS, self, "reflections", f"at most {MOST_REFLECTIONS}")
        if self.architecture == "cnn":
            sizes = ", ".join(map(str, CNN_SIZES))
            check(self.N in CNN_SIZES, self, "N", f"{sizes} with architecture = 'cnn', or 'unrolled'")
            allowed = "0 with architecture = 'cnn' (it applies to unrolled networks)"
            check(self.reflections == 0, self, "reflections", allowed)
        if self.is_unrolled:
            # its patches are complex and full-size from the start: nothing to activate, pad or fill up
            for name, default in (("amp_activation", "sigmoid"), ("probe_big", True), ("pad_object", True)):
                allowed = f"{default!r} with architecture = {self.architecture!r} (it applies to 'cnn' alone)"
                check(getattr(self, name) == default, self, name, allowed)

    @property
    def is_unrolled(self) -> bool:
        """Whether the network is steps of a solver with the probe, whatever corrects them."""
        return self.architecture != "cnn"

    @property
    def channels(self) -> int:
        """Patterns per group, C = gridsize²."""
        return self.gridsize**2


@dataclass(frozen=True)
class TrainingConfig:
    """What to train on, for how long, and with which objective.

    ``probe_modes`` is this package's own: the number of incoherent probe modes to model, more than the data's
    probe has if need be (None: as many as it has).

    ``realspace_aligned_weight`` is this package's own, too: the weight of the difference from a known object
    whose phase may be another in every patch, see :func:`.data.simulation.aligned_mae`.

    ``n_images`` is a deprecated name of ``n_groups``. What it is given becomes ``n_groups``, and it is None
    again afterwards, so that :func:`dataclasses.replace` can change ``n_groups`` and needs no warning for
    what has been warned of. ``n_groups`` itself is never None: it is then :data:`DEFAULT_N_GROUPS`.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    train_data_file: Path | None = None
    test_data_file: Path | None = None
    batch_size: int = 16
    nepochs: int = 50
    mae_weight: float = 0.0
    nll_weight: float = 1.0
    realspace_mae_weight: float = 0.0
    realspace_weight: float = 0.0
    realspace_aligned_weight: float = 0.0
    nphotons: float = 1e9
    n_groups: int | None = None
    n_images: int | None = None
    n_subsample: int | None = None
    subsample_seed: int | None = None
    neighbor_count: int = 4
    positions_provided: bool = True
    probe_trainable: bool = False
    probe_modes: int | None = None
    intensity_scale_trainable: bool = True
    output_dir: Path = Path("training_outputs")
    sequential_sampling: bool = False
    backend: str = "tensorflow"

    def __post_init__(self) -> None:
        _model(self)
        _as_path(self, "train_data_file")
        _as_path(self, "test_data_file")
        _as_path(self, "output_dir", optional=False)
        if self.n_images is not None:
            integer(self, "n_images", 1)
            warnings.warn(
                "TrainingConfig.n_images is deprecated: use n_groups.", DeprecationWarning, stacklevel=3
            )
            # the default counts as not set: dataclasses.replace passes on the one that None has become
            if self.n_groups not in (None, DEFAULT_N_GROUPS, self.n_images):
                raise ValueError(
                    f"TrainingConfig.n_images = {self.n_images} contradicts n_groups = {self.n_groups}: "
                    "set n_groups alone."
                )
            object.__setattr__(self, "n_groups", self.n_images)
            object.__setattr__(self, "n_images", None)
        if self.n_groups is None:
            object.__setattr__(self, "n_groups", DEFAULT_N_GROUPS)
        integer(self, "batch_size", 1)
        integer(self, "nepochs", 1)
        for name in ("mae_weight", "nll_weight", "realspace_weight", *_OBJECT_WEIGHTS):
            real(self, name)
        real(self, "nphotons", exclusive=True)
        integer(self, "n_groups", 1)
        integer(self, "n_subsample", 1, optional=True)
        integer(self, "subsample_seed", 0, optional=True)
        integer(self, "neighbor_count", 1)
        integer(self, "probe_modes", 1, optional=True)
        flags(
            self, "positions_provided", "probe_trainable", "intensity_scale_trainable", "sequential_sampling"
        )
        _backend(self)
        check(self.positions_provided, self, "positions_provided", "True: patches are stitched by position")
        if self.model.model_type == "supervised":
            allowed = "a number > 0 with model_type = 'supervised'"
            check(self.realspace_mae_weight > 0, self, "realspace_mae_weight", allowed)
        if self.mae_weight == self.nll_weight == 0.0 and not self.needs_object:
            raise ValueError(
                "TrainingConfig has nothing to learn from: set nll_weight, mae_weight, "
                "realspace_mae_weight or realspace_aligned_weight above 0."
            )

    @property
    def needs_object(self) -> bool:
        """Whether the objective compares patches with a known object, which the data then have to hold."""
        return any(getattr(self, name) > 0 for name in _OBJECT_WEIGHTS)

    @property
    def seed(self) -> int | None:
        """Seed of every draw of a training, see :func:`draw_seed`."""
        return draw_seed(self.subsample_seed, sequential=self.sequential_sampling)


@dataclass(frozen=True)
class InferenceConfig:
    """Which model to apply to which data."""

    model: ModelConfig = field(default_factory=ModelConfig)
    model_path: Path | None = None
    test_data_file: Path | None = None
    n_groups: int | None = None
    n_subsample: int | None = None
    subsample_seed: int | None = None
    neighbor_count: int = 4
    debug: bool = False
    output_dir: Path = Path("inference_outputs")
    backend: str = "tensorflow"

    def __post_init__(self) -> None:
        _model(self)
        _as_path(self, "model_path")
        _as_path(self, "test_data_file")
        _as_path(self, "output_dir", optional=False)
        integer(self, "n_groups", 1, optional=True)
        integer(self, "n_subsample", 1, optional=True)
        integer(self, "subsample_seed", 0, optional=True)
        integer(self, "neighbor_count", 1)
        flags(self, "debug")
        _backend(self)


@dataclass(frozen=True)
class ExecutionConfig:
    """Run-time knobs of an engine; never part of the canonical configuration or of a model's identity.

    ``accelerator``, ``devices``, ``precision``, ``inference_batch_size`` and the knobs of the loaders apply
    to inference; these, and all others, to training. ``devices`` of each of ``num_nodes`` machines train one
    model together, each with its part of every batch: ``batch_size`` is that of all. A model is applied on
    the ``devices`` of one machine, each of which has other batches.
    """

    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"
    precision: str = "32-true"
    deterministic: bool = False
    gradient_clip_val: float | None = None
    accum_steps: int = 1
    num_workers: int = 0
    pin_memory: bool = False
    persistent_workers: bool = False
    prefetch_factor: int | None = None
    learning_rate: float = 1e-3
    scheduler: str = "plateau"
    enable_progress_bar: bool = False
    enable_checkpointing: bool = True
    checkpoint_save_top_k: int = 1
    checkpoint_monitor_metric: str = "val_loss"
    checkpoint_mode: str = "min"
    early_stop_patience: int = 100
    logger_backend: str = "csv"
    inference_batch_size: int | None = None

    def __post_init__(self) -> None:
        one_of(self, "accelerator", ACCELERATORS)
        for name in ("devices", "num_nodes", "accum_steps"):
            integer(self, name, 1)
        check(isinstance(self.strategy, str) and bool(self.strategy), self, "strategy", "a strategy name")
        one_of(self, "precision", PRECISIONS)
        real(self, "gradient_clip_val", exclusive=True, optional=True)
        integer(self, "num_workers", 0)
        flags(
            self,
            "deterministic",
            "pin_memory",
            "persistent_workers",
            "enable_progress_bar",
            "enable_checkpointing",
        )
        if self.persistent_workers and self.num_workers == 0:
            check(False, self, "persistent_workers", "False while num_workers is 0")
        integer(self, "prefetch_factor", 1, optional=True)
        if self.prefetch_factor is not None and self.num_workers == 0:
            check(False, self, "prefetch_factor", "None while num_workers is 0")
        real(self, "learning_rate", exclusive=True)
        one_of(self, "scheduler", SCHEDULERS)
        integer(self, "checkpoint_save_top_k", 1)
        one_of(self, "checkpoint_monitor_metric", ("val_loss", "train_loss"))
        one_of(self, "checkpoint_mode", ("min", "max"))
        integer(self, "early_stop_patience", 1)
        one_of(self, "logger_backend", LOGGER_BACKENDS)
        integer(self, "inference_batch_size", 1, optional=True)


@dataclass(frozen=True)
class DataConfig:
    """Statistics of the training data, frozen into the model and reused unchanged at inference.

    Attributes
    ----------
    N, gridsize
        Pattern size in pixels; groups are of gridsize² patterns.
    probe_modes
        Number of incoherent probe modes.
    input_scale
        Network input is measured amplitude times this: ``sqrt((N/2)² / mean Σ|amplitude|²)``.
    photons_per_pattern
        Mean of Σ counts over the training patterns.
    any_probe
        The model is for any probe, as pretraining makes them: where it is applied, the scan's own probe and
        statistics take the place of these.
    """

    N: int = 64
    gridsize: int = 1
    probe_modes: int = 1
    input_scale: float = 1.0
    photons_per_pattern: float = 1e9
    any_probe: bool = False

    def __post_init__(self) -> None:
        pattern_size(self, "N")
        integer(self, "gridsize", 1)
        integer(self, "probe_modes", 1)
        real(self, "input_scale", exclusive=True)
        real(self, "photons_per_pattern", exclusive=True)
        flags(self, "any_probe")


def to_dict(config: object) -> dict[str, Any]:
    """Nested plain dictionary of JSON types (paths become strings)."""
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise TypeError(f"Expected a configuration object, got {config!r}.")

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return to_dict(value)
        return str(value) if isinstance(value, Path) else value

    # a deprecated alias that was merged into its successor is not written again
    names = [f.name for f in dataclasses.fields(config) if f.name != "n_images"]
    return {name: plain(getattr(config, name)) for name in names}


class UnknownFieldError(ValueError):
    """A configuration from a file has a field that this version does not know.

    Attributes
    ----------
    fields
        The field, or the fields, for people: ``TrainingConfig.'name'``.
    """

    def __init__(self, owner: str, names: Sequence[str]) -> None:
        self.fields = ", ".join(f"{owner}.{name!r}" for name in names)[:100]  # a file may name anything
        super().__init__(
            f"{owner} has no field {', '.join(map(repr, names))[:100]} in version {own_version()} of this "
            "package. If a newer one wrote it, upgrade with: pip install --upgrade ptychopinn-ptychodus"
        )


def from_dict(cls: type[_C], values: Mapping[str, Any]) -> _C:
    """Inverse of :func:`to_dict`.

    Raises
    ------
    UnknownFieldError
        For a field that this version does not know.
    ValueError, TypeError
        For a value that is not allowed.
    """
    hints = typing.get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise UnknownFieldError(cls.__name__, unknown)
    return cls(**{name: _restore(hints[name], value) for name, value in values.items()})


def _restore(hint: Any, value: Any) -> Any:
    if isinstance(value, Mapping) and dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type[Any], hint), value)
    members = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    # JSON and .ini files write 1e9 as an integer where it is one
    if float in members and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value
