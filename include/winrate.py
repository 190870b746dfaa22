"""Statistics of a comparison: pairs and the judge's output in, Comparison out.

The win rate is the candidate's mean score over all pairs with both judgments valid: 1 for a pair
that it wins in both orders, 0 for one that it loses in both, 0.5 for all others. The prompt (or its
group) is the unit of every interval, never the judgment: two judgments of one pair are not
independent.

Pairs with identical responses are ties that nobody asked the judge about. They count as pairs and
ties, but not as judgments, not towards the judge's consistency and not against Nova's counts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from include import rubric
from include.intervals import (
    FEW_UNITS,
    NOTHING,
    Interval,
    cluster_t_interval,
    conservative_interval,
    detectable_effect,
    level_of_each,
    level_together,
    needed_pairs,
    sign_test,
)
from include.lengths import by_length
from include.preferences import (
    ResolvedPair,
    count_orders,
    in_categories,
    resolve_pairs,
    unit_of,
    units_of,
)
from include.rates import as_rate, as_win_rate, share
from include.reconcile import Metrics, reconcile
from include.records import (
    CategoryResult,
    Comparison,
    ComparisonVerdict,
    Counts,
    GenerationErrors,
    JudgeOutput,
    Judgment,
    LengthResult,
    Missing,
    MissingBounds,
    OrderCount,
    Pair,
    Position,
    Preference,
    Rate,
    Reliability,
    WinRate,
)
from include.wording import exact, level, percent, plural


@dataclass(frozen=True)
class _Findings:
    """What one kind of evidence yields, before any verdict."""

    counts: Counts
    win_rate: WinRate
    interval: Interval
    pairs: int
    """Pairs that the win rate speaks about."""
    decided: float
    """Those with a preference; of totals, what the valid judgments amount to."""
    missing_bounds: MissingBounds
    expected_judgments: int
    sign_test_p_value: float | None
    position: Position
    reliability: Reliability
    by_category: list[CategoryResult]
    said: list[Preference | None] | None
    """What each judgment prefers, None for an inference error; None without per-pair details."""
    orders: list[OrderCount]
    lengths: LengthResult | None


@dataclass(frozen=True)
class _Levels:
    asked: float
    """Of all deciding intervals together, and of each that decides nothing."""
    candidates: int

    @property
    def deciding(self) -> float:
        """Of each interval that decides: Bonferroni's."""
        return level_of_each(self.asked, self.candidates)


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
    candidates: int = 1,
) -> Comparison:
    """Compare one candidate with the baseline.

    With several candidates each one's interval gets the confidence level 1 - alpha / candidates
    (Bonferroni), so that all of them together hold with the level 1 - alpha that was asked for, and
    each still decides. Intervals by category and those of the judge's reliability keep 1 - alpha:
    they decide nothing.

    Args:
        baseline: Name of the model in use.
        candidate: Name of the model under test.
        prompts: How many prompts were to be answered.
        generation_errors: Responses that could not be used.
        pairs: One per prompt, whatever its status.
        output: What the judge wrote; None if there was nothing to judge.
        confidence_level: Of the intervals that decide, all candidates' together; e.g. 0.95.
        min_consistency: Least share of pairs on which both orders must agree.
        max_error_rate: Largest share of expected judgments that may be invalid or absent.
        candidates: How many are compared with the baseline in this run.
    """
    levels = _Levels(confidence_level, max(1, candidates))
    metrics: Metrics = output.metrics if output else {}
    scores = output.rubric if output else []
    if output is None or output.judgments is not None:
        judgments = output.judgments if output and output.judgments else []
        found = _from_rows(prompts, generation_errors, pairs, judgments, levels)
    else:
        found = _from_metrics(prompts, generation_errors, pairs, metrics, levels)
    by_interval = verdict_of(found.win_rate)
    unreliable = _unreliable(
        found, by_interval, (baseline, candidate), min_consistency, max_error_rate
    )
    verdict: ComparisonVerdict = "inconclusive" if unreliable else by_interval
    needed = needed_pairs(found.interval, found.pairs, levels.deciding)
    aggregate = found.counts.pairs is None
    if output and not output.orders_known:
        found = _without_orders(found)
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
        position=found.position,
        detectable_effect=detectable_effect(found.interval, levels.deciding),
        needed_pairs=needed,
        by_category=found.by_category,
        nova=dict(metrics),
        reconciliation=reconcile(
            metrics, found.said, found.win_rate, found.expected_judgments // 2, scores
        ),
        unreliable=unreliable,
        rubric=rubric.summarize(
            scores, {pair.prompt_id: unit_of(pair) for pair in pairs}, confidence_level
        ),
        reliability=found.reliability,
        missing=_missing(prompts, pairs, found),
        orders=found.orders,
        lengths=found.lengths,
    )


