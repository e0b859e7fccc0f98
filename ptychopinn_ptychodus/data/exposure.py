"""How bright the beam was: the photons of a whole pattern, for each pattern of a scan.

An object of amplitude 1 is one that lets through as much light as fell on it, by the probe. Object and probe
share one scale, and this is where it is settled: the probe's power is the number of photons of a whole
pattern. What a detector's bad pixels hide is part of that number, broken frames are not, and each scan has a
number of its own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .detector import frame_energies, mean_pattern
from .examination.frames import sound_frames
from .scan import Scan

_ITERATIONS = 60
_START = 0.1
"""Square of the half width, in pixels, of what the deconvolution starts from: a narrow peak, wide tails."""
_NOTHING = 1e-12  # relative to the brightest: keeps quotients finite where there is no light


def incident_photons(raw: Scan) -> NDArray[np.float64]:
    """Photons of a whole pattern, hidden ones included, for an object of amplitude 1; (M,) float64.

    Each scan of ``raw.scan_index`` has its own mean, over its sound frames, of which every pattern has the
    part that ``raw.exposures`` says. Without bad pixels, broken frames and exposures, it is the mean of the
    patterns' sums.

    Raises
    ------
    ValueError
        If no light is on the good pixels.
    """
    light = frame_energies(raw.diff3d, raw.bad_pixels) / raw.exposures
    sound = sound_frames(raw)
    visible = 1.0
    if raw.bad_pixels.any():
        pattern = mean_pattern(raw.diff3d, np.where(sound, 1.0 / raw.exposures, 0.0))
        visible = visible_part(pattern, raw.bad_pixels, raw.probeGuess)
    incident = np.empty(len(light))
    for number in np.unique(raw.scan_index):
        members = raw.scan_index == number
        incident[members] = light[members & sound].mean() / visible
    if not incident.any():
        raise ValueError("The patterns hold no light on good pixels: check them and the mask of bad pixels.")
    # of a scan without any light nothing is learnt, whatever it is divided by
    incident[incident == 0] = incident[incident > 0].mean()
    return np.asarray(incident * raw.exposures)


def visible_part(
    pattern: NDArray[np.float64], bad: NDArray[np.bool_], probe: NDArray[np.complexfloating]
) -> float:
    """The part of a mean pattern's light that falls on good pixels, 0 to 1.

    A mean pattern is very nearly the probe's far field, which an object blurs: far fields of the probe are
    added with the power of each of the object's spatial frequencies. That power is found from the good pixels
    by Richardson-Lucy iterations (J. Opt. Soc. Am. 62, 55, 1972; Astron. J. 79, 745, 1974), and shows what
    the bad ones would have held. The far field of a lens does not depend on the focus, and what the probe has
    wrong otherwise the blur makes up for, where enough of the pattern is seen.

    Parameters
    ----------
    pattern
        (N, N) counts in any unit, zero frequency at (N/2, N/2); values of bad pixels are not used.
    bad
        (N, N) bool.
    probe
        (modes, N, N) complex, of any scale.
    """
    if not bad.any():
        return 1.0
    measured = np.where(bad, 0.0, pattern)
    seen = float(measured.sum())
    if not seen > 0:
        return 1.0
    far_field = (np.abs(np.fft.fft2(probe, norm="ortho")) ** 2).sum(0).astype(np.float64)
    # twice the size, so that what leaves the detector on one side does not enter on the other
    size = len(pattern)
    twice = (2 * size, 2 * size)
    half = slice(size // 2, size // 2 + size)
    wide = np.zeros(twice)
    wide[half, half] = np.fft.fftshift(far_field / far_field.sum())
    transfer = np.fft.rfft2(np.fft.ifftshift(wide))

    def blurred(power: NDArray[np.float64]) -> NDArray[np.float64]:
        whole = np.fft.irfft2(np.fft.rfft2(power) * transfer, s=twice)
        return np.maximum(np.fft.fftshift(whole)[half, half], 0.0)

    def gathered(values: NDArray[np.float64]) -> NDArray[np.float64]:
        wide[half, half] = values
        spectrum = np.fft.rfft2(np.fft.ifftshift(wide))
        return np.maximum(np.fft.irfft2(spectrum * np.conj(transfer), s=twice), 0.0)

    axis = np.fft.fftfreq(2 * size, 1 / (2 * size))
    power = (_START + axis[:, None] ** 2 + axis**2) ** -1.5
    reach = gathered((~bad).astype(np.float64))
    reach = np.maximum(reach, 1e-6 * reach.max())
    for _ in range(_ITERATIONS):
        modelled = blurred(power)
        modelled *= seen / max(float(modelled[~bad].sum()), _NOTHING * float(modelled.sum()))
        floor = _NOTHING * float(modelled.max())
        power *= gathered(np.where(bad, 0.0, measured / np.maximum(modelled, floor))) / reach
    modelled = blurred(power)
    good = float(modelled[~bad].sum())
    hidden = float(modelled[bad].sum()) * seen / good if good > 0 else 0.0
    return seen / (seen + hidden)
