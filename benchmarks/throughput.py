"""Patterns per second from a grouped scan to its stitched object, on the best device there is.

    python benchmarks/throughput.py [--device auto|cpu|gpu] [--tables stages assembly options training]
        [--engines pytorch tensorflow] [--quick]

Each case runs in a fresh process. On a CPU that others use too, CPU seconds of one thread are
what repeats; on a GPU it is wall time.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from _tables import in_fresh_process, print_header, print_table, use_one_thread

Case = tuple[str, int, int]

# architecture, N, gridsize; patterns on a CPU, on a GPU
CASES: dict[Case, tuple[int, int]] = {
    ("cnn", 64, 1): (256, 10_000),
    ("cnn", 64, 2): (576, 10_000),
    ("unrolled", 64, 2): (576, 10_000),
    ("unrolled", 64, 3): (576, 10_000),
    ("cnn", 128, 1): (100, 4_900),
    ("unrolled", 128, 2): (144, 4_900),
}
QUICK: dict[Case, tuple[int, int]] = {("cnn", 64, 1): (36, 900), ("unrolled", 64, 2): (64, 900)}

COMPARED: tuple[Case, ...] = (("cnn", 64, 1), ("unrolled", 64, 3))

ASSEMBLED: dict[Case, int] = {
    ("unrolled", 64, 1): 10_000,
    ("unrolled", 64, 2): 10_000,
    ("unrolled", 128, 1): 2_500,
    ("unrolled", 128, 2): 2_500,
}

# of one GPU, without stitching: patterns per second by N
PUBLISHED = {64: "6,100", 128: "2,600"}

TABLES = ("stages", "assembly", "options", "training")
STAGES = ("loading", "to device", "network", "back", "one phase", "stitching")
STEPS = 4
TRAINED_ON = 18  # patterns a step, about


def ways(engine: str, gpu: bool, training: bool) -> dict[str, dict[str, Any]]:
    """What is changed from the default, by name: fields of :class:`._throughput_networks.Way`."""
    graphs = {"pytorch": ("compiled",), "tensorflow": ("eager", "XLA")}[engine]
    found: dict[str, dict[str, Any]] = {"bf16": {"precision": "bf16-mixed"}}
    if gpu:
        found["fp16"] = {"precision": "16-mixed"}
        if engine == "pytorch":
            found["CUDA graphs"] = {"graph": "CUDA graphs"}
    if engine == "pytorch":
        found["channels not last"] = {"channels_last": False}
    found |= {graph: {"graph": graph} for graph in graphs}
    if training:
        return found
    sizes = (32, 128, 512, 2048) if gpu else (8, 32, 128)
    found |= {f"{size} patterns a batch": {"batch": size} for size in sizes}
    if gpu:
        found |= {f"fp16, {size} a batch": {"precision": "16-mixed", "batch": size} for size in sizes}
    return found | {"2 loading workers": {"workers": 2}}


# ---- the child --------------------------------------------------------------------------------------------


def use_threads() -> None:
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


def clocked(function: Callable[[], Any], finish: Callable[[], None]) -> tuple[float, float]:
    """Wall and CPU seconds of a call, and of what it leaves the device to do."""
    finish()
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    finish()
    return time.perf_counter() - wall, time.process_time() - cpu


def make(engine: str, case: Case, device: str, patterns: int, **way: Any) -> tuple[Any, Any]:
    from _throughput_networks import NETWORKS, Way, make_case

    container, model = make_case(*case, patterns)
    network = NETWORKS[engine](container, model, device, Way(**way))
    use_threads()
    return container, network


def stages(engine: str, case: Case, device: str, patterns: int, gpu: bool) -> dict[str, Any]:
    """The whole way as the package goes it, and each stage by itself: seconds."""
    import numpy as np

    from ptychopinn_ptychodus.backends.batch_size import groups_per_batch
    from ptychopinn_ptychodus.data.stitching import stitch

    container, network = make(engine, case, device, patterns)
    shape = tuple(np.ceil(container.coords.max(0)[::-1]).astype(int) + container.N)

    def whole() -> None:
        network.predict().stitch(container, shape)

    whole()  # warm-up: traced, and memory taken
    network.peak_mb()
    times = [clocked(whole, network.finish) for _ in range(3)]
    found: dict[str, Any] = {"wall": min(w for w, _ in times), "cpu": min(c for _, c in times)}
    found["MB"] = network.peak_mb()

    clock = 0 if gpu else 1
    values: list[Any] = [groups_per_batch(container, "gpu" if gpu else "cpu")]
    spent = []
    for stage in (network.load, network.upload, network.run, network.fetch):
        call = functools.partial(lambda stage: values.append(stage(values[-1])), stage)
        spent.append(clocked(call, network.finish)[clock])
    prediction = network.predict()
    weight, arithmetic = prediction.weight, prediction.arithmetic
    place = functools.partial(prediction.stitch, container, shape)
    flat: Any = prediction.patches.reshape(-1, container.N, container.N)
    x, y = container.coords[container.nn_indices.ravel()].T

    def only_stitch() -> None:
        held, accumulate = flat, None
        if arithmetic is not None:
            held, accumulate = arithmetic.put(flat), arithmetic.accumulate
        stitch(held, x, y, shape, weight=weight, accumulate=accumulate)

    placed, stitched = (
        min(clocked(f, network.finish)[clock] for _ in range(2)) for f in (place, only_stitch)
    )
    spent += [max(0.0, placed - stitched), stitched]
    return found | {"stages": spent, "patterns": int(container.nn_indices.size), "scan": len(container)}


def options(engine: str, case: Case, device: str, patterns: int, gpu: bool) -> dict[str, Any]:
    """The network applied in every way, each in turn with the default: seconds."""
    patterns = patterns if gpu else patterns // 2
    container, base = make(engine, case, device, patterns)
    base.predict()
    found = {}
    for name, way in ways(engine, gpu, training=False).items():
        _, other = make(engine, case, device, patterns, **way)
        found[name] = compared(base.predict, other.predict, base, other, gpu, times=2)
        del other
    return {"ways": found, "patterns": int(container.nn_indices.size)}


def training(engine: str, case: Case, device: str, patterns: int, gpu: bool) -> dict[str, Any]:
    """Training steps in every way, each in turn with the default: seconds a step."""
    container, base = make(engine, case, device, patterns)
    channels = container.gridsize**2
    groups = max(1, (512 if gpu else TRAINED_ON) * 64 // (container.N * channels))
    step = base.stepper(groups)
    step()
    found = {}
    for name, way in ways(engine, gpu, training=True).items():
        if case[0] == "unrolled" and name in ("compiled", "CUDA graphs"):
            continue  # training calls a method of its own of this network, which compile() leaves as it is
        _, other = make(engine, case, device, patterns, **way)
        found[name] = compared(step, other.stepper(groups), base, other, gpu, times=STEPS)
        del other
    return {"ways": found, "patterns": groups * channels}


def compared(
    default: Callable[[], Any], changed: Callable[[], Any], base: Any, other: Any, gpu: bool, times: int
) -> dict[str, Any]:
    """Median seconds of both, called in turn; and of the first call of the changed one."""
    first = clocked(changed, other.finish)
    other.peak_mb()
    pairs = [(clocked(default, base.finish), clocked(changed, other.finish)) for _ in range(times)]
    clock = 0 if gpu else 1
    before, after = (median(pair[side][clock] for pair in pairs) for side in (0, 1))
    return {"before": before, "after": after, "first": first[clock], "MB": other.peak_mb()}


def assembly(engine: str, case: Case, device: str, patterns: int, gpu: bool) -> dict[str, Any]:
    """Patches of a known object, each group with a phase of its own, assembled by numpy and by torch."""
    import numpy as np
    import torch
    from _throughput_networks import make_case

    from ptychopinn_ptychodus.backends.base import Prediction
    from ptychopinn_ptychodus.backends.lightning.assembly import TorchArithmetic
    from ptychopinn_ptychodus.data.simulation import extract_patches

    container, _ = make_case(*case, patterns)
    use_threads()
    indices, coords, truth = container.nn_indices, container.coords, container.object_guess
    turns = np.exp(2j * np.pi * np.random.default_rng(0).random(len(indices))).astype(np.complex64)
    x, y = coords[indices.ravel()].T
    patches = extract_patches(truth, x, y, container.N).reshape(*indices.shape, container.N, container.N)
    patches *= turns[:, None, None, None]
    torch_device = torch.device("cuda" if gpu else "cpu")
    objects: dict[str, Any] = {}

    def run(name: str) -> None:
        arithmetic = TorchArithmetic(torch_device).functions() if name == "torch" else None
        objects[name] = Prediction(patches, container.probe, arithmetic).stitch(container, truth.shape).object

    def finish() -> None:
        if gpu:
            torch.cuda.synchronize()

    found: dict[str, Any] = {"patterns": int(indices.size), "scan": len(container)}
    for name in ("numpy", "torch"):
        run(name)
        found[name] = min(clocked(functools.partial(run, name), finish)[0 if gpu else 1] for _ in range(3))
    found["difference"] = float(np.abs(objects["torch"] - objects["numpy"]).max())
    return found


def devices(engine: str) -> dict[str, Any]:
    """What ``auto`` would take, and its name for people."""
    from ptychopinn_ptychodus.backends.registry import get_engine

    best = get_engine(engine).accelerators()[0]
    name = platform.machine()
    if best == "cuda":
        import torch

        name = torch.cuda.get_device_name()
    elif best == "gpu":
        import tensorflow as tf

        device = tf.config.list_physical_devices("GPU")[0]
        name = tf.config.experimental.get_device_details(device).get("device_name", device.name)
    return {"best": best, "name": name}


# ---- the parent -------------------------------------------------------------------------------------------


def measured(what: str, engine: str, case: Case, device: str, patterns: int) -> dict[str, Any]:
    gpu = device != "cpu"
    job = json.dumps([what, engine, case, device, patterns, gpu])
    return in_fresh_process([__file__, "--child", job])


def mb(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def rows_of_stages(
    cases: Mapping[Case, tuple[int, int]], chosen: Mapping[str, str]
) -> Iterator[tuple[Any, ...]]:
    for case, numbers in cases.items():
        for engine, device in chosen.items():
            found = measured("stages", engine, case, device, numbers[device != "cpu"])
            total = sum(found["stages"])
            yield (
                *case,
                engine,
                f"{found['patterns']:,} ({found['scan']:,})",
                f"{found['patterns'] / found['wall']:,.0f}",
                f"{found['patterns'] / found['cpu']:,.0f}",
                *(f"{100 * spent / total:.1f} %" for spent in found["stages"]),
                mb(found["MB"]),
                PUBLISHED.get(case[1], ""),
            )


def rows_of_ways(
    what: str, cases: Mapping[Case, tuple[int, int]], chosen: Mapping[str, str]
) -> Iterator[tuple[Any, ...]]:
    for case, numbers in cases.items():
        for engine, device in chosen.items():
            found = measured(what, engine, case, device, numbers[device != "cpu"])
            count = found["patterns"]
            defaults = median(way["before"] for way in found["ways"].values())
            yield *case, engine, "as it is", f"{count / defaults:,.0f}", "1.00", "", ""
            for name, way in found["ways"].items():
                gain, more = way["before"] / way["after"], max(0.0, way["first"] - way["after"])
                yield (
                    *case,
                    engine,
                    name,
                    f"{count / way['after']:,.0f}",
                    f"{gain:.2f}",
                    f"{more:.1f}",
                    mb(way["MB"]),
                )


def rows_of_assembly(device: str) -> Iterator[tuple[Any, ...]]:
    for case in ASSEMBLED:
        found = measured("assembly", "pytorch", case, device, ASSEMBLED[case])
        yield (
            *case[1:],
            f"{found['patterns']:,} ({found['scan']:,})",
            *(f"{found['patterns'] / found[way]:,.0f}" for way in ("numpy", "torch")),
            f"{found['difference']:.1e}",
            PUBLISHED.get(case[1], ""),
        )


def print_tables(
    tables: Sequence[str], cases: Mapping[Case, tuple[int, int]], chosen: Mapping[str, str]
) -> None:
    """Measure and print.

    Parameters
    ----------
    tables
        Some of :data:`TABLES`.
    cases
        Those of the first table, as :data:`CASES`; those of :data:`COMPARED` among them are of the others, or
        all if none is.
    chosen
        The device of each engine, by the engine's name.
    """
    few = {case: cases[case] for case in COMPARED if case in cases} or cases
    model = ("architecture", "N", "gridsize", "engine")
    if "stages" in tables:
        print_table(
            "From groups to the stitched object",
            (
                *model,
                "patterns (scan)",
                "patterns/s",
                "patterns/CPU-s",
                *STAGES,
                "GPU, peak MB",
                "published, one GPU, not stitched",
            ),
            rows_of_stages(cases, chosen),
            "`predict` and `assemble`, best of 3 after a warm-up; every pattern is the anchor of a group, so "
            "the network sees gridsize² times as many patterns as the scan has, and these are counted. "
            "Stages: each by itself for all batches, shares of their sum (GPU: wall, CPU: CPU time). "
            "Published: for PtychoPINN, on one GPU that is not named here, its network's patterns, without "
            "stitching; take no ratio to a CPU.",
        )
    if "assembly" in tables and "pytorch" in chosen:
        device = chosen["pytorch"]
        where = "CPU" if device == "cpu" else "GPU"
        print_table(
            "Assembly of many patches",
            (
                "N",
                "gridsize",
                "patches (scan)",
                "numpy, patches/s",
                f"torch on the {where}, patches/s",
                "largest difference",
                "published network, one GPU",
            ),
            rows_of_assembly(device),
            "`assemble` alone: one phase for all groups, and stitching, of a known object. Wall seconds on a "
            "GPU, CPU seconds on a CPU, one thread; best of 3.",
        )
    columns = (*model, "way", "patterns/s", "gain", "first time, s more", "GPU, peak MB")
    clock = "Wall seconds on a GPU, CPU seconds on a CPU; each way and the default in turn."
    if "options" in tables:
        print_table(
            "Ways to apply a network",
            columns,
            rows_of_ways("options", few, chosen),
            f"`predict` alone, without assembly. {clock}",
        )
    if "training" in tables:
        print_table(
            "Ways to train one",
            columns,
            rows_of_ways("training", few, chosen),
            f"Steps of about {TRAINED_ON} patterns on a CPU, 512 on a GPU, loading included. {clock}",
        )


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        what, engine, *rest = json.loads(sys.argv[2])
        run = {"stages": stages, "options": options, "training": training, "assembly": assembly}
        result = devices(engine) if what == "devices" else run[what](engine, tuple(rest[0]), *rest[1:])
        print(json.dumps(result))
        return
    engines = ("pytorch", "tensorflow")
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "gpu"))
    parser.add_argument("--tables", nargs="+", default=TABLES, choices=TABLES)
    parser.add_argument("--engines", nargs="+", default=engines, choices=engines)
    parser.add_argument("--quick", action="store_true", help="see that it works: two small cases")
    arguments = parser.parse_args()
    use_one_thread()
    print_header(("ptychopinn-ptychodus", "torch", "keras"))
    chosen = {}
    for engine in arguments.engines:
        there = in_fresh_process([__file__, "--child", json.dumps(["devices", engine])])
        device = there["best"] if arguments.device == "auto" else arguments.device
        chosen[engine] = device
        name = there["name"] if device != "cpu" else "the CPU"
        if device == "gpu" and there["best"] == "cpu":
            raise SystemExit(f"--device gpu: {engine} finds none.")
        print(f"Device of {engine}: {name}.")
    print_tables(arguments.tables, QUICK if arguments.quick else CASES, chosen)


if __name__ == "__main__":
    main()
