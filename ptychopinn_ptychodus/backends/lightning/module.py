"""The LightningModule: network, physics, objective and optimiser of one model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from numpy.typing import NDArray
from tensordict import TensorDict
from torch import Tensor, nn

from ... import __version__
from ...config import (
    DataConfig,
    ExecutionConfig,
    InferenceConfig,
    ModelConfig,
    TrainingConfig,
    from_dict,
    to_dict,
)
from ...data.container import PtychoDataContainer
from ..base import ModelFileError, ModelState
from ..conversion import not_convertible
from ..hyperparameters import COUNT_FLOOR, PHYSICS_RATE
from ..model_file import manifest
from ..physics import NEEDS_OBJECT, InitialPhysics, amplitude_to_sqrt_counts, central_disk, initial_physics
from ..schedules import PLATEAU_FACTOR, PLATEAU_PATIENCE, plateau_floor, stepwise
from . import forward, losses
from .names import MANIFEST_KEY, NAME
from .network import build_network
from .parts import mean_over, parts_of


class PtychoPINN_Lightning(pl.LightningModule):
    """A trainable ptychographic inverse model whose checkpoint rebuilds it without outside state.

    Parameters
    ----------
    model_config, data_config, training_config, inference_config
        Configuration objects, or the plain dictionaries that a checkpoint holds.

    Attributes
    ----------
    execution_config
        Run-time knobs; not saved.
    history
        ``train_loss`` and ``val_loss``, one value an epoch.
    """

    engine_name = NAME
    good_pixels: Tensor
    mask: Tensor
    smoothing: Tensor | None

    def __init__(
        self,
        model_config: ModelConfig | Mapping[str, Any],
        data_config: DataConfig | Mapping[str, Any],
        training_config: TrainingConfig | Mapping[str, Any],
        inference_config: InferenceConfig | Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.model_config = _restored(ModelConfig, model_config)
        self.data_config = _restored(DataConfig, data_config)
        self.training_config = _restored(TrainingConfig, training_config)
        self.inference_config = _restored(InferenceConfig, inference_config)
        self.execution_config = ExecutionConfig()
        # plain dictionaries of JSON types: a checkpoint is data, readable without unpickling objects
        self.save_hyperparameters(
            {
                "model_config": to_dict(self.model_config),
                "data_config": to_dict(self.data_config),
                "training_config": to_dict(self.training_config),
                "inference_config": to_dict(self.inference_config),
            }
        )
        self.amplitude_to_sqrt_counts = amplitude_to_sqrt_counts(self.data_config)
        self.history: dict[str, list[float]] = {"train_loss": [], "val_loss": []}
        self._callbacks: list[Callback] = []

        size = self.model_config.N
        self.network = build_network(self.model_config)
        probe = torch.zeros(self.data_config.probe_modes, size, size, 2)
        self.probe_planes = nn.Parameter(probe, requires_grad=self.training_config.probe_trainable)
        self.log_scale = nn.Parameter(
            torch.zeros(()), requires_grad=self.training_config.intensity_scale_trainable
        )
        self.register_buffer("good_pixels", torch.ones(size, size))
        mask = torch.ones(size, size)
        if self.model_config.probe_mask:
            mask = torch.from_numpy(central_disk(size))
        self.register_buffer("mask", mask, persistent=False)
        sigma = self.model_config.gaussian_smoothing_sigma
        self.register_buffer(
            "smoothing", forward.gaussian_kernel(sigma) if sigma > 0 else None, persistent=False
        )

    # ---- physics --------------------------------------------------------------------------------------

    @classmethod
    def for_data(
        cls,
        container: PtychoDataContainer,
        config: TrainingConfig,
        execution: ExecutionConfig | None = None,
    ) -> Self:
        """A fresh model for ``container``, with the statistics and the scale of these data."""
        physics = initial_physics(container, config)
        module = cls(config.model, physics.data, config, InferenceConfig(model=config.model))
        module.prepare_training(physics, execution or ExecutionConfig(), module.history, [])
        return module

    def prepare_training(
        self,
        physics: InitialPhysics,
        execution: ExecutionConfig,
        history: dict[str, list[float]],
        callbacks: list[Callback],
    ) -> None:
        """Take what :func:`.training.train` hands to a module with this method, before it is fitted.

        A module without it trains as well: the four configuration objects are all that its constructor gets.

        Parameters
        ----------
        physics
            Starting values of probe and scale, and which pixels are good.
        execution
            Run-time knobs.
        history
            Where the losses of each epoch are going to be appended, under ``train_loss`` and ``val_loss``.
        callbacks
            For Lightning to run, see :meth:`configure_callbacks`.
        """
        with torch.no_grad():
            self.probe_planes.copy_(torch.from_numpy(physics.probe_planes))
            self.log_scale.fill_(physics.log_scale)
            self.good_pixels.copy_(torch.from_numpy(physics.good_pixels))
        self.execution_config = execution
        self.history = history
        self._callbacks = callbacks

    def configure_callbacks(self) -> list[Callback]:
        """What Lightning runs besides the callbacks of the trainer: those of :meth:`prepare_training`."""
        return self._callbacks

    @property
    def probe(self) -> Tensor:
        """(modes, N, N) complex64 probe in the network's scale, masked if so configured."""
        return torch.view_as_complex(self.probe_planes) * self.mask

    def counts_probe(self) -> Tensor:
        """(modes, N, N) complex64 probe for which ``Σ_m |F{P_m · O}|²`` is in photon counts."""
        return self.probe * torch.exp(self.log_scale)

    def forward(self, amplitude: Tensor, offsets: Tensor) -> Tensor:
        """Normalised amplitudes (B, C, N, N) and offsets (B, C, 2) to complex patches (B, C, N, N)."""
        patches: Tensor = self.network(amplitude, offsets, self.network_probe(), self.good_pixels)
        return patches

    def network_probe(self) -> Tensor:
        """The probe in the scale of the normalised amplitudes: architectures may propagate it as it is.

        It is the very probe that the objective uses: normalised by itself, it would drift away from that one
        while either of them is being learnt.
        """
        return self.counts_probe() / self.amplitude_to_sqrt_counts

    def constrained(self, patches: Tensor, offsets: Tensor) -> Tensor:
        """The patches that the forward model sees: cuts of the group's merged object if ``object_big``."""
        if not self.model_config.object_big or self.network.one_object:
            return patches
        return forward.merge_and_extract(patches, offsets)

    def expected_counts(
        self, patches: Tensor, rest: Tensor | None = None, given: Tensor | None = None
    ) -> Tensor:
        """λ = e^{2α} Σ_m |F{P_m · O_k}|², plus a floor that keeps it positive; (B, C, N, N).

        ``rest`` (B, C, 2) moves the probe of each pattern, see :meth:`.Architecture.on_pixels`. ``given``
        (B, 1, modes, N, N) takes the place of the probe and its scale, in the scale of the amplitudes.
        """
        probe = self.probe if given is None else given * self.amplitude_to_sqrt_counts
        probe = probe if rest is None else forward.fourier_shift(probe, rest[:, :, None])
        waves = forward.illuminate(patches, probe, self.smoothing)
        floor = COUNT_FLOOR * self.data_config.photons_per_pattern / self.data_config.N**2
        brightness = torch.exp(2 * self.log_scale) if given is None else 1.0
        counts: Tensor = brightness * forward.intensity(waves) + floor
        return counts

    # ---- objective ------------------------------------------------------------------------------------

    def loss(self, batch: TensorDict) -> Tensor:
        """Weighted sum of the data and real-space terms that ``TrainingConfig`` asks for, ().

        Of a batch that is large for a CPU, part after part: see :mod:`.parts`.
        """
        given = batch.get("probe", None)
        parts = parts_of(batch, len(self.probe_planes) if given is None else given.shape[1])
        learnt = [parameter for parameter in self.parameters() if parameter.requires_grad]
        if len(parts) == 1 or not learnt:
            return self._loss(batch)
        # the groups of all parts have regions of one size, as in one batch
        reach = float(batch["offsets"].abs().max())
        return mean_over(parts, lambda part: self._loss(part, reach), learnt)

    def _loss(self, batch: TensorDict, reach: float | None = None) -> Tensor:
        config = self.training_config
        amplitude, offsets, given = batch["amplitude"], batch["offsets"], batch.get("probe", None)
        shown = batch.get("shown_probe", None)
        given, shown = (p if p is None else p[:, None] * self.mask for p in (given, shown))
        # what the network makes of a rough probe is judged by the true one
        seen = given if shown is None else shown
        probe = self.network_probe() if seen is None else seen
        of_groups = batch.get("good", None)
        good = self.good_pixels if of_groups is None else of_groups[:, None]
        raw, rest = self.network.on_pixels(amplitude, offsets, probe, good, reach)
        patches = self.constrained(raw, offsets)
        total = torch.zeros((), device=raw.device)
        if config.nll_weight or config.mae_weight:
            scale, exposure = self.amplitude_to_sqrt_counts, batch.get("exposure", None)
            expected = self.expected_counts(patches, rest, given)
            if config.nll_weight:
                counts = (amplitude * scale).square()
                photons = self.data_config.photons_per_pattern
                nll = losses.poisson_nll(counts, expected, good, photons, exposure)
                total = total + config.nll_weight * nll
            if config.mae_weight:
                rms = math.sqrt(self.data_config.photons_per_pattern) / self.data_config.N
                mae = losses.amplitude_mae(amplitude * scale, expected, good, rms, exposure)
                total = total + config.mae_weight * mae
        if config.realspace_weight:
            total = total + config.realspace_weight * losses.total_variation(patches)
        if config.needs_object:
            if batch.get("object", None) is None:
                raise ValueError(NEEDS_OBJECT)
            # no gradient: the probe could otherwise avoid places where the object is wrong
            weight = (self.probe if given is None else given).detach().abs().square().sum(-3)
            placed = patches if rest is None else forward.fourier_shift(patches, -rest)
            brightest = weight.amax((-2, -1), keepdim=True)
            known = (placed, batch["object"], weight / brightest)
            if config.realspace_mae_weight:
                total = total + config.realspace_mae_weight * losses.realspace_mae(*known)
            if config.realspace_aligned_weight:
                aligned = losses.aligned_mae(*known, batch.get("twin", None))
                total = total + config.realspace_aligned_weight * aligned
        return total

    def training_step(self, batch: TensorDict, batch_idx: int) -> Tensor:
        return self._step(batch, "train_loss")

    def validation_step(self, batch: TensorDict, batch_idx: int) -> Tensor:
        return self._step(batch, "val_loss")

    def _step(self, batch: TensorDict, name: str) -> Tensor:
        loss = self.loss(batch)
        size, share = batch["amplitude"].shape[0], batch.get("share", None)
        if share is not None:
            # of losses and gradients, the mean over the processes is taken, whatever they have of the batch
            loss, size = loss * share[0] * self.trainer.world_size, int(batch["drawn"][0])
        self.log(name, loss, on_step=False, on_epoch=True, batch_size=size, sync_dist=True)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"Training diverged: the loss is {float(loss)} in epoch {self.current_epoch + 1}. Lower the "
                f"learning rate (now {self.execution_config.learning_rate:g}) or set gradient_clip_val."
            )

    # ---- optimisation ---------------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        """Adam over everything trainable, with the schedule that ``ExecutionConfig.scheduler`` names.

        The probe, and what a network calls its physical parameters (few, and well determined), learn
        :data:`PHYSICS_RATE` times as fast as the weights; the probe relative to its own size.
        """
        execution = self.execution_config
        rate = execution.learning_rate
        few = self.network.physics_parameters()
        chosen = {id(p) for p in [*few, self.probe_planes]}
        groups = [
            {"params": [p for p in self.parameters() if p.requires_grad and id(p) not in chosen], "lr": rate},
            {"params": few, "lr": PHYSICS_RATE * rate},
        ]
        if self.probe_planes.requires_grad:
            rms = float(self.probe.detach().abs().square().sum(0).mean().sqrt())
            groups.append({"params": [self.probe_planes], "lr": 2 * rms * PHYSICS_RATE * rate})
        optimizer = torch.optim.Adam([group for group in groups if group["params"]], lr=rate)
        if execution.scheduler == "constant":
            return optimizer
        if execution.scheduler == "plateau":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimizer,
                factor=PLATEAU_FACTOR,
                patience=PLATEAU_PATIENCE,
                threshold=0.0,
                min_lr=[plateau_floor(rate) / rate * group["lr"] for group in optimizer.param_groups],
            )
            monitor = "val_loss" if self.trainer.val_dataloaders is not None else "train_loss"
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": monitor}}
        factor = stepwise(execution.scheduler, max(1, int(self.trainer.estimated_stepping_batches)))
        assert factor is not None, execution.scheduler
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    # ---- persistence ----------------------------------------------------------------------------------

    def set_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Set weights and physics by their names in ``state_dict``, as many as there are.

        Raises
        ------
        ModelFileError
            If one of them is not this module's, or misshapen.
        """
        state = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
        try:
            self.load_state_dict({**self.state_dict(), **state})
        except RuntimeError as exc:
            raise ModelFileError(
                f"The training cannot begin with the model, whose weights do not fit: {str(exc)[:300]}. "
                "Choose another model, or begin with a fresh network."
            ) from exc

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Copies of weights and physics by their names in ``state_dict``."""
        return {name: tensor.detach().cpu().numpy().copy() for name, tensor in self.state_dict().items()}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[MANIFEST_KEY] = manifest(self.engine_name, __version__, self.history)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        history = checkpoint.get(MANIFEST_KEY, {}).get("history", {})
        self.history = {name: list(history.get(name, [])) for name in self.history}

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: str | Path, map_location: Any = "cpu", **kwargs: Any
    ) -> Self:
        """Rebuild a model from its file alone.

        Lightning's own reader is not used, since in some versions that this package supports it unpickles any
        object in a file. This one raises ``pickle.UnpicklingError`` for all but tensors and plain values.
        """
        content = torch.load(checkpoint_path, map_location=map_location, weights_only=True)
        module = cls(**content[cls.CHECKPOINT_HYPER_PARAMS_KEY], **kwargs)
        module.on_load_checkpoint(content)
        module.load_state_dict(content["state_dict"])
        return module.to(map_location)

    @classmethod
    def from_state(cls, state: ModelState, path: Path | None = None) -> Self:
        """The model of ``state``, whichever engine it comes from, ready to be applied.

        Raises
        ------
        ModelFileError
            If this engine has no such model; ``path`` is for the message.
        """
        model = state.description.model
        try:
            module = cls(model, state.description.data, state.training, InferenceConfig(model=model))
            arrays = {name: torch.from_numpy(np.array(array)) for name, array in state.arrays.items()}
            module.load_state_dict(arrays)
        except (RuntimeError, KeyError, TypeError, ValueError) as exc:  # missing or misshapen entries
            raise not_convertible(state, cls.engine_name, exc, path) from exc
        module.history = {name: list(state.description.history.get(name, [])) for name in module.history}
        return module.eval()


def _restored(cls: type[Any], value: Any) -> Any:
    return value if isinstance(value, cls) else from_dict(cls, value)
