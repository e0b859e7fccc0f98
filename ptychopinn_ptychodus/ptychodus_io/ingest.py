"""Ptychodus' data -> :class:`~ptychopinn_ptychodus.data.raw.RawData`; Ptychodus' types go no further.

Ptychodus itself is imported only where its files are read: a worker that trains on NPZ files does without.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..data import large_arrays
from ..data.detector import PATTERNS
from ..data.examination import ExaminationConfig, Report
from ..data.raw import RawData
from ..data.scan_arrays import require_supported_size
from ..data.scan_files import HDF5_SUFFIXES, SUFFIXES, holds_scan
from ..files import NoRoomError
from .large_files import load_patterns
from .names import (
    DIFFRACTION_FILE,
    LIBRARY,
    OLD_PRODUCT_FILE,
    PRODUCT_FILE,
    TEST_FILE,
    TRAIN_FILE,
    product_in,
)
from .pattern_size import product_for
from .product_checks import examine_product
from .several import OnDamaged, OnScan, each_scan, require_one_size
from .standard_files import check_standard_files

if TYPE_CHECKING:
    from ptychodus.api.geometry import PixelGeometry
    from ptychodus.api.reconstruct import ReconstructInput

logger = logging.getLogger(LIBRARY)


@dataclass(frozen=True)
class TrainingData:
    """What a training directory holds.

    Attributes
    ----------
    scans
        The scans to learn from, by the names of their files or directories; all have patterns of one size.
    test
        The scan to validate with, if there is one.
    source
        Which files these are, for people.
    """

    scans: Mapping[str, RawData]
    test: RawData | None
    source: str

    @cached_property
    def train(self) -> RawData:
        """All scans as one, for those that have the same probe; see :func:`join_scans`."""
        return join_scans(list(self.scans.values()))

    @property
    def has_several_probes(self) -> bool:
        """Whether the scans were recorded with different probes, so that one model cannot learn a probe."""
        first, *others = self.scans.values()
        return any(not _same_probe(first, other) for other in others)


# ---- from the running application -------------------------------------------------------------------------


def from_reconstruct_input(
    parameters: ReconstructInput,
    *,
    with_object: bool,
    examination: ExaminationConfig | None = None,
    detector_pixel: PixelGeometry | None = None,
) -> RawData:
    """The scan of a :class:`~ptychodus.api.reconstruct.ReconstructInput`.

    Positions become pixels of the product's object array, which is that of :func:`.product_for`, the probe is
    that of the first OPR mode, and the object, where it is asked for, is its only layer. The patterns are
    counts, unless a setting says otherwise.

    Parameters
    ----------
    parameters
        Patterns, bad pixels and product, the positions matched to the patterns.
    with_object
        Whether the object is to be handed on as ``objectGuess``.
    examination
        What is looked for, and what is done about it; by default everything that can be.
    detector_pixel
        Pixel of the patterns on the detector, where it is known: object and probe must be sampled
        accordingly.

    Raises
    ------
    ValueError
        If the product has no object grid or no probe, a number that its geometry follows from cannot be what
        it stands for (:func:`.require_geometry`), or the data are not usable; the message says what to do in
        Ptychodus. An :class:`.ExaminationError` if the product is refused.
    """
    config = examination or ExaminationConfig()
    product = product_for(parameters, config)
    patterns = large_arrays.as_array(parameters.diffraction_patterns)
    if config.pattern_size is None and patterns.ndim == 3:
        require_supported_size(patterns.shape)
    x, y = object_positions(product)
    size = config.pattern_size or int(patterns.shape[-1])
    report = examine_product(product, x, y, size, config, detector_pixel)
    raw = RawData(
        xcoords=x,
        ycoords=y,
        diff3d=patterns,
        probeGuess=np.asarray(product.probes.get_array())[0],
        objectGuess=np.asarray(product.object_.get_layer(0)) if with_object else None,
        scan_index=np.zeros(len(patterns), dtype=np.int64),
        bad_pixels=None if parameters.bad_pixels is None else np.asarray(parameters.bad_pixels, dtype=bool),
        exposures=exposures(product),
        domain="counts" if config.pattern_values == "auto" else config.pattern_values,
        examination=config,
    )
    raw.findings = report + raw.findings
    return raw


def object_positions(product: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(x, y) of the probe positions in pixels of the product's object array."""
    geometry = product.object_.get_geometry()
    positions = product.probe_positions
    if hasattr(geometry, "map_probe_positions_to_object_x_px"):
        x = geometry.map_probe_positions_to_object_x_px(positions)
        y = geometry.map_probe_positions_to_object_y_px(positions)
    else:  # Ptychodus 1.6 and older, whose own mapping of single points was half a pixel off before 1.6
        x_m, y_m = np.array([position_m(position) for position in positions]).T
        x = (x_m - geometry.center_x_m) / geometry.pixel_width_m + (geometry.width_px - 1) / 2
        y = (y_m - geometry.center_y_m) / geometry.pixel_height_m + (geometry.height_px - 1) / 2
    return np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)


