"""What the worker makes of a job, without the process."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ptychodus.api.reconstruct import ReconstructInput
from scipy.spatial import cKDTree

from ptychopinn_ptychodus.backends.base import Engine, ModelFileError, Prediction
from ptychopinn_ptychodus.backends.registry import get_engine
from ptychopinn_ptychodus.config import ExecutionConfig, InferenceConfig, ModelConfig, TrainingConfig
from ptychopinn_ptychodus.data.assembly import assemble
from ptychopinn_ptychodus.data.container import PtychoDataContainer
from ptychopinn_ptychodus.data.estimate import Estimate
from ptychopinn_ptychodus.data.examination import Report
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import make_object, make_probe, raster_positions, simulate_scan
from ptychopinn_ptychodus.data.stitching import Canvas
from ptychopinn_ptychodus.ptychodus_io.ingest import from_reconstruct_input
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.worker import reconstruct
from ptychopinn_ptychodus.worker.job import (
    DATA_DIRECTORY,
    NETWORK_DIRECTORY,
    REFINED_DIRECTORY,
    ReconstructJob,
)
from ptychopinn_ptychodus.worker.request import ReconstructionRequest

pytestmark = pytest.mark.usefixtures("fake_site")


@pytest.fixture
def grouped(
    tmp_path: Path, scan: Callable[..., ReconstructInput], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, int, int]]:
    """Reconstruct 30 patterns in groups of four; returns patterns, neighbours, groups of the grouping."""

    def grouped(**fields: Any) -> tuple[int, int, int]:
        parameters = scan(30)
        raw = from_reconstruct_input(parameters, with_object=False)
        raw.to_directory(tmp_path / DATA_DIRECTORY)
        container = raw.generate_grouped_data(64, 6, None, gridsize=2, seed=0)
        path = tmp_path / "model.ckpt"
        training = TrainingConfig(model=ModelConfig(gridsize=2))
        get_engine("pytorch").train(container, None, training, ExecutionConfig(), model_path=path)
        seen = []
        original = RawData.generate_grouped_data

        def generate(
            self: RawData, N: int, K: int, nsamples: int | None, **kwargs: Any
        ) -> PtychoDataContainer:
            result = original(self, N, K, nsamples, **kwargs)
            seen.append((self.n_patterns, K, len(result)))
            return result

        monkeypatch.setattr(RawData, "generate_grouped_data", generate)
        job = ReconstructJob(
            asked=ReconstructionRequest.of(InferenceConfig(subsample_seed=0, **fields), path),
            execution=ExecutionConfig(),
            refinement=None,
            model_type="pinn",
            shape=(100, 120),
            log_level=20,
        )
        assert (
            reconstruct.reconstruct(job, tmp_path, lambda *_, **__: None, lambda: False)["stopped"] is False
        )
        return seen[0]

    return grouped


def test_every_pattern_is_an_anchor(grouped: Callable[..., tuple[int, int, int]]) -> None:
    assert grouped() == (30, 6, 30)


def test_fewer_groups_are_still_drawn_from_all_patterns(grouped: Callable[..., tuple[int, int, int]]) -> None:
    assert grouped(n_groups=10) == (30, 6, 10)


def test_more_groups_than_patterns(grouped: Callable[..., tuple[int, int, int]]) -> None:
    assert grouped(n_groups=70) == (30, 6, 70)


def test_the_neighbourhood_is_as_it_is_set(grouped: Callable[..., tuple[int, int, int]]) -> None:
    assert grouped(neighbor_count=3) == (30, 3, 30)


def test_a_neighbourhood_that_is_too_small_for_the_model_names_the_setting(
    grouped: Callable[..., tuple[int, int, int]],
) -> None:
    with pytest.raises(ValueError, match=r"PtychoPINNPluginData\.NeighborCount = 2 .* at least 3"):
        grouped(neighbor_count=2)


@pytest.mark.parametrize(
    ("field", "value"),
    [("n_subsample", 20), ("debug", True), ("test_data_file", "x.npz"), ("output_dir", "elsewhere")],
)
def test_what_ptychodus_has_no_use_for_is_refused_by_name(
    grouped: Callable[..., tuple[int, int, int]], field: str, value: int | bool | str
) -> None:
    with pytest.raises(ValueError, match=rf"InferenceConfig\.{field} = .* in Ptychodus"):
        grouped(**{field: value})


def test_another_model_than_the_one_that_is_asked_for_is_refused(
    grouped: Callable[..., tuple[int, int, int]],
) -> None:
    with pytest.raises(ModelFileError, match=r"InferenceConfig\.model\.gridsize = 3"):
        grouped(model=ModelConfig(gridsize=3))


class Refining:
    """A reconstruction that is refined, of 144 patterns in 12 rows, 5 pixels apart, unless said otherwise."""

    STEP = 5.0
    SHAPE = (132, 132)

    def __init__(
        self,
        directory: Path,
        monkeypatch: pytest.MonkeyPatch,
        *,
        side: int = 12,
        step: float = STEP,
        gridsize: int = 2,
        photons: float = 1e5,
    ) -> None:
        self.directory = directory
        x, y = raster_positions(side, side, step, jitter=0.2, origin=36.0, seed=1)
        object_ = make_object(self.SHAPE, seed=2)
        self.raw = simulate_scan(object_, make_probe(64), x, y, photons=photons, seed=3)
        self.raw.to_directory(directory / DATA_DIRECTORY)
        container = self.raw.generate_grouped_data(64, 6, 10, gridsize=gridsize, seed=0)
        self.model = directory / "model.ckpt"
        engine = get_engine("pytorch")
        training = TrainingConfig(model=ModelConfig(gridsize=gridsize))
        engine.train(container, None, training, ExecutionConfig(), model_path=self.model)
        self._applied_to: PtychoDataContainer | None = None
        self.messages: list[dict[str, Any]] = []
        predict = type(engine).predict

        def spied(
            engine: Engine,
            model_path: Path,
            container: PtychoDataContainer,
            execution: ExecutionConfig,
            **kwargs: Any,
        ) -> Prediction:
            self._applied_to = container
            return predict(engine, model_path, container, execution, **kwargs)

        monkeypatch.setattr(type(engine), "predict", spied)

    @property
    def applied_to(self) -> PtychoDataContainer:
        """What the network was applied to."""
        assert self._applied_to is not None
        return self._applied_to

    def run(
        self,
        refinement: RefinementConfig | None,
        *,
        should_stop: Callable[[], bool] = lambda: False,
        **fields: Any,
    ) -> dict[str, Any]:
        job = ReconstructJob(
            asked=ReconstructionRequest.of(InferenceConfig(subsample_seed=0, **fields), self.model),
            execution=ExecutionConfig(accelerator="cpu"),
            refinement=refinement,
            model_type="pinn",
            shape=self.SHAPE,
            log_level=20,
        )

        def send(kind: str, **values: object) -> None:
            self.messages.append(json.loads(json.dumps({"kind": kind, **values})))

        return json.loads(json.dumps(reconstruct.reconstruct(job, self.directory, send, should_stop)))


@pytest.fixture
def refining(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Refining:
    return Refining(tmp_path, monkeypatch)


def test_with_a_refinement_the_network_sees_each_pattern_about_once(refining: Refining) -> None:
    refining.run(RefinementConfig(epochs=0))
    container = refining.applied_to
    assert 144 / 4 * 0.8 < len(container) < 144 / 4 * 1.4
    # evenly: no pattern is far from the anchor of a group, and no part of the scan has more of them
    anchors = container.coords[container.nn_indices[:, 0]]
    assert cKDTree(anchors).query(container.coords)[0].max() < 2.7 * refining.STEP
    right, below = (anchors > np.median(container.coords, axis=0)).T
    quarters = np.bincount(2 * right + below, minlength=4)
    assert quarters.max() < 1.5 * quarters.min()


def diagonal(count: int) -> np.ndarray:
    return np.linspace(0, 4.0 * count, count)[:, None] * [1.0, 1.0]


def two_fields(count: int) -> np.ndarray:
    field = np.stack(np.meshgrid(*[5.0 * np.arange(14)] * 2), -1).reshape(-1, 2)
    return np.concatenate([field, field + np.array([1500.0, 0.0])])


def spiral(count: int) -> np.ndarray:
    turn = np.arange(count)
    return 4.0 * np.sqrt(turn)[:, None] * np.stack([np.cos(2.4 * turn), np.sin(2.4 * turn)], -1)


@pytest.mark.parametrize("positions", [diagonal, two_fields, spiral])
@pytest.mark.parametrize("gridsize", [1, 2, 3])
def test_groups_are_spread_over_scans_of_any_shape(
    positions: Callable[[int], np.ndarray], gridsize: int
) -> None:
    coords = positions(400)
    count = len(coords)
    raw = RawData(
        xcoords=coords[:, 0],
        ycoords=coords[:, 1],
        xcoords_start=None,
        ycoords_start=None,
        diff3d=np.ones((count, 64, 64), np.float32),
        probeGuess=make_probe(64),
        scan_index=None,
    )
    container = raw.generate_grouped_data(64, gridsize**2 + 2, None, gridsize=gridsize, seed=0)
    chosen = container.subset(reconstruct._spread_groups(container))
    assert abs(len(chosen) * gridsize**2 - count) < gridsize**2
    # a patch of some group shows the place of every pattern
    members = container.coords[chosen.nn_indices.ravel()]
    assert cKDTree(members).query(coords, p=np.inf)[0].max() < 24


@pytest.mark.parametrize("groups", [20, 144, 200])
def test_with_a_refinement_groups_that_are_asked_for_are_made(refining: Refining, groups: int) -> None:
    refining.run(RefinementConfig(epochs=0), n_groups=groups)
    assert len(refining.applied_to) == groups


def test_without_a_refinement_every_pattern_is_an_anchor(refining: Refining) -> None:
    assert set(refining.run(None)) == {"stopped", "history", "verdict"}
    assert sorted(refining.applied_to.nn_indices[:, 0]) == list(range(144))
    assert not (refining.directory / REFINED_DIRECTORY).exists()


def test_a_refinement_leaves_both_estimates_and_reports_its_epochs(refining: Refining) -> None:
    result = refining.run(RefinementConfig(epochs=3))
    network, refined = (
        Estimate.load(refining.directory / name) for name in (NETWORK_DIRECTORY, REFINED_DIRECTORY)
    )
    assert network.positions is None
    assert refined.positions is not None
    assert refined.positions.shape == (144, 2)
    assert network.object.shape == refined.object.shape == refining.SHAPE
    kinds = [message["kind"] for message in refining.messages]
    reports = [message for message in refining.messages if message["kind"] == "refinement"]
    assert [kind for kind in kinds if kind != "progress"] == ["network", *["refinement"] * 3]
    assert [(report["epoch"], report["nepochs"]) for report in reports] == [(1, 3), (2, 3), (3, 3)]
    assert [report["error"] for report in reports] == result["errors"]
    assert result["error"] < result["start_error"]


def test_positions_that_are_not_refined_are_not_handed_over(refining: Refining) -> None:
    refining.run(RefinementConfig(epochs=1, positions=False))
    assert Estimate.load(refining.directory / REFINED_DIRECTORY).positions is None


@pytest.mark.parametrize(
    ("step", "gridsize", "said"), [(24.0, 1, "has learnt from"), (24.0, 2, "--gridsize 1"), (6.0, 1, "")]
)
def test_patterns_that_hardly_overlap_are_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: float, gridsize: int, said: str
) -> None:
    refining = Refining(tmp_path, monkeypatch, side=3, step=step, gridsize=gridsize)
    refining.run(None)
    told = [f for m in refining.messages if m["kind"] == "findings" for f in m["findings"]]
    assert [finding["code"] for finding in told] == ["little-overlap"] * bool(said)
    assert all(said in finding["done"] for finding in told)


def test_a_network_alone_does_not_pass_where_nearly_all_is_noise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its error, an object that has fitted the noise is as good as any."""
    refining = Refining(tmp_path, monkeypatch, photons=200)
    refining.run(None)
    (told,) = (f for m in refining.messages if m["kind"] == "findings" for f in m["findings"])
    assert told["code"] == "nearly-noise"
    assert told["setting"] == "PtychoPINNPluginRefinement.Epochs"
    assert Report.from_json([told]).is_doubtful


def test_a_refinement_that_is_stopped_leaves_what_there_is(refining: Refining) -> None:
    def epochs() -> int:
        return sum(message["kind"] == "refinement" for message in refining.messages)

    result = refining.run(RefinementConfig(epochs=50), should_stop=lambda: epochs() >= 2)
    assert result["stopped"] is False  # there is a result
    assert len(result["errors"]) == 2
    assert (refining.directory / REFINED_DIRECTORY / "object.npy").is_file()


def test_a_start_of_no_use_is_blamed_on_the_network(
    refining: Refining, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overflowed(*args: Any) -> Canvas:
        canvas = assemble(*args)
        return dataclasses.replace(canvas, object=np.full_like(canvas.object, np.nan))

    monkeypatch.setattr("ptychopinn_ptychodus.data.assembly.assemble", overflowed)
    with pytest.raises(ValueError, match=r"not finite.* Train for longer, or set .*Epochs to 0"):
        refining.run(RefinementConfig(epochs=1))


def test_what_is_not_the_networks_fault_is_not_blamed_on_it(refining: Refining) -> None:
    with pytest.raises(ValueError, match="modes") as caught:
        refining.run(RefinementConfig(epochs=1, probe_modes=1000))
    assert "Train for longer" not in str(caught.value)
