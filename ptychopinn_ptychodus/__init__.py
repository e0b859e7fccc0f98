"""Neural-network ptychography reconstructors for Ptychodus."""

from .installed import PackageNotFoundError, version

try:
    __version__ = version("ptychopinn-ptychodus")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
