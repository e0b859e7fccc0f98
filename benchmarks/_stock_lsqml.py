"""pty-chi's LSQ-ML through stock Ptychodus without a window, in a Python of its own."""

from __future__ import annotations

import tempfile
from pathlib import Path

import h5py
from _peer import STAND_IN
from _scans import Result, copy_scan, run_or_raise

from ptychopinn_ptychodus.data.probe import with_modes

SETTINGS = """
[Processing]
Algorithm = pty-chi_LSQML
[PtyChi]
NumEpochs = {epochs}
NumSyncEpochs = {epochs}
BatchSize = 32
UseDevices = False
[PtyChiProbePosition]
IsOptimizable = {positions}
"""
PROGRAM = """
import resource, sys
from ptychodus.__main__ import main
if __name__ == "__main__":
    code = main()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(usage.ru_utime + usage.ru_stime)
    sys.exit(code)
"""
"""Ptychodus without a window; prints the CPU seconds of its own children, where the plugin works."""


def lsqml(
    scan: Path,
    python: str,
    epochs: int,
    modes: int,
    scratch: Path,
    part: slice = slice(None),
    product: str = "product.h5",
) -> tuple[Result, float]:
    """What pty-chi makes of a scan, or of a part of its patterns, and the CPU seconds of its whole process.

    Positions are refined where there are several modes. ``python`` has Ptychodus and pty-chi, and ``product``
    is the scan's file with probe and positions.
    """
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        source, target, program = (Path(directory) / name for name in ("in", "out", "peer.py"))
        copy_scan(scan, source, part, product)
        with h5py.File(source / "product.h5", "r+") as file:
            probe, attributes = file["probe"][()], dict(file["probe"].attrs)
            if modes > 1:
                del file["probe"]
                file["probe"] = with_modes(probe.reshape(-1, *probe.shape[-2:]), modes)[None]
                file["probe"].attrs.update(attributes)
        settings = SETTINGS.format(epochs=epochs, positions=modes > 1)
        (source / "settings.ini").write_text(settings.lstrip())
        program.write_text(STAND_IN + PROGRAM)
        command = [python, str(program), "-b", "reconstruct", "-i", str(source), "-o", str(target)]
        _, seconds = run_or_raise(command)
        (found,) = target.glob("product*.h5")
        return Result.load(found), seconds
