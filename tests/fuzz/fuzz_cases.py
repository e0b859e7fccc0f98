"""What a case consists of: a copy of sound files, one of them changed, and a command that reads it."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_mutations import (
    damage,
    mutate_archive,
    mutate_bundle,
    mutate_checkpoint,
    mutate_hdf5,
    mutate_npz,
    mutate_settings,
    pick,
    setting,
)
from fuzz_process import MEMORY, MORE_MEMORY, ForkingPopen, execute, limit, taken

Rng = np.random.Generator

KINDS = {"diffraction": 22, "product": 26, "npz": 17, "training": 6, "settings": 11, "ckpt": 11, "bundle": 10}
"""What is changed, and how often of 100 times."""

MODELS = {"ckpt": "model.ckpt", "bundle": "model.wts.h5.zip"}
ARRAYS = ("npz", "training")
"""Training data: arrays of this package, and Ptychodus' own."""

POSITIONS = 5

_SETTINGS = """\
[Processing]
Algorithm = ptychopinn-plugin_{algorithm}

[PtychoPINNPluginModel]
Backend = {backend}
Architecture = {architecture}
GridSize = {gridsize}
NumFiltersScale = 1

[PtychoPINNPluginData]
NumGroups = 6

[PtychoPINNPluginTraining]
Epochs = 1
BatchSize = 8
Preview = {preview}

[PtychoPINNPluginRefinement]
Epochs = {refinement}
"""


def write_settings(path: Path, *, learns: bool = True, judges: bool = True, **changes: object) -> None:
    """Settings that keep a run short; whether the probe is found first, and whether the result is judged."""
    values = {
        "algorithm": "pinn",
        "backend": "pytorch",
        "architecture": "unrolled",
        "gridsize": 2,
        "refinement": 1,
        "preview": False,
    }
    text = _SETTINGS.format(**{**values, **changes})
    if not learns:
        text = text.replace("Preview = ", "ProbeTrainable = False\nPreview = ")
    if not judges:
        text += "\n[PtychoPINNPluginExamination]\nJudge = False\nConfidence = False\n"
    path.write_text(text, encoding="utf-8")


def make_corpus(directory: Path) -> None:
    """The sound files: a scan with its model in both formats, and the same scan as training data."""
    from ptychodus.api.io import save_training_data
    from ptychodus.api.reconstruct import prepare_reconstruct_input

    from ptychopinn_ptychodus.cli import demo
    from ptychopinn_ptychodus.ptychodus_io.standard_scan import in_ptychodus, write_standard_directory

    scan, arrays, training = (directory / name for name in ("scan", "npz", "training"))
    for folder in (scan, arrays, training):
        folder.mkdir(parents=True)
    raw = demo.simulate(POSITIONS)
    assert raw.objectGuess is not None
    data, product = in_ptychodus(raw, raw.objectGuess, photons=demo.PHOTONS, name="scan")
    write_standard_directory(scan, data, product)
    write_settings(scan / "settings.ini")
    raw.to_file(arrays / "train_data.npz")
    raw.select(slice(0, 15)).to_file(arrays / "test_data.npz")
    save_training_data(training / "train_data.h5", prepare_reconstruct_input(data, product))
    command = [sys.executable, "-m", "ptychopinn_ptychodus.cli"]
    subprocess.run([*command, "train", "-i", scan, "-o", scan], check=True, stdout=sys.stderr)
    shutil.rmtree(scan / "checkpoints", ignore_errors=True)
    for path in scan.glob("training_history.*"):
        path.unlink()
    subprocess.run(
        [*command, "convert", "-i", scan / MODELS["ckpt"], "-o", scan / MODELS["bundle"]],
        check=True,
        stdout=sys.stderr,
    )


@dataclass
class Case:
    """One damaged input, and what is done with it.

    Attributes
    ----------
    kind
        One of :data:`KINDS`.
    what
        How it was changed, in words.
    arguments
        Of the command: ours, or with ``stock`` that of Ptychodus.
    stock
        ``ptychodus -b`` in the place of our command.
    fresh
        In an interpreter of its own, as users start it, instead of a fork.
    result
        The file that success leaves.
    file
        The file that was changed.
    before
        Digest of each file by path, before the command ran.
    made
        When that was, nanoseconds.
    """

    kind: str
    what: str = ""
    arguments: list[str] = field(default_factory=list)
    stock: bool = False
    fresh: bool = False
    result: str = ""
    file: str = ""
    before: dict[str, str] = field(default_factory=dict)
    made: int = 0

    @property
    def action(self) -> str:
        """``train``, ``reconstruct``, …"""
        return self.arguments[1] if self.stock else self.arguments[0]

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Case:
        return cls(**json.loads(path.read_text(encoding="utf-8")))


