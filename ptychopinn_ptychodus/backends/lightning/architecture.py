"""What every architecture has in common: how it is called, and what it tells the module about itself.

A network is called as ``network(amplitude, offsets, probe, good_pixels)`` with

- ``amplitude``: (B, C, N, N) float32, normalised, zero frequency at (N/2, N/2);
- ``offsets``: (B, C, 2) float32, ``[x, y]`` of each pattern from the centre of its group, pixels;
- ``probe``: (modes, N, N) complex64, in the scale of the amplitudes (``Σ|P|² ≈ (N/2)²``), or
  (B, 1, modes, N, N) where groups have probes of their own;
- ``good_pixels``: (N, N) float32, or (B, 1, N, N) where groups have bad pixels of their own; 0 where an
  amplitude was not measured but filled from its neighbours;

and returns (B, C, N, N) complex64 patches, each centred on its pattern's position.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn


class Architecture(nn.Module):
    """Base of the networks."""

    one_object: ClassVar[bool] = False
    """Whether a group's patches are cut from one object already, so that merging would only blur them."""

    def physics_parameters(self) -> list[nn.Parameter]:
        """Parameters with a physical meaning (step sizes, say), which learn at a faster rate."""
        return []

    def on_pixels(
        self,
        amplitude: Tensor,
        offsets: Tensor,
        probe: Tensor,
        good_pixels: Tensor,
        reach: float | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Patches as the forward model wants them, and by how much it has to move the probe for each.

        A network that works on whole pixels returns its patches before they are moved to their exact
        positions, and the remainders (B, C, 2) ``[x, y]``: it is the smooth probe that bears to be moved by a
        fraction of a pixel. Others return what :meth:`forward` returns, and None.

        ``reach`` is the largest of the offsets, where the groups are a part of a batch: how a network pads
        them must not depend on how the batch is divided. None: that of these groups.
        """
        return self(amplitude, offsets, probe, good_pixels), None
