"""Facts about planning: how many prompts find what, checked against exact tables and simulation."""

import json
import math
import random
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from scipy import stats

from include import planning, winrate
from include.intervals import cluster_t_interval
from include.planning import (
    Assumptions,
    assume,
    detectable_rate,
    gate_line,
    learn,
    line,
    measure,
    needed_prompts,
    needed_to_pass,
    passing_rate,
    power,
    table,
)
from include.records import GenerationErrors, JudgeOutput, Judgment, Pair

ROOT = Path(__file__).parents[1]
PLAIN = Assumptions(ties=0.0, design_effect=1.0, told="assumed: nothing")

WIN, LOSS, TIE = ("B>A", "A>B"), ("A>B", "B>A"), ("A=B", "A=B")


def comparison(verdicts, *, group=None, details=True, candidates=1):
    pairs = [
        Pair(f"p{i}", "q", "x", "y", "judged", group=group(i) if group else None)
        for i in range(len(verdicts))
    ]
    judgments = [
        Judgment(pair.prompt_id, order, verdict)
        for pair, both in zip(pairs, verdicts, strict=True)
        for order, verdict in zip(("forward", "backward"), both, strict=True)
    ]
    metrics = {"a_scores": 10.0, "b_scores": 2.0 * len(pairs) - 10}
    return winrate.compare(
        baseline="qwen",
        candidate="claude",
        prompts=len(pairs),
        generation_errors=GenerationErrors(0, 0),
        pairs=pairs,
        output=JudgeOutput(metrics, judgments if details else None),
        confidence_level=0.95,
        min_consistency=0.0,
        max_error_rate=1.0,
        candidates=candidates,
    )


