"""A network of either engine for ``throughput.py``: applied and trained in the ways that it compares."""

from __future__ import annotations

import itertools
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ptychopinn_ptychodus.config import ExecutionConfig, ModelConfig, TrainingConfig


@dataclass(frozen=True)
class Way:
    """How to run a network; the defaults are the package's."""

    precision: str = "32-true"
    channels_last: bool = True
    graph: str = ""  # 'compiled' or 'CUDA graphs' (PyTorch), 'eager' or 'XLA' (TensorFlow)
    batch: int = 0  # patterns at once, 0: the engine's choice
    workers: int = 0

    def execution(self, device: str, channels: int) -> ExecutionConfig:
        return ExecutionConfig(
            accelerator=device,
            precision=self.precision,
            scheduler="constant",
            inference_batch_size=max(1, self.batch // channels) if self.batch else None,
            num_workers=self.workers,
        )


class TorchNetwork:
    """By PyTorch; ``device`` is what ``accelerator`` takes."""

    def __init__(self, container: Any, model: ModelConfig, device: str, way: Way) -> None:
        import torch

        from ptychopinn_ptychodus.backends.lightning.inference import choose_device
        from ptychopinn_ptychodus.backends.lightning.module import PtychoPINN_Lightning

        # a module that is stepped by hand has no trainer to log to
        warnings.filterwarnings("ignore", message=".*self.log.*")
        self.torch, self.container = torch, container
        self.execution = way.execution(device, model.channels)
        self.device = choose_device(device)
        torch.manual_seed(0)
        self.module = PtychoPINN_Lightning.for_data(container, TrainingConfig(model=model), self.execution)
        self.module.to(self.device)
        if not way.channels_last:
            # torch has no overload with the format alone
            self.module.network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        if way.graph:
            self.module.network.compile(mode="reduce-overhead" if way.graph == "CUDA graphs" else None)
        dtype = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}.get(way.precision)
        self.mixed = torch.autocast(self.device.type, dtype, enabled=dtype is not None)

    def finish(self) -> None:
        """Wait for what the device has been told to do."""
        if self.device.type == "cuda":
            self.torch.cuda.synchronize()

    def predict(self) -> Any:
        """As the package applies a network."""
        from ptychopinn_ptychodus.backends.lightning.inference import predict

        return predict(self.module, self.container, self.execution)

    def load(self, groups: int) -> list[Any]:
        return list(self._loader(groups))

    def _loader(self, groups: int) -> Any:
        from ptychopinn_ptychodus.backends.lightning.loaders import GroupDataset, build_loader

        dataset = GroupDataset(self.container, self.module.data_config.input_scale)
        return build_loader(dataset, groups, self.execution, seed=0)

    def upload(self, batches: list[Any]) -> list[Any]:
        return [batch.to(self.device) for batch in batches]

    def run(self, batches: list[Any]) -> list[Any]:
        self.module.eval()
        with self.torch.inference_mode(), self.mixed:
            return [self.module(batch["amplitude"], batch["offsets"]) for batch in batches]

    def fetch(self, results: list[Any]) -> Any:
        return np.concatenate([result.cpu().numpy() for result in results])

    def stepper(self, groups: int) -> Callable[[], object]:
        """A function that loads a batch and learns from it."""
        module = self.module.train()
        optimizer = module.configure_optimizers()
        loader = self._loader(groups)
        batches = itertools.chain.from_iterable(itertools.repeat(loader))
        scaler = self.torch.amp.GradScaler(self.device.type, enabled=self.execution.precision == "16-mixed")

        def step() -> None:
            with self.mixed:
                loss = module.training_step(next(batches).to(self.device), 0)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()

        return step

    def peak_mb(self) -> float | None:
        """Of the device since the last time; None for a CPU."""
        if self.device.type != "cuda":
            return None
        peak = self.torch.cuda.max_memory_allocated() / 1e6
        self.torch.cuda.reset_peak_memory_stats()
        return float(peak)


