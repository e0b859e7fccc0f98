"""What the author of a plugin says about the library."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from ptychodus.api.reconstruct import ReconstructorLibrary
from ptychodus.api.settings import SettingsRegistry

LibraryFactory = Callable[[SettingsRegistry, bool], ReconstructorLibrary]


class Declaration:
    """A library, and what the checks may expect of it; everything but ``library`` may be left as it is."""

    library: ClassVar[Any]
    """``callable(settings_registry, is_developer_mode_enabled) -> ReconstructorLibrary``, importable by name
    (a class or function at the top of a module), as an entry point would name it."""

    reconstructors: ClassVar[Sequence[str]] = ()
    """Names of the reconstructors to check; empty for all of them."""

    entry_point: ClassVar[str | None] = None
    """Name under which the library is registered in the group ``ptychodus.reconstructor_libraries``; None
    leaves that unchecked, and registers it for the headless checks alone."""

    frameworks: ClassVar[Sequence[str]] = ("torch", "tensorflow", "jax")
    """Modules that must not be imported in the application's process; Qt without a window never must."""

    built_in: ClassVar[bool] = False
    """True for a library that comes with Ptychodus itself, whose names are taken: by itself."""

    trains: ClassVar[bool] = True
    """False where training is not possible or too dear here: then :attr:`model` is what the others use."""

    model: ClassVar[Path | str | None] = None
    """A model file to reconstruct with, where ``trains`` is False."""

    training_sources: ClassVar[Sequence[str]] = ("exported", "standard")
    """What ``train`` can read in its input directory: ``exported`` is what ``export_training_data`` wrote
    (as the window does it), ``standard`` is ``diffraction.h5`` and ``product.h5`` (as headless runs do)."""

    headless: ClassVar[bool] = True
    """False leaves out the checks that start Ptychodus in processes of its own, some seconds each."""

    pattern_size: ClassVar[int] = 64
    """Edge of the simulated patterns, pixels."""

    silence_limit_s: ClassVar[float] = 10.0
    """Longest time between two outputs of a training. Aim at one second: this limit is for busy machines."""

    stop_limit_s: ClassVar[float] = 30.0
    """Longest time that a run may take to end once it is stopped."""

    run_limit_s: ClassVar[float] = 600.0
    """Longest time of any run, of headless ones with the start of Ptychodus; what takes longer hangs."""

    tolerance: ClassVar[float] = 1e-3
    """How much the object of the last output may differ, relative to its largest value, when it is
    reconstructed again. It is for runs that repeat themselves: fix the seed of what draws at random."""

    def __init_subclass__(cls, **named: Any) -> None:
        super().__init_subclass__(**named)
        for name in ("reconstructors", "frameworks", "training_sources"):
            given = getattr(cls, name)
            if isinstance(given, str):  # it would be taken letter by letter, and nothing be checked
                raise TypeError(
                    f"{cls.__name__}.{name} = {given!r} is one string: write a sequence, ({given!r},)."
                )

    def configure(self, settings: SettingsRegistry) -> None:
        """Set what makes training cheap, e.g. one epoch; called with the registry of each new library."""

    @classmethod
    def factory(cls) -> LibraryFactory:
        """``library``, whether it is a class, a function, or a static method."""
        found = inspect.getattr_static(cls, "library", None)
        if isinstance(found, staticmethod):
            found = found.__func__
        if not callable(found):
            raise TypeError(
                f"{cls.__name__}.library = {found!r}: set it to your library, or to a function "
                "(settings_registry, is_developer_mode_enabled) -> ReconstructorLibrary."
            )
        factory: LibraryFactory = found
        return factory
