"""Resolved pairs in, how preferences go with the lengths of the responses out.

A judge that likes long answers makes the longer-winded model win. Whether that happened cannot be
seen here: a better answer may be longer because it is better. What can be seen is how far the two
go together, and what a model makes of that at equal length, which a reader should know before
believing a win rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from include.equal_length import equal_length_interval
from include.intervals import cluster_t_interval
from include.preferences import ResolvedPair, units_of
from include.rates import as_win_rate, share
from include.records import LengthBin, LengthResult, Rate, WinRate

MOST_BINS = 5
LEAST_PAIRS = 10
"""Of a bin: fewer say nothing."""


def by_length(rows: Sequence[ResolvedPair], confidence_level: float) -> LengthResult | None:
    """Count preferences by the ratio of the two responses' lengths, in characters.

    Args:
        rows: Every pair of one comparison; those without a preference or with identical responses
            do not count.
        confidence_level: Of each interval; they are adjusted for nothing and decide nothing.

    Returns:
        None without any pair that counts.
    """
    counting = (row for row in rows if row.preference and row.pair.status == "judged")
    found = sorted(
        (_Compared(ratio, row) for row in counting if (ratio := _ratio(row)) is not None),
        key=lambda each: (each.ratio, each.row.pair.prompt_id),
    )
    if not found:
        return None
    return LengthResult(
        baseline=median(len(each.row.pair.baseline or "") for each in found),
        candidate=median(len(each.row.pair.candidate or "") for each in found),
        longer_wins=_longer_wins(found, confidence_level),
        bins=[_bin(part, confidence_level) for part in _parts(found)],
        at_equal_length=_at_equal_length(found, confidence_level),
    )


class _Compared(NamedTuple):
    ratio: float
    """The candidate's characters by the baseline's."""
    row: ResolvedPair


def _ratio(row: ResolvedPair) -> float | None:
    if not row.pair.baseline or not row.pair.candidate:
        return None
    return len(row.pair.candidate) / len(row.pair.baseline)


def _longer_wins(found: Sequence[_Compared], confidence_level: float) -> Rate:
    won = [each for each in found if each.row.preference != "tie" and each.ratio != 1]
    longer = [(each.row.preference == "candidate") == (each.ratio > 1) for each in won]
    rows = [each.row for each in won]
    observed = [(so, row.unit) for so, row in zip(longer, rows, strict=True)]
    return share(observed, confidence_level, units_of(rows))


def _parts(found: Sequence[_Compared]) -> list[Sequence[_Compared]]:
    """Cut sorted pairs into parts whose sizes differ by one at the most."""
    count = max(1, min(MOST_BINS, len(found) // LEAST_PAIRS))
    ends = [round(len(found) * n / count) for n in range(count + 1)]
    return [found[start:end] for start, end in pairwise(ends)]


def _bin(part: Sequence[_Compared], confidence_level: float) -> LengthBin:
    rows = [each.row for each in part]
    found = cluster_t_interval(
        _scores(rows), [row.unit for row in rows], confidence_level, units_of(rows)
    )
    return LengthBin(part[0].ratio, part[-1].ratio, as_win_rate(found, confidence_level), len(rows))


def _at_equal_length(found: Sequence[_Compared], confidence_level: float) -> WinRate:
    rows = [each.row for each in found]
    rate = equal_length_interval(
        _scores(rows),
        [len(row.pair.candidate or "") - len(row.pair.baseline or "") for row in rows],
        [row.unit for row in rows],
        confidence_level,
        units_of(rows),
    )
    return as_win_rate(rate, confidence_level)


def _scores(rows: Sequence[ResolvedPair]) -> list[float]:
    return [row.score for row in rows if row.score is not None]
