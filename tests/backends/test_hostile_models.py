"""Model files that were made to harm: whoever looks at one ends quickly, in a message that names the file.

No framework is needed to write such files, nor to refuse them.
"""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import re
import struct
import subprocess
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ptychopinn_ptychodus.backends.base import ModelFileError
from ptychopinn_ptychodus.backends.model_file import manifest
from ptychopinn_ptychodus.backends.registry import get_engine, guess_engine
from ptychopinn_ptychodus.config import DataConfig, ModelConfig, TrainingConfig, to_dict
from ptychopinn_ptychodus.installed import own_version

CKPT, BUNDLE = "pytorch", "tensorflow"
LONGEST_MESSAGE = 600
"""Characters, but for the path."""

MOST_SECONDS = 8.0
"""Of the processor: what else runs on the machine costs none of them."""
MOST_MEMORY = 150
"""MiB, more than before the file was looked at."""

Entries = dict[str, bytes]
Arrays = dict[str, NDArray[Any]]

# ---------------------------------------------------------------------- what a model file consists of


@dataclass
class Model:
    """What both kinds of file hold; a small one that the readers accept, which has no use otherwise."""

    backend: str
    about: dict[str, Any] = field(default_factory=dict)
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    arrays: dict[Any, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        model = ModelConfig(architecture="unrolled", n_filters_scale=1)
        self.about = manifest(self.backend, "0.1.0", {"train_loss": [2.0, 1.0], "val_loss": [3.0]})
        self.configs = {
            "model_config": to_dict(model),
            "data_config": to_dict(DataConfig()),
            "training_config": to_dict(TrainingConfig(model=model, backend=self.backend)),
        }
        self.arrays = {
            "probe_planes": np.ones((1, 64, 64, 2), np.float32),
            "good_pixels": np.ones((64, 64), np.float32),
            "log_scale": np.ones((), np.float32),
        }

    def write(self, path: Path) -> None:
        _write(path, _entries(self))


def _entries(model: Model) -> Entries:
    return (_checkpoint if model.backend == CKPT else _bundle)(model)


def _write(path: Path, entries: Mapping[str, bytes], *, packed: str = "", by: int = 0) -> None:
    """``packed`` is the name of an entry that is compressed by the method ``by``."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content, by if name == packed else zipfile.ZIP_STORED)


# ---- a bundle


def _bundle(model: Model) -> Entries:
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        for name, array in model.arrays.items():
            file.create_dataset(name, data=array)
    about = {"models": ["autoencoder", "diffraction_to_obj"], **model.about}
    return {
        "manifest.json": json.dumps(about).encode(),
        "config.json": json.dumps(model.configs).encode(),
        "wts.h5": weights.getvalue(),
    }


# ---- a checkpoint: the instructions of a pickle, assembled


def _pickled(value: Any) -> bytes:
    """Instructions that make ``value``; bytes are instructions already."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        content = value.encode()
        return b"X" + struct.pack("<I", len(content)) + content
    if isinstance(value, (bool, type(None))):
        return {True: b"\x88", False: b"\x89", None: b"N"}[value]
    if isinstance(value, int):
        if -(2**31) <= value < 2**31:
            return b"J" + struct.pack("<i", value)
        content = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        return b"\x8a" + bytes([len(content)]) + content
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, dict):
        return b"}(" + b"".join(_pickled(key) + _pickled(item) for key, item in value.items()) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(_pickled, value)) + b"e"
    assert isinstance(value, tuple)
    return b"(" + b"".join(map(_pickled, value)) + b"t"


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


REBUILD = _global("torch._utils", "_rebuild_tensor_v2")
KINDS = {"f4": "Float", "f8": "Double", "i8": "Long", "i2": "Short", "i1": "Char", "b1": "Bool"}


def _storage(kind: str, key: Any, count: Any) -> bytes:
    return _pickled(("storage", _global("torch", f"{kind}Storage"), key, "cpu", count)) + b"Q"


def _tensor(storage: bytes, offset: Any, shape: Any, stride: Any) -> bytes:
    return REBUILD + _pickled((storage, offset, shape, stride, False, b"}")) + b"R"


def _index(content: Any) -> bytes:
    return b"\x80\x02" + _pickled(content) + b"."


