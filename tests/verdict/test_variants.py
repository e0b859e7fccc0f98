"""What other readings do to patterns and positions."""

from __future__ import annotations

import numpy as np
import pytest

from ptychopinn_ptychodus.data.simulation import diffraction_intensity
from ptychopinn_ptychodus.verdict.variants import AS_IT_IS, Variant, orientations


def turned(image: np.ndarray, variant: Variant) -> np.ndarray:
    """An image in real space, turned as the variant turns patterns."""
    for axis, flip in zip((-1, -2), variant.patterns[:2], strict=True):
        image = np.flip(image, axis) if flip else image
    return image.swapaxes(-1, -2) if variant.patterns[2] else image


@pytest.mark.parametrize("variant", orientations(), ids=lambda variant: variant.name)
def test_a_pattern_turned_is_that_of_an_object_and_a_probe_turned(variant: Variant) -> None:
    rng = np.random.default_rng(0)
    patch, probe = (rng.normal(size=(1, 16, 16)) + 1j * rng.normal(size=(1, 16, 16)) for _ in range(2))
    found = variant.applied_to_patterns(diffraction_intensity(patch, probe))
    expected = diffraction_intensity(turned(patch, variant), turned(probe, variant))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("variant", orientations(), ids=lambda variant: variant.name)
def test_the_counterpart_puts_an_object_turned_back_where_it_is(variant: Variant) -> None:
    """Patterns turned one way, or positions the other way: the same but for object and probe as a whole."""
    counterpart = variant.counterpart
    assert counterpart is not None
    assert counterpart.counterpart == variant
    # a point of the object, seen from the beam at two positions; patterns turned are those of points turned
    points = np.array([[3.0, 1.0], [-2.0, 5.0]])
    as_positions = Variant(positions=variant.patterns).applied_to_positions(points)
    np.testing.assert_allclose(counterpart.applied_to_positions(as_positions), points)


def test_there_are_eight_orientations() -> None:
    pattern = np.arange(16.0).reshape(4, 4)
    made = {one.applied_to_patterns(pattern).tobytes() for one in (AS_IT_IS, *orientations())}
    assert len(made) == 8
