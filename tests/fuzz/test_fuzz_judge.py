"""Each fault that the fuzzing looks for is seen when it is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from fuzz_cases import Case, digests
from fuzz_judge import DONE, FAULT, REFUSED, judge
from fuzz_process import Ending

GOOD = 'error: "{0}/in/product.h5" cannot be read: save it again.\n'


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A reconstruction whose output directory holds an earlier product."""
    for name in ("in", "out", "tmp"):
        (tmp_path / name).mkdir()
    (tmp_path / "in" / "product.h5").write_bytes(b"damaged")
    (tmp_path / "out" / "model.ckpt").write_bytes(b"a model")
    write_product(tmp_path, 1.0)
    case = Case("product", "damaged", ["reconstruct"], result="out/product.h5", file="product.h5")
    case.before = digests(tmp_path, "in", "out")
    case.made = (tmp_path / "out" / "product.h5").stat().st_mtime_ns
    case.save(tmp_path / "case.json")
    (tmp_path / "stderr").write_text(GOOD.format(tmp_path))
    return tmp_path


def write_product(directory: Path, value: float) -> None:
    with h5py.File(directory / "out" / "product.h5", "w") as file:
        for name in ("object", "probe", "probe_position_x_m", "probe_position_y_m"):
            file[name] = np.full(3, value)


def done_without_a_distance(directory: Path) -> None:
    write_product(directory, 2.0)
    with h5py.File(directory / "in" / "product.h5", "w") as file:
        file.create_group("object")
        file.create_group("probe")
        file.attrs["detector_object_distance_m"] = 0.0
    case = Case.load(directory / "case.json")
    case.before = digests(directory, "in", "out")
    case.save(directory / "case.json")


def say(text: str) -> Callable[[Path], object]:
    return lambda directory: (directory / "stderr").write_text(text.format(directory))


def ending(code: int, *, late: bool = False) -> Ending:
    return Ending(code, late, 1.0)


def test_a_clear_refusal_is_none(directory: Path) -> None:
    assert judge(directory, ending(1))[1:] == (REFUSED, [])


def test_a_finite_result_is_none(directory: Path) -> None:
    write_product(directory, 2.0)
    assert judge(directory, ending(0))[1:] == (DONE, [])


@pytest.mark.parametrize(
    ("change", "how", "fault"),
    [
        (say(GOOD), ending(-9, late=True), "still running"),
        (say(GOOD), ending(-11), "signal 11"),
        (say("Traceback (most recent call last):\n" + GOOD), ending(1), "a traceback"),
        (say("nothing\n"), ending(1), "no error message"),
        (say("error: {0}/in: KeyError: 'x' (--debug shows where)\n"), ending(1), "nobody expected"),
        (say('error: "{0}/in/product.h5": Expected 1 layers.\n'), ending(1), "no remedy"),
        (say("error: cannot be read, save it again.\n"), ending(1), "no file"),
        (lambda directory: (directory / "canary").touch(), ending(1), "code of a file"),
        (lambda directory: (directory / "out" / "model.ckpt").unlink(), ending(1), "lost or changed"),
        (lambda directory: (directory / "in" / "product.h5").write_bytes(b"x"), ending(1), "lost or changed"),
        (lambda directory: (directory / "tmp" / "left").touch(), ending(1), "temporary files"),
        (lambda directory: None, ending(0), "was not written"),
        (lambda directory: (directory / "out" / "product.h5").unlink(), ending(0), "no out/product.h5"),
        (lambda directory: write_product(directory, np.nan), ending(0), "not finite"),
        (done_without_a_distance, ending(0), "detector_object_distance_m = 0"),
    ],
)
def test_faults_are_seen(directory: Path, change: Callable[[Path], object], how: Ending, fault: str) -> None:
    change(directory)
    _, outcome, faults = judge(directory, how)
    assert outcome == FAULT
    assert any(fault in one for one in faults), faults
