"""What a beamline does while a scan is streamed, in a process of its own.

As ``python beamline.py SETUP.json`` it has pvapy's area-detector simulator, the records of positions as
Ptychodus' stream processor wants them, and the record that tells it to reconstruct. It configures the
consumer, takes the scan, reports in parts where frames were taken and when, has the scan reconstructed, waits
for that, stops the consumer, and ends. Each step is a line on its standard output.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pvaccess
from pvapy.cli.adSimServer import AdSimServer

IMAGE, POSITION_X, POSITION_Y = "test:image", "test:pos_x", "test:pos_y"
CONTROL, RECONSTRUCT = "test:control", "test:reconstruct"

_STAMP = {"secondsPastEpoch": pvaccess.LONG, "nanoseconds": pvaccess.INT}
_POSITIONS = {"values": [pvaccess.DOUBLE], "t": [_STAMP]}
_COMMAND = {"command": pvaccess.STRING, "args": pvaccess.STRING}
_PART = 10  # frames
_POLL_S = 0.05


class Detector(AdSimServer):  # type: ignore[misc]  # pvapy has no types
    """The simulator, which begins when it is told to, and notes when each frame was taken."""

    def __init__(self, path: str, count: int, frames_per_second: float) -> None:
        super().__init__(
            inputDirectory=None,
            inputFile=path,
            mmapMode=False,
            hdfDataset=None,
            hdfCompressionMode=False,
            cfgFile=None,
            frameRate=frames_per_second,
            nFrames=count,
            cacheSize=count // 2,  # fewer than frames: each comes once
            nx=0,
            ny=0,
            colorMode=0,
            datatype="",
            minimum=None,
            maximum=None,
            runtime=3600,
            channelName=IMAGE,
            notifyPv=None,
            notifyPvValue=None,
            metadataPv=None,
            startDelay=0,
            shutdownDelay=0,
            reportPeriod=0,
            disableCurses=True,
        )
        self.taken: list[tuple[int, dict[str, int]]] = []
        for name in (POSITION_X, POSITION_Y):
            self.pvaServer.addRecord(name, pvaccess.PvObject(_POSITIONS), None)
        self.pvaServer.start()

    def begin(self) -> None:
        threading.Thread(target=self.frameProducer, daemon=True).start()
        threading.Thread(target=self.framePublisher, daemon=True).start()

    def prepareFrame(self, t: float = 0) -> Any:
        frame = super().prepareFrame(t)
        stamp = frame["timeStamp"]
        self.taken.append((frame["uniqueId"], {name: stamp[name] for name in _STAMP}))
        return frame


class Beamline:
    """Everything has to be done by the monotonic time ``until``."""

    def __init__(self, setup: dict[str, Any]) -> None:
        self._positions = setup["positions_m"]
        self._until = time.monotonic() + setup["within_s"]
        self._detector = Detector(setup["frames"], len(self._positions), setup["frames_per_second"])
        self._records = _records()

    def configure(self, about: dict[str, Any]) -> str:
        self._wait(lambda: self._status() is not None)
        self.command("configure", json.dumps(about))
        self._wait(lambda: str(self._status()).startswith("Configuration"))
        return str(self._status())

    def command(self, name: str, arguments: str = "") -> None:
        told = pvaccess.PvObject(_COMMAND, {"command": name, "args": arguments})
        pvaccess.Channel(CONTROL).put(told, "field(command,args)")

    def scan(self) -> int:
        """Take the frames, and report where and when; how many there were."""
        self._detector.begin()
        told = 0
        while told < len(self._positions):
            end = min(told + _PART, len(self._positions))
            self._wait(functools.partial(self._has_taken, end))
            part = self._detector.taken[told:end]
            for axis, name in enumerate((POSITION_X, POSITION_Y)):
                values = [self._positions[number - 1][axis] for number, _ in part]
                report = {"values": values, "t": [stamp for _, stamp in part]}
                self._detector.pvaServer.update(name, pvaccess.PvObject(_POSITIONS, report))
            told = end
        return told

    def _has_taken(self, count: int) -> bool:
        return len(self._detector.taken) >= count

    def wait_for(self, path: Path) -> None:
        """Let a file appear."""
        self._wait(path.exists)

    def reconstruct(self) -> None:
        """As the processor takes it: 1 begins, and 0 says that it is done."""
        self._records.putField(RECONSTRUCT, "1")
        self._wait(lambda: self._records.getField(RECONSTRUCT) == 0)

    def _status(self) -> str | None:
        try:  # a channel of its own: one that has not been found is looked for ever more rarely
            return str(pvaccess.Channel(CONTROL).get("field(statusMessage)")["statusMessage"])
        except pvaccess.PvaException:  # the consumer is not there yet
            return None

    def _wait(self, is_done: Callable[[], bool]) -> None:
        while not is_done():
            if time.monotonic() > self._until:
                raise TimeoutError("That took too long.")
            time.sleep(_POLL_S)


def _records() -> Any:
    """The record that says when to reconstruct, by Channel Access."""
    os.environ["EPICS_DB_INCLUDE_PATH"] = str(Path(pvaccess.__file__).with_name("dbd"))
    records = pvaccess.CaIoc()
    records.loadDatabase("base.dbd", "", "")
    records.registerRecordDeviceDriver()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "records.db"
        path.write_text('record(bo, "$(NAME)") { field(ZNAM, "done") field(ONAM, "reconstruct") }\n')
        records.loadRecords(str(path), f"NAME={RECONSTRUCT}")
    records.start()
    return records


def _main() -> None:
    setup = json.loads(Path(sys.argv[1]).read_text())
    beamline = Beamline(setup)
    print("records: there", flush=True)
    print("configure:", beamline.configure(setup["configure"]), flush=True)
    print("frames:", beamline.scan(), flush=True)
    beamline.wait_for(Path(setup["shown"]))
    beamline.reconstruct()
    print("reconstruct: done", flush=True)
    beamline.command("stop")


if __name__ == "__main__":
    try:
        _main()
    except BaseException as exc:
        print(f"failed: {type(exc).__name__}: {exc}", flush=True)
        os._exit(1)
    os._exit(0)  # EPICS' threads do not end with the interpreter