def exposures(product: Any) -> NDArray[np.float64] | None:
    """(M,) photons that fell on the sample at each position, as the product has them; None if it has none.

    Positions without a count (a monitor that missed one, say) are taken to be as bright as the others usually
    are. Where that is half of them or more, the counts are left alone.
    """
    # by name: Ptychodus 1.6 and older have no such counts
    counts = np.array(
        [getattr(position, "probe_photon_count", None) for position in product.probe_positions], np.float64
    )
    known = np.isfinite(counts) & (counts > 0)
    if not known.any():
        return None
    missing = int(np.count_nonzero(~known))
    if 2 * missing >= len(counts):
        logger.warning(
            "The product has probe photon counts for %d of %d positions only: they are not used, and the "
            "beam is taken to be steady.",
            len(counts) - missing,
            len(counts),
        )
        return None
    if missing:
        logger.warning(
            "%d of %d positions have no probe photon count: the median of the others is taken.",
            missing,
            len(counts),
        )
        counts[~known] = np.median(counts[known])
    return counts


def position_m(position: Any) -> tuple[float, float]:
    """(x, y) of one probe position, metres."""
    if hasattr(position, "x_m"):
        return position.x_m, position.y_m
    return position.coordinate_x_m, position.coordinate_y_m  # Ptychodus 1.5


# ---- from a training directory ----------------------------------------------------------------------------


def read_training_directory(
    directory: Path,
    examination: ExaminationConfig | None = None,
    examine: Callable[[RawData, str], RawData] | None = None,
    on_scan: OnScan | None = None,
    on_damaged: OnDamaged | None = None,
) -> TrainingData:
    """Read the first of these that ``directory`` holds.

    1. ``train_data.npz``, with ``test_data.npz`` for validation where there is one; either may be Ptychodus'
       HDF5 training data (``.h5``, ``.hdf5``) instead;
    2. any other training data, NPZ or HDF5, taken together;
    3. a Ptychodus standard directory: ``diffraction.h5`` and ``product.h5``;
    4. directories that are standard directories, taken together.

    ``examine`` is called with each scan and the name of its file, and what it returns takes the scan's place.
    Where there are several scans, ``on_scan`` and ``on_damaged`` are called as in :func:`.each_scan`.

    Raises
    ------
    FileNotFoundError
        If it holds none of them; the message says what was looked for, and where.
    ValueError
        If a file is not usable, or the files do not fit together; the message names the file.
    """
    if not directory.is_dir():
        raise FileNotFoundError(f'There is no training directory "{directory}".')
    train_path, test_path = _named(directory, TRAIN_FILE), _named(directory, TEST_FILE)

    def read(path: Path) -> RawData:
        raw = RawData.from_file(path, examination)
        return raw if examine is None else examine(raw, path.name)

    test = None if test_path is None else read(test_path)
    test_name = "" if test_path is None else test_path.name
    if train_path is not None:
        train = read(train_path)
        if test is not None:
            require_same(train, train_path.name, test, test_name)
        return TrainingData({train_path.name: train}, test, train_path.name)
    others = training_files(directory)
    if others:
        scans = each_scan(
            {path.name: partial(read, path) for path in others}, on_scan=on_scan, on_damaged=on_damaged
        )
        data = TrainingData(scans, test, _listed(scans))
        require_one_size(scans if test is None else {**scans, test_name: test})
        if test is not None and not data.has_several_probes:
            first = next(iter(scans))
            require_same(scans[first], first, test, test_name)
        return data
    diffraction_path, product_path = directory / DIFFRACTION_FILE, product_in(directory)
    if diffraction_path.is_file() and product_path.is_file():
        if test is not None:
            logger.warning(
                "%s is not used: it accompanies %s, which is not in %s.", test_name, TRAIN_FILE, directory
            )
        source = f"{DIFFRACTION_FILE}, {product_path.name}"
        raw = read_standard_directory(directory, examination)
        raw = raw if examine is None else examine(raw, "")
        return TrainingData({source: raw}, None, source)
    directories = scan_directories(directory)
    if directories:

        def read_directory(path: Path) -> RawData:
            raw = read_standard_directory(path, examination)
            return raw if examine is None else examine(raw, path.name)

        make = {path.name: partial(read_directory, path) for path in directories}
        scans = each_scan(make, on_scan=on_scan, on_damaged=on_damaged)
        require_one_size(scans)
        return TrainingData(scans, None, _listed(scans))
    raise FileNotFoundError(
        f'There are no training data in "{directory}". Looked for {TRAIN_FILE}, other training data (.npz, '
        f".h5, .hdf5), {DIFFRACTION_FILE} with {PRODUCT_FILE}, and directories that hold these two. Export "
        "training data to this directory, or choose another."
    )


