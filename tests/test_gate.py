"""Facts about the gate: what passes, what fails, and what it says when it cannot know."""

from dataclasses import replace

import pytest
from judged import ALWAYS_A, LOSS, WIN, compare, judge, make_pairs

from include.gate import decide_gate
from include.paired import compare_by_category, compare_runs
from include.preferences import resolve_pairs

GOOD, POOR = [WIN] * 80 + [LOSS] * 20, [WIN] * 20 + [LOSS] * 80


def outcome(verdicts, rule, margin=0.0):
    return decide_gate([compare(make_pairs(len(verdicts)), verdicts)], rule, margin).outcome


def test_no_rule_is_no_gate():
    assert outcome(GOOD, "none") == "none"


def test_superiority_asks_for_the_whole_interval_above_the_margin():
    assert outcome(GOOD, "superiority") == "pass"
    assert outcome(GOOD, "superiority", 0.25) == "inconclusive"
    assert outcome(GOOD, "superiority", 0.4) == "fail"
    assert outcome(POOR, "superiority") == "fail"


def test_non_inferiority_lets_an_equal_candidate_pass():
    even = [WIN] * 100 + [LOSS] * 100
    assert outcome(even, "superiority") == "inconclusive"
    assert outcome(even, "non_inferiority", 0.1) == "pass"
    assert outcome(even, "non_inferiority", 0.01) == "inconclusive"
    assert outcome(POOR, "non_inferiority", 0.1) == "fail"


def test_an_unreliable_judge_never_passes():
    unreliable = [ALWAYS_A] * 300 + [WIN] * 20
    assert outcome(unreliable, "non_inferiority", 0.2) == "inconclusive"


def test_no_interval_is_inconclusive():
    assert decide_gate([compare([], output=False)], "superiority", 0.0).outcome == ("inconclusive")
    assert decide_gate([], "superiority", 0.0).outcome == "inconclusive"


def test_missing_pairs_that_could_sink_a_pass_make_it_inconclusive():
    result = compare(make_pairs(200), [WIN] * 100 + [LOSS] * 100, prompts=300)
    assert result.unreliable is None
    assert decide_gate([result], "non_inferiority", 0.1).outcome == "inconclusive"


def test_what_is_said_of_a_limit_does_not_contradict_itself():
    exact = compare(make_pairs(100), GOOD)
    close = replace(exact, win_rate=replace(exact.win_rate, low=0.4772, high=0.6))
    gate = decide_gate([close], "non_inferiority", 0.025)
    assert (
        gate.outcome == "pass" and "above 47.5 %" in gate.reason and "48 % to 60 %" in gate.reason
    )
    close = replace(exact, win_rate=replace(exact.win_rate, low=0.4512, high=0.6))
    gate = decide_gate([close], "non_inferiority", 0.05)
    assert (
        gate.outcome == "pass" and "above 45 %" in gate.reason and "45.1 % to 60 %" in gate.reason
    )


def test_a_drop_that_is_allowed_is_said_exactly():
    later = runs(GOOD, GOOD)
    close = replace(later, change=replace(later.change, low=-0.01249, high=0.02))
    gate = regression(close, margin=0.0125)
    assert gate.outcome == "pass"
    assert "a drop of 1.25 percentage points" in gate.reason and "-1.2 to +2" in gate.reason


def test_the_worst_candidate_decides_and_is_named():
    good = compare(make_pairs(100), GOOD)
    poor = replace(compare(make_pairs(100), POOR), candidate="gemma")
    gate = decide_gate([good, poor], "superiority", 0.0)
    assert gate.outcome == "fail" and "gemma" in gate.reason


def runs(earlier, later, *, category=None):
    """The later run's comparison, with its change since the earlier one."""
    pairs = make_pairs(len(later), category=category)
    both = [resolve_pairs(pairs, judge(pairs, said)) for said in (earlier, later)]
    asked = {"candidate": "claude", "confidence_level": 0.95}
    change = compare_runs(*both, **asked)
    change = replace(change, by_category=compare_by_category(*both, **asked))
    return replace(compare(pairs, later), change=change)


def regression(comparison, margin=0.1, **options):
    return decide_gate([comparison], "no_regression", margin, first=False, **options)


def test_a_candidate_that_stays_as_it_was_passes():
    gate = regression(runs(GOOD, GOOD))
    assert gate.outcome == "pass" and gate.threshold is None
    assert gate.reason.startswith(
        "no-regression allows a drop of 10 percentage points since the accepted run; claude's "
        "change is 0 (95 % interval "
    )


def test_a_drop_beyond_the_margin_fails():
    assert regression(runs(GOOD, POOR)).outcome == "fail"


def test_a_drop_that_may_be_chance_is_inconclusive():
    slightly = [LOSS] * 9 + GOOD[9:]
    assert regression(runs(GOOD, slightly)).outcome == "inconclusive"
    assert regression(runs(GOOD, slightly), 0.4).outcome == "pass"


def test_a_candidate_that_has_risen_passes():
    assert regression(runs(POOR, GOOD), 0.01).outcome == "pass"


