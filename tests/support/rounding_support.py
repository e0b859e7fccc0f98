"""How far single precision may put a result: what the bounds of the tests on equal models come from.

The engines compute in float32, and every processor, number of threads and library rounds in its own way. How
much of that arrives at the end depends on the computation: a rectified network damps it, while an unrolled
step turns it into a phase wherever a wave is next to zero, and amplifies it a hundred times. A bound in
figures would therefore be too narrow for one model and too wide for another.

So the bound is computed. The PyTorch module runs in float64, and every operation's result is multiplied by
1 + 2⁻²⁴ ξ, with ξ uniform between -1 and 1: by as much as rounding to float32 changes it at most. This is
Monte Carlo arithmetic (Parker, 1997). It is the same on every processor, because nothing in it is rounded to
float32. :data:`MARGIN` times the largest deviation of a few runs is what two implementations may differ by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from ptychopinn_ptychodus.backends.batch_size import groups_per_batch
from ptychopinn_ptychodus.backends.conversion import read_model
from ptychopinn_ptychodus.backends.lightning.loaders import GroupDataset
from ptychopinn_ptychodus.backends.lightning.module import PtychoPINN_Lightning
from ptychopinn_ptychodus.data.container import PtychoDataContainer

Array = NDArray[Any]

ROUNDING = 2.0**-24
"""Half of the distance between 1 and the next number in float32."""

MARGIN = 30.0
"""How many times the spread of :func:`drawn` an engine may be off by.

One rounding an operation is too few for those that sum (transforms, convolutions, norms), and of a few runs
the largest deviation is not the largest there is. With the models of ``test_conversion.py``, either engine
and several instruction sets were off by 0.1 to 2.8 times the spread, and the engines differed by up to five
times the spread on a processor of another maker.
"""

_EXACT = {
    f"aten::{name}"
    for name in (
        *("round", "abs", "neg", "sign", "sgn", "max", "amax", "relu", "where", "eq", "ge", "gt", "lt"),
        *("clone", "_to_copy", "cat", "stack", "index_select", "index", "roll", "constant_pad_nd"),
        *(
            "zeros",
            "ones",
            "zeros_like",
            "ones_like",
            "empty",
            "empty_like",
            "new_zeros",
            "new_empty",
            "full",
        ),
        *("arange", "scalar_tensor", "lift_fresh", "_conj_physical", "threshold_backward", "detach"),
    )
}
"""Operations whose results are numbers that were there before, or whole ones: they round nothing."""

DRAWS = 2


@contextmanager
def in_double() -> Iterator[None]:
    """What the networks do in float32 under autocast, the reference does in float64."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        yield


class _Rounding(TorchDispatchMode):  # type: ignore[misc, unused-ignore]
    """Every operation in float64 is off by up to a rounding to float32."""

    def __init__(self, seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # of PyTorch
        self._generator = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **kwargs or {})
        # what is written in place here is a rectified value
        if func.is_view or func._schema.is_mutable or func.overloadpacket._qualified_op_name in _EXACT:
            return result
        return tree_map(self._off, result)

    def _off(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or value.dtype not in (torch.float64, torch.complex128):
            return value
        if value.is_complex():
            return torch.view_as_complex(self._off(torch.view_as_real(value.resolve_conj()).contiguous()))
        noise = torch.rand(value.shape, generator=self._generator, dtype=torch.float32).double()
        return value * (1 + ROUNDING * (2 * noise - 1))


@dataclass(frozen=True)
class Drawn:
    """What a computation gives in float64, and with roundings drawn at random."""

    exact: Any
    draws: tuple[Any, ...]

    def allowed(
        self, error: Callable[[Any, Any], float], of: Callable[[Any], Any] = lambda result: result
    ) -> float:
        """How far, by ``error(actual, exact)``, what ``of`` makes of the result may be in float32."""
        exact = of(self.exact)
        return MARGIN * max(error(of(draw), exact) for draw in self.draws)


def drawn(function: Callable[[], Any], draws: int = DRAWS) -> Drawn:
    """``function``, which computes in float64 with PyTorch, without roundings and with."""
    with in_double():
        exact, found = function(), []
        for seed in range(draws):
            with _Rounding(seed):
                found.append(function())
    return Drawn(exact, tuple(found))


def drawn_patches(path: Any, container: PtychoDataContainer) -> Drawn:
    """Patches (B, C, N, N) complex128 that the model in ``path`` makes of ``container``."""
    module = PtychoPINN_Lightning.from_state(read_model(path)).double()
    loaded = GroupDataset(container, module.data_config.input_scale)
    # in the batches of an engine: an unrolled network works on one size of region for all groups of a batch
    size = groups_per_batch(container, "cpu")
    starts = range(0, len(container), size)
    batches = [loaded.__getitems__(range(i, min(i + size, len(container)))) for i in starts]

    def patches() -> Array:
        with torch.no_grad():
            parts = [module(batch["amplitude"].double(), batch["offsets"].double()) for batch in batches]
            return np.concatenate([part.numpy() for part in parts])

    return drawn(patches)


def relative_norm(actual: Array, expected: Array) -> float:
    """Of the difference, in the 2-norm."""
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))
