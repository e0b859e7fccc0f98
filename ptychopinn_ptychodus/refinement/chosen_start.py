"""What a refinement starts from: what there is, unless an object that starts anew is the better start.

A network's probe may be spoilt, as by a training that let it follow the noise; its object may have fitted the
noise itself, as one from a few patterns at a time does under few counts; and an object that is given may be
of another scan. The patterns tell.

But where noise is nearly all that an empty object leaves of them, they do not: an object that was found from
these very patterns leaves less of them the more of their noise it has taken for an object, and no patterns
are left that it has not seen. With that noise come whirls of the phase, which no step takes out again. What
comes of such a scan is found from all patterns at once, see :mod:`.few_counts`, and from a flat object.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..data.grouping import neighbourhood_order
from ..data.raw import RawData
from ..data.simulation import diffraction_intensity, extract_patches
from .arrays import Array, Arrays, arrays_on
from .config import RefinementConfig
from .few_counts import is_nearly_noise
from .iterate import Iterate, chequerboard
from .measured import Measured
from .model import ScanModel
from .noise import expected_error, photon_unit
from .pupil import Corrected, sound_part, where_patterns_differ, with_pupil_corrected
from .solver import error_of_start
from .start import StartError, Window, check_object, checked_probe
from .trials import Stopped, Trials, Watch

logger = logging.getLogger(__name__)

FLAT, OBJECT = "flat", "object"

_SPOILT = 2.0
"""Times the error of an object under the scan's own probe: spoilt probes of networks left 1.9 to 3.7 times
as much, those that a refinement had found 0.8 to 1.1 times."""

_SOME = 64  # patterns: enough to tell an error from that of noise

_NEARLY_NOISE = (
    "The patterns are so dim that an empty object leaves nearly nothing but their noise, and one that was "
    "found from them before has taken on some of it."
)


@dataclass(frozen=True)
class Start:
    """What a refinement starts from: object (H, W) and probe (modes, N, N).

    ``conjugated`` says whether the probe came of the complex conjugate of the scan's, see :mod:`.pupil`.
    """

    object: NDArray[np.complexfloating]
    probe: NDArray[np.complexfloating]
    conjugated: bool = False


def chosen_start(
    raw: RawData,
    given: NDArray[np.complexfloating],
    probe: NDArray[np.complexfloating],
    config: RefinementConfig,
    wanted: str,
    *,
    device: str = "auto",
) -> tuple[NDArray[np.complex64], str]:
    """The object to start from where there is no network's, and whether it is ``"flat"`` or ``"object"``.

    Parameters
    ----------
    raw
        The scan.
    given
        (H, W) complex object. Whatever it holds, a flat one has its shape.
    probe
        (N, N) or (modes, N, N) complex.
    config
        What is going to be refined; its metric is what decides.
    wanted
        One of :data:`.config.STARTS`. ``"auto"`` takes what explains the patterns better under this probe,
        and so goes on from a result, but not from an object of random numbers or one of another scan. Where
        noise is nearly all that a flat object leaves, it is the flat one.
    device
        As for :func:`.solver.refine`.

    Raises
    ------
    StartError, ValueError
        As :func:`.solver.refine` does, if the flat object cannot be started from either.
    """
    start = np.asarray(given, dtype=np.complex64)
    flat = _flat_like(start)
    if wanted == OBJECT:
        return start, OBJECT
    usable = np.isfinite(start).all() and start.any()
    if wanted == FLAT or not usable or np.ptp(np.abs(start)) == np.ptp(np.angle(start)) == 0:
        return flat, FLAT
    with arrays_on(device) as arrays:
        if is_found_anew(Measured.of(raw, arrays), start.shape, probe):
            logger.info("%s The refinement starts from a flat object.", _NEARLY_NOISE)
            return flat, FLAT
        errors = {}
        for name, object_ in ((FLAT, flat), (OBJECT, start)):
            try:
                errors[name] = error_of_start(raw, object_, probe, config, device=arrays)
            except StartError:
                if name == FLAT:  # it is the probe, or the scan
                    raise
    best = min(errors, key=lambda name: errors[name])
    if OBJECT in errors:
        logger.info(
            "Normalised error: %.4g of the object that is given, %.4g of a flat one. The refinement starts "
            "from the %s.",
            errors[OBJECT],
            errors[FLAT],
            "former" if best == OBJECT else "latter",
        )
    return (start, OBJECT) if best == OBJECT else (flat, FLAT)


def better_start(
    raw: RawData,
    network: Start,
    config: RefinementConfig,
    *,
    device: str | Arrays,
    should_stop: Callable[[], bool],
) -> Start:
    """The network's object and probe, or a flat object and whichever probe is the better one.

    Probes are tried on the part of the scan where patterns differ most. The scan's own one is put right in
    its pupil for that, as the refinement will do.

    Parameters
    ----------
    raw
        The scan, with its own probe.
    network
        What the network has made of it.
    config
        How it is going to be refined. If the probe is not, the network's is taken.
    device
        As :func:`.arrays.arrays_for` takes it, or its result.
    should_stop
        Asked before every batch; the network's is then what there is.

    Raises
    ------
    StartError, ValueError
        As :func:`.solver.refine`, for a network's start that is of no use.
    """
    if not config.epochs:
        return network
    modes = checked_probe(network.probe, raw.N, None)
    check_object(np.asarray(network.object), raw)
    with arrays_on(device) as arrays:
        measured = Measured.of(raw, arrays)
        is_anew = is_found_anew(measured, np.shape(network.object), modes, raw.probeGuess)
        if is_anew:
            logger.info("%s The refinement starts from a flat object.", _NEARLY_NOISE)
        if not config.probe:
            return replace(network, object=_flat_like(network.object)) if is_anew else network
        if is_anew:  # amplitudes are no measure of probes either
            config = replace(config, metric="poisson")
        try:
            return _by_trials(measured, network, modes, config, Watch(should_stop), is_anew=is_anew)
        except Stopped:
            return network


def _by_trials(
    measured: Measured,
    network: Start,
    modes: NDArray[np.complex64],
    config: RefinementConfig,
    watch: Watch,
    *,
    is_anew: bool,
) -> Start:
    """See :func:`better_start`; ``modes`` are the network's probe, ``is_anew`` asks for a flat object."""
    raw = measured.raw
    usable = sound_part(raw, measured.sound)
    part = usable.select(where_patterns_differ(usable))
    bench = _Bench(part, config, measured.arrays, watch)
    own = checked_probe(raw.probeGuess, raw.N, None)
    corrected = bench.in_pupil(own)
    errors = [bench.error_under(wave) for wave in (corrected.probe, bench.in_scale(modes))]
    is_spoilt = errors[1] > _SPOILT * errors[0]
    # a network's probe that explains as much as the conjugate of the scan's was found from that
    conjugated = corrected.conjugated and not is_spoilt
    if not (is_anew or is_spoilt or bench.has_fitted_noise(network.object, modes)):
        return replace(network, conjugated=True) if conjugated else network
    if not is_anew:
        why = "probe explains far less than the product's" if is_spoilt else "object has fitted noise"
        logger.info("The network's %s: the refinement starts from a flat object.", why)
    flat = _flat_like(network.object)
    return Start(flat, modes, conjugated) if errors[1] < errors[0] else Start(flat, own)


