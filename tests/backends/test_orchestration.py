"""The orchestrator with other modules and trainers than ours in their place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from ptychopinn_ptychodus.backends.base import ModelFileError
from ptychopinn_ptychodus.backends.lightning import checkpoint, components
from ptychopinn_ptychodus.backends.lightning import module as modules
from ptychopinn_ptychodus.backends.lightning.components import _train_with_lightning
from ptychopinn_ptychodus.backends.mlflow_run import DATABASE
from ptychopinn_ptychodus.config import (
    DataConfig,
    ExecutionConfig,
    InferenceConfig,
    ModelConfig,
    TrainingConfig,
)
from ptychopinn_ptychodus.data.raw import RawData

CPU = ExecutionConfig(accelerator="cpu", logger_backend="none")


class Bare(pl.LightningModule):
    """What a ``LightningModule`` has to have, and nothing else: it learns the mean amplitude."""

    def __init__(self) -> None:
        super().__init__()
        self.value = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return (batch["amplitude"].mean() - self.value).square()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.5)


class OnlyParameters:
    """Not even a module."""

    def __init__(self) -> None:
        self.saved = 0

    def save_hyperparameters(self) -> None:
        self.saved += 1


@pytest.fixture
def mapping(scan: RawData) -> dict[str, Any]:
    """Eight groups of one pattern, as scripts hand them over."""
    return {
        "X": scan.diff3d[:8, ..., None],
        "coords_relative": np.zeros((8, 1, 2, 1), np.float32),
        "probe": scan.probeGuess,
    }


def make_config(tmp_path: Path, **changes: Any) -> TrainingConfig:
    values = {"model": ModelConfig(n_filters_scale=1), "nepochs": 3, "batch_size": 4, "output_dir": tmp_path}
    return TrainingConfig(**{**values, "backend": "pytorch", **changes})


def place(monkeypatch: pytest.MonkeyPatch, module: Any) -> list[tuple[Any, ...]]:
    """Put a function of exactly four arguments in the place of our module; what it is called with."""
    calls = []

    def make(model_config: Any, data_config: Any, training_config: Any, inference_config: Any) -> Any:
        calls.append((model_config, data_config, training_config, inference_config))
        return module

    monkeypatch.setattr(modules, "PtychoPINN_Lightning", make)
    return calls


def test_a_bare_module_trains_and_its_checkpoint_says_what_it_was_made_from(
    monkeypatch: pytest.MonkeyPatch, mapping: dict[str, Any], tmp_path: Path
) -> None:
    module, config, validation = Bare(), make_config(tmp_path), dict(mapping)
    calls = place(monkeypatch, module)
    results = _train_with_lightning(mapping, validation, config, CPU)
    [(model, data, training, inference)] = calls
    assert (model, training, inference) == (config.model, config, InferenceConfig(model=config.model))
    assert isinstance(data, DataConfig)
    assert data.input_scale == pytest.approx(32 / np.sqrt((mapping["X"] ** 2).sum((1, 2, 3)).mean()))

    mean = float(mapping["X"].mean() * data.input_scale)
    assert module.value.item() == pytest.approx(mean, rel=0.2)
    assert results["train_container"] is mapping
    assert results["test_container"] is validation
    assert results["history"] == {"train_loss": [], "val_loss": []}  # it logs none
    assert results["models"]["lightning_module"] is module
    assert isinstance(results["trainer"], pl.Trainer)
    assert results["trainer"].current_epoch == 3

    [path] = tmp_path.rglob("*.ckpt")
    saved = torch.load(path, weights_only=True)["hyper_parameters"]
    assert saved["training_config"]["nepochs"] == 3
    assert set(saved) == {f"{name}_config" for name in ("model", "data", "training", "inference")}


def test_losses_that_another_module_logs_are_its_history(
    monkeypatch: pytest.MonkeyPatch, mapping: dict[str, Any], tmp_path: Path
) -> None:
    class Logging(Bare):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            loss = super().training_step(batch, batch_idx)
            self.log("train_loss", loss.detach() * 0 + self.current_epoch + 1)
            return loss

    place(monkeypatch, Logging())
    results = _train_with_lightning(mapping, None, make_config(tmp_path), CPU)
    assert results["history"] == {"train_loss": [1.0, 2.0, 3.0], "val_loss": []}
    assert results["test_container"] is None


def test_an_object_and_a_trainer_with_one_method_each_go_through(
    monkeypatch: pytest.MonkeyPatch, mapping: dict[str, Any], tmp_path: Path
) -> None:
    given: dict[str, Any] = {}

    class OnlyFit:
        def __init__(self, **kwargs: Any) -> None:
            given.update(kwargs)

        def fit(self, module: Any, train_dataloaders: Any = None, val_dataloaders: Any = None) -> None:
            given.update(module=module, train=train_dataloaders, validation=val_dataloaders)

    module = OnlyParameters()
    place(monkeypatch, module)
    monkeypatch.setattr("lightning.pytorch.Trainer", OnlyFit)
    results = _train_with_lightning(mapping, mapping, make_config(tmp_path))
    assert given.items() >= {
        ("max_epochs", 3),
        ("accelerator", "auto"),
        ("devices", 1),
        ("log_every_n_steps", 1),
        ("default_root_dir", tmp_path),
        ("enable_progress_bar", False),
        ("module", module),
    }
    assert [len(given[name].dataset) for name in ("train", "validation")] == [8, 8]
    assert module.saved == 1
    assert isinstance(results["trainer"], OnlyFit)
    assert results["models"]["lightning_module"] is module
    assert results["history"] == {"train_loss": [], "val_loss": []}
    assert results["train_container"] is results["test_container"] is mapping
    # nor does a whole run ask for more: it leaves no model, and says so in the log
    assert components.train_cdi_model_torch(mapping, None, make_config(tmp_path))["model_path"] is None


def test_another_module_is_left_as_a_checkpoint_which_is_no_model_of_ours(
    monkeypatch: pytest.MonkeyPatch, mapping: dict[str, Any], tmp_path: Path
) -> None:
    place(monkeypatch, Bare())
    config = make_config(tmp_path, nepochs=1)
    path = components.train_cdi_model_torch(mapping, None, config, CPU)["model_path"]
    assert set(torch.load(path, weights_only=True)["state_dict"]) == {"value"}
    with pytest.raises(ModelFileError, match="not a model of this package"):
        checkpoint.read_state(path)
    with pytest.raises(RuntimeError, match=r"Bare .*do_stitching=False"):
        components.run_cdi_example_torch(mapping, None, config, do_stitching=True, execution_config=CPU)


def raises(error: Exception) -> Callable[..., Any]:
    def step(self: Any, batch: Any, batch_idx: int) -> Any:
        raise error

    return step


def test_failures_say_what_to_do(
    monkeypatch: pytest.MonkeyPatch, mapping: dict[str, Any], tmp_path: Path
) -> None:
    module = Bare()
    place(monkeypatch, module)

    def train(**knobs: Any) -> None:
        execution = ExecutionConfig(**{"accelerator": "cpu", "logger_backend": "none", **knobs})
        _train_with_lightning(mapping, None, make_config(tmp_path), execution)

    for error, kind, message in (
        (KeyError("weather"), RuntimeError, r"KeyError: 'weather'.*ExecutionConfig\(accelerator='cpu'"),
        (torch.OutOfMemoryError("full"), RuntimeError, r"lower batch_size \(now 4\)"),
        (ValueError("it rains"), ValueError, "^it rains$"),
    ):
        monkeypatch.setattr(Bare, "training_step", raises(error))
        with pytest.raises(kind, match=message) as caught:
            train()
        assert error in (caught.value, caught.value.__cause__)
    with pytest.raises(ValueError, match="fortnightly"):
        train(strategy="fortnightly")


def test_what_lightning_cannot_do_is_an_error_of_the_configuration(
    monkeypatch: pytest.MonkeyPatch, mapping: dict[str, Any], tmp_path: Path
) -> None:
    def refuse(**kwargs: Any) -> None:
        raise MisconfigurationException("devices and nodes do not go together")

    monkeypatch.setattr("lightning.pytorch.Trainer", refuse)
    with pytest.raises(ValueError, match=r"ExecutionConfig asks.*do not go together"):
        _train_with_lightning(mapping, None, make_config(tmp_path), CPU)


def test_a_strategy_that_trains_in_another_process_keeps_history_and_weights(
    mapping: dict[str, Any], tmp_path: Path
) -> None:
    config = make_config(tmp_path, nepochs=2, subsample_seed=0)
    execution = ExecutionConfig(accelerator="cpu", logger_backend="none", strategy="ddp_spawn")
    results = components.train_cdi_model_torch(mapping, mapping, config, execution)
    history, module = results["history"], results["models"]["lightning_module"]
    assert [len(losses) for losses in history.values()] == [2, 2]
    assert history["train_loss"][1] < history["train_loss"][0]
    assert module.history == history
    opened = modules.PtychoPINN_Lightning.load_from_checkpoint(results["model_path"])
    assert opened.history == history
    # the module that has come back is the best state that the other process has left
    best = history["val_loss"].index(min(history["val_loss"]))
    content = torch.load(tmp_path / "checkpoints" / f"best-epoch={best:04d}.ckpt", weights_only=True)
    for name, tensor in opened.state_dict().items():
        torch.testing.assert_close(tensor, content["state_dict"][name], rtol=0, atol=0)
    assert not (tmp_path / DATABASE).exists()
