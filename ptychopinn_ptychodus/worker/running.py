"""One job run from beginning to end, in a child process or in this one, with one observer of it.

Plugin, command line and Python interface run their jobs with what is here. Both ways run the same function
(:func:`.main.run_job`) on the same files, and an observer is told the same by either.
"""

from __future__ import annotations

import dataclasses
import logging
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from ..backends.base import EpochReport
from ..data.examination import ExaminationError, Report
from ..ptychodus_io.names import LIBRARY
from ..refinement import RefinementReport
from .job import Job, PretrainJob, ReconstructJob, TrainJob
from .process import ChildProcess
from .warm import WarmWorker, shared_worker
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


class JobObserver(Observer):
    """An observer that is also told what the window and the command line show of a run."""

    def on_learning(self) -> None:
        """The first batch of a training is done: from now on there is something to keep."""

    def on_scan(self, name: str, number: int, count: int) -> None:
        """Of several scans to learn from, this one, of a number from 1, is read and examined now."""

    def on_resumed(self, history: dict[str, list[float]]) -> None:
        """An interrupted training goes on, with these losses by name, ``train_loss`` and ``val_loss``."""

    def on_findings(self, findings: Report) -> None:
        """The examination of a scan, or of a result, has found something."""

    def on_preview(self, epoch: int) -> None:
        """The object as it was after ``epoch`` lies beside the model."""

    def on_network(self, directory: Path, history: dict[str, list[float]]) -> None:
        """The network's object lies in the job's ``directory``, and is being refined.

        Parameters
        ----------
        directory
            The job's, see :class:`.ReconstructJob`.
        history
            Losses of the model's training, by name.
        """


HandOver = Callable[[Path], object]
"""Leaves scans and starts in the job's directory, before the run."""


class Run(ABC):
    """One job: started, gone through step by step, and what it has left.

    Parameters
    ----------
    job
        What is to be done.
    observer
        Is told of it, in the thread that goes through the steps.

    Attributes
    ----------
    directory
        The job's, from :meth:`started` to the end of its block.
    result
        The fields of the result message; None if the run was asked to stop and did not answer in time.
    findings
        What the examination of the scan, and of the result, has found.
    stopped
        Whether the run was asked to stop before it had a result.

    Examples
    --------
    >>> with run.started(hand_over):
    ...     for _ in run.steps():
    ...         ...
    ...     Estimate.load(run.directory / NETWORK_DIRECTORY)
    """

    directory: Path

    def __init__(self, job: Job, observer: Observer) -> None:
        self.result: dict[str, Any] | None = None
        self.findings = Report()
        self.stopped = False
        self._job = job
        self._observer = observer
        refines = isinstance(job, ReconstructJob) and job.refinement is not None
        self._begin, self._end = 0.0, NETWORK_SHARE if refines else 1.0
        self._told = 0.0

    @property
    def is_complete(self) -> bool:
        """Whether the run came to an end, of its own accord or asked to, with a result."""
        return self.result is not None and not self.result["stopped"]

    @abstractmethod
    def started(self, hand_over: HandOver | None = None) -> AbstractContextManager[None]:
        """Start the run; at the end of the block there is neither a process nor a file left of it.

        Raises
        ------
        OSError
            If the scan cannot be handed over; of a full disk, with what to do about it.
        """

    @abstractmethod
    def steps(self) -> Iterator[None]:
        """Go through the run to its end, and pause now and then; the observer is told and asked meanwhile.

        Raises
        ------
        ExaminationError
            If the scan is refused; its report has all findings, from whichever process.
        Exception
            What else the job raised.
        """

    def _take(self, message: Message) -> None:
        """Tell the observer what the run says of itself."""
        kind, observer = message["kind"], self._observer
        if kind == "batch":
            observer.on_batch(message["epoch"], message["batch"], message["batches"])
        elif kind == "epoch":
            observer.on_epoch(EpochReport(**_fields(EpochReport, message)))
        elif kind == "refinement":
            observer.on_epoch(RefinementReport(**_fields(RefinementReport, message)))
        elif kind == "progress":
            self._tell(self._begin + (self._end - self._begin) * float(message["fraction"]))
        elif kind == "findings":
            self._add(Report.from_json(message["findings"]))
        elif kind == "network":
            self._begin, self._end = NETWORK_SHARE, 1.0
        if isinstance(observer, JobObserver):
            if kind == "learning":
                observer.on_learning()
            elif kind == "scan":
                observer.on_scan(message["name"], message["number"], message["count"])
            elif kind == "resumed":
                observer.on_resumed(message["history"])
            elif kind == "preview":
                observer.on_preview(message["epoch"])
            elif kind == "network":
                observer.on_network(self.directory, message["history"])

    def _finish(self, result: dict[str, Any] | None) -> None:
        self.result = result
        if result is None:
            return
        if not self.stopped:
            self._tell(1.0)
        self._add(Report.from_json(result.get("verdict", ())))

    def _add(self, findings: Report) -> None:
        self.findings += findings
        if findings and isinstance(self._observer, JobObserver):
            self._observer.on_findings(findings)

    def _tell(self, fraction: float) -> None:
        if fraction > self._told:
            self._told = fraction
            self._observer.on_progress(fraction)

    @contextmanager
    def _refusal_with_findings(self) -> Iterator[None]:
        """Give a refusal the findings that were told before it: its message alone comes out of a child."""
        try:
            yield
        except ExaminationError as exc:
            exc.report = self.findings + exc.report
            raise


