"""What the patterns of a simulated scan can tell of its object, at best.

    python benchmarks/limit.py --data DATA [--scan NAME] [--steps N] [--epochs N ...]

``DATA`` holds ``weak_raster``, or another scan of one probe mode with its truth, as a Ptychodus standard
directory. The last row of the table is no reconstruction that anybody could make: probe, positions, the
object's mean and the power of its two parts at each spatial frequency are the true ones, and the object is
the most probable one given them and the counts (a Gaussian random field under Poisson counts), found by
L-BFGS on all patterns at once. The rows before it are refinement's, with the computed probe of the product,
and with the true one, known and fixed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from _tables import print_header, print_table, use_one_thread

use_one_thread()

import numpy as np
import torch
from _scans import Result, Scan, refined_from_flat
from numpy.typing import NDArray

from ptychopinn_ptychodus.refinement import RefinementConfig

LEAST_COUNT = 1e-6
LEAST_POWER = 1e-9
STEPS_AT_ONCE = 20


class Patterns:
    """Counts of a scan, and what an object gives under its true probe at its true positions."""

    def __init__(self, scan: Scan) -> None:
        raw, truth = scan.raw, scan.reference
        size = raw.N
        (probe,) = truth.probe.reshape(-1, size, size)
        first = truth.positions - (size - 1) / 2
        corner = np.rint(first).astype(int)
        frequency = 2j * np.pi * np.fft.fftfreq(size)
        rows, columns = (np.exp(-np.outer(rest, frequency)) for rest in (first - corner).T)
        moved = np.fft.ifft2(np.fft.fft2(probe) * rows[:, :, None] * columns[:, None])
        self._probes = torch.tensor(moved.astype(np.complex64))
        counts = np.square(raw.diff3d, dtype=np.float32)
        self._counts = torch.tensor(np.fft.ifftshift(counts, axes=(1, 2)))
        edge = torch.arange(size)
        row, column = (torch.tensor(part)[:, None] + edge for part in corner.T)
        self._pixels = row[:, :, None] * truth.object.shape[1] + column[:, None]
        expected = self.expected(torch.tensor(truth.object.astype(np.complex64)))
        self._probes *= torch.sqrt(self._counts.sum() / expected.sum())

    def expected(self, object_: torch.Tensor) -> torch.Tensor:
        """Counts, (M, N, N), zero frequency first."""
        waves = torch.fft.fft2(self._probes * object_.reshape(-1)[self._pixels], norm="ortho")
        return torch.square(waves.real) + torch.square(waves.imag)

    def misfit(self, object_: torch.Tensor) -> torch.Tensor:
        """Negative logarithm of the likelihood, less that of the counts themselves; in double precision,
        since what tells objects apart is a small part of the sum."""
        expected, counts = self.expected(object_), self._counts
        ratio = (expected + LEAST_COUNT) / (counts + LEAST_COUNT)
        return (expected - counts - counts * torch.log(ratio)).sum(dtype=torch.float64)


def most_probable(scan: Scan, steps: int) -> Iterator[tuple[int, NDArray[np.complex64]]]:
    """Steps done, and the object that is reached, every now and then."""
    patterns, truth = Patterns(scan), scan.reference.object
    lit = scan.mask.astype(float)
    mean = abs((lit * truth).sum()) / lit.sum()
    turned = truth * np.exp(-1j * np.angle((lit * truth).sum()))
    parts = (lit * (turned.real - mean), lit * turned.imag)
    spread = torch.tensor(np.array([_spread(part, np.mean(lit**2)) for part in parts], np.float32))
    # independent numbers of variance 1, of which the parts are made: the steps are alike at all frequencies
    white = torch.zeros((2, *truth.shape), requires_grad=True)

    def object_() -> torch.Tensor:
        real, imaginary = torch.fft.ifft2(torch.fft.fft2(white) * spread).real
        return torch.complex(real + mean, imaginary)

    optimiser = torch.optim.LBFGS(
        [white],
        max_iter=STEPS_AT_ONCE,
        history_size=20,
        line_search_fn="strong_wolfe",
        tolerance_grad=0,
        tolerance_change=0,
    )

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = patterns.misfit(object_()) + 0.5 * (white**2).sum(dtype=torch.float64)
        value.backward()
        return value

    for done in range(STEPS_AT_ONCE, steps + 1, STEPS_AT_ONCE):
        optimiser.step(loss)  # type: ignore[no-untyped-call]
        yield done, object_().detach().numpy()


def _spread(part: NDArray[np.float64], lit: float) -> NDArray[np.float64]:
    """Standard deviation at each spatial frequency, the mean over those of equal length."""
    height, width = part.shape
    length = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    ring = (length * min(part.shape) / 2).astype(int)
    power = np.abs(np.fft.fft2(part, norm="ortho")) ** 2 / lit
    mean = np.bincount(ring.ravel(), power.ravel()) / np.bincount(ring.ravel())
    return np.asarray(np.sqrt(np.maximum(mean, LEAST_POWER))[ring])


def rows(scan: Scan, epochs: list[int], steps: int) -> Iterator[tuple[str, ...]]:
    truth = scan.reference

    def row(title: str, result: Result) -> tuple[str, ...]:
        scores = scan.script_scores(result) or scan.scores(result)
        return title, *(f"{scores[key]:.3f}" for key in ("corr", "amplitude", "phase"))

    for count in epochs:
        found, _ = refined_from_flat(scan.raw, scan.raw.probeGuess, RefinementConfig(epochs=count))
        yield row(f"refined, {count} epochs", found)
    for count in epochs:
        config = RefinementConfig(epochs=count, metric="poisson", probe=False, positions=False)
        found, _ = refined_from_flat(scan.raw, truth.probe.astype(np.complex64), config)
        yield row(f"likewise by the likelihood, with the true probe, {count} epochs", found)
    for done, object_ in most_probable(scan, steps):
        result = Result(object_, truth.probe, truth.positions)
        if done in (steps // 4, steps // 2, steps):
            yield row(f"the most probable object, all else known, {done} steps", result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--scan", default="weak_raster")
    parser.add_argument("--steps", type=int, default=880)
    parser.add_argument("--epochs", type=int, nargs="+", default=[10, 30])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print_header(("numpy", "torch"))
    print_table(
        f"What the patterns of {arguments.scan} can tell",
        ("object", "corr", "amplitude SSIM", "phase SSIM"),
        rows(Scan(arguments.data / arguments.scan), arguments.epochs, arguments.steps),
    )


if __name__ == "__main__":
    main()
