"""What benchmarks on the two test scans share: stock Ptychodus without a window, scores and pictures."""

from __future__ import annotations

import configparser
import importlib.util
import resource
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from ptychodus.api.io import load_product

from ptychopinn_ptychodus.data import metrics
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.ptychodus_io.ingest import object_positions, read_standard_directory
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.solver import refine

ROOT = Path(__file__).resolve().parents[1]
REFERENCES = {"synthetic": "truth.npz", "siemens_star": "reference.npz"}


def cpu(who: int = resource.RUSAGE_CHILDREN) -> float:
    """CPU seconds of the children that have ended so far, theirs included; or of this process."""
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def write_settings(name: str, path: Path, changes: Mapping[str, Mapping[str, Any]]) -> None:
    """``examples/<name>.ini`` with changes by section and key."""
    settings = configparser.ConfigParser(interpolation=None)
    settings.optionxform = str  # type: ignore[assignment, method-assign]
    assert settings.read(ROOT / "examples" / f"{name}.ini")
    settings.read_dict(changes)
    with path.open("w") as file:
        settings.write(file)


def copy_scan(
    source: Path, target: Path, part: slice | NDArray[np.intp] = slice(None), product: str = "product.h5"
) -> None:
    """The files of a scan, or of a part of its patterns; ``product`` becomes ``product.h5``.

    Not its settings.ini: Ptychodus reads that after, and over, the file of ``-s``.
    """
    target.mkdir(parents=True)
    for name, copied in (("diffraction.h5", "diffraction.h5"), (product, "product.h5")):
        with h5py.File(source / name) as old, h5py.File(target / copied, "w") as new:
            for key in old:
                old.copy(key, new)
            new.attrs.update(old.attrs)
            for key in ("patterns", "indexes", *(key for key in old if key.startswith("probe_position"))):
                if key in new:
                    attributes = dict(new[key].attrs)
                    values = new[key][part]
                    del new[key]
                    new[key] = values
                    new[key].attrs.update(attributes)


def run_or_raise(command: Sequence[str]) -> tuple[str, float]:
    """Standard output of a command, and CPU seconds of its whole process tree."""
    before = cpu()
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"{command} ended with {run.returncode}:\n{(run.stdout + run.stderr)[-2000:]}")
    return run.stdout, cpu() - before


# ---------------------------------------------------------------------- results and their scores


@dataclass(frozen=True)
class Result:
    """Object (H, W), probe (modes, N, N) and positions (M, 2) [row, column] in pixels of the object."""

    object: NDArray[Any]
    probe: NDArray[Any]
    positions: NDArray[Any]

    @classmethod
    def load(cls, path: Path) -> Result:
        """From a product, or from an NPZ file as the references are."""
        if path.suffix == ".npz":
            with np.load(path) as file:
                return cls(file["object"], file["probe"], file["positions_rc_px"])
        product = load_product(path)
        positions = np.stack(object_positions(product)[::-1], -1)
        return cls(product.object_.get_layer(0), product.probes.get_array()[0], positions)

    def on_grid_of(self, other: Result) -> NDArray[Any]:
        """The object moved by whole pixels to where the other's positions have it; 1 outside."""
        shape = other.object.shape
        first = np.rint(np.median(other.positions - self.positions, axis=0)).astype(int)
        canvas = np.ones(shape, complex)
        start, stop = np.maximum(first, 0), np.minimum(first + self.object.shape, shape)
        (top, left), (bottom, right) = start - first, stop - first
        canvas[start[0] : stop[0], start[1] : stop[1]] = self.object[top:bottom, left:right]
        return canvas

    def lit(self) -> NDArray[np.bool_]:
        """(H, W): where the scan put light."""
        rows, columns = self.positions.T
        return metrics.illumination_mask(self.probe, columns, rows, self.object.shape)


