"""What a gate is worth: past runs in, how often it cries wolf and which drops it catches out.

Nights are simulated from what past nights have shown of each prompt, with and without a drop, and
each is decided as the gate would. Nothing is assumed about how a drop spreads: it hits prompts at
random.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from include.config import GateRule
from include.gate import RULES, side
from include.intervals import cluster_t_interval, level_of_each
from include.preferences import ResolvedPair
from include.records import GateOutcome

NIGHTS = 2
WANTED = 0.8
"""How often a drop has to be seen in so many nights to count as caught."""
DROPS = (0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3)
SIMULATIONS = 400
FORGETS = 0.2
"""With a single past run nobody knows how much a night differs from the next. So many prompts are
then taken to come out as any other prompt does: judges repeat about 80 % of their verdicts."""


@dataclass
class Past:
    """What past runs have shown of a prompt."""

    unit: str
    scores: list[float] = field(default_factory=list)
    """Of the candidate, one for each run that has a preference."""


@dataclass(frozen=True)
class Caught:
    """How often a drop fails the gate."""

    drop: float
    """Of the win rate, from 0 to 1."""
    one_night: float
    two_nights: float


@dataclass(frozen=True)
class GatePower:
    """How far a gate can be relied on; shares of simulated nights."""

    prompts: int
    runs: int
    false_alarms: float
    """Nights that fail though nothing has changed."""
    inconclusive: float
    """Nights that decide nothing though nothing has changed."""
    drops: list[Caught]

    @property
    def smallest(self) -> float | None:
        """The smallest drop that is caught in two nights; None if none is."""
        return next((each.drop for each in self.drops if each.two_nights >= WANTED), None)


def gather(runs: Iterable[Iterable[ResolvedPair]]) -> dict[str, Past]:
    """Put together what several runs of one candidate have shown of each prompt."""
    past: dict[str, Past] = {}
    for run in runs:
        for row in run:
            if row.score is not None:
                past.setdefault(row.pair.prompt_id, Past(row.unit)).scores.append(row.score)
    return past


def simulate(
    past: Mapping[str, Past],
    rule: GateRule,
    margin: float,
    confidence_level: float,
    *,
    candidates: int = 1,
    simulations: int = SIMULATIONS,
    seed: int = 0,
) -> GatePower:
    """Let a gate decide about many nights that might have been.

    A night draws one of the scores that each prompt had. A drop of d takes each score to 0 with
    the probability d / win rate, so that the win rate falls by d on average.

    Args:
        past: From `gather`; at least one prompt.
        rule: The gate's; not `none`.
        margin: The gate's.
        confidence_level: Of all candidates' intervals together.
        candidates: How many a run has (Bonferroni).
        simulations: Nights for each drop.
        seed: The same one simulates the same nights.
    """
    rng = random.Random(seed)
    level = level_of_each(confidence_level, candidates)
    everything = [score for each in past.values() for score in each.scores]
    mean = sum(everything) / len(everything)
    runs = max(len(each.scores) for each in past.values())
    units = [each.unit for each in past.values()]

    def night(drop: float = 0.0) -> list[float]:
        lost = min(1.0, drop / mean) if mean else 0.0
        return [
            0.0 if lost and rng.random() < lost else _drawn(rng, each, everything)
            for each in past.values()
        ]

    def outcome(reference: Sequence[float], found: Sequence[float]) -> GateOutcome:
        threshold = RULES[rule].threshold(margin)
        if RULES[rule].since_accepted:
            scores = [(b - a + 1) / 2 for a, b in zip(reference, found, strict=True)]
            threshold = (threshold + 1) / 2
        else:
            scores = list(found)
        interval = cluster_t_interval(scores, units, level)
        if interval.low is None or interval.high is None:
            return "inconclusive"
        return side(interval.low, interval.high, threshold)

    calm: defaultdict[str, int] = defaultdict(int)
    for _ in range(simulations):
        calm[outcome(night(), night())] += 1
    drops = []
    for drop in DROPS:
        one = two = 0
        for _ in range(simulations):
            reference = night()
            fails = [outcome(reference, night(drop)) == "fail" for _ in range(NIGHTS)]
            one += fails[0]
            two += any(fails)
        drops.append(Caught(drop, one / simulations, two / simulations))
    return GatePower(
        prompts=len(past),
        runs=runs,
        false_alarms=calm["fail"] / simulations,
        inconclusive=calm["inconclusive"] / simulations,
        drops=drops,
    )


def multiplied(past: Mapping[str, Past], times: int) -> dict[str, Past]:
    """Return so many times as many prompts, each as one of those that there are."""
    return {
        f"{prompt_id} {number}": Past(f"{each.unit} {number}", each.scores)
        for number in range(times)
        for prompt_id, each in past.items()
    }


def _drawn(rng: random.Random, past: Past, everything: Sequence[float]) -> float:
    if len(past.scores) == 1 and rng.random() < FORGETS:
        return rng.choice(everything)
    return rng.choice(past.scores)
