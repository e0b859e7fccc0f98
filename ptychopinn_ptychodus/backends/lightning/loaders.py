"""Batches of grouped data as TensorDicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from torch.utils.data import DataLoader, Dataset

from ...config import ExecutionConfig, TrainingConfig
from ...data.container import PtychoDataContainer


class GroupDataset(Dataset[TensorDict]):
    """The groups of a container, gathered a batch at a time.

    A batch holds ``amplitude`` (B, C, N, N) float32, normalised by ``input_scale`` and the exposure of each
    pattern; ``offsets`` (B, C, 2) float32; ``exposure`` (B, C) float32, unless all are 1; ``probe``
    (B, modes, N, N) complex64 in the scale of the amplitudes, where the container has several, and
    ``shown_probe`` of the same kind, where the network is shown others; ``good`` (B, N, N) float32, where bad
    pixels differ; and, where asked for, ``object`` (B, C, N, N) complex64, with its
    ``twin`` of the same kind where a probe leaves open which of both a pattern is of, see
    :meth:`.PtychoDataContainer.twins_of`.

    Where several processes divide the batches, it also holds ``drawn`` (B,) int64, how many groups all of
    them have, and ``share`` (B,) float32, the part that is this one's. If there are fewer groups than
    processes, one that has none is given a group of another, with a share of 0.
    """

    def __init__(
        self, container: PtychoDataContainer, input_scale: float, *, with_object: bool = False
    ) -> None:
        self.container = container
        self.input_scale = input_scale
        self.with_object = with_object
        self._rank, self._processes = 0, 1

    def divide(self, rank: int, processes: int) -> None:
        """From now on, hand out the part of each batch that the process of number ``rank`` learns from.

        All processes draw the same batches, as one alone would, and each takes other groups of them.
        """
        self._rank, self._processes = rank, processes

    def __len__(self) -> int:
        return len(self.container)

    def __getitem__(self, index: int) -> TensorDict:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> TensorDict:
        drawn = np.asarray(indices)
        own = drawn[self._rank :: self._processes]
        chosen = own if len(own) else drawn[:1]
        offsets = self.container.coords_relative[chosen, 0].transpose(0, 2, 1)
        amplitude = np.moveaxis(self.container.normalised(chosen, self.input_scale), -1, 1)
        entries: dict[str, Any] = {
            "amplitude": torch.from_numpy(amplitude),
            "offsets": torch.from_numpy(np.ascontiguousarray(offsets, np.float32)),
        }
        exposure = self.container.exposures_for(chosen, self.input_scale)
        if exposure is not None:
            entries["exposure"] = torch.from_numpy(exposure)
        if self.container.probes is not None:
            probes = self.container.probes_for(chosen) * np.float32(self.input_scale)
            entries["probe"] = torch.from_numpy(probes)
        shown = self.container.shown_probes_for(chosen)
        if shown is not None:
            entries["shown_probe"] = torch.from_numpy(shown * np.float32(self.input_scale))
        good = self.container.good_for(chosen)
        if good is not None:
            entries["good"] = torch.from_numpy(good)
        if self.with_object:
            patches = np.ascontiguousarray(self.container.patches_for(chosen).transpose(0, 3, 1, 2))
            entries["object"] = torch.from_numpy(patches)
            if self.container.has_twins:
                entries["twin"] = torch.from_numpy(self.container.twins_of(patches, chosen))
        if self._processes > 1:
            entries["drawn"] = torch.full((len(chosen),), len(drawn))
            entries["share"] = torch.full((len(chosen),), len(own) / len(drawn))
        return TensorDict(entries, batch_size=[len(chosen)])


class _Generator(torch.Generator):
    """A generator that may be sent to another process.

    PyTorch sends a generator's state as a tensor in shared memory that is gone before the other process opens
    it, so that a strategy such as ``ddp_spawn`` fails, or not, by chance. Here the state goes as bytes.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.get_state().numpy().tobytes(),)


def _restored(state: bytes) -> _Generator:
    generator = _Generator()
    generator.set_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))
    return generator


def _as_it_is(batch: Any) -> Any:
    return batch


def build_loader(
    dataset: Dataset[TensorDict],
    batch_size: int,
    execution: ExecutionConfig,
    *,
    shuffle: bool = False,
    seed: int | None = None,
) -> DataLoader[TensorDict]:
    """A loader over ``dataset``; ``seed`` fixes the order of a shuffled one."""
    generator = None
    if seed is not None:
        generator = _Generator()
        generator.manual_seed(seed)
    return DataLoader(
        dataset,
        batch_size=batch_size,
        shuffle=shuffle,
        generator=generator,
        collate_fn=_as_it_is,
        num_workers=execution.num_workers,
        pin_memory=execution.pin_memory,
        persistent_workers=execution.persistent_workers,
        prefetch_factor=execution.prefetch_factor,
    )


def build_loaders(
    train: PtychoDataContainer,
    test: PtychoDataContainer | None,
    config: TrainingConfig,
    execution: ExecutionConfig,
) -> tuple[DataLoader[TensorDict], DataLoader[TensorDict] | None]:
    """Training and validation loaders, the latter None without test data.

    The test data are seen through the training data's normalisation: it is part of the model.
    """
    scale, with_object = train.input_scale, config.needs_object
    train_loader = build_loader(
        GroupDataset(train, scale, with_object=with_object),
        config.batch_size,
        execution,
        shuffle=not config.sequential_sampling,
        seed=config.seed,
    )
    if test is None:
        return train_loader, None
    dataset = GroupDataset(test, scale, with_object=with_object)
    return train_loader, build_loader(dataset, config.batch_size, execution)
