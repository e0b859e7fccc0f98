"""A scan that is streamed: all of its frames are left, whatever comes when, and whatever fails."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from ptychodus.api.io import load_product
from stream_support import Scan

from ptychopinn_ptychodus.live.status import LiveStatus, Stage
from ptychopinn_ptychodus.live.timed_positions import TimedPositions
from ptychopinn_ptychodus.plugin.stream import StreamedScan
from ptychopinn_ptychodus.worker.live_files import LiveFiles

Begin = Callable[..., StreamedScan]
logger = logging.getLogger("PtychoPINN-Plugin")


@pytest.fixture
def begin(scan: Scan, tmp_path: Path) -> Begin:
    def start(size: int = 64) -> StreamedScan:
        bad = np.zeros((size, size), np.bool_)
        positions = TimedPositions("order")
        where = (scan.directory, tmp_path / "out")
        return StreamedScan(*where, bad, positions, domain="counts", model=None, logger=logger)

    return start


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
    assert LiveStatus.load(live).stage is Stage.DONE


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
    assert f'its frames: "{tmp_path / "out" / "scan"}"' in caplog.text
    streamed.close()


def test_what_could_not_be_written_is_written_at_the_next_attempt(
    begin: Begin, scan: Scan, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    streamed = begin()
    send(streamed, scan)
    in_the_way = tmp_path / "out" / "scan"
    in_the_way.write_text("no directory")
    with pytest.raises(OSError, match="exists"):
        streamed.finish()
    in_the_way.unlink()
    in_the_way.mkdir()
    (in_the_way / "settings.ini").touch()  # of an earlier scan
    streamed.take_frames(np.array([999]), scan.patterns[:1])
    assert "Frame [999] came after the end" in caplog.text
    streamed.close()
    check(in_the_way, scan)
    assert not (in_the_way / "settings.ini").exists()


def test_what_cannot_be_reconstructed_is_said(begin: Begin, scan: Scan, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"product.h5.* has 64 × 64 pixels, and frames will have 32 × 32"):
        begin(32)
    streamed = begin()
    streamed.take_frames(np.array([1]), scan.patterns[:1])
    with pytest.raises(ValueError, match=r"Of 1 frame, none has a position.*pos_x_pv"):
        streamed.finish()
    streamed.close()
    assert not (tmp_path / "out" / "scan").exists()
