"""Facts about the numbers that people's labels make: against others' programs, and at the edges."""

from dataclasses import replace

import pytest
from scipy import stats

from include.agreement import Rated, Scored, corrected_interval, kappa_interval
from include.intervals import cluster_t_interval

LABELS = [1.0, 0.5, 0.0, 1.0, 1.0, 0.0, 0.5, 0.0, 1.0, 0.0]
JUDGED = [1.0, 0.5, 1.0, 1.0, 0.5, 0.0, 1.0, 0.0, 1.0, 0.0]


def make(labelled, total=400):
    """Pairs of which the first ones have a label; the judge agrees with most of them."""
    return [
        Scored(
            f"prompt {i}",
            JUDGED[(i * 7 // 5) % 10] if i % 3 == 0 else JUDGED[i % 10],
            LABELS[i % 10] if i < labelled else None,
        )
        for i in range(total)
    ]


def in_groups_of(size, pairs):
    return [replace(pair, unit=f"group {n // size}") for n, pair in enumerate(pairs)]


# What ppi-python 0.2.3 says of make(60): Y and F are labels and judge's scores of the first 60, U
# the judge's scores of the other 340, lam is 340 / 400 of our weight.
#   ppi_mean_pointestimate(Y, F, U, lam=lam), ppi_mean_ci(Y, F, U, alpha=0.05, lam=lam)
PPI_PYTHON = {
    0.0: (0.5, 0.38684142659238285, 0.6131585734076171),
    0.3: (0.500375, 0.39478278156437147, 0.6059672184356285),
    1.0: (0.50125, 0.38075202076153714, 0.6217479792384628),
}
TUNED = (0.5005219392096762, 0.39560160512008247, 0.60544227329927)
"""The same without `lam`."""


@pytest.mark.parametrize("weight", PPI_PYTHON)
def test_estimate_and_standard_error_are_those_of_ppi_python(weight):
    found = corrected_interval(make(60), 0.95, weight=weight).interval
    estimate, low, high = PPI_PYTHON[weight]
    assert found.estimate == pytest.approx(estimate)
    error = (high - low) / 2 / stats.norm.ppf(0.975)  # with n in the place of n - 1
    assert found.standard_error == pytest.approx(error * (60 / 59) ** 0.5, rel=0.002)


def test_the_weight_is_a_little_below_that_of_ppi_python_and_the_interval_wider():
    found = corrected_interval(make(60), 0.95)
    estimate, low, high = TUNED
    assert found.interval.estimate == pytest.approx(estimate, abs=0.001)
    theirs = (estimate - 0.5) / 0.00125  # the estimate is linear in the weight
    assert theirs - 0.08 < found.weight < theirs  # two labels against the judge
    assert (high - low) < found.interval.high - found.interval.low < 1.05 * (high - low)


@pytest.mark.parametrize("size", [1, 4])
def test_the_weight_makes_the_interval_narrowest(size):
    pairs = in_groups_of(size, make(120))
    found = corrected_interval(pairs, 0.95)
    width = found.interval.high - found.interval.low
    for step in range(11):
        other = corrected_interval(pairs, 0.95, weight=step / 10).interval
        assert width <= other.high - other.low + 1e-12


def test_labels_of_all_pairs_make_the_judge_superfluous():
    pairs = in_groups_of(4, make(100, 100))
    scores, units = [pair.human for pair in pairs], [pair.unit for pair in pairs]
    alone = cluster_t_interval(scores, units, 0.95)
    for weight in (0.0, 0.5, 1.0, None):
        found = corrected_interval(pairs, 0.95, weight=weight).interval
        assert found.estimate == pytest.approx(alone.estimate)
        assert found.standard_error == pytest.approx(alone.standard_error)
    assert alone.low - 0.03 < found.low < alone.low


def test_a_judge_that_is_wrong_half_of_the_time_is_not_used():
    pairs = [replace(pair, judge=float(n // 10 % 2)) for n, pair in enumerate(make(100))]
    found = corrected_interval(pairs, 0.95)
    assert found.weight < 0.05
    labels = [pair.human for pair in pairs[:100]]
    assert found.interval.estimate == pytest.approx(sum(labels) / 100, abs=0.01)


def test_ten_labels_that_agree_with_the_judge_do_not_prove_it_right():
    pairs = [replace(p, human=p.judge if n < 10 else None) for n, p in enumerate(make(0))]
    found = corrected_interval(pairs, 0.95).interval
    alone = cluster_t_interval([p.judge for p in pairs], [p.unit for p in pairs], 0.95)
    assert found.high - found.low > 3 * (alone.high - alone.low)


@pytest.mark.parametrize("what", ["judge", "human"])
def test_scores_without_spread_have_an_interval(what):
    said = [p for p in make(30) if what == "judge" or p.human is None]
    same = [Scored(f"same {n}", n % 2, 1.0) for n in range(30)] if what == "human" else []
    pairs = [replace(p, judge=1.0) if what == "judge" else p for p in (*said, *same)]
    found = corrected_interval(pairs, 0.95).interval
    assert found.low < found.estimate <= found.high <= 1


def test_pairs_that_are_certain_count_without_a_label():
    asked = make(40, 200)
    certain = [Scored(f"same {n}", 0.5, None, True) for n in range(100)]
    for weight in (0.0, 0.7, 1.0):
        found = corrected_interval([*asked, *certain], 0.95, weight=weight).interval
        of_asked = corrected_interval(asked, 0.95, weight=weight).interval
        assert found.estimate == pytest.approx(of_asked.estimate * 2 / 3 + 0.5 / 3)
        assert found.standard_error < of_asked.standard_error
        assert found.units == 40


def test_without_labels_there_is_no_interval():
    found = corrected_interval(make(0), 0.95)
    assert found.weight is None and found.interval.estimate is None
    assert found.interval.method.startswith("none")
    one = corrected_interval(make(1), 0.95).interval
    assert one.low is None and one.method == "none: a single independent unit"
    group = corrected_interval(in_groups_of(400, make(50)), 0.95).interval
    assert group.low is None


def test_fewer_than_ten_labelled_units_are_rough():
    assert corrected_interval(make(9), 0.95).interval.method.endswith("fewer than ten, so rough")
    assert "rough" not in corrected_interval(make(10), 0.95).interval.method
    assert "rough" in corrected_interval(in_groups_of(10, make(90)), 0.95).interval.method


def rate(*table):
    words = ("candidate", "baseline", "tie")
    said = [
        (human, judge)
        for human, row in zip(words, table, strict=True)
        for judge, count in zip(words, row, strict=True)
        for _ in range(count)
    ]
    return [Rated(f"prompt {n}", *both) for n, both in enumerate(said)]


OPPOSITES = ("baseline", "candidate")


def test_kappa_and_its_standard_error_are_those_of_statsmodels():
    found = kappa_interval(rate([20, 5, 0], [10, 15, 3], [4, 0, 8]), OPPOSITES, 0.95)
    # statsmodels 0.15.0: cohens_kappa([[20, 5, 0], [10, 15, 3], [4, 0, 8]]), its ASE with n
    assert found.estimate == pytest.approx(0.46701453596720083)
    assert found.standard_error == pytest.approx(0.09223677613234117 * (65 / 64) ** 0.5)
    assert found.low == pytest.approx(0.467 - 2 * 0.093, abs=0.03)


def test_pairs_of_one_group_count_as_one_for_kappa():
    alone = rate([20, 5, 0], [10, 15, 3], [4, 0, 8])
    twice = [replace(pair, unit=pair.unit) for pair in alone for _ in range(2)]
    found, doubled = (kappa_interval(each, OPPOSITES, 0.95) for each in (alone, twice))
    assert doubled.estimate == pytest.approx(found.estimate)
    assert doubled.standard_error == pytest.approx(found.standard_error)


def test_always_agreeing_has_kappa_1_and_an_interval():
    found = kappa_interval(rate([10, 0, 0], [0, 10, 0], [0, 0, 0]), OPPOSITES, 0.95)
    assert found.estimate == found.high == 1.0 and 0.4 < found.low < 0.9


@pytest.mark.parametrize("table", [([7, 0, 0], [0, 0, 0], [0, 0, 0]), ([0] * 3, [0] * 3, [0] * 3)])
def test_kappa_is_not_defined_where_nothing_is_told_apart(table):
    found = kappa_interval(rate(*table), OPPOSITES, 0.95)
    assert found.estimate is None and found.method.startswith("none")


def test_one_unit_has_no_interval_of_kappa():
    pairs = [replace(pair, unit="group 1") for pair in rate([3, 1, 0], [1, 3, 0], [0, 0, 0])]
    assert kappa_interval(pairs, OPPOSITES, 0.95).low is None
