"""Nova's metrics and what we counted in, one row per number with both beside each other out.

Where the two contradict each other, or AWS's own identities between its metrics do not hold, the
row says so; `severity` tells contradictions from what may have an innocent reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import stdev
from typing import Literal

from include import rubric
from include.records import Comparison, Preference, Reconciliation, RubricScore, WinRate

Severity = Literal["contradiction", "warning"]

Metrics = Mapping[str, float | None]

COUNTED: dict[str, Preference | None] = {
    "a_scores": "baseline",
    "b_scores": "candidate",
    "ties": "tie",
    "inference_error": None,
}

NOTES = {
    "a_scores": "judgments for the baseline, both orders",
    "b_scores": "judgments for the candidate, both orders",
    "ties": "judgments without a preference; inconsistent pairs are not among them",
    "inference_error": "judgments that could not be made",
}

TOLERANCE = {"judgments": 0.5, "pairs": 0.5, "share": 0.01, "score": rubric.ROUNDING}
"""Counts must be equal; Nova may round its shares and scores to two decimals."""

SHOWN_ONLY = ("lower_rate", "upper_rate")
"""Computed differently, so they cannot contradict ours; neither can standard errors, only one
another (`TWINS`)."""

TWINS = "stderr_identity"
"""Where every judgment is one for A or one for B, both counts have the same standard error."""

ROUNDED = 0.005
"""How far two decimals may be from the number that they stand for."""

UNSETTLED = ("score", "weighted_score_A", "weighted_score_B", "score_margin")
"""Metrics whose definition AWS's pages leave open: a difference is no more than a warning."""

DRAWS = math.sqrt(1000)
"""How much too small is the standard error that lighteval 0.10 computes: it divides the spread of
1000 bootstrap draws, which is the standard error, by the root of their number once more."""


def reconcile(
    metrics: Metrics,
    said: Sequence[Preference | None] | None,
    win_rate: WinRate,
    judged: int,
    scores: Sequence[RubricScore] = (),
) -> list[Reconciliation]:
    """Put Nova's numbers beside ours.

    Args:
        metrics: Nova's own; any may be lacking.
        said: The preference of each judgment, None for an inference error; None without details.
        win_rate: Ours.
        judged: Pairs that the judge was given.
        scores: Of a rubric judge.
    """
    if not metrics and not said:
        return []
    return [
        *_counts(metrics, said, judged),
        *_rates(metrics, said, win_rate),
        *_errors(metrics),
        *_twins(metrics),
        *_rubric_means(metrics, scores),
        *_rubric_pairs(scores),
    ]


def severity(row: Reconciliation) -> Severity | None:
    """Tell how far Nova's number and ours are at odds; None: they agree or cannot be compared.

    Fewer judgments than two per pair are no contradiction: Nova was seen to count an error that
    spoils both orders of a pair once.
    """
    if row.nova is None or row.recomputed is None:
        return None
    if row.metric in SHOWN_ONLY or row.metric.endswith("_stderr"):
        return None
    if row.metric == TWINS:
        return "contradiction" if _differ(row.nova, row.recomputed) else None
    if abs(row.nova - row.recomputed) <= TOLERANCE[row.unit]:
        return None
    fewer = row.metric in ("total", "inference_error") and row.nova < row.recomputed
    unsettled = row.metric in UNSETTLED or row.metric == "pair_scores_from_criteria"
    return "warning" if fewer or unsettled else "contradiction"


def mismatches(comparison: Comparison) -> list[Reconciliation]:
    """The rows in which Nova's numbers contradict ours or one another, or may do so."""
    return [row for row in comparison.reconciliation if severity(row)]


def contradictions(comparison: Comparison) -> list[Reconciliation]:
    """The mismatches that no innocent reason explains."""
    return [row for row in comparison.reconciliation if severity(row) == "contradiction"]


def _counts(
    metrics: Metrics, said: Sequence[Preference | None] | None, judged: int
) -> Iterator[Reconciliation]:
    for key, preference in COUNTED.items():
        nova = metrics.get(key)
        note = NOTES[key] if nova is not None else "not in the judge's metrics"
        ours = None if said is None else list(said).count(preference)
        if key == "inference_error" and nova is not None and ours is not None and nova < ours:
            note += "; Nova may count an error in both orders once"
        yield Reconciliation(key, nova, ours, "judgments", note)
    total = _total(metrics)
    note = "Nova: sum of its counts; ours: two judgments per judged pair"
    if total is not None and total > 2 * judged:
        note += "; more judgments than there can be"
    elif total is not None and total < 2 * judged:
        note += "; Nova may count an error once per pair, or leave something uncounted"
    yield Reconciliation("total", total, 2 * judged, "judgments", note)


def _total(metrics: Metrics) -> float | None:
    known = [value for key in COUNTED if (value := metrics.get(key)) is not None]
    return sum(known) if known else None


def _rates(
    metrics: Metrics, said: Sequence[Preference | None] | None, win_rate: WinRate
) -> Iterator[Reconciliation]:
    wins, losses = metrics.get("b_scores"), metrics.get("a_scores")
    if said is not None:
        wins, losses = list(said).count("candidate"), list(said).count("baseline")
    share = None
    if wins is not None and losses is not None and wins + losses > 0:
        share = wins / (wins + losses)
    ours = "unknown" if win_rate.estimate is None else f"{win_rate.estimate:.3f}"
    ties_out = f"b / (a + b), ties left out; with ties half our win rate is {ours}"
    nova = metrics.get("winrate")
    yield Reconciliation("winrate", nova, share, "share", ties_out)
    low, high = metrics.get("lower_rate"), metrics.get("upper_rate")
    for key, value, bound in (
        ("lower_rate", low, win_rate.low),
        ("upper_rate", high, win_rate.high),
    ):
        note = f"Nova: bootstrap, unit unknown; ours: {win_rate.method}"
        yield Reconciliation(key, value, bound, "share", note)
    if nova is not None and low is not None and high is not None:
        inside = max(low, min(nova, high))
        note = "Nova's win rate, and the nearest value within Nova's own interval"
        yield Reconciliation("winrate_in_interval", nova, inside, "share", note)
    if metrics.get("score") is not None:
        note = "documented as the candidate's: Nova's b_scores"
        yield Reconciliation("score", metrics["score"], metrics.get("b_scores"), "score", note)


