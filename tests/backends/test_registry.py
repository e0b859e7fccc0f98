"""Engines by name; a third party's and a broken one among them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ptychopinn_ptychodus.backends import registry
from ptychopinn_ptychodus.backends.base import Engine, ModelFileError
from ptychopinn_ptychodus.backends.conversion import convert
from ptychopinn_ptychodus.backends.framework import EngineUnavailableError
from ptychopinn_ptychodus.config import BACKEND_GROUP, BACKENDS, ExecutionConfig, ModelConfig, TrainingConfig
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.installed import EntryPoint

GROUP = "[ptychopinn_ptychodus.backends]"

THIRD_PARTY = '''
"""An engine of somebody else."""

from ptychopinn_ptychodus.backends.base import Engine, Prediction, TrainingResult


class AbacusEngine(Engine):
    name = "abacus"
    title = "Abacus"
    model_suffix = ".beads"
    model_filter = "Abacus Models (*.beads)"
    install_hint = "pip install abacus"

    def problem(self):
        return None

    def accelerators(self):
        return ["fingers"]

    def recognises(self, path):
        return path.read_bytes().startswith(b"beads")

    def describe(self, path):
        raise NotImplementedError

    def workflow(self, name):
        def train_cdi_model(train_data, test_data, config, execution_config=None):
            return {"history": {"train_loss": [0.0], "val_loss": []}, "config": config.backend}

        return {"train_cdi_model": train_cdi_model}.get(name) or super().workflow(name)

    def train(self, *arguments, **options):
        raise NotImplementedError

    def predict(self, *arguments, **options):
        raise NotImplementedError
'''


def add_distribution(site: Path, name: str, engine: str) -> None:
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"{GROUP}\n{name} = {engine}\n")


def python(site: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh process that finds the distributions in ``site`` too."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(site)},
    )


def test_engines_of_this_package_are_listed_and_loaded_once() -> None:
    assert set(BACKENDS) <= set(registry.list_engines())
    for name in BACKENDS:
        engine = registry.get_engine(name)
        assert isinstance(engine, Engine)
        assert engine.name == name
        assert registry.get_engine(name) is engine
    assert len({registry.get_engine(name).model_suffix for name in BACKENDS}) == len(BACKENDS)


def test_unknown_engine_lists_those_that_exist() -> None:
    with pytest.raises(ValueError, match=r"'jax'.*'pytorch'.*'tensorflow'"):
        registry.get_engine("jax")


def test_broken_engine_is_named_and_hurts_no_other(tmp_path: Path) -> None:
    """In a fresh process, with a distribution that brings an engine which cannot be imported."""
    add_distribution(tmp_path, "abacus", "no_such_module:Engine")
    (tmp_path / "some.ckpt").write_bytes(b"not a model")
    result = python(
        tmp_path,
        "from pathlib import Path; from ptychopinn_ptychodus.backends import registry\n"
        "print(sorted(registry.list_engines()))\n"
        "try: registry.get_engine('abacus')\n"
        "except RuntimeError as exc: print(exc)\n"
        "print(registry.get_engine('pytorch').name, registry.get_engine('tensorflow').name)\n"
        f"try: registry.guess_engine(Path({str(tmp_path / 'some.ckpt')!r}))\n"
        "except ValueError as exc: print(exc)\n",
    )
    listed, error, others, guess = result.stdout.splitlines()
    assert "abacus" in listed
    assert "'abacus'" in error
    assert "no_such_module" in error
    assert others == "pytorch tensorflow"
    assert "some.ckpt" in guess
    assert "abacus" in result.stderr


def test_something_that_is_no_engine_is_refused(tmp_path: Path) -> None:
    add_distribution(tmp_path, "abacus", "builtins:dict")
    code = (
        "from ptychopinn_ptychodus.backends import registry\n"
        "try: registry.get_engine('abacus')\n"
        "except RuntimeError as exc: print(exc)\n"
    )
    assert "'abacus' (builtins:dict) is not an Engine" in python(tmp_path, code).stdout


def test_third_party_engine_is_as_good_as_our_own(tmp_path: Path) -> None:
    """In a fresh process: listed, loaded, accepted by the configuration, found by content, dispatched to."""
    (tmp_path / "abacus_engine.py").write_text(THIRD_PARTY)
    add_distribution(tmp_path, "abacus", "abacus_engine:AbacusEngine")
    (tmp_path / "model.ckpt").write_bytes(b"beads")
    result = python(
        tmp_path,
        "import json, sys\n"
        "from pathlib import Path\n"
        "from ptychopinn_ptychodus import params\n"
        "from ptychopinn_ptychodus.backends import registry\n"
        "from ptychopinn_ptychodus.config import InferenceConfig, TrainingConfig\n"
        "from ptychopinn_ptychodus.workflows import backend_selector as selector\n"
        "config = TrainingConfig(backend='abacus')\n"
        "answer = {'listed': list(registry.list_engines())}\n"
        "answer['title'] = registry.get_engine('abacus').title\n"
        f"answer['guess'] = registry.guess_engine(Path({str(tmp_path / 'model.ckpt')!r})).name\n"
        "answer['results'] = selector.train_cdi_model_with_backend(None, None, config)\n"
        "answer['legacy'] = params.cfg['backend']\n"
        "try: selector.load_inference_bundle_with_backend('x', InferenceConfig(backend='abacus'))\n"
        "except RuntimeError as exc: answer['lacks'] = str(exc)\n"
        "try: TrainingConfig(backend='slide rule')\n"
        "except ValueError as exc: answer['unknown'] = str(exc)\n"
        "print(json.dumps(answer))\n",
    )
    answer = json.loads(result.stdout)
    assert answer["listed"] == ["abacus", "pytorch", "tensorflow"]
    assert answer["title"] == "Abacus"
    assert answer["guess"] == "abacus"
    assert answer["results"]["backend"] == answer["results"]["config"] == answer["legacy"] == "abacus"
    assert "'abacus'" in answer["lacks"]
    assert "load_inference_bundle" in answer["lacks"]
    assert "'tensorflow', 'pytorch', 'abacus'" in answer["unknown"]


class _Fake(Engine):
    """An engine whose models start with its name."""

    model_suffix = ".model"
    model_filter = ""

    def __init__(self, name: str, *, missing: bool = False) -> None:
        self.name, self.title, self._missing = name, name.title(), missing  # type: ignore[misc]

    def problem(self) -> str | None:
        return f"{self.title} backend selected, but it is unavailable" if self._missing else None

    def recognises(self, path: Path) -> bool:
        return path.read_text().startswith(self.name)

    def accelerators(self) -> list[str]:
        raise NotImplementedError

    def describe(self, path: Path) -> Any:
        raise NotImplementedError

    def read_state(self, *_: Any) -> Any:
        raise NotImplementedError

    def write_state(self, *_: Any) -> None:
        raise NotImplementedError

    def train(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    def predict(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


class _Loner(_Fake):
    """Takes over no models."""

    write_state = Engine.write_state


class _Secretive(_Fake):
    """Hands over no models."""

    read_state = Engine.read_state


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have these engines installed, and no others; an exception stands for one that cannot be loaded."""

    def install(**engines: Engine | Exception) -> None:
        def get_engine(name: str) -> Engine:
            engine = engines[name]
            if isinstance(engine, Exception):
                raise engine
            return engine

        monkeypatch.setattr(registry, "list_engines", lambda: engines)
        monkeypatch.setattr(registry, "get_engine", get_engine)

    return install


