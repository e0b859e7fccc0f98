"""A training and a reconstruction as they were asked for.

Each becomes a configuration in the worker, once what was left open is known: from the data of a training, and
from the model that a reconstruction applies.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..config import (
    InferenceConfig,
    ModelConfig,
    TrainingConfig,
    UnknownFieldError,
    draw_seed,
    to_dict,
)

Configuration = type[ModelConfig | TrainingConfig | InferenceConfig]

_OF_THE_DATA = ("N", "model", "nphotons")

ENOUGH_GROUPS = 1000
"""Groups of an epoch that are enough for a learnt solver: it learns steps, and not the scan."""


def automatic_groups(patterns: int, model: ModelConfig, *, sequential: bool) -> int:
    """What the setting ``NumGroups`` stands for where it is not set, for a scan of so many patterns.

    One group per pattern, but no more than :data:`ENOUGH_GROUPS` for ``unrolled`` of either kind, so that the
    time of a training does not grow with the scan. Not where groups have no overlap (gridsize 1), nor where
    they would be the first ones of the scan alone (``sequential``).
    """
    if not model.is_unrolled or model.channels == 1 or sequential:
        return patterns
    return min(patterns, ENOUGH_GROUPS)


def neighbor_count(setting: int | None, gridsize: int) -> int:
    """What the setting ``NeighborCount`` stands for; where it is not set, a little more than a group needs.

    Raises
    ------
    ValueError
        If it is too small for ``gridsize``.
    """
    if setting is None:
        return gridsize**2 + 2  # so that groups differ
    if setting < gridsize**2 - 1:
        raise ValueError(
            f"The setting PtychoPINNPluginData.NeighborCount = {setting} is not valid: groups of "
            f"GridSize² = {gridsize**2} patterns need at least {gridsize**2 - 1} neighbours to "
            "choose from; 0 leaves it to the plugin."
        )
    return setting


def _require_known(config: Configuration, names: Iterable[str]) -> None:
    unknown = sorted(set(names) - {known.name for known in fields(config)})
    if unknown:
        raise UnknownFieldError(config.__name__, unknown)


@dataclass(frozen=True)
class TrainingRequest:
    """What somebody has decided about a training; what only the data know is not in it.

    The worker makes the :class:`.TrainingConfig` of it, with :meth:`complete`, when it has seen the data.

    Attributes
    ----------
    model
        Fields of :class:`.ModelConfig`, ``N`` excepted.
    training
        Fields of :class:`.TrainingConfig`, ``model`` and ``nphotons`` excepted. If ``n_groups`` or
        ``probe_modes`` is None or missing, it is left to the data.

    Raises
    ------
    UnknownFieldError
        If a field is among them that this version does not know.
    ValueError
        If a field is among them that the data decide on.
    """

    model: dict[str, Any]
    training: dict[str, Any]

    def __post_init__(self) -> None:
        _require_known(ModelConfig, self.model)
        _require_known(TrainingConfig, self.training)
        decided = [name for name in _OF_THE_DATA if name in self.model or name in self.training]
        if decided:
            raise ValueError(f"The data decide on {', '.join(decided)}: a request cannot.")

    @classmethod
    def of(cls, config: TrainingConfig, **changes: Any) -> TrainingRequest:
        """What a whole configuration asks for, with ``changes`` in fields of :class:`.TrainingConfig`."""
        training = to_dict(config)
        model = training["model"]
        for name in _OF_THE_DATA:
            training.pop(name, None)
            model.pop(name, None)
        return cls(model, {**training, **changes})

    def check(self) -> None:
        """Raise the ``ValueError`` that the configuration would, before there are data to make it for."""
        self.complete(64)  # N is of the data: 64 is right for every architecture

    def complete(self, N: int, **known: Any) -> TrainingConfig:
        """The configuration of the training.

        Parameters
        ----------
        N
            Edge of a pattern, pixels.
        known
            Fields of :class:`.TrainingConfig` that the data decide on.
        """
        return TrainingConfig(model=ModelConfig(N=N, **self.model), **{**self.training, **known})

    # ---- what is needed before there is a configuration

    @property
    def train_data_file(self) -> Path | None:
        """See :class:`.TrainingConfig`."""
        path = self.training.get("train_data_file")
        return None if path is None else Path(path)

    @property
    def backend(self) -> str:
        """See :class:`.TrainingConfig`."""
        return str(self.training.get("backend", TrainingConfig.backend))

    @property
    def model_type(self) -> str:
        """See :class:`.ModelConfig`."""
        return str(self.model.get("model_type", ModelConfig.model_type))

    @property
    def channels(self) -> int:
        """Patterns per group, gridsize²."""
        return int(self.model.get("gridsize", ModelConfig.gridsize)) ** 2

    def automatic_groups(self, patterns: int) -> int:
        """See :func:`automatic_groups`."""
        sequential = self.training.get("sequential_sampling", TrainingConfig.sequential_sampling)
        return automatic_groups(patterns, ModelConfig(**self.model), sequential=sequential)

    @property
    def n_subsample(self) -> int | None:
        """See :class:`.TrainingConfig`."""
        return self.training.get("n_subsample")

    @property
    def seed(self) -> int | None:
        """See :attr:`.TrainingConfig.seed`."""
        return draw_seed(
            self.training.get("subsample_seed"),
            sequential=self.training.get("sequential_sampling", TrainingConfig.sequential_sampling),
        )


@dataclass(frozen=True)
class ReconstructionRequest:
    """What somebody has decided about the application of a model; what only the model knows is not in it.

    The worker makes the :class:`.InferenceConfig` of it, with :meth:`complete`, when it has read the model.

    Attributes
    ----------
    model_path
        File of the model.
    inference
        Fields of :class:`.InferenceConfig`, ``model`` and ``model_path`` excepted. If ``neighbor_count`` is
        None or missing, it is left to the model.
    model
        Fields of :class:`.ModelConfig` that the model must have, see :func:`.require_as_asked`. Empty if
        whatever is in the file will do.

    Raises
    ------
    UnknownFieldError
        If a field is among them that this version does not know.
    """

    model_path: Path
    inference: dict[str, Any]
    model: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "model_path", Path(self.model_path))
        _require_known(InferenceConfig, self.inference)
        _require_known(ModelConfig, self.model)

    @classmethod
    def of(cls, config: InferenceConfig, model_path: Path) -> ReconstructionRequest:
        """What a whole configuration asks for: what is not at its default in it."""
        unset = to_dict(InferenceConfig())
        inference = {name: value for name, value in to_dict(config).items() if value != unset[name]}
        inference.pop("model_path", None)
        return cls(model_path, inference, model=inference.pop("model", {}))

    def check(self) -> None:
        """Raise the ``ValueError`` that the configuration of any model would, before there is a model."""
        self.complete(ModelConfig())

    def complete(self, model: ModelConfig) -> InferenceConfig:
        """The configuration of the reconstruction, with what was asked for or else ``model``, the file's.

        Raises
        ------
        ValueError
            If a value is not allowed, or ``neighbor_count`` is too small for the groups of ``model``.
        """
        neighbors = neighbor_count(self.inference.get("neighbor_count"), model.gridsize)
        return InferenceConfig(
            model=ModelConfig(**self.model) if self.model else model,
            model_path=self.model_path,
            **{**self.inference, "neighbor_count": neighbors},
        )

    # ---- what is needed before there is a configuration

    @property
    def backend(self) -> str:
        """See :class:`.InferenceConfig`."""
        return str(self.inference.get("backend", InferenceConfig.backend))
