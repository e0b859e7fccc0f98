"""What the engines' functions for scripts (``components.py``) have in common.

A training, an inference and the plugin use none of it: they begin with grouped data, and end with patches.

Data may be this package's :class:`PtychoDataContainer`, a :class:`RawData` scan (grouped here), or a plain
mapping with ``X`` (B, N, N, C) amplitudes, ``coords_relative`` (B, 1, 2, C) and, optionally, ``Y``
(B, N, N, C) complex object patches, ``probe``, ``bad_pixels`` and ``coords_offsets``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import ExecutionConfig, InferenceConfig, ModelConfig, TrainingConfig, to_dict
from ..data.container import PtychoDataContainer
from ..data.examination import ExaminationConfig
from ..data.examination.scan import examine_scan
from ..data.mapping import choose_groups, container_from_mapping
from ..data.raw import RawData
from ..files import replacing
from .base import ModelFileError, ModelState, Prediction
from .conversion import read_model
from .inference_checks import require_as_asked
from .model_file import MODELS
from .physics import other_exposure, require_alike
from .registry import find_model_of_run, guess_engine

logger = logging.getLogger(__name__)

Data = PtychoDataContainer | RawData | Mapping[str, Any]


def as_container(data: Data, config: TrainingConfig) -> PtychoDataContainer:
    """``data`` as grouped data for ``config``; see the module's docstring for what is accepted."""
    if isinstance(data, PtychoDataContainer):
        return data
    if isinstance(data, RawData):
        data = examined(data)
        if config.n_subsample is not None:
            data = data.subsample(config.n_subsample, config.seed)
        return data.grouped_for(config, config.n_groups)
    if isinstance(data, Mapping):
        container = container_from_mapping(data)
        chosen = choose_groups(
            len(container),
            container.gridsize**2,
            config.n_groups,
            config.n_subsample,
            seed=config.seed,
            sequential=config.sequential_sampling,
        )
        return container if len(chosen) == len(container) else container.subset(chosen)
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

    The stitched object is transposed, then mirrored; see :meth:`.Prediction.stitch` for ``window``.
    """
    # as they were trained on, where the training says so: grouped once more, they could be other groups
    train, test = results.get("containers") or as_containers(
        results["train_container"], results["test_container"], config
    )
    container = train if test is None else test
    image = predict(container).stitch(container, window=window).object
    if transpose:
        image = image.T
    if flip_x:
        image = image[:, ::-1]
    if flip_y:
        image = image[::-1]
    amplitude, phase = np.abs(image), np.angle(image)
    return amplitude, phase, {**results, "obj": image, "recon_amp": amplitude, "recon_phase": phase}


def reconstruct_cdi(
    engine: str,
    predict: Callable[[Path, PtychoDataContainer, ExecutionConfig], Prediction],
    config: InferenceConfig,
    execution: ExecutionConfig | None,
    file_name: str,
) -> tuple[NDArray[np.complex64], dict[str, Any]]:
    """Apply the model in ``config.model_path``, see :func:`.find_model_of_run`, to ``config.test_data_file``.

    ``engine`` is the name of the one whose ``predict`` applies it.

    Leaves ``reconstruction.npz`` in ``config.output_dir``: ``object`` (H, W) complex64, ``origin`` ``[x, y]``
    of its first pixel in the pixels of the scan's positions, ``probe``, and, with ``debug``, ``patches``.
    Returns the object, and what the file holds besides it.
    """
    if config.model_path is None or config.test_data_file is None:
        raise FileNotFoundError("There is nothing to reconstruct: set model_path and test_data_file.")
    path = find_model_of_run(config.model_path, file_name)
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
    canvas = prediction.stitch(container)
    results: dict[str, Any] = {"origin": canvas.origin, "probe": prediction.probe}
    if config.debug:
        results["patches"] = prediction.patches
    output = Path(config.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    with replacing(output / "reconstruction.npz") as file:
        np.savez(file, object=canvas.object, **results)
    return canvas.object, results


def open_bundle(
    bundle_dir: str | Path,
    config: TrainingConfig | InferenceConfig | None,
    model_name: str,
    file_name: str,
    engine: str,
) -> tuple[Path, ModelState]:
    """The model in a directory (see :func:`.find_model_of_run`) or file, checked.

    Raises
    ------
    ValueError
        If there is no model of the name ``model_name``, or ``config.model_path`` is another one.
    FileNotFoundError
        If there is no file.
    ModelFileError
        If it is no model, or ``config`` asks for another one, see :func:`.require_as_asked`.
    """
    if model_name not in MODELS:
        raise ValueError(f"Unknown model {model_name!r}: use one of {', '.join(map(repr, MODELS))}.")
    path = find_model_of_run(Path(bundle_dir), file_name)
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
        if config.model_path is not None and not _same_file(
            find_model_of_run(config.model_path, file_name), path
        ):
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
