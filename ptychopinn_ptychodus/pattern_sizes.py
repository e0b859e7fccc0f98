"""Which pattern sizes N there are for the networks and for the refinement."""

from __future__ import annotations

LEAST, LARGEST, MULTIPLE = 32, 1024, 8
_FACTORS = (2, 3, 5, 7)
"""Fourier transforms of sizes with other prime factors take several times as long."""


def _is_smooth(n: int) -> bool:
    for factor in _FACTORS:
        while n % factor == 0:
            n //= factor
    return n == 1


SIZES = tuple(n for n in range(LEAST, LARGEST + 1, MULTIPLE) if _is_smooth(n))
"""Every N, in pixels, that patterns may have."""

CNN_SIZES = tuple(32 * 2**k for k in range(6))
"""Those for which the architecture ``cnn`` is made: it halves a pattern until 8 × 8 are left."""

IN_WORDS = (
    f"a multiple of {MULTIPLE} from {LEAST} to {LARGEST} without prime factors above {_FACTORS[-1]}, such as "
    "64, 96, 128, 192 or 256"
)


def sizes_beside(n: int) -> tuple[int, ...]:
    """The nearest sizes below and above one that is not supported: what to crop to, and what to pad to.

    >>> sizes_beside(100)
    (96, 112)
    >>> sizes_beside(20)
    (32,)
    """
    below = [size for size in SIZES if size < n][-1:]
    above = [size for size in SIZES if size > n][:1]
    return (*below, *above)
