"""Facts about length and preference: counted by the ratio of the two responses' characters."""

import random
from dataclasses import asdict, replace

import pytest
from pydantic import TypeAdapter

from include.equal_length import equal_length_interval
from include.lengths import LEAST_PAIRS, MOST_BINS, by_length
from include.preferences import ResolvedPair
from include.records import LengthResult, Pair


def make(baseline, candidate, preference, n=0, *, status="judged", group=None):
    texts = ("b" * baseline, "c" * candidate)
    pair = Pair(f"p{n}", "q", *texts, status, group=group)
    return ResolvedPair(pair, (), preference, True)


def spread(count, preference=lambda ratio: "tie"):
    """Pairs whose candidate is from 1/2 to 2 times as long, in random order."""
    ratios = [0.5 * 4 ** (n / (count - 1)) for n in range(count)]
    rows = [make(1_000, round(1_000 * r), preference(r), n) for n, r in enumerate(ratios)]
    random.Random(0).shuffle(rows)
    return rows


def test_pairs_are_cut_into_equal_parts_from_short_to_long():
    found = by_length(spread(103), 0.95)
    assert [each.pairs for each in found.bins] == [21, 20, 21, 20, 21]
    edges = [edge for each in found.bins for edge in (each.shortest, each.longest)]
    assert edges == sorted(edges) and (edges[0], edges[-1]) == (0.5, 2.0)


def test_a_judge_that_follows_length_is_seen():
    found = by_length(spread(100, lambda ratio: "candidate" if ratio > 1 else "baseline"), 0.95)
    assert found.longer_wins.estimate == 1.0 and found.longer_wins.of == 100
    assert [each.win_rate.estimate for each in found.bins] == [0.0, 0.0, 0.5, 1.0, 1.0]


def test_a_judge_that_ignores_length_is_seen():
    rng = random.Random(1)
    rows = spread(2_000, lambda _: rng.choice(["candidate", "baseline"]))
    longer = by_length(rows, 0.99).longer_wins
    assert longer.low < 0.5 < longer.high and longer.high - longer.low < 0.07


@pytest.mark.parametrize(("pairs", "bins"), [(1, 1), (19, 1), (20, 2), (49, 4), (50, 5), (900, 5)])
def test_few_pairs_make_few_parts(pairs, bins):
    rows = [make(10, 10 + n, "tie", n) for n in range(pairs)]
    assert len(by_length(rows, 0.95).bins) == bins <= MOST_BINS
    assert pairs < LEAST_PAIRS or min(b.pairs for b in by_length(rows, 0.95).bins) >= LEAST_PAIRS


def test_ties_and_equal_lengths_do_not_count_for_the_longer():
    rows = [make(10, 20, "tie", 0), make(10, 10, "candidate", 1), make(10, 20, "candidate", 2)]
    longer = by_length(rows, 0.95).longer_wins
    assert (longer.count, longer.of) == (1, 1)
    assert by_length(rows[:1], 0.95).longer_wins.estimate is None


def test_what_the_judge_has_not_compared_does_not_count():
    rows = [
        make(10, 20, None, 0),
        make(10, 10, "tie", 1, status="identical"),
        ResolvedPair(Pair("p2", "q", None, "x", "baseline_failed"), (), None, None),
    ]
    assert by_length(rows, 0.95) is None


def test_medians_are_in_characters():
    found = by_length([make(10, 30, "tie", 0), make(20, 50, "tie", 1)], 0.95)
    assert (found.baseline, found.candidate) == (15, 40)


def test_groups_are_the_units():
    rows = [make(10, 10 + n, "candidate", n, group="one article") for n in range(30)]
    assert all(each.win_rate.low is None for each in by_length(rows, 0.95).bins)


def test_the_win_rate_at_equal_length_is_that_of_the_differences_in_characters():
    rng = random.Random(2)
    rows = spread(200, lambda ratio: "candidate" if rng.random() < ratio / 2 else "baseline")
    found = by_length(rows, 0.9).at_equal_length
    expected = equal_length_interval(
        [row.score for row in rows],
        [len(row.pair.candidate) - len(row.pair.baseline) for row in rows],
        [row.pair.prompt_id for row in rows],
        0.9,
    )
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.confidence_level == 0.9 and found.units == 200


def test_identical_responses_do_not_count_at_equal_length():
    rng = random.Random(3)
    rows = spread(100, lambda _: rng.choice(["candidate", "candidate", "baseline"]))
    same = [make(10, 10, "tie", n, status="identical") for n in range(100, 200)]
    assert by_length(rows + same, 0.95) == by_length(rows, 0.95)


def test_a_summary_from_before_the_win_rate_at_equal_length_can_be_read():
    found = by_length(spread(30), 0.95)
    old = {key: value for key, value in asdict(found).items() if key != "at_equal_length"}
    assert TypeAdapter(LengthResult).validate_python(old) == replace(found, at_equal_length=None)
