"""People's preferences beside the judge's: plain scores and words in, Interval out.

As in `intervals`, the unit of every interval is what is independent: a prompt, or a group of them.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from include.intervals import (
    NOTHING,
    SINGLE_UNIT,
    Interval,
    mean_size,
    rough,
)
from include.rates import share
from include.records import Kappa, Rate


@dataclass(frozen=True)
class Scored:
    """One pair with its scores from 0 to 1."""

    unit: str
    """What it is independent of all others with."""
    judge: float
    human: float | None
    """People's; None: nobody was asked."""
    is_certain: bool = False
    """People's score is the judge's, and nobody has to be asked."""


@dataclass(frozen=True)
class Corrected:
    """A mean score as people would give it, told from few labels and many of the judge's scores."""

    interval: Interval
    """Its units are those with a label."""
    weight: float | None
    """How far the judge's scores are used, from 0 (not at all) to 1; None without labels."""


@dataclass(frozen=True)
class _Mean:
    """A mean that is linear in the weight: `human + weight * judge`, and what moves it."""

    human: float
    judge: float
    moves: list[tuple[float, float]]
    """Of each unit, how far it moves either part."""


def corrected_interval(
    pairs: Sequence[Scored],
    confidence_level: float,
    unit: str = "prompts",
    weight: float | None = None,
) -> Corrected:
    """Interval of the mean score that people would give to all pairs.

    Args:
        pairs: All of them; those with a label are a random part of those that are not certain.
        confidence_level: For example 0.95.
        unit: What the units are called.
        weight: Of the judge's scores; default: the one that makes the interval narrowest.

    Notes:
        theta = mean of lambda f over all N pairs + mean of (y - lambda f) over the n with a label;
        y is the label, f the judge's score, lambda the weight. Whatever lambda is, theta estimates
        the mean of y, however wrong the judge.
        The n are some of the N, so the two means depend on each other: unit g moves theta by
        u_g = Σ_{i in g} lambda (f_i - mean f) / N + Σ_{labelled i in g} (e_i - mean e) / n with
        e = y - lambda f, and SE² = G/(G-1) Σ u_g² with G the units that have a label, which are
        the few. u_g is linear in lambda, so the best one is a least squares slope; it is clipped to
        [0, 1]. With independent pairs it is Cov(y, f) / Var(f), the optimum of PPI++, which leaves
        the n out of the N and calls lambda (N - n) / N what is lambda here.
        A pair that is certain enters with its own e, not with the mean.
        The interval is t on G-1 degrees of freedom, clipped to [0, 1], of the same pairs and two
        imagined labels that contradict the judge, one each way; each is a unit of its own that
        weighs as much as the labels' mean unit. Without them, ten labels that all agree with the
        judge would prove that people always do.
        One unit with a label has no interval. Below ten the interval is rough; `method` says so.

    References:
        Angelopoulos, Bates, Fannjiang, Jordan and Zrnic, Prediction-Powered Inference, Science 382
        (2023). Angelopoulos, Duchi and Zrnic, PPI++, arXiv 2311.01453 (2023), for the weight.
        Särndal, Swensson and Wretman, Model Assisted Survey Sampling (1992), chapter 6, for labels
        of a part of the pairs. The rest is that of `intervals.cluster_t_interval`.

    Example:
        >>> judge = [1.0, 0.0, 1.0, 1.0] * 50
        >>> human = [1.0, 0.0, 0.0, 1.0] * 10 + [None] * 160
        >>> pairs = [Scored(f"p{i}", *each) for i, each in enumerate(zip(judge, human))]
        >>> found = corrected_interval(pairs, 0.95).interval
        >>> round(found.estimate, 3), round(found.low, 3), round(found.high, 3)
        (0.5, 0.362, 0.65)
    """
    from scipy.special import stdtrit

    sizes = Counter(pair.unit for pair in pairs if _is_labelled(pair))
    units = len(sizes)
    if not units:
        return Corrected(Interval(None, None, None, None, 0, NOTHING), None)
    imagined = _with_imagined(pairs, mean_size(sizes.values()))
    used = _best_weight(imagined.moves) if weight is None else weight
    plain = _with_imagined(pairs, 0.0)
    estimate = plain.human + used * plain.judge
    if units < 2:
        return Corrected(Interval(estimate, None, None, None, units, SINGLE_UNIT), used)
    half = _error(imagined.moves, used, units + 2)
    half *= float(stdtrit(units - 1, (1 + confidence_level) / 2))
    centre = imagined.human + used * imagined.judge
    method = (
        f"PPI++ with weight {used:.2f}, cluster t on {units} labelled {unit}, "
        f"two labels against the judge added{rough(units)}"
    )
    low, high = min(estimate, centre - half), max(estimate, centre + half)
    error = _error(plain.moves, used, units)
    found = Interval(estimate, max(0.0, low), min(1.0, high), error, units, method)
    return Corrected(found, used)


