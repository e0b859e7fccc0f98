"""Models: statistics, scale, objective, and files that are data."""

from __future__ import annotations

import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ptychopinn_ptychodus.backends.base import ModelFileError
from ptychopinn_ptychodus.backends.hyperparameters import MOST_KEPT
from ptychopinn_ptychodus.backends.lightning import checkpoint, inference, parts, unrolled
from ptychopinn_ptychodus.backends.lightning.architecture import Architecture
from ptychopinn_ptychodus.backends.lightning.engine import LightningEngine
from ptychopinn_ptychodus.backends.lightning.loaders import GroupDataset
from ptychopinn_ptychodus.backends.lightning.module import PtychoPINN_Lightning
from ptychopinn_ptychodus.backends.registry import guess_engine
from ptychopinn_ptychodus.config import ExecutionConfig, ModelConfig, TrainingConfig
from ptychopinn_ptychodus.data import simulation
from ptychopinn_ptychodus.data.container import PtychoDataContainer
from ptychopinn_ptychodus.data.raw import RawData

SMALL = ModelConfig(n_filters_scale=1)
UNROLLED = ModelConfig(architecture="unrolled", gridsize=2, n_filters_scale=1)


def _grouped(scan: RawData, gridsize: int = 1) -> PtychoDataContainer:
    return scan.generate_grouped_data(scan.N, 5, None, gridsize=gridsize, seed=0)


def _module(scan: RawData, model: ModelConfig = SMALL, **training: object) -> PtychoPINN_Lightning:
    config = TrainingConfig(model=model, backend="pytorch", **training)  # type: ignore[arg-type]
    torch.manual_seed(0)
    return PtychoPINN_Lightning.for_data(_grouped(scan, model.gridsize), config)


@pytest.fixture
def model_file(scan: RawData, tmp_path: Path) -> Path:
    module = _module(scan, UNROLLED)
    module.history = {"train_loss": [2.0, 1.0], "val_loss": [3.0]}
    return checkpoint.save_model(module, tmp_path / "model.ckpt")


# ---- physics ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("probe_factor", [1.0, 1e-4, 3e3])
@pytest.mark.parametrize("probe_scale", [4.0, 1.0])
def test_true_object_predicts_the_measured_counts_whatever_the_probe_scale(
    scan: RawData, probe_factor: float, probe_scale: float
) -> None:
    container = replace(_grouped(scan), probe=scan.probeGuess * np.complex64(probe_factor))
    config = TrainingConfig(model=replace(SMALL, probe_scale=probe_scale), backend="pytorch")
    module = PtychoPINN_Lightning.for_data(container, config)
    truth = np.moveaxis(container.patches_for(slice(None)), -1, 1)
    with torch.no_grad():
        counts = module.expected_counts(torch.from_numpy(np.ascontiguousarray(truth))).sum((-2, -1))
    measured = (container.amplitude**2).sum((-2, -1))
    ratio = counts.numpy().ravel() / measured
    # one global factor is free: it is the mean transmission of the object, to be taken up by the network
    assert ratio.std() / ratio.mean() < 0.03
    flat = torch.ones(1, 1, 64, 64, dtype=torch.complex64)
    with torch.no_grad():
        assert float(module.expected_counts(flat).sum()) == pytest.approx(scan.photons_per_pattern, rel=1e-3)


def test_expected_counts_agree_with_the_reference(make_scan: Callable[..., RawData]) -> None:
    scan = make_scan(modes=2)
    module = _module(scan)
    patches = np.moveaxis(_grouped(scan).patches_for([0, 7]), -1, 1)
    with torch.no_grad():
        actual = module.expected_counts(torch.from_numpy(np.ascontiguousarray(patches))).numpy()
    probe = module.probe.detach().numpy()
    for group in range(2):
        expected = simulation.predicted_counts(patches[group], probe, float(module.log_scale.detach()))
        assert np.linalg.norm(actual[group] - expected) / np.linalg.norm(expected) < 1e-5


def test_network_input_has_the_contracts_normalisation(scan: RawData) -> None:
    container = _grouped(scan)
    batch = GroupDataset(container, container.input_scale).__getitems__(range(len(container)))
    power = batch["amplitude"].square().sum((-2, -1)).mean()
    assert float(power) == pytest.approx((64 / 2) ** 2, rel=1e-5)


