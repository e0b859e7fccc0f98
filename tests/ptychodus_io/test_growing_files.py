"""Files that grow while they are read, and frames that fall into a directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptychopinn_ptychodus.ptychodus_io.growing_files import (
    FallingFiles,
    FrameSource,
    GrowingDiffraction,
    GrowingPositions,
    has_frames,
    source_in,
)

N = 32


def frames(*values: int) -> np.ndarray:
    return np.stack([np.full((N, N), value, np.uint16) for value in values])


def all_read(source: FrameSource) -> dict[int, int]:
    """Number and value of each frame that is there."""
    found: dict[int, int] = {}
    while (chunk := source.read()) is not None:
        found.update(zip(chunk.numbers, (int(pattern[0, 0]) for pattern in chunk.patterns), strict=True))
    return found


def grow(file: h5py.File, values: np.ndarray, first: int) -> None:
    for name, more in (("patterns", values), ("indexes", np.arange(first, first + len(values)))):
        file[name].resize(first + len(values), 0)
        file[name][first:] = more


def empty(path: Path) -> h5py.File:
    file = h5py.File(path, "w")
    file.create_dataset("patterns", (0, N, N), "u2", maxshape=(None, N, N), chunks=(1, N, N))
    file.create_dataset("indexes", (0,), "i8", maxshape=(None,), chunks=(1,))
    return file


# HDF5 shares what one process has open twice, so that a writer has to be another one.
WRITER = """
import sys
import h5py
import numpy as np
with h5py.File(sys.argv[1], "w", libver="latest") as file:
    patterns = file.create_dataset("patterns", (0, 32, 32), "u2", maxshape=(5, 32, 32), chunks=(1, 32, 32))
    indexes = file.create_dataset("indexes", (0,), "i8", maxshape=(5,), chunks=(1,))
    file.swmr_mode = True
    for number in range(3):
        for dataset, value in ((patterns, number + 1), (indexes, number)):
            dataset.resize(number + 1, 0)
            dataset[number] = value
            dataset.flush()
        print(number, flush=True)
        sys.stdin.readline()
"""


def test_a_file_is_followed_while_its_writer_has_it_open(tmp_path: Path) -> None:
    path = tmp_path / "diffraction.h5"
    source = GrowingDiffraction(path)
    assert source.read() is None  # nobody has made it yet
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        for number in range(3):
            assert writer.stdout.readline() == f"{number}\n"
            assert all_read(source) == {number: number + 1}
            writer.stdin.write("\n")
            writer.stdin.flush()
    assert writer.returncode == 0
    assert source.promised == 5
    assert all_read(source) == {}


def test_a_file_without_swmr_is_read_again_when_it_has_changed_and_never_locked(tmp_path: Path) -> None:
    path = tmp_path / "diffraction.h5"
    source = GrowingDiffraction(path)
    empty(path).close()
    found: dict[int, int] = {}
    for first in range(3):
        with h5py.File(path, "r+") as writer:
            grow(writer, frames(first + 1), first)
        os.utime(path, ns=(first + 1, first + 1))
        found |= all_read(source)
    assert found == {0: 1, 1: 2, 2: 3}
    assert source.promised is None


def test_of_a_file_that_is_filled_what_holds_no_light_is_not_there_yet(tmp_path: Path) -> None:
    path = tmp_path / "diffraction.h5"
    with h5py.File(path, "w") as file:
        file["patterns"] = frames(1, 0, 3, 0, 0)
        file["indexes"] = np.arange(10, 15)
    source = GrowingDiffraction(path)
    assert all_read(source) == {10: 1, 12: 3}
    with h5py.File(path, "r+") as file:
        file["patterns"][1] = 2
    os.utime(path, ns=(5, 5))
    assert all_read(source) == {11: 2}
    assert source.promised == 5


def test_dark_frames_in_between_are_frames_in_the_end(tmp_path: Path) -> None:
    path = tmp_path / "diffraction.h5"
    with h5py.File(path, "w") as file:
        file["patterns"], file["indexes"] = frames(1, 0, 3), np.arange(3)
    source = GrowingDiffraction(path)
    assert all_read(source) == {0: 1, 2: 3}
    rest = source.rest()
    assert rest is not None
    assert rest.numbers == [1]


def test_a_file_that_cannot_be_read_is_tried_again_and_said(tmp_path: Path) -> None:
    path = tmp_path / "diffraction.h5"
    path.write_bytes(b"half of a header")
    source = GrowingDiffraction(path)
    assert source.read() is None
    assert str(path) in source.notes()[0]
    with empty(path) as writer:
        grow(writer, frames(7), 0)
    assert all_read(source) == {0: 7}
    assert source.notes() == []


def test_files_that_fall_in_are_numbered_by_their_names(tmp_path: Path) -> None:
    np.save(tmp_path / "scan12_00003.npy", frames(4)[0])
    np.save(tmp_path / "scan12_00007.npy", frames(5, 6))
    np.savez(tmp_path / "part.npz", patterns=frames(1, 2), indexes=[20, 10])
    with h5py.File(tmp_path / "ad_00030.h5", "w") as file:
        file["entry/data/data"] = frames(9)
    (tmp_path / "product.h5").touch()
    assert has_frames(tmp_path)
    source = source_in(tmp_path)
    assert isinstance(source, FallingFiles)
    assert all_read(source) == {3: 4, 7: 5, 8: 6, 10: 2, 20: 1, 30: 9}
    np.save(tmp_path / "scan12_00004.npy", frames(8)[0])
    assert all_read(source) == {4: 8}


def test_a_file_that_is_half_there_is_waited_for_and_a_damaged_one_named(tmp_path: Path) -> None:
    path = tmp_path / "f_1.npy"
    np.save(path, frames(4)[0])
    whole = path.read_bytes()
    path.write_bytes(whole[:200])
    source = FallingFiles(tmp_path)
    assert all_read(source) == {}
    assert source.notes() == []
    path.write_bytes(whole)
    assert all_read(source) == {1: 4}
    (tmp_path / "f_2.npy").write_bytes(whole[:200])
    assert all_read(source) == {}
    assert all_read(source) == {}
    assert "f_2.npy" in source.notes()[0]


@pytest.mark.parametrize("ending", ["", "3e-6,4e"])
def test_positions_grow_in_a_csv_file_as_ptychodus_reads_it(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "positions.csv"
    path.write_text(f"# y, x\n1e-6,2e-6\nbad,2e-6\n{ending}")
    source = GrowingPositions(tmp_path)
    found = source.read()
    assert found is not None
    assert found[0].tolist() == [1, 2]
    assert found[1][0].tolist() == [2e-6, 1e-6]
    assert np.isnan(found[1][1]).all()
    assert source.read() is None
    path.write_text("# y, x\n1e-6,2e-6\nbad,2e-6\n3e-6,4e-6\n")
    again = source.read()
    assert again is not None
    assert again[0].tolist() == [1, 2, 3]


def test_positions_of_a_product_whose_datasets_grow_one_after_the_other(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "product.h5", "w") as file:
        file["probe_position_indexes"] = np.arange(3)
        file["probe_position_x_m"] = np.array([1.0, 2.0, 3.0])
        file["probe_position_y_m"] = np.array([4.0, 5.0])
    found = GrowingPositions(tmp_path).read()
    assert found is not None
    assert (found[0].tolist(), found[1].tolist()) == ([0, 1], [[1.0, 4.0], [2.0, 5.0]])
