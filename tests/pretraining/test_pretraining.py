"""Scans to pretrain with: objects, probes, and the set that they are put together to."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from ptychopinn_ptychodus.backends.training_state import fingerprint
from ptychopinn_ptychodus.data.container import PtychoDataContainer
from ptychopinn_ptychodus.data.probe import probe_width
from ptychopinn_ptychodus.data.simulation import diffraction_intensity, make_probe
from ptychopinn_ptychodus.pretraining import PretrainingConfig
from ptychopinn_ptychodus.pretraining.objects import IMAGES, natural_image, random_object
from ptychopinn_ptychodus.pretraining.probes import (
    out_of_focus,
    partly_coherent,
    random_probe,
    rough_probe,
    stretched,
)
from ptychopinn_ptychodus.pretraining.scans import make_training_set, random_scan

SMALL = PretrainingConfig(scans=3, validation_scans=2, positions=4, gridsize=2)


def energies(data: PtychoDataContainer) -> np.ndarray:
    """Mean energy of the patterns of each probe."""
    assert data.probe_index is not None
    each = (data.amplitude.astype(float) ** 2).sum((1, 2))
    return np.bincount(data.probe_index, each) / np.bincount(data.probe_index)


@pytest.mark.parametrize("seed", range(12))
def test_objects_are_transmission_functions_with_something_in_them(seed: int) -> None:
    made = random_object((90, 110), np.random.default_rng(seed))
    assert made.shape == (90, 110)
    assert made.dtype == np.complex64
    assert np.abs(made).max() <= 1 + 1e-6
    assert np.abs(made).min() >= 0.29
    assert np.abs(made - made.mean()).max() > 0.02


def test_objects_differ() -> None:
    rng = np.random.default_rng(0)
    made = [random_object((64, 64), rng) for _ in range(8)]
    for number, one in enumerate(made):
        assert all(np.abs(one - other).max() > 0.02 for other in made[:number])


@pytest.mark.parametrize("name", IMAGES)
def test_natural_images_are_there_without_a_network(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it would be downloaded")

    monkeypatch.setattr("socket.socket.connect", refuse)
    picture = natural_image(name)
    assert picture.ndim == 2
    assert min(picture.shape) >= 128
    assert 0 <= picture.min() < picture.max() <= 1


@pytest.mark.parametrize("size", [64, 128])
def test_probes_are_of_many_widths_and_keep_off_the_border(size: int) -> None:
    rng = np.random.default_rng(1)
    probes = [random_probe(size, rng) for _ in range(12)]
    for probe in probes:
        assert probe.shape == (1, size, size)
        np.testing.assert_allclose((np.abs(probe) ** 2).sum(), 1.0, rtol=1e-4)
        intensity = (np.abs(probe[0]) ** 2).copy()
        intensity[4:-4, 4:-4] = 0
        assert intensity.sum() < 0.05
    widths = [probe_width(probe) for probe in probes]
    assert max(widths) > 1.5 * min(widths)


def test_the_width_of_a_disk_is_its_diameter() -> None:
    axis = np.arange(64) - 31.5
    disk = (np.hypot(axis, axis[:, None]) <= 12).astype(np.complex64)
    assert probe_width(disk[None]) == pytest.approx(24, rel=0.02)


def test_scans_range_over_dose_and_step() -> None:
    rng = np.random.default_rng(2)
    probe = make_probe(64)
    scans = [random_scan(probe, SMALL, rng) for _ in range(10)]
    photons = [scan.photons_per_pattern for scan in scans]
    assert SMALL.least_photons * 0.9 < min(photons) < max(photons) < SMALL.most_photons * 1.1
    assert max(photons) > 10 * min(photons)
    spans = [np.ptp(scan.xcoords) for scan in scans]
    assert max(spans) > 1.5 * min(spans)
    for scan in scans:
        assert scan.objectGuess is not None
        scan.require_inside(scan.objectGuess.shape)


def test_each_scan_has_a_probe_of_its_own_in_the_scale_of_its_patterns() -> None:
    made = make_training_set(SMALL)
    for data, count in ((made.training, 3), (made.validation, 2)):
        assert data.probes is not None
        assert data.probe_index is not None
        assert len(data) == 8 * count
        assert data.probes.shape == (count, 1, 64, 64)
        np.testing.assert_allclose(energies(data), 1.0, rtol=1e-4)
        np.testing.assert_allclose((np.abs(data.probes) ** 2).sum((1, 2, 3)), 1.0, rtol=1e-4)
        # a group is of one scan, and sees that scan's probe
        of_group = data.probe_index[data.nn_indices]
        assert (of_group == of_group[:, :1]).all()
        np.testing.assert_array_equal(data.probes_for(slice(None)), data.probes[of_group[:, 0]])
    assert made.training.probes is not None
    assert made.validation.probes is not None
    assert not np.array_equal(made.training.probes[0], made.validation.probes[0])


def test_the_known_objects_explain_the_patterns() -> None:
    """Each group has patches of its own scan's object, which the scan's probe makes its patterns of."""
    bright = dataclasses.replace(SMALL, least_photons=1e9, most_photons=1e9)
    data = make_training_set(bright, make_object=dark_lines).training
    assert data.objects is not None
    assert len(data.objects) == 3
    chosen = np.array([0, len(data) - 1, len(data) // 2, 1])
    patches = np.moveaxis(data.patches_for(chosen), -1, 1)
    measured = np.moveaxis(data.batch(chosen), -1, 1)
    probes = data.probes_for(chosen)
    for group in range(len(chosen)):
        counts = diffraction_intensity(patches[group], probes[group])
        assert np.abs(np.sqrt(counts) - measured[group]).max() < 0.01 * measured[group].max()
    np.testing.assert_array_equal(data.patches_for(chosen[1:2]), data.patches_for(chosen)[1:2])


def dark_lines(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Bright lines on nothing: most of the beam is lost, so that the scale of the object matters."""
    made = np.full(shape, 0.02, np.complex64)
    made[:, rng.integers(0, shape[1], 12)] = 1.0
    return made


