"""``report``: one HTML page about a result, which needs no other file and no program but a browser.

Texts from files (names, comments, settings) are escaped by the template engine, and the page forbids the
browser to load or run anything: it is made to be attached to a logbook and opened by others.
"""

from __future__ import annotations

import argparse
import csv
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..data.confidence import Confidence
from ..data.examination import Report
from ..files import replacing
from ..formatting import duration
from ..ptychodus_io.names import PRODUCT_FILE, product_in
from ..ptychodus_io.product_geometry import object_pixel_m, photon_energy_ev
from ..settings_table import PREFIX, SETTINGS
from ..worker.run_files import (
    CONFIDENCE_FILE,
    EXAMINATION_FILE,
    PICTURE_FILE,
    TRAINING_EXAMINATION_FILE,
)
from .errors import SUCCESS, UsageError
from .record import RECONSTRUCTION_RECORD, TRAINING_RECORD, RunRecord
from .rings import load_product_file, product_rings, resolution_in_words

if TYPE_CHECKING:
    from ptychodus.api.product import Product

REPORT_FILE = "report.html"
TRAINING_REPORT_FILE = "training_report.html"
NETWORK_FILE = "network.h5"
"""The network's object, where the result is that and a refinement."""

HISTORY_FILE = "training_history.csv"
_TEMPLATE = Path(__file__).with_name("report.html")


@dataclass(frozen=True)
class Figure:
    """An image, as a ``data:`` address, and what it shows."""

    address: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A heading and its figures."""

    title: str
    figures: list[Figure]
    text: str = ""


@dataclass(frozen=True)
class Line:
    """A finding: what was done about it, and all of its text."""

    heading: str
    text: str
    is_warning: bool


@dataclass
class Page:
    """All that is on a page, as text and images."""

    title: str
    subtitle: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    findings: list[Line] = field(default_factory=list)
    verdict: Line | None = None
    comments: str = ""
    settings: list[tuple[str, str, bool]] = field(default_factory=list)
    versions: list[tuple[str, str]] = field(default_factory=list)


# ---- the command, and what other commands do at their end -------------------------------------------------


def report(arguments: argparse.Namespace) -> int:
    """Write the page of each run whose results are in a directory; see ``ptychopinn-ptychodus report -h``."""
    directory = arguments.directory
    if not directory.is_dir():
        raise UsageError(f'"{directory}" is not a directory.')
    written = []
    has_training = (directory / TRAINING_RECORD).is_file()
    # the product beside a training may be what it learnt from, and no result
    if (directory / RECONSTRUCTION_RECORD).is_file() or not has_training:
        written.append(write_reconstruction_report(directory, against=arguments.against))
    if has_training:
        written.append(write_training_report(directory))
    for path in written:
        print(f"Report: {path}")
    return SUCCESS


def tell_of_report(path: Path, record: RunRecord) -> None:
    """Leave the record of a run and write its page to ``path``; what fails is no more than a warning."""
    training = path.name == TRAINING_REPORT_FILE
    try:
        forget_report(path)
        record.save(path.with_name(TRAINING_RECORD if training else RECONSTRUCTION_RECORD))
        write = write_training_report if training else write_reconstruction_report
        print(f"Report: {write(path.parent)}")
    except Exception as exc:  # whatever it is, it must not cost the run
        print(f"warning: There is no report: {type(exc).__name__}: {exc}", file=sys.stderr)


def forget_report(path: Path) -> None:
    """Remove the page and the record of an earlier run, once another has left something in its place."""
    training = path.name == TRAINING_REPORT_FILE
    for one in (path, path.with_name(TRAINING_RECORD if training else RECONSTRUCTION_RECORD)):
        one.unlink(missing_ok=True)


# ---- reconstructions --------------------------------------------------------------------------------------


def write_reconstruction_report(directory: Path, *, against: Path | None = None) -> Path:
    """Write ``report.html`` about the result in ``directory``; returns its path.

    Parameters
    ----------
    directory
        Where ``ptychopinn-ptychodus reconstruct``, or ``ptychodus -b reconstruct``, has left its products.
    against
        Another product of the same sample on the same grid, reconstructed from other patterns: what the ring
        correlation is with.

    Raises
    ------
    UsageError
        If there is no product.
    ValueError
        If a file is not what its name says, or the other product is on another grid.
    """
    product_file, network_file = _products(directory)
    record = RunRecord.load(directory / RECONSTRUCTION_RECORD)
    product = load_product_file(product_file)
    page = Page(
        f"Reconstruction of {product.metadata.name or directory.name}", "Made by ptychopinn-ptychodus."
    )
    _add_record(page, record)
    comments, own = _comments(product)
    _add_findings(page, directory / EXAMINATION_FILE, own[1:])
    if own:
        page.facts.append(("How it was found", own[0]))
    page.comments = "\n".join(comments)
    page.facts += _product_facts(product, product_file)
    page.sections += _product_sections(product, None if record is None else record.source)
    if (directory / CONFIDENCE_FILE).is_file():
        page.sections.append(_confidence_section(directory / CONFIDENCE_FILE, product))
    other, what = (
        network_file,
        "The network's object against the refined one, which comes from the same patterns: ",
    )
    if against is not None:
        other, what = against, f"Against {against}, "
    if other is not None:
        try:
            page.sections.append(_ring_section(product, other, what))
        except ValueError as exc:
            if against is not None:
                raise
            page.sections.append(Section("Ring correlation", [], f"It could not be computed: {exc}"))
    return _write(page, directory / REPORT_FILE)


def _products(directory: Path) -> tuple[Path, Path | None]:
    """The result, and the network's own object where the result is refined from it."""
    product, network = directory / PRODUCT_FILE, directory / NETWORK_FILE
    if product.is_file():
        return product, network if network.is_file() else None
    # Ptychodus' own command puts the progress into the name
    numbered = sorted(directory.glob("product*.[0-9][0-9][0-9][0-9][0-9][0-9].h5"))
    if numbered:
        return numbered[-1], numbered[0] if len(numbered) > 1 else None
    if network.is_file():
        return network, None
    raise UsageError(
        f'There is no result in "{directory}": looked for {PRODUCT_FILE}, product.NNNNNN.h5 and '
        f"{NETWORK_FILE}."
    )


