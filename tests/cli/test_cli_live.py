"""``live``: a scan is followed while it is written, and ends as the scan at once does."""

from __future__ import annotations

import math
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
from cli_support import Command, Done
from ptychodus.api.io import load_product

from ptychopinn_ptychodus.cli import main
from ptychopinn_ptychodus.live.status import LiveStatus, Stage

Live = Callable[..., "subprocess.Popen[str]"]
QUICK = [
    "--algorithm",
    "Refinement",
    "--set",
    "PtychoPINNPluginWithoutModel.Epochs=2",
    "--set",
    "PtychoPINNPluginExamination.Judge=False",
]


@pytest.fixture
def live() -> Iterator[Live]:
    """Starts the command on a directory; what is left of it is killed in the end."""
    started: list[subprocess.Popen[str]] = []

    def start(source: Path, target: Path, *more: str, quick: Sequence[str] = QUICK) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "ptychopinn_ptychodus.cli", "live", "-i", str(source)]
        process = subprocess.Popen(
            [*command, "-o", str(target), *quick, *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def empty(scan: Path, tmp_path: Path) -> Path:
    """A directory with the product, whose positions are known, and no frame yet."""
    directory = tmp_path / "growing"
    directory.mkdir()
    shutil.copy(scan / "product.h5", directory)
    return directory


@pytest.fixture(scope="session")
def patterns(scan: Path) -> np.ndarray:
    with h5py.File(scan / "diffraction.h5") as file:
        return np.asarray(file["patterns"][()])


def appears(path: Path, process: subprocess.Popen[str], within_s: float = 120) -> None:
    until = time.monotonic() + within_s
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.05)


def says(directory: Path, what: Callable[[LiveStatus], bool], within_s: float = 120) -> LiveStatus:
    until = time.monotonic() + within_s
    while not what(status := LiveStatus.load(directory)):
        assert time.monotonic() < until, status
        time.sleep(0.05)
    return status


def test_a_scan_that_grows_ends_as_the_scan_at_once(
    scan: Path, empty: Path, patterns: np.ndarray, command: Command, live: Live, tmp_path: Path
) -> None:
    count = len(patterns)
    process = live(empty, tmp_path / "out", "--timeout", "60")
    with h5py.File(empty / "diffraction.h5", "w", libver="latest") as file:
        file.create_dataset("patterns", (0, 64, 64), "u2", maxshape=(count, 64, 64), chunks=(1, 64, 64))
        file.create_dataset("indexes", (0,), "i8", maxshape=(count,), chunks=(1,))
        file["bad_pixels"] = np.zeros((64, 64), bool)
        for edge in ("width", "height"):
            file["patterns"].attrs[f"detector_pixel_{edge}_m"] = 75e-6
        file.swmr_mode = True
        for number, pattern in enumerate(patterns):
            for name, value in (("patterns", pattern), ("indexes", number)):
                file[name].resize(number + 1, 0)
                file[name][number] = value
                file[name].flush()
            if number == count // 2:
                appears(tmp_path / "out" / "object.png", process)
                half = load_product(tmp_path / "out" / "product.h5")
                assert 0 < len(half.probe_positions) <= count
                assert "so far" in half.metadata.comments
                assert half.losses == []
                status = says(tmp_path / "out", lambda status: status.in_object > 0)
                assert status.stage is Stage.FOLLOWING
                assert status.in_object <= count == status.promised
                assert not status.is_orphaned
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert f"{count} frames in the object" in err
    assert "the last frame is there" in err
    assert f"Result: {tmp_path / 'out' / 'product.h5'}" in out
    assert not (tmp_path / "out" / "scan").exists()  # the scan itself is whole
    status = LiveStatus.load(tmp_path / "out")
    assert (status.stage, status.in_object, status.says) == (Stage.DONE, count, "reconstructed")
    done = command("reconstruct", "-i", scan, "-o", tmp_path / "once", *QUICK)
    assert done.returncode == 0, done.stderr
    found, at_once = (load_product(tmp_path / name / "product.h5") for name in ("out", "once"))
    assert np.array_equal(found.object_.get_array(), at_once.object_.get_array())
    assert len(found.losses) == 2


def test_files_that_fall_in_disorder_and_damage_are_all_accounted_for(
    empty: Path, patterns: np.ndarray, live: Live, tmp_path: Path
) -> None:
    process = live(empty, tmp_path / "out", "--timeout", "60")
    numbers = [number for number in range(len(patterns)) if number != 3]
    for number in reversed(numbers):
        pattern = patterns[number].astype(np.float32)
        if number == 5:
            pattern[2, 2] = np.nan
        part = empty / f".writing_{number}.npy"
        np.save(part, pattern)
        part.rename(empty / f"frame_{number:05d}.npy")
    product = tmp_path / "out" / "product.h5"
    appears(product, process)
    until = time.monotonic() + 60
    while len(load_product(product).probe_positions) < len(numbers) - 1:
        assert time.monotonic() < until
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "ended from outside" in err
    assert "1 frame is lost: no frame 3 came." in out
    assert "1 frame is damaged and left out, 5: values that are NaN or infinite." in out
    with h5py.File(tmp_path / "out" / "scan" / "diffraction.h5") as file:
        assert file["indexes"][()].tolist() == [number for number in numbers if number != 5]
    final = load_product(product)
    assert len(final.probe_positions) == len(numbers) - 1
    assert len(final.losses) == 2


def test_a_killed_process_leaves_the_last_product_whole_and_no_frame_is_lost(
    empty: Path, patterns: np.ndarray, live: Live, tmp_path: Path
) -> None:
    np.save(empty / "frames_0.npy", patterns[:20])
    process = live(empty, tmp_path / "out", "--timeout", "60")
    appears(tmp_path / "out" / "object.png", process)
    process.kill()
    process.communicate()
    assert len(load_product(tmp_path / "out" / "product.h5").probe_positions) == 20
    assert LiveStatus.load(tmp_path / "out").is_orphaned
    np.save(empty / "frames_20.npy", patterns[20:])
    process = live(empty, tmp_path / "out", "--timeout", "3")
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "ended without a word, with 20 frames in its object. Frames are in" in out
    assert len(load_product(tmp_path / "out" / "product.h5").probe_positions) == len(patterns)


def test_stop_while_all_are_reconstructed_together_keeps_the_live_product(
    empty: Path, patterns: np.ndarray, live: Live, tmp_path: Path
) -> None:
    # with the positions of others, so that it does not come to an end by itself
    np.save(empty / "frames_0.npy", np.random.default_rng(1).permutation(patterns))
    out = tmp_path / "out"
    process = live(empty, out, "--timeout", "3", "--set", "PtychoPINNPluginWithoutModel.Epochs=2000")
    appears(out / "live.json", process)
    status = says(out, lambda status: status.epoch > 0)
    assert (status.stage, status.epochs) == (Stage.COMPLETING, 2000)
    assert 0 <= status.progress < 1
    assert math.isfinite(status.seconds_left)
    assert status.scan == str(out / "scan")
    shown = (out / "product.h5").read_bytes()
    says(out, lambda status: status.progress > 0)
    process.send_signal(signal.SIGTERM)
    said, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert (out / "product.h5").read_bytes() == shown
    assert f"the product is the one of before, {out / 'product.h5'}" in said
    assert len(load_product(out / "stopped.h5").losses) > 0
    status = LiveStatus.load(out)
    assert (status.stage, status.scan) == (Stage.DONE, str(out / "scan"))
    assert "the product is the live one" in status.says


# What an acquisition does that is killed in the middle: the file stays open for writing, and promises more.
_SENDER = """
import sys, time
import h5py, numpy as np

path, source = sys.argv[1:]
with h5py.File(source) as file:
    patterns = file["patterns"][()]
count, half = len(patterns), len(patterns) // 2
with h5py.File(path, "w", libver="latest") as file:
    file.create_dataset("patterns", (count, 64, 64), "u2", chunks=(1, 64, 64))
    file["indexes"] = np.arange(count)
    file["bad_pixels"] = np.zeros((64, 64), bool)
    for edge in ("width", "height"):
        file["patterns"].attrs[f"detector_pixel_{edge}_m"] = 75e-6
    file.swmr_mode = True
    file["patterns"][:half] = patterns[:half]
    file.flush()
    print("written", flush=True)
    time.sleep(600)
"""


def test_what_a_sender_that_died_has_left_is_reconstructed(
    scan: Path, empty: Path, patterns: np.ndarray, live: Live, tmp_path: Path
) -> None:
    half = len(patterns) // 2
    files = [str(directory / "diffraction.h5") for directory in (empty, scan)]
    sender = subprocess.Popen([sys.executable, "-c", _SENDER, *files], stdout=subprocess.PIPE, text=True)
    try:
        assert sender.stdout is not None
        assert sender.stdout.readline() == "written\n"
        process = live(empty, tmp_path / "out", "--timeout", "5")
        appears(tmp_path / "out" / "object.png", process)
    finally:
        sender.kill()
        sender.communicate()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert f"{half} frames in the object" in err
    assert "no frame came for 5 s" in err
    assert f"The {half} frames that are reconstructed: {tmp_path / 'out' / 'scan'}" in out
    final = load_product(tmp_path / "out" / "product.h5")
    assert len(final.probe_positions) == half
    assert len(final.losses) == 2


def test_a_model_makes_the_live_object_and_the_final_one(
    demonstration: tuple[Path, Done], model: Path, live: Live, tmp_path: Path
) -> None:
    """The frames are the demo's own, which its model was trained on."""
    source = tmp_path / "growing"
    source.mkdir()
    shutil.copy(demonstration[0] / "scan" / "product.h5", source)
    with h5py.File(demonstration[0] / "scan" / "diffraction.h5") as file:
        patterns = np.asarray(file["patterns"][()])
    options = ("--timeout", "120", "--set", "PtychoPINNPluginRefinement.Epochs=2")
    process = live(source, tmp_path / "out", "-m", str(model), *options, quick=QUICK[-2:])
    np.save(source / "frames_0.npy", patterns[:-10])
    appears(tmp_path / "out" / "object.png", process)
    np.save(source / f"frames_{len(patterns) - 10}.npy", patterns[-10:])
    product = tmp_path / "out" / "product.h5"
    until = time.monotonic() + 120
    while len(load_product(product).probe_positions) < len(patterns):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert (tmp_path / "out" / "network.h5").is_file(), out
    assert len(load_product(product).losses) == 2


def fails(code: int, capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["live", *map(str, arguments)]) == code
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


def test_what_is_missing_is_said(empty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert str(tmp_path / "no") in fails(2, capsys, "-i", tmp_path / "no", "-o", out)
    assert "SECONDS" in fails(2, capsys, "-i", empty, "-o", out, "--timeout", "0")
    assert "name another with -o" in fails(2, capsys, "-i", empty, "-o", empty)
    short = ("-o", out, "--timeout", "0.3", *QUICK)
    assert "No frame came to" in fails(2, capsys, "-i", empty, *short)
    assert LiveStatus.load(out).stage is Stage.FAILED
    assert "No frame came to" in LiveStatus.load(out).says
    (empty / "product.h5").unlink()
    assert "There is no product.h5" in fails(2, capsys, "-i", empty, *short)
    (empty / "product.h5").write_bytes(b"nothing")
    assert "cannot be read" in fails(2, capsys, "-i", empty, *short)


def test_patterns_are_not_cropped_on_the_way(
    empty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = ["--set", "PtychoPINNPluginData.PatternSize=32"]
    arguments = ["live", "-i", str(empty), "-o", str(tmp_path / "out"), *QUICK, *size]
    assert main(arguments) == 2
    assert "PtychoPINNPluginData.PatternSize = 32" in capsys.readouterr().err
