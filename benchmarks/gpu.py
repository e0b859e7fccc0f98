"""What a GPU computes, whether that is right, how fast it is, and what its quick number formats cost.

    python benchmarks/gpu.py [--device auto|cpu|cuda] [--tables correctness precision refinement network]
        [--quick] [--peer PYTHON]

Correctness comes first: patches, gradients, assembly and refinement on the device beside the same in double
precision, or by numpy, on the CPU. The script ends with an error, and measures nothing, if one of them is off
by more than rounding explains. Without a GPU it says so, checks what PyTorch computes on the CPU, and leaves
out the other tables unless ``--device cpu`` or ``--tables`` asks for them.

``network`` has the tables of ``throughput.py`` for PyTorch. ``--peer`` is a Python with pty-chi, whose LSQ-ML
runs on the same scans and the same device as the refinement. What needs Lightning is left out, by name,
where it is not installed. ``--quick`` takes one small case of each kind.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from _tables import in_fresh_process, print_header, print_table, use_one_thread

use_one_thread()

TABLES = ("correctness", "precision", "refinement", "network")

CHECKED: tuple[tuple[str, int, int], ...] = (("cnn", 64, 1), ("unrolled", 64, 2), ("unrolled", 128, 2))
"""Architecture, N and gridsize of the networks that are checked."""

REFINED: dict[int, int] = {64: 4900, 128: 1600, 256: 400}
"""Patterns of the scans that are refined, by N."""

BOUNDS = {"patches": 1e-2, "gradients": 2e-2, "assembly": 1e-4, "refinement": 2e-2}
"""
Differences that rounding explains, relative: of patches and gradients in the 2-norm, of objects the largest.
The ten steps of ``unrolled`` multiply rounding, and so do those of a refinement, most of all where the beam
is dim. What is computed wrongly is off by a part that anybody would see.
"""

FORMATS: dict[str, tuple[str, bool]] = {
    "float32": ("32-true", False),
    "TF32": ("32-true", True),
    "bf16": ("bf16-mixed", True),
    "fp16": ("16-mixed", True),
}
"""Precision as the settings name it, and whether single precision may be TF32."""

LEARNING = 400  # steps of the training whose precision is compared
LARGE = ("unrolled", 256, 2)


# ---- the child --------------------------------------------------------------------------------------------


def allow_tf32(allowed: bool) -> None:
    """Let multiplications of single precision keep 10 bits of each factor, or all 23."""
    import torch

    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cuda.matmul.allow_tf32 = allowed


def devices() -> dict[str, Any]:
    """The best device of PyTorch, its name, and its peak of memory so far."""
    import torch

    if not torch.cuda.is_available():
        return {"best": "cpu", "name": "the CPU"}
    memory = torch.cuda.get_device_properties(0).total_memory / 1e9
    return {"best": "cuda", "name": f"{torch.cuda.get_device_name()}, {memory:.0f} GB"}


def check_network(device: str, case: tuple[str, int, int]) -> dict[str, float]:
    """Patches, and gradients of the loss, on the device and in double precision on the CPU."""
    import torch
    from _throughput_networks import TorchNetwork, Way, make_case

    allow_tf32(False)
    container, model = make_case(*case, 36)

    def computed(device: str, dtype: torch.dtype) -> tuple[Any, dict[str, Any]]:
        network = TorchNetwork(container, model, device, Way(channels_last=False))
        module = network.module.to(dtype)
        (batch,) = network.upload(network.load(len(container)))
        batch = batch.apply(lambda values: values.to(dtype) if values.is_floating_point() else values)
        with torch.no_grad():
            patches = module.eval()(batch["amplitude"], batch["offsets"])
        module.train().loss(batch).backward()
        learnt = {name: one.grad for name, one in module.named_parameters() if one.grad is not None}
        return patches.cpu(), {name: gradient.double().cpu() for name, gradient in learnt.items()}

    patches, gradients = computed(device, torch.float32)
    exact, exact_gradients = computed("cpu", torch.float64)
    whole = torch.cat([gradient.ravel() for gradient in exact_gradients.values()]).norm()
    differences = [(gradients[name] - exact_gradients[name]).norm() for name in exact_gradients]
    return {
        "patches": float((patches - exact).norm() / exact.norm()),
        "gradients": float(torch.stack(differences).norm() / whole),
    }


def check_assembly(device: str, size: int) -> dict[str, float]:
    """One phase for all patches, and stitching, on the device and by numpy."""
    import numpy as np
    import torch
    from _throughput_networks import make_case

    from ptychopinn_ptychodus.backends.base import Prediction
    from ptychopinn_ptychodus.backends.lightning.assembly import TorchArithmetic
    from ptychopinn_ptychodus.data.simulation import extract_patches

    container, _ = make_case("unrolled", size, 2, 400)
    truth, indices = container.object_guess, container.nn_indices
    x, y = container.coords[indices.ravel()].T
    patches = extract_patches(truth, x, y, size).reshape(*indices.shape, size, size)
    patches *= np.exp(2j * np.pi * np.random.default_rng(0).random(len(indices)))[:, None, None, None]
    one, other = (
        Prediction(patches, container.probe, arithmetic).stitch(container, truth.shape).object
        for arithmetic in (None, TorchArithmetic(torch.device(device)).functions())
    )
    return {"assembly": float(np.abs(one - other).max() / np.abs(one).max())}


def made_scan(size: int, patterns: int) -> Any:
    """A scan of the collection's usual kind."""
    from zoo.kinds import KINDS
    from zoo.make import make

    return make(replace(KINDS["usual"], size=size, count=patterns), seed=1)