def _content(model: Model) -> tuple[dict[str, Any], Entries]:
    weights: dict[Any, Any] = {}
    storages: Entries = {}
    for number, (name, array) in enumerate(model.arrays.items()):
        if not isinstance(array, np.ndarray):
            weights[name] = array
            continue
        kind = KINDS[array.dtype.str[1:]]
        stride = tuple(step // array.itemsize for step in array.strides)
        weights[name] = _tensor(_storage(kind, f"{number}", array.size), 0, array.shape, stride)
        storages[f"m/data/{number}"] = array.tobytes()
    content = {
        "epoch": 2,
        "state_dict": weights,
        "hyper_parameters": dict(model.configs),
        "ptychopinn_ptychodus": model.about,
    }
    return content, storages


def _checkpoint(model: Model, index: Callable[[dict[str, Any]], Any] = _index, **extra: bytes) -> Entries:
    """``extra`` are more storages."""
    content, storages = _content(model)
    more = {f"m/data/{name}": value for name, value in extra.items()}
    return {"m/data.pkl": index(content), "m/byteorder": b"little", **storages, **more}


# ---------------------------------------------------------------------- the hostile files

Case = tuple[str | None, Callable[[Path], object]]
"""A reason that the message names, or None if the file is harmless after all, and what writes the file."""

CASES: dict[str, Case] = {}

REFUSED = "refused: it holds more than tensors and plain values"
DAMAGED = "truncated or not a PyTorch file"
NO_BUNDLE = "truncated or not a bundle"


def _junk(name: str, reason: str | None, instructions: Any, **storages: bytes) -> None:
    """A checkpoint that holds something beside the model."""

    def write(path: Path) -> None:
        _write(
            path, _checkpoint(Model(CKPT), lambda content: _index({"x": instructions, **content}), **storages)
        )

    CASES[f"ckpt: {name}"] = (reason, write)


def _both(name: str, reason: str | None, edit: Callable[[Model], object], *backends: str) -> None:
    """The same in a file of either kind."""

    def write_by(backend: str) -> Callable[[Path], None]:
        def write(path: Path) -> None:
            model = Model(backend)
            edit(model)
            model.write(path)

        return write

    for backend in backends or (CKPT, BUNDLE):
        CASES[f"{'ckpt' if backend == CKPT else 'bundle'}: {name}"] = (reason, write_by(backend))


_both("nothing wrong", None, lambda model: None)

# ---- code
_junk("call", r"\(os\.system\)", _global("os", "system") + _pickled(("true",)) + b"R")
_junk("name without end", "refused", _global("a" * 100_000, "b"))
_junk("call of what is allowed", r"\(a call\)", _global("collections", "OrderedDict") + _pickled((1,)) + b"R")
_junk("call of no function", r"\(a call\)", _pickled("x") + b")R")
_junk("change of a function", "no dict", REBUILD + _pickled({"__defaults__": (1,)}) + b"b")
_junk("change of a kind", "no dict", _global("torch", "FloatStorage") + _pickled((3, ">")) + b"b")
_junk("change of an array", "no dict", _tensor(_storage("Float", "s", 1), 0, (1,), (1,)) + b"}b", s=bytes(4))
_junk("append to a function", "no list", REBUILD + b"K\x01a")
_junk("item of a function", "no dict", REBUILD + b"K\x01K\x01s")
for _name, _instructions in {
    "STACK_GLOBAL": _pickled("os") + _pickled("system") + b"\x93",
    "INST": b"(ios\nsystem\n",
    "OBJ": b"(" + _global("os", "system") + b"o",
    "NEWOBJ": _global("os", "system") + b")\x81",
    "EXT1": b"\x82\x01",
    "PERSID": b"Px\n",
    "SHORT_BINBYTES": b"C\x01x",
    "POP": b"NN0",
    "DUP": b"N20",
    "FRAME": b"\x95" + struct.pack("<Q", 2**62),
    "BINBYTES8": b"\x8e" + struct.pack("<Q", 2**62),
}.items():
    _junk(f"instruction {_name}", "refused|truncated", _instructions)
_junk("no instruction", DAMAGED, b"\xff")
_junk("takes from nothing", DAMAGED, b"\x87\x87\x87")
_junk("remembers nothing", DAMAGED, b"h\x07")
_junk("a list for a key", "a key of type", b"}](K\x01eK\x01s")

# ---- tensors
_ONE = _tensor(_storage("Char", "n", 1), 0, (), ())
_WRAPS = _tensor(_storage("Short", "n", 1), 0, (), ())
_FOUR = _storage("Float", "s", 4)
for _name, _instructions in {
    "int8 lengths that wrap": _tensor(_FOUR, 0, (_ONE, _ONE), (16, 1)),
    "int16 lengths that wrap": _tensor(_FOUR, 0, (_WRAPS, _WRAPS), (32767, 1)),
    "offset that is a tensor": _tensor(_FOUR, _ONE, (1,), (1,)),
    "stride that is a tensor": _tensor(_FOUR, 0, (1,), (_ONE,)),
    "float length": _tensor(_FOUR, 0, (2.0,), (1,)),
    "true length": _tensor(_FOUR, 0, (True,), (1,)),
    "negative length": _tensor(_FOUR, 0, (-2, -2), (1, 1)),
    "negative offset": _tensor(_FOUR, -1, (1,), (1,)),
    "negative stride": _tensor(_FOUR, 3, (2,), (-1,)),
    "huge stride": _tensor(_FOUR, 0, (2,), (2**62,)),
    "stride that wraps": _tensor(_FOUR, 0, (5,), (2**62,)),
    "huge offset": _tensor(_FOUR, 2**62, (1,), (1,)),
    "offset at the end": _tensor(_FOUR, 4, (1,), (1,)),
    "overlapping strides": _tensor(_FOUR, 0, (2**20, 2**20), (0, 0)),
    "one too many": _tensor(_FOUR, 0, (5,), (1,)),
    "reach beyond": _tensor(_FOUR, 0, (2, 2), (3, 1)),
    "no elements, huge": _tensor(_FOUR, 0, (0, 2**62, 2**62), (1, 1, 1)),
    "no elements, vast": _tensor(_FOUR, 0, (0, 2**200), (1, 1)),
    "unequal shape and stride": _tensor(_FOUR, 0, (2,), (1, 1)),
    "many dimensions": _tensor(_FOUR, 0, (1,) * 9, (1,) * 9),
    "shape that is a list": _tensor(_FOUR, 0, [2], [1]),
    "tensor of no storage": _tensor(b"N", 0, (1,), (1,)),
    "storage of more than there is": _storage("Float", "s", 5),
    "storage of much more": _storage("Float", "s", 2**62),
    "storage of less than nothing": _storage("Float", "s", -1),
    "storage of true": _storage("Float", "s", True),
    "storage that is missing": _storage("Float", "t", 4),
    "storage without a name": _storage("Float", 3, 4),
    "storage of another kind": _storage("ComplexFloat", "s", 2),
    "storage of odd size": _storage("Double", "odd", -1),
    "reference to something else": _pickled(("module", "x")) + b"Q",
}.items():
    _junk(_name, "refused|truncated", _instructions, s=bytes(16), n=b"\x00\x10", odd=bytes(9))
_junk("no elements", None, _tensor(_FOUR, 0, (0, 3), (3, 1)), s=bytes(16))
_LONG = _pickled((2**2000,) * 900)
_junk("lengths without end", DAMAGED, REBUILD + b"(" + _FOUR + b"K\x00" + _LONG + _LONG + b"tR", s=bytes(16))
_junk(
    "dimensions without end",
    "refused|truncated",
    # a length of 256 bits, 100,000 times: multiplying them takes hours
    _pickled(2**250)
    + b"q\x00"
    + REBUILD
    + b"("
    + _FOUR
    + b"K\x00("
    # twice, as shape and as stride
    + b"h\x00" * 60_000
    + b"t("
    + b"h\x00" * 60_000
    + b"ttR\x86",
    s=bytes(16),
)


# ---- what is shared
def _doubled(first: bytes, begin: bytes, between: bytes, end: bytes) -> bytes:
    """Each of 60 levels holds the one below it twice."""
    value = first + b"q\x00"
    for level in range(60):
        value = begin + value + between + b"h" + bytes([level]) + end + b"q" + bytes([level + 1])
    return value


_LISTS = _doubled(b"]", b"](", b"", b"e")
_junk("tuples in tuples for a key", "one tuple|refused", b"}" + _doubled(b")", b"(", b"", b"t") + b"K\x01s")
_junk("lists in lists", "one list in two places", _LISTS)
_junk("dictionaries in dictionaries", "one dict in two places", _doubled(b"}", b"}(K\x01", b"K\x02", b"u"))


def _said(name: str, reason: str | None, instructions: bytes, **storages: Any) -> None:
    """A checkpoint whose engine, format or configuration is a value that takes long to print."""

    def write_at(edit: Callable[[Model], object]) -> Callable[[Path], None]:
        def write(path: Path) -> None:
            model = Model(CKPT)
            edit(model)
            _write(path, _checkpoint(model, **storages))

        return write

    for place, edit in {
        "backend": lambda model: model.about.update(backend=instructions),
        "format": lambda model: model.about.update(format=instructions),
        "history": lambda model: model.about["history"].update(train_loss=instructions),
        "field": lambda model: model.configs["model_config"].update(gridsize=instructions),
    }.items():
        CASES[f"ckpt: {name} as {place}"] = (reason, write_at(edit))


_PLACE = "refused|truncated|does not describe|written by the engine"
_said("lists in lists", _PLACE, _LISTS)
_said("long string, often", _PLACE, b"](" + _pickled("x" * 50_000) + b"q\x00" + b"h\x00" * 90_000 + b"e")
_said("long tuple, often", _PLACE, b"]((" + b"K\x01" * 30_000 + b"tq\x00" + b"h\x00" * 90_000 + b"e")
_said(
    "array, often",
    _PLACE,
    b"](" + _tensor(_storage("Float", "s", 1000), 0, (1000,), (1,)) + b"q\x00" + b"h\x00" * 100_000 + b"e",
    s=np.random.default_rng(0).random(1000, np.float32).tobytes(),
)
_said("deep lists", _PLACE, b"]" * 100_000 + b"a" * 99_999)
_said("deep tuples", _PLACE, b")" + b"\x85" * 200_000)
_said("deep dictionaries", _PLACE, b"}K\x01" * 60_000 + b"}" + b"s" * 60_000)


def _losses(path: Path) -> None:
    """One array of 100,000 values, for 20,000 names: 60 GB of numbers."""
    model = Model(CKPT)
    named = b"".join(b"M" + struct.pack("<H", number) + b"h\x00" for number in range(20_000))
    losses = _tensor(_storage("Float", "s", 100_000), 0, (100_000,), (1,)) + b"q\x00"
    model.about["history"] = b"}(K\x00" + losses + named + b"u"
    _write(path, _checkpoint(model, s=bytes(400_000)))


CASES["ckpt: one history under many names"] = ("does not describe", _losses)


def _views(path: Path) -> None:
    """4 MB, 30,000 times."""
    model = Model(CKPT)
    first = _tensor(_storage("Float", "s", 10**6), 0, (10**6,), (1,)) + b"q\x00"
    model.arrays["first"] = first
    for number in range(30_000):
        model.arrays[number] = b"h\x00"
    _write(path, _checkpoint(model, s=bytes(4 * 10**6)))


CASES["ckpt: many views of one storage"] = ("share their values", _views)

_junk("huge number to remember by", None, b"Nr" + struct.pack("<I", 2**32 - 1))
_junk("numbers that hash alike", None, {number * (2**61 - 1): b"N" for number in range(15_000)})
_junk("index too large", "truncated", "x" * 2**18)
_both(
    "array that is named by a number", "is named", lambda m: m.arrays.update({5: m.arrays["log_scale"]}), CKPT
)
_both("weights that are no arrays", "does not describe", lambda m: m.arrays.update(log_scale={"a": 1}), CKPT)

# ---- archives


def _archive(backend: str, name: str, reason: str | None, write: Callable[[Path, Entries], object]) -> None:
    prefix = "ckpt" if backend == CKPT else "bundle"
    CASES[f"{prefix}: {name}"] = (reason, lambda path: write(path, _entries(Model(backend))))


def _packed(entry: str, by: int) -> Callable[[Path, Entries], None]:
    return lambda path, entries: _write(path, entries, packed=entry, by=by)


def _patched(entry: str, offset: int, value: int) -> Callable[[Path, Entries], None]:
    """Two bytes in what the archive's directory says about an entry."""

    def write(path: Path, entries: Entries) -> None:
        _write(path, entries)
        content = bytearray(path.read_bytes())
        at = 0
        while True:
            at = content.index(b"PK\x01\x02", at)
            if content[at + 46 :].startswith(entry.encode()):
                break
            at += 1
        struct.pack_into("<H", content, at + offset, value)
        path.write_bytes(content)

    return write


def _with(**more: bytes) -> Callable[[Path, Entries], None]:
    return lambda path, entries: _write(path, entries | {k.replace("__", "/"): v for k, v in more.items()})


def _twice(entry: str) -> Callable[[Path, Entries], None]:
    def write(path: Path, entries: Entries) -> None:
        _write(path, entries)
        with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
            warnings.simplefilter("ignore", UserWarning)
            content = entries[entry]
            archive.writestr(
                entry, content.replace(b"tensorflow", b"pytorch") if b"{" in content else content
            )

    return write


def _without(entry: str) -> Callable[[Path, Entries], None]:
    return lambda path, entries: _write(path, {k: v for k, v in entries.items() if k != entry})


for _backend, _members, _reason in (
    (CKPT, ("m/data.pkl", "m/byteorder", "m/data/0"), DAMAGED),
    (BUNDLE, ("manifest.json", "config.json", "wts.h5"), NO_BUNDLE),
):
    for _member in _members:
        for _method, _by in (
            ("deflated", zipfile.ZIP_DEFLATED),
            ("packed by bz2", zipfile.ZIP_BZIP2),
            ("packed by lzma", zipfile.ZIP_LZMA),
        ):
            _archive(_backend, f"{_member} {_method}", _reason, _packed(_member, _by))
        _archive(_backend, f"{_member} encrypted", _reason, _patched(_member, 8, 1))
        _archive(_backend, f"{_member} of unknown packing", _reason, _patched(_member, 10, 77))
        _archive(_backend, f"{_member} of another length", _reason, _patched(_member, 24, 5))
        if _member != "m/byteorder":
            _archive(_backend, f"{_member} missing", _reason, _without(_member))
    _archive(_backend, "empty", _reason, lambda path, entries: path.write_bytes(b""))
    _archive(_backend, "empty archive", _reason, lambda path, entries: _write(path, {}))
    _archive(_backend, "no archive", _reason, lambda path, entries: path.write_bytes(b"PK\x05\x06" * 999))
for _member in ("m/data.pkl", "m/data/0", "m/byteorder"):
    _archive(CKPT, f"{_member} twice", DAMAGED, _twice(_member))
_archive(BUNDLE, "manifest.json twice", "written by the engine 'pytorch'", _twice("manifest.json"))
_archive(CKPT, "two indices", DAMAGED, _with(n__data__pkl=b"", **{"n__data.pkl": b"."}))
_archive(CKPT, "of a big-endian machine", DAMAGED, _with(m__byteorder=b"big"))


def _bomb(entry: str, size: int) -> Callable[[Path, Entries], None]:
    return lambda path, entries: _write(
        path, entries | {entry: bytes(size)}, packed=entry, by=zipfile.ZIP_DEFLATED
    )


WEIGHTS = ("m/data/0", "wts.h5")
for _member in ("m/data.pkl", "m/byteorder", "m/data/0"):
    _archive(CKPT, f"{_member} explodes", DAMAGED, _bomb(_member, 2**28 if _member in WEIGHTS else 2**25))
for _member in ("manifest.json", "config.json", "wts.h5"):
    _archive(BUNDLE, f"{_member} explodes", NO_BUNDLE, _bomb(_member, 2**28 if _member in WEIGHTS else 2**25))


def _overlapping(path: Path) -> None:
    """Each of 200 storages holds the next ones, headers and all: 2 MB that stand for 400."""
    count, size, model = 200, 2 * 10**6, Model(CKPT)
    content, storages = _content(model)
    held = bytes(size)
    entries: list[tuple[str, int, int]] = []
    for number in reversed(range(count)):
        name = f"m/data/x{number:03d}"
        crc = zlib.crc32(held)
        entries.append((name, crc, len(held)))
        sizes = (crc, len(held), len(held), len(name), 0)
        header = struct.pack("<4s5H3I2H", b"PK\x03\x04", 20, 0, 0, 0, 33, *sizes)
        held = header + name.encode() + held
    many = {number: _storage("Char", f"x{number:03d}", 1) for number in range(count)}
    _write(path, {"m/data.pkl": _index({"x": many, **content}), **storages})
    with zipfile.ZipFile(path, "a") as archive:
        start = archive.start_dir
        assert archive.fp is not None
        archive.fp.seek(start)
        archive.fp.write(held)
        archive.start_dir = archive.fp.tell()
        # where each header begins: they follow one another, the outermost first
        step = (len(held) - size) // count
        vars(archive)["_didModify"] = True  # what writestr does
        for number in range(count):
            name, crc, length = entries[count - 1 - number]
            info = zipfile.ZipInfo(name)
            info.header_offset = start + number * step
            info.file_size = info.compress_size = length
            info.CRC = crc
            archive.filelist.append(info)
            archive.NameToInfo[name] = info


CASES["ckpt: overlapping entries"] = (DAMAGED, _overlapping)

# ---- bundles: HDF5


def _weights(name: str, reason: str, make: Callable[[h5py.File, str], object]) -> None:
    """Instead of the array ``good_pixels``."""

    def write(path: Path, entries: Entries) -> None:
        weights = io.BytesIO(entries["wts.h5"])
        with h5py.File(weights, "r+") as file:
            del file["good_pixels"]
            make(file, "good_pixels")
        _write(path, entries | {"wts.h5": weights.getvalue()})

    _archive(BUNDLE, name, reason, write)


def _soft(file: h5py.File, name: str) -> None:
    file[name] = h5py.SoftLink("/log_scale")


def _external(file: h5py.File, name: str) -> None:
    file[name] = h5py.ExternalLink("no/such/secret.h5", name)


def _virtual(file: h5py.File, name: str) -> None:
    layout = h5py.VirtualLayout((64, 64), "f4")
    layout[:] = h5py.VirtualSource("no/such/secret.h5", name, (64, 64))
    file.create_virtual_dataset(name, layout)


def _hard(file: h5py.File, name: str) -> None:
    file[name] = np.zeros(2**18, np.float32)
    for number in range(5000):
        file[f"{name}{number}"] = file[name]


def _chunk(file: h5py.File, name: str) -> None:
    """One chunk of 128 MB, for a few values: what it takes, deflated, may be what the values take."""
    file.create_dataset(name, (4,), "f4", chunks=(2**25,), maxshape=(None,), compression="gzip")[:] = 0


def _create(*arguments: Any, **options: Any) -> Callable[[h5py.File, str], object]:
    return lambda file, name: file.create_dataset(name, *arguments, **options)


NO_ARRAY, NOT_HELD = "good_pixels is no plain array", "good_pixels does not hold the values"
_weights("soft link", "good_pixels is a link", _soft)
_weights("external link", "good_pixels is a link", _external)
_weights("values in another file", NO_ARRAY, _create((64, 64), "f4", external=[("no/such/file", 0, 2**14)]))
_weights("virtual array", NO_ARRAY, _virtual)
_weights("group", NO_ARRAY, lambda file, name: file.create_group(name))
_weights("the root again", NO_ARRAY, lambda file, name: file.__setitem__(name, file["/"]))
_weights("type", NO_ARRAY, lambda file, name: file.__setitem__(name, np.dtype("f4")))
_weights("strings", NO_ARRAY, _create(data=["x"] * 3, dtype=h5py.string_dtype()))
_weights("string", NO_ARRAY, _create(data="x"))
_weights("ragged array", NO_ARRAY, _create((3,), dtype=h5py.vlen_dtype(np.float32)))
_weights("references", NO_ARRAY, _create((3,), dtype=h5py.ref_dtype))
_weights("compound", NO_ARRAY, _create(data=np.zeros(3, [("a", "f4"), ("b", "i4")])))
_weights("integers", NO_ARRAY, _create(data=np.zeros((64, 64), int)))
_weights("complex numbers", NO_ARRAY, _create(data=np.zeros((64, 64), complex)))
_weights("nothing", "does not describe|truncated", _create(data=h5py.Empty("f4")))
_weights("huge in chunks", NOT_HELD, _create((2**20, 2**20), "f4", chunks=(1024, 1024)))
_weights("size that wraps", NOT_HELD, _create((2**32, 2**32), "f4", chunks=(1, 1)))
_weights("huge and never written", NOT_HELD, _create((2**40,), "f4"))
_weights("deflated", NOT_HELD, _create(data=np.ones((2048, 2048), "f4"), compression="gzip"))
_weights("one huge chunk", NOT_HELD, _chunk)
_weights("many links to one array", "holds less than it declares", _hard)
_weights("name without end", NO_BUNDLE, lambda file, name: file.create_group("x" * 60_000))
_archive(
    BUNDLE, "weights that are no HDF5", NO_BUNDLE, _with(**{"wts.h5": b"\x89HDF\r\n\x1a\n" + bytes(999)})
)

# ---- bundles: JSON
for _name, _text in {
    "nothing": b"",
    "null": b"null",
    "list": b"[1, 2]",
    "no text": b"\xff\xfe",
    "empty": b"{}",
    "deep list": b"[" * 500_000,
    "deep object": b'{"a":' * 100_000,
    "many lists": b'{"a":[' + b"[]," * 330_000 + b"[]]}",
    "digits without end": b'{"a":1' + b"0" * 900_000 + b"}",
    "too large": b" " * (2**20 + 1),
}.items():
    for _member in ("manifest.json", "config.json"):
        _archive(BUNDLE, f"{_member}: {_name}", NO_BUNDLE + "|does not describe", _with(**{_member: _text}))


def _manifest(name: str, reason: str, **texts: str) -> None:
    """JSON that Python does not write."""

    def write(path: Path, entries: Entries) -> None:
        about = json.loads(entries["manifest.json"]) | dict.fromkeys(texts, "?")
        text = json.dumps(about)
        for key, value in texts.items():
            text = text.replace(f'"{key}": "?"', f'"{key}": {value}')
        _write(path, entries | {"manifest.json": text.encode()})

    _archive(BUNDLE, name, reason, write)


_manifest("infinite format", "does not describe", format="1e999")
_manifest("format that is no number", "does not describe", format="NaN")
_manifest("format of many digits", "newer", format="1" + "0" * 4000)
_manifest("huge losses", "does not describe", history='{"train_loss": [1' + "0" * 400 + "]}")

# ---- both: what is described, and by what arrays
NONSENSE = "does not describe"


def _about(**changes: Any) -> Callable[[Model], None]:
    return lambda model: model.about.update(changes)


def _config(section: str, **changes: Any) -> Callable[[Model], None]:
    return lambda model: model.configs[section].update(changes)


def _newer(section: str) -> Callable[[Model], None]:
    def change(model: Model) -> None:
        model.about["version"] = "7.1"
        model.configs[section]["horizon"] = 3

    return change


def _array(name: str, array: NDArray[Any]) -> Callable[[Model], None]:
    return lambda model: model.arrays.update({name: array})


_both("newer format", "99.*pip install --upgrade", _about(format=99))
_both("format of many digits in a string", "newer", _about(format="9" * 4000))
_both("format in words", NONSENSE, _about(format="new " * 9999))
_both("format that is a list", NONSENSE, _about(format=[1]))
_both("engine without end", "written by the engine", _about(backend="x" * 99_999))
_both("of no known engine", "written by the engine", _about(backend={"a": 1}))
_both("losses that are a number", NONSENSE, _about(history={"train_loss": 1}))
_both("losses that are a string", NONSENSE, _about(history={"train_loss": "123"}))
_both("losses that are strings", NONSENSE, _about(history={"train_loss": ["x" * 9999]}))
_both("history that is a number", NONSENSE, _about(history=3))
_both("no version", NONSENSE, lambda model: model.about.pop("version"))
_both("of the other engine", "written by the engine", _about(backend="abacus"))


def _lacking(section: str) -> Callable[[Model], object]:
    return lambda model: model.configs.pop(section)


def _with_null(section: str) -> Callable[[Model], object]:
    null: Any = None
    return lambda model: model.configs.update({section: null})


for _section in ("model_config", "data_config", "training_config"):
    _both(f"no {_section}", NONSENSE, _lacking(_section))
    _both(f"{_section} is null", NONSENSE, _with_null(_section))
    _both(
        f"{_section} of a newer version",
        rf"this version \({own_version()}\).*Config\.'horizon'.*newer.*\(7\.1\).*pip install --upgrade",
        _newer(_section),
    )
    _both(f"{_section} with a long name", NONSENSE, _config(_section, **{"x" * 99_999: 1}))
    _both(f"{_section} with many", NONSENSE, _config(_section, **{f"x{n}": 1 for n in range(9999)}))
_both("size of 65", NONSENSE, _config("model_config", N=65))
_both("gridsize in many words", NONSENSE, _config("model_config", gridsize="two " * 9999))
_both("gridsize that is a list", NONSENSE, _config("model_config", gridsize=[2] * 9999))
_both("training of no model", NONSENSE, _config("training_config", model=5))
_both("no finite scale", NONSENSE, _config("data_config", input_scale=math.nan))
_both("scale beyond floats", NONSENSE, _config("data_config", input_scale=10**60 + 1, N=10**60))
_both("absurd n_filters_scale", "fewer weights", _config("model_config", n_filters_scale=10**6))
_both("absurder n_filters_scale", "fewer weights", _config("model_config", n_filters_scale=10**70))
_both("large n_filters_scale", "fewer weights", _config("model_config", n_filters_scale=100))
_both("absurd gridsize", "fewer weights", _config("model_config", architecture="cnn", gridsize=10**6))
_both("absurd probe_modes", "probe_planes .* is not of the shape", _config("data_config", probe_modes=10**9))
_both("absurd smoothing", "smooths", _config("model_config", gaussian_smoothing_sigma=1e12))
_both("absurder smoothing", "smooths", _config("model_config", gaussian_smoothing_sigma=1e300))
for _value in (math.nan, math.inf, -math.inf):
    _both(
        f"weights that are {_value}",
        "other than finite",
        _array("good_pixels", np.full(4, _value, np.float32)),
    )
_both(
    "weights that are whole numbers", "other than finite", _array("good_pixels", np.ones(4, np.int64)), CKPT
)
_both("weights that are flags", "other than finite", _array("good_pixels", np.ones(4, bool)), CKPT)
_both("no probe", NONSENSE, lambda model: model.arrays.pop("probe_planes"))
_both("no arrays", NONSENSE, lambda model: model.arrays.clear())
_both("probe of another shape", "not of the shape", _array("probe_planes", np.ones((64, 64, 2), np.float32)))
_both("long name", "other than finite|does not", _array("x" * 9999, np.full((), math.nan, np.float32)))
_DEEP = b"]" * 99_999 + b"a" * 99_998
_both("no weights but deep", NONSENSE, lambda model: model.arrays.update(log_scale=_DEEP), CKPT)

# ---------------------------------------------------------------------- looking at all of them

_LOOK = """
import json, resource, sys, time
from pathlib import Path
from ptychopinn_ptychodus.backends.base import ModelFileError
from ptychopinn_ptychodus.backends.registry import get_engine, guess_engine
import h5py, numpy

resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30,) * 2)
engines = {name: get_engine(name) for name in ("pytorch", "tensorflow")}

def attempt(function, path):
    try:
        result = function(path)
    except ModelFileError as exc:
        return {"message": str(exc)}
    except BaseException as exc:
        return {"escaped": repr(exc)[:300]}
    if hasattr(result, "arrays"):
        return {"finite": all(bool(numpy.isfinite(a).all()) for a in result.arrays.values())}
    return {"answer": getattr(result, "name", result)}

def memory(peak):  # MiB, now or at most since the last call
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    if not peak:
        Path("/proc/self/clear_refs").write_text("5")
    return int(lines["VmHWM" if peak else "VmRSS"].split()[0]) / 1024

for line in sys.stdin:
    path, start, before = Path(line.strip()), time.process_time(), memory(False)
    found = {}
    for name, engine in engines.items():
        recognises = attempt(engine.recognises, path)
        found[name] = {"recognises": recognises, "read": attempt(engine.read_state, path)}
    found["guess"] = attempt(guess_engine, path)
    found["seconds"], found["memory"] = time.process_time() - start, memory(True) - before
    found["imported"] = [name for name in ("torch", "tensorflow", "keras") if name in sys.modules]
    print(json.dumps(found), flush=True)
"""


def _look(paths: list[Path], seconds: float) -> list[dict[str, Any] | str]:
    """What a process with little memory says about each file; a string for one that it did not survive."""
    found: list[dict[str, Any] | str] = []
    while len(found) < len(paths):
        left = "".join(f"{path}\n" for path in paths[len(found) :])
        try:
            done = subprocess.run(
                [sys.executable, "-c", _LOOK],
                input=left.encode(),
                capture_output=True,
                timeout=seconds,
                check=False,
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
            output, end = done.stdout, f"it died ({done.returncode}): {done.stderr.decode()[-2000:]}"
        except subprocess.TimeoutExpired as exc:
            output, end = exc.stdout or b"", f"it took more than {seconds} s"
        lines = output.decode().splitlines()
        found += map(json.loads, lines)
        if len(found) < len(paths):
            found.append(end)
            assert sum(isinstance(each, str) for each in found) < 4, found[-1]
    return found


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    directory = tmp_path_factory.mktemp("hostile")
    paths = [directory / f"{number}.model" for number in range(len(CASES))]
    for path, (_, write) in zip(paths, CASES.values(), strict=True):
        write(path)
    found = _look(paths, 600.0)
    yield {name: (path, each) for name, path, each in zip(CASES, paths, found, strict=True)}
    for path in paths:
        path.unlink()


@pytest.mark.parametrize("name", CASES)
def test_hostile_file_ends_quickly_in_a_short_message_that_names_it(
    looked: dict[str, Any], name: str
) -> None:
    path, found = looked[name]
    reason, _ = CASES[name]
    assert isinstance(found, dict), f"whoever looks at {name!r} does not survive: {found}"
    writer, other = (CKPT, BUNDLE) if name.startswith("ckpt") else (BUNDLE, CKPT)
    assert found["seconds"] < MOST_SECONDS
    assert found["memory"] < MOST_MEMORY
    assert found["imported"] == []
    for engine in (CKPT, BUNDLE):
        assert found[engine]["recognises"] in ({"answer": True}, {"answer": False})
    messages = [found[other]["read"]["message"]]
    guess = found["guess"]
    messages += [guess["message"]] if "message" in guess else []
    if reason is None:
        assert guess == {"answer": writer}
        assert found[writer]["read"] == {"finite": True}
    else:
        assert "message" in guess or guess == {"answer": writer}
        messages.append(found[writer]["read"]["message"])
        assert re.search(reason, messages[-1], re.DOTALL), messages[-1][:LONGEST_MESSAGE]
    for message in messages:
        assert str(path) in message
        assert len(message.replace(str(path), "")) < LONGEST_MESSAGE
        assert "MemoryError" not in message


# ---------------------------------------------------------------------- code


class _Careless(pickle.Unpickler):
    """As if one unpickled such a file; tensors apart."""

    def find_class(self, module: str, name: str) -> Any:
        return super().find_class(module, name) if module.split(".")[0] != "torch" else lambda *_: None

    def persistent_load(self, pid: Any) -> None:
        return None


@pytest.mark.parametrize("place", ["beside", "weights", "configuration", "manifest"])
def test_reading_runs_no_code_from_the_file(tmp_path: Path, place: str) -> None:
    path, trap = tmp_path / "model.ckpt", tmp_path / "trap"
    code = pickle.dumps(trap, 2)[2:-1] + b"0" + _global("os", "mkdir") + _pickled((str(trap),)) + b"R"
    model = Model(CKPT)
    content, storages = _content(model)
    where = {
        "beside": content,
        "weights": content["state_dict"],
        "configuration": content["hyper_parameters"],
        "manifest": content["ptychopinn_ptychodus"],
    }[place]
    index = _index({"x": code, **content})
    if place != "beside":
        where["x"] = code
        index = _index(content)
    _write(path, {"m/data.pkl": index, **storages})
    assert guess_engine(path).name == CKPT
    for name in (CKPT, BUNDLE):
        with pytest.raises(ModelFileError, match=r"model\.ckpt"):
            get_engine(name).read_state(path)
    assert not trap.exists()
    _Careless(io.BytesIO(index)).load()
    assert trap.exists(), "the crafted file is harmless, so this test shows nothing"


# ---------------------------------------------------------------------- damage at random

THOROUGH = settings(max_examples=150, deadline=None, derandomize=True, database=None)
"""The same examples every time: what they do to HDF5's own code is not for us to find out."""


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, bytes]]:
    """Of each engine, where to write a file, and the content of one without flaws."""
    directory = tmp_path_factory.mktemp("damaged")
    files = {}
    for name in (CKPT, BUNDLE):
        path = directory / name
        Model(name).write(path)
        files[name] = (path, path.read_bytes())
    return files


