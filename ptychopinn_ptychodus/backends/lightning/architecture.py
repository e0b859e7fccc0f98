"""What every architecture has in common: how it is called, and what it tells the module about itself.

A network is called as ``network(amplitude, offsets, probe)`` with

- ``amplitude``: (B, C, N, N) float32, normalised, zero frequency at (N/2, N/2);
- ``offsets``: (B, C, 2) float32, ``[x, y]`` of each pattern from the centre of its group, pixels;
- ``probe``: (modes, N, N) complex64, in the scale of the amplitudes (``Σ|P|² = (N/2)²``);

and returns (B, C, N, N) complex64 patches, each centred on its pattern's position.
"""

from __future__ import annotations

from typing import ClassVar

from torch import nn


class Architecture(nn.Module):
    """Base of the networks."""

    one_object: ClassVar[bool] = False
    """Whether a group's patches are cut from one object already, so that merging would only blur them."""

    def physics_parameters(self) -> list[nn.Parameter]:
        """Parameters with a physical meaning (step sizes, say), which learn at a faster rate."""
        return []
