"""Whole models of the two engines with the same arrays: counts, objectives, all gradients, stitched objects.

The reference is the PyTorch module in float64, whose forward model is in turn held to
:mod:`.data.simulation`.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache
from itertools import cycle, product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

# first: after PyTorch, it would take that one's thread pool for its own
tf = pytest.importorskip("tensorflow", reason="the engine 'tensorflow' needs the extra of that name")
torch = pytest.importorskip("torch", reason="the engine 'pytorch' needs the extra 'torch'")

from parity_support import as_array, error  # noqa: E402
from rounding_support import Drawn, drawn, in_double  # noqa: E402
from tensordict import TensorDict  # noqa: E402

from ptychopinn_ptychodus.backends.base import Prediction  # noqa: E402
from ptychopinn_ptychodus.backends.hyperparameters import COUNT_FLOOR  # noqa: E402
from ptychopinn_ptychodus.backends.lightning import unrolled as torch_unrolled  # noqa: E402
from ptychopinn_ptychodus.backends.lightning.inference import predict as torch_predict  # noqa: E402
from ptychopinn_ptychodus.backends.lightning.loaders import GroupDataset  # noqa: E402
from ptychopinn_ptychodus.backends.lightning.module import PtychoPINN_Lightning  # noqa: E402
from ptychopinn_ptychodus.backends.physics import central_disk  # noqa: E402
from ptychopinn_ptychodus.backends.tensorflow import unrolled  # noqa: E402
from ptychopinn_ptychodus.backends.tensorflow.inference import predict  # noqa: E402
from ptychopinn_ptychodus.backends.tensorflow.module import PtychoPINN_TensorFlow  # noqa: E402
from ptychopinn_ptychodus.config import ExecutionConfig, ModelConfig, TrainingConfig  # noqa: E402
from ptychopinn_ptychodus.data import simulation  # noqa: E402
from ptychopinn_ptychodus.data.container import PtychoDataContainer  # noqa: E402
from ptychopinn_ptychodus.data.joining import joined  # noqa: E402
from ptychopinn_ptychodus.pretraining.probes import out_of_focus  # noqa: E402

Array = NDArray[Any]

FORWARD, NETWORK, LOSS, GRADIENT, STITCHED = 1e-5, 1e-4, 1e-4, 1e-3, 1e-4
"""How far each engine may be from the reference, relative; see :func:`error`."""

KINK, KINKED = 0.05, 0.01
"""How far single gradients of 'cnn' may be, if most are within the second figure.

Of its half a million rectified units and pooled pixels, some are so near to 0 or to each other that float32
takes another side than float64. A unit that is on in one and off in the other changes the gradients of all
layers before it: which ones, and how many, is another matter on every processor. Faults are worth far more.
"""

CPU = ExecutionConfig(accelerator="cpu", logger_backend="none")

OBJECTIVES: dict[str, dict[str, Any]] = {
    "nll": {"nll_weight": 1.0},
    "mae": {"nll_weight": 0.0, "mae_weight": 1.0},
    "tv": {"nll_weight": 1e-3, "realspace_weight": 1.0},  # alone, it would be nothing to learn from
    "realspace": {"nll_weight": 0.0, "realspace_mae_weight": 1.0},
    "aligned": {"nll_weight": 0.0, "realspace_aligned_weight": 1.0},
    "mixture": {
        "nll_weight": 0.7,
        "mae_weight": 0.4,
        "realspace_weight": 0.2,
        "realspace_mae_weight": 0.3,
        "realspace_aligned_weight": 0.25,
    },
}

IN_TURN = ("nll", "mae", "tv", "realspace", "mixture")
"""The objectives that the cases below take in turn, one of them each.

