"""How often the interval at equal length holds the truth, in simulated runs (slow).

The truth is the mean score of two responses of equal length in the model that the scores are drawn
from. The candidate writes half a standard deviation more than the baseline. `--log-cli-level INFO`
shows shares.
"""

from dataclasses import dataclass
from logging import getLogger
from typing import NamedTuple

import numpy as np
import pytest
from scipy.special import expit, logit, ndtr

from include.equal_length import equal_length_interval
from include.intervals import Bounds, cluster_t_interval

pytestmark = pytest.mark.slow
log = getLogger(__name__)

RUNS = 1_500
"""So that the share of runs whose interval holds the truth is known to 0.006 (standard error)."""

LONGER, SPREAD = 200, 400
"""Mean and standard deviation of the difference of lengths, in characters."""


class Run(NamedTuple):
    scores: list[float]
    differences: list[float]
    clusters: list[str]
    difficulty: np.ndarray
    """Of each prompt, standard normal; AlpacaEval takes it from other models' results."""


@dataclass(frozen=True)
class Setting:
    """How the pairs of a run are drawn."""

    prompts: int
    rate: float
    """Mean score at equal length, of a prompt of medium difficulty."""
    effect: float
    """Of length: from a standard deviation shorter to one longer the logit gains 1.5 times it."""
    ties: float = 0.0
    """What part of the rarer of wins and losses is ties instead, and as many of the others."""
    group: int = 1
    """Prompts in a group; their luck and lengths are correlated by 0.3."""
    hardness: float = 0.0
    """What a standard deviation of difficulty adds to the logit."""

    @property
    def truth(self):
        nodes, weights = np.polynomial.hermite_e.hermegauss(40)
        return weights @ expit(logit(self.rate) + self.hardness * nodes) / weights.sum()

    def draw(self, rng):
        differences = np.round(LONGER + SPREAD * self._normal(rng))
        difficulty = rng.standard_normal(self.prompts)
        luck = ndtr(self._normal(rng))
        mean = expit(
            logit(self.rate)
            + self.effect * np.tanh(differences / SPREAD)
            + self.hardness * difficulty
        )
        ties = self.ties * np.minimum(mean, 1 - mean)
        scores = np.where(luck < mean - ties, 1.0, np.where(luck < mean + ties, 0.5, 0.0))
        clusters = [str(prompt // self.group) for prompt in range(self.prompts)]
        return Run(scores.tolist(), differences.tolist(), clusters, difficulty)

    def _normal(self, rng):
        own = rng.standard_normal(self.prompts)
        if self.group == 1:
            return own
        common = np.repeat(rng.standard_normal(self.prompts // self.group), self.group)
        return np.sqrt(0.3) * common + np.sqrt(0.7) * own


def ours(run):
    return equal_length_interval(run.scores, run.differences, run.clusters, 0.95)


def raw(run):
    return cluster_t_interval(run.scores, run.clusters, 0.95)


def alpaca_evals(run):
    """Its estimate and standard error (metrics/glm_winrate.py): mean and SEM of predictions.

    Its fit is penalized as well; this one is not, which makes it less biased.
    """
    import statsmodels.api as sm

    lengths, ones = np.array(run.differences), np.ones(len(run.scores))
    x = np.column_stack([ones, np.tanh(lengths / lengths.std(ddof=1)), run.difficulty])
    fitted = sm.GLM(run.scores, x, sm.families.Binomial()).fit()
    predicted = fitted.predict(np.column_stack([ones, 0 * ones, run.difficulty]))
    half = 1.96 * predicted.std(ddof=1) / np.sqrt(len(predicted))
    return Bounds(predicted.mean() - half, predicted.mean() + half)


def coverage(setting, interval, runs=RUNS):
    """Share of the intervals that hold the truth, and of the runs that have one."""
    rng = np.random.default_rng(1)
    found = [interval(setting.draw(rng)) for _ in range(runs)]
    found = [each for each in found if each.low is not None]
    share = np.mean([each.low <= setting.truth <= each.high for each in found])
    log.info("%s, %s: %.3f", interval.__name__, setting, share)
    return share, len(found) / runs


KINDS = {"plain": {}, "ties": {"ties": 0.6}, "groups": {"group": 5}, "hard": {"hardness": 1.0}}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("effect", [0.0, 2.0])
@pytest.mark.parametrize("rate", [0.5, 0.65, 0.8])
@pytest.mark.parametrize("prompts", [100, 500])
def test_95_percent_intervals_hold_the_truth_93_times_in_100_or_more(prompts, rate, effect, kind):
    share, exist = coverage(Setting(prompts, rate, effect, **KINDS[kind]), ours)
    assert share >= 0.93 and exist > 0.99, (share, exist)


@pytest.mark.parametrize("effect", [0.0, 2.0])
@pytest.mark.parametrize("rate", [0.5, 0.65, 0.8, 0.9])
def test_with_25_prompts_they_do_too_where_there_is_one(rate, effect):
    share, exist = coverage(Setting(25, rate, effect), ours)
    assert share >= 0.93 and exist > 0.9, (share, exist)


@pytest.mark.parametrize("kind", ["plain", "hard"])
@pytest.mark.parametrize("effect", [0.0, 2.0])
@pytest.mark.parametrize("rate", [0.5, 0.65, 0.8])
def test_those_of_alpaca_evals_standard_error_hold_it_less_than_70_times(rate, effect, kind):
    share, _ = coverage(Setting(500, rate, effect, **KINDS[kind]), alpaca_evals, runs=1_000)
    assert share < 0.7, share


def test_those_of_the_raw_win_rate_hardly_ever_do_where_length_matters():
    share, _ = coverage(Setting(500, 0.65, 2.0), raw)
    assert share < 0.1, share
