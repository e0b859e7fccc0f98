"""A scan that is streamed: all of its frames are left, whatever comes when, and whatever fails."""

from __future__ import annotations

import logging
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from ptychodus.api.io import load_product
from stream_support import Scan

from ptychopinn_ptychodus.live.status import LiveStatus, Stage
from ptychopinn_ptychodus.live.timed_positions import TimedPositions
from ptychopinn_ptychodus.plugin import stream, stream_shown
from ptychopinn_ptychodus.plugin.stream import StreamedScan
from ptychopinn_ptychodus.ptychodus_io.kept_directory import NOTE_FILE
from ptychopinn_ptychodus.worker.live_files import LiveFiles

Begin = Callable[..., StreamedScan]
logger = logging.getLogger("PtychoPINN-Plugin")


@pytest.fixture
def begin(scan: Scan, tmp_path: Path) -> Iterator[Begin]:
    started: list[StreamedScan] = []

    def start(size: int = 64, by: str = "order", first: int | None = None, **options: Any) -> StreamedScan:
        bad = np.zeros((size, size), np.bool_)
        where = (scan.directory, tmp_path / "out")
        positions = TimedPositions(by, first)
        options = {"promised": len(scan), **options}
        started.append(
            StreamedScan(*where, bad, positions, domain="counts", model=None, logger=logger, **options)
        )
        return started[-1]

    yield start
    for each in started:
        each.close()


def send(streamed: StreamedScan, scan: Scan) -> None:
    """Frames from the last to the first, and positions by the way."""
    times = list(range(len(scan)))
    for number in reversed(range(len(scan))):
        streamed.take_frames(np.array([number + 1]), scan.patterns[number : number + 1])
        if number == len(scan) // 2:
            for axis in (0, 1):
                streamed.take_positions(axis, scan.positions_m[:, axis].tolist(), times)


def check(directory: Path, scan: Scan) -> None:
    """All is there, in order, and nothing else."""
    with h5py.File(directory / "diffraction.h5") as file:
        assert file["indexes"][()].tolist() == list(range(1, len(scan) + 1))
        assert np.array_equal(file["patterns"][()], scan.patterns)
    with h5py.File(directory / "product.h5") as file:
        found = np.stack([file[f"probe_position_{axis}_m"][()] for axis in "xy"], -1)
        assert file["probe_position_indexes"][()].tolist() == list(range(1, len(scan) + 1))
    assert np.allclose(found, scan.positions_m, rtol=0, atol=1e-12)


def test_frames_are_left_as_a_directory_that_is_whole(begin: Begin, scan: Scan, tmp_path: Path) -> None:
    streamed = begin()
    send(streamed, scan)
    until = time.monotonic() + 60
    live = tmp_path / "out" / "live"
    while not LiveStatus.load(live).in_object and time.monotonic() < until:
        time.sleep(0.05)
    assert LiveStatus.load(live).stage is Stage.FOLLOWING
    assert (live / "object.png").is_file()
    found = load_product(live / "product.h5")
    assert 0 < len(found.probe_positions) <= len(scan)
    check(streamed.finish(), scan)
    assert streamed.state.in_object > 0
    assert LiveStatus.load(live).stage is Stage.COMPLETING


def test_the_reconstruction_of_all_frames_can_be_followed(
    begin: Begin, scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_shown, "_LOOK_S", 0.01)
    streamed, live = begin(), tmp_path / "out" / "live"
    send(streamed, scan)
    directory = streamed.finish()
    assert LiveStatus.load(live).scan == str(directory)
    looked = iter([None, (0.3, None, 0, 0)])  # nobody can tell at first
    with streamed.reconstructing(lambda: next(looked, (0.6, 20.0, 3, 5))):
        until = time.monotonic() + 60
        while LiveStatus.load(live).epoch != 3 and time.monotonic() < until:
            time.sleep(0.05)
        status = LiveStatus.load(live)
    assert status.stage is Stage.COMPLETING
    assert (status.progress, status.seconds_left, status.epoch, status.epochs) == (0.6, 20.0, 3, 5)
    result = Path(shutil.copy(directory / "product.h5", tmp_path / "product.000100.h5"))
    with h5py.File(result, "r+") as file:
        file["object"][...] = 0.5
        file.attrs["comments"] = "found"
    streamed.is_reconstructed(result)
    status = LiveStatus.load(live)
    assert (status.stage, str(result) in status.says) == (Stage.DONE, True)
    assert load_product(live / "product.h5").metadata.comments == "found"
    assert not (directory / NOTE_FILE).exists()


