"""Fourier layers beside the package's networks, by equal CPU seconds of training: do they win anywhere?

    python benchmarks/fourier.py --data DATA [--seed 1] [--seconds 20] [--only NAME] [--images FILE.png]

Two networks have factorised Fourier layers: the package's ``unrolled_fourier``, and one that is not part of
it, in the place of ``cnn``, from amplitudes to patches. They learn beside ``cnn`` and ``unrolled`` from
single frames whose objects are known (those of ``lines.py``), from the scan *synthetic*, and from a dim scan
of its object (that of ``dose.py``). How many groups a network sees is what it has time for, by its own speed,
which is measured first. Scores are of the network's object, not refined.
"""

from __future__ import annotations

import argparse
import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

from _tables import print_header, print_table, use_one_thread

use_one_thread()

import lines
import numpy as np
import torch
from _network import EXECUTION, apply, on_scan, train
from dose import Experiment
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from ptychopinn_ptychodus.backends.hyperparameters import AMPLITUDE_BIAS, HEAD_SPREAD, OUTER_CHANNELS
from ptychopinn_ptychodus.backends.lightning import module
from ptychopinn_ptychodus.backends.lightning.architecture import Architecture
from ptychopinn_ptychodus.backends.lightning.fourier import FourierLayer, UnrolledFourierNetwork
from ptychopinn_ptychodus.backends.lightning.loaders import GroupDataset
from ptychopinn_ptychodus.backends.lightning.network import ConvolutionalNetwork
from ptychopinn_ptychodus.backends.lightning.unrolled import UnrolledNetwork
from ptychopinn_ptychodus.config import ModelConfig, TrainingConfig
from ptychopinn_ptychodus.data import metrics
from ptychopinn_ptychodus.data.container import PtychoDataContainer
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.pretraining.scans import make_training_set
from ptychopinn_ptychodus.ptychodus_io.ingest import read_standard_directory

LAYERS, WIDTH = 4, 32  # of the network from amplitudes to patches
TIMED = 8  # steps, after two that are not counted
MOST_SCANS = 160  # that are made to learn single frames from
DIM = 1e3  # photons a pattern
GROUPED = TrainingConfig(
    model=ModelConfig(architecture="unrolled", gridsize=2, n_filters_scale=1),
    batch_size=4,
    neighbor_count=6,
    backend="pytorch",
)


# ---- networks ---------------------------------------------------------------------------------------------


