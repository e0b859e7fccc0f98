"""A small simulated scan, and fake engines that parent and worker both find by entry point."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from plugin_support import N, add_engines, forget_engines, make_data, make_product
from ptychodus.api.io import save_diffraction_data, save_product
from ptychodus.api.reconstruct import ReconstructInput, prepare_reconstruct_input

from ptychopinn_ptychodus.backends.registry import get_engine
from ptychopinn_ptychodus.config import ExecutionConfig, ModelConfig, TrainingConfig
from ptychopinn_ptychodus.ptychodus_io.ingest import from_reconstruct_input


@pytest.fixture
def fake_site(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory on the path that holds fakes of both engines as an installed distribution.

    Of these two, PyTorch alone has its framework, unless a test wishes for something else.
    """
    site = tmp_path_factory.mktemp("site")
    (site / "fake_engine.py").write_text((Path(__file__).parent / "fake_engine.py").read_text())
    add_engines(site, "fake-engine", pytorch="FakeEngine", tensorflow="FakeTensorFlow")
    # at the end: of two engines with one name, the registry takes the one that is found last
    monkeypatch.setattr(sys, "path", [*sys.path, str(site)])
    forget_engines()
    yield site
    forget_engines()
    sys.modules.pop("fake_engine", None)


@pytest.fixture
def abacus(fake_site: Path) -> str:
    """The name of an engine of somebody else, installed beside the others."""
    add_engines(fake_site, "abacus", abacus="Abacus")
    forget_engines()
    return "abacus"


@pytest.fixture
def wish(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Tell the fake engine what to do wrong."""

    def wish(**wishes: Any) -> None:
        monkeypatch.setenv("FAKE_ENGINE", json.dumps(wishes))

    return wish


@pytest.fixture
def fake_model(fake_site: Path, tmp_path: Path) -> Callable[..., Path]:
    """``fake_model(gridsize=2)``: ``out/model.ckpt`` of the engine pytorch.

    It is the file that a training on :func:`standard_directory` leaves, made without the process of one.
    """

    def make(*, gridsize: int = 2, epochs: int = 3) -> Path:
        path = tmp_path / "out" / "model.ckpt"
        path.parent.mkdir(exist_ok=True)
        scan = prepare_reconstruct_input(make_data(30), make_product(30))
        raw = from_reconstruct_input(scan, with_object=False)
        container = raw.generate_grouped_data(N, 6, None, gridsize=gridsize, seed=0)
        training = TrainingConfig(model=ModelConfig(gridsize=gridsize), nepochs=epochs)
        get_engine("pytorch").train(container, None, training, ExecutionConfig(), model_path=path)
        return path

    return make


@pytest.fixture
def scan() -> Callable[..., ReconstructInput]:
    """A ReconstructInput."""

    def scan(count: int = 30, n: int = N, **kwargs: Any) -> ReconstructInput:
        return prepare_reconstruct_input(make_data(count, n), make_product(count, n, **kwargs))

    return scan


@pytest.fixture
def standard_directory(tmp_path: Path) -> Path:
    """``diffraction.h5`` and ``product.h5`` as Ptychodus writes them."""
    directory = tmp_path / "in"
    directory.mkdir()
    save_diffraction_data(directory / "diffraction.h5", make_data(30))
    save_product(directory / "product.h5", make_product(30))
    return directory


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where scratch directories go; none may be left when a test is over."""
    import tempfile

    directory = tmp_path / "scratch"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    yield directory
    assert list(directory.iterdir()) == []


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Records of the library's logger."""
    caplog.set_level(logging.INFO, logger="PtychoPINN-Plugin")
    return caplog
