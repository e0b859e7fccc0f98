"""Objects to learn from: lines, stars, grains, textures, natural images, over wide ranges of contrast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import skimage.data
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree
from skimage.color import rgb2gray

from ..data.simulation import make_object

RealArray = NDArray[np.float64]

ObjectMaker = Callable[[tuple[int, int], np.random.Generator], NDArray[np.complex64]]
"""From the shape (H, W) and a source of random numbers to an object, (H, W) complex64."""

IMAGES = (
    "astronaut",
    "brick",
    "camera",
    "cell",
    "chelsea",
    "clock",
    "coffee",
    "coins",
    "grass",
    "gravel",
    "hubble_deep_field",
    "immunohistochemistry",
    "moon",
    "page",
    "retina",
    "rocket",
    "text",
)
"""Those that come with scikit-image: others would have to be downloaded."""

KINDS = ("drawn", "drawn", "texture", "grains", "image", "image")
"""Stars, blobs and lines; noise of some spectrum; cells; pieces of photographs."""

MOST_ABSORPTION = 0.7
LEAST_PHASE, MOST_PHASE = 0.1, 3.0
"""Range of the difference between the largest and the smallest phase of an object, rad."""

_EVEN = 1e-12


def random_object(
    shape: tuple[int, int], rng: np.random.Generator, kinds: Sequence[str] = KINDS
) -> NDArray[np.complex64]:
    """An object of a random kind, absorption and phase.

    Parameters
    ----------
    shape
        (H, W) pixels.
    rng
        Source of what is random in it.
    kinds
        Names of :data:`KINDS` to choose from; one that is named twice is chosen twice as often.

    Returns
    -------
    ndarray
        (H, W) complex64: amplitude in [0.3, 1], phase over at most 3 rad.
    """
    absorption, phase = _MAKERS[kinds[int(rng.integers(len(kinds)))]](shape, rng)
    if rng.random() < 0.25:  # phase and absorption of different things
        phase = _MAKERS[kinds[int(rng.integers(len(kinds)))]](shape, rng)[1]
    if rng.random() < 0.5:
        phase = -phase
    # band-limited, so that sub-pixel patches of it exist
    absorption, phase = (ndimage.gaussian_filter(v, rng.uniform(0.6, 1.2)) for v in (absorption, phase))
    strongest = rng.uniform(0, MOST_ABSORPTION) * rng.choice([0.1, 1.0], p=[0.3, 0.7])
    reach = np.exp(rng.uniform(np.log(LEAST_PHASE), np.log(MOST_PHASE)))
    amplitude = 1 - strongest * _stretched(absorption)
    transmission: NDArray[np.complex64] = amplitude * np.exp(1j * reach * (_stretched(phase) - 0.5))
    return transmission.astype(np.complex64)


def _stretched(values: RealArray) -> RealArray:
    """To 0 … 1."""
    low = values.min()
    stretched: RealArray = (values - low) / max(float(np.ptp(values)), _EVEN)
    return stretched


def _drawn(shape: tuple[int, int], rng: np.random.Generator) -> tuple[RealArray, RealArray]:
    """Stars, blobs and lines, as in simulated scans; somewhere in a larger picture of them."""
    larger = (round(shape[0] * rng.uniform(1, 2)), round(shape[1] * rng.uniform(1, 2)))
    kind = str(rng.choice(["siemens", "blobs", "lines", "mixed"]))
    made = _cut(make_object(larger, kind, int(rng.integers(2**31))), shape, rng)
    return 1 - np.abs(made).astype(np.float64), np.angle(made).astype(np.float64)


def _texture(shape: tuple[int, int], rng: np.random.Generator) -> tuple[RealArray, RealArray]:
    """Noise whose power falls off as a power of the frequency; at times of two levels only."""
    fy, fx = np.fft.fftfreq(shape[0]), np.fft.fftfreq(shape[1])
    frequency = np.hypot(fy[:, None], fx)
    frequency[0, 0] = 1.0
    amplitude = frequency ** -rng.uniform(0.8, 2.0)
    amplitude[0, 0] = 0.0
    layers = [np.fft.ifft2(amplitude * np.fft.fft2(rng.normal(size=shape))).real for _ in range(2)]
    if rng.random() < 0.4:
        layers = [(layer > np.quantile(layer, rng.uniform(0.3, 0.7))).astype(np.float64) for layer in layers]
    return layers[0], layers[rng.integers(2)]


def _grains(shape: tuple[int, int], rng: np.random.Generator) -> tuple[RealArray, RealArray]:
    """Cells around random points, each of one value, at times with borders between them."""
    count = max(4, round(shape[0] * shape[1] / rng.uniform(6, 30) ** 2))
    points = rng.uniform(0, 1, (count, 2)) * shape
    places = np.indices(shape).reshape(2, -1).T
    distance, nearest = cKDTree(points).query(places, k=2)
    values = rng.uniform(0, 1, (2, count))[:, nearest[:, 0]]
    if rng.random() < 0.5:
        values = values * ((distance[:, 1] - distance[:, 0]) > rng.uniform(1, 3))
    return values[0].reshape(shape), values[1].reshape(shape)


def _image(shape: tuple[int, int], rng: np.random.Generator) -> tuple[RealArray, RealArray]:
    """A piece of a photograph, turned and scaled."""
    picture = natural_image(IMAGES[rng.integers(len(IMAGES))])
    zoom = rng.uniform(0.5, 2.0)
    angle = rng.uniform(0, 2 * np.pi)
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = rng.uniform(0, 1, 2) * picture.shape
    offset = centre - turn @ (np.array(shape) - 1) / 2
    smooth = ndimage.gaussian_filter(picture, max(0.0, 0.4 * (zoom - 1)))  # it is made smaller
    piece = ndimage.affine_transform(smooth, turn, offset, shape, order=1, mode="mirror")
    return piece, piece


_MAKERS: dict[str, Callable[[tuple[int, int], np.random.Generator], tuple[RealArray, RealArray]]] = {
    "drawn": _drawn,
    "texture": _texture,
    "grains": _grains,
    "image": _image,
}


def _cut(
    picture: NDArray[np.complex64], shape: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.complex64]:
    """A piece of ``shape``, somewhere, turned by a multiple of 90° and at times mirrored."""
    top, left = (
        int(rng.integers(large - small + 1)) for large, small in zip(picture.shape, shape, strict=True)
    )
    piece = picture[top : top + shape[0], left : left + shape[1]]
    if shape[0] == shape[1]:
        piece = np.rot90(piece, int(rng.integers(4)))
    return piece[:, ::-1] if rng.random() < 0.5 else piece


@cache
def natural_image(name: str) -> RealArray:
    """One of :data:`IMAGES`: (H, W) float64, grey, 0 to 1."""
    load: Callable[[], NDArray[np.uint8]] = getattr(skimage.data, name)
    picture = load()
    if picture.ndim == 3:
        return np.asarray(rgb2gray(picture[..., :3]), np.float64)
    return picture.astype(np.float64) / np.iinfo(picture.dtype).max
