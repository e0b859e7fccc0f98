"""The products that are open in the application, and trainings on them.

Ptychodus hands a training two directories and no data. What it hands a reconstruction of a product is put
together by its processing API, and that is asked here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptychodus.api.observer import Observable
from ptychodus.api.reconstruct import ReconstructInput

from ..files import identity
from ..ptychodus_io.names import LIBRARY

logger = logging.getLogger(LIBRARY)


@dataclass(frozen=True)
class OpenProduct:
    """A product with diffraction data.

    Attributes
    ----------
    index
        Its number, by which Ptychodus knows it until products are removed.
    name
        Its name, which no other product has.
    size
        (rows, columns) of its patterns, in pixels.
    dataset
        Ptychodus' object of its diffraction data, which products may share.
    """

    index: int
    name: str
    size: tuple[int, int]
    dataset: Any


class OpenProducts(Observable):
    """What is open; notifies its observers when another product is selected, or the list changes.

    Parameters
    ----------
    task_manager, processing_api, product_api, diffraction_api
        Ptychodus' own. Without the last one, products are added without data.

    Attributes
    ----------
    selected
        Says the number of the product that is selected in the window; below 0, and without a window, there is
        none.
    """

    def __init__(
        self, task_manager: Any, processing_api: Any, product_api: Any, diffraction_api: Any = None
    ) -> None:
        super().__init__()
        self._frames = _OpenFrames(diffraction_api)
        self._tasks = task_manager
        self._processing = processing_api
        self._products = product_api
        self.selected: Callable[[], int] = lambda: -1

    @property
    def is_busy(self) -> bool:
        """Whether something is being trained or reconstructed."""
        return bool(self._processing.task_monitor.is_processing)

    def product(self, index: int) -> OpenProduct:
        """The product of that number.

        Raises
        ------
        ValueError
            If there is none, or it has no diffraction data to learn from.
        """
        found = next((product for product in self._with_data() if product.index == index), None)
        if found is None:
            raise ValueError(
                "No product with diffraction data is selected: open a scan's data and product, and select "
                "it, before training on it."
            )
        return found

    def alike(self, product: OpenProduct) -> list[OpenProduct]:
        """The product and all others with patterns of the same size, one for each set of diffraction data.

        Results have the data of the product that they were made of: those would be learnt from twice.
        """
        chosen = [product]
        for other in self._with_data():
            is_new = not any(other.dataset is each.dataset for each in chosen)
            if is_new and other.size == product.size:
                chosen.append(other)
        return sorted(chosen, key=lambda each: each.index)

    def input_of(self, product: OpenProduct) -> ReconstructInput:
        """Its patterns, probe, positions and object, as Ptychodus prepares them for a reconstruction.

        Raises
        ------
        ValueError
            If it has been removed, or cannot be reconstructed.
        """
        # by its name: numbers change when others are removed
        found = next((each for each in self._with_data() if each.name == product.name), None)
        if found is None:
            raise ValueError(f'The product "{product.name}" is no longer open, or has another name now.')
        prepared: ReconstructInput = self._processing.get_reconstruct_input(product_index=found.index)
        return prepared

    def add(self, path: Path, frames: Path | None = None) -> None:
        """Have a product file join the products that are open, soon; from any thread.

        Parameters
        ----------
        path
            The product.
        frames
            File of its patterns, which is opened with it; None: the product has none then.
        """
        self._tasks.put_foreground_task(_Addition(self._products, path, self._frames, frames))

    def put(self, goal: int, outputs: Callable[[], Iterator[Any]]) -> None:
        """Run a training as Ptychodus runs its own: in the background, with progress and Stop.

        Parameters
        ----------
        goal
            What counts as all of the progress.
        outputs
            Begins it, and yields a ``TrainOutput`` now and then.
        """
        self._tasks.put_background_task(_Training(self._processing.task_monitor, goal, outputs))

    def _with_data(self) -> Sequence[OpenProduct]:
        found: list[OpenProduct] = []
        index = 0
        while True:
            try:
                item = self._products.get_item(index)
            except IndexError:
                return found
            dataset = item.get_dataset()
            if dataset is not None and not item.is_pending() and not item.is_failed():
                extent = dataset.get_processed_image_extent()
                if extent is not None:
                    size = (int(extent.height_px), int(extent.width_px))
                    found.append(OpenProduct(index, item.get_name(), size, dataset))
            index += 1


class _OpenFrames:
    """Files of patterns that were opened here, each once for as long as it is the same and stays open."""

    def __init__(self, diffraction_api: Any) -> None:
        self._api = diffraction_api
        self._opened: dict[Path, tuple[tuple[int, ...], Any]] = {}

    def dataset_of(self, path: Path) -> Any:
        """Ptychodus' object of the patterns in a file; None, and a word in the log, if they cannot be had."""
        if self._api is None:
            logger.warning("This Ptychodus does not say what is open: the product has no patterns.")
            return None
        repository, is_now = self._api.get_repository(), identity(path)
        was, dataset = self._opened.get(path, ((), None))
        if was == is_now and any(each is dataset for each in repository):
            return dataset
        try:
            index = self._api.import_assembled_patterns(path)
            dataset = repository[index] if index >= 0 else None
        except Exception as exc:  # Ptychodus' reader lets through what the libraries beneath it raise
            logger.error('The patterns in "%s" cannot be opened: %s', path, exc)
            return None
        if dataset is not None:
            self._opened[path] = (is_now, dataset)
        return dataset


@dataclass(frozen=True)
class _Addition:
    """A foreground task of Ptychodus."""

    products: Any
    path: Path
    open_frames: _OpenFrames
    frames: Path | None

    def __call__(self) -> None:
        # imported here: the application does not wait for it when it starts
        from ptychodus.api.io import load_product

        try:
            product = load_product(self.path)
            dataset = None if self.frames is None else self.open_frames.dataset_of(self.frames)
            data = {} if dataset is None else {"dataset": dataset}
            index = self.products.insert_product(product, **data)
            name = self.products.get_item(index).get_name()  # there may have been one of that name
        except Exception as exc:  # Ptychodus' reader lets through what the libraries beneath it raise
            logger.error(
                'The product "%s" cannot be opened (%s): it may have been removed, or be damaged.',
                self.path,
                exc,
            )
            return
        of = "" if dataset is None else f', with the patterns in "{self.frames}"'
        logger.info('The product "%s" is among the products now%s.', name, of)


@dataclass(frozen=True)
class _Training:
    """A background task of Ptychodus, which shows its name in the log if it fails."""

    monitor: Any
    goal: int
    outputs: Callable[[], Iterator[Any]]

    def __call__(self) -> None:
        with self.monitor as monitor:
            monitor.update_progress(0, self.goal)
            outputs = self.outputs()
            try:
                for output in outputs:
                    monitor.update_progress(output.progress, self.goal)
                    if monitor.is_stopping:
                        break
            finally:
                outputs.close()  # type: ignore[attr-defined]
