"""The table of settings: what each is called, what it may be, what it sets, and what is said of it.

Each setting is one row, and stands nowhere else. Ptychodus' parameter groups (:mod:`.plugin.settings`), the
page in the window (:mod:`.plugin.panel`), the values of the configurations, the defaults of the Python
interface (:mod:`.api`) and ``docs/settings.md`` come from the rows. Reading them needs nothing of Ptychodus,
of Qt or of a framework. The module is as long as the table has rows.

The defaults of the configurations (:mod:`.config`) are those of the PtychoPINN community. Those of the table
are tuned for one scan and two CPU cores, and decide how well and how fast a training succeeds out of the box.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .config import (
    ACCELERATORS,
    AMP_ACTIVATIONS,
    ARCHITECTURES,
    LOGGER_BACKENDS,
    MOST_REFLECTIONS,
    PRECISIONS,
    SCHEDULERS,
    STRATEGIES,
    ExecutionConfig,
    InferenceConfig,
    ModelConfig,
    TrainingConfig,
    backend_names,
)
from .data.examination.config import PATTERN_VALUES, ExaminationConfig
from .refinement.config import METRICS, PRIORS, STARTS, RefinementConfig

PREFIX = "PtychoPINNPlugin"
"""With which the name of each settings group begins."""

AUTO = "auto"

EFFORTS = ("quick", "normal", "thorough")
NORMAL = "normal"
EFFORT = "Training.Effort"
"""The setting that sets others: those whose rows have ``by_effort``."""

NEW, FROM_MODEL, RESUME = TRAINING_STARTS = ("new", "model", "resume")
"""With what a training starts: a fresh network, the loaded model, or where an earlier one was interrupted."""

START = "Training.Start"

Values = Callable[[str], Any]
"""The value that the setting ``Group.Name`` has now."""

WITHOUT_MODEL = "refinement"
"""What stands in the place of a model type for the reconstructor that needs no model."""

NETWORKS = ("pinn", "supervised")
"""Model types: what reconstructors with a model are trained on."""

EVERY = (*NETWORKS, WITHOUT_MODEL)

Applies = Callable[[Values, str], bool]
"""Whether a setting means anything, by the values of settings and by model type or :data:`WITHOUT_MODEL`."""


def _always(values: Values, model_type: str) -> bool:
    return True


def _cnn(values: Values, model_type: str) -> bool:
    return bool(values("Model.Architecture") == "cnn")


def _unrolled(values: Values, model_type: str) -> bool:
    return not _cnn(values, model_type)


def _supervised(values: Values, model_type: str) -> bool:
    return model_type == "supervised"


def _refined(values: Values, model_type: str) -> bool:
    return model_type == WITHOUT_MODEL or bool(values("Refinement.Epochs") > 0)


@dataclass(frozen=True)
class Setting:
    """One row of the table.

    Attributes
    ----------
    path
        ``Group.Name``, which is ``PtychoPINNPluginGroup.Name`` in a settings file.
    default
        A bool, int, float or str; the value of the setting is of the same type.
    label
        What it is called in the window and in ``docs/settings.md``.
    tip
        What the value does, and when to change it.
    sets
        The configurations that it takes part in, and which field it sets in each. Empty if it is no field of
        a configuration: the plugin then reads it where it makes a job.
    minimum, maximum
        The least and the largest value of a number, themselves allowed by Ptychodus; None for no limit. The
        configuration may refuse the least one.
    optional
        Whether 0 stands for None in the configuration, which is "not set".
    choices
        Makes the list of what a text may be. It is asked for when it is shown, since engines may be added.
    zero
        What the window shows for 0, where that is no number.
    applies
        Whether it means anything, by settings and model type. Where it does not, it is not shown.
    of
        The reconstructors that read it, by model type or :data:`WITHOUT_MODEL`: it is on no page of others.
    by_effort
        The value that each choice of :data:`EFFORT` sets, that of :data:`NORMAL` being the default; empty if
        the effort has no say in it.
    """

    path: str
    default: bool | int | float | str
    label: str
    tip: str
    sets: Mapping[type, str] = field(default_factory=dict)
    minimum: int | float | None = None
    maximum: int | float | None = None
    optional: bool = False
    choices: Callable[[], tuple[str, ...]] = tuple
    zero: str = ""
    applies: Applies = _always
    of: tuple[str, ...] = NETWORKS
    by_effort: Mapping[str, int] = field(default_factory=dict)

    @property
    def group(self) -> str:
        """The group's name without :data:`PREFIX`."""
        return self.path.partition(".")[0]

    @property
    def name(self) -> str:
        """Its name within the group."""
        return self.path.partition(".")[2]

    @property
    def full_name(self) -> str:
        """As a settings file and messages have it: ``PtychoPINNPluginTraining.Epochs``."""
        return PREFIX + self.path

    def in_configuration(self, value: Any) -> Any:
        """What a configuration is given for ``value``."""
        return (value or None) if self.optional else value


