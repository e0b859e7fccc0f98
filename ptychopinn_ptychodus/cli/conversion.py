"""``convert``: a model file of one engine as a model file of another.

The framework that has to write it is imported by a child, ``python -m ptychopinn_ptychodus.cli.conversion``
``SOURCE TARGET ENGINE``, which prints one JSON object as its last line: empty, or an error.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from ..backends.base import Engine
from ..backends.inspection import answer_in
from ..backends.registry import guess_engine, list_engines, loadable_engines
from ..ptychodus_io.names import MODEL_BASENAME
from ..worker.interpreter import child_environment
from ..worker.run_files import require_writable
from ..worker.wire import describe_error, rebuild_error
from .errors import FAILURE, SUCCESS, CommandError, UsageError

MODULE = __name__ if __name__ != "__main__" else "ptychopinn_ptychodus.cli.conversion"


def convert(arguments: argparse.Namespace) -> int:
    """Convert a model file; see ``ptychopinn-ptychodus convert --help``."""
    source: Path = arguments.input.absolute()
    if not source.is_file():
        what = (
            "is a directory: name a file in it" if source.is_dir() else "does not exist: name another with -i"
        )
        raise UsageError(f'The model file "{source}" {what}.')
    engine, target = choose_target(arguments.output, arguments.backend)
    target = target.absolute()
    if target.exists() and target.samefile(source):
        raise UsageError(f'"{target}" is the model that is to be converted: choose another file with -o.')
    writer = guess_engine(source)
    if writer.name == engine.name:
        raise UsageError(
            f'"{source}" is a model of the engine {engine.name!r} already: there is nothing to convert.'
        )
    try:
        require_writable(target.parent)
    except OSError as exc:
        raise CommandError(f'{exc.strerror}: "{target.parent}". Choose another with -o.') from exc
    _convert_in_child(source, target, engine, debug=arguments.debug)
    description = engine.describe(target)  # what was written can be read
    model = description.model
    print(f'Converted "{source}" ({writer.title}) for {engine.title}')
    print(
        f"N = {model.N}, gridsize = {model.gridsize}, {model.model_type}, architecture {model.architecture}"
    )
    print(f"Model: {target} ({target.stat().st_size / 1e6:.1f} MB)")
    return SUCCESS


def choose_target(target: Path, backend: str | None) -> tuple[Engine, Path]:
    """The engine to convert for, and the file to write: both follow from the command line.

    Raises
    ------
    UsageError
        If it names no engine, contradicts itself, or leaves the choice open.
    """
    names = ", ".join(list_engines()) or "none"
    if backend is not None and backend not in list_engines():
        raise UsageError(f"--backend {backend}: there is no such engine. Installed engines: {names}.")
    engines = _load(list_engines() if backend is None else [backend])
    if target.is_dir():
        if backend is None:
            raise UsageError(
                f'"{target}" is a directory: say with --backend which engine to convert for ({names}), or '
                "name a file with the extension of its models."
            )
        return engines[backend], target / f"{MODEL_BASENAME}{engines[backend].model_suffix}"
    fitting = [engine for engine in engines.values() if target.name.endswith(engine.model_suffix)]
    # wts.h5.zip and model.zip are as good as model.wts.h5.zip
    fitting = fitting or [e for e in engines.values() if Path(f"_{e.model_suffix}").suffix == target.suffix]
    if len(fitting) == 1:
        return fitting[0], target
    if fitting:
        several = ", ".join(engine.name for engine in fitting)
        raise UsageError(
            f'Several engines write files like "{target}" ({several}): choose one with --backend.'
        )
    allowed = ", ".join(f"{engine.model_suffix} ({name})" for name, engine in engines.items())
    asked = "" if backend is None else f" of the engine {backend!r}, which --backend names"
    raise UsageError(
        f'The name "{target}" does not end as that of a model{asked}: use {allowed}, or name an existing '
        "directory."
    )


def _load(names: Iterable[str]) -> dict[str, Engine]:
    """The engines that can be loaded: a broken one is in the way only of who asks for it alone."""
    broken: list[RuntimeError] = []
    engines = {engine.name: engine for engine in loadable_engines(names, broken.append)}
    if broken and not engines:
        raise broken[-1]
    return engines


def _convert_in_child(source: Path, target: Path, engine: Engine, *, debug: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", MODULE, str(source), str(target), engine.name],
        env=child_environment(),
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    answer = answer_in(done.stdout)
    if answer is None:
        said = done.stderr.strip().splitlines()
        raise CommandError(
            f"The conversion ended without an answer (exit code {done.returncode})"
            + (f": {said[-1]}" if said else ".")
        )
    if answer:
        if debug:
            print(answer["traceback"], file=sys.stderr)
        raise rebuild_error(answer)


def main(source: Path, target: Path, backend: str) -> int:
    """The child: convert, and answer on standard output."""
    from ..backends.conversion import convert

    try:
        convert(source, target, backend)
    except Exception as exc:
        print(json.dumps(describe_error(exc)))
        return FAILURE
    print(json.dumps({}))
    return SUCCESS


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
