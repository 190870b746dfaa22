"""What people read: shares, levels, differences and counts in, text out; and what others wrote."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

MOST_LINES = 20
"""Mistakes that a message names; the rest are counted."""
MOST_CHARACTERS = 1000
"""Of one of them."""


def percent(share: float, beside: float | None = None) -> str:
    """A share as a percentage that never rounds onto 0, 50 or 100 from beside it, nor across.

    Args:
        share: From 0 to 1.
        beside: Another share, which stands beside it as `exact` and must not be rounded onto.

    Example:
        >>> percent(0.78), percent(0.501), percent(0.9996), percent(0.0526, beside=0.05)
        ('78 %', '50.1 %', '99.96 %', '5.3 %')
    """
    others = (0.0, 50.0, 100.0) if beside is None else (0.0, 50.0, 100.0, 100 * beside)
    for digits in range(3):
        text = f"{100 * share:.{digits}f}"
        if all(_side(float(text), each) == _side(100 * share, each) for each in others):
            break
    return f"{text} %"


def _side(value: float, of: float) -> int:
    return 0 if math.isclose(value, of, abs_tol=1e-9) else 1 if value > of else -1


def exact(share: float) -> str:
    """A limit that somebody set, as a percentage with all its digits.

    Example:
        >>> exact(0.475), exact(0.5)
        ('47.5 %', '50 %')
    """
    return f"{round(100 * share, 9):g} %"


def level(confidence: float) -> str:
    """A confidence level as a percentage, with the digits that tell it from others.

    Example:
        >>> level(0.95), level(0.975), level(1 - 0.05 / 3)
        ('95 %', '97.5 %', '98.33 %')
    """
    return f"{round(100 * confidence, 2):g} %"


def plural(count: int, noun: str) -> str:
    """How many of something."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def listed(names: Sequence[str]) -> str:
    """Names in a row, as a sentence has them.

    Example:
        >>> listed(["a"]), listed(["a", "b", "c"])
        ('a', 'a, b and c')
    """
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def ranks_told(best: int, worst: int) -> str:
    """A set of ranks.

    Example:
        >>> ranks_told(1, 1), ranks_told(2, 4)
        ('1', '2 to 4')
    """
    return f"{best}" if best == worst else f"{best} to {worst}"


def with_interval(estimate: float, low: float | None, high: float | None) -> str:
    """A share with its interval, or with the word that it has none.

    Example:
        >>> with_interval(0.78, 0.66, 0.87), with_interval(1.0, None, None)
        ('78 % (66 % to 87 %)', '100 % (no interval)')
    """
    if low is None or high is None:
        return f"{percent(estimate)} (no interval)"
    return f"{percent(estimate)} ({percent(low)} to {percent(high)})"


def count(value: float | None) -> str:
    """How many, or that nobody knows."""
    return "not known" if value is None else f"{value:,.0f}"


def points(difference: float, beside: float | None = None) -> str:
    """A difference of shares in percentage points, with its sign.

    Args:
        difference: From -1 to 1.
        beside: Another one, which must not be rounded onto.

    Example:
        >>> points(0.071), points(-0.5), points(0.0), points(0.0004), points(-0.02504, -0.025)
        ('+7.1', '-50', '0', '+0.04', '-2.504')
    """
    others = (0.0,) if beside is None else (0.0, 100 * beside)
    for digits in (1, 2, 3):
        text = f"{100 * difference:+.{digits}f}".rstrip("0").rstrip(".")
        shown = float(text) if text[1:] else 0.0
        if all(_side(shown, each) == _side(100 * difference, each) for each in others):
            break
    return text if shown else "0"


def printable(text: str) -> str:
    r"""A text as it is; with escapes if it holds what no terminal should be sent.

    Example:
        >>> printable("größe.yaml"), printable("\x1b[2Ja\nb")
        ('größe.yaml', '\\x1b[2Ja\\nb')
    """
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_cell(value: Any) -> Any:
    """A value that means itself in a spreadsheet: no text is taken for a formula.

    References:
        OWASP, CSV Injection: a single quote in front of =, +, -, @, tab and carriage return.

    Example:
        >>> as_cell("=1+1"), as_cell(-1), as_cell("1")
        ("'=1+1", -1, '1')
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def as_markdown(text: str) -> str:
    r"""A text that means itself where Markdown is read.

    Example:
        >>> print(as_markdown("win rate [in *law*](x): 5 % < 6 %"))
        win rate \[in \*law\*\](x): 5 % \< 6 %
    """
    return re.sub(r"([\\`*_\[\]<>|~#!&])", r"\\\1", text)


def short(value: Any, most: int = 60) -> str:
    """A value that somebody wrote, in no more characters than a message has room for.

    Example:
        >>> short(5), short("x" * 1000, most=20)
        ('5', "'xxxxxxxxxxxxxxxx...")
    """
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def by_line(problems: Iterable[str]) -> str:
    """Problems line by line: the first ones, and how many more there are."""
    lines = [
        line if len(line) <= MOST_CHARACTERS else f"{line[:MOST_CHARACTERS]}..."
        for line in problems
    ]
    more = len(lines) - MOST_LINES
    return "\n".join(lines[:MOST_LINES] + ([f"and {more:,} more"] if more > 0 else []))
