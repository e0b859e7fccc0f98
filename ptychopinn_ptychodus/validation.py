"""Checks of the fields of configuration objects: each a ``ValueError`` that says what is allowed."""

from __future__ import annotations

import math
from typing import Any

from .pattern_sizes import IN_WORDS, SIZES


def check(condition: bool, owner: object, name: str, allowed: str) -> None:
    """Raise ``ValueError`` unless the condition holds, naming the field, its value and what is allowed."""
    if not condition:
        value = getattr(owner, name)
        raise ValueError(f"{type(owner).__name__}.{name} = {value!r} is not valid: use {allowed}.")


def one_of(owner: object, name: str, choices: tuple[Any, ...]) -> None:
    """The field is one of ``choices``; a number that merely equals one, such as 64.0 or True, is not."""
    value = getattr(owner, name)
    valid = not isinstance(value, (bool, float)) and value in choices
    check(valid, owner, name, "one of " + ", ".join(map(repr, choices)))


def pattern_size(owner: object, name: str) -> None:
    """The field is an edge N of patterns, in pixels, that is supported: one of :data:`.SIZES`."""
    value = getattr(owner, name)
    check(isinstance(value, int) and not isinstance(value, bool) and value in SIZES, owner, name, IN_WORDS)


def integer(owner: object, name: str, minimum: int, *, optional: bool = False) -> None:
    """The field is an integer, at least ``minimum``; None too, if it is optional."""
    value = getattr(owner, name)
    if value is None and optional:
        return
    valid = isinstance(value, int) and not isinstance(value, bool) and value >= minimum
    check(valid, owner, name, f"an integer >= {minimum}" + (" or None" if optional else ""))


def real(
    owner: object, name: str, minimum: float = 0.0, *, exclusive: bool = False, optional: bool = False
) -> None:
    """The field is a finite number, at least (above, if ``exclusive``) ``minimum``; None too, if optional."""
    value = getattr(owner, name)
    if value is None and optional:
        return
    valid = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    valid = valid and (value > minimum if exclusive else value >= minimum)
    allowed = f"a finite number {'>' if exclusive else '>='} {minimum:g}" + (" or None" if optional else "")
    check(valid, owner, name, allowed)


def flags(owner: object, *names: str) -> None:
    """The fields are booleans."""
    for name in names:
        check(isinstance(getattr(owner, name), bool), owner, name, "True or False")
