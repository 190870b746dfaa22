"""Numbers as people read them: shares, levels, differences and counts in, text out."""

from __future__ import annotations

import math
from collections.abc import Sequence


def percent(share: float) -> str:
    """A share as a percentage that never rounds onto 0, 50 or 100 from beside it.

    Example:
        >>> percent(0.78), percent(0.501), percent(0.9996)
        ('78 %', '50.1 %', '99.96 %')
    """
    for digits in range(3):
        text = f"{100 * share:.{digits}f}"
        if float(text) not in (0, 50, 100) or math.isclose(float(text), 100 * share, abs_tol=1e-9):
            break
    return f"{text} %"


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


def points(difference: float) -> str:
    """A difference of shares in percentage points, with its sign.

    Example:
        >>> points(0.071), points(-0.5), points(0.0), points(0.0004)
        ('+7.1', '-50', '0', '+0.04')
    """
    for digits in (1, 2, 3):
        text = f"{100 * difference:+.{digits}f}".rstrip("0").rstrip(".")
        if text not in ("+", "-", "+0", "-0") or abs(difference) < 1e-9:
            break
    return "0" if text in ("+", "-", "+0", "-0") else text