def verdict_of(win_rate: WinRate) -> ComparisonVerdict:
    """What an interval says about 0.5; no interval says nothing."""
    if win_rate.low is not None and win_rate.low > 0.5:
        return "candidate_better"
    if win_rate.high is not None and win_rate.high < 0.5:
        return "baseline_better"
    return "inconclusive"


def _from_rows(
    prompts: int,
    generation_errors: GenerationErrors,
    pairs: Sequence[Pair],
    judgments: Sequence[Judgment],
    levels: _Levels,
) -> _Findings:
    rows = resolve_pairs(pairs, judgments)
    counts = _count(rows, prompts, generation_errors)
    interval = _interval(rows, levels.deciding)
    points, decided = _points(rows)
    judged = sum(pair.status == "judged" for pair in pairs)
    reliability = _reliability(rows, levels.asked)
    return _Findings(
        counts=counts,
        win_rate=as_win_rate(interval, levels.deciding, levels.candidates),
        interval=interval,
        pairs=decided,
        decided=decided,
        missing_bounds=_missing_bounds(points, decided, prompts),
        expected_judgments=2 * judged,
        sign_test_p_value=sign_test(counts.candidate_wins or 0, counts.baseline_wins or 0),
        position=Position(reliability.consistency.estimate, reliability.preference_for_a.estimate),
        reliability=reliability,
        by_category=_by_category(rows, levels),
        said=[judgment.preference for row in rows for judgment in row.judgments],
        orders=count_orders(rows),
        lengths=by_length(rows, levels.asked),
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
    scores = [row.score for row in decided if row.score is not None]
    if not scores:
        return Interval(None, None, None, None, 0, "none: no pair has a preference")
    clusters = [row.unit for row in decided]
    return cluster_t_interval(scores, clusters, confidence_level, units_of(decided))


def _missing_bounds(points: float, decided: float, prompts: float) -> MissingBounds:
    total = max(prompts, decided)
    if total == 0:
        return MissingBounds(None, None)
    return MissingBounds(points / total, (points + total - decided) / total)


def _missing(prompts: int, pairs: Sequence[Pair], found: _Findings) -> Missing:
    """Which prompts no preference speaks for."""
    status = Counter(pair.status for pair in pairs)
    total = max(prompts, found.decided)
    return Missing(
        prompts=None if found.counts.pairs is None else max(0, prompts - found.counts.pairs),
        coverage=found.decided / total if total else None,
        baseline_failed=status["baseline_failed"],
        candidate_failed=status["candidate_failed"],
        both_failed=status["both_failed"],
        too_long=status["too_long"],
        no_verdict=found.counts.unresolved,
        asymmetry_p_value=sign_test(status["baseline_failed"], status["candidate_failed"]),
    )


Observed = tuple[bool, str]
"""Whether something is so, and the independent unit that it was seen in."""


def _reliability(rows: Sequence[ResolvedPair], confidence_level: float) -> Reliability:
    asked = [row for row in rows if row.pair.status == "judged"]
    said = [
        (judgment.verdict, row.unit)
        for row in asked
        for judgment in row.judgments
        if judgment.verdict
    ]
    errors = [
        (n >= sum(judgment.verdict is not None for judgment in row.judgments), row.unit)
        for row in asked
        for n in range(2)
    ]

    def rate(observed: Sequence[Observed]) -> Rate:
        return share(observed, confidence_level, units_of(asked))

    return Reliability(
        consistency=rate(
            [(row.consistent, row.unit) for row in asked if row.consistent is not None]
        ),
        preference_for_a=rate([(v == "A>B", unit) for v, unit in said if v != "A=B"]),
        ties=rate([(verdict == "A=B", unit) for verdict, unit in said]),
        errors=rate(errors),
    )


def _without_orders(found: _Findings) -> _Findings:
    """Take back what only the judgments' orders tell."""
    unknown = Interval(None, None, None, None, 0, "none: the judge's details do not tell orders")
    rate = as_rate(unknown, found.reliability.consistency.confidence_level, None, None)
    return replace(
        found,
        position=replace(found.position, preference_for_a=None),
        orders=[],
        reliability=replace(found.reliability, preference_for_a=rate),
    )


def _by_category(rows: Sequence[ResolvedPair], levels: _Levels) -> list[CategoryResult]:
    groups = in_categories(rows)
    intervals = len(groups) * levels.candidates
    deciding = level_of_each(levels.asked, intervals)
    return [
        CategoryResult(
            category,
            _count(members, len(members), _failures(members)),
            as_win_rate(_interval(members, levels.asked), levels.asked),
            as_win_rate(_interval(members, deciding), deciding, intervals, "intervals"),
            _missing_bounds(*_points(members), len(members)),
        )
        for category, members in groups.items()
    ]


def _points(rows: Sequence[ResolvedPair]) -> tuple[float, int]:
    """Return the sum of all scores, and how many pairs have one."""
    scores = [row.score for row in rows if row.score is not None]
    return sum(scores), len(scores)


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
    levels: _Levels,
) -> _Findings:
    """Findings from Nova's totals alone.

    A metric that is absent or negative counts as 0; what is then lacking to two judgments per pair
    counts as invalid, so that an unreported kind of verdict makes the result inconclusive, not
    wrong.
    A pair with a win in one order and a tie in the other is a tie with details, but three quarters
    of a win in a total. Nobody knows which ties those are, so the interval allows for all of them.
    """
    wins, losses, ties, errors = (
        max(0.0, metrics.get(key) or 0.0)
        for key in ("b_scores", "a_scores", "ties", "inference_error")
    )
    valid = wins + losses + ties
    judged = sum(pair.status == "judged" for pair in pairs)
    identical = sum(pair.status == "identical" for pair in pairs)
    points = (wins + ties / 2) / 2 + identical / 2
    decided = valid / 2 + identical
    spoiled = math.ceil(max(0.0, errors, 2 * judged - valid))
    interval = Interval(None, None, None, None, 0, "none: the judge's metrics hold no verdicts")
    grouped = any(pair.group is not None for pair in pairs)
    unit = "groups" if grouped else "pairs"
    if decided:
        interval = conservative_interval(
            points / decided,
            _complete_sizes(pairs, spoiled),
            levels.deciding,
            unit=unit,
            lowest=(points - min(ties, wins) / 4) / decided,
            highest=(points + min(ties, losses) / 4) / decided,
        )
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
        win_rate=as_win_rate(interval, levels.deciding, levels.candidates),
        interval=interval,
        pairs=judged + identical,
        decided=decided,
        missing_bounds=_missing_bounds(points, decided, prompts),
        expected_judgments=2 * judged,
        sign_test_p_value=None,
        position=Position(None, None),
        reliability=_reliability_of_totals(ties, valid, spoiled, pairs, unit, levels.asked),
        by_category=[],
        said=None,
        orders=[],
        lengths=None,
    )