def test_bad_pixels_take_no_part_in_the_loss(scan: RawData) -> None:
    bad = np.zeros((64, 64), bool)
    bad[30:34, 20:44] = True
    container = replace(_grouped(scan), bad_pixels=bad)
    config = TrainingConfig(model=SMALL, mae_weight=1.0, backend="pytorch")
    torch.manual_seed(0)
    module = PtychoPINN_Lightning.for_data(container, config)
    batch = GroupDataset(container, container.input_scale).__getitems__([0, 1])
    patches = module(batch["amplitude"], batch["offsets"]).detach()
    module.network = _Constant(patches)
    spoiled = batch.clone()
    spoiled["amplitude"][..., torch.from_numpy(bad)] = 77.0
    assert float(module.loss(spoiled).detach()) == float(module.loss(batch).detach())
    spoiled["amplitude"][..., 0, 0] = 77.0
    assert float(module.loss(spoiled).detach()) != float(module.loss(batch).detach())


class _Constant(Architecture):
    def __init__(self, patches: torch.Tensor) -> None:
        super().__init__()
        self.patches = patches

    def forward(self, *_: torch.Tensor) -> torch.Tensor:
        return self.patches


@pytest.mark.parametrize(
    "weights",
    [
        {"nll_weight": 1.0},
        {"nll_weight": 0.0, "mae_weight": 1.0},
        {"realspace_weight": 0.1},
        {"nll_weight": 0.0, "realspace_mae_weight": 1.0},
    ],
)
@pytest.mark.parametrize("model", [SMALL, UNROLLED])
def test_every_objective_reaches_the_network(
    scan: RawData, weights: dict[str, float], model: ModelConfig
) -> None:
    module = _module(scan, model, **weights)
    container = _grouped(scan, model.gridsize)
    with_object = weights.get("realspace_mae_weight", 0) > 0
    dataset = GroupDataset(container, container.input_scale, with_object=with_object)
    loss = module.loss(dataset.__getitems__([0, 3]))
    loss.backward()
    gradients = [p.grad for p in module.network.parameters() if p.grad is not None]
    assert float(loss.detach()) > 0
    assert sum(float(g.abs().sum()) for g in gradients) > 0
    assert all(bool(torch.isfinite(g).all()) for g in gradients)


def test_poisson_loss_does_not_depend_on_the_dose(make_scan: Callable[..., RawData]) -> None:
    values = []
    for photons in (1e6, 1e9):  # with fewer, noise is more than a twentieth of a fresh loss
        scan = make_scan(photons=photons)
        container = _grouped(scan)
        module = _module(scan)
        batch = GroupDataset(container, container.input_scale).__getitems__(range(8))
        values.append(float(module.loss(batch).detach()))
    assert values[0] == pytest.approx(values[1], rel=0.05)


def test_supervised_loss_without_a_known_object_says_what_is_missing(scan: RawData) -> None:
    module = _module(scan, realspace_mae_weight=1.0)
    container = _grouped(scan)
    batch = GroupDataset(container, container.input_scale).__getitems__([0])
    with pytest.raises(ValueError, match="objectGuess"):
        module.loss(batch)


def test_supervised_loss_does_not_teach_the_probe_to_look_away(scan: RawData) -> None:
    supervised = replace(SMALL, model_type="supervised")
    module = _module(scan, supervised, nll_weight=0.0, realspace_mae_weight=1.0, probe_trainable=True)
    container = _grouped(scan)
    dataset = GroupDataset(container, container.input_scale, with_object=True)
    module.loss(dataset.__getitems__([0, 3])).backward()
    gradient = module.probe_planes.grad
    assert gradient is None or float(gradient.abs().max()) == 0.0


def test_counts_are_counts_whatever_the_bad_pixels(scan: RawData) -> None:
    """On a mask across the beam: what the objective takes for counts is what was measured."""
    bad = np.zeros((64, 64), bool)
    bad[30:35] = True
    masked = RawData(
        xcoords=scan.xcoords,
        ycoords=scan.ycoords,
        diff3d=scan.diff3d,
        probeGuess=scan.probeGuess,
        bad_pixels=bad,
    )
    module = PtychoPINN_Lightning.for_data(_grouped(masked), TrainingConfig(model=SMALL))
    assert module.amplitude_to_sqrt_counts * module.data_config.input_scale == pytest.approx(1.0, rel=1e-6)


