"""Adding incoherent modes to a probe."""

from __future__ import annotations

import numpy as np
import pytest

from ptychopinn_ptychodus.data.probe import with_modes
from ptychopinn_ptychodus.data.simulation import make_probe


@pytest.mark.parametrize("count", [2, 3, 5, 7])
def test_added_modes_are_orthogonal_weak_and_keep_the_power(count: int) -> None:
    probe = make_probe(64) * np.complex64(30)
    modes = with_modes(probe, count)
    gram = np.einsum("aij,bij->ab", modes.conj(), modes)
    powers = gram.diagonal().real
    assert modes.shape == (count, 64, 64)
    assert powers.sum() == pytest.approx((np.abs(probe) ** 2).sum(), rel=1e-4)
    assert np.abs(gram - np.diag(gram.diagonal())).max() < 1e-3 * powers[0]
    np.testing.assert_allclose(powers[1:] / powers[0], 0.04, rtol=1e-3)


def test_given_modes_stay_and_fewer_are_refused() -> None:
    probe = make_probe(64, modes=2)
    assert with_modes(probe, 2) is probe
    extended = with_modes(probe, 3)
    np.testing.assert_allclose(extended[1] / extended[0].max(), probe[1] / probe[0].max(), atol=1e-5)
    with pytest.raises(ValueError, match="has 2"):
        with_modes(probe, 1)


def test_modes_without_light_are_passed_over() -> None:
    given = np.zeros((3, 64, 64), np.complex64)
    given[1] = make_probe(64)[0]
    modes = with_modes(given, 5)
    assert np.isfinite(modes).all()
    powers = (np.abs(modes) ** 2).sum((1, 2))
    assert powers[[0, 2]].max() == 0
    np.testing.assert_allclose(powers[3:] / powers[1], 0.04, rtol=1e-3)


def test_modes_that_are_there_already_are_not_made_again() -> None:
    # Hermite modes, as Ptychodus makes them: the next candidates are nothing but rounding
    axis = np.linspace(-1.0, 1.0, 64, dtype=np.float32)
    base = make_probe(64)[0]
    given = np.stack([base, base * axis, base * axis[:, None]])
    added = with_modes(given, 4)[3]
    overlap = np.abs(np.vdot(added, base * axis * axis[:, None]))
    smooth = np.abs(np.vdot(added, base * axis**2))
    size = np.linalg.norm(added)
    assert max(
        overlap / np.linalg.norm(base * axis * axis[:, None]), smooth / np.linalg.norm(base * axis**2)
    ) > (0.5 * size)


def test_a_probe_of_one_pixel_has_no_other_mode() -> None:
    probe = np.zeros((1, 64, 64), np.complex64)
    probe[0, 20, 30] = 1
    with pytest.raises(ValueError, match="too narrow to make 2 modes"):
        with_modes(probe, 2)