def test_given_probes_are_taken_in_turn_whatever_their_scale_and_modes() -> None:
    given = [7.0 * make_probe(64), 0.1 * make_probe(64, diameter=0.6, modes=2)]
    made = make_training_set(SMALL, given)
    probes = np.concatenate([made.validation.probes, made.training.probes])
    assert probes.shape == (5, 2, 64, 64)
    for number, probe in enumerate(probes):
        expected = given[number % 2]
        np.testing.assert_allclose(
            probe[: len(expected)], expected / np.linalg.norm(expected), atol=1e-6 * np.abs(probe).max()
        )
        assert not probe[len(expected) :].any()


def test_made_beams_have_up_to_so_many_orthogonal_modes() -> None:
    made = make_training_set(dataclasses.replace(SMALL, scans=12, most_modes=3)).training
    assert made.probes is not None
    assert made.probes.shape == (12, 3, 64, 64)
    powers = (np.abs(made.probes) ** 2).sum((2, 3))
    np.testing.assert_allclose(powers.sum(1), 1.0, rtol=1e-4)
    assert {1, 2, 3} == set((powers > 0).sum(1))
    assert (np.diff(powers) <= 0).all()
    for modes in made.probes.reshape(12, 3, -1):
        overlaps = np.abs(modes.conj() @ modes.T)
        assert (overlaps - np.diag(np.diag(overlaps)) < 1e-3).all()


def test_what_is_wrong_about_a_rough_probe_is_not_its_power() -> None:
    rng = np.random.default_rng(3)
    true = partly_coherent(make_probe(64, diameter=0.4, defocus=3.0), 3, np.random.default_rng(5))
    assert len(true) > 1
    rough = [rough_probe(true, rng) for _ in range(12)]
    assert {len(probe) for probe in rough} == {1, len(true)}
    for probe in rough:
        assert (np.abs(probe) ** 2).sum() == pytest.approx((np.abs(true) ** 2).sum(), rel=1e-4)
    widths = [probe_width(probe) / probe_width(true[: len(probe)]) for probe in rough]
    assert min(widths) < 0.97
    assert max(widths) > 1.03


def test_a_probe_is_out_of_focus_and_of_another_width_by_what_is_said() -> None:
    probe = make_probe(64, diameter=0.4, defocus=3.0)
    wider = stretched(probe, 1.1)
    assert probe_width(wider) == pytest.approx(1.1 * probe_width(probe), rel=0.02)
    moved = out_of_focus(probe, 1.5)
    np.testing.assert_allclose(np.abs(np.fft.fft2(moved)), np.abs(np.fft.fft2(probe)), atol=1e-5)
    assert np.abs(out_of_focus(moved, -1.5) - probe).max() < 1e-6
    assert np.abs(moved - probe).max() > 0.05 * np.abs(probe).max()


