"""The groups of a scan divided among several devices of this machine, each with a thread of this process.

A model is applied to each batch by itself, so that neither processes nor messages between them are needed:
the patches of all devices are written to one array, which is stitched as ever.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..config import ExecutionConfig, TrainingConfig
from ..launchers import launched
from .base import ShouldStop
from .framework import one_line

Results = Callable[[NDArray[np.int64]], Generator[NDArray[np.complex64]]]
"""From the numbers of groups to the patches of each batch of them, (b, C, N, N)."""

_ASK_S = 0.1


def devices_each(execution: ExecutionConfig) -> int:
    """How many devices a process applies a model on.

    Where a launcher has started several processes that train together, each of them applies it on one.
    """
    return execution.devices if execution.devices == 1 or launched() is None else 1


def require_seed(config: TrainingConfig) -> None:
    """Raise ``ValueError`` if several devices would not draw the same batches."""
    if config.seed is None:
        raise ValueError(
            "TrainingConfig.subsample_seed is None, but several devices have to draw the same batches: set a "
            "number, or ExecutionConfig.devices and num_nodes to 1."
        )


def require_devices(wanted: int, found: int, name: str) -> None:
    """Raise ``ValueError`` if more devices are ``wanted`` than there are, which are called ``name``."""
    if wanted > found:
        raise ValueError(
            f"ExecutionConfig.devices = {wanted}, but this machine has {found} {name}: use at most as many, "
            "or accelerator = 'cpu'."
        )


def dealt(device: int, devices: int, batch_size: int, groups: int) -> NDArray[np.int64]:
    """Numbers of the groups of one device, of number ``device`` among ``devices``.

    The batches are those that a single device would have, dealt out in turn: whatever depends on what is
    computed together comes out the same.
    """
    return np.flatnonzero(np.arange(groups) // batch_size % devices == device).astype(np.int64)


@dataclass(frozen=True)
class _End:
    """A device's work is over; ``failure`` says why, if it is not complete."""

    device: int
    failure: BaseException | None


def fill(
    patches: NDArray[np.complex64],
    batch_size: int,
    results: Sequence[Results],
    names: Sequence[str],
    *,
    tell: Callable[[float], object],
    should_stop: ShouldStop | None,
    out_of_memory: type[Exception],
) -> None:
    """Have all devices compute patches at a time, until there are those of all groups.

    Parameters
    ----------
    patches
        (B, C, N, N) of all B groups, which are written here.
    batch_size
        Groups in a batch.
    results
        What computes on each device.
    names
        What the devices are called, for errors.
    tell
        Told after every batch, in the caller's thread, which part of the groups is done, 0 to 1.
    should_stop
        Asked before every batch, in the caller's thread.
    out_of_memory
        What is raised where a device has too little memory; it is passed on as it is.

    Raises
    ------
    InterruptedError
        If ``should_stop`` answered True; no device computes any more.
    RuntimeError
        If one of several devices has failed; the message names it.
    """
    done = 0

    def work(device: int) -> Generator[int]:
        chosen = dealt(device, len(results), batch_size, len(patches))
        with contextlib.closing(results[device](chosen)) as parts:
            for part in parts:
                patches[chosen[0] : chosen[0] + len(part)] = part  # those of a batch are neighbours
                chosen = chosen[len(part) :]
                yield len(part)

    def count(groups: int) -> None:
        nonlocal done
        done += groups
        tell(done / len(patches))

    works = [work(device) for device in range(len(results))]
    _work_through(works, names, tell=count, should_stop=should_stop, out_of_memory=out_of_memory)


def _work_through(
    works: Sequence[Generator[int]],
    names: Sequence[str],
    *,
    tell: Callable[[int], None],
    should_stop: ShouldStop | None,
    out_of_memory: type[Exception],
) -> None:
    """:func:`fill`, where each step of ``works`` computes a batch, and gives the number of groups in it."""

    def ask() -> None:
        if should_stop is not None and should_stop():
            raise InterruptedError("Inference was stopped.")

    if len(works) == 1:
        ask()
        with contextlib.closing(works[0]) as batches:
            for groups in batches:
                tell(groups)
                ask()
        return
    said: queue.SimpleQueue[int | _End] = queue.SimpleQueue()
    is_over = threading.Event()

    def work(device: int) -> None:
        failure: BaseException | None = None
        try:
            with contextlib.closing(works[device]) as batches:  # here: what it has entered is its thread's
                for groups in batches:
                    said.put(groups)
                    if is_over.is_set():
                        break
        except BaseException as exc:  # whatever it is, the caller waits to hear of it
            failure = exc
        said.put(_End(device, failure))

    threads = [threading.Thread(target=work, args=(device,), daemon=True) for device in range(len(works))]
    try:
        for thread in threads:
            thread.start()
        left = len(works)
        while left:
            ask()
            try:
                item = said.get(timeout=_ASK_S)
            except queue.Empty:
                continue
            if not isinstance(item, _End):
                tell(item)
            elif item.failure is None:
                left -= 1
            else:
                raise _named(item.failure, names[item.device], out_of_memory)
    finally:
        # nobody else may write into the caller's array once this function is left
        is_over.set()
        for thread in threads:
            thread.join()


def _named(failure: BaseException, name: str, out_of_memory: type[Exception]) -> BaseException:
    """What is to be raised for the failure of a device."""
    if isinstance(failure, (out_of_memory, ValueError, OSError, MemoryError)):
        return failure  # its message says what is wrong, and with which value or file
    error = RuntimeError(f"The device {name} failed: {one_line(failure)}")
    error.__cause__ = failure
    return error
