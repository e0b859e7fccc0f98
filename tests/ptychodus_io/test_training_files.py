"""Training data as Ptychodus itself writes them, NPZ and HDF5."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from plugin_support import make_data, make_product
from ptychodus.api import io
from ptychodus.api.reconstruct import ReconstructInput, prepare_reconstruct_input

from ptychopinn_ptychodus.cli import main
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.ptychodus_io.ingest import from_reconstruct_input, read_training_directory

pytestmark = pytest.mark.skipif(
    not hasattr(io, "save_training_data"), reason="this Ptychodus does not write HDF5 training data"
)


def write(path: Path, parameters: ReconstructInput) -> Path:
    """By Ptychodus' own function for such a file."""
    save = io.save_ptychopinn_training_data if path.suffix == ".npz" else io.save_training_data
    save(path, parameters)
    return path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "training"
    path.mkdir()
    return path


def parameters(count: int = 30) -> ReconstructInput:
    return prepare_reconstruct_input(make_data(count), make_product(count, modes=2, opr=2))


@pytest.mark.parametrize("name", ["any.npz", "any.h5", "any.hdf5"])
def test_a_file_of_ptychodus_is_the_scan_that_it_was_written_from(directory: Path, name: str) -> None:
    expected = from_reconstruct_input(parameters(), with_object=True)
    raw = RawData.from_file(write(directory / name, parameters()))
    # counts, whatever they are called; bad pixels are filled as ours are
    np.testing.assert_allclose(raw.diff3d, expected.diff3d, rtol=1e-6)
    assert expected.bad_pixels[3, 5]
    for field in ("xcoords", "ycoords", "probeGuess", "objectGuess", "bad_pixels", "scan_index"):
        np.testing.assert_array_equal(getattr(raw, field), getattr(expected, field))
    # neither square nor symmetric: an exchange of the axes would not go unnoticed
    assert raw.objectGuess is not None
    assert raw.objectGuess.shape[0] != raw.objectGuess.shape[1]
    assert not np.allclose(raw.xcoords, raw.ycoords)


def test_counts_in_floating_point_are_counts(directory: Path) -> None:
    path = write(directory / "flat.h5", parameters())
    with h5py.File(path, "a") as file:
        counts = file["patterns"][()] * 1.37  # such as a flat field makes of them
        del file["patterns"]
        file["patterns"] = counts
    good = ~RawData.from_file(path).bad_pixels
    np.testing.assert_allclose(RawData.from_file(path).diff3d[:, good], np.sqrt(counts[:, good]), rtol=1e-5)


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".hdf5"])
def test_training_and_test_data_by_name(directory: Path, suffix: str) -> None:
    write(directory / f"train_data{suffix}", parameters(30))
    write(directory / f"test_data{suffix}", parameters(12))
    data = read_training_directory(directory)
    assert data.source == f"train_data{suffix}"
    assert data.train.n_patterns == 30
    assert data.test is not None
    assert data.test.n_patterns == 12


def test_both_kinds_are_learnt_from_together(directory: Path) -> None:
    write(directory / "a.npz", parameters(30))
    write(directory / "b.h5", parameters(20))
    write(directory / "test_data.h5", parameters(12))
    data = read_training_directory(directory)
    assert data.source == "a.npz, b.h5"
    np.testing.assert_array_equal(data.train.scan_index, np.repeat([0, 1], [30, 20]))
    assert data.test is not None


def test_npz_comes_first_and_the_log_says_so(directory: Path, log: pytest.LogCaptureFixture) -> None:
    write(directory / "train_data.npz", parameters(30))
    write(directory / "train_data.h5", parameters(20))
    assert read_training_directory(directory).train.n_patterns == 30
    assert "train_data.h5 is not used" in log.text


def test_other_hdf5_files_are_passed_over(standard_directory: Path, log: pytest.LogCaptureFixture) -> None:
    io.save_product(standard_directory / "product.000100.h5", make_product(30))
    (standard_directory / "half-written.h5").write_bytes(b"\x89HDF\r\n\x1a\nand no more")
    assert read_training_directory(standard_directory).source == "diffraction.h5, product.h5"
    assert "product.000100.h5 holds no training data" in log.text
    assert "half-written.h5 is passed over" in log.text


def test_a_file_that_lacks_something_says_what(directory: Path) -> None:
    path = write(directory / "train_data.h5", parameters())
    with h5py.File(path, "a") as file:
        del file["probe_position_x_px"]
    with pytest.raises(ValueError, match=r"train_data\.h5 lacks probe_position_x_px; it holds .*patterns"):
        read_training_directory(directory)


def test_damage_is_an_error_that_names_the_file(directory: Path) -> None:
    path = write(directory / "train_data.h5", parameters())
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"train_data\.h5 cannot be read .*HDF5.*export the scan again"):
        read_training_directory(directory)


@pytest.mark.parametrize("kind", ["external", "soft", "stored elsewhere"])
def test_nothing_outside_the_file_is_read(directory: Path, tmp_path: Path, kind: str) -> None:
    path, other = write(directory / "train_data.h5", parameters()), tmp_path / "other.h5"
    with h5py.File(path, "a") as file, h5py.File(other, "w") as elsewhere:
        elsewhere["patterns"] = file["patterns"][()]
        shape, dtype = file["patterns"].shape, file["patterns"].dtype
        file.move("patterns", "aside")
        if kind == "external":
            file["patterns"] = h5py.ExternalLink(str(other), "patterns")
        elif kind == "soft":
            file["patterns"] = h5py.SoftLink("/aside")
        else:
            (tmp_path / "raw").write_bytes(file["aside"][()].tobytes())
            stored = [(str(tmp_path / "raw"), 0, h5py.h5f.UNLIMITED)]
            file.create_dataset("patterns", shape, dtype, external=stored)
    with pytest.raises(ValueError, match=r"train_data\.h5 cannot be read .*patterns is"):
        read_training_directory(directory)


def test_the_command_line_finds_them(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    io.save_product(directory / "product.000100.h5", make_product(30))
    assert main(["train", "-i", str(directory), "-o", str(directory)]) == 2
    assert ".hdf5" in capsys.readouterr().err
