"""What is particular to the TensorFlow engine: Keras models, bundles that are data, and knobs it has not."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from engine_support import QUICK, Bench, has_convolution, relative_error
from numpy.typing import NDArray

from ptychopinn_ptychodus.backends.base import ModelFileError, ModelState
from ptychopinn_ptychodus.backends.registry import get_engine, guess_engine
from ptychopinn_ptychodus.backends.tensorflow import bundle, module, unrolled
from ptychopinn_ptychodus.backends.tensorflow.components import load_inference_bundle
from ptychopinn_ptychodus.backends.tensorflow.loaders import Order, build_dataset
from ptychopinn_ptychodus.backends.tensorflow.module import PtychoPINN_TensorFlow, require_precision
from ptychopinn_ptychodus.config import ExecutionConfig, ModelConfig
from ptychopinn_ptychodus.data import simulation
from ptychopinn_ptychodus.data.raw import RawData

Entries = dict[str, bytes]

needs_bfloat16 = pytest.mark.skipif(
    not has_convolution(get_engine("tensorflow"), "bf16-mixed"),
    reason="TensorFlow has no convolution of bfloat16 on this processor",
)


@pytest.fixture
def bench(scan: RawData, tmp_path: Path) -> Bench:
    return Bench(get_engine("tensorflow"), scan, tmp_path)


@pytest.fixture(scope="module")
def model(scan: RawData) -> PtychoPINN_TensorFlow:
    """Untrained, for groups of four."""
    bench = Bench(get_engine("tensorflow"), scan, Path("unused"))
    keras.utils.set_random_seed(0)
    model = PtychoPINN_TensorFlow.for_data(bench.groups(2), bench.config(gridsize=2))
    model.loss_history = {"train_loss": [2.0, 1.0], "val_loss": [3.0]}
    return model


@pytest.fixture
def path(model: PtychoPINN_TensorFlow, tmp_path: Path) -> Path:
    """A bundle in a directory of its own."""
    return bundle.save_model(model, tmp_path / "model" / "wts.h5.zip")


def _inputs(bench: Bench) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    data = bench.groups(2, count=3)
    return data.diffraction * np.float32(data.input_scale), data.coords_relative


# ---------------------------------------------------------------------- knobs


@pytest.mark.parametrize(
    "knobs",
    [
        {"strategy": "ddp"},
        {"pin_memory": True},
        {"persistent_workers": True, "num_workers": 1},
    ],
)
def test_knob_that_this_engine_has_not_is_refused(bench: Bench, knobs: dict[str, Any]) -> None:
    name, value = next(iter(knobs.items()))
    with pytest.raises(ValueError, match=rf"ExecutionConfig\.{name} = {value!r} .*'tensorflow'"):
        bench.train(replace(QUICK, **knobs))


@pytest.mark.parametrize(
    "knobs",
    [{"pin_memory": True}, {"persistent_workers": True, "num_workers": 1}],
)
def test_knob_of_inference_that_this_engine_has_not_is_refused(
    bench: Bench, path: Path, knobs: dict[str, Any]
) -> None:
    name, value = next(iter(knobs.items()))
    with pytest.raises(ValueError, match=rf"ExecutionConfig\.{name} = {value!r} .*'tensorflow'"):
        bench.engine.predict(path, bench.groups(2), replace(QUICK, **knobs))


# ---------------------------------------------------------------------- batches and physics


def test_batches_have_the_documented_shapes_and_the_contracts_normalisation(bench: Bench) -> None:
    data = bench.groups(2)
    dataset = build_dataset(data, data.input_scale, 5, QUICK, with_object=True)
    batches = list(dataset.as_numpy_iterator())
    assert [len(batch["amplitude"]) for batch in batches] == [5, 5, 2]
    first = batches[0]
    assert first["amplitude"].shape == (5, 64, 64, 4)
    assert (first["amplitude"].dtype, first["object"].dtype) == (np.float32, np.complex64)
    np.testing.assert_allclose(first["offsets"].mean(1), 0, atol=1e-4)
    np.testing.assert_array_equal(first["offsets"][3, 2], data.coords_relative[3, 0, :, 2])
    np.testing.assert_array_equal(first["object"][3, 2], data.patches_for([3])[0, ..., 2])
    scan = bench.groups(1, count=36)
    whole = next(build_dataset(scan, scan.input_scale, 36, QUICK).as_numpy_iterator())
    assert (whole["amplitude"] ** 2).sum((1, 2)).mean() == pytest.approx((64 / 2) ** 2, rel=1e-5)


def test_steps_that_are_computed_again_give_the_same_gradients(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for patterns too large for all of a batch's intermediate results; in graphs, as in trainings."""
    monkeypatch.setattr(unrolled, "STEPS", 4)
    monkeypatch.setattr(unrolled, "STEPS_PER_CORRECTION", 2)
    data = bench.groups(2, count=3)
    batch = next(iter(build_dataset(data, data.input_scale, 3, QUICK)))
    config = bench.config(gridsize=2, architecture="unrolled", probe_trainable=True, batch_size=3)
    arrays: dict[str, NDArray[np.float32]] = {}
    rng = np.random.default_rng(1)
    seen = []
    pixels = 3 * 4 * 64**2 * len(data.probe)
    for limit in (pixels, pixels - 1):
        monkeypatch.setattr(module, "MOST_KEPT", limit)
        model = PtychoPINN_TensorFlow.for_data(data, config)
        # they begin at zero, and would hide what comes before
        arrays = arrays or {
            name: rng.normal(0, 0.05, array.shape).astype(np.float32) if ".out." in name else array
            for name, array in model.arrays().items()
        }
        model.set_arrays(arrays)
        gradients = _gradients(model, batch)
        traced = gradients.get_concrete_function()
        transforms = sum(operation.type == "FFT2D" for operation in traced.graph.get_operations())
        seen.append((transforms, [value.numpy() for value in gradients(batch)]))
    (once, kept), (twice, again) = seen
    assert twice == once + 4
    for one, other in zip(kept, again, strict=True):
        np.testing.assert_allclose(other, one, rtol=0.0, atol=1e-4 * np.abs(one).max())


