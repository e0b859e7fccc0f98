"""Scans of the collection, made of their descriptions and a seed: ``make(KINDS["disk"], 1)``."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import (
    diffraction_intensity,
    extract_patches,
    make_object,
    raster_positions,
)
from ptychopinn_ptychodus.pretraining.objects import IMAGES, natural_image

from .kinds import Beam, Kind

Rng = np.random.Generator
Image = NDArray[np.float64]

_AT_ONCE = 1024  # patterns: in double precision, a large scan would not fit into memory
_FLYING = (-0.4, -0.2, 0.0, 0.2, 0.4)  # of a step, where the beam is while a pattern is recorded
_SHARPEST = 0.7  # pixels, of the Gaussian that makes objects band-limited


@dataclass(frozen=True)
class MadeScan:
    """A scan of the collection and the truth: object (H, W), probe (modes, N, N), positions (M, 2) [x, y].

    The probe is the mean one where it varies.
    """

    raw: RawData
    object: NDArray[np.complex64]
    probe: NDArray[np.complex64]
    positions: NDArray[np.float64]


def make(kind: Kind, seed: int) -> MadeScan:
    """One scan of a kind; each kind has random numbers of its own for each seed."""
    later = [value for value in (kind.varying, kind.flying) if value not in (Kind.varying, Kind.flying)]
    name = ", ".join(map(str, (kind, *later)))
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    n = kind.size
    span = kind.step * kind.beam.width * n
    positions = _turned(_path(kind, span, rng), kind.turned)
    positions += n / 2 + 3 - positions.min(axis=0)
    width, height = (math.ceil(v) for v in positions.max(axis=0) + n / 2 + 3)
    truth = _sample(kind, (height, width), rng)
    probes = _probes(kind, len(positions), rng)

    def expected(part: slice) -> Image:
        if kind.flying:
            mean: Image = np.mean([seen(part, kind.flying * span * moved) for moved in _FLYING], axis=0)
            return mean
        return seen(part)

    def seen(part: slice, aside: float = 0.0) -> Image:
        x, y = positions[part].T
        patches = extract_patches(truth, x + aside, y, n)
        if len(probes) == 1:
            return diffraction_intensity(patches, probes[0])
        pairs = zip(patches, probes[part], strict=True)
        return np.concatenate([diffraction_intensity(patch[None], one) for patch, one in pairs])

    parts = [slice(first, first + _AT_ONCE) for first in range(0, len(positions), _AT_ONCE)]
    sums = np.concatenate([expected(part).sum((1, 2)) for part in parts])
    probe = probes.mean(0)
    scale = kind.photons / float(sums.mean())
    counts, bad = _detected(kind, lambda part: expected(part) * scale, parts, scale * sums, rng)
    given = _misplaced(kind, positions, span, rng)
    raw = RawData(
        xcoords=given[:, 0],
        ycoords=given[:, 1],
        diff3d=counts,
        probeGuess=beam(_known(kind), n),
        objectGuess=np.ones((height, width), np.complex64),
        bad_pixels=bad,
        domain="counts",
    )
    return MadeScan(raw, truth, (probe * math.sqrt(scale)).astype(np.complex64), positions)


# ---------------------------------------------------------------------- the beam


def beam(about: Beam, n: int, aside: float = 0.0) -> NDArray[np.complex64]:
    """(modes, n, n) complex64, ``Σ|P|² = 1``; ``aside`` is where along x the pupil is, part of its radius."""
    y, x = np.indices((n, n)) - (n - 1) / 2
    if about.aperture is None:
        first = 0.5 * (1 - np.tanh((np.hypot(x, y) - about.width * n / 2) / 1.5)) + 0j
    else:
        frequency = np.fft.fftfreq(n)
        fx, fy = frequency[None, :], frequency[:, None]
        radius, angle = np.hypot(fx, fy) / about.aperture, np.arctan2(fy, fx)
        soft = 2 / (n * about.aperture)
        edge = np.hypot(fx / about.aperture - aside, fy / about.aperture) if aside else radius
        pupil = 0.5 * (1 - np.tanh((edge - 1) / soft))
        if about.stop:
            pupil = pupil * 0.5 * (1 + np.tanh((radius - about.stop) / soft))
        # the cone has the slope of the phase at the rim
        phase = about.over * math.pi / 2 * about.aperture * about.width * n * radius**2
        phase = phase + about.astigmatism * radius**2 * np.cos(2 * (angle - 0.4))
        phase = phase + about.coma * radius**3 * np.cos(angle - 1.1) + about.spherical * radius**4
        # centred on (n - 1) / 2, as positions are
        ramp = np.exp(-2j * math.pi * (fx + fy) * (n - 1) / 2)
        first = np.fft.ifft2(pupil * np.exp(1j * phase) * ramp)
    shapes = [np.ones((n, n)), x, y, x * y, x * x - y * y]
    modes: list[NDArray[np.complex128]] = []
    for power, shape in zip(about.modes, shapes, strict=False):
        mode = first * shape
        for other in modes:  # orthogonal to those before
            mode = mode - other * np.vdot(other, mode) / np.vdot(other, other)
        modes.append(mode * math.sqrt(power / float((np.abs(mode) ** 2).sum())))
    stack = np.stack(modes)
    return np.asarray(stack / np.sqrt((np.abs(stack) ** 2).sum()), np.complex64)


def _probes(kind: Kind, count: int, rng: Rng) -> NDArray[np.complex64]:
    """(1, modes, N, N), or (count, modes, N, N) where they vary, of the same power."""
    (how, size), n = kind.varying, kind.size
    if how == "nothing":
        return beam(kind.beam, n)[None]
    if how == "mixture":
        modes = beam(replace(kind.beam, modes=(0.5, 0.5)), n) * math.sqrt(2)
        by = size * rng.normal(size=count)[:, None, None]
        mixed = (modes[0] + by * modes[1]) / np.sqrt(1 + by**2)
        return np.asarray(mixed[:, None], np.complex64)
    drift = math.sqrt(2) * size * np.sin(np.linspace(0, rng.uniform(4, 9), count) + rng.uniform(0, 6))
    makers: dict[str, Callable[[float], NDArray[np.complex64]]] = {
        "pupil": lambda by: beam(kind.beam, n, by),
        "focus": lambda by: beam(replace(kind.beam, width=(1 + by) * kind.beam.width), n),
    }
    return np.stack([makers[how](by) for by in drift])


def _known(kind: Kind) -> Beam:
    changes = dict(kind.known)
    for name in ("width", "aperture"):
        if name in changes:
            changes[name] *= getattr(kind.beam, name)
    return replace(kind.beam, **changes)


# ---------------------------------------------------------------------- the sample


def _sample(kind: Kind, shape: tuple[int, int], rng: Rng) -> NDArray[np.complex64]:
    name, strength = kind.sample
    absorption, phase = SAMPLES[name](shape, strength, rng)
    absorption, phase = (ndimage.gaussian_filter(v, _SHARPEST) for v in (absorption, phase))
    return np.asarray((1 - absorption) * np.exp(1j * phase), np.complex64)


def _stretched(values: NDArray[Any]) -> NDArray[Any]:
    return np.asarray((values - values.min()) / max(float(np.ptp(values)), 1e-12))


def _smooth(shape: tuple[int, int], width: float, rng: Rng) -> Image:
    return _stretched(ndimage.gaussian_filter(rng.normal(size=shape), width))


def _particles(shape: tuple[int, int], strength: float, rng: Rng) -> tuple[Image, Image]:
    """Round particles, dense beads and a film's edge, hardly absorbing."""
    y, x = np.indices(shape)
    phase = np.zeros(shape)
    for low, high, height, every in ((5, 9, 0.5, 900), (1.5, 2.5, 1.0, 1500)):
        for _ in range(shape[0] * shape[1] // every):
            cy, cx = rng.uniform(0, 1, 2) * shape
            radius = rng.uniform(low, high)
            ball = np.sqrt(np.clip(1 - ((y - cy) ** 2 + (x - cx) ** 2) / radius**2, 0, None))
            phase += height * rng.uniform(0.7, 1) * ball
    angle = rng.uniform(0, 2 * math.pi)
    edge = (x - shape[1] / 2) * math.cos(angle) + (y - shape[0] / 2) * math.sin(angle)
    phase += 0.3 / (1 + np.exp(-edge / 2))
    return 0.05 * strength * phase, strength * np.minimum(phase, 1.5)


def _mixed(shape: tuple[int, int], strength: float, rng: Rng) -> tuple[Image, Image]:
    made = make_object(shape, "mixed", int(rng.integers(2**31)))
    return _stretched(1 - np.abs(made)) * 0.5, strength * _stretched(np.angle(made))


def _hills(shape: tuple[int, int], strength: float, rng: Rng) -> tuple[Image, Image]:
    return np.zeros(shape), strength * _smooth(shape, 5, rng)


def _absorbing(shape: tuple[int, int], strength: float, rng: Rng) -> tuple[Image, Image]:
    return strength * (_smooth(shape, 4, rng) > 0.5).astype(np.float64), np.zeros(shape)


def _lone(shape: tuple[int, int], strength: float, rng: Rng) -> tuple[Image, Image]:
    y, x = np.indices(shape)
    cy, cx = rng.uniform(0.4, 0.6, 2) * shape
    disk = (np.hypot(y - cy, x - cx) < 0.1 * min(shape)).astype(float)
    return 0.2 * disk, strength * disk


def _grains(shape: tuple[int, int], strength: float, rng: Rng) -> tuple[Image, Image]:
    points = rng.uniform(0, 1, (max(4, shape[0] * shape[1] // 400), 2)) * shape
    nearest = cKDTree(points).query(np.indices(shape).reshape(2, -1).T)[1].reshape(shape)
    return 0.3 * rng.uniform(size=len(points))[nearest], strength * rng.uniform(size=len(points))[nearest]


def _texture(shape: tuple[int, int], strength: float, rng: Rng) -> tuple[Image, Image]:
    return 0.2 * _smooth(shape, 0.8, rng), strength * _smooth(shape, 0.8, rng)


def _half(shape: tuple[int, int], strength: float, rng: Rng) -> tuple[Image, Image]:
    absorption, phase = _mixed(shape, strength, rng)
    shown = np.arange(shape[0])[:, None] < shape[0] / 2
    return absorption * shown, phase * shown


def _grating(shape: tuple[int, int], strength: float, rng: Rng) -> tuple[Image, Image]:
    y, x = np.indices(shape)
    angle = rng.uniform(0, math.pi)
    waves = np.sin(2 * math.pi * (x * math.cos(angle) + y * math.sin(angle)) / rng.uniform(6, 10))
    lines = (waves > 0).astype(np.float64)
    return 0.2 * lines, strength * lines


def _photograph(shape: tuple[int, int], strength: float, rng: Rng) -> tuple[Image, Image]:
    picture = natural_image(IMAGES[rng.integers(len(IMAGES))])
    zoom = [a / b for a, b in zip(shape, picture.shape, strict=True)]
    piece = ndimage.zoom(ndimage.gaussian_filter(picture, 0.4 / min(zoom)), zoom, order=1)
    return 0.3 * _stretched(piece), strength * _stretched(piece)


SAMPLES: dict[str, Callable[[tuple[int, int], float, Rng], tuple[Image, Image]]] = {
    "particles": _particles,
    "mixed": _mixed,
    "hills": _hills,
    "absorbing": _absorbing,
    "lone": _lone,
    "grains": _grains,
    "texture": _texture,
    "half": _half,
    "grating": _grating,
    "photograph": _photograph,
}
"""Makers of absorption and phase."""


# ---------------------------------------------------------------------- scan and detector


def _path(kind: Kind, span: float, rng: Rng) -> Image:
    side = max(2, round(math.sqrt(kind.count)))
    index = np.arange(side * side)
    if kind.path == "random":
        return rng.uniform(0, side * span, (side * side, 2))
    if kind.path == "spiral":
        radius, angle = span * np.sqrt((index + 0.5) / math.pi), index * math.pi * (3 - math.sqrt(5))
        return np.stack((radius * np.cos(angle), radius * np.sin(angle)), -1)
    shaken = {"raster": 0.0, "shaken": 0.25, "rows": 0.0}[kind.path]
    x, y = raster_positions(side, side, span, jitter=shaken, seed=int(rng.integers(2**31)))
    if kind.path == "rows":
        x = x + np.repeat(rng.uniform(-0.5, 0.5, side) * span, side)
    return np.stack((x, y), -1)


def _turned(positions: Image, degrees: float) -> Image:
    angle = math.radians(degrees)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return np.asarray(positions @ turn.T)


def _misplaced(kind: Kind, positions: Image, span: float, rng: Rng) -> Image:
    how, size = kind.wrong
    centred = positions - positions.mean(axis=0)
    along = np.linspace(-1, 1, len(positions))[:, None]
    errors: dict[str, Callable[[], Any]] = {
        "nothing": lambda: np.zeros_like(positions),
        "noise": lambda: rng.normal(size=positions.shape),
        "drift": lambda: np.hstack((along, along**2)),
        "scale": lambda: centred * (1.0, 0.7),
        "rotation": lambda: centred[:, ::-1] * (1, -1),
        "backlash": lambda: np.hstack((np.floor(centred[:, 1:] / span) % 2 - 0.5, 0 * along)),
    }
    error = errors[how]()
    rms = math.sqrt(float((error**2).sum(1).mean()))
    return positions + (size / rms * error if rms else 0.0)


def _detected(
    kind: Kind,
    expected: Callable[[slice], Image],
    parts: list[slice],
    sums: NDArray[np.float64],
    rng: Rng,
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Counts (M, N, N) and bad pixels (N, N), of what is expected in each part of the scan; (M,) its sums."""
    n, count = kind.size, len(sums)
    factor, background = np.ones(count), np.zeros((n, n))
    if kind.fluctuation:
        drift = np.sin(np.linspace(0, rng.uniform(2, 6), count))
        factor = 1 + kind.fluctuation * (drift + 0.5 * rng.normal(size=count))
        factor = np.clip(factor, 0.1, None)
    light = float((factor * sums).mean()) / n**2
    if kind.detector == "background":
        background = np.full((n, n), 0.02 * light)
    if kind.detector == "halo":
        y, x = np.indices((n, n)) / n - 0.5
        # round something beside the beam, and a shadow's edge
        halo = np.exp(-((x - 0.1) ** 2 + (y + 0.05) ** 2) / 0.06)
        halo *= 1 + 0.7 * np.tanh((x + 0.6 * y - 0.1) / 0.05)
        background = 0.05 * light * halo / halo.mean()
    counts = np.empty((count, n, n), np.int32)
    for part in parts:
        seen = expected(part)
        if kind.detector == "blurred":
            seen = ndimage.gaussian_filter(seen, (0, 0.7, 0.7))
        if kind.detector == "shaking":
            shifts = rng.uniform(-1, 1, (len(seen), 2))
            seen = np.stack([ndimage.shift(one, by, order=1) for one, by in zip(seen, shifts, strict=True)])
        counts[part] = rng.poisson(seen * factor[part, None, None] + background)
        if kind.detector == "noisy":
            counts[part] = np.maximum(counts[part] + np.rint(rng.normal(0, 3, seen.shape)), 0)
    bad = np.zeros((n, n), np.bool_)
    if kind.detector == "gaps":
        bad[:, 3 * n // 5 : 3 * n // 5 + 3] = bad[n // 3 : n // 3 + 2] = True
    if kind.detector == "beamstop":
        y, x = np.indices((n, n)) - n // 2
        bad = np.hypot(x, y) <= 0.05 * n
    if kind.detector == "saturated":
        most = int(0.5 * counts.max())
        bad = (counts >= most).mean(0) > 0.05
        np.minimum(counts, most, out=counts)
    counts[:, bad] = 0
    return counts, bad
