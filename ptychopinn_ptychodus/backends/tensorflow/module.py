"""The Keras models: network, physics, objective and optimiser of one trained whole."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ... import __version__
from ...config import DataConfig, ExecutionConfig, ModelConfig, TrainingConfig
from ...data.container import PtychoDataContainer
from ..base import ModelDescription, ModelFileError, ModelState
from ..conversion import not_convertible
from ..framework import one_line
from ..hyperparameters import COUNT_FLOOR, MOST_KEPT, PHYSICS_RATE
from ..physics import NEEDS_OBJECT, InitialPhysics, amplitude_to_sqrt_counts, central_disk, initial_physics
from . import forward, losses
from .architecture import Tensor, from_portable, to_portable
from .names import NAME
from .network import build_network

Batch = Mapping[str, Tensor]

_POLICIES = {"32-true": "float32", "16-mixed": "mixed_float16", "bf16-mixed": "mixed_bfloat16"}


@functools.cache
def require_precision(precision: str) -> None:
    """A ``ValueError`` where the device has no convolution in ``precision``, found by one convolution.

    TensorFlow chooses its kernels by what it takes the processor for, and fails only when one is run.
    """
    dtype = keras.DTypePolicy(_POLICIES[precision]).compute_dtype
    try:
        tf.nn.conv2d(tf.ones((1, 4, 4, 1), dtype), tf.ones((3, 3, 1, 1), dtype), 1, "SAME")
    except tf.errors.OpError as exc:
        raise ValueError(
            f"precision = {precision!r}: TensorFlow has no convolution of type {dtype} for this processor "
            f"({one_line(exc)}). Choose '32-true' (Precision in the group PtychoPINNPluginTraining)."
        ) from exc


class PtychoPINN_TensorFlow(keras.Model):
    """The model ``autoencoder``: normalised amplitudes to expected counts, by way of an object.

    Called with normalised amplitudes (B, N, N, C) and relative offsets (B, 1, 2, C) ``[x, y]`` in pixels, it
    returns expected counts (B, N, N, C). All variables exist after construction.

    Parameters
    ----------
    model_config, data_config, training_config
        Configuration; part of every model file.
    execution_config
        Run-time knobs; not saved.
    """

    engine_name = NAME

    def __init__(
        self,
        model_config: ModelConfig,
        data_config: DataConfig,
        training_config: TrainingConfig,
        execution_config: ExecutionConfig | None = None,
    ) -> None:
        super().__init__(name="autoencoder", dtype="float32")
        self.model_config = model_config
        self.data_config = data_config
        self.training_config = training_config
        self.execution_config = execution_config or ExecutionConfig()
        self.amplitude_to_sqrt_counts = amplitude_to_sqrt_counts(data_config)
        # Keras keeps a `history` of its own, of the last fit
        self.loss_history: dict[str, list[float]] = {"train_loss": [], "val_loss": []}

        require_precision(self.execution_config.precision)
        size = model_config.N
        self.network = build_network(model_config, _POLICIES[self.execution_config.precision])
        self.probe_planes = self.add_weight(
            name="probe_planes",
            shape=(data_config.probe_modes, size, size, 2),
            initializer="zeros",
            trainable=training_config.probe_trainable,
        )
        self.log_scale = self.add_weight(
            name="log_scale",
            shape=(),
            initializer="zeros",
            trainable=training_config.intensity_scale_trainable,
        )
        self.good_pixels = self.add_weight(
            name="good_pixels", shape=(size, size), initializer="ones", trainable=False
        )
        pixels = training_config.batch_size * model_config.channels * data_config.probe_modes * size**2
        # a GPU has its memory for nothing else
        on_cpu = "GPU" not in self.probe_planes.value.device
        self.network.computes_again = on_cpu and pixels > MOST_KEPT
        self.mask = central_disk(size) if model_config.probe_mask else np.ones((size, size), np.float32)
        sigma = model_config.gaussian_smoothing_sigma
        self.smoothing = forward.gaussian_kernel(sigma) if sigma > 0 else None
        self.mean_loss = keras.metrics.Mean(name="loss", dtype="float32")
        self.diffraction_to_obj = DiffractionToObject(self)
        self.built = True

    # ---- physics --------------------------------------------------------------------------------------

    @classmethod
    def for_data(
        cls,
        container: PtychoDataContainer,
        config: TrainingConfig,
        execution: ExecutionConfig | None = None,
    ) -> Self:
        """A fresh model for ``container``: statistics frozen, probe scale fitted from the data."""
        return cls.of_physics(initial_physics(container, config), config, execution)

    @classmethod
    def of_physics(
        cls, physics: InitialPhysics, config: TrainingConfig, execution: ExecutionConfig | None = None
    ) -> Self:
        """A fresh model with these statistics and starting values."""
        model = cls(config.model, physics.data, config, execution)
        model.probe_planes.assign(physics.probe_planes)
        model.log_scale.assign(physics.log_scale)
        model.good_pixels.assign(physics.good_pixels)
        return model

    @property
    def probe(self) -> Tensor:
        """(modes, N, N) complex64 probe in the network's world, masked if so configured."""
        planes = tf.convert_to_tensor(self.probe_planes)
        return tf.complex(planes[..., 0] * self.mask, planes[..., 1] * self.mask)

    def counts_probe(self) -> Tensor:
        """(modes, N, N) complex64 probe for which ``Σ_m |F{P_m · O}|²`` is in photon counts."""
        return self.probe * forward.as_complex(tf.exp(self.log_scale))

    def network_probe(self) -> Tensor:
        """The probe in the scale of the normalised amplitudes: architectures may propagate it as it is.

        It is the very probe that the objective uses: normalised by itself, it would drift away from that one
        while either of them is being learnt.
        """
        return self.counts_probe() / self.amplitude_to_sqrt_counts

    def patches(self, amplitude: Tensor, offsets: Tensor) -> Tensor:
        """Normalised amplitudes (B, N, N, C) and offsets (B, C, 2) to complex patches (B, C, N, N)."""
        return self.network(amplitude, offsets, self.network_probe(), self.good_pixels)

    @functools.cached_property
    def patches_graph(self) -> Any:
        """:meth:`patches` as one graph for batches of all sizes, traced once."""
        size, channels = self.model_config.N, self.model_config.channels
        shapes = ((None, size, size, channels), (None, channels, 2))
        return tf.function(self.patches, input_signature=[tf.TensorSpec(shape) for shape in shapes])

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
        brightness = tf.exp(2 * self.log_scale) if given is None else 1.0
        return brightness * forward.intensity(waves) + floor

    def call(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        """See the class."""
        amplitude, relative = inputs
        counts = self._from_amplitude(amplitude, _offsets(relative), self.good_pixels)[1]
        return tf.transpose(counts, (0, 2, 3, 1))

    def _from_amplitude(
        self,
        amplitude: Tensor,
        offsets: Tensor,
        good: Tensor,
        given: Tensor | None = None,
        shown: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Constrained patches, the counts that they predict, and what moves the probe.

        The network sees ``shown``, or else what predicts the counts: ``given``, or the model's own probe.
        """
        seen = given if shown is None else shown
        probe = self.network_probe() if seen is None else seen
        raw, rest = self.network.on_pixels(amplitude, offsets, probe, good)
        patches = self.constrained(raw, offsets)
        return patches, self.expected_counts(patches, rest, given), rest

    # ---- objective ------------------------------------------------------------------------------------

    def objective(self, batch: Batch) -> Tensor:
        """Weighted sum of the data and real-space terms that ``TrainingConfig`` asks for."""
        config = self.training_config
        mask = forward.as_complex(self.mask)
        given, shown = (
            batch[name][:, None] * mask if name in batch else None for name in ("probe", "shown_probe")
        )
        good = batch["good"][:, None] if "good" in batch else tf.convert_to_tensor(self.good_pixels)
        # what the network makes of a rough probe is judged by the true one
        patches, expected, rest = self._from_amplitude(
            batch["amplitude"], batch["offsets"], good, given, shown
        )
        total = tf.zeros(())
        if config.nll_weight or config.mae_weight:
            amplitude = tf.transpose(batch["amplitude"], (0, 3, 1, 2)) * self.amplitude_to_sqrt_counts
            photons, exposure = self.data_config.photons_per_pattern, batch.get("exposure")
            if config.nll_weight:
                nll = losses.poisson_nll(amplitude**2, expected, good, photons, exposure)
                total += config.nll_weight * nll
            if config.mae_weight:
                rms = math.sqrt(photons) / self.data_config.N
                mae = losses.amplitude_mae(amplitude, expected, good, rms, exposure)
                total += config.mae_weight * mae
        if config.realspace_weight:
            total += config.realspace_weight * losses.total_variation(patches)
        if config.needs_object:
            if "object" not in batch:
                raise ValueError(NEEDS_OBJECT)
            # not to be learnt from: a probe could otherwise leave where the object is wrong in the dark
            weight = tf.stop_gradient(
                tf.reduce_sum(forward.power(self.probe if given is None else given), -3)
            )
            brightest = tf.reduce_max(weight, (-2, -1), keepdims=True)
            placed = patches if rest is None else forward.fourier_shift(patches, -rest)
            known = (placed, batch["object"], weight / brightest)
            if config.realspace_mae_weight:
                total += config.realspace_mae_weight * losses.realspace_mae(*known)
            if config.realspace_aligned_weight:
                aligned = losses.aligned_mae(*known, batch.get("twin"))
                total += config.realspace_aligned_weight * aligned
        return total

    def train_step(self, data: Batch) -> dict[str, Tensor]:
        with tf.GradientTape() as tape:
            loss = self._own_part(data)
            scaled = self.optimizer.scale_loss(loss)
        variables = self.trainable_variables
        # TensorFlow's own variables: without a graph, it knows no zeros of the type of Keras' ones
        sources = [variable.value for variable in variables]
        gradients = tape.gradient(scaled, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        if "share" in data:
            # before the optimiser has them, which clips and scales those of the whole batch
            gradients = _sum_of_replicas(gradients)
        self.optimizer.apply(gradients, variables)
        return self._logged(loss, data)

    def test_step(self, data: Batch) -> dict[str, Tensor]:
        return self._logged(self._own_part(data), data)

    def _own_part(self, data: Batch) -> Tensor:
        """The objective, of which that of a whole batch is the sum over the replicas that divide it."""
        loss = self.objective(data)
        return loss * data["share"][0] if "share" in data else loss

    def _logged(self, loss: Tensor, data: Batch) -> dict[str, Tensor]:
        groups = tf.shape(data["amplitude"])[0]
        if "share" in data:
            loss, groups = _sum_of_replicas(loss), data["drawn"][0]
        self.mean_loss.update_state(loss, sample_weight=groups)
        result = self.mean_loss.result()
        if isinstance(tf.distribute.get_strategy(), tf.distribute.MultiWorkerMirroredStrategy):
            result = result[None]  # of several processes, Keras takes the mean along the first axis
        return {"loss": result}

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Reset by Keras before every epoch."""
        return [self.mean_loss]

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Nothing: all variables exist. Keras would average the parts of a batch, whatever their sizes."""

    # ---- optimisation ---------------------------------------------------------------------------------

    def configure_optimizer(self, probe_rate: float | None = None) -> None:
        """Adam over everything trainable; the schedules are callbacks of the training.

        What a network calls its physical variables (few, and far from noise) and the probe learn
        :data:`PHYSICS_RATE` times as fast as the weights, the probe relative to its own size. A training that
        goes on has the ``probe_rate`` of its beginning.
        """
        execution = self.execution_config
        rates = [(variable, PHYSICS_RATE) for variable in self.network.physics_variables()]
        rms = float(tf.sqrt(tf.reduce_mean(tf.reduce_sum(forward.power(self.probe), 0))))
        self.probe_rate = 2 * rms * PHYSICS_RATE if probe_rate is None else probe_rate
        rates.append((self.probe_planes, self.probe_rate))
        optimizer: keras.optimizers.Optimizer = _Adam(
            rates,
            learning_rate=execution.learning_rate,
            epsilon=1e-8,
            global_clipnorm=execution.gradient_clip_val,
            gradient_accumulation_steps=execution.accum_steps if execution.accum_steps > 1 else None,
        )
        if execution.precision == "16-mixed":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        # Keras would do so within the first step, and TensorFlow traces a step that makes variables twice
        optimizer.build(self.trainable_variables)
        self.compile(optimizer=optimizer, jit_compile=False)

    def finish_accumulating(self) -> None:
        """Take the step that batches are being accumulated for, as if the missing ones had no gradient."""
        execution = self.execution_config
        if execution.accum_steps == 1 or not self.optimizer.built:
            return
        optimizer: Any = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        nothing = [tf.zeros(variable.shape) for variable in self.trainable_variables]
        while int(optimizer._iterations) % execution.accum_steps:
            optimizer.apply(nothing, self.trainable_variables)

    # ---- persistence ----------------------------------------------------------------------------------

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Copies of all variables, as a :class:`.ModelState` has them."""
        network = {f"network.{name}": to_portable(v) for name, v in self.network.named_variables().items()}
        return network | {name: variable.numpy() for name, variable in self._physics().items()}

    def begin_with(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Set some of the variables.

        Raises
        ------
        ModelFileError
            If one of them is not this model's, or misshapen.
        """
        try:
            self.set_arrays({**self.arrays(), **arrays})
        except ValueError as exc:
            raise ModelFileError(
                f"The training cannot begin with the model, whose weights do not fit: {str(exc)[:300]}. "
                "Choose another model, or begin with a fresh network."
            ) from exc

    def set_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Set every variable; a ``ValueError`` if one is missing, misshapen or not this model's."""
        network = {f"network.{name}": v for name, v in self.network.named_variables().items()}
        physics = self._physics()
        known = network.keys() | physics.keys()
        if arrays.keys() != known:
            missing = ", ".join(sorted(known - arrays.keys())) or "none"
            unknown = ", ".join(sorted(arrays.keys() - known)) or "none"
            raise ValueError(f"missing arrays: {missing}; unknown arrays: {unknown}")
        for name, variable in network.items():
            from_portable(variable, arrays[name])
        for name, variable in physics.items():
            variable.assign(arrays[name])

    def _physics(self) -> dict[str, keras.Variable]:
        return {
            "probe_planes": self.probe_planes,
            "log_scale": self.log_scale,
            "good_pixels": self.good_pixels,
        }

    def state(self) -> ModelState:
        """The model as it is now, without its framework."""
        return ModelState(
            description=ModelDescription(
                engine=self.engine_name,
                version=__version__,
                model=self.model_config,
                data=self.data_config,
                history={name: list(values) for name, values in self.loss_history.items()},
            ),
            training=self.training_config,
            arrays=self.arrays(),
        )

    @classmethod
    def from_state(
        cls, state: ModelState, path: Path | None = None, execution: ExecutionConfig | None = None
    ) -> Self:
        """The model of ``state``, whichever engine it comes from.

        Raises
        ------
        ModelFileError
            If this engine has no such model; ``path`` is for the message.
        """
        description = state.description
        try:
            model = cls(description.model, description.data, state.training, execution)
            model.set_arrays(state.arrays)
        except (KeyError, TypeError, ValueError) as exc:  # missing or misshapen entries
            raise not_convertible(state, cls.engine_name, exc, path) from exc
        model.loss_history = {name: list(description.history.get(name, [])) for name in model.loss_history}
        return model


class DiffractionToObject(keras.Model):
    """The model ``diffraction_to_obj``: the inverse half of an ``autoencoder``, whose weights it shares.

    Called with normalised amplitudes (B, N, N, C) and relative offsets (B, 1, 2, C) ``[x, y]`` in pixels, it
    returns complex64 object patches (B, N, N, C), each centred on its pattern's position.
    """

    def __init__(self, autoencoder: PtychoPINN_TensorFlow) -> None:
        super().__init__(name="diffraction_to_obj", dtype="float32")
        # where Keras does not look: it would take each of the two for a part of the other
        self._autoencoder = _Untracked(autoencoder)
        self.built = True

    @property
    def autoencoder(self) -> PtychoPINN_TensorFlow:
        """The trained whole."""
        return self._autoencoder.model

    def call(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        """See the class."""
        amplitude, relative = inputs
        patches = self.autoencoder.patches(amplitude, _offsets(relative))
        return tf.transpose(patches, (0, 2, 3, 1))


class _Untracked:
    def __init__(self, model: PtychoPINN_TensorFlow) -> None:
        self.model = model


class _Adam(keras.optimizers.Adam):
    """PyTorch's Adam, which takes some variables' steps at a rate of their own, relative to the others'.

    Keras adds epsilon before the bias of the second moment is taken out: at first, when that is small, it
    would weigh 30 times as much, and hold back weights whose gradient is not much larger.
    """

    epsilon: Any

    def __init__(self, rates: Iterable[tuple[keras.Variable, float]], **options: Any) -> None:
        super().__init__(name="adam", **options)
        # it is TensorFlow's variables that Keras hands to update_step, of several replicas each its own
        self._rates = {self._var_key(variable): rate for variable, rate in rates}

    def update_step(self, gradient: Tensor, variable: tf.Variable, learning_rate: Tensor) -> None:
        epsilon, step = self.epsilon, tf.cast(self.iterations + 1, tf.float32)
        self.epsilon = epsilon * tf.sqrt(1 - self.beta_2**step)
        super().update_step(gradient, variable, learning_rate * self._rates.get(self._var_key(variable), 1.0))
        self.epsilon = epsilon

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
        """Keras would sum those of all replicas: each is handed the sum."""
        return grads_and_vars


def _sum_of_replicas(values: Any) -> Any:
    """Sums over all replicas that take this step, as each of them has them."""
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)


def _offsets(relative: Tensor) -> Tensor:
    """(B, 1, 2, C) as containers have it to (B, C, 2)."""
    return tf.transpose(tf.cast(relative[:, 0], tf.float32), (0, 2, 1))
