"""The command ``ptychopinn-ptychodus``: demo, doctor, train, pretrain, reconstruct, export, convert.

This module holds the command line only, and imports nothing heavy: each command loads what it needs, and no
command imports a deep-learning framework into its own process.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..config import ACCELERATORS
from .errors import FAILURE, INTERRUPTED, CommandError

_EPILOG = """\
settings: IN/settings.ini, then -s FILE, then --set, the later winning. A setting is Section.Key=value, for
example --set PtychoPINNPluginTraining.Epochs=20.

exit codes: 0 success, 1 failure, 2 wrong usage or missing input, 3 a doubtful result with
reconstruct --strict, 130 interrupted.
"""


_LESS_MEMORY = (
    "Close other programs, crop or bin the patterns, or reduce the settings BatchSize, NumFiltersScale, "
    "NumGroups or NumSubsample."
)


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="ptychopinn-ptychodus",
        description="Neural ptychography reconstructors for Ptychodus: try, check, and run them headless.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-v", "--verbose", action="store_true", help="show what the plugin logs")
    common.add_argument("--debug", action="store_true", help="show tracebacks and all log entries")

    run = argparse.ArgumentParser(add_help=False)
    run.add_argument(
        "-s",
        "--settings",
        type=Path,
        metavar="FILE",
        help="settings file; wins over IN/settings.ini",
    )
    run.add_argument(
        "--set",
        action="append",
        default=[],
        dest="assignments",
        metavar="SECTION.KEY=VALUE",
        help="one setting; may be repeated, wins over files",
    )
    run.add_argument(
        "--algorithm",
        choices=("PINN", "Supervised"),
        help="default: what the settings select, else PINN",
    )

    demo = commands.add_parser(
        "demo",
        parents=[common],
        help="simulate a scan, train, reconstruct, and show the result",
        description="Simulate a scan, train a network on it and reconstruct it, all through Ptychodus.",
    )
    demo.add_argument(
        "-o", "--output", type=Path, default=Path("demo_output"), metavar="DIR", help="default: %(default)s"
    )
    demo.add_argument("--epochs", type=_positive, metavar="N", help="training epochs")
    demo.add_argument("--quick", action="store_true", help="a small scan and few epochs: does it run at all?")

    commands.add_parser(
        "doctor",
        parents=[common],
        help="check the installation, and say how to mend it",
        description="Check what is installed, whether Ptychodus finds the plugin, and which engines work.",
    )

    train = commands.add_parser(
        "train",
        parents=[common, run],
        help="train a model",
        description="Train a model, as `ptychodus -b train` does, with progress and time left. IN holds "
        "diffraction.h5 and product.h5, or training data as NPZ files. OUT receives the model: model.ckpt of "
        "the engine pytorch, model.wts.h5.zip of tensorflow (setting PtychoPINNPluginModel.Backend; auto: "
        "tensorflow where it is installed).",
    )
    train.add_argument("-i", "--input", type=Path, required=True, metavar="IN", help="data directory")
    train.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help="directory for the model"
    )

    reconstruct = commands.add_parser(
        "reconstruct",
        parents=[common, run],
        help="reconstruct a scan with a trained model",
        description="Reconstruct the scan in IN (diffraction.h5 and product.h5). OUT receives product.h5 and "
        "a preview, object.png.",
    )
    reconstruct.add_argument("-i", "--input", type=Path, required=True, metavar="IN", help="scan directory")
    reconstruct.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help="directory for the result"
    )
    reconstruct.add_argument(
        "-m",
        "--model",
        type=Path,
        metavar="MODEL",
        help="model file of any engine; default: IN/model.EXT of the engine that is set, else of another",
    )
    reconstruct.add_argument(
        "--strict",
        action="store_true",
        help="end with exit code 3 if the result does not explain the patterns as well as it should",
    )

    pretrain = commands.add_parser(
        "pretrain",
        parents=[common],
        help="train a model for scans that it has not seen, on simulated ones",
        description="Train a model on simulated scans of made objects and natural images, under the given "
        "probes or under made ones. It is for any scan: where it is applied, the scan's own probe takes the "
        "place of those. Ctrl-C keeps the best model so far. OUT receives model.ckpt or model.wts.h5.zip, "
        "which is used as any other.",
    )
    pretrain.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help="directory for the model"
    )
    pretrain.add_argument(
        "--probe",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="products, directories that hold one, or training data (.npz): simulate under their probes, in "
        "turn; default: a made probe for each scan",
    )
    pretrain.add_argument(
        "--size", type=_positive, metavar="N", help="edge of a pattern; default: the probes', else 64"
    )
    pretrain.add_argument(
        "--scans", type=_positive, default=256, metavar="N", help="scans to make; default: %(default)s"
    )
    pretrain.add_argument(
        "--epochs", type=_positive, default=6, metavar="N", help="passes over them; default: %(default)s"
    )
    pretrain.add_argument(
        "--gridsize",
        type=_positive,
        default=3,
        metavar="G",
        help="groups of G² patterns; default: %(default)s",
    )
    pretrain.add_argument(
        "--filters", type=_positive, default=1, metavar="F", help="width of the network; default: %(default)s"
    )
    pretrain.add_argument("--seed", type=int, default=0, help="of all that is random; default: %(default)s")
    pretrain.add_argument("--backend", metavar="ENGINE", help="engine; default: as Backend = auto")
    pretrain.add_argument(
        "--accelerator", choices=ACCELERATORS, default="auto", help="device; default: %(default)s"
    )

    export = commands.add_parser(
        "export",
        parents=[common, run],
        help="write a scan as training data",
        description="Write the scan in IN (diffraction.h5 and product.h5) as an NPZ file of training data.",
    )
    export.add_argument("-i", "--input", type=Path, required=True, metavar="IN", help="scan directory")
    export.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.npz", help="file to write")

    convert = commands.add_parser(
        "convert",
        parents=[common],
        help="make a model of one engine a model of another",
        description="Convert a model file: weights, physics and frozen statistics as they are. In Ptychodus "
        "there is no need to: a model whose framework is missing is converted there when it is used.",
    )
    convert.add_argument("-i", "--input", type=Path, required=True, metavar="MODEL", help="model file")
    convert.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="TARGET",
        help="file to write, which is replaced; its extension says for which engine (.ckpt: pytorch, "
        ".wts.h5.zip: tensorflow); or a directory, which receives model.EXT",
    )
    convert.add_argument(
        "--backend", metavar="ENGINE", help="engine to convert for, if TARGET is a directory"
    )
    return parser


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number >= 1")
    return value


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
    from . import commands

    command = {"train": commands.train, "reconstruct": commands.reconstruct, "export": commands.export}
    return command[arguments.command](arguments)


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code
