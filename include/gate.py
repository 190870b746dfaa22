"""What a run decides: comparisons and the evaluation's rule in, Gate out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from include.records import Comparison, Gate, GateOutcome
from include.wording import level, percent

GateRule = Literal["none", "superiority", "non_inferiority"]


def decide_gate(comparisons: Sequence[Comparison], rule: GateRule, margin: float) -> Gate:
    """Decide about the run; of several candidates the worst one decides.

    Each candidate's interval has been widened for the number of candidates (`winrate.compare`).

    `superiority` asks for a win rate above 0.5 + margin, `non_inferiority` for one above
    0.5 - margin. The whole interval on the right side passes, on the wrong side fails, else it is
    inconclusive; so it is when the judge was unreliable or the missing pairs could change it.
    """
    if rule == "none":
        return Gate("none", "No gate was asked for.")
    if not comparisons:
        return Gate("inconclusive", "There is no comparison to decide on.")
    threshold = 0.5 + margin if rule == "superiority" else 0.5 - margin
    severity = {"fail": 0, "inconclusive": 1, "pass": 2, "none": 3}
    gates = [_gate(comparison, rule.replace("_", "-"), threshold) for comparison in comparisons]
    return min(gates, key=lambda gate: severity[gate.outcome])


def _gate(comparison: Comparison, rule: str, threshold: float) -> Gate:
    name, rate, missing = comparison.candidate, comparison.win_rate, comparison.missing_bounds
    if comparison.unreliable:
        return Gate("inconclusive", f"{name}: {comparison.unreliable}.", threshold)
    if rate.low is None or rate.high is None:
        reason = f"{name}: the win rate has no interval ({rate.method})."
        return Gate("inconclusive", reason, threshold)
    wanted = f"{rule} needs a win rate above {percent(threshold)}"
    span = f"{name}'s {level(rate.confidence_level)} interval is {percent(rate.low)} to "
    span += percent(rate.high)
    outcome: GateOutcome = "inconclusive"
    if rate.low > threshold:
        outcome = "pass"
    elif rate.high < threshold:
        outcome = "fail"
    passed_only_here = outcome == "pass" and missing.low is not None and missing.low <= threshold
    failed_only_here = outcome == "fail" and missing.high is not None and missing.high >= threshold
    if passed_only_here or failed_only_here:
        reason = f"{wanted}; {span}, but the missing pairs could change that."
        return Gate("inconclusive", reason, threshold)
    return Gate(outcome, f"{wanted}; {span}.", threshold)
