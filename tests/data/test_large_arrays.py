"""Patterns in files are those that would be in memory, to the bit; without room there is an error."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import h5py
import numpy as np
import pytest
from large_support import in_files

from ptychopinn_ptychodus.data import large_arrays
from ptychopinn_ptychodus.data.assembly import assemble
from ptychopinn_ptychodus.data.examination import ExaminationConfig
from ptychopinn_ptychodus.data.joining import joined
from ptychopinn_ptychodus.data.large_arrays import LargeArray
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.files import NoRoomError
from ptychopinn_ptychodus.ptychodus_io.ingest import join_scans
from ptychopinn_ptychodus.refinement.pupil import where_patterns_differ


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Path]:
    """Whatever is large is in files here."""
    with in_files(tmp_path / "large"):
        yield tmp_path / "large"


@pytest.fixture
def counts(scan: RawData) -> dict[str, Any]:
    """Counts whose zero frequency is in the corner, with a bad pixel, a stuck one and one that is given."""
    patterns = np.rint(scan.diff3d.astype(np.float64) ** 2).astype(np.uint16)
    patterns = np.roll(patterns, (32, 32), (1, 2))
    patterns[:, 3, 5] = 65535
    bad = np.zeros((64, 64), bool)
    bad[40, 41] = True
    names = ("xcoords", "ycoords", "probeGuess", "objectGuess")
    return {"diff3d": patterns, "bad_pixels": bad, **{name: getattr(scan, name) for name in names}}


def require_equal(found: RawData, expected: RawData) -> None:
    assert isinstance(found.diff3d, LargeArray)
    assert not isinstance(expected.diff3d, LargeArray)
    for name in ("diff3d", "bad_pixels", "xcoords", "probeGuess", "exposures", "incident_photons"):
        assert getattr(found, name).dtype == getattr(expected, name).dtype
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    assert found.findings.to_json() == expected.findings.to_json()


def test_a_scan_in_files_is_the_one_in_memory(counts: dict[str, Any], files: Path) -> None:
    found = RawData(**counts)
    with mock.patch.object(large_arrays, "MOST_IN_MEMORY", 1 << 30):
        expected = RawData(**counts)
    assert [finding.code for finding in expected.findings.findings] == ["stuck-pixels", "corner-centred"]
    require_equal(found, expected)
    assert list(files.iterdir()) == []  # they have no names


def write_npz(path: Path, fields: dict[str, Any]) -> None:
    np.savez(path, **fields)


def write_compressed(path: Path, fields: dict[str, Any]) -> None:
    np.savez_compressed(path, **fields)


def write_hdf5(path: Path, fields: dict[str, Any], **how: Any) -> None:
    names = {"xcoords": "probe_position_x_px", "ycoords": "probe_position_y_px", "objectGuess": "object"}
    with h5py.File(path, "w") as file:
        for name, value in fields.items():
            if name == "diff3d":
                file.create_dataset("patterns", data=value, **how)
            else:
                file[names.get(name, {"probeGuess": "probe"}.get(name, name))] = value


def write_chunked(path: Path, fields: dict[str, Any]) -> None:
    write_hdf5(path, fields, chunks=(7, 64, 64), compression="lzf")


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("scan.npz", write_npz),
        ("scan.npz", write_compressed),
        ("scan.h5", write_hdf5),
        ("scan.h5", write_chunked),
    ],
)
def test_a_file_read_into_files_is_the_one_read_into_memory(
    name: str, write: Callable[..., None], counts: dict[str, Any], tmp_path: Path
) -> None:
    write(tmp_path / name, counts)
    expected = RawData.from_file(tmp_path / name)
    with in_files(tmp_path / "large"):
        require_equal(RawData.from_file(tmp_path / name), expected)


def test_a_file_that_ends_before_its_patterns_do_is_refused(
    counts: dict[str, Any], tmp_path: Path, files: Path
) -> None:
    path = tmp_path / "scan.npz"
    write_npz(path, counts)
    whole = path.read_bytes()
    header = whole.index(b"'shape': (224, 64, 64)")
    path.write_bytes(whole[:header] + whole[header:].replace(b"(224, 64, 64)", b"(225, 64, 64)", 1))
    with pytest.raises(ValueError, match=r"cannot be read as an NPZ file.*"):
        RawData.from_file(path)
    assert list(files.iterdir()) == []


def test_parts_of_a_scan(scan: RawData, tmp_path: Path) -> None:
    def parts(raw: RawData) -> list[RawData]:
        training, validation = raw.split(0.2, seed=3)
        assert validation is not None
        mask = np.arange(len(raw)) % 3 == 0
        numbers = np.array([5, 2, 7])
        return [training, validation, raw.subsample(50, 1), raw.select(mask), raw.select(numbers)]

    expected = [*parts(scan), join_scans([scan, scan.select(np.arange(40))])]
    with in_files(tmp_path / "large"):
        large = RawData(
            **{name: getattr(scan, name) for name in ("xcoords", "ycoords", "probeGuess", "objectGuess")},
            diff3d=scan.diff3d.astype(np.float64),
            domain="amplitude",
        )
        large.findings = scan.findings
        found = [*parts(large), join_scans([large, large.select(np.arange(40))])]
        for one, other in zip(found, expected, strict=True):
            require_equal(one, other)
        np.testing.assert_array_equal(large.select(slice(3, 9)).diff3d, scan.diff3d[3:9])
        np.testing.assert_array_equal(where_patterns_differ(large, 64), where_patterns_differ(scan, 64))


def test_groups_of_scans(scan: RawData, tmp_path: Path) -> None:
    def groups() -> Any:
        container = scan.generate_grouped_data(64, 7, None, gridsize=2, seed=0)
        return joined([container, container.subset(np.arange(9))])

    expected = groups()
    with in_files(tmp_path / "large"):
        found = groups()
        assert isinstance(found.amplitude, LargeArray)
        np.testing.assert_array_equal(found.amplitude, expected.amplitude)
        np.testing.assert_array_equal(found.batch([3, 230]), expected.batch([3, 230]))
        assert type(found.batch([3, 230])) is np.ndarray


@pytest.mark.parametrize("gridsize", [1, 2])
def test_patches_in_files_make_the_same_object(scan: RawData, gridsize: int, files: Path) -> None:
    container = scan.generate_grouped_data(64, 7, None, gridsize=gridsize, seed=0)
    rng = np.random.default_rng(0)
    patches = np.moveaxis(container.patches_for(slice(None)), -1, 1)
    patches = patches * np.exp(2j * np.pi * rng.random((len(patches), 1, 1, 1)))
    patches = np.ascontiguousarray(patches, np.complex64)
    large = large_arrays.copied(patches, "The patches")
    assert isinstance(large, LargeArray)
    assert scan.objectGuess is not None
    shape = (scan.objectGuess.shape[0], scan.objectGuess.shape[1])
    weight = (np.abs(scan.probeGuess) ** 2).sum(0)
    found, expected = (
        assemble(each, container.nn_indices, container.coords, shape, weight) for each in (large, patches)
    )
    np.testing.assert_array_equal(found.object, expected.object)
    np.testing.assert_array_equal(found.coverage, expected.coverage)


# ---- the arrays themselves --------------------------------------------------------------------------------


def test_only_views_and_what_is_gathered_are_in_files(files: Path) -> None:
    array = large_arrays.empty((9, 4, 4), np.float32, "They")
    array[:] = np.arange(array.size).reshape(array.shape)
    for view in (array[2:5], array[:, 1:3], array[4], array.reshape(-1, 16), array[np.array([3, 1])]):
        assert type(view) is LargeArray
    for made in (array + 1, np.sqrt(array[2]), array.mean(0), array[[[3]]], np.asarray(array), abs(array[3])):
        assert type(made) is np.ndarray
    assert type(array[1, 2, 3]) is type(array.sum()) is np.float32
    copy = pickle.loads(pickle.dumps(array))
    assert type(copy) is np.ndarray
    np.testing.assert_array_equal(copy, array)
    with mock.patch.object(large_arrays, "MOST_IN_MEMORY", array.nbytes):
        assert type(large_arrays.empty(array.shape, np.float32, "They")) is np.ndarray
    assert large_arrays.all_finite(array)
    array[8, 3, 3] = np.nan
    assert not large_arrays.all_finite(array)


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_what_is_gathered_is_what_memory_would_give(files: Path, tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=(50, 6, 7)).astype(np.complex64)
    array = large_arrays.copied(values, "The values")
    array[3] = values[3] = 5  # what has just been written, too
    large_arrays.save(array, tmp_path / "values.npy")
    indices = (np.array([4, 0, 49]), np.array([[7, -1], [3, 3]]), np.array([], int), values.real[:, 0, 0] > 0)
    for found in (array, large_arrays.opened(tmp_path / "values.npy")):
        assert isinstance(found, LargeArray)
        for part in (slice(None), slice(5, None), slice(0, 50, 3), slice(2, 3)):
            for index in indices:
                if index.dtype == bool:
                    index = index[part]
                elif index.size and index.max() >= len(values[part]):
                    with pytest.raises(IndexError):
                        found[part][index]
                    continue
                np.testing.assert_array_equal(found[part][index], values[part][index])


@pytest.mark.skipif(
    not Path("/proc/self/status").is_file(), reason="the system does not tell what is resident"
)
def test_what_is_gathered_from_all_over_a_file_does_not_stay(tmp_path: Path) -> None:
    def mapped() -> float:
        """MB of this process that are mapped from files."""
        lines = Path("/proc/self/status").read_text().splitlines()
        pairs = (line.split(":") for line in lines if line.startswith(("VmRSS", "RssAnon")))
        sizes = {name: int(value.split()[0]) / 1024 for name, value in pairs}
        return sizes["VmRSS"] - sizes["RssAnon"]

    with mock.patch.object(tempfile, "tempdir", str(tmp_path)):
        array = large_arrays.empty((4096, 64, 64), np.float32, "The patterns")
    for part in large_arrays.blocks(array):
        array[part] = 1.0
    groups = np.random.default_rng(1).permutation(4096).reshape(-1, 4, 4)
    before, most = mapped(), 0.0
    for group in groups:
        assert array[group].shape == (4, 4, 64, 64)
        most = max(most, mapped() - before)
    assert most < 10.0  # of 64 MB


@pytest.mark.parametrize("how", ["little is free", "there is a quota"])
def test_without_room_there_is_an_error_and_nothing_is_left(
    how: str, counts: dict[str, Any], files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "little is free":
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 1000))
    elif not hasattr(os, "posix_fallocate"):
        pytest.skip("the system takes room as it is written to")
    else:

        def full(*_: int) -> None:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

        monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(
        NoRoomError, match=r"patterns take 3,67\d,\d\d\d bytes there, and .* TMPDIR"
    ) as caught:
        RawData(**counts)
    assert str(files) in str(caught.value)
    assert list(files.iterdir()) == []


def test_a_scan_in_a_file_is_handed_over_without_a_copy(
    counts: dict[str, Any], tmp_path: Path, files: Path
) -> None:
    raw = RawData(**counts, examination=ExaminationConfig())
    raw.to_directory(tmp_path / "job")
    other = RawData.from_directory(tmp_path / "job")
    np.testing.assert_array_equal(other.diff3d, raw.diff3d)
    np.testing.assert_array_equal(np.load(tmp_path / "job" / "diff3d.npy"), raw.diff3d)
    if sys.platform == "linux" and hasattr(os, "O_TMPFILE"):
        mapping = raw.diff3d._mapping  # type: ignore[attr-defined]
        assert (tmp_path / "job" / "diff3d.npy").stat().st_ino == os.fstat(mapping.file.fileno()).st_ino
    # a part of it, and one whose file has had a name already, are copied
    raw.select(slice(1, 9)).to_directory(tmp_path / "part")
    np.testing.assert_array_equal(RawData.from_directory(tmp_path / "part").diff3d, raw.diff3d[1:9])
    (tmp_path / "job" / "diff3d.npy").unlink()
    raw.to_directory(tmp_path / "job")
    np.testing.assert_array_equal(RawData.from_directory(tmp_path / "job").diff3d, raw.diff3d)
