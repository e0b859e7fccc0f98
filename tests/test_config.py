"""Configuration objects, their dictionaries, and the one-way bridge to the legacy dictionary."""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptychopinn_ptychodus import params
from ptychopinn_ptychodus.config import (
    DataConfig,
    ExecutionConfig,
    InferenceConfig,
    ModelConfig,
    TrainingConfig,
    from_dict,
    to_dict,
)
from ptychopinn_ptychodus.pattern_sizes import CNN_SIZES, SIZES


def test_defaults_are_those_of_the_contract() -> None:
    assert to_dict(ModelConfig()) == {
        "N": 64,
        "gridsize": 1,
        "n_filters_scale": 2,
        "model_type": "pinn",
        "architecture": "cnn",
        "amp_activation": "sigmoid",
        "object_big": True,
        "probe_big": True,
        "probe_mask": False,
        "pad_object": True,
        "probe_scale": 4.0,
        "gaussian_smoothing_sigma": 0.0,
        "reflections": 0,
    }
    training = to_dict(TrainingConfig())
    expected = {
        "batch_size": 16,
        "nepochs": 50,
        "mae_weight": 0.0,
        "nll_weight": 1.0,
        "realspace_mae_weight": 0.0,
        "realspace_weight": 0.0,
        "realspace_aligned_weight": 0.0,
        "nphotons": 1e9,
        "n_groups": 512,
        "n_subsample": None,
        "subsample_seed": None,
        "neighbor_count": 4,
        "positions_provided": True,
        "probe_trainable": False,
        "intensity_scale_trainable": True,
        "sequential_sampling": False,
        "backend": "tensorflow",
    }
    assert {name: training[name] for name in expected} == expected
    assert InferenceConfig().n_groups is None
    assert ExecutionConfig().learning_rate == 1e-3
    assert ExecutionConfig().checkpoint_monitor_metric == "val_loss"


@pytest.mark.parametrize(
    ("cls", "field", "value"),
    [
        (ModelConfig, "N", 65),
        (ModelConfig, "N", 64.0),
        (ModelConfig, "N", True),
        (ModelConfig, "N", 24),
        (ModelConfig, "N", 88),
        (ModelConfig, "N", 1032),
        (ModelConfig, "gridsize", 0),
        (ModelConfig, "gridsize", True),
        (ModelConfig, "model_type", "both"),
        (ModelConfig, "architecture", "transformer"),
        (ModelConfig, "amp_activation", "tanh"),
        (ModelConfig, "object_big", 1),
        (ModelConfig, "probe_scale", 0.0),
        (ModelConfig, "gaussian_smoothing_sigma", float("nan")),
        (ModelConfig, "reflections", -1),
        (ModelConfig, "reflections", 2001),
        (ModelConfig, "reflections", 5),  # the architecture is cnn
        (TrainingConfig, "batch_size", 0),
        (TrainingConfig, "nepochs", 2.5),
        (TrainingConfig, "nll_weight", -1.0),
        (TrainingConfig, "realspace_aligned_weight", -1.0),
        (TrainingConfig, "nphotons", float("inf")),
        (TrainingConfig, "subsample_seed", -1),
        (TrainingConfig, "probe_modes", 0),
        (TrainingConfig, "backend", "jax"),
        (TrainingConfig, "model", {"N": 64}),
        (TrainingConfig, "train_data_file", 3),
        (TrainingConfig, "output_dir", None),
        (InferenceConfig, "model", None),
        (InferenceConfig, "model_path", b"model"),
        (InferenceConfig, "n_groups", 0),
        (InferenceConfig, "backend", ""),
        (ExecutionConfig, "accelerator", "tpu"),
        (ExecutionConfig, "learning_rate", 0.0),
        (ExecutionConfig, "prefetch_factor", 2),
        (ExecutionConfig, "persistent_workers", True),
        (ExecutionConfig, "checkpoint_mode", "best"),
        (ExecutionConfig, "scheduler", "step"),
        (ExecutionConfig, "logger_backend", "wandb"),
        (DataConfig, "input_scale", 0.0),
    ],
)
def test_bad_value_is_refused_by_class_field_and_value(cls: type[Any], field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"{cls.__name__}\.{field} = .*: use ") as caught:
        cls(**{field: value})
    assert repr(value) in str(caught.value)


def test_paths_may_be_text() -> None:
    assert TrainingConfig(train_data_file="a/b.npz").train_data_file == Path("a/b.npz")  # type: ignore[arg-type]
    assert InferenceConfig(output_dir="out").output_dir == Path("out")  # type: ignore[arg-type]


@pytest.mark.parametrize("changes", [{"amp_activation": "relu"}, {"probe_big": False}, {"pad_object": False}])
def test_field_that_an_architecture_cannot_honour_is_refused(changes: dict[str, Any]) -> None:
    ModelConfig(architecture="cnn", **changes)
    with pytest.raises(ValueError, match="'cnn' alone"):
        ModelConfig(architecture="unrolled", **changes)


def test_positions_are_needed() -> None:
    with pytest.raises(ValueError, match="positions_provided"):
        TrainingConfig(positions_provided=False)


def test_supervised_training_needs_the_object_in_its_objective() -> None:
    supervised = ModelConfig(model_type="supervised")
    TrainingConfig(model=supervised, realspace_mae_weight=1.0)
    with pytest.raises(ValueError, match="realspace_mae_weight"):
        TrainingConfig(model=supervised)


