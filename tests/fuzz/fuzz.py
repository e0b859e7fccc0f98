"""Damaged and odd inputs by the thousand: ``python tests/fuzz/fuzz.py --cases 1000 --seed 1``.

Each case changes one file of a sound input and runs a command on it. Whatever the change was, there must be
no traceback, no hang, no success without a finite result, no loss of earlier results, and no code from a file
may run. ``--case N`` runs a single one and shows what it said.
"""

from __future__ import annotations

import argparse
import functools
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", TF_NUM_INTRAOP_THREADS="1", TF_NUM_INTEROP_THREADS="1")
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(Path(__file__).parents[2]))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (sys.path[1], os.environ.get("PYTHONPATH"))))

from fuzz_cases import Case, make_corpus, prepare, run_case
from fuzz_judge import FAULT, judge
from fuzz_process import Running

FORKED_S, FRESH_S = 120.0, 240.0
"""Time limits of a case: they take a second or two, and in a fresh interpreter about ten."""


class Campaign:
    """Runs cases and keeps count."""

    def __init__(self, work: Path, corpus: Path, seed: int, fresh_every: int, keep: bool) -> None:
        self._work, self._corpus, self._seed = work, corpus, seed
        self._fresh_every = fresh_every
        self._keep = keep
        self.counts: Counter[tuple[str, str, str]] = Counter()
        self.slowest = 0.0
        self.faults: list[str] = []

    def start(self, number: int) -> tuple[int, Path, Running]:
        """Start a case; every so-and-so-many-th in an interpreter of its own."""
        directory = self._work / f"case-{number:06d}"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        fresh = bool(self._fresh_every) and number % self._fresh_every == self._fresh_every - 1
        run = functools.partial(run_case, directory, self._corpus, self._seed, number, fresh)
        return number, directory, Running(directory, run, FRESH_S if fresh else FORKED_S)

    def finish(self, number: int, directory: Path, running: Running) -> bool:
        """Whether the case has ended; if so it is judged."""
        ending = running.ending()
        if ending is None:
            return False
        try:
            case, outcome, faults = judge(directory, ending)
        except FileNotFoundError:
            case, outcome = Case("none", arguments=["none"]), FAULT
            faults = ["the case could not be made: " + (directory / "stderr").read_text()[-500:]]
        command = ("ptychodus -b " if case.stock else "") + case.action
        self.counts[case.kind, command, outcome] += 1
        self.slowest = max(self.slowest, ending.seconds)
        if faults:
            last = (directory / "stderr").read_text(errors="replace").strip().splitlines()[-1:]
            how = "fresh" if case.fresh else "forked"
            self.faults.append(
                f"case {number} ({command}, {how}, exit code {ending.code}): {case.file}: {case.what}\n"
                f"    {'; '.join(faults)}\n    {''.join(last)[:600]}"
            )
            print(self.faults[-1], flush=True)
        if not (faults or self._keep):
            shutil.rmtree(directory, ignore_errors=True)
        return True

    def run(self, numbers: range, seconds: float, at_least: int, workers: int) -> int:
        """Run cases until they or the time are used up; returns how many it were."""
        end = time.monotonic() + seconds
        running: list[tuple[int, Path, Running]] = []
        waiting = list(reversed(numbers))
        done = 0
        while running or waiting:
            time.sleep(0.01)
            over = [entry for entry in running if self.finish(*entry)]
            running = [entry for entry in running if entry not in over]
            done += len(over)
            if time.monotonic() > end and done + len(running) >= at_least:
                waiting = []
            while waiting and len(running) < workers:
                running.append(self.start(waiting.pop()))
        return done

    def table(self) -> str:
        """Counts by kind and outcome."""
        outcomes = sorted({outcome for _, _, outcome in self.counts})
        lines = [f"{'':40}" + "".join(f"{outcome:>22}" for outcome in outcomes)]
        for kind, command in sorted({(kind, command) for kind, command, _ in self.counts}):
            cells = "".join(f"{self.counts[kind, command, outcome]:22}" for outcome in outcomes)
            lines.append(f"{kind:14}{command:26}{cells}")
        totals = (sum(n for key, n in self.counts.items() if key[2] == outcome) for outcome in outcomes)
        return "\n".join([*lines, f"{'all':40}" + "".join(f"{total:22}" for total in totals)])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=1000, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="S")
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), metavar="T", help="start none after that"
    )
    parser.add_argument("--at-least", type=int, default=0, metavar="N", help="cases, whatever time it takes")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="cases at a time")
    parser.add_argument(
        "--fresh-every",
        type=int,
        default=25,
        metavar="N",
        help="of how many one is not forked; 0: none",
    )
    parser.add_argument("--case", type=int, metavar="N", help="run this one alone, and show all it said")
    parser.add_argument("--directory", type=Path, help="work here, and keep the cases that failed")
    arguments = parser.parse_args()
    work = arguments.directory or Path(tempfile.mkdtemp(prefix="fuzz-"))
    work = work.absolute()
    try:
        return _run(arguments, work)
    finally:
        if arguments.directory is None:
            shutil.rmtree(work, ignore_errors=True)


def _run(arguments: argparse.Namespace, work: Path) -> int:
    started = time.monotonic()
    corpus = work / "corpus"
    if not corpus.is_dir():
        work.mkdir(exist_ok=True)
        shutil.rmtree(work / "making", ignore_errors=True)
        make_corpus(work / "making")
        (work / "making").rename(corpus)
    prepare()
    alone = arguments.case is not None
    campaign = Campaign(work, corpus, arguments.seed, arguments.fresh_every, keep=alone)
    numbers = range(arguments.case, arguments.case + 1) if alone else range(arguments.cases)
    left = arguments.seconds - (time.monotonic() - started)
    done = campaign.run(numbers, left, arguments.at_least, arguments.workers)
    if alone:
        directory = work / f"case-{arguments.case:06d}"
        for name in ("case.json", "stdout", "stderr"):
            print(f"---- {name}\n{(directory / name).read_text(errors='replace')}")
    print(campaign.table())
    print(
        f"{done} cases, seed {arguments.seed}: {len(campaign.faults)} faults; "
        f"{time.monotonic() - started:.0f} s, the slowest {campaign.slowest:.1f} s."
    )
    return 1 if campaign.faults else 0


if __name__ == "__main__":
    sys.exit(main())
