"""Two libraries as small as Ptychodus allows: one that learns, and one that iterates.

The broken libraries of these tests are this one with one thing wrong each.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ptychodus.api.io import load_diffraction_data, load_product
from ptychodus.api.object import Object
from ptychodus.api.product import LossValue, Product
from ptychodus.api.reconstruct import (
    ReconstructInput,
    Reconstructor,
    ReconstructorLibrary,
    ReconstructOutput,
    TrainableReconstructor,
    TrainOutput,
    prepare_reconstruct_input,
)
from ptychodus.api.settings import SettingsRegistry


def with_object(product: Product, array: np.ndarray[Any, Any]) -> Product:
    """The product with another object on the same grid."""
    before = product.object_
    return Product(
        metadata=product.metadata,
        probe_positions=product.probe_positions,
        probes=product.probes,
        object_=Object(array, before.get_pixel_geometry(), before.get_center(), list(before.layer_spacing_m)),
        losses=product.losses,
    )


class Learner(TrainableReconstructor):
    """Its model is one number, the mean count of a pixel, and so is its object."""

    def __init__(self, name: str, settings: MinimalSettings, library: ReconstructorLibrary) -> None:
        super().__init__()
        self._name = name
        self.settings = settings
        self.logger = library.get_logger()
        self.model: float | None = None

    @property
    def name(self) -> str:
        return self._name

    def get_progress_goal(self) -> int:
        return self.settings.epochs.get_value()

    def is_model_loaded(self) -> bool:
        return self.model is not None

    def get_model_file_filter(self) -> str:
        return "Minimal Models (*.npy)"

    def get_model_file_extension(self) -> str:
        return ".npy"

    def get_training_data_file_filter(self) -> str:
        return "Minimal Training Data (*.npz)"

    def load_model_from_file(self, file_path: Path) -> None:
        try:
            self.model = float(np.load(file_path, allow_pickle=False))
        except (OSError, ValueError, EOFError) as exc:
            raise ValueError(f'"{file_path}" is not a model: {exc}') from exc

    def save_model(self, file_path: Path) -> None:
        if self.model is None:
            raise RuntimeError("There is no model to save.")
        np.save(file_path, self.model)

    def export_training_data(self, file_path: Path, parameters: ReconstructInput) -> None:
        np.savez(file_path, patterns=parameters.diffraction_patterns)

    def read(self, directory: Path) -> np.ndarray[Any, Any]:
        """Patterns of whatever the directory holds."""
        exported = directory / "train_data.npz"
        if exported.is_file():
            with np.load(exported, allow_pickle=False) as data:
                return np.asarray(data["patterns"])
        if (directory / "diffraction.h5").is_file():
            data = load_diffraction_data(directory / "diffraction.h5")
            product = load_product(directory / "product.h5")
            return np.asarray(prepare_reconstruct_input(data, product).diffraction_patterns)
        raise FileNotFoundError(f'There are no training data in "{directory}".')

    def train(self, input_path: Path, output_path: Path) -> Iterator[TrainOutput]:
        try:
            mean = float(self.read(input_path).mean())
            losses = []
            goal = self.get_progress_goal()
            for epoch in range(1, goal + 1):
                losses.append(LossValue(epoch, mean / epoch))
                if epoch == goal:
                    self.model = mean
                    self.save_model(output_path / f"model{self.get_model_file_extension()}")
                yield TrainOutput(training_loss=list(losses), progress=epoch)
        except Exception as exc:
            self.logger.error("Training failed: %s", exc)
            raise

    def reconstruct(self, parameters: ReconstructInput) -> Iterator[ReconstructOutput]:
        if self.model is None:
            self.logger.error("There is no model.")
            raise RuntimeError("There is no model: train one, or load one.")
        array = np.full_like(parameters.product.object_.get_array(), self.model)
        yield ReconstructOutput(with_object(parameters.product, array), self.get_progress_goal())


class Iterator3(Reconstructor):
    """Not trainable: three steps, each with an output."""

    @property
    def name(self) -> str:
        return "Three_Steps"

    def get_progress_goal(self) -> int:
        return 3

    def reconstruct(self, parameters: ReconstructInput) -> Iterator[ReconstructOutput]:
        for step in range(1, 4):
            array = parameters.product.object_.get_array() * np.exp(0.1j * step)
            yield ReconstructOutput(with_object(parameters.product, array.astype(np.complex64)), step)


class MinimalSettings:
    """One group of settings."""

    def __init__(self, registry: SettingsRegistry, name: str) -> None:
        group = registry.create_group(name)
        self.epochs = group.create_integer_parameter("Epochs", 3, minimum=1)
        self.rate = group.create_real_parameter("LearningRate", 1e-3, minimum=0.0)
        self.optimiser = group.create_string_parameter("Optimiser", "sgd")
        self.shuffle = group.create_boolean_parameter("Shuffle", True)


class MinimalLibrary(ReconstructorLibrary):
    """One of each."""

    learner: type[Learner] = Learner
    title = "Minimal"
    group = "Minimal"

    def __init__(self, settings_registry: SettingsRegistry, is_developer_mode_enabled: bool) -> None:
        super().__init__("minimal")
        self.settings = MinimalSettings(settings_registry, self.group)
        self.reconstructors: list[Reconstructor] = [
            self.learner("Learner", self.settings, self),
            Iterator3(),
        ]

    @property
    def name(self) -> str:
        return self.title

    def __iter__(self) -> Iterator[Reconstructor]:
        return iter(self.reconstructors)
