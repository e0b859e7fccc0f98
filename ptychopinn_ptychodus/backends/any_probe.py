"""Models for any probe, given the physics of the scan that they are applied to."""

from __future__ import annotations

import dataclasses

import numpy as np

from ..config import DataConfig, ModelConfig
from ..data.container import PtychoDataContainer
from .base import ModelState
from .physics import initial_physics


def fits_size(model: ModelConfig, data: DataConfig, size: int) -> bool:
    """Whether a model of ``model`` and ``data`` can be applied to patterns of ``size`` pixels."""
    return size == model.N or (data.any_probe and model.architecture == "unrolled")


def adapted(state: ModelState, container: PtychoDataContainer) -> ModelState:
    """A model as it is to be applied to ``container``: unchanged, unless it is one for any probe.

    Only the network of a model for any probe is kept. Its probe, the scale of that, normalisation and bad
    pixels are replaced by those of the container, as if a fresh model were made for it. What the network sees
    is then the same whatever unit the patterns and the probe are in.

    A model that does not fit the container's N or gridsize is returned as it is, for :func:`.require_fit` to
    refuse.
    """
    description = state.description
    if not description.data.any_probe or not fits_size(description.model, description.data, container.N):
        return state
    if container.gridsize != description.model.gridsize:
        return state
    model = dataclasses.replace(description.model, N=container.N)
    training = dataclasses.replace(state.training, model=model, probe_modes=None)
    physics = initial_physics(container, training)
    own = {
        "probe_planes": physics.probe_planes,
        "log_scale": np.asarray(physics.log_scale, np.float32),
        "good_pixels": physics.good_pixels,
    }
    return ModelState(
        description=dataclasses.replace(
            description, model=model, data=dataclasses.replace(physics.data, any_probe=True)
        ),
        training=training,
        arrays={**state.arrays, **own},
    )