def _comments(product: Product) -> tuple[list[str], list[str]]:
    """Comments of the user, and those of this package without what they begin with."""
    from ..ptychodus_io.products import SIGNATURE

    lines = product.metadata.comments.splitlines()
    own = [line.removeprefix(SIGNATURE) for line in lines if line.startswith(SIGNATURE)]
    return [line for line in lines if not line.startswith(SIGNATURE)], own


def _product_facts(product: Product, path: Path) -> list[tuple[str, str]]:
    from .report_figures import in_units

    pixel, metadata = object_pixel_m(product), product.metadata
    height, width = product.object_.height_px, product.object_.width_px
    facts = [
        ("Product", str(path)),
        ("Positions", f"{len(product.probe_positions)}"),
        (
            "Object",
            f"{width} × {height} pixels of {in_units(pixel[0])} × {in_units(pixel[1])}: "
            f"{in_units(width * pixel[0])} × {in_units(height * pixel[1])} (x × y)",
        ),
    ]
    energy = photon_energy_ev(metadata)
    if energy is not None and energy > 0:
        facts.append(("Photon energy", f"{energy / 1e3:.5g} keV"))
    if product.losses:
        values = [float(loss.value) for loss in product.losses]
        facts.append(("Error by epoch", f"{values[0]:.4g} at first, {values[-1]:.4g} at last"))
    return facts


def _product_sections(product: Product, source: str | None) -> list[Section]:
    from . import report_figures as figures

    found, pixel = np.asarray(product.object_.get_layer(0)), object_pixel_m(product)
    amplitude, phase = figures.object_images(found, pixel)
    grey = "Grey from the 0.5th to the 99.5th percentile."
    sections = [
        Section("Object", [Figure(amplitude, f"Amplitude. {grey}"), Figure(phase, f"Phase. {grey}")]),
    ]
    modes = np.asarray(product.probes.get_array())[0]
    powers = ", ".join(f"{power:.2%}" for power in figures.mode_powers(modes))
    caption = "Amplitude above, phase below, each mode on its own scale."
    sections.append(
        Section("Probe", [Figure(figures.probe_image(modes), caption)], f"Power of the modes: {powers}.")
    )
    if product.losses:
        curve = [(int(loss.epoch), float(loss.value)) for loss in product.losses]
        image = figures.losses_image({"error": curve}, "Error")
        sections.append(Section("Error by epoch", [Figure(image, "As the product has it.")]))
    before = None if not source else _positions_before(Path(source), product)
    if before is not None:
        sections.append(_positions_section(before, _positions(product), pixel))
    return sections


def _positions(product: Product) -> NDArray[np.float64]:
    """(M, 2) [x, y] in metres."""
    from ..ptychodus_io.ingest import position_m

    return np.array([position_m(one) for one in product.probe_positions], dtype=np.float64)


def _positions_before(source: Path, product: Product) -> NDArray[np.float64] | None:
    """Those of the product that was reconstructed, at the same indices; None if it is no longer there."""
    from ..ptychodus_io.ingest import position_m

    path = product_in(source)
    if not path.is_file():
        return None
    try:
        known = {one.index: position_m(one) for one in load_product_file(path).probe_positions}
        return np.array([known[one.index] for one in product.probe_positions], dtype=np.float64)
    except (ValueError, KeyError):  # it is another one by now
        return None


