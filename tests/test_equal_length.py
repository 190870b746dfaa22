"""Facts about the win rate at equal length; expected values come from statsmodels."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit

from include.equal_length import (
    LONGER,
    SEPARATED,
    SHORTER,
    UNKNOWN,
    equal_length_interval,
)
from include.intervals import NOTHING, SINGLE_UNIT, cluster_t_interval


def each(count):
    """One cluster for every score."""
    return [str(n) for n in range(count)]


def drawn(seed, count, groups=None):
    """Scores that follow length, with ties, and the groups that they belong to."""
    rng = np.random.default_rng(seed)
    differences = rng.normal(150, 400, count).round()
    won = rng.random(count) < expit(0.4 + differences / 300)
    scores = np.where(rng.random(count) < 0.2, 0.5, won)
    clusters = rng.integers(groups, size=count) if groups else range(count)
    return scores.tolist(), differences.tolist(), [str(cluster) for cluster in clusters]


def by_statsmodels(scores, differences, clusters):
    """The fit, with the usual sandwich."""
    import statsmodels.api as sm

    lengths = np.array(differences)
    x = sm.add_constant(np.tanh(lengths / lengths.std(ddof=1)))
    model = sm.GLM(scores, x, sm.families.Binomial())
    _, codes = np.unique(clusters, return_inverse=True)
    return model.fit(cov_type="cluster", cov_kwds={"groups": codes, "use_correction": False})


SAMPLES = [drawn(1, 60), drawn(2, 400), drawn(3, 300, 20), drawn(4, 1_000, 60)]


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_estimate_is_the_fitted_value_of_statsmodels_at_no_difference(sample):
    found = equal_length_interval(*sample, 0.95)
    assert found.estimate == pytest.approx(expit(by_statsmodels(*sample).params[0]), abs=1e-9)


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_standard_error_is_that_of_fits_without_one_cluster_each(sample):
    import statsmodels.api as sm

    scores, differences, clusters = map(np.array, sample)
    x = sm.add_constant(np.tanh(differences / differences.std(ddof=1)))
    fits = [
        sm.GLM(scores[clusters != left], x[clusters != left], sm.families.Binomial()).fit()
        for left in np.unique(clusters)
    ]
    whole = by_statsmodels(*sample).params[0]
    moved = np.array([fit.params[0] for fit in fits]) - whole
    units = len(moved)
    slow = math.sqrt((units - 1) / units * (moved**2).sum())
    found = equal_length_interval(*sample, 0.95)
    mean = found.estimate
    # One Newton step instead of a new fit; the two differ by less the more clusters there are.
    assert found.standard_error == pytest.approx(mean * (1 - mean) * slow, rel=0.02)


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_standard_error_is_a_little_above_the_sandwich(sample):
    found, sandwich = equal_length_interval(*sample, 0.95), by_statsmodels(*sample).bse[0]
    ratio = found.standard_error / (found.estimate * (1 - found.estimate) * sandwich)
    assert 1 < ratio < 1 + 3 / found.units


def test_the_interval_is_students_on_the_logit():
    found = equal_length_interval(*SAMPLES[2], 0.9)
    logit = math.log(found.estimate / (1 - found.estimate))
    error = found.standard_error / found.estimate / (1 - found.estimate)
    half = stats.t.ppf(0.95, 19) * error
    assert (found.low, found.high) == pytest.approx((expit(logit - half), expit(logit + half)))
    assert found.method == "logistic in length, cluster jackknife t on 20 prompts"


def test_a_preference_for_length_is_taken_out():
    rng = random.Random(5)
    differences = [rng.gauss(300, 300) for _ in range(4_000)]
    scores = [float(rng.random() < expit(x / 150)) for x in differences]
    found = equal_length_interval(scores, differences, each(4_000), 0.95)
    assert sum(scores) / 4_000 > 0.75 and found.low < 0.5 < found.high


def test_without_an_effect_of_length_it_is_about_the_raw_win_rate_and_less_sure():
    rng = random.Random(6)
    differences = [rng.gauss(200, 300) for _ in range(2_000)]
    scores = [float(rng.random() < 0.7) for _ in differences]
    raw = cluster_t_interval(scores, each(2_000), 0.95)
    found = equal_length_interval(scores, differences, each(2_000), 0.95)
    assert found.estimate == pytest.approx(raw.estimate, abs=0.02)
    assert raw.standard_error < found.standard_error < 2 * raw.standard_error


def test_with_the_roles_changed_it_is_mirrored():
    scores, differences, clusters = SAMPLES[2]
    found = equal_length_interval(scores, differences, clusters, 0.95)
    other = equal_length_interval(
        [1 - score for score in scores], [-x for x in differences], clusters, 0.95
    )
    assert (other.low, other.high) == pytest.approx((1 - found.high, 1 - found.low))


@pytest.mark.parametrize("unit", [1e-3, 1e6])
def test_the_unit_of_length_does_not_matter(unit):
    scores, differences, clusters = SAMPLES[0]
    found = equal_length_interval(scores, differences, clusters, 0.95)
    other = equal_length_interval(scores, [unit * x for x in differences], clusters, 0.95)
    assert (other.low, other.high) == pytest.approx((found.low, found.high))


def test_groups_that_agree_make_it_wider():
    scores, differences, clusters = drawn(8, 100)
    alone = equal_length_interval(scores, differences, clusters, 0.95)
    fourfold = equal_length_interval(4 * scores, 4 * differences, 4 * clusters, 0.95)
    assert (fourfold.low, fourfold.high) == pytest.approx((alone.low, alone.high), abs=1e-3)
    assert fourfold.units == 100


@pytest.mark.parametrize(
    ("scores", "differences", "says"),
    [
        ([1, 1, 0, 0.5], [0, 0, 0, 0], "all lengths are equal"),
        ([1, 1, 1, 1], [5, -5, 20, 0], "all scores are equal"),
        ([0.5, 0.5, 0.5, 0.5], [5, -5, 20, 0], "all scores are equal"),
    ],
)
def test_where_length_cannot_matter_it_is_the_raw_interval(scores, differences, says):
    found = equal_length_interval(scores, differences, each(4), 0.95)
    raw = cluster_t_interval(scores, each(4), 0.95)
    assert (found.estimate, found.low, found.high) == (raw.estimate, raw.low, raw.high)
    assert found.method == f"{raw.method}; {says}"


NO_ANSWER = {
    "all longer": ([1, 0, 1, 1], [1, 2, 3, 4], each(4), LONGER),
    "all longer, all won": ([1, 1, 1, 1], [1, 2, 3, 4], each(4), LONGER),
    "all shorter": ([1, 0, 1, 1], [-1, -2, -3, -4], each(4), SHORTER),
    "the longer always wins": ([0, 0, 1, 1], [-2, -1, 1, 2], each(4), SEPARATED),
    "the shorter always wins": ([1, 1, 0, 0], [-2, -1, 1, 2], each(4), SEPARATED),
    "separated at a tie": ([0, 0.5, 0.5, 1], [-2, 1, 1, 2], each(4), SEPARATED),
    "one group": ([0, 1, 0, 1], [-2, -1, 1, 2], ["a"] * 4, SINGLE_UNIT),
    "only one unit differs": ([0, 1, 0, 1], [0, 0, 7, 7], ["a", "b", "c", "c"], UNKNOWN),
    "nothing": ([], [], [], NOTHING),
}


@pytest.mark.parametrize("case", NO_ANSWER)
def test_where_the_model_has_no_answer_there_is_none_and_a_reason(case):
    *sample, reason = NO_ANSWER[case]
    found = equal_length_interval(*sample, 0.95)
    assert (found.estimate, found.low, found.high, found.method) == (None, None, None, reason)


def test_below_ten_units_it_is_rough():
    sample = [0, 1, 0, 1, 1, 0], [-9, -5, 1, 2, 7, 3]
    assert equal_length_interval(*sample, each(6), 0.95).method.endswith("fewer than ten, so rough")


PAIR = st.tuples(
    st.sampled_from([0.0, 0.5, 1.0]),
    st.integers(-3, 3) | st.integers(-(10**9), 10**9),
    st.sampled_from("abcdefgh"),
)


@given(st.lists(PAIR, min_size=1, max_size=25))
def test_it_is_an_interval_with_the_estimate_in_it_or_a_reason(rows):
    scores, differences, clusters = zip(*rows, strict=True)
    found = equal_length_interval(scores, differences, clusters, 0.95)
    if found.estimate is None:
        assert found.low is None and found.method.startswith("none: ")
    elif found.low is not None:
        assert 0 <= found.low <= found.estimate <= found.high <= 1
