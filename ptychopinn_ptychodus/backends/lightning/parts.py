"""A batch that is learnt from a part at a time, in the memory of one part.

What the gradients need of a part is let go of before the next one begins: they are found together with the
loss, and not when they are asked for. The step is that of the whole batch, whose loss is a mean over groups.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..hyperparameters import MOST_KEPT

Loss = Callable[[TensorDict], Tensor]
"""Of a batch to a mean over its groups, ()."""


def parts_of(batch: TensorDict, modes: int) -> list[TensorDict]:
    """Parts of a batch that a CPU learns from one after the other; the batch itself where it is small.

    Each has as many groups as have :data:`MOST_KEPT` pixels of exit waves, of ``modes`` modes, or one. A GPU
    has its own memory, for nothing else.
    """
    amplitude = batch["amplitude"]
    each = modes * amplitude[0].numel()
    groups = max(1, MOST_KEPT // each)
    if amplitude.device.type != "cpu" or len(amplitude) <= groups:
        return [batch]
    return list(batch.split(groups))


def mean_over(parts: Sequence[TensorDict], loss: Loss, parameters: Sequence[nn.Parameter]) -> Tensor:
    """The loss of a batch, (), of those of its parts; with gradients by these parameters if they are on."""
    if torch.is_grad_enabled():
        mean: Tensor = _MeanOverParts.apply(parts, loss, *parameters)  # type: ignore[no-untyped-call]
        return mean
    return torch.stack([_weighted(part, parts, loss) for part in parts]).sum()


def _weighted(part: TensorDict, parts: Sequence[TensorDict], loss: Loss) -> Tensor:
    """What a part adds to the mean over groups."""
    return loss(part) * (len(part) / sum(map(len, parts)))


class _MeanOverParts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, parts: Sequence[TensorDict], loss: Loss, *parameters: nn.Parameter) -> Tensor:
        # what has no part in the loss gets a gradient of 0: processes that train together wait for it
        gradients = [torch.zeros_like(parameter) for parameter in parameters]
        total = parameters[0].new_zeros(())
        for part in parts:
            with torch.enable_grad():
                found = _weighted(part, parts, loss)
            with torch.autocast(found.device.type, enabled=False):  # as gradients are found elsewhere
                own = torch.autograd.grad(found, parameters, allow_unused=True)
            for gradient, of_part in zip(gradients, own, strict=True):
                if of_part is not None:
                    gradient += of_part
            total += found.detach()
            del found, own
        ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(factor * gradient for gradient in ctx.saved_tensors)