class _Head(nn.Module):
    """Features of N/2 pixels to the map of the centre, and to that of the border, as a decoder of ``cnn``."""

    def __init__(self, channels: int, bias: float) -> None:
        super().__init__()
        self.inner = nn.Conv2d(WIDTH, channels, 3, padding=1)
        edge = nn.Conv2d(OUTER_CHANNELS, channels, 3, padding=1)
        self.outer = nn.Sequential(
            nn.Conv2d(WIDTH, OUTER_CHANNELS, 1), nn.ReLU(), nn.Upsample(scale_factor=2), edge
        )
        for head, inputs in ((self.inner, WIDTH), (edge, OUTER_CHANNELS)):
            nn.init.normal_(head.weight, std=HEAD_SPREAD / math.sqrt(9 * inputs))
            assert head.bias is not None
            nn.init.constant_(head.bias, bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.inner(features), self.outer(features)


class FactorisedNetwork(ConvolutionalNetwork):
    """Fourier layers at N/2 pixels in the place of the encoder and both decoders of ``cnn``."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * config.channels, WIDTH, 3, padding=1),
            *(FourierLayer(WIDTH) for _ in range(LAYERS)),
            nn.ReLU(),
        )
        self.amplitude = _Head(config.channels, AMPLITUDE_BIAS[config.amp_activation])  # type: ignore[assignment]
        self.phase = _Head(config.channels, 0.0)  # type: ignore[assignment]


def with_channels_last(kind: Callable[[ModelConfig], Architecture]) -> Callable[[ModelConfig], Architecture]:
    """As the package has its networks."""

    def build(config: ModelConfig) -> Architecture:
        network = kind(config)
        for part in network.modules():
            if isinstance(part, nn.Conv2d):
                part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network

    return build


NETWORKS: dict[str, Callable[[ModelConfig], Architecture]] = {
    "cnn": with_channels_last(ConvolutionalNetwork),
    "factorised FNO": FactorisedNetwork,
    "unrolled": with_channels_last(UnrolledNetwork),
    "unrolled_fourier": with_channels_last(UnrolledFourierNetwork),
}
"""All are called as ``unrolled`` is: what is asked by that name, the package asks of no other thing here."""


# ---- what they learn from ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """Groups to learn from, and the scan that a network is applied to afterwards."""

    name: str
    config: TrainingConfig
    groups: PtychoDataContainer
    scan: RawData
    truth: NDArray[np.complexfloating]
    mask: NDArray[np.bool_]
    told: bool = False  # the objects


def cases(data: Path, seed: int, only: str) -> Iterator[Case]:
    """All whose name contains ``only``."""
    reference = data / "synthetic" / "truth.npz"
    experiment = Experiment(reference)
    if only in "single frames":
        condition = lines.Condition(experiment.probe, unseen=seed)
        told = lines.known_objects(1, MOST_SCANS, 1)
        config = replace(told["training"], subsample_seed=seed)
        made = replace(told["pretraining"], seed=seed)
        probe = condition.probe.reshape(-1, lines.N, lines.N)
        groups = make_training_set(made, [probe], make_object=lines.half_lines).training
        seen = (condition.test, condition.truth, condition.mask)
        yield Case("single frames", config, groups, *seen, told=True)
    scans: dict[str, Callable[[], RawData]] = {
        "synthetic": lambda: read_standard_directory(data / "synthetic"),
        "1e3 photons": lambda: experiment.scan(DIM),
    }
    for name, make in scans.items():
        if only in name:
            scan = make()
            config = replace(GROUPED, model=replace(GROUPED.model, N=scan.N), subsample_seed=seed)
            groups = scan.generate_grouped_data(scan.N, config.neighbor_count, None, gridsize=2, seed=seed)
            yield Case(name, config, groups, scan, experiment.truth, experiment.mask)


def seconds_a_group(case: Case) -> float:
    """CPU seconds that the network learns from a group for."""
    fresh = module.PtychoPINN_Lightning.for_data(
        case.groups, case.config, replace(EXECUTION, scheduler="constant")
    )
    optimizer = fresh.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Optimizer)
    dataset = GroupDataset(case.groups, case.groups.input_scale, with_object=case.told)
    size, begin = case.config.batch_size, 0.0
    for number in range(TIMED + 2):
        begin = time.process_time() if number == 2 else begin
        loss = fresh.loss(dataset.__getitems__(list(range(number * size, (number + 1) * size))))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (time.process_time() - begin) / (TIMED * size)


# ---- the table --------------------------------------------------------------------------------------------

COLUMNS = (
    "learns from",
    "network",
    "parameters",
    "groups × passes",
    "train CPU s",
    "corr",
    "amp SSIM",
    "phase SSIM",
)


def measure(case: Case, name: str, budget: float) -> tuple[list[str], NDArray[np.complexfloating]]:
    """A row, and the object, aligned with the truth."""
    with mock.patch.object(module, "build_network", NETWORKS[name]):
        wanted = budget / seconds_a_group(case)
        passes = max(1, round(wanted / len(case.groups)))
        count = min(round(wanted / passes), len(case.groups))
        rng = np.random.default_rng(case.config.subsample_seed)
        chosen = np.sort(rng.permutation(len(case.groups))[:count])
        config = replace(case.config, nepochs=passes, n_groups=count)
        trained, seconds = train(case.groups.subset(chosen), config)
        parameters = sum(weights.numel() for weights in trained.network.parameters())
        network = on_scan(trained, case.scan, config) if case.told else trained
        found = apply(network, case.scan, config, case.truth.shape)
    score = metrics.compare(found, case.truth, case.mask)
    scores = (score.complex_correlation_centred, score.amplitude.ssim, score.phase.ssim)
    cells = [case.name, name, f"{parameters:,}", f"{count} × {passes}", f"{seconds:.0f}"]
    return [*cells, *(f"{value:.3f}" for value in scores)], metrics.align(found, case.truth, case.mask)[0]


def pictures(found: dict[str, dict[str, NDArray[np.complexfloating]]], path: Path) -> None:
    """Amplitude above phase of each network's object, a column each; two lines a case."""
    columns = max(map(len, found.values()))
    figure = Figure(figsize=(3 * columns, 6 * len(found)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2 * len(found), columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for number, (case, objects) in enumerate(found.items()):
        for column, (name, image) in enumerate(objects.items()):
            middle = tuple(slice(edge // 4, 3 * edge // 4) for edge in image.shape)
            for row, part in enumerate((np.abs(image[middle]), np.angle(image[middle]))):
                low, high = np.percentile(part, (1, 99))
                axis = axes[2 * number + row, column]
                axis.imshow(part, cmap="gray", vmin=low, vmax=high)
                axis.set_title(f"{case}\n{name}", fontsize=8)
    figure.savefig(path, dpi=60)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="directory of the scan 'synthetic'")
    parser.add_argument("--seed", type=int, default=1, help="of training, made scans and the unseen object")
    parser.add_argument("--seconds", type=float, default=20.0, help="CPU seconds of each training, about")
    parser.add_argument("--only", default="", help="what is learnt from: names that contain this")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--images", type=Path, help="file for the pictures")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    print_header(["torch", "lightning"])
    found: dict[str, dict[str, NDArray[np.complexfloating]]] = {}

    def rows() -> Iterator[list[str]]:
        for case in cases(arguments.data, arguments.seed, arguments.only):
            objects = found.setdefault(case.name, {"truth": case.truth})
            for name in arguments.networks:
                row, objects[name] = measure(case, name, arguments.seconds)
                yield row

    print_table(f"Equal CPU seconds of training, seed {arguments.seed}", COLUMNS, rows())
    if arguments.images:
        pictures(found, arguments.images)


if __name__ == "__main__":
    main()
