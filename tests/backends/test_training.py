"""The workflow that scripts call: loaders, training, a whole run, opening a model."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from ptychopinn_ptychodus import params
from ptychopinn_ptychodus.backends.base import EpochReport, ModelFileError, Progress
from ptychopinn_ptychodus.backends.lightning import checkpoint
from ptychopinn_ptychodus.backends.lightning.components import (
    _build_lightning_dataloaders,
    _train_with_lightning,
    load_inference_bundle_torch,
    reconstruct_cdi_torch,
    run_cdi_example_torch,
    train_cdi_model_torch,
)
from ptychopinn_ptychodus.backends.lightning.engine import LightningEngine
from ptychopinn_ptychodus.backends.lightning.inference import predict_patches
from ptychopinn_ptychodus.backends.lightning.module import PtychoPINN_Lightning
from ptychopinn_ptychodus.config import ExecutionConfig, InferenceConfig, ModelConfig, TrainingConfig
from ptychopinn_ptychodus.data import metrics
from ptychopinn_ptychodus.data.raw import RawData

QUICK = ExecutionConfig(accelerator="cpu", learning_rate=2e-3, scheduler="one_cycle", logger_backend="none")


def _config(tmp_path: Path, gridsize: int = 1, **changes: object) -> TrainingConfig:
    model = ModelConfig(gridsize=gridsize, architecture="unrolled", n_filters_scale=1)
    values = {"model": model, "nepochs": 2, "batch_size": 8, "subsample_seed": 0, "n_groups": 36}
    values |= {"output_dir": tmp_path / "out", "backend": "pytorch"} | changes
    return TrainingConfig(**values)  # type: ignore[arg-type]


def _mapping(scan: RawData, channels: int = 4) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    chosen = rng.integers(0, len(scan), (6, channels))
    positions = np.stack((scan.xcoords, scan.ycoords), -1)[chosen]
    relative = (positions - positions.mean(1, keepdims=True)).transpose(0, 2, 1)[:, None]
    return {"X": np.moveaxis(scan.diff3d[chosen], 1, -1), "coords_relative": relative}


def test_batches_are_tensordicts_of_the_documented_shapes(scan: RawData, tmp_path: Path) -> None:
    train, validation = _build_lightning_dataloaders(scan, None, _config(tmp_path, gridsize=2), QUICK)
    assert validation is None
    batch = next(iter(train))
    assert isinstance(batch, TensorDict)
    assert batch["amplitude"].shape == (8, 4, 64, 64)
    assert batch["offsets"].shape == (8, 4, 2)
    torch.testing.assert_close(batch["offsets"].mean(1), torch.zeros(8, 2), atol=1e-4, rtol=0)


def test_sequential_sampling_keeps_the_order_and_seeds_repeat_the_shuffle(
    scan: RawData, tmp_path: Path
) -> None:
    def first(config: TrainingConfig) -> torch.Tensor:
        loader, _ = _build_lightning_dataloaders(scan, None, config, QUICK)
        return next(iter(loader))["amplitude"][:, 0]

    ordered = first(_config(tmp_path, sequential_sampling=True))
    scale = scan.generate_grouped_data(64, 4, None).input_scale
    np.testing.assert_allclose(ordered.numpy(), scan.diff3d[:8] * scale, rtol=1e-6)
    assert torch.equal(first(_config(tmp_path)), first(_config(tmp_path)))
    assert not torch.equal(first(_config(tmp_path)), first(_config(tmp_path, subsample_seed=1)))


def test_validation_data_are_seen_through_the_training_normalisation(
    make_scan: Callable[..., RawData], scan: RawData, tmp_path: Path
) -> None:
    brighter = make_scan(photons=4e6)
    _, validation = _build_lightning_dataloaders(scan, brighter, _config(tmp_path), QUICK)
    power = next(iter(validation))["amplitude"].square().sum((-2, -1)).mean()
    assert float(power) == pytest.approx(4 * 32**2, rel=0.1)


def test_training_lowers_the_loss_and_returns_the_contracts_structure(scan: RawData, tmp_path: Path) -> None:
    train, validation = scan.split(0.2, seed=0)
    config = _config(tmp_path, nepochs=4, model=ModelConfig(n_filters_scale=1))
    results = _train_with_lightning(train, validation, config, QUICK)
    history = results["history"]
    assert len(history["train_loss"]) == len(history["val_loss"]) == 4
    assert history["train_loss"][-1] < 0.8 * history["train_loss"][0]
    assert {"history", "train_container", "test_container", "models", "trainer"} <= set(results)
    assert results["models"]["lightning_module"].data_config.N == 64
    assert {"model_config", "data_config", "training_config", "inference_config"} == set(
        results["models"]["lightning_module"].hparams
    )


def test_plain_mapping_trains_without_a_probe_and_says_what_it_assumed(
    scan: RawData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = _config(tmp_path, gridsize=2, nepochs=1, nphotons=3e5)
    results = _train_with_lightning(_mapping(scan), None, config, QUICK)
    assert "idealised disk" in caplog.text
    assert results["test_container"] is None
    assert results["history"]["val_loss"] == []
    # the mapping does not say how many photons there were: the configuration does
    assert results["models"]["lightning_module"].data_config.photons_per_pattern == 3e5


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("X", None, "'X'"),
        ("coords_relative", None, "'coords_relative'"),
        ("X", np.ones((2, 64, 32, 1)), r"\(2, 64, 32, 1\)"),
        ("X", -np.ones((6, 64, 64, 4)), "negative"),
        ("X", np.full((6, 64, 64, 4), np.nan), "NaN"),
        ("X", np.ones((6, 64, 64, 3)), "3 channels"),
        ("coords_relative", np.zeros((6, 2, 4)), r"\(6, 1, 2, 4\)"),
        ("probe", np.zeros((64, 64)), "probe"),
        ("Y", np.ones((6, 64, 64, 1)), "'Y'"),
    ],
)
def test_bad_mapping_is_refused_by_key(
    scan: RawData, tmp_path: Path, key: str, value: object, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        _train_with_lightning(_mapping(scan) | {key: value}, None, _config(tmp_path, gridsize=2), QUICK)


def test_supervised_training_approaches_the_known_object(scan: RawData, tmp_path: Path) -> None:
    config = _config(tmp_path, nepochs=3, nll_weight=0.0, realspace_mae_weight=1.0)
    losses = _train_with_lightning(scan, None, config, QUICK)["history"]["train_loss"]
    assert losses[-1] < 0.9 * losses[0]


def test_seeded_training_repeats(scan: RawData, tmp_path: Path) -> None:
    runs = [_train_with_lightning(scan, None, _config(tmp_path, nepochs=1), QUICK) for _ in range(2)]
    assert runs[0]["history"] == runs[1]["history"]


def test_config_and_legacy_dictionary_are_left_alone(scan: RawData, tmp_path: Path) -> None:
    config = _config(tmp_path, nepochs=1)
    before, params.cfg["N"] = replace(config), 999
    try:
        _train_with_lightning(scan, None, config, QUICK)
    finally:
        assert params.cfg.pop("N") == 999
    assert config == before


def test_whole_run_shows_the_object(make_scan: Callable[..., RawData], tmp_path: Path) -> None:
    scan = make_scan(count=10)
    config = _config(tmp_path, gridsize=2, nepochs=6, n_groups=100, batch_size=4)
    amplitude, phase, results = run_cdi_example_torch(
        scan, None, config, do_stitching=True, M=0, execution_config=QUICK
    )
    assert amplitude is not None
    assert phase is not None
    truth = scan.objectGuess
    assert truth is not None
    x0 = int(np.floor(scan.xcoords.min()) - 32)
    mask = np.zeros(truth.shape, bool)
    mask[30:90, 30:90] = True
    canvas = np.ones(truth.shape, complex)
    h, w = (min(canvas.shape[0] - x0, amplitude.shape[0]), min(canvas.shape[1] - x0, amplitude.shape[1]))
    canvas[x0 : x0 + h, x0 : x0 + w] = results["obj"][:h, :w]
    assert metrics.compare(canvas, truth, mask).complex_correlation_centred > 0.8
    flipped, *_ = run_cdi_example_torch(
        scan, None, config, True, False, True, 0, do_stitching=True, execution_config=QUICK
    )
    np.testing.assert_allclose(flipped, amplitude.T[:, ::-1], rtol=1e-4, atol=1e-4)


def test_model_left_by_a_run_opens_by_directory_and_by_file(scan: RawData, tmp_path: Path) -> None:
    config = _config(tmp_path, nepochs=1)
    results = train_cdi_model_torch(scan, None, config, QUICK)
    module, values = load_inference_bundle_torch(tmp_path / "out", config)
    assert results["model_path"] == tmp_path / "out" / "model.ckpt"
    assert values["data_config"]["input_scale"] == results["train_container"].input_scale
    assert load_inference_bundle_torch(tmp_path / "out" / "model.ckpt")[0].history == module.history
    with pytest.raises(FileNotFoundError, match=r"model\.ckpt"):
        load_inference_bundle_torch(tmp_path)
    with pytest.raises(ModelFileError, match="gridsize = 2"):
        load_inference_bundle_torch(tmp_path / "out", _config(tmp_path, gridsize=2))
    assert (
        load_inference_bundle_torch(tmp_path / "out", model_name="autoencoder")[0].history == module.history
    )
    with pytest.raises(ValueError, match=r"'encoder'.*'autoencoder'"):
        load_inference_bundle_torch(tmp_path / "out", model_name="encoder")


def test_data_files_of_the_configuration_are_read(scan: RawData, tmp_path: Path) -> None:
    train, test = scan.split(0.25, seed=0)
    assert test is not None
    train.to_file(tmp_path / "train.npz")
    test.to_file(tmp_path / "test.npz")
    files = {"train_data_file": tmp_path / "train.npz", "test_data_file": tmp_path / "test.npz"}
    results = train_cdi_model_torch(None, None, _config(tmp_path, nepochs=1, **files), QUICK)
    np.testing.assert_allclose(results["train_container"].amplitude, train.diff3d)
    assert len(results["history"]["val_loss"]) == 1
    with pytest.raises(FileNotFoundError, match="train_data_file"):
        train_cdi_model_torch(None, None, _config(tmp_path), QUICK)


def test_best_state_is_kept_and_not_the_last(
    scan: RawData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training that goes wrong after its first epochs must not cost the model that it had."""

    def spoil(module: PtychoPINN_Lightning) -> None:
        if module.current_epoch == 3:
            with torch.no_grad():
                module.log_scale += 1.0

    monkeypatch.setattr(PtychoPINN_Lightning, "on_train_epoch_start", spoil)
    train, validation = scan.split(0.25, seed=0)
    config = _config(tmp_path, nepochs=4)
    results = _train_with_lightning(train, validation, config, QUICK)
    module, history = results["models"]["lightning_module"], results["history"]["val_loss"]
    assert min(history) < history[-1], "training did not get worse, so this test shows nothing"
    _, loader = _build_lightning_dataloaders(train, results["test_container"], config, QUICK)
    module.eval()
    with torch.no_grad():
        sizes, losses = zip(*((len(b), float(module.loss(b))) for b in loader), strict=True)
    assert np.average(losses, weights=sizes) == pytest.approx(min(history), rel=1e-3)


