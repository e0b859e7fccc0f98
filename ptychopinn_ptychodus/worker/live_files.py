"""What a live reconstruction leaves while it goes on: the product as it is, and a picture of its object."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ..data.display import centred_phase, grey_levels
from ..files import replacing
from ..formatting import counted
from ..live.session import LiveReconstruction
from ..ptychodus_io.live_products import ProductTemplate

_SHOW_S = 1.0
_SHARE = 0.1  # of the time, at most, that products and pictures take
_LARGEST_PICTURE_PX = 1024
_GAP_PX = 4


class LiveFiles:
    """Product and picture, replaced about every second, and in a tenth of the time at most.

    Parameters
    ----------
    template
        The product that the scan came with.
    product, picture
        Where they go.
    author
        Who is named in the product's comments.
    """

    def __init__(self, template: ProductTemplate, product: Path, picture: Path, author: str) -> None:
        self._template, self._product, self._picture, self._author = template, product, picture, author
        self._next = 0.0

    @property
    def are_there(self) -> bool:
        """Whether anything has been written."""
        return self._next > 0.0

    def show(self, running: LiveReconstruction[Any], *, at_once: bool = False) -> bool:
        """Write both, if it is time to or ``at_once``, and there is an object; True if they were written.

        Raises
        ------
        OSError
            If they cannot be written; what was there stays.
        """
        begun, state = time.monotonic(), running.state
        if (begun < self._next and not at_once) or not state.in_object:
            return False
        found = running.snapshot()
        numbers, positions = running.placed()
        self._template.write(
            self._product,
            object_=found.object,
            origin=found.origin,
            probe=found.probe,
            numbers=numbers,
            positions=positions,
            comment=f"{self._author}: live, {counted(state.in_object, 'frame')} so far",
        )
        _draw(found.object, self._picture)
        now = time.monotonic()
        self._next = now + max(_SHOW_S, (now - begun) / _SHARE)
        return True

    def take_result(self, product: Path) -> None:
        """Put a copy of the product that all frames have led to in the place of the live one, and draw it.

        Raises
        ------
        OSError
            If it cannot be read or written; what was there stays.
        """
        with h5py.File(product, "r") as file:
            object_ = np.asarray(file["object"][()], np.complex64)
        with product.open("rb") as result, replacing(self._product) as copy:
            shutil.copyfileobj(result, copy)
        _draw(object_.reshape(-1, *object_.shape[-2:])[0], self._picture)


def _draw(object_: NDArray[np.complex64], path: Path) -> None:
    """Amplitude beside phase, replaced atomically; far quicker than a figure with axes."""
    from PIL import Image

    step = max(-(-max(object_.shape) // _LARGEST_PICTURE_PX), 1)
    shown = object_[::step, ::step]
    gap = np.full((len(shown), _GAP_PX), 255, np.uint8)
    images = (grey_levels(np.abs(shown)), gap, grey_levels(centred_phase(shown)))
    with replacing(path) as file:
        Image.fromarray(np.concatenate(images, axis=1)).save(file, format="png")
