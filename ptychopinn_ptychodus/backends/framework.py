"""The packages that an engine needs, and the errors that say which of them is missing or broken."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib.util import find_spec

from ..importing import collector_paused


class EngineUnavailableError(RuntimeError):
    """The engine's framework is not installed, or cannot be imported.

    The message says what was selected, why it is not available, and how to install it.
    """


def refuse(problem: str | None) -> None:
    """Raise :class:`EngineUnavailableError` with the problem, if there is one."""
    if problem is not None:
        raise EngineUnavailableError(problem)


def one_line(exc: BaseException) -> str:
    """Kind and text of an exception in one line, for the message of another one."""
    text = " ".join(str(exc).split())
    name = type(exc).__name__
    return f"{name}: {text[:500]}" if text else name


@dataclass(frozen=True)
class Framework:
    """The packages that an engine needs, which may be missing or broken.

    Attributes
    ----------
    title
        Its name, for people.
    needed
        The packages that it consists of.
    imported
        What :meth:`load` imports besides: the engine's own modules that need the framework.
    install_hint
        The command that installs it.
    """

    title: str
    needed: tuple[str, ...]
    imported: tuple[str, ...]
    install_hint: str

    def problem(self) -> str | None:
        """None if the framework is installed (found, not imported), else what is missing and the remedy."""
        missing = [name for name in self.needed if find_spec(name) is None]
        if not missing:
            return None
        return (
            f"{self.title} backend selected, but it is unavailable: {', '.join(missing)} not installed. "
            f"Install it with: {self.install_hint}"
        )

    def require(self) -> None:
        """Raise :class:`EngineUnavailableError` unless the framework is installed (found, not imported)."""
        refuse(self.problem())

    def load(self) -> None:
        """Import the framework and what of the engine needs it: afterwards, ``import`` finds them loaded.

        Raises
        ------
        EngineUnavailableError
            If the framework is not installed, or an import fails, whatever it raises: a shared library that
            is missing or a version that does not fit has many ways to do so. The cause is in the message.
        """
        self.require()
        for module in (*self.needed, *self.imported):
            try:
                with collector_paused():
                    importlib.import_module(module)
            except Exception as exc:
                raise EngineUnavailableError(
                    f"{self.title} backend selected, but it is unavailable: {module} is installed and "
                    f"cannot be imported ({one_line(exc)}). Mend or replace what is installed, with: "
                    f"{self.install_hint}"
                ) from exc


def require_logger(package: str) -> None:
    """Raise ``RuntimeError`` unless the package that ``logger_backend`` names is installed."""
    if find_spec(package) is None:
        raise RuntimeError(
            f"logger_backend = {package!r} needs the package {package}: pip install {package}, "
            "or choose 'csv'."
        )