def _flat_like(object_: NDArray[np.complexfloating]) -> NDArray[np.complex64]:
    return np.ones(np.shape(object_), np.complex64)


def is_found_anew(measured: Measured, shape: tuple[int, ...], *probes: NDArray[np.complexfloating]) -> bool:
    """Whether noise is nearly all that a flat object leaves of the patterns, and a start from one is better.

    Parameters
    ----------
    measured
        The scan.
    shape
        (H, W) of the object.
    probes
        (N, N) or (modes, N, N) complex, any scale; one of them may be spoilt.

    Raises
    ------
    StartError, ValueError
        If a probe is of no use.
    """
    raw, arrays = measured.raw, measured.arrays
    flat = np.ones(shape, np.complex64)
    waves = (checked_probe(probe, raw.N, None) * chequerboard(raw.N) for probe in probes)
    return any(is_nearly_noise(measured, _begun(raw, arrays, flat, arrays.put(wave))) for wave in waves)


def _begun(raw: RawData, arrays: Arrays, object_: NDArray[np.complex64], wave: Array) -> Iterate:
    """An object, (H, W), under a scan and a probe as :class:`.iterate.Iterate` has it."""
    window = Window(object_.shape, raw, 0.0)
    positions = window.inside(np.stack((raw.xcoords, raw.ycoords), -1))
    return Iterate(arrays.put(window.cut(object_)), wave, positions)