class TestExact:
    # Decided pairs for 80 % power of the exact two-sided binomial test, alpha 0.05.
    TABLE = (
        (0.52, 4927),
        (0.55, 786),
        (0.60, 199),
        (0.65, 90),
        (0.70, 49),
        (0.75, 30),
        (0.80, 20),
    )

    @pytest.mark.parametrize(("rate", "exact"), TABLE)
    def test_without_ties_the_table_of_the_exact_binomial_test_is_reproduced(self, rate, exact):
        assert needed_prompts(rate, 0.8, PLAIN) == exact
        assert needed_prompts(1 - rate, 0.8, PLAIN) == exact

    @pytest.mark.parametrize(("prompts", "rate"), [(49, 0.7), (90, 0.65), (20, 0.8)])
    def test_power_is_that_of_counting_every_outcome(self, prompts, rate):
        shown = [
            wins
            for wins in range(prompts + 1)
            if wins > prompts / 2 and stats.binomtest(wins, prompts).pvalue <= 0.05
        ]
        expected = sum(stats.binom.pmf(wins, prompts, rate) for wins in shown)
        assert power(prompts, rate, PLAIN) == pytest.approx(expected)

    def test_ties_are_averaged_over(self):
        ties, rate, prompts = 0.3, 0.6, 40
        found = sum(
            stats.binom.pmf(decided, prompts, 1 - ties)
            * power(decided, 0.5 + (rate - 0.5) / (1 - ties), PLAIN)
            for decided in range(1, prompts + 1)
        )
        assert power(prompts, rate, replace(PLAIN, ties=ties)) == pytest.approx(found)

    def test_ties_at_the_same_share_of_decided_pairs_take_as_many_more_prompts(self):
        # 0.65 of decided pairs, 40 % ties: a win rate of 0.59, and 1 / (1 - 0.4) as many prompts.
        needed = needed_prompts(0.59, 0.8, replace(PLAIN, ties=0.4))
        assert needed == pytest.approx(90 / 0.6, rel=0.05)

    def test_groups_multiply_the_prompts(self):
        assert needed_prompts(0.6, 0.8, replace(PLAIN, design_effect=2.5)) == math.ceil(199 * 2.5)
        assert power(497, 0.6, replace(PLAIN, design_effect=2.5)) < 0.8

    def test_several_candidates_take_more(self):
        assert needed_prompts(0.6, 0.8, replace(PLAIN, candidates=3)) > 240

    @pytest.mark.parametrize("rate", [0.56, 0.63, 0.7, 0.8, 0.95])
    @pytest.mark.parametrize("ties", [0.0, 0.05, 0.35, 0.6])
    @pytest.mark.parametrize(("wanted", "candidates"), [(0.8, 1), (0.9, 4)])
    def test_fewer_prompts_than_needed_would_not_do(self, rate, ties, wanted, candidates):
        assumptions = replace(PLAIN, ties=ties, candidates=candidates)
        needed = needed_prompts(rate, wanted, assumptions)
        if needed is None:
            assert 0.5 + (rate - 0.5) / (1 - ties) > 1
            return
        first = max(1, needed // 2)
        assert power(needed, rate, assumptions) >= wanted
        assert all(power(fewer, rate, assumptions) < wanted for fewer in range(first, needed))

    def test_nothing_is_promised_that_cannot_be(self):
        assert needed_prompts(0.5, 0.8, PLAIN) is None
        assert needed_prompts(0.501, 0.8, PLAIN) is None  # over a hundred thousand
        assert needed_prompts(0.75, 0.8, replace(PLAIN, ties=0.6)) is None
        assert power(10, 0.9, replace(PLAIN, ties=1.0)) == 0.0
        assert power(0, 0.9, PLAIN) == 0.0

    @pytest.mark.parametrize("prompts", [6, 20, 60, 199, 1000])
    @pytest.mark.parametrize("ties", [0.0, 0.35])
    def test_the_detectable_rate_is_the_least_with_that_power(self, prompts, ties):
        assumptions = replace(PLAIN, ties=ties)
        rate = detectable_rate(prompts, 0.8, assumptions)
        if rate is None:
            assert power(prompts, 1 - ties / 2, assumptions) < 0.8
        else:
            assert power(prompts, rate, assumptions) >= 0.8
            assert power(prompts, rate - 0.001, assumptions) < 0.8

    @pytest.mark.parametrize(("ties", "rate"), [(0.0, 0.65), (0.35, 0.6), (0.35, 0.7)])
    def test_the_interval_that_decides_finds_it_as_often_as_planned(self, ties, rate):
        assumptions = replace(PLAIN, ties=ties)
        needed = needed_prompts(rate, 0.8, assumptions)
        share = planning.of_decided(rate, ties)
        weights = [ties, (1 - ties) * share, (1 - ties) * (1 - share)]
        rng, found = random.Random(7), 0
        clusters = [str(i) for i in range(needed)]
        for _ in range(1000):
            scores = rng.choices([0.5, 1.0, 0.0], weights, k=needed)
            found += cluster_t_interval(scores, clusters, 0.95).low > 0.5
        assert 0.77 <= found / 1000 <= 0.9


class TestGate:
    def test_equal_models_pass_with_as_many_prompts_as_the_formula_of_chow_says(self):
        # n = (1.96 · sd_0 + 0.8416 · sd_1)² / 0.05², sd_0² = 0.25 - 0.05², sd_1² = 0.25.
        root = stats.norm.ppf(0.975) * math.sqrt(0.2475) + stats.norm.ppf(0.8) * 0.5
        assert needed_to_pass(0.5, 0.45, 0.8, PLAIN) == math.ceil((root / 0.05) ** 2)
        assert needed_to_pass(0.45, 0.45, 0.8, PLAIN) is None

    def test_the_passing_rate_needs_just_these_prompts(self):
        rate = passing_rate(300, 0.45, 0.8, PLAIN)
        assert needed_to_pass(rate, 0.45, 0.8, PLAIN) == pytest.approx(300, abs=1)
        assert passing_rate(2, 0.9, 0.8, PLAIN) is None

    def test_the_line_says_what_passing_takes(self):
        text = gate_line(300, "non_inferiority", 0.05, PLAIN)
        assert text.startswith(
            "The gate (non-inferiority, a win rate above 45 %) is passed with 80"
        )
        assert "takes 780 prompts for a candidate that is just as good" in text
        assert "above 60 %" in gate_line(300, "superiority", 0.1, PLAIN)
        assert gate_line(None, "superiority", 0.1, PLAIN) is None
        assert gate_line(300, "none", 0.1, PLAIN) is None
        assert gate_line(300, "superiority", 0.0, PLAIN) is None


class TestAssumptions:
    def test_what_is_assumed_is_said(self):
        found = assume(confidence_level=0.95, candidates=2)
        assert found.ties == pytest.approx(0.35) and found.design_effect == 1.0
        assert "65 % of the pairs (GPT-4's on MT-bench), so 35 % are ties" in found.told
        assert found.alpha == pytest.approx(0.025)

    def test_groups_have_kishs_design_effect(self):
        groups = measure([str(i // 5) for i in range(100)])
        assert (groups.count, groups.size) == (20, 5.0)
        found = assume(confidence_level=0.95, candidates=1, correlation=0.5, groups=groups)
        assert found.design_effect == pytest.approx(3.0)
        assert "20 groups" in found.told and "3 prompts count as one" in found.told
        assert measure([None, "a", "a"]).count == 2
        assert measure([]) is None

    def test_a_run_teaches_its_ties(self):
        past = comparison([WIN] * 50 + [LOSS] * 20 + [TIE] * 30)
        found = learn(past, confidence_level=0.95, candidates=1)
        assert (found.ties, found.design_effect) == (0.3, 1.0)
        assert "30 % of the pairs are ties" in found.told

    def test_a_run_teaches_how_much_its_groups_mean(self):
        alike = [WIN if i // 10 % 3 else LOSS for i in range(300)]
        found = learn(
            comparison(alike, group=lambda i: str(i // 10)), confidence_level=0.95, candidates=1
        )
        assert found.design_effect == pytest.approx(10, rel=0.05)
        mixed = [WIN if i % 3 else LOSS for i in range(300)]
        found = learn(
            comparison(mixed, group=lambda i: str(i // 10)), confidence_level=0.95, candidates=1
        )
        assert found.design_effect == 1.0

    def test_one_large_group_among_prompts_of_their_own_has_the_effect_that_was_seen(self):
        # By hand: mean 0.75, the groups' squares 156.25 + 25 * 0.0625 + 25 * 0.5625, 51 units.
        past = comparison([WIN] * 75 + [LOSS] * 25, group=lambda i: "a" if i < 50 else str(i))
        past = replace(past, win_rate=replace(past.win_rate, standard_error=0.01753**0.5))
        found = learn(past, confidence_level=0.95, candidates=1)
        assert found.design_effect == pytest.approx(0.01753 * 99 / 0.1875)

    def test_a_run_without_spread_teaches_the_most_careful_design_effect(self):
        past = comparison([TIE] * 20, group=lambda i: str(i % 5))
        found = learn(past, confidence_level=0.95, candidates=1)
        assert (found.ties, found.design_effect) == (1.0, 4.0)
        assert "find no win rate" in line(20, found)

    def test_a_run_of_a_single_group_teaches_that_it_finds_nothing(self):
        past = comparison([WIN] * 20, group=lambda i: "notre dame")
        found = learn(past, confidence_level=0.95, candidates=1)
        assert "one independent unit has no interval" in line(20, found)

    def test_totals_teach_nothing_about_pairs(self):
        past = comparison([WIN] * 30, details=False)
        found = learn(past, confidence_level=0.95, candidates=1)
        assert found.ties == pytest.approx(0.35)
        assert found.told.startswith("the run's judge left no pairs to learn from; assumed")

    def test_a_summary_without_standard_errors_still_teaches_its_ties(self):
        past = comparison([WIN] * 15 + [TIE] * 5, group=lambda i: str(i // 4))
        old = replace(past, win_rate=replace(past.win_rate, standard_error=None, units=None))
        assert learn(old, confidence_level=0.95, candidates=1).ties == 0.25


class TestLine:
    def test_one_line_says_what_can_be_found_and_what_that_rests_on(self):
        text = line(60, PLAIN)
        assert text == (
            "60 prompts find a win rate of 69.2 % or more, or 30.8 % or less, with 80 % power, "
            "71.7 % or 28.3 % with 90 % (95 % confidence, exact sign test; assumed: nothing)."
        )

    def test_too_few_prompts_find_nothing_and_are_said_to(self):
        assert line(5, PLAIN).startswith("5 prompts find no win rate with 80 % power, however high")
        assert line(1, PLAIN).startswith("1 prompt find")

    def test_a_single_group_finds_nothing(self):
        groups = measure(["notre dame"] * 6)
        found = assume(confidence_level=0.95, candidates=1, groups=groups)
        assert "one independent unit has no interval" in line(6, found)

    def test_several_candidates_are_said(self):
        text = line(60, replace(PLAIN, candidates=2))
        assert "95 % confidence for all 2 candidates together" in text

    def test_a_table_has_a_row_for_each_effect(self):
        rows = table(replace(PLAIN, ties=0.35))
        assert [row.win_rate for row in rows] == list(planning.EFFECTS)
        needed = [row.prompts[0.8] for row in rows]
        assert needed == sorted(needed, reverse=True)
        assert all(row.prompts[0.9] > row.prompts[0.8] for row in rows)
        assert rows[-1].of_decided == pytest.approx(0.5 + 0.25 / 0.65)


def run_plan(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "scripts.plan", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


class TestCommand:
    @pytest.fixture
    def dataset(self, tmp_path):
        rows = [{"id": i, "prompt": f"What is {i}?", "article": i // 10} for i in range(80)]
        file = tmp_path / "prompts.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return file

    def config(self, tmp_path, source, **changes):
        file = tmp_path / "evaluation.json"
        content = {
            "evaluation": "nightly",
            "environment": "sandbox",
            "dataset": {"source": str(source), "id_field": "id", **changes.pop("dataset", {})},
            "baseline": "qwen2.5-1.5b",
            "candidates": ["claude"],
            **changes,
        }
        file.write_text(json.dumps(content))
        return file

    def test_a_config_is_planned_from_its_own_prompts(self, tmp_path, dataset):
        done = run_plan("--config", self.config(tmp_path, dataset))
        assert done.returncode == 0, done.stderr
        assert "80 prompts find a win rate of 62.9 % or more" in done.stdout
        assert "35 % are ties" in done.stdout
        assert [line.split()[:2] for line in done.stdout.splitlines()[5:11]] == [
            [f"{round(100 * effect)}", "%"] for effect in planning.EFFECTS
        ]

    def test_what_is_assumed_can_be_given(self, tmp_path, dataset):
        config = self.config(tmp_path, dataset, dataset={"group_field": "article"})
        done = run_plan(
            "--config", config, "--consistency", 1, "--correlation", 0.5, "--prompts", 1000
        )
        assert "1,000 prompts find" in done.stdout and "786" in done.stdout
        grouped = run_plan("--config", config, "--correlation", 0.5)
        assert "5.5 prompts count as one" in grouped.stdout

    def test_gate_and_candidates_are_looked_at(self, tmp_path, dataset):
        model = {"provider": "bedrock", "model_id": "amazon.nova-lite-v1:0", "name": "lite"}
        config = self.config(
            tmp_path,
            dataset,
            candidates=["claude", model],
            gate={"rule": "non_inferiority", "margin": 0.05},
        )
        done = run_plan("--config", config)
        assert "95 % intervals for 2 candidates together, 97.5 % each" in done.stdout
        assert "The gate (non-inferiority, a win rate above 45 %)" in done.stdout

    def test_a_past_run_is_learnt_from(self, tmp_path, dataset):
        past = comparison([WIN] * 30 + [LOSS] * 20 + [TIE] * 50, candidates=2)
        summary = tmp_path / "summary.json"
        summary.write_text(json.dumps({"comparisons": [asdict(past)]}))
        alone = run_plan("--run", summary)
        assert alone.returncode == 0, alone.stderr
        assert "claude against qwen: 95 % intervals for 2 candidates together" in alone.stdout
        assert "100 prompts find" in alone.stdout and "50 % of the pairs are ties" in alone.stdout
        both = run_plan("--run", summary, "--config", self.config(tmp_path, dataset))
        assert "80 prompts find" in both.stdout and "50 % of the pairs are ties" in both.stdout

    def test_prompts_on_s3_are_not_fetched(self, tmp_path):
        config = self.config(tmp_path, "s3://bucket/prompts.jsonl", dataset={"limit": 300})
        done = run_plan("--config", config)
        assert "it is on S3" in done.stdout and "300 prompts find" in done.stdout

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["--config", "nowhere.yaml"], "nowhere.yaml cannot be read"),
            (["--run", "nowhere.json"], "No such file"),
            (["--run", "README.md"], "README.md is no summary.json of a run"),
            (["--consistency", "1.5"], "1.5 is no share from 0 to 1"),
            (["--prompts", "-3"], "-3 is no number of prompts"),
        ],
    )
    def test_mistakes_are_said_without_a_traceback(self, arguments, says):
        done = run_plan(*arguments)
        assert done.returncode == 2
        assert says in done.stderr and "Traceback" not in done.stderr

    def test_a_faulty_data_set_is_said_as_a_run_would(self, tmp_path, dataset):
        config = self.config(tmp_path, dataset, dataset={"prompt_template": "{promt}"})
        done = run_plan("--config", config)
        assert done.returncode == 2 and "promt" in done.stderr
        assert "Traceback" not in done.stderr

    def test_a_run_without_comparisons_is_said(self, tmp_path):
        summary = tmp_path / "summary.json"
        summary.write_text(json.dumps({"comparisons": []}))
        assert "no comparison to learn from" in run_plan("--run", summary).stderr