def test_steps_that_are_computed_again_give_the_same_gradients(
    scan: RawData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for patterns too large for all of a batch's intermediate results."""
    container = _grouped(scan, 2)
    module = _module(scan, UNROLLED, probe_trainable=True)
    for correction in module.network.parameters():  # they begin at zero, and would hide what comes before
        torch.nn.init.normal_(correction, std=0.05, generator=torch.Generator().manual_seed(1))
    batch = GroupDataset(container, container.input_scale).__getitems__([0, 3])
    seen = []
    for limit in (MOST_KEPT, 0):
        monkeypatch.setattr(unrolled, "MOST_KEPT", limit)
        module.zero_grad()
        kept = [0]

        def count(tensor: torch.Tensor, kept: list[int] = kept) -> torch.Tensor:
            kept[0] += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            loss = module.loss(batch)
        loss.backward()
        gradients = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
        seen.append((loss.detach(), gradients, kept[0]))
    (loss, gradients, kept_bytes), (again, others, fewer) = seen
    torch.testing.assert_close(loss, again, rtol=1e-6, atol=0.0)
    assert gradients.keys() == others.keys()
    assert "probe_planes" in gradients
    for name, gradient in gradients.items():
        # sums over groups come in another order, and the random corrections make much of that
        size = float(gradient.abs().max())
        torch.testing.assert_close(gradient, others[name], rtol=0.0, atol=2e-3 * size)
    assert fewer < kept_bytes / 4


class _Held:
    """A tensor that gradients need, counted for as long as it is there."""

    now = most = 0

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor
        _Held.now += tensor.nbytes
        _Held.most = max(_Held.most, _Held.now)

    def __del__(self) -> None:
        _Held.now -= self.tensor.nbytes


@pytest.mark.parametrize("model", [SMALL, UNROLLED], ids=["cnn", "unrolled"])
def test_a_large_batch_is_learnt_from_in_the_memory_of_a_part(
    scan: RawData, monkeypatch: pytest.MonkeyPatch, model: ModelConfig
) -> None:
    """With the loss and the gradients of the whole."""
    container = _grouped(scan, model.gridsize)
    module = _module(scan, model, probe_trainable=True, mae_weight=0.5, realspace_weight=0.1)
    for parameter in module.network.parameters():  # of which some begin at zero
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.02, generator=torch.Generator().manual_seed(1))
    batch = GroupDataset(container, container.input_scale).__getitems__([0, 9, 17, 25, 33])
    batch["offsets"][:-1] *= 0.25  # regions of one size all the same
    batch["exposure"] = torch.linspace(0.5, 1.5, batch["amplitude"][..., 0, 0].numel()).view(5, -1)
    seen = []
    for groups in (5, 2):
        monkeypatch.setattr(parts, "MOST_KEPT", groups * model.channels * scan.N**2)
        module.zero_grad()
        _Held.now = _Held.most = 0
        with torch.autograd.graph.saved_tensors_hooks(_Held, lambda held: held.tensor):
            loss = module.loss(batch)
        (2.0 * loss).backward()
        with torch.no_grad():
            torch.testing.assert_close(module.loss(batch), loss.detach(), rtol=1e-6, atol=0.0)
        gradients = {
            name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
            for name, p in module.named_parameters()
            if p.requires_grad
        }
        seen.append((loss.detach(), gradients, _Held.most))
    (whole, gradients, held), (of_parts, others, fewer) = seen
    torch.testing.assert_close(of_parts, whole, rtol=1e-5, atol=0.0)
    assert "probe_planes" in gradients
    for name, gradient in gradients.items():
        size = max(float(gradient.abs().max()), 1e-6)
        torch.testing.assert_close(others[name], gradient, rtol=0.0, atol=2e-3 * size, msg=name)
    assert fewer < 0.6 * held


@pytest.mark.parametrize("flag", [True, False])
def test_trainable_flags_decide_what_the_optimiser_may_move(scan: RawData, flag: bool) -> None:
    module = _module(scan, probe_trainable=flag, intensity_scale_trainable=flag)
    trainable = {name for name, p in module.named_parameters() if p.requires_grad}
    assert ("probe_planes" in trainable) == flag
    assert ("log_scale" in trainable) == flag


# ---- model files --------------------------------------------------------------------------------------


