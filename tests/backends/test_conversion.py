"""Models from file to file, from process to process, and from one engine to the other."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_support import ENGINES, QUICK, Bench, distance, relative_error, require_engine, without_graphs
from numpy.typing import NDArray

from ptychopinn_ptychodus.backends import registry
from ptychopinn_ptychodus.backends.base import Engine, ModelFileError, ModelState, Prediction
from ptychopinn_ptychodus.backends.conversion import convert, read_model
from ptychopinn_ptychodus.backends.registry import get_engine, guess_engine
from ptychopinn_ptychodus.backends.reporter import TrainingReporter
from ptychopinn_ptychodus.config import ExecutionConfig
from ptychopinn_ptychodus.data.raw import RawData

pytestmark = pytest.mark.filterwarnings("ignore:.*run_functions_eagerly")

KINDS: dict[str, dict[str, Any]] = {
    "cnn": {},
    "cnn-groups": {"gridsize": 2, "probe_modes": 3, "amp_activation": "swish"},
    "cnn-apart": {"gridsize": 2, "object_big": False, "pad_object": False},
    "unrolled": {"architecture": "unrolled", "probe_modes": 3},
    "unrolled-fourier": {"architecture": "unrolled_fourier", "gridsize": 2},
    "unrolled-groups": {
        "architecture": "unrolled",
        "gridsize": 2,
        "probe_trainable": True,
        "reflections": 3,
    },
    "unrolled-apart": {"architecture": "unrolled", "gridsize": 2, "object_big": False, "probe_mask": True},
}

_APPLY = """
import json, sys
import numpy as np
from ptychopinn_ptychodus.backends.registry import get_engine
from ptychopinn_ptychodus.config import ExecutionConfig
from ptychopinn_ptychodus.data.raw import RawData
from pathlib import Path
name, scan, models, out = sys.argv[1:]
raw, results = RawData.from_file(scan), {}
for key, (path, gridsize) in json.loads(models).items():
    data = raw.generate_grouped_data(64, 8, 12, gridsize=gridsize, seed=0)
    execution = ExecutionConfig(accelerator="cpu", logger_backend="none")
    results[key] = get_engine(name).predict(Path(path), data, execution).patches
