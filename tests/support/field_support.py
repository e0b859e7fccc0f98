"""Runs a scan through the reconstructor as Ptychodus does, but in one process, and scores what comes out.

A child process for each run would import a framework each time: here the worker's own functions run in the
process of the tests, behind the same interface.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from ptychodus.api.io import load_diffraction_data, load_product
from ptychodus.api.product import Product
from ptychodus.api.reconstruct import ReconstructInput, prepare_reconstruct_input
from ptychodus.api.settings import SettingsRegistry

from ptychopinn_ptychodus.data.examination import ExaminationConfig, Report
from ptychopinn_ptychodus.data.examination.scan import examine_scan
from ptychopinn_ptychodus.data.metrics import compare
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.plugin.library import PtychoPINNPluginLibrary
from ptychopinn_ptychodus.plugin.reconstructor import PtychoPINNReconstructor
from ptychopinn_ptychodus.ptychodus_io.ingest import from_reconstruct_input
from ptychopinn_ptychodus.worker.job import Job, read_job, write_job
from ptychopinn_ptychodus.worker.main import run_job

QUICK = {
    "Model_Backend": "pytorch",
    "Model_NumFiltersScale": 1,
    "Training_Epochs": 2,
    "Training_ProbeModes": 1,
    "Training_Preview": False,
    "Training_Accelerator": "cpu",
}
"""Settings under which the field cases were tried; 10 epochs of refinement are the default."""


class InlineChild:
    """Takes the place of :class:`~ptychopinn_ptychodus.worker.process.ChildProcess`, without a process."""

    def __init__(self, log: Any, warm: object = None) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="ptychopinn-")
        self.directory = Path(self._scratch.name)
        self.result: dict[str, Any] | None = None

    def __enter__(self) -> InlineChild:
        return self

    def __exit__(self, *_: object) -> None:
        self._scratch.cleanup()

    def start(self, job: Job) -> None:
        write_job(job, self.directory)

    def messages(self) -> Iterator[dict[str, Any]]:
        sent: list[dict[str, Any]] = []

        def send(kind: str, **fields: Any) -> None:
            sent.append({"kind": kind, **fields})

        job = read_job(self.directory)
        try:
            result = run_job(job, self.directory, send, lambda: False)
        finally:
            self.sent = sent
        yield from sent
        self.result = {"kind": "result", **result}
        yield self.result

    def with_remedy(self, exc: Exception) -> Exception:
        return exc

    def stop(self) -> list[dict[str, Any]]:
        return []


@contextlib.contextmanager
def in_one_process() -> Iterator[None]:
    """Within it, reconstructors start no child processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ptychopinn_ptychodus.worker.running.ChildProcess", InlineChild)
        yield


def make_reconstructor(name: str = "PINN", **values: Any) -> PtychoPINNReconstructor:
    """A reconstructor of the library, with settings given as ``Group_Name=value`` over :data:`QUICK`."""
    library = PtychoPINNPluginLibrary(SettingsRegistry(), False)
    for key, value in {**QUICK, **values}.items():
        library.settings[key.replace("_", ".")].set_value(value)
    found: PtychoPINNReconstructor = next(one for one in library if one.name == name)
    return found


def input_of(scan: Path) -> ReconstructInput:
    """What Ptychodus hands to a reconstructor of the scan in a standard directory."""
    return prepare_reconstruct_input(
        load_diffraction_data(scan / "diffraction.h5"), load_product(scan / "product.h5")
    )


def examined(scan: Path) -> RawData:
    """The scan in a standard directory as it is computed with."""
    raw, _ = examine_scan(from_reconstruct_input(input_of(scan), with_object=False), ExaminationConfig())
    return raw


@dataclass
class Outcome:
    """What became of a scan.

    Attributes
    ----------
    training, result
        Findings of the training and of the reconstruction.
    products
        What the reconstruction handed over: the network's product, then the refined one.
    model
        The model file.
    """

    training: Report
    result: Report
    products: list[Product] = field(default_factory=list)
    model: Path | None = None

    @property
    def object(self) -> NDArray[np.complex64]:
        """The refined object, (H, W)."""
        array: NDArray[np.complex64] = self.products[-1].object_.get_array()[0]
        return array

    @property
    def photons(self) -> float:
        """Σ|P|² of the refined probe."""
        return float((np.abs(self.products[-1].probes.get_array()) ** 2).sum())

    def correlation(self, truth: NDArray[np.complex64], margin: int = 44) -> float:
        """Centred correlation of the refined object with the truth, without its margin."""
        inside = np.zeros(truth.shape, bool)
        inside[margin:-margin, margin:-margin] = True
        return compare(self.object, truth, inside).complex_correlation_centred

    def amplitude(self, margin: int = 60) -> float:
        """Mean amplitude of the refined object in its middle."""
        return float(np.abs(self.object[margin:-margin, margin:-margin]).mean())


def train_and_reconstruct(
    data: Path, scan: Path, output: Path, name: str = "PINN", **settings: Any
) -> Outcome:
    """Train on what is in ``data``, then reconstruct ``scan``; errors are raised as they come."""
    reconstructor = make_reconstructor(name, **settings)
    list(reconstructor.train(data, output))
    training, model = reconstructor.findings, reconstructor.require_model()
    outcome = reconstruct_with(model, scan, name, **settings)
    outcome.training = training
    return outcome


def reconstruct_with(model: Path, scan: Path, name: str = "PINN", **settings: Any) -> Outcome:
    """Apply a model to ``scan``; errors are raised as they come."""
    reconstructor = make_reconstructor(name, **settings)
    reconstructor.load_model_from_file(model)
    products = [output.product for output in reconstructor.reconstruct(input_of(scan))]
    return Outcome(Report(), reconstructor.findings, products, model)
