"""What may be said on the command line of ``ptychopinn-ptychodus``: one function for each command."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TypeAlias

from ..config import ACCELERATORS, ARCHITECTURES
from ..pretraining import PretrainingConfig
from ..ptychodus_io.names import KEYS, TRAINABLE

_EPILOG = """\
settings: IN/settings.ini, then -s FILE, then --set, the later winning. A setting is Section.Key=value, for
example --set PtychoPINNPluginTraining.Epochs=20.

exit codes: 0 success, 1 failure, 2 wrong usage or missing input, 3 a doubtful result with
reconstruct --strict or live --strict, 130 interrupted.
"""

_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


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
    common, settings = _common_options(), _settings_options(TRAINABLE)
    _add_demo(commands, common)
    _add_doctor(commands, common)
    _add_train(commands, common, settings)
    _add_reconstruct(commands, common, _settings_options(tuple(KEYS)))
    _add_live(commands, common, _settings_options(tuple(KEYS)))
    _add_report(commands, common)
    _add_frc(commands, common)
    _add_pretrain(commands, common)
    _add_export(commands, common, settings)
    _add_convert(commands, common)
    return parser


# ---- what commands share ----------------------------------------------------------------------------------


def _common_options() -> argparse.ArgumentParser:
    """What every command takes."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-v", "--verbose", action="store_true", help="show what the plugin logs")
    common.add_argument("--debug", action="store_true", help="show tracebacks and all log entries")
    return common


def _settings_options(algorithms: tuple[str, ...]) -> argparse.ArgumentParser:
    """What every command takes that reads settings, and is for these algorithms."""
    settings = argparse.ArgumentParser(add_help=False)
    settings.add_argument(
        "-s",
        "--settings",
        type=Path,
        metavar="FILE",
        help="settings file; wins over IN/settings.ini",
    )
    settings.add_argument(
        "--set",
        action="append",
        default=[],
        dest="assignments",
        metavar="SECTION.KEY=VALUE",
        help="one setting; may be repeated, wins over files",
    )
    settings.add_argument(
        "--algorithm",
        choices=algorithms,
        help="default: what the settings select, else PINN",
    )
    return settings


def _add_input(parser: argparse.ArgumentParser, metavar: str, text: str) -> None:
    parser.add_argument("-i", "--input", type=Path, required=True, metavar=metavar, help=text)


def _add_output(parser: argparse.ArgumentParser, metavar: str, text: str) -> None:
    parser.add_argument("-o", "--output", type=Path, required=True, metavar=metavar, help=text)


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number >= 1")
    return value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds > 0")
    return value


# ---- the commands -----------------------------------------------------------------------------------------


def _add_demo(commands: _Commands, common: argparse.ArgumentParser) -> None:
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


def _add_doctor(commands: _Commands, common: argparse.ArgumentParser) -> None:
    commands.add_parser(
        "doctor",
        parents=[common],
        help="check the installation, and say how to mend it",
        description="Check what is installed, whether Ptychodus finds the plugin, and which engines work.",
    )


def _add_train(
    commands: _Commands, common: argparse.ArgumentParser, settings: argparse.ArgumentParser
) -> None:
    train = commands.add_parser(
        "train",
        parents=[common, settings],
        help="train a model",
        description="Train a model, as `ptychodus -b train` does, with progress and time left. IN holds "
        "diffraction.h5 and product.h5, or training data as NPZ files, or several directories that hold the "
        "former: of scans with different probes one model is made, for any probe. OUT receives the model: "
        "model.ckpt of the engine pytorch, model.wts.h5.zip of tensorflow (setting "
        "PtychoPINNPluginModel.Backend; auto: tensorflow where it is installed).",
    )
    _add_input(train, "IN", "data directory")
    _add_output(train, "OUT", "directory for the model")
    train.add_argument(
        "--skip-damaged",
        action="store_true",
        help="of several scans, leave out those that are damaged, each with a warning",
    )
    start = train.add_mutually_exclusive_group()
    start.add_argument(
        "-m",
        "--model",
        type=Path,
        metavar="MODEL",
        help="start from this model, of any engine, instead of from a fresh network",
    )
    start.add_argument(
        "--resume",
        action="store_true",
        help="go on with the interrupted training in OUT, from its last epoch; where there is neither one "
        "nor a model, begin",
    )