def test_a_rough_probe_is_shown_and_all_else_is_of_the_true_one() -> None:
    right = make_training_set(SMALL).training
    config = dataclasses.replace(SMALL, probe_errors=1.0)
    made = make_training_set(config)
    for name in ("amplitude", "nn_indices", "coords", "probes", "probe_index"):
        np.testing.assert_array_equal(getattr(made.training, name), getattr(right, name))
    assert right.shown_probes is None
    assert right.shown_probes_for(slice(None)) is None
    assert right.objects is not None
    assert made.training.objects is not None
    for one, other in zip(made.training.objects, right.objects, strict=True):
        np.testing.assert_array_equal(one, other)
    for data in (made.training, made.validation):
        assert data.shown_probes is not None
        assert data.probes is not None
        assert data.shown_probes.shape == data.probes.shape
        np.testing.assert_allclose((np.abs(data.shown_probes) ** 2).sum((1, 2, 3)), 1.0, rtol=1e-4)
        differ = np.abs(data.shown_probes - data.probes).max((1, 2, 3)) > 0.02 * np.abs(data.probes).max()
        assert differ.mean() > 0.5
        # a group sees what is shown in place of its own scan's probe
        some = data.subset([0, len(data) - 1])
        shown = some.shown_probes_for(slice(None))
        np.testing.assert_array_equal(shown, data.shown_probes[[0, -1]])
        np.testing.assert_array_equal(some.probes_for(slice(None)), data.probes[[0, -1]])


def test_so_large_a_part_of_the_scans_has_a_rough_probe() -> None:
    made = make_training_set(dataclasses.replace(SMALL, scans=30, probe_errors=0.4)).training
    assert made.shown_probes is not None
    rough = (made.shown_probes != made.probes).any((1, 2, 3))
    assert 4 <= rough.sum() <= 20


def test_an_interrupted_pretraining_does_not_go_on_with_other_errors() -> None:
    some = [make_training_set(dataclasses.replace(SMALL, probe_errors=part)).training for part in (0, 0.3, 1)]
    assert len({fingerprint(data) for data in some}) == 3


def test_objects_that_nothing_is_compared_with_are_not_kept() -> None:
    with_objects = make_training_set(SMALL).training
    without = make_training_set(SMALL, with_objects=False).training
    assert without.objects is None
    assert np.array_equal(without.amplitude, with_objects.amplitude)


def test_the_seed_says_it_all() -> None:
    first, again = (make_training_set(SMALL).training for _ in range(2))
    other = make_training_set(dataclasses.replace(SMALL, seed=1)).training
    np.testing.assert_array_equal(first.amplitude, again.amplitude)
    np.testing.assert_array_equal(first.nn_indices, again.nn_indices)
    assert not np.array_equal(first.amplitude, other.amplitude)


def test_wide_groups_of_scattered_positions_still_overlap() -> None:
    config = dataclasses.replace(
        SMALL, scans=12, gridsize=3, neighbor_count=12, least_step=0.5, most_step=0.5, positions=6
    )
    made = make_training_set(config)
    assert np.abs(made.training.coords_relative).max() <= 32


def test_it_says_how_far_it_is_and_can_be_stopped() -> None:
    told: list[float] = []
    with pytest.raises(InterruptedError):
        make_training_set(SMALL, on_progress=told.append, should_stop=lambda: len(told) == 2)
    assert told == [0.2, 0.4]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scans": 0}, "scans"),
        ({"size": 100}, "size"),
        ({"positions": 2}, "positions"),
        ({"neighbor_count": 2}, "neighbor_count"),
        ({"most_photons": 10.0}, "most_photons"),
        ({"most_step": 0.9}, "most_step"),
        ({"seed": -1}, "seed"),
        ({"most_modes": 0}, "most_modes"),
        ({"probe_errors": -0.1}, "probe_errors"),
        ({"probe_errors": 1.5}, "probe_errors"),
        ({"probe_errors": float("nan")}, "probe_errors"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"PretrainingConfig.{said}"):
        dataclasses.replace(SMALL, **changes)


def test_a_probe_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Probe 1 has shape \(1, 128, 128\)"):
        make_training_set(SMALL, [make_probe(64), make_probe(128)])
