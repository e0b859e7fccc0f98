"""Faults of pixels that were planted into a sound scan: what is found, and what becomes of the data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import DTypeLike

from ptychopinn_ptychodus.data.examination import Action, ExaminationConfig, ExaminationError
from ptychopinn_ptychodus.data.examination.scan import examine_scan
from ptychopinn_ptychodus.data.raw import RawData

N = 64
KEPT = ExaminationConfig(mask_pixels=False, centre_patterns=False, refuse=False)


@pytest.fixture(scope="module")
def counts(scan: RawData) -> np.ndarray:
    """(60, N, N) photon counts of a sound scan, 1e5 in each pattern."""
    return np.rint(scan.diff3d[:60] ** 2).astype(np.int64)


@pytest.fixture
def make(scan: RawData, counts: np.ndarray) -> Callable[..., RawData]:
    """A RawData of these patterns at the positions of the sound scan."""

    def make(patterns: np.ndarray = counts, domain: str | None = "counts", **fields: Any) -> RawData:
        given = {"xcoords": scan.xcoords[:60], "ycoords": scan.ycoords[:60], "probeGuess": scan.probeGuess}
        return RawData(**{**given, **fields}, diff3d=patterns, domain=domain)

    return make


def gap() -> np.ndarray:
    out = np.zeros((N, N), bool)
    out[20:22] = True
    return out


def spots() -> np.ndarray:
    out = np.zeros((N, N), bool)
    out[[5, 30, 33, 60], [9, 30, 31, 2]] = True
    return out


def stop(radius: float) -> np.ndarray:
    y, x = np.indices((N, N)) - N // 2
    return np.asarray(np.hypot(y, x) <= radius)


def only_finding(raw: RawData) -> Any:
    assert len(raw.findings.findings) == 1, raw.findings.lines()
    return raw.findings.findings[0]


# ---------------------------------------------------------------------- sound scans


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.int32, ">i4", ">u2", np.float64])
def test_a_sound_scan_of_any_type_is_not_accused(
    make: Callable[..., RawData], counts: np.ndarray, dtype: DTypeLike
) -> None:
    raw = make(counts.astype(dtype))
    assert not raw.findings
    assert not raw.bad_pixels.any()


@pytest.mark.parametrize("factor", [1e-9, 1.0, 1e-4, 1e12])
def test_counts_of_any_unit_are_not_accused(
    make: Callable[..., RawData], counts: np.ndarray, factor: float
) -> None:
    raw = make((counts * factor).astype(np.float32))
    assert not examine_scan(raw, ExaminationConfig())[1]
    np.testing.assert_allclose(raw.diff3d / factor**0.5, np.sqrt(counts), rtol=1e-5)


def test_half_precision_is_not_accused(make: Callable[..., RawData], counts: np.ndarray) -> None:
    raw = make((counts / 2.0 ** np.ceil(np.log2(counts.max()))).astype(np.float16))
    assert not raw.findings


@pytest.mark.parametrize("held", [0, 65535, 7])
@pytest.mark.parametrize("mask", [gap(), stop(6.0), spots()], ids=["gap", "beamstop", "spots"])
def test_masked_pixels_may_hold_anything(
    make: Callable[..., RawData], counts: np.ndarray, mask: np.ndarray, held: int
) -> None:
    patterns = np.where(mask, held, counts).astype(np.uint16)
    raw = make(patterns, bad_pixels=mask)
    assert not raw.findings
    np.testing.assert_array_equal(raw.bad_pixels, mask)


@pytest.mark.parametrize("radius", [4.0, 6.0, 9.0])
def test_a_mask_over_the_brightest_pixels_is_not_inverted(
    make: Callable[..., RawData], counts: np.ndarray, radius: float
) -> None:
    raw = make(bad_pixels=stop(radius))
    assert (counts * stop(radius)).sum() > 0.1 * counts.sum()
    assert not raw.findings


# ---------------------------------------------------------------------- pixels without a measurement


@pytest.mark.parametrize("mask", [gap(), spots()], ids=["gap", "spots"])
@pytest.mark.parametrize(
    ("dtype", "held"),
    [
        (np.uint16, 65535),
        (">u4", 2**32 - 1),
        (np.int32, 2**31 - 1),
        (np.int32, -1),
        (np.int16, -2),
        (np.int32, -(2**31)),
        (np.float32, np.nan),
        (np.float32, np.inf),
        (np.float32, -1.0),
    ],
)
def test_pixels_without_a_measurement_are_masked(
    make: Callable[..., RawData], counts: np.ndarray, mask: np.ndarray, dtype: DTypeLike, held: float
) -> None:
    patterns = counts.astype(dtype)
    patterns[:, mask] = held
    raw = make(patterns)
    np.testing.assert_array_equal(raw.bad_pixels, mask)
    finding = only_finding(raw)
    assert (finding.code, finding.action) == ("stuck-pixels", Action.MENDED)
    assert finding.setting == "PtychoPINNPluginExamination.MaskPixels"
    assert finding.values["count"] == mask.sum()
    np.testing.assert_allclose(raw.diff3d[:, ~mask] ** 2, counts[:, ~mask], rtol=1e-5)


def test_a_few_patterns_may_differ_and_it_is_said(make: Callable[..., RawData], counts: np.ndarray) -> None:
    patterns = counts.astype(np.int32)
    patterns[3:, gap()] = -1
    raw = make(patterns)
    np.testing.assert_array_equal(raw.bad_pixels, gap())
    assert "in at least 57 of 60 patterns" in only_finding(raw).seen


def test_what_is_negative_at_times_stays_an_error(make: Callable[..., RawData], counts: np.ndarray) -> None:
    patterns = counts.astype(np.int32)
    patterns[::3, 12, 12] = -1
    with pytest.raises(ValueError, match="negative values on good pixels"):
        make(patterns)


def test_without_masking_such_pixels_are_an_error_or_a_warning(
    make: Callable[..., RawData], counts: np.ndarray
) -> None:
    patterns = counts.astype(np.int32)
    patterns[:, gap()] = -1
    with pytest.raises(ValueError, match="negative values on good pixels"):
        make(patterns, examination=KEPT)
    raw = make(np.where(gap(), 65535, counts).astype(np.uint16), examination=KEPT)
    assert not raw.bad_pixels.any()
    assert (only_finding(raw).code, only_finding(raw).action) == ("stuck-pixels", Action.IGNORED)


# ---------------------------------------------------------------------- hot and dead pixels


@pytest.mark.parametrize("noise", [False, True])
def test_hot_pixels_are_masked(make: Callable[..., RawData], counts: np.ndarray, noise: bool) -> None:
    where = np.zeros((N, N), bool)
    where[[12, 12, 50], [50, 51, 3]] = True
    patterns = counts.copy()
    patterns[:, where] = np.random.default_rng(0).poisson(3000, (60, 3)) if noise else 30000
    raw = make(patterns)
    np.testing.assert_array_equal(raw.bad_pixels, where)
    assert (only_finding(raw).code, only_finding(raw).action) == ("hot-pixels", Action.MENDED)
    assert sorted(map(tuple, only_finding(raw).values["pixels"])) == [(12, 50), (12, 51), (50, 3)]


def test_a_gap_that_holds_one_large_number_is_masked(
    make: Callable[..., RawData], counts: np.ndarray
) -> None:
    # as where 32-bit sentinels were stored in a wider type
    raw = make(np.where(gap(), 2**32 - 1, counts))
    np.testing.assert_array_equal(raw.bad_pixels, gap())


def test_dead_pixels_are_masked(make: Callable[..., RawData], counts: np.ndarray) -> None:
    where = np.zeros((N, N), bool)
    where[[31, 33, 27], [31, 36, 30]] = True
    raw = make(np.where(where, 0, counts))
    np.testing.assert_array_equal(raw.bad_pixels, where)
    assert (only_finding(raw).code, only_finding(raw).action) == ("dead-pixels", Action.MENDED)


def test_a_shadow_where_there_must_be_light_is_masked(
    make: Callable[..., RawData], counts: np.ndarray
) -> None:
    raw = make(np.where(stop(5.0), 0, counts))
    assert not (raw.bad_pixels & ~stop(5.0)).any()
    assert raw.bad_pixels[stop(2.0)].all()


# ---------------------------------------------------------------------- clipping, inverted masks


def test_clipped_counts_are_said_and_used(make: Callable[..., RawData], counts: np.ndarray) -> None:
    limit = int(np.quantile(counts, 0.98))
    raw = make(np.minimum(counts, limit))
    finding = only_finding(raw)
    assert (finding.code, finding.action) == ("clipped", Action.IGNORED)
    assert finding.values["limit"] == limit
    assert finding.values["part"] == pytest.approx((counts >= limit).mean(), rel=0.05)
    assert not raw.bad_pixels.any()


@pytest.mark.parametrize("mask", [gap(), stop(8.0), spots()], ids=["gap", "beamstop", "spots"])
def test_an_inverted_mask_is_refused_with_the_remedy(
    make: Callable[..., RawData], counts: np.ndarray, mask: np.ndarray
) -> None:
    patterns = np.where(mask, 5, counts)
    raw = make(patterns, bad_pixels=~mask)
    with pytest.raises(ExaminationError, match=r"hold .*% of the measured light.*Invert it"):
        examine_scan(raw, ExaminationConfig())
    kept = make(patterns, bad_pixels=~mask, examination=KEPT)
    assert (only_finding(kept).code, only_finding(kept).action) == ("inverted-mask", Action.IGNORED)


def test_an_inverted_mask_without_light_in_it_is_named_as_such(
    make: Callable[..., RawData], counts: np.ndarray
) -> None:
    with pytest.raises(ExaminationError, match="Invert it"):
        make(np.where(gap(), 0, counts), bad_pixels=~gap())


# ---------------------------------------------------------------------- centring


@pytest.mark.parametrize("shift", [(32, 32), (32, 0), (0, 32)])
@pytest.mark.parametrize("domain", ["counts", "amplitude"])
def test_patterns_centred_elsewhere_are_shifted(
    make: Callable[..., RawData], counts: np.ndarray, shift: tuple[int, int], domain: str
) -> None:
    values = np.sqrt(counts).astype(np.float32) if domain == "amplitude" else counts
    rolled = np.roll(values, shift, (1, 2))
    raw = make(rolled, domain, bad_pixels=np.roll(spots(), shift, (0, 1)))
    finding = only_finding(raw)
    assert (finding.code, finding.action) == ("corner-centred", Action.MENDED)
    assert (finding.values["rows"], finding.values["columns"]) == shift
    np.testing.assert_array_equal(raw.bad_pixels, spots())
    np.testing.assert_array_equal(raw.diff3d, make(values, domain, bad_pixels=spots()).diff3d)
    np.testing.assert_array_equal(rolled, np.roll(values, shift, (1, 2)))  # the caller's array


def test_patterns_that_may_not_be_shifted_are_refused(
    make: Callable[..., RawData], counts: np.ndarray
) -> None:
    rolled = np.fft.ifftshift(counts, axes=(1, 2))
    config = ExaminationConfig(centre_patterns=False)
    raw = make(rolled, examination=config)
    with pytest.raises(ExaminationError, match=r"shifted by 32 rows and 32 columns.*CentrePatterns"):
        examine_scan(raw, config)
    assert only_finding(make(rolled, examination=KEPT)).action is Action.IGNORED


def test_patterns_a_few_pixels_off_are_named_with_the_pixels(
    make: Callable[..., RawData], counts: np.ndarray
) -> None:
    raw = make(np.roll(counts, (-3, 4), (1, 2)))
    finding = only_finding(raw)
    assert (finding.code, finding.action) == ("off-centre", Action.IGNORED)
    assert (finding.values["rows"], finding.values["columns"]) == (-3, 4)
    assert "3 rows above and 4 columns to the right" in finding.seen
    assert "Crop them around row 29, column 36" in finding.done
    np.testing.assert_allclose(raw.diff3d**2, np.roll(counts, (-3, 4), (1, 2)), rtol=1e-5)


# ---------------------------------------------------------------------- counts or amplitude


def test_counts_that_were_divided_by_a_flat_field_are_counts(
    make: Callable[..., RawData], counts: np.ndarray
) -> None:
    flat = np.random.default_rng(1).normal(1, 0.03, (N, N))
    raw = make((counts / flat).astype(np.float32), None)
    np.testing.assert_allclose(raw.diff3d**2, counts / flat, rtol=1e-5)
    finding = only_finding(raw)
    assert (finding.code, finding.action) == ("values-are-counts", Action.NOTED)
    assert finding.setting == "PtychoPINNPluginExamination.PatternValues"


def test_the_setting_decides_what_undeclared_patterns_hold(
    make: Callable[..., RawData], counts: np.ndarray
) -> None:
    values = (counts * 0.37).astype(np.float32)
    for holds, expected in (("amplitude", values), ("counts", np.sqrt(values))):
        raw = make(values, None, examination=ExaminationConfig(pattern_values=holds))
        np.testing.assert_allclose(raw.diff3d, expected, rtol=1e-5)


@pytest.mark.parametrize("factor", [1.0, 0.0123])
def test_amplitude_stays_amplitude_without_a_word(
    make: Callable[..., RawData], counts: np.ndarray, factor: float
) -> None:
    values = (np.sqrt(counts) * factor).astype(np.float32)
    raw = make(values, None)
    np.testing.assert_array_equal(raw.diff3d, values)
    assert not raw.findings


def test_amplitude_that_is_said_to_be_counts_is_a_warning(
    make: Callable[..., RawData], counts: np.ndarray
) -> None:
    raw = make(np.sqrt(counts).astype(np.float32))
    assert (only_finding(raw).code, only_finding(raw).action) == ("values-are-amplitude", Action.IGNORED)


# ---------------------------------------------------------------------- the scan


def test_what_was_mended_is_not_found_again(
    make: Callable[..., RawData], counts: np.ndarray, tmp_path: Path
) -> None:
    patterns = np.fft.ifftshift(counts, axes=(1, 2)).astype(np.uint16)
    patterns[:, 40:42] = 65535
    raw = make(patterns)
    assert {finding.code for finding in raw.findings.findings} == {"stuck-pixels", "corner-centred"}
    raw.to_file(tmp_path / "scan.npz")
    again = RawData.from_file(tmp_path / "scan.npz")
    assert not again.findings
    np.testing.assert_array_equal(again.diff3d, raw.diff3d)
    np.testing.assert_array_equal(again.bad_pixels, raw.bad_pixels)


def test_dark_and_flash_frames_are_named(make: Callable[..., RawData], counts: np.ndarray) -> None:
    patterns = counts.copy()
    patterns[[0, 7, 31]] = 0
    patterns[[12, 40]] = 500
    report = examine_scan(make(patterns), ExaminationConfig())[1]
    dark, flash = report.by_code("dark-frames"), report.by_code("flash-frames")
    assert dark is not None
    assert flash is not None
    assert dark.values["frames"] == [0, 7, 31]
    assert flash.values["frames"] == [12, 40]
    assert len(report.findings) == 2


@pytest.mark.parametrize(
    ("unit", "code", "words"),
    [
        (3e-8, "positions-within-a-pixel", "All 60 positions lie within .* pixels.*metres"),
        (5e-3, "positions-within-a-pixel", "All 60 positions lie within"),
        (1e3, "positions-far-apart", "do not overlap.*check the unit"),
    ],
)
def test_positions_in_another_unit_are_refused(
    make: Callable[..., RawData], scan: RawData, unit: float, code: str, words: str
) -> None:
    raw = make(xcoords=scan.xcoords[:60] * unit, ycoords=scan.ycoords[:60] * unit)
    with pytest.raises(ExaminationError, match=words) as caught:
        examine_scan(raw, ExaminationConfig())
    refused = caught.value.report.by_code(code)
    assert refused is not None
    assert refused.subject == "geometry"
    report = examine_scan(raw, ExaminationConfig(refuse=False))[1]
    ignored = report.by_code(code)
    assert ignored is not None
    assert ignored.action is Action.IGNORED


def test_lines_regions_apart_and_far_off_positions_are_not_accused(
    make: Callable[..., RawData], scan: RawData
) -> None:
    x, y = scan.xcoords[:60], scan.ycoords[:60]
    for fields in (
        {"ycoords": np.zeros(60), "xcoords": np.arange(60) * 2.0},
        {"xcoords": x + np.repeat([0, 5000], 30)},
        {"xcoords": x + 1e6, "ycoords": y - 1e6},
        {"xcoords": np.repeat(x[::2], 2), "ycoords": np.repeat(y[::2], 2)},
    ):
        assert not examine_scan(make(**fields), ExaminationConfig())[1]


def test_each_scan_of_several_has_positions_of_its_own(make: Callable[..., RawData], scan: RawData) -> None:
    x = np.where(np.arange(60) < 30, scan.xcoords[:60] * 1e-8, scan.xcoords[:60])
    y = np.where(np.arange(60) < 30, scan.ycoords[:60] * 1e-8, scan.ycoords[:60])
    raw = make(xcoords=x, ycoords=y, scan_index=np.repeat([0, 1], 30))
    with pytest.raises(ExaminationError, match="All 30 positions lie within"):
        examine_scan(raw, ExaminationConfig())