def check_refinement(device: str, size: int) -> dict[str, float]:
    """Three epochs on the device and by numpy: the object where it is well lit."""
    import numpy as np

    from ptychopinn_ptychodus.data import metrics
    from ptychopinn_ptychodus.refinement import RefinementConfig
    from ptychopinn_ptychodus.refinement.arrays import TorchArrays
    from ptychopinn_ptychodus.refinement.solver import refine

    scan = made_scan(size, 100)
    flat, config = np.ones(scan.object.shape, np.complex64), RefinementConfig(epochs=3, probe_modes=2)
    one, other = (
        refine(scan.raw, flat, scan.raw.probeGuess, config, device=where, quiet=True).object
        for where in ("cpu", TorchArrays(device))
    )
    x, y = scan.positions.T
    lit = metrics.illumination_mask(scan.probe, x, y, scan.object.shape)
    return {"refinement": float(np.abs(one - other)[lit].max() / np.abs(one)[lit].max())}


def learnt(device: str, case: tuple[str, int, int], patterns: int, steps: int) -> dict[str, Any]:
    """A network trained, and one trained in single precision applied, in each number format."""
    from _throughput_networks import TorchNetwork, Way, make_case

    from ptychopinn_ptychodus.data import metrics

    container, model = make_case(*case, patterns)
    truth = container.object_guess
    x, y = container.coords.T
    lit = metrics.illumination_mask(container.probe, x, y, truth.shape)
    groups = max(1, 512 * 64 // (container.N * model.channels)) if device == "cuda" else 4
    trained: dict[str, Any] = {}
    found: dict[str, Any] = {}

    def clocked(network: Any, function: Callable[[], Any]) -> tuple[float, Any]:
        network.finish()
        begin = time.perf_counter()
        value = function()
        network.finish()
        return time.perf_counter() - begin, value

    def repeated(step: Callable[[], object], times: int) -> None:
        for _ in range(times):
            step()

    def applied(network: Any) -> tuple[float, float]:
        network.predict()
        seconds, prediction = clocked(network, network.predict)
        object_ = prediction.stitch(container, truth.shape).object
        return seconds, metrics.compare(object_, truth, lit).complex_correlation_centred

    for name, (precision, tf32) in FORMATS.items():
        if device == "cpu" and name in ("TF32", "fp16"):
            continue  # of GPUs alone
        allow_tf32(tf32)
        network = TorchNetwork(container, model, device, Way(precision=precision))
        network.peak_mb()
        step = network.stepper(groups)
        step()
        seconds, _ = clocked(network, functools.partial(repeated, step, steps))
        learning_peak = network.peak_mb()
        trained.setdefault("weights", network.module.state_dict())
        _, own = applied(network)
        network.module.load_state_dict(
            trained["weights"]
        )  # those of single precision, applied in this format
        spent, same = applied(network)
        found[name] = {
            "steps": steps / seconds,
            "learnt": own,
            "patterns": container.nn_indices.size / spent,
            "applied": same,
            "MB": learning_peak,
        }
    return found


def refined(device: str, size: int, patterns: int, peer: str) -> dict[str, Any]:
    """Defaults from a flat object on one device: wall seconds, peak of its memory, and scores."""
    import numpy as np
    from zoo.lsqml import lsqml
    from zoo.results import Found, scores

    from ptychopinn_ptychodus.refinement import RefinementConfig
    from ptychopinn_ptychodus.refinement.solver import refine

    scan = made_scan(size, patterns)
    if peer:
        result = lsqml(scan, peer, {"device": "GPU" if device == "cuda" else "CPU"})
        peak = None
    else:
        flat = np.ones(scan.object.shape, np.complex64)
        if device == "cuda":
            refine(scan.raw, flat, scan.raw.probeGuess, RefinementConfig(epochs=1), device=device, quiet=True)
        begin = time.perf_counter()
        found = refine(scan.raw, flat, scan.raw.probeGuess, RefinementConfig(), device=device, quiet=True)
        result = Found(found.object, found.probe, found.positions, time.perf_counter() - begin)
        peak = None
        if device == "cuda":
            import torch

            peak = torch.cuda.max_memory_allocated() / 1e6
    return {**scores(scan, result), "wall": result.seconds, "MB": peak, "count": scan.raw.n_patterns}


CHILDREN: dict[str, Callable[..., dict[str, Any]]] = {
    "devices": devices,
    "network": check_network,
    "assembly": check_assembly,
    "refinement": check_refinement,
    "learnt": learnt,
    "refined": refined,
}


# ---- the parent -------------------------------------------------------------------------------------------


def child(what: str, *arguments: Any) -> dict[str, Any]:
    """One function in a process of its own, so that no memory or setting is left for the next."""
    return in_fresh_process([__file__, "--child", json.dumps([what, *arguments])])


def rows_of_checks(device: str, quick: bool, wrong: list[str]) -> Iterator[tuple[Any, ...]]:
    """Differences beside what is allowed; what is off is added to ``wrong``."""
    sizes = (64,) if quick else (64, 128)
    jobs: list[tuple[str, str, Any]] = []
    if with_lightning():
        cases = CHECKED[1:2] if quick else CHECKED
        jobs += [
            ("network", f"{name}, N = {size}, gridsize {side}", (name, size, side))
            for name, size, side in cases
        ]
        jobs += [("assembly", f"N = {size}, gridsize 2", size) for size in sizes]
    jobs += [("refinement", f"N = {size}, two modes, three epochs", size) for size in sizes]
    for what, described, case in jobs:
        for name, difference in child(what, device, case).items():
            right = difference <= BOUNDS[name]  # not a number is not right
            if not right:
                wrong.append(f"{name} ({described}): {difference:.1e} > {BOUNDS[name]:.0e}")
            yield name, described, f"{difference:.1e}", f"{BOUNDS[name]:.0e}", "yes" if right else "**no**"


def rows_of_formats(device: str, quick: bool) -> Iterator[tuple[Any, ...]]:
    cases = [("cnn", 64, 1), ("unrolled", 64, 2)][quick:]
    patterns, steps = (400, 20) if quick else (4900, LEARNING)
    for case in cases:
        for name, one in child("learnt", device, case, patterns, steps).items():
            yield (
                *case[:2],
                name,
                f"{one['steps']:.1f}",
                f"{one['learnt']:.4f}",
                f"{one['patterns']:,.0f}",
                f"{one['applied']:.4f}",
                mb(one["MB"]),
            )


def rows_of_refinements(device: str, quick: bool, peer: str) -> Iterator[tuple[Any, ...]]:
    for size, patterns in ({64: 196} if quick else REFINED).items():
        ways = [("refinement", device, ""), *([("refinement", "cpu", "")] if device != "cpu" else [])]
        ways += [("LSQ-ML", device, peer)] if peer else []
        first = 0.0
        for name, where, program in ways:
            one = child("refined", where, size, patterns, program)
            first = first or one["wall"]
            yield (
                size,
                one["count"],
                name,
                where,
                f"{one['wall']:.1f}",
                f"{one['wall'] / first:.2f}",
                f"{one['corr']:.4f}",
                f"{one['amplitude']:.3f}",
                f"{one['phase']:.3f}",
                mb(one["MB"]),
            )


def mb(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def with_lightning() -> bool:
    return all(importlib.util.find_spec(name) for name in ("lightning", "tensordict"))


def print_network(device: str, quick: bool) -> None:
    """Tables of ``throughput.py``."""
    import throughput

    cases = throughput.QUICK if quick else {**throughput.CASES, LARGE: (36, 1600)}
    throughput.print_tables(throughput.TABLES, cases, {"pytorch": device})


def main() -> None:
    """Command line."""
    if sys.argv[1:2] == ["--child"]:
        what, *arguments = json.loads(sys.argv[2])
        print(json.dumps(CHILDREN[what](*arguments)))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--tables", nargs="+", choices=TABLES)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--peer", metavar="PYTHON", default="")
    arguments = parser.parse_args()
    print_header(("ptychopinn-ptychodus", "torch", "lightning"), "One thread of the host")
    there = child("devices")
    device = there["best"] if arguments.device == "auto" else arguments.device
    if device == "cuda" and there["best"] != "cuda":
        raise SystemExit("--device cuda: PyTorch finds no CUDA device.")
    print(f"Device: {there['name'] if device == there['best'] else 'the CPU'}.")
    tables = arguments.tables or TABLES
    if there["best"] == "cpu" and arguments.device == "auto" and not arguments.tables:
        tables = ("correctness",)
        print("There is no GPU: what PyTorch computes is checked on the CPU, and no speed is measured.")
    if not with_lightning():
        print("Lightning and tensordict are not installed: what needs them is left out.")

    wrong: list[str] = []
    if "correctness" in tables:
        columns = ("what", "of", "difference", "allowed", "right")
        note = "Beside double precision on the CPU (network), and numpy there (assembly, refinement)."
        print_table("Correctness", columns, rows_of_checks(device, arguments.quick, wrong), note)
    if wrong:
        raise SystemExit("\nNot what it should be, so that nothing else is measured:\n" + "\n".join(wrong))
    if "precision" in tables and with_lightning():
        print_table(
            "Number formats",
            (
                "architecture",
                "N",
                "format",
                "training steps/s",
                "correlation",
                "patterns/s applied",
                "correlation, weights of float32",
                "GPU, peak MB of training",
            ),
            rows_of_formats(device, arguments.quick),
            "Wall seconds. A network trained for as many steps from the same seed, and applied, in each "
            "format; then the weights that float32 learnt, applied in it. Correlation: with the true object.",
        )
    if "refinement" in tables:
        print_table(
            "Refinement by defaults from a flat object",
            (
                "N",
                "patterns",
                "program",
                "device",
                "wall s",
                "of the first",
                "correlation",
                "amplitude SSIM",
                "phase SSIM",
                "GPU, peak MB",
            ),
            rows_of_refinements(device, arguments.quick, arguments.peer),
        )
    if "network" in tables and with_lightning():
        print_network(device, arguments.quick)


if __name__ == "__main__":
    main()
