"""What the engines' workflows have in common: data in whatever shape, and patches to one image.

Data may be this package's :class:`PtychoDataContainer`, a :class:`RawData` scan (grouped here), or a plain
mapping with ``X`` (B, N, N, C) amplitudes, ``coords_relative`` (B, 1, 2, C) and, optionally, ``Y``
(B, N, N, C) complex object patches, ``probe``, ``bad_pixels`` and ``coords_offsets``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import ExecutionConfig, InferenceConfig, ModelConfig, TrainingConfig, to_dict
from ..data.assembly import assemble
from ..data.examination import ExaminationConfig
from ..data.examination.scan import examine_scan
from ..data.grouping import PtychoDataContainer
from ..data.mapping import MappedGroups, choose_groups, groups_from_mapping
from ..data.raw import RawData
from ..files import replacing
from .base import ModelDescription, ModelFileError, ModelState, Prediction
from .conversion import read_model
from .physics import other_exposure
from .registry import guess_engine

logger = logging.getLogger(__name__)

MODELS = ("diffraction_to_obj", "autoencoder")
"""The models of a bundle: patches from patterns, and the trained whole, physics included."""

MODEL_FILES = ("wts.h5.zip", "model.ckpt", "model.wts.h5.zip")
"""What the engines' workflows, and Ptychodus, leave in a run's output directory."""

Data = PtychoDataContainer | RawData | Mapping[str, Any]


def as_container(data: Data, config: TrainingConfig) -> PtychoDataContainer:
    """``data`` as grouped data for ``config``; see the module's docstring for what is accepted."""
    if isinstance(data, PtychoDataContainer):
        return data
    if isinstance(data, RawData):
        data = examined(data)
        if config.n_subsample is not None:
            data = data.subsample(config.n_subsample, config.seed)
        return grouped(data, config, config.n_groups)
    if isinstance(data, Mapping):
        groups = groups_from_mapping(data)
        chosen = choose_groups(
            len(groups),
            groups.gridsize**2,
            config.n_groups,
            config.n_subsample,
            seed=config.seed,
            sequential=config.sequential_sampling,
        )
        return groups if len(chosen) == len(groups) else groups.subset(chosen)
    raise TypeError(f"Expected grouped data, RawData or a mapping with 'X', got {type(data).__name__}.")


def examined(raw: RawData) -> RawData:
    """The scan as it can be computed with; what was found is logged.

    Grouped data are taken as they are: whoever has grouped a scan by hand may know better.

    Raises
    ------
    ExaminationError
        If the scan would give a wrong result.
    """
    scan, report = examine_scan(raw, ExaminationConfig())
    report.log(logger)
    return scan


def grouped(raw: RawData, config: TrainingConfig, count: int | None) -> PtychoDataContainer:
    """``count`` groups (None: one per pattern) of the patterns in ``raw``, as ``config`` has them."""
    return raw.generate_grouped_data(
        config.model.N,
        config.neighbor_count,
        count,
        gridsize=config.model.gridsize,
        seed=config.seed,
        sequential=config.sequential_sampling,
    )


def as_containers(
    train: Data, test: Data | None, config: TrainingConfig
) -> tuple[PtychoDataContainer, PtychoDataContainer | None]:
    """Training and test data as grouped data; a ``ValueError`` if they do not fit each other."""
    container = as_container(train, config)
    if test is None:
        return container, None
    other = as_container(test, config)
    require_alike(container, other)
    return container, other


def require_alike(train: PtychoDataContainer, test: PtychoDataContainer) -> None:
    """Raise ``ValueError`` unless a model of the training data can be applied to the test data."""
    if (test.N, test.gridsize) != (train.N, train.gridsize):
        raise ValueError(
            f"The test data have N = {test.N}, gridsize = {test.gridsize}, the training data "
            f"N = {train.N}, gridsize = {train.gridsize}: make them agree."
        )


def training_data(
    train_data: Data | None, test_data: Data | None, config: TrainingConfig
) -> tuple[Data, Data | None]:
    """The data, read from the NPZ files that ``config`` names where they are None; scans are grouped.

    Grouped data and mappings are returned as they are.

    Raises
    ------
    FileNotFoundError
        If there are no training data, or a file that the configuration names is missing.
    """
    if train_data is None:
        if config.train_data_file is None:
            raise FileNotFoundError("There are no training data: give train_data, or set train_data_file.")
        train_data = RawData.from_file(config.train_data_file)
    if test_data is None and config.test_data_file is not None:
        test_data = RawData.from_file(config.test_data_file)
    train = as_container(train_data, config) if isinstance(train_data, RawData) else train_data
    test = as_container(test_data, config) if isinstance(test_data, RawData) else test_data
    return train, test