def _errors(metrics: Metrics) -> Iterator[Reconciliation]:
    """Standard errors of shares: Nova's, and that of as many independent judgments."""
    total = _total(metrics)
    for key in (*COUNTED, "score"):
        nova, count = metrics.get(f"{key}_stderr"), metrics.get(key)
        if nova is None:
            continue
        ours = None
        if total and count is not None and 0 <= count <= total:
            share = count / total
            ours = math.sqrt(share * (1 - share) / total)
        note = "ours: sqrt(p (1 - p) / n) of judgments as if independent; no interval uses either"
        yield _error_row(f"{key}_stderr", nova, ours, "share", note)


def _twins(metrics: Metrics) -> Iterator[Reconciliation]:
    a, b = metrics.get("a_scores_stderr"), metrics.get("b_scores_stderr")
    if a is None or b is None or metrics.get("ties") or metrics.get("inference_error"):
        return
    note = "a_scores_stderr, and b_scores_stderr; without ties and errors they must be equal"
    if _differ(a, b):
        note += ", so at least one of Nova's standard errors is impossible"
    yield Reconciliation(TWINS, a, b, "share", note)


def _differ(a: float, b: float) -> bool:
    """Whether two standard errors differ by more than rounding and bootstrapping explain.

    Nova may round to two decimals, and 1,000 bootstrap rounds leave 2 % of noise in each.
    """
    return abs(a - b) > 0.1 * max(a, b) + 2 * ROUNDED


def _error_row(
    key: str, nova: float, ours: float | None, unit: Literal["share", "score"], note: str
) -> Reconciliation:
    if ours and nova > 0 and 2 / 3 < ours / nova / DRAWS < 3 / 2:
        note += "; Nova's is about sqrt(1000) = 31.6 times too small, a slip of its library"
    return Reconciliation(key, nova, ours, unit, note)


def _rubric_means(metrics: Metrics, scores: Sequence[RubricScore]) -> Iterator[Reconciliation]:
    for key, role in (
        ("weighted_score_A", "baseline"),
        ("weighted_score_B", "candidate"),
        ("score_margin", "margin"),
    ):
        nova = metrics.get(key)
        known = [value for score in scores if (value := getattr(score, role)) is not None]
        if nova is None and not known:
            continue
        what = "baseline minus candidate" if role == "margin" else f"weighted score of the {role}"
        note = f"{what}; ours: mean of {len(known)} pairs"
        yield Reconciliation(key, nova, rubric.mean(known), "score", note)
        error = metrics.get(f"{key}_stderr")
        if error is not None:
            ours = stdev(known) / math.sqrt(len(known)) if len(known) > 1 else None
            note = "ours: standard error of the mean over pairs"
            yield _error_row(f"{key}_stderr", error, ours, "score", note)
    yield from _margin(metrics)


def _margin(metrics: Metrics) -> Iterator[Reconciliation]:
    margin = metrics.get("score_margin")
    a, b = metrics.get("weighted_score_A"), metrics.get("weighted_score_B")
    if margin is None:
        return
    if a is not None and b is not None:
        note = "weighted_score_A - weighted_score_B of Nova's metrics; negative favours B"
        yield Reconciliation("score_margin_identity", margin, a - b, "score", note)
    note = "the margin, and the nearest value that it can have: -1 to 1"
    inside = max(-1.0, min(margin, 1.0))
    yield Reconciliation("score_margin_in_range", margin, inside, "score", note)


def _rubric_pairs(scores: Sequence[RubricScore]) -> Iterator[Reconciliation]:
    """Identities within each pair: how many could be checked, and for how many they hold."""
    whole = [
        (score.margin, score.baseline - score.candidate)
        for score in scores
        if score.margin is not None and score.baseline is not None and score.candidate is not None
    ]
    if whole:
        hold = sum(_close(margin, difference) for margin, difference in whole)
        note = "Nova: pairs with margin and both scores; ours: those where margin is A - B"
        yield Reconciliation("pair_margins_identity", len(whole), hold, "pairs", note)
    margins = [score.margin for score in scores if score.margin is not None]
    if margins:
        inside = sum(abs(margin) <= 1 + 1e-6 for margin in margins)
        note = "Nova: pairs with a margin; ours: those where it lies from -1 to 1"
        yield Reconciliation("pair_margins_in_range", len(margins), inside, "pairs", note)
    known = [found for score in scores if (found := _from_criteria(score)) is not None]
    if known:
        note = "Nova: pairs with whole criteria; ours: those whose weighted scores they give"
        yield Reconciliation("pair_scores_from_criteria", len(known), sum(known), "pairs", note)


def _from_criteria(score: RubricScore) -> bool | None:
    """Whether both weighted scores follow from the criteria; None where that cannot be known."""
    said = {"baseline": score.baseline, "candidate": score.candidate}
    checks = []
    for role, nova in said.items():
        ours = rubric.weighted(score.criteria, role)
        if nova is None or not ours:
            return None
        checks.append(any(_close(nova, value) for value in ours))
    return all(checks)


def _close(nova: float, ours: float) -> bool:
    return abs(nova - ours) <= rubric.ROUNDING + 1e-9
