"""RawData: what it accepts, what it refuses and how it says so, files."""

from __future__ import annotations

import logging
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import DTypeLike

from ptychopinn_ptychodus.data import simulation
from ptychopinn_ptychodus.data.raw import RawData

N = 64
few = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def changed(array: np.ndarray, index: Any, value: Any) -> np.ndarray:
    out = np.array(array)
    out[index] = value
    return out


# ---------------------------------------------------------------------- counts and amplitude


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.uint32, np.int64])
def test_integers_are_counts_without_a_warning(
    fields: dict[str, Any], dtype: DTypeLike, caplog: pytest.LogCaptureFixture
) -> None:
    raw = RawData(**{**fields, "diff3d": fields["diff3d"].astype(dtype)})
    assert not caplog.records
    assert raw.diff3d.dtype == np.float32
    np.testing.assert_allclose(raw.diff3d, np.sqrt(fields["diff3d"].astype(float)), rtol=1e-6)


def test_whole_floats_are_counts_and_a_warning_says_so(
    fields: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        raw = RawData(**{**fields, "diff3d": fields["diff3d"].astype(np.float32)})
    np.testing.assert_allclose(raw.diff3d**2, fields["diff3d"], rtol=1e-5)
    assert "taken as counts" in caplog.text
    assert "domain='amplitude'" in caplog.text


def test_undeclared_floats_are_amplitude_and_are_not_copied(
    fields: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    amplitude = np.sqrt(fields["diff3d"]).astype(np.float32)
    raw = RawData(**{**fields, "diff3d": amplitude})
    assert raw.diff3d is amplitude or np.shares_memory(raw.diff3d, amplitude)
    assert not caplog.records


def test_whole_floats_up_to_one_are_the_same_either_way(
    fields: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    sparse = (fields["diff3d"] > 25).astype(np.float32)
    undeclared = RawData(**{**fields, "diff3d": sparse})
    assert not caplog.records
    np.testing.assert_array_equal(undeclared.diff3d, sparse)


@pytest.mark.parametrize("domain", ["amplitude", "counts"])
def test_a_declared_domain_wins(fields: dict[str, Any], domain: str) -> None:
    values = fields["diff3d"].astype(np.float64)
    raw = RawData(**{**fields, "diff3d": values}, domain=domain)
    expected = values if domain == "amplitude" else np.sqrt(values)
    np.testing.assert_allclose(raw.diff3d, expected, rtol=1e-6)


def test_float_counts_are_recognised_although_bad_pixels_were_inpainted(fields: dict[str, Any]) -> None:
    # Ptychodus keeps the source's type: float counts are whole everywhere but where it inpainted them
    bad = np.zeros((N, N), bool)
    bad[10:12, 30] = True
    counts = fields["diff3d"].astype(np.float32)
    counts[:, bad] = 19.37
    raw = RawData(**{**fields, "diff3d": counts}, bad_pixels=bad)
    np.testing.assert_allclose(raw.diff3d[:, ~bad] ** 2, counts[:, ~bad], rtol=1e-5)


def test_network_input_and_photons_give_the_counts_back_on_good_pixels(fields: dict[str, Any]) -> None:
    # both leave out the same pixels, here much of the beam, so that their product is exact
    axis = np.arange(N) - N / 2
    beam = 500 * np.exp(-(axis[:, None] ** 2 + axis**2) / 50)
    counts = np.random.default_rng(0).poisson(beam, (5, N, N))
    bad = np.zeros((N, N), bool)
    bad[28:34, 26:36] = True
    raw = RawData(**{**fields, "diff3d": counts}, bad_pixels=bad)
    container = raw.generate_grouped_data(N, 4, None)
    assert container.photons_per_pattern is not None
    seen = container.batch(slice(None))[..., 0] * container.input_scale
    photons = (seen * np.sqrt(container.photons_per_pattern) / (N / 2)) ** 2
    np.testing.assert_allclose(photons[:, ~bad], counts[:, ~bad], rtol=1e-5)


# ---------------------------------------------------------------------- bad pixels


@pytest.mark.parametrize("junk", [-1, 2**31 - 1])
def test_bad_pixels_are_filled_from_their_neighbours_whatever_they_hold(
    fields: dict[str, Any], junk: int
) -> None:
    bad = np.zeros((N, N), bool)
    bad[20:23, 31:35] = True
    counts = fields["diff3d"].astype(np.int64)
    counts[:] = 100
    counts[:, bad] = junk
    raw = RawData(**{**fields, "diff3d": counts}, bad_pixels=bad)
    np.testing.assert_allclose(raw.diff3d, 10.0, rtol=1e-5)


def test_nan_on_a_bad_pixel_is_filled_and_the_callers_array_stays(fields: dict[str, Any]) -> None:
    amplitude = np.sqrt(fields["diff3d"]).astype(np.float32)
    amplitude[:, 5, 5] = np.nan
    bad = np.zeros((N, N), bool)
    bad[5, 5] = True
    raw = RawData(**{**fields, "diff3d": amplitude}, bad_pixels=bad)
    assert np.isfinite(raw.diff3d).all()
    assert np.isnan(amplitude[:, 5, 5]).all()
    around = amplitude[:, 4:7, 4:7].reshape(5, 9)
    assert (raw.diff3d[:, 5, 5] > np.nanmin(around, 1)).all()
    assert (raw.diff3d[:, 5, 5] < np.nanmax(around, 1)).all()


def test_patterns_that_are_filled_already_are_not_copied(fields: dict[str, Any]) -> None:
    bad = np.zeros((N, N), bool)
    bad[5, 5:9] = True
    once = RawData(**fields, bad_pixels=bad)
    again = RawData(**{**fields, "diff3d": once.diff3d}, bad_pixels=bad)
    assert np.shares_memory(once.diff3d, again.diff3d)


# ---------------------------------------------------------------------- refusals

HUGE = 1e9
REFUSALS: list[tuple[str, dict[str, Any], str]] = [
    ("diff3d 2-D", {"diff3d": np.ones((N, N))}, r"diff3d has the shape \(64, 64\).*\(M, N, N\)"),
    ("not square", {"diff3d": np.ones((5, 64, 128))}, "diff3d.*64 × 128 pixels.*PatternSize"),
    ("unsupported N", {"diff3d": np.ones((5, 100, 100))}, "diff3d.*100 × 100.*multiple of 8.*to 96, .* 112"),
    ("complex patterns", {"diff3d": np.ones((5, N, N), complex)}, "diff3d has the type complex128"),
    ("dark", {"diff3d": np.zeros((5, N, N), int)}, "diff3d is zero everywhere"),
    ("count mismatch", {"diff3d": np.ones((4, N, N))}, "diff3d has 4 patterns but xcoords has 5"),
    ("y mismatch", {"ycoords": np.zeros(4)}, "ycoords has 4 entries but xcoords has 5"),
    ("start mismatch", {"xcoords_start": np.zeros(3)}, "xcoords_start has 3 entries"),
    ("x 2-D", {"xcoords": np.zeros((5, 1))}, r"xcoords has the shape \(5, 1\)"),
    ("x NaN", {"xcoords": np.array([1, 2, np.nan, 4, 5])}, "xcoords has 1 values that are NaN"),
    ("y inf", {"ycoords": np.array([1, 2, np.inf, 4, 5])}, "ycoords has 1 values that are NaN or inf"),
    ("x text", {"xcoords": np.array(list("abcde"))}, "xcoords has the type"),
    (
        "empty",
        {"xcoords": np.zeros(0), "ycoords": np.zeros(0), "diff3d": np.zeros((0, N, N))},
        "xcoords is empty",
    ),
    ("scan_index", {"scan_index": np.zeros(2, int)}, "scan_index has the shape"),
    (
        "scan_index",
        {"scan_index": np.array([0.0, 0.5, 1, 1, 1])},
        "scan_index holds fractions",
    ),
    ("scan_index", {"scan_index": np.array([0.0, np.nan, 1, 1, 1])}, "scan_index has 1 values"),
    (
        "probe size",
        {"probeGuess": np.ones((32, 32), complex)},
        "probeGuess has the shape .*64 × 64 pixels",
    ),
    ("probe zero", {"probeGuess": np.zeros((N, N), complex)}, "probeGuess is zero everywhere"),
    ("probe NaN", {"probeGuess": np.full((N, N), np.nan + 0j)}, "probeGuess has 4096 values"),
    ("no mode", {"probeGuess": np.ones((0, N, N), complex)}, "probeGuess has the shape"),
    ("object layers", {"objectGuess": np.ones((2, 90, 90), complex)}, "objectGuess has the shape.*one layer"),
    ("object NaN", {"objectGuess": np.full((90, 90), np.nan + 0j)}, "objectGuess has 8100 values"),
    (
        "outside",
        {"objectGuess": np.ones((45, 90), complex)},
        "2 of 5 positions are outside the object array of 45 × 90",
    ),
    ("bad all", {"bad_pixels": np.ones((N, N), bool)}, "bad_pixels covers the whole detector"),
    ("bad shape", {"bad_pixels": np.zeros((5, N, N), bool)}, "bad_pixels has the shape.*one mask for all"),
    ("domain", {"domain": "intensity"}, "domain = 'intensity'.*'amplitude', 'counts'"),
]


@pytest.mark.parametrize(("change", "message"), [r[1:] for r in REFUSALS], ids=[r[0] for r in REFUSALS])
def test_bad_input_is_refused_by_name(fields: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RawData(**{**fields, **change})


@pytest.mark.parametrize(
    ("dtype", "value", "message"),
    [
        (np.float32, np.nan, "diff3d has 1 values that are NaN"),
        (np.float64, np.inf, "diff3d has 1 values that are NaN or infinite"),
        (np.float32, -0.5, "diff3d has negative values"),
        (np.int16, -3, "diff3d has negative values"),
    ],
)
def test_bad_values_of_patterns_are_refused(
    fields: dict[str, Any], dtype: DTypeLike, value: float, message: str
) -> None:
    patterns = changed(fields["diff3d"].astype(dtype), (3, 10, 11), value)
    with pytest.raises(ValueError, match=message):
        RawData(**{**fields, "diff3d": patterns})


def test_a_dark_pattern_is_a_warning(fields: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    RawData(**{**fields, "diff3d": changed(fields["diff3d"], 2, 0)})
    assert "1 of 5 patterns hold no light" in caplog.text


@pytest.mark.parametrize(
    ("shape", "modes"), [((N, N), 1), ((3, N, N), 3), ((1, 2, N, N), 2), ((4, 2, N, N), 2)]
)
def test_probe_stacks_of_ptychodus_are_accepted(
    fields: dict[str, Any],
    shape: tuple[int, int] | tuple[int, int, int] | tuple[int, int, int, int],
    modes: int,
) -> None:
    probe = np.arange(np.prod(shape)).reshape(shape) + 1j
    raw = RawData(**{**fields, "probeGuess": probe})
    assert raw.probeGuess.shape == (modes, N, N)
    np.testing.assert_array_equal(raw.probeGuess, probe.reshape(-1, N, N)[:modes].astype(np.complex64))


def test_object_with_a_layer_axis_is_accepted(fields: dict[str, Any]) -> None:
    found = RawData(**fields, objectGuess=np.ones((1, 90, 95), complex)).objectGuess
    assert found is not None
    assert found.shape == (90, 95)


def test_require_inside_names_the_remedy(fields: dict[str, Any]) -> None:
    raw = RawData(**fields)
    raw.require_inside((90, 90))
    with pytest.raises(ValueError, match=r"outside the object array.*enlarge"):
        raw.require_inside((90, 20))


def test_one_pattern_is_a_scan_but_no_group_of_four(fields: dict[str, Any]) -> None:
    raw = RawData(**fields).select([0])
    assert raw.n_patterns == 1
    assert len(raw.generate_grouped_data(N, 4, None)) == 1
    with pytest.raises(ValueError, match="groups 4 patterns, but the scan has 1"):
        raw.generate_grouped_data(N, 4, None, gridsize=2)


def test_a_model_for_another_size_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"N = 128, but diff3d holds 64 × 64"):
        RawData(**fields).generate_grouped_data(128, 4, None)


# ---------------------------------------------------------------------- parts


@given(n=st.integers(1, 224), seed=st.integers(0, 99))
@few
def test_subsample_is_seeded_ordered_and_without_repeats(scan: RawData, n: int, seed: int) -> None:
    one, other = scan.subsample(n, seed), scan.subsample(n, seed)
    np.testing.assert_array_equal(one.xcoords, other.xcoords)
    where = [int(np.flatnonzero(scan.xcoords == x)[0]) for x in one.xcoords]
    assert len(where) == n
    assert where == sorted(set(where))


@given(fraction=st.floats(0, 0.9), seed=st.integers(0, 99))
@few
def test_split_parts_are_disjoint_and_complete(scan: RawData, fraction: float, seed: int) -> None:
    train, validation = scan.split(fraction, seed)
    held = [] if validation is None else list(validation.xcoords)
    assert len(held) == round(224 * fraction)
    assert sorted([*train.xcoords, *held]) == sorted(scan.xcoords)


def test_held_out_patterns_are_each_others_neighbours(scan: RawData) -> None:
    _, validation = scan.split(0.1, 0)
    # a tenth of the area, not a sprinkling over all of it
    assert validation is not None
    extent = np.ptp(validation.xcoords) * np.ptp(validation.ycoords)
    assert extent < 0.3 * np.ptp(scan.xcoords) * np.ptp(scan.ycoords)


@pytest.mark.parametrize("seed", range(4))
def test_held_out_patterns_are_of_one_scan(fields: dict[str, Any], seed: int) -> None:
    several = {
        name: np.tile(fields[name], (4, 1, 1) if name == "diff3d" else 4) for name in ("ycoords", "diff3d")
    }
    raw = RawData(
        **{**fields, **several, "xcoords": np.tile(fields["xcoords"], 4)},
        scan_index=np.repeat([0, 1, 2, 3], 5),
    )
    _, validation = raw.split(0.25, seed)
    assert validation is not None
    assert len(set(validation.scan_index.tolist())) == 1


def test_a_number_for_every_pattern_is_no_scan_of_one_pattern(
    fields: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    raw = RawData(**fields, scan_index=np.arange(5) + 17)
    np.testing.assert_array_equal(raw.scan_index, np.zeros(5))
    assert "number of its own" in caplog.text
    assert "one scan" in caplog.text
    assert len(raw.generate_grouped_data(N, 4, None, gridsize=2, seed=0)) == 5


@pytest.mark.parametrize("numbers", [[0, 1, 2, 3, 3], [4, 4, 4, 4, 4], [2.0, 2.0, 1.0, 1.0, 1.0]])
def test_numbers_that_patterns_share_are_those_of_scans(
    fields: dict[str, Any], caplog: pytest.LogCaptureFixture, numbers: list[int] | list[float]
) -> None:
    np.testing.assert_array_equal(RawData(**fields, scan_index=numbers).scan_index, numbers)
    assert not caplog.records


def test_one_pattern_keeps_its_number(fields: dict[str, Any]) -> None:
    one = {name: value[:1] for name, value in fields.items() if name != "probeGuess"}
    raw = RawData(**one, probeGuess=fields["probeGuess"], scan_index=[7])
    np.testing.assert_array_equal(raw.scan_index, [7])


def test_parts_that_cannot_be_are_refused(scan: RawData) -> None:
    for fraction in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match="validation_fraction"):
            scan.split(fraction, 0)
    with pytest.raises(ValueError, match="leaves none to train on"):
        scan.select([3]).split(0.9, 0)
    with pytest.raises(ValueError, match="n_subsample = 0"):
        scan.subsample(0, 0)
    with pytest.raises(ValueError, match="at least one"):
        scan.select([])


# ---------------------------------------------------------------------- files


def same(a: RawData, b: RawData) -> bool:
    names = ("xcoords", "ycoords", "xcoords_start", "ycoords_start", "diff3d", "probeGuess", "scan_index")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in (*names, "bad_pixels"))


@given(
    seed=st.integers(0, 1000),
    m=st.integers(1, 4),
    modes=st.integers(1, 2),
    with_object=st.booleans(),
    with_bad=st.booleans(),
)
@few
def test_what_is_written_is_read_back_bit_for_bit(
    tmp_path: Path, seed: int, m: int, modes: int, with_object: bool, with_bad: bool
) -> None:
    rng = np.random.default_rng(seed)
    raw = RawData(
        xcoords=rng.uniform(0, 80, m),
        ycoords=rng.uniform(0, 80, m),
        xcoords_start=rng.uniform(0, 80, m),
        diff3d=rng.poisson(3.0, (m, N, N)),
        probeGuess=rng.normal(size=(modes, N, N)) + 1j,
        scan_index=rng.integers(0, 5, m),
        objectGuess=rng.normal(size=(81, 81)) + 0j if with_object else None,
        bad_pixels=rng.random((N, N)) < 0.02 if with_bad else None,
    )
    raw.to_file(tmp_path / "scan.npz")
    raw.to_directory(tmp_path / "arrays")
    for back in (RawData.from_file(tmp_path / "scan.npz"), RawData.from_directory(tmp_path / "arrays")):
        assert same(raw, back)
        assert (back.objectGuess is None) == (not with_object)
        if with_object:
            np.testing.assert_array_equal(back.objectGuess, raw.objectGuess)


def test_a_directory_is_mapped_not_read_and_holds_nothing_of_an_earlier_scan(
    scan: RawData, fields: dict[str, Any], tmp_path: Path
) -> None:
    scan.to_directory(tmp_path)
    assert isinstance(RawData.from_directory(tmp_path).diff3d, np.memmap)
    RawData(**fields).to_directory(tmp_path)
    assert RawData.from_directory(tmp_path).objectGuess is None
    (tmp_path / "probeGuess.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"probeGuess\.npy is missing"):
        RawData.from_directory(tmp_path)


@pytest.mark.parametrize("m", [5, 70])
@pytest.mark.parametrize("key", ["diff3d", "diffraction"])
@pytest.mark.parametrize("last", [False, True])
def test_legacy_key_and_axis_order_are_read(
    fields: dict[str, Any], tmp_path: Path, m: int, key: str, last: bool
) -> None:
    counts = np.random.default_rng(1).poisson(9.0, (m, N, N)).astype(np.uint16)
    amplitude = np.sqrt(counts).astype(np.float32)
    stored = np.moveaxis(amplitude, 0, 2) if last else amplitude
    positions = {"xcoords": np.arange(m), "ycoords": np.arange(m)}
    np.savez(tmp_path / "old.npz", **{**positions, "probeGuess": fields["probeGuess"], key: stored})
    raw = RawData.from_file(tmp_path / "old.npz")
    np.testing.assert_array_equal(raw.diff3d, amplitude)
    np.testing.assert_array_equal(raw.xcoords_start, raw.xcoords)


def test_counts_as_ptychodus_exports_them_are_read_as_counts(fields: dict[str, Any], tmp_path: Path) -> None:
    # the keys and types of ptychodus.api.io.save_ptychopinn_training_data
    np.savez(
        tmp_path / "train_data.npz",
        xcoords=fields["xcoords"],
        ycoords=fields["ycoords"],
        xcoords_start=fields["xcoords"],
        ycoords_start=fields["ycoords"],
        diff3d=fields["diff3d"],
        bad_pixels=np.zeros((N, N), bool),
        probeGuess=fields["probeGuess"],
        objectGuess=np.ones((90, 90), complex),
        scan_index=np.zeros(5, int),
    )
    raw = RawData.from_file(tmp_path / "train_data.npz")
    assert raw.photons_per_pattern == pytest.approx(fields["diff3d"].sum() / 5, rel=1e-6)


def test_amplitude_that_looks_like_counts_survives_a_round_trip(
    fields: dict[str, Any], tmp_path: Path
) -> None:
    raw = RawData(**{**fields, "diff3d": fields["diff3d"].astype(float)}, domain="amplitude")
    raw.to_file(tmp_path / "a.npz")
    assert str(np.load(tmp_path / "a.npz")["diff3d_domain"]) == "amplitude"
    np.testing.assert_array_equal(RawData.from_file(tmp_path / "a.npz").diff3d, raw.diff3d)


def test_missing_files_and_keys_are_named(fields: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
        RawData.from_file(tmp_path / "nowhere.npz")
    np.savez(tmp_path / "part.npz", xcoords=fields["xcoords"], foo=1)
    with pytest.raises(ValueError, match=r"part\.npz lacks ycoords, probeGuess, diff3d; it holds foo"):
        RawData.from_file(tmp_path / "part.npz")


def test_what_is_not_of_the_scan_is_not_read(fields: dict[str, Any], tmp_path: Path) -> None:
    # neither refused nor loaded, whatever it holds: notes of another program, an array of gigabytes
    notes = np.array([{"author": "someone"}], dtype=object)
    np.savez(tmp_path / "a.npz", **fields, notes=notes, diffraction=notes, allow_pickle=True)
    assert same(RawData.from_file(tmp_path / "a.npz"), RawData(**fields))


def test_bad_content_names_the_file_too(fields: dict[str, Any], tmp_path: Path) -> None:
    np.savez(tmp_path / "dark.npz", **{**fields, "diff3d": fields["diff3d"] * 0})
    with pytest.raises(ValueError, match=r"dark\.npz: diff3d is zero everywhere"):
        RawData.from_file(tmp_path / "dark.npz")


@pytest.mark.parametrize("keep", [0, 10, 1000, -30])
def test_a_truncated_file_is_refused_by_name(fields: dict[str, Any], tmp_path: Path, keep: int) -> None:
    path = tmp_path / "cut.npz"
    RawData(**fields).to_file(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"cut\.npz cannot be read"):
        RawData.from_file(path)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (True, 2.5)}",  # numpy: TypeError
        "{'descr': '<f8', 'fortran_order': False, 'shape': (3,",  # a TokenError of the standard library
        "{'descr': '<f8', 'fortran_order': False, 'shape': (9223372036854775808, 2)}",
        "{'descr': __import__('os').getcwd(), 'fortran_order': False, 'shape': (1,)}",
    ],
)
def test_a_header_that_numpy_stumbles_over(fields: dict[str, Any], tmp_path: Path, header: str) -> None:
    path = tmp_path / "scan.npz"
    RawData(**fields).to_file(path)
    entry = header.encode() + b"\n"
    with zipfile.ZipFile(path) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    held["xcoords.npy"] = b"\x93NUMPY\x01\x00" + len(entry).to_bytes(2, "little") + entry + bytes(64)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in held.items():
            archive.writestr(name, content)
    with pytest.raises(ValueError, match=r"scan\.npz.*export the scan again"):
        RawData.from_file(path)


def test_a_damaged_member_is_refused_by_name(fields: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "flipped.npz"
    RawData(**fields).to_file(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"flipped\.npz cannot be read"):
        RawData.from_file(path)


@pytest.mark.parametrize("content", [b"plain text", b"\x89HDF\r\n\x1a\n", b""])
def test_a_foreign_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"other\.npz cannot be read"):
        RawData.from_file(path)


def test_a_single_array_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.ones(3))
    with pytest.raises(ValueError, match="single array"):
        RawData.from_file(tmp_path / "one.npy")


class Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self.target}",))


