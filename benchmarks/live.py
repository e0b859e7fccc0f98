"""A scan replayed as a detector would send it: does the object keep up, how good is it, what costs a frame?

    python benchmarks/live.py --data DATA [--rates 100 300 1000] [--large 139] [--final] [--images DIR]

``--data`` is the directory of ``synthetic``. Frames are sent at each rate from a thread of their own to
:func:`ptychopinn_ptychodus.reconstruct_live`. CPU seconds are those of the thread that computes, for a group
of new frames each; wall times are of whatever else the machine does. ``--large`` is the edge of a simulated
raster, which then takes the place of ``synthetic``: 139 makes 19,321 frames. ``--final`` compares the object
in the end with that of the same frames at once.
"""

from __future__ import annotations

import argparse
import threading
import time
from pathlib import Path
from typing import Any

from _tables import print_header, print_table, use_one_thread

use_one_thread()

import numpy as np
from numpy.typing import NDArray

from ptychopinn_ptychodus import RefinementConfig, reconstruct_live, refine
from ptychopinn_ptychodus.data import metrics
from ptychopinn_ptychodus.data.display import centred_phase, grey_levels
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import make_object, make_probe, raster_positions, simulate_scan
from ptychopinn_ptychodus.live.growing import GROUP, GrowingObject
from ptychopinn_ptychodus.ptychodus_io.ingest import read_standard_directory

SENT_AT_ONCE_S = 0.02
FULL = RefinementConfig(epochs=30)
SHOWN = (0.25, 0.5, 0.75)


def positions_of(raw: RawData) -> NDArray[np.float64]:
    return np.stack((raw.xcoords, raw.ycoords), -1)


def on_canvas(object_: NDArray[Any], origin: tuple[float, float], shape: tuple[int, int]) -> NDArray[Any]:
    """The object on the grid of the truth, 1 where it is not."""
    canvas = np.ones(shape, complex)
    left, top = (round(value) for value in origin)
    rows = slice(max(top, 0), min(top + object_.shape[0], shape[0]))
    columns = slice(max(left, 0), min(left + object_.shape[1], shape[1]))
    canvas[rows, columns] = object_[
        rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
    ]
    return canvas


class Judge:
    """Correlation with the truth, where the frames so far have put light."""

    def __init__(self, raw: RawData, truth: NDArray[Any], probe: NDArray[Any]) -> None:
        self.raw, self.truth, self.probe = raw, truth, probe

    def __call__(self, object_: NDArray[Any], origin: tuple[float, float], count: int) -> float:
        if count < 50:
            return float("nan")
        x, y = self.raw.xcoords[:count], self.raw.ycoords[:count]
        shape = (self.truth.shape[0], self.truth.shape[1])
        lit = metrics.illumination_mask(self.probe, x, y, shape)
        found = on_canvas(object_, origin, shape)
        return metrics.compare(found, self.truth, lit).complex_correlation_centred


def replayed(
    raw: RawData, rate: float, judge: Judge, images: Path | None, *, final: bool
) -> tuple[dict[str, str], NDArray[Any]]:
    """One replay: a row of the table, and the object in the end."""
    counts = np.rint(np.square(raw.diff3d, dtype=np.float64)).astype(np.uint16)
    positions, lags = positions_of(raw), []
    over = threading.Event()
    with reconstruct_live(
        raw.probeGuess,
        bad_pixels=raw.bad_pixels,
        refinement=FULL,
        on_update=lambda state: lags.append((state.lag, state.lag_s)),
    ) as running:

        def send() -> None:
            begin = time.monotonic()
            sent = 0
            while sent < raw.n_patterns:
                due = min(int((time.monotonic() - begin) * rate) + 1, raw.n_patterns)
                if due > sent:
                    running.add(counts[sent:due], positions[sent:due])
                    sent = due
                time.sleep(SENT_AT_ONCE_S)
            over.set()

        begin = time.monotonic()
        thread = threading.Thread(target=send)
        thread.start()
        seen = []
        for part in SHOWN:
            while running.state.in_object < part * raw.n_patterns:
                time.sleep(0.01)
            snapshot = running.snapshot()
            seen.append((snapshot, time.monotonic() - begin))
        over.wait()
        kept = running.state.in_object
        state = running.drain()
        drained = time.monotonic() - begin
        last = running.snapshot()
        time.sleep(5.0)
        later = running.snapshot()
        result = running.finish() if final else None
    thread.join()
    row = {
        "frames/s": f"{rate:g}",
        "sent in, s": f"{raw.n_patterns / rate:.1f}",
        "in the object when the last was sent": f"{kept} of {raw.n_patterns}",
        "all in, s": f"{drained:.1f}",
        "largest lag": f"{max(lag for lag, _ in lags)} frames, {max(lag for _, lag in lags):.1f} s",
    }
    for part, (snapshot, _) in zip(SHOWN, seen, strict=True):
        count = snapshot.state.in_object
        row[f"corr at {part:.0%}"] = f"{judge(snapshot.object, snapshot.origin, count):.4f}"
    row["at 100%"] = f"{judge(last.object, last.origin, state.in_object):.4f}"
    row["5 s later"] = f"{judge(later.object, later.origin, raw.n_patterns):.4f}"
    if result is not None:
        row["final"] = f"{judge(result.object, result.origin, raw.n_patterns):.4f}"
    if images is not None:
        images.mkdir(parents=True, exist_ok=True)
        half = seen[1][0]
        for name, found in (("half", half), ("all", last), ("later", later), ("final", result)):
            if found is not None:
                draw(found.object, images / f"live_{rate:g}_{name}.png")
    return row, last.object if result is None else result.object