def _positions_section(
    before: NDArray[np.float64], after: NDArray[np.float64], pixel: tuple[float, float]
) -> Section:
    from .report_figures import in_units, positions_image

    moves = after - before
    if not moves.any():
        return Section("Positions", [], "The positions are those that were recorded.")
    lengths, in_pixels = np.hypot(*moves.T), np.hypot(*(moves / pixel).T)
    text = (
        f"The positions moved by {in_units(float(np.sqrt(np.mean(lengths**2))))} root mean square "
        f"({np.sqrt(np.mean(in_pixels**2)):.3g} pixels), {in_units(float(lengths.max()))} at most "
        f"({in_pixels.max():.3g} pixels)."
    )
    return Section("Positions", [Figure(positions_image(before, after), "Before and after.")], text)


def _ring_section(product: Product, other: Path, what: str) -> Section:
    from .report_figures import rings_image

    rings, pixel = product_rings(product, load_product_file(other)), object_pixel_m(product)[0]
    told = resolution_in_words(rings, pixel)
    image = rings_image(rings, pixel)
    return Section("Ring correlation", [Figure(image, "By spatial frequency.")], f"{what}{told}.")


def _confidence_section(path: Path, product: Product) -> Section:
    """The map of confidence and the rings between the halves of the scan."""
    from .report_figures import confidence_image, rings_image

    try:
        confidence = Confidence.load(path)
    except ValueError as exc:
        return Section("Confidence", [], f"It cannot be shown: {exc}")
    caption = "From 0, dark, to 1; grey where there was no light."
    figures = [Figure(confidence_image(confidence), caption)]
    text = (
        f"The mean confidence is {confidence.mean:.2f}; {confidence.doubtful:.0%} of the lit object is "
        "doubtful."
    )
    if confidence.rings is not None:
        pixel = object_pixel_m(product)[0]
        figures.append(
            Figure(rings_image(confidence.rings, pixel), "Halves of the scan, by spatial frequency.")
        )
        text += f" Of the halves of the scan: {resolution_in_words(confidence.rings, pixel)}."
    return Section("Confidence", figures, text)


# ---- trainings --------------------------------------------------------------------------------------------


def write_training_report(directory: Path) -> Path:
    """Write ``training_report.html`` about the training that has left its model in ``directory``."""
    from .report_figures import embedded, losses_image

    record = RunRecord.load(directory / TRAINING_RECORD)
    page = Page(f"Training in {directory.name}", "Made by ptychopinn-ptychodus.")
    _add_record(page, record)
    _add_findings(page, directory / TRAINING_EXAMINATION_FILE, [])
    curves = _history(directory / HISTORY_FILE)
    if curves:
        page.sections.append(Section("Losses", [Figure(losses_image(curves, "Loss"), "By epoch.")]))
    picture = directory / PICTURE_FILE
    if picture.is_file():
        caption = "Amplitude and phase of the object as the network saw it last."
        page.sections.append(Section("Preview", [Figure(embedded(picture.read_bytes()), caption)]))
    return _write(page, directory / TRAINING_REPORT_FILE)


def _history(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Losses by name and epoch; empty where there is no file."""
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    curves = {
        label: [(int(row["epoch"]), float(row[name])) for row in rows if row.get(name)]
        for label, name in (("training", "train_loss"), ("validation", "val_loss"))
    }
    return {label: curve for label, curve in curves.items() if curve}


# ---- what both have ---------------------------------------------------------------------------------------


def _add_record(page: Page, record: RunRecord | None) -> None:
    if record is None:
        return
    ended = f"{record.ended}, after {duration(record.seconds)}"
    page.facts += [
        ("Ended", ended if record.is_complete else f"{ended}; it was interrupted"),
        ("Algorithm", record.algorithm),
        ("Scan", record.source),
    ]
    if record.model:
        page.facts.append(("Model", record.model))
    page.versions = list(record.versions.items())
    for group, values in record.settings.items():
        for name, value in values.items():
            row = SETTINGS.get(f"{group.removeprefix(PREFIX)}.{name}")
            page.settings.append((f"{group}.{name}", value, row is not None and value == str(row.default)))


def _add_findings(page: Page, path: Path, lines: list[str]) -> None:
    """Findings of the file, or else of the ``lines`` in a product's comments."""
    if path.is_file():
        try:
            found = Report.load(path)
        except (TypeError, KeyError, ValueError) as exc:
            raise ValueError(f'"{path}" holds no findings: {exc}') from exc
        for finding in found.findings:
            line = Line(finding.action.heading, finding.text, finding.is_warning)
            if finding.subject == "result" and page.verdict is None:
                page.verdict = line
            page.findings.append(line)
        return
    for text in lines:
        heading, _, rest = text.partition(": ")
        page.findings.append(Line(heading, rest, heading != "Noted"))


def _write(page: Page, path: Path) -> Path:
    import jinja2

    # autoescape: nothing that a file says becomes a part of the page's structure
    environment: Any = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(page=page)
    with replacing(path) as file:
        file.write(text.encode("utf-8", errors="replace"))
    return path
