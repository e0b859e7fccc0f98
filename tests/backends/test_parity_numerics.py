"""The numerics of the two engines: each against the float64 reference, and against each other."""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

# first: after PyTorch, it would take that one's thread pool for its own
tf = pytest.importorskip("tensorflow", reason="the engine 'tensorflow' needs the extra of that name")
torch = pytest.importorskip("torch", reason="the engine 'pytorch' needs the extra 'torch'")

from engine_support import has_convolution  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from parity_support import error  # noqa: E402
from rounding_support import drawn  # noqa: E402

from ptychopinn_ptychodus.backends.lightning import forward as torch_forward  # noqa: E402
from ptychopinn_ptychodus.backends.lightning import losses as torch_losses  # noqa: E402
from ptychopinn_ptychodus.backends.lightning import unrolled as torch_unrolled  # noqa: E402
from ptychopinn_ptychodus.backends.lightning.network import build_network as build_torch  # noqa: E402
from ptychopinn_ptychodus.backends.registry import get_engine  # noqa: E402
from ptychopinn_ptychodus.backends.tensorflow import architecture, forward, losses, unrolled  # noqa: E402
from ptychopinn_ptychodus.backends.tensorflow.network import build_network  # noqa: E402
from ptychopinn_ptychodus.config import ModelConfig  # noqa: E402
from ptychopinn_ptychodus.data import simulation  # noqa: E402

Array = NDArray[Any]


def _complex(rng: np.random.Generator, *shape: int) -> Array:
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


def _both(name: str, *arguments: Any) -> tuple[Any, Any]:
    """What the function of that name gives in either engine."""
    ours, theirs = (
        [convert(a) if isinstance(a, np.ndarray) else a for a in arguments]
        for convert in (tf.constant, torch.from_numpy)
    )
    return getattr(forward, name)(*ours), getattr(torch_forward, name)(*theirs)


# ---------------------------------------------------------------------- forward model


# no denormal numbers: to TensorFlow they are 0, to the reference more than that, and worth a pixel of border
SPREADS = st.just(0.0) | st.floats(1e-3, 30.0)


