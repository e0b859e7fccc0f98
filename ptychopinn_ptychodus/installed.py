"""What is installed: entry points, distributions and their versions. The one place that asks for them.

They are read by way of ``importlib_metadata`` and not of the standard library's copy of it, so that they are
read alike in every Python version, and by the same code as in other packages of this contract.
"""

from importlib_metadata import (
    EntryPoint,
    EntryPoints,
    PackageNotFoundError,
    entry_points,
    packages_distributions,
    version,
)

__all__ = [
    "EntryPoint",
    "EntryPoints",
    "PackageNotFoundError",
    "entry_points",
    "packages_distributions",
    "version",
]
