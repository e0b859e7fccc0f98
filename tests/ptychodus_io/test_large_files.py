"""A standard directory that is read into files is the one read into memory, to the bit."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from large_support import in_files
from plugin_support import make_data, make_product
from ptychodus.api import io

from ptychopinn_ptychodus.data.large_arrays import LargeArray
from ptychopinn_ptychodus.files import NoRoomError
from ptychopinn_ptychodus.ptychodus_io.ingest import from_reconstruct_input, read_standard_directory
from ptychopinn_ptychodus.ptychodus_io.large_files import load_patterns


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "standard"
    path.mkdir()
    io.save_diffraction_data(path / "diffraction.h5", make_data(30))
    io.save_product(path / "product.h5", make_product(30))
    return path


def test_a_standard_directory(directory: Path, tmp_path: Path) -> None:
    expected = read_standard_directory(directory)
    with in_files(tmp_path / "large"):
        if "mmap_file" in inspect.signature(io.load_diffraction_data).parameters:
            assert isinstance(load_patterns(directory / "diffraction.h5").get_patterns(), LargeArray)
        found = read_standard_directory(directory)
        assert isinstance(found.diff3d, LargeArray)
        np.testing.assert_array_equal(found.diff3d, expected.diff3d)
        np.testing.assert_array_equal(found.bad_pixels, expected.bad_pixels)
        assert found.findings.to_json() == expected.findings.to_json()
        assert list((tmp_path / "large").iterdir()) == []


def test_the_application_holds_no_copy(directory: Path, tmp_path: Path) -> None:
    from ptychodus.api.reconstruct import prepare_reconstruct_input

    parameters = prepare_reconstruct_input(make_data(30), make_product(30))
    expected = from_reconstruct_input(parameters, with_object=True)
    with in_files(tmp_path / "large"):
        found = from_reconstruct_input(parameters, with_object=True)
        assert isinstance(found.diff3d, LargeArray)
        np.testing.assert_array_equal(found.diff3d, expected.diff3d)


def test_without_room_the_error_is_that_and_not_that_a_file_is_damaged(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with in_files(tmp_path / "large"):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
        with pytest.raises(NoRoomError, match=r"patterns take [\d,]+ bytes there, and 0 are free"):
            read_standard_directory(directory)
        assert list((tmp_path / "large").iterdir()) == []