def _add_reconstruct(
    commands: _Commands, common: argparse.ArgumentParser, settings: argparse.ArgumentParser
) -> None:
    reconstruct = commands.add_parser(
        "reconstruct",
        parents=[common, settings],
        help="reconstruct a scan, with a trained model or without one",
        description="Reconstruct the scan in IN (diffraction.h5 and product.h5). OUT receives product.h5 and "
        "a preview, object.png. Where no model and no algorithm is named, and none lies in IN, the "
        "object is found by refinement alone: --algorithm Refinement.",
    )
    _add_input(reconstruct, "IN", "scan directory")
    _add_output(reconstruct, "OUT", "directory for the result")
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


def _add_live(
    commands: _Commands, common: argparse.ArgumentParser, settings: argparse.ArgumentParser
) -> None:
    live = commands.add_parser(
        "live",
        parents=[common, settings],
        help="reconstruct a scan while it is recorded",
        description="Follow a scan in IN as it is written: a growing diffraction.h5, or files of frames that "
        "fall in (.npy, .npz, .h5), with positions in product.h5 or positions.csv, as they come. product.h5 "
        "has to be there from the beginning, with probe and pixel size. OUT/product.h5 and OUT/object.png "
        "are replaced about every second. When the last frame that the file promises is there, after "
        "--timeout, at Ctrl-C or SIGTERM, all frames are reconstructed together, as `reconstruct` does; a "
        "second one ends that, too. OUT/live.json says how it stands.",
    )
    _add_input(live, "IN", "scan directory")
    _add_output(live, "OUT", "directory for the result")
    live.add_argument(
        "-m",
        "--model",
        type=Path,
        metavar="MODEL",
        help="model file of any engine, for a first object of new frames and in the end; default: as for "
        "`reconstruct`",
    )
    live.add_argument(
        "--timeout",
        type=_seconds,
        default=30.0,
        metavar="SECONDS",
        help="without new frames, after which the scan is over; default: %(default)g",
    )
    live.add_argument(
        "--strict",
        action="store_true",
        help="end with exit code 3 if the result does not explain the patterns as well as it should",
    )


def _add_report(commands: _Commands, common: argparse.ArgumentParser) -> None:
    report = commands.add_parser(
        "report",
        parents=[common],
        help="write one HTML page about a result, to attach to a logbook",
        description="Write OUT/report.html about the result in OUT: object, probe, positions, errors, "
        "findings, settings and versions, in one file that needs no other. `train` and `reconstruct` do so "
        "at their end; of a training it is training_report.html. Results of `ptychodus -b reconstruct` will "
        "do, too.",
    )
    report.add_argument("directory", type=Path, metavar="OUT", help="directory of the result")
    report.add_argument(
        "--against",
        type=Path,
        metavar="PRODUCT",
        help="compare ring by ring with the object of this product, from other patterns of the same sample; "
        "default: the network's own object, where there is one",
    )


def _add_frc(commands: _Commands, common: argparse.ArgumentParser) -> None:
    frc = commands.add_parser(
        "frc",
        parents=[common],
        help="compare two products, or the halves of a scan, ring by ring in Fourier space",
        description="Fourier ring correlation of the objects of two products on one grid, reconstructed from "
        "independent patterns of one sample. Shift, phase ramp, phase and scale are removed first. Given the "
        "directory of a scan (diffraction.h5 and product.h5) alone, each half of its patterns is "
        "reconstructed by itself from a flat object, and the two are compared: what is found is the "
        "resolution of half the dose and half the overlap. Prints a table and the half period at which the "
        "correlation falls below half a bit, and draws a picture.",
    )
    frc.add_argument("first", type=Path, metavar="A.h5", help="a product, or the directory of a scan")
    frc.add_argument("second", type=Path, nargs="?", metavar="B.h5", help="the product to compare with")
    frc.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("frc.png"),
        metavar="FILE",
        help="picture to write, or a directory for it; default: %(default)s",
    )
    frc.add_argument(
        "--epochs", type=_positive, metavar="N", help="of each half; default: those of Refinement"
    )


