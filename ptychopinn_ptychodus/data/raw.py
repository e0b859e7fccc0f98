"""One scan: patterns, positions, probe; read from and written to files; every check on input.

Whatever constructs a :class:`RawData` has data that the rest of the package can rely on: float32 amplitude in
(M, N, N), bad pixels filled, finite numbers, arrays that fit together.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..config import TrainingConfig
from ..files import replacing, telling_of_full_disk
from . import large_arrays
from .container import PtychoDataContainer
from .cropping import PatternWindow, prepare_patterns
from .detector import PATTERNS, fill_bad_pixels, to_amplitude
from .examination.config import ExaminationConfig
from .examination.findings import Report
from .examination.frames import groupable_frames
from .examination.pixels import examine_pixels
from .exposure import incident_photons
from .grouping import group_neighbours
from .interpolation import require_centres_inside
from .scan_arrays import (
    checked_bad_pixels,
    checked_exposures,
    checked_object,
    checked_patterns,
    checked_positions,
    checked_probe,
    checked_scan_index,
    require_supported_size,
)
from .scan_files import DOMAIN_KEY, read_scan

DOMAINS = ("amplitude", "counts")
FINDINGS_FILE = "findings.json"
_PER_PATTERN = ("xcoords", "ycoords", "xcoords_start", "ycoords_start", "diff3d", "scan_index", "exposures")
_ARRAYS = (*_PER_PATTERN, "probeGuess", "bad_pixels")


class RawData:
    """One ptychographic scan.

    Parameters
    ----------
    xcoords, ycoords
        (M,) positions in pixels of the object array (columns, rows; pixel centres at integers). A pattern's
        patch is centred on its position.
    diff3d
        (M, N, N) patterns, zero frequency at (N/2, N/2); (N, N, M) is accepted where N ≠ M. Where
        ``examination`` has a ``pattern_size``, (M, rows, columns), zero frequency at half of both.
    probeGuess
        (N, N), (modes, N, N), or Ptychodus' (OPR, modes, N, N), of which the first OPR index is used.
        Where patterns are cropped or padded, it may have their size before: positions and object are then in
        pixels that belong to that, and resampled as well. If it has their size afterwards, all three are used
        as they are.
    xcoords_start, ycoords_start
        (M,) positions before refinement; equal to ``xcoords``, ``ycoords`` by default.
    scan_index
        (M,) number of the scan that a pattern belongs to; zeros by default. Where each of several patterns
        has a number of its own, these are numbers of scan points: all are of one scan, 0.
    objectGuess
        (H, W) or (1, H, W) complex object, optional.
    bad_pixels
        (N, N) bool, True where the detector did not measure; none by default.
    exposures
        (M,) light that fell on the sample for each pattern, as a beam monitor counts it, in any unit; equal
        by default. Only their ratios within a scan count: how bright scans are is found from their patterns.
    domain
        What ``diff3d`` holds: ``"amplitude"`` (square root of counts), ``"counts"``, or None to find out.
        Integers are then counts. Floating-point numbers are amplitude, unless every good pixel of the scan
        holds a whole number and the largest exceeds 1: amplitudes of photon counts are square roots, so this
        would need a scan in which no pixel ever counted 2, 3, 5, 6, … photons, whereas it is what a
        floating-point copy of integer counts looks like. (If 1 is the largest, the two are the same.) A
        warning says so when it happens.
    examination
        What is looked for in the pixels, and what is done about it; by default everything that can be.

    Attributes
    ----------
    xcoords, ycoords, xcoords_start, ycoords_start
        (M,) float64.
    diff3d
        (M, N, N) float32 amplitude; bad pixels hold a distance-weighted mean of the nearest good ones.
        Float32 amplitude that needs no filling is kept without a copy. What has to be made and is large is in
        a file, see :mod:`.large_arrays`.
    probeGuess
        (modes, N, N) complex64.
    scan_index
        (M,) int64.
    objectGuess
        (H, W) complex64 or None.
    bad_pixels
        (N, N) bool.
    exposures
        (M,) float64, of mean 1 over each scan.
    findings
        What the examination of the pixels has found.

    Raises
    ------
    ValueError
        Naming the field, what is wrong with it and what to do.
    NoRoomError
        If there is no room for large patterns.
    """

    xcoords: NDArray[np.float64]
    ycoords: NDArray[np.float64]
    xcoords_start: NDArray[np.float64]
    ycoords_start: NDArray[np.float64]
    diff3d: NDArray[np.float32]
    probeGuess: NDArray[np.complex64]
    scan_index: NDArray[np.int64]
    objectGuess: NDArray[np.complex64] | None
    bad_pixels: NDArray[np.bool_]
    exposures: NDArray[np.float64]
    findings: Report

    def __init__(
        self,
        *,
        xcoords: ArrayLike,
        ycoords: ArrayLike,
        diff3d: ArrayLike,
        probeGuess: ArrayLike,
        xcoords_start: ArrayLike | None = None,
        ycoords_start: ArrayLike | None = None,
        scan_index: ArrayLike | None = None,
        objectGuess: ArrayLike | None = None,
        bad_pixels: ArrayLike | None = None,
        exposures: ArrayLike | None = None,
        domain: str | None = None,
        examination: ExaminationConfig | None = None,
    ) -> None:
        if domain is not None and domain not in DOMAINS:
            raise ValueError(f"domain = {domain!r} is not valid: use 'amplitude', 'counts' or None.")
        self.xcoords = checked_positions(xcoords, "xcoords")
        count = len(self.xcoords)
        if count == 0:
            raise ValueError("xcoords is empty: a scan needs at least one position.")
        self.ycoords = checked_positions(ycoords, "ycoords", count)
        start_x = self.xcoords if xcoords_start is None else xcoords_start
        start_y = self.ycoords if ycoords_start is None else ycoords_start
        self.xcoords_start = checked_positions(start_x, "xcoords_start", count)
        self.ycoords_start = checked_positions(start_y, "ycoords_start", count)
        self.scan_index = checked_scan_index(scan_index, count)
        self.exposures = checked_exposures(exposures, self.scan_index)
        config = examination or ExaminationConfig()
        patterns = checked_patterns(diff3d, count)
        shape = (patterns.shape[1], patterns.shape[2])
        window = PatternWindow.asked_for(shape, config)
        if window is None:
            require_supported_size(shape)
        self.bad_pixels = checked_bad_pixels(bad_pixels, shape)
        sizes = (shape,) if window is None else (shape, (window.size, window.size))
        self.probeGuess = checked_probe(probeGuess, *sizes)
        self.objectGuess = None if objectGuess is None else checked_object(objectGuess)
        if self.objectGuess is not None:
            self.require_inside((self.objectGuess.shape[0], self.objectGuess.shape[1]))
        said = Report()
        if window is not None:
            roll, said = prepare_patterns(patterns, self.bad_pixels, self.probeGuess, window, config)
            patterns = window.patterns(patterns, roll)
            self.bad_pixels = window.mask(np.roll(self.bad_pixels, roll, (0, 1)))
            if self.probeGuess.shape[1:] == shape:  # else it is that of the size which is asked for
                self._resample(window)
        examined = examine_pixels(patterns, self.bad_pixels, self.probeGuess, domain, config)
        self.bad_pixels, self.findings = examined.bad_pixels, said + examined.report
        amplitude = to_amplitude(patterns, examined.domain, examined.shift)
        self.diff3d = fill_bad_pixels(amplitude, self.bad_pixels, in_place=amplitude is not patterns)

    def _resample(self, window: PatternWindow) -> None:
        """Put probe, object and positions on the pixels that belong to other patterns."""
        guess = self.objectGuess
        shape = None if guess is None else (guess.shape[0], guess.shape[1])
        self.probeGuess = window.probe(self.probeGuess)
        self.objectGuess = None if guess is None else window.object(guess)
        for name, axis in (("ycoords", 0), ("ycoords_start", 0), ("xcoords", 1), ("xcoords_start", 1)):
            setattr(self, name, window.positions(getattr(self, name), axis, shape))

    @classmethod
    def _trusted(cls, **arrays: Any) -> RawData:
        """Build from arrays that come out of another RawData: nothing is checked again."""
        raw = cls.__new__(cls)
        for name, value in arrays.items():
            setattr(raw, name, value)
        return raw

    @classmethod
    def of_amplitude(
        cls,
        positions: NDArray[np.float64],
        amplitude: NDArray[np.float32],
        probe: NDArray[np.complex64],
        bad_pixels: NDArray[np.bool_],
        photons: float,
    ) -> RawData:
        """A part of a scan that is still being recorded, of arrays that were checked when they came.

        Parameters
        ----------
        positions
            (M, 2) [x, y], pixels of the object.
        amplitude
            (M, N, N), finite, 0 on bad pixels.
        probe
            (modes, N, N).
        bad_pixels
            (N, N).
        photons
            Light of a whole pattern, the same for each, see :attr:`incident_photons`.
        """
        count = len(positions)
        x, y = positions.T.copy()
        return cls._trusted(
            xcoords=x,
            ycoords=y,
            xcoords_start=x,
            ycoords_start=y,
            diff3d=amplitude,
            probeGuess=probe,
            scan_index=np.zeros(count, np.int64),
            objectGuess=None,
            bad_pixels=bad_pixels,
            exposures=np.ones(count),
            findings=Report(),
            incident_photons=np.full(count, photons),
        )

    def __len__(self) -> int:
        """Number of patterns."""
        return len(self.xcoords)

    def __repr__(self) -> str:
        return (
            f"RawData({self.n_patterns} patterns of {self.N} × {self.N}, {len(self.probeGuess)} probe modes)"
        )

    @property
    def n_patterns(self) -> int:
        """Number of patterns, M."""
        return len(self.xcoords)

    @property
    def N(self) -> int:
        """Edge of a pattern, pixels."""
        return int(self.diff3d.shape[-1])

    @cached_property
    def incident_photons(self) -> NDArray[np.float64]:
        """(M,) float64: Σ amplitude² of each pattern as a whole, were the object's amplitude 1.

        These are photons, if the amplitude is √counts. Patterns of a part of a scan keep the values that they
        have in the whole; see :func:`.exposure.incident_photons`.
        """
        return incident_photons(self)

    @property
    def photons_per_pattern(self) -> float:
        """Mean of :attr:`incident_photons`."""
        return float(self.incident_photons.mean())

    # ------------------------------------------------------------------ parts of a scan

    def select(self, indices: ArrayLike | slice) -> RawData:
        """The given patterns, in the given order; a slice shares memory with this scan.

        Raises
        ------
        ValueError
            If nothing is selected.
        """
        chosen = indices if isinstance(indices, slice) else np.asarray(indices)
        if not isinstance(chosen, slice) and chosen.size == 0:
            chosen = slice(0)
        names: tuple[str, ...] = _PER_PATTERN
        # of the whole scan, which a part of it does not know; of a mere copy, only if it is known already
        if not (isinstance(chosen, slice) and chosen == slice(None)) or "incident_photons" in vars(self):
            names = (*names, "incident_photons")
        parts = {name: large_arrays.taken(getattr(self, name), chosen, PATTERNS) for name in names}
        if len(parts["xcoords"]) == 0:
            raise ValueError("No pattern is selected: indices must pick at least one.")
        shared = {
            name: getattr(self, name) for name in ("probeGuess", "objectGuess", "bad_pixels", "findings")
        }
        return RawData._trusted(**parts, **shared)

    def subsample(self, n: int, seed: int | None) -> RawData:
        """``n`` random patterns in scan order; the scan itself if it has no more than ``n``.

        Raises
        ------
        ValueError
            If ``n`` < 1.
        """
        if n < 1:
            raise ValueError(f"n_subsample = {n} is not valid: use an integer >= 1.")
        if n >= self.n_patterns:
            return self
        return self.select(np.sort(np.random.default_rng(seed).permutation(self.n_patterns)[:n]))

    def split(self, validation_fraction: float, seed: int | None) -> tuple[RawData, RawData | None]:
        """Hold out a compact part of the scan for validation; both parts stay in scan order.

        The part lies around a random position: its patterns are each other's neighbours, as groups need them
        to be, and little of what it shows has been seen in training. It is of one scan, if that has enough.

        Returns
        -------
        tuple
            Training and validation data; validation is None where the fraction amounts to no pattern.

        Raises
        ------
        ValueError
            If the fraction is not in [0, 1), or leaves nothing to train on.
        """
        if not 0.0 <= validation_fraction < 1.0:
            raise ValueError(f"validation_fraction = {validation_fraction} is not valid: use 0 <= f < 1.")
        held_out = round(self.n_patterns * validation_fraction)
        if held_out == 0:
            return self, None
        if held_out == self.n_patterns:
            raise ValueError(
                f"validation_fraction = {validation_fraction} of {self.n_patterns} patterns leaves none to "
                "train on: use a smaller fraction or more patterns."
            )
        centre = np.random.default_rng(seed).integers(self.n_patterns)
        distance = np.hypot(self.xcoords - self.xcoords[centre], self.ycoords - self.ycoords[centre])
        order = np.lexsort([distance, self.scan_index != self.scan_index[centre]])
        return self.select(np.sort(order[held_out:])), self.select(np.sort(order[:held_out]))

    def require_inside(self, shape: tuple[int, int]) -> None:
        """Raise ``ValueError`` if a position is outside an object array of ``shape`` (rows, columns)."""
        require_centres_inside(self.xcoords, self.ycoords, shape)

    def generate_grouped_data(
        self,
        N: int,
        K: int,
        nsamples: int | None,
        gridsize: int = 1,
        seed: int | None = None,
        sequential: bool = False,
    ) -> PtychoDataContainer:
        """Group neighbouring patterns: what engines train on and are applied to.

        Each group is an anchor and ``gridsize² - 1`` of its ``K`` nearest neighbours in the same scan, drawn
        without replacement; the group's centre is the mean of their positions. Patterns without beam, and
        flashes, are in no group (:func:`.examination.frames.groupable_frames`), and "every position" is every
        other one. Where a draw has a pattern so far from the group's centre that its patch does not reach
        there, as at the corners of a scan, the anchor gets its nearest neighbours instead.

        Parameters
        ----------
        N
            Edge of a pattern that the model expects, pixels.
        K
            Neighbours of each anchor to draw from.
        nsamples
            Number of groups; None makes every position an anchor once, in order. At most M: that many
            distinct anchors. More: every position ``nsamples // M`` times and a remainder of distinct ones,
            each with its own draw.
        gridsize
            A group has gridsize² patterns.
        seed
            Seed of the draw.
        sequential
            Take anchors in order instead of at random; without a seed, neighbours are drawn by a fixed one.

        Raises
        ------
        ValueError
            If ``N`` is not the patterns' size, the scan is too small for the groups, or its patterns are too
            far from each other for their patches to overlap.
        """
        if N != self.N:
            raise ValueError(
                f"The model expects patterns of N = {N}, but diff3d holds {self.N} × {self.N}: set N to "
                f"{self.N}, or crop or bin the patterns."
            )
        coords = np.stack([self.xcoords, self.ycoords], axis=-1)
        groups = group_neighbours(
            coords,
            gridsize,
            K,
            nsamples,
            seed=seed,
            sequential=sequential,
            scan_index=self.scan_index,
            members=groupable_frames(self, gridsize**2),
            patch_size=N,
        )
        positions = coords[groups]
        centres = positions.mean(axis=1, keepdims=True)
        return PtychoDataContainer(
            amplitude=self.diff3d,
            nn_indices=groups,
            coords_offsets=centres.transpose(0, 2, 1)[:, None],
            coords_relative=(positions - centres).transpose(0, 2, 1)[:, None].astype(np.float32),
            coords=coords,
            probe=self.probeGuess,
            bad_pixels=self.bad_pixels,
            photons_per_pattern=self.photons_per_pattern,
            object_guess=self.objectGuess,
            exposures=self.incident_photons,
        )

    def grouped_for(self, config: TrainingConfig, nsamples: int | None) -> PtychoDataContainer:
        """Grouped data as a training by ``config`` has them; ``nsamples`` and the rest as above."""
        return self.generate_grouped_data(
            config.model.N,
            config.neighbor_count,
            nsamples,
            gridsize=config.model.gridsize,
            seed=config.seed,
            sequential=config.sequential_sampling,
        )

    # ------------------------------------------------------------------ files

    @classmethod
    def from_file(cls, path: str | Path, examination: ExaminationConfig | None = None) -> RawData:
        """Read training data: NPZ, written here, by Ptychodus or by older scripts, or Ptychodus' HDF5.

        Nothing in the file is executed: arrays of Python objects are refused.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            Naming the file, if it is not such a file, is damaged, or holds data that cannot be used.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"There is no data file {path}: check the path.")
        fields = read_scan(path)
        try:
            return cls(**fields, examination=examination)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def to_file(self, path: str | Path) -> None:
        """Write an NPZ file, replacing an earlier one only once the new one is complete.

        The patterns are written as float32 amplitude, and the key ``diff3d_domain`` says so.
        """
        path = Path(path)
        fields: dict[str, Any] = {name: getattr(self, name) for name in _ARRAYS}
        if (self.exposures == 1.0).all():
            del fields["exposures"]
        if self.objectGuess is not None:
            fields["objectGuess"] = self.objectGuess
        fields[DOMAIN_KEY] = np.array("amplitude")
        with replacing(path) as file:
            np.savez(file, **fields)

    def to_directory(self, path: str | Path) -> None:
        """Leave the scan in ``path`` for another process to map: one ``.npy`` file per array.

        Patterns that are in a file of their own already are not copied, if the system allows that.
        """
        path = Path(path)
        path.mkdir(parents=True, exist_ok=True)
        for name in (*_ARRAYS, "objectGuess"):
            value = getattr(self, name)
            if value is None:
                (path / f"{name}.npy").unlink(missing_ok=True)
            else:
                with telling_of_full_disk(path):
                    large_arrays.save(value, path / f"{name}.npy")
        self.findings.save(path / FINDINGS_FILE)

    @classmethod
    def from_directory(cls, path: str | Path) -> RawData:
        """Map what :meth:`to_directory` left, without reading the patterns.

        The values are not checked again: the directory is private to the two processes, and it was a
        RawData that wrote it.

        Raises
        ------
        FileNotFoundError
            If an array is missing.
        """
        path = Path(path)
        arrays: dict[str, Any] = {}
        for name in _ARRAYS:
            file = path / f"{name}.npy"
            if not file.is_file():
                raise FileNotFoundError(f"{path} does not hold a scan: {file.name} is missing.")
            arrays[name] = (
                large_arrays.opened(file) if name == "diff3d" else np.load(file, allow_pickle=False)
            )
        guess = path / "objectGuess.npy"
        arrays["objectGuess"] = np.load(guess, allow_pickle=False) if guess.is_file() else None
        arrays["findings"] = Report.load(path / FINDINGS_FILE)
        return cls._trusted(**arrays)