np.savez(out, **results)
"""


def _other(name: str) -> str:
    return ENGINES[1 - ENGINES.index(name)]


@dataclass
class Trained:
    """One model of every kind by every engine, and the scan that they were trained on."""

    directory: Path
    scan: RawData
    benches: Mapping[tuple[str, str], Bench]

    def bench(self, engine: str, kind: str) -> Bench:
        return self.benches[engine, kind]

    def path(self, engine: str, kind: str) -> Path:
        return self.bench(engine, kind).model_path

    def predict(self, reader: str, writer: str, kind: str) -> Prediction:
        bench = self.bench(writer, kind)
        data = bench.groups(KINDS[kind].get("gridsize", 1))
        return get_engine(reader).predict(bench.model_path, data, QUICK)


@pytest.fixture(scope="module")
def trained(scan: RawData, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    directory, benches = tmp_path_factory.mktemp("trained"), {}
    for name in ENGINES:
        engine = require_engine(name)
        with without_graphs(engine):
            for kind, changes in KINDS.items():
                benches[name, kind] = bench = Bench(engine, scan, directory / name / kind)
                data = bench.groups(changes.get("gridsize", 1), count=4)
                # unrolled corrections start at zero: with a longer step, their kernels count in the patches
                rate = 0.03 if "architecture" in changes else QUICK.learning_rate
                execution = replace(QUICK, learning_rate=rate)
                bench.train(execution, data=data, validation=data, **changes)
    scan.to_file(directory / "scan.npz")
    return Trained(directory, scan, benches)


@pytest.fixture(scope="module")
def reopened(trained: Trained) -> dict[str, Mapping[str, NDArray[np.complex64]]]:
    """Patches of every model, by a new process of each engine: ``[reader]["writer/kind"]``."""
    models = json.dumps(
        {
            f"{writer}/{kind}": (str(trained.path(writer, kind)), KINDS[kind].get("gridsize", 1))
            for writer in ENGINES
            for kind in KINDS
        }
    )
    patches: dict[str, Mapping[str, NDArray[np.complex64]]] = {}
    for reader in ENGINES:
        out = trained.directory / f"{reader}.npz"
        arguments = [reader, str(trained.directory / "scan.npz"), models, str(out)]
        subprocess.run([sys.executable, "-c", _APPLY, *arguments], check=True)
        with np.load(out) as file:
            patches[reader] = dict(file)
    return patches


# ---------------------------------------------------------------------- round trips


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ENGINES)
def test_new_process_gives_the_identical_patches(
    trained: Trained, reopened: dict[str, Mapping[str, Any]], name: str, kind: str
) -> None:
    expected = trained.predict(name, name, kind).patches
    assert np.isfinite(expected).all()
    np.testing.assert_array_equal(reopened[name][f"{name}/{kind}"], expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("writer", ENGINES)
def test_model_of_either_engine_gives_the_same_object_in_the_other(
    trained: Trained, reopened: dict[str, Mapping[str, Any]], writer: str, kind: str
) -> None:
    from rounding_support import drawn_patches, relative_norm

    ours, theirs = (reopened[reader][f"{writer}/{kind}"] for reader in (writer, _other(writer)))
    container = trained.bench(writer, kind).groups(KINDS[kind].get("gridsize", 1))
    drawn = drawn_patches(trained.path(writer, kind), container)
    for patches in (ours, theirs):
        for error in (relative_norm, relative_error):
            assert error(patches, drawn.exact) < drawn.allowed(error)
    probe = trained.predict(writer, writer, kind).probe
    # a product with e^α: some ten roundings, whatever the processor
    assert relative_error(trained.predict(_other(writer), writer, kind).probe, probe) < 1e-5

    def on_a_canvas(patches: NDArray[Any]) -> NDArray[np.complex64]:
        return Prediction(patches.astype(np.complex64), probe).stitch(container).object

    allowed = drawn.allowed(relative_error, on_a_canvas)
    assert relative_error(on_a_canvas(theirs), on_a_canvas(ours)) < allowed


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("writer", ENGINES)
def test_there_and_back_again_is_the_identity(
    trained: Trained, tmp_path: Path, writer: str, kind: str
) -> None:
    source, there, back = trained.path(writer, kind), tmp_path / "there", tmp_path / "back"
    assert convert(source, there, _other(writer)).name == _other(writer)
    convert(there, back, writer)
    states = [read_model(path) for path in (source, there, back)]
    for state, name in zip(states, (writer, _other(writer), writer), strict=True):
        assert guess_engine(there if state is states[1] else back).name in ENGINES
        assert state.description == replace(states[0].description, engine=name)
        assert state.training == states[0].training
        assert distance(state.arrays, states[0].arrays) == 0
        assert {array.dtype for array in state.arrays.values()} == {np.dtype(np.float32)}
    assert (guess_engine(there).name, guess_engine(back).name) == (_other(writer), writer)
    assert len(states[0].description.history["val_loss"]) == 1


@pytest.mark.parametrize("writer", ENGINES)
def test_model_of_the_other_engine_is_opened_by_the_workflow(trained: Trained, writer: str) -> None:
    bench = trained.bench(writer, "cnn-groups")
    model, values = get_engine(_other(writer)).workflow("load_inference_bundle")(bench.model_path)
    assert model is not None
    assert values["history"] == dict(read_model(bench.model_path).description.history)
    assert values["model_config"]["amp_activation"] == "swish"


# ---------------------------------------------------------------------- refusals


class _ThirdEngine(Engine):
    """Somebody's engine, whose one model is ``state``."""

    name, title, model_suffix, model_filter, install_hint = "third", "Third", ".third", "*.third", "-"
    state: ModelState

    def problem(self) -> str | None:
        return None

    def accelerators(self) -> list[str]:
        return ["cpu"]

    def recognises(self, path: Path) -> bool:
        return path.read_bytes() == b"third"

    def describe(self, path: Path) -> Any:
        return self.state.description

    def read_state(self, path: Path) -> ModelState:
        return self.state

    def train(self, *arguments: Any, **options: Any) -> Any:
        raise NotImplementedError

    def predict(self, *arguments: Any, **options: Any) -> Any:
        raise NotImplementedError