def _add_pretrain(commands: _Commands, common: argparse.ArgumentParser) -> None:
    pretrain = commands.add_parser(
        "pretrain",
        parents=[common],
        help="train a model for scans that it has not seen, on simulated ones",
        description="Train a model on simulated scans of made objects and natural images, under the given "
        "probes or under made ones. It is for any scan: where it is applied, the scan's own probe takes the "
        "place of those. Ctrl-C keeps the best model so far. OUT receives model.ckpt or model.wts.h5.zip, "
        "which is used as any other.",
    )
    _add_output(pretrain, "OUT", "directory for the model")
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
        "--modes",
        type=_positive,
        default=PretrainingConfig.most_modes,
        metavar="M",
        help="incoherent modes of a made probe, at most; default: %(default)s",
    )
    pretrain.add_argument(
        "--probe-errors",
        type=float,
        default=PretrainingConfig.probe_errors,
        metavar="PART",
        help="part of the scans, 0 to 1, whose probe the network is shown out of focus, without its weaker "
        "modes, or of another width; default: %(default)s",
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
    pretrain.add_argument(
        "--architecture",
        choices=[name for name in ARCHITECTURES if name != "cnn"],  # those that see the probe
        default="unrolled",
        help="kind of network; default: %(default)s",
    )
    pretrain.add_argument(
        "--reflections",
        type=int,
        default=0,
        metavar="R",
        help="steps of a search before the network's own, see the setting; default: %(default)s",
    )
    pretrain.add_argument(
        "--object-weight",
        type=float,
        metavar="W",
        help="weight of the difference from the made object, whose phase is free in every patch; default: 1 "
        "for single frames (--gridsize 1), else 0",
    )
    pretrain.add_argument(
        "--amplitude-weight",
        type=float,
        metavar="W",
        help="weight of the difference from the made patterns; default: 0 for single frames, else 1",
    )
    pretrain.add_argument(
        "--resume",
        action="store_true",
        help="go on with the interrupted pretraining in OUT, from its last epoch; where there is neither one "
        "nor a model, begin",
    )
    pretrain.add_argument("--seed", type=int, default=0, help="of all that is random; default: %(default)s")
    pretrain.add_argument("--backend", metavar="ENGINE", help="engine; default: as Backend = auto")
    pretrain.add_argument(
        "--accelerator", choices=ACCELERATORS, default="auto", help="device; default: %(default)s"
    )


def _add_export(
    commands: _Commands, common: argparse.ArgumentParser, settings: argparse.ArgumentParser
) -> None:
    export = commands.add_parser(
        "export",
        parents=[common, settings],
        help="write a scan as training data",
        description="Write the scan in IN (diffraction.h5 and product.h5) as an NPZ file of training data.",
    )
    _add_input(export, "IN", "scan directory")
    _add_output(export, "FILE.npz", "file to write")


def _add_convert(commands: _Commands, common: argparse.ArgumentParser) -> None:
    convert = commands.add_parser(
        "convert",
        parents=[common],
        help="make a model of one engine a model of another",
        description="Convert a model file: weights, physics and frozen statistics as they are. In Ptychodus "
        "there is no need to: a model whose framework is missing is converted there when it is used.",
    )
    _add_input(convert, "MODEL", "model file")
    _add_output(
        convert,
        "TARGET",
        "file to write, which is replaced; its extension says for which engine (.ckpt: pytorch, "
        ".wts.h5.zip: tensorflow); or a directory, which receives model.EXT",
    )
    convert.add_argument(
        "--backend", metavar="ENGINE", help="engine to convert for, if TARGET is a directory"
    )