def test_the_first_run_passes_for_later_ones_need_something_to_be_compared_with():
    gate = decide_gate([compare(make_pairs(100), GOOD)], "no_regression", 0.1, first=True)
    assert gate.outcome == "pass" and "the first run" in gate.reason


def test_an_accepted_run_that_cannot_be_compared_is_inconclusive():
    gate = regression(compare(make_pairs(100), GOOD))
    assert gate.outcome == "inconclusive" and "pair by pair" in gate.reason


def test_a_first_run_whose_judge_is_unreliable_does_not_pass():
    result = compare(make_pairs(100), [ALWAYS_A] * 100)
    assert decide_gate([result], "no_regression", 0.1, first=True).outcome == "inconclusive"


def halves(i):
    return "code" if i < 100 else "law"


def test_one_category_that_is_shown_to_fail_fails_the_gate_if_it_is_asked_for():
    said = [WIN] * 85 + [LOSS] * 15 + [WIN] * 45 + [LOSS] * 55
    result = compare(make_pairs(200, category=halves), said)
    low = compare(make_pairs(200, category=halves), [WIN] * 180 + [LOSS] * 20)
    assert decide_gate([result], "non_inferiority", 0.1, by_category=True).outcome == "pass"
    said = [WIN] * 100 + [WIN] * 20 + [LOSS] * 80
    result = compare(make_pairs(200, category=halves), said)
    assert decide_gate([result], "non_inferiority", 0.1).outcome == "pass"
    gate = decide_gate([result], "non_inferiority", 0.1, by_category=True)
    assert gate.outcome == "fail" and "in law is" in gate.reason and "97.5 %" in gate.reason
    assert decide_gate([low], "non_inferiority", 0.1, by_category=True).outcome == "pass"


def test_one_category_that_has_dropped_fails_the_gate_if_it_is_asked_for():
    before = [WIN] * 200
    after = [WIN] * 150 + [LOSS] * 50
    result = runs(before, after, category=lambda i: "code" if i < 150 else "law")
    assert regression(result, 0.45).outcome == "pass"
    gate = regression(result, 0.45, by_category=True)
    assert gate.outcome == "fail" and "in law is" in gate.reason


@pytest.mark.parametrize("seed", range(3))
def test_of_many_categories_none_fails_by_chance(seed):
    import random

    rng = random.Random(seed)
    said = [rng.choice([WIN, LOSS]) for _ in range(1_000)]
    result = compare(make_pairs(1_000, category=lambda i: f"c{i % 20}"), said)
    gate = decide_gate([result], "non_inferiority", 0.1, by_category=True)
    assert gate.outcome == "pass"


def test_a_change_that_missing_pairs_could_turn_decides_nothing():
    pairs = make_pairs(1_000)
    missing = 49  # won last time, and without a response now
    later = [
        replace(pair, status="candidate_failed", candidate=None) if n < missing else pair
        for n, pair in enumerate(pairs)
    ]
    before, after = judge(pairs, [WIN] * 1_000), judge(later[missing:], [WIN] * (1_000 - missing))
    both = resolve_pairs(pairs, before), resolve_pairs(later, after)
    change = compare_runs(*both, candidate="claude", confidence_level=0.95)
    bounds = change.missing_bounds
    assert (change.difference, bounds.low, bounds.high) == (0, pytest.approx(-0.049), 0)
    comparison = replace(compare(pairs, [WIN] * 1_000), change=change)
    gate = regression(comparison, 0.02)
    assert gate.outcome == "inconclusive" and "the missing pairs could change that" in gate.reason
    assert regression(comparison, 0.05).outcome == "pass"


def test_what_neither_run_knows_says_nothing_of_a_change():
    pairs = make_pairs(100)
    unknown = [replace(each, status="too_long") for each in pairs[:40]] + pairs[40:]
    both = [resolve_pairs(unknown, judge(pairs[40:], [WIN] * 60)) for _ in range(2)]
    change = compare_runs(*both, candidate="claude", confidence_level=0.95)
    assert (change.missing_bounds.low, change.missing_bounds.high) == (0, 0)


def test_a_category_whose_missing_pairs_could_turn_it_does_not_fail_the_gate():
    pairs = make_pairs(200, category=halves)
    said = [WIN] * 100 + [LOSS] * 100
    low = compare(pairs, said)
    assert decide_gate([low], "non_inferiority", 0.1, by_category=True).outcome == "fail"
    half = [replace(p, status="baseline_failed", baseline=None) for p in pairs[100:160]]
    few = compare([*pairs[:100], *half, *pairs[160:]], said)
    law = few.by_category[1]
    assert law.deciding.high < 0.4 and law.missing_bounds.high == pytest.approx(0.6)
    assert decide_gate([few], "superiority", 0.0, by_category=True).outcome != "fail"


def test_prompts_without_a_category_are_one_where_others_have_one():
    before, after = [WIN] * 200, [WIN] * 100 + [LOSS] * 100
    result = runs(before, after, category=lambda i: "code" if i < 100 else None)
    assert [each.category for each in result.change.by_category] == ["(none)", "code"]
    gate = regression(result, 0.45, by_category=True)
    assert gate.outcome == "fail" and "in (none) is" in gate.reason