def test_training_without_an_objective_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to learn from"):
        TrainingConfig(nll_weight=0.0)


@pytest.mark.parametrize(
    ("weight", "needed"),
    [
        ("mae_weight", False),
        ("realspace_mae_weight", True),
        ("realspace_aligned_weight", True),
    ],
)
def test_one_weight_is_something_to_learn_from_and_says_whether_of_an_object(
    weight: str, needed: bool
) -> None:
    values: dict[str, Any] = {"nll_weight": 0.0, weight: 0.5}
    assert TrainingConfig(**values).needs_object == needed


def test_n_images_is_a_deprecated_name_of_n_groups() -> None:
    with pytest.warns(DeprecationWarning, match="n_groups"):
        config = TrainingConfig(n_images=7)
    assert config.n_groups == 7
    with pytest.warns(DeprecationWarning, match="n_groups"), pytest.raises(ValueError, match="contradicts"):
        TrainingConfig(n_images=7, n_groups=8)


def test_a_configuration_made_with_n_images_is_changed_like_any_other() -> None:
    with pytest.warns(DeprecationWarning, match="n_groups"):
        config = TrainingConfig(n_images=7)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # n_images has been warned of, and is not in what is changed
        assert dataclasses.replace(config, n_groups=8).n_groups == 8
        assert dataclasses.replace(config, nepochs=2).n_groups == 7
        assert config == TrainingConfig(n_groups=7)
        assert from_dict(TrainingConfig, to_dict(config)) == config
    for original in (config, TrainingConfig()):
        with pytest.warns(DeprecationWarning, match="n_groups"):
            given_again = dataclasses.replace(original, n_groups=None, n_images=9)
        assert given_again.n_groups == 9
    # 512 is what None becomes: nobody has asked for it
    with pytest.warns(DeprecationWarning, match="n_groups"):
        assert dataclasses.replace(TrainingConfig(), n_images=9).n_groups == 9


def test_sequential_sampling_has_a_seed_of_its_own() -> None:
    assert TrainingConfig().seed is None
    assert TrainingConfig(subsample_seed=3).seed == 3
    assert TrainingConfig(sequential_sampling=True, subsample_seed=3).seed == 3
    assert TrainingConfig(sequential_sampling=True).seed == 0


@pytest.mark.parametrize("n", SIZES)
def test_every_size_of_patterns_suits_the_architecture_unrolled(n: int) -> None:
    ModelConfig(N=n, architecture="unrolled")  # which raises for any other


def test_a_cnn_of_another_size_is_refused_and_the_other_architecture_named() -> None:
    with pytest.raises(ValueError, match=r"N = 96.*64, 128.*'cnn'.*'unrolled'"):
        ModelConfig(N=96)


def test_sizes_are_multiples_that_transforms_are_good_at() -> None:
    assert {32, 40, 96, 168, 192, 512, 1024} < set(SIZES)
    assert not {24, 44, 88, 100, 104, 1088} & set(SIZES)


def test_configurations_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainingConfig().nepochs = 3  # type: ignore[misc]


models = st.builds(
    ModelConfig,
    N=st.sampled_from(CNN_SIZES),
    gridsize=st.integers(1, 4),
    n_filters_scale=st.integers(1, 8),
    amp_activation=st.sampled_from(["sigmoid", "swish", "softplus", "relu"]),
    object_big=st.booleans(),
    probe_scale=st.floats(0.1, 100),
)


@given(
    st.builds(
        TrainingConfig,
        model=models,
        train_data_file=st.none() | st.just(Path("a/b.npz")),
        nphotons=st.floats(1, 1e12),
        n_groups=st.none() | st.integers(1, 10_000),
        subsample_seed=st.none() | st.integers(0, 2**31),
    )
)
def test_dictionaries_survive_json(config: TrainingConfig) -> None:
    assert from_dict(TrainingConfig, json.loads(json.dumps(to_dict(config)))) == config


def test_unknown_key_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"TrainingConfig has no field 'nepoch'.*newer.*pip install --upgrade"
    ):
        from_dict(TrainingConfig, {"nepoch": 3})
    with pytest.raises(ValueError, match=r"ModelConfig has no field 'depth'"):
        from_dict(TrainingConfig, {"model": {"depth": 3}})


def test_legacy_dictionary_is_flat_renamed_and_textual(tmp_path: Path) -> None:
    target: dict[str, Any] = {"keep": 1}
    config = TrainingConfig(
        model=ModelConfig(N=128, object_big=False), train_data_file=tmp_path / "x.npz", output_dir=tmp_path
    )
    params.update_legacy_dict(target, config)
    assert target["keep"] == 1
    assert target["N"] == 128
    assert target["object.big"] is False
    assert target["output_prefix"] == str(tmp_path)
    assert target["train_data_file_path"] == str(tmp_path / "x.npz")
    assert not set(params.KEY_MAPPINGS) & set(target)
    assert "model" not in target


def test_execution_configuration_never_enters_the_legacy_dictionary() -> None:
    target: dict[str, Any] = {}
    with pytest.raises(TypeError, match="ExecutionConfig"):
        params.update_legacy_dict(target, ExecutionConfig())  # type: ignore[arg-type]
    assert not target
