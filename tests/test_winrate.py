"""Facts about the numbers; expected values come from scipy, statsmodels or published tables."""

import json
import math
import random
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judged import ALWAYS_A, HALF_LOSS, HALF_WIN, LOSS, TIE, WIN, compare, judge, make_pairs
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from include import rubric, winrate
from include.gate import decide_gate
from include.intervals import (
    Interval,
    clopper_pearson,
    cluster_t_interval,
    conservative_interval,
    detectable_effect,
    needed_pairs,
    sign_test,
)
from include.preferences import resolve_pairs, resolve_preference
from include.reconcile import mismatches, severity
from include.records import (
    Comparison,
    Criterion,
    CriterionResult,
    GenerationErrors,
    JudgeOutput,
    Pair,
    RubricScore,
)
from include.wording import percent


def totals(verdicts):
    """What Nova's metrics would be for these verdicts."""
    forward = [both[0] for both in verdicts]
    backward = [both[1] for both in verdicts]
    return {
        "a_scores": float(forward.count("A>B") + backward.count("B>A")),
        "b_scores": float(forward.count("B>A") + backward.count("A>B")),
        "ties": float(forward.count("A=B") + backward.count("A=B")),
        "inference_error": float(forward.count(None) + backward.count(None)),
    }


def width(interval):
    return interval.high - interval.low


class TestResolve:
    def test_agreeing_orders_make_a_preference(self):
        forward, backward = judge(make_pairs(1), [WIN])
        assert resolve_preference([forward], [backward]) == "candidate"

    def test_disagreeing_orders_make_a_tie(self):
        result = compare(make_pairs(12), [ALWAYS_A] + [WIN] * 11)
        assert (result.counts.ties, result.counts.inconsistent) == (1, 1)
        assert result.win_rate.estimate == pytest.approx(11.5 / 12)

    def test_a_tie_and_a_win_are_inconsistent_too(self):
        result = compare(make_pairs(12), [HALF_WIN] + [WIN] * 11)
        assert (result.counts.ties, result.counts.inconsistent) == (1, 1)

    def test_one_missing_order_leaves_a_pair_unresolved(self):
        result = compare(make_pairs(30), [("B>A", None)] + [WIN] * 15 + [LOSS] * 14)
        assert (result.counts.pairs, result.counts.unresolved) == (29, 1)
        assert (result.counts.judgments, result.counts.inference_errors) == (59, 1)
        assert result.win_rate.estimate == pytest.approx(15 / 29)
        assert result.missing_bounds.low == pytest.approx(15 / 30)
        assert result.missing_bounds.high == pytest.approx(16 / 30)

    def test_two_judgments_of_one_order_are_not_guessed_from(self):
        forward, backward = judge(make_pairs(1), [WIN])
        assert resolve_preference([forward, forward], [backward]) is None
        assert resolve_preference([forward, forward], []) is None

    def test_judgments_of_unknown_prompts_are_ignored(self):
        pairs = make_pairs(3)
        result = resolve_pairs(pairs[:2], judge(pairs, [WIN] * 3))
        assert [row.preference for row in result] == ["candidate", "candidate"]


