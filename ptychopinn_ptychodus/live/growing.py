"""An object that grows as frames come: a few refinement steps around what is new, at the same cost for each.

New frames are worked on in groups that lie close together, on the part of the canvas that their patches
touch, beside some of the older frames there, which hold what they have found. Nothing that is done for a
frame depends on how many there are or how large the object is; the canvas is enlarged by a quarter at a time.

Steps are those of the refinement (:mod:`~ptychopinn_ptychodus.refinement.run`): Nesterov steps along
gradients divided by the illumination that made them. Of the divisor, the light of older frames that are not
among the group is a part, so that what they know of a pixel outweighs what little a new frame tells of it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..data.detector import to_amplitude
from ..data.grouping import neighbourhood_order
from ..data.raw import RawData
from ..ptychodus_io.names import LIBRARY
from ..refinement.arrays import LEAST, Array, arrays_for
from ..refinement.batches import spread_batches
from ..refinement.config import RefinementConfig
from ..refinement.iterate import Iterate, chequerboard
from ..refinement.model import ScanModel
from ..refinement.noise import left_by_photons, photon_unit
from ..refinement.object_steps import nesterov
from ..refinement.solver import refine
from ..refinement.stages import Stages
from .seen import SeenFrames

logger = logging.getLogger(LIBRARY)

GROUP = 64
"""New frames that are worked on together, at most."""

_CELL = 3.0  # patterns' edges that a group may spread over
_BATCH = 16  # frames for a step
_PASSES = 2
_WORK = 4.0
"""Times that a frame is gone through for each new one; few older ones leave time for more passes."""
_STEP = 0.8  # longer than a whole refinement's: there are few of them
_FULL_BATCH = 40  # frames for a step of full length
_MOMENTUM = 0.9
_FLOOR = 0.1  # of the strongest light of a step, added to its divisor
_DIM = 0.02  # of the strongest light: a pixel with less starts as those around it are
_ROOM = 0.25  # of its extent, by which a canvas grows
_LARGEST_PX = 1 << 27  # of a canvas: 1 GB; a position that asks for more is none
_DARK, _FLASH = 0.05, 10.0  # light over what was usual, beyond which a frame shows nothing of the object
_MEMORY = 0.05  # weight of a group's light in what is usual, and of its error in the error that is told
_NEAR_NOISE = 1.2  # times what photons leave of the error: more, and the probe may be another one
PROBE_AFTER = (64, 256)
"""Frames after which the probe is looked for, each time among so many frames at most."""


class PatchNetwork(Protocol):
    """A network that makes an object of patterns; a context manager, as :class:`.NetworkProcess` is."""

    def __enter__(self) -> object:
        """Make it ready."""

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give back what it uses."""

    def object_of(self, scan: RawData) -> tuple[NDArray[np.complex64], NDArray[np.float32], tuple[int, int]]:
        """The object of a compact part of a scan, what light fell on it, and its first pixel [x, y].

        Raises
        ------
        ValueError
            If there is none, for instance of fewer patterns than make a group.
        """