_EPOCHS_WITHOUT_MODEL = {"quick": 10, NORMAL: 30, "thorough": 60}
_TRAINING_EPOCHS = {"quick": 2, NORMAL: 6, "thorough": 12}
_REFINEMENT_EPOCHS = {"quick": 5, NORMAL: RefinementConfig.epochs, "thorough": 30}

_EFFORT = (
    Setting(
        EFFORT,
        NORMAL,
        "Effort",
        "How long to compute: quick for a first look, normal for a result, thorough where that "
        "still improves. Choosing one sets Epochs, of training, of refinement and of refinement without a "
        "model; what is set there afterwards, or in a file beside it, wins.",
        choices=lambda: EFFORTS,
        of=EVERY,
    ),
)

_ENGINE = (
    Setting(
        "Model.Backend",
        AUTO,
        "Backend",
        "The framework that trains. auto takes TensorFlow where it is installed, else PyTorch. "
        "Both train the same networks; name one if both are installed and one of them sees the "
        "accelerator. A model file is always opened by the engine that wrote it, as long as that "
        "is installed.",
        choices=lambda: (AUTO, *backend_names()),
    ),
    Setting(
        "Training.Accelerator",
        "auto",
        "Accelerator",
        "The device that trains and infers. auto takes a GPU if the framework finds one, else the "
        "CPU. Name one to be told, rather than to wait, when it is not there.",
        sets={ExecutionConfig: "accelerator"},
        choices=lambda: ACCELERATORS,
        of=EVERY,
    ),
    Setting(
        "Inference.KeepWarm",
        60,
        "Keep Warm",
        "In the window, seconds for which the process of a run stays after it, with framework and model "
        "loaded, so that the next Infer computes at once. Until then it holds memory, of a GPU as well; "
        "Release, a training, another engine or accelerator, and closing the window end it sooner. "
        "Command line and scripts have one process per run.",
        minimum=0,
        maximum=3600,
        zero="off",
        of=EVERY,
    ),
)

