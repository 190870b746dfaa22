"""How often the numbers that people's labels make hold the truth, in simulated runs (slow).

A run is simulated from its pairs on: what people would say of each, what the judge says, and which
few are labelled. Of pairs that are all independent, the intervals of all runs are computed here at
once, and compared with what the product says of some of them. `--log-cli-level INFO` shows shares.
"""

import zlib
from dataclasses import dataclass
from logging import getLogger

import numpy as np
import pytest
from scipy import stats

from include.agreement import Rated, Scored, corrected_interval, kappa_interval

pytestmark = pytest.mark.slow

log = getLogger(__name__)

RUNS = 20_000
"""So that a share of 0.95 is known to 0.0015 (standard error)."""
FEWER_RUNS = 1_000
"""Of pairs that depend on each other: known to 0.007."""

SCORES = np.array([1.0, 0.5, 0.0])


@dataclass(frozen=True)
class Setting:
    """What is true, how the judge errs, and how many are asked."""

    truth: float
    """Of the pairs that people call no tie, those that the candidate wins."""
    sensitivity: float
    """How often the judge names the candidate where people do."""
    specificity: float
    """How often it names the baseline where people do."""
    labelled: int
    pairs: int
    ties: float = 0.0
    """Share of pairs that people call a tie; the judge does so independently of them."""
    identical: float = 0.0
    """Share of pairs whose responses are identical."""
    group: int = 1
    """Pairs of a group."""
    correlation: float = 0.0
    """Within a group, of what people say and of how well the judge does."""

    @property
    def win_rate(self):
        """As people see it."""
        undecided = self.identical + (1 - self.identical) * self.ties
        return undecided / 2 + (1 - undecided) * self.truth

    def table(self):
        """How often people (rows) and the judge say candidate, tie and baseline."""
        won, lost = self.truth, 1 - self.truth
        for_candidate = [won * self.sensitivity, lost * (1 - self.specificity)]
        for_baseline = [won * (1 - self.sensitivity), lost * self.specificity]
        both = np.array([for_candidate, for_baseline]).T
        decided = np.zeros((3, 3))
        decided[np.ix_([0, 2], [0, 2])] = both
        ties = self.ties
        judge, people = both.sum(axis=0), both.sum(axis=1)
        table = (1 - ties) ** 2 * decided
        table[[0, 2], 1] = (1 - ties) * ties * people
        table[1, [0, 2]] = ties * (1 - ties) * judge
        table[1, 1] = ties * ties
        return table


@dataclass(frozen=True)
class Runs:
    """Simulated runs of independent pairs."""

    labels: np.ndarray
    """Of each run and labelled pair."""
    judge: np.ndarray
    """The judge's scores of the same pairs."""
    others: np.ndarray
    """Of each run, how many of the other pairs the judge gives 1, 0.5 and 0."""


