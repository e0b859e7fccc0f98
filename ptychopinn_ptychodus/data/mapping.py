"""Grouped data handed over as a plain mapping, the way that scripts and notebooks do it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..pattern_sizes import IN_WORDS, SIZES
from .container import PtychoDataContainer
from .detector import fill_bad_pixels

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class MappedContainer(PtychoDataContainer):
    """Grouped data whose object patches, if known, were given and need not be cut from an object.

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

    def require_located(self) -> None:
        """Raise ``ValueError`` unless the mapping says where its groups lie."""
        if not self.located:
            raise ValueError(
                "The mapping does not say where its groups lie, so they cannot be stitched: add "
                "'coords_offsets', (B, 1, 2, 1) [x, y] pixels."
            )

    def subset(self, indices: ArrayLike) -> MappedContainer:
        """Some of the groups, (b,) numbers, with their own patterns alone: no pattern is in two groups."""
        chosen = np.asarray(indices)
        members = self.nn_indices[chosen].ravel()
        return dataclasses.replace(
            self,
            amplitude=self.amplitude[members],
            nn_indices=np.arange(members.size).reshape(len(chosen), -1),
            coords_offsets=self.coords_offsets[chosen],
            coords_relative=self.coords_relative[chosen],
            coords=self.coords[members],
            object_stack=None if self.object_stack is None else self.object_stack[chosen],
        )

    def _absent_keys(self) -> set[str]:
        absent = super()._absent_keys() | (set() if self.located else {"coords_offsets"})
        return absent if self.object_stack is None else absent - {"Y"}


def choose_groups(
    groups: int,
    channels: int,
    n_groups: int | None,
    n_subsample: int | None,
    *,
    seed: int | None,
    sequential: bool = False,
) -> NDArray[np.int64]:
    """Which groups of a mapping take part: its groups are made, so that they can be chosen, not drawn anew.

    Parameters
    ----------
    groups, channels
        Number of groups, and of patterns in each.
    n_groups
        At most so many groups; None for all.
    n_subsample
        At most so many patterns; since a group stays whole, ``n_subsample // channels`` groups. None for all.
    seed
        Seed of the choice; None chooses differently every time.
    sequential
        Choose the first groups instead of random ones.

    Returns
    -------
    ndarray
        (b,) numbers of groups, ascending.

    Raises
    ------
    ValueError
        If ``n_subsample`` patterns are less than one group.
    """
    if n_subsample is not None and n_subsample < channels:
        raise ValueError(
            f"n_subsample = {n_subsample} patterns are less than one group of the mapping, which "
            f"has {channels}: use n_subsample >= {channels}, or None for all."
        )
    limits = [groups, n_groups, None if n_subsample is None else n_subsample // channels]
    count = min(limit for limit in limits if limit is not None)
    if count == groups:
        return np.arange(groups)
    logger.info(
        "%d of the %d groups of the mapping take part (n_groups = %s, n_subsample = %s).",
        count,
        groups,
        n_groups,
        n_subsample,
    )
    if sequential:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).permutation(groups)[:count])


def container_from_mapping(data: Mapping[str, Any]) -> MappedContainer:
    """Grouped data from ``X`` and ``coords_relative``, and whatever else the mapping holds.

    Parameters
    ----------
    data
        ``X`` (or ``diffraction``) (B, N, N, C) amplitudes and ``coords_relative`` (B, 1, 2, C) [x, y]
        pixels; optionally ``Y`` (B, N, N, C) complex object patches, ``coords_offsets`` (B, 1, 2, 1),
        ``probe`` (N, N) or (modes, N, N) complex (an idealised disk where missing), ``bad_pixels`` (N, N) and
        ``photons_per_pattern`` (unknown where missing: ``TrainingConfig.nphotons`` then says it).

    Raises
    ------
    ValueError
        If an array is missing, misshapen, not finite or negative, or there is no light; the message names it.
    """
    if data.get("X") is None and data.get("diffraction") is not None:
        data = {**data, "X": data["diffraction"]}
    if data.get("probes") is not None:
        raise ValueError(
            "The mapping holds 'probes', of several scans: a mapping has one 'probe'. Hand over the grouped "
            "data themselves."
        )
    missing = [key for key in ("X", "coords_relative") if data.get(key) is None]
    if missing:
        raise ValueError(
            f"The mapping lacks {' and '.join(map(repr, missing))}: give 'X' (B, N, N, C) amplitudes and "
            "'coords_relative' (B, 1, 2, C) pixels."
        )
    given = np.asarray(data["X"])
    x = given.astype(np.float32)
    if x.ndim != 4 or x.shape[1] != x.shape[2] or x.shape[1] not in SIZES or not x.size:
        raise ValueError(f"'X' has shape {x.shape}: use (B, N, N, C), N {IN_WORDS}.")
    if not np.isfinite(x).all() or x.min() < 0:
        raise ValueError("'X' holds NaN, infinite or negative values: amplitudes are finite and >= 0.")
    if given.dtype.kind in "iu":
        logger.warning("'X' holds integers: they are counts, and their square root is taken as amplitude.")
        x = np.sqrt(x)
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
    modes = np.asarray(probe, np.complex64)
    if modes.ndim == 4 and len(modes):
        modes = modes[0]
    modes = modes[None] if modes.ndim == 2 else modes
    if modes.ndim != 3 or modes.shape[1:] != (size, size) or not np.isfinite(modes).all() or not modes.any():
        raise ValueError(
            f"'probe' has shape {np.shape(probe)}: use (modes, {size}, {size}), finite and not 0."
        )
    bad = data.get("bad_pixels")
    photons = data.get("photons_per_pattern")
    if photons is not None and not (np.isfinite(photons) and photons > 0):
        raise ValueError(f"'photons_per_pattern' is {photons}: use a finite number > 0, or leave it out.")
    bad_pixels = (
        np.zeros((size, size), bool) if bad is None else _array(data, "bad_pixels", (size, size), bool)
    )
    if bad_pixels.all():
        raise ValueError("'bad_pixels' covers the whole detector: True means bad; invert or repair the mask.")
    if not x[:, ~bad_pixels].any():
        raise ValueError(
            "'X' is zero everywhere: no pattern holds any light, so there is nothing to learn from. Check "
            "what was put into 'X': amplitudes, the square root of counts."
        )
    absolute = (relative + offsets)[:, 0].transpose(0, 2, 1)
    amplitude = np.ascontiguousarray(np.moveaxis(x, -1, 1)).reshape(-1, size, size)
    return MappedContainer(
        amplitude=fill_bad_pixels(amplitude, bad_pixels),
        nn_indices=np.arange(groups * channels).reshape(groups, channels),
        coords_offsets=offsets,
        coords_relative=relative,
        coords=absolute.reshape(-1, 2).astype(np.float64),
        probe=modes,
        bad_pixels=bad_pixels,
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
