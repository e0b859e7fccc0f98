"""Which processes train one model together, and which of them this one is.

Processes are started by ``torchrun`` or ``srun``, of which the environment variables tell, or by this package
(:mod:`.ranks`), where a training asks for several devices of this machine.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from lightning.fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)

from ...config import ExecutionConfig, TrainingConfig

STRATEGIES = ("auto", "ddp", "ddp_spawn")
"""How several devices can train one model: each has all of it, and a part of each batch."""

_DDP = "ddp_find_unused_parameters_true"  # some objectives say nothing about the probe


@dataclass(frozen=True)
class Member:
    """One of the processes that train one model.

    Attributes
    ----------
    rank, size
        Number of this process, from 0, and of all. The first one reports, and writes.
    environment
        Where the others are; None: Lightning looks for them itself.
    port
        Where the first one is found on this machine, if this package starts the others; else None.
    """

    rank: int = 0
    size: int = 1
    environment: ClusterEnvironment | None = None
    port: int | None = None

    def strategy(self, execution: ExecutionConfig) -> str:
        """The strategy of Lightning's that ``execution`` asks for."""
        return execution.strategy if self.size == 1 else _DDP


class LocalEnvironment(ClusterEnvironment):
    """Processes of this machine that this package starts, in the place of a launcher's."""

    def __init__(self, rank: int, size: int, port: int) -> None:
        self._rank, self._size, self._port = rank, size, port

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        return self._port

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self._size

    def set_world_size(self, size: int) -> None:
        pass

    def global_rank(self) -> int:
        return self._rank

    def set_global_rank(self, rank: int) -> None:
        pass

    def local_rank(self) -> int:
        return self._rank

    def node_rank(self) -> int:
        return 0


def local_member(rank: int, size: int, port: int) -> Member:
    """One of the processes that this package starts."""
    return Member(rank, size, LocalEnvironment(rank, size, port), port)


def membership(config: TrainingConfig, execution: ExecutionConfig, *, ours: bool = True) -> Member:
    """Which of the processes that train as ``execution`` asks this one is.

    A training on one device of one node is no part of a group, also in a batch job of several tasks.

    Parameters
    ----------
    ours
        Whether it is this package's module that is trained, which processes of our own can be started for.

    Raises
    ------
    ValueError
        If there are other processes than ``execution`` asks for, or it asks for what is not possible.
    """
    size = execution.devices * execution.num_nodes
    launcher, environment = _launcher()
    if size == 1:
        if launcher == "torchrun":
            assert environment is not None
            raise ValueError(
                f"torchrun has started {environment.world_size()} processes, and ExecutionConfig.devices and "
                "ExecutionConfig.num_nodes ask for one: set devices to the processes of a node."
            )
        return Member(environment=LightningEnvironment())
    if execution.strategy not in STRATEGIES:
        raise ValueError(
            f"ExecutionConfig.strategy = {execution.strategy!r} is not possible with several devices: use "
            f"one of {', '.join(map(repr, STRATEGIES))}."
        )
    if config.seed is None:
        raise ValueError(
            "TrainingConfig.subsample_seed is None, but several devices have to draw the same batches: set a "
            "number, or ExecutionConfig.devices and num_nodes to 1."
        )
    if environment is not None:
        if environment.world_size() != size:
            raise ValueError(
                f"{launcher} has started {environment.world_size()} processes, and "
                f"ExecutionConfig.devices = {execution.devices} on ExecutionConfig.num_nodes = "
                f"{execution.num_nodes} are {size}: start one process for each device of each node."
            )
        return Member(environment.global_rank(), size, environment)
    if execution.num_nodes > 1:
        raise ValueError(
            f"ExecutionConfig.num_nodes = {execution.num_nodes}, but nothing has started processes there: "
            "start the training with srun or torchrun, one process for each device."
        )
    if not ours:
        raise ValueError(
            f"ExecutionConfig.devices = {execution.devices}: start the script with torchrun "
            f"--nproc-per-node {execution.devices} or srun, since the module that it trains is its own."
        )
    if execution.accelerator != "cpu" and size > torch.cuda.device_count() > 0:
        raise ValueError(
            f"ExecutionConfig.devices = {execution.devices}, but this machine has "
            f"{torch.cuda.device_count()} GPUs: use at most as many, or accelerator = 'cpu'."
        )
    from .ranks import free_port

    return local_member(0, size, free_port())


def _launcher() -> tuple[str, ClusterEnvironment | None]:
    """What has started several processes like this one, by its name; ("", None): nothing has."""
    if TorchElasticEnvironment.detect() and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return "torchrun", TorchElasticEnvironment()
    # a script that a batch job runs by itself is one process, however many tasks the job has room for
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", os.environ.get("SLURM_NTASKS", "1")))
    if SLURMEnvironment.detect() and tasks > 1 and "SLURM_PROCID" in os.environ:
        return "SLURM", SLURMEnvironment(auto_requeue=False)
    return "", None