def _is_labelled(pair: Scored) -> bool:
    return pair.human is not None and not pair.is_certain


def _with_imagined(pairs: Sequence[Scored], size: float) -> _Mean:
    """Both parts of the mean, with two imagined labels that weigh as much as `size` each."""
    labelled = [(pair.human or 0.0, pair.judge) for pair in pairs if _is_labelled(pair)]
    weight = len(labelled) + 2 * size
    human = (sum(y for y, _ in labelled) + size) / weight
    judge = (sum(f for _, f in labelled) + size) / weight
    said = [(pair.judge, 0.0) if pair.is_certain else (human, pair.judge - judge) for pair in pairs]
    means = (math.fsum(y for y, _ in said) / len(said), math.fsum(f for _, f in said) / len(said))
    share = sum(not pair.is_certain for pair in pairs) / len(pairs) / weight
    moves: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for pair, (y, f) in zip(pairs, said, strict=True):
        move = moves[pair.unit]
        move[0] += (y - means[0]) / len(pairs)
        move[1] += (f - means[1]) / len(pairs)
        if _is_labelled(pair):
            move[0] += share * ((pair.human or 0.0) - human)
            move[1] -= share * (pair.judge - judge)
    against = [(size * share * (y - human), -size * share * (1 - y - judge)) for y in (1.0, 0.0)]
    return _Mean(*means, [*((first, second) for first, second in moves.values()), *against])


def _best_weight(moves: Sequence[tuple[float, float]]) -> float:
    """The weight with which the units move the mean least."""
    square = sum(judge * judge for _, judge in moves)
    slope = -sum(human * judge for human, judge in moves) / square if square else 0.0
    return min(1.0, max(0.0, slope))


def _error(moves: Sequence[tuple[float, float]], weight: float, units: int) -> float:
    squares = sum((human + weight * judge) ** 2 for human, judge in moves)
    return math.sqrt(units / (units - 1) * squares)


@dataclass(frozen=True)
class Rated:
    """One pair with what people and the judge say of it."""

    unit: str
    human: str
    judge: str
    weight: float = 1.0


