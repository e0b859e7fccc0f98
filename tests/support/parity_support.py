"""What the tests of both engines on equal weights compare with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def as_array(value: Any) -> NDArray[Any]:
    """A tensor of either framework, or what is an array already."""
    return value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def error(actual: Any, expected: Any) -> float:
    """The worse of the relative errors in the 2-norm and in the maximum norm."""
    a, b = as_array(actual), as_array(expected)
    assert a.shape == b.shape
    difference = np.abs(a - b)
    return float(
        max(np.linalg.norm(difference) / np.linalg.norm(b), difference.max(initial=0.0) / np.abs(b).max())
    )
