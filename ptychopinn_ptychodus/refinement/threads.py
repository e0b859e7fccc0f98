"""All cores that the process may use, and no more: the parts of a batch, each in one of a few threads.

numpy and scipy give Python's lock away while they compute, so that threads are enough. Whoever calls works
as well, and the others sleep while there is nothing for them to do: no thread ever waits by looking again and
again, which would take time from the other processes of a busy machine.

How work is divided must not depend on how many threads there are: that is left to the caller, who gets the
results in the order of the parts. So sums come out the same, to the last bit, with any number of threads.
"""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Part = TypeVar("Part")
Result = TypeVar("Result")

NAME = "refinement"
"""What the names of the threads begin with."""

_AHEAD = 4
"""Results that may wait for an earlier one, for each thread: they take memory."""


def thread_count() -> int:
    """How many threads are to compute at once, 1 or more.

    As many as there are cores that the process may run on, and no more than the first number in
    ``OMP_NUM_THREADS``: "4,2" is 4 threads, and 2 for loops within loops.
    """
    # from Python 3.13 on, there is one function for all systems
    counted: int | None = getattr(os, "process_cpu_count", os.cpu_count)()
    if not hasattr(os, "process_cpu_count") and hasattr(os, "sched_getaffinity"):
        counted = len(os.sched_getaffinity(0))
    cores = counted or 1
    limit = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return max(1, min(cores, int(limit))) if limit.isdecimal() else cores


class Threads:
    """A few threads for one job after the other; the first is the caller's own.

    The others begin when there is something to do for them. They end with :meth:`close`, or with this object.

    Parameters
    ----------
    count
        Of the threads; None: :func:`thread_count`.

    Attributes
    ----------
    count
        Of the threads, 1 or more.
    """

    def __init__(self, count: int | None = None) -> None:
        self.count = thread_count() if count is None else max(1, count)
        self._helpers: ThreadPoolExecutor | None = None

    def each(
        self, function: Callable[[Part], Result], parts: Sequence[Part], take: Callable[[Result], object]
    ) -> None:
        """Call a function of every part, several at a time, and have its results taken one at a time.

        Parameters
        ----------
        function
            Called in any thread.
        parts
            What it is called with.
        take
            Called with the results in the order of the parts, in any thread, but never twice at once.

        Raises
        ------
        BaseException
            What either function raised first, with its traceback. No part is begun after it, and those that
            are under way are waited for.
        """
        helpers = min(self.count, len(parts)) - 1
        if helpers < 1:
            for part in parts:
                take(function(part))
            return
        if self._helpers is None:
            self._helpers = ThreadPoolExecutor(self.count - 1, thread_name_prefix=NAME)
        work = _Work(function, parts, take, _AHEAD * self.count)
        for _ in range(helpers):
            # numpy's answer to overflows and the like is part of the context
            self._helpers.submit(contextvars.copy_context().run, work.go_on)
        try:
            work.go_on()
            work.wait()
        except BaseException as error:  # of the waiting, when somebody interrupts it
            work.fail(error)
            raise

    def close(self) -> None:
        """End the threads; they would begin anew."""
        if self._helpers is not None:
            self._helpers.shutdown()
            self._helpers = None


class _Work(Generic[Part, Result]):
    """One call of :meth:`Threads.each`; ``ahead`` results may wait for an earlier one."""

    def __init__(
        self,
        function: Callable[[Part], Result],
        parts: Sequence[Part],
        take: Callable[[Result], object],
        ahead: int,
    ) -> None:
        self._function, self._parts, self._take, self._ahead = function, parts, take, ahead
        self._changed = threading.Condition()
        self._begun = self._taken = self._under_way = 0
        self._is_taking = False
        self._results: dict[int, Result] = {}
        self._error: BaseException | None = None

    def go_on(self) -> None:
        """Work on parts as long as there are any that nobody has begun."""
        while (number := self._begin()) is not None:
            try:
                result = self._function(self._parts[number])
            except BaseException as error:  # which the caller's thread raises
                self.fail(error)
            else:
                with self._changed:
                    self._results[number] = result
                del result
                self._take_what_is_next()
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def wait(self) -> None:
        """Wait for the parts that are under way, and raise what was raised."""
        with self._changed:
            self._changed.wait_for(lambda: not self._under_way)
            error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # which knows of this frame

    def fail(self, error: BaseException) -> None:
        """Begin no other part."""
        with self._changed:
            self._error = self._error or error
            self._begun = len(self._parts)
            self._changed.notify_all()

    def _begin(self) -> int | None:
        """Number of the next part, which is waited for if too many results wait; None: no part is left."""
        count = len(self._parts)
        with self._changed:
            # the part that the others wait for is always under way, in another thread
            self._changed.wait_for(lambda: not self._taken + self._ahead <= self._begun < count)
            if self._begun >= count:
                return None
            number, self._begun = self._begun, self._begun + 1
            self._under_way += 1
            return number

    def _take_what_is_next(self) -> None:
        """Have the results taken whose turn it is, unless another thread is at that."""
        with self._changed:
            if self._is_taking:
                return  # the other one looks again when it is done
            self._is_taking = True
        while True:
            with self._changed:
                if self._error is not None or self._taken not in self._results:
                    self._is_taking = False
                    return
                result = self._results.pop(self._taken)
            try:
                self._take(result)
            except BaseException as error:
                self.fail(error)
            with self._changed:
                self._taken += 1
                self._changed.notify_all()
