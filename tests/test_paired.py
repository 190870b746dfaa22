"""Facts about comparing two runs on the prompts they share."""

import json
import random
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from include.intervals import cluster_t_interval
from include.paired import compare_runs
from include.preferences import SCORE, ResolvedPair
from include.records import Pair

PREFERENCES = ("candidate", "tie", "baseline", None)


def resolved(preferences, *, first=0, group=None, text="q"):
    return [
        ResolvedPair(
            Pair(f"p{i}", f"{text}{i}", "x", "y", "judged", group=group(i) if group else None),
            (),
            preference,
            None,
        )
        for i, preference in enumerate(preferences, first)
    ]


def change(earlier, later, **options):
    return compare_runs(
        earlier, later, **{"candidate": "claude", "confidence_level": 0.95, **options}
    )


def drawn(seed, count, shift=0.0):
    """Preferences of two runs in which the same prompts are hard."""
    rng = random.Random(seed)
    runs = [], []
    for _ in range(count):
        ease = rng.choice((0.1, 0.5, 0.9))
        for run, more in zip(runs, (0.0, shift), strict=True):
            run.append("candidate" if rng.random() < ease + more else "baseline")
    return runs


def test_the_difference_has_the_paired_t_interval_of_scipy():
    earlier, later = drawn(1, 400, 0.05)
    found = change(resolved(earlier), resolved(later))
    scores = [[SCORE[p] for p in run] for run in (later, earlier)]
    theirs = stats.ttest_rel(*scores).confidence_interval(0.95)
    assert found.difference == pytest.approx(sum(scores[0]) / 400 - sum(scores[1]) / 400)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.001)
    assert (found.earlier, found.later) == (sum(scores[1]) / 400, sum(scores[0]) / 400)


def test_pairing_makes_the_interval_narrower_where_the_same_prompts_are_hard():
    earlier, later = drawn(2, 300)
    found = change(resolved(earlier), resolved(later))
    alone = [
        cluster_t_interval([SCORE[p] for p in run], [str(i) for i in range(300)], 0.95)
        for run in (earlier, later)
    ]
    unpaired = 2 * 1.96 * sum(each.standard_error**2 for each in alone) ** 0.5
    assert found.high - found.low < 0.85 * unpaired


def test_the_same_run_twice_shows_no_change():
    run = resolved(["candidate", "tie", "baseline"] * 20)
    found = change(run, run)
    assert found.verdict == "inconclusive" and found.difference == 0.0
    assert found.low < 0 < found.high and found.high - found.low < 0.2
    assert (found.improved, found.worsened, found.unchanged) == (0, 0, 60)
    assert found.sign_test_p_value is None
    assert found.sentence.startswith(
        "No change is shown: claude wins 50 % of 60 shared prompts, 50 % before: 0"
    )


def test_a_fall_and_a_rise_are_told_with_their_sentence():
    good, poor = ["candidate"] * 80 + ["baseline"] * 20, ["candidate"] * 50 + ["baseline"] * 50
    worse = change(resolved(good), resolved(poor))
    assert (worse.verdict, worse.worsened, worse.improved) == ("worse", 30, 0)
    assert worse.sentence == (
        "claude wins 50 % of 100 shared prompts, 80 % before: -30 percentage points "
        "(95 % interval -38.8 to -20)."
    )
    better = change(resolved(poor), resolved(good))
    assert better.verdict == "better"
    assert (better.low, better.high) == pytest.approx((-worse.high, -worse.low))
    assert better.sign_test_p_value == pytest.approx(stats.binomtest(30, 30).pvalue)


def test_only_shared_prompts_with_a_preference_in_both_runs_count():
    earlier = resolved(["candidate"] * 10 + [None] * 2)
    later = resolved(["baseline"] * 10 + ["candidate"] * 4, first=4)
    later[0] = resolved(["baseline"], first=4, text="other")[0]
    found = change(earlier, later)
    assert found.prompts == 5
    left = found.left_out
    assert (left.only_earlier, left.only_later) == (4, 6)
    assert (left.different_prompt, left.no_preference) == (1, 2)
    assert found.sentence.endswith(
        "Left out: 4 only in the earlier run, 6 only in the later run, 1 with another text, "
        "2 without a preference in both."
    )
    assert "rough" in found.sentence


def test_groups_are_the_unit():
    group = lambda i: str(i // 20)  # noqa: E731
    earlier = ["baseline"] * 200
    later = ["candidate" if i // 20 % 2 else "baseline" for i in range(200)]
    alone = change(resolved(earlier), resolved(later))
    grouped = change(resolved(earlier, group=group), resolved(later, group=group))
    assert "10 groups" in grouped.method and grouped.units == 10
    assert grouped.high - grouped.low > 3 * (alone.high - alone.low)


def test_one_shared_group_has_no_interval():
    one = lambda i: "notre dame"  # noqa: E731
    found = change(resolved(["tie"] * 9, group=one), resolved(["candidate"] * 9, group=one))
    assert (found.low, found.high, found.verdict) == (None, None, "inconclusive")
    assert "has no interval" in found.sentence


@pytest.mark.parametrize("later", [[], resolved(["tie"] * 3, first=9), resolved([None] * 3)])
def test_nothing_shared_is_said(later):
    found = change(resolved(["candidate"] * 3), later)
    assert (found.prompts, found.difference, found.verdict) == (0, None, "inconclusive")
    assert "share no prompt" in found.sentence


def test_several_candidates_make_wider_intervals():
    earlier, later = drawn(3, 100)
    one, three = (change(resolved(earlier), resolved(later), candidates=k) for k in (1, 3))
    assert three.high - three.low > one.high - one.low
    assert "98.33 % interval" in three.sentence and "95 % for all 3 candidates" in three.sentence


def test_a_prompt_that_is_no_valid_unicode_is_compared_all_the_same():
    run = resolved(["tie"] * 3, text="\ud800")
    assert change(run, run).prompts == 3


@given(
    runs=st.lists(st.tuples(*[st.sampled_from(PREFERENCES)] * 2), max_size=40),
    offset=st.integers(0, 5),
    groups=st.integers(1, 40),
)
@settings(max_examples=150)
def test_every_prompt_is_counted_once_and_numbers_stay_in_range(runs, offset, groups):
    group = lambda i: str(i % groups)  # noqa: E731
    earlier = resolved([a for a, _ in runs], group=group)
    later = resolved([b for _, b in runs], first=offset, group=group)
    found = change(earlier, later)
    left = found.left_out
    assert found.improved + found.worsened + found.unchanged == found.prompts
    shared = found.prompts + left.different_prompt + left.no_preference
    assert shared + left.only_earlier == len(earlier)
    assert shared + left.only_later == len(later)
    if found.low is not None:
        assert -1 <= found.low <= found.difference + 1e-12
        assert found.difference - 1e-12 <= found.high <= 1
    json.dumps(asdict(found), allow_nan=False)
