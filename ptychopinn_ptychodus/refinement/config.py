"""What to refine, for how long, and by which objective."""

from __future__ import annotations

from dataclasses import dataclass

from ..validation import check, flags, integer, one_of, real

ERROR_METRICS = ("amplitude", "poisson")
METRICS = ("auto", *ERROR_METRICS)
PRIORS = ("off", "auto")
"""What an object is held by beside its own spectrum, see :mod:`.denoising`."""
STARTS = ("auto", "flat", "object")
"""Objects to start from, see :func:`.chosen_start.chosen_start`."""
SMALLEST_BATCH = 4
_FARTHEST = 64.0  # pixels, whatever the patterns' size: the object is continued by as much on each side


@dataclass(frozen=True)
class RefinementConfig:
    """Settings of :func:`.solver.refine`; the defaults suit a network's object and a flat one alike.

    Attributes
    ----------
    epochs
        Number of passes over the scan. Of more than 10 there are no more than twice as many as led to the
        noise of photons, see :mod:`.schedule`, unless the metric is ``"amplitude"``. 0 returns the start,
        with its probe scaled to the data.
    batch_size
        Number of patterns in one update, which are spread evenly over the scan. It is 4 or more: with fewer,
        momentum adds up steps that have little to do with each other. None takes one pattern in 24 of the
        scan, but 4 or more, and more for the likelihood of few counts.
    probe
        Whether the probe is refined. It waits for the second epoch, since the object goes first. The probe's
        total power stays as the data determine it at the start.
    positions
        Whether the positions are refined: before the first epoch, if there are three or more, by what all
        their errors have in common (:mod:`.position_terms`), and each by itself from the third epoch on.
        Their mean stays.
    metric
        ``"amplitude"`` is Σ (√λ - √n)² over good pixels, with expected counts λ and measured counts n. It
        forgives what the model does not know, such as a background. ``"poisson"`` is the Poisson likelihood,
        which makes more of few counts. ``"auto"`` measures errors, and takes steps, by amplitudes; once
        the error is near that of photon noise, after half of the epochs or five, steps follow the
        likelihood, and steps of the object by all patterns at once follow the epochs. Where counts are so few
        that amplitudes are no measure, see :mod:`.few_counts`, it is ``"poisson"`` from the beginning.
        With that, such steps follow, too, if nothing but photons' noise is left.
    prior
        ``"auto"`` holds the object of a dim scan by itself without its noise, see :mod:`.denoising`: where
        steps by all patterns at once follow the epochs, noise is left, and patterns that are held out are
        foretold better so. ``"off"`` does not.
    probe_modes
        Number of incoherent modes of the probe; modes that it lacks are added. None keeps those that it has.
    object_step, probe_step, position_step
        Length of a step. 1 would solve for that unknown if the others, and overlap, did not matter.
    momentum
        Part of the last step that goes into the next one (Nesterov), for object and probe.
    illumination_floor
        Part of the strongest illumination that is added to the illumination everywhere before a step is
        divided by it. The larger it is, the less is learnt where there is little light.
    ridge
        Part of the strongest illumination below which a pixel is held by its start, as if that were the
        light that it lacks: dim borders would gather noise.
    position_limit
        Longest step of a position in one epoch, pixels, each axis.
    position_range
        Farthest that a position may go by steps of its own, pixels, each axis, 64 at most. What all errors
        have in common comes before that, and may be half the patterns' size; so does what the search for
        positions that are far off (:mod:`.position_search`) finds.
    seed
        Seed of the batches.

    Raises
    ------
    ValueError
        Naming the field, the value and what is allowed.
    """

    epochs: int = 10
    batch_size: int | None = None
    probe: bool = True
    positions: bool = True
    metric: str = "auto"
    prior: str = "off"
    probe_modes: int | None = None
    object_step: float = 0.3
    probe_step: float = 0.2
    position_step: float = 1.0
    momentum: float = 0.9
    illumination_floor: float = 0.1
    ridge: float = 0.01
    position_limit: float = 0.5
    position_range: float = 4.0
    seed: int | None = 0

    def __post_init__(self) -> None:
        integer(self, "epochs", 0)
        integer(self, "batch_size", SMALLEST_BATCH, optional=True)
        flags(self, "probe", "positions")
        one_of(self, "metric", METRICS)
        one_of(self, "prior", PRIORS)
        integer(self, "probe_modes", 1, optional=True)
        for name in ("object_step", "probe_step", "position_step"):
            real(self, name, exclusive=True)
            check(getattr(self, name) <= 2, self, name, "a number > 0 and <= 2")
        real(self, "momentum")
        check(self.momentum < 1, self, "momentum", "a number >= 0 and < 1")
        real(self, "illumination_floor", 1e-3)
        real(self, "ridge")
        real(self, "position_limit", exclusive=True)
        real(self, "position_range", exclusive=True)
        check(self.position_range <= _FARTHEST, self, "position_range", f"a number > 0 and <= {_FARTHEST:g}")
        integer(self, "seed", 0, optional=True)

    @property
    def error_metric(self) -> str:
        """By what errors are measured: ``"amplitude"`` or ``"poisson"``."""
        return "poisson" if self.metric == "poisson" else "amplitude"
