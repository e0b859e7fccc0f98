"""Directories that hold several scans: which are learnt from, and what is said of those that are damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin_support import make_data, make_product
from ptychodus.api.io import save_diffraction_data, save_product

from ptychopinn_ptychodus.data.examination import ExaminationError
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.ptychodus_io.ingest import read_training_directory


def write(directory: Path, *, modes: int = 1, n: int = 64, count: int = 12) -> Path:
    directory.mkdir(parents=True)
    save_diffraction_data(directory / "diffraction.h5", make_data(count, n))
    save_product(directory / "product.h5", make_product(count, n, modes=modes))
    return directory


@pytest.fixture
def beamtime(tmp_path: Path) -> Path:
    """Two scans of two probes; and what is no scan."""
    write(tmp_path / "beamtime" / "b", modes=2)
    write(tmp_path / "beamtime" / "a")
    result = tmp_path / "beamtime" / "result"
    result.mkdir()
    save_product(result / "product.h5", make_product(12))
    return tmp_path / "beamtime"


def test_every_standard_directory_in_it_is_a_scan(beamtime: Path) -> None:
    told: list[tuple[str, int, int]] = []
    examined: list[str] = []

    def examine(raw: RawData, name: str) -> RawData:
        examined.append(name)
        return raw

    data = read_training_directory(
        beamtime, examine=examine, on_scan=lambda name, number, count: told.append((name, number, count))
    )
    assert {name: len(raw) for name, raw in data.scans.items()} == {"a": 12, "b": 12}
    assert data.source == "a, b"
    assert data.has_several_probes
    assert told == [("a", 1, 2), ("b", 2, 2)]
    assert examined == ["a", "b"]


def test_scans_of_one_probe_are_one(beamtime: Path) -> None:
    write(beamtime / "c")
    data = read_training_directory(beamtime)
    assert data.has_several_probes
    (beamtime / "b" / "diffraction.h5").unlink()
    data = read_training_directory(beamtime)
    assert list(data.scans) == ["a", "c"]
    assert not data.has_several_probes
    assert len(data.train) == 24


def test_damaged_ones_are_all_named_and_refuse_the_training(beamtime: Path) -> None:
    write(beamtime / "c")
    path = beamtime / "c" / "diffraction.h5"
    path.write_bytes(path.read_bytes()[:2000])
    (beamtime / "b" / "product.h5").unlink()
    with pytest.raises(ValueError, match=r"2 of 3 scans .*b/product\.h5.*c/diffraction\.h5.*SkipDamaged"):
        read_training_directory(beamtime)
    left_out: list[str] = []
    data = read_training_directory(beamtime, on_damaged=lambda name, exc: left_out.append(name))
    assert left_out == ["b", "c"]
    assert list(data.scans) == ["a"]
    (beamtime / "a" / "product.h5").unlink()
    with pytest.raises(ValueError, match="3 of 3 scans"):
        read_training_directory(beamtime, on_damaged=lambda name, exc: None)


def test_one_that_the_examination_refuses_is_damaged(beamtime: Path) -> None:
    def examine(raw: RawData, name: str) -> RawData:
        if name == "b":
            raise ExaminationError("b: it would give a wrong image.", raw.findings)
        return raw

    with pytest.raises(ExaminationError, match=r"1 of 2 scans .* b: it would give a wrong image"):
        read_training_directory(beamtime, examine=examine)


def test_scans_of_different_sizes_are_refused_by_name(beamtime: Path) -> None:
    write(beamtime / "c", n=128)
    with pytest.raises(ValueError, match=r"a holds patterns of 64 × 64 .* c of 128 × 128"):
        read_training_directory(beamtime, on_damaged=lambda name, exc: None)
