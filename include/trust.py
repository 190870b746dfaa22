"""What a verdict rests on: a Comparison in, a few sentences out, with reasons to doubt marked."""

from __future__ import annotations

from dataclasses import dataclass

from include.reconcile import contradictions, mismatches
from include.records import Comparison, HumanResult
from include.wording import percent, plural, with_interval

FAIR = 0.5
"""Of the judgments that name a winner, those for either position from a judge that ignores it."""
UNEVEN = 0.01
"""A smaller p-value says that one model fails more often than the other."""
UNSTEADY = 0.6
"""A judge that agrees with itself on fewer pairs is worth a second look."""


@dataclass(frozen=True)
class Trust:
    """One thing that a verdict rests on, and whether it gives reason to doubt."""

    what: str
    text: str
    doubtful: bool


def trust(comparison: Comparison) -> list[Trust]:
    """Put into words what the verdict rests on: in one line, before anyone believes it."""
    return [
        _missing_responses(comparison),
        _consistency(comparison),
        _nova(comparison),
        Trust(
            "Evidence",
            "every pair in both orders"
            if comparison.evidence == "per_pair"
            else "Nova's totals only: the interval is conservative",
            comparison.evidence != "per_pair",
        ),
        *_equal_length(comparison),
        *_people(comparison.human),
    ]


def _missing_responses(comparison: Comparison) -> Trust:
    failed, prompts = comparison.counts.generation_errors, comparison.counts.prompts
    text = (
        f"{comparison.baseline} {failed.baseline:,}, {comparison.candidate} {failed.candidate:,} "
        f"of {prompts:,}"
    )
    bounds = comparison.missing_bounds
    if bounds.low is not None and bounds.high is not None and bounds.low < bounds.high:
        text += f"; had all missing pairs gone one way: {percent(bounds.low)} to "
        text += percent(bounds.high)
    uneven = comparison.missing.asymmetry_p_value if comparison.missing else None
    if uneven is not None and uneven < UNEVEN:
        text += "; one model fails more often than the other"
    doubtful = max(failed.baseline, failed.candidate) > prompts / 20
    return Trust("Missing", text, doubtful or (uneven is not None and uneven < UNEVEN))


def _consistency(comparison: Comparison) -> Trust:
    share = comparison.position.consistency
    if share is None:
        return Trust("Judge's two orders", "not known", comparison.counts.judgments > 0)
    text = f"agree on {percent(share)} of the pairs"
    found = comparison.reliability.consistency if comparison.reliability else None
    if found and found.low is not None and found.high is not None:
        text += f" ({percent(found.low)} to {percent(found.high)})"
    lean = comparison.reliability.preference_for_a if comparison.reliability else None
    leans = lean is not None and not ((lean.low or 0.0) <= FAIR <= (lean.high or 1.0))
    if lean and leans and lean.estimate is not None:
        text += f"; position A wins {percent(lean.estimate)} of the judgments"
    return Trust("Judge's two orders", text, leans or share < UNSTEADY)


def _people(found: HumanResult | None) -> list[Trust]:
    """Say what people's labels come to; nothing where nobody was asked."""
    if found is None:
        return []
    agreement, corrected = found.agreement, found.corrected
    shown = with_interval(agreement.estimate or 0.0, agreement.low, agreement.high)
    text = f"agree with the judge on {shown} of {plural(found.labels, 'labelled pair')}"
    if corrected and corrected.estimate is not None:
        wins = with_interval(corrected.estimate, corrected.low, corrected.high)
        text += f"; win rate corrected by their labels {wins}"
    if found.doubt:
        text += f"; {found.doubt}"
    return [Trust("People", text, found.doubt is not None)]


def _nova(comparison: Comparison) -> Trust:
    found = contradictions(comparison)
    if not comparison.nova:
        return Trust("Nova's own numbers", "there are none", False)
    differing = found or mismatches(comparison)
    names = ", ".join(row.metric for row in differing)
    text = "are all that there is" if comparison.evidence == "aggregate" else "agree with ours"
    if differing:
        text = f"contradict ours: {names}" if found else f"differ from ours in {names}"
    return Trust("Nova's own numbers", text, bool(found))


def _equal_length(comparison: Comparison) -> list[Trust]:
    """Say what a model makes of the win rate at equal length; nothing where nobody computed it."""
    rate = comparison.lengths.at_equal_length if comparison.lengths else None
    if rate is None:
        return []
    doubtful = {
        "candidate_better": rate.low is None or rate.low <= FAIR,
        "baseline_better": rate.high is None or rate.high >= FAIR,
        "inconclusive": False,
    }[comparison.verdict]
    text = f"no win rate ({rate.method.removeprefix('none: ')})"
    if rate.estimate is not None:
        text = f"wins {with_interval(rate.estimate, rate.low, rate.high)}, by a model"
    if doubtful:
        text += "; the verdict may be one about length"
    return [Trust("At equal length", text, doubtful)]
