"""Hostile input by class: what is given, how it is refused, and the words that say so.

Each module has CASES, from the smallest mistake to the worst intention. What is large is made where
it is needed, by a function.
"""

from dataclasses import dataclass
from typing import Any

from include.errors import JudgeError


@dataclass(frozen=True)
class Case:
    """One input and what becomes of it."""

    name: str
    given: Any
    words: tuple[str, ...] = ()
    """In the message: where, what was expected, the nearest valid choice."""
    error: type[JudgeError] | None = None
    """None: it is taken as it is."""


def refused(error: type[JudgeError], name: str, given: Any, *words: str) -> Case:
    """A case that ends in an error."""
    return Case(name, given, words, error)
