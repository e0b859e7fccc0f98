"""What a training leaves of its losses, drawn beside the application's window."""

from __future__ import annotations

from pathlib import Path

import matplotlib.mathtext
import numpy as np
import pytest

from ptychopinn_ptychodus.plugin.history import PNG_FILE, TrainingHistory


@pytest.mark.parametrize("span", [2.0, 1e4])
def test_the_plot_leaves_the_parser_of_formulas_to_the_window(
    span: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Matplotlib has one parser, which two threads must not use at a time."""

    def parse(*arguments: object, **options: object) -> None:
        raise AssertionError("a formula is drawn")

    monkeypatch.setattr(matplotlib.mathtext.MathTextParser, "parse", parse)
    history = TrainingHistory()
    losses = (3e-3 / np.geomspace(1, span, 5)).tolist()
    history.restore({"train_loss": losses, "val_loss": losses})
    history.save(tmp_path)
    assert (tmp_path / PNG_FILE).stat().st_size > 0
