"""How often sets of ranks and intervals hold the truth, in simulated runs of several models (slow).

Every prompt asks all models; how good each one's answer is varies from prompt to prompt and counts
in all of its pairings, so the pairings of a prompt are not independent. The judge adds its noise.
`--log-cli-level INFO` shows shares.
"""

import itertools
from dataclasses import dataclass, replace
from functools import cache
from logging import getLogger

import numpy as np
import pytest

from include.board import PairingScores, rank

pytestmark = pytest.mark.slow
log = getLogger(__name__)

RUNS = 250
NOISE = 0.028
"""Two standard errors of a share near 0.95."""
TIES = 0.4
"""Gaps below this are ties."""


@dataclass(frozen=True)
class Run:
    """What is simulated."""

    strengths: tuple[float, ...]
    met: tuple[tuple[int, int], ...]
    varies: float = 0.5
    """Standard deviation of how good a model's answer to a prompt is."""
    judge: float = 0.6
    """Scale of the judge's own noise."""

    @property
    def names(self):
        return [f"m{n}" for n in range(len(self.strengths))]

    def scores(self, rng, prompts):
        """The second model's in each pairing: an array of prompts by pairings."""
        first, second = np.array(self.met).T
        shape = (prompts, len(self.strengths))
        quality = np.array(self.strengths) + self.varies * rng.standard_normal(shape)
        gap = quality[:, second] - quality[:, first]
        gap += self.judge * rng.logistic(size=gap.shape)
        return np.where(gap > TIES, 1.0, np.where(gap < -TIES, 0.0, 0.5))

    def pairings(self, rng, prompts):
        scores, units = self.scores(rng, prompts), [f"prompt {n}" for n in range(prompts)]
        return [
            PairingScores(self.names[i], self.names[j], scores[:, n].tolist(), units)
            for n, (i, j) in enumerate(self.met)
        ]


def with_baseline(*strengths):
    return Run(strengths, tuple((0, n) for n in range(1, len(strengths))))


def round_robin(*strengths):
    return Run(strengths, tuple(itertools.combinations(range(len(strengths)), 2)))


RUN = {
    "equal, baseline only": with_baseline(0, 0, 0),
    "spread, baseline only": with_baseline(0, 0.3, 0.6, 1.5, -1.5),
    "equal, round robin": round_robin(0, 0, 0, 0, 0),
    "spread, round robin": round_robin(0, 0.3, 0.6, 1.8, -1.8),
    "far apart, round robin": round_robin(0, 0, 0.6, 4, -4),
    "equal in part, in a chain": Run((0, 0, 1, 1, 0), ((0, 1), (1, 2), (2, 3), (3, 4), (0, 2))),
}


@cache
def truth(run):
    """The win rates against the baseline that the strengths would have with prompts without end."""
    rng = np.random.default_rng(0)
    pairings = run.pairings(rng, 200_000)
    means = [replace(p, scores=[float(np.mean(p.scores))], units=["all"]) for p in pairings]
    board = rank(means, baseline="m0", confidence_level=0.95)
    return {each.model: each.win_rate for each in board.models}


def held(run, prompts, change=list):
    """Shares of runs in which all ranks hold, and in which each and all of the intervals do."""
    rng, rates = np.random.default_rng(prompts), truth(run)
    strength = dict(zip(run.names, run.strengths, strict=True))
    ranks, intervals = [], []
    for _ in range(RUNS):
        board = rank(change(run.pairings(rng, prompts)), baseline="m0", confidence_level=0.95)
        ranks.append(
            all(
                each.best_rank <= 1 + sum(s > strength[each.model] for s in run.strengths)
                and each.worst_rank >= sum(s >= strength[each.model] for s in run.strengths)
                for each in board.models
            )
        )
        intervals.append(
            [
                each.low <= rates[each.model] <= each.high
                for each in board.models
                if each.low is not None
            ]
        )
    return np.mean(ranks), np.mean(intervals), np.mean([all(each) for each in intervals])


def each_score_alone(pairings):
    return [
        replace(each, units=[f"{number} {unit}" for unit in each.units])
        for number, each in enumerate(pairings)
    ]


@pytest.mark.parametrize("prompts", [25, 100, 300])
@pytest.mark.parametrize("name", RUN)
def test_all_sets_of_ranks_hold_the_truth_at_once_95_times_in_100_or_more(name, prompts):
    ranks, each, together = held(RUN[name], prompts)
    said = "%s, %d prompts: all ranks %.3f, each interval %.3f, all of them %.3f"
    log.info(said, name, prompts, ranks, each, together)
    assert ranks >= 0.95 - NOISE, ranks
    assert each >= 0.93, each
    assert together >= 0.95 - NOISE, together


def test_resampling_rows_instead_of_prompts_holds_it_less_often():
    run = replace(RUN["equal, round robin"], varies=1.0, judge=0.2)
    by_prompt, _, _ = held(run, 100)
    by_row, _, _ = held(run, 100, each_score_alone)
    log.info("all ranks, drawn by prompt %.3f, by row %.3f", by_prompt, by_row)
    assert by_prompt >= 0.95 - NOISE, by_prompt
    assert by_row <= 0.85, by_row
