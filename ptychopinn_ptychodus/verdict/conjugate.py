"""What is said where a refinement took the complex conjugate of the probe that it was given."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..data.examination.findings import Action, Finding

CODE = "conjugate-probe"


def conjugate_taken() -> Finding:
    """The warning; its subject is ``"result"``.

    Its object fits the patterns, so a verdict by the error alone would find nothing wrong with it.
    """
    return Finding(
        code=CODE,
        subject="result",
        action=Action.IGNORED,
        seen=(
            "The patterns contradict the probe that was given, and agree with its COMPLEX CONJUGATE, with "
            "which this object was made."
        ),
        done=(
            "One of two things is wrong, and the patterns cannot tell which, since both fit alike. Either "
            "the probe is from the other side of the focus: then this object is right; make the probe again "
            "with the opposite defocus. Or the signs of both position axes are wrong: then the true object "
            "is this one TURNED BY 180 DEGREES, ITS PHASE WITH THE OTHER SIGN; invert x and y of the "
            "positions (by the affine transform of the positions), and reconstruct again. A feature whose "
            "place is known, or one that is known to advance or to delay the wave, tells the two apart."
        ),
    )


def conjugate_of(
    given: NDArray[np.complexfloating], found: NDArray[np.complexfloating]
) -> NDArray[np.complex64]:
    """The complex conjugate of a probe, or the same turned by half, whichever is more like the one found.

    Both are (modes, N, N), as is the result; see :mod:`..refinement.pupil` for why there are two.
    """
    conjugate = np.conj(np.asarray(given, np.complex64))
    turned = np.roll(np.flip(conjugate, (-2, -1)), 1, (-2, -1))
    return max((conjugate, turned), key=lambda one: float(np.abs(np.vdot(one[0], found[0]))))
