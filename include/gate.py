"""What a run decides: comparisons and the evaluation's rule in, Gate out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from include.config import GateRule
from include.records import Comparison, Gate, GateOutcome, MissingBounds
from include.wording import exact, level, percent, points


@dataclass(frozen=True)
class Rule:
    """What a candidate has to show."""

    threshold: Callable[[float], float]
    """From the margin to the value that the whole interval has to be above."""
    since_accepted: bool = False
    """Whether the interval is that of the change since the accepted run, not the win rate's."""


RULES: dict[GateRule, Rule] = {
    "superiority": Rule(lambda margin: 0.5 + margin),
    "non_inferiority": Rule(lambda margin: 0.5 - margin),
    "no_regression": Rule(lambda margin: -margin, since_accepted=True),
}
"""All but `none`."""

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

    An interval above the rule's threshold passes, one below it fails, else it is inconclusive; so
    it is when the judge was unreliable or the missing pairs could change it. Where a rule looks at
    the change since the accepted run, the first run passes; later ones have to be compared.

    Args:
        comparisons: Of all candidates; with their changes where the rule looks at them.
        rule: What a candidate has to show.
        margin: From 0 to 0.5.
        by_category: Whether one category that is shown to be on the wrong side fails the gate; its
            interval is widened for the number of categories and candidates.
        first: Whether there is no accepted run before this one.
        judge_in_doubt: Why a change since the accepted run may be the judge's, as a sentence: then
            none of these fails. None: the judge is the same.
    """
    if rule == "none":
        return Gate("none", "No gate was asked for.")
    if not comparisons:
        return Gate("inconclusive", "There is no comparison to decide on.")
    wanted = RULES[rule]
    threshold, name = wanted.threshold(margin), rule.replace("_", "-")
    gates: list[Gate] = []
    for comparison in comparisons:
        if wanted.since_accepted:
            gates.append(_since_accepted(comparison, name, threshold, first))
            failures = _categories_that_dropped(comparison, threshold)
        else:
            gates.append(_win_rate(comparison, name, threshold))
            failures = _categories_below(comparison, threshold)
        if by_category and not comparison.unreliable:
            gates += [Gate("fail", reason, gates[-1].threshold) for reason in failures]
    worst = min(gates, key=lambda gate: SEVERITY[gate.outcome])
    if worst.outcome == "fail" and wanted.since_accepted and judge_in_doubt:
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
    wanted = f"{rule} needs a win rate above {exact(threshold)}"
    span = f"{name}'s {level(rate.confidence_level)} interval is "
    span += f"{percent(rate.low, threshold)} to {percent(rate.high, threshold)}"
    outcome = side(rate.low, rate.high, threshold)
    return Gate(*_seen_with_missing(outcome, f"{wanted}; {span}", missing, threshold), threshold)


def _since_accepted(comparison: Comparison, rule: str, threshold: float, first: bool) -> Gate:
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
    found = _seen_with_missing(
        side(change.low, change.high, threshold),
        f"{rule} allows a drop of {_points(threshold)} percentage points since the accepted run; "
        f"{name}'s change is {points(change.difference or 0.0)} "
        f"({level(change.confidence_level)} interval {points(change.low, threshold)} to "
        f"{points(change.high, threshold)})",
        change.missing_bounds,
        threshold,
    )
    return Gate(*found)


def _points(threshold: float) -> str:
    """A drop that is allowed, with all its digits."""
    return exact(-threshold).removesuffix(" %")


def _seen_with_missing(
    outcome: GateOutcome, reason: str, missing: MissingBounds, threshold: float
) -> tuple[GateOutcome, str]:
    """Return what the gate says and why, unless it rests on the pairs that happen to be there."""
    if _could_be_turned(outcome, missing, threshold):
        return "inconclusive", f"{reason}, but the missing pairs could change that."
    return outcome, f"{reason}."


def _could_be_turned(outcome: GateOutcome, missing: MissingBounds, threshold: float) -> bool:
    """Whether the missing pairs could move an estimate to the other side of the threshold."""
    if outcome == "pass":
        return missing.low is not None and missing.low <= threshold
    return outcome == "fail" and missing.high is not None and missing.high >= threshold


def side(low: float, high: float, threshold: float) -> GateOutcome:
    """Return what an interval says: all of it above the threshold, below it, or neither."""
    if low > threshold:
        return "pass"
    return "fail" if high < threshold else "inconclusive"


def _categories_below(comparison: Comparison, threshold: float) -> Iterator[str]:
    for row in comparison.by_category:
        rate = row.deciding
        if rate is None or rate.low is None or rate.high is None:
            continue
        if _fails(rate.low, rate.high, row.missing_bounds, threshold):
            yield (
                f"every category needs a win rate that may lie above {exact(threshold)}; "
                f"{comparison.candidate}'s {level(rate.confidence_level)} interval in "
                f"{row.category} is {percent(rate.low, threshold)} to "
                f"{percent(rate.high, threshold)}."
            )


def _fails(low: float, high: float, missing: MissingBounds, threshold: float) -> bool:
    """Whether an interval is below the threshold, however the missing pairs came out."""
    outcome = side(low, high, threshold)
    return outcome == "fail" and not _could_be_turned(outcome, missing, threshold)


def _categories_that_dropped(comparison: Comparison, threshold: float) -> Iterator[str]:
    for row in comparison.change.by_category if comparison.change else []:
        if row.low is None or row.high is None:
            continue
        if _fails(row.low, row.high, row.missing_bounds, threshold):
            yield (
                f"no category may drop by more than {_points(threshold)} percentage points since "
                f"the accepted run; {comparison.candidate}'s "
                f"{level(row.confidence_level)} interval in {row.category} is "
                f"{points(row.low, threshold)} to {points(row.high, threshold)}."
            )
