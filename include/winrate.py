"""Statistics of a comparison: pairs and the judge's output in, Comparison and Gate out.

The prompt (or its group) is the unit of every interval, never the judgment: two judgments of one
pair are not independent. Pure functions; scipy is imported where it is used because that is slow.

Pairs with identical responses are ties that nobody asked the judge about. They count as pairs and
ties, but not as judgments, not towards the judge's consistency and not against Nova's counts.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from include.records import (
    CategoryResult,
    Comparison,
    ComparisonVerdict,
    Counts,
    Gate,
    GateOutcome,
    GenerationErrors,
    JudgeOutput,
    Judgment,
    MissingBounds,
    Order,
    Pair,
    Position,
    Preference,
    Reconciliation,
    Verdict,
    WinRate,
)

GateRule = Literal["none", "superiority", "non_inferiority"]

POWER = 0.8
FEW_UNITS = 10
SINGLE_UNIT = "none: a single independent unit"
UNCATEGORIZED = "(none)"
"""The category of prompts without one, where others have one."""

SCORE: dict[Preference, float] = {"candidate": 1.0, "tie": 0.5, "baseline": 0.0}

Metrics = Mapping[str, float | None]


@dataclass(frozen=True)
class Interval:
    """An interval for a mean of scores in [0, 1], and what it was made from."""

    estimate: float | None
    low: float | None
    high: float | None
    standard_error: float | None
    """Of the mean; the largest possible one where the evidence is aggregate."""
    units: int
    """Independent prompts, pairs or groups."""
    method: str


@dataclass(frozen=True)
class Bounds:
    """Both ends of an interval that exists."""

    low: float
    high: float


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
    reconciliation: list[Reconciliation]


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
    if output is None or output.judgments is not None:
        judgments = output.judgments if output and output.judgments else []
        metrics: Metrics = output.metrics if output else {}
        found = _from_rows(prompts, generation_errors, pairs, judgments, metrics, confidence_level)
    else:
        found = _from_metrics(prompts, generation_errors, pairs, output.metrics, confidence_level)
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
        nova=dict(output.metrics) if output else {},
        reconciliation=found.reconciliation,
        unreliable=unreliable,
    )


def verdict_of(win_rate: WinRate) -> ComparisonVerdict:
    """What an interval says about 0.5; no interval says nothing."""
    if win_rate.low is not None and win_rate.low > 0.5:
        return "candidate_better"
    if win_rate.high is not None and win_rate.high < 0.5:
        return "baseline_better"
    return "inconclusive"


def cluster_t_interval(
    scores: Sequence[float],
    clusters: Sequence[str],
    confidence_level: float,
    unit: str = "prompts",
) -> Interval:
    """Interval of a mean score whose clusters, not scores, are independent.

    Notes:
        SE² = G/(G-1) · Σ_g (Σ_{i in g} (s_i - mean))² / n², with the t distribution on G-1 degrees
        of freedom, clipped to [0, 1]. One pair per cluster makes it the ordinary t interval.
        Where SE is 0 (all wins, all losses, all ties, every group split alike) a t interval would
        have no width. A sample without spread does not show that there is none, so Clopper-Pearson
        on G clusters takes its place, with k = mean · G, fractional for ties.
        One cluster has no interval. Below ten clusters the interval is rough, and `method` says so.

    References:
        Miller, Adding Error Bars to Evals, arXiv 2411.00640 (2024), appendix A.
        Cameron and Miller, A Practitioner's Guide to Cluster-Robust Inference,
        J. Human Resources 50(2), 2015, section VI, for G/(G-1) and t on G-1.

    Example:
        >>> found = cluster_t_interval([1, 1, 0, 1, 0.5, 1], list("abcdef"), 0.95)
        >>> round(found.low, 3), found.high
        (0.311, 1.0)
    """
    from scipy.stats import t

    mean = sum(scores) / len(scores)
    sums: defaultdict[str, float] = defaultdict(float)
    for score, cluster in zip(scores, clusters, strict=True):
        sums[cluster] += score - mean
    units = len(sums)
    if units < 2:
        return Interval(mean, None, None, None, units, SINGLE_UNIT)
    squares = sum(total * total for total in sums.values())
    error = math.sqrt(units / (units - 1) * squares) / len(scores)
    if error < 1e-12:
        exact = clopper_pearson(mean * units, units, confidence_level)
        method = f"Clopper-Pearson on {units} {unit}, as the scores have no spread"
        return Interval(mean, exact.low, exact.high, 0.0, units, method + _rough(units))
    half = float(t.ppf((1 + confidence_level) / 2, units - 1)) * error
    low, high = max(0.0, mean - half), min(1.0, mean + half)
    method = f"cluster t on {units} {unit}" + _rough(units)
    return Interval(mean, low, high, error, units, method)


def conservative_interval(
    estimate: float,
    sizes: Sequence[int],
    confidence_level: float,
    *,
    unit: str = "pairs",
    lowest: float | None = None,
    highest: float | None = None,
) -> Interval:
    """Interval of a win rate of which only the total is known.

    Args:
        estimate: The win rate.
        sizes: Pairs per independent unit.
        confidence_level: For example 0.95.
        unit: What the units are called.
        lowest: The win rate if the total hides the most against the candidate; default estimate.
        highest: The same in its favour.

    Notes:
        The spread of pair scores in [0, 1] with a given mean is largest when every pair is a plain
        win or loss and every group agrees with itself, so that is assumed. For groups of equal size
        the effective number of units is then their number, (Σm)²/Σm²; for unequal ones it is less,
        since the large groups may be the ones that deviate.
        The interval is the hull of Clopper-Pearson on that number and of the t interval with that
        largest variance: beta quantiles are the wider near 0 and 1 and for many pairs, t for few.
        So it is never narrower than `cluster_t_interval` of any verdicts with this total.

    References:
        Clopper and Pearson, Biometrika 26 (1934), pages 404-413.
        Kish, Survey Sampling (1965), section 8.2, for the effective number.

    Example:
        >>> found = conservative_interval(10 / 26, [1] * 13, 0.95)
        >>> round(found.low, 3), round(found.high, 3)
        (0.079, 0.691)
    """
    units = len(sizes)
    if units < 2:
        return Interval(estimate, None, None, None, units, SINGLE_UNIT)
    low = _widest(estimate if lowest is None else lowest, sizes, confidence_level).low
    high = _widest(estimate if highest is None else highest, sizes, confidence_level).high
    error = math.sqrt(units / (units - 1) * _largest_variance(estimate, sizes))
    method = f"conservative (hull of Clopper-Pearson and t, largest variance) on {units} {unit}"
    return Interval(estimate, low, high, error, units, method + _rough(units))


def _widest(rate: float, sizes: Sequence[int], confidence_level: float) -> Bounds:
    from scipy.stats import t

    units, variance = len(sizes), _largest_variance(rate, sizes)
    kish = sum(sizes) ** 2 / sum(size * size for size in sizes)
    effective = rate * (1 - rate) / variance if variance > 1e-12 else kish
    exact = clopper_pearson(rate * effective, effective, confidence_level)
    error = math.sqrt(units / (units - 1) * variance)
    half = float(t.ppf((1 + confidence_level) / 2, units - 1)) * error
    return Bounds(max(0.0, min(exact.low, rate - half)), min(1.0, max(exact.high, rate + half)))


def _largest_variance(estimate: float, sizes: Sequence[int]) -> float:
    """An upper bound of Σ w²(s - mean)² over all s in [0, 1] with Σ ws = mean, w = m/Σm.

    (s - mean)² lies below its chord over [0, 1], which is linear in s: a fractional knapsack,
    filled from the largest group.
    """
    rarer = min(estimate, 1 - estimate)
    total, left, variance = sum(sizes), rarer, 0.0
    for size in sorted(sizes, reverse=True):
        weight = size / total
        filled = min(1.0, max(0.0, left) / weight)
        variance += weight**2 * (rarer**2 + filled * (1 - 2 * rarer))
        left -= filled * weight
    return variance


def clopper_pearson(k: float, n: float, confidence_level: float) -> Bounds:
    """Exact binomial interval; k and n may be fractional, as beta quantiles allow.

    Notes:
        Conservative: covers at least the confidence level. Above 0 for k > 0 and below 1 for k < n.

    References:
        Clopper and Pearson, Biometrika 26 (1934), pages 404-413.

    Example:
        >>> found = clopper_pearson(9, 12, 0.95)
        >>> round(found.low, 3), round(found.high, 3)
        (0.428, 0.945)
    """
    from scipy.stats import beta

    tail = (1 - confidence_level) / 2
    low = float(beta.ppf(tail, k, n - k + 1)) if k > 1e-9 else 0.0
    high = float(beta.ppf(1 - tail, k + 1, n - k)) if n - k > 1e-9 else 1.0
    return Bounds(low, high)


def sign_test(wins: int, losses: int) -> float | None:
    """Exact two-sided p-value of wins against losses; None when nothing was decided.

    Notes:
        Ties are left out. Pairs are treated as independent, so with grouped prompts the p-value is
        too small; the interval, not this test, gives the verdict.

    References:
        Dixon and Mood, The Statistical Sign Test, JASA 41 (1946), pages 557-566.

    Example:
        >>> round(sign_test(9, 3), 3)
        0.146
    """
    from scipy.stats import binomtest

    if wins + losses == 0:
        return None
    return float(binomtest(wins, wins + losses).pvalue)


def detectable_effect(interval: Interval, confidence_level: float) -> float | None:
    """Distance from 0.5 that these pairs show with 80 % power; None: not even 0.5.

    Notes:
        (t_{1-alpha/2} + t_{0.8}) · SE with G-1 degrees of freedom. Where the scores have no spread,
        that of a fair coin stands in.

    References:
        Miller, Adding Error Bars to Evals, arXiv 2411.00640 (2024), section 5, solved for delta.

    Example:
        >>> known = Interval(0.5, 0.4, 0.6, 0.05, 100, "")
        >>> round(detectable_effect(known, 0.95), 3)
        0.141
    """
    from scipy.stats import t

    if interval.standard_error is None:
        return None
    error = interval.standard_error or 0.5 / math.sqrt(interval.units)
    free = interval.units - 1
    effect = float(t.ppf((1 + confidence_level) / 2, free) + t.ppf(POWER, free)) * error
    return effect if effect <= 0.5 else None


def needed_pairs(interval: Interval, pairs: int, confidence_level: float) -> int | None:
    """Pairs that show the estimated win rate with 80 % power; None at exactly 0.5 or unknown.

    Notes:
        n = ((z_{1-alpha/2} sd_0 + z_{0.8} sd_1) / delta)², sd_1 the spread per pair that was seen
        (n · SE², so grouping is included) and sd_0² = sd_1² + delta² that about 0.5. Never fewer
        than it takes when one model wins every pair. Normal approximation: rough below 30.

    References:
        Chow, Shao and Wang, Sample Size Calculations in Clinical Research (2003), section 4.1.

    Example:
        >>> known = Interval(0.6, 0.5, 0.7, math.sqrt(0.24 / 100), 100, "")
        >>> needed_pairs(known, 100, 0.95)
        194
    """
    from scipy.stats import norm

    estimate, error = interval.estimate, interval.standard_error
    if estimate is None or error is None or math.isclose(estimate, 0.5, abs_tol=1e-9):
        return None
    delta = estimate - 0.5
    tail = (1 - confidence_level) / 2
    seen = pairs * error * error
    quantiles = float(norm.isf(tail)), float(norm.ppf(POWER))
    root = quantiles[0] * math.sqrt(seen + delta**2) + quantiles[1] * math.sqrt(seen)
    least = math.ceil(math.log2(1 / tail)) * pairs / interval.units
    return math.ceil(max((root / delta) ** 2, least))


def _rough(units: int) -> str:
    return "; fewer than ten, so rough" if units < FEW_UNITS else ""


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
    metrics: Metrics,
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
        reconciliation=reconcile(metrics, rows, win_rate, judged),
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
        reconciliation=reconcile(metrics, None, win_rate, judged),
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


def reconcile(
    metrics: Metrics, rows: Sequence[ResolvedPair] | None, win_rate: WinRate, judged: int
) -> list[Reconciliation]:
    """Nova's numbers beside ours; rows are None without per-pair details, metrics may lack keys."""
    if not metrics and not any(row.judgments for row in rows or []):
        return []
    counted: dict[str, float | None] = dict.fromkeys(_COUNTED)
    if rows is not None:
        said = [judgment.preference for row in rows for judgment in row.judgments]
        counted = {key: said.count(preference) for key, preference in _COUNTED.items()}
    results = [
        Reconciliation(key, metrics.get(key), value, "judgments", _note(key, metrics.get(key)))
        for key, value in counted.items()
    ]
    known = [value for key in _COUNTED if (value := metrics.get(key)) is not None]
    total = "Nova: sum of its counts; ours: two judgments per judged pair"
    results.append(
        Reconciliation("total", sum(known) if known else None, 2 * judged, "judgments", total)
    )
    basis = metrics if rows is None else counted
    wins, losses = basis.get("b_scores"), basis.get("a_scores")
    share = None
    if wins is not None and losses is not None and wins + losses > 0:
        share = wins / (wins + losses)
    ours = "unknown" if win_rate.estimate is None else f"{win_rate.estimate:.3f}"
    ties_out = f"b / (a + b), ties left out; with ties half our win rate is {ours}"
    results.append(Reconciliation("winrate", metrics.get("winrate"), share, "share", ties_out))
    for key, bound in (("lower_rate", win_rate.low), ("upper_rate", win_rate.high)):
        note = f"Nova: bootstrap, unit unknown; ours: {win_rate.method}"
        results.append(Reconciliation(key, metrics.get(key), bound, "share", note))
    return results