_MODEL = (
    Setting(
        "Model.Architecture",
        "unrolled",
        "Architecture",
        "unrolled: steps of a solver with learnt corrections, on one object per group of "
        "overlapping patterns; it needs few epochs, and overlap. unrolled_fourier: the same with Fourier "
        "layers for corrections, which see a whole patch at once; for single frames whose objects are "
        "known. cnn: the convolutional network "
        "of the literature, for comparison, or for scans without overlap.",
        sets={ModelConfig: "architecture"},
        choices=lambda: ARCHITECTURES,
    ),
    Setting(
        "Model.GridSize",
        2,
        "Grid Size",
        "A group is of this many by this many neighbouring patterns that are processed together. "
        "2 is a good start; 3 sees more of the large-scale phase and is slower; 1 leaves overlap "
        "unused.",
        sets={ModelConfig: "gridsize"},
        minimum=1,
        maximum=8,
    ),
    Setting(
        "Model.NumFiltersScale",
        2,
        "Filters Scale",
        "Width of the network. Raise it for large scans of intricate objects; time and memory "
        "grow with its square. Lower it if memory runs out.",
        sets={ModelConfig: "n_filters_scale"},
        minimum=1,
        maximum=16,
    ),
    Setting(
        "Model.Reflections",
        0,
        "Reflections",
        "unrolled and unrolled_fourier. Steps of a search, in which nothing is learnt, that come before the "
        "network's own. Under an even disk without phase, set 200 for single frames and 50 for groups. Leave "
        "it at 0 for single frames under other probes: it made them worse. Time grows with it.",
        sets={ModelConfig: "reflections"},
        minimum=0,
        maximum=MOST_REFLECTIONS,
        zero="none",
        applies=_unrolled,
    ),
    Setting(
        "Model.AmplitudeActivation",
        "sigmoid",
        "Activation",
        "cnn only. What bounds the object's amplitude: sigmoid keeps it below 2, which fits "
        "objects that only absorb; try swish or softplus where bright parts are cut off.",
        sets={ModelConfig: "amp_activation"},
        choices=lambda: AMP_ACTIVATIONS,
        applies=_cnn,
    ),
    Setting(
        "Model.PadObject",
        True,
        "Pad Object",
        "cnn only. Reconstruct the central half of each patch and leave the rest empty. Switch it "
        "off for a probe that fills the patch.",
        sets={ModelConfig: "pad_object"},
        applies=_cnn,
    ),
    Setting(
        "Model.ProbeBig",
        True,
        "Fill Border",
        "cnn only, with Pad Object. Add a coarse border to each patch, so that the tails of the "
        "probe see an object too. Switch it off for a compact probe.",
        sets={ModelConfig: "probe_big"},
        applies=_cnn,
    ),
)

_DATA = (
    Setting(
        "Data.PatternSize",
        0,
        "Pattern Size",
        "Crop or pad patterns to this many pixels along both edges, around the zero frequency, where they "
        "are not square or have another size; what is added counts as bad pixels. The result's object and "
        "probe then have the pixels of patterns of this size. Where the detector's own files are opened, "
        "crop, pad or bin in Ptychodus' Diffraction view instead.",
        sets={ExaminationConfig: "pattern_size"},
        minimum=0,
        maximum=1024,
        optional=True,
        zero="as they are",
        of=EVERY,
    ),
    Setting(
        "Data.NumSubsample",
        0,
        "Patterns",
        "Learn from this many patterns, picked at random. Use some hundreds for a quick trial; "
        "all for a result, since fewer patterns overlap less.",
        sets={TrainingConfig: "n_subsample"},
        minimum=0,
        optional=True,
        zero="all",
    ),
    Setting(
        "Data.NumGroups",
        0,
        "Groups",
        "Groups of patterns in an epoch. More than there are patterns draws some positions more "
        "than once, with other neighbours: use it for small scans. 0 is one per pattern; for the "
        "unrolled network, which learns steps rather than the scan, 1000 at most.",
        sets={TrainingConfig: "n_groups"},
        minimum=0,
        optional=True,
        zero="automatic",
    ),
    Setting(
        "Data.NeighborCount",
        0,
        "Neighbors",
        "A group is drawn from this many nearest neighbours: at least Grid Size² − 1, and more "
        "for more variety. Too many, and members of a group no longer overlap.",
        sets={TrainingConfig: "neighbor_count", InferenceConfig: "neighbor_count"},
        minimum=0,
        maximum=64,
        optional=True,
        zero="Grid Size² + 2",
    ),
    Setting(
        "Data.ValidationFraction",
        0.05,
        "Validation Fraction",
        "Part of the scan, in one piece, that is held out to see whether what is learnt carries "
        "over. Not used where the training directory has test data. 0 learns from everything, and "
        "the best model is then the one of the lowest training loss.",
        minimum=0.0,
        maximum=0.9,
    ),
    Setting(
        "Data.SkipDamaged",
        False,
        "Skip Damaged Scans",
        "Where the training directory holds several scans, leave out those that are damaged or would be "
        "refused, each with a warning. Otherwise one such scan refuses the training, and is named.",
    ),
)

