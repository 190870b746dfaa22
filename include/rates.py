"""Intervals in, what the summary says of them out: win rates and shares."""

from __future__ import annotations

from collections.abc import Sequence

from include.intervals import Interval, cluster_t_interval
from include.records import Rate, WinRate


def as_win_rate(
    found: Interval, confidence_level: float, adjusted_for: int = 1, what: str = "candidates"
) -> WinRate:
    """Return an interval of scores as a win rate.

    Args:
        found: The interval.
        confidence_level: Its own.
        adjusted_for: How many intervals hold together by it (Bonferroni).
        what: What these are called.
    """
    method = found.method
    if adjusted_for > 1:
        method += f"; Bonferroni for {adjusted_for} {what}"
    return WinRate(
        found.estimate,
        found.low,
        found.high,
        confidence_level,
        method,
        found.standard_error,
        found.units,
        adjusted_for,
    )


def as_rate(found: Interval, confidence_level: float, count: int | None, of: int | None) -> Rate:
    """Return an interval as the share that `count` has in `of`."""
    return Rate(found.estimate, found.low, found.high, confidence_level, found.method, count, of)


def share(observed: Sequence[tuple[bool, str]], confidence_level: float, unit: str) -> Rate:
    """Return how often something is so, with its interval.

    Args:
        observed: Whether it is so, and the independent unit that this was seen in.
        confidence_level: Of the interval.
        unit: What the units are called.
    """
    found = cluster_t_interval(
        [float(so) for so, _ in observed],
        [cluster for _, cluster in observed],
        confidence_level,
        unit,
        "one yes and one no",
    )
    return as_rate(found, confidence_level, sum(so for so, _ in observed), len(observed))
