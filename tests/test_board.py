"""Facts about the board: strengths, sets of ranks, and what is said about them."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from include.board import PairingScores, rank, scores_of, unconnected
from include.intervals import cluster_t_interval
from include.preferences import ResolvedPair
from include.records import Pair


def prompts(count):
    return [f"prompt {n}" for n in range(count)]


def pairing(first, second, wins, losses, ties=0):
    scores = [1.0] * wins + [0.0] * losses + [0.5] * ties
    return PairingScores(first, second, scores, prompts(len(scores)))


def ranked(*pairings, baseline="old", **options):
    return rank(pairings, baseline=baseline, confidence_level=0.95, **options)


def ranks(board):
    return {each.model: (each.best_rank, each.worst_rank) for each in board.models}


def row(board, model):
    return next(each for each in board.models if each.model == model)


def drawn(seed, strengths, count, pairings):
    """Scores of models that every prompt asks, with ties; some prompts suit some models better."""
    rng = np.random.default_rng(seed)
    names = list(strengths)
    quality = np.array(list(strengths.values())) + 0.5 * rng.standard_normal((count, len(names)))
    found = []
    for first, second in pairings:
        gap = quality[:, names.index(second)] - quality[:, names.index(first)]
        gap += 0.6 * rng.logistic(size=count)
        scores = np.where(gap > 0.3, 1.0, np.where(gap < -0.3, 0.0, 0.5))
        found.append(PairingScores(first, second, scores.tolist(), prompts(count)))
    return found


def hunters(pairings, rounds=5000):
    """Hunter's MM algorithm (2004), ties half: another way to the same maximum."""
    names = list(dict.fromkeys(name for each in pairings for name in (each.first, each.second)))
    strength = dict.fromkeys(names, 1.0)
    for _ in range(rounds):
        wins, weight = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
        for each in pairings:
            won = sum(each.scores)
            wins[each.second] += won
            wins[each.first] += len(each.scores) - won
            share = len(each.scores) / (strength[each.first] + strength[each.second])
            weight[each.first] += share
            weight[each.second] += share
        strength = {name: wins[name] / weight[name] for name in names}
    return strength


def test_the_strengths_are_those_of_maximum_likelihood():
    strengths = {"old": 0.0, "a": 0.4, "b": -0.8, "c": 1.0}
    played = [("old", "a"), ("a", "b"), ("b", "c"), ("old", "c"), ("a", "c")]
    found = drawn(1, strengths, 60, played)
    found[1] = replace(found[1], scores=found[1].scores[:25], units=found[1].units[:25])
    board, expected = ranked(*found), hunters(found)
    for each in board.pairings:
        one, other = expected[each.second], expected[each.first]
        assert each.expected == pytest.approx(one / (one + other), abs=2e-6)
    for each in board.models:
        share = expected[each.model] / (expected[each.model] + expected["old"])
        assert each.win_rate == pytest.approx(share, abs=2e-6)


def test_where_all_met_the_baseline_only_the_observed_win_rates_come_out():
    board = ranked(pairing("old", "a", 50, 30, 20), pairing("old", "b", 10, 45, 5))
    assert board.only_with_baseline
    assert row(board, "a").win_rate == pytest.approx(0.6)
    assert row(board, "b").win_rate == pytest.approx(12.5 / 60, abs=1e-6)
    assert all(
        each.fits and each.observed == pytest.approx(each.expected, abs=2e-6)
        for each in board.pairings
    )
    assert "No two candidates were compared with each other" in board.sentence


def test_two_models_have_about_the_interval_of_a_comparison():
    scores = [1.0] * 200 + [0.5] * 50 + [0.0] * 150
    units = [f"group {n // 4}" for n in range(400)]
    alone = cluster_t_interval(scores, units, 0.95)
    found = row(ranked(PairingScores("old", "new", scores, units, "groups")), "new")
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high), abs=0.006)


def test_models_that_are_clearly_apart_have_one_rank_each():
    board = ranked(
        pairing("old", "a", 80, 20), pairing("old", "b", 20, 80), pairing("a", "b", 10, 90)
    )
    assert ranks(board) == {"a": (1, 1), "old": (2, 2), "b": (3, 3)}
    assert [each.model for each in board.models] == ["a", "old", "b"]
    assert all(each.not_told_from == [] for each in board.models)
    assert board.sentence == "a is the best of the 3 models (95 % for all ranks together)."


def test_models_that_cannot_be_told_apart_share_their_ranks():
    board = ranked(pairing("old", "a", 80, 20), pairing("old", "b", 78, 22))
    assert ranks(board) == {"a": (1, 2), "b": (1, 2), "old": (3, 3)}
    assert row(board, "a").not_told_from == ["b"]
    assert "a and b cannot be told apart; one of them is the best of the 3" in board.sentence


def test_equal_models_may_have_any_rank():
    board = ranked(pairing("old", "a", 20, 20), pairing("old", "b", 21, 19))
    assert set(ranks(board).values()) == {(1, 3)}
    assert "No two of the 3 models can be told apart" in board.sentence


def test_models_below_the_best_without_a_rank_of_their_own_are_named():
    board = ranked(
        pairing("old", "a", 90, 10),
        pairing("old", "b", 50, 50),
        pairing("a", "b", 10, 90),
    )
    assert ranks(board) == {"a": (1, 1), "b": (2, 3), "old": (2, 3)}
    assert "Below, b and old have no single rank." in board.sentence


def test_the_interval_excludes_50_percent_exactly_where_the_model_is_told_from_the_baseline():
    told = []
    for seed in range(60):
        board = ranked(*drawn(seed, {"old": 0.0, "a": 0.4}, 40, [("old", "a")]))
        found = row(board, "a")
        apart = found.not_told_from == []
        assert apart == (found.low > 0.5 or found.high < 0.5)
        told.append(apart)
    assert len(set(told)) == 2


