"""How many prompts it takes: a win rate to find and what is known of the judge in, prompts out.

The test is the exact sign test of won against lost pairs, whose number is itself chance: every pair
is a tie with a known probability. The interval that decides is about as strict.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from include.config import GateRule
from include.gate import RULES
from include.intervals import level_of_each
from include.records import Comparison
from include.wording import exact, level, percent, plural

if TYPE_CHECKING:
    from numpy import ndarray

    Shares = ndarray[Any, Any]

EFFECTS = (0.52, 0.55, 0.6, 0.65, 0.7, 0.75)
"""Win rates that a table of plans shows."""

POWERS = (0.8, 0.9)

CONSISTENCY = 0.65
"""Share of pairs on which both orders of GPT-4 agreed: Zheng et al., Judging LLM-as-a-Judge with
MT-Bench and Chatbot Arena, arXiv 2306.05685 (2023), table 2. Nova's is known after a run."""

CORRELATION = 0.2
"""Between the scores of prompts of one group, where nothing is known."""

MOST_PROMPTS = 100_000


@dataclass(frozen=True)
class Assumptions:
    """What a plan takes for granted."""

    ties: float
    """Share of pairs that come to a tie, by the judge's verdicts or because its orders disagree."""
    design_effect: float
    """How many prompts count as one independent prompt; 1 where they have no groups."""
    told: str
    """Where that comes from, as a sentence."""
    confidence_level: float = 0.95
    """Of all candidates' intervals together."""
    candidates: int = 1
    single_group: bool = False
    """All prompts are of one group: a single independent unit, which has no interval."""

    @property
    def alpha(self) -> float:
        """How often one candidate's interval may miss: Bonferroni's share."""
        return 1 - level_of_each(self.confidence_level, self.candidates)


@dataclass(frozen=True)
class Groups:
    """Prompts that are not independent, in groups."""

    count: int
    size: float
    """Of the group that a prompt finds itself in, on average: Σ n² / Σ n."""


@dataclass(frozen=True)
class Plan:
    """What it takes to find one win rate."""

    win_rate: float
    of_decided: float | None
    """Share of the pairs without ties that are won then; None: so many ties rule it out."""
    prompts: dict[float, int | None]
    """By power; None where a hundred thousand would not do."""


def measure(groups: Iterable[str | None]) -> Groups | None:
    """Measure the groups of prompts, one entry each; None where no prompt has one.

    Example:
        >>> measure(["a", "a", "a", "b"]), measure([None, None])
        (Groups(count=2, size=2.5), None)
    """
    sizes: Counter[object] = Counter(
        ("its own", number) if group is None else group for number, group in enumerate(groups)
    )
    if all(isinstance(group, tuple) for group in sizes):
        return None
    return Groups(len(sizes), sum(n * n for n in sizes.values()) / sum(sizes.values()))


def assume(
    *,
    confidence_level: float,
    candidates: int,
    consistency: float = CONSISTENCY,
    correlation: float = CORRELATION,
    groups: Groups | None = None,
) -> Assumptions:
    """Assume what no run has shown yet.

    Args:
        confidence_level: Of all candidates' intervals together.
        candidates: How many.
        consistency: Share of pairs on which the judge's orders agree; all others are ties.
        correlation: Between scores of one group, 0 to 1.
        groups: As `measure` returns them.

    Notes:
        The design effect is 1 + (size - 1) · correlation.

    References:
        Kish, Survey Sampling (1965), section 5.4.
    """
    whose = "GPT-4's on MT-bench" if consistency == CONSISTENCY else "as given"
    told = (
        f"assumed: the judge's two orders agree on {percent(consistency)} of the pairs ({whose}), "
        f"so {percent(1 - consistency)} are ties"
    )
    effect = 1.0
    if groups:
        effect = 1 + (groups.size - 1) * correlation
        told += (
            f"; scores within one of the {groups.count:,} groups correlate by {correlation:g}, so "
            f"{effect:.3g} prompts count as one"
        )
    single = groups is not None and groups.count < 2
    return Assumptions(1 - consistency, effect, told, confidence_level, candidates, single)


def learn(comparison: Comparison, *, confidence_level: float, candidates: int) -> Assumptions:
    """Take ties and the groups' design effect from a comparison that was made.

    Totals do not tell pairs, so with aggregate evidence it is assumed what no run has shown.
    """
    counts = comparison.counts
    wins, losses, ties, pairs = (
        counts.candidate_wins,
        counts.baseline_wins,
        counts.ties,
        counts.pairs,
    )
    assumed = assume(confidence_level=confidence_level, candidates=candidates)
    if not pairs or wins is None or losses is None or ties is None:
        told = f"the run's judge left no pairs to learn from; {assumed.told}"
        return replace(assumed, told=told)
    told = f"as in that run, {percent(ties / pairs)} of the pairs are ties"
    effect = _design_effect(comparison, wins, losses, pairs)
    if effect > 1:
        told += f", and by their groups {effect:.3g} prompts count as one"
    single = comparison.win_rate.units == 1 and pairs > 1
    return Assumptions(ties / pairs, effect, told, confidence_level, candidates, single)