def _named(directory: Path, name: str) -> Path | None:
    """The file of that name, or of that name as HDF5; None if there is none."""
    paths = [(directory / name).with_suffix(suffix) for suffix in SUFFIXES]
    found = [path for path in paths if path.is_file()]
    for other in found[1:]:
        logger.warning("%s is not used: %s comes first.", other.name, found[0].name)
    return found[0] if found else None


def training_files(directory: Path) -> list[Path]:
    """Files in ``directory`` that hold a scan to learn from, by name; those named as test data left out."""
    apart = {DIFFRACTION_FILE, PRODUCT_FILE, OLD_PRODUCT_FILE}
    apart |= {Path(TEST_FILE).with_suffix(suffix).name for suffix in SUFFIXES}
    paths = (path for suffix in SUFFIXES for path in directory.glob(f"*{suffix}"))
    return [path for path in sorted(paths) if path.name not in apart and _holds_scan(path)]


def scan_directories(directory: Path) -> list[Path]:
    """Directories in ``directory`` that hold the patterns of a scan, by name.

    One that has no product besides is a scan that is damaged. One that has nothing but a product is what a
    reconstruction leaves.
    """
    return sorted(path for path in directory.iterdir() if (path / DIFFRACTION_FILE).is_file())


def _listed(scans: Mapping[str, RawData]) -> str:
    """The names of all scans, or how many there are."""
    most = 6
    return ", ".join(scans) if len(scans) <= most else f"{len(scans)} scans, {next(iter(scans))} the first"


def _holds_scan(path: Path) -> bool:
    """Whether a file looks like training data; what else lies in a directory is none of our business."""
    # to open a pipe would wait for somebody who writes to it
    if path.name.startswith(".") or not path.is_file():
        return False
    try:
        if holds_scan(path):
            return True
    except ValueError as exc:
        if path.suffix not in HDF5_SUFFIXES:
            return True  # damaged: reading it says so, which passing over it would not
        # HDF5 files are many things, and one that another program is writing cannot be read either
        logger.warning("%s is passed over: %s", path.name, exc)
        return False
    logger.info("%s holds no training data and is passed over.", path.name)
    return False


def read_standard_directory(directory: Path, examination: ExaminationConfig | None = None) -> RawData:
    """The scan in ``diffraction.h5`` and ``product.h5``, its positions matched to its patterns."""
    from ptychodus.api.io import load_product
    from ptychodus.api.reconstruct import prepare_reconstruct_input

    def load(path: Path, read: Callable[[Path], Any]) -> Any:
        try:
            return read(path)
        except NoRoomError:
            raise
        except Exception as exc:  # Ptychodus' reader lets through what the libraries beneath it raise
            raise ValueError(
                f'"{path}" is not a usable Ptychodus file: {exc}. It may be incomplete or of another kind: '
                "save it again."
            ) from exc

    check_standard_files(directory / DIFFRACTION_FILE, product_in(directory))
    patterns = load(directory / DIFFRACTION_FILE, load_patterns)
    product = load(product_in(directory), load_product)
    return from_reconstruct_input(
        prepare_reconstruct_input(patterns, product),
        with_object=True,
        examination=examination,
        detector_pixel=patterns.get_pixel_geometry() if hasattr(patterns, "get_pixel_geometry") else None,
    )


