"""The legacy flat dictionary, kept for scripts written against it; nothing in this package reads it.

Data flows one way: a configuration dataclass is flattened into the dictionary. ``ExecutionConfig`` never is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import MutableMapping
from typing import Any

from .config import InferenceConfig, TrainingConfig, to_dict

cfg: dict[str, Any] = {}

KEY_MAPPINGS: dict[str, str] = {
    "object_big": "object.big",
    "probe_big": "probe.big",
    "probe_mask": "probe.mask",
    "probe_trainable": "probe.trainable",
    "intensity_scale_trainable": "intensity_scale.trainable",
    "positions_provided": "positions.provided",
    "output_dir": "output_prefix",
    "train_data_file": "train_data_file_path",
    "test_data_file": "test_data_file_path",
}


def update_legacy_dict(target: MutableMapping[str, Any], config: TrainingConfig | InferenceConfig) -> None:
    """Flatten ``config``, its nested model included, into ``target`` under the legacy key names.

    Raises
    ------
    TypeError
        If ``config`` is anything but one of the two canonical run configurations.
    """
    if not isinstance(config, (TrainingConfig, InferenceConfig)) or not dataclasses.is_dataclass(config):
        raise TypeError(f"Expected a TrainingConfig or an InferenceConfig, got {type(config).__name__}.")
    flat = to_dict(config)
    flat.update(flat.pop("model"))
    target.update({KEY_MAPPINGS.get(name, name): value for name, value in flat.items()})
