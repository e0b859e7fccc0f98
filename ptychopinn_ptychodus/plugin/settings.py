"""Settings groups of the plugin, and the configuration objects that they stand for.

Every function reads the settings at the moment that it is called, so that a change takes effect at the next
run. A value that the configuration refuses is a ``ValueError`` that names the setting as it is written in a
settings file, ``Group.Name``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ptychodus.api.parameters import ParameterBase, ParameterGroup
from ptychodus.api.settings import SettingsRegistry

from ..config import ExecutionConfig, InferenceConfig, ModelConfig, TrainingConfig
from ..data.examination import ExaminationConfig
from ..defaults import (
    DEFAULT_ARCHITECTURE,
    DEFAULT_BATCH_SIZE,
    DEFAULT_EARLY_STOP_PATIENCE,
    DEFAULT_EPOCHS,
    DEFAULT_GRADIENT_CLIP,
    DEFAULT_GRID_SIZE,
    DEFAULT_LEARNING_RATE,
    DEFAULT_MAE_WEIGHT,
    DEFAULT_NLL_WEIGHT,
    DEFAULT_OBJECT_MAE_WEIGHT,
    DEFAULT_PROBE_MODES,
    DEFAULT_SCHEDULER,
    DEFAULT_TV_WEIGHT,
)
from ..refinement import RefinementConfig
from ..worker.job import neighbor_count

AUTO = "auto"
BACKEND_SETTING = "PtychoPINNPluginModel.Backend"


class _Group:
    """A settings group whose numbers are read as they were written.

    Ptychodus hands out a number outside its limits as the nearest limit; a settings file that says 0 epochs
    should hear about it instead.
    """

    def __init__(self, registry: SettingsRegistry, name: str) -> None:
        self.group: ParameterGroup = registry.create_group(name)
        self.name = name

    def value(self, parameter_name: str) -> Any:
        parameter: Any = self.group.parameters()[parameter_name]
        value: Any = ParameterBase.get_value(parameter)
        get_minimum = getattr(parameter, "get_minimum", None)
        get_maximum = getattr(parameter, "get_maximum", None)
        minimum = None if get_minimum is None else get_minimum()
        maximum = None if get_maximum is None else get_maximum()
        if (minimum is not None and not value >= minimum) or (maximum is not None and not value <= maximum):
            limits = f">= {minimum}" if maximum is None else f"from {minimum} to {maximum}"
            raise ValueError(
                f"The setting {self.name}.{parameter_name} = {value!r} is not valid: use a value {limits}."
            )
        return value

    def optional(self, parameter_name: str) -> Any:
        """Like :meth:`value`, with None for the 0 by which a settings file says "not set"."""
        return self.value(parameter_name) or None


class ModelSettings(_Group):
    """Group ``PtychoPINNPluginModel``: the engine and the shape of the network."""

    def __init__(self, registry: SettingsRegistry) -> None:
        super().__init__(registry, "PtychoPINNPluginModel")
        group = self.group
        self.backend = group.create_string_parameter("Backend", AUTO)
        self.architecture = group.create_string_parameter("Architecture", DEFAULT_ARCHITECTURE)
        self.grid_size = group.create_integer_parameter("GridSize", DEFAULT_GRID_SIZE, minimum=1, maximum=8)
        self.num_filters_scale = group.create_integer_parameter("NumFiltersScale", 2, minimum=1, maximum=16)
        self.amplitude_activation = group.create_string_parameter("AmplitudeActivation", "sigmoid")
        self.object_big = group.create_boolean_parameter("ObjectBig", True)
        self.probe_big = group.create_boolean_parameter("ProbeBig", True)
        self.pad_object = group.create_boolean_parameter("PadObject", True)
        self.probe_mask = group.create_boolean_parameter("ProbeMask", False)
        self.probe_scale = group.create_real_parameter("ProbeScale", 4.0, minimum=0.0)
        self.gaussian_smoothing_sigma = group.create_real_parameter(
            "GaussianSmoothingSigma", 0.0, minimum=0.0
        )


class DataSettings(_Group):
    """Group ``PtychoPINNPluginData``: which patterns are learnt from, and how they are grouped."""

    def __init__(self, registry: SettingsRegistry) -> None:
        super().__init__(registry, "PtychoPINNPluginData")
        group = self.group
        self.num_groups = group.create_integer_parameter("NumGroups", 0, minimum=0)
        # 0: the plugin's choice, by GridSize
        self.neighbor_count = group.create_integer_parameter("NeighborCount", 0, minimum=0, maximum=64)
        self.num_subsample = group.create_integer_parameter("NumSubsample", 0, minimum=0)
        self.seed = group.create_integer_parameter("Seed", 0, minimum=0)
        self.sequential_sampling = group.create_boolean_parameter("SequentialSampling", False)
        self.validation_fraction = group.create_real_parameter(
            "ValidationFraction", 0.05, minimum=0.0, maximum=0.9
        )


class TrainingSettings(_Group):
    """Group ``PtychoPINNPluginTraining``: objective, optimiser and hardware."""

    def __init__(self, registry: SettingsRegistry) -> None:
        super().__init__(registry, "PtychoPINNPluginTraining")
        group = self.group
        self.epochs = group.create_integer_parameter("Epochs", DEFAULT_EPOCHS, minimum=1)
        self.batch_size = group.create_integer_parameter("BatchSize", DEFAULT_BATCH_SIZE, minimum=1)
        self.learning_rate = group.create_real_parameter("LearningRate", DEFAULT_LEARNING_RATE, minimum=0.0)
        self.scheduler = group.create_string_parameter("Scheduler", DEFAULT_SCHEDULER)
        self.mae_weight = group.create_real_parameter("MAEWeight", DEFAULT_MAE_WEIGHT, minimum=0.0)
        self.nll_weight = group.create_real_parameter("NLLWeight", DEFAULT_NLL_WEIGHT, minimum=0.0)
        self.realspace_weight = group.create_real_parameter("RealspaceWeight", DEFAULT_TV_WEIGHT, minimum=0.0)
        self.realspace_mae_weight = group.create_real_parameter(
            "RealspaceMAEWeight", DEFAULT_OBJECT_MAE_WEIGHT, minimum=0.0
        )
        # the probe of a measured scan is an estimate: with a fixed one the object takes on its errors
        self.probe_trainable = group.create_boolean_parameter("ProbeTrainable", True)
        # 0: as many as the product has; fewer than it has are never taken
        self.probe_modes = group.create_integer_parameter(
            "ProbeModes", DEFAULT_PROBE_MODES, minimum=0, maximum=16
        )
        self.intensity_scale_trainable = group.create_boolean_parameter("IntensityScaleTrainable", True)
        self.early_stop_patience = group.create_integer_parameter(
            "EarlyStopPatience", DEFAULT_EARLY_STOP_PATIENCE, minimum=1
        )
        self.gradient_clip = group.create_real_parameter("GradientClip", DEFAULT_GRADIENT_CLIP, minimum=0.0)
        self.preview = group.create_boolean_parameter("Preview", True)
        self.accelerator = group.create_string_parameter("Accelerator", "auto")
        self.precision = group.create_string_parameter("Precision", "32-true")
        self.num_workers = group.create_integer_parameter("NumWorkers", 0, minimum=0, maximum=256)
        self.logger_backend = group.create_string_parameter("LoggerBackend", "none")


class InferenceSettings(_Group):
    """Group ``PtychoPINNPluginInference``: how a model is applied."""

    def __init__(self, registry: SettingsRegistry) -> None:
        super().__init__(registry, "PtychoPINNPluginInference")
        group = self.group
        self.batch_size = group.create_integer_parameter("BatchSize", 0, minimum=0)
        self.num_groups = group.create_integer_parameter("NumGroups", 0, minimum=0)


class RefinementSettings(_Group):
    """Group ``PtychoPINNPluginRefinement``: what becomes of the network's object."""

    def __init__(self, registry: SettingsRegistry) -> None:
        super().__init__(registry, "PtychoPINNPluginRefinement")
        group = self.group
        self.epochs = group.create_integer_parameter("Epochs", RefinementConfig.epochs, minimum=0)
        self.probe = group.create_boolean_parameter("Probe", RefinementConfig.probe)
        self.positions = group.create_boolean_parameter("Positions", RefinementConfig.positions)
        self.metric = group.create_string_parameter("Metric", RefinementConfig.metric)