def _design_effect(comparison: Comparison, wins: int, losses: int, pairs: int) -> float:
    """SE² over that of as many independent pairs, at least 1; without spread, the mean group."""
    error, units = comparison.win_rate.standard_error, comparison.win_rate.units
    if error is None or not units or units >= pairs:
        return 1.0
    mean = 0.5 + (wins - losses) / pairs / 2
    variance = (wins + losses) / pairs / 4 - (mean - 0.5) ** 2
    return pairs / units if variance < 1e-9 else max(1.0, error**2 * (pairs - 1) / variance)


def power(prompts: int, win_rate: float, assumptions: Assumptions) -> float:
    """Chance that so many prompts show a win rate; 0 where ties rule it out.

    Notes:
        Of n = prompts / design effect independent pairs, D ~ Binomial(n, 1 - ties) are decided, of
        which the candidate wins Binomial(D, d), d = 0.5 + (win rate - 0.5) / (1 - ties). The sign
        test of level alpha is exact for every D; only rejections to the right side count.

    References:
        Dixon and Mood, The Statistical Sign Test, JASA 41 (1946), pages 557-566.

    Example:
        >>> round(power(199, 0.6, Assumptions(0.0, 1.0, "")), 3)
        0.804
    """
    share = of_decided(win_rate, assumptions.ties)
    units = math.floor(prompts / assumptions.design_effect + 1e-9)
    if share is None or units < 1:
        return 0.0
    return _power(units, assumptions.ties, _found(units, share, assumptions.alpha))


def _power(units: int, ties: float, found: Shares) -> float:
    """Mean of `found`, by number of decided pairs, over the binomial number of these."""
    import numpy as np
    from scipy.stats import binom

    middle, reach = units * (1 - ties), 8 * math.sqrt(units * ties * (1 - ties))
    least, most = max(0, math.floor(middle - reach)), min(units, math.ceil(middle + reach))
    weights = binom.pmf(np.arange(least, most + 1), units, 1 - ties)
    return float(weights @ found[least : most + 1])


def _found(most: int, share: float, alpha: float) -> Shares:
    """Chance that the sign test shows a share, of 0, 1, ... `most` decided pairs."""
    import numpy as np
    from scipy.stats import binom

    decided = np.arange(most + 1)
    # The better one loses at most as many as a fair coin does in alpha/2 of all cases.
    losses = binom.ppf(alpha / 2, decided, 0.5)
    losses = np.where(binom.cdf(losses, decided, 0.5) <= alpha / 2, losses, losses - 1)
    return np.asarray(binom.cdf(losses, decided, min(share, 1 - share)))


def of_decided(win_rate: float, ties: float) -> float | None:
    """Share of decided pairs that a win rate with ties half means; None if above 1 or below 0.

    Example:
        >>> round(of_decided(0.6, 0.5), 3)
        0.7
    """
    share = 0.5 + (win_rate - 0.5) / (1 - ties) if ties < 1 else math.inf
    return min(1.0, max(0.0, share)) if -1e-9 < share < 1 + 1e-9 else None


def needed_prompts(win_rate: float, wanted: float, assumptions: Assumptions) -> int | None:
    """Fewest prompts that show a win rate with the wanted power; None above a hundred thousand.

    Notes:
        Exact power goes up in a sawtooth; this is the first number that reaches what is wanted.

    Example:
        >>> needed_prompts(0.6, 0.8, Assumptions(0.0, 1.0, ""))
        199
    """
    share = of_decided(win_rate, assumptions.ties)
    if share is None or math.isclose(win_rate, 0.5, abs_tol=1e-9):
        return None
    guess = _by_normal(win_rate, 0.5, wanted, assumptions)
    if guess * assumptions.design_effect > MOST_PROMPTS:
        return None
    last = math.ceil(1.3 * guess) + 30
    found = _found(last, share, assumptions.alpha)
    for units in range(max(1, math.floor(0.95 * guess) - 8), last + 1):
        if _power(units, assumptions.ties, found) >= wanted:
            return math.ceil(units * assumptions.design_effect - 1e-9)
    return None


def detectable_rate(prompts: int, wanted: float, assumptions: Assumptions) -> float | None:
    """Least win rate above 0.5 that so many prompts show; None: none, not even the highest.

    Example:
        >>> round(detectable_rate(60, 0.8, Assumptions(0.0, 1.0, "")), 3)
        0.692
    """
    return _least(0.5, assumptions, lambda rate: power(prompts, rate, assumptions) >= wanted)


def passing_rate(
    prompts: int, threshold: float, wanted: float, assumptions: Assumptions
) -> float | None:
    """Least win rate whose interval lies above a gate's threshold with the wanted power, or None.

    Notes:
        Normal approximation, as in `needed_to_pass`: rough below 30 prompts.
    """
    units = prompts / assumptions.design_effect
    return _least(
        threshold,
        assumptions,
        lambda rate: _by_normal(rate, threshold, wanted, assumptions) <= units,
    )


