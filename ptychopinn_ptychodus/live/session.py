"""A live reconstruction: frames in from any thread, an object at any time, the full one at the end."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..data.examination import Report
from ..data.raw import RawData
from ..data.scan_arrays import checked_bad_pixels, checked_probe
from ..ptychodus_io.names import LIBRARY
from .frames import Frames
from .growing import GROUP, GrowingObject, PatchNetwork
from .state import LiveObject, LiveState

logger = logging.getLogger(LIBRARY)

Result = TypeVar("Result")

QUEUE_BYTES = 256 << 20
"""Of frames that wait to be taken up; whoever adds more waits, too."""

_SPEED_S = 5.0  # over which frames per second are counted
_WAIT_S = 0.5
_IDLE_SWEEPS = 4  # through what is there, while no frames come
_FAR = "it is so far from the others that no object could hold both"


@dataclass(frozen=True)
class _Item:
    """What somebody has added: frames, positions, or both."""

    numbers: tuple[int, ...]
    patterns: Sequence[NDArray[np.number]] | None
    positions: NDArray[np.float64] | None
    since: float

    @property
    def bytes(self) -> int:
        return 0 if self.patterns is None else sum(pattern.nbytes for pattern in self.patterns)


class LiveReconstruction(Generic[Result]):
    """A reconstruction of a scan while it is recorded; a context manager.

    Within the block, a thread of its own fits the object to frames as they are added. :meth:`finish` has all
    of them reconstructed as a whole; a block that ends without it leaves what :meth:`snapshot` had given.

    Parameters
    ----------
    probe
        (N, N) or (modes, N, N) complex, of any scale.
    complete
        Makes the final result of the whole scan.
    bad_pixels, domain, device, network, find_probe
        As for :class:`.GrowingObject`; the network is ready within the block.
    on_update
        Called with a :class:`LiveState` every ``every_s`` seconds in which something has changed, in the
        thread that computes; what it raises ends the reconstruction.
    every_s
        See there, seconds.
    queue_bytes
        Of frames that may wait to be taken up.
    improve
        Whether earlier frames are gone through again while no new ones come.
    """

    def __init__(
        self,
        probe: ArrayLike,
        complete: Callable[[RawData], Result],
        *,
        bad_pixels: ArrayLike | None = None,
        domain: str = "counts",
        device: str = "cpu",
        network: PatchNetwork | None = None,
        find_probe: bool = True,
        on_update: Callable[[LiveState], object] | None = None,
        every_s: float = 0.5,
        queue_bytes: int = QUEUE_BYTES,
        improve: bool = True,
    ) -> None:
        size = np.shape(probe)[-1] if np.ndim(probe) else 0
        self._probe = checked_probe(probe, (size, size))
        bad = checked_bad_pixels(bad_pixels, (size, size))
        self._frames = Frames(size, bad, domain)
        self._object = GrowingObject(
            self._probe,
            bad,
            domain=domain,
            device=device,
            network=network,
            find_probe=find_probe,
            should_stop=lambda: self._is_closed,
        )
        self._network = network
        self._complete, self._on_update, self._every_s = complete, on_update, every_s
        self._most_bytes, self._improve = queue_bytes, improve
        self._queue: deque[_Item] = deque()
        self._queued_bytes = self._queued_frames = self._next = 0
        self._room = threading.Condition()
        self._working = threading.Lock()  # held while object and frames change
        self._is_closed = self._is_idle = self._is_news = False
        self._failure: BaseException | None = None
        self._state, self._done, self._findings = LiveState(), 0, Report()
        self._recent: deque[tuple[float, int]] = deque()
        self._started = self._told = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="live reconstruction", daemon=True)

    def __enter__(self) -> Self:
        if self._network is not None:
            self._network.__enter__()
        self._started = self._told = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        if self._network is not None:
            self._network.__exit__(kind, exc, trace)
        if self._failure is not None and kind is None:
            raise self._failure

    # ------------------------------------------------------------------ what comes in

    def add(
        self,
        patterns: NDArray[np.number] | Sequence[ArrayLike],
        positions: ArrayLike | None = None,
        numbers: Sequence[int] | NDArray[np.integer] | int | None = None,
    ) -> None:
        """Add a frame, (N, N), or several, (B, N, N) or a list of arrays; they are copied.

        Waits as long as too many frames have not been taken up yet. Frames that cannot be used are counted
        and said in :attr:`LiveState.notes`, and end nothing.

        Parameters
        ----------
        patterns
            Zero frequency at (N/2, N/2).
        positions
            [x, y] or (B, 2), pixels of the object, columns and rows; None: they come later, by :meth:`place`.
            NaN stands for one that comes later.
        numbers
            Of the frames; by default they are counted on. In the end the frames are ordered by them.

        Raises
        ------
        ValueError
            If there is not one number and one position for each frame, or the block is over.
        """
        arrays = _separate(patterns)
        if numbers is None:
            given = range(self._next, self._next + len(arrays))
        else:
            given = np.atleast_1d(np.asarray(numbers)).tolist()
        where = None if positions is None else np.asarray(positions, np.float64).reshape(-1, 2)
        if len(given) != len(arrays) or (where is not None and len(where) != len(arrays)):
            raise ValueError(
                f"{len(arrays)} frames came with {len(given)} numbers and "
                f"{'no' if where is None else len(where)} positions: give one each."
            )
        self._next = max((*given, self._next - 1)) + 1
        for start in range(0, len(arrays), GROUP):
            part = slice(start, start + GROUP)
            self._put(
                _Item(
                    tuple(given[part]),
                    [array.copy() for array in arrays[part]],
                    None if where is None else where[part].copy(),
                    time.monotonic(),
                )
            )

    def place(self, numbers: Sequence[int] | NDArray[np.integer] | int, positions: ArrayLike) -> None:
        """Say where frames of these numbers lie, [x, y] or (B, 2); before or after they come.

        Raises
        ------
        ValueError
            If there is not one position for each number, or the block is over.
        """
        given = tuple(np.atleast_1d(np.asarray(numbers)).tolist())
        where = np.array(positions, np.float64).reshape(-1, 2)
        if len(given) != len(where):
            raise ValueError(f"{len(given)} numbers came with {len(where)} positions: give one each.")
        self._put(_Item(given, None, where, time.monotonic()))

    # ------------------------------------------------------------------ what comes out

    @property
    def state(self) -> LiveState:
        """How it stands."""
        return self._state

    def snapshot(self) -> LiveObject:
        """The object as it is; waits until the steps that are under way are taken."""
        with self._working:
            object_, probe, origin = self._object.result()
            return LiveObject(object_, probe, (float(origin[0]), float(origin[1])), self._state)

    def drain(self) -> LiveState:
        """Wait until the object has been fitted to all frames that came so far and have a position."""
        with self._room:
            while not (self._is_idle and not self._queue) and self._failure is None and not self._is_closed:
                self._room.wait(_WAIT_S)
        self._raise_failure()
        return self._state

    def scan(self) -> RawData:
        """All frames that have a position, in the order of their numbers, as a scan; see :class:`.RawData`.

        Raises
        ------
        ValueError
            If there are none, or what there is makes no scan.
        """
        with self._working:
            _, patterns, positions = self._frames.all_placed()
        if not len(patterns):
            raise ValueError("There is no frame with a position: there is nothing to reconstruct.")
        return RawData(
            xcoords=positions[:, 0],
            ycoords=positions[:, 1],
            diff3d=patterns,
            probeGuess=self._probe,
            bad_pixels=self._frames.bad_pixels,
            domain=self._frames.domain,
        )

    def placed(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Numbers, ascending, and positions (M, 2) of the frames that :meth:`scan` has."""
        with self._working:
            return self._frames.places()

    def placed_frames(self) -> tuple[NDArray[np.int64], NDArray[np.number], NDArray[np.float64]]:
        """As :meth:`placed`, with the patterns (M, N, N) as they came in between."""
        with self._working:
            return self._frames.all_placed()

    @property
    def bad_pixels(self) -> NDArray[np.bool_]:
        """(N, N)."""
        return self._frames.bad_pixels

    def finish(self) -> Result:
        """Take no more frames, and reconstruct all of them together, as if they had come at once.

        Raises
        ------
        ValueError
            As :meth:`scan`.
        """
        self.drain()
        self._close()
        return self._complete(self.scan())

    # ------------------------------------------------------------------ the thread

    def _put(self, item: _Item) -> None:
        with self._room:
            while self._queue and self._queued_bytes + item.bytes > self._most_bytes:
                self._refuse_if_over()
                self._room.wait(_WAIT_S)
            self._refuse_if_over()
            self._queue.append(item)
            self._queued_bytes += item.bytes
            self._queued_frames += 0 if item.patterns is None else len(item.patterns)
            self._is_idle = False
            self._room.notify_all()

    def _refuse_if_over(self) -> None:
        self._raise_failure()
        if self._is_closed:
            raise ValueError("The live reconstruction is over: it takes no more frames.")

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _close(self) -> None:
        with self._room:
            self._is_closed = True
            self._room.notify_all()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        sweeps_left = 0.0
        try:
            while not self._is_closed:
                if self._take_up():
                    sweeps_left = _IDLE_SWEEPS * len(self._object) / GROUP
                elif self._improve and sweeps_left > 0:
                    with self._working:
                        self._object.improve()
                    sweeps_left -= 1
                else:
                    with self._room:
                        if not self._queue:
                            self._room.wait(_WAIT_S)
                    if not self._is_news:
                        continue
                self._tell()
            self._tell(at_once=True)
        except BaseException as exc:  # whoever adds frames, or waits, is to hear of it
            with self._room:
                self._failure = exc
                self._room.notify_all()

    def _take_up(self) -> bool:
        """Take up frames as many as make a group, and fit the object to them; False if there are none."""
        with self._working:
            while self._frames.ready < GROUP and (item := self._next_item()) is not None:
                if item.patterns is not None:
                    self._frames.add(item.numbers, item.patterns)
                if item.positions is not None:
                    known = np.flatnonzero(~np.isnan(item.positions).all(1)).tolist()
                    self._frames.place([item.numbers[each] for each in known], item.positions[known])
            taken, patterns, positions = self._frames.take(GROUP)
            if len(taken):
                held = self._object.holds(positions)
                for number in taken[~held].tolist():
                    self._frames.refuse_position(number, _FAR)
                if held.any():
                    usable = [pattern for pattern, is_held in zip(patterns, held, strict=True) if is_held]
                    self._object.update(usable, positions[held])
                self._done += int(held.sum())
                self._recent.append((time.monotonic(), int(held.sum())))
            is_idle = self._frames.ready == 0
            found = Report(self._frames.doubts(self._probe))
        found.log(logger)
        self._findings += found
        with self._room:
            self._is_idle = is_idle and not self._queue
            if self._is_idle:
                self._publish()
            self._room.notify_all()
        return bool(len(taken))

    def _next_item(self) -> _Item | None:
        with self._room:
            if not self._queue:
                return None
            item = self._queue.popleft()
            self._queued_bytes -= item.bytes
            self._queued_frames -= 0 if item.patterns is None else len(item.patterns)
            self._room.notify_all()
            return item

    def _publish(self, *, notes: bool = True) -> None:
        now = time.monotonic()
        while self._recent and self._recent[0][0] < now - _SPEED_S:
            self._recent.popleft()
        span = max(min(_SPEED_S, now - self._started), 1e-3)
        oldest = self._queue[0].since if self._queue else now
        self._state = LiveState(
            counts=self._frames.counts,
            in_object=self._done,
            lag=self._queued_frames + self._frames.ready,
            lag_s=now - oldest,
            frames_per_second=sum(count for _, count in self._recent) / span,
            error=self._object.error,
            seconds=now - self._started,
            notes=tuple(self._frames.sentences()) if notes else self._state.notes,
            findings=self._findings,
        )

    def _tell(self, *, at_once: bool = False) -> None:
        now = time.monotonic()
        due = at_once or now - self._told >= self._every_s
        self._is_news = not due
        with self._room:
            self._publish(notes=due)
        if due:
            self._told = now
            if self._on_update is not None:
                self._on_update(self._state)


def _separate(patterns: NDArray[np.number] | Sequence[ArrayLike]) -> list[NDArray[np.number]]:
    """One array for each frame, whatever their shapes."""
    if isinstance(patterns, np.ndarray):
        return list(patterns) if patterns.ndim == 3 else [patterns]
    return [np.asarray(pattern) for pattern in patterns]
