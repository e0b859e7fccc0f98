"""What the worker makes of a job, without the process."""

from __future__ import annotations

import dataclasses

import pytest

from ptychopinn_ptychodus.backends.registry import get_engine
from ptychopinn_ptychodus.config import ExecutionConfig, InferenceConfig, ModelConfig, TrainingConfig
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.plugin import worker
from ptychopinn_ptychodus.plugin.ingest import from_reconstruct_input
from ptychopinn_ptychodus.plugin.job import DATA_DIRECTORY, ReconstructJob

pytestmark = pytest.mark.usefixtures("fake_site")


@pytest.fixture
def grouped(tmp_path, scan, monkeypatch):
    """Reconstruct 30 patterns in groups of four; returns patterns, neighbours, groups of the grouping."""

    def grouped(**fields):
        parameters = scan(30)
        raw = from_reconstruct_input(parameters, with_object=False)
        raw.to_directory(tmp_path / DATA_DIRECTORY)
        container = raw.generate_grouped_data(64, 6, None, gridsize=2, seed=0)
        path = tmp_path / "model.ckpt"
        training = TrainingConfig(model=ModelConfig(gridsize=2))
        get_engine("pytorch").train(container, None, training, ExecutionConfig(), model_path=path)
        seen = []
        original = RawData.generate_grouped_data

        def generate(self, N, K, nsamples, **kwargs):
            result = original(self, N, K, nsamples, **kwargs)
            seen.append((self.n_patterns, K, len(result)))
            return result

        monkeypatch.setattr(RawData, "generate_grouped_data", generate)
        job = ReconstructJob(
            config=InferenceConfig(model_path=path, subsample_seed=0),
            execution=ExecutionConfig(),
            model_type="pinn",
            shape=(100, 120),
            choose_neighbor_count=True,
            log_level=20,
        )
        job = dataclasses.replace(
            job,
            choose_neighbor_count="neighbor_count" not in fields,
            config=dataclasses.replace(job.config, **fields),
        )
        assert worker.reconstruct(job, tmp_path, lambda *_, **__: None, lambda: False)["stopped"] is False
        return seen[0]

    return grouped


def test_every_pattern_is_an_anchor(grouped):
    assert grouped() == (30, 6, 30)


def test_fewer_groups_are_still_drawn_from_all_patterns(grouped):
    assert grouped(n_groups=10) == (30, 6, 10)


def test_more_groups_than_patterns(grouped):
    assert grouped(n_groups=70) == (30, 6, 70)


def test_the_neighbourhood_is_as_it_is_set(grouped):
    assert grouped(neighbor_count=3) == (30, 3, 30)


def test_a_neighbourhood_that_is_too_small_for_the_model_names_the_setting(grouped):
    with pytest.raises(ValueError, match=r"PtychoPINNPluginData\.NeighborCount = 2 .* at least 3"):
        grouped(neighbor_count=2)
