"""Labels and the judge's preferences in, what people say about the judge and its win rate out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from include.agreement import (
    Corrected,
    Rated,
    Scored,
    agree,
    corrected_interval,
)
from include.intervals import level_together
from include.preferences import SCORE, UNCATEGORIZED, ResolvedPair
from include.rates import as_win_rate
from include.records import (
    CategoryAgreement,
    Comparison,
    ConfusionCount,
    HumanResult,
    Kappa,
    Labels,
    Preference,
    Rate,
    WinRate,
)
from include.winrate import verdict_of
from include.wording import percent, plural, with_interval

PREFERENCES: tuple[Preference, ...] = ("candidate", "tie", "baseline")
"""From best to worst, as tables show them."""


@dataclass(frozen=True)
class _Both:
    """What people and the judge prefer in one pair."""

    unit: str
    category: str | None
    human: Preference
    judge: Preference


def summarize(labels: Labels, pairs: Iterable[ResolvedPair], comparison: Comparison) -> HumanResult:
    """Hold people's labels against the judge's preferences.

    Agreement and kappa have the confidence level that the evaluation asks for; the win rates have
    that of the comparison's, which with several candidates is higher, so that they can be compared.

    Args:
        labels: Of this comparison, not stale.
        pairs: All of the candidate's, read once.
        comparison: What the judge alone says.
    """
    said = {label.prompt_id: label.preference for label in labels.labels}
    scored: list[Scored] = []
    both: list[_Both] = []
    grouped = False
    for row in pairs:
        if row.preference is None or row.score is None:
            continue
        grouped = grouped or row.pair.group is not None
        human = said.get(row.pair.prompt_id)
        score = None if human is None else SCORE[human]
        scored.append(Scored(row.unit, row.score, score, row.pair.status == "identical"))
        if human is not None:
            both.append(_Both(row.unit, row.pair.category, human, row.preference))
    unit = "groups" if grouped else "prompts"
    rate = comparison.win_rate
    asked = level_together(rate.confidence_level, rate.adjusted_for)
    agreement, kappa = _agree(both, asked, unit)
    corrected = alone = weight = None
    if labels.drawn == "random":
        found = corrected_interval(scored, rate.confidence_level, unit)
        corrected, weight = _win_rate(found, rate), found.weight
        alone = _win_rate(corrected_interval(scored, rate.confidence_level, unit, 0.0), rate)
    return HumanResult(
        sentence=_sentence(comparison, agreement, kappa, corrected),
        labels=len(both),
        unlabelled=labels.unlabelled,
        drawn=labels.drawn,
        agreement=agreement,
        kappa=kappa,
        confusion=_confusion(both),
        by_category=_by_category(both, asked, unit),
        alone=alone,
        corrected=corrected,
        weight=weight,
        doubt=_doubt(comparison, kappa, corrected),
    )


def _agree(both: Sequence[_Both], confidence_level: float, unit: str) -> tuple[Rate, Kappa]:
    rated = [Rated(each.unit, each.human, each.judge) for each in both]
    return agree(rated, confidence_level, unit)


def _confusion(both: Sequence[_Both]) -> list[ConfusionCount]:
    counted = Counter((each.human, each.judge) for each in both)
    return [
        ConfusionCount(human, judge, counted[human, judge])
        for human in PREFERENCES
        for judge in PREFERENCES
    ]


def _by_category(
    both: Sequence[_Both], confidence_level: float, unit: str
) -> list[CategoryAgreement]:
    if all(each.category is None for each in both):
        return []
    groups: defaultdict[str, list[_Both]] = defaultdict(list)
    for each in both:
        groups[UNCATEGORIZED if each.category is None else each.category].append(each)
    return [
        CategoryAgreement(category, _agree(members, confidence_level, unit)[0], _confusion(members))
        for category, members in sorted(groups.items())
    ]


def _win_rate(found: Corrected, judge: WinRate) -> WinRate:
    return as_win_rate(found.interval, judge.confidence_level, judge.adjusted_for)


def _contradicts(comparison: Comparison, corrected: WinRate) -> bool:
    """Whether the corrected win rate is another one than the judge's, and so is its verdict."""
    judge, low, high = comparison.win_rate.estimate, corrected.low, corrected.high
    if judge is None or low is None or high is None or low <= judge <= high:
        return False
    return verdict_of(corrected) != comparison.verdict


def _doubt(comparison: Comparison, kappa: Kappa, corrected: WinRate | None) -> str | None:
    reasons = []
    if corrected and _contradicts(comparison, corrected):
        reasons.append("corrected by people's labels, the win rate contradicts the verdict")
    if kappa.high is not None and kappa.high < 0:
        reasons.append("people and the judge disagree more than by chance")
    elif kappa.low is not None and kappa.low <= 0:
        reasons.append("people may agree with the judge by chance alone: kappa's interval holds 0")
    return "; ".join(reasons) or None


def _sentence(
    comparison: Comparison, agreement: Rate, kappa: Kappa, corrected: WinRate | None
) -> str:
    shown = with_interval(agreement.estimate or 0.0, agreement.low, agreement.high)
    text = f"People and the judge agree on {shown} of {plural(agreement.of or 0, 'labelled pair')}"
    if kappa.estimate is not None:
        text += f", kappa {kappa.estimate:.2f}"
    if kappa.low is not None and kappa.high is not None:
        text += f" ({kappa.low:.2f} to {kappa.high:.2f})"
    if corrected is None:
        return f"{text}. The pairs were chosen, so they say nothing about the others."
    if corrected.estimate is None:
        return f"{text}."
    judge = comparison.win_rate.estimate or 0.0
    wins = with_interval(corrected.estimate, corrected.low, corrected.high)
    text += (
        f". Corrected by the labels {comparison.candidate} wins {wins} of the pairs, by the judge "
        f"alone {percent(judge)}: "
    )
    return text + _meaning(comparison, corrected)


def _meaning(comparison: Comparison, corrected: WinRate) -> str:
    verdict = verdict_of(corrected)
    if _contradicts(comparison, corrected):
        return "that contradicts the verdict, and the judge's own win rate lies outside."
    if verdict == comparison.verdict:
        return "that is the verdict, too."
    if verdict == "inconclusive":
        return "too few labels to bear the verdict out, and nothing against it."
    side = "better" if verdict == "candidate_better" else "worse"
    return f"by that it is {side}, but labels decide nothing."
