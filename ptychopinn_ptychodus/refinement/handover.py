"""What a refinement starts from where a network has been.

Mostly what the network has found. Its object is no start if its probe is spoilt, as by a training that let it
follow the noise, or if it has fitted the noise itself, as an object from a few patterns at a time does under
few counts: some of that would stay. Either is told by the patterns.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..data.examination.frames import sound_frames
from ..data.grouping import neighbourhood_order
from ..data.raw import RawData
from ..data.simulation import diffraction_intensity, extract_patches
from .arrays import Array, Arrays, arrays_for
from .config import RefinementConfig
from .iterate import Iterate, chequerboard
from .model import ScanModel
from .noise import expected_error, photon_unit
from .pupil import Corrected, sound_part, where_patterns_differ, with_pupil_corrected
from .start import Window, check_object, checked_probe
from .trials import Stopped, Trials, Watch

logger = logging.getLogger(__name__)

_SPOILT = 2.0
"""Times the error of an object under the scan's own probe: spoilt probes of networks left 1.9 to 3.7 times
as much, those that a refinement had found 0.8 to 1.1 times."""

_SOME = 64  # patterns: enough to tell an error from that of noise


@dataclass(frozen=True)
class Start:
    """What a refinement starts from: object (H, W) and probe (modes, N, N).

    ``conjugated`` says whether the probe came of the complex conjugate of the scan's, see :mod:`.pupil`.
    """

    object: NDArray[np.complexfloating]
    probe: NDArray[np.complexfloating]
    conjugated: bool = False


def better_start(
    raw: RawData,
    network: Start,
    config: RefinementConfig,
    *,
    device: str | Arrays,
    should_stop: Callable[[], bool],
) -> Start:
    """The network's object and probe, or an object that starts anew and whichever probe is the better one.

    Tried on the part of the scan where patterns differ most. The scan's own probe is put right in its pupil
    for that, as the refinement will do.

    Parameters
    ----------
    raw
        The scan, with its own probe.
    network
        What the network has made of it.
    config
        How it is going to be refined. If the probe is not, the network's start is taken.
    device
        As :func:`.arrays.arrays_for` takes it, or its result.
    should_stop
        Asked before every batch; the network's is then what there is.

    Raises
    ------
    StartError, ValueError
        As :func:`.solver.refine`, for a network's start that is of no use.
    """
    if not (config.probe and config.epochs):
        return network
    modes = checked_probe(network.probe, raw.N, None)
    check_object(np.asarray(network.object), raw)
    arrays = arrays_for(device) if isinstance(device, str) else device
    usable = sound_part(raw, np.flatnonzero(sound_frames(raw)))
    part = usable.select(where_patterns_differ(usable))
    bench = _Bench(part, config, arrays, Watch(should_stop))
    own = checked_probe(raw.probeGuess, raw.N, None)
    try:
        corrected = bench.in_pupil(own)
        errors = [bench.error_under(wave) for wave in (corrected.probe, bench.in_scale(modes))]
    except Stopped:
        return network
    is_spoilt = errors[1] > _SPOILT * errors[0]
    # a network's probe that explains as much as the conjugate of the scan's was found from that
    conjugated = corrected.conjugated and not is_spoilt
    if not (is_spoilt or bench.has_fitted_noise(network.object, modes)):
        return replace(network, conjugated=True) if conjugated else network
    why = "probe explains far less than the product's" if is_spoilt else "object has fitted noise"
    logger.info("The network's %s: the refinement starts from a flat object.", why)
    flat = np.ones(np.shape(network.object), np.complex64)
    return Start(flat, modes, conjugated) if errors[1] < errors[0] else Start(flat, own)


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
        begin = self._begin(self._flat(), wave)
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

    def _begin(self, object_: NDArray[np.complex64], wave: Array) -> Iterate:
        window = Window(object_.shape, self._part, 0.0)
        positions = window.inside(np.stack((self._part.xcoords, self._part.ycoords), -1))
        return Iterate(self._arrays.put(window.cut(object_)), wave, positions)

    def in_scale(self, probe: NDArray[np.complex64]) -> Array:
        """As :class:`.iterate.Iterate` has it, with the power of the counts."""
        power = float((np.abs(probe).astype(np.float64) ** 2).sum())
        factor = (self._part.photons_per_pattern / power) ** 0.5
        return self._arrays.put(np.asarray(factor * probe * chequerboard(probe.shape[-1]), np.complex64))