def draw(object_: NDArray[Any], path: Path) -> None:
    from PIL import Image

    both = (grey_levels(np.abs(object_)), grey_levels(centred_phase(object_)))
    Image.fromarray(np.concatenate(both, axis=1)).save(path)


def costs(raw: RawData, name: str) -> dict[str, str]:
    """CPU milliseconds of a frame, by tenths of the scan; the search for the probe is told apart."""
    found = GrowingObject(raw.probeGuess, raw.bad_pixels, domain="amplitude", find_probe=False)
    positions, each = positions_of(raw), []
    for start in range(0, raw.n_patterns - GROUP + 1, GROUP):
        some = slice(start, start + GROUP)
        begin = time.thread_time()
        found.update(raw.diff3d[some], positions[some])
        each.append((time.thread_time() - begin) / GROUP * 1e3)
    tenth = max(len(each) // 10, 1)
    searching = GrowingObject(raw.probeGuess, raw.bad_pixels, domain="amplitude")
    begin = time.thread_time()
    searching.update(raw.diff3d[:256], positions[:256])
    search = time.thread_time() - begin - sum(each[: 256 // GROUP]) * GROUP / 1e3
    return {
        "scan": name,
        "frames": f"{raw.n_patterns}",
        "CPU ms a frame, first tenth": f"{np.mean(each[:tenth]):.3f}",
        "second": f"{np.mean(each[tenth : 2 * tenth]):.3f}",
        "fifth": f"{np.mean(each[4 * tenth : 5 * tenth]):.3f}",
        "last": f"{np.mean(each[-tenth:]):.3f}",
        "probe from the first 256, CPU s": f"{search:.2f}",
    }


def large(edge: int) -> tuple[RawData, Judge]:
    """A raster of edge² frames."""
    x, y = raster_positions(edge, edge, 6.0, jitter=0.3, origin=40.0, seed=11)
    shape = (int(y.max()) + 41, int(x.max()) + 41)
    truth = make_object(shape, seed=12)
    raw = simulate_scan(truth, make_probe(64), x, y, photons=1e5, seed=13)
    return raw, Judge(raw, truth, raw.probeGuess)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rates", type=float, nargs="*", default=[100.0, 300.0, 1000.0])
    parser.add_argument("--large", type=int, default=0)
    parser.add_argument("--final", action="store_true")
    parser.add_argument("--images", type=Path)
    arguments = parser.parse_args()
    if arguments.large:
        name = f"simulated, {arguments.large}²"
        raw, judge = large(arguments.large)
    else:
        name = "synthetic"
        raw = read_standard_directory(arguments.data / name)
        with np.load(arguments.data / name / "truth.npz") as file:
            judge = Judge(raw, file["object"], file["probe"][None])
    print_header(["numpy", "scipy"])
    cost = costs(raw, name)
    print_table("Cost of a frame", list(cost), [list(cost.values())])
    rows = []
    for number, rate in enumerate(arguments.rates):
        row, found = replayed(raw, rate, judge, arguments.images, final=arguments.final and number == 0)
        rows.append(row)
        if arguments.final and number == 0:
            at_once = refine(at_its_counts(raw), config=FULL)
            same = metrics.compare(found, at_once.object).complex_correlation_centred
            print(f"\nThe final object against the same scan at once: correlation {same:.6f}")
    print_table(f"Replayed: {name}", list(rows[0]), [[row.get(key, "") for key in rows[0]] for row in rows])


def at_its_counts(raw: RawData) -> RawData:
    """The scan as it would have come at once."""
    return RawData(
        xcoords=raw.xcoords,
        ycoords=raw.ycoords,
        diff3d=np.rint(np.square(raw.diff3d, dtype=np.float64)).astype(np.uint16),
        probeGuess=raw.probeGuess,
        bad_pixels=raw.bad_pixels,
        domain="counts",
    )


if __name__ == "__main__":
    main()