def join_scans(scans: Sequence[RawData]) -> RawData:
    """Several scans as one, each with numbers of its own in ``scan_index``, within which groups stay.

    They lie side by side on one canvas, so that patches show one scan's object and a compact part of the
    whole, such as is held out for validation, is of one scan as far as may be. The probe is that of the first
    one, and a pixel that is bad in any scan is bad in all.
    """
    if len(scans) == 1:
        return scans[0]
    with_objects = all(scan.objectGuess is not None for scan in scans)
    if not with_objects and any(scan.objectGuess is not None for scan in scans):
        logger.warning("Not every training file holds an objectGuess: those that there are go unused.")
    gap = 4 * scans[0].N
    shifts, origin, boxes = [], gap, []
    for scan in scans:
        if scan.objectGuess is not None and with_objects:
            left, width = 0, scan.objectGuess.shape[1]
        else:
            left = int(np.floor(scan.xcoords.min()))
            width = int(np.ceil(scan.xcoords.max())) - left + 1
        shifts.append(origin - left)
        boxes.append(slice(origin, origin + width))
        origin += width + gap
    canvas: NDArray[np.complex64] | None = None
    if with_objects:
        objects = [scan.objectGuess for scan in scans if scan.objectGuess is not None]
        canvas = np.ones((max(len(array) for array in objects), origin), dtype=np.complex64)
        for array, box in zip(objects, boxes, strict=True):
            canvas[: len(array), box] = array
    joined = RawData(
        xcoords=np.concatenate([scan.xcoords + shift for scan, shift in zip(scans, shifts, strict=True)]),
        ycoords=np.concatenate([scan.ycoords for scan in scans]),
        diff3d=large_arrays.concatenated([scan.diff3d for scan in scans], PATTERNS),
        probeGuess=scans[0].probeGuess,
        objectGuess=canvas,
        scan_index=_numbered(scans),
        bad_pixels=np.any([scan.bad_pixels for scan in scans], axis=0),
        exposures=np.concatenate([scan.exposures for scan in scans]),
        domain="amplitude",
        # each of them has been examined as it was read
        examination=ExaminationConfig(mask_pixels=False, centre_patterns=False, refuse=False),
    )
    joined.findings = sum((scan.findings for scan in scans), Report())
    return joined


def _numbered(scans: Sequence[RawData]) -> NDArray[np.int64]:
    """``scan_index`` of several scans, counted on from one to the next: files may share numbers."""
    numbers, count = [], 0
    for scan in scans:
        known, number = np.unique(scan.scan_index, return_inverse=True)
        numbers.append(number + count)
        count += len(known)
    return np.concatenate(numbers).astype(np.int64)


def require_same(first: RawData, first_name: str, other: RawData, other_name: str) -> None:
    """Raise ``ValueError`` unless two scans have patterns of one size, and the same probe."""
    require_one_size({first_name: first, other_name: other})
    if not _same_probe(first, other):
        raise ValueError(
            f"{first_name} and {other_name} hold different probes: one model learns one probe. Keep the "
            "scans of one probe in the directory."
        )


def _same_probe(first: RawData, other: RawData) -> bool:
    return first.probeGuess.shape == other.probeGuess.shape and np.allclose(
        first.probeGuess, other.probeGuess, rtol=1e-3, atol=1e-3 * float(np.abs(first.probeGuess).max())
    )


def require_object(raw: RawData, source: str) -> None:
    """Raise ``ValueError`` unless the scan comes with an object that patches can be learnt from."""
    guess = raw.objectGuess
    remedy = (
        "Supervised training needs a known object: reconstruct the scan first (PINN or an iterative "
        "algorithm) and export training data from that product, or choose the reconstructor PINN."
    )
    if guess is None:
        raise ValueError(f"The training data ({source}) hold no object. {remedy}")
    if float(np.abs(guess - guess.mean()).max()) <= 1e-3 * max(float(np.abs(guess).max()), 1e-30):
        raise ValueError(f"The object in the training data ({source}) is flat. {remedy}")