@pytest.mark.parametrize("count", [6, 40, 400])
def test_a_model_that_wins_everything_has_a_finite_strength_and_an_interval(count):
    board = ranked(pairing("old", "a", count, 0), pairing("old", "b", count // 2, count // 2))
    found = row(board, "a")
    assert found.win_rate == 1.0
    assert 0.1 < found.low < 1.0 and found.high == 1.0
    assert 0 < found.log_strength < 10


def test_more_prompts_make_the_interval_of_a_model_that_wins_everything_shorter():
    lows = [row(ranked(pairing("old", "a", n, 0)), "a").low for n in (6, 12, 50, 400)]
    assert lows == sorted(lows) and lows[-1] > 0.97


def test_prompts_of_one_group_count_as_one_voice():
    scores = [1.0] * 60 + [0.0] * 20
    by_prompt = row(ranked(PairingScores("old", "new", scores, prompts(80))), "new")
    groups = [f"group {n // 10}" for n in range(80)]
    board = ranked(PairingScores("old", "new", scores, groups, "groups"))
    assert by_prompt.low > 0.5 > row(board, "new").low
    assert board.units == 8
    assert "8 groups" in board.method and "rough" in board.method
    assert "With only 8 independent units all this is rough." in board.sentence


def test_a_prompt_in_several_pairings_is_one_unit():
    board = ranked(pairing("old", "a", 30, 20), pairing("old", "b", 30, 20))
    assert board.units == 50


def test_a_single_unit_says_nothing_about_ranks():
    one = PairingScores("old", "a", [1.0] * 50, ["group x"] * 50, "groups")
    two = PairingScores("old", "b", [0.0] * 50, ["group x"] * 50, "groups")
    board = ranked(one, two)
    assert set(ranks(board).values()) == {(1, 3)}
    assert all(each.low is None and each.high is None for each in board.models)
    assert board.method == "none: a single independent unit"
    assert board.sentence.startswith("Inconclusive: all that counts is a single independent unit.")


def test_the_baseline_has_50_percent_and_no_interval():
    found = row(ranked(pairing("old", "a", 30, 20)), "old")
    assert (found.win_rate, found.low, found.high, found.log_strength) == (0.5, None, None, 0.0)


def test_models_that_beat_each_other_in_a_circle_do_not_fit_one_scale():
    board = ranked(
        pairing("old", "a", 80, 20), pairing("a", "b", 80, 20), pairing("b", "old", 80, 20)
    )
    assert set(ranks(board).values()) == {(1, 3)}
    assert not any(each.fits for each in board.pairings)
    assert all(each.expected == pytest.approx(0.5) for each in board.pairings)
    assert "In 3 of 3 pairings more than chance lies between" in board.sentence


def test_models_on_one_scale_fit_it():
    strengths = {"old": 0.0, "a": 0.5, "b": 1.0, "c": -0.5}
    met = list(itertools.combinations(strengths, 2))
    boards = [ranked(*drawn(seed, strengths, 100, met)) for seed in range(30)]
    misfits = sum(not all(each.fits for each in board.pairings) for board in boards)
    assert misfits <= 4


def test_models_that_never_met_are_ranked_through_others():
    board = ranked(
        pairing("old", "a", 70, 30), pairing("a", "b", 70, 30), pairing("b", "c", 70, 30)
    )
    assert ranks(board) == {"c": (1, 1), "b": (2, 2), "a": (3, 3), "old": (4, 4)}
    assert not board.only_with_baseline


def test_a_model_that_nothing_links_to_the_others_is_named():
    two = [pairing("old", "a", 3, 2), pairing("b", "c", 3, 2)]
    assert unconnected(two, "old") == ["b", "c"]
    assert unconnected(two, "new") == ["old", "a", "b", "c"]
    assert unconnected([two[0], PairingScores("old", "d", [], [])], "old") == ["d"]
    with pytest.raises(ValueError, match="no pairing links b and c to old"):
        ranked(*two)
    with pytest.raises(ValueError, match="no pairing links any model to old"):
        ranked()


def test_a_pairing_without_scores_changes_nothing():
    two = [pairing("old", "a", 30, 20), pairing("old", "b", 10, 40)]
    assert ranked(*two, PairingScores("a", "b", [], [])) == ranked(*two)


def test_the_same_scores_make_the_same_board():
    two = [pairing("old", "a", 30, 20), pairing("old", "b", 28, 22)]
    assert ranked(*two) == ranked(*two)


def test_a_reason_for_doubt_stands_first():
    board = ranked(pairing("old", "a", 80, 20), doubt="the judge is unreliable")
    assert board.sentence.startswith("Inconclusive: the judge is unreliable. By the numbers alone:")


def test_many_models_are_counted_in_the_sentence_instead_of_named():
    board = ranked(*(pairing("old", f"m{n}", 80, 20) for n in range(7)))
    assert (
        "7 models cannot be told apart; one of them is the best of the 8 models" in board.sentence
    )


def test_pairs_without_a_preference_are_left_out_and_groups_are_units():
    def resolved(n, preference, group=None):
        pair = Pair(f"p{n}", "q", "x", "y", "judged", group=group)
        return ResolvedPair(pair, (), preference, None)

    found = scores_of("old", "new", [resolved(0, "candidate"), resolved(1, None)])
    assert found == PairingScores("old", "new", [1.0], ["prompt p0"])
    grouped = scores_of("old", "new", iter([resolved(0, "tie", "g"), resolved(1, "baseline", "g")]))
    assert grouped == PairingScores("old", "new", [0.5, 0.0], ["group g", "group g"], "groups")