class TensorFlowNetwork:
    """By TensorFlow."""

    def __init__(self, container: Any, model: ModelConfig, device: str, way: Way) -> None:
        from ptychopinn_ptychodus.backends.registry import get_engine

        engine: Any = get_engine("tensorflow")
        engine.load()
        import keras
        import tensorflow as tf

        from ptychopinn_ptychodus.backends.tensorflow.inference import available_devices
        from ptychopinn_ptychodus.backends.tensorflow.module import PtychoPINN_TensorFlow

        self.tf, self.container, self.way = tf, container, way
        self.gpu = device != "cpu" and available_devices()[0] == "gpu"
        self.execution = way.execution(device, model.channels)
        keras.utils.set_random_seed(0)
        self.model = PtychoPINN_TensorFlow.for_data(container, TrainingConfig(model=model), self.execution)
        # the graph is a cached property
        if way.graph == "eager":
            self.model.__dict__["patches_graph"] = self.model.patches
        elif way.graph == "XLA":
            self.model.__dict__["patches_graph"] = tf.function(self.model.patches, jit_compile=True)

    def finish(self) -> None:
        """Nothing to wait for: results are fetched as numpy wherever they are timed."""

    def predict(self) -> Any:
        from ptychopinn_ptychodus.backends.tensorflow.inference import predict

        return predict(self.model, self.container, self.execution)

    def load(self, groups: int) -> list[Any]:
        return list(self._dataset(groups))

    def upload(self, batches: list[Any]) -> list[Any]:
        """TensorFlow moves what it needs by itself."""
        return batches

    def run(self, batches: list[Any]) -> list[Any]:
        return [self.model.patches_graph(batch["amplitude"], batch["offsets"]) for batch in batches]

    def fetch(self, results: list[Any]) -> Any:
        return np.concatenate([result.numpy() for result in results])

    def stepper(self, groups: int) -> Callable[[], object]:
        self.model.configure_optimizer()
        if self.way.graph:
            eager, compiled = self.way.graph == "eager", self.way.graph == "XLA"
            self.model.compile(self.model.optimizer, run_eagerly=eager, jit_compile=compiled)
        self.model.make_train_function()
        function = self.model.train_function
        batches = iter(self._dataset(groups).repeat())
        return lambda: float(function(batches)["loss"])

    def _dataset(self, groups: int) -> Any:
        from ptychopinn_ptychodus.backends.tensorflow.loaders import build_dataset

        return build_dataset(self.container, self.container.input_scale, groups, self.execution)

    def peak_mb(self) -> float | None:
        if not self.gpu:
            return None
        peak = self.tf.config.experimental.get_memory_info("GPU:0")["peak"] / 1e6
        self.tf.config.experimental.reset_memory_stats("GPU:0")
        return float(peak)


NETWORKS: dict[str, type[TorchNetwork] | type[TensorFlowNetwork]] = {
    "pytorch": TorchNetwork,
    "tensorflow": TensorFlowNetwork,
}


def make_case(architecture: str, size: int, gridsize: int, patterns: int) -> tuple[Any, ModelConfig]:
    """Groups of a simulated scan, every pattern an anchor, and the configuration of a model for them."""
    from ptychopinn_ptychodus.data import simulation

    logging.getLogger("ptychopinn_ptychodus").setLevel(logging.ERROR)
    side = max(gridsize + 1, round((patterns / gridsize**2) ** 0.5))
    step = 0.1 * size
    x, y = simulation.raster_positions(side, side, step, origin=size, seed=0)
    extent = round(step * side + 2 * size)
    scan = simulation.simulate_scan(
        simulation.make_object((extent, extent)), simulation.make_probe(size), x, y, 1e6, seed=0
    )
    container = scan.generate_grouped_data(size, gridsize**2 + 2, None, gridsize=gridsize, seed=0)
    return container, ModelConfig(N=size, gridsize=gridsize, architecture=architecture)
