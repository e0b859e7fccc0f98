"""What must hold whatever the input was."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from fuzz_cases import Case, digests
from fuzz_process import Ending

REFUSED, DONE, OTHERS = "refused", "done", "ended by Ptychodus"
FAULT = "FAULT"
LONGEST = 3000
"""Characters of an error message."""

_REMEDY = re.compile(
    r"\b(use|keep|choose|check|save|export|give|set|crop|pad|bin|train|make|remove|repair|mark|build|mend|"
    r"install|load|convert|reduce|copy|free|close|name|match|says how|write|replace|correct|delete)\b",
    re.IGNORECASE,
)
_SETTING = re.compile(r"PtychoPINNPlugin|--set|settings? ")
_KNOWN = {"ValueError", "RuntimeError", "OSError", "FileNotFoundError", "MemoryError", "ModelFileError"}
_KNOWN |= {"EngineUnavailableError", "ChildDiedError", "NoModelError", "ExaminationError", "PermissionError"}

_GEOMETRY = {
    "diffraction.h5": {"patterns": ("detector_pixel_width_m", "detector_pixel_height_m")},
    "product.h5": {
        "/": ("detector_object_distance_m", "photon_energy_eV"),
        "object": ("pixel_width_m", "pixel_height_m"),
        "probe": ("pixel_width_m", "pixel_height_m"),
    },
}
"""Attributes that have to be finite and above 0, by file and dataset."""


def judge(directory: Path, ending: Ending) -> tuple[Case, str, list[str]]:
    """The case, its outcome in a word or two, and what is wrong with it."""
    case = Case.load(directory / "case.json")
    said = _read(directory / "stderr")
    if case.stock:  # which logs to standard output
        said += _read(directory / "stdout")
    faults = []
    if ending.late:
        faults.append(f"still running after {ending.seconds:.0f} s")
    elif ending.code < 0:
        faults.append(f"ended by signal {-ending.code}")
    if (directory / "canary").exists():
        faults.append("code of a file has run")
    outcome = DONE if ending.code == 0 else REFUSED
    if not ending.late and ending.code > 0:
        if case.stock:
            outcome = _stock_outcome(said, faults)
        else:
            faults += _message_faults(case, directory, said, _read(directory / "stdout"))
    if ending.code == 0 and not case.stock and "Traceback" in said + _read(directory / "stdout"):
        faults.append("a traceback beside success")
    faults += _lost(case, directory, ending.code)
    if ending.code == 0:
        wrong = _wrong_result(case, directory)
        if wrong and case.stock and case.kind == "settings":
            outcome = OTHERS  # it goes on without them, and so with an algorithm that is not ours
        else:
            faults += wrong
        faults += _no_geometry(case, directory)
    if not ending.late and (left := [path.name for path in (directory / "tmp").iterdir()]):
        faults.append(f"temporary files are left: {left[:3]}")
    return case, FAULT if faults else outcome, faults


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _message_faults(case: Case, directory: Path, said: str, printed: str) -> list[str]:
    faults = []
    if "Traceback (most recent call last)" in said + printed:
        faults.append("a traceback")
    start = said.rfind("error: ") if said.startswith("error: ") else said.rfind("\nerror: ")
    if start < 0:
        return [*faults, "no error message"]
    message = said[start:].strip().removeprefix("error: ")
    if len(message) > LONGEST:
        faults.append(f"a message of {len(message)} characters")
    if "--debug" in message:
        faults.append("an error that nobody expected")
    if not _REMEDY.search(message):
        faults.append("no remedy")
    if not (str(directory) in message or _SETTING.search(message)):
        faults.append("no file and no setting is named")
    return faults


def _stock_outcome(said: str, faults: list[str]) -> str:
    """Whose error it was; a traceback that ends in this package is expected only with a message for users."""
    if "Traceback (most recent call last)" not in said:
        ours = re.findall(r"\[ERROR\] PtychoPINN-Plugin: (.*)", said)
        faults += ["no remedy"] if ours and not _REMEDY.search(ours[-1]) else []
        return REFUSED if ours else OTHERS
    last = said[said.rfind("Traceback (most recent call last)") :]
    frames = re.findall(r'^  File "(.+?)", line', last, re.MULTILINE)
    name = re.search(r"^([\w.]+)(?::|$)", last.split("\n", 1)[1], re.MULTILINE)
    kind = name[1].rpartition(".")[2] if name else "?"
    if frames and "ptychopinn_ptychodus" not in frames[-1]:
        return OTHERS
    if kind not in _KNOWN or not _REMEDY.search(last):
        faults.append(f"{kind} out of this package")
    return REFUSED


def _lost(case: Case, directory: Path, code: int) -> list[str]:
    """What was there before and is not any more."""
    now = digests(directory, "in", "out")
    changed = {name for name, digest in case.before.items() if now.get(name) != digest}
    if case.action == "reconstruct":
        folder = case.result.rpartition("/")[0]
        # whatever becomes of a refinement, the network's result is kept; it belongs to what is beside it
        network = {f"{folder}/{name}" for name in ("network.h5", "network.png")}
        if code == 0 or changed & network:  # the page about it is of what there is now
            changed -= {f"{folder}/{name}" for name in ("report.html", "reconstruction_record.json")}
        changed -= network
    if code == 0:
        changed.discard(case.result)
    if code == 0 and case.action == "train":
        folder = case.result.rpartition("/")[0]
        beside = ("history.csv", "history.png", "record.json", "report.html")
        changed -= {f"{folder}/training_{name}" for name in beside}
    return [f"lost or changed: {name}" for name in sorted(changed)]


def _wrong_result(case: Case, directory: Path) -> list[str]:
    path = directory / case.result
    if not path.is_file():
        return [f"no {case.result}, yet exit code 0"]
    if path.stat().st_mtime_ns <= case.made:
        return [f"{case.result} was not written, yet exit code 0"]
    try:
        arrays = _arrays(path)
    except Exception as exc:
        return [f"{case.result} cannot be read: {type(exc).__name__}: {exc}"]
    wrong = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    return [f"not finite in {case.result}: {name}" for name in wrong]


def _no_geometry(case: Case, directory: Path) -> list[str]:
    """Numbers of the input that no geometry follows from, where something was computed all the same."""
    name = f"in/{case.file}"
    if case.action not in ("train", "reconstruct", "export") or case.file not in _GEOMETRY:
        return []
    if digests(directory, "in").get(name) != case.before.get(name) or not h5py.is_hdf5(directory / name):
        return []  # the result has taken its place, or the file is judged by that
    found = []
    with h5py.File(directory / name) as file:
        for of, attributes in _GEOMETRY[case.file].items():
            for attribute in attributes:
                value = file[of].attrs.get(attribute, 1.0)
                if not _is_positive(value):
                    found.append(f"computed with {attribute} = {value} in {name}")
    return found


def _is_positive(value: Any) -> bool:
    try:
        return 0 < float(value) < np.inf
    except (TypeError, ValueError):
        return False


def _arrays(path: Path) -> dict[str, Any]:
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            names = ("object", "probe", "probe_position_x_m", "probe_position_y_m")
            return {name: file[name][()] for name in names}
    if path.suffix == ".npz":
        from ptychopinn_ptychodus.data.raw import RawData

        raw = RawData.from_file(path)
        return {"diff3d": raw.diff3d, "probeGuess": raw.probeGuess, "xcoords": raw.xcoords}
    from ptychopinn_ptychodus.backends.registry import guess_engine

    return dict(guess_engine(path).read_state(path).arrays)
