"""Simulated scans of many kinds, sound ones and ones with one thing wrong: for rates of errors.

    scan = sound_scan(seed)           a scan as it ought to be, of kinds drawn at random
    spoilt = FAULTS[name](scan, rng)  the same with one thing wrong

``RawData(**scan.fields)`` is what a user would bring; ``scan.object`` and ``scan.probe`` are the truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ptychopinn_ptychodus.data.probe import probe_width
from ptychopinn_ptychodus.data.simulation import diffraction_intensity, extract_patches, raster_positions
from ptychopinn_ptychodus.pretraining.objects import random_object
from ptychopinn_ptychodus.pretraining.probes import random_probe


@dataclass(frozen=True)
class MadeScan:
    """A simulated scan, and what it was made of.

    Attributes
    ----------
    kinds
        What was drawn, in words.
    fields
        Keyword arguments of RawData, the patterns in the type in which a user would have stored them.
    object
        (H, W) complex, the truth.
    probe
        (modes, N, N) complex, the truth, in √counts.
    holds
        What the patterns hold, declared or not: ``"counts"`` or ``"amplitude"``.
    unit
        What one count is in the patterns, or in their squares.
    """

    kinds: dict[str, str]
    fields: dict[str, Any]
    object: NDArray[np.complex64]
    probe: NDArray[np.complex64]
    holds: str = "counts"
    unit: float = 1.0

    @property
    def patterns(self) -> NDArray[Any]:
        """(M, N, N), as stored."""
        patterns: NDArray[Any] = self.fields["diff3d"]
        return patterns

    @property
    def counts(self) -> NDArray[np.float64]:
        """(M, N, N), counts."""
        values = self.patterns.astype(np.float64)
        return (values**2 if self.holds == "amplitude" else values) / self.unit

    def having(self, **changes: Any) -> MadeScan:
        """The same with other fields."""
        return replace(self, fields={**self.fields, **changes})

    def integers(self, dtype: Any = np.int64) -> MadeScan:
        """The same as whole counts of a type."""
        counts = np.rint(self.counts).astype(dtype)
        return replace(self.having(diff3d=counts, domain="counts"), holds="counts", unit=1.0)


# ---------------------------------------------------------------------- what a sound scan is made of


def _probe(n: int, rng: np.random.Generator) -> tuple[str, NDArray[np.complex128]]:
    kind = str(rng.choice(["made", "made", "pinhole", "gauss", "doughnut", "two modes"]))
    y, x = np.indices((n, n)) - (n - 1) / 2
    if kind == "pinhole":
        edge = rng.uniform(0.12, 0.3) * n
        wave = 0.5 * (1 - np.tanh((np.hypot(x, y) - edge) / 0.7)) + 0j
        return kind, wave[None]
    if kind == "gauss":
        wave = np.exp(-(x**2 + y**2) / (2 * (rng.uniform(0.07, 0.16) * n) ** 2))
        return kind, (wave * np.exp(1j * rng.normal(0, 10) * (x**2 + y**2) / n**2))[None]
    if kind == "doughnut":
        frequency = np.fft.fftfreq(n)
        aperture = rng.uniform(0.12, 0.28)
        radius = np.hypot(frequency[:, None], frequency[None, :]) / aperture
        ring = ((radius < 1) & (radius > rng.uniform(0.3, 0.6))).astype(float)
        defocus = math.pi / 2 * aperture * rng.uniform(0.3, 0.6) * n
        return kind, np.fft.fftshift(np.fft.ifft2(ring * np.exp(1j * defocus * radius**2)))[None]
    first = random_probe(n, rng).astype(np.complex128)
    if kind == "two modes":
        second = first[0] * x / n
        second *= math.sqrt(rng.uniform(0.05, 0.4) / (np.abs(second) ** 2).sum())
        return kind, np.stack([first[0], second])
    return kind, first


def _object(shape: tuple[int, int], rng: np.random.Generator) -> tuple[str, NDArray[np.complex64]]:
    kind = str(rng.choice(["any", "any", "any", "weak", "strong", "absorbing", "lone", "grating", "empty"]))
    y, x = np.indices(shape)
    if kind == "weak":
        made = random_object(shape, rng)
        out = np.exp(1j * rng.uniform(0.01, 0.2) * np.angle(made) / np.pi)
    elif kind == "strong":
        field = ndimage.gaussian_filter(rng.normal(size=shape), rng.uniform(1.5, 6))
        out = np.exp(1j * rng.uniform(1, 4) * field / field.std())
    elif kind == "absorbing":
        field = ndimage.gaussian_filter(rng.normal(size=shape), rng.uniform(2, 8)) > 0
        smooth = ndimage.gaussian_filter(field.astype(float), 0.8)
        out = 1 - rng.uniform(0.5, 0.95) * smooth + 0j
    elif kind == "lone":
        middle = rng.uniform(0.35, 0.65, 2) * shape
        radius = np.hypot(y - middle[0], x - middle[1])
        disk = 0.5 * (1 - np.tanh((radius - rng.uniform(0.06, 0.2) * min(shape)) / 1.5))
        out = (1 - rng.uniform(0, 0.9) * disk) * np.exp(1j * rng.uniform(-3, 3) * disk)
    elif kind == "grating":
        angle, period = rng.uniform(0, math.pi), rng.uniform(3, 12)
        wave = np.sin(2 * np.pi * (x * math.cos(angle) + y * math.sin(angle)) / period)
        out = np.exp(1j * rng.uniform(0.2, 1.5) * wave) * (1 - rng.uniform(0, 0.3) * (wave > 0))
    elif kind == "empty":
        out = np.ones(shape, complex)
        out[: shape[0] // 2] = random_object((shape[0] // 2, shape[1]), rng)
    else:
        out = random_object(shape, rng)
    return kind, np.asarray(out, np.complex64)


def _positions(
    count: int, span: float, rng: np.random.Generator
) -> tuple[str, NDArray[np.float64], NDArray[np.float64]]:
    """Kind, x and y, from 0 on: steps of the order of span."""
    kind = str(rng.choice(["raster", "raster", "exact raster", "random", "spiral", "line", "two regions"]))
    side = math.isqrt(count)
    if kind in ("raster", "exact raster"):
        jitter = 0.0 if kind == "exact raster" else rng.uniform(0.1, 0.35)
        x, y = raster_positions(side, side, span, jitter=jitter, seed=int(rng.integers(2**31)))
    elif kind == "random":
        x, y = rng.uniform(0, side * span, (2, side * side))
    elif kind == "spiral":
        index = np.arange(side * side) + 0.5
        radius, angle = span * np.sqrt(index / math.pi), index * math.pi * (3 - math.sqrt(5))
        x, y = radius * np.cos(angle), radius * np.sin(angle)
    elif kind == "line":
        along = np.arange(side * side) * span * 0.4
        turn = rng.uniform(0, math.pi)
        x, y = (np.asarray(along * part, np.float64) for part in (math.cos(turn), math.sin(turn)))
    else:
        half = max(2, side // 2)
        x, y = raster_positions(half, 2 * half, span, jitter=0.3, seed=int(rng.integers(2**31)))
        x = np.concatenate([x, x + 3 * side * span])
        y = np.concatenate([y, y])
    return kind, x - x.min(), y - y.min()


def _stored(counts: NDArray[np.float64], rng: np.random.Generator) -> tuple[str, NDArray[Any], str | None]:
    """The type in which the patterns are stored, and what they are declared to be."""
    kind = str(
        rng.choice(["u32", "u16", "big-endian", "i32", "float counts", "amplitude", "float16", "normalised"])
    )
    if kind == "u16" and counts.max() < 60000:
        return kind, counts.astype(np.uint16), "counts"
    if kind == "big-endian":
        return kind, counts.astype(">i4"), "counts"
    if kind == "i32":
        return kind, counts.astype(np.int32), "counts"
    if kind == "float counts":
        return kind, counts.astype(np.float32), str(rng.choice(["counts", ""])) or None
    if kind == "amplitude":
        return kind, np.sqrt(counts).astype(np.float32), str(rng.choice(["amplitude", ""])) or None
    if kind == "float16" and counts.max() < 2000:
        return kind, counts.astype(np.float16), "counts"
    if kind == "normalised":
        return kind, (np.sqrt(counts / counts.max())).astype(np.float32), None
    return "u32", counts.astype(np.uint32), "counts"


def sound_scan(seed: int, *, patterns: int = 100, size: int | None = None) -> MadeScan:
    """A scan with nothing wrong, whose every property is drawn at random from ``seed``.

    Parameters
    ----------
    seed
        Of everything.
    patterns
        About so many positions.
    size
        N; 64 or, for one scan of four, 128 by default.
    """
    rng = np.random.default_rng([seed, 20])
    n = size or (128 if rng.random() < 0.25 else 64)
    probe_kind, probe = _probe(n, rng)
    step = rng.uniform(0.08, 0.3) * probe_width(probe.astype(np.complex64))
    where, x, y = _positions(patterns, step, rng)
    margin = n / 2 + 2
    shape = (math.ceil(y.max() + 2 * margin), math.ceil(x.max() + 2 * margin))
    object_kind, object_ = _object(shape, rng)
    x, y = x + margin, y + margin
    photons = 10 ** rng.uniform(2, 7)
    expected = diffraction_intensity(extract_patches(object_, x, y, n), probe)
    scale = photons / float(expected.sum((1, 2)).mean())
    expected *= scale
    drift = "none"
    if rng.random() < 0.3:
        drift = "drift"
        phase = np.linspace(0, rng.uniform(1, 6), len(x))
        expected *= (1 + rng.uniform(0.05, 0.4) * np.sin(phase))[:, None, None]
    if rng.random() < 0.3:
        expected += rng.uniform(0, 0.02) * expected.mean()  # scattered light and a little dark current
    counts = rng.poisson(expected).astype(np.float64)
    bad, mask = np.zeros((n, n), bool), str(rng.choice(["none", "none", "gap", "beamstop", "hot pixels"]))
    if mask == "gap":
        first, wide = int(rng.integers(n - 6)), int(rng.integers(1, 5))
        bad[:, first : first + wide] = True
        if rng.random() < 0.5:
            bad = bad.T.copy()
        counts[:, bad] = rng.choice([0, 0, 65535])
    elif mask == "beamstop":
        yy, xx = np.indices((n, n)) - n // 2 - rng.integers(-1, 2, 2)[:, None, None]
        bad = yy**2 + xx**2 <= (rng.uniform(0.02, 0.2) * n) ** 2
        if counts[:, ~bad].sum() < 0.1 * counts.sum():
            bad, mask = np.zeros((n, n), bool), "none"
        counts[:, bad] *= rng.choice([0, 1])
    elif mask == "hot pixels":
        bad.ravel()[rng.choice(n * n, 12, replace=False)] = True
        counts[:, bad] = rng.choice([0, 65535, 30000])
    # of amplitude in other units, the marked pixels too
    storage, stored, domain = _stored(counts, rng)
    given, known = np.asarray(probe * math.sqrt(scale)), str(rng.choice(["right", "unit", "out of focus"]))
    if known == "unit":
        given = given / math.sqrt(float((np.abs(given) ** 2).sum()))
    elif known == "out of focus":
        given = _refocused(given, rng.normal(0, 2))
    if rng.random() < 0.5:
        order = rng.permutation(len(x))
        stored, x, y = stored[order], x[order], y[order]
    return MadeScan(
        kinds={
            "probe": probe_kind,
            "object": object_kind,
            "positions": where,
            "photons": f"{photons:.0g}",
            "N": str(n),
            "mask": mask,
            "storage": storage,
            "drift": drift,
            "known": known,
        },
        fields={
            "xcoords": x,
            "ycoords": y,
            "diff3d": stored,
            "probeGuess": given.astype(np.complex64),
            "bad_pixels": bad,
            "domain": domain,
        },
        object=object_,
        probe=(probe * math.sqrt(scale)).astype(np.complex64),
        holds="amplitude" if storage in ("amplitude", "normalised") else "counts",
        unit=1 / float(counts.max()) if storage == "normalised" else 1.0,
    )


def _refocused(probe: NDArray[np.complex128], turns: float) -> NDArray[np.complex128]:
    """Propagated on, so that the phase at a third of the largest frequency turns by so many radians."""
    frequency = np.fft.fftfreq(probe.shape[-1]) / (0.5 / 3)
    kernel = np.exp(1j * turns * (frequency[:, None] ** 2 + frequency[None, :] ** 2))
    return np.asarray(np.fft.ifft2(np.fft.fft2(probe) * kernel))


# ---------------------------------------------------------------------- one thing wrong

Fault = Callable[[MadeScan, np.random.Generator], MadeScan]
FAULTS: dict[str, Fault] = {}


def _fault(function: Fault) -> Fault:
    FAULTS[function.__name__] = function
    return function


def region(n: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """(N, N) bool: pixels of a gap, of a cross of gaps, or single ones."""
    out = np.zeros((n, n), bool)
    kind = int(rng.integers(3))
    if kind < 2:
        first, wide = int(rng.integers(n // 4, 3 * n // 4)), int(rng.integers(1, 5))
        out[first : first + wide] = True
    if kind == 1:
        first = int(rng.integers(n // 4, 3 * n // 4))
        out[:, first : first + wide] = True
    if kind == 2:
        out.ravel()[rng.choice(n * n, int(rng.integers(1, 20)), replace=False)] = True
    return out


def _unmarked(scan: MadeScan) -> MadeScan:
    """Whole counts, without bad pixels: what they held is made up from the pixels around."""
    bad = scan.fields["bad_pixels"]
    counts = scan.counts
    for frame in counts:
        frame[bad] = np.median(frame[~bad]) if bad.any() else 0
    whole = scan.integers()
    return whole.having(diff3d=counts, bad_pixels=np.zeros_like(bad))


@_fault
def stuck_at_type_maximum(scan: MadeScan, rng: np.random.Generator) -> MadeScan:
    """A gap that holds the largest value of its type."""
    counts, where = scan.integers().patterns, region(scan.patterns.shape[-1], rng)
    types = [t for t in (np.uint16, np.uint32, np.int32, ">u4", ">u2") if counts.max() < np.iinfo(t).max / 2]
    dtype = np.dtype(types[rng.integers(len(types))])
    patterns = counts.astype(dtype)
    patterns[:, where] = np.iinfo(dtype).max
    return scan.having(diff3d=patterns, domain="counts")


@_fault
def negative_sentinel(scan: MadeScan, rng: np.random.Generator) -> MadeScan:
    """A gap of -1, -2 or the least value of a type."""
    patterns, where = scan.integers(np.int32).patterns, region(scan.patterns.shape[-1], rng)
    patterns[:, where] = rng.choice([-1, -2, np.iinfo(np.int32).min])
    return scan.having(diff3d=patterns, domain="counts")


@_fault
def not_a_number(scan: MadeScan, rng: np.random.Generator) -> MadeScan:
    """A gap of NaN."""
    patterns, where = np.array(scan.patterns, np.float32), region(scan.patterns.shape[-1], rng)
    patterns[:, where] = np.nan
    return scan.having(diff3d=patterns)


@_fault
def hot_pixels(scan: MadeScan, rng: np.random.Generator) -> MadeScan:
    """One to six pixels with a value of their own, with or without noise, away from the bright middle."""
    n = scan.patterns.shape[-1]
    patterns = scan.integers(np.int64).patterns
    y, x = np.indices((n, n)) - n // 2
    mean = patterns.mean(0)
    free = np.flatnonzero(((np.hypot(y, x) > n / 5) & ~scan.fields["bad_pixels"]).ravel())
    where = np.unravel_index(rng.choice(free, int(rng.integers(1, 7)), replace=False), (n, n))
    value = max(50.0, rng.uniform(0.3, 3) * float(mean.max()))
    patterns[:, where[0], where[1]] = value if rng.random() < 0.5 else rng.poisson(value, (len(patterns), 1))
    return scan.having(diff3d=patterns.astype(np.int32), domain="counts")


@_fault
def dead_pixels(scan: MadeScan, rng: np.random.Generator) -> MadeScan:
    """One to six pixels in the light that count nothing."""
    n = scan.patterns.shape[-1]
    patterns = scan.integers(np.int64).patterns
    lit = (patterns.mean(0) > 0.1 * np.quantile(patterns.mean(0), 0.98)) & ~scan.fields["bad_pixels"]
    where = np.unravel_index(rng.choice(np.flatnonzero(lit), min(6, int(lit.sum())), replace=False), (n, n))
    patterns[:, where[0], where[1]] = 0
    return scan.having(diff3d=patterns.astype(np.uint32), domain="counts")


@_fault
def clipped(scan: MadeScan, rng: np.random.Generator) -> MadeScan:
    """Counts above a limit are lost: one that one value of two hundred reaches, or less."""
    patterns = scan.integers().patterns
    good = patterns[:, ~scan.fields["bad_pixels"]]
    limit = max(3, int(np.quantile(good, 1 - 10 ** rng.uniform(-2.3, -1))))
    patterns = np.minimum(patterns, limit)
    dtype = np.uint8 if limit < 256 else np.uint32
    return scan.having(diff3d=patterns.astype(dtype), domain="counts")


@_fault
def mask_inverted(scan: MadeScan, rng: np.random.Generator) -> MadeScan:
    """The bad pixels are good, and the good ones bad."""
    n = scan.patterns.shape[-1]
    bad = scan.fields["bad_pixels"] if scan.fields["bad_pixels"].any() else region(n, rng)
    counts = scan.integers().patterns
    counts[:, bad] = 0
    return scan.having(diff3d=counts, domain="counts", bad_pixels=~bad)


@_fault
def corner_centred(scan: MadeScan, rng: np.random.Generator) -> MadeScan:
    """The zero frequency is at (0, 0), as a Fourier transform has it."""
    half = scan.patterns.shape[-1] // 2
    return scan.having(
        diff3d=np.roll(scan.patterns, (half, half), (1, 2)),
        bad_pixels=np.roll(scan.fields["bad_pixels"], (half, half), (0, 1)),
    )


@_fault
def off_centre(scan: MadeScan, rng: np.random.Generator) -> MadeScan:
    """The patterns lie two to six pixels from the middle."""
    shift = rng.integers(2, 7, 2) * rng.choice([-1, 1], 2)
    return scan.having(
        diff3d=np.roll(scan.patterns, shift, (1, 2)),
        bad_pixels=np.roll(scan.fields["bad_pixels"], shift, (0, 1)),
    )


@_fault
def counts_as_amplitude(scan: MadeScan, rng: np.random.Generator) -> MadeScan:
    """Counts corrected for a flat field, which are not whole any more, and not declared."""
    counts = _unmarked(scan).integers().counts
    flat = rng.normal(1, 0.03, counts.shape[1:])
    bad = scan.fields["bad_pixels"]
    return scan.having(diff3d=(counts * flat).astype(np.float32), domain=None, bad_pixels=bad)


@_fault
def amplitude_as_counts(scan: MadeScan, rng: np.random.Generator) -> MadeScan:
    """Amplitude that is declared as counts."""
    return scan.having(diff3d=np.sqrt(scan.integers().counts).astype(np.float32), domain="counts")


@_fault
def dark_frames(scan: MadeScan, rng: np.random.Generator) -> MadeScan:
    """Some patterns without beam."""
    patterns = np.array(scan.patterns)
    patterns[rng.choice(len(patterns), int(rng.integers(1, 10)), replace=False)] = 0
    return scan.having(diff3d=patterns)


@_fault
def flash_frames(scan: MadeScan, rng: np.random.Generator) -> MadeScan:
    """One or two patterns full of light."""
    patterns = np.array(scan.integers(np.int64).patterns)
    chosen = rng.choice(len(patterns), int(rng.integers(1, 3)), replace=False)
    mean = patterns[:, ~scan.fields["bad_pixels"]].mean()
    patterns[chosen] = max(5, round(rng.uniform(10, 100) * mean))
    return scan.having(diff3d=patterns, domain="counts")


@_fault
def positions_within_a_pixel(scan: MadeScan, rng: np.random.Generator) -> MadeScan:
    """Positions in metres or millimetres."""
    unit = rng.choice([3e-8, 1e-8, 1e-3])
    return scan.having(xcoords=scan.fields["xcoords"] * unit, ycoords=scan.fields["ycoords"] * unit)


@_fault
def positions_far_apart(scan: MadeScan, rng: np.random.Generator) -> MadeScan:
    """Positions in a smaller unit than pixels."""
    unit = rng.choice([1e3, 1e6])
    return scan.having(xcoords=scan.fields["xcoords"] * unit, ycoords=scan.fields["ycoords"] * unit)