def kappa_interval(
    pairs: Sequence[Rated],
    opposites: tuple[str, str],
    confidence_level: float,
    unit: str = "prompts",
) -> Interval:
    """Interval of Cohen's kappa: agreement beyond chance, 0 for none, 1 if they always agree.

    Args:
        pairs: Those with a label.
        opposites: Two of the words that contradict each other.
        confidence_level: For example 0.95.
        unit: What the units are called.

    Notes:
        kappa = 1 - (1 - p_o) / (1 - p_e), p_o the share that agrees and p_e the one that would by
        chance, from how often each says what. Its standard error is that of its linearization
        (delta method), summed by unit with G/(G-1); with independent pairs that is Fleiss, Cohen
        and Everitt's. The interval is t on G-1 degrees of freedom of the same pairs and four
        imagined ones, one for each way in which two can name one of the opposites; alone they have
        kappa 0. Without them it holds the truth 74 times in 100, not 95, of twenty pairs where
        kappa is 0.9.
        No kappa where both always say the same one thing; no interval for one unit.

    References:
        Cohen, A Coefficient of Agreement for Nominal Scales, Educational and Psychological
        Measurement 20 (1960). Fleiss, Cohen and Everitt, Large Sample Standard Errors of Kappa and
        Weighted Kappa, Psychological Bulletin 72 (1969). The imagined pairs follow Agresti and
        Caffo, The American Statistician 54 (2000), who add four; simulated in tests.

    Example:
        >>> said = [("a", "a")] * 20 + [("b", "b")] * 15 + [("a", "b")] * 5 + [("b", "a")] * 10
        >>> pairs = [Rated(f"p{i}", *both) for i, both in enumerate(said)]
        >>> found = kappa_interval(pairs, ("a", "b"), 0.95)
        >>> round(found.estimate, 3), round(found.low, 3), round(found.high, 3)
        (0.4, 0.118, 0.622)
    """
    from scipy.special import stdtrit

    sizes = Counter(pair.unit for pair in pairs)
    units = len(sizes)
    if not units:
        return Interval(None, None, None, None, 0, NOTHING)
    estimate, moves = _kappa(pairs)
    if estimate is None:
        return Interval(None, None, None, None, units, "none: both always say the same")
    if units < 2:
        return Interval(estimate, None, None, None, units, SINGLE_UNIT)
    size = mean_size(sizes.values())
    four = [Rated(f"imagined {y} {f}", y, f, size) for y in opposites for f in opposites]
    centre, more = _kappa([*pairs, *four])
    half = _error([(move, 0.0) for move in more], 0.0, units + 4)
    half *= float(stdtrit(units - 1, (1 + confidence_level) / 2))
    middle = centre or 0.0
    method = f"delta method, cluster t on {units} {unit}, four pairs of no agreement added"
    return Interval(
        estimate,
        max(-1.0, min(estimate, middle - half)),
        min(1.0, max(estimate, middle + half)),
        _error([(move, 0.0) for move in moves], 0.0, units),
        units,
        method + rough(units),
    )


def agree(pairs: Sequence[Rated], confidence_level: float, unit: str) -> tuple[Rate, Kappa]:
    """Say how often two prefer the same, and how much of that is beyond chance.

    Args:
        pairs: With a preference of both.
        confidence_level: Of both intervals.
        unit: What the units are called.
    """
    same = [pair.human == pair.judge for pair in pairs]
    observed = [(so, pair.unit) for so, pair in zip(same, pairs, strict=True)]
    rate = share(observed, confidence_level, unit)
    kappa = kappa_interval(pairs, ("baseline", "candidate"), confidence_level, unit)
    return rate, Kappa(kappa.estimate, kappa.low, kappa.high, confidence_level, kappa.method)


def _kappa(pairs: Sequence[Rated]) -> tuple[float | None, list[float]]:
    """Kappa, None where it is not defined, and how far each unit moves it."""
    total = sum(pair.weight for pair in pairs)
    human: defaultdict[str, float] = defaultdict(float)
    judge: defaultdict[str, float] = defaultdict(float)
    for pair in pairs:
        human[pair.human] += pair.weight / total
        judge[pair.judge] += pair.weight / total
    agree = sum(pair.weight for pair in pairs if pair.human == pair.judge) / total
    chance = sum(share * judge[word] for word, share in human.items())
    if chance > 1 - 1e-12:
        return None, []
    moves: defaultdict[str, float] = defaultdict(float)
    for pair in pairs:
        of_agree = (pair.human == pair.judge) - agree
        of_chance = judge[pair.human] + human[pair.judge] - 2 * chance
        move = of_agree / (1 - chance) - (1 - agree) / (1 - chance) ** 2 * of_chance
        moves[pair.unit] += pair.weight * move / total
    return 1 - (1 - agree) / (1 - chance), list(moves.values())