def _gradients(model: PtychoPINN_TensorFlow, batch: Mapping[str, tf.Tensor]) -> Any:
    """A graph for batches of any size: the loss, and its gradient for each variable."""
    shapes = {name: tf.TensorSpec((None, *value.shape[1:]), value.dtype) for name, value in batch.items()}

    def gradients(batch: Mapping[str, tf.Tensor]) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = model.objective(batch)
        return [loss, *tape.gradient(loss, [variable.value for variable in model.trainable_variables])]

    return tf.function(gradients, input_signature=[shapes])


@pytest.mark.parametrize("probe_factor", [1.0, 1e-4, 3e3])
@pytest.mark.parametrize("probe_scale", [4.0, 1.0])
def test_flat_object_predicts_the_measured_counts_whatever_the_probe_scale(
    bench: Bench, probe_factor: float, probe_scale: float
) -> None:
    data = bench.groups(probe=bench.scan.probeGuess * np.complex64(probe_factor))
    model = PtychoPINN_TensorFlow.for_data(data, bench.config(probe_scale=probe_scale))
    counts = model.expected_counts(tf.ones((1, 1, 64, 64), tf.complex64))
    assert float(tf.reduce_sum(counts)) == pytest.approx(bench.scan.photons_per_pattern, rel=1e-3)


@pytest.mark.parametrize("probe_mask", [False, True])
def test_expected_counts_agree_with_the_reference(
    make_scan: Callable[..., RawData], tmp_path: Path, probe_mask: bool
) -> None:
    bench = Bench(get_engine("tensorflow"), make_scan(modes=2), tmp_path)
    model = PtychoPINN_TensorFlow.for_data(bench.groups(2), bench.config(gridsize=2, probe_mask=probe_mask))
    patches = np.ascontiguousarray(np.moveaxis(bench.groups(2).patches_for([0, 7]), -1, 1))
    actual = model.expected_counts(tf.constant(patches)).numpy()
    for group in range(2):
        expected = simulation.predicted_counts(patches[group], model.probe.numpy(), float(model.log_scale))
        assert np.linalg.norm(actual[group] - expected) / np.linalg.norm(expected) < 1e-5


def test_supervised_loss_does_not_teach_the_probe_to_look_away(bench: Bench) -> None:
    changes = {"nll_weight": 0.0, "realspace_mae_weight": 1.0, "probe_trainable": True}
    data = bench.groups()
    model = PtychoPINN_TensorFlow.for_data(data, bench.config(model_type="supervised", **changes))
    batch = next(iter(build_dataset(data, data.input_scale, 2, QUICK, with_object=True)))
    with tf.GradientTape() as tape:
        loss = model.objective(batch)
    gradient = tape.gradient(loss, model.probe_planes)
    assert gradient is None or float(tf.reduce_max(tf.abs(gradient))) == 0.0


# ---------------------------------------------------------------------- Keras models


