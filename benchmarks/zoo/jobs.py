"""What is measured of the collection: ways to reconstruct on scans, several at a time, each once."""

from __future__ import annotations

import json
import logging
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from .kinds import Kind
from .lsqml import SETTINGS, lsqml
from .make import make
from .pictures import draw
from .results import refined, scores

REFINEMENT = "refinement"


class Key(NamedTuple):
    """What tells a job from others, by the names that it has in a file of results."""

    kind: str
    seed: int
    epochs: int
    way: str


@dataclass(frozen=True)
class Job:
    """One way on one scan."""

    name: str
    kind: Kind
    seed: int
    epochs: int
    way: str = REFINEMENT

    @property
    def key(self) -> Key:
        """What tells it from others."""
        return Key(self.name, self.seed, self.epochs, self.way)


def measured(job: Job, peer: str | None, images: Path | None) -> dict[str, Any]:
    """The scores of a job, and its key."""
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scan = make(job.kind, job.seed)
    if job.way == REFINEMENT:
        found = refined(scan, job.epochs)
    else:
        assert peer is not None
        found = lsqml(scan, peer, SETTINGS[job.way])
    if images is not None:
        images.mkdir(parents=True, exist_ok=True)
        end = "" if job.way == REFINEMENT else f", {job.way}"
        draw(scan, found.object, found.probe, images / f"{job.name}, seed {job.seed}{end}.png")
    return job.key._asdict() | scores(scan, found)


class Results:
    """Scores of jobs.

    Parameters
    ----------
    jobs
        What to measure, unless the file has it.
    file
        One line for each result; None keeps none.
    peer, images
        As :func:`measured` takes them.
    at_a_time
        How many processes.
    """

    def __init__(
        self, jobs: list[Job], file: Path | None, peer: str | None, images: Path | None, at_a_time: int
    ) -> None:
        self._known: dict[Key, dict[str, Any]] = {}
        for line in file.read_text().splitlines() if file is not None and file.exists() else ():
            self._keep({"way": REFINEMENT} | json.loads(line))
        left = [job for job in jobs if job.key not in self._known]
        how = partial(measured, peer=peer, images=images)
        with ProcessPoolExecutor(at_a_time, get_context("spawn")) as pool:
            for done in as_completed([pool.submit(how, job) for job in left]):
                one = done.result()
                self._keep(one)
                if file is not None:
                    with file.open("a") as lines:
                        lines.write(json.dumps(one) + "\n")

    def _keep(self, one: dict[str, Any]) -> None:
        self._known[Key(*(one[name] for name in Key._fields))] = one

    def __getitem__(self, job: Job) -> dict[str, Any]:
        return self._known[job.key]