A further entry of ``OBJECTIVES`` is not one of them: it would give every case after it another objective, and
some of those are worse conditioned than float32 allows. It has cases of its own instead, see ``_further``.
"""


# ---------------------------------------------------------------------- data and models


@cache
def _groups(
    gridsize: int, modes: int, n: int = 64, count: int = 2, noise: bool = False
) -> PtychoDataContainer:
    """Groups of a simulated scan, some pixels bad.

    The object is weak: where a network's wave is next to zero but the measured one is not, the unrolled
    steps are so steep that float32 itself is good to a percent only. The probe is skew: of a symmetric one,
    rounding decides which pixel is the brightest, and has the gradient.
    """
    slope = np.linspace(0.45, 0.55, n, dtype=np.float32)
    probe = simulation.make_probe(n, modes=modes) * (slope + slope[:, None] ** 2)
    object_ = 0.8 + 0.2 * simulation.make_object((n + 32, n + 32), seed=4)
    x, y = simulation.raster_positions(4, 4, 5.0, jitter=0.3, origin=n / 2 + 7, seed=2)
    scan = simulation.simulate_scan(object_, probe, x, y, photons=1e6, seed=3, noise=noise)
    bad = np.zeros((n, n), bool)
    bad[n // 2 - 3 : n // 2, 5:9] = True
    groups = scan.generate_grouped_data(n, gridsize**2, count, gridsize=gridsize, seed=1)
    return replace(groups, bad_pixels=bad)


@dataclass(frozen=True)
class Trio:
    """A model of either engine and the reference, all with the same arrays, and a batch for each of them."""

    container: PtychoDataContainer
    ours: PtychoPINN_TensorFlow
    theirs: PtychoPINN_Lightning
    reference: PtychoPINN_Lightning
    our_batch: Mapping[str, Any]
    batch: TensorDict
    double_batch: TensorDict

    @property
    def config(self) -> ModelConfig:
        return self.ours.model_config


def _trio(container: PtychoDataContainer, objective: str = "nll", **model: Any) -> Trio:
    model_config = ModelConfig(N=container.N, gridsize=container.gridsize, **{"n_filters_scale": 1} | model)
    learns = container.probes is None  # of several probes, none is learnt
    config = TrainingConfig(
        model=model_config,
        probe_trainable=learns,
        intensity_scale_trainable=learns,
        **OBJECTIVES[objective],
    )
    tf.keras.utils.set_random_seed(0)
    ours = PtychoPINN_TensorFlow.for_data(container, config)
    ours.set_arrays(_stirred(ours.arrays()))
    theirs, reference = (PtychoPINN_Lightning.from_state(ours.state()) for _ in range(2))
    batch = GroupDataset(container, container.input_scale, with_object=True).__getitems__(
        range(len(container))
    )
    our_batch = {name: tf.constant(value.numpy()) for name, value in batch.items()}
    our_batch["amplitude"] = tf.transpose(our_batch["amplitude"], (0, 2, 3, 1))
    double = {
        name: value.to(torch.complex128 if value.is_complex() else torch.float64)
        for name, value in batch.items()
        if isinstance(value, torch.Tensor)
    }
    double_batch = TensorDict(double, batch_size=batch.batch_size)
    return Trio(container, ours, theirs, reference.double(), our_batch, batch, double_batch)


def _stirred(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Arrays of a fresh model, none of them zero, few units dead, and the scale of the counts a bit off."""
    rng = np.random.default_rng(7)
    stirred = dict(arrays)
    for name, array in arrays.items():
        if name.endswith("bias"):
            stirred[name] = rng.normal(0.1, 0.05, array.shape)
        elif name.endswith(".out.weight"):
            stirred[name] = rng.normal(0.0, 0.05, array.shape)
        elif name in ("network.step", "network.momentum"):
            stirred[name] = array * np.linspace(0.8, 1.2, len(array))
        elif name == "log_scale":
            stirred[name] = array + 0.05
    return {name: np.asarray(array, np.float32) for name, array in stirred.items()}


# ---------------------------------------------------------------------- forward model


def _smoothed(waves: Array, sigma: float) -> Array:
    if sigma == 0:
        return waves
    x = np.arange(-max(1, np.ceil(3 * sigma)), max(1, np.ceil(3 * sigma)) + 1)
    kernel = np.exp(-0.5 * (x / sigma) ** 2)
    parts = [waves.real, waves.imag]
    for axis in (-1, -2):
        parts = [ndimage.convolve1d(p, kernel / kernel.sum(), axis, mode="constant") for p in parts]
    return parts[0] + 1j * parts[1]


