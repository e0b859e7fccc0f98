"""Structured changes to the files that this package reads: accidents, and what is done on purpose.

Each function draws from a generator, so that a seed repeats it, changes one file, and says how.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

Rng = np.random.Generator
Array = NDArray[Any]


def pick(rng: Rng, options: Any) -> Any:
    """One of ``options``, as it is: numpy would make an array of them."""
    options = list(options)
    return options[int(rng.integers(len(options)))]


# ---------------------------------------------------------------------- any file


def _truncate(rng: Rng, content: bytes) -> bytes:
    return content[: int(rng.integers(0, max(1, len(content))))]


def _flip_bits(rng: Rng, content: bytes) -> bytes:
    damaged = bytearray(content)
    # half of them where the structure is: near the beginning or the end
    near = bool(rng.integers(2))
    for _ in range(int(rng.integers(1, 40))):
        at = int(rng.integers(min(3000, len(content)) if near else len(content)))
        damaged[at if rng.integers(2) else -at - 1] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def _zero_run(rng: Rng, content: bytes) -> bytes:
    start = int(rng.integers(len(content)))
    return content[:start] + bytes(min(512, len(content) - start)) + content[start + 512 :]


def _insert(rng: Rng, content: bytes) -> bytes:
    start = int(rng.integers(len(content)))
    return content[:start] + rng.bytes(int(rng.integers(1, 64))) + content[start:]


BYTES: dict[str, Callable[[Rng, bytes], bytes]] = {
    "truncated": _truncate,
    "bits flipped": _flip_bits,
    "a run of zeros": _zero_run,
    "bytes inserted": _insert,
    "empty": lambda rng, content: b"",
    "random bytes": lambda rng, content: rng.bytes(4096),
    "garbage in front": lambda rng, content: rng.bytes(512) + content,
    "garbage behind": lambda rng, content: content + rng.bytes(70000),
    "as text": lambda rng, content: content.hex().encode(),
    "text": lambda rng, content: b"<html><body>404 Not Found</body></html>\n",
    "first kilobyte repeated": lambda rng, content: content[:1024] * 20,
}


def _directory(path: Path) -> None:
    path.mkdir()


def _dangling(path: Path) -> None:
    path.symlink_to(path.parent / "gone")


def _link_loop(path: Path) -> None:
    path.symlink_to(path.name)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


PLACES: dict[str, Callable[[Path], None]] = {
    "a directory": _directory,
    "a dangling link": _dangling,
    "a link to itself": _link_loop,
    "a named pipe": _pipe,
    "a device": _device,
    "missing": lambda path: None,
}


def damage(rng: Rng, path: Path) -> str:
    """Change the bytes of a file, or put something else in its place."""
    if rng.random() < 0.2:
        what = pick(rng, PLACES)
        path.unlink()
        PLACES[what](path)
    else:
        what = pick(rng, BYTES)
        path.write_bytes(BYTES[what](rng, path.read_bytes()))
    return str(what)


# ---------------------------------------------------------------------- arrays


def _sprinkle(rng: Rng, array: Array, value: Any) -> Array:
    """``value`` at a few places, in the array's own type where that can hold it."""
    changed = np.array(array, copy=True)
    if changed.dtype.kind not in "fc":
        changed = changed.astype(np.float64)
    flat = changed.reshape(-1)
    if flat.size:
        flat[rng.integers(flat.size, size=int(rng.integers(1, 1 + max(1, flat.size // 50))))] = value
    return changed


def _scaled(array: Array, factor: float) -> Array:
    with np.errstate(all="ignore"):
        return np.asarray(array * factor, dtype=np.result_type(array.dtype, np.float64))


def _first(array: Array, count: int) -> Array:
    return array[:count] if array.ndim else array


def _retyped(array: Array, dtype: Any) -> Array:
    with np.errstate(all="ignore"):
        values = array.real if np.dtype(dtype).kind not in "cOSU" and array.dtype.kind == "c" else array
        return np.asarray(values).astype(dtype)


SHAPES: dict[str, Callable[[Rng, Array], Any]] = {
    "no entries": lambda rng, a: _first(a, 0),
    "one entry": lambda rng, a: _first(a, 1),
    "three entries": lambda rng, a: _first(a, 3),
    "one entry fewer": lambda rng, a: a[:-1] if a.ndim else a,
    "entries twice": lambda rng, a: np.concatenate([a, a]) if a.ndim else a,
    "first entry only, without its axis": lambda rng, a: a[0] if a.ndim and len(a) else a,
    "one axis more": lambda rng, a: a[None],
    "one axis more at the end": lambda rng, a: a[..., None],
    "flat": lambda rng, a: a.reshape(-1),
    "a single number": lambda rng, a: a.reshape(-1)[0] if a.size else a,
    "axes reversed": lambda rng, a: a.T,
    "last axis cropped": lambda rng, a: a[..., : max(1, a.shape[-1] // 2)] if a.ndim else a,
    "last two axes cropped": lambda rng, a: a[..., :48, :48] if a.ndim > 1 else a,
    "last two axes doubled": lambda rng, a: a.repeat(2, -1).repeat(2, -2) if a.ndim > 1 else a,
    "last axis empty": lambda rng, a: a[..., :0] if a.ndim else a,
}
"""Other shapes of the same numbers."""

TYPES: dict[str, Callable[[Rng, Array], Any]] = {
    "as text": lambda rng, a: _retyped(a, "S8"),
    "as bool": lambda rng, a: _retyped(a, "bool"),
    "as complex": lambda rng, a: _retyped(a, "complex128"),
    "big-endian floats": lambda rng, a: _retyped(a, ">f8"),
    "big-endian whole numbers": lambda rng, a: _retyped(a, ">i4"),
    "float16": lambda rng, a: _retyped(a, "float16"),
    "float32": lambda rng, a: _retyped(a, "float32"),
    "int8": lambda rng, a: _retyped(a, "int8"),
    "uint64": lambda rng, a: _retyped(a, "uint64"),
    "longdouble": lambda rng, a: _retyped(a, "longdouble"),
}
"""Other types of the same numbers."""


def _constant(value: Any) -> Callable[[Rng, Array], Array]:
    return lambda rng, a: np.full(a.shape, value, np.result_type(a.dtype, np.min_scalar_type(value)))


VALUES: dict[str, Callable[[Rng, Array], Any]] = {
    "NaN here and there": lambda rng, a: _sprinkle(rng, a, np.nan),
    "infinite here and there": lambda rng, a: _sprinkle(rng, a, np.inf),
    "-1 here and there": lambda rng, a: _sprinkle(rng, a, -1),
    "1e30 here and there": lambda rng, a: _sprinkle(rng, a, 1e30),
    "NaN everywhere": _constant(np.nan),
    "0 everywhere": lambda rng, a: np.zeros_like(a),
    "1 everywhere": lambda rng, a: np.ones_like(a),
    "negated": lambda rng, a: -a.astype(np.result_type(a.dtype, np.int64)) if a.dtype.kind != "S" else a,
    "times 1e3": lambda rng, a: _scaled(a, 1e3),
    "times 1e9": lambda rng, a: _scaled(a, 1e9),
    "times 1e-3": lambda rng, a: _scaled(a, 1e-3),
    "times 1e-6": lambda rng, a: _scaled(a, 1e-6),
    "times 1e-9": lambda rng, a: _scaled(a, 1e-9),
    "times 1e30": lambda rng, a: _scaled(a, 1e30),
    "times 1e300": lambda rng, a: _scaled(a, 1e300),
    "times 1e-30": lambda rng, a: _scaled(a, 1e-30),
    "times 1e-300": lambda rng, a: _scaled(a, 1e-300),
    "the largest of its type": lambda rng, a: np.full(
        a.shape, np.iinfo(a.dtype).max if a.dtype.kind in "iu" else np.finfo(np.float64).max
    ),
    "noise": lambda rng, a: rng.normal(size=a.shape),
    "order reversed": lambda rng, a: a[::-1] if a.ndim else a,
    "order shuffled": lambda rng, a: rng.permutation(a) if a.ndim else a,
    "first one everywhere": lambda rng, a: np.repeat(a[:1], len(a), axis=0) if a.ndim and len(a) else a,
    "shifted by 1000": lambda rng, a: a.astype(np.float64).real + 1000 if a.dtype.kind != "c" else a + 1000,
    "negative numbers of the same size": lambda rng, a: -np.abs(a).astype(np.float64),
    "a gap": lambda rng, a: np.where(np.arange(a.size).reshape(a.shape) < a.size // 2, a, a + 10**6),
    "every second one twice": lambda rng, a: np.repeat(a[::2], 2, axis=0)[: len(a)] if a.ndim else a,
    "beyond 2**53": lambda rng, a: np.full(a.shape, 2**62, np.int64),
}
"""Other numbers of the same shape."""

ARRAYS = {**SHAPES, **TYPES, **VALUES}


def changed_array(rng: Rng, array: Array) -> tuple[Array, str]:
    """An array that is changed, and how."""
    what = pick(rng, pick(rng, (SHAPES, TYPES, VALUES, VALUES)))
    return np.asarray(ARRAYS[what](rng, np.asarray(array))), what


# ---------------------------------------------------------------------- HDF5


def _datasets(file: h5py.File) -> list[str]:
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return sorted(names)


def _replace(file: h5py.File, name: str, value: Any) -> None:
    attributes = dict(file[name].attrs)
    del file[name]
    file[name] = value
    for key, held in attributes.items():
        file[name].attrs[key] = held


def _array(rng: Rng, file: h5py.File, name: str) -> str:
    array, what = changed_array(rng, file[name][()])
    if array.dtype.kind == "U":
        array = array.astype("S")
    _replace(file, name, array)
    return str(what)


def _to_group(rng: Rng, file: h5py.File, name: str) -> str:
    del file[name]
    file.create_group(name).create_dataset("data", data=[1, 2, 3])
    return "is a group"


def _to_strings(rng: Rng, file: h5py.File, name: str) -> str:
    _replace(file, name, np.array(["one", "two", "ünïcode"] * 4, dtype=h5py.string_dtype()))
    return "texts of any length"


def _to_empty(rng: Rng, file: h5py.File, name: str) -> str:
    _replace(file, name, h5py.Empty("f4"))
    return "an empty dataspace"


def _to_records(rng: Rng, file: h5py.File, name: str) -> str:
    _replace(file, name, np.zeros(16, dtype=[("x", "f8"), ("y", "i4")]))
    return "records"


def _to_references(rng: Rng, file: h5py.File, name: str) -> str:
    _replace(file, name, np.array([file.ref] * 16, dtype=h5py.ref_dtype))
    return "object references"


def _giant(rng: Rng, file: h5py.File, name: str) -> str:
    """A few hundred bytes that claim to be tens of gigabytes."""
    dataset = file[name]
    attributes, shape, dtype = dict(dataset.attrs), dataset.shape, dataset.dtype
    del file[name]
    shape = (int(pick(rng, (10**7, 10**9, 10**12))), *shape[1:])
    new = file.create_dataset(name, shape, dtype, chunks=(1, *shape[1:]), compression="gzip")
    for key, held in attributes.items():
        new.attrs[key] = held
    return f"of shape {shape}, nothing written"


def _delete(rng: Rng, file: h5py.File, name: str) -> str:
    del file[name]
    return "deleted"


def _rename(rng: Rng, file: h5py.File, name: str) -> str:
    file.move(name, name.upper() if rng.integers(2) else f"entry/{name}")
    return "renamed"


def _link(target: Callable[[str], Any]) -> Callable[[Rng, h5py.File, str], str]:
    def change(rng: Rng, file: h5py.File, name: str) -> str:
        del file[name]
        link = target(name)
        file[name] = link
        return f"a link to {getattr(link, 'filename', '')}:{link.path}"

    return change


def _virtual(rng: Rng, file: h5py.File, name: str) -> str:
    shape, dtype = file[name].shape, file[name].dtype
    attributes = dict(file[name].attrs)
    del file[name]
    layout = h5py.VirtualLayout(shape, dtype)
    layout[...] = h5py.VirtualSource("gone.h5", "data", shape, dtype)
    new = file.create_virtual_dataset(name, layout, fillvalue=pick(rng, (0, 1)))
    for key, held in attributes.items():
        new.attrs[key] = held
    return "virtual, its source missing"


DATASETS: dict[str, Callable[[Rng, h5py.File, str], str]] = {
    "group": _to_group,
    "strings": _to_strings,
    "empty": _to_empty,
    "records": _to_records,
    "references": _to_references,
    "giant": _giant,
    "delete": _delete,
    "rename": _rename,
    "soft link to itself": _link(lambda name: h5py.SoftLink(f"/{name}")),
    "dangling soft link": _link(lambda name: h5py.SoftLink("/no/such/place")),
    "external link to nothing": _link(lambda name: h5py.ExternalLink("gone.h5", f"/{name}")),
    "external link to itself": _link(lambda name: h5py.ExternalLink("diffraction.h5", f"/{name}")),
    "external link outside": _link(lambda name: h5py.ExternalLink("/etc/hostname", f"/{name}")),
    "external link to the other file": _link(lambda name: h5py.ExternalLink("product.h5", "/object")),
    "virtual": _virtual,
}

ATTRIBUTES: dict[str, Callable[[Any], Any]] = {
    "text": lambda v: "many",
    "an array": lambda v: [1.0, 2.0, 3.0],
    "empty": lambda v: h5py.Empty("f8"),
    "NaN": lambda v: np.nan,
    "infinite": lambda v: np.inf,
    "0": lambda v: 0.0,
    "negated": lambda v: -v,
    "true": lambda v: True,
    "complex": lambda v: 1j,
    "bytes": lambda v: np.bytes_(b"\xff\xfe"),
    "times 1e-9": lambda v: v * 1e-9,
    "times 1e-6": lambda v: v * 1e-6,
    "times 1e-3": lambda v: v * 1e-3,
    "times 1e3": lambda v: v * 1e3,
    "times 1e6": lambda v: v * 1e6,
    "times 1e9": lambda v: v * 1e9,
    "times 1e300": lambda v: v * 1e300,
    "times 1e-300": lambda v: v * 1e-300,
}


def _attribute(rng: Rng, holder: Any) -> str:
    key = pick(rng, sorted(holder.attrs))
    where = f"attribute {holder.name}@{key}"
    if rng.random() < 0.2:
        del holder.attrs[key]
        return f"{where}: deleted"
    what = pick(rng, ATTRIBUTES)
    held = holder.attrs[key]
    held = held if isinstance(held, (int, float, np.number)) else 1.0
    holder.attrs[key] = ATTRIBUTES[what](held)
    return f"{where}: {what}"


def _photons(rng: Rng, file: h5py.File) -> str:
    """Counts of photons per position, which both files may hold."""
    count = len(file["patterns" if "patterns" in file else "probe_position_x_m"])
    array, what = changed_array(rng, np.full(count, 1e6))
    if array.dtype.kind in "SU":
        array = array.astype("S")
    if "probe_photon_counts" in file:
        del file["probe_photon_counts"]
    file["probe_photon_counts"] = array
    return f"probe_photon_counts added: {what}"


def _layers(rng: Rng, file: h5py.File) -> str:
    if "object" not in file:
        return _photons(rng, file)
    _replace(file, "object", np.repeat(file["object"][()], 2, axis=0))
    spacing = pick(rng, ([1e-6], [], [np.nan], [-1.0], [0.0, 1.0]))
    _replace(file, "object_layer_spacing_m", np.asarray(spacing, float))
    return f"an object of two layers, {spacing} apart"


def _weights(rng: Rng, file: h5py.File) -> str:
    if "probe" not in file:
        return _photons(rng, file)
    count = len(file["probe_position_x_m"])
    _replace(file, "probe", np.repeat(file["probe"][()].reshape(1, -1, *file["probe"].shape[-2:]), 2, axis=0))
    array, what = changed_array(rng, np.full((count, 2), 0.5))
    if array.dtype.kind in "SU":
        array = array.astype("S")
    file["opr_weights"] = array
    return f"a probe of two OPR modes, weights: {what}"


def _far_field(rng: Rng, file: h5py.File) -> str:
    value = pick(rng, (False, 0, "no", -1.0))
    file.attrs["far_field"] = value
    return f"far_field = {value!r}"


SPECIAL = (_photons, _layers, _weights, _far_field)


def mutate_hdf5(rng: Rng, path: Path) -> str:
    """One or two changes to the content of an HDF5 file."""
    said = []
    for _ in range(1 + int(rng.random() < 0.15)):
        with h5py.File(path, "r+") as file:
            names = _datasets(file)
            attributed = [item for item in (file, *(file[name] for name in names)) if len(item.attrs)]
            draw = rng.random()
            name = None
            try:
                if draw < 0.2 and attributed:
                    said.append(_attribute(rng, pick(rng, attributed)))
                elif draw < 0.3 and {"indexes", "probe_position_x_m"} & set(names):
                    said.append(pick(rng, SPECIAL)(rng, file))
                else:
                    name = pick(rng, names)
                    change = _array if draw < 0.75 else DATASETS[pick(rng, DATASETS)]
                    said.append(f"{name}: {change(rng, file, name)}")
            except (TypeError, ValueError, IndexError, KeyError, OverflowError) as exc:
                # the change has no meaning for this one, or the first change took away what it is made of
                said.append(f"{name or 'file'}: left as it was ({type(exc).__name__})")
    return "; ".join(said)


# ---------------------------------------------------------------------- zip archives


class Trap:
    """Unpickled, it makes a file: whoever finds that file knows that code has run."""

    def __init__(self, canary: Path) -> None:
        self._canary = str(canary)

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (self._canary, "w")


Entries = dict[str, bytes]


def read_entries(path: Path) -> Entries:
    """The content of an archive by name."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_entries(path: Path, entries: Mapping[str, bytes], *, packed: bool = False) -> None:
    """An archive of these entries."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def _duplicate(rng: Rng, path: Path, entries: Entries) -> str:
    name = pick(rng, entries)
    write_entries(path, entries)
    with zipfile.ZipFile(path, "a") as archive, __import__("warnings").catch_warnings(action="ignore"):
        archive.writestr(name, _flip_bits(rng, entries[name] or b"x"))
    return f"{name} twice"


def _absolute(rng: Rng, path: Path, entries: Entries) -> str:
    name = pick(rng, entries)
    other = pick(rng, ("/tmp/" + name, "../../" + name, "C:\\" + name, name + "\x00", "a" * 3000))
    write_entries(path, {other if key == name else key: value for key, value in entries.items()})
    return f"{name} is called {other[:40]!r}"


def _bomb(rng: Rng, path: Path, entries: Entries) -> str:
    name = pick(rng, entries)
    write_entries(path, {**entries, name: entries[name] + bytes(300_000_000)}, packed=True)
    return f"{name} with 300 MB of zeros behind"


def _flag(rng: Rng, path: Path, entries: Entries) -> str:
    """Fields of the archive's directory: encrypted, another method, other sizes."""
    write_entries(path, entries)
    content = bytearray(path.read_bytes())
    starts = [at for at in range(len(content) - 4) if content[at : at + 4] == b"PK\x01\x02"]
    at = pick(rng, starts)
    offset, form = pick(rng, ((8, "<H"), (10, "<H"), (16, "<I"), (20, "<I"), (24, "<I"), (42, "<I")))
    value = int(pick(rng, (0, 1, 99, 65535, int(rng.integers(2**16)))))
    content[at + offset : at + offset + struct.calcsize(form)] = struct.pack(form, value)
    path.write_bytes(content)
    return f"field {offset} of an entry is {value}"


def _no_entry(rng: Rng, path: Path, entries: Entries) -> str:
    name = pick(rng, entries)
    write_entries(path, {key: value for key, value in entries.items() if key != name})
    return f"without {name}"


def _wrong_entry(rng: Rng, path: Path, entries: Entries) -> str:
    name = pick(rng, entries)
    what = pick(rng, BYTES)
    write_entries(path, {**entries, name: BYTES[what](rng, entries[name] or b"x")})
    return f"{name}: {what}"


def _more_entries(rng: Rng, path: Path, entries: Entries) -> str:
    more = {f"more/{number}": b"" for number in range(int(pick(rng, (1, 3000))))}
    write_entries(path, {**entries, **more})
    return f"{len(more)} more entries"


def _swapped_entries(rng: Rng, path: Path, entries: Entries) -> str:
    first, second = pick(rng, entries), pick(rng, entries)
    write_entries(path, {**entries, first: entries[second], second: entries[first]})
    return f"{first} and {second} swapped"


ARCHIVES = (
    _duplicate,
    _absolute,
    _bomb,
    _flag,
    _no_entry,
    _wrong_entry,
    _wrong_entry,
    _more_entries,
    _swapped_entries,
)


def mutate_archive(rng: Rng, path: Path) -> str:
    """One change to a zip archive, whatever it holds."""
    return str(pick(rng, ARCHIVES)(rng, path, read_entries(path)))


# ---------------------------------------------------------------------- NPZ


def _npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def _header(rng: Rng, content: bytes) -> bytes:
    """The header of an array says something else than what follows."""
    array = np.load(io.BytesIO(content), allow_pickle=False)
    rest = content[content.index(b"\n", 10) + 1 :]
    shape: Any = array.shape
    descr: Any = array.dtype.str
    draw = int(rng.integers(8))
    if draw == 0:
        shape = (10 ** int(pick(rng, (7, 9, 15))), *shape[1:])
    elif draw == 1:
        shape = tuple(-n for n in shape)
    elif draw == 2:
        descr = pick(rng, ("|O", "<M8[ns]", "<U99999999", "|V8", "nonsense", "<f2", ">f8", "<c16"))
    elif draw == 3:
        descr = [("x", "<f8"), ("y", "<i4")]
    elif draw == 4:
        shape = (2**63, 2**63)
    elif draw == 5:
        shape = (True, 2)
    elif draw == 6:
        shape = (*shape, 1)
    text = repr({"descr": descr, "fortran_order": bool(rng.integers(2)), "shape": shape})
    if draw == 7:
        text = "{'descr': __import__('os').getcwd(), 'fortran_order': False, 'shape': (1,)}"
    header = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + rest


def mutate_npz(rng: Rng, path: Path, canary: Path) -> str:
    """One or two changes to the arrays of an NPZ file."""
    entries = read_entries(path)
    said = []
    for _ in range(1 + int(rng.random() < 0.15)):
        name = pick(rng, entries)
        draw = rng.random()
        if draw < 0.6:
            array = np.load(io.BytesIO(entries[name]), allow_pickle=False)
            try:
                array, what = changed_array(rng, array)
            except (TypeError, ValueError, IndexError, OverflowError) as exc:
                what = f"left as it was ({type(exc).__name__})"
            entries[name] = _npy(array)
        elif draw < 0.68:
            del entries[name]
            what = "deleted"
        elif draw < 0.74:
            entries[name.upper()] = entries.pop(name)
            what = "renamed"
        elif draw < 0.8:
            entries[name] = _npy(np.array([Trap(canary), None], dtype=object))
            what = "objects, with code"
        elif draw < 0.84:
            entries[name] = pickle.dumps(Trap(canary))
            what = "a pickle, with code"
        elif draw < 0.9:
            entries["diff3d_domain.npy"] = _npy(
                np.asarray(pick(rng, ("counts", "nonsense", 3, "amplitude", "")))
            )
            what = "beside another diff3d_domain"
        else:
            entries[name] = _header(rng, entries[name])
            what = "another header"
        said.append(f"{name}: {what}")
        if not entries:
            break
    write_entries(path, entries, packed=bool(rng.integers(2)))
    return "; ".join(said)


# ---------------------------------------------------------------------- models


def mutate_checkpoint(rng: Rng, path: Path, canary: Path) -> str:
    """A change to a Lightning checkpoint: its index, its arrays, its archive."""
    entries = read_entries(path)
    index = next(name for name in entries if name.endswith("data.pkl"))
    draw = rng.random()
    if draw < 0.25:
        return mutate_archive(rng, path)
    if draw < 0.45:
        damaged = bytearray(entries[index])
        for _ in range(int(rng.integers(1, 4))):
            damaged[int(rng.integers(len(damaged)))] = int(rng.integers(256))
        write_entries(path, {**entries, index: bytes(damaged)})
        return f"{index}: bytes changed"
    if draw < 0.55:
        trap: Any = Trap(canary)
        trap = pick(rng, (trap, {"state_dict": trap}, {"state_dict": {}, "hyper_parameters": trap}))
        write_entries(path, {**entries, index: pickle.dumps(trap)})
        return f"{index}: code"
    if draw < 0.75:
        stored = [name for name in entries if "/data/" in name and len(entries[name]) >= 8]
        name = pick(rng, stored)
        value = pick(rng, (np.nan, np.inf, 1e30, -1e30, 0.0, 1e-40))
        numbers = np.frombuffer(entries[name][: len(entries[name]) // 4 * 4], np.float32).copy()
        with np.errstate(all="ignore"):
            numbers[: max(1, numbers.size // 2)] = value
        write_entries(path, {**entries, name: numbers.tobytes()})
        return f"{name}: {value}"
    return _with_torch(rng, path)


def _with_torch(rng: Rng, path: Path) -> str:
    """A checkpoint that PyTorch itself wrote, with other content."""
    import torch

    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    section = pick(rng, sorted(key for key, value in content.items() if isinstance(value, dict) and value))
    held = content[section]
    key = pick(rng, sorted(held, key=str))
    value = held[key]
    if isinstance(value, torch.Tensor):
        options: dict[str, Any] = {
            "other shape": torch.zeros(7),
            "half": value.half(),
            "whole numbers": value.long(),
            "complex": value.to(torch.complex64),
            "text": "a text",
            "nothing": None,
            "empty": torch.zeros(0),
            "transposed": value.T.contiguous() if value.ndim == 2 else value.flatten(),
            "1e20": torch.full_like(value, 1e20) if value.is_floating_point() else value + 10**6,
        }
    else:
        options = {name: other for name, other in JUNK.items() if name != "NaN" or isinstance(value, float)}
    if rng.random() < 0.2:
        what = "deleted"
        del held[key]
    else:
        what = pick(rng, options)
        held[key] = options[what]
    torch.save(content, path)
    return f"{section}.{key}: {what}"


JUNK: dict[str, Any] = {
    "text": "a text",
    "nothing": None,
    "negative": -1,
    "zero": 0,
    "huge": 10**30,
    "NaN": float("nan"),
    "infinite": float("inf"),
    "list": [1, 2, 3],
    "dictionary": {"a": {"b": 1}},
    "true": True,
    "fraction": 0.5,
    "7": 7,
}


def mutate_bundle(rng: Rng, path: Path) -> str:
    """A change to a bundle of weights: its archive, its JSON, its HDF5."""
    entries = read_entries(path)
    draw = rng.random()
    texts = sorted(name for name in entries if name.endswith(".json"))
    weights = sorted(name for name in entries if name.endswith(".h5"))
    if draw < 0.3 or not (texts and weights):
        return mutate_archive(rng, path)
    if draw < 0.65:
        name = pick(rng, texts)
        content = json.loads(entries[name])
        parents = [content]
        while children := [v for v in parents[-1].values() if isinstance(v, dict) and v]:
            parents.append(pick(rng, children))
        holder = pick(rng, parents)
        key = pick(rng, sorted(holder))
        if rng.random() < 0.2:
            del holder[key]
            what = "deleted"
        else:
            what = pick(rng, JUNK)
            holder[key] = JUNK[what]
        write_entries(path, {**entries, name: json.dumps(content).encode()})
        return f"{name}, {key}: {what}"
    name = pick(rng, weights)
    inner = path.with_name("inner.h5")
    inner.write_bytes(entries[name])
    try:
        what = mutate_hdf5(rng, inner)
        write_entries(path, {**entries, name: inner.read_bytes()})
    finally:
        inner.unlink()
    return f"{name}: {what}"


# ---------------------------------------------------------------------- settings

WORDS = (
    *(" ", "ten", "0", "-1", "1.5", "nan", "inf", "1e400", "True", "None", "0x10", "１２", "½"),
    *("%(x)s", "a\tb", "9" * 30, "9" * 400),
)
"""Values that most settings cannot have."""

SECTIONS = {
    "PtychoPINNPluginModel": (
        "Backend Architecture GridSize NumFiltersScale AmplitudeActivation ObjectBig ProbeBig PadObject "
        "ProbeMask ProbeScale GaussianSmoothingSigma"
    ),
    "PtychoPINNPluginData": "NumGroups NeighborCount NumSubsample Seed SequentialSampling ValidationFraction",
    "PtychoPINNPluginTraining": (
        "Epochs BatchSize LearningRate Scheduler MAEWeight NLLWeight RealspaceMAEWeight RealspaceWeight "
        "RealspaceAlignedWeight "
        "ProbeTrainable ProbeModes IntensityScaleTrainable EarlyStopPatience GradientClip Preview "
        "Accelerator Precision LoggerBackend"
    ),
    "PtychoPINNPluginInference": "BatchSize NumGroups",
    "PtychoPINNPluginRefinement": "Epochs Probe Positions Metric",
    "Processing": "Algorithm",
}
"""Of the plugin, and the one of Ptychodus that it reads. Without those whose large values only take long."""

_LONG = {"Epochs", "NumGroups"}
"""Settings of which large numbers are valid and take as long as they say."""


def setting(rng: Rng) -> tuple[str, str, str]:
    """Section, key and an odd value."""
    section = pick(rng, SECTIONS)
    key = pick(rng, SECTIONS[section].split())
    words = [word for word in WORDS if not (key in _LONG and word.startswith("9"))]
    return section, key, pick(rng, words)


def _with_setting(text: str, section: str, key: str, value: str) -> str:
    """The settings with ``key``, which they may have had already, in its section."""
    sections = {part.partition("]")[0]: part.splitlines()[1:] for part in text.split("[")[1:]}
    lines = [line for line in sections.get(section, []) if line.partition(" ")[0] != key]
    sections[section] = [f"{key} = {value}", *lines]
    return "\n".join("\n".join([f"[{name}]", *content]) for name, content in sections.items()) + "\n"


def mutate_settings(rng: Rng, path: Path) -> str:
    """A change to a settings file."""
    text = path.read_text(encoding="utf-8")
    section, key, value = setting(rng)
    draw = int(rng.integers(14))
    encoding = "utf-8"
    if draw < 5:
        text = _with_setting(text, section, key, value)
        what = f"{section}.{key} = {value[:40]!r}"
    elif draw == 5:
        text += f"\n[{section}]\n{key} = 1\n[{section}]\n{key} = 2\n"
        what = f"[{section}] twice"
    elif draw == 6:
        text += f"\n[Strange]\n{key} = 1\n{key.upper()} = 2\n"
        what = "an unknown section with a key twice"
    elif draw == 7:
        text = f"{key} = 1\n{text}"
        what = "a key before any section"
    elif draw == 8:
        text = f"\ufeff{text}"
        what = "a byte order mark"
    elif draw == 9:
        text = text.replace("[", "［").replace("]", "］")
        what = "full-width brackets"
    elif draw == 10:
        text += f"\n[DEFAULT]\n{key} = {value}\nUnknown = 1\n"
        what = f"[DEFAULT] {key} = {value[:40]!r}"
    elif draw == 11:
        text += "\n[PtychoPINNPluginTrainig]\nEpochs\n  1\n"
        what = "a key without a value"
    elif draw == 12:
        encoding = pick(rng, ("utf-16", "utf-32", "latin-1"))
        text += "\n# größer\n"
        what = f"in {encoding}"
    else:
        text = text.replace("\n", pick(rng, ("\r", "\x00", "\n\n ", "\u2028")))
        what = "other line ends"
    path.write_bytes(text.encode(encoding, "replace"))
    return str(what)
