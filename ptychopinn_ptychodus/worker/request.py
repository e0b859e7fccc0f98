"""A training as it was asked for, which becomes a configuration once there are data."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..config import SUPPORTED_N, ModelConfig, TrainingConfig, UnknownFieldError, draw_seed, to_dict

_OF_THE_DATA = ("N", "model", "nphotons")


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
        for config, values in ((ModelConfig, self.model), (TrainingConfig, self.training)):
            unknown = sorted(set(values) - {field.name for field in fields(config)})
            if unknown:
                raise UnknownFieldError(config.__name__, unknown)
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
        self.complete(SUPPORTED_N[0])

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
