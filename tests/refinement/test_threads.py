"""Refinement in threads: how many there are, what they find, how they fail, and that they end."""

from __future__ import annotations

import os
import threading
import time
import traceback

import numpy as np
import pytest
from refinement_support import made_scan

from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.arrays import NumpyArrays
from ptychopinn_ptychodus.refinement.report import Refined
from ptychopinn_ptychodus.refinement.solver import refine
from ptychopinn_ptychodus.refinement.stages import Stages
from ptychopinn_ptychodus.refinement.threads import NAME, Threads, thread_count


@pytest.mark.parametrize(
    ("limit", "expected"), [("3", 3), ("4,2", 4), (" 2 , 1", 2), ("", 8), ("many", 8), ("64", 8), ("0", 1)]
)
def test_there_are_as_many_threads_as_the_process_may_use_and_no_more(
    monkeypatch: pytest.MonkeyPatch, limit: str, expected: int
) -> None:
    # of a machine with more
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(os, "process_cpu_count", lambda: 8, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", limit)
    assert thread_count() == expected
    monkeypatch.delattr(os, "process_cpu_count")
    assert thread_count() == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinities")
def test_the_affinity_of_the_process_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("PYTHON_CPU_COUNT", raising=False)
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert thread_count() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert thread_count() == len(allowed)


def _named() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(NAME)]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_results_are_taken_in_order_one_at_a_time_from_several_threads(count: int) -> None:
    threads, rng = Threads(count), np.random.default_rng(0)
    taken: list[int] = []
    workers: set[int] = set()
    most = [0, 0]
    delays = rng.uniform(0.0, 0.004, 60)

    def function(part: int) -> int:
        workers.add(threading.get_ident())
        time.sleep(delays[part])
        return part

    def take(result: int) -> None:
        most[0] += 1
        most[1] = max(most)
        time.sleep(0.0005)
        taken.append(result)
        most[0] -= 1

    threads.each(function, range(60), take)
    assert taken == list(range(60))
    assert most[1] == 1
    assert len(workers) == count
    assert len(_named()) == count - 1
    threads.close()
    assert not _named()


def test_few_results_wait_for_a_slow_one() -> None:
    threads, released = Threads(2), threading.Event()
    begun: list[int] = []

    def function(part: int) -> int:
        begun.append(part)
        if part == 0:
            released.wait(0.3)
        return part

    def take(result: int) -> None:
        if result == 0:
            assert len(begun) <= 10, "too many results are in memory"

    threads.each(function, range(200), take)
    assert len(begun) == 200
    threads.close()


def _fails(part: int) -> int:
    if part == 7:
        raise ZeroDivisionError("part seven")
    time.sleep(0.001)
    return part


@pytest.mark.parametrize("count", [1, 2, 3])
def test_an_error_in_a_thread_arrives_with_its_traceback(count: int) -> None:
    threads = Threads(count)
    taken: list[int] = []
    with pytest.raises(ZeroDivisionError, match="part seven") as caught:
        threads.each(_fails, range(1000), taken.append)
    assert "_fails" in "".join(traceback.format_exception(caught.value))
    assert taken == list(range(len(taken)))
    assert len(taken) <= 7
    # they go on with the next job
    threads.each(lambda part: part, range(20), taken.append)
    assert taken[-20:] == list(range(20))
    threads.close()


@pytest.mark.parametrize("count", [1, 2])
def test_an_error_in_taking_arrives_too(count: int) -> None:
    threads = Threads(count)
    with pytest.raises(ZeroDivisionError, match="part seven"):
        threads.each(lambda part: part, range(1000), _fails)
    threads.close()


def test_threads_sleep_while_there_is_nothing_to_do() -> None:
    threads = Threads(4)
    threads.each(lambda _: time.sleep(0.02), range(8), lambda _: None)
    before = time.process_time()
    time.sleep(0.3)
    threads.each(lambda _: time.sleep(0.2), range(4), lambda _: None)
    assert time.process_time() - before < 0.1
    threads.close()


def test_threads_end_with_what_has_them() -> None:
    threads = Threads(3)
    threads.each(lambda _: time.sleep(0.005), range(9), lambda _: None)
    assert _named()
    del threads
    deadline = time.monotonic() + 5.0
    while _named() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _named()


def _refined(scan: RawData, flat: np.ndarray, threads: int, config: RefinementConfig) -> Refined:
    arrays = NumpyArrays(threads)
    try:
        return refine(scan, flat, scan.probeGuess, config, device=arrays)
    finally:
        arrays.close()


@pytest.mark.parametrize("metric", ["amplitude", "auto", "poisson"])
def test_any_number_of_threads_finds_the_same_to_the_last_bit(metric: str) -> None:
    scan = made_scan(photons=2e4, seed=3)
    assert scan.objectGuess is not None
    flat = np.ones_like(scan.objectGuess)
    config = RefinementConfig(epochs=6, metric=metric, probe_modes=2)
    one, *others = (_refined(scan, flat, threads, config) for threads in (1, 2, 3))
    for other in others:
        assert other.history == one.history
        for name in ("object", "probe", "positions", "weights"):
            np.testing.assert_array_equal(getattr(other, name), getattr(one, name), err_msg=name)


@pytest.mark.parametrize("shape", [(256, 256), (397, 482)])
def test_large_images_are_filtered_alike_by_any_number_of_threads(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, *shape)).astype(np.float32)
    transfers = rng.uniform(size=(2, shape[0], shape[1] // 2 + 1)).astype(np.float32)
    expected = NumpyArrays(1).filtered(images, transfers)
    for count in (2, 3):
        np.testing.assert_array_equal(NumpyArrays(count).filtered(images, transfers), expected)


def test_stop_ends_within_a_batch_and_leaves_no_thread(
    scan: RawData, flat: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(os, "process_cpu_count", lambda: 2, raising=False)
    asked = 0
    seen: list[int] = []
    progress: list[float] = []

    def stop() -> bool:
        nonlocal asked
        asked += 1
        seen.append(len(_named()))
        return asked > 20

    found = refine(
        scan,
        flat,
        scan.probeGuess,
        RefinementConfig(epochs=50),
        on_progress=progress.append,
        should_stop=stop,
        device="cpu",
        stages=Stages.NONE,
    )
    assert found.stopped
    assert len(progress) == 20
    assert max(seen) == 1
    assert not _named()
