"""Intervals and tests for shares: plain numbers in, Interval or p-value out.

The unit of every interval is what is independent: a prompt, a pair, or a group of them. Quantiles
come from scipy.special, imported where they are used: scipy.stats has the same numbers, and takes
three times as long to import, which every task would pay.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

POWER = 0.8
FEW_UNITS = 10
WEIGHTS = 4
"""Steps between the bounds of the design effect that are looked at where it is not known."""
SINGLE_UNIT = "none: a single independent unit"
NOTHING = "none: there is nothing to count"


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


def cluster_t_interval(
    scores: Sequence[float],
    clusters: Sequence[str],
    confidence_level: float,
    unit: str = "prompts",
    added: str = "one win and one loss",
) -> Interval:
    """Interval of a mean score whose clusters, not scores, are independent.

    Args:
        scores: Each from 0 to 1.
        clusters: What each score belongs to.
        confidence_level: For example 0.95.
        unit: What the clusters are called.
        added: What the two imagined scores, 1 and 0, are called.

    Notes:
        The standard error is that of the scores as they are, robust to clusters:
        SE² = G/(G-1) · Σ_g (Σ_{i in g} (s_i - mean))² / n² for G clusters.
        The interval is the t interval on G-1 degrees of freedom, clipped to [0, 1], of the same
        scores and two imagined ones, a 1 and a 0, each a cluster of its own. Without them it would
        be too narrow where wins or losses are rare, and have no width where all scores are equal:
        at a win rate of 95 % of 100 prompts it would hold the truth 88 times in 100, not 95.
        Each of the two weighs as much as one independent unit: the design effect, which is SE²
        over that of as many independent scores, from 1 up to the clusters' mean size. Scores
        without spread do not tell the design effect; the largest is taken.
        One cluster has no interval. Below ten clusters the interval is rough, and `method` says so.

    References:
        Miller, Adding Error Bars to Evals, arXiv 2411.00640 (2024), appendix A.
        Cameron and Miller, A Practitioner's Guide to Cluster-Robust Inference,
        J. Human Resources 50(2), 2015, section VI, for G/(G-1) and t on G-1.
        Bonett and Price, Adjusted Wald Confidence Interval for a Difference of Binomial
        Proportions Based on Paired Data, J. Educational and Behavioral Statistics 37(4), 2012,
        for the two imagined pairs; Kish, Survey Sampling (1965), for design effect and mean size.

    Example:
        >>> found = cluster_t_interval([1, 1, 0, 1, 0.5, 1], list("abcdef"), 0.95)
        >>> round(found.low, 3), found.high
        (0.271, 1.0)
    """
    from scipy.special import stdtrit

    if not scores:
        return Interval(None, None, None, None, 0, NOTHING)
    count, mean = len(scores), sum(scores) / len(scores)
    sums: defaultdict[str, float] = defaultdict(float)
    sizes: defaultdict[str, int] = defaultdict(int)
    for score, cluster in zip(scores, clusters, strict=True):
        sums[cluster] += score
        sizes[cluster] += 1
    units = len(sums)
    if units < 2:
        return Interval(mean, None, None, None, units, SINGLE_UNIT)
    known = [(sums[cluster], float(sizes[cluster])) for cluster in sums]
    error = _clustered_error(known)
    alone = sum((score - mean) ** 2 for score in scores) / count / (count - 1)
    weight = _weight(error, alone, list(sizes.values()))
    centre, half = _with_two_added(known, weight)
    half *= float(stdtrit(units - 1, (1 + confidence_level) / 2))
    method = f"cluster t on {units} {unit}, {added} added" + rough(units)
    # Below a level of 68 % the two that were added could push the mean out of its own interval.
    low, high = min(mean, centre - half), max(mean, centre + half)
    return Interval(mean, max(0.0, low), min(1.0, high), error, units, method)


Totals = Sequence[tuple[float, float]]
"""Of each cluster: the sum of its scores, and how many they are."""


def _clustered_error(clusters: Totals) -> float:
    units, count = len(clusters), sum(size for _, size in clusters)
    mean = sum(total for total, _ in clusters) / count
    squares = sum((total - size * mean) ** 2 for total, size in clusters)
    return math.sqrt(units / (units - 1) * squares) / count


def _with_two_added(clusters: Totals, weight: float) -> tuple[float, float]:
    """Mean and standard error with two more clusters, one of ones and one of zeros."""
    more = [*clusters, (weight, weight), (0.0, weight)]
    mean = sum(total for total, _ in more) / sum(size for _, size in more)
    return mean, _clustered_error(more)


def _weight(error: float, alone: float, sizes: Sequence[int]) -> float:
    """How many scores count as one independent unit: the design effect, within its bounds."""
    most = mean_size(sizes)
    return most if alone < 1e-12 else min(most, max(1.0, error * error / alone))


def mean_size(sizes: Collection[int]) -> float:
    """Return the size of the cluster that a score finds itself in, on average."""
    return sum(size * size for size in sizes) / sum(sizes)


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
        The interval is the hull of Clopper-Pearson on that number and of the t intervals that
        `cluster_t_interval` may give with that largest variance. So it is never narrower than that
        of any verdicts with this total, and holds the truth at least as often as it says.

    References:
        Clopper and Pearson, Biometrika 26 (1934), pages 404-413.
        Kish, Survey Sampling (1965), section 8.2, for the effective number.

    Example:
        >>> found = conservative_interval(10 / 26, [1] * 13, 0.95)
        >>> round(found.low, 3), round(found.high, 3)
        (0.115, 0.685)
    """
    units = len(sizes)
    if units < 2:
        return Interval(estimate, None, None, None, units, SINGLE_UNIT)
    low = _widest(estimate if lowest is None else lowest, sizes, confidence_level).low
    high = _widest(estimate if highest is None else highest, sizes, confidence_level).high
    error = math.sqrt(units / (units - 1) * _largest_variance(estimate, sizes))
    method = f"conservative (hull of Clopper-Pearson and t, largest variance) on {units} {unit}"
    return Interval(estimate, low, high, error, units, method + rough(units))


