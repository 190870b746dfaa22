"""What a run decides: comparisons and the evaluation's rule in, Gate out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

from include.records import Comparison, Gate, GateOutcome
from include.wording import level, percent, points

GateRule = Literal["none", "superiority", "non_inferiority", "no_regression"]

SEVERITY: dict[GateOutcome, int] = {"fail": 0, "inconclusive": 1, "pass": 2, "none": 3}


def decide_gate(
    comparisons: Sequence[Comparison],
    rule: GateRule,
    margin: float,
    *,
    by_category: bool = False,
    first: bool = True,
    judge_in_doubt: str | None = None,
) -> Gate:
    """Decide about the run; of several candidates the worst one decides.

    Each candidate's interval has been widened for the number of candidates (`winrate.compare`).

    `superiority` asks for a win rate above 0.5 + margin, `non_inferiority` for one above
    0.5 - margin. `no_regression` asks for a change since the accepted run above -margin; the first
    run passes, for later ones have to be compared with something. The whole interval on the right
    side passes, on the wrong side fails, else it is inconclusive; so it is when the judge was
    unreliable or the missing pairs could change it.

    Args:
        comparisons: Of all candidates; with their changes for `no_regression`.
        rule: What a candidate has to show.
        margin: From 0 to 0.5.
        by_category: Whether one category that is shown to be on the wrong side fails the gate; its
            interval is widened for the number of categories and candidates.
        first: Whether there is no accepted run before this one.
        judge_in_doubt: Why a change since the accepted run may be the judge's, as a sentence: then
            `no_regression` does not fail. None: the judge is the same.
    """
    if rule == "none":
        return Gate("none", "No gate was asked for.")
    if not comparisons:
        return Gate("inconclusive", "There is no comparison to decide on.")
    gates: list[Gate] = []
    for comparison in comparisons:
        if rule == "no_regression":
            gates.append(_since_accepted(comparison, margin, first))
            failures = _categories_that_dropped(comparison, margin)
        else:
            threshold = threshold_of(rule, margin)
            gates.append(_win_rate(comparison, rule.replace("_", "-"), threshold))
            failures = _categories_below(comparison, threshold)
        if by_category and not comparison.unreliable:
            gates += [Gate("fail", reason, gates[-1].threshold) for reason in failures]
    worst = min(gates, key=lambda gate: SEVERITY[gate.outcome])
    if worst.outcome == "fail" and rule == "no_regression" and judge_in_doubt:
        return replace(
            worst,
            outcome="inconclusive",
            reason=f"{worst.reason} But this may be the judge's doing: {judge_in_doubt}",
        )
    return worst


def _win_rate(comparison: Comparison, rule: str, threshold: float) -> Gate:
    name, rate, missing = comparison.candidate, comparison.win_rate, comparison.missing_bounds
    if comparison.unreliable:
        return Gate("inconclusive", f"{name}: {comparison.unreliable}.", threshold)
    if rate.low is None or rate.high is None:
        reason = f"{name}: the win rate has no interval ({rate.method})."
        return Gate("inconclusive", reason, threshold)
    wanted = f"{rule} needs a win rate above {percent(threshold)}"
    span = f"{name}'s {level(rate.confidence_level)} interval is {percent(rate.low)} to "
    span += percent(rate.high)
    outcome = side(rate.low, rate.high, threshold)
    passed_only_here = outcome == "pass" and missing.low is not None and missing.low <= threshold
    failed_only_here = outcome == "fail" and missing.high is not None and missing.high >= threshold
    if passed_only_here or failed_only_here:
        reason = f"{wanted}; {span}, but the missing pairs could change that."
        return Gate("inconclusive", reason, threshold)
    return Gate(outcome, f"{wanted}; {span}.", threshold)


def _since_accepted(comparison: Comparison, margin: float, first: bool) -> Gate:
    name, change = comparison.candidate, comparison.change
    if comparison.unreliable:
        return Gate("inconclusive", f"{name}: {comparison.unreliable}.")
    if change is None and first:
        return Gate("pass", f"{name}: the first run; later ones are compared with it.")
    if change is None:
        reason = "the accepted run and this one cannot be compared pair by pair"
        return Gate("inconclusive", f"{name}: {reason}.")
    if change.low is None or change.high is None:
        return Gate("inconclusive", change.sentence)
    return Gate(
        side(change.low, change.high, -margin),
        f"no-regression allows a drop of {points(margin).lstrip('+')} percentage points since the "
        f"accepted run; {name}'s change is {points(change.difference or 0.0)} "
        f"({level(change.confidence_level)} interval {points(change.low)} to "
        f"{points(change.high)}).",
    )


def threshold_of(rule: GateRule, margin: float) -> float:
    """Return the win rate that `superiority` or `non_inferiority` asks for."""
    return 0.5 + margin if rule == "superiority" else 0.5 - margin


def side(low: float, high: float, threshold: float) -> GateOutcome:
    """Return what an interval says: all of it above the threshold, below it, or neither."""
    if low > threshold:
        return "pass"
    return "fail" if high < threshold else "inconclusive"


def _categories_below(comparison: Comparison, threshold: float) -> Iterator[str]:
    for row in comparison.by_category:
        rate = row.deciding
        if rate and rate.low is not None and rate.high is not None and rate.high < threshold:
            yield (
                f"every category needs a win rate that may lie above {percent(threshold)}; "
                f"{comparison.candidate}'s {level(rate.confidence_level)} interval in "
                f"{row.category} is {percent(rate.low)} to {percent(rate.high)}."
            )


def _categories_that_dropped(comparison: Comparison, margin: float) -> Iterator[str]:
    for row in comparison.change.by_category if comparison.change else []:
        if row.low is not None and row.high is not None and row.high < -margin:
            yield (
                f"no category may drop by more than {points(margin).lstrip('+')} percentage points "
                f"since the accepted run; {comparison.candidate}'s "
                f"{level(row.confidence_level)} interval in {row.category} is "
                f"{points(row.low)} to {points(row.high)}."
            )
