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