_PROBE = (
    Setting(
        # the probe of a measured scan is an estimate: with a fixed one the object takes on its errors
        "Training.ProbeTrainable",
        True,
        "Learn Probe",
        "Find the probe from the patterns, starting from the product's, before the network is trained "
        "with it, and before a pretrained one is applied, if the product's does not explain them. Switch it "
        "off if the probe is known exactly, as in simulations: of a probe that is a little wrong, the object "
        "takes on the errors.",
        sets={TrainingConfig: "probe_trainable"},
    ),
    Setting(
        "Training.ProbeModes",
        3,
        "Probe Modes",
        "Incoherent modes that the probe may have. 1 for a fully coherent beam; more if the loss stays "
        "high. Where the probe is learnt, those beyond the product's are kept only if they explain the "
        "patterns better. Never fewer than the product's probe has. With a pretrained model, and without "
        "one, of the refined probe.",
        sets={TrainingConfig: "probe_modes"},
        minimum=0,
        maximum=16,
        optional=True,
        zero="as the product",
        of=EVERY,
    ),
)

_TRAINING = (
    Setting(
        START,
        NEW,
        "Start From",
        "new: a fresh network. model: the network and the learnt probe of the loaded model (of a "
        "pretrained one, the network under the scan's probe), with the statistics of the new data; "
        "where none is loaded, of the one in the input directory. The settings of the network must be "
        "those of the model. resume: go on with the interrupted training in the output directory, from "
        "its last epoch, with the settings that it was started with.",
        choices=lambda: TRAINING_STARTS,
    ),
    Setting(
        "Training.Epochs",
        _TRAINING_EPOCHS[NORMAL],
        "Epochs",
        "Passes over the groups. More if the loss still falls at the end, or the scan has few "
        "patterns. The schedules cosine and one_cycle end with the last epoch: a run that is "
        "stopped early is not as good as a short one.",
        sets={TrainingConfig: "nepochs"},
        minimum=1,
        by_effort=_TRAINING_EPOCHS,
    ),
    Setting(
        "Training.BatchSize",
        4,
        "Batch Size",
        "Groups in one step. Small batches learn more in an epoch; larger ones keep a GPU busy. "
        "Lower it if memory runs out.",
        sets={TrainingConfig: "batch_size"},
        minimum=1,
    ),
    Setting(
        "Training.LearningRate",
        0.002,
        "Learning Rate",
        "Size of a step. Lower it by a factor of 3 if the loss jumps or rises; raise it in "
        "proportion to the square root of Batch Size.",
        sets={ExecutionConfig: "learning_rate"},
        minimum=0.0,
    ),
    Setting(
        "Training.Scheduler",
        "one_cycle",
        "Schedule",
        "How the learning rate goes on. one_cycle: up, then down to nothing at the last epoch; "
        "best where the number of epochs is known. cosine: down. plateau: halved when the loss "
        "stalls. constant: as it is.",
        sets={ExecutionConfig: "scheduler"},
        choices=lambda: SCHEDULERS,
    ),
    Setting(
        "Training.Preview",
        True,
        "Preview",
        "Show the object while it is learnt, and leave it beside the model, as preview.png and "
        "preview.npy. It takes at most a twentieth of the training time: as many epochs have one "
        "as that pays for.",
    ),
    Setting(
        "Training.RealspaceMAEWeight",
        0.0,
        "Known-Object Weight",
        "Weight of the difference from the product's object, which must then be known. With "
        "Supervised, 0 stands for 1. Lower it to let the diffraction correct an object that is "
        "not quite right.",
        sets={TrainingConfig: "realspace_mae_weight"},
        minimum=0.0,
        applies=_supervised,
    ),
    Setting(
        "Training.RealspaceAlignedWeight",
        0.0,
        "Aligned-Object Weight",
        "Weight of the same difference, once each patch has the phase that fits the known object best. "
        "Diffraction does not determine that phase: raise this, and lower Known-Object Weight, for single "
        "frames and where the phases of several scans have nothing in common. Of single frames under a probe "
        "that is its own image, turned by half and conjugated, the patch may be that of the object as well.",
        sets={TrainingConfig: "realspace_aligned_weight"},
        minimum=0.0,
        applies=_supervised,
    ),
)

