"""What is installed: entry points, distributions and their versions. The one place that asks for them.

They are read by way of ``importlib_metadata`` and not of the standard library's copy of it, so that they are
read alike in every Python version, and by the same code as in other packages of this contract. Where it is
missing, which it should not be, the standard library's copy stands in, so that ``doctor`` can say so.
"""

try:
    from importlib_metadata import (
        EntryPoint,
        EntryPoints,
        PackageNotFoundError,
        entry_points,
        packages_distributions,
        requires,
        version,
    )
except ModuleNotFoundError:
    from importlib.metadata import (  # type: ignore[assignment]
        EntryPoint,
        EntryPoints,
        PackageNotFoundError,
        entry_points,
        packages_distributions,
        requires,
        version,
    )

__all__ = [
    "EntryPoint",
    "EntryPoints",
    "PackageNotFoundError",
    "entry_points",
    "own_version",
    "packages_distributions",
    "requires",
    "version",
]


def own_version() -> str:
    """The version of this package; ``"0+unknown"`` for a source tree that was never installed."""
    try:
        return version("ptychopinn-ptychodus")
    except PackageNotFoundError:
        return "0+unknown"