class ExaminationSettings(_Group):
    """Group ``PtychoPINNPluginExamination``: what is looked for in a scan, and in a result."""

    def __init__(self, registry: SettingsRegistry) -> None:
        super().__init__(registry, "PtychoPINNPluginExamination")
        group, default = self.group, ExaminationConfig
        self.pattern_values = group.create_string_parameter("PatternValues", default.pattern_values)
        self.mask_pixels = group.create_boolean_parameter("MaskPixels", default.mask_pixels)
        self.centre_patterns = group.create_boolean_parameter("CentrePatterns", default.centre_patterns)
        self.refuse = group.create_boolean_parameter("Refuse", default.refuse)
        self.judge = group.create_boolean_parameter("Judge", default.judge)


class PluginSettings:
    """All groups, shared by both reconstructors."""

    def __init__(self, registry: SettingsRegistry) -> None:
        self.model = ModelSettings(registry)
        self.data = DataSettings(registry)
        self.training = TrainingSettings(registry)
        self.inference = InferenceSettings(registry)
        self.refinement = RefinementSettings(registry)
        self.examination = ExaminationSettings(registry)

    @property
    def groups(self) -> list[_Group]:
        """In the order of a settings file."""
        return [
            self.model,
            self.data,
            self.training,
            self.inference,
            self.refinement,
            self.examination,
        ]