def require_window(window: int, size: int) -> None:
    """Raise ``ValueError`` unless ``window`` pixels of a patch of ``size`` can be stitched (0: all)."""
    if not 0 <= window <= size:
        raise ValueError(f"M = {window} is not valid: use 1 to {size}, or 0 for whole patches.")


def with_images(
    results: dict[str, Any],
    config: TrainingConfig,
    predict: Callable[[PtychoDataContainer], Prediction],
    *,
    window: int,
    flip_x: bool,
    flip_y: bool,
    transpose: bool,
) -> tuple[NDArray[np.float32], NDArray[np.float32], dict[str, Any]]:
    """Amplitude and phase of the test data (else of the training data), and ``results`` with both of them.

    The stitched object is transposed, then mirrored; see :func:`stitched` for ``window``.
    """
    # as they were trained on, where the training says so: grouped once more, they could be other groups
    train, test = results.get("groups") or as_containers(
        results["train_container"], results["test_container"], config
    )
    container = train if test is None else test
    image, _ = stitched(predict(container), container, window)
    if transpose:
        image = image.T
    if flip_x:
        image = image[:, ::-1]
    if flip_y:
        image = image[::-1]
    amplitude, phase = np.abs(image), np.angle(image)
    return amplitude, phase, {**results, "obj": image, "recon_amp": amplitude, "recon_phase": phase}


