"""``frc``: rings of two products, and of the halves of a scan."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from ptychodus.api.io import load_product, save_product
from ptychodus.api.object import Object

from ptychopinn_ptychodus.cli import main


def with_noise(scan: Path, path: Path, blur: float, seed: int) -> Path:
    """The scan's product with an object that is noise above a frequency, and the same below it."""
    product = load_product(scan / "product.h5")
    layer = product.object_.get_layer(0)
    common, own = (np.random.default_rng(each).normal(size=layer.shape) for each in (0, seed))
    frequency = np.hypot(np.fft.fftfreq(layer.shape[0])[:, None], np.fft.fftfreq(layer.shape[1]))
    spectrum = np.where(frequency < blur, np.fft.fft2(common), np.fft.fft2(own))
    array = (1.0 + 0.1 * np.fft.ifft2(spectrum).real).astype(layer.dtype)
    object_ = Object(
        array=array[np.newaxis],
        pixel_geometry=product.object_.get_pixel_geometry(),
        center=product.object_.get_center(),
        layer_spacing_m=[],
    )
    save_product(path, dataclasses.replace(product, object_=object_))
    return path


def test_two_products(scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (with_noise(scan, tmp_path / f"{seed}.h5", 0.25, seed) for seed in (1, 2))
    assert main(["frc", str(first), str(second), "-o", str(tmp_path)]) == 0
    *table, said, picture = capsys.readouterr().out.splitlines()
    pixel = load_product(scan / "product.h5").object_.get_pixel_geometry().width_m
    half = re.fullmatch(r"Half a bit at a half period of ([\d.]+) nm\.", said)
    assert half is not None, said
    assert float(half[1]) == pytest.approx(1e9 * pixel / 0.25 / 2, rel=0.2)
    assert 10 < len(table) <= 21
    assert picture == f"Picture: {tmp_path / 'frc.png'}"
    assert (tmp_path / "frc.png").read_bytes().startswith(b"\x89PNG")


def test_halves_of_a_scan(scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["frc", str(scan), "--epochs", "1", "-o", str(tmp_path / "rings.png")]) == 0
    out = capsys.readouterr().out
    assert "The halves of" in out
    assert "alf a bit" in out
    assert (tmp_path / "rings.png").is_file()


def test_what_cannot_be_compared_is_named(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    product = str(scan / "product.h5")
    (tmp_path / "none.h5").write_text("none")
    no_pixel = Path(shutil.copy(product, tmp_path / "no_pixel.h5"))
    with h5py.File(no_pixel, "r+") as file:
        file["object"].attrs["pixel_width_m"] = 0.0
    for arguments, code, said in (
        ([product], 2, "is one product: name another one"),
        ([product, str(tmp_path / "nowhere.h5")], 2, "nowhere.h5"),
        ([product, str(tmp_path / "none.h5")], 1, "none.h5"),
        ([product, str(no_pixel)], 1, "its object's pixel width is 0.0, which is no length in metres"),
        ([str(tmp_path)], 2, "diffraction.h5"),
        ([product, product, "-o", str(tmp_path / "no" / "such.png")], 2, "no"),
    ):
        assert main(["frc", *arguments]) == code
        assert said in capsys.readouterr().err
