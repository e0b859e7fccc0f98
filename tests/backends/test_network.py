"""Architectures: shapes, conventions, and what each field of the configuration changes."""

from __future__ import annotations

import pytest
import torch

from ptychopinn_ptychodus.backends.hyperparameters import MODES
from ptychopinn_ptychodus.backends.lightning import forward
from ptychopinn_ptychodus.backends.lightning.fourier import FourierLayer
from ptychopinn_ptychodus.backends.lightning.network import build_network
from ptychopinn_ptychodus.config import ModelConfig

GOOD = {n: torch.ones(n, n) for n in (32, 64, 96, 120, 128, 192, 256, 512)}


def _inputs(n: int, channels: int, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    amplitude = torch.rand(batch, channels, n, n, generator=generator)
    offsets = (torch.rand(batch, channels, 2, generator=generator) - 0.5) * 12
    axis = torch.arange(n) - (n - 1) / 2
    probe = torch.exp(-(axis[:, None] ** 2 + axis**2) / (2 * (n / 8) ** 2)).to(torch.complex64)[None]
    return amplitude, offsets, probe * (n / 2) / probe.abs().square().sum().sqrt()


def _of_an_empty_object(probe: torch.Tensor, channels: int) -> torch.Tensor:
    n = probe.shape[-1]
    return forward.intensity(probe).sqrt().expand(2, channels, n, n)


@pytest.mark.parametrize("architecture", ["cnn", "unrolled"])
@pytest.mark.parametrize(
    ("n", "gridsize"), [(32, 2), (64, 1), (64, 2), (64, 3), (128, 1), (128, 2), (256, 1), (512, 1)]
)
def test_every_size_gives_patches_of_the_input_shape(architecture: str, n: int, gridsize: int) -> None:
    config = ModelConfig(N=n, gridsize=gridsize, architecture=architecture, n_filters_scale=1)
    amplitude, offsets, probe = _inputs(n, config.channels, batch=1)
    with torch.no_grad():
        patches = build_network(config)(amplitude, offsets, probe, GOOD[amplitude.shape[-1]])
    assert patches.shape == amplitude.shape
    assert patches.dtype == torch.complex64
    assert torch.isfinite(torch.view_as_real(patches)).all()


@pytest.mark.parametrize(
    ("architecture", "n"),
    [*(("unrolled", n) for n in (96, 120, 192)), *(("unrolled_fourier", n) for n in (32, 96, 120))],
)
def test_the_unrolled_networks_take_sizes_that_are_no_power_of_two(architecture: str, n: int) -> None:
    config = ModelConfig(N=n, gridsize=2, architecture=architecture, n_filters_scale=1)
    amplitude, offsets, probe = _inputs(n, config.channels, batch=1)
    with torch.no_grad():
        patches = build_network(config)(amplitude, offsets, probe, GOOD[n])
    assert patches.shape == amplitude.shape
    assert torch.isfinite(torch.view_as_real(patches)).all()


@pytest.mark.parametrize("size", [32, 45])
def test_a_fourier_layer_mixes_the_first_modes_of_a_transform(size: int) -> None:
    layer = FourierLayer(4).double()
    x = torch.randn(2, 4, size, size, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        mixed = torch.zeros_like(x)
        for axis, mixing in zip((-1, -2), layer.mixing, strict=True):
            modes = torch.fft.rfft(x, dim=axis).narrow(axis, 0, MODES)
            letters = ("bihk", "bohk") if axis == -1 else ("bikh", "bokh")
            matrix = torch.complex(mixing[0], mixing[1])
            found = torch.einsum(f"{letters[0]},iok->{letters[1]}", modes, matrix)
            mixed += torch.fft.irfft(found, size, dim=axis)
        expected = x + layer.out(torch.relu(layer.near(x) + mixed))
        torch.testing.assert_close(layer(x), expected, rtol=1e-10, atol=1e-10)
        exact = layer.float()(x.float())
        with torch.autocast("cpu", torch.bfloat16):
            rough = layer(x.float())
    assert 0 < float((rough - exact).norm() / exact.norm()) < 0.02


@pytest.mark.parametrize("pad_object", [True, False])
@pytest.mark.parametrize("probe_big", [True, False])
def test_padding_confines_the_object_unless_the_border_is_asked_for(
    pad_object: bool, probe_big: bool
) -> None:
    config = ModelConfig(pad_object=pad_object, probe_big=probe_big, n_filters_scale=1)
    with torch.no_grad():
        patches = build_network(config)(*_inputs(64, 1), GOOD[64])
    border = patches.clone()
    border[..., 16:48, 16:48] = 0
    assert bool(border.abs().max() > 0) == (probe_big or not pad_object)
    assert patches[..., 16:48, 16:48].abs().min() > 0


@pytest.mark.parametrize("activation", ["sigmoid", "swish", "softplus", "relu"])
def test_amplitude_activation_sets_the_range(activation: str) -> None:
    network = build_network(ModelConfig(amp_activation=activation, n_filters_scale=1))
    _, offsets, probe = _inputs(64, 1)
    amplitude = _of_an_empty_object(probe, 1)  # of which the features are zero
    with torch.no_grad():
        network.get_parameter("amplitude.inner.bias").fill_(3.0)
        centre = network(amplitude, offsets, probe, GOOD[amplitude.shape[-1]])[..., 16:48, 16:48].abs().mean()
    expected = {"sigmoid": 1.905, "swish": 5.716, "softplus": 6.097, "relu": 6.0}[activation]
    assert float(centre) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("activation", ["sigmoid", "swish", "softplus", "relu"])
def test_fresh_cnn_gives_an_empty_object_for_the_pattern_of_one(activation: str) -> None:
    network = build_network(ModelConfig(gridsize=2, amp_activation=activation, n_filters_scale=1))
    _, offsets, probe = _inputs(64, 4)
    with torch.no_grad():
        amplitude = _of_an_empty_object(probe, 4)
        patches = network(amplitude, offsets, probe, GOOD[64])
    torch.testing.assert_close(patches, torch.ones_like(patches))


@pytest.mark.parametrize("own", [False, True])
def test_cnn_sees_what_differs_from_an_empty_object(own: bool) -> None:
    """``own``: with a probe for each group."""
    network = build_network(ModelConfig(gridsize=2, n_filters_scale=1))
    _, offsets, probe = _inputs(64, 4)
    probes = torch.stack((probe, 1.5 * probe))[:, None] if own else probe
    empty = _of_an_empty_object(probes, 4)
    with torch.no_grad():
        network.get_parameter("encoder.0.0.bias").fill_(0.7)
        first = network(empty, offsets, probes, GOOD[64])
        torch.testing.assert_close(first[0], first[1])
        assert not torch.allclose(network(0.9 * empty, offsets, probes, GOOD[64]), first, atol=1e-4)


@pytest.mark.parametrize(("n", "gridsize"), [(64, 1), (128, 1), (128, 2)])
def test_fresh_cnn_tells_patterns_apart(n: int, gridsize: int) -> None:
    """A network that starts out giving one patch for every pattern tends to stay there."""
    torch.manual_seed(0)
    config = ModelConfig(N=n, gridsize=gridsize, n_filters_scale=1)
    amplitude, offsets, probe = _inputs(n, config.channels, batch=4)
    with torch.no_grad():
        patches = build_network(config)(amplitude, offsets, probe, GOOD[amplitude.shape[-1]])
    inside = patches[..., n // 4 : -n // 4, n // 4 : -n // 4]
    assert float((inside - inside.mean(0)).abs().mean()) > 1e-3


@pytest.mark.parametrize("gridsize", [1, 2])
def test_unrolled_steps_lower_the_data_error_before_any_training(gridsize: int) -> None:
    config = ModelConfig(gridsize=gridsize, architecture="unrolled", n_filters_scale=1)
    _, offsets, probe = _inputs(64, config.channels)
    generator = torch.Generator().manual_seed(1)
    region = torch.polar(
        0.8 + 0.2 * torch.rand(2, 96, 96, generator=generator), torch.rand(2, 96, 96, generator=generator)
    )
    truth = forward.extract(region, offsets, 64)
    amplitude = forward.intensity(forward.illuminate(truth, probe)).sqrt()

    def error(patches: torch.Tensor) -> float:
        modelled = forward.intensity(forward.illuminate(patches, probe)).sqrt()
        return float((modelled - amplitude).square().sum() / amplitude.square().sum())

    with torch.no_grad():
        patches = build_network(config)(amplitude, offsets, probe, GOOD[amplitude.shape[-1]])
    assert error(patches) < 0.25 * error(torch.ones_like(truth))


def _under_a_disk(gridsize: int, seed: int) -> tuple[torch.Tensor, ...]:
    """Patches of bright spots on black, (4, C, 64, 64), with what a network is given of them."""
    axis = torch.arange(64) - 31.5
    probe = ((axis.square() + axis[:, None].square()).sqrt() < 16).to(torch.complex64)[None]
    place = torch.tensor([[-4.0, -4.0], [4.0, -4.0], [-4.0, 4.0], [4.0, 4.0]])
    offsets = (place if gridsize == 2 else place[:1] * 0).expand(4, -1, -1)
    spots = torch.rand(4, 80, 80, generator=torch.Generator().manual_seed(seed)).square()
    object_ = torch.nn.functional.avg_pool2d(spots[:, None], 3, 1, 1)[:, 0].to(torch.complex64)
    truth = forward.extract(object_, offsets, 64)
    amplitude = forward.intensity(forward.illuminate(truth, probe)).sqrt()
    return truth, amplitude, offsets, probe


@pytest.mark.parametrize(("gridsize", "reflections", "factor"), [(1, 200, 0.8), (2, 50, 0.2)])
def test_reflections_find_what_a_probe_without_phase_leaves_to_a_long_search(
    gridsize: int, reflections: int, factor: float
) -> None:
    truth, amplitude, offsets, probe = _under_a_disk(gridsize, seed=1)
    weight = probe[0].abs()

    def error(count: int) -> float:
        config = ModelConfig(gridsize=gridsize, architecture="unrolled", n_filters_scale=1, reflections=count)
        with torch.no_grad():
            patches = build_network(config)(amplitude, offsets, probe, GOOD[64])
        # a pattern alone does not tell a patch from its twin
        twin = truth.flip(-2, -1) if gridsize == 1 else truth
        off = [((patches.abs() - wanted.abs()).abs() * weight).mean((-2, -1)) for wanted in (truth, twin)]
        return float(torch.minimum(*off).mean())

    assert error(reflections) < factor * error(0)


def test_reflections_of_a_group_do_not_depend_on_the_others_of_its_batch() -> None:
    _, amplitude, offsets, probe = _under_a_disk(2, seed=2)
    offsets = offsets.clone()
    offsets[1] *= 2.4  # its region is larger
    config = ModelConfig(gridsize=2, architecture="unrolled", n_filters_scale=1, reflections=5)
    network = build_network(config)
    with torch.no_grad():
        together = network(amplitude, offsets, probe, GOOD[64])[:1]
        alone = network(amplitude[:1], offsets[:1], probe, GOOD[64])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)


def test_unrolled_patches_of_a_group_agree_where_they_overlap() -> None:
    config = ModelConfig(gridsize=2, architecture="unrolled", n_filters_scale=1)
    amplitude, _, probe = _inputs(64, 4, batch=1)
    offsets = torch.tensor([[[-4.0, -4.0], [4.0, -4.0], [-4.0, 4.0], [4.0, 4.0]]])
    with torch.no_grad():
        left, right = build_network(config)(amplitude, offsets, probe, GOOD[amplitude.shape[-1]])[0, :2]
    torch.testing.assert_close(left[:, 8:], right[:, :-8])


def test_bad_pixels_do_not_steer_the_unrolled_steps() -> None:
    network = build_network(ModelConfig(gridsize=2, architecture="unrolled", n_filters_scale=1))
    amplitude, offsets, probe = _inputs(64, 4)
    good = GOOD[64].clone()
    good[28:36] = 0
    spoiled = torch.where(good > 0, amplitude, torch.tensor(9.0))
    with torch.no_grad():
        assert torch.equal(network(amplitude, offsets, probe, good), network(spoiled, offsets, probe, good))
        assert not torch.equal(
            network(amplitude, offsets, probe, good), network(amplitude, offsets, probe, GOOD[64])
        )


def test_object_big_off_keeps_patterns_apart() -> None:
    amplitude, offsets, probe = _inputs(64, 4)
    joint = build_network(ModelConfig(gridsize=2, architecture="unrolled", n_filters_scale=1))
    apart = build_network(
        ModelConfig(gridsize=2, architecture="unrolled", object_big=False, n_filters_scale=1)
    )
    other = amplitude.clone()
    other[:, 1:] = torch.rand(other[:, 1:].shape)
    with torch.no_grad():
        assert torch.equal(
            apart(amplitude, offsets, probe, GOOD[amplitude.shape[-1]])[:, 0],
            apart(other, offsets, probe, GOOD[amplitude.shape[-1]])[:, 0],
        )
        assert not torch.equal(
            joint(amplitude, offsets, probe, GOOD[amplitude.shape[-1]])[:, 0],
            joint(other, offsets, probe, GOOD[amplitude.shape[-1]])[:, 0],
        )


def test_fourier_shift_moves_content_along_x_then_y() -> None:
    axis = torch.arange(32.0)

    def blob(x: float, y: float) -> torch.Tensor:
        return torch.exp(-((axis - x) ** 2 + (axis[:, None] - y) ** 2) / 8).to(torch.complex64)

    moved = forward.fourier_shift(blob(14, 10)[None], torch.tensor([[2.5, -1.25]]))
    torch.testing.assert_close(moved[0], blob(16.5, 8.75), atol=1e-3, rtol=0)
