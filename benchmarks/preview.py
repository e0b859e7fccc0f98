"""What the preview of a training costs, and how soon it is there.

    python benchmarks/preview.py --data DIR [--epochs N]

``DIR`` holds the scans ``synthetic`` and ``siemens_star`` as Ptychodus standard directories. Each engine
trains with the plugin's defaults, in a fresh process that takes the time of what it does for the preview.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _tables import in_fresh_process, print_header, print_table, use_one_thread

ENGINES = ("pytorch", "tensorflow")
SCANS = ("synthetic", "siemens_star")


def run(scan: str, backend: str, epochs: str) -> dict[str, Any]:
    """Train on a scan; CPU seconds of previews and of all the rest, and the epochs that had one."""
    from ptychodus.api.settings import SettingsRegistry

    from ptychopinn_ptychodus.plugin.library import PtychoPINNPluginLibrary
    from ptychopinn_ptychodus.plugin.settings import make_execution_config, make_training_request
    from ptychopinn_ptychodus.worker.job import TrainJob
    from ptychopinn_ptychodus.worker.preview import PreviewWriter
    from ptychopinn_ptychodus.worker.train import train

    spent: list[float] = []
    shown: list[int] = []
    clock: list[float] = []
    make = PreviewWriter.__call__

    def timed(*arguments: Any) -> None:
        started = time.process_time()
        make(*arguments)
        spent.append(time.process_time() - started)

    setattr(PreviewWriter, "__call__", timed)  # noqa: B010 (mypy refuses to replace a method)

    def send(kind: str, **fields: Any) -> None:
        if kind == "preview":
            shown.append(fields["epoch"])
        elif kind == "epoch":
            clock.append(time.process_time())

    settings = PtychoPINNPluginLibrary(SettingsRegistry(), False).settings
    settings["Training.Epochs"].set_value(int(epochs))
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory)
        asked = make_training_request(
            settings, "pinn", backend=backend, input_path=Path(scan), output_path=output
        )
        job = TrainJob(
            asked=asked,
            execution=make_execution_config(settings),
            model_path=output / "model",
            validation_fraction=settings.value("Data.ValidationFraction"),
            preview=True,
            log_level=30,
        )
        started = time.process_time()
        train(job, send, lambda: False)
    return {"all": clock[-1] - started + spent[-1], "previews": sum(spent), "shown": shown}


def rows(data: Path, epochs: int) -> Iterator[tuple[str, ...]]:
    for scan in SCANS:
        for backend in ENGINES:
            result = in_fresh_process([__file__, "--child", str(data / scan), backend, str(epochs)])
            learning = result["all"] - result["previews"]
            yield (
                scan,
                backend,
                f"{learning:.0f}",
                ", ".join(map(str, result["shown"])) or "none",
                f"{result['previews']:.1f}",
                f"{100 * result['previews'] / learning:.1f} %",
            )


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(run(*sys.argv[2:])))
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=6)
    arguments = parser.parse_args()
    use_one_thread()
    print_header(("ptychopinn-ptychodus", "torch", "lightning", "keras"))
    print_table(
        "The object, shown while it is learnt",
        ("scan", "engine", "training, CPU s", "epochs with a preview", "previews, CPU s", "share"),
        rows(arguments.data, arguments.epochs),
        f"{arguments.epochs} epochs, the plugin's other defaults. Allowed: 5 % of the training time.",
    )


if __name__ == "__main__":
    main()
