"""What the Python interface returns: a model, and a reconstruction."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..backends.base import ModelDescription
from ..backends.registry import find_model, guess_engine
from ..data.confidence import Confidence
from ..data.examination import Finding, Report
from ..files import replacing


@dataclass(frozen=True)
class Model:
    """A trained model, as its file describes it.

    Attributes
    ----------
    path
        The model file.
    description
        What the file says about itself: engine, configuration, statistics of the training data, losses.
    findings
        What the examination of the training data has found; empty for a model that was opened.
    stopped
        Whether its training was asked to stop.
    """

    path: Path
    description: ModelDescription
    findings: Report = field(default_factory=Report)
    stopped: bool = False

    @property
    def history(self) -> dict[str, list[float]]:
        """The losses ``train_loss`` and ``val_loss``, one value an epoch."""
        return {name: list(values) for name, values in self.description.history.items()}


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """An object, and what it was found with.

    Attributes
    ----------
    object
        (H, W) complex64 transmission function.
    probe
        (modes, N, N) complex64; ``Σ_m |FFT_ortho(probe_m · patch)|²`` is in counts.
    positions
        (M, 2) float64 ``[x, y]``, in the pixels of the scan's positions; refined, where they were.
    origin
        ``[x, y]`` of the object's first pixel, in the pixels of the scan's positions.
    findings
        What the examination of the scan has found, and the verdict on the object.
    network
        (H, W) complex64, the network's own object, where this one is refined from it; else None.
    errors
        Normalised error of each epoch of the refinement, see :class:`.RefinementReport`; empty without one.
    stopped
        Whether the run was asked to stop; the object is then the best so far.
    confidence
        How far the object is to be believed, pixel by pixel and ring by ring; None where the run was stopped,
        or ``ExaminationConfig.confidence`` is off.
    """

    object: NDArray[np.complex64]
    probe: NDArray[np.complex64]
    positions: NDArray[np.float64]
    origin: tuple[float, float]
    findings: Report = field(default_factory=Report)
    network: NDArray[np.complex64] | None = None
    errors: list[float] = field(default_factory=list)
    stopped: bool = False
    confidence: Confidence | None = None

    @property
    def amplitude(self) -> NDArray[np.float32]:
        """(H, W) amplitude of the object."""
        return np.abs(self.object)

    @property
    def phase(self) -> NDArray[np.float32]:
        """(H, W) phase of the object, radians from -π to π."""
        return np.angle(self.object)

    @property
    def verdict(self) -> Finding | None:
        """Whether the object explains the patterns (``is_warning`` is False if so); None if not judged.

        That it does so with the conjugate of the probe alone, or at positions that had to be searched for, is
        a warning that comes before it, judged or not, and is then what this is: the others are in
        ``findings``.
        """
        return next((finding for finding in self.findings.findings if finding.subject == "result"), None)

    def to_file(self, path: str | Path) -> None:
        """Write an NPZ file with ``object``, ``probe``, ``positions`` and ``origin``, replaced atomically."""
        with replacing(Path(path)) as file:
            np.savez(file, object=self.object, probe=self.probe, positions=self.positions, origin=self.origin)


def open_model(path: str | Path) -> Model:
    """Open a model that was trained before, by whichever engine; imports no framework.

    Parameters
    ----------
    path
        A model file, or a directory with one, as :func:`train` leaves it. If none is under the name that
        trainings give it (``model`` and its engine's suffix), there may be one under another.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or none in the directory.
    ValueError
        If there are several in the directory; the message lists them.
    ModelFileError
        If it is not a model, or damaged.

    Examples
    --------
    >>> open_model(model.path).description.model.gridsize
    2
    """
    file = find_model(Path(path)).absolute()
    return Model(file, guess_engine(file).describe(file))
