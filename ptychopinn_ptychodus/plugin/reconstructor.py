"""``PINN`` and ``Supervised``: the life of a model in Ptychodus, from training data to a product.

This runs in the application's process, in a worker thread under the GUI: no framework, no Qt, no pyplot.
Each train and each reconstruct is a job of a child process (:mod:`.training`, :mod:`.reconstruction`).
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Generator, Mapping
from functools import partial
from pathlib import Path

from ptychodus.api.product import LossValue
from ptychodus.api.reconstruct import (
    ReconstructInput,
    ReconstructOutput,
    TrainableReconstructor,
    TrainOutput,
)

from ..backends.base import Engine
from ..backends.framework import EngineUnavailableError
from ..backends.registry import engine_for, guess_engine
from ..files import replacing
from ..ptychodus_io.names import KEYS, MODEL_BASENAME, REFINEMENT
from ..settings_table import RESUME, START
from .base import NoModelError, PluginReconstructor
from .open_training import hand_over, place_for, removed_if_empty
from .reconstruction import ReconstructionRun
from .selection import BACKEND_SETTING, model_file_type, preferred_backend
from .settings import make_examination_config
from .training import TrainingRun, make_train_job, output_directory


class PtychoPINNReconstructor(PluginReconstructor, TrainableReconstructor):
    """One trainable reconstructor; what it is trained on is ``model_type``.

    It notifies its observers of another loaded model, of epochs and of previews, in whatever thread that
    happens. Its parameters are those of :class:`.PluginReconstructor`.
    """

    _model_path: Path | None = None

    @property
    def training_curves(self) -> dict[str, list[LossValue]]:
        """Losses of the training that is running, for the application's plot; empty when none is."""
        return self._shown.curves

    @property
    def reading(self) -> str:
        """Which of several scans a training is reading, for people; empty when none is."""
        return self._shown.reading

    # ---- what the application asks before it does anything: none of it may raise

    def is_model_loaded(self) -> bool:
        return self._model_path is not None

    def get_model_file_filter(self) -> str:
        return model_file_type(self._settings)[1]

    def get_model_file_extension(self) -> str:
        return model_file_type(self._settings)[0]

    def get_training_data_file_filter(self) -> str:
        return "PtychoPINN Training Data (*.npz)"

    # ---- hooks of attach.py

    def require_model(self) -> Path:
        """The loaded model's path.

        Raises
        ------
        NoModelError
            If none is loaded.
        FileNotFoundError
            If its file is gone.
        """
        path = self._model_path
        if path is None:
            raise NoModelError(
                f"{self.name} has no model. Train one, or load a model file; without the window, leave it in "
                f'the input directory as "{MODEL_BASENAME}{self.get_model_file_extension()}". The setting '
                f"{BACKEND_SETTING} decides on the extension: models of other engines are not looked for. "
                f'The algorithm {REFINEMENT} ("{KEYS[REFINEMENT]}") finds the object without a model.'
            )
        if not path.is_file():
            raise FileNotFoundError(
                f'The loaded model file "{path}" is no longer there. Load another one, or train again.'
            )
        return path

    def _model_for_live(self) -> Path | None:
        return self.require_model()

    # ---- model files

    def load_model_from_file(self, file_path: Path) -> None:
        with self._reporting("The model was not loaded"):
            path = Path(file_path).absolute()
            writer = guess_engine(path)
            self._take(path)
            self._logger.info('Loaded "%s", a model of %s.', path, writer.title)
            try:
                self._engine_for(path)
            except EngineUnavailableError as exc:
                # no error yet: Ptychodus answers one here with a traceback, and the run says it again
                self._logger.warning("Before it can be used: %s", exc)

    def _take(self, path: Path) -> None:
        self._model_path = path
        self.notify_observers()  # of a retrained model as well, whose path is the same

    def _engine_for(self, path: Path) -> Engine:
        """The engine that opens a model: the one that wrote it, or one to convert it for; the log says so."""
        try:
            return engine_for(path, preferred_backend(self._settings))
        except EngineUnavailableError as exc:
            writer = guess_engine(path)
            raise EngineUnavailableError(
                f'The model "{path}" was written by the engine {writer.name!r}, and no framework that could '
                f"open it is installed. {exc}"
            ) from exc

    def save_model(self, file_path: Path) -> None:
        with self._reporting("The model was not saved"):
            source, target = self.require_model(), Path(file_path).absolute()
            if target.exists() and target.samefile(source):
                return
            with source.open("rb") as model, replacing(target) as copy:
                shutil.copyfileobj(model, copy)
            written = source.stat()
            with contextlib.suppress(OSError):  # a file system without dates
                os.utime(target, ns=(written.st_atime_ns, written.st_mtime_ns))

    def export_training_data(self, file_path: Path, parameters: ReconstructInput) -> None:
        with self._reporting("The training data were not exported"):
            path = Path(file_path)
            if path.suffix != ".npz":
                path = path.with_name(f"{path.name}.npz")
            # imported here: the application does not wait for it when it starts
            from ..ptychodus_io.ingest import from_reconstruct_input

            examination = make_examination_config(self._settings)
            raw = from_reconstruct_input(parameters, with_object=True, examination=examination)
            self._shown.show_findings(raw.findings)
            raw.to_file(path)

    # ---- training

    def train(self, input_path: Path, output_path: Path) -> Generator[TrainOutput, None, None]:
        with (
            self._reporting("Training failed"),
            output_directory(self._settings, Path(output_path).absolute(), self._logger) as target,
        ):
            self._say_effort()
            job = make_train_job(
                self._settings,
                self.model_type,
                Path(input_path).absolute(),
                target,
                self._logger.getEffectiveLevel(),
                self._model_path,
            )
            yield from TrainingRun(
                job, self._shown, self._task, self._take, self._logger, self.warm.worker
            ).outputs()

    # ---- training on what is open

    def train_on_open(self, index: int | None = None, *, all_alike: bool = False) -> Path:
        """Begin a training on an open product, in the background, and return where its model will be.

        It is loaded when the training has ended. To be called in the thread that changes products.

        Parameters
        ----------
        index
            Number of the product; by default, that which is selected in the window.
        all_alike
            Train on all open products with patterns of the same size, too.

        Raises
        ------
        ValueError
            If there is no such product, it has no data, or there is no training of it to go on with.
        RuntimeError
            If something else is under way, or this application does not say what is open.
        OSError
            If there is no place for the model.
        """
        with self._reporting("Training failed"):
            products = self._open_products
            if products is None:
                raise RuntimeError("This Ptychodus does not say what is open: train on a directory.")
            if products.is_busy:
                raise RuntimeError("Something else is under way: wait for it, or stop it.")
            product = products.product(products.selected() if index is None else index)
            chosen = products.alike(product) if all_alike else [product]
            name = product.name
            if len(chosen) > 1:
                name += f" and {len(chosen) - 1} more"
            directory = place_for(name, resume=self._settings.choice(START) == RESUME)
            inputs = {each.name: partial(products.input_of, each) for each in chosen}
            self._logger.info('Training on %s; the model goes to "%s".', ", ".join(inputs), directory)
            products.put(self.get_progress_goal(), partial(self.train_on, inputs, directory))
            return directory

    def train_on(
        self, inputs: Mapping[str, Callable[[], ReconstructInput]], output_path: Path
    ) -> Generator[TrainOutput, None, None]:
        """Train on scans by name, each of which is asked for when the one before has been handed over."""
        with self._reporting("Training failed"), removed_if_empty(output_path):
            self._say_effort()
            job = make_train_job(
                self._settings,
                self.model_type,
                None,
                output_path,
                self._logger.getEffectiveLevel(),
                self._model_path,
                list(inputs),
            )
            run = TrainingRun(
                job,
                self._shown,
                self._task,
                self._take,
                self._logger,
                self.warm.worker,
                partial(self._hand_over, inputs),
            )
            yield from run.outputs()

    def _hand_over(self, inputs: Mapping[str, Callable[[], ReconstructInput]], directory: Path) -> None:
        left = hand_over(inputs, self._settings, directory, self._shown.show_reading)
        left.log(self._logger)
        self._shown.add_findings(left)

    # ---- reconstruction

    def reconstruct(self, parameters: ReconstructInput) -> Generator[ReconstructOutput, None, None]:
        with self._reporting("Reconstruction failed"):
            model_path = self.require_model()
            engine = self._engine_for(model_path)
            self._say_effort()
            run = ReconstructionRun(
                self._settings, self.model_type, self._shown, self._task, self._logger, self.warm.worker
            )
            yield from run.outputs(parameters, model_path, engine.name)
