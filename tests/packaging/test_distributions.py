"""The wheel and the source distribution hold what is needed: built, installed in a new environment, and run.

Nothing is downloaded: the environment sees the packages that are installed here, by a .pth file, after those
of its own.
"""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import tomllib
import venv
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

pytestmark = pytest.mark.skipif(
    find_spec("hatchling") is None or find_spec("pip") is None, reason="the build backend is not installed"
)

SMOKE = """
from pathlib import Path
import numpy as np
import ptychopinn_ptychodus as package
from ptychopinn_ptychodus import ExaminationConfig, RefinementConfig, make_object, make_probe
from ptychopinn_ptychodus import raster_positions, refine, simulate_scan

assert Path(package.__file__).is_relative_to(Path(HERE)), package.__file__
assert package.__version__ == VERSION
x, y = raster_positions(4, 4, step=7.0, origin=38.0)
scan = simulate_scan(make_object((96, 96)), make_probe(64), x, y, photons=1e6, seed=0)
result = refine(scan, config=RefinementConfig(epochs=2), examination=ExaminationConfig(judge=False))
assert result.errors[1] < result.errors[0], result.errors
print("works")
"""


def _run(*command: str | Path, cwd: Path) -> str:
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=clean, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the sdist, and the wheel that was built from what the sdist holds."""
    directory = tmp_path_factory.mktemp("dist")
    _run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", directory, cwd=ROOT)
    (archive,) = directory.glob("*.tar.gz")
    shutil.unpack_archive(archive, directory / "unpacked")
    (source,) = (directory / "unpacked").iterdir()
    _run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", directory, cwd=source)
    return directory


def test_the_wheel_holds_the_package_its_types_and_the_one_file_for_ptychodus(distributions: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    assert wheel.name == f"ptychopinn_ptychodus-{VERSION}-py3-none-any.whl"
    names = set(zipfile.ZipFile(wheel).namelist())
    package = ROOT / "ptychopinn_ptychodus"
    expected = {
        str(path.relative_to(ROOT))
        for pattern in ("*.py", "*.pyi", "py.typed", "*.html")
        for path in package.rglob(pattern)
    }
    assert expected <= names
    others = {name for name in names - expected if not name.startswith(f"ptychopinn_ptychodus-{VERSION}")}
    assert others == {"ptychodus/plugins/ptychopinn_ptychodus_attach.py"}


def test_the_source_distribution_holds_what_tests_and_pages_need(distributions: Path) -> None:
    (source,) = (distributions / "unpacked").iterdir()
    for name in ("tests", "docs", "examples", "specs", "Makefile", "LICENSE", "CHANGELOG.md", "mkdocs.yml"):
        assert (source / name).exists(), name


def test_the_installed_wheel_works(distributions: Path, tmp_path: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False, symlinks=True)
    binaries = environment / ("Scripts" if os.name == "nt" else "bin")
    python = binaries / "python"
    _run(
        *(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "--quiet"),
        wheel,
        cwd=tmp_path,
    )
    own = Path(
        _run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip()
    )
    # Ptychodus itself is among the neighbours, whose plugins it finds; here, it has to lie beside a Ptychodus
    assert (own / "ptychodus" / "plugins" / "ptychopinn_ptychodus_attach.py").is_file()
    # what is installed here as editable stays out of sight: .pth files of an added directory are not read
    (own / "neighbours.pth").write_text("\n".join(site.getsitepackages()), encoding="utf-8")
    code = SMOKE.replace("HERE", repr(str(environment))).replace("VERSION", repr(VERSION))
    assert _run(python, "-c", code, cwd=tmp_path).strip() == "works"
    assert VERSION in _run(binaries / "ptychopinn-ptychodus", "--version", cwd=tmp_path)