def test_models_of_a_bundle_are_keras_models_of_the_contracts_shapes(bench: Bench, path: Path) -> None:
    inputs = _inputs(bench)
    inverse, values = load_inference_bundle(path.parent)
    whole, _ = load_inference_bundle(path.parent, model_name="autoencoder")
    assert isinstance(inverse, keras.Model)
    assert isinstance(whole, keras.Model)
    assert (inverse.name, whole.name) == ("diffraction_to_obj", "autoencoder")
    assert values["model_config"]["gridsize"] == 2
    patches, counts = inverse(inputs).numpy(), whole(inputs).numpy()
    assert (patches.shape, patches.dtype) == ((3, 64, 64, 4), np.complex64)
    assert (counts.shape, counts.dtype) == ((3, 64, 64, 4), np.float32)
    channels_first = bench.engine.predict(path, bench.groups(2, count=3), QUICK).patches
    assert relative_error(patches, np.moveaxis(channels_first, 1, -1)) < 1e-5
    for model, eager in ((inverse, patches), (whole, counts)):
        graph = tf.function(model)(inputs).numpy()
        assert relative_error(graph, eager) < 1e-5
        predicted = model.predict(inputs, batch_size=2, verbose=0)
        assert predicted.dtype == eager.dtype
        assert relative_error(predicted, eager) < 1e-5


def test_autoencoder_is_the_physics_after_the_inverse_model(bench: Bench, path: Path) -> None:
    """With ``object_big``, on what the group's patches have in common."""
    amplitude, relative = _inputs(bench)
    whole, _ = load_inference_bundle(path, model_name="autoencoder")
    patches = np.moveaxis(whole.diffraction_to_obj((amplitude, relative)).numpy(), -1, 1)
    counts = np.moveaxis(whole((amplitude, relative)).numpy(), -1, 1)
    for group in range(3):
        common = simulation.merge_and_extract(patches[group], relative[group, 0].T)
        expected = simulation.predicted_counts(common, whole.probe.numpy(), float(whole.log_scale))
        assert np.linalg.norm(counts[group] - expected) / np.linalg.norm(expected) < 1e-4


# ---------------------------------------------------------------------- bundles