def _reliability_of_totals(
    ties: float,
    valid: float,
    spoiled: int,
    pairs: Sequence[Pair],
    unit: str,
    confidence_level: float,
) -> Reliability:
    judged = [pair for pair in pairs if pair.status == "judged"]

    def rate(count: float, of: float, sizes: Sequence[int]) -> Rate:
        found = Interval(None, None, None, None, 0, NOTHING)
        if of > 0 and sizes:
            found = conservative_interval(min(1.0, count / of), sizes, confidence_level, unit=unit)
        return as_rate(found, confidence_level, round(count), round(of))

    unknown = Interval(None, None, None, None, 0, "none: the judge left no details per pair")
    nobody = as_rate(unknown, confidence_level, None, None)
    return Reliability(
        consistency=nobody,
        preference_for_a=nobody,
        ties=rate(ties, valid, _complete_sizes(judged, spoiled)),
        errors=rate(min(spoiled, 2 * len(judged)), 2 * len(judged), _complete_sizes(judged, 0)),
    )


def _complete_sizes(pairs: Sequence[Pair], spoiled: int) -> list[int]:
    """Pairs per group, each invalid judgment taken to have spoiled a pair of a small group.

    Nobody knows which pairs lack a judgment; small groups gone is the case with least information.
    """
    sizes: Counter[str] = Counter()
    for pair in pairs:
        if pair.status in ("judged", "identical"):
            sizes[unit_of(pair)] += 1
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
            f"the judge's two orders agree on only {percent(consistency, min_consistency)} of the"
            f" pairs, and {exact(min_consistency)} is required"
        )
    expected, counts = found.expected_judgments, found.counts
    invalid = max(counts.inference_errors, expected - counts.judgments, 0)
    if expected and invalid / expected > max_error_rate:
        return (
            f"{percent(invalid / expected, max_error_rate)} of {expected} expected judgments are"
            f" invalid or absent, and at most {exact(max_error_rate)} may be"
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
    wins = f"wins {percent(rate.estimate)} of {plural(found.pairs, 'pair')}"
    if rate.low is None or rate.high is None:
        return (
            f"Inconclusive: {candidate} {wins} against {baseline}, but all that counts is a single"
            " independent unit, which has no interval."
        )
    span = f"{level(rate.confidence_level)} interval {percent(rate.low)} to {percent(rate.high)}"
    caveats = []
    if rate.adjusted_for > 1:
        together = level_together(rate.confidence_level, rate.adjusted_for)
        caveats.append(f"{level(together)} for all {rate.adjusted_for} candidates together")
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
