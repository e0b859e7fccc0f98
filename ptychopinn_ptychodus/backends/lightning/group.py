"""Which processes train one model together, and which of them this one is.

Processes are started by ``torchrun`` or ``srun``, of which the environment variables tell, or by this package
(:mod:`.ranks`), where a training asks for several devices of this machine.
"""

from __future__ import annotations

import atexit
import socket
from dataclasses import dataclass

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from ...config import STRATEGIES, ExecutionConfig, TrainingConfig
from ...launchers import TF_CONFIG, TORCHRUN, launched
from ..devices import require_devices, require_seed


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

    def strategy(self, execution: ExecutionConfig, *, unused: bool) -> str:
        """The strategy of Lightning's that ``execution`` asks for.

        ``unused``: the objective may say nothing about some of the parameters, such as the probe.
        """
        if self.size == 1:
            return execution.strategy
        return "ddp_find_unused_parameters_true" if unused else "ddp"


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
    launch = launched()
    if size == 1:
        if launch is not None and launch.launcher == TORCHRUN:
            raise ValueError(
                f"torchrun has started {launch.size} processes, and ExecutionConfig.devices and "
                "ExecutionConfig.num_nodes ask for one: set devices to the processes of a node."
            )
        return Member(environment=LightningEnvironment())
    if execution.strategy not in STRATEGIES:
        raise ValueError(
            f"ExecutionConfig.strategy = {execution.strategy!r} is not possible with several devices: use "
            f"one of {', '.join(map(repr, STRATEGIES))}."
        )
    require_seed(config)
    if launch is not None and launch.launcher == TF_CONFIG:
        raise ValueError(
            f"TF_CONFIG names {launch.size} processes, which are TensorFlow's: start those of the engine "
            "'pytorch' with torchrun or srun, and remove TF_CONFIG."
        )
    if launch is not None:
        if launch.size != size:
            raise ValueError(
                f"{launch.launcher} has started {launch.size} processes, and "
                f"ExecutionConfig.devices = {execution.devices} on ExecutionConfig.num_nodes = "
                f"{execution.num_nodes} are {size}: start one process for each device of each node."
            )
        atexit.register(_leave_group)
        elastic = launch.launcher == TORCHRUN
        environment = TorchElasticEnvironment() if elastic else SLURMEnvironment(auto_requeue=False)
        return Member(launch.rank, size, environment)
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
    if execution.accelerator != "cpu" and torch.cuda.device_count() > 0:
        require_devices(size, torch.cuda.device_count(), "GPUs")
    return local_member(0, size, _free_port())


def _leave_group() -> None:
    """Leave the group of processes, if one was joined, before the interpreter ends.

    Otherwise threads of the group may ask for the interpreter's lock while it is taken down, and the process
    is aborted after all its work is done. It is not left before, since processes of ``torchrun`` cannot join
    it again.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _free_port() -> int:
    """A port of this machine that nothing listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