def stitched(
    prediction: Prediction, container: PtychoDataContainer, window: int = 0
) -> tuple[NDArray[np.complex64], NDArray[np.float64]]:
    """Object on a canvas that just holds the scan, and ``[x, y]`` of its first pixel.

    Each patch takes part with its central ``window`` × ``window`` pixels (0: all), weighted by illumination.
    """
    if isinstance(container, MappedGroups) and not container.located:
        raise ValueError(
            "The mapping does not say where its groups lie, so they cannot be stitched: add "
            "'coords_offsets', (B, 1, 2, 1) [x, y] pixels."
        )
    size = container.N
    window = window or size
    weight = (np.abs(prediction.probe) ** 2).sum(0)
    inside = slice((size - window) // 2, (size - window) // 2 + window)
    masked = np.zeros_like(weight)
    masked[inside, inside] = weight[inside, inside]
    origin = np.floor(container.coords.min(0)) - size // 2
    coords = container.coords - origin
    width, height = np.ceil(coords.max(0)).astype(int) + size // 2 + 1
    canvas = assemble(
        prediction.patches, container.nn_indices, coords, (height, width), masked, prediction.arithmetic
    )
    return canvas.object, origin


def require_as_asked(
    config: InferenceConfig, description: ModelDescription, path: Path, engine: str, *, any_size: bool = False
) -> None:
    """Raise unless the model in ``path`` is the one, and ``engine`` the backend, that ``config`` asks for.

    What ``config`` has at its default it does not ask for: the model file says how its model is made, and
    whoever calls an engine's own function has named the engine. With ``any_size``, N is not compared: a model
    for any probe is applied to patterns of any N.

    Raises
    ------
    ModelFileError
        If ``config.model`` is set, and differs from the model of the file in N or gridsize, or in another
        field that is set; the message names the field.
    ValueError
        If ``config.backend`` is set to another engine.
    """
    if config.backend not in (engine, InferenceConfig.backend):
        raise ValueError(
            f"InferenceConfig.backend = {config.backend!r}, but a function of the engine {engine!r} is "
            "called: leave backend at its default, or call that engine's function or the dispatcher."
        )
    asked, there, unset = to_dict(config.model), to_dict(description.model), to_dict(ModelConfig())
    if asked == unset:
        return
    for name, value in asked.items():
        says_something = name in ("N", "gridsize") or value != unset[name]
        if says_something and value != there[name] and not (any_size and name == "N"):
            raise ModelFileError(
                f'"{path}" was trained for N = {there["N"]}, gridsize = {there["gridsize"]}, with {name} = '
                f"{there[name]!r}, but InferenceConfig.model.{name} = {value!r} is asked for. Leave model at "
                "its default to take it from the file, use data of that kind, or train another model."
            )


def require_untouched(config: InferenceConfig, names: Sequence[str], where: str) -> None:
    """Raise ``ValueError`` if one of the fields ``names``, which have no meaning in ``where``, is set."""
    unset = InferenceConfig()
    for name in names:
        if getattr(config, name) != getattr(unset, name):
            raise ValueError(
                f"InferenceConfig.{name} = {getattr(config, name)!r} is not supported {where}: leave it at "
                f"its default, {getattr(unset, name)!r}."
            )


def reconstruct_cdi(
    engine: str,
    predict: Callable[[Path, PtychoDataContainer, ExecutionConfig], Prediction],
    config: InferenceConfig,
    execution: ExecutionConfig | None,
    file_name: str,
) -> tuple[NDArray[np.complex64], dict[str, Any]]:
    """Apply ``config.model_path`` (see :func:`model_file`) to ``config.test_data_file``, training data.

    ``engine`` is the name of the one whose ``predict`` applies it.

    Leaves ``reconstruction.npz`` in ``config.output_dir``: ``object`` (H, W) complex64, ``origin`` ``[x, y]``
    of its first pixel in the pixels of the scan's positions, ``probe``, and, with ``debug``, ``patches``.
    Returns the object, and what the file holds besides it.
    """
    if config.model_path is None or config.test_data_file is None:
        raise FileNotFoundError("There is nothing to reconstruct: set model_path and test_data_file.")
    path = model_file(config.model_path, file_name)
    description = guess_engine(path).describe(path)
    require_as_asked(config, description, path, engine, any_size=description.data.any_probe)
    raw = examined(RawData.from_file(config.test_data_file))
    if config.n_subsample is not None:
        raw = raw.subsample(config.n_subsample, config.subsample_seed)
    container = raw.generate_grouped_data(
        raw.N if config.model == ModelConfig() else config.model.N,
        config.neighbor_count,
        config.n_groups,
        gridsize=description.model.gridsize,
        seed=config.subsample_seed,
    )
    finding = other_exposure(description.data, container)
    if finding is not None:
        logger.info("%s", finding.text)
    prediction = predict(path, container, execution or ExecutionConfig())
    canvas, origin = stitched(prediction, container)
    results: dict[str, Any] = {"origin": origin, "probe": prediction.probe}
    if config.debug:
        results["patches"] = prediction.patches
    output = Path(config.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    with replacing(output / "reconstruction.npz") as file:
        np.savez(file, object=canvas, **results)
    return canvas, results


def model_file(path: str | Path, file_name: str) -> Path:
    """A file as it is; in a directory ``file_name``, or whichever of :data:`MODEL_FILES` is there."""
    path = Path(path)
    if not path.is_dir():
        return path
    names = (file_name, *MODEL_FILES)
    return next((path / name for name in names if (path / name).is_file()), path / file_name)


def open_bundle(
    bundle_dir: str | Path,
    config: TrainingConfig | InferenceConfig | None,
    model_name: str,
    file_name: str,
    engine: str,
) -> tuple[Path, ModelState]:
    """The model in a directory (``file_name``, else one of :data:`MODEL_FILES`) or file, checked.

    Raises
    ------
    ValueError
        If there is no model of the name ``model_name``, or ``config.model_path`` is another one.
    FileNotFoundError
        If there is no file.
    ModelFileError
        If it is no model, or ``config`` asks for another one, see :func:`require_as_asked`.
    """
    if model_name not in MODELS:
        raise ValueError(f"Unknown model {model_name!r}: use one of {', '.join(map(repr, MODELS))}.")
    path = model_file(bundle_dir, file_name)
    state = read_model(path)
    model = state.description.model
    if state.description.data.any_probe:
        logger.warning(
            '"%s" is a model for any probe: it is opened with the first one that it has learnt from. To '
            "apply it to a scan with that scan's own, use reconstruct_cdi, Engine.predict or Ptychodus.",
            path,
        )
    if isinstance(config, InferenceConfig):
        require_as_asked(config, state.description, path, engine)
        if config.model_path is not None and not _same_file(model_file(config.model_path, file_name), path):
            raise ValueError(
                f'InferenceConfig.model_path = "{config.model_path}" is not "{path}", the model that '
                "is to be opened: make them agree, or leave model_path at None."
            )
    elif config is not None and (model.N, model.gridsize) != (config.model.N, config.model.gridsize):
        raise ModelFileError(
            f'"{path}" was trained for N = {model.N}, gridsize = {model.gridsize}, but '
            f"N = {config.model.N}, gridsize = {config.model.gridsize} is asked for. Use data of that size "
            "or train another model."
        )
    return path, state


def _same_file(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def parameters(state: ModelState, config: TrainingConfig | InferenceConfig | None = None) -> dict[str, Any]:
    """Configuration, frozen statistics and history as plain dictionaries.

    An InferenceConfig that the model is opened with is ``inference_config`` among them: opening a model has
    no data to apply the rest of it to, and whoever applies the model finds it there.
    """
    description = state.description
    asked = {"inference_config": to_dict(config)} if isinstance(config, InferenceConfig) else {}
    return {
        **asked,
        "model_config": to_dict(description.model),
        "data_config": to_dict(description.data),
        "training_config": to_dict(state.training),
        "history": {name: list(values) for name, values in description.history.items()},
        "version": description.version,
    }