_INFERENCE = (
    Setting(
        "Inference.NumGroups",
        0,
        "Groups",
        "Groups of patterns that the network's object is made of. 0 is one per pattern, or, if "
        "the object is refined, as many as have one member for each pattern. Fewer take less time, "
        "and less room for temporary files on very large scans.",
        sets={InferenceConfig: "n_groups"},
        minimum=0,
        optional=True,
        zero="automatic",
    ),
    Setting(
        "Inference.BatchSize",
        0,
        "Batch Size",
        "Groups at a time. It changes speed and memory, not the result.",
        sets={ExecutionConfig: "inference_batch_size"},
        minimum=0,
        optional=True,
        zero="automatic",
    ),
)

_WITHOUT_MODEL = (
    Setting(
        "WithoutModel.Start",
        "auto",
        "Start",
        "The object that Refinement starts from: flat, the product's object, or auto, whichever of the two "
        "explains the patterns better (flat where they hold hardly more than noise). Choose flat where the "
        "product's object is a result that went wrong.",
        choices=lambda: STARTS,
        of=(WITHOUT_MODEL,),
    ),
    Setting(
        "WithoutModel.Epochs",
        _EPOCHS_WITHOUT_MODEL[NORMAL],
        "Epochs",
        "Passes over the scan in which the object is found. 30 from a flat object, 10 for a first look or "
        "to go on with a result. They end early where nothing is left but the noise of photons.",
        minimum=1,
        by_effort=_EPOCHS_WITHOUT_MODEL,
        of=(WITHOUT_MODEL,),
    ),
)

_REFINEMENT = (
    Setting(
        "Refinement.Epochs",
        _REFINEMENT_EPOCHS[NORMAL],
        "Epochs",
        "Passes over the scan in which the network's object is fitted to all patterns, as "
        "iterative solvers do; 0 is none. 10 after a trained network; 30 where that is poor. More "
        "than 10 end early where nothing is left but the noise of photons. The "
        "window shows the network's object first; without the window it is a file of its own.",
        sets={RefinementConfig: "epochs"},
        minimum=0,
        zero="off",
        by_effort=_REFINEMENT_EPOCHS,
    ),
    Setting(
        "Refinement.Probe",
        RefinementConfig.probe,
        "Probe",
        "Refine the probe, all its modes, together with the object, from the second epoch on.",
        sets={RefinementConfig: "probe"},
        applies=_refined,
        of=EVERY,
    ),
    Setting(
        "Refinement.Positions",
        RefinementConfig.positions,
        "Positions",
        "Refine the positions: first what their errors have in common, such as a turn or a drift of tens of "
        "pixels, then each by up to 4 pixels, from the third epoch on, and once more from the beginning "
        "where a search finds that many are farther off; the result's product has them. Switch it off if "
        "they are known exactly.",
        sets={RefinementConfig: "positions"},
        applies=_refined,
        of=EVERY,
    ),
    Setting(
        "Refinement.Metric",
        RefinementConfig.metric,
        "Metric",
        "What is fitted: amplitude, the square roots of the counts; poisson, the likelihood of "
        "the counts, which is better for few photons; auto, amplitudes first, and the likelihood "
        "for the later half if the fit is near what photon noise leaves by then, or from the beginning where "
        "most bright pixels count less than about eight photons.",
        sets={RefinementConfig: "metric"},
        choices=lambda: METRICS,
        applies=_refined,
        of=EVERY,
    ),
    Setting(
        "Refinement.Prior",
        RefinementConfig.prior,
        "Prior",
        "What holds the object of a dim scan beside its own spectrum. auto: itself without its noise (total "
        "variation), where photons are few and patterns that take no part are foretold better so; the "
        "product's comments say it. Flat regions are flatter than the counts alone make them, and texture "
        "among them that hardly stands out of the noise is weaker. off: the counts alone.",
        sets={RefinementConfig: "prior"},
        choices=lambda: PRIORS,
        applies=_refined,
        of=EVERY,
    ),
)

