"""Which devices, and processes, train one model together, and which of the processes this one is.

The devices of one machine are replicas in one process. On several machines there is a process on each,
started by whatever sets ``TF_CONFIG``, as TensorFlow's documentation has it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import tensorflow as tf

from ...config import ExecutionConfig, TrainingConfig
from ...launchers import TF_CONFIG, launched
from ..devices import require_devices, require_seed
from ..framework import one_line
from ..reporter import stopping_together
from .inference import kind_of, on_device
from .names import NAME


@dataclass(frozen=True)
class Group:
    """The replicas that train one model, each of which has its part of every batch.

    Attributes
    ----------
    rank, size
        Number of this process, from 0, and of all. The first one reports, and writes.
    local
        Number of replicas in each process.
    device
        The device of a single replica, as the setting ``accelerator`` has it.
    strategy
        TensorFlow's, of several replicas; else None.
    """

    rank: int = 0
    size: int = 1
    local: int = 1
    device: str = "auto"
    strategy: Any = None

    @property
    def replicas(self) -> int:
        """Number of replicas in all processes."""
        return self.size * self.local

    @property
    def own(self) -> range:
        """Numbers of the replicas of this process."""
        return range(self.rank * self.local, (self.rank + 1) * self.local)

    def scope(self) -> AbstractContextManager[Any]:
        """Variables that are made within belong to all replicas."""
        return on_device(self.device) if self.strategy is None else self.strategy.scope()

    def dealt(self, build: Callable[..., tf.data.Dataset]) -> Any:
        """What Keras learns from: ``build(replicas=…, own=…)``, whose batches go to the replicas in turn."""
        if self.strategy is None:
            return build()
        return self.strategy.distribute_datasets_from_function(
            lambda _: build(replicas=self.replicas, own=self.own)
        )

    @contextmanager
    def together(self) -> Iterator[None]:
        """If one of several processes leaves this block because it is to stop, all of them do."""
        if self.size == 1:
            yield
            return
        with stopping_together(lambda stops: self._sum(float(stops)) > 0):
            yield

    def wait(self, *, failed: bool = False) -> bool:
        """Wait for the other processes, and hear whether one of them has ``failed``."""
        return self._sum(float(failed)) > 0 if self.size > 1 else failed

    def _sum(self, value: float) -> float:
        """Sum of a value over all replicas."""
        found = self._add(tf.constant(value))
        return float(self.strategy.experimental_local_results(found)[0])

    @cached_property
    def _add(self) -> Any:
        def add(own: tf.Tensor) -> tf.Tensor:
            here = tf.identity(own)  # on the device of the replica, which the sum is taken on
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, here)

        return tf.function(lambda value: self.strategy.run(add, (value,)))


def group_of(config: TrainingConfig, execution: ExecutionConfig) -> Group:
    """The group that trains as ``execution`` asks, and this process' place in it.

    TensorFlow must not have computed anything in this process, if there are to be several replicas.

    Raises
    ------
    ValueError
        If there are other processes than ``execution`` asks for, or it asks for what is not possible.
    RuntimeError
        If a device is not there, or TensorFlow was in use before.
    """
    launch = launched()
    if execution.devices * execution.num_nodes == 1:
        if launch is not None and launch.launcher == TF_CONFIG:
            raise ValueError(
                f"TF_CONFIG names {launch.size} processes, and ExecutionConfig.num_nodes asks for one: set "
                "it to their number, or remove TF_CONFIG."
            )
        return Group(device=execution.accelerator)
    require_seed(config)
    if execution.accum_steps > 1:
        raise ValueError(
            f"ExecutionConfig.accum_steps = {execution.accum_steps} is not supported with several devices by "
            f"the engine {NAME!r}: use 1 and a larger batch_size, or the engine 'pytorch'."
        )
    processes = 1 if launch is None else launch.size
    if launch is not None and launch.launcher != TF_CONFIG:
        raise ValueError(
            f"{launch.launcher} has started {launch.size} processes, which the engine {NAME!r} does not take "
            "part in: start one process for each node, with TF_CONFIG set, or use the engine 'pytorch'."
        )
    if processes != execution.num_nodes:
        found = f"TF_CONFIG names {processes}" if launch is not None else "TF_CONFIG is not set"
        raise ValueError(
            f"ExecutionConfig.num_nodes = {execution.num_nodes}, but {found}: start one process for each "
            "node, each with the TF_CONFIG of all of them."
        )
    kind = kind_of(execution.accelerator)
    if launch is None:
        strategy: Any = tf.distribute.MirroredStrategy(_devices(kind, execution.devices))
        return Group(local=execution.devices, strategy=strategy)
    if kind == "cpu" and execution.devices > 1:
        raise ValueError(
            f"ExecutionConfig.devices = {execution.devices} on several nodes needs GPUs: use 1 with the CPU, "
            "which has all cores."
        )
    graphics = tf.config.list_physical_devices("GPU")
    with _unused():
        tf.config.set_visible_devices(graphics[: execution.devices] if kind == "gpu" else [], "GPU")
    if kind == "gpu":
        require_devices(execution.devices, len(graphics), "GPUs")
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    return Group(launch.rank, launch.size, execution.devices, strategy=strategy)


def _devices(kind: str, count: int) -> list[str]:
    """Names of so many devices of this machine; the CPU is divided into as many as it takes."""
    if kind == "gpu":
        require_devices(count, len(tf.config.list_physical_devices("GPU")), "GPUs")
        return [f"/GPU:{number}" for number in range(count)]
    cpu = tf.config.list_physical_devices("CPU")[0]
    parts = tf.config.get_logical_device_configuration(cpu) or ()
    if len(parts) < count:
        with _unused():
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    return [f"/CPU:{number}" for number in range(count)]


@contextmanager
def _unused() -> Iterator[None]:
    """An error that says what to do where TensorFlow can no longer be told of its devices."""
    try:
        yield
    except RuntimeError as exc:
        raise RuntimeError(
            f"TensorFlow was in use in this process before, and has its devices already ({one_line(exc)}): "
            "train on several devices in a process of its own, or first of all."
        ) from exc


def lost(exc: BaseException) -> RuntimeError | None:
    """What is to be said if an exception comes of another process' end; None if it does not."""
    launch = launched()
    if launch is None or not isinstance(exc, tf.errors.UnavailableError | tf.errors.AbortedError):
        return None
    cluster = json.loads(os.environ[TF_CONFIG])["cluster"]
    tasks = [(task, number) for task in ("chief", "worker") for number in range(len(cluster.get(task, ())))]
    text = " ".join(str(exc).split())
    # this process' own name is in the text as well
    others = [task for rank, task in enumerate(tasks) if rank != launch.rank]
    found = [(task, number) for task, number in others if re.search(rf"/job:{task}/.*?task:{number}\b", text)]
    named = found or (others if len(others) == 1 else [])
    if not named:
        return RuntimeError(
            f"Another of the {launch.size} processes that train together has ended, or cannot be reached; "
            f"its own output says why ({text[:300]})."
        )
    task, number = named[0]
    return RuntimeError(
        f"Rank {tasks.index(named[0])} of {launch.size} ({task} {number}, at {cluster[task][number]}) has "
        f"ended, or cannot be reached: its own output says why ({text[:200]})."
    )
