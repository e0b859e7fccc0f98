"""Live runs as the window follows them: by what they leave in their directory, whoever has started them."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from plugin_support import make_library
from ptychodus.api.settings import SettingsRegistry

from ptychopinn_ptychodus import remembered
from ptychopinn_ptychodus.live.status import STATUS_FILE, LiveStatus, Stage, StatusFile
from ptychopinn_ptychodus.plugin import live as module
from ptychopinn_ptychodus.plugin.base import NoModelError, PluginReconstructor
from ptychopinn_ptychodus.plugin.library import PtychoPINNPluginLibrary
from ptychopinn_ptychodus.plugin.live import LiveRuns, is_live_run
from ptychopinn_ptychodus.plugin.live_process import save_settings

Wait = Callable[[Callable[[], object]], None]
FOLLOWING = LiveStatus(Stage.FOLLOWING, "frames come", in_object=7, promised=30, frames_per_second=50.0)


@pytest.fixture
def runs() -> Iterator[LiveRuns]:
    followed = LiveRuns(make_library().settings)
    yield followed
    followed.close()


class Added(list[Path]):
    """Products that were added; ``frames`` has the patterns of each."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[Path | None] = []

    def take(self, path: Path, frames: Path | None) -> None:
        self.append(path)
        self.frames.append(frames)


@pytest.fixture
def added() -> Added:
    return Added()


@pytest.fixture
def result(tmp_path: Path) -> Path:
    """The directory of a run that goes on, in this very process."""
    directory = tmp_path / "result"
    directory.mkdir()
    (directory / "product.h5").write_bytes(b"a product")
    FOLLOWING.save(directory)
    return directory


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_status_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert not is_live_run(tmp_path)
    assert FOLLOWING.process == os.getpid()
    notes = ("1 frame is lost: no frame 3 came.",)
    for error in (0.25, math.nan):
        status = dataclasses.replace(FOLLOWING, error=error, notes=notes)
        status.save(tmp_path)
        assert repr(LiveStatus.load(tmp_path)) == repr(status)
    assert is_live_run(tmp_path)
    for damaged in ("", "{}", '{"stage": "sleeping"}', "[1]"):
        (tmp_path / STATUS_FILE).write_text(damaged)
        with pytest.raises(ValueError, match=STATUS_FILE):
            LiveStatus.load(tmp_path)


def test_a_status_of_an_older_version_is_read(tmp_path: Path) -> None:
    FOLLOWING.save(tmp_path)
    path = tmp_path / STATUS_FILE
    values = json.loads(path.read_text())
    for name in ("scan", "progress", "seconds_left", "epoch", "epochs"):
        del values[name]
    path.write_text(json.dumps(values))
    assert repr(LiveStatus.load(tmp_path)) == repr(FOLLOWING)


def test_how_far_the_reconstruction_of_all_frames_is(tmp_path: Path) -> None:
    pytest.importorskip("PyQt5")
    from ptychopinn_ptychodus.plugin.panel.live import FINAL, rows

    status = StatusFile(tmp_path)
    status.tell(Stage.COMPLETING, "all are reconstructed together", scan="/scan")
    status.show_progress(0.4257, 72.0, 3, 10)
    found = LiveStatus.load(tmp_path)
    assert (found.stage, found.scan, found.epoch, found.epochs) == (Stage.COMPLETING, "/scan", 3, 10)
    assert rows(found)[FINAL] == "43 %, epoch 3 of 10, 1:12 left"
    assert rows(dataclasses.replace(found, epochs=0, seconds_left=math.nan))[FINAL] == "43 %"
    assert FINAL not in rows(dataclasses.replace(found, stage=Stage.DONE))
    status.tell(Stage.DONE, "reconstructed")
    assert LiveStatus.load(tmp_path).scan == "/scan"


def test_a_run_is_followed_to_its_end_and_its_product_is_added(
    runs: LiveRuns, result: Path, added: Added
) -> None:
    runs.follow(result, added.take)
    assert runs.is_running
    assert runs.picture == result / "object.png"
    with pytest.raises(RuntimeError, match="followed already"):
        runs.follow(result, added.take)
    dataclasses.replace(FOLLOWING, in_object=19).save(result)
    until(lambda: runs.status is not None and runs.status.in_object == 19)
    assert added == []
    (result / "scan").mkdir()
    (result / "scan" / "diffraction.h5").touch()
    scan = str(result / "scan")
    dataclasses.replace(FOLLOWING, stage=Stage.DONE, says="reconstructed", scan=scan).save(result)
    until(lambda: not runs.is_running)
    assert added == [result / "product.h5"]
    assert added.frames == [result / "scan" / "diffraction.h5"]
    assert not runs.is_left
    runs.follow(result, added.take)  # once more, though it is over
    until(lambda: not runs.is_running)
    assert added == [result / "product.h5"] * 2


