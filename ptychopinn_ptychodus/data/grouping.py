"""Neighbour groups: which patterns the network sees together, and where they lie relative to each other."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterator, KeysView
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from .detector import mean_energy
from .examination.frames import sound_frames
from .interpolation import PatchCutter
from .scan import Scan

logger = logging.getLogger(__name__)

_NAMED = 3  # patterns that a message names at most
_Z_ORDER_BITS = 12
_SAME = 1e-6  # relative


_KEYS = {
    "X": "X",
    "diffraction": "diffraction",
    "Y": "Y",
    "coords_offsets": "coords_offsets",
    "coords_relative": "coords_relative",
    "nn_indices": "nn_indices",
    "probe": "probe",
    "probes": "probes",
    "probe_index": "probe_index",
    "objectGuess": "object_guess",
    "bad_pixels": "bad_pixels",
    "photons_per_pattern": "photons_per_pattern",
}
"""Attributes of grouped data by key."""


@dataclass(frozen=True, eq=False)
class PtychoDataContainer:
    """Grouped patterns: what an engine trains on or reconstructs.

    Answers by key too, as the plain mapping that scripts know: ``groups["diffraction"]``; see :meth:`keys`.

    Patterns are held once; groups are indices into them, so that B groups of C patterns do not cost B·C
    patterns of memory. M patterns, B groups, C = gridsize² channels. Channel c is (row, column) =
    (c // gridsize, c % gridsize); channel 0 is the group's anchor.

    Attributes
    ----------
    amplitude
        (M, N, N) float32, square root of counts, bad pixels filled; may be memory-mapped.
    nn_indices
        (B, C) int64, patterns of each group.
    coords_offsets
        (B, 1, 2, 1) float64, centre [x, y] of each group, object pixels.
    coords_relative
        (B, 1, 2, C) float32, position [x, y] minus the group's centre, object pixels.
    coords
        (M, 2) float64, absolute position [x, y] of every pattern, object pixels.
    probe
        (modes, N, N) complex64.
    bad_pixels
        (N, N) bool, True where the detector was not measured.
    photons_per_pattern
        Mean of Σ counts of whole patterns, or None where unknown.
    object_guess
        (H, W) complex64, or None.
    probes
        (K, modes, N, N) complex64 where patterns have one of several probes, as in pretraining, and
        :attr:`probe` is the first of them; None where it is that of all. Each is in the scale of its
        patterns: ``Σ|P|²`` is the mean over them of ``Σ|amplitude|²``, which is the same for all probes.
    probe_index
        (M,) int64, the probe of each pattern, the same for all of a group; None without :attr:`probes`.
    exposures
        (M,) float64, ``Σ|amplitude|²`` of each pattern as a whole, were the object's amplitude 1: what a
        pattern is normalised by. None where it is not known, and all patterns count as alike.
    """

    amplitude: NDArray[np.float32]
    nn_indices: NDArray[np.int64]
    coords_offsets: NDArray[np.float64]
    coords_relative: NDArray[np.float32]
    coords: NDArray[np.float64]
    probe: NDArray[np.complex64]
    bad_pixels: NDArray[np.bool_]
    photons_per_pattern: float | None = None
    object_guess: NDArray[np.complex64] | None = None
    probes: NDArray[np.complex64] | None = None
    probe_index: NDArray[np.int64] | None = None
    exposures: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        """Number of groups, B (not of keys: ``len(groups.keys())`` is that)."""
        return len(self.nn_indices)

    def __getitem__(self, key: str) -> Any:
        """The arrays by the names that scripts use; see :meth:`keys`.

        Raises
        ------
        KeyError
            If there is no such key; the message lists those that there are.
        """
        if key not in self:
            raise KeyError(f"Grouped data have no {key!r}: they have {', '.join(self)}.")
        return getattr(self, _KEYS[key])

    def __contains__(self, key: object) -> bool:
        return key in self.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def keys(self) -> KeysView[str]:
        """Names of what the data hold; what is unknown, such as ``Y`` without an object, is not among them.

        ``dict(groups)`` is a mapping that is accepted in the place of the groups.
        """
        absent = self._absent_keys()
        return {key: None for key in _KEYS if key not in absent}.keys()

    def values(self) -> Iterator[Any]:
        """What the data hold, in the order of :meth:`keys`, one at a time."""
        return (self[key] for key in self)

    def items(self) -> Iterator[tuple[str, Any]]:
        """Pairs of :meth:`keys` and :meth:`values`, one at a time."""
        return ((key, self[key]) for key in self)

    def get(self, key: str, default: Any = None) -> Any:
        """As ``groups[key]``, or ``default`` where there is no such key."""
        try:
            return self[key]
        except KeyError:
            return default

    def _absent_keys(self) -> set[str]:
        """Keys of what is not known here."""
        optional = ("probes", "probe_index", "objectGuess", "photons_per_pattern")
        absent = {key for key in optional if getattr(self, _KEYS[key]) is None}
        return absent if self.object_guess is not None else absent | {"Y"}

    @property
    def N(self) -> int:
        """Edge of a pattern, pixels."""
        return int(self.amplitude.shape[-1])

    @property
    def gridsize(self) -> int:
        """Square root of the number of patterns in a group."""
        return math.isqrt(self.nn_indices.shape[1])

    @property
    def diffraction(self) -> NDArray[np.float32]:
        """(B, N, N, C) float32 amplitude, materialised at every access: prefer :meth:`batch` in loops."""
        return np.ascontiguousarray(self.batch(slice(None)))

    @property
    def X(self) -> NDArray[np.float32]:
        """The same as :attr:`diffraction`, by the name that scripts use."""
        return self.diffraction

    @property
    def Y(self) -> NDArray[np.complex64] | None:
        """(B, N, N, C) complex64 patches of :attr:`object_guess`, materialised; None without one."""
        return None if self.object_guess is None else np.ascontiguousarray(self.patches_for(slice(None)))

    @cached_property
    def input_scale(self) -> float:
        """Factor from amplitude to network input, ``sqrt((N/2)² / mean over patterns of Σ|amplitude|²)``.

        The mean is that of :attr:`exposures`, as in ``photons_per_pattern``, else over good pixels of the
        patterns. Where the amplitude is √counts, a good pixel's count is therefore
        ``(amplitude · input_scale)² · photons_per_pattern / (N/2)²``, exactly.

        Raises
        ------
        ValueError
            If there is no light on any good pixel.
        """
        if self.exposures is not None:
            return 0.5 * self.N / math.sqrt(float(self.exposures.mean()))
        energy = mean_energy(self.amplitude, self.bad_pixels)
        if energy == 0.0:
            raise ValueError(
                "No pattern of the groups holds any light: there is nothing to learn from. Check what was "
                "selected (n_subsample, n_groups) and exported."
            )
        return 0.5 * self.N / math.sqrt(energy)

    def exposures_for(self, indices: ArrayLike | slice, input_scale: float) -> NDArray[np.float32] | None:
        """How bright some groups' patterns are to a model of ``input_scale``, (b, C) float32.

        1 is as bright as the mean of what the model was trained on. None where all patterns of the container
        are so, to single precision, or where that is not known.
        """
        if self.exposures is None:
            return None
        relative = self.exposures * (2.0 * input_scale / self.N) ** 2
        if np.abs(relative - 1.0).max() < _SAME:
            return None
        return relative[self._members(indices)].astype(np.float32)

    def normalised(self, indices: ArrayLike | slice, input_scale: float) -> NDArray[np.float32]:
        """What a model of ``input_scale`` sees of some groups: as :meth:`batch`, normalised.

        The amplitude times ``input_scale``, divided by the root of :meth:`exposures_for`.
        """
        amplitude = self.batch(indices) * np.float32(input_scale)
        relative = self.exposures_for(indices, input_scale)
        if relative is not None:
            amplitude /= np.sqrt(relative)[:, None, None]
        return amplitude

    def batch(self, indices: ArrayLike | slice) -> NDArray[np.float32]:
        """Amplitude of some groups.

        Parameters
        ----------
        indices
            (b,) group numbers, or a slice.

        Returns
        -------
        ndarray
            (b, N, N, C) float32: a channel-last view of freshly gathered, contiguous (b, C, N, N).
        """
        return np.moveaxis(self.amplitude[self._members(indices)], 1, -1)

    def probes_for(self, indices: ArrayLike | slice) -> NDArray[np.complex64]:
        """Probes of some groups, (b,) numbers or a slice: (b, modes, N, N), one of :attr:`probes` each.

        Raises
        ------
        ValueError
            If all groups have the same probe.
        """
        if self.probes is None or self.probe_index is None:
            raise ValueError("The container has one probe for all groups: use its attribute probe.")
        return self.probes[self.probe_index[self._members(indices)[:, 0]]]

    def subset(self, indices: ArrayLike) -> PtychoDataContainer:
        """Some of the groups, (b,) numbers, of the same patterns."""
        chosen = np.asarray(indices)
        return dataclasses.replace(
            self,
            nn_indices=self.nn_indices[chosen],
            coords_offsets=self.coords_offsets[chosen],
            coords_relative=self.coords_relative[chosen],
        )

    def patches_for(self, indices: ArrayLike | slice) -> NDArray[np.complex64]:
        """Object patches of some groups, cut by cubic splines from :attr:`object_guess`.

        Parameters
        ----------
        indices
            (b,) group numbers, or a slice.

        Returns
        -------
        ndarray
            (b, N, N, C) complex64: a channel-last view of contiguous (b, C, N, N).

        Raises
        ------
        ValueError
            If the container has no object guess.
        """
        members = self._members(indices)
        patches = self._cut_patches(*self.coords[members.ravel()].T)
        return np.moveaxis(patches.reshape(*members.shape, self.N, self.N), 1, -1)

    @cached_property
    def _cut_patches(self) -> PatchCutter:
        if self.object_guess is None:
            raise ValueError("The data hold no objectGuess to cut patches from: add it to the training data.")
        return PatchCutter(self.object_guess, self.N, order=3)

    def _members(self, indices: ArrayLike | slice) -> NDArray[np.int64]:
        return self.nn_indices[indices if isinstance(indices, slice) else np.asarray(indices)]


def nearest_to_grid(points: ArrayLike, pitch: float) -> NDArray[np.int64]:
    """Evenly spread ones among points: the one nearest to the middle of each cell of a square grid.

    Parameters
    ----------
    points
        (B, 2), any unit.
    pitch
        Edge of a cell, in the same unit, positive.

    Returns
    -------
    ndarray
        (b,) numbers of points, ascending.
    """
    places = np.asarray(points, dtype=np.float64) / pitch
    cells = np.round(places)
    order = np.argsort(np.hypot(*(places - cells).T), kind="stable")
    _, first = np.unique(cells[order], axis=0, return_index=True)
    return np.sort(order[first])


def neighbourhood_order(positions: ArrayLike) -> NDArray[np.int64]:
    """Indices of (M, 2) positions along a Z-order curve: what is near in it is near in the scan."""
    points = np.asarray(positions, dtype=np.float64)
    extent = np.maximum(np.ptp(points, axis=0).max(), 1e-9)
    cells = ((points - points.min(axis=0)) / extent * (2**_Z_ORDER_BITS - 1)).astype(np.int64)
    key = np.zeros(len(points), np.int64)
    for bit in range(_Z_ORDER_BITS):
        key |= ((cells[:, 0] >> bit) & 1) << (2 * bit) | ((cells[:, 1] >> bit) & 1) << (2 * bit + 1)
    return np.argsort(key, kind="stable")


def _draw_anchors(
    count: int, n_groups: int | None, rng: np.random.Generator, sequential: bool
) -> NDArray[np.int64]:
    if n_groups is None:
        return np.arange(count)
    rounds, rest = divmod(n_groups, count)
    remainder = np.arange(rest) if sequential else rng.permutation(count)[:rest]
    return np.concatenate([np.tile(np.arange(count), rounds), remainder])


def _nearest_others(
    coords: NDArray[np.float64], anchors: NDArray[np.int64], neighbor_count: int
) -> NDArray[np.int64]:
    """(B, neighbor_count) nearest patterns of each anchor, itself left out."""
    tree = cKDTree(coords)
    # every position is looked up once, however often it is an anchor
    unique, inverse = np.unique(anchors, return_inverse=True)
    _, near = tree.query(coords[unique], k=neighbor_count + 1)
    is_self = near == unique[:, None]
    # where more patterns than were asked for share one position, the anchor may not be among the answers
    is_self[~is_self.any(axis=1), -1] = True
    others: NDArray[np.int64] = near[~is_self].reshape(len(unique), neighbor_count)[inverse]
    return others


def _nearest_of_scan(
    coords: NDArray[np.float64], scan: NDArray[np.int64], anchors: NDArray[np.int64], neighbor_count: int
) -> NDArray[np.int64]:
    """As :func:`_nearest_others` within each anchor's own scan; -1 where that has no more patterns."""
    numbers, sizes = np.unique(scan, return_counts=True)
    near = np.full((len(anchors), min(neighbor_count, sizes.max() - 1)), -1)
    for number, size in zip(numbers, sizes, strict=True):
        members = np.flatnonzero(scan == number)
        own = scan[anchors] == number
        if own.any():
            places = np.searchsorted(members, anchors[own])
            others = _nearest_others(coords[members], places, min(neighbor_count, size - 1))
            near[own, : others.shape[1]] = members[others]
    return near


def group_neighbours(
    coords: ArrayLike,
    gridsize: int,
    neighbor_count: int,
    n_groups: int | None,
    *,
    seed: int | None,
    sequential: bool = False,
    scan_index: ArrayLike | None = None,
) -> NDArray[np.int64]:
    """Draw groups of neighbouring patterns.

    Each group is an anchor (channel 0) and ``gridsize² - 1`` of its ``neighbor_count`` nearest neighbours,
    drawn without replacement. All are of one scan.

    Parameters
    ----------
    coords
        (M, 2) positions, any unit.
    gridsize
        A group has gridsize² patterns; 1 needs no neighbours.
    neighbor_count
        Size of the neighbourhood to draw from, or as many as the scan has.
    n_groups
        None: every position is an anchor once, in order. At most M: that many distinct anchors. More:
        every position ``n_groups // M`` times and a remainder of distinct ones, each with its own draw.
    seed
        Seed of the draw; None draws differently every time, unless ``sequential``.
    sequential
        Take the first positions in order as anchors instead of random ones; the draw of their neighbours
        can then be repeated even without a seed.
    scan_index
        (M,) number of the scan that each position belongs to; None if they are of one scan.

    Returns
    -------
    ndarray
        (B, gridsize²) int64.

    Raises
    ------
    ValueError
        If a scan has fewer than gridsize² positions, or ``neighbor_count`` < gridsize² - 1, or a number is
        not positive.
    """
    positions = np.asarray(coords, dtype=np.float64)
    count, channels = len(positions), gridsize**2
    scan = np.zeros(count, np.int64) if scan_index is None else np.asarray(scan_index, dtype=np.int64)
    if gridsize < 1:
        raise ValueError(f"gridsize = {gridsize} is not valid: use an integer >= 1.")
    if n_groups is not None and n_groups < 1:
        raise ValueError(f"n_groups = {n_groups} is not valid: use an integer >= 1, or None for all.")
    numbers, sizes = np.unique(scan, return_counts=True)
    if sizes.min(initial=count) < channels:
        which = f"scan with scan_index {numbers[sizes.argmin()]}" if len(numbers) > 1 else "scan"
        raise ValueError(
            f"gridsize = {gridsize} groups {channels} patterns, but the {which} has "
            f"{sizes.min(initial=count)}: use a smaller gridsize or more patterns"
            + (", or leave that scan out." if len(numbers) > 1 else ".")
        )
    if neighbor_count < channels - 1:
        raise ValueError(
            f"neighbor_count = {neighbor_count} is too small for gridsize = {gridsize}, which draws "
            f"{channels - 1} neighbours: use neighbor_count >= {channels - 1}."
        )
    rng = np.random.default_rng(0 if seed is None and sequential else seed)
    anchors = _draw_anchors(count, n_groups, rng, sequential)
    if gridsize == 1:
        return anchors[:, None]
    near = _nearest_of_scan(positions, scan, anchors, neighbor_count)
    # the smallest of independent random keys are a uniform draw without replacement
    keys = rng.random(near.shape, dtype=np.float32)
    keys[near < 0] = np.inf
    drawn = np.argsort(keys, axis=1)[:, : channels - 1]
    return np.concatenate([anchors[:, None], np.take_along_axis(near, drawn, axis=1)], axis=1)


def group(
    raw: Scan,
    *,
    gridsize: int = 1,
    neighbor_count: int = 4,
    n_groups: int | None = None,
    seed: int | None = None,
    sequential: bool = False,
) -> PtychoDataContainer:
    """Group a scan; see :func:`group_neighbours` for the parameters and errors.

    The centre of a group is the mean of its members' positions. Patterns without beam, and flashes, are in no
    group (:func:`.examination.frames.sound_frames`), and "every position" is every other one. Where a draw
    has a pattern so far from the group's centre that its patch does not reach there, as at the corners of a
    scan, the anchor gets its nearest neighbours instead.

    Raises
    ------
    ValueError
        Also if nearest neighbours are so far from each other.
    """
    coords = np.stack([raw.xcoords, raw.ycoords], axis=-1)
    chosen = _grouped_patterns(raw, gridsize**2)
    places, scan = coords[chosen], raw.scan_index[chosen]
    drawn = group_neighbours(
        places, gridsize, neighbor_count, n_groups, seed=seed, sequential=sequential, scan_index=scan
    )
    torn = np.flatnonzero(_reach(places[drawn]).max(axis=1) > raw.N / 2)
    if torn.size:
        nearest = group_neighbours(places, gridsize, gridsize**2 - 1, None, seed=0, scan_index=scan)
        drawn[torn] = nearest[drawn[torn, 0]]
        logger.info(
            "%d of %d groups are an anchor and its nearest neighbours: those drawn reached further than N/2.",
            len(torn),
            len(drawn),
        )
    indices = chosen[drawn]
    members = coords[indices]
    centres = members.mean(axis=1, keepdims=True)
    _require_together(_reach(members), indices, coords, raw.N)
    return PtychoDataContainer(
        amplitude=raw.diff3d,
        nn_indices=indices,
        coords_offsets=centres.transpose(0, 2, 1)[:, None],
        coords_relative=(members - centres).transpose(0, 2, 1)[:, None].astype(np.float32),
        coords=coords,
        probe=raw.probeGuess,
        bad_pixels=raw.bad_pixels,
        photons_per_pattern=raw.photons_per_pattern,
        object_guess=raw.objectGuess,
        exposures=raw.incident_photons,
    )


def _grouped_patterns(raw: Scan, channels: int) -> NDArray[np.int64]:
    """Numbers of the patterns that groups are made of: sound ones, or all where too few would be left."""
    sound = sound_frames(raw)
    numbers, left = np.unique(raw.scan_index[sound], return_counts=True)
    if len(numbers) < len(np.unique(raw.scan_index)) or left.min() < channels:
        return np.arange(len(sound))
    return np.flatnonzero(sound)


def _reach(members: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B, C) how far each of the (B, C, 2) positions is from its group's centre, along the further axis."""
    return np.asarray(np.abs(members - members.mean(axis=1, keepdims=True)).max(axis=2))


def _require_together(
    distance: NDArray[np.float64], indices: NDArray[np.int64], coords: NDArray[np.float64], n: int
) -> None:
    """Refuse groups that are torn apart: the region that they span takes memory without end."""
    torn = np.flatnonzero(distance.max(axis=1) > n / 2)
    if torn.size == 0:
        return
    # the furthest from a group's centre is the stray one, wherever it drew the centre to
    torn = torn[np.argsort(-distance[torn].max(axis=1), kind="stable")]
    _, first = np.unique(indices[torn, distance[torn].argmax(axis=1)], return_index=True)
    worst = [(b, int(distance[b].argmax())) for b in torn[np.sort(first)[:_NAMED]]]
    named = "; ".join(
        "pattern {} at x = {:g}, y = {:g} ({:.0f} px)".format(
            indices[b, c], *coords[indices[b, c]], distance[b, c]
        )
        for b, c in worst
    )
    raise ValueError(
        f"{torn.size} of {len(indices)} groups reach further than N/2 = {n // 2} pixels from their centre, "
        f"where their patches no longer overlap. The furthest: {named}. Check these positions and the unit "
        "of all of them (pixels of the object); or use a smaller gridsize, a smaller neighbor_count or more "
        "patterns."
    )