def _shifted(images: Array, shift: Array) -> Array:
    frequency = np.fft.fftfreq(images.shape[-1])
    frequency[frequency == -0.5] = 0.0
    turn = np.exp(-2j * np.pi * (frequency * shift[0] + frequency[:, None] * shift[1]))
    return np.fft.ifft2(np.fft.fft2(images) * turn)


def _counts(trio: Trio, patches: Array, offsets: Array, rest: Array | None) -> Array:
    """Of (B, C, N, N) patches as a network gives them, by the formulas as they stand."""
    config, data, arrays = trio.config, trio.ours.data_config, trio.ours.arrays()
    planes = arrays["probe_planes"].astype(np.float64)
    probe = planes[..., 0] + 1j * planes[..., 1]
    if config.probe_mask:
        probe = probe * central_disk(config.N)
    groups = []
    for group, shifts in enumerate(offsets):
        seen = patches[group]
        if config.object_big and config.channels > 1 and config.architecture == "cnn":
            seen = simulation.merge_and_extract(seen, shifts)
        for channel, patch in enumerate(seen):
            moved = probe if rest is None else _shifted(probe, rest[group, channel].astype(np.float64))
            waves = _smoothed(moved * patch, config.gaussian_smoothing_sigma)
            one = np.ones((1, config.N, config.N))
            groups.append(simulation.predicted_counts(one, waves, float(arrays["log_scale"]))[0])
    return np.reshape(groups, patches.shape) + COUNT_FLOOR * data.photons_per_pattern / config.N**2


@pytest.mark.parametrize(
    ("gridsize", "modes", "model"),
    [
        (1, 1, {}),
        (1, 3, {"gaussian_smoothing_sigma": 0.7}),
        (2, 1, {"probe_mask": True}),
        (2, 3, {"gaussian_smoothing_sigma": 1.2, "probe_mask": True}),
        (2, 3, {"object_big": False}),
        (3, 1, {}),
        (1, 1, {"architecture": "unrolled"}),
        (2, 3, {"architecture": "unrolled", "gaussian_smoothing_sigma": 0.7}),
        (2, 1, {"architecture": "unrolled", "object_big": False, "probe_mask": True}),
    ],
)
def test_counts_of_given_patches_are_those_of_the_simulation(
    gridsize: int, modes: int, model: dict[str, Any]
) -> None:
    trio = _trio(_groups(gridsize, modes), **model)
    patches = trio.container.patches_for(range(2)).transpose(0, 3, 1, 2).copy()
    offsets = trio.batch["offsets"].numpy()
    rest = offsets - np.round(offsets) if trio.reference.network.one_object else None
    expected = _counts(trio, patches.astype(np.complex128), offsets, rest)
    ours = trio.ours.expected_counts(trio.ours.constrained(tf.constant(patches), offsets), rest)
    assert error(ours, expected) < FORWARD
    for module, real, number in (
        (trio.theirs, torch.float32, torch.complex64),
        (trio.reference, torch.float64, torch.complex128),
    ):
        seen = module.constrained(torch.tensor(patches, dtype=number), torch.tensor(offsets, dtype=real))
        counts = module.expected_counts(seen, None if rest is None else torch.tensor(rest, dtype=real))
        assert counts.dtype == real
        # in double, what is left is the kernel of the smoothing, which is float32
        assert error(counts, expected) < (FORWARD if real == torch.float32 else 1e-6)


# ---------------------------------------------------------------------- objectives and gradients