def _outcome(function: Callable[[Path], Any], path: Path) -> Any:
    try:
        return function(path)
    except ModelFileError as exc:
        return str(exc)


def _survives(path: Path, name: str) -> bool:
    """Whether the file opens, to finite arrays; it may as well be refused, but nothing else."""
    for engine in (CKPT, BUNDLE):
        assert get_engine(engine).recognises(path) in (True, False)
    result = _outcome(get_engine(name).read_state, path)
    for outcome in (result, _outcome(guess_engine, path)):
        if isinstance(outcome, str):
            assert str(path) in outcome
            assert len(outcome) < LONGEST_MESSAGE + len(str(path))
    if isinstance(result, str):
        return False
    assert all(np.isfinite(array).all() for array in result.arrays.values())
    return True


@pytest.mark.parametrize("name", [CKPT, BUNDLE])
@given(data=st.data())
@THOROUGH
def test_truncated_file_is_refused(intact: dict[str, tuple[Path, bytes]], name: str, data: Any) -> None:
    path, content = intact[name]
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    assert not _survives(path, name)
    assert not get_engine(name).recognises(path)


@pytest.mark.parametrize("name", [CKPT, BUNDLE])
@given(data=st.data())
@THOROUGH
def test_file_with_a_wrong_byte_is_refused_or_harmless(
    intact: dict[str, tuple[Path, bytes]], name: str, data: Any
) -> None:
    path, content = intact[name]
    # half of them near the end, in the archive's directory, which is little beside the weights
    from_end = data.draw(st.integers(1, len(content)) | st.integers(1, 2500))
    damaged = bytearray(content)
    damaged[-from_end] ^= data.draw(st.integers(1, 255))
    path.write_bytes(damaged)
    _survives(path, name)