def _entries(path: Path) -> Entries:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _write(path: Path, entries: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def _edit_json(path: Path, entry: str, **changes: Any) -> None:
    entries = _entries(path)
    entries[entry] = json.dumps({**json.loads(entries[entry]), **changes}).encode()
    _write(path, entries)


def _edit_weights(path: Path, edit: Callable[[h5py.File], object]) -> None:
    entries = _entries(path)
    weights = io.BytesIO(entries["wts.h5"])
    with h5py.File(weights, "r+") as file:
        edit(file)
    entries["wts.h5"] = weights.getvalue()
    _write(path, entries)


def _refused(path: Path, reason: str = ".") -> None:
    """By everything that opens models, naming the file."""
    for open_ in (get_engine("tensorflow").read_state, bundle.open_model, load_inference_bundle):
        with pytest.raises(ModelFileError, match=reason) as caught:
            open_(path)
        assert str(path) in str(caught.value)


def test_bundle_holds_what_the_contract_says(path: Path, model: PtychoPINN_TensorFlow) -> None:
    entries = _entries(path)
    assert set(entries) == {"manifest.json", "config.json", "wts.h5"}
    about, configs = json.loads(entries["manifest.json"]), json.loads(entries["config.json"])
    assert about["models"] == ["autoencoder", "diffraction_to_obj"]
    assert about["backend"] == "tensorflow"
    assert about["history"] == model.loss_history
    assert {"version", "format"} <= set(about)
    assert configs["data_config"]["input_scale"] == model.data_config.input_scale
    assert configs["model_config"]["gridsize"] == 2
    with h5py.File(io.BytesIO(entries["wts.h5"])) as file:
        assert set(file) == set(model.arrays())
    assert guess_engine(path.rename(path.with_name("anything"))).name == "tensorflow"


def test_bundle_rebuilds_every_variable(path: Path, model: PtychoPINN_TensorFlow) -> None:
    again = bundle.open_model(path)
    assert again.loss_history == model.loss_history
    for name, array in model.arrays().items():
        np.testing.assert_array_equal(again.arrays()[name], array)


def test_damaged_bytes_are_noticed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    _refused(path, "truncated or not a bundle")


@pytest.mark.parametrize("missing", ["manifest.json", "config.json", "wts.h5"])
def test_foreign_archive_is_refused(path: Path, missing: str) -> None:
    entries = _entries(path)
    del entries[missing]
    _write(path, entries)
    _refused(path)
    _write(path, {"readme.txt": b"hello"})
    _refused(path, "not a model of this package|not a bundle")
    path.write_text("no archive")
    _refused(path, "not a model of this package|not a bundle")


@pytest.mark.parametrize(
    ("entry", "changes"),
    [
        ("manifest.json", {"history": 3}),
        ("manifest.json", {"history": {"train_loss": 1}}),
        ("manifest.json", {"history": {"train_loss": ["x"], "val_loss": []}}),
        ("manifest.json", {"format": "new"}),
        ("manifest.json", {"format": [1]}),
        ("config.json", {"model_config": []}),
        ("config.json", {"model_config": {"N": 64, "gridsize": 2, "surprise": 1}}),
        ("config.json", {"model_config": {"N": [64]}}),
        ("config.json", {"data_config": {"N": 64, "input_scale": "x"}}),
        ("config.json", {"data_config": {"N": 64, "gridsize": 2, "probe_modes": 2}}),
        ("config.json", {"training_config": None}),
    ],
)
def test_description_that_makes_no_sense_is_refused(path: Path, entry: str, changes: dict[str, Any]) -> None:
    _edit_json(path, entry, **changes)
    with pytest.raises(ModelFileError) as caught:
        bundle.open_model(path)
    assert str(path) in str(caught.value)


def test_newer_format_and_other_engines_are_refused_by_name(path: Path) -> None:
    _edit_json(path, "manifest.json", format=99)
    _refused(path, "99.*pip install --upgrade")
    _edit_json(path, "manifest.json", format=1, backend="pytorch")
    with pytest.raises(ModelFileError, match=r"'pytorch'.*'tensorflow'"):
        bundle.read_bundle(path)
    _refused(path)


def _kernel(file: h5py.File) -> str:
    return max(file, key=lambda name: file[name].size)


def _misshape(file: h5py.File) -> None:
    array = file["probe_planes"][()]
    del file["probe_planes"]
    file["probe_planes"] = array[:, :32]


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda file: file.pop("log_scale"), "missing arrays: log_scale"),
        (lambda file: file.create_dataset("surprise", data=np.ones(3)), "unknown arrays: surprise"),
        (lambda file: file.create_group("surprise"), "surprise is no plain array"),
        (_misshape, "32"),
        (lambda file: file.move("good_pixels", "bad_pixels"), "bad_pixels"),
    ],
)
def test_arrays_that_are_not_the_models_are_refused(
    path: Path, edit: Callable[[h5py.File], object], named: str
) -> None:
    _edit_weights(path, edit)
    with pytest.raises(ModelFileError, match=named) as caught:
        bundle.open_model(path)
    assert str(path) in str(caught.value)


def test_nothing_else_in_a_bundle_is_unpacked_or_run(
    path: Path, tmp_path: Path, model: PtychoPINN_TensorFlow
) -> None:
    """A Keras model with code in it, under the names that Keras looks for, and names that climb out."""
    trap = tmp_path / "trap"
    inputs = keras.Input((2,))
    # Keras saves the bytes of such a function, with the constants in it
    code = eval(f"lambda x: [__import__('pathlib').Path({str(trap)!r}).touch(), x][1]")
    layer = keras.layers.Lambda(code, output_shape=(2,))
    hostile = tmp_path / "hostile.keras"
    crafted = keras.Model(inputs, layer(inputs))
    crafted.save(hostile)
    with zipfile.ZipFile(hostile) as archive:
        extra = {name: archive.read(name) for name in archive.namelist() if name != "config.json"}
        extra["autoencoder/config.json"] = archive.read("config.json")
    extra |= {"autoencoder.keras": hostile.read_bytes(), "diffraction_to_obj.keras": hostile.read_bytes()}
    extra |= {"../climbed": b"x", str(tmp_path / "absolute"): b"x", "custom.dill": b"cos\nsystem\n(S'x'\ntR."}
    trap.unlink(missing_ok=True)
    _write(path, _entries(path) | extra)
    before = set(tmp_path.rglob("*"))
    opened = bundle.open_model(path)
    np.testing.assert_array_equal(opened.arrays()["probe_planes"], model.arrays()["probe_planes"])
    assert set(tmp_path.rglob("*")) == before
    keras.models.load_model(hostile, safe_mode=False)(np.ones((1, 2)))
    assert trap.exists(), "the crafted model is harmless, so this test shows nothing"