@pytest.fixture
def beta(tmp_path: Path) -> Path:
    """A model of the engine ``beta``."""
    path = tmp_path / "a.model"
    path.write_text("beta: a model")
    return path


def test_two_engines_of_one_name_are_told_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    twins = [EntryPoint("twin", f"{name}:Engine", BACKEND_GROUP) for name in ("first", "second")]
    monkeypatch.setattr(registry, "entry_points", lambda group: twins)
    assert registry.list_engines.__wrapped__()["twin"].value == "second:Engine"
    assert "first:Engine" in caplog.text
    assert "second:Engine" in caplog.text


class TestEngineFor:
    def test_the_writer_opens_its_own_whatever_is_preferred(self, install: Any, beta: Path) -> None:
        install(alpha=_Fake("alpha"), beta=_Fake("beta"))
        assert registry.engine_for(beta).name == "beta"
        assert registry.engine_for(beta, "alpha").name == "beta"

    def test_without_its_framework_another_one_does(self, install: Any, beta: Path) -> None:
        install(alpha=_Fake("alpha"), beta=_Fake("beta", missing=True), gamma=_Fake("gamma"))
        assert registry.engine_for(beta).name == "alpha"
        assert registry.engine_for(beta, "gamma").name == "gamma"
        assert registry.engine_for(beta, "beta").name == "alpha"

    def test_one_that_is_preferred_and_missing_or_broken_is_passed_over(
        self, install: Any, beta: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        install(alpha=_Fake("alpha", missing=True), beta=_Fake("beta", missing=True), gamma=_Fake("gamma"))
        assert registry.engine_for(beta, "alpha").name == "gamma"
        install(alpha=RuntimeError("broken"), beta=_Fake("beta", missing=True), gamma=_Fake("gamma"))
        assert registry.engine_for(beta, "alpha").name == "gamma"
        assert "broken" in caplog.text

    def test_one_that_takes_over_no_models_is_passed_over(self, install: Any, beta: Path) -> None:
        install(alpha=_Loner("alpha"), beta=_Fake("beta", missing=True), gamma=_Fake("gamma"))
        assert registry.engine_for(beta, "alpha").name == "gamma"

    def test_one_that_hands_over_no_models_says_what_to_install(self, install: Any, beta: Path) -> None:
        """Whoever else is installed: no other engine could read the model."""
        install(alpha=_Fake("alpha"), beta=_Secretive("beta", missing=True))
        with pytest.raises(EngineUnavailableError, match="Beta backend selected"):
            registry.engine_for(beta, "alpha")
        install(alpha=_Fake("alpha"), beta=_Secretive("beta"))
        assert registry.engine_for(beta, "alpha").name == "beta"

    def test_one_that_fails_to_look_hides_no_other(
        self, install: Any, beta: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        alpha = _Fake("alpha")
        monkeypatch.setattr(alpha, "recognises", lambda path: 1 / 0)
        install(alpha=alpha, beta=_Fake("beta"))
        assert registry.guess_engine(beta).name == "beta"
        assert "'alpha'" in caplog.text

    def test_with_no_framework_at_all_the_writer_says_what_to_install(self, install: Any, beta: Path) -> None:
        install(alpha=_Fake("alpha", missing=True), beta=_Fake("beta", missing=True))
        with pytest.raises(EngineUnavailableError, match="Beta backend selected"):
            registry.engine_for(beta, "alpha")

    def test_a_file_that_is_missing_or_foreign_is_refused(self, install: Any, tmp_path: Path) -> None:
        install(alpha=_Fake("alpha"))
        with pytest.raises(FileNotFoundError, match="nowhere"):
            registry.engine_for(tmp_path / "nowhere")
        (tmp_path / "foreign").write_text("a letter")
        with pytest.raises(ModelFileError, match=r"foreign.*alpha"):
            registry.engine_for(tmp_path / "foreign")


@pytest.fixture(scope="module")
def models(scan: RawData, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A real model file of each engine of this package."""
    directory = tmp_path_factory.mktemp("models")
    for name in BACKENDS:
        problem = registry.get_engine(name).problem()
        if problem is not None:
            pytest.skip(problem)
    config = TrainingConfig(
        model=ModelConfig(architecture="unrolled", n_filters_scale=1),
        nepochs=1,
        n_groups=8,
        output_dir=directory,
        backend="pytorch",
    )
    quick = ExecutionConfig(accelerator="cpu", logger_backend="none")
    files = {name: directory / f"model{registry.get_engine(name).model_suffix}" for name in BACKENDS}
    train = scan.generate_grouped_data(64, 4, 8, seed=0)
    registry.get_engine("pytorch").train(train, None, config, quick, model_path=files["pytorch"])
    convert(files["pytorch"], files["tensorflow"], "tensorflow")
    return files


class TestGuess:
    @pytest.mark.parametrize("name", BACKENDS)
    @pytest.mark.parametrize("called", ["as it is", "as the other", "without a suffix"])
    def test_goes_by_content_and_not_by_name(
        self, models: dict[str, Path], tmp_path: Path, name: str, called: str
    ) -> None:
        other = next(path for key, path in models.items() if key != name)
        path = tmp_path / {"as it is": models[name].name, "as the other": other.name}.get(called, "model")
        shutil.copy(models[name], path)
        engine = registry.guess_engine(path)
        assert engine.name == name
        assert engine.describe(path).engine == name
        assert registry.engine_for(path, next(iter(set(BACKENDS) - {name}))).name == name

    @pytest.mark.parametrize("name", BACKENDS)
    def test_half_a_model_is_refused_or_named_as_damaged(
        self, models: dict[str, Path], tmp_path: Path, name: str
    ) -> None:
        path = tmp_path / models[name].name
        path.write_bytes(models[name].read_bytes()[: models[name].stat().st_size // 2])
        with pytest.raises(ModelFileError, match=path.name):
            registry.guess_engine(path).describe(path)

    def test_any_other_archive_is_not_a_model(self, tmp_path: Path) -> None:
        path = tmp_path / "model.wts.h5.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "nothing")
        with pytest.raises(ModelFileError, match=path.name):
            registry.guess_engine(path)


class TestFindModel:
    """Of ``beta``, the models end in ``.beta``, and begin with ``beta``; of ``wide``, in ``.wide.zip``."""

    @pytest.fixture(autouse=True)
    def engines(self, install: Any) -> None:
        found = {}
        for name, suffix in (("beta", ".beta"), ("wide", ".wide.zip")):
            found[name] = _Fake(name)
            found[name].model_suffix = suffix  # type: ignore[misc]
        install(**found)

    def fill(self, directory: Path, **files: str) -> None:
        """Files by name, with ``_`` for the dots in it."""
        for name, content in files.items():
            (directory / name.replace("_", ".")).write_text(content)

    def test_a_file_is_taken_as_it_is(self, tmp_path: Path) -> None:
        assert registry.find_model(tmp_path / "nowhere") == tmp_path / "nowhere"

    @pytest.mark.parametrize("name", ["model.beta", "best.beta", "model.wide.zip", "wide.zip"])
    def test_the_one_model_is_found_whatever_it_is_called(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text(name[-4:].replace(".zip", "wide") + ", a model")
        self.fill(tmp_path, scan_npz="a scan", notes_txt="beta looks good", other_beta="of another program")
        (tmp_path / "old.beta").mkdir()
        assert registry.find_model(tmp_path) == tmp_path / name

    def test_the_usual_name_goes_before_others(self, tmp_path: Path) -> None:
        self.fill(tmp_path, model_beta="beta: the newest", old_beta="beta: an older one")
        assert registry.find_model(tmp_path).name == "model.beta"
        self.fill(tmp_path, model_beta="damaged")
        assert registry.find_model(tmp_path).name == "model.beta"

    def test_one_that_is_damaged_is_refused_when_it_is_opened(self, tmp_path: Path) -> None:
        self.fill(tmp_path, best_beta="damaged")
        with pytest.raises(ModelFileError, match=r"best\.beta"):
            registry.guess_engine(registry.find_model(tmp_path))

    def test_none_and_several_are_told_of(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r'no model file in .*"\.beta" or "\.wide\.zip"'):
            registry.find_model(tmp_path)
        self.fill(tmp_path, first_beta="beta: 1", second_beta="beta: 2")
        with pytest.raises(ValueError, match=r'several model files.*"first\.beta", "second\.beta"'):
            registry.find_model(tmp_path)
        self.fill(tmp_path, model_beta="beta: 3", wide_zip="wide: 4")
        with pytest.raises(ValueError, match=r'several model files.*"model\.beta", "wide\.zip"'):
            registry.find_model(tmp_path)

    def test_for_scripts_the_engines_own_name_goes_before_all_others(self, tmp_path: Path) -> None:
        assert registry.find_model_of_run(tmp_path / "nowhere", "beta") == tmp_path / "nowhere"
        assert registry.find_model_of_run(tmp_path, "wide.zip") == tmp_path / "wide.zip"  # where it would be
        self.fill(tmp_path, model_beta="beta: 1")
        assert registry.find_model_of_run(tmp_path, "wide.zip") == tmp_path / "model.beta"
        self.fill(tmp_path, wide_zip="wide: 2", model_wide_zip="wide: 3")
        assert registry.find_model_of_run(tmp_path, "wide.zip") == tmp_path / "wide.zip"
        with pytest.raises(ValueError, match=r'several.*"model\.beta", "model\.wide\.zip", "wide\.zip"'):
            registry.find_model_of_run(tmp_path, "model.horizon")

    def test_for_scripts_other_names_are_not_what_a_run_has_left(self, tmp_path: Path) -> None:
        self.fill(tmp_path, best_beta="beta: a checkpoint")
        assert registry.find_model(tmp_path) == tmp_path / "best.beta"
        assert registry.find_model_of_run(tmp_path, "model.beta") == tmp_path / "model.beta"


INCOMPLETE = """
from ptychopinn_ptychodus.backends import registry
for name in ("abacus", "beads"):
    try: print(registry.get_engine(name).problem())
    except RuntimeError as exc: print(exc)
"""


def test_an_engine_that_is_not_complete_is_told_what_to_write(tmp_path: Path) -> None:
    """One says too little of itself, and the same under another name; a framework's name can be left out."""
    lines = THIRD_PARTY.splitlines(keepends=True)
    (tmp_path / "lacking.py").write_text(
        "".join(line for line in lines if "suffix" not in line and "hint" not in line)
    )
    add_distribution(tmp_path, "abacus", "lacking:AbacusEngine")
    add_distribution(tmp_path, "beads", "whole:AbacusEngine")
    (tmp_path / "whole.py").write_text(THIRD_PARTY)
    lacking, other = python(tmp_path, INCOMPLETE).stdout.splitlines()
    assert "Engine 'abacus' (lacking:AbacusEngine) is not complete: " in lacking
    assert 'write model_suffix = "…", install_hint = "…" into its class' in lacking
    assert "Engine 'beads' (whole:AbacusEngine) calls itself 'abacus'" in other


def test_an_engine_without_a_framework_need_not_say_so() -> None:
    class Plain(_Fake):
        install_hint = "nothing"
        problem = Engine.problem

    Plain("plain").load()
    assert Plain("plain").problem() is None

    class Needy(Plain):
        needed = ("no_such_package",)

    with pytest.raises(EngineUnavailableError, match=r"^Needy backend selected.*no_such_package.*nothing"):
        Needy("needy").load()
