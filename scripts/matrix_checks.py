"""One question about the environment that runs this file; the answer is a JSON object, the last line printed.

    python scripts/matrix_checks.py listed | simulate DIR | score DIR OUT | window

``listed`` imports nothing of this package: it is asked before that is installed, and after it has gone.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

POSITIONS = 20
TRUTH = "truth.npz"
SETTINGS = """\
[Processing]
Algorithm = ptychopinn-plugin_pinn

[PtychoPINNPluginModel]
Backend = pytorch

[PtychoPINNPluginTraining]
Epochs = 4
ProbeModes = 1
ProbeTrainable = False
"""


def listed() -> dict[str, Any]:
    """What a stock ``ModelCore`` offers, and whether it imports a framework or Qt for it."""
    from ptychodus.model import ModelCore

    with ModelCore() as core:
        names = sorted(core.workflow_api.available_reconstructors())
    heavy = sorted({"torch", "tensorflow", "PyQt5"} & set(sys.modules))
    return {"reconstructors": names, "frameworks": heavy}


def simulate_scan(directory: str) -> dict[str, Any]:
    """A standard directory whose settings select the plugin; the truth is kept beside it."""
    import numpy as np
    from ptychodus.api.io import StandardFileLayout

    from ptychopinn_ptychodus.cli.demo import simulate, write_standard_directory

    scan = Path(directory)
    scan.mkdir(parents=True)
    raw = simulate(POSITIONS)
    write_standard_directory(raw, scan)
    if hasattr(StandardFileLayout, "PRODUCT_IN"):  # Ptychodus 1.5
        (scan / "product.h5").rename(scan / StandardFileLayout.PRODUCT_IN)
    (scan / "settings.ini").write_text(SETTINGS, encoding="utf-8")
    assert raw.objectGuess is not None
    # not into the scan's directory, where a training would take it for data
    np.savez(
        scan.with_name(TRUTH), object=raw.objectGuess, probe=raw.probeGuess, x=raw.xcoords, y=raw.ycoords
    )
    return {"patterns": raw.n_patterns}


def score(directory: str, output: str) -> dict[str, Any]:
    """The reconstruction that Ptychodus has left, against the truth."""
    import numpy as np
    from ptychodus.api.io import load_product

    from ptychopinn_ptychodus.data.metrics import compare, illumination_mask

    products = sorted(Path(output).glob("product*.h5"))
    if not products:
        raise FileNotFoundError(f"There is no product in {output}.")
    with np.load(Path(directory).with_name(TRUTH)) as truth:
        image = truth["object"]
        lit = illumination_mask(truth["probe"], truth["x"], truth["y"], image.shape)
    comparison = compare(load_product(products[-1]).object_.get_layer(0), image, lit)
    return {
        "file": products[-1].name,
        "correlation": comparison.complex_correlation_centred,
        "amplitude_ssim": comparison.amplitude.ssim,
        "phase_ssim": comparison.phase.ssim,
    }


def window() -> dict[str, Any]:
    """Start the stock application, bring each page of the plugin to the front, count what is on it."""
    from PyQt5 import QtCore, QtWidgets
    from PyQt5.QtTest import QTest

    answer: dict[str, Any] = {}
    failure: list[BaseException] = []

    def look() -> None:
        from ptychopinn_ptychodus.plugin.panel import Page

        for page in QtWidgets.QApplication.allWidgets():
            if isinstance(page, Page):
                child, parent = page, page.parentWidget()
                while parent is not None:
                    if isinstance(parent, QtWidgets.QStackedWidget):
                        parent.setCurrentWidget(child)
                    child, parent = parent, parent.parentWidget()
                if not page.isVisible() or page.settings_page is None:
                    raise RuntimeError("A page of the plugin is not built when it is looked at.")
                cast(Any, QTest).qWait(200)  # what is put into a window that is up is shown a little later
                rows = page.settings_page.rows
                answer[page._reconstructor.name] = sum(row.widget.isVisible() for row in rows)
        if not answer:
            raise RuntimeError("The window has no page of the plugin.")

    def execute(*arguments: Any) -> int:
        def start() -> None:
            try:
                look()
            except BaseException as exc:
                failure.append(exc)
            QtWidgets.QApplication.exit(0)

        QtCore.QTimer.singleShot(500, start)
        return int(original())

    application: Any = QtWidgets.QApplication
    original, application.exec = application.exec, staticmethod(execute)
    sys.argv = ["ptychodus"]
    from ptychodus.__main__ import main

    code = main()
    if failure:
        raise failure[0]
    return {"exit": int(code), "settings_shown": answer}


QUESTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "listed": listed,
    "simulate": simulate_scan,
    "score": score,
    "window": window,
}

if __name__ == "__main__":
    try:
        print(json.dumps(QUESTIONS[sys.argv[1]](*sys.argv[2:])))
    except Exception:
        traceback.print_exc()
        sys.exit(1)
