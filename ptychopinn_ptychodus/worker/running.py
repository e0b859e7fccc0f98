"""One job run from beginning to end, in a child process or in this one, with one observer of it.

Both ways run the same function (:func:`.main.run_job`) on the same files, and an observer is told the same
by either.
"""

from __future__ import annotations

import dataclasses
import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..backends.base import EpochReport
from ..data.examination import ExaminationError, Report
from ..ptychodus_io.names import LIBRARY
from ..refinement import RefinementReport
from .job import Job, ReconstructJob
from .process import ChildProcess
from .wire import Message

NETWORK_SHARE = 0.5
"""Part of a reconstruction's progress that stands for the network, where its object is refined afterwards."""


class Observer(Protocol):
    """What a run tells, and what it asks; derive from this class and override what is needed.

    The methods are called in the thread that called ``train``, ``reconstruct`` or ``refine``. What they raise
    ends the run.
    """

    def on_batch(self, epoch: int, batch: int, batches: int) -> None:
        """A batch of a training is done.

        Parameters
        ----------
        epoch
            The epoch that is being learnt, from 1.
        batch, batches
            How many batches of the epoch are done, and how many there are, those of the validation included.
        """
        return None

    def on_epoch(self, report: EpochReport | RefinementReport) -> None:
        """An epoch of a training, or of a refinement, is over."""
        return None

    def on_progress(self, fraction: float) -> None:
        """The part of the work that is done, from 0 to 1; it never becomes less."""
        return None

    def should_stop(self) -> bool:
        """Whether the run is to keep the best state so far and end.

        Asked after every batch, and by a run in a child process also twice a second.
        """
        return False


class Unobserved(Observer):
    """An observer that does nothing, and stops nothing."""


@dataclass
class Outcome:
    """What a run has left.

    Attributes
    ----------
    directory
        The job's, which is removed at the end of :func:`running`.
    result
        The fields of the result message; None if the run was asked to stop and did not answer in time.
    findings
        What the examination of the scan, and of the result, has found.
    stopped
        Whether the observer asked the run to stop.
    """

    directory: Path
    result: dict[str, Any] | None = None
    findings: Report = field(default_factory=Report)
    stopped: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether the run came to an end, of its own accord or asked to, with a result."""
        return self.result is not None and not self.result["stopped"]


@contextmanager
def running(
    job: Job, hand_over: Callable[[Path], object], observer: Observer | None, *, in_process: bool
) -> Iterator[Outcome]:
    """Run ``job`` to its end; inside the block, the files that it has left are still there.

    Parameters
    ----------
    hand_over
        Called with the job's directory before the run, to leave scans and starts there.
    in_process
        Run in this process, where a framework that is imported stays, instead of in a child.

    Raises
    ------
    ExaminationError
        If the scan is refused; its report has all findings, from whichever process.
    Exception
        What else the job raised.
    KeyboardInterrupt
        On Ctrl-C, after a child has kept its best state.
    """
    watched = observer or Unobserved()
    if in_process:
        from .main import run_job

        with tempfile.TemporaryDirectory(prefix="ptychopinn-", ignore_cleanup_errors=True) as name:
            outcome = Outcome(Path(name))
            teller = _Teller(job, watched, outcome)
            hand_over(outcome.directory)
            with _with_findings(outcome):
                outcome.result = run_job(
                    job,
                    outcome.directory,
                    lambda kind, **fields: teller.take({"kind": kind, **fields}),
                    teller.should_stop,
                )
            teller.end()
            yield outcome
        return
    with ChildProcess(logging.getLogger(LIBRARY)) as child:
        outcome = Outcome(child.directory)
        teller = _Teller(job, watched, outcome)
        try:
            hand_over(child.directory)
        except OSError as exc:
            raise child.with_remedy(exc) from exc
        child.start(job)
        try:
            with _with_findings(outcome):
                for message in child.messages():
                    if message is not None:
                        teller.take(message)
                    if child.result is None and teller.should_stop():
                        _stop(child, teller)
                        break
        except KeyboardInterrupt:
            _stop(child, teller)
            raise
        outcome.result = child.result
        teller.end()
        yield outcome


@contextmanager
def _with_findings(outcome: Outcome) -> Iterator[None]:
    """Give a refusal the findings that were told before it: its message alone comes out of a child."""
    try:
        yield
    except ExaminationError as exc:
        exc.report = outcome.findings + exc.report
        raise


def _stop(child: ChildProcess, teller: _Teller) -> None:
    for message in child.stop():  # an epoch that ended meanwhile counts
        teller.take(message)


class _Teller:
    """Tells an observer what a run says of itself."""

    def __init__(self, job: Job, observer: Observer, outcome: Outcome) -> None:
        self._observer = observer
        self._outcome = outcome
        refines = isinstance(job, ReconstructJob) and job.refinement is not None
        self._begin, self._end = 0.0, NETWORK_SHARE if refines else 1.0
        self._told = 0.0

    def take(self, message: Message) -> None:
        """A message of the run; those that are for a window are passed over."""
        kind = message["kind"]
        if kind == "batch":
            self._observer.on_batch(message["epoch"], message["batch"], message["batches"])
        elif kind == "epoch":
            self._observer.on_epoch(EpochReport(**_fields(EpochReport, message)))
        elif kind == "refinement":
            self._observer.on_epoch(RefinementReport(**_fields(RefinementReport, message)))
        elif kind == "findings":
            self._outcome.findings += Report.from_json(message["findings"])
        elif kind == "network":
            self._begin, self._end = NETWORK_SHARE, 1.0
        elif kind == "progress":
            self._tell(self._begin + (self._end - self._begin) * float(message["fraction"]))

    def should_stop(self) -> bool:
        """Ask the observer; once it has answered True, that stays."""
        self._outcome.stopped = self._outcome.stopped or self._observer.should_stop()
        return self._outcome.stopped

    def end(self) -> None:
        """The run is over."""
        result = self._outcome.result
        if result is not None and not self._outcome.stopped:
            self._tell(1.0)
        if result is not None:
            self._outcome.findings += Report.from_json(result.get("verdict", ()))

    def _tell(self, fraction: float) -> None:
        if fraction > self._told:
            self._told = fraction
            self._observer.on_progress(fraction)


def _fields(cls: Any, message: Message) -> dict[str, Any]:
    return {one.name: message[one.name] for one in dataclasses.fields(cls)}
