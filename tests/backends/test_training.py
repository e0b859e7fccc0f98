"""The workflow that scripts call: loaders, training, a whole run, opening a model."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from tensordict import TensorDict

from ptychopinn_ptychodus import params
from ptychopinn_ptychodus.backends.lightning import checkpoint
from ptychopinn_ptychodus.backends.lightning.components import (
    _build_lightning_dataloaders,
    _train_with_lightning,
    train_cdi_model_torch,
)
from ptychopinn_ptychodus.config import ExecutionConfig, ModelConfig, TrainingConfig
from ptychopinn_ptychodus.data.raw import RawData

QUICK = ExecutionConfig(accelerator="cpu", learning_rate=2e-3, scheduler="one_cycle", logger_backend="none")


def _config(tmp_path: Path, gridsize: int = 1, **changes: object) -> TrainingConfig:
    model = ModelConfig(gridsize=gridsize, architecture="unrolled", n_filters_scale=1)
    values = {"model": model, "nepochs": 2, "batch_size": 8, "subsample_seed": 0, "n_groups": 36}
    values |= {"output_dir": tmp_path / "out", "backend": "pytorch"} | changes
    return TrainingConfig(**values)  # type: ignore[arg-type]


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


def test_validation_data_of_another_exposure_are_seen_as_bright_as_those_of_training(
    make_scan: Callable[..., RawData], scan: RawData, tmp_path: Path
) -> None:
    brighter = make_scan(photons=4e6)
    _, validation = _build_lightning_dataloaders(scan, brighter, _config(tmp_path), QUICK)
    power = next(iter(validation))["amplitude"].square().sum((-2, -1)).mean()
    assert float(power) == pytest.approx(32**2, rel=0.15)  # normalised, see DataConfig.input_scale


def test_training_returns_the_trainer_and_a_module_that_knows_its_configuration(
    scan: RawData, tmp_path: Path
) -> None:
    results = _train_with_lightning(scan, None, _config(tmp_path, nepochs=1), QUICK)
    assert isinstance(results["trainer"], pl.Trainer)
    module = results["models"]["lightning_module"]
    assert module.data_config.N == 64
    assert {"model_config", "data_config", "training_config", "inference_config"} == set(module.hparams)


def test_csv_logger_and_checkpoints_lie_in_the_output_directory(scan: RawData, tmp_path: Path) -> None:
    train_cdi_model_torch(scan, None, _config(tmp_path), replace(QUICK, logger_backend="csv"))
    assert list((tmp_path / "out").rglob("metrics.csv"))
    best = list((tmp_path / "out" / "checkpoints").glob("best-*.ckpt"))
    assert len(best) == 1
    assert checkpoint.read_state(best[0]).description.history["train_loss"], (
        "a killed run's best state opens alone"
    )


@pytest.mark.parametrize("more", [{}, {"SLURM_NTASKS_PER_NODE": "4"}], ids=["tasks", "tasks-per-node"])
def test_one_device_is_trained_on_within_a_batch_job_of_several_tasks(
    scan: RawData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, str]
) -> None:
    for name, value in {"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "scan", "SLURM_JOB_ID": "17", **more}.items():
        monkeypatch.setenv(name, value)
    results = _train_with_lightning(scan, None, _config(tmp_path, nepochs=1), QUICK)
    assert len(results["history"]["train_loss"]) == 1


@pytest.mark.parametrize("several", [{"devices": 2}, {"num_nodes": 2}])
def test_several_devices_or_nodes_are_what_lightning_finds_in_the_batch_job(
    scan: RawData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, several: dict[str, Any]
) -> None:
    """Lightning then says itself how the job has to be started."""
    job = {"NTASKS": "4", "NTASKS_PER_NODE": "4", "JOB_NAME": "scan"}
    for name, value in {**job, "NODEID": "0", "PROCID": "0", "LOCALID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    with pytest.raises(ValueError, match="SLURM"):
        _train_with_lightning(scan, None, _config(tmp_path, nepochs=1), replace(QUICK, **several))


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
