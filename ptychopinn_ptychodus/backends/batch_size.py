"""How many groups a network is applied to at once, and what is said where they do not fit into the memory."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from ..config import ExecutionConfig, TrainingConfig
from ..data.container import PtychoDataContainer
from .base import OnProgress
from .hyperparameters import PATTERNS_PER_BATCH

logger = logging.getLogger(__name__)

_R = TypeVar("_R")


def groups_per_batch(container: PtychoDataContainer, kind: str) -> int:
    """The engine's choice for a device of the ``kind`` ``"cpu"`` or ``"gpu"``, at least 1."""
    return max(1, PATTERNS_PER_BATCH[kind] * 64 // (container.N * container.gridsize**2))


def forwards(on_progress: OnProgress | None) -> OnProgress:
    """Reports fractions to ``on_progress`` that never fall, as those of a second attempt would."""
    furthest = 0.0

    def tell(fraction: float) -> None:
        nonlocal furthest
        furthest = max(furthest, fraction)
        if on_progress is not None:
            on_progress(furthest)

    return tell


def in_batches_that_fit(
    apply: Callable[[int], _R],
    container: PtychoDataContainer,
    execution: ExecutionConfig,
    kind: str,
    out_of_memory: type[Exception],
) -> _R:
    """``apply(groups)`` with ``inference_batch_size`` groups a batch, or with as many as are found to fit.

    Parameters
    ----------
    apply
        Goes over ``container`` in batches of that size.
    kind
        Of the device, ``"cpu"`` or ``"gpu"``.
    out_of_memory
        What ``apply`` raises if the device has too little memory.

    Raises
    ------
    RuntimeError
        If even single groups are too large, or those that were asked for.
    """
    size = execution.inference_batch_size or groups_per_batch(container, kind)
    while True:
        try:
            return apply(size)
        except out_of_memory as exc:
            if size == 1 or execution.inference_batch_size is not None:
                raise RuntimeError(
                    f"The device ran out of memory with batches of {size}, in groups of "
                    f"{container.gridsize**2} patterns: " + _remedy(size, kind)
                ) from exc
        # out here, nothing holds what filled the memory
        logger.warning(
            "The device ran out of memory with %d groups at once: starting again with %d. To start with a "
            "number of your own, set inference_batch_size (PtychoPINNPluginInference.BatchSize).",
            size,
            size // 2,
        )
        size //= 2


def out_of_memory_in_training(config: TrainingConfig) -> RuntimeError:
    """The error for a device that ran out of memory while training."""
    return RuntimeError(
        f"The device ran out of memory while training: lower batch_size (now {config.batch_size}) or "
        f"n_filters_scale (now {config.model.n_filters_scale})."
    )


def _remedy(size: int, kind: str) -> str:
    if size > 1:
        return "lower inference_batch_size (PtychoPINNPluginInference.BatchSize), or set it to automatic."
    return "close other programs." if kind == "cpu" else "use the CPU."