def _gradients(trio: Trio) -> tuple[list[float], list[dict[str, Array]]]:
    """Loss, and its gradients by the names of a model's arrays: our engine's, theirs, the reference's."""
    layers = trio.ours.network.named_variables()
    variables = {f"network.{name}": variable.value for name, variable in layers.items()}
    kernels = {name for name, variable in variables.items() if len(variable.shape) == 4}
    variables |= {"probe_planes": trio.ours.probe_planes.value, "log_scale": trio.ours.log_scale.value}
    assert variables.keys() == trio.ours.arrays().keys() - {"good_pixels"}
    with tf.GradientTape() as tape:
        loss = trio.ours.objective(trio.our_batch)
    none = tf.UnconnectedGradients.ZERO
    found = tape.gradient(loss, variables, unconnected_gradients=none)
    losses = [float(loss)]
    gradients = [
        {name: g.numpy().transpose(3, 2, 0, 1) if name in kernels else g.numpy() for name, g in found.items()}
    ]
    for module, batch in ((trio.theirs, trio.batch), (trio.reference, trio.double_batch)):
        parameters = dict(module.requires_grad_(True).named_parameters())  # also what is not learnt
        assert parameters.keys() == variables.keys()
        with in_double() if module is trio.reference else nullcontext():
            loss = module.loss(batch)
        assert loss.dtype == batch["amplitude"].dtype
        wanted = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        losses.append(float(loss.detach()))
        gradients.append(
            {
                name: np.zeros(p.shape) if g is None else g.numpy()
                for (name, p), g in zip(parameters.items(), wanted, strict=True)
            }
        )
    return losses, gradients


def _differentiated(trio: Trio, gradient: Mapping[str, Array]) -> tuple[float, float]:
    """Slope of the reference's loss along a random direction: by its gradient, and by differences."""
    rng = np.random.default_rng(11)
    # where the probe weighs the truth, it is not to be learnt from: differences would see that too
    fixed = ["probe_planes"] if trio.ours.training_config.needs_object else []
    parameters = {name: p for name, p in trio.reference.named_parameters() if name not in fixed}
    ways = {
        name: torch.tensor(rng.normal(size=p.shape) * (float(p.detach().square().mean().sqrt()) + 1e-3))
        for name, p in parameters.items()
    }
    step, values = 1e-7, []
    with torch.no_grad(), in_double(), pytest.MonkeyPatch.context() as patch:
        if trio.config.architecture == "cnn":  # nor from how it changes what the network sees
            seen = trio.reference.network_probe()
            patch.setattr(trio.reference, "network_probe", lambda: seen)
        for sign in (1, -2):
            for name, parameter in parameters.items():
                parameter.add_(sign * step * ways[name])
            values.append(float(trio.reference.loss(trio.double_batch)))
        for name, parameter in parameters.items():
            parameter.add_(step * ways[name])
    by_gradient = sum(float((gradient[name] * way.numpy()).sum()) for name, way in ways.items())
    return by_gradient, (values[0] - values[1]) / (2 * step)


def _drawn_gradients(trio: Trio) -> Drawn:
    """The reference's by their names, with roundings: some of the probe's are good to a percent."""

    def gradients() -> dict[str, Array]:
        parameters = dict(trio.reference.named_parameters())
        loss = trio.reference.loss(trio.double_batch)
        wanted = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        return {
            name: np.zeros(p.shape) if g is None else g.numpy()
            for (name, p), g in zip(parameters.items(), wanted, strict=True)
        }

    return drawn(gradients)


def _distance(actual: Array, expected: Array) -> float:
    return float(np.linalg.norm(actual - expected))


