"""Phases of patches, recovered from their overlaps."""

from __future__ import annotations

import numpy as np

from ptychopinn_ptychodus.data import metrics
from ptychopinn_ptychodus.data.assembly import assemble
from ptychopinn_ptychodus.data.grouping import group_neighbours
from ptychopinn_ptychodus.data.simulation import extract_patches
from ptychopinn_ptychodus.data.stitching import stitch
from ptychopinn_ptychodus.data.synchronisation import synchronise_groups, synchronise_phases

N = 64


def test_random_phases_ruin_the_object_and_are_recovered(obj, probe, positions):
    x, y = positions
    rng = np.random.default_rng(0)
    phases = np.exp(2j * np.pi * rng.random(len(x)))
    patches = (extract_patches(obj, x, y, N) * phases[:, None, None]).astype(np.complex64)
    weight = (np.abs(probe) ** 2).sum(0)
    mask = metrics.illumination_mask(probe, x, y, obj.shape)

    def score(stack):
        canvas = stitch(stack, x, y, obj.shape, weight=weight)
        return metrics.compare(canvas.object, obj, mask, max_shift=0)

    assert score(patches).amplitude.ssim < 0.5
    recovered = score(synchronise_phases(patches, x, y, weight))
    assert recovered.amplitude.ssim > 0.98
    assert recovered.phase.ssim > 0.98


def test_amplitudes_are_not_touched(obj):
    patches = extract_patches(obj, [60.0, 70.0], [60.0, 64.0], N) * np.exp([[[0.3j]], [[-1.2j]]])
    out = synchronise_phases(patches, [60.0, 70.0], [60.0, 64.0])
    np.testing.assert_allclose(np.abs(out), np.abs(patches), rtol=1e-5)
    np.testing.assert_allclose(out[0, 4:, 10:], out[1, :-4, :-10], atol=1e-4)


def test_patches_that_do_not_overlap_are_left_alone():
    patches = np.exp(1j * np.array([0.3, 1.1]))[:, None, None] * np.ones((2, 16, 16))
    out = synchronise_phases(patches, [20.0, 90.0], [20.0, 20.0])
    np.testing.assert_allclose(out, patches, rtol=1e-6)


def test_groups_with_random_phases_are_assembled_to_the_object(obj, probe, positions):
    x, y = positions
    coords = np.stack([x, y], axis=-1)
    indices = group_neighbours(coords, 2, 6, None, seed=0)
    rng = np.random.default_rng(1)
    phases = np.exp(2j * np.pi * rng.random(len(indices)))[:, None, None, None]
    patches = (extract_patches(obj, x, y, N)[indices] * phases).astype(np.complex64)
    weight = (np.abs(probe) ** 2).sum(0)
    mask = metrics.illumination_mask(probe, x, y, obj.shape)
    canvas = assemble(patches, indices, coords, obj.shape, weight)
    scores = metrics.compare(canvas.object, obj, mask, max_shift=0)
    assert scores.amplitude.ssim > 0.98
    assert scores.phase.ssim > 0.98


def test_groups_that_share_no_pattern_are_left_alone():
    patches = np.exp(1j * np.arange(8.0)).reshape(2, 4, 1, 1) * np.ones((1, 1, 16, 16))
    out = synchronise_groups(patches, np.arange(8).reshape(2, 4), np.ones((16, 16)))
    np.testing.assert_allclose(out, patches, rtol=1e-6)