def _widest(rate: float, sizes: Sequence[int], confidence_level: float) -> Bounds:
    from scipy.special import stdtrit

    units, variance, total = len(sizes), _largest_variance(rate, sizes), sum(sizes)
    effective = rate * (1 - rate) / variance if variance > 1e-12 else total / mean_size(sizes)
    exact = clopper_pearson(rate * effective, effective, confidence_level)
    quantile = float(stdtrit(units - 1, (1 + confidence_level) / 2))
    lows, highs = [exact.low], [exact.high]
    most = mean_size(sizes)
    for step in range(WEIGHTS + 1):
        weight = 1 + (most - 1) * step / WEIGHTS  # between its bounds; which one is not known
        centre = (rate * total + weight) / (total + 2 * weight)
        spread = _largest_variance(centre, [*sizes, weight, weight])
        half = quantile * math.sqrt((units + 2) / (units + 1) * spread)
        lows.append(centre - half)
        highs.append(centre + half)
    return Bounds(max(0.0, min(lows)), min(1.0, max(highs)))


def _largest_variance(estimate: float, sizes: Sequence[float]) -> float:
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
    from scipy.special import betaincinv

    tail = (1 - confidence_level) / 2
    low = float(betaincinv(k, n - k + 1, tail)) if k > 1e-9 else 0.0
    high = float(betaincinv(k + 1, n - k, 1 - tail)) if n - k > 1e-9 else 1.0
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
    from scipy.special import bdtr

    if wins + losses == 0:
        return None
    return min(1.0, 2 * float(bdtr(min(wins, losses), wins + losses, 0.5)))


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
    from scipy.special import stdtrit

    if interval.standard_error is None:
        return None
    error = interval.standard_error or 0.5 / math.sqrt(interval.units)
    free = interval.units - 1
    effect = float(stdtrit(free, (1 + confidence_level) / 2) + stdtrit(free, POWER)) * error
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
    from scipy.special import ndtri

    estimate, error = interval.estimate, interval.standard_error
    if estimate is None or error is None or math.isclose(estimate, 0.5, abs_tol=1e-9):
        return None
    delta = estimate - 0.5
    tail = (1 - confidence_level) / 2
    seen = pairs * error * error
    quantiles = float(ndtri(1 - tail)), float(ndtri(POWER))
    root = quantiles[0] * math.sqrt(seen + delta**2) + quantiles[1] * math.sqrt(seen)
    least = math.ceil(math.log2(1 / tail)) * pairs / interval.units
    return math.ceil(max((root / delta) ** 2, least))


def level_of_each(together: float, intervals: int) -> float:
    """Return the confidence level of each of several intervals that hold together (Bonferroni).

    Args:
        together: The level of all of them at once, for example 0.95.
        intervals: How many there are; fewer than two need no adjustment.

    References:
        Dunn, "Multiple comparisons among means", Journal of the American Statistical Association
        56 (1961).

    Example:
        >>> round(level_of_each(0.95, 5), 10)
        0.99
    """
    return 1 - (1 - together) / max(1, intervals)


def level_together(each: float, intervals: int) -> float:
    """Return the level of several intervals together, of which each has its own: the way back.

    Example:
        >>> round(level_together(0.99, 5), 10)
        0.95
    """
    return 1 - (1 - each) * max(1, intervals)


def rough(units: int) -> str:
    """Return what `method` adds where there are few units."""
    return "; fewer than ten, so rough" if units < FEW_UNITS else ""
