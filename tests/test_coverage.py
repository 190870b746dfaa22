"""How often the intervals hold the truth, in simulated runs of judges of every kind (slow).

A run is simulated from its judgments on: every pair is judged in both orders, the two judgments
resolve to one preference, and the interval is made of the preferences. It is computed here for all
runs at once, and compared with what the product says of some of them. `--log-cli-level INFO` shows
shares.
"""

import random
from dataclasses import dataclass
from functools import cache
from logging import getLogger

import numpy as np
import pytest
from scipy import stats

from include import winrate
from include.intervals import cluster_t_interval, conservative_interval
from include.paired import compare_runs
from include.preferences import ResolvedPair
from include.records import GenerationErrors, JudgeOutput, Judgment, Pair

pytestmark = pytest.mark.slow
log = getLogger(__name__)

RUNS = 20_000
"""So that the share of runs whose interval holds the truth is known to 0.0015 (standard error)."""

NOISE = 0.003
"""Two of these: how far a simulated share may be off by chance."""


@dataclass(frozen=True)
class Judge:
    """How a judge makes a judgment."""

    follows_position: float
    """Share of pairs of which it names position A in both orders, whatever they hold."""
    accuracy: float
    """How often each other judgment names the better response; else it names the other."""

    def win_rate(self, better):
        """The candidate's true win rate, ties half, if it is better on this share of prompts."""
        names_it = better * self.accuracy + (1 - better) * (1 - self.accuracy)
        return self.follows_position / 2 + (1 - self.follows_position) * names_it

    def judgments(self, rng, runs, prompts, better):
        """Whether each judgment, forward and backward, is for the candidate."""
        shape = (runs, prompts)
        best = rng.random(shape, dtype=np.float32) < better
        position = rng.random(shape, dtype=np.float32) < self.follows_position
        right = [rng.random(shape, dtype=np.float32) < self.accuracy for _ in range(2)]
        forward = np.where(position, False, best == right[0])  # the baseline is in A
        backward = np.where(position, True, best == right[1])
        return forward, backward


CONSISTENT = Judge(follows_position=0.05, accuracy=1.0)
NOISY = Judge(follows_position=0.0, accuracy=0.8)
BIASED = Judge(follows_position=0.35, accuracy=0.95)
FLIPPING = Judge(follows_position=0.99, accuracy=1.0)

