"""A training on products that are open: where its model goes, and how the scans come to the worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from ptychodus.api.reconstruct import ReconstructInput

from ..backends.training_state import state_path
from ..data.examination import ExaminationConfig, Finding, Report
from ..data.raw import RawData
from ..ptychodus_io.names import MODEL_BASENAME
from ..ptychodus_io.several import each_scan, left_out
from ..remembered import directories, models_directory, new_directory
from ..settings_table import NEW, SETTINGS, START
from ..worker.job import DATA_DIRECTORY
from .settings import PluginSettings, make_examination_config


def place_for(name: str, *, resume: bool) -> Path:
    """A new directory for the model of what is called ``name``, or that of its interrupted training.

    Raises
    ------
    ValueError
        If there is none to ``resume``.
    OSError
        If it cannot be made.
    """
    if not resume:
        return new_directory(name)
    for directory in directories(name):
        if state_path(directory / MODEL_BASENAME).is_file():
            return directory
    raise ValueError(
        f'There is no interrupted training of "{name}" in "{models_directory()}" to go on with: set '
        f"{SETTINGS[START].full_name} to {NEW!r}."
    )


def taken_over(
    inputs: dict[str, ReconstructInput], settings: PluginSettings
) -> tuple[dict[str, RawData], Report]:
    """The scans by name, removed from ``inputs`` one after another, and findings on those left out.

    Errors are those of :func:`.each_scan`.
    """
    examination = make_examination_config(settings)
    findings: list[Finding] = []

    def note(name: str, exc: Exception) -> None:
        findings.append(left_out(name, exc))

    skip = settings.value("Data.SkipDamaged")
    make = {name: partial(_scan, inputs, name, examination) for name in tuple(inputs)}
    return each_scan(make, on_damaged=note if skip else None), Report(tuple(findings))


def _scan(inputs: dict[str, ReconstructInput], name: str, examination: ExaminationConfig) -> RawData:
    # imported here: the application does not wait for it when it starts
    from ..ptychodus_io.ingest import from_reconstruct_input

    # popped: what has been taken over need not be held twice
    return from_reconstruct_input(inputs.pop(name), with_object=True, examination=examination)


def hand_over(scans: dict[str, RawData], directory: Path) -> None:
    """Leave the scans in the job's directory, where a training looks for several, and forget them here."""
    for number, name in enumerate(tuple(scans)):
        scans.pop(name).to_directory(directory / DATA_DIRECTORY / str(number))


@contextmanager
def removed_if_empty(directory: Path) -> Iterator[None]:
    """Remove the directory, and that of its product, if nothing has been left in it."""
    try:
        yield
    finally:
        with suppress(OSError):  # there is something in it
            directory.rmdir()
            directory.parent.rmdir()
