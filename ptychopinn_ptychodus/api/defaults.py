"""The configurations that the Python interface works with where it is given none: the plugin's defaults."""

from __future__ import annotations

from typing import Any

from ..backends.registry import available_engine
from ..config import ExecutionConfig, ModelConfig, TrainingConfig
from ..refinement import RefinementConfig
from ..settings_table import NORMAL, fields_of, fields_with_effort, known_object_weight
from ..worker.request import automatic_groups, neighbor_count
from .scans import Scan, read_scan


def default_training_config(scan: Scan, *, effort: str = NORMAL, **changes: Any) -> TrainingConfig:
    """The training that :func:`train` runs by itself: the plugin's defaults, with the first engine installed.

    The defaults of :class:`.TrainingConfig` itself are those of the PtychoPINN community, and differ.

    Parameters
    ----------
    scan
        What is to be trained on; it decides on N and on the number of groups.
    effort
        How long to train: ``"quick"``, ``"normal"`` or ``"thorough"``. It sets ``nepochs``, unless
        ``changes`` do.
    changes
        Fields of :class:`.TrainingConfig` that are to be different.

    Raises
    ------
    EngineUnavailableError
        If no framework is installed, and ``changes`` name no backend.
    ValueError
        If there is no such effort.

    Examples
    --------
    >>> config = default_training_config(scan, nepochs=2)
    >>> config.nepochs, config.n_groups, config.model.architecture
    (2, 36, 'unrolled')
    """
    raw = read_scan(scan, None)
    model = changes.pop("model", None) or ModelConfig(N=raw.N, **fields_of(ModelConfig))
    fields = fields_with_effort(TrainingConfig, effort)
    fields["neighbor_count"] = neighbor_count(fields["neighbor_count"], model.gridsize)
    fields["probe_modes"] = max(fields["probe_modes"] or 0, len(raw.probeGuess))
    fields["realspace_mae_weight"] = known_object_weight(fields["realspace_mae_weight"], model.model_type)
    if "backend" not in changes:
        fields["backend"] = available_engine().name
    sequential = changes.get("sequential_sampling", fields["sequential_sampling"])
    fields["n_groups"] = fields["n_groups"] or automatic_groups(len(raw), model, sequential=sequential)
    return TrainingConfig(model=model, **{**fields, **changes})


def default_execution_config(**changes: Any) -> ExecutionConfig:
    """Devices and optimiser of :func:`train` where it is given none: the plugin's defaults.

    Parameters
    ----------
    changes
        Fields of :class:`.ExecutionConfig` that are to be different.

    Examples
    --------
    >>> default_execution_config(accelerator="cpu").scheduler
    'one_cycle'
    """
    return ExecutionConfig(**{**fields_of(ExecutionConfig), **changes})


def default_refinement_config(*, effort: str = NORMAL, **changes: Any) -> RefinementConfig:
    """The refinement of :func:`reconstruct` and :func:`refine`, as long as an effort has it.

    Parameters
    ----------
    effort
        ``"quick"``, ``"normal"``, which is :class:`.RefinementConfig` itself, or ``"thorough"``. It sets
        ``epochs``, unless ``changes`` do.
    changes
        Fields of :class:`.RefinementConfig` that are to be different.

    Raises
    ------
    ValueError
        If there is no such effort.

    Examples
    --------
    >>> default_refinement_config(effort="thorough").epochs
    30
    """
    return RefinementConfig(**{**fields_with_effort(RefinementConfig, effort), **changes})
