"""Where a training begins: anew, from a model, or where an earlier one was interrupted; and what it keeps."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import ExecutionConfig, ModelConfig, TrainingConfig
from ..data.container import PtychoDataContainer
from .any_probe import fits_size
from .base import Beginning, ModelFileError, ModelState, TrainingState
from .physics import InitialPhysics, initial_physics
from .training_state import fingerprint, require_same, write_state

logger = logging.getLogger(__name__)

_SHARE = 20
"""States are written so seldom that all of them together take one part in so many of the time."""

_ALIKE = 0.7
"""Overlap of two probes' far fields below which they are different beams; of one beam it is above 0.9."""

_OF_THE_NETWORK = (
    "architecture",
    "gridsize",
    "n_filters_scale",
    "amp_activation",
    "object_big",
    "probe_big",
    "pad_object",
    "reflections",
)
"""Fields of a ModelConfig that make a network another one, or have it give other patches."""


# ---- from a model -----------------------------------------------------------------------------------------


def own_probe(model: ModelState) -> NDArray[np.complex64] | None:
    """The probe that a model has learnt, (modes, N, N), in its own scale; None if it is for any probe."""
    if model.description.data.any_probe:
        return None
    planes = np.asarray(model.arrays["probe_planes"], np.float32)
    return np.asarray(planes[..., 0] + 1j * planes[..., 1], np.complex64)


def require_same_network(model: ModelState, wanted: ModelConfig) -> None:
    """Raise :class:`.ModelFileError` unless a training of ``wanted`` can begin with ``model``.

    The message names every field that differs.
    """
    own = model.description.model
    different = [
        f"ModelConfig.{name} = {getattr(wanted, name)!r} is {getattr(own, name)!r} in the model."
        for name in _OF_THE_NETWORK
        if getattr(wanted, name) != getattr(own, name)
    ]
    if not fits_size(own, model.description.data, wanted.N):
        different.append(f"The data have N = {wanted.N}, and the model was trained for N = {own.N}.")
    if different:
        raise ModelFileError(
            f"The training cannot begin with the model, which has another network. {' '.join(different)} "
            "Set what the model has, choose another model, or begin with a fresh network."
        )


def begun(
    model: ModelState, container: PtychoDataContainer, config: TrainingConfig
) -> tuple[InitialPhysics, dict[str, NDArray[Any]]]:
    """Physics and arrays of the network with which a training on ``container`` begins.

    Statistics, scale and bad pixels are those of the data, as for a fresh model. The probe is the one that
    the model has learnt, scaled to the data. It is that of the data where the model has none, being for any
    probe, or where the data have several.

    Raises
    ------
    ModelFileError
        If the model has another network.
    """
    require_same_network(model, config.model)
    probe = own_probe(model)
    if probe is not None and container.probes is None:
        _compare(probe, container.probe)
        container = dataclasses.replace(container, probe=probe)
    network = {name: array for name, array in model.arrays.items() if name.startswith("network.")}
    return initial_physics(container, config), network


def _compare(learnt: NDArray[np.complex64], given: NDArray[np.complex64]) -> None:
    """A warning if the probe of a model can hardly be that of a scan."""
    far = [np.sqrt((np.abs(np.fft.fft2(p.astype(np.complex128))) ** 2).sum(0)) for p in (learnt, given)]
    norms = [float(np.linalg.norm(field)) for field in far]
    if not all(norms):
        return
    overlap = float((far[0] * far[1]).sum()) / (norms[0] * norms[1])
    if overlap < _ALIKE:
        logger.warning(
            "The probe that the model has learnt differs much from the scan's (their far fields overlap by "
            "%.2f, where 1 is the same): training begins with the model's all the same. If the beam is "
            "another one, begin with a pretrained model, which takes the scan's probe, or with a fresh "
            "network.",
            overlap,
        )


# ---- where one was interrupted ----------------------------------------------------------------------------


class Course:
    """One training from its beginning on: what it begins with, and its state after each epoch.

    Parameters
    ----------
    beginning
        As :meth:`.Engine.train` was given it; None stands for a fresh network, and nothing is kept.
    engine
        The engine's name.

    Raises
    ------
    ValueError
        If the training to go on with is another one; the message says in what.

    Attributes
    ----------
    state
        Where to go on from; None if this is a beginning.
    is_kept
        Whether :meth:`keep` keeps anything.
    """

    def __init__(
        self,
        beginning: Beginning | None,
        engine: str,
        train: PtychoDataContainer,
        validation: PtychoDataContainer | None,
        config: TrainingConfig,
        execution: ExecutionConfig,
    ) -> None:
        beginning = beginning or Beginning()
        self.state = beginning.state
        self._model = None if self.state is not None else beginning.model
        self._path = beginning.kept
        self._asked = (engine, config, execution)
        # one whose draws cannot be repeated has other groups each time; several processes have several states
        alone = execution.devices == execution.num_nodes == 1
        self.is_kept = self._path is not None and config.seed is not None and alone
        self._data = fingerprint(train, validation) if self.is_kept or self.state is not None else ""
        self._written_at, self._took = -float("inf"), 0.0
        self._failed = False
        if self.state is not None:
            if not alone:
                raise ValueError(
                    "A training can be resumed on one device only: set ExecutionConfig.devices and num_nodes "
                    "to 1, or train without resuming."
                )
            require_same(self.state, engine, config, execution, self._data, self._path)
            logger.info("Going on after epoch %d of %d.", self.state.epochs, config.nepochs)

    def physics(
        self, container: PtychoDataContainer, config: TrainingConfig
    ) -> tuple[InitialPhysics, dict[str, NDArray[Any]]]:
        """Physics to begin with, and arrays of the network by name, of which there are none if it is fresh.

        Raises
        ------
        ValueError
            If data, configuration and model do not fit each other.
        """
        if self._model is None:
            return initial_physics(container, config), {}
        return begun(self._model, container, config)

    def starts(self) -> None:
        """Remove what an earlier training has left to go on with, unless it is this one that goes on."""
        if self._path is not None and self.state is None:
            self._path.unlink(missing_ok=True)

    def keep(
        self,
        history: Mapping[str, list[float]],
        seconds: float,
        patterns: int,
        values: Mapping[str, Any],
        arrays: Mapping[str, NDArray[Any]],
    ) -> None:
        """Keep the state after an epoch; what cannot be written is a warning, and the first of the run.

        Its fields are those of :class:`.TrainingState`.
        """
        if self._path is None or not self.is_due:
            return
        engine, config, execution = self._asked
        copied = {name: list(losses) for name, losses in history.items()}
        state = TrainingState(
            engine, config, execution, self._data, copied, seconds, patterns, values, arrays
        )
        begin = time.monotonic()
        try:
            write_state(state, self._path)
        except OSError as exc:
            if not self._failed:
                logger.warning(
                    "The state of the training was not kept in %s (%s): it goes on, but if it is interrupted "
                    "it can be resumed from an earlier epoch at best.",
                    self._path,
                    exc.strerror,
                )
            self._failed = True
        self._written_at = time.monotonic()
        self._took = self._written_at - begin

    @property
    def is_due(self) -> bool:
        """Whether :meth:`keep` would write a state now."""
        return self.is_kept and time.monotonic() - self._written_at >= (_SHARE - 1) * self._took

    def over(self) -> None:
        """The training is complete, and its model written: there is nothing to go on with any more."""
        if self._path is None:
            return
        self._path.unlink(missing_ok=True)
        if self._path.parent.is_dir() and not any(self._path.parent.iterdir()):
            self._path.parent.rmdir()
