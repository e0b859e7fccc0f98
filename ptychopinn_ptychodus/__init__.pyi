# What type checkers and editors see of the package in place of __init__.py.
from .api import *  # noqa: F403

__version__: str
