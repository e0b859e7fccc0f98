"""The shared collection of field cases: each ends as its README asks, with the right values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from field_support import Outcome, examined, reconstruct_with, train_and_reconstruct

from ptychopinn_ptychodus.data.examination import ExaminationError

GAP = tuple((row, column) for row in (20, 21) for column in range(64))


@dataclass(frozen=True)
class Expected:
    """What ought to become of a case.

    Attributes
    ----------
    least
        Of the centred correlation of the refined object.
    said
        Pattern of a warning of training or reconstruction; empty: there is none.
    masked
        Pixels that are bad in the end, if that is to be tested: these, and no others.
    doubtful
        Whether the result is judged to be wrong.
    amplitude
        How far the mean amplitude may be from that of ``clean``, relative.
    """

    least: float = 0.99
    said: str = ""
    masked: tuple[tuple[int, int], ...] = ()
    doubtful: bool = False
    amplitude: float = 0.03


GAP_MASKED = Expected(said="largest value|maximum", masked=GAP)

COMPUTED = {
    "gap_at_type_maximum_u32": GAP_MASKED,
    "gap_at_type_maximum_u16": GAP_MASKED,
    "clipped": Expected(least=0.8, said=r"255", amplitude=0.2),
    # a probe that is found without that pixel is a little dimmer, and the object brighter
    "hot_pixel": Expected(said="nearly the same value", masked=((12, 50),), amplitude=0.05),
    "beamstop": Expected(amplitude=0.05),
    "corner_centred": Expected(said="corner|half"),
    "off_centre": Expected(said=r"2 .*rows?.* 3 .*columns?", amplitude=0.1),
    "transposed": Expected(least=0.0, said="transpos", doubtful=True, amplitude=np.inf),
    "tiny_floats": Expected(),
    "frames_shifted_by_one": Expected(
        least=0.95, said="position before their own", doubtful=True, amplitude=np.inf
    ),  # each is found where it was, and that is told
    # without the empty and the flashed patterns, probe and object share the light in another way
    "dark_and_flash_frames": Expected(said="no light|without beam|dark", amplitude=0.05),
    "positions_negated": Expected(least=0.0, said=r"sign|negat|invert", doubtful=True, amplitude=np.inf),
}

REFUSED = {
    "mask_inverted": "mask|invert",
    "positions_too_small": "pixel.*(metre|unit)|(metre|unit).*pixel",
    "positions_in_micrometres": "pixel.*metre|metre.*pixel",
    "object_of_other_pixel": "pixel",
    "near_field": "far_field|near field",
}


@pytest.fixture(scope="module")
def clean(make_cases: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    work = tmp_path_factory.mktemp("clean")
    make_cases.CASES["clean"](work, make_cases.load())
    return train_and_reconstruct(work / "scan", work / "scan", work / "model")


def warnings_of(outcome: Outcome) -> str:
    return "\n".join((outcome.training + outcome.result).lines(warnings_only=True))


def test_the_clean_scan_is_right_and_nothing_is_said(
    clean: Outcome, make_cases: ModuleType, tmp_path: Path
) -> None:
    make_cases.CASES["clean"](tmp_path, make_cases.load())
    truth = np.load(tmp_path / "truth.npz")["object"]
    assert clean.correlation(truth) > 0.995
    assert warnings_of(clean) == ""
    assert 1.08 < clean.amplitude() < 1.2
    assert 0.9e6 < clean.photons < 1.1e6


@pytest.mark.parametrize("name", COMPUTED)
def test_a_case_that_is_computed(name: str, clean: Outcome, make_cases: ModuleType, tmp_path: Path) -> None:
    expected = COMPUTED[name]
    make_cases.CASES[name](tmp_path, make_cases.load())
    outcome = train_and_reconstruct(tmp_path / "scan", tmp_path / "scan", tmp_path / "model")
    said = warnings_of(outcome)
    if expected.said:
        assert re.search(expected.said, said, re.IGNORECASE), said or "no warning"
    else:
        assert said == ""
    assert outcome.result.is_doubtful == expected.doubtful, said
    masked = np.argwhere(examined(tmp_path / "scan").bad_pixels)
    if expected.masked:
        assert {tuple(pixel) for pixel in masked.tolist()} == set(expected.masked)
    truth = np.load(tmp_path / "truth.npz")["object"]
    assert outcome.correlation(truth) >= expected.least
    assert outcome.amplitude() == pytest.approx(clean.amplitude(), rel=expected.amplitude)
    comments = outcome.products[-1].metadata.comments
    assert all(line in comments for line in outcome.result.lines())


@pytest.mark.parametrize("name", REFUSED)
def test_a_case_that_is_refused(name: str, clean: Outcome, make_cases: ModuleType, tmp_path: Path) -> None:
    make_cases.CASES[name](tmp_path, make_cases.load())
    with pytest.raises(ExaminationError, match=f"(?is){REFUSED[name]}"):
        train_and_reconstruct(tmp_path / "scan", tmp_path / "scan", tmp_path / "model")
    assert list((tmp_path / "model").glob("model.*")) == []
    assert clean.model is not None
    with pytest.raises(ExaminationError, match=f"(?is){REFUSED[name]}"):
        reconstruct_with(clean.model, tmp_path / "scan")


def test_training_data_in_metres_are_refused(make_cases: ModuleType, tmp_path: Path) -> None:
    make_cases.CASES["npz_positions_in_metres"](tmp_path, make_cases.load())
    with pytest.raises(ExaminationError, match=r"(?is)pixel.*metre|metre.*pixel"):
        train_and_reconstruct(tmp_path / "npz", tmp_path / "scan", tmp_path / "model")


def test_the_amplitude_does_not_depend_on_what_else_the_model_saw(
    clean: Outcome, make_cases: ModuleType, tmp_path: Path
) -> None:
    make_cases.CASES["npz_two_exposures"](tmp_path, make_cases.load())
    outcome = train_and_reconstruct(tmp_path / "npz", tmp_path / "scan", tmp_path / "model")
    # A training twice as long shares the brightness otherwise between the learnt probe and the object, by
    # some per cent: the mean of both exposures would be 34 % off. What they make together is the same.
    assert outcome.amplitude() == pytest.approx(clean.amplitude(), rel=0.06)
    together, alone = (one.photons * one.amplitude() ** 2 for one in (outcome, clean))
    assert together == pytest.approx(alone, rel=0.03)
    assert warnings_of(outcome) == ""


def test_every_shared_case_is_tried(make_cases: ModuleType) -> None:
    tried = {"clean", "npz_positions_in_metres", "npz_two_exposures", *COMPUTED, *REFUSED}
    assert set(make_cases.CASES) == tried