class _SecretiveEngine(_ThirdEngine):
    """One that does not hand over its models, nor take over others'."""

    read_state = Engine.read_state


@pytest.fixture
def third(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Engine], Path]:
    """Installs an engine, and returns a model file of it."""

    def install(engine: Engine) -> Path:
        original = registry.get_engine
        listed = {"third": None, **registry.list_engines()}

        def get(name: str) -> Engine:
            return engine if name == "third" else original(name)

        for module in ("registry", "conversion"):
            monkeypatch.setattr(f"ptychopinn_ptychodus.backends.{module}.get_engine", get)
        monkeypatch.setattr(registry, "list_engines", lambda: listed)
        path = tmp_path / "model.third"
        path.write_bytes(b"third")
        return path

    return install


def _foreign(state: ModelState, arrays: Mapping[str, NDArray[Any]], **model: Any) -> _ThirdEngine:
    engine = _ThirdEngine()
    description = replace(state.description, engine="third", model=replace(state.description.model, **model))
    engine.state = replace(state, description=description, arrays=arrays)
    return engine


@pytest.mark.parametrize("reader", ENGINES)
@pytest.mark.parametrize("flaw", ["extra", "missing", "misshapen", "architecture"])
def test_model_that_the_engine_lacks_is_refused_naming_both_and_the_reason(
    trained: Trained, third: Callable[[Engine], Path], tmp_path: Path, reader: str, flaw: str
) -> None:
    state = read_model(trained.path(reader, "cnn"))
    arrays, model, reason = dict(state.arrays), {}, "network"
    kernel = next(name for name in arrays if name.endswith("weight"))
    if flaw == "extra":
        arrays["network.attention"], reason = np.ones(3, np.float32), "attention"
    elif flaw == "missing":
        del arrays[kernel]
        reason = kernel
    elif flaw == "misshapen":
        arrays[kernel] = arrays[kernel][:, :, :1]
        reason = r"3, 3, 1|1, 3|\(.*\)"
    else:
        model = {"architecture": "unrolled"}
    path = third(_foreign(state, arrays, **model))
    target = tmp_path / "target"
    with pytest.raises(ModelFileError, match=rf"(?s)'third'.*'{reader}'.*({reason})"):
        convert(path, target, reader)
    assert not target.exists()
    data = trained.bench(reader, "cnn").groups()
    with pytest.raises(ModelFileError, match=rf"(?s)model\.third.*'third'.*'{reader}'"):
        require_engine(reader).predict(path, data, ExecutionConfig())


@pytest.mark.parametrize("reader", ENGINES)
def test_complete_model_of_a_third_engine_is_taken_over(
    trained: Trained, third: Callable[[Engine], Path], tmp_path: Path, reader: str
) -> None:
    state = read_model(trained.path(reader, "cnn"))
    path = third(_foreign(state, state.arrays))
    convert(path, tmp_path / "target", reader)
    taken = read_model(tmp_path / "target")
    assert taken.description.engine == reader
    assert distance(taken.arrays, state.arrays) == 0


def test_engine_that_keeps_its_models_to_itself_is_named(
    trained: Trained, third: Callable[[Engine], Path], tmp_path: Path
) -> None:
    path = third(_SecretiveEngine())
    with pytest.raises(ModelFileError, match=r"model\.third.*'third'.*does not hand over"):
        convert(path, tmp_path / "target", ENGINES[0])
    with pytest.raises(ModelFileError, match=rf"'third'.*{ENGINES[0]!r}"):
        convert(trained.path(ENGINES[0], "cnn"), tmp_path / "target", "third")


