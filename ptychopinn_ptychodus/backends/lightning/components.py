"""The Lightning workflow in the shape that scripts use: loaders, training, a whole run, opening a model.

Containers may be this package's :class:`PtychoDataContainer`, a :class:`RawData` scan (grouped here), or a
plain mapping with ``X`` (B, N, N, C) amplitudes, ``coords_relative`` (B, 1, 2, C) and, optionally, ``Y``
(B, N, N, C) complex object patches, ``probe``, ``bad_pixels`` and ``coords_offsets``.

Whoever calls one of these functions has chosen the engine: a configuration's ``backend`` is for the
dispatcher in front of the engines.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...config import ExecutionConfig, InferenceConfig, TrainingConfig
from ...data.assembly import assemble
from ...data.grouping import PtychoDataContainer
from ...data.mapping import MappedGroups, groups_from_mapping
from ...data.raw import RawData
from ...files import replacing
from .engine import MODEL_NAME, LightningEngine

if TYPE_CHECKING:
    from .module import PtychoPINN_Lightning

logger = logging.getLogger(__name__)

Data = PtychoDataContainer | RawData | Mapping[str, Any]


def as_container(data: Data, config: TrainingConfig) -> PtychoDataContainer:
    """``data`` as grouped data for ``config``; see the module's docstring for what is accepted."""
    if isinstance(data, PtychoDataContainer):
        return data
    if isinstance(data, RawData):
        if config.n_subsample is not None:
            data = data.subsample(config.n_subsample, config.subsample_seed)
        return data.generate_grouped_data(
            config.model.N,
            config.neighbor_count,
            config.n_groups,
            gridsize=config.model.gridsize,
            seed=config.subsample_seed,
            sequential=config.sequential_sampling,
        )
    if isinstance(data, Mapping):
        return groups_from_mapping(data)
    raise TypeError(f"Expected grouped data, RawData or a mapping with 'X', got {type(data).__name__}.")


def _build_lightning_dataloaders(
    train_container: Data,
    test_container: Data | None,
    config: TrainingConfig,
    execution_config: ExecutionConfig | None = None,
) -> tuple[Any, Any]:
    """Training and validation loaders (the latter None without a test container) of TensorDict batches."""
    LightningEngine().require()
    from .loaders import GroupDataset, build_loader

    execution = execution_config or ExecutionConfig()
    train = as_container(train_container, config)
    scale = train.input_scale
    with_object = config.realspace_mae_weight > 0
    train_loader = build_loader(
        GroupDataset(train, scale, with_object=with_object),
        config.batch_size,
        execution,
        shuffle=not config.sequential_sampling,
        seed=config.subsample_seed,
    )
    if test_container is None:
        return train_loader, None
    # the test data are seen through the training data's normalisation: it is part of the model
    dataset = GroupDataset(as_container(test_container, config), scale, with_object=with_object)
    return train_loader, build_loader(dataset, config.batch_size, execution)


def _train_with_lightning(
    train_container: Data,
    test_container: Data | None,
    config: TrainingConfig,
    execution_config: ExecutionConfig | None = None,
    callbacks: Sequence[Any] = (),
) -> dict[str, Any]:
    """Train a fresh model with ``lightning.pytorch.Trainer``.

    Returns
    -------
    ``history`` (``train_loss`` and ``val_loss`` lists), ``train_container``, ``test_container``, ``models``
    (with ``lightning_module``, at its best state) and ``trainer``.

    Raises
    ------
    RuntimeError
        If the framework is missing or training fails; the message says what to do.
    ValueError
        If data and configuration do not fit each other.
    """
    LightningEngine().require()
    from lightning.pytorch import seed_everything

    from .module import PtychoPINN_Lightning
    from .training import fit

    execution = execution_config or ExecutionConfig()
    train = as_container(train_container, config)
    test = None if test_container is None else as_container(test_container, config)
    if test is not None and (test.N, test.gridsize) != (train.N, train.gridsize):
        raise ValueError(
            f"The test data have N = {test.N}, gridsize = {test.gridsize}, the training data N = {train.N}, "
            f"gridsize = {train.gridsize}: make them agree."
        )
    if config.subsample_seed is not None:
        seed_everything(config.subsample_seed, workers=True, verbose=False)
    module = PtychoPINN_Lightning.for_data(train, config, execution)
    loaders = _build_lightning_dataloaders(train, test, config, execution)
    trainer = fit(module, *loaders, config, execution, callbacks)
    return {
        "history": {name: list(values) for name, values in module.history.items()},
        "train_container": train,
        "test_container": test,
        "models": {"lightning_module": module, "diffraction_to_obj": module},
        "trainer": trainer,
    }


