"""What was asked of a training and of a reconstruction, and the configuration that the worker makes of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from ptychopinn_ptychodus.config import InferenceConfig, ModelConfig, TrainingConfig
from ptychopinn_ptychodus.settings_table import SETTINGS
from ptychopinn_ptychodus.worker.request import ENOUGH_GROUPS, ReconstructionRequest, TrainingRequest


def config() -> TrainingConfig:
    return TrainingConfig(
        model=ModelConfig(N=128, gridsize=2, model_type="supervised"),
        train_data_file=Path("scans"),
        realspace_mae_weight=0.5,
        nphotons=3e5,
        n_groups=70,
        n_subsample=50,
        probe_modes=2,
        output_dir=Path("out"),
    )


def test_what_a_configuration_asks_for_becomes_that_configuration_again() -> None:
    request = TrainingRequest.of(config())
    assert "N" not in request.model
    assert not {"model", "nphotons"} & set(request.training)
    assert request.complete(128, nphotons=3e5) == config()


def test_what_the_data_know_is_theirs_to_say() -> None:
    completed = TrainingRequest.of(config()).complete(64, n_groups=9, probe_modes=4, nphotons=1e3)
    assert (completed.model.N, completed.n_groups, completed.probe_modes) == (64, 9, 4)
    assert completed.nphotons == 1e3
    with pytest.raises(ValueError, match="The data decide on N"):
        TrainingRequest({"N": 64}, {})
    with pytest.raises(ValueError, match="The data decide on nphotons"):
        TrainingRequest({}, {"nphotons": 1e3})


def test_a_field_of_a_newer_version_is_named() -> None:
    with pytest.raises(ValueError, match=r"ModelConfig has no field 'horizon'.*pip install --upgrade"):
        TrainingRequest({"horizon": 3}, {})
    with pytest.raises(ValueError, match=r"TrainingConfig has no field 'horizon'.*pip install --upgrade"):
        TrainingRequest({}, {"horizon": 3})


def test_what_is_needed_before_there_is_a_configuration_is_as_it_will_have_it() -> None:
    for request in (TrainingRequest.of(config()), TrainingRequest({}, {})):
        completed = request.complete(64)
        assert request.model_type == completed.model.model_type
        assert request.channels == completed.model.channels
        assert request.train_data_file == completed.train_data_file
        assert request.n_subsample == completed.n_subsample
        assert request.backend == completed.backend
        assert request.seed is completed.seed is None
    assert TrainingRequest({}, {"subsample_seed": 5}).seed == 5
    assert TrainingRequest({}, {"sequential_sampling": True}).seed == 0


def test_a_request_is_checked_without_data() -> None:
    with pytest.raises(ValueError, match=r"TrainingConfig\.nepochs = 0"):
        TrainingRequest({}, {"nepochs": 0}).check()
    with pytest.raises(ValueError, match=r"ModelConfig\.architecture = 'maze'"):
        TrainingRequest({"architecture": "maze"}, {}).check()


MODEL = Path("model.ckpt")


@pytest.mark.parametrize(("gridsize", "neighbors"), [(1, 3), (2, 6), (3, 11)])
def test_what_the_model_knows_is_left_to_it(gridsize: int, neighbors: int) -> None:
    model = ModelConfig(N=128, gridsize=gridsize, model_type="supervised")
    asked = ReconstructionRequest(MODEL, {"neighbor_count": None, "n_groups": 70})
    assert asked.complete(model) == InferenceConfig(
        model=model, model_path=MODEL, neighbor_count=neighbors, n_groups=70
    )


def test_what_is_asked_of_a_reconstruction_is_kept() -> None:
    asked = InferenceConfig(
        model=ModelConfig(gridsize=3), n_groups=70, subsample_seed=5, neighbor_count=9, backend="pytorch"
    )
    request = ReconstructionRequest.of(asked, MODEL)
    assert request.backend == "pytorch"
    completed = request.complete(ModelConfig(gridsize=2))
    assert dataclasses.replace(completed, model_path=None) == asked
    assert completed.model_path == MODEL
    assert ReconstructionRequest.of(InferenceConfig(), MODEL) == ReconstructionRequest(MODEL, {})


def test_a_neighbourhood_is_compared_with_the_groups_of_the_model() -> None:
    asked = ReconstructionRequest(MODEL, {"neighbor_count": 2})
    asked.check()
    with pytest.raises(ValueError, match=r"NeighborCount = 2 .* at least 3"):
        asked.complete(ModelConfig(gridsize=2))


def test_a_request_for_a_reconstruction_is_checked_without_a_model() -> None:
    with pytest.raises(ValueError, match=r"InferenceConfig\.n_groups = 0"):
        ReconstructionRequest(MODEL, {"n_groups": 0}).check()
    with pytest.raises(ValueError, match=r"InferenceConfig has no field 'horizon'.*pip install --upgrade"):
        ReconstructionRequest(MODEL, {"horizon": 3})
    with pytest.raises(ValueError, match=r"ModelConfig has no field 'horizon'.*pip install --upgrade"):
        ReconstructionRequest(MODEL, {}, {"horizon": 3})


@pytest.mark.parametrize(
    ("model", "training", "patterns", "expected"),
    [
        ({"architecture": "unrolled", "gridsize": 2}, {}, 100, 100),
        ({"architecture": "unrolled", "gridsize": 2}, {}, 100_000, ENOUGH_GROUPS),
        ({"architecture": "unrolled", "gridsize": 1}, {}, 100_000, 100_000),
        ({"architecture": "unrolled", "gridsize": 2}, {"sequential_sampling": True}, 100_000, 100_000),
        ({"architecture": "cnn", "gridsize": 2}, {}, 100_000, 100_000),
    ],
)
def test_the_time_of_an_epoch_does_not_grow_with_the_scan_where_it_need_not(
    model: dict[str, Any], training: dict[str, Any], patterns: int, expected: int
) -> None:
    assert TrainingRequest(model, training).automatic_groups(patterns) == expected
    assert f" {ENOUGH_GROUPS} at most" in SETTINGS["Data.NumGroups"].tip  # where the user reads of it