class GrowingObject:
    """Object and probe of the frames that have come so far.

    Parameters
    ----------
    probe
        (modes, N, N) complex, of any scale: it is brought to that of the first frames.
    bad_pixels
        (N, N) bool.
    domain
        What patterns hold: ``"counts"`` or ``"amplitude"``.
    device
        As :func:`~ptychopinn_ptychodus.refinement.arrays.arrays_for` takes it.
    network
        Makes a first object of new frames; without it, what no frame has shown yet starts flat.
    find_probe
        Whether the probe is refined with the first frames, where it leaves more than noise.
    should_stop
        Asked while the probe is looked for, which takes seconds.
    seed
        Of the batches.

    Attributes
    ----------
    origin
        (2,) int64 ``[x, y]`` of the canvas' first pixel, in the pixels of the positions.
    error
        Normalised error Σ (√λ - √n)² / Σ n of the newest frames after their steps; NaN before the first.
    """

    def __init__(
        self,
        probe: NDArray[np.complexfloating],
        bad_pixels: NDArray[np.bool_],
        *,
        domain: str = "counts",
        device: str = "cpu",
        network: PatchNetwork | None = None,
        find_probe: bool = True,
        should_stop: Callable[[], bool] = lambda: False,
        seed: int = 0,
    ) -> None:
        self._arrays = arrays_for(device)
        self._given = np.asarray(probe, np.complex64)
        self._size = self._given.shape[-1]
        self._bad, self._domain, self._network = bad_pixels, domain, network
        self._should_stop = should_stop
        self._rng = np.random.default_rng(seed)
        self._seen = SeenFrames()
        self._canvas = np.ones((0, 0), np.complex64)
        self._light = np.zeros((0, 0), np.float32)
        self._probe: Array = None
        self._photons = math.nan  # of a pattern, usually
        self._turns = np.empty(0, np.int64)
        self._searches = list(PROBE_AFTER) if find_probe else []
        self.origin = np.zeros(2, np.int64)
        self.error = math.nan

    def __len__(self) -> int:
        """How many frames have been added."""
        return self._seen.count

    def holds(self, positions: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which of the positions, (B, 2), an object of reasonable size can hold together with all others."""
        margin = self._size / 2 + 2
        if self._seen.count == 0:  # the first ones have nobody but each other to be far from
            low = high = np.median(positions, axis=0)
        else:
            low = self.origin + margin
            high = self.origin + np.array(self._canvas.shape[::-1]) - margin
        held = np.zeros(len(positions), np.bool_)
        for number, position in enumerate(positions):
            lower, upper = np.minimum(low, position), np.maximum(high, position)
            if np.prod((upper - lower + 2 * margin) * (1 + _ROOM)) <= _LARGEST_PX:
                low, high, held[number] = lower, upper, True
        return held

    def update(
        self, patterns: Sequence[NDArray[np.number]] | NDArray[np.number], positions: NDArray[np.float64]
    ) -> None:
        """Add frames, B of (N, N) and (B, 2) [x, y] in pixels, and take steps around them.

        Patterns are kept as they are, not copied, and must not change afterwards.
        Frames without light, and flashes, are part of what is kept, but not of the object.
        """
        for group in _compact(positions, _CELL * self._size):
            self._add([patterns[number] for number in group.tolist()], positions[group])
        while self._searches and self._seen.count >= self._searches[0]:
            self._find_probe(self._searches.pop(0))

    def improve(self) -> bool:
        """Take steps around frames that came earlier, one part of the object after the other.

        Returns
        -------
        bool
            Whether there was anything to do.
        """
        if self._seen.count == 0:
            return False
        if not len(self._turns):
            self._turns = self._rng.permutation(self._seen.count)
        at, self._turns = self._seen.positions[self._turns[:1]], self._turns[GROUP:]
        near = self._seen.around(at, self._size, 2 * GROUP, self._rng)
        self._steps(near, np.empty(0, np.int64))
        return True

    def result(self) -> tuple[NDArray[np.complex64], NDArray[np.complex64], NDArray[np.int64]]:
        """The object that just holds the frames, the probe (modes, N, N) in counts, the object's origin."""
        if self._seen.count == 0:
            return np.ones((self._size, self._size), np.complex64), self._given, self.origin
        where = self._seen.positions[: self._seen.count]
        low = np.floor(where.min(0)).astype(np.int64) - self._size // 2
        high = np.ceil(where.max(0)).astype(np.int64) + self._size // 2 + 1
        (left, top), (right, bottom) = low - self.origin, high - self.origin
        return self._canvas[top:bottom, left:right].copy(), self._own_probe(), low

    # ------------------------------------------------------------------ one group

    def _add(self, patterns: Sequence[NDArray[np.number]], positions: NDArray[np.float64]) -> None:
        amplitude = self._amplitude(np.stack(patterns))
        energy = (amplitude.reshape(len(amplitude), -1).astype(np.float64) ** 2).sum(1)
        lit = self._lit(energy)
        if not lit.any():
            return
        self._make_room(positions[lit])
        old = self._seen.around(positions[lit], self._size, max(int(lit.sum()), _BATCH), self._rng)
        shown = [pattern for pattern, is_lit in zip(patterns, lit, strict=True) if is_lit]
        new = self._seen.add(shown, positions[lit], self._size)
        self._steps(old, new)

    def _amplitude(self, patterns: NDArray[np.number]) -> NDArray[np.float32]:
        amplitude = to_amplitude(patterns, self._domain)
        if self._bad.any():
            amplitude = np.where(self._bad, np.float32(0), amplitude)
        return amplitude

    def _lit(self, energy: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which frames show something; the probe gets the power of the first ones that do."""
        if math.isnan(self._photons):
            usual = float(np.median(energy))
            if not usual > 0:
                return np.zeros(len(energy), np.bool_)
            self._photons = usual
            self._take_probe(self._given)
        lit = (energy > _DARK * self._photons) & (energy < _FLASH * self._photons)
        if lit.any():
            self._photons += _MEMORY * (float(np.median(energy[lit])) - self._photons)
        return lit

    def _take_probe(self, modes: NDArray[np.complex64]) -> None:
        """Work with a probe, (modes, N, N), of the power of a pattern."""
        factor = math.sqrt(self._photons / float((np.abs(modes).astype(np.float64) ** 2).sum()))
        self._probe = self._arrays.put((factor * modes * chequerboard(self._size)).astype(np.complex64))

    def _make_room(self, positions: NDArray[np.float64]) -> None:
        """Enlarge the canvas, where positions leave it, by more than they need: rarely."""
        margin = self._size // 2 + 2
        low = np.floor(positions.min(0)).astype(np.int64) - margin
        high = np.ceil(positions.max(0)).astype(np.int64) + margin + 1
        shape = np.array(self._canvas.shape[::-1])
        if self._seen.count == 0:
            self.origin, shape = low.copy(), np.zeros(2, np.int64)
        first, last = np.minimum(low, self.origin), np.maximum(high, self.origin + shape)
        if (first == self.origin).all() and (last == self.origin + shape).all():
            return
        room = np.ceil(_ROOM * (last - first)).astype(np.int64)
        first = np.where(first < self.origin, first - room, first)
        last = np.where(last > self.origin + shape, last + room, last)
        width, height = last - first
        canvas, light = np.ones((height, width), np.complex64), np.zeros((height, width), np.float32)
        left, top = self.origin - first
        inside = (slice(top, top + shape[1]), slice(left, left + shape[0]))
        canvas[inside], light[inside] = self._canvas, self._light
        self._canvas, self._light, self.origin = canvas, light, first

    def _steps(self, old: NDArray[np.int64], new: NDArray[np.int64]) -> None:
        """A few steps of the object under these frames; the light of the new ones is added."""
        arrays, xp = self._arrays, self._arrays.xp
        members = np.concatenate((old, new))
        positions = self._seen.positions[members]
        corner = np.floor(positions.min(0)).astype(np.int64) - self._size // 2 - 1
        end = np.ceil(positions.max(0)).astype(np.int64) + self._size // 2 + 2
        (left, top), (right, bottom) = corner - self.origin, end - self.origin
        window = (slice(max(top, 0), bottom), slice(max(left, 0), right))
        first = np.maximum(corner, self.origin)
        part = self._part(members, positions - first)
        model = ScanModel(part, arrays, "amplitude")
        iterate = Iterate(arrays.put(self._canvas[window]), self._probe, positions - first)
        every, is_new = np.arange(len(members)), np.arange(len(members)) >= len(old)
        if len(new):
            before = self._light[window].copy()
            self._light[window] += arrays.get(model.illumination(iterate, every[is_new]))
            self._begin(iterate, part.select(is_new), before)
        light, own = arrays.put(self._light[window]), model.illumination(iterate, every)
        batches = max(len(members) // _BATCH, 1)
        share = xp.maximum(own, light - own) / batches
        floor = _FLOOR * float(light.max()) / batches + LEAST
        order, velocity = neighbourhood_order(positions), iterate.canvas * 0
        errors = counts = 0.0
        energy = (part.diff3d.reshape(len(members), -1).astype(np.float64) ** 2).sum(1)
        passes = max(round(_WORK * len(new) / len(members)), 1) if len(new) else _PASSES
        for number in range(passes):
            for batch in spread_batches(order, batches, self._rng):
                gradients = model.gradients(iterate, batch, probe=False, positions=False)
                divisor = xp.maximum(model.illumination(iterate, batch), share) + floor
                step = gradients.canvas
                step *= -_STEP * min(1.0, math.sqrt(len(batch) / _FULL_BATCH)) / divisor
                nesterov(iterate.canvas, velocity, step, _MOMENTUM)
                if number == passes - 1:
                    errors, counts = errors + gradients.errors.sum(), counts + energy[batch].sum()
        found = arrays.get(iterate.canvas)
        if np.isfinite(found).all():  # a group that leads nowhere must not spoil the rest
            self._canvas[window] = found
        if len(new) and math.isfinite(errors) and counts > 0:
            newest = float(errors) / float(counts)
            self.error = newest if math.isnan(self.error) else self.error + 0.25 * (newest - self.error)

    def _part(self, members: NDArray[np.int64], positions: NDArray[np.float64]) -> RawData:
        patterns = np.stack([self._seen.patterns[number] for number in members.tolist()])
        amplitude = self._amplitude(patterns)
        return RawData.of_amplitude(positions, amplitude, self._own_probe(), self._bad, self._photons)

    def _own_probe(self) -> NDArray[np.complex64]:
        """(modes, N, N) in counts."""
        return np.asarray(self._arrays.get(self._probe) * chequerboard(self._size), np.complex64)

    def _begin(self, iterate: Iterate, new: RawData, before: NDArray[np.float32]) -> None:
        """What no frame has shown yet starts as the network has it, or like what is around it."""
        canvas = np.array(self._arrays.get(iterate.canvas))
        dark = before < _DIM * max(float(before.max()), LEAST)
        known = np.where(dark, np.float32(0), before)
        if known.any():
            canvas[dark] = (known * canvas).sum() / known.sum()
        if self._network is not None:
            try:
                _lay(canvas, before, *self._network.object_of(new))
            except ValueError as exc:
                logger.debug("The network is not asked about %d new frames: %s", len(new), exc)
        iterate.canvas = self._arrays.put(canvas)

    # ------------------------------------------------------------------ the probe

    def _find_probe(self, most: int) -> None:
        """Look for the probe among the first frames, and lay the object of all of them anew if it is found.

        Where hardly more than the noise of photons is left, there is nothing to look for.
        """
        count = min(self._seen.count, most)
        part = self._part(np.arange(count), self._seen.positions[:count] - self.origin)
        mean = np.square(part.diff3d, dtype=np.float64).mean(0)
        per_photon = photon_unit(part.diff3d, np.arange(count), self._bad)
        noise = left_by_photons(mean, per_photon, "amplitude") / max(float(mean.sum()), LEAST)
        if self.error < _NEAR_NOISE * noise:
            return
        config = RefinementConfig(positions=False)
        try:
            refined = refine(
                part,
                np.ones(self._canvas.shape, np.complex64),
                part.probeGuess,
                config,
                device=self._arrays,
                should_stop=self._should_stop,
                quiet=True,
                stages=Stages.NONE,
            )
        except ValueError as exc:  # what is wrong with such a scan, its full reconstruction says
            logger.debug("The probe is not looked for: %s", exc)
            return
        if refined.stopped or not refined.error < refined.start_error:
            return
        found = refined.probe
        logger.info("The probe was found from the first %d frames.", count)
        self._given = found
        self._take_probe(found)
        seen, self._seen = self._seen, SeenFrames()
        self._canvas, self._light = np.ones((0, 0), np.complex64), np.zeros((0, 0), np.float32)
        self._turns = np.empty(0, np.int64)
        for start in range(0, seen.count, GROUP):
            some = slice(start, min(start + GROUP, seen.count))
            positions = seen.positions[some]
            for group in _compact(positions, _CELL * self._size):
                patterns = [seen.patterns[start + number] for number in group.tolist()]
                self._add(patterns, positions[group])


def _lay(
    canvas: NDArray[np.complex64],
    before: NDArray[np.float32],
    made: NDArray[np.complex64],
    light: NDArray[np.float32],
    origin: tuple[int, int],
) -> None:
    """Put what a network has made into a canvas, with the phase and scale of what is there.

    Where both have light they are averaged by it, so that older frames outweigh one more.
    """
    (left, top), (height, width) = origin, made.shape
    rows = slice(max(top, 0), min(top + height, canvas.shape[0]))
    columns = slice(max(left, 0), min(left + width, canvas.shape[1]))
    source = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
    here, new, old = canvas[rows, columns], made[source], before[rows, columns]
    weight = light[source]
    both = np.minimum(weight, old)
    overlap = (both * here * new.conj()).sum()
    norm = (both * np.abs(new) ** 2).sum()
    factor = overlap / norm if norm > 0 and abs(overlap) > 0 else 1.0
    total = weight + old
    shown = weight > _DIM * max(float(weight.max()), LEAST)
    mixed = (weight * factor * new + old * here) / np.where(total > 0, total, 1)
    canvas[rows, columns] = np.where(shown, mixed, here)


def _compact(positions: NDArray[np.float64], extent: float) -> Iterator[NDArray[np.int64]]:
    """Frames that lie close together, :data:`GROUP` at most, as they came otherwise."""
    cells: dict[tuple[int, int], list[int]] = {}
    for number, (x, y) in enumerate(np.floor(positions / extent).astype(np.int64).tolist()):
        cells.setdefault((x, y), []).append(number)
    for members in cells.values():
        for start in range(0, len(members), GROUP):
            yield np.array(members[start : start + GROUP], np.int64)