_EXAMINATION = (
    Setting(
        "Examination.MaskPixels",
        ExaminationConfig.mask_pixels,
        "Mask Bad Pixels",
        "Mask pixels that cannot have measured anything: at the largest value of their type, not "
        "a number or negative in every pattern, hot, or dead. Switch it off where such pixels are "
        "known to be right.",
        sets={ExaminationConfig: "mask_pixels"},
        of=EVERY,
    ),
    Setting(
        "Examination.CentrePatterns",
        ExaminationConfig.centre_patterns,
        "Centre Patterns",
        "Shift patterns whose centre is stored in the corner of the array, as some programs write "
        "them. Switch it off where the probe's far field is known not to resemble the patterns.",
        sets={ExaminationConfig: "centre_patterns"},
        of=EVERY,
    ),
    Setting(
        "Examination.PatternValues",
        ExaminationConfig.pattern_values,
        "Pattern Values",
        "What the patterns of NPZ training data hold: counts, amplitude (the square root of "
        "counts), or auto to find out where the file does not say so.",
        sets={ExaminationConfig: "pattern_values"},
        choices=lambda: PATTERN_VALUES,
        of=EVERY,
    ),
    Setting(
        "Examination.Refuse",
        ExaminationConfig.refuse,
        "Refuse Faulty Scans",
        "Compute nothing from a scan that would give a wrong image. Switched off, there is a "
        "warning instead, and a result that must not be trusted.",
        sets={ExaminationConfig: "refuse"},
        of=EVERY,
    ),
    Setting(
        "Examination.Judge",
        ExaminationConfig.judge,
        "Judge the Result",
        "Compare the error of the result with what noise alone leaves, and where it does not fit, "
        "try on a part of the scan what would fit better: another orientation, other signs of the "
        "positions, frames shifted by one. It takes seconds.",
        sets={ExaminationConfig: "judge"},
        of=EVERY,
    ),
    Setting(
        "Examination.Confidence",
        ExaminationConfig.confidence,
        "Map of Confidence",
        "Have each half of the scan bring back the object's details, which shows what the patterns "
        "confirm and down to which resolution: a map beside the result, and a line in its comments. "
        "It takes as long as a few epochs of refinement.",
        sets={ExaminationConfig: "confidence"},
        of=EVERY,
    ),
)