class ChildRun(Run):
    """A run in a child process, see :class:`.ChildProcess`.

    Its :meth:`steps` pause after each message, and twice a second without one. Whoever leaves the block of
    :meth:`started` by ``GeneratorExit`` or Ctrl-C stops a run that leaves a model, and waits until its best
    state is kept; what is left of any other is of use to nobody.

    Parameters
    ----------
    log
        Where the child's log records go.
    warm
        Where its interpreter comes from, and goes to; None: it has one to itself.
    """

    def __init__(
        self, job: Job, observer: Observer, log: logging.Logger, warm: WarmWorker | None = None
    ) -> None:
        super().__init__(job, observer)
        self._log = log
        self._warm = warm
        self._child: ChildProcess

    @contextmanager
    def started(self, hand_over: HandOver | None = None) -> Iterator[None]:
        with ChildProcess(self._log, self._warm) as child:
            self._child, self.directory = child, child.directory
            try:
                if hand_over is not None:
                    hand_over(child.directory)
            except OSError as exc:
                raise child.with_remedy(exc) from exc
            child.start(self._job)
            try:
                yield
            except (GeneratorExit, KeyboardInterrupt):
                if isinstance(self._job, TrainJob | PretrainJob):
                    self.stop()
                raise

    def steps(self) -> Iterator[None]:
        with self._refusal_with_findings():
            for message in self._child.messages():
                if message is not None:
                    self._take(message)
                if self._observer.should_stop():
                    self.stop()
                    break
                yield
        self._finish(self._child.result)

    def stop(self) -> None:
        """Ask the child to keep its best state and end, and wait for that, see :meth:`.ChildProcess.stop`.

        A second call returns at once.
        """
        if self.stopped or self._child.result is not None:
            return
        self.stopped = True
        for message in self._child.stop():  # an epoch that ended meanwhile is in the model, too
            self._take(message)
        self.result = self._child.result


class InProcessRun(Run):
    """A run in this process, where a framework that it imports stays; it has one step."""

    @contextmanager
    def started(self, hand_over: HandOver | None = None) -> Iterator[None]:
        with tempfile.TemporaryDirectory(prefix="ptychopinn-", ignore_cleanup_errors=True) as name:
            self.directory = Path(name)
            if hand_over is not None:
                hand_over(self.directory)
            yield

    def steps(self) -> Iterator[None]:
        from .main import run_job

        with self._refusal_with_findings():
            result = run_job(
                self._job,
                self.directory,
                lambda kind, **fields: self._take({"kind": kind, **fields}),
                self._should_stop,
            )
        self._finish(result)
        yield

    def _should_stop(self) -> bool:
        """Ask the observer; once it has answered True, that stays."""
        self.stopped = self.stopped or self._observer.should_stop()
        return self.stopped


@contextmanager
def running(job: Job, hand_over: HandOver, observer: Observer | None, *, in_process: bool) -> Iterator[Run]:
    """Run ``job`` to its end; inside the block, the files that it has left are still there.

    Parameters
    ----------
    hand_over
        Called with the job's directory before the run, to leave scans and starts there.
    in_process
        Run in this process instead of in a child.

    Raises
    ------
    ExaminationError
        If the scan is refused; its report has all findings, from whichever process.
    Exception
        What else the job raised.
    KeyboardInterrupt
        On Ctrl-C, after a child that trains has kept its best state.
    """
    watched = observer or Unobserved()
    log = logging.getLogger(LIBRARY)
    run: Run = InProcessRun(job, watched) if in_process else ChildRun(job, watched, log, shared_worker())
    with run.started(hand_over):
        for _ in run.steps():
            pass
        yield run


def _fields(cls: Any, message: Message) -> dict[str, Any]:
    return {one.name: message[one.name] for one in dataclasses.fields(cls)}