def digests(directory: Path, *names: str) -> dict[str, str]:
    """Of each regular file in ``directory``/``names``, by path relative to ``directory``."""
    found = {}
    for name in names:
        for path in sorted((directory / name).rglob("*")):
            if path.is_file() and not path.is_symlink():
                found[str(path.relative_to(directory))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def make_case(directory: Path, corpus: Path, seed: int, number: int, fresh: bool) -> Case:
    """Write the files of a case into ``directory``; ``seed`` and ``number`` decide on all of it."""
    rng = np.random.default_rng([seed, number])
    more = _slow_steps(seed, number)
    weights = np.array(list(KINDS.values()), float)
    case = Case(str(rng.choice(list(KINDS), p=weights / weights.sum())), fresh=fresh)
    source, target = directory / "in", directory / "out"
    target.mkdir()
    (directory / "tmp").mkdir()
    canary = directory / "canary"
    if case.kind in ARRAYS:
        shutil.copytree(corpus / case.kind, source)
        _change_arrays(rng, case, source, canary, more)
    else:
        shutil.copytree(corpus / "scan", source)
        _change_scan(rng, case, source, canary, more)
    _choose_command(rng, case, source, target)
    _leave_earlier_results(case, corpus, target)
    case.before = digests(directory, "in", "out")
    case.made = time.time_ns()
    return case


def _slow_steps(seed: int, number: int) -> dict[str, bool]:
    """Whether the probe is found first, and the result is judged: in every third case each.

    Both take most of the time of a case, and see the arrays as everything before them has left them.
    """
    learns, judges = np.random.default_rng([seed, number, 1]).integers(3, size=2) == 0
    return {"learns": bool(learns), "judges": bool(judges)}


def _settings(rng: Rng, path: Path, more: dict[str, bool]) -> None:
    write_settings(
        path,
        **more,
        algorithm=pick(rng, ("pinn", "pinn", "supervised")),
        architecture=pick(rng, ("unrolled", "unrolled", "cnn")),
        gridsize=pick(rng, (1, 2)),
        refinement=pick(rng, (0, 1, 2)),
        preview=pick(rng, (True, False, False)),
    )


def _change_arrays(rng: Rng, case: Case, source: Path, canary: Path, more: dict[str, bool]) -> None:
    _settings(rng, source / "settings.ini", more)
    name = pick(rng, ("train_data.npz", "train_data.npz", "test_data.npz"))
    name = "train_data.h5" if case.kind == "training" else name
    if rng.random() < 0.15:
        other = f"other{Path(name).suffix}"
        (source / name).rename(source / other)
        name = other
    path = source / name
    draw = rng.random()
    if draw < 0.15:
        case.what = damage(rng, path)
    elif case.kind == "training":
        case.what = mutate_hdf5(rng, path)
    elif draw < 0.3:
        case.what = mutate_archive(rng, path)
    else:
        case.what = mutate_npz(rng, path, canary)
    case.file = name


def _change_scan(rng: Rng, case: Case, source: Path, canary: Path, more: dict[str, bool]) -> None:
    if case.kind != "settings":
        _settings(rng, source / "settings.ini", more)
    case.file = {"settings": "settings.ini", **MODELS}.get(case.kind, f"{case.kind}.h5")
    path = source / case.file
    if rng.random() < 0.15:
        case.what = damage(rng, path)
    elif case.kind == "ckpt":
        case.what = mutate_checkpoint(rng, path, canary)
    elif case.kind == "bundle":
        case.what = mutate_bundle(rng, path)
    elif case.kind == "settings":
        case.what = mutate_settings(rng, path)
    else:
        case.what = mutate_hdf5(rng, path)
    for kind, name in MODELS.items():  # of two models, the one that is set wins
        if kind != case.kind and case.kind in MODELS:
            (source / name).unlink()


def _choose_command(rng: Rng, case: Case, source: Path, target: Path) -> None:
    draw, kind = rng.random(), case.kind
    inplace = bool(rng.random() < 0.25)
    output = source if inplace else target
    if kind in MODELS:
        action = "convert" if kind == "bundle" and draw < 0.45 else "reconstruct"
    elif kind in ARRAYS:
        action = "pretrain" if kind == "npz" and draw < 0.06 else "train"
    elif kind == "product" and draw < 0.04:
        action = "pretrain"
    else:
        action = "train" if draw < 0.42 else "reconstruct" if draw < 0.85 else "export"
    case.stock = action in ("train", "reconstruct") and kind not in ARRAYS and bool(rng.random() < 0.2)
    if case.stock:
        case.arguments = ["-b", action, "-i", str(source), "-o", str(output)]
    elif action == "convert":
        case.arguments = [action, "-i", str(source / case.file), "-o", str(target / MODELS["ckpt"])]
    elif action == "pretrain":
        quick = ["--scans", "1", "--epochs", "1", "--gridsize", "1", "--backend", "pytorch"]
        case.arguments = [action, "--probe", str(source / case.file), *quick, "-o", str(target)]
        output = target
    elif action == "export":
        case.arguments = [action, "-i", str(source), "-o", str(target / "data.npz")]
    else:
        case.arguments = [action, "-i", str(source), "-o", str(output)]
        if action == "reconstruct" and rng.integers(2):
            model = source / MODELS["bundle" if kind == "bundle" else "ckpt"]
            case.arguments += ["-m", str(model)]
    if kind == "settings" and not case.stock and rng.integers(2):
        section, key, value = setting(rng)
        case.arguments += ["--set", f"{section}.{key}={value}"]
        case.what += f"; --set {section}.{key}={value[:40]}"
    if case.stock and kind == "bundle":
        write_settings(source / "settings.ini", backend="tensorflow")
    case.result = {
        "convert": f"out/{MODELS['ckpt']}",
        "export": "out/data.npz",
        "reconstruct": f"{output.name}/product{'.000100' if case.stock else ''}.h5",
    }.get(action, f"{output.name}/{MODELS['ckpt']}")


def _leave_earlier_results(case: Case, corpus: Path, target: Path) -> None:
    """What an earlier run may have left where this one writes."""
    for name in ("model.ckpt", "product.h5"):
        shutil.copy(corpus / "scan" / name, target / name)
    shutil.copy(corpus / "scan" / "product.h5", target / "network.h5")
    shutil.copy(corpus / "npz" / "train_data.npz", target / "data.npz")


def run_case(directory: Path, corpus: Path, seed: int, number: int, fresh: bool) -> int:
    """In a process of its own: make the files, and run the command; returns its exit code."""
    case = make_case(directory, corpus, seed, number, fresh)
    case.save(directory / "case.json")
    os.environ["TMPDIR"] = str(directory / "tmp")
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if fresh:
        limit(MEMORY)
        module = "ptychodus" if case.stock else "ptychopinn_ptychodus.cli"
        return execute(["-m", module, *case.arguments])
    return _run_here(case)


def _run_here(case: Case) -> int:
    import tempfile

    from ptychodus.model.task_manager import TaskManager

    tempfile.tempdir = None  # it may have been asked for before
    subprocess.Popen = ForkingPopen  # type: ignore[misc]
    setattr(TaskManager, "WAIT_TIME_S", 0.05)  # noqa: B010 (it is Final; a second at the end of every command)
    limit(taken() + MORE_MEMORY)
    if not case.stock:
        from ptychopinn_ptychodus.cli import main

        return main(case.arguments)
    import ptychodus.__main__

    sys.argv = ["ptychodus", *case.arguments]
    return int(ptychodus.__main__.main())


_PRELOADED = (
    *("torch", "lightning", "tensordict", "matplotlib.backends.backend_agg", "matplotlib.figure"),
    *("skimage.metrics", "ptychodus.model", "ptychodus.model.task_manager", "ptychodus.__main__"),
    "ptychopinn_ptychodus.backends.lightning.components",
    "ptychopinn_ptychodus.cli.commands",
    "ptychopinn_ptychodus.cli.conversion",
    "ptychopinn_ptychodus.cli.pretraining",
    "ptychopinn_ptychodus.plugin.attach",
    "ptychopinn_ptychodus.plugin.library",
    "ptychopinn_ptychodus.worker.main",
)


def prepare() -> None:
    """Import what cases need, into the process that they are forked from, and nothing that starts threads.

    TensorFlow does not survive a fork. It counts as missing here, so that bundles are converted for PyTorch.
    """
    modules: dict[str, Any] = sys.modules
    modules["tensorflow"] = modules["keras"] = None
    for name in _PRELOADED:
        importlib.import_module(name)