_ADVANCED = (
    Setting(
        "Training.NLLWeight",
        1.0,
        "Poisson Weight",
        "Weight of the Poisson likelihood of the counts: the objective of choice for photon counting.",
        sets={TrainingConfig: "nll_weight"},
        minimum=0.0,
    ),
    Setting(
        "Training.MAEWeight",
        0.0,
        "Amplitude Weight",
        "Weight of the mean error of amplitudes. Use it, with a Poisson Weight of 0, where the "
        "detector's counts are not photons.",
        sets={TrainingConfig: "mae_weight"},
        minimum=0.0,
    ),
    Setting(
        "Training.RealspaceWeight",
        0.0,
        "Smoothness Weight",
        "Weight of the object's total variation. Try 0.001 to 0.1 for noisy scans; it costs resolution.",
        sets={TrainingConfig: "realspace_weight"},
        minimum=0.0,
    ),
    Setting(
        "Training.IntensityScaleTrainable",
        True,
        "Learn Intensity",
        "Refine the factor between model and counts, which is first fitted from the data. Leave it on.",
        sets={TrainingConfig: "intensity_scale_trainable"},
    ),
    Setting(
        "Training.GradientClip",
        1.0,
        "Gradient Clip",
        "Longest gradient that a step takes as it is. Lower it if the loss jumps; 0 is off.",
        sets={ExecutionConfig: "gradient_clip_val"},
        minimum=0.0,
        optional=True,
    ),
    Setting(
        "Training.EarlyStopPatience",
        100,
        "Early Stop Patience",
        "Epochs without an improvement after which training ends. It takes effect with more "
        "epochs than this.",
        sets={ExecutionConfig: "early_stop_patience"},
        minimum=1,
    ),
    Setting(
        "Data.Seed",
        0,
        "Seed",
        "Start of the random numbers that pick patterns and groups, in training and inference. "
        "Change it to see how much a result depends on chance.",
        sets={TrainingConfig: "subsample_seed", InferenceConfig: "subsample_seed", RefinementConfig: "seed"},
        minimum=0,
        of=EVERY,
    ),
    Setting(
        "Data.SequentialSampling",
        False,
        "Sequential Groups",
        "Take groups in the order of the scan rather than at random. For tests that must be repeatable.",
        sets={TrainingConfig: "sequential_sampling"},
    ),
    Setting(
        "Model.ObjectBig",
        True,
        "Merge Groups",
        "Merge the patches of a group to one object before they are compared with the data, so "
        "that they must agree where they overlap. Leave it on.",
        sets={ModelConfig: "object_big"},
    ),
    Setting(
        "Model.ProbeMask",
        False,
        "Mask Probe",
        "Cut the probe off beyond a quarter of its array from the centre. For probes with noise "
        "at the border.",
        sets={ModelConfig: "probe_mask"},
    ),
    Setting(
        "Model.ProbeScale",
        4.0,
        "Probe Scale",
        "Scale in which the probe is kept. It does not change the result; models of the literature use 4.",
        sets={ModelConfig: "probe_scale"},
        minimum=0.0,
    ),
    Setting(
        "Model.GaussianSmoothingSigma",
        0.0,
        "Smoothing Sigma",
        "Blur of the exit wave, in pixels. 0 is none; try 0.5 to 1 for a beam of low coherence.",
        sets={ModelConfig: "gaussian_smoothing_sigma"},
        minimum=0.0,
    ),
    Setting(
        "Training.Precision",
        "32-true",
        "Precision",
        "16-mixed and bf16-mixed are faster on GPUs that support them, at some loss of accuracy.",
        sets={ExecutionConfig: "precision"},
        choices=lambda: PRECISIONS,
    ),
    Setting(
        "Training.NumWorkers",
        0,
        "Loader Processes",
        "Processes that prepare batches beside the one that trains. Leave it at 0 unless a GPU is "
        "kept waiting.",
        sets={ExecutionConfig: "num_workers"},
        minimum=0,
        maximum=256,
    ),
    Setting(
        "Training.Devices",
        1,
        "Devices",
        "Devices of a machine that train one model together, each with its part of every batch, and that "
        "share the groups of a reconstruction: GPUs, or parts of the CPU where that is the accelerator. "
        "Batch Size is that of all of them, so that the number changes nothing but the time.",
        sets={ExecutionConfig: "devices"},
        minimum=1,
        maximum=1024,
    ),
    Setting(
        "Training.Nodes",
        1,
        "Nodes",
        "Machines that train one model together, each with as many Devices. More than one: start the "
        "training with srun or torchrun, one process for each device, or, with TensorFlow, one process on "
        "each machine with TF_CONFIG. A reconstruction uses one machine.",
        sets={ExecutionConfig: "num_nodes"},
        minimum=1,
        maximum=1024,
    ),
    Setting(
        "Training.Strategy",
        "auto",
        "Strategy",
        "How several devices share a training. auto is ddp: each has the whole model, and the gradients are "
        "averaged. ddp_spawn is the same here. TensorFlow has auto alone, which does the same.",
        sets={ExecutionConfig: "strategy"},
        choices=lambda: STRATEGIES,
    ),
    Setting(
        "Training.LoggerBackend",
        "none",
        "Logger",
        "Further log of the losses beside the model: csv or tensorboard in logs/, or mlflow, in "
        "mlflow.db, which also keeps configuration and a picture of the object. The latter two "
        "are to be installed.",
        sets={ExecutionConfig: "logger_backend"},
        choices=lambda: LOGGER_BACKENDS,
    ),
)