def _check(trio: Trio) -> None:
    """Patches, loss and every gradient of both engines."""
    losses, gradients = _gradients(trio)
    largest = max(float(np.linalg.norm(g)) for g in gradients[-1].values())
    # first of all, that of the reference: a rule of differentiation can itself be wrong
    by_gradient, by_differences = _differentiated(trio, gradients[-1])
    assert by_gradient == pytest.approx(by_differences, rel=1e-3, abs=1e-6 * largest)
    # what compares objects and no counts: probe and scale may then have no part in it
    weights = {name: value for name, value in vars(trio.ours.training_config).items() if "_weight" in name}
    counts = any(value for name, value in weights.items() if not name.startswith("realspace"))
    alone = trio.config.architecture == "cnn" and not counts
    rounded = _drawn_gradients(trio) if trio.config.architecture == "unrolled" else None
    errors: dict[str, list[float]] = {"tensorflow": [], "pytorch": []}
    for name, expected in gradients[-1].items():
        size = float(np.linalg.norm(expected))
        if size == 0:  # on what no patch depends, or what makes pixels that a masked probe never lights
            assert (alone and "network" not in name) or (trio.config.probe_mask and ".outer." in name), name
        kinked = trio.config.architecture == "cnn" and name.startswith("network.")
        for engine, gradient in zip(errors, gradients[:-1], strict=True):
            off = float(np.linalg.norm(gradient[name] - expected))
            # the second term is for what is the small difference of large sums: float32 has seven digits
            allowed = (KINK if kinked else GRADIENT) * size + 1e-6 * largest
            if rounded is not None:
                allowed += rounded.allowed(_distance, operator.itemgetter(name))
            assert off <= allowed, (engine, name)
            if kinked:
                errors[engine].append(max(0.0, off - 1e-6 * largest) / (size or 1.0))
    for engine, found in errors.items():
        assert np.median(found or [0.0]) <= KINKED, engine
    assert largest > 1e-4
    assert losses[:-1] == pytest.approx([losses[-1]] * 2, rel=LOSS)

    with torch.no_grad():
        theirs = trio.theirs(trio.batch["amplitude"], trio.batch["offsets"])
        with in_double():
            expected = trio.reference(trio.double_batch["amplitude"], trio.double_batch["offsets"])
    ours = trio.ours.patches(trio.our_batch["amplitude"], trio.our_batch["offsets"])
    for patches in (ours, theirs):
        difference = np.linalg.norm(as_array(patches) - expected.numpy())
        assert difference <= NETWORK * np.linalg.norm(expected.numpy())


def _further() -> list[Any]:
    """Cases of the objectives that take no turn."""
    return [
        pytest.param(gridsize, 1, objective, {}, id=f"{gridsize}-{objective}")
        for objective in OBJECTIVES
        if objective not in IN_TURN
        for gridsize in (1, 2)
    ]