def test_code_in_a_file_is_never_run(fields: dict[str, Any], tmp_path: Path) -> None:
    target = tmp_path / "ran"
    evil = np.empty(1, dtype=object)
    evil[0] = Payload(target)
    np.savez(tmp_path / "member.npz", **{**fields, "probeGuess": evil}, allow_pickle=True)
    (tmp_path / "whole.npz").write_bytes(pickle.dumps(Payload(target)))
    with zipfile.ZipFile(tmp_path / "raw.npz", "w") as archive:
        archive.writestr("diff3d.npy", pickle.dumps(Payload(target)))
    for name in ("member.npz", "whole.npz", "raw.npz"):
        with pytest.raises(ValueError, match=name):
            RawData.from_file(tmp_path / name)
    assert not target.exists()
    # the file would run if it were trusted: the test is not vacuous
    np.load(tmp_path / "member.npz", allow_pickle=True)["probeGuess"]
    assert target.exists()


def test_a_failed_write_leaves_the_earlier_file_and_no_debris(
    fields: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "scan.npz"
    raw = RawData(**fields)
    raw.to_file(path)
    before = path.read_bytes()

    def broken(file: Any, **arrays: Any) -> None:
        file.write(b"half of it")
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", broken)
    with pytest.raises(OSError, match="No space"):
        raw.to_file(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["scan.npz"]


def test_simulated_scan_is_determined_by_its_seed(
    obj: np.ndarray, probe: np.ndarray, positions: tuple[np.ndarray, np.ndarray]
) -> None:
    x, y = (p[:8] for p in positions)

    def make(seed: int) -> RawData:
        return simulation.simulate_scan(obj, probe, x, y, 1e4, seed)

    assert same(make(5), make(5))
    assert not same(make(5), make(6))


def test_hdf5_that_claims_what_was_never_written(tmp_path: Path) -> None:
    """A few kilobytes that would be 82 GB of zeros in memory."""
    path = tmp_path / "train_data.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("patterns", (10**7, N, N), "u2", chunks=(1, N, N))
        file["probe"] = np.ones((1, N, N), np.complex64)
        file["probe_position_x_px"] = file["probe_position_y_px"] = np.zeros(3)
    with pytest.raises(ValueError, match=r"train_data\.h5 .*patterns claims 82 GB.*export the scan again"):
        RawData.from_file(path)
