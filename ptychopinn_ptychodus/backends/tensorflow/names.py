"""Names of the engine ``tensorflow``, and of what is in its model files; imports nothing."""

from __future__ import annotations

NAME = "tensorflow"
"""The value of the ``backend`` setting that selects it."""

MODEL_SUFFIX = ".wts.h5.zip"
BUNDLE_NAME = "wts.h5.zip"
"""What a script's run leaves in its output directory."""

MANIFEST, CONFIGURATION, WEIGHTS = "manifest.json", "config.json", "wts.h5"
"""Entries of the archive that a model file is."""