def test_early_stopping_ends_training_that_does_not_improve(scan: RawData, tmp_path: Path) -> None:
    frozen = replace(QUICK, learning_rate=1e-12, scheduler="constant", early_stop_patience=2)
    results = _train_with_lightning(scan, None, _config(tmp_path, nepochs=30), frozen)
    assert len(results["history"]["train_loss"]) < 30


def test_stop_keeps_a_usable_model_and_reports_every_epoch(scan: RawData, tmp_path: Path) -> None:
    engine, reports = LightningEngine(), list[EpochReport]()
    train, config = scan.generate_grouped_data(64, 4, 36), _config(tmp_path, nepochs=50)
    result = engine.train(
        train,
        None,
        config,
        QUICK,
        model_path=tmp_path / "model.ckpt",
        report=reports.append,
        should_stop=lambda: len(reports) >= 2,
    )
    assert result.stopped
    assert [report.epoch for report in reports][:2] == [1, 2]
    assert reports[0].seconds_left > 0
    assert reports[0].patterns_per_second > 0
    assert len(reports) < 5
    patches = engine.predict(result.model_path, train, QUICK).patches
    assert np.isfinite(patches).all()


def test_stop_does_not_wait_for_a_validation_pass(
    scan: RawData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    validated: list[int] = []
    monkeypatch.setattr(PtychoPINN_Lightning, "validation_step", lambda *_: validated.append(1))
    train, validation = scan.split(0.5, seed=0)
    progress = Progress(should_stop=lambda: True)
    _train_with_lightning(train, validation, _config(tmp_path, batch_size=1), QUICK, progress)
    assert progress.stopped
    assert not validated


@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed"])
@pytest.mark.parametrize("architecture", ["cnn", "unrolled"])
def test_mixed_precision_trains_and_infers(
    scan: RawData, tmp_path: Path, precision: str, architecture: str
) -> None:
    model = ModelConfig(gridsize=2, architecture=architecture, n_filters_scale=1)
    mixed = replace(QUICK, precision=precision)
    results = _train_with_lightning(scan, None, _config(tmp_path, nepochs=1, model=model), mixed)
    module, container = results["models"]["lightning_module"], results["train_container"]
    exact = predict_patches(module, container, QUICK)
    rough = predict_patches(module, container, mixed)
    assert 0 < np.abs(rough - exact).mean() < 0.05 * np.abs(exact).mean()


def test_test_data_in_other_groups_are_refused(scan: RawData, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gridsize = 1, the training data"):
        _train_with_lightning(
            scan, scan.generate_grouped_data(64, 4, None), _config(tmp_path, gridsize=2), QUICK
        )


def test_inference_configuration_is_all_that_a_reconstruction_needs(scan: RawData, tmp_path: Path) -> None:
    train_cdi_model_torch(scan, None, _config(tmp_path, gridsize=2, nepochs=1), QUICK)
    scan.to_file(tmp_path / "test.npz")
    config = InferenceConfig(
        model_path=tmp_path / "out",
        test_data_file=tmp_path / "test.npz",
        output_dir=tmp_path / "result",
        n_subsample=30,
        n_groups=20,
        subsample_seed=0,
        debug=True,
    )
    object_, results = reconstruct_cdi_torch(config, QUICK)
    assert results["patches"].shape == (20, 4, 64, 64)
    with np.load(tmp_path / "result" / "reconstruction.npz") as file:
        np.testing.assert_array_equal(file["object"], object_)
        assert file["origin"][0] == pytest.approx(scan.xcoords.min() - 32, abs=1)
    with pytest.raises(FileNotFoundError, match="test_data_file"):
        reconstruct_cdi_torch(replace(config, test_data_file=None))


def test_groups_of_unknown_place_are_not_stitched(scan: RawData, tmp_path: Path) -> None:
    config = _config(tmp_path, gridsize=2, nepochs=1)
    with pytest.raises(ValueError, match="coords_offsets"):
        run_cdi_example_torch(_mapping(scan), None, config, do_stitching=True, execution_config=QUICK)
    with pytest.raises(ValueError, match="M = 65"):
        run_cdi_example_torch(scan, None, config, M=65, execution_config=QUICK)


def test_stop_before_the_first_epoch_still_leaves_a_model(scan: RawData, tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    train = scan.generate_grouped_data(64, 4, 36)
    LightningEngine().train(train, None, _config(tmp_path), QUICK, model_path=path, should_stop=lambda: True)
    assert checkpoint.read_state(path).description.data.N == 64


def test_stop_during_inference_is_an_interruption(scan: RawData, tmp_path: Path) -> None:
    train = scan.generate_grouped_data(64, 4, 36)
    engine, path = LightningEngine(), tmp_path / "model.ckpt"
    engine.train(train, None, _config(tmp_path, nepochs=1), QUICK, model_path=path)
    with pytest.raises(InterruptedError):
        engine.predict(path, train, QUICK, should_stop=lambda: True)


def test_diverged_training_says_what_to_lower(scan: RawData, tmp_path: Path) -> None:
    wild = replace(QUICK, learning_rate=1e30, scheduler="constant")
    with pytest.raises(RuntimeError, match="learning rate"):
        _train_with_lightning(scan, None, _config(tmp_path), wild)


def test_missing_accelerator_lists_those_that_are_there(scan: RawData, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has the accelerator whose absence is tested")
    with pytest.raises(RuntimeError, match=r"'cuda'.*cpu"):
        _train_with_lightning(scan, None, _config(tmp_path), replace(QUICK, accelerator="cuda"))


@pytest.mark.parametrize(("changes", "message"), [({"N": 128}, "N = 128"), ({"gridsize": 2}, "gridsize = 2")])
def test_data_that_do_not_fit_the_model_are_refused(
    scan: RawData, tmp_path: Path, changes: dict[str, int], message: str
) -> None:
    container = scan.generate_grouped_data(64, 4, None)
    config = _config(tmp_path)
    config = replace(config, model=replace(config.model, **changes))
    with pytest.raises(ValueError, match=message):
        _train_with_lightning(container, None, config, QUICK)


@pytest.mark.parametrize("scheduler", ["constant", "plateau", "cosine", "one_cycle"])
def test_every_schedule_runs(scan: RawData, tmp_path: Path, scheduler: str) -> None:
    results = _train_with_lightning(
        scan, None, _config(tmp_path, nepochs=2), replace(QUICK, scheduler=scheduler)
    )
    rate = results["trainer"].optimizers[0].param_groups[0]["lr"]
    assert (rate < 0.1 * QUICK.learning_rate) == (scheduler in ("cosine", "one_cycle"))


def test_csv_logger_and_checkpoints_lie_in_the_output_directory(scan: RawData, tmp_path: Path) -> None:
    train_cdi_model_torch(scan, None, _config(tmp_path), replace(QUICK, logger_backend="csv"))
    assert list((tmp_path / "out").rglob("metrics.csv"))
    best = list((tmp_path / "out" / "checkpoints").glob("best-*.ckpt"))
    assert len(best) == 1
    assert checkpoint.read_state(best[0]).description.history["train_loss"], (
        "a killed run's best state opens alone"
    )


def test_engine_imports_no_framework_until_it_is_used() -> None:
    code = (
        "import sys\n"
        "from ptychopinn_ptychodus.backends.registry import get_engine, list_engines\n"
        "engine = get_engine('pytorch')\n"
        "assert engine.problem() is None\n"
        "import ptychopinn_ptychodus.backends.lightning.components\n"
        "print([m for m in ('torch', 'lightning', 'tensordict', 'tensorflow', 'mlflow') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_missing_framework_says_what_was_selected_and_how_to_install_it(tmp_path: Path) -> None:
    """In an interpreter that sees every installed package except the frameworks."""
    for entry in Path(np.__file__).parents[1].iterdir():
        if not entry.name.lower().startswith(
            ("torch", "lightning", "pytorch_lightning", "tensordict", "__ed")
        ):
            (tmp_path / entry.name).symlink_to(entry)
    package = Path(params.__file__).parents[1]
    environment = {"PYTHONPATH": f"{package}:{tmp_path}", "PATH": ""}
    code = (
        "from ptychopinn_ptychodus.backends.lightning import components\n"
        "from ptychopinn_ptychodus.config import TrainingConfig\n"
        "try: components._train_with_lightning({}, None, TrainingConfig())\n"
        "except RuntimeError as exc: print(exc)\n"
    )
    result = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert "PyTorch backend selected" in result.stdout
    assert "unavailable" in result.stdout
    assert 'pip install "ptychopinn-ptychodus[torch]"' in result.stdout
