"""pty-chi's LSQ-ML on a scan of the collection, in a Python of its own."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from _peer import STAND_IN
from _scans import run_or_raise

from .make import MadeScan
from .results import Found

SETTINGS: dict[str, dict[str, Any]] = {
    "LSQ-ML": {},  # its own defaults: 100 epochs, batches of 100, positions as they are
    "LSQ-ML, small batches": {"num_epochs": 100, "batch_size": 20},
    "LSQ-ML, positions": {"num_epochs": 100, "batch_size": 20, "positions": True},
    "LSQ-ML, momentum": {"num_epochs": 100, "batch_size": 50, "momentum": 0.5, "positions": True},
}
"""Its defaults, and a few settings that its documentation recommends."""

FROM_FLAT: dict[str, Any] = {"num_epochs": 60, "batch_size": 32}
"""Beside other ways on one scan, enough to come to rest; positions as they are."""

_MARGIN = 12  # pixels around the object, for positions that move

_PROGRAM = (
    STAND_IN
    + """
import json, sys, time
import numpy as np
import torch
import ptychi.api as api
from ptychi.api.task import PtychographyTask

torch.set_num_threads(1)
source, target, setting, margin = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4])
scan = np.load(source)
device = setting.get("device", "CPU")
clock = time.process_time if device == "CPU" else time.perf_counter
begin = clock()
options = api.LSQMLOptions()
options.data_options.data = scan["counts"]
options.data_options.valid_pixel_mask = ~scan["bad"]
options.reconstructor_options.default_device = api.Devices[device]
for name in ("num_epochs", "batch_size"):
    if name in setting:
        setattr(options.reconstructor_options, name, setting[name])
options.reconstructor_options.momentum_acceleration_gain = setting.get("momentum", 0.0)
height, width = scan["shape"]
flat = np.ones((1, height + 2 * margin, width + 2 * margin), np.complex64)
options.object_options.initial_guess = torch.from_numpy(flat)
options.object_options.determine_position_origin_coords_by = api.ObjectPosOriginCoordsMethods.SPECIFIED
options.object_options.position_origin_coords = np.array([margin, margin], np.float32)
options.probe_options.initial_guess = torch.from_numpy(scan["probe"])[None]
options.probe_position_options.position_x_px = torch.from_numpy(scan["positions"][:, 0])
options.probe_position_options.position_y_px = torch.from_numpy(scan["positions"][:, 1])
options.probe_position_options.optimizable = setting.get("positions", False)
with PtychographyTask(options) as task:
    task.run()
    found = {name: task.get_data_to_cpu(name, as_numpy=True) for name in ("object", "probe")}
    found["x"] = task.get_probe_positions_x(as_numpy=True)
    found["y"] = task.get_probe_positions_y(as_numpy=True)
np.savez(target, seconds=clock() - begin, **found)
"""
)


def lsqml(scan: MadeScan, python: str, setting: Mapping[str, Any]) -> Found:
    """What LSQ-ML makes of a scan from the same start as the refinement: a flat object, the product's probe.

    The probe is scaled to the mean pattern first. Its modes are as many as the product's.

    Parameters
    ----------
    scan
        The scan.
    python
        A Python with pty-chi.
    setting
        One of :data:`SETTINGS`, or others; ``device`` is "CPU", or "GPU", where seconds are of the clock.
    """
    raw = scan.raw
    counts = raw.diff3d.astype(np.float64) ** 2
    scale = np.sqrt(counts.sum((1, 2)).mean() / (np.abs(raw.probeGuess) ** 2).sum())
    with tempfile.TemporaryDirectory() as directory:
        program, source, target = (Path(directory) / name for name in ("lsqml.py", "in.npz", "out.npz"))
        program.write_text(_PROGRAM)
        np.savez(
            source,
            counts=counts.astype(np.float32),
            bad=raw.bad_pixels,
            probe=(raw.probeGuess * scale).astype(np.complex64),
            positions=np.stack((raw.xcoords, raw.ycoords), -1).astype(np.float32),
            shape=np.array(scan.object.shape),
        )
        run_or_raise(
            [python, str(program), str(source), str(target), json.dumps(dict(setting)), str(_MARGIN)]
        )
        with np.load(target) as found:
            return Found(
                found["object"][0, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN],
                found["probe"][0],
                np.stack((found["x"], found["y"]), -1).astype(np.float64),
                float(found["seconds"]),
            )
