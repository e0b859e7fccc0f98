"""What the panel shows: sections of settings, each with its label, what it does and when to change it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...config import (
    ACCELERATORS,
    AMP_ACTIVATIONS,
    ARCHITECTURES,
    LOGGER_BACKENDS,
    PRECISIONS,
    SCHEDULERS,
    backend_names,
)
from ...data.examination.config import PATTERN_VALUES
from ...refinement import METRICS
from ..settings import AUTO, PluginSettings

Applies = Callable[[PluginSettings, str], bool]


def _always(settings: PluginSettings, model_type: str) -> bool:
    return True


def _cnn(settings: PluginSettings, model_type: str) -> bool:
    return str(settings.model.architecture.get_value()) == "cnn"


def _supervised(settings: PluginSettings, model_type: str) -> bool:
    return model_type == "supervised"


def _refined(settings: PluginSettings, model_type: str) -> bool:
    return int(settings.refinement.epochs.get_value()) > 0


@dataclass(frozen=True)
class Field:
    """One setting.

    Attributes
    ----------
    group, name
        ``PtychoPINNPlugin<group>.<name>`` in a settings file.
    tip
        What the value does, and when to change it.
    choices
        Of a text.
    zero
        What 0 stands for, where it is no number.
    applies
        Whether it means anything, by settings and model type.
    """

    group: str
    name: str
    label: str
    tip: str
    choices: Callable[[], tuple[str, ...]] = tuple
    zero: str = ""
    applies: Applies = _always


ENGINE = (
    Field(
        "Model",
        "Backend",
        "Backend",
        "The framework that trains. auto takes TensorFlow where it is installed, else PyTorch. Both train "
        "the same networks; name one if both are installed and one of them sees the accelerator. A model "
        "file is always opened by the engine that wrote it, as long as that is installed.",
        choices=lambda: (AUTO, *backend_names()),
    ),
    Field(
        "Training",
        "Accelerator",
        "Accelerator",
        "The device that trains and infers. auto takes a GPU if the framework finds one, else the CPU. Name "
        "one to be told, rather than to wait, when it is not there.",
        choices=lambda: ACCELERATORS,
    ),
)

MODEL = (
    Field(
        "Model",
        "Architecture",
        "Architecture",
        "unrolled: steps of a solver with learnt corrections, on one object per group of overlapping "
        "patterns; it needs few epochs, and overlap. cnn: the convolutional network of the literature, for "
        "comparison, or for scans without overlap.",
        choices=lambda: ARCHITECTURES,
    ),
    Field(
        "Model",
        "GridSize",
        "Grid Size",
        "A group is of this many by this many neighbouring patterns that are processed together. 2 is a "
        "good start; 3 sees more of the large-scale phase and is slower; 1 leaves overlap unused.",
    ),
    Field(
        "Model",
        "NumFiltersScale",
        "Filters Scale",
        "Width of the network. Raise it for large scans of intricate objects; time and memory grow with its "
        "square. Lower it if memory runs out.",
    ),
    Field(
        "Model",
        "AmplitudeActivation",
        "Activation",
        "cnn only. What bounds the object's amplitude: sigmoid keeps it below 2, which fits objects that "
        "only absorb; try swish or softplus where bright parts are cut off.",
        choices=lambda: AMP_ACTIVATIONS,
        applies=_cnn,
    ),
    Field(
        "Model",
        "PadObject",
        "Pad Object",
        "cnn only. Reconstruct the central half of each patch and leave the rest empty. Switch it off for a "
        "probe that fills the patch.",
        applies=_cnn,
    ),
    Field(
        "Model",
        "ProbeBig",
        "Fill Border",
        "cnn only, with Pad Object. Add a coarse border to each patch, so that the tails of the probe see "
        "an object too. Switch it off for a compact probe.",
        applies=_cnn,
    ),
)

DATA = (
    Field(
        "Data",
        "NumSubsample",
        "Patterns",
        "Learn from this many patterns, picked at random. Use some hundreds for a quick trial; all for a "
        "result, since fewer patterns overlap less.",
        zero="all",
    ),
    Field(
        "Data",
        "NumGroups",
        "Groups",
        "Groups of patterns in an epoch. More than there are patterns draws some positions more than once, "
        "with other neighbours: use it for small scans.",
        zero="one per pattern",
    ),
    Field(
        "Data",
        "NeighborCount",
        "Neighbors",
        "A group is drawn from this many nearest neighbours: at least Grid Size² − 1, and more for more "
        "variety. Too many, and members of a group no longer overlap.",
        zero="Grid Size² + 2",
    ),
    Field(
        "Data",
        "ValidationFraction",
        "Validation Fraction",
        "Part of the scan, in one piece, that is held out to see whether what is learnt carries over. Not "
        "used where the training directory has test data. 0 learns from everything, and the best model is "
        "then the one of the lowest training loss.",
    ),
)

TRAINING = (
    Field(
        "Training",
        "Epochs",
        "Epochs",
        "Passes over the data. More if the loss still falls at the end, or the scan has few patterns. The "
        "schedules cosine and one_cycle end with the last epoch: a run that is stopped early is not as good "
        "as a short one.",
    ),
    Field(
        "Training",
        "BatchSize",
        "Batch Size",
        "Groups in one step. Small batches learn more in an epoch; larger ones keep a GPU busy. Lower it if "
        "memory runs out.",
    ),
    Field(
        "Training",
        "LearningRate",
        "Learning Rate",
        "Size of a step. Lower it by a factor of 3 if the loss jumps or rises; raise it in proportion to "
        "the square root of Batch Size.",
    ),
    Field(
        "Training",
        "Scheduler",
        "Schedule",
        "How the learning rate goes on. one_cycle: up, then down to nothing at the last epoch; best where "
        "the number of epochs is known. cosine: down. plateau: halved when the loss stalls. constant: as it "
        "is.",
        choices=lambda: SCHEDULERS,
    ),
    Field(
        "Training",
        "ProbeTrainable",
        "Learn Probe",
        "Refine the product's probe while learning. Switch it off if the probe is known exactly, as in "
        "simulations: of a probe that is a little wrong, the object takes on the errors.",
    ),
    Field(
        "Training",
        "ProbeModes",
        "Probe Modes",
        "Incoherent modes of the probe. 1 for a fully coherent beam; more if the loss stays high. Never "
        "fewer than the product's probe has. With a pretrained model, of the refined probe.",
        zero="as the product",
    ),
    Field(
        "Training",
        "Preview",
        "Preview",
        "Show the object while it is learnt, and leave it beside the model, as preview.png and preview.npy. "
        "It takes at most a twentieth of the training time: as many epochs have one as that pays for.",
    ),
    Field(
        "Training",
        "RealspaceMAEWeight",
        "Known-Object Weight",
        "Weight of the difference from the product's object, which must then be known. With Supervised, 0 "
        "stands for 1. Lower it to let the diffraction correct an object that is not quite right.",
        applies=_supervised,
    ),
)

INFERENCE = (
    Field(
        "Inference",
        "NumGroups",
        "Groups",
        "Groups of patterns that the network's object is made of. 0 is one per pattern, or, if the object is "
        "refined, as many as have one member for each pattern. Fewer if memory runs out on very large "
        "scans.",
        zero="automatic",
    ),
    Field(
        "Inference",
        "BatchSize",
        "Batch Size",
        "Groups at a time. It changes speed and memory, not the result.",
        zero="automatic",
    ),
)

REFINEMENT = (
    Field(
        "Refinement",
        "Epochs",
        "Epochs",
        "Passes over the scan in which the network's object is fitted to all patterns, as iterative solvers "
        "do; 0 is none. 10 after a trained network; 30 where that is poor. The window shows the network's "
        "object first; without the window it is a file of its own.",
        zero="off",
    ),
    Field(
        "Refinement",
        "Probe",
        "Probe",
        "Refine the probe, all its modes, together with the object, from the second epoch on.",
        applies=_refined,
    ),
    Field(
        "Refinement",
        "Positions",
        "Positions",
        "Refine the positions, by up to 4 pixels each, from the third epoch on; the result's product has "
        "them. Switch it off if they are known exactly.",
        applies=_refined,
    ),
    Field(
        "Refinement",
        "Metric",
        "Metric",
        "What is fitted: amplitude, the square roots of the counts; poisson, the likelihood of the counts, "
        "which is better for few photons; auto, amplitudes first, and the likelihood for the later half if "
        "the fit is near what photon noise leaves by then.",
        choices=lambda: METRICS,
        applies=_refined,
    ),
)

EXAMINATION = (
    Field(
        "Examination",
        "MaskPixels",
        "Mask Bad Pixels",
        "Mask pixels that cannot have measured anything: at the largest value of their type, not a number or "
        "negative in every pattern, hot, or dead. Switch it off where such pixels are known to be right.",
    ),
    Field(
        "Examination",
        "CentrePatterns",
        "Centre Patterns",
        "Shift patterns whose centre is stored in the corner of the array, as some programs write them. "
        "Switch it off where the probe's far field is known not to resemble the patterns.",
    ),
    Field(
        "Examination",
        "PatternValues",
        "Pattern Values",
        "What the patterns of NPZ training data hold: counts, amplitude (the square root of counts), or auto "
        "to find out where the file does not say so.",
        choices=lambda: PATTERN_VALUES,
    ),
    Field(
        "Examination",
        "Refuse",
        "Refuse Faulty Scans",
        "Compute nothing from a scan that would give a wrong image. Switched off, there is a warning "
        "instead, and a result that must not be trusted.",
    ),
    Field(
        "Examination",
        "Judge",
        "Judge the Result",
        "Compare the error of the result with what noise alone leaves, and where it does not fit, try "
        "on a part of the scan what would fit better: another orientation, other signs of the positions, "
        "frames shifted by one. It takes seconds.",
    ),
)

ADVANCED = (
    Field(
        "Training",
        "NLLWeight",
        "Poisson Weight",
        "Weight of the Poisson likelihood of the counts: the objective of choice for photon counting.",
    ),
    Field(
        "Training",
        "MAEWeight",
        "Amplitude Weight",
        "Weight of the mean error of amplitudes. Use it, with a Poisson Weight of 0, where the detector's "
        "counts are not photons.",
    ),
    Field(
        "Training",
        "RealspaceWeight",
        "Smoothness Weight",
        "Weight of the object's total variation. Try 0.001 to 0.1 for noisy scans; it costs resolution.",
    ),
    Field(
        "Training",
        "IntensityScaleTrainable",
        "Learn Intensity",
        "Refine the factor between model and counts, which is first fitted from the data. Leave it on.",
    ),
    Field(
        "Training",
        "GradientClip",
        "Gradient Clip",
        "Longest gradient that a step takes as it is. Lower it if the loss jumps; 0 is off.",
    ),
    Field(
        "Training",
        "EarlyStopPatience",
        "Early Stop Patience",
        "Epochs without an improvement after which training ends. It takes effect with more epochs than "
        "this.",
    ),
    Field(
        "Data",
        "Seed",
        "Seed",
        "Start of the random numbers that pick patterns and groups, in training and inference. Change it to "
        "see how much a result depends on chance.",
    ),
    Field(
        "Data",
        "SequentialSampling",
        "Sequential Groups",
        "Take groups in the order of the scan rather than at random. For tests that must be repeatable.",
    ),
    Field(
        "Model",
        "ObjectBig",
        "Merge Groups",
        "Merge the patches of a group to one object before they are compared with the data, so that they "
        "must agree where they overlap. Leave it on.",
    ),
    Field(
        "Model",
        "ProbeMask",
        "Mask Probe",
        "Cut the probe off beyond a quarter of its array from the centre. For probes with noise at the "
        "border.",
    ),
    Field(
        "Model",
        "ProbeScale",
        "Probe Scale",
        "Scale in which the probe is kept. It does not change the result; models of the literature use 4.",
    ),
    Field(
        "Model",
        "GaussianSmoothingSigma",
        "Smoothing Sigma",
        "Blur of the exit wave, in pixels. 0 is none; try 0.5 to 1 for a beam of low coherence.",
    ),
    Field(
        "Training",
        "Precision",
        "Precision",
        "16-mixed and bf16-mixed are faster on GPUs that support them, at some loss of accuracy.",
        choices=lambda: PRECISIONS,
    ),
    Field(
        "Training",
        "NumWorkers",
        "Loader Processes",
        "Processes that prepare batches beside the one that trains. Leave it at 0 unless a GPU is kept "
        "waiting.",
    ),
    Field(
        "Training",
        "LoggerBackend",
        "Logger",
        "Further log of the losses beside the model: csv or tensorboard in logs/, or mlflow, in mlflow.db, "
        "which also keeps configuration and a picture of the object. The latter two are to be installed.",
        choices=lambda: LOGGER_BACKENDS,
    ),
)