def test_frames_that_were_not_reconstructed_are_said(begin: Begin, scan: Scan, tmp_path: Path) -> None:
    streamed = begin()
    send(streamed, scan)
    directory = streamed.finish()
    streamed.is_not_reconstructed("no memory")
    status = LiveStatus.load(tmp_path / "out" / "live")
    assert (status.stage, "not reconstructed: no memory" in status.says) == (Stage.FAILED, True)
    assert (directory / NOTE_FILE).is_file()


def test_a_live_object_that_fails_loses_no_frame_and_is_said_once(
    begin: Begin,
    scan: Scan,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(self: LiveFiles, running: object) -> bool:
        raise OSError("No space left on device")

    monkeypatch.setattr(LiveFiles, "show", full)
    streamed = begin()
    send(streamed, scan)
    check(streamed.finish(), scan)
    assert caplog.text.count("The live object has failed, and frames are kept without it: No space") == 1
    status = LiveStatus.load(tmp_path / "out" / "live")
    assert (status.stage, "No space" in status.says) == (Stage.FAILED, True)


def test_a_stop_before_the_reconstruction_leaves_the_frames(
    begin: Begin, scan: Scan, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    streamed = begin()
    send(streamed, scan)
    streamed.close()
    check(tmp_path / "out" / "scan", scan)
    assert LiveStatus.load(tmp_path / "out" / "live").stage is Stage.DONE
    assert f'its frames: "{tmp_path / "out" / "scan"}"' in caplog.text
    streamed.close()


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """What a file system without room says as well: files cannot be larger than that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_could_not_be_put_in_order_is_at_the_next_attempt(
    begin: Begin, scan: Scan, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    streamed = begin()
    directory = tmp_path / "out" / "scan"
    (directory / "settings.ini").touch()  # of an earlier scan
    send(streamed, scan)
    with no_file_beyond(0), pytest.raises(OSError, match="File too large"):
        streamed.finish()
    with h5py.File(directory / "diffraction.h5") as file:  # as they came
        assert file["frame_numbers"][()].tolist() == list(range(len(scan), 0, -1))
        assert np.array_equal(file["patterns"][()], scan.patterns[::-1])
    streamed.take_frames(np.array([999]), scan.patterns[:1])
    assert "Frame [999] came after the end" in caplog.text
    streamed.close()
    check(directory, scan)
    assert not (directory / "settings.ini").exists()


def test_a_full_disk_is_said_before_the_first_frame(begin: Begin, scan: Scan, tmp_path: Path) -> None:
    with no_file_beyond(1 << 20), pytest.raises(OSError, match=r"no room in .*scan.*1000 frames of 64 × 64"):
        begin(promised=1000)
    assert not (tmp_path / "out" / "scan" / NOTE_FILE).exists()


def test_more_frames_than_were_promised_and_of_another_type_are_kept(
    begin: Begin, scan: Scan, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    streamed = begin(promised=10, dtype="uint8")
    patterns = scan.patterns.copy()
    patterns[0] //= 300
    streamed.take_frames(np.array([1]), patterns[:1].astype(np.uint8))
    for number in range(1, 15):
        streamed.take_frames(np.array([number + 1]), patterns[number : number + 1])
    with no_file_beyond(1 << 18):  # there is no room for twice as many
        for number in range(15, len(scan)):
            streamed.take_frames(np.array([number + 1]), patterns[number : number + 1])
    assert caplog.text.count("Frames are not written to") == 1
    assert "the 20 frames so far are there" in caplog.text
    with h5py.File(tmp_path / "out" / "scan" / "diffraction.h5") as file:
        assert file["frame_numbers"][()].tolist() == list(range(1, 21))
        assert np.array_equal(file["patterns"][()], patterns[:20])
    for axis in (0, 1):
        streamed.take_positions(axis, scan.positions_m[:, axis].tolist(), list(range(len(scan))))
    directory = streamed.finish()
    with h5py.File(directory / "diffraction.h5") as file:
        assert np.array_equal(file["patterns"][()], patterns)


# What a consumer is in the middle of when it is killed: positions of all frames have come but for the last.
_KILLED = """
import logging, sys, time
from pathlib import Path
import h5py, numpy as np
from ptychopinn_ptychodus.live.timed_positions import TimedPositions
from ptychopinn_ptychodus.plugin.stream import StreamedScan

source, target, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
with h5py.File(source / "diffraction.h5") as file:
    patterns = file["patterns"][()]
with h5py.File(source / "product.h5") as file:
    positions = [file[f"probe_position_{axis}_m"][()] for axis in "xy"]
bad, logger = np.zeros((64, 64), bool), logging.getLogger()
streamed = StreamedScan(source, target, bad, TimedPositions("order"), domain="counts", model=None,
                        logger=logger, promised=len(patterns))
for number in reversed(range(count)):
    streamed.take_frames(np.array([number + 1]), patterns[number : number + 1])
for axis in (0, 1):
    streamed.take_positions(axis, positions[axis][: count - 1].tolist(), [0.0] * (count - 1))
print("sent", flush=True)
time.sleep(600)
"""


def killed(scan: Scan, target: Path, count: int, *, until: Callable[[], bool] = lambda: True) -> None:
    """A process that has received ``count`` frames, and positions of all but one, and is killed."""
    command = [sys.executable, "-c", _KILLED, str(scan.directory), str(target), str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "sent\n"
            deadline = time.monotonic() + 60
            while not until():
                assert time.monotonic() < deadline
                time.sleep(0.05)
        finally:
            process.kill()


def counted_in(directory: Path) -> list[int]:
    """Numbers of the frames that Ptychodus sees."""
    with h5py.File(directory / "diffraction.h5") as file:
        return sorted(number for number in file["indexes"][()].tolist() if number >= 0)


def test_frames_of_a_killed_process_are_reconstructed_by_stock_ptychodus_and_gone_on_with(
    begin: Begin, scan: Scan, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    count, out = 2 * len(scan) // 3, tmp_path / "out"
    placed = list(range(1, count))
    killed(scan, out, count, until=lambda: counted_in(out / "scan") == placed)
    assert LiveStatus.load(out / "live").is_orphaned
    assert "not been reconstructed" in (out / "scan" / NOTE_FILE).read_text()
    settings = tmp_path / "settings.ini"
    settings.write_text(
        "[Processing]\nAlgorithm = ptychopinn-plugin_refinement\n[PtychoPINNPluginWithoutModel]\nEpochs = 2\n"
        "[PtychoPINNPluginExamination]\nJudge = False\n[PtychoPINNPluginInference]\nKeepWarm = 0\n"
    )
    result = tmp_path / "result"
    result.mkdir()
    directories = ["-i", str(out / "scan"), "-o", str(result), "-s", str(settings)]
    stock = [sys.executable, "-m", "ptychodus", "-b", "reconstruct", *directories]
    done = subprocess.run(stock, capture_output=True, text=True, timeout=240, check=False)
    product = load_product(result / "product.000100.h5")
    # in the order in which the frames came
    assert product.probe_positions.get_indexes().tolist() == placed[::-1], done.stderr
    assert len(product.losses) == 2

    streamed = begin(first=count, resume=True)
    assert f"goes on with {count} frames, of which {count - 1} have a position" in caplog.text
    for number in range(count - 1, len(scan)):  # one comes again
        streamed.take_frames(np.array([number + 1]), scan.patterns[number : number + 1])
    for axis in (0, 1):
        streamed.take_positions(
            axis, scan.positions_m[count - 1 :, axis].tolist(), [0.0] * (len(scan) - count + 1)
        )
    assert streamed.finish() == out / "scan"
    check(out / "scan", scan)
    assert f"1 frame came again, {count}" in caplog.text
    streamed.is_reconstructed(tmp_path / "out" / "scan" / "product.h5")
    streamed.close()
    begin().close()
    assert not (out / "scan-1").exists()


def test_frames_of_a_killed_process_are_out_of_the_way_of_another_scan(
    begin: Begin, scan: Scan, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    killed(scan, out, 10)  # before its positions are in the product, perhaps
    streamed = begin()
    assert f'Its 9 frames with a position are in "{out / "scan-1"}" now' in caplog.text
    assert counted_in(out / "scan-1") == list(range(1, 10))
    found = load_product(out / "scan-1" / "product.h5").probe_positions
    assert found.get_indexes().tolist() == list(range(1, 10))
    assert np.allclose(found.get_coordinates_x_m(), scan.positions_m[:9, 0], rtol=0, atol=1e-12)
    assert str(out / "scan-1") in (out / "scan-1" / NOTE_FILE).read_text()
    send(streamed, scan)
    check(streamed.finish(), scan)


def test_what_cannot_be_gone_on_with_is_said(begin: Begin, scan: Scan, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'no frames to go on with .*without "resume"'):
        begin(first=1, resume=True)
    with pytest.raises(ValueError, match=r'by order nobody can tell how many.*"first_frame"'):
        begin(resume=True)
    live = tmp_path / "out" / "live"
    LiveStatus(Stage.FOLLOWING, "frames come", process=os.getppid()).save(live)
    with pytest.raises(ValueError, match=f"The process {os.getppid()} streams to"):
        begin()


def test_everything_that_is_wrong_with_frames_is_said(
    begin: Begin,
    scan: Scan,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Lost, doubled, out of order, positions late or never; and a sender of whom nothing is heard."""
    monkeypatch.setattr(stream, "SILENCE_S", 0.2)
    streamed = begin(by="time")
    numbers = [each for each in range(1, len(scan) + 1) if each != 7]
    for number in (*reversed(numbers), 12, 13):
        streamed.take_time(number, number / 10)
        streamed.take_frames(np.array([number]), scan.patterns[number - 1 : number])
    deadline = time.monotonic() + 60
    silent = (
        f"No frame has come for 0.2 s: {len(numbers)} of {len(scan)} are there. If the detector has ended"
    )
    while silent not in caplog.text:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    there = [number for number in range(1, len(scan) + 1) if number != 9]
    for axis in (0, 1):  # after all frames
        values = [scan.positions_m[number - 1, axis] for number in there]
        streamed.take_positions(axis, values, [number / 10 for number in there])
    directory = streamed.finish()
    for said in (
        "1 frame is lost: no frame 7 came.",
        "2 frames came again, 12, 13",
        "1 frame without a position, 9",
        "For 1 frame, no position was reported within 0.05 s",
    ):
        assert said in caplog.text
    assert counted_in(directory) == [number for number in numbers if number != 9]


@pytest.mark.parametrize("with_times", [True, False])
def test_a_position_that_is_lost_in_the_middle_is_found_with_the_frame_from_which_on(
    begin: Begin, scan: Scan, tmp_path: Path, with_times: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The clocks differ by an hour; without times, the patterns tell it."""
    streamed = begin(promised=len(scan))
    lost = len(scan) // 2  # of the frame with this number, from 1
    for number in range(1, len(scan) + 1):
        streamed.take_time(number, number / 10)
        streamed.take_frames(np.array([number]), scan.patterns[number - 1 : number])
    there = [number for number in range(1, len(scan) + 1) if number != lost]
    for axis in (0, 1):
        values = [scan.positions_m[number - 1, axis] for number in there]
        streamed.take_positions(axis, values, [3600 + number / 10 if with_times else 0.0 for number in there])
    found = f"1 position is lost: from frame {lost} on, each frame has the position of the frame after it."
    assert (found in caplog.text) == with_times  # at once
    directory = streamed.finish()
    (warning,) = streamed.warnings
    if with_times:
        assert warning.startswith(found)
    else:
        first = int(warning.split("from frame ")[1].split()[0])
        assert first == pytest.approx(lost, abs=3)
        assert "The patterns fit far better" in warning
    assert "Raise probe_position_indexes by 1 for these frames" in warning
    assert "positions_by" in warning
    assert warning in caplog.text
    assert warning in load_product(directory / "product.h5").metadata.comments


def test_what_cannot_be_reconstructed_is_said(
    begin: Begin, scan: Scan, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ValueError, match=r"product.h5.* has 64 × 64 pixels, and frames will have 32 × 32"):
        begin(32)
    streamed = begin()
    streamed.take_frames(np.array([1]), scan.patterns[:1])
    with pytest.raises(ValueError, match=r"Of 1 frame, none has a position.*pos_x_pv"):
        streamed.finish()
    streamed.close()
    assert "as they came, they are in" in caplog.text
    with h5py.File(tmp_path / "out" / "scan" / "diffraction.h5") as file:
        assert file["frame_numbers"][0] == 1