def test_state_that_is_not_its_own_says_both_engines(path: Path) -> None:
    state = get_engine("tensorflow").read_state(path)
    foreign = replace(state.description, engine="pytorch")
    arrays = {**state.arrays, "network.extra": np.ones(3, np.float32)}
    with pytest.raises(ModelFileError, match=r"'pytorch'.*'tensorflow'.*network\.extra"):
        PtychoPINN_TensorFlow.from_state(ModelState(foreign, state.training, arrays), path)


@needs_bfloat16
def test_model_for_inference_takes_its_precision_from_the_run(path: Path) -> None:
    mixed = bundle.open_model(path, ExecutionConfig(precision="bf16-mixed"))
    layers = mixed.network.convolutions.values()
    assert {layer.compute_dtype for layer in layers} == {"bfloat16"}
    assert {layer.variable_dtype for layer in layers} == {"float32"}
    assert ModelConfig(gridsize=2, n_filters_scale=1) == mixed.model_config


# ---------------------------------------------------------------------- threads and devices


@pytest.mark.parametrize("knobs", [{}, {"precision": "16-mixed"}, {"accum_steps": 2}], ids=str)
def test_a_step_is_traced_once(bench: Bench, monkeypatch: pytest.MonkeyPatch, knobs: dict[str, Any]) -> None:
    """Whatever the batches and epochs: tracing is most of what a short training takes."""
    if "precision" in knobs and not has_convolution(bench.engine, "16-mixed"):
        pytest.skip("TensorFlow has no convolution of float16 on this processor")
    traced: list[str] = []
    for name in ("train_step", "test_step"):
        step = getattr(PtychoPINN_TensorFlow, name)

        def noted(self: Any, data: Any, step: Any = step, name: str = name) -> Any:
            traced.append(name)
            return step(self, data)

        monkeypatch.setattr(PtychoPINN_TensorFlow, name, noted)
    data, held_out = bench.groups(count=5), bench.groups(count=3)  # a whole batch, and a part of one
    bench.train(replace(QUICK, **knobs), data=data, validation=held_out, nepochs=2)
    assert traced == ["train_step", "test_step"]


def test_letting_go_of_a_pass_cannot_take_a_minute(bench: Bench) -> None:
    """The thread that tunes a dataset sleeps for up to a minute, and is waited for."""
    data = bench.groups()
    dataset = build_dataset(data, data.input_scale, 4, QUICK, order=Order(0))
    assert dataset.options().autotune.enabled is False


def test_weights_lie_on_the_device_that_is_selected(tmp_path: Path) -> None:
    """Two processors made of one stand for processor and graphics card; in a process that is new to both."""
    code = f"""
import tensorflow as tf
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)
from dataclasses import replace
from pathlib import Path
from unittest import mock
from engine_support import QUICK, Bench
from ptychopinn_ptychodus.backends.registry import get_engine
from ptychopinn_ptychodus.backends.tensorflow import inference, module
from ptychopinn_ptychodus.data import simulation
x, y = simulation.raster_positions(4, 4, 6.0, origin=40)
scan = simulation.simulate_scan(
    simulation.make_object((110, 110)), simulation.make_probe(64), x, y, 1e6, seed=0
)
bench = Bench(get_engine("tensorflow"), scan, Path({str(tmp_path)!r}))
used = set()
patches = module.PtychoPINN_TensorFlow.patches
def spy(model, *batch):
    variables = [*model.variables, *getattr(getattr(model, "optimizer", None), "variables", [])]
    used.update(variable.value.device[-5:] for variable in variables)
    return patches(model, *batch)
with mock.patch.object(inference, "on_device", lambda accelerator: tf.device("/CPU:1")):
    with mock.patch.object(module.PtychoPINN_TensorFlow, "patches", spy):
        result = bench.engine.workflow("run_cdi_example")(
            scan, None, bench.config(), do_stitching=True, execution_config=QUICK
        )
        bench.train()
        bench.patches(bench.groups())
print(sorted(used))
"""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1] / "support")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    assert done.stdout.splitlines()[-1:] == ["['CPU:1']"], done.stderr[-2000:]


def test_a_precision_that_the_processor_lacks_is_refused_by_name(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def convolve(images: tf.Tensor, *_: object) -> tf.Tensor:
        assert images.dtype == tf.bfloat16
        raise tf.errors.AbortedError(None, None, "no such primitive")

    require_precision.cache_clear()
    monkeypatch.setattr(tf.nn, "conv2d", convolve)
    with pytest.raises(ValueError, match=r"precision = 'bf16-mixed'.*no such primitive.*Choose '32-true'"):
        bench.train(replace(QUICK, precision="bf16-mixed"))
