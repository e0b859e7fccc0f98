"""What the engine ``pytorch`` is made with: found, and imported, when it is needed."""

from __future__ import annotations

from .. import TORCH_HINT
from ..framework import Framework

FRAMEWORK = Framework(
    title="PyTorch",
    needed=("torch", "lightning", "tensordict"),
    imported=("lightning.pytorch", f"{__package__}.module", f"{__package__}.training"),
    install_hint=TORCH_HINT,
)