# Where the user finds what a configuration object complains about.
_SETTING_OF_FIELD = {
    ("ModelConfig", "gridsize"): "PtychoPINNPluginModel.GridSize",
    ("ModelConfig", "n_filters_scale"): "PtychoPINNPluginModel.NumFiltersScale",
    ("ModelConfig", "architecture"): "PtychoPINNPluginModel.Architecture",
    ("ModelConfig", "amp_activation"): "PtychoPINNPluginModel.AmplitudeActivation",
    ("ModelConfig", "object_big"): "PtychoPINNPluginModel.ObjectBig",
    ("ModelConfig", "probe_big"): "PtychoPINNPluginModel.ProbeBig",
    ("ModelConfig", "pad_object"): "PtychoPINNPluginModel.PadObject",
    ("ModelConfig", "probe_mask"): "PtychoPINNPluginModel.ProbeMask",
    ("ModelConfig", "probe_scale"): "PtychoPINNPluginModel.ProbeScale",
    ("ModelConfig", "gaussian_smoothing_sigma"): "PtychoPINNPluginModel.GaussianSmoothingSigma",
    ("TrainingConfig", "n_groups"): "PtychoPINNPluginData.NumGroups",
    ("TrainingConfig", "n_subsample"): "PtychoPINNPluginData.NumSubsample",
    ("TrainingConfig", "subsample_seed"): "PtychoPINNPluginData.Seed",
    ("TrainingConfig", "neighbor_count"): "PtychoPINNPluginData.NeighborCount",
    ("TrainingConfig", "sequential_sampling"): "PtychoPINNPluginData.SequentialSampling",
    ("TrainingConfig", "nepochs"): "PtychoPINNPluginTraining.Epochs",
    ("TrainingConfig", "batch_size"): "PtychoPINNPluginTraining.BatchSize",
    ("TrainingConfig", "mae_weight"): "PtychoPINNPluginTraining.MAEWeight",
    ("TrainingConfig", "nll_weight"): "PtychoPINNPluginTraining.NLLWeight",
    ("TrainingConfig", "realspace_weight"): "PtychoPINNPluginTraining.RealspaceWeight",
    ("TrainingConfig", "realspace_mae_weight"): "PtychoPINNPluginTraining.RealspaceMAEWeight",
    ("TrainingConfig", "probe_trainable"): "PtychoPINNPluginTraining.ProbeTrainable",
    ("TrainingConfig", "probe_modes"): "PtychoPINNPluginTraining.ProbeModes",
    ("TrainingConfig", "intensity_scale_trainable"): "PtychoPINNPluginTraining.IntensityScaleTrainable",
    ("InferenceConfig", "n_groups"): "PtychoPINNPluginInference.NumGroups",
    ("InferenceConfig", "subsample_seed"): "PtychoPINNPluginData.Seed",
    ("InferenceConfig", "neighbor_count"): "PtychoPINNPluginData.NeighborCount",
    ("ExecutionConfig", "learning_rate"): "PtychoPINNPluginTraining.LearningRate",
    ("ExecutionConfig", "scheduler"): "PtychoPINNPluginTraining.Scheduler",
    ("ExecutionConfig", "gradient_clip_val"): "PtychoPINNPluginTraining.GradientClip",
    ("ExecutionConfig", "early_stop_patience"): "PtychoPINNPluginTraining.EarlyStopPatience",
    ("ExecutionConfig", "accelerator"): "PtychoPINNPluginTraining.Accelerator",
    ("ExecutionConfig", "precision"): "PtychoPINNPluginTraining.Precision",
    ("ExecutionConfig", "num_workers"): "PtychoPINNPluginTraining.NumWorkers",
    ("ExecutionConfig", "logger_backend"): "PtychoPINNPluginTraining.LoggerBackend",
    ("ExecutionConfig", "inference_batch_size"): "PtychoPINNPluginInference.BatchSize",
    ("RefinementConfig", "epochs"): "PtychoPINNPluginRefinement.Epochs",
    ("RefinementConfig", "probe"): "PtychoPINNPluginRefinement.Probe",
    ("RefinementConfig", "positions"): "PtychoPINNPluginRefinement.Positions",
    ("RefinementConfig", "metric"): "PtychoPINNPluginRefinement.Metric",
    ("RefinementConfig", "seed"): "PtychoPINNPluginData.Seed",
    ("ExaminationConfig", "pattern_values"): "PtychoPINNPluginExamination.PatternValues",
    ("ExaminationConfig", "mask_pixels"): "PtychoPINNPluginExamination.MaskPixels",
    ("ExaminationConfig", "centre_patterns"): "PtychoPINNPluginExamination.CentrePatterns",
    ("ExaminationConfig", "refuse"): "PtychoPINNPluginExamination.Refuse",
    ("ExaminationConfig", "judge"): "PtychoPINNPluginExamination.Judge",
}


