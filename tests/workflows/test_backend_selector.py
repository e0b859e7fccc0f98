"""The dispatcher: what happens in which order, and that both engines answer alike."""

from __future__ import annotations

import copy
import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptychopinn_ptychodus import params
from ptychopinn_ptychodus.backends import registry
from ptychopinn_ptychodus.backends.base import ModelFileError
from ptychopinn_ptychodus.config import (
    ExecutionConfig,
    InferenceConfig,
    ModelConfig,
    TrainingConfig,
    to_dict,
)
from ptychopinn_ptychodus.data import simulation
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.workflows import backend_selector as selector

ENGINES = ("tensorflow", "pytorch")
OTHER = {"tensorflow": "pytorch", "pytorch": "tensorflow"}
FUNCTIONS = {
    "tensorflow": ("ptychopinn_ptychodus.backends.tensorflow.components", "{}"),
    "pytorch": ("ptychopinn_ptychodus.backends.lightning.components", "{}_torch"),
}
QUICK = ExecutionConfig(accelerator="cpu", logger_backend="none")

# What only has to arrive somewhere, and is known again there: the dispatcher does not look at it.
TRAIN: Any = "train"
TEST: Any = "test"

# Each function of the dispatcher by the engine's name for it, and how it is called.
CALLS: dict[str, Callable[[Any], Any]] = {
    "run_cdi_example": lambda config: selector.run_cdi_example_with_backend(TRAIN, TEST, config),
    "train_cdi_model": lambda config: selector.train_cdi_model_with_backend(TRAIN, TEST, config),
    "load_inference_bundle": lambda config: selector.load_inference_bundle_with_backend("bundle", config),
}
ANSWERS: dict[str, Any] = {
    "run_cdi_example": (None, None, {"history": {}}),
    "train_cdi_model": {"history": {}},
    "load_inference_bundle": ("model", {"data_config": {}}),
}

every_call = pytest.mark.parametrize("name", CALLS)
every_engine = pytest.mark.parametrize("backend", ENGINES)


def results_of(answer: Any) -> dict[str, Any]:
    """The dictionary in what a function of the dispatcher returns."""
    found: dict[str, Any] = answer if isinstance(answer, dict) else answer[-1]
    return found


def require(*backends: str) -> None:
    for backend in backends:
        problem = registry.get_engine(backend).problem()
        if problem is not None:
            pytest.skip(problem)