@given(seed=st.integers(0, 2**31), gridsize=st.sampled_from([1, 2, 3]), spread=SPREADS)
@settings(max_examples=15, deadline=None)
def test_merge_and_extract_agree_with_the_reference(seed: int, gridsize: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    channels = gridsize**2
    patches = _complex(rng, 2, channels, 32, 32)
    offsets = rng.uniform(-spread, spread, (2, channels, 2)).astype(np.float32)
    merged = [forward.merge(patches[[g]], offsets[[g]])[0] for g in range(2)]
    again = forward.extract(forward.merge(tf.constant(patches), offsets), offsets, 32)
    for group in range(2):
        # where hardly anything covers a pixel, the rounding of its weight is divided by little more than 1e-3
        assert error(merged[group], simulation.merge(patches[group], offsets[group])) < 1e-4
        assert error(again[group], simulation.merge_and_extract(patches[group], offsets[group])) < 1e-4


@pytest.mark.parametrize("size", [24, 32, 40])
@pytest.mark.parametrize(
    "shift", [(0.0, 0.0), (3.0, -2.0), (0.25, -7.625), (-15.5, 15.5), (31.0, 0.0), (-31.5, 30.5), (80.0, 0.5)]
)
def test_resampling_and_its_gradient_are_those_of_pytorch(
    rng: np.random.Generator, size: int, shift: tuple[float, float]
) -> None:
    image = rng.normal(size=(2, 3, 32, 32)).astype(np.float32)
    shifts = np.array([shift, (1.5, 1.0)], np.float32)
    upstream = rng.normal(size=(2, 3, size, size)).astype(np.float32)
    ours = tf.constant(image)
    with tf.GradientTape() as tape:
        tape.watch(ours)
        sampled = forward.resample(ours, shifts, size)
    theirs = torch.from_numpy(image).requires_grad_()
    expected = torch_forward.resample(theirs, torch.from_numpy(shifts), size)
    (gradient,) = torch.autograd.grad(expected, theirs, torch.from_numpy(upstream))
    # its coordinates go from -1 to 1, which costs it a digit
    np.testing.assert_allclose(sampled, expected.detach(), atol=5e-5)
    np.testing.assert_allclose(tape.gradient(sampled, ours, upstream), gradient, atol=5e-5)


@pytest.mark.parametrize("modes", [1, 3])
def test_diffraction_agrees_with_the_reference(rng: np.random.Generator, modes: int) -> None:
    patches, probe = _complex(rng, 2, 4, 64, 64), _complex(rng, modes, 64, 64)
    actual = forward.intensity(forward.illuminate(tf.constant(patches), probe))
    for group in range(2):
        expected = simulation.diffraction_intensity(patches[group], probe)
        assert error(actual[group], expected) < 1e-5


def test_the_engines_have_one_forward_model(rng: np.random.Generator) -> None:
    patches, probe = _complex(rng, 2, 4, 64, 64), _complex(rng, 2, 64, 64)
    offsets = rng.uniform(-6, 6, (2, 4, 2)).astype(np.float32)
    single = offsets[:, :1]
    # PyTorch's coordinates go from -1 to 1: of a region 80 px wide, they are good to some 1e-5 px, and white
    # noise changes by its own size from one pixel to the next
    assert error(*_both("merge", patches, offsets)) < 1e-4
    assert error(*_both("extract", patches[:, 0], offsets, 48)) < 1e-4
    assert error(*_both("merge_and_extract", patches, offsets)) < 1e-4
    assert error(*_both("merge_and_extract", patches[:, :1], single)) == 0.0
    assert int(forward.region_size(tf.constant(offsets), 64)) == torch_forward.region_size(
        torch.from_numpy(offsets), 64
    )
    for moved in (probe, _complex(rng, 2, 4, 2, 64, 64)):  # one for all patterns, one for each
        assert error(*_both("illuminate", patches, moved)) < 1e-5
        for sigma in (0.3, 1.2):
            kernel = torch_forward.gaussian_kernel(sigma).numpy()
            assert error(forward.gaussian_kernel(sigma), kernel) < 1e-6
            assert error(*_both("illuminate", patches, moved, kernel)) < 1e-5
    assert error(*_both("intensity", _complex(rng, 2, 4, 3, 64, 64))) < 1e-5
    assert error(*_both("fourier_shift", probe, offsets[0, :2])) < 1e-5
    assert error(*_both("fourier_shift", probe, offsets[:, :, None])) < 1e-5


# ---------------------------------------------------------------------- networks


def _inputs(config: ModelConfig, batch: int, modes: int = 1) -> list[Array]:
    """Arguments of a network as the TensorFlow engine wants them, some pixels bad.

    They are those of a weak object: where a network's wave is next to zero but the measured one is not, as
    with random amplitudes, the unrolled steps are so steep that float32 itself is good to a percent only.
    """
    rng = np.random.default_rng(3)
    n, c = config.N, config.channels
    offsets = rng.uniform(-6, 6, (batch, c, 2)).astype(np.float32)
    # skew: of a symmetric one, rounding decides which pixel is the brightest, and has the gradient
    slope = np.linspace(0.45, 0.55, n, dtype=np.float32)
    probe = simulation.make_probe(n, modes=modes) * (0.67 * n) * (slope + slope[:, None] ** 2)
    region = simulation.make_object((n + 16, n + 16), seed=4)
    patches = [0.8 + 0.2 * simulation.extract(region, group, n) for group in offsets]
    intensity = np.stack([simulation.diffraction_intensity(p, probe) for p in patches])
    amplitude = np.sqrt(intensity).astype(np.float32).transpose(0, 2, 3, 1)
    good = np.ones((n, n), np.float32)
    good[n // 2 - 3 : n // 2, 5:9] = 0
    return [amplitude, offsets, probe, good]


def _torch_inputs(inputs: list[Array]) -> list[Any]:
    amplitude, *others = inputs
    return [torch.from_numpy(np.ascontiguousarray(a)) for a in (amplitude.transpose(0, 3, 1, 2), *others)]


def _in_double(inputs: list[Any]) -> list[Any]:
    return [a.to(torch.complex128 if a.is_complex() else torch.float64) for a in inputs]


def _twins(config: ModelConfig) -> tuple[Any, Any]:
    """A network of either engine with the same weights, none of them zero, and few dead units."""
    torch.manual_seed(0)
    theirs, ours = build_torch(config), build_network(config)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(mean=0.05, std=0.05)
            elif name.endswith(".out.weight"):
                parameter.normal_(std=0.05)
            elif name in ("step", "momentum"):
                parameter.mul_(torch.linspace(0.8, 1.2, len(parameter)))
    state, named = theirs.state_dict(), ours.named_variables()
    assert set(named) == set(state)
    assert {id(v) for v in named.values()} == {id(v) for v in ours.trainable_variables}
    for name, variable in named.items():
        architecture.from_portable(variable, state[name].numpy())
        np.testing.assert_array_equal(architecture.to_portable(variable), state[name])
    return ours, theirs


def _check_network(config: ModelConfig, batch: int = 2, modes: int = 1) -> None:
    ours, theirs = _twins(config)
    inputs = _inputs(config, batch, modes)
    with torch.no_grad():
        expected = theirs(*_torch_inputs(inputs))
        expected_on_pixels, expected_rest = theirs.on_pixels(*_torch_inputs(inputs))
    patches = ours(*map(tf.constant, inputs))
    assert patches.dtype == tf.complex64
    on_pixels, rest = ours.on_pixels(*map(tf.constant, inputs))
    if config.architecture == "cnn":
        assert error(patches, expected) < 1e-4
        assert error(on_pixels, expected_on_pixels) < 1e-4
    else:
        reference, doubles = copy.deepcopy(theirs).double(), _in_double(_torch_inputs(inputs))
        with torch.no_grad():
            exact, exact_on_pixels = (
                drawn(lambda: reference(*doubles)),
                drawn(lambda: reference.on_pixels(*doubles)[0]),
            )
        for found in (patches, expected):
            assert error(found, exact.exact) < exact.allowed(error)
        for found in (on_pixels, expected_on_pixels):
            assert error(found, exact_on_pixels.exact) < exact_on_pixels.allowed(error)
    assert (rest is None) == (expected_rest is None)
    if rest is not None:
        np.testing.assert_allclose(rest, expected_rest, atol=1e-6)
    assert ours.one_object == theirs.one_object
    assert [v.shape for v in ours.physics_variables()] == [p.shape for p in theirs.physics_parameters()]


@pytest.mark.parametrize("gridsize", [1, 2])
@pytest.mark.parametrize(("pad_object", "probe_big"), list(itertools.product([True, False], repeat=2)))
@pytest.mark.parametrize("activation", ["sigmoid", "swish", "softplus", "relu"])
def test_cnn_gives_the_same_patches(
    gridsize: int, pad_object: bool, probe_big: bool, activation: str
) -> None:
    config = ModelConfig(
        gridsize=gridsize,
        pad_object=pad_object,
        probe_big=probe_big,
        amp_activation=activation,
        n_filters_scale=1,
    )
    _check_network(config)


@pytest.mark.parametrize("n", [32, 128, 256, 512])
def test_smaller_and_larger_cnn_give_the_same_patches(n: int) -> None:
    _check_network(ModelConfig(N=n, n_filters_scale=1), batch=1)


def test_an_unrolled_network_of_an_odd_number_of_32_gives_the_same_patches() -> None:
    config = ModelConfig(N=96, gridsize=2, architecture="unrolled", n_filters_scale=1)
    _check_network(config, batch=1)


@pytest.mark.parametrize(("n", "gridsize"), [(32, 1), (96, 2)])
def test_an_unrolled_network_with_fourier_layers_gives_the_same_patches(n: int, gridsize: int) -> None:
    config = ModelConfig(N=n, gridsize=gridsize, architecture="unrolled_fourier", n_filters_scale=1)
    _check_network(config, batch=1)


@pytest.mark.parametrize("modes", [1, 3])
@pytest.mark.parametrize("object_big", [True, False])
@pytest.mark.parametrize("gridsize", [1, 2, 3])
def test_unrolled_network_gives_the_same_patches(gridsize: int, object_big: bool, modes: int) -> None:
    config = ModelConfig(gridsize=gridsize, architecture="unrolled", object_big=object_big, n_filters_scale=1)
    _check_network(config, batch=1 if gridsize == 3 else 2, modes=modes)


@pytest.mark.parametrize("architecture_name", ["cnn", "unrolled", "unrolled_fourier"])
def test_fresh_weights_are_drawn_from_the_same_distributions(architecture_name: str) -> None:
    config = ModelConfig(architecture=architecture_name)
    torch.manual_seed(0)
    tf.keras.utils.set_random_seed(0)
    state = build_torch(config).state_dict()
    for name, variable in build_network(config).named_variables().items():
        ours, theirs = architecture.to_portable(variable), state[name].numpy()
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours.std(), theirs.std(), rtol=5 / np.sqrt(ours.size), atol=1e-7)
        if ours.size > 500:  # a uniform distribution ends where a normal one of its width goes on
            assert abs(np.abs(ours).max() - np.abs(theirs).max()) <= 0.25 * np.abs(theirs).max()


def test_fresh_weights_can_be_seeded() -> None:
    def draw(seed: int) -> list[Array]:
        tf.keras.utils.set_random_seed(seed)
        return [v.numpy() for v in build_network(ModelConfig(n_filters_scale=1)).named_variables().values()]

    first, again, other = draw(1), draw(1), draw(2)
    assert all(map(np.array_equal, first, again))
    assert not np.array_equal(first[0], other[0])
    assert not np.array_equal(first[6].ravel()[:100], first[10].ravel()[:100])


def test_an_array_that_does_not_fit_is_refused() -> None:
    variable = build_network(ModelConfig(n_filters_scale=1)).named_variables()["encoder.0.0.weight"]
    with pytest.raises(ValueError, match=r"\(1, 3, 3, 32\).*\(3, 3, 1, 32\)"):
        architecture.from_portable(variable, np.zeros((1, 3, 3, 32)))


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("architecture_name", ["cnn", "unrolled", "unrolled_fourier"])
def test_half_precision_is_for_convolutions_alone(architecture_name: str, precision: str) -> None:
    if not has_convolution(get_engine("tensorflow"), precision):
        pytest.skip(f"TensorFlow has no convolution for {precision} on this processor")
    policy = {"bf16-mixed": "mixed_bfloat16", "16-mixed": "mixed_float16"}[precision]
    config = ModelConfig(gridsize=2, architecture=architecture_name, n_filters_scale=1)
    full, half = build_network(config), build_network(config, policy)
    for name, variable in half.named_variables().items():
        assert variable.dtype == "float32"
        architecture.from_portable(variable, architecture.to_portable(full.named_variables()[name]))
    inputs = [tf.constant(a) for a in _inputs(config, 1)]
    patches, expected = half(*inputs), full(*inputs)
    assert patches.dtype == tf.complex64
    if architecture_name == "cnn":
        assert 0 < error(patches, expected) < 0.15
    else:  # whose corrections are still zero: all the rest is done in full
        assert error(patches, expected) == 0.0


# ---------------------------------------------------------------------- objectives and gradients


def _measured(rng: np.random.Generator, *shape: int) -> tuple[Array, Array, Array]:
    counts = rng.poisson(5.0, shape).astype(np.float32)
    assert (counts == 0).any()  # λ - n log λ is finite where nothing was counted
    expected = (counts * rng.uniform(0.5, 1.5, shape) + 0.1).astype(np.float32)
    good = (rng.random(shape[-2:]) > 0.1).astype(np.float32)
    return counts, expected, good


def test_losses_agree(rng: np.random.Generator) -> None:
    counts, expected, good = _measured(rng, 2, 4, 16, 16)
    patches, truth, twin = (_complex(rng, 2, 4, 16, 16) for _ in range(3))
    for name, arguments in (
        ("poisson_nll", (counts, expected, good, 700.0)),
        ("amplitude_mae", (np.sqrt(counts), expected, good, 2.0)),
        ("total_variation", (patches,)),
        ("realspace_mae", (patches, truth, good)),
        ("aligned_mae", (patches, truth, good)),
        ("aligned_mae", (patches, truth, good, twin)),
    ):
        theirs = [torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in arguments]
        value = float(getattr(losses, name)(*arguments))
        assert value == pytest.approx(float(getattr(torch_losses, name)(*theirs)), rel=1e-4)
    mask = good.astype(bool)
    reference = simulation.poisson_nll(counts, expected, mask) - simulation.poisson_floor(counts, mask)
    assert float(losses.poisson_nll(counts, expected, good, 700.0)) == pytest.approx(
        reference / 8 / 700, 1e-4
    )
    reference = simulation.amplitude_mae(counts, expected, mask) / 2
    assert float(losses.amplitude_mae(np.sqrt(counts), expected, good, 2.0)) == pytest.approx(reference, 1e-4)
    reference = simulation.aligned_mae(patches, truth, good)
    assert float(losses.aligned_mae(patches, truth, good)) == pytest.approx(reference, 1e-4)
    smaller = simulation.aligned_mae(patches, truth, good, twin)
    assert smaller < reference
    assert float(losses.aligned_mae(patches, truth, good, twin)) == pytest.approx(smaller, 1e-4)


def test_total_variation_is_zero_for_a_flat_object_and_has_gradients_there() -> None:
    flat = tf.fill((1, 1, 8, 8), tf.constant(0.5 + 0.5j, tf.complex64))
    with tf.GradientTape() as tape:
        tape.watch(flat)
        value = losses.total_variation(flat)
    assert float(value) < 1e-5
    assert np.isfinite(tape.gradient(value, flat)).all()


def _distance(actual: Array, expected: Array) -> float:
    return float(np.linalg.norm(actual - expected))


def _objective(
    engine: Any, terms: Any, network: Any, inputs: list[Any], log_scale: Any, counts: Any, kernel: Any
) -> list[Any]:
    """Every loss at the end of the whole chain, as a module would put it together."""
    _, offsets, probe, good = inputs
    patches, rest = network.on_pixels(*inputs)
    seen = patches if network.one_object else engine.merge_and_extract(patches, offsets)
    moved = probe if rest is None else engine.fourier_shift(probe, rest[:, :, None])
    expected = log_scale * engine.intensity(engine.illuminate(seen, moved, kernel)) + 0.1
    placed = seen if rest is None else engine.fourier_shift(seen, -rest)
    return [
        terms.poisson_nll(counts, expected, good, 50.0),
        terms.amplitude_mae(counts**0.5, expected, good, 1.0),
        terms.total_variation(seen),
        terms.realspace_mae(placed, placed * 0 + 0.7, good),
        terms.aligned_mae(placed, placed * 0 + 0.7, good),
        terms.aligned_mae(placed, placed * 0 + 0.7, good, placed * 0 + 1.4),
    ]


@pytest.mark.parametrize(
    ("architecture_name", "gridsize", "object_big", "sigma", "reflections"),
    [
        ("cnn", 1, True, 0.0, 0),
        ("cnn", 2, True, 0.7, 0),
        ("cnn", 2, False, 0.0, 0),
        ("unrolled", 1, True, 0.0, 0),
        ("unrolled", 2, True, 0.7, 0),
        ("unrolled", 2, False, 0.0, 0),
        ("unrolled", 2, True, 0.7, 3),
        ("unrolled", 2, False, 0.0, 3),
        ("unrolled_fourier", 2, True, 0.7, 0),
    ],
)
def test_every_gradient_is_that_of_pytorch(
    monkeypatch: pytest.MonkeyPatch,
    architecture_name: str,
    gridsize: int,
    object_big: bool,
    sigma: float,
    reflections: int,
) -> None:
    # of ten unrolled steps float32 itself gives the gradient of the probe to a percent only
    for module in (unrolled, torch_unrolled):
        monkeypatch.setattr(module, "STEPS", 4)
        monkeypatch.setattr(module, "STEPS_PER_CORRECTION", 2)
    config = ModelConfig(
        gridsize=gridsize,
        architecture=architecture_name,
        object_big=object_big,
        n_filters_scale=1,
        reflections=reflections,
    )
    ours, theirs = _twins(config)
    inputs = _inputs(config, 2, modes=2)
    counts = np.random.default_rng(1).poisson(1.3 * inputs[0].transpose(0, 3, 1, 2) ** 2).astype(np.float32)
    kernel = torch_forward.gaussian_kernel(sigma) if sigma else None

    torch_inputs = _torch_inputs(inputs)
    torch_scale = torch.tensor(1.3, requires_grad=True)
    torch_inputs[2].requires_grad_()
    expected_losses = _objective(
        torch_forward,
        torch_losses,
        theirs,
        torch_inputs,
        torch_scale,
        torch.from_numpy(counts),
        kernel,
    )

    tf_inputs = [tf.constant(a) for a in inputs]
    probe, scale = tf_inputs[2], tf.constant(1.3)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([probe, scale])
        smoothing = None if kernel is None else tf.constant(kernel.numpy())
        actual_losses = _objective(forward, losses, ours, tf_inputs, scale, counts, smoothing)

    def in_double() -> list[dict[str, Array]]:
        """Gradients of each loss by name, in float64."""
        network, doubles = copy.deepcopy(theirs).double(), _in_double(torch_inputs)
        doubles[2] = doubles[2].detach().requires_grad_()
        scale = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
        smoothing = None if kernel is None else kernel.double()
        photons = torch.from_numpy(counts).double()
        values = _objective(torch_forward, torch_losses, network, doubles, scale, photons, smoothing)
        named = {**dict(network.named_parameters()), "probe": doubles[2], "scale": scale}
        found = []
        for value in values:
            gradients = torch.autograd.grad(value, list(named.values()), retain_graph=True, allow_unused=True)
            found.append(
                {
                    name: np.zeros(p.shape) if g is None else g.numpy()
                    for (name, p), g in zip(named.items(), gradients, strict=True)
                }
            )
        return found

    reference = drawn(in_double) if config.is_unrolled else None
    # convolutions add what nearly cancels: one instruction set had two engines apart by 1.1e-3
    relative = 1e-3 if reference is not None else 5e-3

    parameters = {**dict(theirs.named_parameters()), "probe": torch_inputs[2], "scale": torch_scale}
    variables = {**ours.named_variables(), "probe": probe, "scale": scale}
    for number, (actual, expected) in enumerate(zip(actual_losses, expected_losses, strict=True)):
        assert float(actual) == pytest.approx(float(expected.detach()), rel=1e-4)
        wanted = torch.autograd.grad(
            expected, list(parameters.values()), retain_graph=True, allow_unused=True
        )
        largest = max(float(w.abs().square().sum().sqrt()) for w in wanted if w is not None)
        got = tape.gradient(actual, [variables[name] for name in parameters])
        for (name, parameter), g, w in zip(parameters.items(), got, wanted, strict=True):
            w = torch.zeros_like(parameter) if w is None else w
            if g is not None:
                assert not isinstance(g, tf.IndexedSlices)
                g = tf.transpose(g, (3, 2, 0, 1)) if len(g.shape) == 4 else g
                # the second term is for what is zero but for rounding, as the variation of a constant
                tolerance = relative * float(w.abs().square().sum().sqrt()) + 1e-6 * largest
                if reference is not None:  # two engines, each off by as much
                    of_this = functools.partial(_gradient_of, number, name)
                    tolerance += 2 * reference.allowed(_distance, of_this)
                assert np.linalg.norm(g - w.numpy()) <= tolerance, (number, name)
            else:
                assert not w.abs().max() > 0, (number, name)


def _gradient_of(number: int, name: str, found: Any) -> Any:
    return found[number][name]


# ---------------------------------------------------------------------- graphs


@pytest.mark.parametrize(
    ("architecture_name", "gridsize"),
    [("cnn", 2), ("unrolled", 2), ("unrolled", 1), ("unrolled_fourier", 2)],
)
def test_a_graph_of_unknown_batch_size_gives_the_eager_values(architecture_name: str, gridsize: int) -> None:
    config = ModelConfig(gridsize=gridsize, architecture=architecture_name, n_filters_scale=1)
    network, _ = _twins(config)
    n, c = config.N, config.channels

    def step(amplitude: Any, offsets: Any, probe: Any, good: Any) -> tuple[Any, ...]:
        with tf.GradientTape() as tape:
            patches, rest = network.on_pixels(amplitude, offsets, probe, good)
            seen = forward.merge_and_extract(patches, offsets)
            moved = probe if rest is None else forward.fourier_shift(probe, rest[:, :, None])
            expected = forward.intensity(forward.illuminate(seen, moved, forward.gaussian_kernel(0.5)))
            loss = losses.amplitude_mae(tf.transpose(amplitude, (0, 3, 1, 2)), expected + 1e-3, good, 1.0)
        gradient = tape.gradient(loss, network.trainable_variables[0])
        return patches, network(amplitude, offsets, probe, good), gradient

    shapes = [((None, n, n, c), "float32"), ((None, c, 2), "float32"), ((None, n, n), "complex64")]
    signature = [tf.TensorSpec(*shape) for shape in [*shapes, ((n, n), "float32")]]
    graph: Callable[..., tuple[Any, ...]] = tf.function(step, input_signature=signature)
    for batch, spread in ((1, 1.0), (3, 2.5)):  # another batch size, and regions of another size
        inputs = [tf.constant(a) for a in _inputs(config, batch, modes=batch)]
        inputs[1] = inputs[1] * spread
        for actual, expected in zip(graph(*inputs), step(*inputs), strict=True):
            assert error(actual, expected) < 1e-4
