"""Facts about the worth of a gate: what it cries wolf about, and what it catches."""

from types import SimpleNamespace

import pytest

from include.gate_power import Caught, GatePower, Past, gather, multiplied, simulate
from include.preferences import ResolvedPair
from include.records import Pair
from scripts.gate_power import text


def resolved(*preferences, group=None):
    return [
        ResolvedPair(Pair(f"p{i}", "q", "x", "y", "judged", group=group), (), preference, True)
        for i, preference in enumerate(preferences)
    ]


def steady(count, share=0.7):
    """Prompts that come out alike every night."""
    won = round(count * share)
    return {f"p{i}": Past(f"prompt p{i}", [float(i < won)] * 3) for i in range(count)}


def noisy(count):
    """Prompts that come out differently on one night of three."""
    return {f"p{i}": Past(f"prompt p{i}", [1.0, 1.0, 0.0]) for i in range(count)}


def power(past, rule="no_regression", margin=0.05, **options):
    return simulate(past, rule, margin, 0.95, **{"simulations": 100, **options})


def test_several_runs_are_put_together_by_prompt():
    past = gather([resolved("candidate", "tie", None), resolved("baseline", "tie", "candidate")])
    assert {name: each.scores for name, each in past.items()} == {
        "p0": [1.0, 0.0],
        "p1": [0.5, 0.5],
        "p2": [1.0],
    }
    assert gather([resolved("tie", group="a")])["p0"].unit == "group a"


def test_nights_that_are_all_alike_raise_no_alarm():
    found = power(steady(400))
    assert (found.false_alarms, found.inconclusive) == (0.0, 0.0)
    assert (found.prompts, found.runs) == (400, 3)


def test_false_alarms_are_rare_however_noisy_the_nights_are():
    found = power(noisy(100), margin=0.02, simulations=400)
    assert found.false_alarms <= 0.05 and found.inconclusive > 0.5


def test_the_larger_a_drop_the_more_often_it_is_caught_and_two_nights_see_more_than_one():
    found = power(noisy(300))
    one = [each.one_night for each in found.drops]
    assert one == sorted(one) and one[-1] == 1.0
    assert all(each.two_nights >= each.one_night for each in found.drops)
    assert found.smallest is not None and 0.1 <= found.smallest <= 0.2


def test_more_prompts_catch_smaller_drops():
    assert power(noisy(1_000), simulations=60).smallest < power(noisy(100), simulations=60).smallest


def test_multiplied_prompts_are_units_of_their_own_that_come_out_as_before():
    more = multiplied(noisy(100), 4)
    assert len(more) == len({each.unit for each in more.values()}) == 400
    assert {tuple(each.scores) for each in more.values()} == {(1.0, 1.0, 0.0)}
    assert power(more, simulations=60).smallest < power(noisy(100), simulations=60).smallest


def test_a_gate_on_the_win_rate_looks_at_the_win_rate():
    found = power(steady(400, share=0.52), "superiority", 0.0)
    assert found.inconclusive == 1.0 and found.false_alarms == 0.0
    assert power(steady(400, share=0.7), "superiority", 0.0).inconclusive == 0.0


def test_a_single_past_run_is_taken_to_repeat_itself_most_of_the_time():
    once = {f"p{i}": Past(f"prompt p{i}", [float(i % 10 < 7)]) for i in range(300)}
    found = power(once)
    assert found.runs == 1 and found.false_alarms < 0.05
    assert found.smallest is not None


def test_the_same_seed_simulates_the_same_nights():
    assert power(noisy(50), seed=3) == power(noisy(50), seed=3)


@pytest.mark.parametrize(("shares", "smallest"), [((0.1, 0.9), 0.05), ((0.1, 0.2), None)])
def test_the_smallest_drop_is_the_first_that_is_caught_four_times_in_five(shares, smallest):
    drops = [Caught(0.02, 0.0, shares[0]), Caught(0.05, 0.0, shares[1])]
    assert GatePower(1, 1, 0.0, 0.0, drops).smallest == smallest


def test_a_gate_that_catches_too_little_is_told_what_more_prompts_would_do():
    config = SimpleNamespace(gate=SimpleNamespace(rule="no_regression", margin=0.05))
    weak = GatePower(60, 3, 0.0, 0.9, [Caught(0.3, 0.1, 0.2)])
    strong = GatePower(240, 3, 0.0, 0.4, [Caught(0.1, 0.7, 0.9)])
    said = " ".join(" ".join(text(config, "claude", weak, strong)).split())
    assert "catches, 80 % of the time, no drop up to 30 percentage points" in said
    assert "With 240 such prompts, 4 times as many, it would catch a drop of 10 percentage" in said
    assert "With 240" not in " ".join(text(config, "claude", weak, None))