def train_cdi_model_torch(
    train_data: Data | None,
    test_data: Data | None,
    config: TrainingConfig,
    execution_config: ExecutionConfig | None = None,
) -> dict[str, Any]:
    """As :func:`_train_with_lightning`, and leave the model in ``config.output_dir``.

    Data that are None are read from ``config.train_data_file`` and ``config.test_data_file``, NPZ files.

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
    results = _train_with_lightning(train_data, test_data, config, execution_config)
    from .checkpoint import save_model

    results["model_path"] = save_model(
        results["models"]["lightning_module"], Path(config.output_dir) / MODEL_NAME
    )
    return results


def run_cdi_example_torch(
    train_data: Data | None,
    test_data: Data | None,
    config: TrainingConfig,
    flip_x: bool = False,
    flip_y: bool = False,
    transpose: bool = False,
    M: int = 20,
    do_stitching: bool = False,
    execution_config: ExecutionConfig | None = None,
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None, dict[str, Any]]:
    """Train, and with ``do_stitching`` reconstruct the test data (else the training data).

    Parameters
    ----------
    flip_x, flip_y, transpose
        Applied to the stitched object, in this order: transpose, then flips.
    M
        Stitch the central M × M pixels of each patch; 0 stands for the whole patch, weighted by illumination.

    Returns
    -------
    Amplitude and phase images (None without stitching) and the results of :func:`train_cdi_model_torch`.
    """
    size = config.model.N
    if not 0 <= M <= size:
        raise ValueError(f"M = {M} is not valid: use 1 to {size}, or 0 for whole patches.")
    results = train_cdi_model_torch(train_data, test_data, config, execution_config)
    if not do_stitching:
        return None, None, results
    container = results["test_container"] or results["train_container"]
    execution = execution_config or ExecutionConfig()
    canvas = _stitched(results["models"]["lightning_module"], container, execution, M or size)[0]
    if transpose:
        canvas = canvas.T
    if flip_x:
        canvas = canvas[:, ::-1]
    if flip_y:
        canvas = canvas[::-1]
    amplitude, phase = np.abs(canvas), np.angle(canvas)
    results.update(obj=canvas, recon_amp=amplitude, recon_phase=phase)
    return amplitude, phase, results


def reconstruct_cdi_torch(
    config: InferenceConfig, execution_config: ExecutionConfig | None = None
) -> tuple[NDArray[np.complex64], dict[str, Any]]:
    """Apply ``config.model_path`` to the scan in ``config.test_data_file``, an NPZ file.

    Leaves ``reconstruction.npz`` in ``config.output_dir``: ``object`` (H, W) complex64, ``origin`` ``[x, y]``
    of its first pixel in the pixels of the scan's positions, ``probe``, and, with ``debug``, ``patches``.

    Returns
    -------
    The object, and what the file holds besides it.

    Raises
    ------
    FileNotFoundError
        If the configuration names no model or no data, or they are not there.
    """
    if config.model_path is None or config.test_data_file is None:
        raise FileNotFoundError("There is nothing to reconstruct: set model_path and test_data_file.")
    module, _ = load_inference_bundle_torch(config.model_path)
    raw = RawData.from_file(config.test_data_file)
    if config.n_subsample is not None:
        raw = raw.subsample(config.n_subsample, config.subsample_seed)
    model = module.model_config
    container = raw.generate_grouped_data(
        raw.N, config.neighbor_count, config.n_groups, gridsize=model.gridsize, seed=config.subsample_seed
    )
    canvas, origin, patches = _stitched(module, container, execution_config or ExecutionConfig(), model.N)
    results = {"origin": origin, "probe": module.counts_probe().detach().cpu().numpy()}
    if config.debug:
        results["patches"] = patches
    output = Path(config.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    with replacing(output / "reconstruction.npz") as file:
        np.savez(file, object=canvas, **results)
    return canvas, results


def _stitched(
    module: PtychoPINN_Lightning, container: PtychoDataContainer, execution: ExecutionConfig, window: int
) -> tuple[NDArray[np.complex64], NDArray[np.float64], NDArray[np.complex64]]:
    """Object of a canvas that just holds the scan, ``[x, y]`` of its first pixel, and the patches.

    Of each patch the central ``window`` × ``window`` pixels are used.
    """
    from .inference import predict_patches

    if isinstance(container, MappedGroups) and not container.located:
        raise ValueError(
            "The mapping does not say where its groups lie, so they cannot be stitched: add "
            "'coords_offsets', (B, 1, 2, 1) pixels."
        )
    size = container.N
    patches = predict_patches(module, container, execution)
    weight = (np.abs(module.counts_probe().detach().cpu().numpy()) ** 2).sum(0)
    inside = slice((size - window) // 2, (size - window) // 2 + window)
    masked = np.zeros_like(weight)
    masked[inside, inside] = weight[inside, inside]
    origin = np.floor(container.coords.min(0)) - size // 2
    coords = container.coords - origin
    width, height = np.ceil(coords.max(0)).astype(int) + size // 2 + 1
    canvas = assemble(patches, container.nn_indices, coords, (height, width), masked)
    return canvas.object, origin, patches


def load_inference_bundle_torch(
    bundle_dir: str | Path,
    config: TrainingConfig | InferenceConfig | None = None,
    model_name: str = "diffraction_to_obj",
) -> tuple[Any, dict[str, Any]]:
    """Open a trained model: ``(module, params)``.

    ``params`` holds the configuration and frozen statistics as plain dictionaries.

    Raises
    ------
    FileNotFoundError
        If ``bundle_dir`` holds no ``model.ckpt`` (it may also be the file itself).
    ModelFileError
        If the file is no model of this engine, or ``config`` asks for another N or gridsize.
    """
    if model_name != "diffraction_to_obj":
        raise ValueError(f"Unknown model {model_name!r}: the Lightning engine offers 'diffraction_to_obj'.")
    LightningEngine().require()
    from .checkpoint import open_model

    path = Path(bundle_dir)
    path = path / MODEL_NAME if path.is_dir() else path
    module = open_model(path, None if config is None else config.model)
    return module, dict(module.hparams)
