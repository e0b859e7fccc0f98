"""pvapy's simulator, Ptychodus' stream processor and this plugin, each other's strangers, on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest
from ptychodus.api.io import load_product
from stream_support import Scan

from ptychopinn_ptychodus.live.status import LiveStatus, Stage

# where the Makefile puts pvapy, for the processes of this test alone
PVAPY = Path(sys.prefix) / "stream"
if not PVAPY.is_dir() and find_spec("pvaccess") is None:
    pytest.skip("pvapy is not installed: make test, or the extra stream", allow_module_level=True)

WITHIN_S = 240  # generous: a machine that is busy takes a minute to import everything thrice

SETTINGS = """\
[Processing]
Algorithm = ptychopinn-plugin_refinement
[PtychoPINNPluginWithoutModel]
Epochs = 2
[PtychoPINNPluginExamination]
Judge = False
[PtychoPINNPluginInference]
KeepWarm = 0
"""


def free_ports(count: int) -> list[str]:
    """Ports that are free for UDP and TCP alike."""
    found: list[str] = []
    with ExitStack() as held:
        while len(found) < count:
            udp = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            tcp = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            udp.bind(("127.0.0.1", 0))
            try:
                tcp.bind(udp.getsockname())
            except OSError:
                continue
            found.append(str(udp.getsockname()[1]))
    return found


@pytest.fixture
def environment() -> dict[str, str]:
    """EPICS on loopback alone, on ports of its own, so that no other EPICS is heard or disturbed."""
    pva_udp, pva_tcp, ca, repeater = free_ports(4)
    own = {
        "EPICS_PVA_AUTO_ADDR_LIST": "NO",
        "EPICS_PVA_ADDR_LIST": "127.0.0.1",
        "EPICS_PVA_BROADCAST_PORT": pva_udp,
        "EPICS_PVA_SERVER_PORT": pva_tcp,
        "EPICS_PVAS_INTF_ADDR_LIST": "127.0.0.1",
        "EPICS_PVAS_BEACON_ADDR_LIST": "127.0.0.1",
        "EPICS_PVAS_AUTO_BEACON_ADDR_LIST": "NO",
        "EPICS_CA_AUTO_ADDR_LIST": "NO",
        "EPICS_CA_ADDR_LIST": "127.0.0.1",
        "EPICS_CA_SERVER_PORT": ca,
        "EPICS_CA_REPEATER_PORT": repeater,
        "EPICS_CAS_INTF_ADDR_LIST": "127.0.0.1",
        "EPICS_CAS_BEACON_ADDR_LIST": "127.0.0.1",
        "EPICS_CAS_AUTO_BEACON_ADDR_LIST": "NO",
    }
    path = os.pathsep.join(filter(None, (str(PVAPY), os.environ.get("PYTHONPATH"))))
    return {**os.environ, **own, "PYTHONPATH": path}


class Processes:
    """Processes in sessions of their own, with their output in files; whatever is left of them is killed."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self._directory, self._environment = directory, environment
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        with self.log(name).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=self._environment,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def log(self, name: str) -> Path:
        return self._directory / f"{name}.log"

    def left(self) -> list[str]:
        """Commands of what runs in these sessions; a child may take a moment longer than its parent."""
        until = time.monotonic() + 30
        while found := self._running():
            if time.monotonic() > until:
                break
            time.sleep(0.1)
        return found

    def _running(self) -> list[str]:
        sessions = {process.pid for process in self._started}
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):  # it has just ended
                if os.getsid(process.pid) in sessions and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(" ".join(process.cmdline()))
        return found

    def end(self) -> None:
        """Kill what is left."""
        for process in self._started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def processes(tmp_path: Path, environment: dict[str, str]) -> Iterator[Processes]:
    found = Processes(tmp_path, environment)
    yield found
    found.end()


def test_a_scan_is_streamed_shown_and_reconstructed(scan: Scan, processes: Processes, tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    (source / "product.h5").write_bytes((scan.directory / "product.h5").read_bytes())
    (source / "settings.ini").write_text(SETTINGS)
    np.save(tmp_path / "frames.npy", scan.patterns)
    setup = {
        "frames": str(tmp_path / "frames.npy"),
        "frames_per_second": 50,
        "positions_m": scan.positions_m.tolist(),
        "shown": str(target / "live" / "object.png"),
        "within_s": WITHIN_S,
        "configure": {"num_arrays": len(scan), "detector_width_px": 64, "detector_height_px": 64},
    }
    (tmp_path / "setup.json").write_text(json.dumps(setup))
    about = {
        "settingsFile": str(source / "settings.ini"),
        "inputProductPath": str(source),
        "outputProductPath": str(target),
        "reconstructPV": "test:reconstruct",
        "pos_x_pv": "test:pos_x",
        "pos_y_pv": "test:pos_y",
    }
    beamline = processes.start(
        "beamline", str(Path(__file__).with_name("beamline.py")), str(tmp_path / "setup.json")
    )
    # what the command pvapy-hpc-consumer does
    options = {
        "-ic": "test:image",
        "-cc": "test:control",
        "-sc": "test:status",
        "-mc": "pva://test:pos_x,pva://test:pos_y",
        "-pc": "ptychodus.ptychodus_stream_processor.PtychodusAdImageProcessor",
        "-pa": json.dumps(about),
        "-rqs": "0",
        "-sqs": "100",
        "-ll": "info",
    }
    consumer = processes.start(
        "consumer",
        "-c",
        "from pvapy.cli.hpcConsumer import main; main()",
        "-dc",
        *(part for option in options.items() for part in option),
    )

    def said() -> str:
        return "\n".join(processes.log(name).read_text() for name in ("beamline", "consumer"))

    assert beamline.wait(WITHIN_S) == 0, said()
    assert consumer.wait(60) == 0, said()
    assert processes.left() == []
    assert "configure: Configuration successful" in said()
    assert "Traceback" not in said()

    numbers = list(range(1, len(scan) + 1))
    with h5py.File(target / "scan" / "diffraction.h5") as file:
        assert file["indexes"][()].tolist() == numbers
        assert np.array_equal(file["patterns"][()], scan.patterns)
    status = LiveStatus.load(target / "live")
    assert (status.stage, "product.000100.h5" in status.says) == (Stage.DONE, True)
    assert status.progress > 0, "how far the reconstruction of all frames was"
    shown = (target / "live" / "product.h5").read_bytes()
    assert shown == (target / "product.000100.h5").read_bytes()
    final = load_product(target / "product.000100.h5")
    assert len(final.losses) == 2
    with h5py.File(target / "product.000100.h5") as file:
        assert file["probe_position_indexes"][()].tolist() == numbers
        found = np.stack([file[f"probe_position_{axis}_m"][()] for axis in "xy"], -1)
    step = np.linalg.norm(np.diff(scan.positions_m, axis=0), axis=1).min()
    moved = found - found.mean(0) - (scan.positions_m - scan.positions_m.mean(0))
    assert np.abs(moved).max() < step / 2
