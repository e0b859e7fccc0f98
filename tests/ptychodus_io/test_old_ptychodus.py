"""What older versions of Ptychodus call otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ptychopinn_ptychodus.ptychodus_io.ingest import read_training_directory


def test_a_standard_directory_of_ptychodus_1_5_is_read(standard_directory: Path) -> None:
    expected = read_training_directory(standard_directory)
    (standard_directory / "product.h5").rename(standard_directory / "product-in.h5")
    found = read_training_directory(standard_directory)
    assert found.source == "diffraction.h5, product-in.h5"
    np.testing.assert_array_equal(found.train.xcoords, expected.train.xcoords)


def test_the_newer_name_comes_first(standard_directory: Path) -> None:
    (standard_directory / "product-in.h5").write_bytes(b"of another day")
    assert read_training_directory(standard_directory).source == "diffraction.h5, product.h5"


def test_a_damaged_product_is_named(standard_directory: Path) -> None:
    (standard_directory / "product.h5").unlink()
    (standard_directory / "product-in.h5").write_bytes(b"no HDF5")
    with pytest.raises(ValueError, match=r"product-in\.h5"):
        read_training_directory(standard_directory)