SECTIONS: dict[str, tuple[Setting, ...]] = {
    "Effort": _EFFORT,
    "Engine": _ENGINE,
    "Model": _MODEL,
    "Data and Sampling": _DATA,
    "Probe": _PROBE,
    "Training": _TRAINING,
    "Inference": _INFERENCE,
    "Without a Model": _WITHOUT_MODEL,
    "Refinement": _REFINEMENT,
    "Examination": _EXAMINATION,
    "Advanced": _ADVANCED,
}
"""Title and rows of each section, as the window and ``docs/settings.md`` show them; the last is folded up."""

SETTINGS: dict[str, Setting] = {row.path: row for rows in SECTIONS.values() for row in rows}
"""All rows by ``Group.Name``, in the order in which they are shown."""

GROUPS = ("Model", "Data", "Training", "Inference", "Refinement", "WithoutModel", "Examination")
"""In the order of a settings file."""

SETTING_OF_FIELD: dict[tuple[str, str], Setting] = {
    (config.__name__, name): row for row in SETTINGS.values() for config, name in row.sets.items()
}
"""Where the user finds what a configuration object complains about: the row, by class and field."""


def _default(row: Setting) -> Any:
    return row.default


def fields_of(config: type, value: Callable[[Setting], Any] = _default) -> dict[str, Any]:
    """The fields of a configuration class that settings set.

    Parameters
    ----------
    config
        A class that rows name in ``sets``.
    value
        The value of a setting; by default, the setting's own default.
    """
    return {
        row.sets[config]: row.in_configuration(value(row)) for row in SETTINGS.values() if config in row.sets
    }


def fields_with_effort(config: type, effort: str) -> dict[str, Any]:
    """The fields of a configuration class that settings set, at the defaults that an effort has.

    Errors are those of :func:`with_effort`.
    """
    changed = with_effort(effort)
    return fields_of(config, lambda row: changed.get(row.path, row.default))


def with_effort(effort: str) -> dict[str, int]:
    """The values, by ``Group.Name``, of the settings that an effort sets.

    Raises
    ------
    ValueError
        If there is no such effort; the message lists them.
    """
    if effort not in EFFORTS:
        known = ", ".join(map(repr, EFFORTS))
        raise ValueError(f"The setting {SETTINGS[EFFORT].full_name} = {effort!r} is not valid: use {known}.")
    return {path: row.by_effort[effort] for path, row in SETTINGS.items() if row.by_effort}


def effort_says(values: Values, model_type: str) -> str:
    """What has come of the effort: each setting that it sets, as it is now, and what the effort says to it.

    ``model_type`` is the reconstructor's, or :data:`WITHOUT_MODEL`; nothing is said of others' settings.

    Raises
    ------
    ValueError
        As :func:`with_effort`.
    """
    effort, parts = values(EFFORT), []
    for path, meant in with_effort(effort).items():
        row, value = SETTINGS[path], values(path)
        if model_type not in row.of:
            continue
        shown = row.zero if row.zero and value == 0 else str(value)
        aside = "" if value == meant else f" ({effort}: {meant})"
        of = "" if row.of == (WITHOUT_MODEL,) else f"{row.group} "
        parts.append(f"{of}{row.label}".lower() + f" {shown}{aside}")
    return ", ".join(parts)


def known_object_weight(weight: float, model_type: str) -> float:
    """Weight of the known object. If it is not set, it is 1 for ``supervised``, which needs one."""
    return 1.0 if weight == 0.0 and model_type == "supervised" else weight
