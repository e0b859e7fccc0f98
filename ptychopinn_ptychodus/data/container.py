"""Grouped data: the patterns of a scan with the groups that were made of them, as engines read them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, KeysView
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .detector import mean_energy
from .interpolation import PatchCutter
from .twins import Twin, twin_of_probe

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
    """Grouped data: what an engine trains on or is applied to.

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
    objects
        The true object of the patterns of each of :attr:`probes`, (H, W) complex64 each, in the scale in
        which the probe is that of the patterns; None where they are not known. It takes the place of
        :attr:`object_guess` where patterns have one of several probes.
    masks
        (K, N, N) bool, the bad pixels of the patterns of each of :attr:`probes`, where they differ;
        :attr:`bad_pixels` is then what is bad in any. None where that is of all patterns.
    shown_probes
        (K, modes, N, N) complex64, what a network is shown in place of each of :attr:`probes`, of the same
        power: rough ones, so that it learns to do with such. The forward model and the objective have
        :attr:`probes`. None where these are what is shown.
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
    masks: NDArray[np.bool_] | None = None
    objects: tuple[NDArray[np.complex64], ...] | None = None
    shown_probes: NDArray[np.complex64] | None = None

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

    def shown_probes_for(self, indices: ArrayLike | slice) -> NDArray[np.complex64] | None:
        """As :meth:`probes_for`, of :attr:`shown_probes`; None where networks are shown the probes."""
        if self.shown_probes is None or self.probe_index is None:
            return None
        return self.shown_probes[self.probe_index[self._members(indices)[:, 0]]]

    def good_for(self, indices: ArrayLike | slice) -> NDArray[np.float32] | None:
        """Which pixels were measured in some groups, (b,) numbers or a slice: (b, N, N), 1 if so, else 0.

        None where they are the same in all groups of the container.
        """
        if self.masks is None or self.probe_index is None:
            return None
        return (~self.masks[self.probe_index[self._members(indices)[:, 0]]]).astype(np.float32)

    def require_located(self) -> None:
        """Raise ``ValueError`` unless it is known where the groups lie: here it is, always."""

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
        """Object patches of some groups, cut by cubic splines from :attr:`object_guess` or :attr:`objects`.

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
        shape = (*members.shape, self.N, self.N)
        if self.objects is None or self.probe_index is None:
            patches = self._cut_patches(*self.coords[members.ravel()].T).reshape(shape)
        else:
            patches = np.empty(shape, np.complex64)
            of_groups = self.probe_index[members[:, 0]]
            for number in np.unique(of_groups):
                groups = of_groups == number
                cut = self._cutters[number](*self.coords[members[groups].ravel()].T)
                patches[groups] = cut.reshape(-1, *shape[1:])
        return np.moveaxis(patches, 1, -1)

    @cached_property
    def _cut_patches(self) -> PatchCutter:
        if self.object_guess is None:
            raise ValueError("The data hold no objectGuess to cut patches from: add it to the training data.")
        return PatchCutter(self.object_guess, self.N, order=3)

    @cached_property
    def _cutters(self) -> tuple[PatchCutter, ...]:
        return tuple(PatchCutter(object_, self.N, order=3) for object_ in self.objects or ())

    @property
    def has_twins(self) -> bool:
        """Whether some patterns leave open which of a patch and its twin they are of, see :mod:`.twins`.

        Of groups of several patterns, overlap tells.
        """
        return self.gridsize == 1 and any(twin.is_open for twin in self._twins)

    def twins_of(self, patches: NDArray[np.complex64], indices: ArrayLike | slice) -> NDArray[np.complex64]:
        """The twins of some groups' patches where their probe leaves open which it is, else the patches.

        Parameters
        ----------
        patches
            (b, C, N, N) complex, of the groups ``indices``.
        indices
            (b,) group numbers, or a slice.
        """
        if self.probes is None or self.probe_index is None:
            return self._twins[0].of(patches) if self._twins[0].is_open else patches
        turned, of_groups = patches.copy(), self.probe_index[self._members(indices)[:, 0]]
        for number in np.unique(of_groups):
            twin, groups = self._twins[number], of_groups == number
            if twin.is_open:
                turned[groups] = twin.of(patches[groups])
        return turned

    @cached_property
    def _twins(self) -> tuple[Twin, ...]:
        """Of each of :attr:`probes`, or of :attr:`probe`."""
        return tuple(map(twin_of_probe, (self.probe,) if self.probes is None else self.probes))

    def _members(self, indices: ArrayLike | slice) -> NDArray[np.int64]:
        return self.nn_indices[indices if isinstance(indices, slice) else np.asarray(indices)]
