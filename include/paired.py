"""The resolved pairs of two runs in, what changed between them on the prompts they share out.

Both runs compare a candidate with a baseline. A prompt that both have is a pair of scores, and
what is easy or hard about it is in both: their difference is known better than either win rate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from include.intervals import (
    FEW_UNITS,
    Interval,
    cluster_t_interval,
    level_of_each,
    level_together,
    sign_test,
)
from include.preferences import ResolvedPair, in_categories
from include.records import CategoryChange, Change, LeftOut, MissingBounds
from include.wording import level, percent, plural, points


class _Scored(NamedTuple):
    prompt: str
    """Digest of the text that the judge saw."""
    group: str
    score: float | None


def compare_runs(
    earlier: Iterable[ResolvedPair],
    later: Iterable[ResolvedPair],
    *,
    candidate: str,
    confidence_level: float,
    candidates: int = 1,
) -> Change:
    """Compare what two runs found about a candidate, prompt by prompt.

    Prompts are the same if id and text are. What else changed between the runs (a model, the
    baseline, the judge's image) is part of the difference and cannot be told apart here.

    Args:
        earlier: Every pair of the first run, read once; texts are not kept.
        later: Every pair of the second run; its groups are the units.
        candidate: What the sentence calls the one that is compared.
        confidence_level: Of the intervals of all candidates together.
        candidates: How many are compared with their earlier run at once (Bonferroni).

    Notes:
        d_i = later score - earlier score, from -1 to 1. The interval of their mean is
        `winrate`'s, of (d_i + 1) / 2: cluster t with one prompt that improved and one that
        worsened added. Var(mean d) = Var(later) + Var(earlier) - 2 Cov, so it is narrower than that
        of two unrelated runs wherever the same prompts are hard for both.
        The p-value is the exact sign test of improved against worsened prompts; it takes prompts
        as independent, and decides nothing.

    References:
        Miller, Adding Error Bars to Evals, arXiv 2411.00640 (2024), section 4, paired differences.
    """
    return _compare(_scored(earlier), _scored(later), candidate, confidence_level, candidates)


def _compare(
    before: Mapping[str, _Scored],
    after: Mapping[str, _Scored],
    candidate: str,
    confidence_level: float,
    candidates: int,
) -> Change:
    shared = [key for key in after if key in before]
    same = [key for key in shared if before[key].prompt == after[key].prompt]
    scores = [
        (first, second, after[key].group)
        for key in same
        if (first := before[key].score) is not None and (second := after[key].score) is not None
    ]
    either = [(before[key].score, after[key].score) for key in same]
    deciding = level_of_each(confidence_level, candidates)
    found = cluster_t_interval(
        [(second - first + 1) / 2 for first, second, _ in scores],
        [group for _, _, group in scores],
        deciding,
        "prompts" if all(group.startswith("prompt ") for *_, group in scores) else "groups",
        "one improved and one worsened prompt",
    )
    improved = sum(second > first for first, second, _ in scores)
    worsened = sum(second < first for first, second, _ in scores)
    change = Change(
        verdict="inconclusive",
        sentence="",
        prompts=len(scores),
        earlier=_mean([first for first, _, _ in scores]),
        later=_mean([second for _, second, _ in scores]),
        difference=_difference(found.estimate),
        low=_difference(found.low),
        high=_difference(found.high),
        confidence_level=deciding,
        method=found.method,
        units=found.units,
        improved=improved,
        worsened=worsened,
        unchanged=len(scores) - improved - worsened,
        sign_test_p_value=sign_test(improved, worsened),
        left_out=LeftOut(
            only_earlier=len(before) - len(shared),
            only_later=len(after) - len(shared),
            different_prompt=len(shared) - len(same),
            no_preference=len(same) - len(scores),
        ),
        missing_bounds=_missing_bounds(either),
    )
    return _judged(change, candidate, found, max(1, candidates))


def _missing_bounds(scores: Iterable[tuple[float | None, float | None]]) -> MissingBounds:
    """Bound the difference; what neither run has a preference for says nothing of a change."""
    known = [each for each in scores if each != (None, None)]
    if not known:
        return MissingBounds(None, None)

    def mean(unknown_before: float, unknown_after: float) -> float:
        return sum(
            (unknown_after if second is None else second)
            - (unknown_before if first is None else first)
            for first, second in known
        ) / len(known)

    return MissingBounds(low=mean(1.0, 0.0), high=mean(0.0, 1.0))


def compare_by_category(
    earlier: Iterable[ResolvedPair],
    later: Iterable[ResolvedPair],
    *,
    candidate: str,
    confidence_level: float,
    candidates: int = 1,
) -> list[CategoryChange]:
    """Compare two runs within each category of the later one.

    The intervals of all categories and candidates hold together (Bonferroni), so that a gate may
    look at each. Arguments as for `compare_runs`.
    """
    groups, before, found = in_categories(later), _scored(earlier), []
    for category, members in groups.items():
        change = _compare(
            before, _scored(members), candidate, confidence_level, candidates * len(groups)
        )
        found.append(
            CategoryChange(
                category,
                change.prompts,
                change.difference,
                change.low,
                change.high,
                change.confidence_level,
                change.missing_bounds,
            )
        )
    return found


def _scored(pairs: Iterable[ResolvedPair]) -> Mapping[str, _Scored]:
    return {
        row.pair.prompt_id: _Scored(
            row.pair.prompt_sha256,
            row.unit,
            row.score,
        )
        for row in pairs
    }


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _difference(share: float | None) -> float | None:
    return None if share is None else 2 * share - 1


def _judged(change: Change, candidate: str, found: Interval, candidates: int) -> Change:
    """Add the verdict and its sentence."""
    text = _sentence(change, candidate, candidates)
    if change.low is not None and change.low > 0:
        change = replace(change, verdict="better")
    elif change.high is not None and change.high < 0:
        change = replace(change, verdict="worse")
    elif change.low is not None:
        text = f"No change is shown: {text}"
    if 1 < found.units < FEW_UNITS:
        text += f" With only {found.units} independent units the interval is rough."
    return replace(change, sentence=text + _left_out(change.left_out))


def _sentence(change: Change, candidate: str, candidates: int) -> str:
    if change.earlier is None or change.later is None or change.difference is None:
        return f"{candidate}: the runs share no prompt with a preference in both."
    shared = plural(change.prompts, "shared prompt")
    wins = f"{candidate} wins {percent(change.later)} of {shared}, {percent(change.earlier)} before"
    if change.low is None or change.high is None:
        return f"{wins}, a single independent unit, which has no interval."
    span = f"{points(change.low)} to {points(change.high)}"
    together = level_together(change.confidence_level, candidates)
    family = f"; {level(together)} for all {candidates} candidates together"
    return (
        f"{wins}: {points(change.difference)} percentage points "
        f"({level(change.confidence_level)} interval {span}{family if candidates > 1 else ''})."
    )


def _left_out(left: LeftOut) -> str:
    reasons = [
        f"{count:,} {why}"
        for count, why in (
            (left.only_earlier, "only in the earlier run"),
            (left.only_later, "only in the later run"),
            (left.different_prompt, "with another text"),
            (left.no_preference, "without a preference in both"),
        )
        if count
    ]
    return f" Left out: {', '.join(reasons)}." if reasons else ""
