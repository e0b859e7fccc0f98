"""A network in a process of its own: what it makes of new frames, and what becomes of them without it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ptychopinn_ptychodus import LiveReconstruction, ModelFileError, RawData
from ptychopinn_ptychodus.config import DataConfig, ModelConfig, TrainingConfig, to_dict
from ptychopinn_ptychodus.live.networks import NetworkProcess

pytestmark = pytest.mark.usefixtures("fake_site")
Wish = Callable[..., None]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A file of the engine without a framework, whose patches are all one value."""
    config = ModelConfig(N=64, gridsize=2)
    content = {
        "fake": "pytorch",
        "model": to_dict(config),
        "data": to_dict(DataConfig(N=64, gridsize=2)),
        "history": {"train_loss": [1.0], "val_loss": []},
        "config": to_dict(TrainingConfig(model=config)),
    }
    path = tmp_path / "model.ckpt"
    path.write_text(json.dumps(content))
    return path


def part(scan: RawData, count: int) -> RawData:
    positions = np.stack((scan.xcoords, scan.ycoords), -1)[:count]
    return RawData.of_amplitude(positions, scan.diff3d[:count], scan.probeGuess, scan.bad_pixels, 1e6)


def test_it_makes_one_object_of_new_frames_and_says_where_that_lies(scan: RawData, model: Path) -> None:
    with NetworkProcess(model) as network:
        for count in (20, 30):  # one process for all
            some = part(scan, count)
            object_, light, (left, top) = network.object_of(some)
            assert object_.shape == light.shape
            assert left == np.floor(some.xcoords.min()) - 32
            assert top == np.floor(some.ycoords.min()) - 32
            shown = light > 0.1 * light.max()
            assert np.allclose(np.abs(object_[shown]), 0.8, atol=1e-3)
        with pytest.raises(ValueError, match=r"neighbours|patterns"):
            network.object_of(part(scan, 2))
        network.object_of(part(scan, 20))


def test_a_network_that_fails_ends_nothing(scan: RawData, model: Path, wish: Wish) -> None:
    wish(fails_to_predict=True)
    with NetworkProcess(model) as network, pytest.raises(ValueError, match="as the test asked"):
        network.object_of(part(scan, 20))


def test_frames_go_on_without_a_network_whose_process_has_died(
    scan: RawData, model: Path, wish: Wish, caplog: pytest.LogCaptureFixture
) -> None:
    wish(dies=True)
    positions = np.stack((scan.xcoords, scan.ycoords), -1)
    with (
        caplog.at_level(logging.WARNING),
        LiveReconstruction(
            scan.probeGuess,
            lambda whole: whole,
            domain="amplitude",
            network=NetworkProcess(model),
            find_probe=False,
            improve=False,
        ) as running,
    ):
        for start in (0, 64):
            running.add(scan.diff3d[start : start + 64], positions[start : start + 64])
            state = running.drain()
    assert state.in_object == 128
    assert state.error < 0.1
    assert sum("network's process has ended" in record.getMessage() for record in caplog.records) == 1


def test_what_is_no_model_is_refused_before_the_scan_begins(tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").write_text("nothing")
    with pytest.raises(ModelFileError):
        NetworkProcess(tmp_path / "model.ckpt")
    with pytest.raises(FileNotFoundError):
        NetworkProcess(tmp_path / "none.ckpt")
