"""How bright the beam was: the photons of a whole pattern, for each pattern of a scan.

Patterns determine the product of object and probe, and not how a factor is divided between the two. Here it
is divided such that the probe's power ``Σ|P|²`` is the number of photons of a whole pattern: an object of
amplitude 1 transmits all of them. Photons that fell on bad pixels are estimated, and are part of that number.
Frames that were recorded without the beam, or with far too much light, do not take part in it. Each scan has
a number of its own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .detector import frame_energies, mean_pattern
from .examination.frames import sound_frames
from .scan import Scan

_ITERATIONS = 60
_START = 0.1
"""The deconvolution starts from a narrow peak with wide tails: square of its half width, pixels²."""
_NOTHING = 1e-12  # relative to the brightest value; keeps quotients finite where there is no light


def incident_photons(raw: Scan) -> NDArray[np.float64]:
    """Photons of a whole pattern, hidden ones included, for an object of amplitude 1; (M,) float64.

    For each scan of ``raw.scan_index`` the mean over its sound frames is taken. A pattern has this mean times
    its own value of ``raw.exposures``. If there are no bad pixels, broken frames and exposures, this is the
    mean of the patterns' sums.

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
    # a scan without any light teaches nothing, and any number other than 0 will do to divide it by
    incident[incident == 0] = incident[incident > 0].mean()
    return np.asarray(incident * raw.exposures)


def visible_part(
    pattern: NDArray[np.float64], bad: NDArray[np.bool_], probe: NDArray[np.complexfloating]
) -> float:
    """The part of a mean pattern's light that falls on good pixels, 0 to 1.

    The mean pattern is very nearly the probe's far-field intensity, convolved with the power spectrum of the
    object. That spectrum is found from the good pixels by Richardson-Lucy iterations (J. Opt. Soc. Am. 62,
    55, 1972; Astron. J. 79, 745, 1974), and the convolution then says what the bad pixels would have held.
    The probe need not be exact: the far field of a lens does not depend on its focus, and the spectrum adapts
    to other errors of the probe as long as enough of the pattern is seen.

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
    # on an array of twice the size, light that leaves the detector on one side does not enter on the other
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
