"""How often the numbers that people's labels make hold the truth, in simulated runs (slow).

A run is simulated from its pairs on: what people would say of each, what the judge says, and which
few are labelled. `--log-cli-level INFO` shows the shares.
"""

import zlib
from dataclasses import dataclass
from logging import getLogger

import numpy as np
import pytest

from include.agreement import Rated, Scored, corrected_interval, kappa_interval
from include.intervals import cluster_t_interval

pytestmark = pytest.mark.slow

log = getLogger(__name__)

RUNS = 1_000
"""So that a share of 0.95 is known to 0.007 (standard error)."""


@dataclass(frozen=True)
class Setting:
    """What is true, how the judge errs, and how many are asked."""

    truth: float
    """Share of pairs of which people prefer the candidate; they call no tie, unless told below."""
    sensitivity: float
    """How often the judge names the candidate where people do."""
    specificity: float
    """How often it names the baseline where people do."""
    labelled: int
    pairs: int
    ties: float = 0.0
    """Share of pairs that people call a tie, and independently of them that the judge does."""
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


def shares(rng, mean, setting):
    """One share for each group, the same for its pairs."""
    groups = setting.pairs // setting.group
    if not setting.correlation:
        return np.full(setting.pairs, mean)
    kept = (1 - setting.correlation) / setting.correlation
    return np.repeat(rng.beta(mean * kept, (1 - mean) * kept, groups), setting.group)


def simulate(rng, setting):
    """Pairs of one run, and what the judge alone says of them."""
    count = setting.pairs
    people = (rng.random(count) < shares(rng, setting.truth, setting)).astype(float)
    right = np.where(
        people == 1,
        shares(rng, setting.sensitivity, setting),
        shares(rng, setting.specificity, setting),
    )
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


CORRECTED, LABELS, JUDGE = "corrected", "labels alone", "judge alone"


def intervals(pairs, what):
    if what == JUDGE:
        return cluster_t_interval([p.judge for p in pairs], [p.unit for p in pairs], 0.95)
    return corrected_interval(pairs, 0.95, weight=0.0 if what == LABELS else None).interval


def coverage(name, setting, *kinds):
    """Share of the runs in which each kind of interval holds the truth, and its mean width."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    found = []
    for _ in range(RUNS):
        pairs = simulate(rng, setting)
        for each in (intervals(pairs, what) for what in kinds):
            held = each.low - 1e-9 <= setting.win_rate <= each.high + 1e-9
            found.append((held, each.high - each.low))
    table = np.array(found, dtype=float).reshape(RUNS, len(kinds), 2).mean(axis=0)
    for what, (share, width) in zip(kinds, table, strict=True):
        log.info("%s: %s %.3f, width %.3f", name, what, share, width)
    return table


PUBLISHED = {
    ".50 (.85, .70), 100 of 2,000": Setting(0.50, 0.85, 0.70, 100, 2_000),
    ".60 (.90, .90), 100 of 2,000": Setting(0.60, 0.90, 0.90, 100, 2_000),
    ".55 (.80, .80), 200 of 5,000": Setting(0.55, 0.80, 0.80, 200, 5_000),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_corrected_win_rate_holds_the_truth_where_the_judge_alone_is_narrow_and_wrong(name):
    corrected, labels, judge = coverage(name, PUBLISHED[name], CORRECTED, LABELS, JUDGE)
    assert corrected[0] >= 0.93
    assert judge[0] < 0.70
    assert corrected[1] < labels[1]


OTHERS = {
    "25 labels": Setting(0.60, 0.90, 0.90, 25, 500),
    "10 labels": Setting(0.60, 0.90, 0.90, 10, 500),
    "10 labels of a candidate that nearly always wins": Setting(0.95, 0.95, 0.90, 10, 200),
    "half are labelled": Setting(0.50, 0.80, 0.80, 50, 100),
    "all are labelled": Setting(0.60, 0.80, 0.80, 60, 60),
    "a judge that guesses": Setting(0.60, 0.55, 0.50, 50, 500),
    "a judge that is nearly always right": Setting(0.60, 0.98, 0.98, 50, 500),
    "a judge that says the opposite": Setting(0.60, 0.20, 0.20, 50, 500),
    "ties": Setting(0.60, 0.90, 0.90, 60, 500, ties=0.3),
    "identical responses": Setting(0.60, 0.90, 0.90, 60, 500, identical=0.3),
    "all": Setting(0.70, 0.85, 0.75, 100, 600, 0.2, 0.1, group=4, correlation=0.1),
}


@pytest.mark.parametrize("name", OTHERS)
def test_it_holds_the_truth_with_few_labels_ties_and_judges_of_every_kind(name):
    (corrected,) = coverage(name, OTHERS[name], CORRECTED)
    assert corrected[0] >= 0.93


GROUPED = {
    "groups of 5 that mean nothing": Setting(0.60, 0.85, 0.80, 100, 500, group=5),
    "groups of 5": Setting(0.60, 0.85, 0.80, 100, 500, group=5, correlation=0.2),
    "30 groups of 8": Setting(0.60, 0.85, 0.80, 120, 240, group=8, correlation=0.3),
    "20 groups of 20": Setting(0.60, 0.85, 0.80, 100, 400, group=20, correlation=0.2),
    "12 groups of 20": Setting(0.60, 0.85, 0.80, 120, 240, group=20, correlation=0.2),
}


@pytest.mark.parametrize("name", GROUPED)
def test_it_holds_the_truth_of_pairs_in_groups(name):
    (corrected,) = coverage(name, GROUPED[name], CORRECTED)
    assert corrected[0] >= 0.93


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
    for counts in rng.multinomial(labels, shares, RUNS):
        both = [each for each, count in zip(said, counts, strict=True) for _ in range(count)]
        pairs = [Rated(str(n), *each) for n, each in enumerate(both)]
        found = kappa_interval(pairs, ("baseline", "candidate"), 0.95)
        if found.low is not None:
            hold.append(found.low - 1e-9 <= kappa <= found.high + 1e-9)
    log.info("kappa %s, %s, %d labels: %.3f", kappa, name, labels, np.mean(hold))
    assert np.mean(hold) >= 0.93


def test_kappas_interval_holds_the_truth_of_pairs_in_groups():
    rng, hold = np.random.default_rng(4), 0
    for _ in range(RUNS):
        rated = []
        for group in range(25):
            agrees = rng.beta(2.4, 1.6)  # on 60 % of the pairs, more in some groups than in others
            for _ in range(4):
                human = WORDS[rng.integers(3)]
                judge = human if rng.random() < agrees else WORDS[rng.integers(3)]
                rated.append(Rated(str(group), human, judge))
        found = kappa_interval(rated, ("baseline", "candidate"), 0.95)
        hold += found.low <= 0.6 <= found.high
    assert 0.93 <= hold / RUNS <= 0.98
