"""What two judges prefer in, how far they agree out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from include.intervals import cluster_t_interval
from include.preferences import ResolvedPair, units_of
from include.records import BothPrefer, Comparison, Rate, SecondJudge

OPPOSED = 20
"""Prompts that are named on which the judges contradict each other."""


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
        confidence_level: Of the interval of their agreement.

    Returns:
        None if no pair has a preference of both. Pairs with identical responses, about which
        neither was asked, do not count.
    """
    others = {each.pair.prompt_id: each.preference for each in second if asked(each)}
    rows = [each for each in first if asked(each) and each.pair.prompt_id in others]
    both = [
        (row.pair.prompt_id, row.preference, others[row.pair.prompt_id], row.unit)
        for row in rows
        if row.preference
    ]
    table = Counter((one, other) for _, one, other, _ in both if one and other)
    if not table:
        return None
    same = [float(one == other) for _, one, other, _ in both]
    rate = cluster_t_interval(
        same, [each[3] for each in both], confidence_level, units_of(rows), "one yes and one no"
    )
    opposed = [
        prompt_id for prompt_id, one, other, _ in both if {one, other} == {"candidate", "baseline"}
    ]
    return SecondJudge(
        recipe=recipe,
        verdict=found.verdict,
        sentence=found.sentence,
        win_rate=found.win_rate,
        agreement=Rate(
            rate.estimate,
            rate.low,
            rate.high,
            confidence_level,
            rate.method,
            int(sum(same)),
            len(same),
        ),
        table=[BothPrefer(*said, count) for said, count in table.most_common()],
        opposed=opposed[:OPPOSED],
        rubric=found.rubric,
    )


def asked(row: ResolvedPair) -> bool:
    """Whether a judge was asked about a pair, and prefers something."""
    return row.pair.status == "judged" and row.preference is not None
