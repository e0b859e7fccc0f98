"""Engine suite: whether an :class:`.Engine` does what the rest of this package relies on.

For authors of engines. A test file of a few lines has pytest run every check::

    from ptychopinn_ptychodus.testing.engine import EngineContract
    from my_engine import MyEngine

    class TestMyEngine(EngineContract):
        engine = MyEngine

The package of the engine has to be installed, since a configuration accepts the names of installed engines
alone. See ``docs/engine_suite.md``.
"""

from __future__ import annotations

import functools
import json
import math
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from ..backends.base import Engine, EpochReport, ModelFileError, Prediction, TrainingResult
from ..backends.registry import REQUIRED_TEXTS, get_engine, guess_engine, list_engines
from ..config import ACCELERATORS, ExecutionConfig, ModelConfig, TrainingConfig
from ..data.container import PtychoDataContainer
from ..data.simulation import make_object, make_probe, raster_positions, simulate_scan

EPOCHS = 2
GROUPS = 12
BATCH = 4

_WITHOUT_FRAMEWORK = """
import importlib, json, sys
sys.path[:] = {path!r}
from pathlib import Path
engine = getattr(importlib.import_module({module!r}), {name!r})()
model = Path({model!r})
assert engine.recognises(model)
engine.describe(model)
if {hands_over!r}:
    engine.read_state(model)
print(json.dumps([name for name in {needed!r} if name in sys.modules]))
"""


@dataclass
class Run:
    """A training, and what was told of it."""

    config: TrainingConfig
    result: TrainingResult
    batches: int
    epochs: list[EpochReport]
    previews: list[Prediction] = field(default_factory=list)


_RUN = pytest.StashKey[Run]()


@functools.lru_cache(maxsize=4)
def _groups(n: int, gridsize: int) -> PtychoDataContainer:
    x, y = raster_positions(6, 5, 6.0, jitter=0.3, origin=n / 2 + 3, seed=0)
    raw = simulate_scan(make_object((n + 44, n + 44), seed=0), make_probe(n), x, y, photons=1e6, seed=0)
    raw.bad_pixels[3, 5] = True
    return raw.generate_grouped_data(n, 8, GROUPS, gridsize=gridsize, seed=0)


def _text(path: Path) -> None:
    path.write_text("This is no model.\n", encoding="utf-8")


def _empty(path: Path) -> None:
    path.touch()


def _arrays(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, something=np.ones(3))


FOREIGN: dict[str, Callable[[Path], None]] = {"text": _text, "empty": _empty, "arrays": _arrays}