@contextmanager
def naming_settings() -> Iterator[None]:
    """Rewrite ``ModelConfig.field`` in an error as the setting that the user can change."""

    def setting(match: re.Match[str]) -> str:
        name = _SETTING_OF_FIELD.get((match[1], match[2]))
        return match[0] if name is None else f"The setting {name}"

    try:
        yield
    except ValueError as exc:
        text = re.sub(r"\b(\w+Config)\.(\w+)", setting, str(exc))
        if "has nothing to learn from" in text:
            text = (
                "There is nothing to learn from: set NLLWeight, MAEWeight or RealspaceMAEWeight "
                "(PtychoPINNPluginTraining) above 0."
            )
        if text == str(exc):
            raise
        raise type(exc)(text) from exc


def make_model_config(settings: PluginSettings, model_type: str) -> ModelConfig:
    """The model as it is set; its ``N`` is a placeholder, since the data decide on it."""
    model = settings.model
    with naming_settings():
        return ModelConfig(
            gridsize=model.value("GridSize"),
            n_filters_scale=model.value("NumFiltersScale"),
            model_type=model_type,
            architecture=model.value("Architecture"),
            amp_activation=model.value("AmplitudeActivation"),
            object_big=model.value("ObjectBig"),
            probe_big=model.value("ProbeBig"),
            probe_mask=model.value("ProbeMask"),
            pad_object=model.value("PadObject"),
            probe_scale=model.value("ProbeScale"),
            gaussian_smoothing_sigma=model.value("GaussianSmoothingSigma"),
        )


