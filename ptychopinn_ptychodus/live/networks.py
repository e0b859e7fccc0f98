"""A network that makes the first object of new frames, in a child process of its own.

As ``python -m ptychopinn_ptychodus.live.networks MODEL ACCELERATOR`` this file is that process: it reads the
path of a file with frames from its standard input, a line each, and answers with one line of JSON.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..backends.registry import engine_for, guess_engine
from ..config import ExecutionConfig
from ..data.grouping import neighbourhood_order
from ..data.raw import RawData
from ..importing import import_path
from ..ptychodus_io.names import LIBRARY

logger = logging.getLogger(LIBRARY)

_MORE_NEIGHBOURS = 3
"""Neighbours to draw a group from, beyond those that it needs."""

_FRAMES, _OBJECT = "frames.npz", "object.npz"


class NetworkProcess:
    """The network of a model, in a process that ends with the block; a context manager.

    Where it fails, a warning says so once, and the object begins without it from then on.

    Parameters
    ----------
    model
        The model file, of any engine that is installed.
    accelerator
        The device, see :class:`.ExecutionConfig`.

    Raises
    ------
    FileNotFoundError, ModelFileError, EngineUnavailableError
        As :func:`.engine_for`.
    """

    def __init__(self, model: Path, accelerator: str = "auto") -> None:
        engine_for(model)  # what is wrong with it is said before the scan begins
        self._command = [sys.executable, "-P", "-m", __spec__.name, str(model.absolute()), accelerator]
        self._process: subprocess.Popen[str] | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        self._scratch = tempfile.TemporaryDirectory(prefix="ptychopinn-live-")
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for whoever started it
            env={**os.environ, "PYTHONPATH": import_path()},
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        if self._scratch is not None:
            self._scratch.cleanup()

    def object_of(self, scan: RawData) -> tuple[NDArray[np.complex64], NDArray[np.float32], tuple[int, int]]:
        """See :class:`.growing.PatchNetwork`."""
        process, scratch = self._process, self._scratch
        if process is None or scratch is None or process.stdin is None or process.stdout is None:
            raise ValueError("there is no network")
        frames = Path(scratch.name) / _FRAMES
        np.savez(
            frames,
            positions=np.stack((scan.xcoords, scan.ycoords), -1),
            amplitude=scan.diff3d,
            probe=scan.probeGuess,
            bad_pixels=scan.bad_pixels,
            photons=scan.photons_per_pattern,
        )
        try:
            process.stdin.write(f"{frames}\n")
            process.stdin.flush()
            answer: dict[str, Any] = json.loads(process.stdout.readline())
        except (OSError, ValueError):
            self._process = None
            process.kill()
            process.communicate()
            logger.warning(
                "The network's process has ended: from here on, new frames begin without the model. The full "
                "reconstruction applies it again."
            )
            raise ValueError("the network's process has ended") from None
        if "error" in answer:
            raise ValueError(answer["error"])
        with np.load(frames.with_name(_OBJECT)) as file:
            left, top = (int(value) for value in file["origin"])
            return file["object"], file["coverage"], (left, top)


def _made(model: Path, accelerator: str, frames: Path) -> None:
    """Apply the model to the frames in a file, and leave the object beside it."""
    gridsize = guess_engine(model).describe(model).model.gridsize
    with np.load(frames) as file:
        raw = RawData.of_amplitude(
            file["positions"], file["amplitude"], file["probe"], file["bad_pixels"], float(file["photons"])
        )
    channels = gridsize**2
    container = raw.generate_grouped_data(
        raw.N,
        min(channels - 1 + _MORE_NEIGHBOURS, raw.n_patterns - 1),
        None,
        gridsize=gridsize,
        seed=0,
    )
    # as many groups as have each frame in one of them, on average: they are only a beginning
    order = neighbourhood_order(container.coords[container.nn_indices[:, 0]])
    container = container.subset(np.sort(order[channels // 2 :: channels]))
    engine = engine_for(model)
    prediction = engine.predict(model, container, ExecutionConfig(accelerator=accelerator))
    canvas = prediction.stitch(container)
    np.savez(frames.with_name(_OBJECT), object=canvas.object, coverage=canvas.coverage, origin=canvas.origin)


def main() -> None:
    """The child process."""
    model, accelerator = Path(sys.argv[1]), sys.argv[2]
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # what frameworks say must not be taken for an answer
        for line in sys.stdin:
            answer = {}
            try:
                _made(model, accelerator, Path(line.rstrip("\n")))
            except Exception as exc:  # these frames begin without the network, and the next may not
                answer["error"] = str(exc) or type(exc).__name__
            print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
