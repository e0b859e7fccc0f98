"""Files of a standard directory that are damaged or odd: one message, with file, dataset and remedy."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ptychopinn_ptychodus.ptychodus_io.ingest import read_training_directory
from ptychopinn_ptychodus.ptychodus_io.standard_files import check_standard_files


def replace(file: h5py.File, name: str, value: Any) -> None:
    attributes = dict(file[name].attrs)
    del file[name]
    file[name] = value
    for key, held in attributes.items():
        file[name].attrs[key] = held


def claims_much(file: h5py.File, name: str) -> None:
    attributes = dict(file[name].attrs)
    shape = (10**7, *file[name].shape[1:])
    del file[name]
    dataset = file.create_dataset(name, shape, "u2", chunks=(1, *shape[1:]))
    dataset.attrs.update(attributes)


def links(target: Any) -> Callable[[h5py.File, str], None]:
    def change(file: h5py.File, name: str) -> None:
        del file[name]
        file[name] = target

    return change


def attribute_is(attribute: str, value: Any) -> Callable[[h5py.File, str], None]:
    def change(file: h5py.File, name: str) -> None:
        holder = file[name] if name else file
        assert attribute in holder.attrs
        holder.attrs[attribute] = value

    return change


def is_group(file: h5py.File, name: str) -> None:
    del file[name]
    file.create_group(name)


D, P = "diffraction.h5", "product.h5"


@pytest.mark.parametrize(
    ("where", "name", "change", "said"),
    [
        (D, "patterns", claims_much, "82 GB"),
        (D, "patterns", is_group, "Group"),
        (D, "patterns", lambda file, name: replace(file, name, np.zeros((30, 64))), "(30, 64)"),
        (D, "patterns", lambda file, name: replace(file, name, np.zeros((30, 0, 64))), "0 × 64 pixels"),
        (D, "patterns", lambda file, name: replace(file, name, [b"text"] * 30), "type"),
        (D, "patterns", lambda file, name: replace(file, name, h5py.Empty("f4")), "shape None"),
        *(
            (D, "patterns", attribute_is("detector_pixel_width_m", value), f'of "patterns" is {value}')
            for value in (np.nan, np.inf, 0.0, -75e-6, "wide")
        ),
        *(
            (P, name, attribute_is(attribute, value), f'attribute "{attribute}"{whose} is {value}, which')
            for name, whose, attribute in (
                ("", "", "detector_object_distance_m"),
                ("", "", "photon_energy_eV"),
                ("object", ' of "object"', "pixel_width_m"),
                ("probe", ' of "probe"', "pixel_height_m"),
            )
            for value in (np.nan, np.inf, 0.0, -1.0)
        ),
        (P, "object", attribute_is("center_y_m", np.nan), 'attribute "center_y_m" of "object" is nan'),
        (D, "indexes", links(h5py.SoftLink("/indexes")), "leads nowhere"),
        (D, "indexes", links(h5py.ExternalLink("gone.h5", "/indexes")), "leads nowhere"),
        (D, "indexes", lambda file, name: replace(file, name, np.arange(29)), "patterns has 30"),
        (D, "indexes", lambda file, name: replace(file, name, np.arange(30) + 1000), "1000 to 1029"),
        (D, "indexes", lambda file, name: replace(file, name, np.arange(30) + 0.5), "0.5"),
        (D, "indexes", lambda file, name: replace(file, name, np.full(30, 2**62)), str(2**62)),
        (D, "indexes", lambda file, name: replace(file, name, np.arange(30, dtype="g")), "double precision"),
        (P, "probe_position_x_m", lambda file, name: replace(file, name, np.full(30, np.nan)), "30 values"),
        (P, "probe_position_y_m", lambda file, name: replace(file, name, np.zeros(29)), "has 29"),
        (P, "probe_position_y_m", lambda file, name: replace(file, name, np.zeros((30, 1))), "(30, 1)"),
        (P, "object", lambda file, name: replace(file, name, np.zeros(9)), "(9,)"),
        (P, "probe", lambda file, name: replace(file, name, np.zeros(4, [("x", "f8")])), "type"),
    ],
)
def test_what_cannot_be_read_is_named(
    standard_directory: Path, where: str, name: str, change: Callable[[h5py.File, str], None], said: str
) -> None:
    with h5py.File(standard_directory / where, "r+") as file:
        change(file, name)
    with pytest.raises(ValueError, match=where) as caught:
        read_training_directory(standard_directory)
    assert name in str(caught.value) or "indexes" in str(caught.value)
    assert said in str(caught.value)
    assert "ave " in str(caught.value)  # save it again, or save both from the same scan


@pytest.mark.parametrize("where", [D, P])
@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n" + bytes(500), b"<html>"])
def test_what_is_no_hdf5(standard_directory: Path, where: str, content: bytes) -> None:
    (standard_directory / where).write_bytes(content)
    with pytest.raises(ValueError, match=f"{where}.*save it again"):
        check_standard_files(standard_directory / D, standard_directory / P)


def test_whatever_ptychodus_itself_makes_of_a_file(standard_directory: Path) -> None:
    """Its reader stumbles over an attribute with an error of another class than those of wrong values."""
    with h5py.File(standard_directory / P, "r+") as file:
        file.attrs["exposure_time_s"] = [1.0, 2.0]
    with pytest.raises(ValueError, match=r"product\.h5.*save it again"):
        read_training_directory(standard_directory)


def test_sound_files_pass(standard_directory: Path) -> None:
    """Whole numbers may be stored as others, as long as they are whole."""
    with h5py.File(standard_directory / D, "r+") as file:
        replace(file, "indexes", file["indexes"][()].astype(float))
    check_standard_files(standard_directory / D, standard_directory / P)
    assert read_training_directory(standard_directory).train.n_patterns == 30


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe_among_the_files_is_passed_over(standard_directory: Path) -> None:
    """Opening it would wait for somebody who writes to it."""
    os.mkfifo(standard_directory / "other.npz")
    assert read_training_directory(standard_directory).train.n_patterns == 30