class _Bench:
    """Trials on one part of a scan."""

    def __init__(self, part: RawData, config: RefinementConfig, arrays: Arrays, watch: Watch) -> None:
        self._part, self._config, self._arrays, self._watch = part, config, arrays, watch
        self._every = every = np.arange(part.n_patterns)
        self._per_photon = photon_unit(part.diff3d, every, part.bad_pixels)
        self._model = ScanModel(part, arrays, config.error_metric)
        self._mean = self._model.mean_counts(every)

    def in_pupil(self, probe: NDArray[np.complex64]) -> Corrected:
        """A probe put right in its pupil, or as it is where nothing is gained by that."""
        arrays, wave = self._arrays, self.in_scale(probe)
        found = with_pupil_corrected(
            self._part, self._flat(), arrays.copy(wave), self._config, arrays, self._watch, self._per_photon
        )
        return Corrected(wave) if found is None else found

    def error_under(self, wave: Array) -> float:
        """Error of an object that starts anew under a probe, as :meth:`in_scale` has it."""
        arrays, config = self._arrays, self._config
        begin = _begun(self._part, arrays, self._flat(), wave)
        trials = Trials(
            self._model,
            arrays,
            config.error_metric,
            neighbourhood_order(begin.positions),
            self._mean,
            self._per_photon,
            self._watch,
        )
        return trials.run(begin).error

    def has_fitted_noise(self, object_: NDArray[np.complexfloating], probe: NDArray[np.complex64]) -> bool:
        """Whether they leave less of the patterns than the noise of photons would leave the right ones.

        By amplitudes, on some of the patterns.
        """
        part = self._part
        some = np.unique(np.linspace(0, part.n_patterns - 1, _SOME).astype(np.int64))
        good = ~part.bad_pixels
        patches = extract_patches(object_, part.xcoords[some], part.ycoords[some], part.N)
        modelled = np.sqrt(diffraction_intensity(patches, probe)[:, good])
        measured = part.diff3d[some][:, good]
        power = float((modelled**2).sum())
        if not power > 0:
            return False
        modelled *= float((modelled * measured).sum()) / power
        noise = expected_error(modelled**2 / self._per_photon, "amplitude").sum() * self._per_photon
        return bool(((modelled - measured) ** 2).sum() < noise)

    def _flat(self) -> NDArray[np.complex64]:
        rows, columns = (int(axis.max()) + 2 for axis in (self._part.ycoords, self._part.xcoords))
        return np.ones((rows, columns), np.complex64)

    def in_scale(self, probe: NDArray[np.complex64]) -> Array:
        """As :class:`.iterate.Iterate` has it, with the power of the counts."""
        power = float((np.abs(probe).astype(np.float64) ** 2).sum())
        factor = (self._part.photons_per_pattern / power) ** 0.5
        return self._arrays.put(np.asarray(factor * probe * chequerboard(probe.shape[-1]), np.complex64))
