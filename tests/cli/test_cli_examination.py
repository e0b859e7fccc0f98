"""What an examination and a verdict are on the command line: lines, a JSON file, an exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from cli_support import Command, Done


def spoilt(scan: Path, directory: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    """The scan with its patterns changed."""
    directory.mkdir()
    (directory / "product.h5").write_bytes((scan / "product.h5").read_bytes())
    (directory / "diffraction.h5").write_bytes((scan / "diffraction.h5").read_bytes())
    with h5py.File(directory / "diffraction.h5", "a") as file:
        file["patterns"][...] = change(file["patterns"][...])
    return directory


def test_a_doubtful_result_is_written_and_strict_ends_with_3(
    command: Command, demonstration: tuple[Path, Done], model: Path, small: list[str], tmp_path: Path
) -> None:
    scan = spoilt(demonstration[0] / "scan", tmp_path / "in", lambda patterns: patterns.transpose(0, 2, 1))
    output = tmp_path / "out"
    run = ("reconstruct", "-i", scan, "-o", output, "-m", model, *small)
    done = command(*run, "--strict")
    assert done.returncode == 3, done.stderr
    assert (output / "product.h5").is_file()
    assert "Warning: The object explains the patterns poorly" in done.stdout
    findings = json.loads((output / "examination.json").read_text())["findings"]
    # positions were searched for, as a wrong reading of the patterns made them do
    searched, verdict = (finding for finding in findings if finding["subject"] == "result")
    assert searched["code"] == "positions-searched"
    assert verdict["action"] == "ignored"
    with h5py.File(output / "product.h5") as file:
        assert verdict["seen"] in file.attrs["comments"]
    assert command(*run).returncode == 0


def test_what_was_mended_in_training_is_printed_and_in_a_file(
    command: Command, scan: Path, small: list[str], tmp_path: Path
) -> None:
    def with_hot_pixel(patterns: np.ndarray) -> np.ndarray:
        patterns[:, 12, 50] = np.iinfo(patterns.dtype).max // 2
        return patterns

    data = spoilt(scan, tmp_path / "in", with_hot_pixel)
    done = command("train", "-i", data, "-o", tmp_path / "out", *small)
    assert done.returncode == 0, done.stderr
    assert "row 12, column 50" in done.stderr
    path = tmp_path / "out" / "training_examination.json"
    assert f"Findings about the data: {path}" in done.stdout
    (finding,) = json.loads(path.read_text())["findings"]
    assert finding["action"] == "mended"


def test_a_scan_that_is_refused_leaves_what_there_was(
    command: Command, scan: Path, model: Path, small: list[str], tmp_path: Path
) -> None:
    data = spoilt(scan, tmp_path / "in", lambda patterns: patterns)
    with h5py.File(data / "product.h5", "a") as file:
        for axis in "xy":
            file[f"probe_position_{axis}_m"][...] *= 1e-3
    output = tmp_path / "out"
    output.mkdir()
    (output / "product.h5").write_bytes(b"of an earlier run")
    done = command("reconstruct", "-i", data, "-o", output, "-m", model, *small)
    assert done.returncode == 1
    assert "metres" in done.stderr
    assert "Traceback" not in done.stderr
    assert (output / "product.h5").read_bytes() == b"of an earlier run"
    findings = json.loads((output / "examination.json").read_text())["findings"]
    assert [finding["action"] for finding in findings] == ["refused"]
