"""The engines side by side: import, training, inference and memory, each case in a fresh process.

    python benchmarks/engines.py [--quick]

Everything goes through the interface that both engines share, with the same data and configuration.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _tables import in_fresh_process, peak_mb, print_header, print_table, use_one_thread

ENGINES = ("pytorch", "tensorflow")
"""The first is what the other is compared with."""

# architecture, N, gridsize, patterns, patterns per batch
CASES = [
    ("cnn", 64, 1, 512, 16),
    ("cnn", 64, 2, 512, 16),
    ("cnn", 128, 1, 128, 16),
    ("unrolled", 64, 2, 256, 16),
    ("unrolled", 64, 3, 252, 18),
    ("unrolled", 128, 2, 96, 8),
]
QUICK = [("cnn", 64, 1, 48, 16), ("unrolled", 64, 2, 48, 16)]
EPOCHS = 3
WAYS = ("eager", "graph", "XLA")
STEPS = 5


# ---- the child --------------------------------------------------------------------------------------------


def run(
    backend: str, architecture: str, size: int, gridsize: int, patterns: int, batch: int
) -> dict[str, Any]:
    """Train for a few epochs and apply the model; CPU seconds, patterns per CPU second, MB."""
    from ptychopinn_ptychodus.backends.registry import get_engine
    from ptychopinn_ptychodus.config import ExecutionConfig, TrainingConfig

    before, start = time.process_time(), time.monotonic()
    engine = get_engine(backend)
    engine.accelerators()
    imported = {
        "import CPU s": time.process_time() - before,
        "import wall s": time.monotonic() - start,
        "imported MB": peak_mb(),
    }
    container, model = make_case(architecture, size, gridsize, patterns)
    groups = len(container)
    execution = ExecutionConfig(accelerator="cpu", logger_backend="none", scheduler="constant")
    clock = [time.process_time()]
    with tempfile.TemporaryDirectory() as directory:
        config = TrainingConfig(
            model=model,
            batch_size=batch // gridsize**2,
            nepochs=EPOCHS,
            subsample_seed=0,
            output_dir=Path(directory),
            backend=backend,
        )
        path = Path(directory) / f"model{engine.model_suffix}"
        engine.train(
            container,
            None,
            config,
            execution,
            model_path=path,
            on_epoch=lambda _: clock.append(time.process_time()),
        )
        epochs = [b - a for a, b in itertools.pairwise(clock)]
        epoch = min(epochs[1:])
        applied = [time.process_time()]
        fractions = [0.0]

        def report(fraction: float) -> None:
            applied.append(time.process_time())
            fractions.append(fraction)

        engine.predict(path, container, execution, on_progress=report)
    seconds = applied[-1] - applied[1]
    count = (fractions[-1] - fractions[1]) * groups * gridsize**2
    return imported | {
        "train": groups * gridsize**2 / epoch,
        "first step CPU s": max(0.0, epochs[0] - epoch),
        "infer": count / seconds,
        "first batch CPU s": applied[1] - applied[0],
        "peak MB": peak_mb(),
    }


def make_case(architecture: str, size: int, gridsize: int, patterns: int) -> tuple[Any, Any]:
    """Groups of a simulated scan, and the configuration of a model for them."""
    from ptychopinn_ptychodus.config import ModelConfig
    from ptychopinn_ptychodus.data import simulation

    side = 12 if size == 64 else 8
    x, y = simulation.raster_positions(side, side, 0.1 * size, origin=size)
    extent = round(0.1 * size * side + 2 * size)
    scan = simulation.simulate_scan(
        simulation.make_object((extent, extent)), simulation.make_probe(size), x, y, 1e6, seed=0
    )
    groups = patterns // gridsize**2
    container = scan.generate_grouped_data(size, gridsize**2 + 2, groups, gridsize=gridsize, seed=0)
    return container, ModelConfig(N=size, gridsize=gridsize, architecture=architecture, n_filters_scale=2)


def run_way(
    way: str, architecture: str, size: int, gridsize: int, patterns: int, batch: int
) -> dict[str, Any]:
    """TensorFlow's training steps on one batch, run in one of :data:`WAYS`: CPU seconds."""
    from ptychopinn_ptychodus.backends.registry import get_engine

    engine: Any = get_engine("tensorflow")
    engine.load()
    from ptychopinn_ptychodus.backends.tensorflow.loaders import build_dataset
    from ptychopinn_ptychodus.backends.tensorflow.module import PtychoPINN_TensorFlow
    from ptychopinn_ptychodus.config import ExecutionConfig, TrainingConfig

    container, model_config = make_case(architecture, size, gridsize, patterns)
    model = PtychoPINN_TensorFlow.for_data(container, TrainingConfig(model=model_config))
    model.configure_optimizer()
    model.compile(optimizer=model.optimizer, run_eagerly=way == "eager", jit_compile=way == "XLA")
    data = build_dataset(container, container.input_scale, batch // gridsize**2, ExecutionConfig())
    # one batch, of known shape, again and again
    data = data.take(1).cache().repeat(STEPS)
    spent = []
    for _ in range(3):
        start = time.process_time()
        model.fit(data, shuffle=False, verbose=0)
        spent.append((time.process_time() - start) / STEPS)
    return {"step": min(spent[1:]), "first": (spent[0] - min(spent[1:])) * STEPS}


# ---- the parent -------------------------------------------------------------------------------------------


def rows(cases: list[tuple[str, int, int, int, int]]) -> Iterator[tuple[Any, ...]]:
    for case in cases:
        base: dict[str, Any] = {}
        for backend in ENGINES:
            found = in_fresh_process([__file__, "--child", backend, *map(str, case)])
            base = base or found
            rates = [f"{found[key]:.1f} ({found[key] / base[key]:.2f})" for key in ("train", "infer")]
            yield (
                *case[:3],
                backend,
                rates[0],
                f"{found['first step CPU s']:.1f}",
                rates[1],
                f"{found['first batch CPU s']:.1f}",
                f"{found['import wall s']:.1f} / {found['import CPU s']:.1f}",
                f"{found['imported MB']:.0f}",
                f"{found['peak MB']:.0f}",
            )


def rows_of_ways(cases: list[tuple[str, int, int, int, int]]) -> Iterator[tuple[Any, ...]]:
    for case in cases:
        found = {way: in_fresh_process([__file__, "--child", way, *map(str, case)]) for way in WAYS}
        graph = found["graph"]["step"]
        yield (
            *case[:3],
            *(
                f"{found[way]['step']:.3f} ({found[way]['step'] / graph:.2f}), {found[way]['first']:.1f}"
                for way in WAYS
            ),
        )


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        name, architecture, *numbers = sys.argv[2:]
        measure = run_way if name in WAYS else run
        print(json.dumps(measure(name, architecture, *map(int, numbers))))
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="see that it works: two small cases")
    quick = parser.parse_args().quick
    use_one_thread()
    print_header(("ptychopinn-ptychodus", "torch", "lightning", "keras"))
    print_table(
        "The engines side by side",
        (
            "architecture",
            "N",
            "gridsize",
            "engine",
            "training, patterns/CPU-s",
            "first step, CPU s more",
            "inference, patterns/CPU-s",
            "open and first batch, CPU s",
            "import, wall / CPU s",
            "MB after import",
            "peak MB",
        ),
        rows(QUICK if quick else CASES),
        "`n_filters_scale` 2, 16 to 18 patterns a batch (N = 128, gridsize 2: 8). In brackets: ratio to the "
        "first engine. Training: the "
        f"fastest of {EPOCHS - 1} epochs after the first, loaders and callbacks included; the first epoch "
        "takes so much more, in which TensorFlow traces its graph. Inference: the batches after the first, "
        "without stitching.",
    )
    print_table(
        "Three ways to run TensorFlow",
        ("architecture", "N", "gridsize", *WAYS),
        rows_of_ways(QUICK if quick else CASES),
        "CPU seconds a training step (ratio to the graph's), and what the first steps cost more: tracing and "
        "compiling.",
    )


if __name__ == "__main__":
    main()