def test_stop_leaves_a_run_of_others_with_its_product(
    runs: LiveRuns, result: Path, added: Added, caplog: pytest.LogCaptureFixture
) -> None:
    runs.follow(result, added.take)
    runs.stop()
    until(lambda: not runs.is_running)
    assert runs.is_left
    assert added == [result / "product.h5"]
    assert added.frames == [None]
    assert "opened without them" in caplog.text
    assert LiveStatus.load(result).stage is Stage.FOLLOWING


def test_a_run_whose_process_is_gone_keeps_its_product(
    runs: LiveRuns, result: Path, added: Added, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("ERROR", "PtychoPINN-Plugin")
    gone = 2**22 + 1  # more than there can be
    dataclasses.replace(FOLLOWING, process=gone).save(result)
    runs.follow(result, added.take)
    until(lambda: not runs.is_running)
    assert runs.status is not None
    assert runs.status.stage is Stage.FAILED
    assert "ended without a word" in caplog.text
    assert added == [result / "product.h5"]
    assert dataclasses.replace(FOLLOWING, process=gone).is_orphaned
    elsewhere = dataclasses.replace(FOLLOWING, process=gone, host=f"not-{socket.gethostname()}")
    assert not elsewhere.is_orphaned


def test_a_directory_that_goes_away_ends_it_in_words(
    runs: LiveRuns, result: Path, added: Added, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_UNREADABLE_S", 0.1)
    runs.follow(result, added.take)
    (result / "product.h5").unlink()
    (result / STATUS_FILE).unlink()
    until(lambda: not runs.is_running)
    assert runs.status is not None
    assert "cannot be read any more" in runs.status.says
    assert added == []


def test_a_run_of_the_window_that_is_killed_says_so(
    tmp_path: Path, added: Added, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Killed:
        """A process that has begun, and is gone."""

        def __init__(self, source: Path, output: Path, *_: object) -> None:
            FOLLOWING.save(output)
            (output / "product.h5").write_bytes(b"a product")

        def has_ended(self) -> bool:
            return True

        def last_words(self) -> str:
            return "there was no memory left"

        def kill(self) -> None:
            pass

    monkeypatch.setattr(module, "LiveProcess", Killed)
    monkeypatch.setattr(remembered, "remembered_directory", lambda kind: tmp_path / kind)
    runs = make_library().live
    directory = runs.start(tmp_path, "Refinement", None, added.take)
    until(lambda: not runs.is_running)
    assert runs.status is not None
    assert runs.status.stage is Stage.FAILED
    assert "The live run failed: there was no memory left" in caplog.text
    assert added == [directory / "product.h5"]


def test_stop_ends_a_run_of_the_window(tmp_path: Path, added: Added, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "remembered_directory", lambda kind: tmp_path / kind)
    library = make_library()
    pinn, refinement = (
        next(each for each in library if each.name == name) for name in ("PINN", "Refinement")
    )
    assert isinstance(pinn, PluginReconstructor)
    assert isinstance(refinement, PluginReconstructor)
    (tmp_path / "scan").mkdir()
    with pytest.raises(NoModelError, match="Refinement"):
        pinn.start_live(tmp_path / "scan")
    directory = refinement.start_live(tmp_path / "scan")
    assert directory.parent == tmp_path / "live" / "scan"
    until(lambda: "product.h5" in (library.live.status or FOLLOWING).says)  # which it waits for
    process = LiveStatus.load(directory).process
    library.live.stop()
    until(lambda: not library.live.is_running)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    assert library.live.is_left


def test_a_run_of_the_window_has_its_settings(tmp_path: Path) -> None:
    library = make_library(WithoutModel_Epochs=7)
    save_settings(library.settings, tmp_path / "settings.ini")
    registry = SettingsRegistry()
    read = PtychoPINNPluginLibrary(registry, is_developer_mode_enabled=False).settings
    registry.open_settings(tmp_path / "settings.ini")
    for ours, theirs in zip(library.settings.groups, read.groups, strict=True):
        values = {name: each.get_value() for name, each in ours.group.parameters().items()}
        assert values == {name: each.get_value() for name, each in theirs.group.parameters().items()}
    assert read.value("WithoutModel.Epochs") == 7
