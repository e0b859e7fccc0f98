"""Data and helpers of these tests."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from ptychodus.api.assemble import AssembledDiffractionData
from ptychodus.api.geometry import PixelGeometry
from ptychodus.api.object import Object, ObjectCenter
from ptychodus.api.probe import ProbeSequence
from ptychodus.api.probe_positions import ProbePosition, ProbePositionSequence
from ptychodus.api.product import Product, ProductMetadata
from ptychodus.api.settings import SettingsRegistry

from ptychopinn_ptychodus.backends import registry
from ptychopinn_ptychodus.plugin.library import PtychoPINNPluginLibrary

N = 64
T = TypeVar("T")
PIXEL_M = 2.0e-8
SHAPE = (100, 120)  # not square: rows and columns must not be exchanged
CENTER = ObjectCenter(x_m=3e-7, y_m=-5e-7)

PLAIN = {
    "Refinement_Epochs": 0,
    "Training_ProbeTrainable": False,
    "Examination_Judge": False,
    "Examination_Confidence": False,
}
"""Unless a test asks for it, nothing is refined: the result is then exactly what the fake engine predicts.

Nor is a probe found before a training, or a result judged or told how sure it is: of these patterns, which no
object explains, that takes as many trials as there are, and seconds in which nothing is tested.
"""


def forget_engines() -> None:
    registry.list_engines.cache_clear()
    registry.get_engine.cache_clear()


def add_distribution(site: Path, name: str, entry_points: str) -> None:
    directory = site / f"{name.replace('-', '_')}-1.0.dist-info"
    directory.mkdir()
    (directory / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (directory / "entry_points.txt").write_text(entry_points)


def add_engines(site: Path, distribution: str, module: str = "fake_engine", **classes: str) -> None:
    lines = [f"{name} = {module}:{cls}" for name, cls in classes.items()]
    add_distribution(site, distribution, "\n".join(["[ptychopinn_ptychodus.backends]", *lines, ""]))


def make_patterns(count: int, n: int = N) -> np.ndarray:
    y, x = np.mgrid[:n, :n] - n / 2
    mean = 500.0 * np.exp(-(x**2 + y**2) / (2 * 6.0**2))
    return np.random.default_rng(1).poisson(mean, (count, n, n)).astype(np.uint16)


def make_product(count: int, n: int = N, *, layers: int = 1, modes: int = 2, opr: int = 1) -> Product:
    rng = np.random.default_rng(2)
    positions = ProbePositionSequence(
        [
            ProbePosition(
                i,
                CENTER.x_m + PIXEL_M * rng.uniform(-25, 25),
                CENTER.y_m + PIXEL_M * rng.uniform(-15, 15),
            )
            for i in range(count)
        ]
    )
    y, x = np.mgrid[:n, :n] - (n - 1) / 2
    probe = np.exp(-(x**2 + y**2) / (2 * 8.0**2)) * np.exp(0.01j * (x**2 + y**2))
    weights = None if opr == 1 else np.full((count, opr), 1 / opr)
    texture = np.exp(1j * rng.uniform(0, 1, (layers, *SHAPE)))
    return Product(
        metadata=ProductMetadata(
            name="scan",
            comments="",
            detector_distance_m=0.6814,  # as the pixels of the object and of the detector have it
            photon_energy_eV=8800.0,
            probe_photon_count=1e5,
            exposure_time_s=0.1,
            mass_attenuation_m2_per_kg=0.0,
            tomography_angle_deg=0.0,
        ),
        probe_positions=positions,
        probes=ProbeSequence(
            np.tile(probe, (opr, modes, 1, 1)).astype(np.complex64), weights, PixelGeometry(PIXEL_M, PIXEL_M)
        ),
        object_=Object(
            texture.astype(np.complex64), PixelGeometry(PIXEL_M, PIXEL_M), CENTER, [1e-6] * (layers - 1)
        ),
        losses=[],
    )


def make_data(count: int, n: int = N) -> AssembledDiffractionData:
    bad = np.zeros((n, n), dtype=bool)
    bad[3, 5] = True
    return AssembledDiffractionData(
        np.arange(count), make_patterns(count, n), PixelGeometry(7.5e-5, 7.5e-5), bad
    )


def make_library(**values: Any) -> PtychoPINNPluginLibrary:
    """A library as Ptychodus makes it, with settings given as ``Group_Name=value`` over :data:`PLAIN`."""
    library = PtychoPINNPluginLibrary(SettingsRegistry(), False)
    for key, value in {**PLAIN, **values}.items():
        group, name = key.split("_")
        library.settings[f"{group}.{name}"].set_value(value)
    return library


def run(generator: Iterable[T]) -> list[T]:
    return list(generator)
