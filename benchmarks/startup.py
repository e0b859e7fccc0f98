"""What the plugin adds to the start of Ptychodus: seconds and memory of fresh processes.

    python benchmarks/startup.py [--quick]

Each process imports Ptychodus and builds its ``ModelCore``, in turn with the plugin and without it; without
means that the one module by which Ptychodus finds the plugin is replaced by an empty one.
"""

from __future__ import annotations

import argparse
from statistics import median, quantiles
from typing import Any

from _tables import in_fresh_process, print_header, print_table, use_one_thread

FRAMEWORKS = ("torch", "lightning", "tensordict", "tensorflow", "keras", "PyQt5")

PRELUDE = """
import json, os, resource, sys, time, types
shim = "ptychodus.plugins.ptychopinn_ptychodus_attach"
def rss():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6
def now():
    return time.process_time(), time.perf_counter(), rss()
"""

WITHOUT = """
nothing = types.ModuleType(shim)
nothing.register_plugins = lambda registry: None
sys.modules[shim] = nothing
"""

START = """
before = now()
from ptychodus.model.core import ModelCore
imported = now()
core = ModelCore()
built = now()
attached = any(name.startswith("PtychoPINNPlugin") for name in core.settings_registry)
print(json.dumps(dict(
    cpu=built[0] - before[0], wall=built[1] - before[1], rss=built[2], attached=attached,
    build_cpu=built[0] - imported[0],
    modules=len(sys.modules), frameworks=[n for n in FRAMEWORKS if n in sys.modules],
)))
"""

IMPORTS = """
import ptychodus.model.core
steps = {}
for name in ("ptychopinn_ptychodus.plugin.attach", "ptychopinn_ptychodus.plugin.library"):
    known, before = set(sys.modules), now()
    __import__(name)
    after, new = now(), set(sys.modules) - known
    steps[name] = dict(
        cpu=after[0] - before[0], wall=after[1] - before[1], rss=after[2] - before[2],
        own=sum(n.startswith("ptychopinn_ptychodus") for n in new), modules=len(new),
    )
print(json.dumps(dict(steps=steps, frameworks=[n for n in FRAMEWORKS if n in sys.modules])))
"""


def child(*parts: str) -> dict[str, Any]:
    return in_fresh_process(["-c", "".join((PRELUDE, f"FRAMEWORKS = {FRAMEWORKS}\n", *parts))])


def spread(values: list[float]) -> str:
    """Median, and the quartiles around it."""
    low, _, high = quantiles(values, n=4, method="inclusive")
    return f"{median(values):.3f} ({low:.3f} to {high:.3f})"


def megabytes(values: list[float]) -> str:
    low, _, high = quantiles(values, n=4, method="inclusive")
    return f"{median(values):.1f} ({low:.1f} to {high:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="see that it works: 3 repetitions instead of 15")
    repeats = 3 if parser.parse_args().quick else 15
    use_one_thread()
    print_header(("ptychopinn-ptychodus", "ptychodus"))

    child(WITHOUT, START), child(START)  # warm the disk cache
    runs = [(child(WITHOUT, START), child(START)) for _ in range(repeats)]
    without, attached = ([pair[side] for pair in runs] for side in (0, 1))
    assert all(run["attached"] for run in attached), "the plugin is not attached: nothing is measured here"
    assert not any(run["attached"] for run in without), "the plugin could not be kept out"
    brought = sorted({name for run in attached for name in run["frameworks"]})
    assert not brought, f"frameworks in the application's process: {brought}"

    def row(title: str, sides: list[list[Any]]) -> tuple[Any, ...]:
        def values(key: str) -> list[float]:
            if len(sides) == 1:
                return [run[key] for run in sides[0]]
            return [b[key] - a[key] for a, b in zip(*sides, strict=True)]

        seconds = [spread(values(key)) for key in ("cpu", "build_cpu", "wall")]
        return title, *seconds, megabytes(values("rss")), f"{median(values('modules')):.0f}"

    print_table(
        "Starting Ptychodus: import and `ModelCore()`",
        ("", "CPU s", "of which `ModelCore()`", "wall s", "resident MB", "modules"),
        (
            row("without the plugin", [without]),
            row("with the plugin", [attached]),
            row("**difference**", [without, attached]),
        ),
        f"Median (quartiles) of {repeats} pairs of fresh processes in turn; the difference is of each pair. "
        "The plugin is imported within `ModelCore()`; the rest of the start is the same in both. "
        f"Asserted: the plugin was attached, and none of {', '.join(FRAMEWORKS)} was imported.",
    )

    imports = [child(IMPORTS) for _ in range(repeats)]
    assert not any(run["frameworks"] for run in imports)

    def import_rows() -> Any:
        for name in imports[0]["steps"]:
            steps = [run["steps"][name] for run in imports]
            seconds = [spread([step[key] for step in steps]) for key in ("cpu", "wall")]
            new = f"{steps[0]['modules']} ({steps[0]['own']} of this package)"
            yield f"`{name}`", *seconds, megabytes([step["rss"] for step in steps]), new

    print_table(
        "Importing the plugin, after Ptychodus",
        ("import", "CPU s", "wall s", "resident MB", "new modules"),
        import_rows(),
        "In this order in one process, so the second row is what the library adds to the first.",
    )


if __name__ == "__main__":
    main()