def test_nothing_to_convert(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.ckpt"):
        convert(tmp_path / "none.ckpt", tmp_path / "target", "tensorflow")
    (tmp_path / "text.ckpt").write_text("hello")
    with pytest.raises(ModelFileError, match=r"text\.ckpt"):
        convert(tmp_path / "text.ckpt", tmp_path / "target", "pytorch")
    with pytest.raises(ValueError, match="Unknown engine 'jax'"):
        convert(tmp_path / "text.ckpt", tmp_path / "target", "jax")


# ---------------------------------------------------------------------- training


def _fit(name: str, bench: Bench, start: ModelState, execution: ExecutionConfig, changes: Any) -> ModelState:
    """The last state of a training that begins at ``start``."""
    config = bench.config(**changes, sequential_sampling=True, backend=name)
    data, size = bench.groups(config.model.gridsize), config.batch_size
    execution = replace(execution, enable_checkpointing=False)
    start = replace(start, training=config)
    if name == "tensorflow":
        from ptychopinn_ptychodus.backends.tensorflow.loaders import build_dataset
        from ptychopinn_ptychodus.backends.tensorflow.module import PtychoPINN_TensorFlow
        from ptychopinn_ptychodus.backends.tensorflow.training import fit

        model = PtychoPINN_TensorFlow.from_state(start, execution=execution)
        model.loss_history = {"train_loss": [], "val_loss": []}
        batches = build_dataset(data, data.input_scale, size, execution)
        fit(model, batches, None, config, len(data), TrainingReporter())
        return model.state()
    import torch

    from ptychopinn_ptychodus.backends.lightning import training as lightning_training
    from ptychopinn_ptychodus.backends.lightning.checkpoint import read_state, save_model
    from ptychopinn_ptychodus.backends.lightning.loaders import GroupDataset, build_loader
    from ptychopinn_ptychodus.backends.lightning.module import PtychoPINN_Lightning

    module = PtychoPINN_Lightning.for_data(data, config, execution)
    module.load_state_dict({key: torch.tensor(array) for key, array in start.arrays.items()})
    loader = build_loader(GroupDataset(data, data.input_scale), size, execution)
    lightning_training.fit(module, loader, None, config, execution, module.history, TrainingReporter())
    return read_state(save_model(module, bench.directory / "last.ckpt"))


@pytest.mark.parametrize(
    ("changes", "knobs"),
    [
        ({}, {}),
        ({"gridsize": 2, "mae_weight": 0.5}, {"accum_steps": 2, "gradient_clip_val": 0.1}),
        (
            {"gridsize": 2, "architecture": "unrolled", "probe_trainable": True, "probe_modes": 2},
            {"scheduler": "one_cycle", "gradient_clip_val": 0.1},
        ),
    ],
    ids=["plain", "accumulated", "probe"],
)
def test_equal_training_of_equal_models_ends_equal(
    scan: RawData, tmp_path: Path, changes: dict[str, Any], knobs: dict[str, Any]
) -> None:
    """Twelve steps (six where two batches are a step) from one state, on the same batches in one order.

    Adam divides a gradient by its own size: weights with next to none follow its rounding. What counts is
    how far apart the models are, compared with how far they have come. A trainable probe starts at the true
    one, where its gradient is noise: the engines go equally far, and more or less the same way.
    """
    bench = Bench(require_engine("pytorch"), scan, tmp_path)
    require_engine("tensorflow")
    bench.train(replace(QUICK, learning_rate=1e-12), **changes)
    start = read_model(bench.model_path)
    execution = replace(QUICK, learning_rate=2e-4, **knobs)
    schedule = {**changes, "nepochs": 4}
    ours, theirs = (_fit(name, bench, start, execution, schedule) for name in ENGINES)
    losses, expected = (state.description.history["train_loss"] for state in (ours, theirs))
    trainable = changes.get("probe_trainable", False)
    assert losses == pytest.approx(expected, rel=1e-2 if trainable else 2e-3)
    network = [
        {name: array for name, array in state.arrays.items() if name != "probe_planes"}
        for state in (ours, theirs, start)
    ]
    assert distance(network[0], network[1]) < 0.05 * distance(network[2], network[1])
    probes = [state.arrays["probe_planes"] for state in (ours, theirs, start)]
    apart, our_way, way = (float(np.linalg.norm(probes[i] - probes[j])) for i, j in ((0, 1), (0, 2), (1, 2)))
    assert our_way == pytest.approx(way, rel=0.05)
    assert (apart < way) if trainable else (apart == way == 0)
