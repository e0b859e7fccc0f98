"""The kinds of scans in the collection, each described as data; :mod:`.make` makes scans of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Beam:
    """What a lens or a zone plate makes of a plane wave, or a soft disk in the plane of the sample.

    Attributes
    ----------
    aperture
        Radius of the pupil, cycles per pixel; None for a disk in the plane of the sample.
    stop
        Radius of the central stop, part of the aperture.
    width
        Of the cone of light where it meets the sample, or of the disk; part of N. Sets the focus.
    over
        On which side of the focus the sample is, 1 or -1.
    astigmatism, coma, spherical
        Phase at the rim of the pupil, rad.
    modes
        Power of the incoherent modes, the strongest first.
    """

    aperture: float | None = 0.2
    stop: float = 0.0
    width: float = 0.4
    over: int = 1
    astigmatism: float = 0.0
    coma: float = 0.0
    spherical: float = 0.0
    modes: tuple[float, ...] = (1.0,)


@dataclass(frozen=True)
class Kind:
    """One kind of scan.

    Attributes
    ----------
    beam
        The true one.
    known
        What the product's probe has otherwise: factors of ``width`` and ``aperture``, and other fields of
        :class:`Beam` as they are; empty if the probe is right.
    sample
        Name of a maker in :mod:`.make`, and how strong: the largest phase in rad, or absorption.
    path, step, turned, count
        ``"raster"``, ``"shaken"``, ``"rows"``, ``"spiral"`` or ``"random"``; distance of neighbours as a part
        of the beam's width; degrees; about so many patterns.
    photons
        Of a pattern.
    detector
        ``"whole"``, ``"gaps"``, ``"beamstop"``, ``"background"``, ``"halo"`` (a background that is not even),
        ``"saturated"``, ``"blurred"`` (by 0.7 pixels), ``"noisy"`` (readout noise of three counts, negative
        ones set to 0) or ``"shaking"`` (each pattern up to a pixel aside).
    wrong
        What is wrong with the positions: ``"nothing"``, ``"noise"``, ``"drift"``, ``"scale"``, ``"rotation"``
        or ``"backlash"``, and by how many pixels, root mean square.
    fluctuation
        Of the beam's intensity from pattern to pattern, and as a drift; relative.
    size
        N.
    varying
        What changes the beam's shape during the scan, and by how much, root mean square: ``"nothing"``;
        ``"pupil"``, which moves sideways, by a part of its radius; ``"focus"``, by a part of the width; or
        ``"mixture"`` with another shape, at random, by a part of the amplitude.
    flying
        How far the beam moves along x while a pattern is recorded, part of a step.
    """

    beam: Beam = field(default_factory=Beam)
    known: Mapping[str, Any] = field(default_factory=dict)
    sample: tuple[str, float] = ("mixed", 0.8)
    path: str = "shaken"
    step: float = 0.2
    turned: float = 0.0
    count: int = 196
    photons: float = 1e6
    detector: str = "whole"
    wrong: tuple[str, float] = ("nothing", 0.0)
    fluctuation: float = 0.0
    size: int = 64
    # no part of a description that names them not, so that the scans of all other kinds stay what they were
    varying: tuple[str, float] = field(default=("nothing", 0.0), repr=False)
    flying: float = field(default=0.0, repr=False)


_NEAR = Beam(aperture=0.24, width=0.25)
_ZONE_PLATE = Beam(aperture=0.22, stop=0.45, width=0.45)
_BENT = Beam(astigmatism=1.2, coma=0.8, spherical=0.6)
_DISK = Beam(aperture=None, width=0.4)
_PARTLY = replace(_ZONE_PLATE, modes=(0.75, 0.15, 0.10))
_MANY = Beam(modes=(0.6, 0.15, 0.12, 0.08, 0.05))
_FOCUS_OFF = {"width": 1.2}
_COMPUTED = {"width": 1.3, "aperture": 1.05}
_WEAK = ("particles", 0.15)

KINDS: dict[str, Kind] = {
    # the probe, and what is known of it
    "usual": Kind(),
    "near the focus": Kind(_NEAR, step=0.25),
    "zone plate": Kind(_ZONE_PLATE),
    "zone plate, focus off": Kind(_ZONE_PLATE, _FOCUS_OFF),
    "zone plate, far off": Kind(_ZONE_PLATE, {"width": 1.5, "aperture": 1.1}),
    "zone plate, stop not known": Kind(_ZONE_PLATE, {"stop": 0.0}),
    "aberrations": Kind(_BENT),
    "aberrations not known": Kind(_BENT, {"astigmatism": 0.0, "coma": 0.0, "spherical": 0.0}),
    "disk": Kind(_DISK),
    "disk, 20 % too wide": Kind(_DISK, _FOCUS_OFF),
    "focus off": Kind(known=_FOCUS_OFF),
    "focus 30 % short": Kind(known={"width": 0.7}),
    "computed": Kind(known=_COMPUTED),
    "aperture 10 % small": Kind(known={"aperture": 0.9}),
    "three modes": Kind(_PARTLY),
    "three modes, one known": Kind(_PARTLY, {"modes": (1.0,)}),
    "five modes": Kind(_MANY),
    "other side of the focus": Kind(_NEAR, {"over": -1}, step=0.25),
    # the object
    "weak phase": Kind(sample=_WEAK),
    "very weak phase": Kind(sample=("particles", 0.05), photons=1e7),
    "strong phase": Kind(sample=("hills", 6.0)),
    "strong phase, probe off": Kind(known=_COMPUTED, sample=("hills", 6.0)),
    "absorbing": Kind(sample=("absorbing", 0.9)),
    "absorbing, probe off": Kind(known=_COMPUTED, sample=("absorbing", 0.9)),
    "lone feature": Kind(sample=("lone", 1.5)),
    "flat regions": Kind(sample=("grains", 1.2)),
    "fine texture": Kind(sample=("texture", 0.6)),
    "fine texture, probe off": Kind(known=_COMPUTED, sample=("texture", 0.6)),
    "half blank": Kind(sample=("half", 0.8)),
    "grating": Kind(sample=("grating", 0.8)),
    "photograph": Kind(sample=("photograph", 1.5)),
    # the scan
    "exact raster": Kind(path="raster"),
    "exact raster, weak": Kind(sample=_WEAK, path="raster"),
    "exact raster, weak, computed": Kind(known=_COMPUTED, sample=_WEAK, path="raster", photons=3e4),
    "raster, weak, computed, few counts": Kind(
        replace(_BENT, coma=0.0), _COMPUTED, _WEAK, "raster", 0.22, -126.0, 484, 1.2e4
    ),
    "raster, weak, zone plate off": Kind(_ZONE_PLATE, _COMPUTED, _WEAK, "raster", 0.2, 30.0, 400, 1e5),
    "exact raster, computed": Kind(known=_COMPUTED, path="raster", turned=17.0),
    "rows": Kind(path="rows"),
    "spiral": Kind(path="spiral"),
    "random": Kind(path="random"),
    "dense": Kind(step=0.1, count=400),
    "sparse": Kind(step=0.4),
    "25 patterns": Kind(count=25),
    # dose and detector
    "1e2 photons": Kind(sample=("mixed", 1.5), photons=1e2),
    "1e3 photons": Kind(photons=1e3),
    "1e4 photons": Kind(photons=1e4),
    "1e8 photons": Kind(photons=1e8),
    "gaps": Kind(detector="gaps"),
    "beamstop": Kind(detector="beamstop"),
    "background": Kind(detector="background"),
    "uneven background": Kind(detector="halo"),
    "saturated": Kind(detector="saturated"),
    "blurred detector": Kind(detector="blurred"),
    "readout noise": Kind(photons=1e5, detector="noisy"),
    "shaking detector": Kind(detector="shaking"),
    "fly scan": Kind(path="rows", flying=1.0),
    "unsteady beam": Kind(fluctuation=0.1),
    "probe moving": Kind(varying=("pupil", 0.15)),
    "probe moving in focus": Kind(varying=("focus", 0.15)),
    "probe varying": Kind(varying=("mixture", 0.3)),
    # positions
    "positions 1 px": Kind(wrong=("noise", 1.0)),
    "positions 3 px": Kind(wrong=("noise", 3.0)),
    "positions 10 px": Kind(
        _ZONE_PLATE, sample=("grains", 1.2), path="spiral", step=0.15, wrong=("noise", 10.0), size=128
    ),
    "positions 30 px": Kind(
        _ZONE_PLATE, sample=("grains", 1.2), path="spiral", step=0.15, wrong=("noise", 30.0), size=128
    ),
    "positions drift": Kind(wrong=("drift", 3.0)),
    "positions scaled": Kind(wrong=("scale", 2.0)),
    "positions turned": Kind(wrong=("rotation", 2.0)),
    "positions drift, 30 px": Kind(size=128, step=0.15, wrong=("drift", 30.0)),
    "positions scaled, 30 px": Kind(size=128, step=0.15, wrong=("scale", 30.0)),
    "positions turned, 30 px": Kind(size=128, step=0.15, wrong=("rotation", 30.0)),
    "positions with backlash": Kind(wrong=("backlash", 1.5)),
    # size
    "128": Kind(size=128, step=0.15),
}
"""Kinds by name. The first of each group is what the others of it depart from."""


_LATER = frozenset(
    (
        "uneven background",
        "blurred detector",
        "readout noise",
        "shaking detector",
        "fly scan",
        "probe moving",
        "probe moving in focus",
        "probe varying",
        "positions 10 px",
        "positions 30 px",
        "positions drift, 30 px",
        "positions scaled, 30 px",
        "positions turned, 30 px",
    )
)


def drawn_kinds(seed: int, count: int) -> dict[str, Kind]:
    """Kinds that nobody has thought of: each property is that of one of :data:`KINDS`, drawn at random.

    The beam and what is known of it are of the same one, or else it could be known to be anything. Kinds that
    came later are not drawn, so that a seed draws what it always did.
    """
    rng = np.random.default_rng([seed, 12])
    known = [kind for name, kind in KINDS.items() if name not in _LATER]

    def value(name: str) -> Any:
        values = list({repr(getattr(kind, name)): getattr(kind, name) for kind in known}.values())
        return values[rng.integers(len(values))]

    drawn = {}
    for number in range(1, count + 1):
        one = known[rng.integers(len(known))]
        others = [f.name for f in fields(Kind) if f.repr and f.name not in ("beam", "known", "size")]
        drawn[f"drawn {number}"] = replace(one, size=64, **{name: value(name) for name in others})
    return drawn