def test_model_file_rebuilds_alone_and_gives_the_same_patches(scan: RawData, model_file: Path) -> None:
    container = _grouped(scan, 2)
    original = inference.predict_patches(_module(scan, UNROLLED), container, ExecutionConfig())
    restored = PtychoPINN_Lightning.load_from_checkpoint(model_file)
    np.testing.assert_array_equal(inference.predict_patches(restored, container, ExecutionConfig()), original)
    assert restored.history == {"train_loss": [2.0, 1.0], "val_loss": [3.0]}
    code = (
        "from ptychopinn_ptychodus.backends.lightning.module import PtychoPINN_Lightning as P;"
        f"m = P.load_from_checkpoint({str(model_file)!r}); print(m.model_config.gridsize)"
    )
    fresh = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert fresh.stdout.strip() == "2"


def test_model_file_names_its_engine(model_file: Path) -> None:
    engine = LightningEngine()
    assert engine.recognises(model_file)
    assert guess_engine(model_file.rename(model_file.with_suffix(".anything"))).name == "pytorch"
    described = engine.describe(model_file.with_suffix(".anything"))
    assert (described.engine, described.model) == ("pytorch", UNROLLED)
    assert described.history["train_loss"] == [2.0, 1.0]


class _Touch:
    """Unpickling an instance creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("kind", ["torch", "pickle", "hyperparameters"])
def test_opening_a_crafted_model_runs_no_code_from_it(model_file: Path, kind: str) -> None:
    trap = model_file.with_name("trap")
    crafted = model_file.with_name("crafted.ckpt")
    if kind == "pickle":
        crafted.write_bytes(pickle.dumps({"state_dict": _Touch(trap)}))
    else:
        content = torch.load(model_file, weights_only=True)
        if kind == "torch":
            content["callbacks"] = _Touch(trap)
        else:
            content["hyper_parameters"]["model_config"]["N"] = _Touch(trap)
        torch.save(content, crafted)
    with pytest.raises(ModelFileError, match=r"refused|not a PyTorch file"):
        checkpoint.read_state(crafted)
    with pytest.raises(ModelFileError):
        checkpoint.open_model(crafted)
    with pytest.raises(pickle.UnpicklingError):
        PtychoPINN_Lightning.load_from_checkpoint(crafted)
    LightningEngine().recognises(crafted)
    assert not trap.exists()
    torch.load(crafted, weights_only=False) if kind != "pickle" else pickle.loads(crafted.read_bytes())
    assert trap.exists(), "the crafted file is harmless, so this test shows nothing"


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.95])
def test_truncated_model_file_is_refused(model_file: Path, keep: float) -> None:
    content = model_file.read_bytes()
    model_file.write_bytes(content[: int(keep if keep >= 1 else keep * len(content))])
    with pytest.raises(ModelFileError, match="truncated"):
        checkpoint.read_state(model_file)
    with pytest.raises(ModelFileError, match="damaged"):
        checkpoint.open_model(model_file)
    assert not LightningEngine().recognises(model_file)
    with pytest.raises(ModelFileError, match="not a model of this package"):
        guess_engine(model_file)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.ckpt"
    torch.save({"state_dict": {}, "epoch": 3}, foreign)
    with pytest.raises(ModelFileError, match="not a model of this package"):
        checkpoint.read_state(foreign)
    with zipfile.ZipFile(foreign, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert not LightningEngine().recognises(foreign)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.ckpt"):
        checkpoint.open_model(tmp_path / "nowhere.ckpt")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content.pop("hyper_parameters"),
        lambda content: content.pop("state_dict"),
        lambda content: content["hyper_parameters"].pop("data_config"),
        lambda content: content["hyper_parameters"]["model_config"].update(N=65),
        lambda content: content["ptychopinn_ptychodus"].pop("history"),
        lambda content: content["state_dict"].pop("log_scale"),
    ],
)
def test_incomplete_model_file_is_refused_by_name(
    model_file: Path, spoil: Callable[[dict[str, object]], object]
) -> None:
    content = torch.load(model_file, weights_only=True)
    spoil(content)
    torch.save(content, model_file)
    with pytest.raises(ModelFileError, match=r"model\.ckpt"):
        checkpoint.open_model(model_file)


def test_newer_format_and_other_engines_are_refused_by_name(model_file: Path) -> None:
    content = torch.load(model_file, weights_only=True)
    content["ptychopinn_ptychodus"]["format"] = 99
    torch.save(content, model_file)
    with pytest.raises(ModelFileError, match="99"):
        checkpoint.open_model(model_file)
    content["ptychopinn_ptychodus"].update(format=1, backend="tensorflow")
    torch.save(content, model_file)
    with pytest.raises(ModelFileError, match=r"'tensorflow'.*'pytorch'"):
        checkpoint.open_model(model_file)
