"""The report: one page, all in it, whatever files say; and what happens where it cannot be made."""

from __future__ import annotations

import dataclasses
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from ptychodus.api.io import load_product, save_product
from ptychodus.api.probe_positions import ProbePositionSequence

from ptychopinn_ptychodus.cli import main
from ptychopinn_ptychodus.cli.record import RECONSTRUCTION_RECORD, TRAINING_RECORD, RunRecord
from ptychopinn_ptychodus.cli.report import REPORT_FILE, tell_of_report
from ptychopinn_ptychodus.cli.report_figures import in_units, nice_length
from ptychopinn_ptychodus.data.examination import Action, Finding, Report

EVIL = '<script>alert("x")</script><img src=http://example.org/a.png>&amp;'


class Reader(HTMLParser):
    """Text, tags, and addresses that a browser would load."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text, self.tags, self.loaded = "", set[str](), list[str]()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def result(scan: Path, tmp_path: Path) -> Path:
    """A product with moved positions and a name that is meant to do harm."""
    product = load_product(scan / "product.h5")
    moved = [
        dataclasses.replace(one, x_m=one.x_m + 3e-9, y_m=one.y_m + 4e-9) for one in product.probe_positions
    ]
    metadata = dataclasses.replace(product.metadata, name=EVIL, comments=EVIL)
    directory = tmp_path / "out"
    directory.mkdir()
    changed = dataclasses.replace(product, probe_positions=ProbePositionSequence(moved), metadata=metadata)
    save_product(directory / "product.h5", changed)
    finding = Finding("fits", "result", Action.NOTED, f"{EVIL} explains all.", "Nothing was done.")
    Report((finding,)).save(directory / "examination.json")
    record_of(scan).save(directory / RECONSTRUCTION_RECORD)
    return directory


def record_of(scan: Path) -> RunRecord:
    return RunRecord.of(
        time.monotonic(),
        command="reconstruct",
        algorithm="PINN",
        source=str(scan),
        model=f"/tmp/{EVIL}.ckpt",
        is_complete=True,
        settings={"PtychoPINNPluginTraining": {"Epochs": "7", "BatchSize": "4"}},
    )


def test_one_page_has_it_all_and_no_harm_in_it(result: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(result)]) == 0
    page = result / REPORT_FILE
    assert capsys.readouterr().out.splitlines()[-1] == f"Report: {page}"
    read = Reader(page)
    assert "script" not in read.tags
    assert len(read.loaded) >= 4
    assert all(address.startswith("data:image/png;base64,") for address in read.loaded)
    assert read.text.count(EVIL) >= 4  # as it stands: title, comments, verdict, model
    assert "default-src 'none'" in page.read_text()
    assert re.search(r"moved by 5 nm root mean square", read.text)
    for part in ("Power of the modes", "PtychoPINNPluginTraining.Epochs", "numpy", "ptychopinn-ptychodus"):
        assert part in read.text
    changed = re.findall(r'class="changed"><td>(.*?)</td>', page.read_text())
    assert changed == ["PtychoPINNPluginTraining.Epochs"]


def test_ring_correlation_against_another_product(result: Path, scan: Path) -> None:
    assert main(["report", str(result), "--against", str(result / "product.h5")]) == 0
    assert "Ring correlation" in Reader(result / REPORT_FILE).text


def test_what_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "nowhere")]) == 2
    assert main(["report", str(tmp_path)]) == 2
    assert "product.h5" in capsys.readouterr().err
    (tmp_path / "product.h5").write_text("none")
    assert main(["report", str(tmp_path)]) == 1
    assert str(tmp_path / "product.h5") in capsys.readouterr().err


def test_a_report_of_a_training(tmp_path: Path, scan: Path) -> None:
    (tmp_path / "training_history.csv").write_text("epoch,train_loss,val_loss\n1,0.5,\n2,0.4,0.45\n")
    record_of(scan).save(tmp_path / TRAINING_RECORD)
    assert main(["report", str(tmp_path)]) == 0
    assert "Losses" in Reader(tmp_path / "training_report.html").text
    assert not (tmp_path / REPORT_FILE).exists()


def test_a_report_that_fails_is_a_warning(
    tmp_path: Path, scan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tell_of_report(tmp_path / REPORT_FILE, record_of(scan))  # there is no product
    said = capsys.readouterr()
    assert said.err.startswith("warning: There is no report")
    assert said.out == ""


@pytest.mark.parametrize(("at_most", "expected"), [(3.1e-6, 2e-6), (5e-9, 5e-9), (9.9, 5.0), (0.1, 0.1)])
def test_scale_bars_are_of_round_lengths(at_most: float, expected: float) -> None:
    assert nice_length(at_most) == pytest.approx(expected)


def test_lengths_have_units() -> None:
    assert [in_units(value) for value in (2e-6, 2.9352e-8, 0.5e-3, 3e-11)] == [
        "2 µm",
        "29.35 nm",
        "500 µm",
        "30 pm",
    ]
    assert np.isfinite(nice_length(1e-12))
