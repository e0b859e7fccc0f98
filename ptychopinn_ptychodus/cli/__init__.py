"""The command ``ptychopinn-ptychodus``: demo, doctor, train, reconstruct, live, report and others.

This module runs the commands that :mod:`.parser` reads, and imports nothing heavy: each command loads what it
needs, and no command imports a deep-learning framework into its own process.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .errors import FAILURE, INTERRUPTED, CommandError
from .parser import make_parser

_LESS_MEMORY = (
    "Close other programs, crop or bin the patterns, or reduce the settings BatchSize, NumFiltersScale, "
    "NumGroups or NumSubsample."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code.

    Parameters
    ----------
    argv
        Arguments without the program's name; those of the process by default.
    """
    parser = make_parser()
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as exc:  # argparse has said why
        return exc.code if isinstance(exc.code, int) else FAILURE
    if arguments.version:
        from .. import __version__

        print(f"ptychopinn-ptychodus {__version__}")
        return 0
    if arguments.command is None:
        parser.print_help()
        return 2
    try:
        return _run(arguments)
    except CommandError as exc:
        if arguments.debug:
            raise
        return _fail(str(exc), exc.code)
    except KeyboardInterrupt:
        return _fail("interrupted.", INTERRUPTED)
    except ModuleNotFoundError as exc:
        if arguments.debug:
            raise
        return _fail(f"{exc}. `ptychopinn-ptychodus doctor` says how to mend the installation.", FAILURE)
    except Exception as exc:
        if arguments.debug:
            raise
        text = str(exc)
        # errors made for users are sentences; of others the kind is half of what there is to say
        told = isinstance(exc, (OSError, ValueError, RuntimeError)) and " " in text
        if isinstance(exc, MemoryError):
            text, told = f"There is not enough memory. {_LESS_MEMORY} ({text})", True
        if not told:
            text = f"{type(exc).__name__}: {text} (--debug shows where)"
        return _fail(_naming_input(text, arguments), FAILURE)


def _naming_input(message: str, arguments: argparse.Namespace) -> str:
    """An error that knows a scan but not where it lies, with that."""
    source = getattr(arguments, "input", None)
    if source is None or str(source) in message or "setting" in message:
        return message
    return f'{message} (input: "{source}")'


def _run(arguments: argparse.Namespace) -> int:
    if arguments.command == "demo":
        from .demo import demo

        return demo(arguments)
    if arguments.command == "doctor":
        from .doctor import doctor

        return doctor(arguments)
    if arguments.command == "pretrain":
        from .pretraining import pretrain

        return pretrain(arguments)
    if arguments.command == "convert":
        from .conversion import convert

        return convert(arguments)
    if arguments.command == "live":
        from .live import live

        return live(arguments)
    if arguments.command == "report":
        from .report import report

        return report(arguments)
    if arguments.command == "frc":
        from .rings import frc

        return frc(arguments)
    from . import commands

    command = {"train": commands.train, "reconstruct": commands.reconstruct, "export": commands.export}
    return command[arguments.command](arguments)


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code