JUDGES = {"consistent": CONSISTENT, "noisy": NOISY, "position-biased": BIASED}
BETTER = (0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Runs:
    """Simulated runs: of each, how many pairs were won, lost and judged for the candidate."""

    wins: np.ndarray
    losses: np.ndarray
    judged_for: np.ndarray
    prompts: int
    truth: float


@cache
def simulate(name, prompts, better):
    judge = {**JUDGES, "flipping": FLIPPING}[name]
    rng = np.random.default_rng([sum(map(ord, name)), prompts, int(1000 * better)])
    parts = []
    for _ in range(10):
        forward, backward = judge.judgments(rng, RUNS // 10, prompts, better)
        parts.append(
            [
                (forward & backward).sum(axis=1),
                (~forward & ~backward).sum(axis=1),
                forward.sum(axis=1) + backward.sum(axis=1),
            ]
        )
    wins, losses, judged_for = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Runs(wins, losses, judged_for, prompts, judge.win_rate(better))


def intervals(runs, added=1):
    """The product's interval for ungrouped pairs, of all runs; it adds one win and one loss."""
    count = runs.prompts + 2 * added
    wins, losses = runs.wins + added, runs.losses + added
    mean = 0.5 + (wins - losses) / count / 2
    squares = (wins + losses) / 4 - count * (mean - 0.5) ** 2
    error = np.sqrt(squares / (count - 1) / count)
    half = stats.t.ppf(0.975, runs.prompts - 1) * error
    return np.maximum(0, mean - half), np.minimum(1, mean + half)


def held(name, prompts, better, **how):
    """Share of the simulated runs whose interval holds the truth."""
    runs = simulate(name, prompts, better)
    low, high = intervals(runs, **how)
    share = float(np.mean((low <= runs.truth + 1e-12) & (runs.truth - 1e-12 <= high)))
    log.info("%s, %d prompts, better on %.1f, %s: %.3f", name, prompts, better, how, share)
    return share


def compare(wins, losses, ties):
    said = [("B>A", "A>B")] * wins + [("A>B", "B>A")] * losses + [("A>B", "A>B")] * ties
    pairs = [Pair(f"p{i}", "q", "x", "y", "judged") for i in range(len(said))]
    judgments = [
        Judgment(pair.prompt_id, order, verdict)
        for pair, both in zip(pairs, said, strict=True)
        for order, verdict in zip(("forward", "backward"), both, strict=True)
    ]
    return winrate.compare(
        baseline="qwen",
        candidate="claude",
        prompts=len(pairs),
        generation_errors=GenerationErrors(0, 0),
        pairs=pairs,
        output=JudgeOutput({}, judgments),
        confidence_level=0.95,
        min_consistency=0.0,
        max_error_rate=1.0,
    )


@pytest.mark.parametrize(("name", "prompts"), [("noisy", 25), ("flipping", 100), ("noisy", 300)])
def test_what_is_simulated_here_is_what_the_product_computes(name, prompts):
    runs = simulate(name, prompts, 0.8)
    low, high = intervals(runs)
    for index in range(25):
        wins, losses = int(runs.wins[index]), int(runs.losses[index])
        found = compare(wins, losses, prompts - wins - losses).win_rate
        assert (found.low, found.high) == pytest.approx((low[index], high[index]))


@pytest.mark.parametrize("better", BETTER)
@pytest.mark.parametrize("prompts", [100, 250, 1000])
@pytest.mark.parametrize("name", JUDGES)
def test_95_percent_intervals_of_a_hundred_prompts_and_more_hold_the_truth(name, prompts, better):
    share = held(name, prompts, better)
    assert 0.94 - NOISE <= share <= 0.96 + NOISE, share


@pytest.mark.parametrize("name", JUDGES)
def test_on_average_over_win_rates_they_hold_it_94_to_96_times_in_100(name):
    for prompts in (100, 250, 1000):
        share = np.mean([held(name, prompts, better) for better in BETTER])
        assert 0.94 <= share <= 0.96, (prompts, share)


@pytest.mark.parametrize("better", BETTER)
@pytest.mark.parametrize("name", JUDGES)
def test_with_25_prompts_they_hold_it_92_times_in_100_or_more(name, better):
    share = held(name, 25, better)
    assert share >= 0.92, share


@pytest.mark.parametrize("better", [0.5, 0.8, 1.0])
@pytest.mark.parametrize("prompts", [25, 100, 250, 500, 1000])
def test_of_a_judge_that_flips_nearly_every_pair_they_hold_it_95_times_or_more(prompts, better):
    share = held("flipping", prompts, better)
    assert share >= 0.95 - NOISE, share


@pytest.mark.parametrize("prompts", [25, 100, 250, 1000])
def test_with_nothing_added_those_of_such_a_judge_hold_it_less_often(prompts):
    shares = [held("flipping", prompts, better, added=0) for better in (0.5, 0.8, 1.0)]
    assert min(shares) < 0.94, shares


def test_who_looks_at_every_25_prompts_finds_differences_that_are_not_there_in_one_run_of_four():
    rng, looks = np.random.default_rng(8), range(25, 501, 25)
    forward, backward = NOISY.judgments(rng, 4000, 500, 0.5)
    found = np.zeros(4000, bool)
    for look in looks:
        so_far = forward[:, :look], backward[:, :look]
        wins = (so_far[0] & so_far[1]).sum(axis=1)
        losses = (~so_far[0] & ~so_far[1]).sum(axis=1)
        low, high = intervals(Runs(wins, losses, wins, look, 0.5))
        found |= (low > 0.5) | (high < 0.5)
    log.info("a difference that is not there, with 20 looks: %.3f", np.mean(found))
    assert np.mean(found) > 0.2


@pytest.mark.parametrize("better", [0.5, 0.7, 0.9])
@pytest.mark.parametrize("prompts", [6, 25, 100, 250])
@pytest.mark.parametrize("name", [*JUDGES, "flipping"])
def test_of_totals_alone_they_hold_it_95_times_or_more(name, prompts, better):
    runs = simulate(name, prompts, better)
    totals, counts = np.unique(runs.judged_for, return_counts=True)
    found = [conservative_interval(total / prompts / 2, [1] * prompts, 0.95) for total in totals]
    hold = [each.low - 1e-12 <= runs.truth <= each.high + 1e-12 for each in found]
    assert np.average(hold, weights=counts) >= 0.95 - NOISE


@pytest.mark.parametrize("correlation", [0.0, 0.2])
@pytest.mark.parametrize("better", [0.5, 0.7])
def test_of_prompts_in_thirty_groups_they_hold_it_93_times_or_more(correlation, better):
    rng, groups, size = np.random.default_rng(3), 30, 8
    clusters = [str(i // size) for i in range(groups * size)]
    hold = 0
    for _ in range(3000):
        rate = np.full(groups, better)
        if correlation:
            kept = (1 - correlation) / correlation
            rate = rng.beta(better * kept, (1 - better) * kept, groups)
        scores = (rng.random((groups, size)) < rate[:, None]).astype(float).ravel().tolist()
        found = cluster_t_interval(scores, clusters, 0.95)
        hold += found.low <= better <= found.high
    assert 0.93 <= hold / 3000 <= 0.97


def test_of_differences_between_two_runs_they_hold_it_95_times():
    rng = random.Random(6)
    pairs = [Pair(f"p{i}", "q", "x", "y", "judged") for i in range(60)]
    ease = [0.1, 0.5, 0.9] * 20
    hold = 0
    for _ in range(2000):
        runs = [
            [
                ResolvedPair(
                    pair, (), "candidate" if rng.random() < rate + shift else "baseline", None
                )
                for pair, rate in zip(pairs, ease, strict=True)
            ]
            for shift in (0.0, 0.1)
        ]
        found = compare_runs(*runs, candidate="claude", confidence_level=0.95)
        hold += found.low <= 0.1 <= found.high
    # The win rate of fixed prompts varies less than that of drawn ones: a little above 95.
    assert 0.94 <= hold / 2000 <= 0.985


@pytest.mark.parametrize("flips", [0.02, 0.1, 0.3, 0.6])
@pytest.mark.parametrize("prompts", [25, 100, 400])
def test_of_the_judges_consistency_they_hold_it_too(prompts, flips):
    rng = np.random.default_rng([prompts, int(100 * flips)])
    counts, times = np.unique(rng.binomial(prompts, 1 - flips, RUNS), return_counts=True)
    clusters = [str(i) for i in range(prompts)]
    hold = []
    for count in counts:
        found = cluster_t_interval([1.0] * count + [0.0] * (prompts - count), clusters, 0.95)
        hold.append(found.low <= 1 - flips <= found.high)
    assert np.average(hold, weights=times) >= 0.92