@pytest.fixture(autouse=True)
def legacy(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """An empty legacy dictionary in place of the process's."""
    fresh: dict[str, Any] = {}
    monkeypatch.setattr(params, "cfg", fresh)
    return fresh


class Watched(TrainingConfig):
    """A configuration that notes when its ``backend`` is read."""

    steps: list[str]

    def __getattribute__(self, name: str) -> Any:
        if name == "backend" and "steps" in vars(type(self)):
            type(self).steps.append("backend")
        return super().__getattribute__(name)


class FakeEngine:
    """Answers at once, and keeps what it was asked."""

    def __init__(self, steps: list[str] | None = None) -> None:
        self.name = "fake"
        self.steps = [] if steps is None else steps
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def workflow(self, name: str) -> Callable[..., Any]:
        self.steps.append("workflow")

        def function(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((args, kwargs))
            return ANSWERS[name]

        return function


class TestOrder:
    @every_call
    def test_the_legacy_dictionary_comes_first_and_once(
        self, monkeypatch: pytest.MonkeyPatch, legacy: dict[str, Any], name: str
    ) -> None:
        steps: list[str] = []
        config = Watched(backend="pytorch")
        monkeypatch.setattr(Watched, "steps", steps, raising=False)

        def update(target: dict[str, Any], given: object) -> None:
            assert target is legacy
            assert given is config
            steps.append("legacy")

        def get_engine(backend: str) -> FakeEngine:
            assert backend == "pytorch"
            steps.append("engine")
            return FakeEngine(steps)

        monkeypatch.setattr(selector, "update_legacy_dict", update)
        monkeypatch.setattr(selector, "get_engine", get_engine)
        CALLS[name](config)
        assert steps == ["legacy", "backend", "engine", "workflow"]

    @every_engine
    def test_no_framework_is_imported_before(self, backend: str) -> None:
        """In a fresh process that notes every import which is tried."""
        require(backend)
        code = (
            "import sys, json\n"
            "from ptychopinn_ptychodus.config import TrainingConfig\n"
            "from ptychopinn_ptychodus.workflows import backend_selector as selector\n"
            "frameworks = ('torch', 'lightning', 'tensordict', 'tensorflow', 'keras')\n"
            "steps = [name for name in frameworks if name in sys.modules]\n"
            "class Note:\n"
            "    def find_spec(self, name, path=None, target=None):\n"
            "        if name in frameworks: steps.append(name)\n"
            "sys.meta_path.insert(0, Note())\n"
            "original = selector.update_legacy_dict\n"
            "def update(*arguments):\n"
            "    steps.append('legacy')\n"
            "    original(*arguments)\n"
            "selector.update_legacy_dict = update\n"
            f"config = TrainingConfig(backend={backend!r})\n"
            "try: selector.train_cdi_model_with_backend({}, None, config)\n"
            "except ValueError: pass\n"  # an empty mapping is no data
            "print(json.dumps(steps))\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)[0] == "legacy"

    @every_call
    def test_it_holds_the_configuration_even_if_the_engine_fails(
        self, monkeypatch: pytest.MonkeyPatch, legacy: dict[str, Any], name: str
    ) -> None:
        def get_engine(backend: str) -> FakeEngine:
            raise RuntimeError("deliberate")

        monkeypatch.setattr(selector, "get_engine", get_engine)
        model = ModelConfig(N=128, gridsize=2, probe_mask=True)
        with pytest.raises(RuntimeError, match="deliberate"):
            CALLS[name](TrainingConfig(model=model, output_dir=Path("a/b"), nepochs=7, backend="pytorch"))
        expected = {"N": 128, "gridsize": 2, "probe.mask": True, "output_prefix": "a/b", "nepochs": 7}
        assert expected.items() <= legacy.items()
        assert legacy["backend"] == "pytorch"
        assert "model" not in legacy
        assert not {field.name for field in dataclasses.fields(ExecutionConfig)} & set(legacy)

    def test_an_inference_configuration_is_as_good(
        self, monkeypatch: pytest.MonkeyPatch, legacy: dict[str, Any]
    ) -> None:
        monkeypatch.setattr(selector, "get_engine", lambda backend: FakeEngine())
        selector.load_inference_bundle_with_backend("bundle", InferenceConfig(neighbor_count=5))
        assert legacy["neighbor_count"] == 5

    @every_call
    def test_something_else_than_a_configuration_is_refused(self, name: str) -> None:
        with pytest.raises(TypeError, match="dict"):
            CALLS[name]({"backend": "pytorch"})


class TestSelection:
    @every_call
    def test_an_unknown_engine_is_an_error_that_lists_those_that_exist(self, name: str) -> None:
        config = TrainingConfig()
        object.__setattr__(config, "backend", "jax")  # past the check of the configuration
        with pytest.raises(ValueError, match=r"'jax'.*'pytorch', 'tensorflow'"):
            CALLS[name](config)
        with pytest.raises(ValueError, match=r"'jax'.*'tensorflow', 'pytorch'"):
            TrainingConfig(backend="jax")

    @every_call
    def test_tensorflow_is_the_default(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        asked: list[str] = []

        def get_engine(backend: str) -> FakeEngine:
            asked.append(backend)
            return FakeEngine()

        monkeypatch.setattr(selector, "get_engine", get_engine)
        CALLS[name](TrainingConfig())
        assert asked == ["tensorflow"]

    @every_engine
    @every_call
    def test_the_engines_function_is_looked_up_when_it_is_called(
        self, monkeypatch: pytest.MonkeyPatch, backend: str, name: str
    ) -> None:
        require(backend)
        module, pattern = FUNCTIONS[backend]
        config = TrainingConfig(backend=backend)
        for value in (1, 2):  # a second replacement is seen as well

            def function(*_: Any, value: int = value, **__: Any) -> Any:
                answer = copy.deepcopy(ANSWERS[name])
                results_of(answer)["value"] = value
                return answer

            monkeypatch.setattr(f"{module}.{pattern.format(name)}", function)
            results = results_of(CALLS[name](config))
            assert results["value"] == value
            assert results["backend"] == backend

    @every_engine
    @every_call
    def test_an_engine_that_is_not_available_is_an_error_and_no_other_stands_in(
        self, monkeypatch: pytest.MonkeyPatch, backend: str, name: str
    ) -> None:
        engine = registry.get_engine(backend)
        monkeypatch.setattr(type(engine), "problem", lambda self: f"{self.title} backend selected, but …")
        monkeypatch.setattr(
            type(registry.get_engine(OTHER[backend])), "workflow", lambda *_: pytest.fail("stood in")
        )
        with pytest.raises(RuntimeError, match="backend selected"):
            CALLS[name](TrainingConfig(backend=backend))

    @every_call
    @pytest.mark.parametrize("error", [ValueError, RuntimeError, FileNotFoundError, ModelFileError, KeyError])
    def test_errors_pass_through_as_they_are(
        self, monkeypatch: pytest.MonkeyPatch, name: str, error: type[Exception]
    ) -> None:
        raised = error("deliberate")

        class Failing(FakeEngine):
            def workflow(self, name: str) -> Callable[..., Any]:
                def function(*_: Any, **__: Any) -> Any:
                    raise raised

                return function

        monkeypatch.setattr(selector, "get_engine", lambda backend: Failing())
        with pytest.raises(error) as caught:
            CALLS[name](TrainingConfig())
        assert caught.value is raised

    @every_call
    def test_one_line_of_the_log_says_what_runs_with_which_backend(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
    ) -> None:
        monkeypatch.setattr(selector, "get_engine", lambda backend: FakeEngine())
        with caplog.at_level("INFO"):
            CALLS[name](TrainingConfig(backend="pytorch"))
        assert caplog.messages == [f"{name}_with_backend runs with the backend 'fake'."]


class TestArguments:
    def test_each_reaches_the_engine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        engine, config = FakeEngine(), TrainingConfig()
        monkeypatch.setattr(selector, "get_engine", lambda backend: engine)
        selector.run_cdi_example_with_backend(
            TRAIN, TEST, config, True, False, True, 12, True, execution_config=QUICK
        )
        selector.run_cdi_example_with_backend(TRAIN, None, config)
        selector.train_cdi_model_with_backend(TRAIN, None, config, QUICK)
        selector.load_inference_bundle_with_backend("bundle", config, "autoencoder")
        defaults = {"flip_x": False, "flip_y": False, "transpose": False, "M": 20, "do_stitching": False}
        given = {"flip_x": True, "flip_y": False, "transpose": True, "M": 12, "do_stitching": True}
        assert engine.calls == [
            (("train", "test", config), {**given, "execution_config": QUICK}),
            (("train", None, config), {**defaults, "execution_config": None}),
            (("train", None, config), {"execution_config": QUICK}),
            (("bundle", config), {"model_name": "autoencoder"}),
        ]

    @every_call
    def test_configuration_and_the_engines_answer_are_left_alone(
        self, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.setattr(selector, "get_engine", lambda backend: FakeEngine())
        config = TrainingConfig(model=ModelConfig(gridsize=2))
        before, model, answer = to_dict(config), config.model, copy.deepcopy(ANSWERS[name])
        results = results_of(CALLS[name](config))
        assert results == {**results_of(answer), "backend": "fake"}
        assert ANSWERS[name] == answer
        assert to_dict(config) == before
        assert config.model is model


@pytest.fixture(scope="module")
def scan() -> RawData:
    """16 patterns of 64 × 64."""
    x, y = simulation.raster_positions(4, 4, 6.0, jitter=0.3, origin=35, seed=0)
    object_ = simulation.make_object((96, 96), seed=0)
    return simulation.simulate_scan(object_, simulation.make_probe(64), x, y, photons=1e6, seed=0)


def make_config(backend: str, output: Path) -> TrainingConfig:
    return TrainingConfig(
        model=ModelConfig(architecture="unrolled", n_filters_scale=1),
        nepochs=1,
        batch_size=4,
        n_groups=12,
        subsample_seed=0,
        output_dir=output,
        backend=backend,
    )


@pytest.fixture(scope="module")
def runs(scan: RawData, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Any, Any, Path]]:
    """A whole run by each engine: amplitude, phase, results, output directory."""
    require(*ENGINES)
    train, test = scan.split(0.25, seed=0)
    found = {}
    for backend in ENGINES:
        output = tmp_path_factory.mktemp(backend)
        config = make_config(backend, output)
        before = to_dict(config)
        answer = selector.run_cdi_example_with_backend(
            train, test, config, do_stitching=True, M=20, execution_config=QUICK
        )
        assert to_dict(config) == before
        found[backend] = (*answer, output)
    return found


class TestEngines:
    @every_engine
    def test_results_have_the_structure_of_the_contract(
        self, runs: dict[str, tuple[Any, Any, Any, Path]], backend: str
    ) -> None:
        amplitude, phase, results, _ = runs[backend]
        assert results["backend"] == backend
        assert {name: len(values) for name, values in results["history"].items()} == {
            "train_loss": 1,
            "val_loss": 1,
        }
        assert all(np.isfinite(values).all() for values in results["history"].values())
        assert len(results["train_container"]) == len(results["test_container"]) == 12
        assert {"autoencoder", "diffraction_to_obj"} <= set(results["models"])
        assert amplitude.shape == phase.shape
        assert amplitude.ndim == 2
        assert np.isfinite(amplitude).all()
        assert np.ptp(amplitude) > 0
        assert np.abs(phase).max() <= np.pi + 1e-6

    def test_both_engines_answer_alike(self, runs: dict[str, tuple[Any, Any, Any, Path]]) -> None:
        (one, _, first, _), (two, _, second, _) = runs["tensorflow"], runs["pytorch"]
        assert one.shape == two.shape
        assert one.dtype == two.dtype == np.float32
        own = {"trainer", "best_state", "group"}  # what only one framework has
        assert set(first) - own == set(second) - own
        assert list(first["history"]) == list(second["history"])
        for name in ("train_container", "test_container"):
            assert type(first[name]) is type(second[name])
            np.testing.assert_array_equal(first[name].nn_indices, second[name].nn_indices)

    @every_engine
    def test_without_stitching_there_are_no_images(self, scan: RawData, tmp_path: Path, backend: str) -> None:
        require(backend)
        amplitude, phase, results = selector.run_cdi_example_with_backend(
            scan, None, make_config(backend, tmp_path), execution_config=QUICK
        )
        assert amplitude is phase is None
        assert results["test_container"] is None
        assert results["history"]["val_loss"] == []

    @every_engine
    @pytest.mark.parametrize("writer", ENGINES)
    def test_each_opens_what_either_has_written(
        self, runs: dict[str, tuple[Any, Any, Any, Path]], backend: str, writer: str
    ) -> None:
        output = runs[writer][-1]
        config = make_config(backend, output)
        model, values = selector.load_inference_bundle_with_backend(output, config)
        assert values["backend"] == backend
        assert type(model) is type(runs[backend][2]["models"]["diffraction_to_obj"])
        again, same = selector.load_inference_bundle_with_backend(runs[writer][2]["model_path"], config)
        assert type(again) is type(model)
        assert same == values

    @every_engine
    def test_a_model_that_is_not_there_is_a_missing_file(self, tmp_path: Path, backend: str) -> None:
        require(backend)
        with pytest.raises(FileNotFoundError, match=str(tmp_path)):
            selector.load_inference_bundle_with_backend(tmp_path, make_config(backend, tmp_path))

    @every_engine
    def test_a_model_of_another_size_is_refused(
        self, runs: dict[str, tuple[Any, Any, Any, Path]], backend: str
    ) -> None:
        config = TrainingConfig(model=ModelConfig(gridsize=2), backend=backend)
        with pytest.raises(ModelFileError, match="gridsize = 2"):
            selector.load_inference_bundle_with_backend(runs[backend][-1], config)
