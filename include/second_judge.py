"""What two judges prefer in, how far they agree out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from include.agreement import Rated, agree
from include.preferences import ResolvedPair, units_of
from include.records import BothPrefer, Comparison, Preference, SecondJudge

OPPOSED = 20
"""Prompts that are named on which the judges contradict each other."""


class _Both(NamedTuple):
    row: ResolvedPair
    first: Preference
    second: Preference


def compare_judges(
    first: Iterable[ResolvedPair],
    second: Iterable[ResolvedPair],
    *,
    recipe: str,
    found: Comparison,
    confidence_level: float,
) -> SecondJudge | None:
    """Compare what two judges say about the same pairs.

    Args:
        first: Every pair with what the judge said.
        second: The same with what the second judge said.
        recipe: The second judge's model and task.
        found: What its judgments come to.
        confidence_level: Of the intervals of their agreement and of kappa.

    Returns:
        None if no pair has a preference of both. Pairs with identical responses, about which
        neither was asked, do not count.
    """
    others = {each.pair.prompt_id: each.preference for each in second if _asked(each)}
    both = [
        _Both(row, row.preference, other)
        for row in first
        if _asked(row) and row.preference and (other := others.get(row.pair.prompt_id))
    ]
    if not both:
        return None
    rated = [Rated(each.row.unit, each.first, each.second) for each in both]
    agreement, kappa = agree(rated, confidence_level, units_of([each.row for each in both]))
    table = Counter((each.first, each.second) for each in both)
    opposed = [
        each.row.pair.prompt_id
        for each in both
        if {each.first, each.second} == {"candidate", "baseline"}
    ]
    return SecondJudge(
        recipe=recipe,
        verdict=found.verdict,
        sentence=found.sentence,
        win_rate=found.win_rate,
        agreement=agreement,
        kappa=kappa,
        table=[BothPrefer(*said, count) for said, count in table.most_common()],
        opposed=opposed[:OPPOSED],
        rubric=found.rubric,
    )


def _asked(row: ResolvedPair) -> bool:
    return row.pair.status == "judged"