def _cnn_cases() -> Iterator[Any]:
    """Every way to shape the network, in either gridsize; the physics and objectives in turn."""
    objectives, modes = cycle(IN_TURN), cycle([1, 3, 3])
    physics: Iterator[dict[str, Any]] = cycle(
        [{}, {"probe_mask": True}, {"gaussian_smoothing_sigma": 0.7}, {}, {"probe_mask": True}]
    )
    activations = ("sigmoid", "swish", "softplus", "relu")
    for gridsize in (1, 2):
        for number, (activation, pad, big) in enumerate(product(activations, (True, False), (True, False))):
            model: dict[str, Any] = {"amp_activation": activation, "pad_object": pad, "probe_big": big}
            model |= {"object_big": (number + number // 4) % 2 == 0, **next(physics)}
            objective = next(objectives)
            name = f"{gridsize}-{activation}-pad{pad:d}-big{big:d}-whole{model['object_big']:d}-{objective}"
            yield pytest.param(gridsize, next(modes), objective, model, id=name)
        next(objectives), next(physics)  # else some would never meet


@pytest.mark.parametrize(("gridsize", "modes", "objective", "model"), [*_cnn_cases(), *_further()])
def test_cnn_has_one_objective_and_its_gradients(
    gridsize: int, modes: int, objective: str, model: dict[str, Any]
) -> None:
    _check(_trio(_groups(gridsize, modes, noise=True), objective, **model))


@pytest.mark.parametrize("objective", ["aligned", "mixture"])
def test_what_a_network_makes_of_a_probe_that_is_shown_is_judged_alike(objective: str) -> None:
    """Two scans, one of them shown with another probe than it has."""
    scans = [_groups(2, modes) for modes in (1, 2)]
    shown = [scans[0].probe, out_of_focus(scans[1].probe, 1.5)]
    found = []
    for data in (joined(scans, with_objects=True), joined(scans, with_objects=True, shown=shown)):
        losses, gradients = _gradients(_trio(data, objective, architecture="unrolled"))
        assert losses[:-1] == pytest.approx([losses[-1]] * 2, rel=LOSS)
        largest = max(float(np.linalg.norm(g)) for g in gradients[-1].values())
        for name, expected in gradients[-1].items():
            for gradient in gradients[:-1]:
                allowed = GRADIENT * float(np.linalg.norm(expected)) + 1e-5 * largest
                assert _distance(gradient[name], expected) <= allowed, name
        found.append(losses[-1])
    assert abs(found[0] - found[1]) > 0.01 * found[0]


_UNROLLED_PHYSICS: list[dict[str, Any]] = [
    {},
    {"gaussian_smoothing_sigma": 0.7},
    {},
    {"probe_mask": True},
    {},
]
_UNROLLED = [
    pytest.param(gridsize, modes, objective, {"object_big": big, **physics}, id=f"{gridsize}-{modes}-{big}")
    for (gridsize, big, modes), objective, physics in zip(
        product((1, 2, 3), (True, False), (1, 3)),
        cycle(IN_TURN),
        cycle(_UNROLLED_PHYSICS),
        strict=False,
    )
]


@pytest.mark.parametrize(("gridsize", "modes", "objective", "model"), [*_UNROLLED, *_further()])
def test_unrolled_has_one_objective_and_its_gradients(
    gridsize: int, modes: int, objective: str, model: dict[str, Any]
) -> None:
    # through all ten steps, float32 gives the gradient of the probe to some percent only, in either engine,
    # and where every frame is on its own to worse: see the next test
    groups = _groups(gridsize, modes, count=1 if gridsize == 3 else 2)
    _check(_trio(groups, objective, architecture="unrolled", **model))


@pytest.mark.parametrize(
    ("gridsize", "modes", "objective", "object_big"),
    [
        (1, 1, "realspace", True),
        (2, 1, "realspace", True),
        (2, 3, "realspace", True),
        (2, 1, "realspace", False),
        (3, 1, "realspace", True),
        (3, 1, "nll", True),
    ],
)
def test_gradient_of_the_probe_through_a_few_steps(
    monkeypatch: pytest.MonkeyPatch, gridsize: int, modes: int, objective: str, object_big: bool
) -> None:
    # few, and mostly of an objective that does not divide by counts of next to nothing: well conditioned
    for module in (unrolled, torch_unrolled):
        monkeypatch.setattr(module, "STEPS", 2)
        monkeypatch.setattr(module, "STEPS_PER_CORRECTION", 1)
    groups = _groups(gridsize, modes, count=1)
    _check(_trio(groups, objective, architecture="unrolled", object_big=object_big))


# ---------------------------------------------------------------------- stitched objects


@pytest.mark.parametrize(
    ("n", "gridsize", "model"),
    [
        (128, 2, {"amp_activation": "relu", "probe_big": False, "pad_object": False}),
        (128, 2, {"amp_activation": "softplus", "probe_big": False, "pad_object": False}),
        (128, 2, {"amp_activation": "swish", "probe_big": False, "pad_object": False}),
        (64, 1, {}),
        (64, 2, {"object_big": False, "probe_big": False}),
        (64, 2, {"architecture": "unrolled"}),
    ],
)
def test_stitched_objects_are_those_of_the_reference(n: int, gridsize: int, model: dict[str, Any]) -> None:
    trio = _trio(_groups(gridsize, 1, n, count=5), **model)
    with torch.no_grad(), in_double():
        patches = trio.reference(trio.double_batch["amplitude"], trio.double_batch["offsets"]).numpy()
        reference = Prediction(patches, trio.reference.counts_probe().numpy())
    container = trio.container
    width, height = (np.ptp(container.coords, axis=0) + n + 1).astype(int)
    located = replace(container, coords=container.coords - (container.coords.min(0) - n / 2))
    objects = [
        prediction.stitch(located, (height, width)).object
        for prediction in (
            predict(trio.ours, container, CPU),
            torch_predict(trio.theirs, container, CPU),
            reference,
        )
    ]
    assert np.abs(objects[-1] - 1).std() > 1e-2  # something is there, not just the canvas
    for object_ in objects[:-1]:
        assert error(object_, objects[-1]) < STITCHED
