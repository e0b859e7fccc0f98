"""``train``, ``reconstruct``, ``export``: what the application does without a window, with progress."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import identity
from ..live.status import OBJECT_PICTURE, OnProgress
from ..ptychodus_io.names import (
    DIFFRACTION_FILE,
    KEYS,
    MODEL_BASENAME,
    PRODUCT_FILE,
    REFINEMENT,
    SETTINGS_FILE,
    TRAINABLE,
    product_in,
)
from ..settings_table import FROM_MODEL, RESUME, START
from ..settings_table import SETTINGS as TABLE
from ..worker.run_files import (
    CONFIDENCE_PICTURE,
    EXAMINATION_FILE,
    TRAINING_EXAMINATION_FILE,
    models_in,
    require_writable,
)
from .errors import DOUBTFUL, FAILURE, INTERRUPTED, SUCCESS, CommandError, UsageError
from .record import RunRecord
from .report import NETWORK_FILE, REPORT_FILE, TRAINING_REPORT_FILE, forget_report, tell_of_report
from .session import STOPPED_FILE, Session, open_session

if TYPE_CHECKING:
    from ..data.examination import Report
    from ..plugin.shown import ConfidenceFiles

SETTING_OF_START = TABLE[START].full_name

PICTURES = {PRODUCT_FILE: OBJECT_PICTURE, NETWORK_FILE: "network.png"}


def train(arguments: argparse.Namespace) -> int:
    """Train a model; see ``ptychopinn-ptychodus train --help``."""
    source, target = input_directory(arguments.input), arguments.output.absolute()
    from ..ptychodus_io.ingest import scan_directories, training_files

    has_scan = (source / DIFFRACTION_FILE).is_file() and product_in(source).is_file()
    if not (has_scan or training_files(source) or scan_directories(source)):
        raise UsageError(
            f'There are no training data in "{source}". Looked for train_data.npz, other training data '
            f"(.npz, .h5, .hdf5), {DIFFRACTION_FILE} with {PRODUCT_FILE}, and directories that hold these "
            "two. Save a scan or export training data there, or choose another directory with -i."
        )
    start = []
    if arguments.model is not None:
        if not arguments.model.is_file():
            raise UsageError(
                f'There is no model file "{arguments.model}" to start from: name another with -m.'
            )
        start = [f"{SETTING_OF_START}={FROM_MODEL}"]
    elif arguments.resume:
        start = [f"{SETTING_OF_START}={RESUME}"]
    if arguments.skip_damaged:
        start.append(f"{TABLE['Data.SkipDamaged'].full_name}=True")
    require_writable_directory(target)
    with open_session_for(arguments, start) as app:
        if arguments.model is not None:
            app.load_model(arguments.model.absolute())
        if app.follows:
            with app.silent():
                app.train(app.open_scan(source) if has_scan else None, source, target)
            return SUCCESS
        return train_in(app, source, target, has_scan=has_scan)


def train_in(app: Session, source: Path, target: Path, *, has_scan: bool = True) -> int:
    """Train on the data in ``source`` and say what there is in ``target`` afterwards."""
    model = target / f"{MODEL_BASENAME}{app.model_extension}"
    before = identity(model)
    from ..backends.training_state import state_path

    page, started = target / TRAINING_REPORT_FILE, time.monotonic()
    finished = app.train(app.open_scan(source) if has_scan else None, source, target)
    if not finished and state_path(model).is_file():
        print("To go on with it: the same command with --resume.")
    if identity(model) in ((), before):
        print("Interrupted before there was a model to keep.")
        return INTERRUPTED if not finished else FAILURE
    print(f"{'Model' if finished else 'Interrupted. Best model so far'}: {model}")
    for name in ("training_history.png", "training_history.csv"):
        if (target / name).is_file():
            print(f"Losses: {target / name}")
    if app.findings:
        print(f"Findings about the data: {target / TRAINING_EXAMINATION_FILE}")
    tell_of_report(page, _record(app, "train", source, model, started, finished))
    return SUCCESS if finished else INTERRUPTED


def reconstruct(arguments: argparse.Namespace) -> int:
    """Reconstruct a scan; see ``ptychopinn-ptychodus reconstruct --help``."""
    source, target = input_directory(arguments.input), arguments.output.absolute()
    with open_session_for(arguments, algorithms=tuple(KEYS)) as app:
        model = model_for(app, source, arguments.model)
        require_writable_directory(target)
        return reconstruct_in(app, source, model, target, strict=arguments.strict)


def model_for(app: Session, source: Path, named: Path | None) -> Path | None:
    """The model file to apply; None where none is needed, which is then what the session is set to."""
    if app.name == REFINEMENT:
        if named is not None:
            raise UsageError(f"{REFINEMENT} applies no model: leave -m out, or choose another --algorithm.")
        return None
    model = (named or _model_in(source, app.model_extension)).absolute()
    if model.is_file():
        return model
    if named is None and not app.is_asked_for:
        print(f'There is no model in "{source}": the object is found without one, by {REFINEMENT}.')
        app.select(REFINEMENT)
        return None
    raise UsageError(
        f'There is no model file "{model}". Train one '
        f"(`ptychopinn-ptychodus train -i {source} -o {source}`), or name one with -m. "
        f"--algorithm {REFINEMENT} needs none."
    )


def _model_in(directory: Path, extension: str) -> Path:
    """The model of the engine that is set; where there is none, the one that another engine has left."""
    preferred = directory / f"{MODEL_BASENAME}{extension}"
    if preferred.is_file():
        return preferred
    others = models_in(directory)
    if len(others) > 1:
        listed = ", ".join(f'"{path.name}"' for path in others)
        raise UsageError(
            f'There is no model file "{preferred}", but there are others of other engines: {listed}. Name '
            "one with -m."
        )
    for path in others:
        print(f'There is no "{preferred.name}" in "{directory}": "{path.name}" is used, of another engine.')
        return path
    return preferred


def reconstruct_in(
    app: Session,
    source: Path,
    model: Path | None,
    target: Path,
    *,
    strict: bool = False,
    on_progress: OnProgress | None = None,
    keeps_product: bool = False,
) -> int:
    """Reconstruct the scan in ``source`` and say what there is in ``target`` afterwards.

    With ``strict``, a result that does not explain the patterns as well as it should has an exit code of its
    own. With ``keeps_product``, the product that is there is replaced by a whole result only, and what a
    reconstruction has found that was stopped lies beside it.
    """
    product, network = target / PRODUCT_FILE, target / NETWORK_FILE
    stopped = target / STOPPED_FILE if keeps_product else None
    if stopped is not None:
        stopped.unlink(missing_ok=True)  # it is not of this run
    before = {path: identity(path) for path in (product, network)}
    finished = False
    page, started = target / REPORT_FILE, time.monotonic()
    (target / EXAMINATION_FILE).unlink(missing_ok=True)  # it is not of this run
    try:
        scan = app.open_scan(source)
        finished = app.reconstruct(scan, model, product, network, on_progress=on_progress, stopped=stopped)
    finally:  # a refinement that fails leaves what the network has found
        made = [path for path in (product, network) if identity(path) != before[path]]
        if made:  # the page of an earlier result is not of this one
            forget_report(page)
        _tell_of_results(made, product, network)
        _tell_of_findings(app.findings, target / EXAMINATION_FILE)
        if product in made or (network in made and not product.is_file()):
            _tell_of_confidence(app.confidence, target)
    if not finished and stopped is not None:
        print(f"Interrupted: the product is the one of before, {product}.")
        if stopped.is_file():
            print(f"What was found until then: {stopped}")
    elif not finished:
        print("Interrupted: " + ("it was not refined to the end." if made else "there is no result."))
    if made:
        tell_of_report(page, _record(app, "reconstruct", source, model, started, finished))
    if not finished:
        return INTERRUPTED
    return DOUBTFUL if strict and app.findings.is_doubtful else SUCCESS


def _record(
    app: Session, command: str, source: Path, model: Path | None, started: float, finished: bool
) -> RunRecord:
    return RunRecord.of(
        started,
        command=command,
        algorithm=app.name,
        source=str(source),
        model="" if model is None else str(model),
        is_complete=finished,
        settings=app.settings_read,
    )


def _tell_of_findings(findings: Report, path: Path) -> None:
    """Write all findings to ``path``, and say again what a person must not miss: the log has scrolled by."""
    if not findings:
        return
    findings.save(path)
    for line in findings.lines(warnings_only=True):
        print(line)
    print(f"Findings: {path}")


def _tell_of_confidence(confidence: ConfidenceFiles | None, directory: Path) -> None:
    """Leave the confidence of the result beside it; what cannot be written must not cost the result."""
    from ..plugin.shown import leave_confidence

    try:
        leave_confidence(confidence, directory)
    except OSError as exc:
        print(f"warning: The map of confidence was not written: {exc}", file=sys.stderr)
        return
    if confidence is not None:
        print(f"Confidence: {directory / CONFIDENCE_PICTURE}")


def _tell_of_results(made: Sequence[Path], product: Path, network: Path) -> None:
    from .pictures import draw_object

    if network not in made and product in made:
        for earlier in (network, network.with_name(PICTURES[network.name])):
            earlier.unlink(missing_ok=True)  # it is not what this result was made of
    for path in made:
        picture = path.with_name(PICTURES[path.name])
        print(f"{'Result' if path == product else 'Network alone'}: {path}")
        draw_object(path, picture)
        print(f"Preview: {picture}")
    if network in made and product not in made and product.is_file():
        print(f"Of an earlier run: {product}")


def export(arguments: argparse.Namespace) -> int:
    """Write training data; see ``ptychopinn-ptychodus export --help``."""
    source, path = input_directory(arguments.input), arguments.output.absolute()
    if path.suffix != ".npz":
        raise UsageError(f'The output "{arguments.output}" must be a file name that ends with .npz.')
    if path.is_dir():
        raise UsageError(f'The output "{path}" is a directory: name a file in it.')
    require_writable_directory(path.parent)
    with open_session_for(arguments) as app:
        app.export(app.open_scan(source), path)
    print(f"Training data: {path} ({path.stat().st_size / 1e6:.1f} MB)")
    return SUCCESS


def open_session_for(
    arguments: argparse.Namespace,
    more: Sequence[str] = (),
    algorithms: Sequence[str] = TRAINABLE,
) -> AbstractContextManager[Session]:
    """Ptychodus with the settings that a command line asks for."""
    inside = arguments.input / SETTINGS_FILE
    files = [inside] if inside.is_file() else []
    if arguments.settings is not None:
        files.append(arguments.settings)
    return open_session(
        settings_files=files,
        assignments=[*arguments.assignments, *more],
        algorithm=arguments.algorithm,
        algorithms=algorithms,
        verbose=arguments.verbose,
        debug=arguments.debug,
    )


def input_directory(path: Path) -> Path:
    """The directory, absolute; a ``UsageError`` if there is none."""
    if not path.is_dir():
        what = "is not a directory" if path.exists() else "does not exist"
        raise UsageError(f'The input directory "{path}" {what}.')
    return path.absolute()


def require_writable_directory(path: Path) -> None:
    """Make the directory; a ``CommandError`` if nothing can be written there."""
    try:
        require_writable(path)
    except OSError as exc:
        raise CommandError(f'{exc.strerror}: "{path}". Choose another with -o.') from exc
