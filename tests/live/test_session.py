"""Frames in, an object out, and the reconstruction of all in the end: the interface of Python."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from ptychopinn_ptychodus import LiveState, RawData, RefinementConfig, reconstruct_live, refine
from ptychopinn_ptychodus.live.session import LiveReconstruction

QUICK = RefinementConfig(epochs=3, positions=False)


def unchanged(scan: RawData) -> RawData:
    return scan


def test_frames_that_came_in_disorder_end_as_the_scan_at_once(
    scan: RawData, counts: np.ndarray, positions: np.ndarray
) -> None:
    told: list[LiveState] = []
    order = np.random.default_rng(1).permutation(len(scan))
    with reconstruct_live(
        scan.probeGuess, refinement=QUICK, on_update=told.append, in_process=True
    ) as running:
        for number in order:
            running.add(counts[number], numbers=int(number))
        running.place(np.arange(len(scan)), positions)
        state = running.drain()
        early = running.snapshot()
        found = running.finish()
    assert (state.in_object, state.lag, state.counts.waiting) == (len(scan), 0, 0)
    assert state.error < 0.05
    assert told
    assert told[-1].line().startswith(f"{len(scan)} frames in the object")
    assert early.object.shape == found.object.shape
    assert early.origin == found.origin
    at_once = refine(
        RawData(
            xcoords=positions[:, 0],
            ycoords=positions[:, 1],
            diff3d=counts,
            probeGuess=scan.probeGuess,
            domain="counts",
        ),
        config=QUICK,
        in_process=True,
    )
    assert np.array_equal(found.object, at_once.object)


def test_what_is_wrong_with_frames_ends_nothing_and_is_said(
    scan: RawData, counts: np.ndarray, positions: np.ndarray
) -> None:
    with LiveReconstruction(scan.probeGuess, unchanged, improve=False) as running:
        running.add(counts[:30], positions[:30])
        running.add([np.full((64, 64), np.nan), np.ones((3, 64))], positions[30:32])
        running.add(counts[:2], positions[:2], numbers=[0, 1])
        running.add(counts[40:60], numbers=range(40, 60))
        running.place(range(40, 58), positions[40:58])
        running.add(counts[60], (1e12, 0.0), numbers=60)
        state = running.drain()
        found = running.finish()
    assert found.n_patterns == 48
    assert state.in_object == 48
    counted = state.counts
    assert (counted.taken, counted.damaged, counted.doubled, counted.missing) == (51, 2, 2, 8)
    assert (counted.waiting, counted.refused_positions) == (3, 1)
    said = " ".join(state.notes)
    for part in ("8 frames are lost", "damaged and left out, 30, 31", "came again", "so far from the others"):
        assert part in said


def test_a_buffer_that_is_used_again_changes_nothing(
    scan: RawData, counts: np.ndarray, positions: np.ndarray
) -> None:
    buffer = np.empty((64, 64), np.uint16)
    with LiveReconstruction(scan.probeGuess, unchanged, improve=False) as running:
        for pattern, position in zip(counts[:10], positions[:10], strict=True):
            buffer[:] = pattern
            running.add(buffer, position)
        found = running.finish()
    assert np.allclose(found.diff3d**2, counts[:10], atol=0.1)


def test_whoever_adds_more_than_there_is_room_for_waits(
    scan: RawData, counts: np.ndarray, positions: np.ndarray
) -> None:
    begin, added = threading.Event(), threading.Event()
    with LiveReconstruction(
        scan.probeGuess,
        unchanged,
        queue_bytes=20 * counts[0].nbytes,
        on_update=lambda state: begin.wait(20),  # the thread that computes is held up
        every_s=0.0,
    ) as running:

        def add() -> None:
            for number in range(100):
                running.add(counts[number], positions[number])
            added.set()

        thread = threading.Thread(target=add)
        thread.start()
        assert not added.wait(1.0)
        begin.set()
        assert added.wait(30)
        thread.join()
        assert running.finish().n_patterns == 100


def test_an_error_while_computing_reaches_whoever_adds(
    scan: RawData, counts: np.ndarray, positions: np.ndarray
) -> None:
    def broken(state: LiveState) -> None:
        raise ZeroDivisionError("of the callback")

    def run() -> None:
        with LiveReconstruction(scan.probeGuess, unchanged, on_update=broken, every_s=0.0) as running:
            running.add(counts[:20], positions[:20])
            running.drain()

    with pytest.raises(ZeroDivisionError, match="of the callback"):
        run()


def test_refusals_say_what_is_wrong(scan: RawData, counts: np.ndarray, positions: np.ndarray) -> None:
    with LiveReconstruction(scan.probeGuess, unchanged) as running:
        with pytest.raises(ValueError, match="give one each"):
            running.add(counts[:2], positions[:3])
        with pytest.raises(ValueError, match="give one each"):
            running.place([1, 2], positions[:3])
        running.add(counts[:2])
        with pytest.raises(ValueError, match="no frame with a position"):
            running.finish()
    with pytest.raises(ValueError, match="is over"):
        running.add(counts[0], positions[0])


def test_idle_time_makes_the_object_better(scan: RawData, counts: np.ndarray, positions: np.ndarray) -> None:
    with LiveReconstruction(scan.probeGuess, unchanged, every_s=0.05) as running:
        running.add(counts, positions)
        running.drain()
        before = running.snapshot().object
        time.sleep(0.6)
        assert not np.array_equal(running.snapshot().object, before)


def test_the_last_frames_are_told_of_although_none_follow(
    scan: RawData, counts: np.ndarray, positions: np.ndarray
) -> None:
    last = threading.Event()

    def note(state: LiveState) -> None:
        if state.in_object == 5:
            last.set()

    with LiveReconstruction(scan.probeGuess, unchanged, on_update=note, every_s=1.0) as running:
        running.add(counts[:5], positions[:5])
        assert last.wait(60)


def test_amplitude_that_is_taken_as_counts_is_told_before_the_scan_is_over(
    scan: RawData, counts: np.ndarray, positions: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    amplitude = np.sqrt(counts, dtype=np.float32)
    told: list[LiveState] = []
    with LiveReconstruction(scan.probeGuess, unchanged, on_update=told.append, every_s=0.0) as running:
        running.add(amplitude[:63], positions[:63])
        assert not running.drain().findings
        running.add(amplitude[63:64], positions[63:64])
        finding = running.drain().findings.by_code("values-are-amplitude")
        running.add(amplitude[64:70], positions[64:70])
        assert len(running.drain().findings.findings) == 1
    assert finding is not None
    assert finding.is_warning
    assert told[-1].findings.findings == (finding,)
    assert caplog.text.count("they look like amplitude") == 1


@pytest.mark.parametrize("domain", ["counts", "amplitude"])
def test_what_patterns_are_rightly_said_to_hold_is_not_doubted(
    scan: RawData, counts: np.ndarray, positions: np.ndarray, domain: str
) -> None:
    patterns = counts.astype(np.float32) if domain == "counts" else np.sqrt(counts, dtype=np.float32)
    with LiveReconstruction(scan.probeGuess, unchanged, domain=domain, improve=False) as running:
        running.add(patterns[:70], positions[:70])
        assert not running.drain().findings
