"""What is made once for all processes that tests run in."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from shared_support import made_once


def test_it_is_made_once_and_whoever_comes_meanwhile_waits(tmp_path_factory: pytest.TempPathFactory) -> None:
    tmp_path_factory.getbasetemp()  # made when it is first asked for, which is not for threads
    begun, go_on = threading.Event(), threading.Event()
    made: list[Path] = []
    found: list[str] = []

    def make(directory: Path) -> None:
        made.append(directory)
        begun.set()
        assert go_on.wait(60)
        (directory / "said").write_text("whole")

    def look() -> None:
        found.append((made_once(tmp_path_factory, "of-this-test", make) / "said").read_text())

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert begun.wait(60)
    assert not found
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert found == ["whole"] * 3
    assert len(made) == 1


def test_what_could_not_be_made_is_tried_anew(tmp_path_factory: pytest.TempPathFactory) -> None:
    def fail(directory: Path) -> None:
        (directory / "half").touch()
        raise ValueError("as the test asked")

    with pytest.raises(ValueError, match="as the test asked"):
        made_once(tmp_path_factory, "fails-at-first", fail)
    made = made_once(tmp_path_factory, "fails-at-first", lambda directory: (directory / "whole").touch())
    assert [path.name for path in made.iterdir()] == ["whole"]
