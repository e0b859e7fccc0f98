"""Names on which Ptychodus, its plugin and the command line agree: reconstructors, files, the progress bar.

Importing it imports nothing else: ``doctor`` works without numpy.
"""

from __future__ import annotations

from pathlib import Path

LIBRARY = "PtychoPINN-Plugin"
"""What Ptychodus calls this package's reconstructors together; also the name of their logger."""

TRAINABLE = ("PINN", "Supervised")
"""The reconstructors that apply a model, which they are trained for."""

REFINEMENT = "Refinement"
"""The reconstructor that needs no model."""

KEYS = {name: f"{LIBRARY}_{name}".casefold() for name in (*TRAINABLE, REFINEMENT)}
"""What Ptychodus calls each of them in its settings."""

DIFFRACTION_FILE = "diffraction.h5"
PRODUCT_FILE = "product.h5"
OLD_PRODUCT_FILE = "product-in.h5"
"""What ``PRODUCT_FILE`` is called in a standard directory of Ptychodus 1.5."""

SETTINGS_FILE = "settings.ini"

TRAIN_FILE = "train_data.npz"
TEST_FILE = "test_data.npz"
"""Ptychodus' HDF5 training data have the same names, with ``.h5`` or ``.hdf5``."""

MODEL_BASENAME = "model"
"""What ``ptychodus -b reconstruct`` looks for in its input directory, with the engine's extension."""

GOAL = 100
"""Progress is in percent: Ptychodus reads the goal live, and the same one for training and reconstruction."""

NETWORK_DONE = 50
"""Progress of the network's object where it is refined: the number in the name of its file."""


def product_in(directory: Path) -> Path:
    """The product of a standard directory, whichever Ptychodus has named it."""
    product, old = directory / PRODUCT_FILE, directory / OLD_PRODUCT_FILE
    return old if old.is_file() and not product.is_file() else product
