"""A training on products that are open: where its model goes, and how the scans come to the worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from ptychodus.api.reconstruct import ReconstructInput

from ..backends.training_state import state_path
from ..data.examination import ExaminationConfig, Finding, Report
from ..data.raw import RawData
from ..ptychodus_io.names import MODEL_BASENAME
from ..ptychodus_io.several import OnScan, left_out, one_after_another
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


def hand_over(
    inputs: Mapping[str, Callable[[], ReconstructInput]],
    settings: PluginSettings,
    directory: Path,
    on_scan: OnScan,
) -> Report:
    """Leave the scans in the job's directory, where a training looks for them; findings on those left out.

    One is taken over after another: what is open may fill the memory by itself. Errors are those of
    :func:`.one_after_another`, and ``OSError`` if a scan cannot be written.
    """
    examination = make_examination_config(settings)
    findings: list[Finding] = []

    def note(name: str, exc: Exception) -> None:
        findings.append(left_out(name, exc))

    numbers = {name: str(number) for number, name in enumerate(inputs)}
    make = {name: partial(_scan, prepare, examination) for name, prepare in inputs.items()}
    on_damaged = note if settings.value("Data.SkipDamaged") else None
    for name, scan in one_after_another(make, on_scan=on_scan, on_damaged=on_damaged):
        scan.to_directory(directory / DATA_DIRECTORY / numbers[name])
        del scan  # before the next one is made
    return Report(tuple(findings))


def _scan(prepare: Callable[[], ReconstructInput], examination: ExaminationConfig) -> RawData:
    # imported here: the application does not wait for it when it starts
    from ..ptychodus_io.ingest import from_reconstruct_input

    return from_reconstruct_input(prepare(), with_object=True, examination=examination)


@contextmanager
def removed_if_empty(directory: Path) -> Iterator[None]:
    """Remove the directory, and that of its product, if nothing has been left in it."""
    try:
        yield
    finally:
        with suppress(OSError):  # there is something in it
            directory.rmdir()
            directory.parent.rmdir()