_COUNTED: dict[str, Preference | None] = {
    "a_scores": "baseline",
    "b_scores": "candidate",
    "ties": "tie",
    "inference_error": None,
}


def _note(key: str, value: float | None) -> str:
    if value is None:
        return "not in the judge's metrics"
    return {
        "a_scores": "judgments for the baseline, both orders",
        "b_scores": "judgments for the candidate, both orders",
        "ties": "judgments without a preference; inconsistent pairs are not among them",
        "inference_error": "judgments that could not be made",
    }[key]


def mismatches(comparison: Comparison) -> list[Reconciliation]:
    """The numbers in which Nova's metrics contradict ours.

    Counts must be equal; Nova's win rate may be rounded to two decimals; intervals are computed
    differently, so they cannot contradict each other.
    """
    return [
        row
        for row in comparison.reconciliation
        if row.nova is not None
        and row.recomputed is not None
        and row.metric not in ("lower_rate", "upper_rate")
        and abs(row.nova - row.recomputed) > (0.01 if row.unit == "share" else 0.5)
    ]


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


def decide_gate(comparisons: Sequence[Comparison], rule: GateRule, margin: float) -> Gate:
    """Decide about the run; of several candidates the worst one decides.

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
        return Gate("inconclusive", f"{name}: {comparison.unreliable}.")
    if rate.low is None or rate.high is None:
        return Gate("inconclusive", f"{name}: the win rate has no interval ({rate.method}).")
    wanted = f"{rule} needs a win rate above {percent(threshold)}"
    span = f"{name}'s interval is {percent(rate.low)} to {percent(rate.high)}"
    outcome: GateOutcome = "inconclusive"
    if rate.low > threshold:
        outcome = "pass"
    elif rate.high < threshold:
        outcome = "fail"
    passed_only_here = outcome == "pass" and missing.low is not None and missing.low <= threshold
    failed_only_here = outcome == "fail" and missing.high is not None and missing.high >= threshold
    if passed_only_here or failed_only_here:
        return Gate("inconclusive", f"{wanted}; {span}, but the missing pairs could change that.")
    return Gate(outcome, f"{wanted}; {span}.")