class EngineContract:
    """Every check of an engine. Derive a class named ``Test…`` from it and set ``engine``."""

    engine: ClassVar[type[Engine]]
    """The class that the entry point names."""

    model: ClassVar[ModelConfig] = ModelConfig(n_filters_scale=1)
    """A small model that the engine can make."""

    training: ClassVar[Mapping[str, Any]] = {}
    """Further fields of ``TrainingConfig`` that it needs."""

    execution: ClassVar[ExecutionConfig] = ExecutionConfig(accelerator="cpu", logger_backend="none")
    """Devices and optimiser."""

    # ------------------------------------------------------------------ what the checks have in common

    @pytest.fixture
    def groups(self) -> PtychoDataContainer:
        """Groups of a simulated scan of 30 patterns, one pixel of the detector being bad."""
        return _groups(self.model.N, self.model.gridsize)

    def train(
        self,
        groups: PtychoDataContainer,
        directory: Path,
        should_stop: Callable[[], bool] | None = None,
    ) -> Run:
        """Train on all groups, and validate with some of them."""
        engine = self.engine()
        fields: dict[str, Any] = {
            "model": self.model,
            "nepochs": EPOCHS,
            "batch_size": BATCH,
            "n_groups": GROUPS,
            "subsample_seed": 0,
            "backend": engine.name,
            "output_dir": directory,
            **self.training,
        }
        config = TrainingConfig(**fields)
        batches: list[int] = []
        epochs: list[EpochReport] = []
        previews: list[Prediction] = []
        result = engine.train(
            groups,
            groups.subset(np.arange(BATCH)),
            config,
            self.execution,
            model_path=directory / f"model{engine.model_suffix}",
            on_batch=lambda: batches.append(1),
            on_epoch=epochs.append,
            should_stop=should_stop,
            preview=lambda report, apply: previews.append(apply(groups)),
        )
        return Run(config, result, len(batches), epochs, previews)

    @pytest.fixture
    def run(
        self,
        request: pytest.FixtureRequest,
        groups: PtychoDataContainer,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> Run:
        """One training to its end, which is kept for all checks of the class."""
        stash: pytest.Stash = request.node.getparent(pytest.Class).stash
        if _RUN not in stash:
            stash[_RUN] = self.train(groups, tmp_path_factory.mktemp(type(self).__name__))
        return stash[_RUN]

    @pytest.fixture
    def path(self, run: Run) -> Path:
        """The model that it has left."""
        return run.result.model_path

    def assert_is_of(self, prediction: Prediction, groups: PtychoDataContainer) -> None:
        """Patches and probe are arrays as :class:`.Prediction` describes them."""
        n = groups.N
        patches, probe = prediction.patches, prediction.probe
        assert patches.shape == (*groups.nn_indices.shape, n, n)
        assert (probe.ndim, probe.shape[1:]) == (3, (n, n))
        assert str(patches.dtype) == str(probe.dtype) == "complex64"
        assert np.isfinite(patches).all(), "Some patches are not finite: they would spoil the whole object."
        assert np.isfinite(probe).all()

    # ------------------------------------------------------------------ names

    def test_names_are_there(self) -> None:
        engine = self.engine()
        for name in REQUIRED_TEXTS:
            value = getattr(engine, name, None)
            assert isinstance(value, str), (
                f'Write {name} = "…" into {type(engine).__name__}: it is {value!r}.'
            )
            assert value.strip(), f"{name} is empty: people would see nothing."
        assert isinstance(engine.framework, str)
        assert not isinstance(engine.needed, str), "needed is one string: write a tuple, (name,)."
        assert engine.model_suffix.startswith("."), f'Write model_suffix = ".{engine.model_suffix}".'
        assert f"*{engine.model_suffix}" in engine.model_filter, "The file dialog would not show the models."

    def test_entry_point_leads_to_the_engine(self) -> None:
        name = self.engine().name
        assert name in list_engines(), (
            f"No installed package has an entry point {name!r} in the group ptychopinn_ptychodus.backends: "
            "write it into pyproject.toml, and install the package."
        )
        assert type(get_engine(name)) is self.engine
        assert self.engine().problem() is None

    def test_accelerators_are_known(self) -> None:
        found = self.engine().accelerators()
        assert found, "There is no device to train on, not even 'cpu'."
        assert set(found) <= set(ACCELERATORS)

    def test_looking_at_a_model_imports_no_framework(self, path: Path) -> None:
        needed = [name for name in self.engine.needed if name != "numpy"]
        code = _WITHOUT_FRAMEWORK.format(
            path=sys.path,
            module=self.engine.__module__,
            name=self.engine.__name__,
            model=str(path),
            hands_over=self.engine.read_state is not Engine.read_state,
            needed=needed,
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1]) == [], (
            "Import the framework inside the methods that need it: the application looks at models, and must "
            "not wait for it or hold a GPU."
        )

    # ------------------------------------------------------------------ training

    def test_training_tells_of_batches_and_epochs(self, run: Run) -> None:
        history = run.result.history
        assert not run.result.stopped
        assert run.batches >= EPOCHS * GROUPS / BATCH
        assert [(report.epoch, report.nepochs) for report in run.epochs] == [
            (epoch + 1, EPOCHS) for epoch in range(EPOCHS)
        ]
        assert [report.train_loss for report in run.epochs] == pytest.approx(history["train_loss"])
        assert [report.val_loss for report in run.epochs] == pytest.approx(history["val_loss"])
        assert all(map(math.isfinite, [*history["train_loss"], *history["val_loss"]]))
        assert all(report.patterns_per_second > 0 for report in run.epochs)

    def test_previews_are_predictions(self, run: Run, groups: PtychoDataContainer) -> None:
        for prediction in run.previews:  # there may be none
            self.assert_is_of(prediction, groups)

    def test_training_stops_and_leaves_a_model(self, groups: PtychoDataContainer, tmp_path: Path) -> None:
        run = self.train(groups, tmp_path, should_stop=lambda: True)
        assert run.result.stopped
        assert run.batches == 1, f"Asked to stop after the first batch, it went on for {run.batches}."
        engine = self.engine()
        assert engine.describe(run.result.model_path).model == self.model
        self.assert_is_of(engine.predict(run.result.model_path, groups, self.execution), groups)

    # ------------------------------------------------------------------ model files

    def test_model_describes_itself(self, run: Run, path: Path, groups: PtychoDataContainer) -> None:
        engine = self.engine()
        about = engine.describe(path)
        assert (about.engine, about.model) == (engine.name, self.model)
        assert (about.data.N, about.data.gridsize) == (groups.N, groups.gridsize)
        assert about.data.input_scale == pytest.approx(groups.input_scale)
        assert about.version
        for name in ("train_loss", "val_loss"):
            assert about.history[name] == pytest.approx(run.result.history[name])

    def test_model_is_recognised_by_this_engine_alone(self, path: Path, tmp_path: Path) -> None:
        moved = tmp_path / "another_name"
        moved.write_bytes(path.read_bytes())
        assert self.engine().recognises(moved), "Go by what is in the file, not by its name."
        assert guess_engine(moved).name == self.engine().name

    @pytest.mark.parametrize("kind", FOREIGN)
    def test_foreign_file_is_refused(self, kind: str, groups: PtychoDataContainer, tmp_path: Path) -> None:
        engine = self.engine()
        path = tmp_path / f"foreign{engine.model_suffix}"
        FOREIGN[kind](path)
        assert engine.recognises(path) is False
        with pytest.raises(ModelFileError, match=r"foreign\."):  # whoever sees it has chosen among files
            engine.describe(path)
        with pytest.raises(ModelFileError):
            engine.predict(path, groups, self.execution)

    def test_damaged_file_is_refused(self, path: Path, groups: PtychoDataContainer, tmp_path: Path) -> None:
        engine = self.engine()
        damaged = tmp_path / f"damaged{engine.model_suffix}"
        damaged.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert engine.recognises(damaged) in (False, True)
        with pytest.raises(ModelFileError, match=r"damaged\."):
            engine.describe(damaged)
        with pytest.raises(ModelFileError):
            engine.predict(damaged, groups, self.execution)

    def test_missing_file_is_told_of(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="nowhere"):
            self.engine().describe(tmp_path / "nowhere")

    def test_model_is_the_same_read_and_written(
        self, path: Path, groups: PtychoDataContainer, tmp_path: Path
    ) -> None:
        engine = self.engine()
        if self.engine.read_state is Engine.read_state:
            pytest.skip("it does not hand over its models")
        state = engine.read_state(path)
        assert state.description == engine.describe(path)
        assert all(np.isfinite(array).all() for array in state.arrays.values())
        if self.engine.write_state is Engine.write_state:
            pytest.skip("it does not take over models")
        again = tmp_path / f"again{engine.model_suffix}"
        engine.write_state(state, again)
        other = engine.read_state(again)
        assert (other.description, other.training) == (state.description, state.training)
        assert other.arrays.keys() == state.arrays.keys()
        for name, array in state.arrays.items():
            np.testing.assert_array_equal(other.arrays[name], array)
        np.testing.assert_allclose(
            engine.predict(again, groups, self.execution).patches,
            engine.predict(path, groups, self.execution).patches,
            rtol=1e-4,
            atol=1e-4,
        )

    # ------------------------------------------------------------------ inference

    def test_prediction_is_an_object_under_a_probe_in_counts(
        self, path: Path, groups: PtychoDataContainer
    ) -> None:
        done: list[float] = []
        prediction = self.engine().predict(path, groups, self.execution, on_progress=done.append)
        self.assert_is_of(prediction, groups)
        assert done, "on_progress was never called."
        assert done == sorted(done)
        assert 0 < done[0] <= done[-1] == pytest.approx(1.0)
        waves = prediction.patches[:, :, None] * prediction.probe
        modelled = float((np.abs(waves) ** 2).sum((2, 3, 4)).mean())  # the orthonormal transform keeps it
        measured = float((groups.amplitude.astype(np.float64) ** 2).sum((1, 2)).mean())
        assert 0.1 < modelled / measured < 10, (
            f"Probe times patches has {modelled:.3g} counts per pattern, and measured were {measured:.3g}: "
            "refinement and verdict need the probe in the scale of counts."
        )

    def test_prediction_stops(self, path: Path, groups: PtychoDataContainer) -> None:
        with pytest.raises(InterruptedError):
            self.engine().predict(path, groups, self.execution, should_stop=lambda: True)

    def test_model_for_other_groups_is_refused(self, path: Path, groups: PtychoDataContainer) -> None:
        other = 2 if groups.gridsize == 1 else 1
        members = np.resize(np.arange(len(groups.coords)), (GROUPS, other**2))
        offsets = groups.coords[members].mean(1)
        relative = groups.coords[members] - offsets[:, None]
        container = replace(
            groups,
            nn_indices=members,
            coords_offsets=offsets[:, None, :, None],
            coords_relative=np.moveaxis(relative, 1, 2)[:, None].astype(np.float32),
        )
        with pytest.raises(ModelFileError, match="gridsize"):
            self.engine().predict(path, container, self.execution)
