"""Trainings on products that are open: which are taken, how they come to the worker, where the model goes."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from plugin_support import make_library, run
from ptychodus.api.reconstruct import ReconstructInput

from ptychopinn_ptychodus import remembered
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.plugin.open_products import OpenProducts
from ptychopinn_ptychodus.plugin.open_training import place_for
from ptychopinn_ptychodus.plugin.reconstructor import PtychoPINNReconstructor

pytestmark = pytest.mark.usefixtures("fake_site")

Scan = Callable[..., ReconstructInput]


@dataclass
class Item:
    """A product of Ptychodus' repository."""

    name: str
    dataset: Any
    pending: bool = False

    def get_name(self) -> str:
        return self.name

    def get_dataset(self) -> Any:
        return self.dataset

    def is_pending(self) -> bool:
        return self.pending

    def is_failed(self) -> bool:
        return False


class Dataset:
    def __init__(self, n: int) -> None:
        self.n = n

    def get_processed_image_extent(self) -> Any:
        return SimpleNamespace(width_px=self.n, height_px=self.n)


def scans_in_memory() -> int:
    gc.collect()
    return sum(isinstance(each, RawData) for each in gc.get_objects())


@dataclass
class Application:
    """As much of Ptychodus as a training on its products needs."""

    items: list[Item]
    scan: Scan
    is_processing: bool = False
    progress: list[int] = field(default_factory=list)
    is_stopping: bool = False

    def __post_init__(self) -> None:
        self.tasks: list[Callable[[], None]] = []
        self.held: list[int] = []
        self.products = OpenProducts(self, self, self)
        self.task_monitor = self

    def __enter__(self) -> Application:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def update_progress(self, progress: int, goal: int) -> None:
        self.progress.append(progress)

    def put_background_task(self, task: Callable[[], None]) -> None:
        self.tasks.append(task)

    def get_item(self, index: int) -> Item:
        return self.items[index]

    def get_reconstruct_input(self, *, product_index: int) -> ReconstructInput:
        self.held.append(scans_in_memory())
        return self.scan(30, self.items[product_index].dataset.n)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where remembered models go."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(remembered, "remembered_directory", lambda kind: tmp_path / "home" / kind)
    return tmp_path / "home" / "models"


@pytest.fixture
def application(scan: Scan) -> Application:
    first, second = Dataset(64), Dataset(64)
    return Application(
        [
            Item("one", first),
            Item("result of one", first),
            Item("no data", None),
            Item("small", Dataset(32)),
            Item("two", second),
            Item("under way", Dataset(64), pending=True),
        ],
        scan,
    )


def pinn(application: Application, **values: Any) -> PtychoPINNReconstructor:
    library = make_library(Training_Epochs=1, **values)
    reconstructor = next(iter(library))
    assert isinstance(reconstructor, PtychoPINNReconstructor)
    reconstructor.attach_open_products(application.products)
    return reconstructor


def test_products_alike_are_those_of_one_size_each_with_data_of_its_own(application: Application) -> None:
    def names(index: int) -> list[str]:
        products = application.products
        return [product.name for product in products.alike(products.product(index))]

    assert names(0) == ["one", "two"]
    assert names(1) == ["result of one", "two"]
    assert names(3) == ["small"]
    for without_data in (2, 5, 6, -1):
        with pytest.raises(ValueError, match="No product with diffraction data"):
            application.products.product(without_data)


def test_it_trains_on_the_selected_product_and_loads_the_model(
    application: Application, home: Path, scan: Scan, log: pytest.LogCaptureFixture
) -> None:
    reconstructor = pinn(application)
    application.products.selected = lambda: 0
    directory = reconstructor.train_on_open()
    assert directory.parent == home / "one"
    (task,) = application.tasks
    assert not reconstructor.is_model_loaded()
    task()
    assert reconstructor.require_model() == directory / "model.ckpt"
    assert application.progress[-1] == reconstructor.get_progress_goal()
    assert str(directory) in log.text
    assert run(reconstructor.reconstruct(scan()))


def test_it_trains_on_all_of_one_size(application: Application, home: Path) -> None:
    reconstructor = pinn(application)
    before = scans_in_memory()
    directory = reconstructor.train_on_open(4, all_alike=True)
    assert directory.parent == home / "two and 1 more"
    application.tasks[0]()
    model = json.loads(reconstructor.require_model().read_text())
    assert model["groups"] > 30  # of one scan there are 30 at most
    assert application.held == [before, before], "a scan was held while the next one was taken over"


def test_a_product_that_is_gone_or_damaged_is_left_out_or_refused(
    application: Application, log: pytest.LogCaptureFixture
) -> None:
    reconstructor = pinn(application)
    reconstructor.train_on_open(4, all_alike=True)
    del application.items[0:2]  # numbers change, and one of the two is gone
    with pytest.raises(ValueError, match='"one" is no longer open'):
        application.tasks[0]()
    lenient = pinn(application, Data_SkipDamaged=True)
    application.items.insert(0, Item("one", Dataset(64)))
    lenient.train_on_open(0, all_alike=True)
    del application.items[0]
    application.tasks[1]()
    assert lenient.is_model_loaded()
    assert any(finding.code == "scan-left-out" for finding in lenient.findings.findings)


def test_nothing_begins_while_something_is_under_way(application: Application, home: Path) -> None:
    application.is_processing = True
    with pytest.raises(RuntimeError, match="under way"):
        pinn(application).train_on_open(0)
    assert not home.exists()


def test_a_training_that_fails_leaves_no_directory(
    application: Application, home: Path, wish: Callable[..., None]
) -> None:
    wish(raises="MemoryError")
    reconstructor = pinn(application)
    reconstructor.train_on_open(0)
    with pytest.raises(MemoryError):
        application.tasks[0]()
    assert not (home / "one").exists()
    assert not reconstructor.is_model_loaded()


def test_without_the_application_it_says_so() -> None:
    reconstructor = next(iter(make_library()))
    assert isinstance(reconstructor, PtychoPINNReconstructor)
    with pytest.raises(RuntimeError, match="does not say what is open"):
        reconstructor.train_on_open(0)


class TestPlaces:
    def test_each_training_has_its_own(self, home: Path) -> None:
        places = [place_for("a scan", resume=False) for _ in range(3)]
        assert len(set(places)) == 3
        assert {place.parent for place in places} == {home / "a scan"}

    @pytest.mark.parametrize(
        ("name", "directory"), [("../../etc", "_.._etc"), ("a/b:c", "a_b_c"), ("..", "scan"), ("", "scan")]
    )
    def test_a_name_leads_nowhere_else(self, name: str, directory: str, home: Path) -> None:
        assert place_for(name, resume=False).parent == home / directory

    def test_the_newest_interrupted_training_is_gone_on_with(self, home: Path) -> None:
        older, newer = (place_for("a scan", resume=False) for _ in range(2))
        with pytest.raises(ValueError, match="no interrupted training"):
            place_for("a scan", resume=True)
        for place in (older, newer):
            (place / "checkpoints").mkdir()
            (place / "checkpoints" / "training.state").touch()
        assert place_for("a scan", resume=True) == max(older, newer)