def residual_of(raw: RawData, result: Result) -> float:
    """Normalised residual of the scan's amplitudes under a result, at its positions."""
    y, x = result.positions.T
    moved = RawData(
        xcoords=x,
        ycoords=y,
        diff3d=raw.diff3d,
        probeGuess=result.probe,
        domain="amplitude",
        bad_pixels=raw.bad_pixels,
    )
    return metrics.normalised_amplitude_residual(moved, result.object, result.probe)


def refined_from_flat(
    raw: RawData, probe: NDArray[Any], config: RefinementConfig
) -> tuple[Result, NDArray[np.float64]]:
    """Refinement of a scan from ones, on the grid of its object, and the weights of the patterns."""
    assert raw.objectGuess is not None
    found = refine(raw, np.ones(raw.objectGuess.shape, np.complex64), probe, config, device="cpu")
    return Result(found.object, found.probe, found.positions[:, ::-1]), found.weights


class Scan:
    """A scan, its reference, and the independent scoring script where it lies beside the data."""

    def __init__(self, directory: Path) -> None:
        self.name, self.directory = directory.name, directory
        self.raw = read_standard_directory(directory)
        self.reference = Result.load(directory / REFERENCES.get(self.name, "truth.npz"))
        self.mask = self.reference.lit()
        self.script = directory.parent.parent / "tools" / "evaluate.py"

    def scores(self, result: Result) -> dict[str, float]:
        """``corr``, ``amplitude``, ``phase`` (SSIM) and ``residual`` by this package."""
        found = metrics.compare(result.on_grid_of(self.reference), self.reference.object, self.mask)
        return {
            "corr": found.complex_correlation_centred,
            "amplitude": found.amplitude.ssim,
            "phase": found.phase.ssim,
            "residual": residual_of(self.raw, result),
        }

    def script_module(self) -> ModuleType | None:
        """The scoring script as a module; None without it."""
        spec = importlib.util.spec_from_file_location("evaluate", self.script)
        if spec is None or spec.loader is None or not self.script.exists():
            return None
        evaluate = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(evaluate)
        return evaluate

    def script_scores(self, result: Result) -> dict[str, float] | None:
        """Scores of the same result by the scoring script, under the same names; None without it."""
        evaluate = self.script_module()
        if evaluate is None:
            return None
        truth = self.reference
        mask = evaluate.illumination_mask(truth.positions, truth.probe, truth.object.shape, 0.3)
        found = evaluate.compare(result.on_grid_of(truth), truth.object, mask)
        with h5py.File(self.directory / "diffraction.h5") as file:
            patterns = file["patterns"][()]
        return {
            "corr": found["complex_correlation_centred"],
            "amplitude": found["amplitude"]["ssim"],
            "phase": found["phase"]["ssim"],
            "residual": evaluate.amplitude_residual(patterns, result.positions, result.object, result.probe),
        }


def side_by_side(scan: Scan, results: Mapping[str, Result], path: Path, title: str) -> None:
    """Amplitude and phase of results, aligned to the scan's reference, on its grey scales."""
    truth, mask = scan.reference.object, scan.mask
    rows, columns = np.where(mask)
    crop = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    images = {
        name: metrics.align(result.on_grid_of(scan.reference), truth, mask)[0]
        for name, result in results.items()
    }
    figure = Figure(figsize=(5 * len(images), 10), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(images))
    parts: list[tuple[Callable[[Any], Any], str]] = [(np.abs, "amplitude"), (np.angle, "phase [rad]")]
    for row, (part, label) in enumerate(parts):
        low, high = np.percentile(part(truth)[mask], (0.5, 99.5))
        for axis, (name, image) in zip(axes[row], images.items(), strict=True):
            shown = axis.imshow(part(image)[crop], cmap="gray", vmin=low, vmax=high)
            axis.set_title(f"{name}: {label}")
            axis.set_axis_off()
        figure.colorbar(shown, ax=axes[row], shrink=0.8)
    figure.suptitle(title)
    figure.savefig(path, dpi=90 if len(images) == 2 else 70)
