"""Patterns cropped or padded to N × N: what becomes of mask, probe, object and positions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cropping_support import at_pixels

from ptychopinn_ptychodus.data.examination import ExaminationConfig, ExaminationError
from ptychopinn_ptychodus.data.interpolation import PatchCutter
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import (
    diffraction_intensity,
    make_object,
    make_probe,
    raster_positions,
)

N = 96
SHAPE = (150, 160)


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    """A scan without noise, of patterns of 96 × 96, under a probe off the middle; as arguments of RawData."""
    x, y = raster_positions(3, 4, 6.0, jitter=0.4, origin=60.0, seed=1)
    object_ = make_object(SHAPE, seed=2)
    probe = np.roll(make_probe(N)[0], (3, -5), (0, 1)).astype(np.complex128)
    probe *= np.sqrt(1e7 / np.sum(np.abs(probe) ** 2))
    counts = diffraction_intensity(PatchCutter(object_, N, order=3)(x, y), probe[None])
    return {
        "xcoords": x,
        "ycoords": y,
        "diff3d": np.rint(counts).astype(np.uint32),
        "probeGuess": probe.astype(np.complex64),
        "objectGuess": object_,
    }


def raw_of(fields: dict[str, Any], size: int | None, **changes: Any) -> RawData:
    return RawData(**{**fields, **changes}, examination=ExaminationConfig(pattern_size=size))


# The object's own pixels set the limits; any of the three half a pixel off is beyond them.
@pytest.mark.parametrize(("size", "limit"), [(64, 4e-4), (80, 1.6e-4), (112, 1.2e-4)])
def test_the_forward_model_holds_on_the_new_pixels(size: int, limit: float, whole: dict[str, Any]) -> None:
    raw = raw_of(whole, size)
    assert size == raw.N
    assert raw.objectGuess is not None
    patches = PatchCutter(raw.objectGuess, size, order=3)(raw.xcoords, raw.ycoords)
    expected = np.sqrt(diffraction_intensity(patches, raw.probeGuess.astype(np.complex128)))
    good = ~raw.bad_pixels
    wrong = np.sum((expected - raw.diff3d)[:, good] ** 2) / np.sum(raw.diff3d[:, good] ** 2)
    assert wrong < limit


@pytest.mark.parametrize(
    ("shape", "size"), [((96, 64), 64), ((64, 96), 96), ((95, 96), 96), ((93, 77), 80), ((64, 64), 96)]
)
def test_it_is_what_is_done_by_hand(shape: tuple[int, int], size: int, whole: dict[str, Any]) -> None:
    rows, columns = shape
    top, left = N // 2 - rows // 2, N // 2 - columns // 2
    part = np.s_[top : top + rows, left : left + columns]
    bad = np.zeros((N, N), np.bool_)
    bad[40, 50] = bad[N // 2 - size // 2 if size < N else 40, 50] = True
    probe = at_pixels(whole["probeGuess"], shape)
    scale_y, scale_x = rows / N, columns / N
    given = {
        "xcoords": (whole["xcoords"] + 0.5) * scale_x - 0.5,
        "ycoords": (whole["ycoords"] + 0.5) * scale_y - 0.5,
        "diff3d": whole["diff3d"][:, *part],
        "probeGuess": probe,
        "bad_pixels": bad[part],
        "objectGuess": None,
    }
    raw = raw_of(whole, size, **given)

    by_hand = np.zeros((len(raw), size, size), np.uint32)
    unmeasured = np.ones((size, size), np.bool_)
    for row in range(size):
        for column in range(size):
            y, x = row - size // 2 + rows // 2, column - size // 2 + columns // 2
            if 0 <= y < rows and 0 <= x < columns:
                by_hand[:, row, column] = given["diff3d"][:, y, x]
                unmeasured[row, column] = given["bad_pixels"][y, x]
    other = {
        "xcoords": (whole["xcoords"] + 0.5) * size / N - 0.5,
        "ycoords": (whole["ycoords"] + 0.5) * size / N - 0.5,
        "diff3d": by_hand,
        "probeGuess": at_pixels(probe, (size, size)),
        "bad_pixels": unmeasured,
        "objectGuess": None,
    }
    hand = raw_of(whole, None, **other)
    np.testing.assert_array_equal(raw.diff3d, hand.diff3d)
    np.testing.assert_array_equal(raw.bad_pixels, hand.bad_pixels)
    assert raw.bad_pixels.sum() >= size**2 - min(rows, size) * min(columns, size) + 1
    np.testing.assert_allclose(raw.probeGuess, hand.probeGuess, atol=2e-6 * np.abs(hand.probeGuess).max())
    np.testing.assert_allclose(raw.xcoords, hand.xcoords, atol=1e-9)
    np.testing.assert_allclose(raw.ycoords, hand.ycoords, atol=1e-9)
    finding = raw.findings.by_code("pattern-size")
    assert finding is not None
    assert not finding.is_warning
    assert f"{rows} × {columns}" in finding.text
    assert f"{size} × {size}" in finding.text
    assert hand.findings.by_code("pattern-size") is None


def test_a_probe_of_the_size_that_is_asked_for_is_used_as_it_is(whole: dict[str, Any]) -> None:
    first = raw_of(whole, 64)
    given = {name: getattr(first, name) for name in ("xcoords", "ycoords", "probeGuess", "objectGuess")}
    again = raw_of(whole, 64, **given)
    for name in (*given, "diff3d"):
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))


def test_what_is_left_out_is_said(whole: dict[str, Any]) -> None:
    light = whole["diff3d"].sum(0, dtype=np.float64)
    inside = light[32:64, 32:64].sum() / light.sum()
    finding = raw_of(whole, 32).findings.by_code("pattern-size")
    assert finding is not None
    assert finding.values["left_out"] == pytest.approx(1 - inside)
    assert f"{1 - inside:.2g} of the light" in finding.text


def test_patterns_centred_in_the_corner_are_shifted_before_they_are_cropped(whole: dict[str, Any]) -> None:
    moved = raw_of(whole, 64, diff3d=np.fft.ifftshift(whole["diff3d"], (1, 2)))
    np.testing.assert_array_equal(moved.diff3d, raw_of(whole, 64).diff3d)
    assert moved.findings.by_code("corner-centred") is not None
    config = ExaminationConfig(pattern_size=64, centre_patterns=False)
    with pytest.raises(ExaminationError, match="half their size"):
        RawData(**{**whole, "diff3d": np.fft.ifftshift(whole["diff3d"], (1, 2))}, examination=config)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((96, 64), "96 × 64 pixels.*to 64, which crops them or 96, which pads them"),
        ((95, 95), "95 × 95 pixels.*to 80, which crops them or 96, which pads them"),
        ((24, 24), "24 × 24 pixels.*to 32, which pads them"),
    ],
)
def test_without_the_setting_it_is_refused(shape: tuple[int, int], said: str, whole: dict[str, Any]) -> None:
    patterns = whole["diff3d"][:, : shape[0], : shape[1]]
    with pytest.raises(ValueError, match=said) as error:
        raw_of(whole, None, diff3d=patterns, probeGuess=np.ones(shape, np.complex64))
    assert "PtychoPINNPluginData.PatternSize" in str(error.value)


def test_what_does_not_fit_is_named(whole: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"probeGuess.*96 × 96 or 64 × 64 pixels"):
        raw_of(whole, 64, probeGuess=np.ones((80, 80), np.complex64))
    bad = np.zeros((N, N), np.bool_)
    bad[16:80, 16:80] = True
    with pytest.raises(ValueError, match="All 64 × 64 pixels"):
        raw_of(whole, 64, bad_pixels=bad)
    with pytest.raises(ValueError, match="pattern_size = 100 is not valid"):
        ExaminationConfig(pattern_size=100)