@given(data=st.data())
@THOROUGH
def test_text_with_a_wrong_byte_is_refused_or_harmless(
    intact: dict[str, tuple[Path, bytes]], data: Any
) -> None:
    path, _ = intact[BUNDLE]
    entries = _entries(Model(BUNDLE))
    member = data.draw(st.sampled_from(["manifest.json", "config.json"]))
    text = bytearray(entries[member])
    text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    _write(path, entries | {member: bytes(text)})
    _survives(path, BUNDLE)


@pytest.mark.parametrize(("name", "member"), [(CKPT, "m/data.pkl"), (BUNDLE, "wts.h5")])
def test_structure_with_wrong_bytes_is_refused_or_harmless(tmp_path: Path, name: str, member: str) -> None:
    """The archive says that all is well; in a process that reading beyond an array may kill."""
    entries, rng = _entries(Model(name)), np.random.default_rng(3)
    content = entries[member]
    held = np.frombuffer(content, np.uint8)
    # in HDF5, not among the weights, which are ones
    weights = content.find(np.ones(64, np.float32).tobytes())
    structure = np.flatnonzero(held[: weights if weights > 0 else None])
    paths = []
    for number in range(250):
        damaged = bytearray(content)
        for at in rng.choice(structure, rng.integers(1, 4)):
            damaged[at] = rng.integers(256)
        paths.append(tmp_path / f"{number}")
        _write(paths[-1], entries | {member: bytes(damaged)})
    refused = 0
    for path, found in zip(paths, _look(paths, 600.0), strict=True):
        assert isinstance(found, dict), found
        assert found["seconds"] < MOST_SECONDS
        assert found["memory"] < MOST_MEMORY
        read = found[name]["read"]
        refused += "message" in read
        assert read == {"finite": True} or str(path) in read["message"]
    assert 20 < refused < 250
