"""The contract suite on Ptychodus' own libraries, as far as they can be had.

Those that learn look for their packages and import nothing of them in the application: empty packages of the
right names are enough for what the application itself asks. Pty-Chi is checked where it is installed.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from ptychodus.api.reconstruct import ReconstructorLibrary
from ptychodus.api.settings import SettingsRegistry
from ptychodus.model.ptychi import PtyChiReconstructorLibrary
from ptychodus.model.ptycho_fm import PtychoFMReconstructorLibrary
from ptychodus.model.ptychonn import PtychoNNReconstructorLibrary
from ptychodus.model.ptychopinn import PtychoPINNReconstructorLibrary
from ptychodus.model.ptychopinn_torch import PtychoPINNTorchReconstructorLibrary

from ptychopinn_ptychodus.testing import NameChecks, QueryChecks, TrainingChecks
from ptychopinn_ptychodus.testing.bench import Case

STAND_INS = ("ptychonn", "ptycho", "ptycho_torch", "ptycho_fm", "lightning", "torch")
# not strict: Ptychodus may well mend these
NO_GOAL = pytest.mark.xfail(reason="Ptychodus 1.7: its progress goal is 0")


def with_packages(
    make: Callable[[SettingsRegistry, bool], ReconstructorLibrary],
) -> staticmethod[..., ReconstructorLibrary]:
    """Make a library where its packages are found: empty ones, if they are not installed."""

    def library(settings: SettingsRegistry, is_developer_mode_enabled: bool) -> ReconstructorLibrary:
        with tempfile.TemporaryDirectory() as site, pytest.MonkeyPatch.context() as patch:
            for name in STAND_INS:
                Path(site, name).mkdir()
                Path(site, name, "__init__.py").touch()
            patch.setattr(sys, "path", [*sys.path, site])  # at the end: what is installed comes first
            return make(settings, is_developer_mode_enabled)

    return staticmethod(library)


class StockChecks(NameChecks, QueryChecks):
    """What the application asks, and the export; a training would need the real package."""

    built_in = True
    test_training_data_are_exported = TrainingChecks.test_training_data_are_exported


class TestPtychoNN(StockChecks):
    library = with_packages(PtychoNNReconstructorLibrary)

    @NO_GOAL
    def test_progress_goal_is_positive(self, case: Case) -> None:
        super().test_progress_goal_is_positive(case)


class TestPtychoPINN(StockChecks):
    library = with_packages(PtychoPINNReconstructorLibrary)

    @NO_GOAL
    def test_progress_goal_is_positive(self, case: Case) -> None:
        super().test_progress_goal_is_positive(case)


class TestPtychoPINNTorch(StockChecks):
    library = with_packages(PtychoPINNTorchReconstructorLibrary)


class TestPtychoFM(StockChecks):
    library = with_packages(PtychoFMReconstructorLibrary)
    pattern_size = 128

    @pytest.mark.xfail(reason="Ptychodus 1.7: it exports two files beside the one that was named")
    def test_training_data_are_exported(self, trainable: Case) -> None:
        TrainingChecks.test_training_data_are_exported(cast(TrainingChecks, self), trainable)


class TestPtyChi(NameChecks, QueryChecks):
    """Without its package it lists nothing, and only its names are checked."""

    library = PtyChiReconstructorLibrary
    built_in = True