class TestIntervals:
    def test_ungrouped_pairs_have_the_t_interval_of_scipy_with_one_win_and_one_loss_added(self):
        scores = [1, 0, 0.5, 1, 1, 0, 1, 1, 0.5, 1, 0, 1]
        found = cluster_t_interval(scores, [str(i) for i in range(12)], 0.95)
        assert found.estimate == sum(scores) / 12
        assert found.standard_error == pytest.approx(stats.sem(scores))
        more = [*scores, 1, 0]
        low, high = stats.t.interval(0.95, 11, loc=sum(more) / 14, scale=stats.sem(more))
        assert (found.low, found.high) == pytest.approx((low, min(1.0, high)))
        assert found.method == "cluster t on 12 prompts, one win and one loss added"

    def test_paired_proportions_have_the_interval_of_bonett_and_price(self):
        # Their formula, for (wins - losses) / n: (w + 1 - l - 1) / (n + 2) and the variance
        # (p + q - (p - q)²) / (n + 2) of p = (w + 1) / (n + 2), q = (l + 1) / (n + 2); z, not t.
        wins, losses, ties = 400, 250, 150
        scores = [1.0] * wins + [0.0] * losses + [0.5] * ties
        found = cluster_t_interval(scores, [str(i) for i in range(800)], 0.95)
        p, q = (wins + 1) / 802, (losses + 1) / 802
        half = 1.959964 * math.sqrt((p + q - (p - q) ** 2) / 802)
        theirs = [0.5 + (p - q + sign * half) / 2 for sign in (-1, 1)]
        assert (found.low, found.high) == pytest.approx(theirs, abs=1e-4)

    def test_groups_have_the_cluster_robust_error_of_statsmodels(self):
        import statsmodels.api as sm

        rng = random.Random(3)
        scores = [rng.choice([0, 0.5, 1]) for _ in range(60)]
        groups = [rng.randrange(15) for _ in range(60)]
        # statsmodels multiplies by G/(G-1) · (n-1)/(n-k), which is G/(G-1) for a mean (k = 1).
        fit = sm.OLS(scores, [1.0] * 60).fit(
            cov_type="cluster", cov_kwds={"groups": groups}, use_t=True
        )
        found = cluster_t_interval(scores, [str(g) for g in groups], 0.95)
        assert found.standard_error == pytest.approx(fit.bse[0])
        assert (found.low, found.high) == pytest.approx(tuple(fit.conf_int()[0]), abs=0.02)

    def test_in_groups_that_agree_with_themselves_one_group_is_added_on_each_side(self):
        # Four prompts of each group alike: the design effect is 4, so the two weigh 4 prompts each.
        scores = [1.0] * 28 + [0.0] * 12
        found = cluster_t_interval(scores, [str(i // 4) for i in range(40)], 0.95, "groups")
        alone = cluster_t_interval([1.0] * 7 + [0.0] * 3, [str(i) for i in range(10)], 0.95)
        assert (found.low, found.high) == pytest.approx((alone.low, alone.high), rel=0.02)

    def test_groups_that_mean_nothing_cost_nothing(self):
        rng = random.Random(8)
        scores = [float(rng.random() < 0.6) for _ in range(1000)]
        alone = cluster_t_interval(scores, [str(i) for i in range(1000)], 0.95)
        grouped = cluster_t_interval(scores, [str(i % 100) for i in range(1000)], 0.95)
        assert width(grouped) == pytest.approx(width(alone), rel=0.2)

    @pytest.mark.parametrize(("k", "n"), [(0, 7), (7, 7), (9, 12), (10, 26), (116, 805)])
    def test_clopper_pearson_is_that_of_statsmodels(self, k, n):
        found = clopper_pearson(k, n, 0.95)
        expected = proportion_confint(k, n, 0.05, method="beta")
        assert (found.low, found.high) == pytest.approx(expected)

    @pytest.mark.parametrize("verdict", [WIN, LOSS, TIE, ALWAYS_A])
    @pytest.mark.parametrize("count", [2, 6, 20, 500])
    def test_scores_without_spread_have_an_interval_with_a_width(self, verdict, count):
        rate = compare(make_pairs(count), [verdict] * count).win_rate
        assert rate.low <= rate.estimate <= rate.high
        assert 1 / count < width(rate) <= 1
        assert rate.standard_error == 0.0

    def test_all_wins_are_as_sure_as_the_exact_interval_says_or_less(self):
        # Clopper-Pearson for n of n begins at 0.025 ** (1 / n).
        for count in (6, 10, 30, 100, 1000):
            rate = compare(make_pairs(count), [WIN] * count).win_rate
            low, _ = proportion_confint(count, count, 0.05, method="beta")
            assert abs(rate.low - low) < 0.06 * (1 - low) + 0.02 and rate.high == 1.0

    @pytest.mark.parametrize("level", [0.51, 0.6, 0.8, 0.999])
    @pytest.mark.parametrize("verdict", [WIN, LOSS])
    def test_the_estimate_lies_within_its_interval_at_every_level(self, verdict, level):
        for verdicts in ([verdict] * 20, [verdict] * 19 + [TIE]):
            for details in (verdicts, None):
                rate = compare(
                    make_pairs(20), details, metrics=totals(verdicts), confidence_level=level
                ).win_rate
                assert rate.low <= rate.estimate <= rate.high

    def test_one_group_has_no_interval(self):
        result = compare(make_pairs(20, group=lambda i: "notre dame"), [WIN] * 20)
        assert (result.win_rate.low, result.win_rate.high) == (None, None)
        assert result.verdict == "inconclusive"
        assert "single independent unit" in result.sentence

    def test_one_prompt_has_no_interval(self):
        result = compare(make_pairs(1), [WIN])
        assert result.win_rate.low is None
        assert result.detectable_effect is None and result.needed_pairs is None

    def test_fewer_than_ten_units_are_said_to_be_rough(self):
        result = compare(make_pairs(9), [WIN] * 7 + [LOSS] * 2)
        assert "rough" in result.win_rate.method and "rough" in result.sentence
        assert "rough" not in compare(make_pairs(10), [WIN] * 8 + [LOSS] * 2).sentence

    def test_grouping_widens_the_interval_of_prompts_that_move_together(self):
        verdicts = [WIN if i // 10 % 3 else LOSS for i in range(120)]
        alone = compare(make_pairs(120), verdicts).win_rate
        grouped = compare(make_pairs(120, group=lambda i: str(i // 10)), verdicts).win_rate
        assert width(grouped) > 2 * width(alone)

    @pytest.mark.parametrize(("prompts", "least"), [(25, 0.92), (100, 0.935)])
    def test_the_interval_covers_the_truth(self, prompts, least):
        rng = random.Random(prompts)
        clusters = [str(i) for i in range(prompts)]
        covered = 0
        for _ in range(1500):
            scores = rng.choices([1.0, 0.5, 0.0], [0.5, 0.2, 0.3], k=prompts)
            found = cluster_t_interval(scores, clusters, 0.95)
            covered += found.low <= 0.6 <= found.high
        assert least <= covered / 1500 <= 0.97

    @given(
        verdicts=st.lists(
            st.sampled_from([WIN, LOSS, TIE, ALWAYS_A, HALF_WIN, HALF_LOSS]),
            min_size=2,
            max_size=60,
        ),
        groups=st.one_of(st.none(), st.integers(1, 12)),
        seed=st.integers(0, 9),
    )
    @settings(max_examples=300)
    def test_totals_alone_never_give_a_narrower_interval_than_rows(self, verdicts, groups, seed):
        rng = random.Random(seed)
        group = None
        if groups:
            weights = [2**-i for i in range(groups)]
            group = lambda i: str(rng.choices(range(groups), weights)[0])  # noqa: E731
        pairs = make_pairs(len(verdicts), group=group)
        rows = compare(pairs, verdicts).win_rate
        aggregate = compare(pairs, metrics=totals(verdicts)).win_rate
        if not {HALF_WIN, HALF_LOSS} & set(verdicts):
            assert aggregate.estimate == pytest.approx(rows.estimate)
        assert (aggregate.low is None) == (rows.low is None)
        if rows.low is not None:
            assert aggregate.low <= rows.low + 1e-9
            assert aggregate.high >= rows.high - 1e-9

    @pytest.mark.parametrize("bias", [0.0, 0.3, 0.9])
    @pytest.mark.parametrize("ties", [0.0, 0.2])
    @pytest.mark.parametrize("count", [10, 60, 400])
    def test_totals_alone_are_wider_for_judges_of_any_consistency(self, count, ties, bias):
        rng = random.Random(count)

        def verdict(better, worse):
            if rng.random() < ties:
                return "A=B"
            if rng.random() < bias:
                return "A>B"
            return better if rng.random() < 0.65 else worse

        for _ in range(20):
            verdicts = [(verdict("B>A", "A>B"), verdict("A>B", "B>A")) for _ in range(count)]
            pairs = make_pairs(count)
            rows = compare(pairs, verdicts).win_rate
            assert width(compare(pairs, metrics=totals(verdicts)).win_rate) >= width(rows)

    def test_groups_of_equal_size_count_as_their_number(self):
        grouped = conservative_interval(0.3, [4] * 30, 0.95)
        alone = conservative_interval(0.3, [1] * 30, 0.95)
        assert alone.low - 0.02 < grouped.low <= alone.low
        assert alone.high <= grouped.high < alone.high + 0.02


class TestPublished:
    """Results that were published as wins although they show nothing."""

    def test_the_notebooks_example_is_inconclusive(self):
        # AWS's notebook, "Example Metrics Output": 16 to 10 on 13 prompts in both orders.
        published = {"a_scores": 16.0, "b_scores": 10.0, "ties": 0.0, "inference_error": 0.0}
        published |= {"winrate": 0.38, "lower_rate": 0.23, "upper_rate": 0.56}
        result = compare(make_pairs(13), metrics=published)
        assert (result.verdict, result.evidence) == ("inconclusive", "aggregate")
        assert result.win_rate.low < 0.224 and result.win_rate.high > 0.575  # Wilson on judgments
        assert mismatches(result) == []

    def test_the_notebooks_result_is_inconclusive(self):
        # AWS's notebook, "Results": 9 of 12 judgments, "High confidence"; six prompts.
        published = {"a_scores": 3.0, "b_scores": 9.0, "ties": 0.0, "inference_error": 0.0}
        result = compare(make_pairs(6), metrics=published)
        assert result.verdict == "inconclusive"
        assert result.sentence.startswith("Inconclusive: claude wins 75 % of 6 pairs")

    def test_nine_to_three_has_the_p_value_of_scipy(self):
        assert sign_test(9, 3) == pytest.approx(stats.binomtest(9, 12).pvalue)
        assert sign_test(9, 3) == pytest.approx(0.146, abs=5e-4)
        assert sign_test(0, 0) is None


class TestPlanning:
    # Decided pairs for 80 % power of the exact binomial test, two-sided .05 (G*Power gives the
    # same): .55 786, .60 199, .65 90, .70 49. The normal approximation lies slightly below.
    @pytest.mark.parametrize(("rate", "exact"), [(0.55, 786), (0.6, 199), (0.65, 90), (0.7, 49)])
    def test_needed_pairs_are_near_the_exact_power_calculation(self, rate, exact):
        error = math.sqrt(rate * (1 - rate) / 200)
        needed = needed_pairs(Interval(rate, 0.0, 1.0, error, 200, ""), 200, 0.95)
        assert 0.93 * exact <= needed <= exact

    def test_needed_pairs_are_symmetric_and_none_at_one_half(self):
        below, above = (Interval(p, 0.0, 1.0, 0.05, 99, "") for p in (0.4, 0.6))
        assert needed_pairs(below, 99, 0.95) == needed_pairs(above, 99, 0.95)
        even = Interval(0.5, 0.4, 0.6, 0.05, 99, "")
        assert needed_pairs(even, 99, 0.95) is None

    def test_six_pairs_are_needed_when_every_pair_is_won(self):
        # 2 · 0.5^n < 0.05 first holds at n = 6, as the sign test says.
        assert sign_test(6, 0) < 0.05 < sign_test(5, 0)
        assert compare(make_pairs(5), [WIN] * 5).needed_pairs == 6
        assert compare(make_pairs(6), [WIN] * 6).verdict == "candidate_better"

    def test_the_detectable_effect_is_shown_with_eighty_percent_power(self):
        from statsmodels.stats.power import TTestPower

        rng = random.Random(5)
        verdicts = [WIN if rng.random() < 0.6 else LOSS for _ in range(100)]
        result = compare(make_pairs(100), verdicts)
        deviation = stats.tstd([float(v == WIN) for v in verdicts])
        effect = TTestPower().solve_power(nobs=100, alpha=0.05, power=0.8) * deviation
        assert result.detectable_effect == pytest.approx(effect, rel=0.01)

    def test_too_few_pairs_detect_nothing(self):
        assert compare(make_pairs(4), [WIN, LOSS, WIN, LOSS]).detectable_effect is None
        nothing = Interval(None, None, None, None, 0, "none")
        assert detectable_effect(nothing, 0.95) is None


class TestVerdict:
    def test_the_sentence_says_who_wins_how_often_and_how_surely(self):
        result = compare(make_pairs(66), [WIN] * 51 + [LOSS] * 15)
        assert result.sentence == (
            "claude beats qwen: it wins 77 % of 66 pairs (95 % interval 66 % to 87 %)."
        )

    def test_an_interval_around_one_half_is_inconclusive_and_says_what_it_takes(self):
        result = compare(make_pairs(20), [WIN] * 12 + [LOSS] * 8)
        assert result.verdict == "inconclusive"
        assert "takes about 204 pairs to show" in result.sentence

    def test_a_judge_that_follows_positions_decides_nothing(self):
        result = compare(make_pairs(100), [ALWAYS_A] * 100)
        assert (result.position.consistency, result.position.preference_for_a) == (0.0, 1.0)
        assert result.verdict == "inconclusive" and "two orders agree" in result.unreliable

    def test_low_consistency_overrules_a_clear_interval(self):
        result = compare(make_pairs(100), [ALWAYS_A] * 60 + [WIN] * 40)
        assert result.win_rate.low > 0.5
        assert result.verdict == "inconclusive"

    def test_too_many_invalid_judgments_overrule_a_clear_interval(self):
        result = compare(make_pairs(50), [WIN] * 44 + [(None, "A>B")] * 6)
        assert result.win_rate.low > 0.5 and result.verdict == "inconclusive"
        assert "6.0 %" not in result.sentence and "6 % of 100 expected" in result.sentence

    def test_missing_pairs_that_could_turn_the_verdict_make_it_inconclusive(self):
        failed = make_pairs(100)[40:]
        failed = [Pair(p.prompt_id, "q", "x", None, "candidate_failed") for p in failed]
        judged = make_pairs(40)
        output = JudgeOutput({}, judge(judged, [WIN] * 36 + [LOSS] * 4))
        result = winrate.compare(
            baseline="qwen",
            candidate="claude",
            prompts=100,
            generation_errors=GenerationErrors(0, 60),
            pairs=[*judged, *failed],
            output=output,
            confidence_level=0.95,
            min_consistency=0.5,
            max_error_rate=0.05,
        )
        assert result.win_rate.low > 0.5
        assert result.missing_bounds.low == pytest.approx(0.36)
        assert result.verdict == "inconclusive" and "missing pairs" in result.sentence

    def test_percent_never_rounds_onto_one_half(self):
        assert percent(0.5) == "50 %"
        assert percent(0.5001) == "50.01 %"
        assert percent(0.999) == "99.9 %"


class TestSeveralCandidates:
    """Bonferroni: each interval is wider, so that it may still decide alone."""

    VERDICTS = (WIN,) * 61 + (LOSS,) * 39

    def test_each_interval_has_the_level_that_makes_all_of_them_hold(self):
        two = compare(make_pairs(100), self.VERDICTS, candidates=2)
        assert two.win_rate.confidence_level == pytest.approx(0.975)
        assert two.win_rate.adjusted_for == 2
        alone = compare(make_pairs(100), self.VERDICTS, confidence_level=0.975)
        assert (two.win_rate.low, two.win_rate.high) == (alone.win_rate.low, alone.win_rate.high)
        assert two.detectable_effect == alone.detectable_effect
        assert two.needed_pairs == alone.needed_pairs

    def test_the_wider_interval_decides(self):
        assert compare(make_pairs(100), self.VERDICTS).verdict == "candidate_better"
        two = compare(make_pairs(100), self.VERDICTS, candidates=2)
        assert two.verdict == "inconclusive" and two.win_rate.low < 0.5

    def test_sentence_and_method_say_so(self):
        three = compare(make_pairs(66), [WIN] * 51 + [LOSS] * 15, candidates=3)
        assert three.sentence == (
            "claude beats qwen: it wins 77 % of 66 pairs (98.33 % interval 64 % to 89 %; "
            "95 % for all 3 candidates together)."
        )
        assert three.win_rate.method.endswith("; Bonferroni for 3 candidates")
        assert "Bonferroni" not in compare(make_pairs(6), [WIN] * 6).win_rate.method

    def test_categories_and_reliability_keep_the_level_that_was_asked_for(self):
        pairs = make_pairs(100, category=lambda i: str(i % 2))
        one, four = (compare(pairs, self.VERDICTS, candidates=k) for k in (1, 4))
        for alone, among_four in zip(one.by_category, four.by_category, strict=True):
            assert alone.win_rate == among_four.win_rate
        assert one.reliability == four.reliability
        assert four.reliability.consistency.confidence_level == 0.95

    def test_what_decides_by_category_is_adjusted_for_categories_and_candidates(self):
        pairs = make_pairs(100, category=lambda i: str(i % 2))
        row = compare(pairs, self.VERDICTS, candidates=4).by_category[0]
        assert row.deciding.confidence_level == pytest.approx(1 - 0.05 / 8)
        assert row.deciding.estimate == row.win_rate.estimate
        assert width(row.deciding) > width(row.win_rate) and row.deciding.adjusted_for == 8

    def test_totals_alone_are_adjusted_too(self):
        one, two = (
            compare(make_pairs(100), metrics=totals(self.VERDICTS), candidates=k).win_rate
            for k in (1, 2)
        )
        assert width(two) > width(one) and two.confidence_level == pytest.approx(0.975)

    def test_of_five_equal_candidates_rarely_any_is_called_different(self):
        rng = random.Random(4)
        wrong = {1: 0, 5: 0}
        for _ in range(200):
            runs = [[rng.choice((WIN, LOSS)) for _ in range(60)] for _ in range(5)]
            for adjusted in wrong:
                found = [
                    compare(make_pairs(60), verdicts, candidates=adjusted).verdict
                    for verdicts in runs
                ]
                wrong[adjusted] += any(verdict != "inconclusive" for verdict in found)
        assert wrong[5] / 200 <= 0.09 < 0.15 <= wrong[1] / 200

    def test_the_gate_names_the_level_that_it_looked_at(self):
        result = compare(make_pairs(66), [WIN] * 51 + [LOSS] * 15, candidates=2)
        assert "claude's 97.5 % interval" in decide_gate([result], "superiority", 0.0).reason


class TestReliability:
    def test_shares_and_what_they_are_of(self):
        verdicts = [WIN] * 6 + [ALWAYS_A] * 2 + [TIE] + [(None, "A>B")]
        found = compare(make_pairs(10), verdicts).reliability
        assert (found.consistency.count, found.consistency.of) == (7, 9)
        assert (found.preference_for_a.count, found.preference_for_a.of) == (6 + 4 + 1, 17)
        assert (found.ties.count, found.ties.of) == (2, 19)
        assert (found.errors.count, found.errors.of) == (1, 20)
        for rate in (found.consistency, found.preference_for_a, found.ties, found.errors):
            assert rate.estimate == pytest.approx(rate.count / rate.of)
            assert 0 <= rate.low < rate.estimate < rate.high <= 1
            assert "cluster t on" in rate.method and "one yes and one no" in rate.method

    def test_the_summarys_own_numbers_agree_with_them(self):
        result = compare(make_pairs(20), [WIN] * 12 + [ALWAYS_A] * 8)
        assert result.position.consistency == result.reliability.consistency.estimate
        assert result.position.preference_for_a == result.reliability.preference_for_a.estimate

    def test_a_consistent_judge_favours_no_position_and_says_it_surely(self):
        found = compare(make_pairs(200), [WIN] * 120 + [LOSS] * 80).reliability
        assert found.preference_for_a.estimate == 0.5 and width(found.preference_for_a) < 0.02
        assert found.consistency.estimate == 1.0 and found.consistency.low > 0.95

    def test_two_judgments_of_a_pair_are_not_two_witnesses(self):
        # Half the pairs always A, half always B: 100 votes for A of 200, but only 100 pairs.
        found = compare(make_pairs(100), [ALWAYS_A, ("B>A", "B>A")] * 50).reliability
        alone = proportion_confint(50, 100, 0.05, method="wilson")
        assert width(found.preference_for_a) == pytest.approx(alone[1] - alone[0], rel=0.05)

    def test_groups_are_the_unit_here_too(self):
        verdicts = [WIN if i // 10 % 2 else ALWAYS_A for i in range(200)]
        alone = compare(make_pairs(200), verdicts).reliability.consistency
        grouped = compare(make_pairs(200, group=lambda i: str(i // 10)), verdicts)
        assert width(grouped.reliability.consistency) > 2 * width(alone)
        assert "20 groups" in grouped.reliability.consistency.method

    def test_totals_tell_ties_and_errors_but_no_positions(self):
        verdicts = [WIN] * 20 + [TIE] * 5 + [(None, None)]
        found = compare(make_pairs(26), metrics=totals(verdicts)).reliability
        assert found.consistency.estimate is None and found.preference_for_a.low is None
        assert found.ties.estimate == pytest.approx(0.2)
        assert found.errors.estimate == pytest.approx(2 / 52)
        assert 0 <= found.errors.low < 2 / 52 < found.errors.high
        rows = compare(make_pairs(26), verdicts).reliability
        assert width(found.ties) >= width(rows.ties)

    def test_orders_that_are_not_known_say_nothing_about_positions(self):
        pairs = make_pairs(12)
        result = winrate.compare(
            baseline="qwen",
            candidate="claude",
            prompts=12,
            generation_errors=GenerationErrors(0, 0),
            pairs=pairs,
            output=JudgeOutput({}, judge(pairs, [ALWAYS_A] * 6 + [WIN] * 6), orders_known=False),
            confidence_level=0.95,
            min_consistency=0.5,
            max_error_rate=0.05,
        )
        assert result.position.preference_for_a is None
        assert result.reliability.preference_for_a.estimate is None
        assert result.reliability.consistency.estimate == 0.5

    @pytest.mark.parametrize("output", [True, False])
    def test_nothing_judged_has_no_shares(self, output):
        found = compare([], output=output).reliability
        assert found.errors.estimate is None and found.ties.estimate is None


class TestMissing:
    def compare(self, *, lost=0, baseline=0, candidate=0, both=0, too_long=0, won=40):
        pairs = make_pairs(won + lost)
        status = ["baseline_failed"] * baseline + ["candidate_failed"] * candidate
        status += ["both_failed"] * both + ["too_long"] * too_long
        failed = [Pair(f"f{i}", "q", "x", "y", each) for i, each in enumerate(status)]
        verdicts = [WIN] * won + [LOSS] * lost
        return winrate.compare(
            baseline="qwen",
            candidate="claude",
            prompts=len(pairs) + len(failed),
            generation_errors=GenerationErrors(baseline + both, candidate + both),
            pairs=[*pairs, *failed],
            output=JudgeOutput({}, judge(pairs, verdicts)),
            confidence_level=0.95,
            min_consistency=0.5,
            max_error_rate=0.05,
        )

    def test_every_prompt_without_a_preference_is_told_with_its_reason(self):
        result = self.compare(won=90, baseline=1, candidate=5, both=2, too_long=2)
        found = result.missing
        assert (found.prompts, found.coverage) == (10, pytest.approx(0.9))
        assert (found.baseline_failed, found.candidate_failed, found.both_failed) == (1, 5, 2)
        assert (found.too_long, found.no_verdict) == (2, 0)

    def test_a_verdict_that_is_lacking_is_a_reason_too(self):
        found = compare(make_pairs(40), [WIN] * 39 + [(None, "A>B")]).missing
        assert (found.prompts, found.no_verdict, found.coverage) == (1, 1, pytest.approx(39 / 40))

    def test_asymmetry_has_the_p_value_of_mcnemars_exact_test(self):
        from statsmodels.stats.contingency_tables import mcnemar

        found = self.compare(won=80, baseline=2, candidate=12, both=3).missing
        table = [[80, 12], [2, 3]]
        assert found.asymmetry_p_value == pytest.approx(mcnemar(table, exact=True).pvalue)
        assert found.asymmetry_p_value == pytest.approx(stats.binomtest(2, 14).pvalue)

    def test_without_a_failure_of_one_alone_there_is_no_test(self):
        assert self.compare(both=3).missing.asymmetry_p_value is None

    def test_totals_know_the_coverage_but_not_the_pairs(self):
        verdicts = [WIN] * 18 + [(None, None)] * 2
        found = compare(make_pairs(20), metrics=totals(verdicts), prompts=24).missing
        assert (found.prompts, found.no_verdict) == (None, None)
        assert found.coverage == pytest.approx(18 / 24)

    def test_no_prompts_have_no_coverage(self):
        assert compare([], output=False).missing.coverage is None

    @pytest.mark.parametrize(("won", "failed", "verdict"), [(40, 39, True), (40, 40, False)])
    def test_a_verdict_falls_where_the_missing_pairs_could_turn_it(self, won, failed, verdict):
        result = self.compare(won=won, candidate=failed)
        assert (result.missing_bounds.low > 0.5) is verdict
        assert (result.verdict == "candidate_better") is verdict
        result = self.compare(won=0, lost=won, baseline=failed)
        assert (result.missing_bounds.high < 0.5) is verdict
        assert (result.verdict == "baseline_better") is verdict

    def test_totals_that_the_missing_pairs_could_turn_fall_too(self):
        metrics = totals([WIN] * 36 + [LOSS] * 4)
        sure = compare(make_pairs(40), metrics=metrics)
        assert sure.verdict == "candidate_better"
        result = compare(make_pairs(40), metrics=metrics, prompts=80)
        assert result.verdict == "inconclusive" and "missing pairs" in result.sentence


class TestNasty:
    def test_no_pairs(self):
        result = compare([], output=False)
        assert (result.verdict, result.win_rate.estimate) == ("inconclusive", None)
        assert (result.missing_bounds.low, result.reconciliation) == (None, [])

    def test_all_errors(self):
        result = compare(make_pairs(5), [(None, None)] * 5)
        assert (result.counts.pairs, result.counts.unresolved) == (0, 5)
        assert (result.missing_bounds.low, result.missing_bounds.high) == (0.0, 1.0)
        assert "100 % of 10 expected judgments" in result.sentence

    def test_all_prompts_failed(self):
        result = compare(make_pairs(5, status="both_failed"), output=False)
        assert (result.counts.unresolved, result.win_rate.estimate) == (0, None)

    def test_identical_responses_are_ties_that_nobody_judged(self):
        pairs = [
            *make_pairs(10),
            *(Pair(f"s{i}", "q", "x", "x", "identical") for i in range(10)),
        ]
        judgments = judge(pairs[:10], [WIN] * 10)
        metrics = totals([WIN] * 10)
        result = winrate.compare(
            baseline="qwen",
            candidate="claude",
            prompts=20,
            generation_errors=GenerationErrors(0, 0),
            pairs=pairs,
            output=JudgeOutput(metrics, judgments),
            confidence_level=0.95,
            min_consistency=0.5,
            max_error_rate=0.05,
        )
        counts = result.counts
        assert (counts.pairs, counts.ties, counts.judgments, counts.inconsistent) == (20, 10, 20, 0)
        assert result.win_rate.estimate == 0.75 and result.position.consistency == 1.0
        assert mismatches(result) == []
        assert compare(pairs, metrics=metrics).win_rate.estimate == 0.75

    def test_eleven_judgments_for_seven_prompts_are_not_enough(self):
        # AWS's rubric sample: 3 + 7 + 0 ties + 1 error = 11 of 14 judgments.
        metrics = {"a_scores": 3.0, "b_scores": 7.0, "ties": 0.0, "inference_error": 1.0}
        result = compare(make_pairs(7), metrics=metrics)
        assert result.verdict == "inconclusive"
        assert [row.metric for row in mismatches(result)] == ["total"]

    @pytest.mark.parametrize(
        "metrics", [{}, {"a_scores": None}, {"b_scores": 3.0}, {"winrate": 0.9}]
    )
    def test_missing_metrics_are_tolerated_and_decide_nothing(self, metrics):
        result = compare(make_pairs(7), metrics=metrics)
        assert result.verdict == "inconclusive"

    def test_details_that_contradict_novas_totals_are_told(self):
        verdicts = [WIN] * 20
        result = compare(make_pairs(20), verdicts, metrics={**totals(verdicts), "b_scores": 30.0})
        assert {row.metric for row in mismatches(result)} == {"b_scores", "total"}

    def test_novas_own_numbers_are_kept_untouched(self):
        metrics = {"a_scores": 2.0, "b_scores": 38.0, "unheard_of": None}
        assert compare(make_pairs(20), metrics=metrics).nova == metrics

    def test_categories_use_the_same_estimator(self):
        category = lambda i: ["code", "prose", None][i % 3]  # noqa: E731
        pairs = make_pairs(60, category=category)
        verdicts = [WIN if i % 7 else LOSS for i in range(60)]
        result = compare(pairs, verdicts)
        assert [row.category for row in result.by_category] == ["(none)", "code", "prose"]
        prose = [verdicts[i] for i in range(60) if i % 3 == 1]
        alone = compare(make_pairs(20), prose)
        assert asdict(result.by_category[2].win_rate) == asdict(alone.win_rate)

    @given(
        verdicts=st.lists(
            st.tuples(*[st.sampled_from(["A>B", "B>A", "A=B", None])] * 2), max_size=30
        ),
        details=st.booleans(),
        groups=st.integers(1, 30),
    )
    @settings(max_examples=200)
    def test_counts_add_up_and_numbers_stay_in_range(self, verdicts, details, groups):
        pairs = make_pairs(len(verdicts), group=lambda i: str(i % groups))
        result = compare(pairs, verdicts if details else None, metrics=totals(verdicts))
        counts, rate = result.counts, result.win_rate
        assert counts.judgments + counts.inference_errors == 2 * len(verdicts)
        assert mismatches(result) == []
        if details:
            assert counts.pairs == counts.candidate_wins + counts.baseline_wins + counts.ties
            assert counts.pairs + counts.unresolved == len(verdicts)
            assert counts.inconsistent <= counts.ties
        if rate.low is not None:
            assert 0 <= rate.low <= rate.estimate + 1e-12 and rate.estimate - 1e-12 <= rate.high
            assert rate.high <= 1
        json.dumps(asdict(result), allow_nan=False)


def rows_of(comparison):
    return {row.metric: row for row in comparison.reconciliation}


def flagged(comparison):
    return {row.metric: severity(row) for row in mismatches(comparison)}


class TestIdentities:
    """What must hold between Nova's own numbers, and between them and ours."""

    METRICS = totals([WIN] * 15 + [LOSS] * 5) | {"winrate": 0.75}

    def flags(self, **changes):
        return flagged(compare(make_pairs(20), metrics=self.METRICS | changes))

    def test_numbers_that_agree_are_shown_and_not_flagged(self):
        result = compare(make_pairs(20), metrics=self.METRICS)
        assert flagged(result) == {}
        assert rows_of(result)["total"].nova == rows_of(result)["total"].recomputed == 40

    def test_more_judgments_than_two_per_pair_contradict(self):
        assert self.flags(ties=1.0)["total"] == "contradiction"

    def test_fewer_judgments_than_two_per_pair_are_a_warning(self):
        # AWS's rubric README: seven pairs, 3 + 7 + 0 + 1 = 11; its winrate, scores and margin.
        published = {"a_scores": 3.0, "b_scores": 7.0, "ties": 0.0, "inference_error": 1.0}
        published |= {"winrate": 0.7, "lower_rate": 0.4, "upper_rate": 0.909}
        published |= {"weighted_score_A": 0.495, "weighted_score_B": 0.63, "score_margin": -0.135}
        result = compare(make_pairs(7), metrics=published)
        assert flagged(result) == {"total": "warning"}
        assert "an error once per pair" in rows_of(result)["total"].note
        assert result.verdict == "inconclusive"

    def test_an_error_counted_once_per_pair_is_a_warning_and_one_too_many_contradicts(self):
        verdicts = [WIN] * 30 + [(None, None)]
        result = compare(
            make_pairs(31), verdicts, metrics=totals(verdicts) | {"inference_error": 1.0}
        )
        assert flagged(result) == {"inference_error": "warning", "total": "warning"}
        result = compare(make_pairs(30), verdicts[:30], metrics={"inference_error": 1.0})
        assert flagged(result)["inference_error"] == "contradiction"

    def test_a_win_rate_that_is_not_b_of_a_and_b_contradicts(self):
        assert self.flags(winrate=0.6) == {"winrate": "contradiction"}
        assert self.flags(winrate=0.755) == {}

    def test_a_win_rate_outside_its_own_interval_contradicts(self):
        assert self.flags(lower_rate=0.6, upper_rate=0.9) == {}
        flags = self.flags(lower_rate=0.8, upper_rate=0.9)
        assert flags == {"winrate_in_interval": "contradiction"}

    def test_novas_interval_is_shown_and_cannot_contradict_ours(self):
        assert self.flags(lower_rate=0.0, upper_rate=1.0) == {}

    def test_a_score_other_than_b_scores_is_a_warning_only(self):
        assert self.flags(score=30.0) == {}
        assert self.flags(score=0.75) == {"score": "warning"}

    def test_standard_errors_are_shown_and_never_flagged(self):
        result = compare(make_pairs(20), metrics=self.METRICS | {"b_scores_stderr": 9.0})
        row = rows_of(result)["b_scores_stderr"]
        assert row.recomputed == pytest.approx(math.sqrt(0.75 * 0.25 / 40))
        assert flagged(result) == {} and "too small" not in row.note

    def test_a_standard_error_that_lighteval_made_too_small_is_told(self):
        # lighteval 0.10 stderr.py: mean_stderr of 1000 bootstrap means.
        import numpy

        draws = numpy.random.default_rng(0).binomial(40, 0.75, 1000) / 40
        small = float(draws.std(ddof=1) / math.sqrt(1000))
        result = compare(make_pairs(20), metrics=self.METRICS | {"b_scores_stderr": small})
        assert "31.6 times too small" in rows_of(result)["b_scores_stderr"].note
        assert flagged(result) == {}

    def test_errors_of_a_and_b_that_cannot_differ_contradict(self):
        # AWS's notebook, "Example Metrics Output": 16 to 10, errors 0.03 and 0.09, no ties.
        metrics = totals([]) | {"a_scores": 16.0, "b_scores": 10.0}
        metrics |= {"a_scores_stderr": 0.03, "b_scores_stderr": 0.09}
        result = compare(make_pairs(13), metrics=metrics)
        assert flagged(result) == {"stderr_identity": "contradiction"}
        assert "impossible" in rows_of(result)["stderr_identity"].note

    def test_errors_of_a_and_b_may_differ_by_rounding_and_chance_and_with_ties(self):
        metrics = totals([]) | {"a_scores": 16.0, "b_scores": 10.0}
        for a, b in ((0.09, 0.09), (0.09, 0.1), (0.0954, 0.0921), (0.0030, 0.0031)):
            errors = {"a_scores_stderr": a, "b_scores_stderr": b}
            assert flagged(compare(make_pairs(13), metrics=metrics | errors)) == {}
        tied = totals([]) | {"a_scores": 2.0, "b_scores": 14.0, "ties": 10.0}
        tied |= {"a_scores_stderr": 0.05, "b_scores_stderr": 0.1}
        assert flagged(compare(make_pairs(13), metrics=tied)) == {}

    def test_metrics_that_are_lacking_are_no_mismatch(self):
        result = compare(make_pairs(2), [WIN, LOSS])
        assert flagged(result) == {} and "score" not in rows_of(result)


def make_score(i, baseline, candidate, margin=None, criteria=()):
    margin = baseline - candidate if margin is None else margin
    return RubricScore(f"p{i}", baseline, candidate, margin, list(criteria), "because")


def make_criterion(name, baseline, candidate, weight=1.0, kind="scale"):
    return Criterion(name, kind, weight, "what it is", baseline, candidate, "x", "y")


class TestRubric:
    """Scores of a rubric judge: means, and what must hold between them."""

    def compare(self, scores, **metrics):
        verdicts = [WIN] * len(scores)
        return winrate.compare(
            baseline="qwen",
            candidate="claude",
            prompts=len(scores),
            generation_errors=GenerationErrors(0, 0),
            pairs=make_pairs(len(scores)),
            output=JudgeOutput(
                totals(verdicts) | metrics, judge(make_pairs(len(scores)), verdicts), rubric=scores
            ),
            confidence_level=0.95,
            min_consistency=0.5,
            max_error_rate=0.05,
        )

    def test_means_are_of_roles_and_negative_margins_favour_the_candidate(self):
        result = self.compare([make_score(0, 0.5, 0.75), make_score(1, 0.25, 1.0)])
        found = result.rubric
        assert (found.pairs, found.baseline, found.candidate) == (2, 0.375, 0.875)
        assert found.margin == -0.5

    def test_criteria_are_put_on_one_scale_and_counted_by_name(self):
        scores = [
            make_score(0, 0, 0, criteria=[make_criterion("Factual_accuracy", 1, 5, 0.6)]),
            make_score(1, 0, 0, criteria=[make_criterion("factual accuracy", 3, 3, 0.4)]),
            make_score(2, 0, 0, criteria=[make_criterion("polite", 1, 0, 1.0, "binary")]),
        ]
        result = self.compare(scores).rubric
        assert result.criteria == [
            CriterionResult("factual accuracy", "scale", 2, 0.5, 0.25, 0.75, 0.5, -1.0, 1.0),
            CriterionResult("polite", "binary", 1, 1.0, 1.0, 0.0, -1.0),
        ]

    def test_a_criterion_on_which_the_candidate_loses_has_an_interval_below_0(self):
        scores = [
            make_score(
                n, 0, 0, criteria=[make_criterion("tone", 4, 2), make_criterion("wit", 3, 3)]
            )
            for n in range(20)
        ]
        tone, wit = self.compare(scores).rubric.criteria
        assert (tone.lead, wit.lead) == (-0.5, 0)
        assert tone.high < 0 < wit.high

    def test_pairs_of_one_group_are_one_unit_of_a_criterion(self):
        scores = [make_score(n, 0, 0, criteria=[make_criterion("tone", 4, 2)]) for n in range(20)]
        alone = rubric.summarize(scores, {}, 0.95).criteria[0]
        in_groups = rubric.summarize(scores, {f"p{n}": f"g{n % 2}" for n in range(20)}, 0.95)
        assert alone.high < 0 < in_groups.criteria[0].high

    def test_a_criterion_counts_only_where_both_responses_have_a_score(self):
        scores = [
            make_score(0, 0, 0, criteria=[make_criterion("tone", None, 5)]),
            make_score(1, 0, 0, criteria=[make_criterion("tone", 2, 3)]),
            make_score(2, 0, 0, criteria=[make_criterion("style", 2, 3, kind=None)]),
        ]
        tone, style = self.compare(scores).rubric.criteria
        assert (tone.pairs, tone.baseline, tone.candidate) == (1, 0.25, 0.5)
        assert (style.pairs, style.baseline, style.candidate) == (0, None, None)

    def test_a_summary_lists_fifty_criteria_and_counts_the_rest(self):
        criteria = [make_criterion(f"c{n}", 1, 2) for n in range(60)]
        result = self.compare([make_score(0, 0, 0, criteria=criteria)]).rubric
        assert (len(result.criteria), result.criteria_omitted) == (50, 10)

    def test_scores_decide_nothing(self):
        result = self.compare([make_score(i, 1.0, 0.0) for i in range(30)])
        assert result.verdict == "candidate_better" and result.win_rate.estimate == 1.0

    def test_a_judge_without_a_rubric_has_none(self):
        assert compare(make_pairs(2), [WIN, LOSS]).rubric is None

    def test_scores_that_agree_are_not_flagged(self):
        # Criteria of the README's form: 0.6 of scale, 0.4 of binary.
        criteria = [
            make_criterion("accuracy", 2, 4, 0.6),
            make_criterion("polite", 1, 0, 0.4, "binary"),
        ]
        result = self.compare(
            [make_score(0, 0.55, 0.45, criteria=criteria)],
            weighted_score_A=0.55,
            weighted_score_B=0.45,
            score_margin=0.1,
        )
        assert flagged(result) == {}
        assert rows_of(result)["pair_scores_from_criteria"].recomputed == 1

    def test_weights_that_do_not_add_up_to_one_may_be_shares(self):
        criteria = [make_criterion("a", 1, 5, 30.0), make_criterion("b", 5, 5, 10.0)]
        assert flagged(self.compare([make_score(0, 0.25, 1.0, criteria=criteria)])) == {}

    def test_means_that_differ_from_novas_are_warnings(self):
        result = self.compare(
            [make_score(0, 0.2, 0.4), make_score(1, 0.4, 0.8)],
            weighted_score_A=0.6,
            weighted_score_B=0.6,
            score_margin=0.0,
        )
        assert flagged(result) == {"weighted_score_A": "warning", "score_margin": "warning"}

    def test_a_margin_that_is_not_a_minus_b_contradicts(self):
        result = self.compare([make_score(0, 0.5, 0.75, margin=0.25), make_score(1, 0.5, 0.5)])
        assert flagged(result) == {"pair_margins_identity": "contradiction"}
        row = rows_of(result)["pair_margins_identity"]
        assert (row.nova, row.recomputed, row.unit) == (2, 1, "pairs")
        result = self.compare([], weighted_score_A=0.495, weighted_score_B=0.63, score_margin=0.135)
        assert flagged(result)["score_margin_identity"] == "contradiction"

    def test_a_margin_beyond_one_contradicts(self):
        result = self.compare([make_score(0, 2.0, 0.5)])
        assert flagged(result) == {"pair_margins_in_range": "contradiction"}
        result = compare(make_pairs(1), metrics={"score_margin": -1.5})
        assert flagged(result)["score_margin_in_range"] == "contradiction"

    def test_a_weighted_score_that_its_criteria_do_not_give_is_a_warning(self):
        score = make_score(0, 0.9, 0.5, criteria=[make_criterion("tone", 1, 3)])
        assert flagged(self.compare([score])) == {"pair_scores_from_criteria": "warning"}

    def test_weighted_scores_are_not_checked_against_criteria_that_are_not_whole(self):
        criteria = [make_criterion("tone", 1, 3), make_criterion("style", None, 3)]
        result = self.compare([make_score(0, 0.9, 0.5, criteria=criteria), make_score(1, 0, 0)])
        assert "pair_scores_from_criteria" not in rows_of(result)

    def test_standard_errors_of_scores_are_those_of_scipy(self):
        scores = [make_score(i, value, 0.5) for i, value in enumerate((0.1, 0.5, 0.4, 0.9))]
        row = rows_of(self.compare(scores, weighted_score_A_stderr=0.005))
        assert row["weighted_score_A_stderr"].recomputed == pytest.approx(
            stats.sem([0.1, 0.5, 0.4, 0.9])
        )
        assert "31.6 times" in row["weighted_score_A_stderr"].note

    def test_a_comparison_with_a_rubric_is_json_and_back(self):
        from pydantic import TypeAdapter

        result = self.compare([make_score(0, 0.5, 0.75, criteria=[make_criterion("tone", 1, 3)])])
        stored = json.dumps(asdict(result), allow_nan=False)
        assert TypeAdapter(Comparison).validate_python(json.loads(stored)) == result
        old = {key: value for key, value in asdict(result).items() if key != "rubric"}
        assert TypeAdapter(Comparison).validate_python(old).rubric is None


def test_importing_the_module_loads_nothing_heavy():
    code = "import sys, include.winrate, include.charts, include.report; print(*sys.modules)"
    root = Path(__file__).parents[1]
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"numpy", "scipy", "statsmodels", "matplotlib", "jinja2"} & set(loaded)
