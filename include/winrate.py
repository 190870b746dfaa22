"""Statistics of a comparison: pairs and the judge's output in, Comparison out.

The prompt (or its group) is the unit of every interval, never the judgment: two judgments of one
pair are not independent.

Pairs with identical responses are ties that nobody asked the judge about. They count as pairs and
ties, but not as judgments, not towards the judge's consistency and not against Nova's counts.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from include import rubric
from include.intervals import (
    FEW_UNITS,
    Interval,
    cluster_t_interval,
    conservative_interval,
    detectable_effect,
    needed_pairs,
    sign_test,
)
from include.reconcile import Metrics, reconcile
from include.records import (
    CategoryResult,
    Comparison,
    ComparisonVerdict,
    Counts,
    GenerationErrors,
    JudgeOutput,
    Judgment,
    MissingBounds,
    Order,
    Pair,
    Position,
    Preference,
    Verdict,
    WinRate,
)

UNCATEGORIZED = "(none)"
"""The category of prompts without one, where others have one."""

SCORE: dict[Preference, float] = {"candidate": 1.0, "tie": 0.5, "baseline": 0.0}


@dataclass(frozen=True)
class ResolvedPair:
    """A pair with its judgments and what they come to."""

    pair: Pair
    judgments: tuple[Judgment, ...]
    preference: Preference | None
    """None: no valid judgment in one of the orders, or the pair never reached the judge."""
    consistent: bool | None
    """Whether both orders agree; None where the judge was not asked or one order is missing."""

    def verdict(self, order: Order) -> Verdict | None:
        """What the judge said in one order."""
        return next((j.verdict for j in self.judgments if j.order == order and j.verdict), None)


@dataclass(frozen=True)
class _Findings:
    """What one kind of evidence yields, before any verdict."""

    counts: Counts
    win_rate: WinRate
    interval: Interval
    pairs: int
    """Pairs that the win rate speaks about."""
    missing_bounds: MissingBounds
    expected_judgments: int
    sign_test_p_value: float | None
    position: Position
    by_category: list[CategoryResult]
    said: list[Preference | None] | None
    """What each judgment prefers, None for an inference error; None without per-pair details."""


def compare(
    *,
    baseline: str,
    candidate: str,
    prompts: int,
    generation_errors: GenerationErrors,
    pairs: Sequence[Pair],
    output: JudgeOutput | None,
    confidence_level: float,
    min_consistency: float,
    max_error_rate: float,
) -> Comparison:
    """Compare one candidate with the baseline.

    Args:
        baseline: Name of the model in use.
        candidate: Name of the model under test.
        prompts: How many prompts were to be answered.
        generation_errors: Responses that could not be used.
        pairs: One per prompt, whatever its status.
        output: What the judge wrote; None if there was nothing to judge.
        confidence_level: Of the interval that decides, for example 0.95.
        min_consistency: Least share of pairs on which both orders must agree.
        max_error_rate: Largest share of expected judgments that may be invalid or absent.
    """
    metrics: Metrics = output.metrics if output else {}
    scores = output.rubric if output else []
    if output is None or output.judgments is not None:
        judgments = output.judgments if output and output.judgments else []
        found = _from_rows(prompts, generation_errors, pairs, judgments, confidence_level)
    else:
        found = _from_metrics(prompts, generation_errors, pairs, metrics, confidence_level)
    by_interval = verdict_of(found.win_rate)
    unreliable = _unreliable(
        found, by_interval, (baseline, candidate), min_consistency, max_error_rate
    )
    verdict: ComparisonVerdict = "inconclusive" if unreliable else by_interval
    needed = needed_pairs(found.interval, found.pairs, confidence_level)
    aggregate = found.counts.pairs is None
    orders_known = output is None or output.orders_known
    return Comparison(
        baseline=baseline,
        candidate=candidate,
        verdict=verdict,
        sentence=_sentence(found, verdict, unreliable, baseline, candidate, needed),
        evidence="aggregate" if aggregate else "per_pair",
        counts=found.counts,
        win_rate=found.win_rate,
        missing_bounds=found.missing_bounds,
        sign_test_p_value=found.sign_test_p_value,
        position=found.position if orders_known else replace(found.position, preference_for_a=None),
        detectable_effect=detectable_effect(found.interval, confidence_level),
        needed_pairs=needed,
        by_category=found.by_category,
        nova=dict(metrics),
        reconciliation=reconcile(
            metrics, found.said, found.win_rate, found.expected_judgments // 2, scores
        ),
        unreliable=unreliable,
        rubric=rubric.summarize(scores),
    )


def verdict_of(win_rate: WinRate) -> ComparisonVerdict:
    """What an interval says about 0.5; no interval says nothing."""
    if win_rate.low is not None and win_rate.low > 0.5:
        return "candidate_better"
    if win_rate.high is not None and win_rate.high < 0.5:
        return "baseline_better"
    return "inconclusive"


def resolve_preference(
    forward: Sequence[Judgment], backward: Sequence[Judgment]
) -> Preference | None:
    """One preference from the judgments of a pair in both orders.

    Orders that disagree make a tie, also when only one of them names a winner. None unless there is
    exactly one valid judgment per order: a preference is never guessed.

    Example:
        >>> first = Judgment("p1", "forward", "A>B")
        >>> second = Judgment("p1", "backward", "A>B")
        >>> resolve_preference([first], [second])  # the judge follows the position
        'tie'
    """
    valid = [[j.preference for j in order if j.preference] for order in (forward, backward)]
    if [len(order) for order in valid] != [1, 1]:
        return None
    first, second = valid[0][0], valid[1][0]
    return first if first == second else "tie"


def resolve_pairs(pairs: Sequence[Pair], judgments: Sequence[Judgment]) -> list[ResolvedPair]:
    """Every pair with its judgments; judgments of pairs that were not judged are ignored."""
    by_prompt: defaultdict[str, list[Judgment]] = defaultdict(list)
    for judgment in judgments:
        by_prompt[judgment.prompt_id].append(judgment)
    return [_resolve(pair, by_prompt.get(pair.prompt_id, [])) for pair in pairs]


def _resolve(pair: Pair, judgments: Sequence[Judgment]) -> ResolvedPair:
    if pair.status != "judged":
        return ResolvedPair(pair, (), "tie" if pair.status == "identical" else None, None)
    forward = [j for j in judgments if j.order == "forward"]
    backward = [j for j in judgments if j.order == "backward"]
    preference = resolve_preference(forward, backward)
    agreed = len({j.preference for j in judgments if j.preference}) == 1
    return ResolvedPair(
        pair, tuple(judgments), preference, agreed if preference is not None else None
    )


def _from_rows(
    prompts: int,
    generation_errors: GenerationErrors,
    pairs: Sequence[Pair],
    judgments: Sequence[Judgment],
    confidence_level: float,
) -> _Findings:
    rows = resolve_pairs(pairs, judgments)
    counts = _count(rows, prompts, generation_errors)
    interval = _interval(rows, confidence_level)
    win_rate = _as_win_rate(interval, confidence_level)
    points = sum(SCORE[row.preference] for row in rows if row.preference)
    decided = sum(row.preference is not None for row in rows)
    judged = sum(pair.status == "judged" for pair in pairs)
    return _Findings(
        counts=counts,
        win_rate=win_rate,
        interval=interval,
        pairs=decided,
        missing_bounds=_missing_bounds(points, decided, prompts),
        expected_judgments=2 * judged,
        sign_test_p_value=sign_test(counts.candidate_wins or 0, counts.baseline_wins or 0),
        position=_position(rows),
        by_category=_by_category(rows, confidence_level),
        said=[judgment.preference for row in rows for judgment in row.judgments],
    )


def _count(
    rows: Sequence[ResolvedPair], prompts: int, generation_errors: GenerationErrors
) -> Counts:
    judgments = [judgment for row in rows for judgment in row.judgments]
    judged = sum(row.pair.status == "judged" for row in rows)
    consistent = [row.consistent for row in rows if row.consistent is not None]

    def preferred(preference: Preference) -> int:
        return sum(row.preference == preference for row in rows)

    return Counts(
        prompts=prompts,
        generation_errors=generation_errors,
        pairs=sum(row.preference is not None for row in rows),
        unresolved=judged - len(consistent),
        judgments=sum(judgment.verdict is not None for judgment in judgments),
        inference_errors=sum(judgment.verdict is None for judgment in judgments),
        candidate_wins=preferred("candidate"),
        baseline_wins=preferred("baseline"),
        ties=preferred("tie"),
        inconsistent=consistent.count(False),
    )


def _interval(rows: Sequence[ResolvedPair], confidence_level: float) -> Interval:
    decided = [row for row in rows if row.preference]
    scores = [SCORE[row.preference] for row in decided if row.preference]
    if not scores:
        return Interval(None, None, None, None, 0, "none: no pair has a preference")
    clusters = [_cluster(row.pair) for row in decided]
    grouped = any(row.pair.group is not None for row in decided)
    unit = "groups" if grouped else "prompts"
    return cluster_t_interval(scores, clusters, confidence_level, unit)


def _as_win_rate(interval: Interval, confidence_level: float) -> WinRate:
    return WinRate(
        interval.estimate, interval.low, interval.high, confidence_level, interval.method
    )


def _cluster(pair: Pair) -> str:
    return f"prompt {pair.prompt_id}" if pair.group is None else f"group {pair.group}"


def _missing_bounds(points: float, decided: float, prompts: float) -> MissingBounds:
    total = max(prompts, decided)
    if total == 0:
        return MissingBounds(None, None)
    return MissingBounds(points / total, (points + total - decided) / total)


def _position(rows: Sequence[ResolvedPair]) -> Position:
    consistent = [row.consistent for row in rows if row.consistent is not None]
    verdicts = [judgment.verdict for row in rows for judgment in row.judgments]
    named = verdicts.count("A>B") + verdicts.count("B>A")
    return Position(
        consistency=sum(consistent) / len(consistent) if consistent else None,
        preference_for_a=verdicts.count("A>B") / named if named else None,
    )


def _by_category(rows: Sequence[ResolvedPair], confidence_level: float) -> list[CategoryResult]:
    if all(row.pair.category is None for row in rows):
        return []
    groups: defaultdict[str, list[ResolvedPair]] = defaultdict(list)
    for row in rows:
        groups[UNCATEGORIZED if row.pair.category is None else row.pair.category].append(row)
    return [
        CategoryResult(
            category,
            _count(members, len(members), _failures(members)),
            _as_win_rate(_interval(members, confidence_level), confidence_level),
        )
        for category, members in sorted(groups.items())
    ]


def _failures(rows: Sequence[ResolvedPair]) -> GenerationErrors:
    status = [row.pair.status for row in rows]
    both = status.count("both_failed")
    return GenerationErrors(
        status.count("baseline_failed") + both, status.count("candidate_failed") + both
    )


def _from_metrics(
    prompts: int,
    generation_errors: GenerationErrors,
    pairs: Sequence[Pair],
    metrics: Metrics,
    confidence_level: float,
) -> _Findings:
    """Findings from Nova's totals alone.

    A metric that is absent counts as 0; what is then lacking to two judgments per pair counts as
    invalid, so that an unreported kind of verdict makes the result inconclusive, not wrong.
    A pair with a win in one order and a tie in the other is a tie with details, but three quarters
    of a win in a total. Nobody knows which ties those are, so the interval allows for all of them.
    """
    wins, losses, ties = (metrics.get(key) or 0.0 for key in ("b_scores", "a_scores", "ties"))
    errors = metrics.get("inference_error") or 0.0
    valid = wins + losses + ties
    judged = sum(pair.status == "judged" for pair in pairs)
    identical = sum(pair.status == "identical" for pair in pairs)
    points = (wins + ties / 2) / 2 + identical / 2
    decided = valid / 2 + identical
    spoiled = math.ceil(max(0.0, errors, 2 * judged - valid))
    interval = Interval(None, None, None, None, 0, "none: the judge's metrics hold no verdicts")
    if decided:
        sizes = _complete_sizes(pairs, spoiled)
        grouped = any(pair.group is not None for pair in pairs)
        unit = "groups" if grouped else "pairs"
        interval = conservative_interval(
            points / decided,
            sizes,
            confidence_level,
            unit=unit,
            lowest=(points - min(ties, wins) / 4) / decided,
            highest=(points + min(ties, losses) / 4) / decided,
        )
    win_rate = _as_win_rate(interval, confidence_level)
    return _Findings(
        counts=Counts(
            prompts=prompts,
            generation_errors=generation_errors,
            pairs=None,
            unresolved=None,
            judgments=round(valid),
            inference_errors=round(errors),
            candidate_wins=None,
            baseline_wins=None,
            ties=None,
            inconsistent=None,
        ),
        win_rate=win_rate,
        interval=interval,
        pairs=judged + identical,
        missing_bounds=_missing_bounds(points, decided, prompts),
        expected_judgments=2 * judged,
        sign_test_p_value=None,
        position=Position(None, None),
        by_category=[],
        said=None,
    )


def _complete_sizes(pairs: Sequence[Pair], spoiled: int) -> list[int]:
    """Pairs per group, each invalid judgment taken to have spoiled a pair of a small group.

    Nobody knows which pairs lack a judgment; small groups gone is the case with least information.
    """
    sizes: defaultdict[str, int] = defaultdict(int)
    for pair in pairs:
        if pair.status in ("judged", "identical"):
            sizes[_cluster(pair)] += 1
    left = []
    for size in sorted(sizes.values()):
        gone = min(size, spoiled)
        spoiled -= gone
        if size > gone:
            left.append(size - gone)
    return left


def _unreliable(
    found: _Findings,
    by_interval: ComparisonVerdict,
    names: tuple[str, str],
    min_consistency: float,
    max_error_rate: float,
) -> str | None:
    """Why the numbers must not decide anything, or None."""
    consistency = found.position.consistency
    if consistency is not None and consistency < min_consistency:
        return (
            f"the judge's two orders agree on only {percent(consistency)} of the pairs,"
            f" and {percent(min_consistency)} is required"
        )
    expected, counts = found.expected_judgments, found.counts
    invalid = max(counts.inference_errors, expected - counts.judgments, 0)
    if expected and invalid / expected > max_error_rate:
        return (
            f"{percent(invalid / expected)} of {expected} expected judgments are invalid or absent,"
            f" and at most {percent(max_error_rate)} may be"
        )
    low, high = found.missing_bounds.low, found.missing_bounds.high
    baseline, candidate = names
    if by_interval == "candidate_better" and low is not None and low <= 0.5:
        return _overturned(found, candidate, baseline, low)
    if by_interval == "baseline_better" and high is not None and high >= 0.5:
        return _overturned(found, candidate, candidate, high)
    return None


def _overturned(found: _Findings, candidate: str, gainer: str, bound: float) -> str:
    return (
        f"the win rate is {percent(found.win_rate.estimate or 0.0)}, but had all missing pairs gone"
        f" to {gainer}, {candidate} would win {percent(bound)} of {found.counts.prompts} prompts"
    )


def _sentence(
    found: _Findings,
    verdict: ComparisonVerdict,
    unreliable: str | None,
    baseline: str,
    candidate: str,
    needed: int | None,
) -> str:
    rate = found.win_rate
    if unreliable:
        return f"Inconclusive: {unreliable}."
    if rate.estimate is None:
        return f"Inconclusive: no pair of {candidate} and {baseline} has a preference."
    wins = f"wins {percent(rate.estimate)} of {_plural(found.pairs, 'pair')}"
    if rate.low is None or rate.high is None:
        return (
            f"Inconclusive: {candidate} {wins} against {baseline}, but all that counts is a single"
            " independent unit, which has no interval."
        )
    level = percent(rate.confidence_level)
    span = f"{level} interval {percent(rate.low)} to {percent(rate.high)}"
    caveats = []
    if found.counts.pairs is None:
        caveats.append("conservative: the judge left no details per pair")
    elif found.counts.ties:
        caveats.append("ties count half")
    if verdict != "inconclusive":
        outcome = "beats" if verdict == "candidate_better" else "loses to"
        detail = "; ".join([span, *caveats])
        text = f"{candidate} {outcome} {baseline}: it {wins} ({detail})."
    else:
        aside = f" ({'; '.join(caveats)})" if caveats else ""
        text = f"Inconclusive: {candidate} {wins} against {baseline}, and the {span}{aside}"
        text += " includes 50 %."
        if needed is not None and needed > found.pairs:
            text += f" A win rate of {percent(rate.estimate)} takes about {needed:,} pairs to show."
    few = found.interval.units < FEW_UNITS
    rough = f" With only {found.interval.units} independent units the interval is rough."
    return text + (rough if few else "")


def percent(share: float) -> str:
    """A share as a percentage that never rounds onto 0, 50 or 100 from beside it.

    Example:
        >>> percent(0.78), percent(0.501), percent(0.9996)
        ('78 %', '50.1 %', '99.96 %')
    """
    for digits in range(3):
        text = f"{100 * share:.{digits}f}"
        if float(text) not in (0, 50, 100) or math.isclose(float(text), 100 * share, abs_tol=1e-9):
            break
    return f"{text} %"


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