def simulate(name, setting, runs=RUNS):
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    table = setting.table()
    said = rng.choice(9, (runs, setting.labelled), p=table.ravel() / table.sum())
    others = rng.multinomial(setting.pairs - setting.labelled, table.sum(axis=0), runs)
    return Runs(SCORES[said // 3], SCORES[said % 3], others)


def corrected(runs, weight=None):
    """The product's interval, for all runs at once."""
    y, f, others = runs.labels, runs.judge, runs.others
    labelled = y.shape[1]
    pairs, count = labelled + others[0].sum(), labelled + 2
    mean = ((f.sum(axis=1) + others @ SCORES) / pairs)[:, None]
    human, judge = ((each.sum(axis=1, keepdims=True) + 1) / count for each in (y, f))
    added = np.ones_like(human)
    p = np.hstack([y - human, added - human, -human]) / count
    q = np.hstack(
        [(f - mean) / pairs - (f - judge) / count, judge / count, (judge - added) / count]
    )
    of_others = (others * ((SCORES - mean) / pairs) ** 2).sum(axis=1, keepdims=True)
    square = (q * q).sum(axis=1, keepdims=True) + of_others
    best = np.clip(-(p * q).sum(axis=1, keepdims=True) / square, 0, 1)
    used = best if weight is None else np.full_like(best, weight)
    squares = ((p + used * q) ** 2).sum(axis=1, keepdims=True) + used**2 * of_others
    half = stats.t.ppf(0.975, labelled - 1) * np.sqrt(count / (count - 1) * squares)
    centre = human + used * (mean - judge)
    plain = y.mean(axis=1, keepdims=True) + used * (mean - f.mean(axis=1, keepdims=True))
    low, high = np.minimum(plain, centre - half), np.maximum(plain, centre + half)
    return np.maximum(0, low)[:, 0], np.minimum(1, high)[:, 0]


def judge_alone(runs):
    """The interval of the judge's own win rate: cluster t, one win and one loss added."""
    counts = runs.others + np.stack([(runs.judge == score).sum(axis=1) for score in SCORES], axis=1)
    counts = counts + np.array([1, 0, 1])
    total = counts[0].sum()
    mean = counts @ SCORES / total
    error = np.sqrt((counts * (SCORES - mean[:, None]) ** 2).sum(axis=1) / (total - 1) / total)
    half = stats.t.ppf(0.975, total - 3) * error
    return mean - half, mean + half


def held(name, what, setting, low, high):
    """Share of the runs whose interval holds the truth."""
    share = np.mean((low <= setting.win_rate + 1e-9) & (setting.win_rate - 1e-9 <= high))
    log.info("%s: %s %.3f, width %.3f", name, what, share, np.mean(high - low))
    return share


PUBLISHED = {
    ".50 (.85, .70), 100 of 2,000": Setting(0.50, 0.85, 0.70, 100, 2_000),
    ".60 (.90, .90), 100 of 2,000": Setting(0.60, 0.90, 0.90, 100, 2_000),
    ".55 (.80, .80), 200 of 5,000": Setting(0.55, 0.80, 0.80, 200, 5_000),
}
OTHERS = {
    "25 labels": Setting(0.60, 0.90, 0.90, 25, 500),
    "10 labels": Setting(0.60, 0.90, 0.90, 10, 500),
    "10 labels, a candidate that nearly always wins": Setting(0.95, 0.95, 0.90, 10, 200),
    "half are labelled": Setting(0.50, 0.80, 0.80, 50, 100),
    "all are labelled": Setting(0.60, 0.80, 0.80, 60, 60),
    "a judge that guesses": Setting(0.60, 0.50, 0.50, 50, 500),
    "a judge that is nearly always right": Setting(0.60, 0.98, 0.98, 50, 500),
    "a judge that says the opposite": Setting(0.60, 0.20, 0.20, 50, 500),
    "ties": Setting(0.60, 0.90, 0.90, 60, 500, ties=0.3),
    "many ties": Setting(0.70, 0.90, 0.90, 60, 500, ties=0.7),
}


@pytest.mark.parametrize("name", ["25 labels", "all are labelled", "ties"])
def test_what_is_simulated_here_is_what_the_product_computes(name):
    setting = OTHERS[name]
    runs = simulate(name, setting, 20)
    low, high = corrected(runs)
    for index in range(20):
        scored = zip(runs.judge[index], runs.labels[index], strict=True)
        others = np.repeat(SCORES, runs.others[index])
        said = [*scored, *((score, None) for score in others)]
        pairs = [Scored(str(n), *both) for n, both in enumerate(said)]
        found = corrected_interval(pairs, 0.95).interval
        assert (found.low, found.high) == pytest.approx((low[index], high[index]))


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_corrected_win_rate_holds_the_truth_where_the_judge_alone_is_narrow_and_wrong(name):
    setting = PUBLISHED[name]
    runs = simulate(name, setting)
    both, labels = corrected(runs), corrected(runs, weight=0.0)
    assert held(name, "corrected", setting, *both) >= 0.945
    assert held(name, "labels alone", setting, *labels) >= 0.94
    assert held(name, "judge alone", setting, *judge_alone(runs)) < 0.70
    assert np.mean(both[1] - both[0]) < np.mean(labels[1] - labels[0])


@pytest.mark.parametrize("name", OTHERS)
def test_it_holds_the_truth_with_few_labels_ties_and_judges_of_every_kind(name):
    setting = OTHERS[name]
    runs = simulate(name, setting)
    held(name, "judge alone", setting, *judge_alone(runs))
    assert held(name, "corrected", setting, *corrected(runs)) >= 0.94


DEPENDENT = {
    "identical responses": Setting(0.60, 0.90, 0.90, 60, 500, identical=0.3),
    "groups of 5 that mean nothing": Setting(0.60, 0.85, 0.80, 100, 500, group=5),
    "groups of 5": Setting(0.60, 0.85, 0.80, 100, 500, group=5, correlation=0.2),
    "30 groups of 8": Setting(0.60, 0.85, 0.80, 120, 240, group=8, correlation=0.3),
    "20 groups of 20": Setting(0.60, 0.85, 0.80, 100, 400, group=20, correlation=0.2),
    "12 groups of 20": Setting(0.60, 0.85, 0.80, 120, 240, group=20, correlation=0.2),
    "groups, ties and identical": Setting(0.70, 0.85, 0.75, 100, 600, 0.2, 0.1, 4, 0.1),
}


def simulate_pairs(rng, setting):
    """Pairs of one run."""
    count = setting.pairs

    def share(mean):
        """One share for each group, the same for its pairs."""
        if not setting.correlation:
            return np.full(count, mean)
        kept = (1 - setting.correlation) / setting.correlation
        of_groups = rng.beta(mean * kept, (1 - mean) * kept, count // setting.group)
        return np.repeat(of_groups, setting.group)

    people = (rng.random(count) < share(setting.truth)).astype(float)
    right = np.where(people == 1, share(setting.sensitivity), share(setting.specificity))
    judge = np.where(rng.random(count) < right, people, 1 - people)
    people[rng.random(count) < setting.ties] = 0.5
    judge[rng.random(count) < setting.ties] = 0.5
    certain = rng.random(count) < setting.identical
    people[certain] = judge[certain] = 0.5
    asked = set(rng.permutation(np.flatnonzero(~certain))[: setting.labelled].tolist())
    return [
        Scored(str(n // setting.group), float(j), float(p) if n in asked else None, bool(c))
        for n, (p, j, c) in enumerate(zip(people, judge, certain, strict=True))
    ]


@pytest.mark.parametrize("name", DEPENDENT)
def test_it_holds_the_truth_of_pairs_in_groups_and_of_identical_responses(name):
    setting, rng = DEPENDENT[name], np.random.default_rng(zlib.crc32(name.encode()))
    found = [
        corrected_interval(simulate_pairs(rng, setting), 0.95).interval for _ in range(FEWER_RUNS)
    ]
    low, high = (np.array([getattr(each, end) for each in found]) for end in ("low", "high"))
    assert held(name, "corrected", setting, low, high) >= 0.93


WORDS = ("candidate", "tie", "baseline")
OFTEN = {
    "even": (0.4, 0.2, 0.4),
    "few ties": (0.45, 0.1, 0.45),
    "one-sided": (0.8, 0.1, 0.1),
}


@pytest.mark.parametrize("labels", [20, 50, 100])
@pytest.mark.parametrize("kappa", [0.0, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("name", OFTEN)
def test_kappas_interval_holds_the_truth(name, kappa, labels):
    often = np.array(OFTEN[name])
    shares = (kappa * np.diag(often) + (1 - kappa) * np.outer(often, often)).ravel()
    rng = np.random.default_rng([labels, int(10 * kappa), len(name)])
    said = [(human, judge) for human in WORDS for judge in WORDS]
    hold = []
    for counts in rng.multinomial(labels, shares, FEWER_RUNS):
        both = [each for each, count in zip(said, counts, strict=True) for _ in range(count)]
        pairs = [Rated(str(n), *each) for n, each in enumerate(both)]
        found = kappa_interval(pairs, ("baseline", "candidate"), 0.95)
        if found.low is not None:
            hold.append(found.low - 1e-9 <= kappa <= found.high + 1e-9)
    log.info("kappa %s, %s, %d labels: %.3f", kappa, name, labels, np.mean(hold))
    assert np.mean(hold) >= 0.93


def test_kappas_interval_holds_the_truth_of_pairs_in_groups():
    rng, hold = np.random.default_rng(4), 0
    for _ in range(FEWER_RUNS):
        rated = []
        for group in range(25):
            agrees = rng.beta(2.4, 1.6)  # on 60 % of the pairs, more in some groups than in others
            for _ in range(4):
                human = WORDS[rng.integers(3)]
                judge = human if rng.random() < agrees else WORDS[rng.integers(3)]
                rated.append(Rated(str(group), human, judge))
        found = kappa_interval(rated, ("baseline", "candidate"), 0.95)
        hold += found.low <= 0.6 <= found.high
    log.info("kappa in groups: %.3f", hold / FEWER_RUNS)
    assert 0.93 <= hold / FEWER_RUNS <= 0.98