def needed_to_pass(
    win_rate: float, threshold: float, wanted: float, assumptions: Assumptions
) -> int | None:
    """Prompts that put the interval of a win rate above a gate's threshold; None if it is not.

    Notes:
        n = ((z_{1-alpha/2} sd_0 + z_power sd_1) / (win rate - threshold))² times the design effect,
        sd² = (1 - ties) / 4 - (rate - 0.5)² at the threshold and at the win rate.

    References:
        Chow, Shao and Wang, Sample Size Calculations in Clinical Research (2003), section 4.1.

    Example:
        >>> needed_to_pass(0.5, 0.45, 0.8, Assumptions(0.0, 1.0, ""))
        780
    """
    if win_rate <= threshold or of_decided(win_rate, assumptions.ties) is None:
        return None
    needed = _by_normal(win_rate, threshold, wanted, assumptions) * assumptions.design_effect
    return math.ceil(needed) if needed <= MOST_PROMPTS else None


def _by_normal(rate: float, against: float, wanted: float, assumptions: Assumptions) -> float:
    from scipy.stats import norm

    def spread(at: float) -> float:
        return math.sqrt(max(0.0, (1 - assumptions.ties) / 4 - (at - 0.5) ** 2))

    root = float(norm.isf(assumptions.alpha / 2)) * spread(against)
    root += float(norm.ppf(wanted)) * spread(rate)
    return (root / (rate - against)) ** 2


def _least(above: float, assumptions: Assumptions, enough: Callable[[float], bool]) -> float | None:
    """Least win rate above one that is enough, to a thousandth of a percentage point."""
    low, high = above, 1 - assumptions.ties / 2
    if high <= low or not enough(high):
        return None
    while high - low > 1e-5:
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def table(assumptions: Assumptions, effects: Sequence[float] = EFFECTS) -> list[Plan]:
    """Plan every effect at every power."""
    return [
        Plan(
            effect,
            of_decided(effect, assumptions.ties),
            {wanted: needed_prompts(effect, wanted, assumptions) for wanted in POWERS},
        )
        for effect in effects
    ]


def line(prompts: int, assumptions: Assumptions) -> str:
    """Say in one line what so many prompts can find, and what that takes for granted.

    Example:
        >>> line(60, Assumptions(0.0, 1.0, "assumed: no ties"))[:72]
        '60 prompts find a win rate of 69.2 % or more, or 30.8 % or less, with 80'
    """
    rates = [detectable_rate(prompts, wanted, assumptions) for wanted in POWERS]
    confidence = f"{level(assumptions.confidence_level)} confidence"
    if assumptions.candidates > 1:
        confidence += f" for all {assumptions.candidates} candidates together"
    basis = f"({confidence}, exact sign test; {assumptions.told})."
    count = plural(prompts, "prompt")
    if assumptions.single_group:
        return f"{count} of a single group find nothing: one independent unit has no interval."
    if rates[0] is None:
        return f"{count} find no win rate with {percent(POWERS[0])} power, however high {basis}"
    text = (
        f"{count} find a win rate of {_up(rates[0])} or more, or {_down(rates[0])} or less, with "
    )
    text += f"{percent(POWERS[0])} power"
    if rates[1] is not None:
        text += f", {_up(rates[1])} or {_down(rates[1])} with {percent(POWERS[1])}"
    return f"{text} {basis}"


def gate_line(
    prompts: int | None, rule: GateRule, margin: float, assumptions: Assumptions
) -> str | None:
    """Say what it takes to pass a gate on the win rate; None where `line` says it, or without one.

    A gate on the change since the accepted run depends on how much the two runs have in common.
    """
    if rule == "none" or RULES[rule].since_accepted or margin == 0:
        return None
    threshold = RULES[rule].threshold(margin)
    wanted, chance = POWERS[0], percent(POWERS[0])
    name = f"The gate ({rule.replace('_', '-')}, a win rate above {exact(threshold)})"
    said = []
    if prompts is not None:
        rate = passing_rate(prompts, threshold, wanted, assumptions)
        least = "at no win rate" if rate is None else f"from a win rate of {_up(rate)} on"
        said.append(f"is passed with {chance} power {least} with {prompts:,} prompts")
    if threshold < 0.5:
        needed = needed_to_pass(0.5, threshold, wanted, assumptions)
        takes = f"over {MOST_PROMPTS:,}" if needed is None else f"{needed:,}"
        said.append(f"takes {takes} prompts for a candidate that is just as good")
    return f"{name} {', and '.join(said)} (normal approximation)." if said else None


def _up(rate: float) -> str:
    """A win rate in tenths of a percent, rounded up: what it promises must hold."""
    return f"{math.ceil(1000 * rate - 1e-6) / 10:g} %"


def _down(rate: float) -> str:
    return f"{math.floor(1000 * (1 - rate) + 1e-6) / 10:g} %"
