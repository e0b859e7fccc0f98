"""Grouped data handed over as a plain mapping, the way that scripts and notebooks do it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..config import SUPPORTED_N
from .grouping import PtychoDataContainer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class MappedGroups(PtychoDataContainer):
    """Groups whose object patches, if known, were given and need not be cut from an object.

    ``object_stack`` is (B, N, N, C) complex64, or None. Where not ``located``, the centres of the groups are
    not known (all are 0), and nothing can be stitched.
    """

    object_stack: NDArray[np.complex64] | None = None
    located: bool = True

    @property
    def Y(self) -> NDArray[np.complex64] | None:
        return self.object_stack

    def patches_for(self, indices: ArrayLike | slice) -> NDArray[np.complex64]:
        if self.object_stack is None:
            raise ValueError("The mapping holds no object patches: add 'Y', (B, N, N, C) complex.")
        return self.object_stack[indices if isinstance(indices, slice) else np.asarray(indices)]


def groups_from_mapping(data: Mapping[str, Any]) -> MappedGroups:
    """Grouped data from ``X`` and ``coords_relative``, and whatever else the mapping holds.

    Parameters
    ----------
    data
        ``X`` (B, N, N, C) amplitudes and ``coords_relative`` (B, 1, 2, C) [x, y] pixels; optionally ``Y``
        (B, N, N, C) complex object patches, ``coords_offsets`` (B, 1, 2, 1), ``probe`` (N, N) or
        (modes, N, N) complex (an idealised disk where missing), ``bad_pixels`` (N, N) and
        ``photons_per_pattern`` (unknown where missing: ``TrainingConfig.nphotons`` then says it).

    Raises
    ------
    ValueError
        If an array is missing, misshapen, not finite or negative; the message names it.
    """
    missing = [key for key in ("X", "coords_relative") if data.get(key) is None]
    if missing:
        raise ValueError(
            f"The mapping lacks {' and '.join(map(repr, missing))}: give 'X' (B, N, N, C) amplitudes and "
            "'coords_relative' (B, 1, 2, C) pixels."
        )
    x = np.asarray(data["X"], np.float32)
    if x.ndim != 4 or x.shape[1] != x.shape[2] or x.shape[1] not in SUPPORTED_N or not x.size:
        raise ValueError(f"'X' has shape {x.shape}: use (B, N, N, C) with N one of {SUPPORTED_N}.")
    if not np.isfinite(x).all() or x.min() < 0:
        raise ValueError("'X' holds NaN, infinite or negative values: amplitudes are finite and >= 0.")
    groups, size, _, channels = x.shape
    if round(channels**0.5) ** 2 != channels:
        raise ValueError(f"'X' has {channels} channels: use gridsize² of them.")
    relative = _array(data, "coords_relative", (groups, 1, 2, channels), np.float32)
    offsets = (
        np.zeros((groups, 1, 2, 1))
        if data.get("coords_offsets") is None
        else _array(data, "coords_offsets", (groups, 1, 2, 1), np.float64)
    )
    stack = None if data.get("Y") is None else _array(data, "Y", x.shape, np.complex64)
    probe = data.get("probe")
    if probe is None:
        logger.warning("The mapping holds no 'probe': an idealised disk of radius N/4 is assumed.")
        axis = np.arange(size) - (size - 1) / 2
        probe = (axis[:, None] ** 2 + axis**2 <= (size / 4) ** 2).astype(np.complex64)
    modes = np.asarray(probe, np.complex64).reshape(-1, *np.shape(probe)[-2:])
    if modes.shape[1:] != (size, size) or not np.isfinite(modes).all() or not modes.any():
        raise ValueError(
            f"'probe' has shape {np.shape(probe)}: use (modes, {size}, {size}), finite and not 0."
        )
    bad = data.get("bad_pixels")
    photons = data.get("photons_per_pattern")
    absolute = (relative + offsets)[:, 0].transpose(0, 2, 1)
    return MappedGroups(
        amplitude=np.ascontiguousarray(np.moveaxis(x, -1, 1)).reshape(-1, size, size),
        nn_indices=np.arange(groups * channels).reshape(groups, channels),
        coords_offsets=offsets,
        coords_relative=relative,
        coords=absolute.reshape(-1, 2).astype(np.float64),
        probe=modes,
        bad_pixels=np.zeros((size, size), bool)
        if bad is None
        else _array(data, "bad_pixels", (size, size), bool),
        photons_per_pattern=None if photons is None else float(photons),
        object_stack=stack,
        located=data.get("coords_offsets") is not None,
    )


def _array(data: Mapping[str, Any], key: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    value = np.asarray(data[key])
    if value.shape != shape:
        raise ValueError(f"{key!r} has shape {value.shape}: use {shape} to match 'X'.")
    if not np.isfinite(value).all():
        raise ValueError(f"{key!r} holds NaN or infinite values.")
    return value.astype(dtype)
