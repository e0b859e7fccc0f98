"""One phase for all patches, and stitching them: what goes over every pixel, with torch on a device.

numpy's way to the same is in :mod:`....data.synchronisation` and :mod:`....data.stitching`, where everything
else of it stays: who overlaps whom, the phases that follow, the coverage, and the filter that ends it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...data.assembly import PatchArithmetic
from ...data.stitching import Grid

_ELEMENTS = 1 << 24  # complex numbers to work on at a time: 128 MB, and a few times that in between


class TorchArithmetic:
    """The functions of a :class:`.PatchArithmetic` on one device.

    Parameters
    ----------
    device
        One that knows complex numbers: the CPU or a CUDA device.
    elements
        Complex numbers to work on at a time.
    """

    def __init__(self, device: torch.device, elements: int = _ELEMENTS) -> None:
        self.device = device
        self.elements = elements

    def functions(self) -> PatchArithmetic:
        """For :func:`.assemble`."""
        return PatchArithmetic(self.put, self.overlaps, self.accumulate)

    def put(self, patches: NDArray[np.complex64]) -> Tensor:
        """All patches on the device, or as they are where they would take more than half of what is free."""
        host = torch.from_numpy(np.ascontiguousarray(patches, dtype=np.complex64))
        if self.device.type == "cuda" and patches.nbytes > torch.cuda.mem_get_info(self.device)[0] // 2:
            return host
        return host.to(self.device)

    def overlaps(
        self,
        patches: Tensor,
        pairs: NDArray[np.int64],
        corners: NDArray[np.int64],
        weight: NDArray[np.float32],
    ) -> NDArray[np.complex128]:
        """See :data:`.synchronisation.Overlaps`."""
        n = len(weight)
        w, axis = self._tensor(weight), torch.arange(n, device=self.device)
        shift = corners[pairs[:, 1]] - corners[pairs[:, 0]]
        found = np.empty(len(pairs), np.complex128)
        step = max(1, self.elements // n**2)
        for start in range(0, len(pairs), step):
            part = slice(start, start + step)
            first, second = (self._take(patches, pairs[part, side]) * w for side in (0, 1))
            # pixel p of the first is pixel p - shift of the second
            rows, columns = (axis - self._tensor(shift[part, side, None]) for side in (0, 1))
            inside = _within(rows, n)[:, :, None] & _within(columns, n)[:, None, :]
            index = rows.clamp(0, n - 1)[:, :, None] * n + columns.clamp(0, n - 1)[:, None, :]
            beneath = second.flatten(1).gather(1, index.flatten(1)).view_as(first)
            found[part] = (first * beneath.conj() * inside).sum((1, 2)).cpu().numpy()
        return found

    def accumulate(
        self, patches: Tensor, factors: NDArray[np.complex64] | None, weight: NDArray[np.float32], grid: Grid
    ) -> NDArray[np.complex64]:
        """See :data:`.stitching.Accumulate`."""
        n, taps = len(weight), len(grid.taps_x)
        edge, width = n + taps - 1, grid.shape[1]
        w, axis = self._tensor(weight), torch.arange(edge, device=self.device)
        # real and imaginary parts side by side: not every device adds complex numbers at indices
        canvas = torch.zeros(grid.shape[0] * width, 2, device=self.device)
        step = max(1, self.elements // edge**2)
        for start in range(0, len(patches), step):
            part = slice(start, start + step)
            block = patches[part].to(self.device) * w
            if factors is not None:
                block = block * self._tensor(factors[part])[:, None, None]
            taps_y, taps_x = (
                self._tensor(kernel[:, part].astype(np.float32))[:, :, None, None]
                for kernel in (grid.taps_y, grid.taps_x)
            )
            across = block.new_zeros(len(block), n, edge)
            for t in range(taps):
                across[:, :, t : t + n] += taps_x[t] * block
            spread = block.new_zeros(len(block), edge, edge)
            for t in range(taps):
                spread[:, t : t + n] += taps_y[t] * across
            corner = self._tensor(grid.row[part] * width + grid.column[part])
            index = corner[:, None, None] + axis[:, None] * width + axis
            canvas.index_add_(0, index.reshape(-1), torch.view_as_real(spread).reshape(-1, 2))
        whole: NDArray[np.complex64] = torch.view_as_complex(canvas).reshape(grid.shape).cpu().numpy()
        return whole

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def _take(self, patches: Tensor, numbers: NDArray[np.int64]) -> Tensor:
        return patches[torch.from_numpy(numbers).to(patches.device)].to(self.device)


def _within(places: Tensor, n: int) -> Tensor:
    return (places >= 0) & (places < n)