def make_training_config(
    settings: PluginSettings, model_type: str, *, backend: str, input_path: Path, output_path: Path
) -> TrainingConfig:
    """The training as it is set.

    ``model.N``, ``nphotons`` and, where the setting leaves it to the data, ``n_groups`` are placeholders that
    the worker fills in once it has seen the data.
    """
    data, training = settings.data, settings.training
    model = make_model_config(settings, model_type)
    with naming_settings():
        return TrainingConfig(
            model=model,
            train_data_file=input_path,
            batch_size=training.value("BatchSize"),
            nepochs=training.value("Epochs"),
            mae_weight=training.value("MAEWeight"),
            nll_weight=training.value("NLLWeight"),
            realspace_mae_weight=_object_weight(settings, model_type),
            realspace_weight=training.value("RealspaceWeight"),
            n_groups=data.optional("NumGroups"),
            n_subsample=data.optional("NumSubsample"),
            subsample_seed=data.value("Seed"),
            neighbor_count=neighbor_count(data.optional("NeighborCount"), model.gridsize),
            probe_trainable=training.value("ProbeTrainable"),
            probe_modes=training.optional("ProbeModes"),
            intensity_scale_trainable=training.value("IntensityScaleTrainable"),
            output_dir=output_path,
            sequential_sampling=data.value("SequentialSampling"),
            backend=backend,
        )


def _object_weight(settings: PluginSettings, model_type: str) -> float:
    """Weight of the known object; where it is not set, ``Supervised`` has 1, since it lives by it."""
    weight = float(settings.training.value("RealspaceMAEWeight"))
    return 1.0 if weight == 0.0 and model_type == "supervised" else weight


def make_inference_config(settings: PluginSettings, *, backend: str, model_path: Path) -> InferenceConfig:
    """How a model is applied; its ``model`` is a placeholder, since the model file decides on it."""
    with naming_settings():
        return InferenceConfig(
            model_path=model_path,
            n_groups=settings.inference.optional("NumGroups"),
            subsample_seed=settings.data.value("Seed"),
            # not set: the worker chooses it by the model's own gridsize
            neighbor_count=settings.data.optional("NeighborCount") or InferenceConfig.neighbor_count,
            backend=backend,
        )


def make_execution_config(settings: PluginSettings) -> ExecutionConfig:
    """Hardware and optimiser."""
    training = settings.training
    with naming_settings():
        return ExecutionConfig(
            accelerator=training.value("Accelerator"),
            precision=training.value("Precision"),
            gradient_clip_val=training.optional("GradientClip"),
            num_workers=training.value("NumWorkers"),
            learning_rate=training.value("LearningRate"),
            scheduler=training.value("Scheduler"),
            early_stop_patience=training.value("EarlyStopPatience"),
            logger_backend=training.value("LoggerBackend"),
            inference_batch_size=settings.inference.optional("BatchSize"),
        )


def make_refinement_config(settings: PluginSettings) -> RefinementConfig | None:
    """What is to become of the network's object; None: it is the result."""
    refinement = settings.refinement
    if refinement.optional("Epochs") is None:
        return None
    with naming_settings():
        return RefinementConfig(
            epochs=refinement.value("Epochs"),
            probe=refinement.value("Probe"),
            positions=refinement.value("Positions"),
            metric=refinement.value("Metric"),
            seed=settings.data.value("Seed"),
        )


def make_examination_config(settings: PluginSettings) -> ExaminationConfig:
    """What is looked for in a scan, and what is done about it."""
    examination = settings.examination
    with naming_settings():
        return ExaminationConfig(
            pattern_values=examination.value("PatternValues"),
            mask_pixels=examination.value("MaskPixels"),
            centre_patterns=examination.value("CentrePatterns"),
            refuse=examination.value("Refuse"),
            judge=examination.value("Judge"),
        )
