"""Facts about the numbers beside those of others: inspect_ai, evalstats, evalica, AlpacaEval."""

import csv
import gzip
import itertools
import json
import math
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from bench.installs import InstallError, python_of
from include import winrate
from include.board import PairingScores, rank
from include.equal_length import equal_length_interval
from include.intervals import Interval, cluster_t_interval, level_of_each, level_together
from include.paired import compare_runs
from include.preferences import SCORE, ResolvedPair
from include.reconcile import mismatches
from include.records import GenerationErrors, JudgeOutput, Judgment, Pair

DATA = Path(__file__).parents[1].parent / "shared" / "data"
PREFERENCES = DATA / "alpaca_eval_2.jsonl.gz"
LEADERBOARD = DATA / "alpaca_eval_2_leaderboard.csv"
CANDIDATES = ("claude-2.1", "Qwen-14B-Chat", "gemma-2b-it", "FuseChat-Qwen-2.5-7B-Instruct")

WIN, LOSS, TIE = ("B>A", "A>B"), ("A>B", "B>A"), ("A=B", "A=B")


def ask(peer: str, code: str, data: object) -> object:
    """Run code in an environment with that package; it finds `data` and prints its answer."""
    try:
        python = python_of(peer)()
    except InstallError as error:
        pytest.skip(f"{peer} cannot be installed here: {error}")
    program = f"import json, sys\ndata = json.load(sys.stdin)\n{code}"
    done = subprocess.run(
        [str(python), "-c", program], input=json.dumps(data), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def drawn(seed: int, count: int, groups: int) -> tuple[list[float], list[str]]:
    rng = random.Random(seed)
    ease = [rng.random() for _ in range(groups)]
    clusters = [rng.randrange(groups) for _ in range(count)]
    scores = [
        rng.choices([1.0, 0.5, 0.0], [ease[group], 0.3, 1 - ease[group]])[0] for group in clusters
    ]
    return scores, [str(group) for group in clusters]


INSPECT = """
from inspect_ai.scorer import SampleScore, Score, ci, stderr
answers = []
for scores, clusters in data:
    made = [
        SampleScore(score=Score(value=score), sample_metadata={"cluster": cluster})
        for score, cluster in zip(scores, clusters)
    ]
    found = ci(cluster="cluster")(made)
    answers.append([float(stderr(cluster="cluster")(made)), found["lower"], found["upper"]])
print(json.dumps(answers))
"""

EVALSTATS = """
import numpy as np
from evalstats.core.resampling import (
    bonett_price_paired_ci_from_diffs,
    bonett_price_paired_ci_multirun_cluster,
)
one = bonett_price_paired_ci_from_diffs(np.array(data["one"]), 0.05)
first, second = (np.array(runs) for runs in data["two"])
two = bonett_price_paired_ci_multirun_cluster(first, second, 0.05)
print(json.dumps([one, two]))
"""


EVALICA = """
import evalica
said = {1.0: evalica.Winner.Y, 0.5: evalica.Winner.Draw, 0.0: evalica.Winner.X}
rows = [(a, b, said[score]) for a, b, scores in data for score in scores]
found = evalica.bradley_terry(*map(list, zip(*rows)), tolerance=1e-10, limit=100_000).scores
print(json.dumps({name: float(score) for name, score in found.items()}))
"""


@pytest.mark.slow
class TestInspectAi:
    def test_the_clustered_standard_error_is_inspect_ais(self) -> None:
        samples = [drawn(1, 60, 15), drawn(2, 300, 40), drawn(3, 500, 7), drawn(4, 90, 900)]
        for sample, theirs in zip(samples, ask("inspect_ai", INSPECT, samples), strict=True):
            ours = cluster_t_interval(*sample, 0.95)
            assert ours.standard_error == pytest.approx(theirs[0])
            # Their interval has nothing added, so it is another one, but not far away.
            assert (ours.low, ours.high) == pytest.approx((theirs[1], theirs[2]), abs=0.05)

    @pytest.mark.parametrize("size", [1, 4])
    def test_with_one_win_and_one_loss_added_the_interval_is_inspect_ais(self, size: int) -> None:
        # Groups that agree with themselves weigh as many prompts as they have.
        rng, groups = random.Random(size), 30
        alike = [rng.choice([1.0, 1.0, 0.0]) for _ in range(groups)]
        scores = [score for score in alike for _ in range(size)]
        clusters = [str(group) for group in range(groups) for _ in range(size)]
        more = [*scores, *[1.0] * size, *[0.0] * size]
        units = [*clusters, *["win"] * size, *["loss"] * size]
        ((_, low, high),) = ask("inspect_ai", INSPECT, [(more, units)])
        ours = cluster_t_interval(scores, clusters, 0.95)
        # Theirs counts the two that were added as evidence: 31 degrees of freedom, not 29.
        scale = stats.t.ppf(0.975, groups - 1) / stats.t.ppf(0.975, groups + 1)
        centre, half = (low + high) / 2, (high - low) / 2 * scale
        assert (ours.low, ours.high) == pytest.approx((centre - half, centre + half))


@pytest.mark.slow
class TestEvalstats:
    def test_win_rate_and_change_have_bonett_and_prices_interval(self) -> None:
        rng, count = random.Random(9), 120
        names = ("candidate", "tie", "baseline")
        runs = [rng.choices(names, weights, k=count) for weights in ((5, 3, 2), (4, 1, 5))]
        pairs = [Pair(f"p{i}", "q", "x", "y", "judged") for i in range(count)]
        score = SCORE
        # A preference as two runs of a binary benchmark: both, one or none of them won.
        binary = {"candidate": [1, 1], "tie": [1, 0], "baseline": [0, 0]}
        two = [[binary[name] for name in run] for run in runs]
        one = [int(2 * score[name] - 1) for name in runs[0]]
        alone, change = ask("evalstats", EVALSTATS, {"one": one, "two": two})

        scores = [score[name] for name in runs[0]]
        found = cluster_t_interval(scores, [str(i) for i in range(count)], 0.95)
        ours = [2 * found.low - 1, 2 * found.high - 1]
        self.compare(ours, alone, count)

        rows = [
            [ResolvedPair(pair, (), name, None) for pair, name in zip(pairs, run, strict=True)]
            for run in runs
        ]
        found = compare_runs(rows[1], rows[0], candidate="x", confidence_level=0.95)
        self.compare([found.low, found.high], change, count)

    def compare(self, ours: list[float], theirs: list[float], count: int) -> None:
        # Theirs has the normal quantile and n where ours has Student's and n - 1.
        scale = stats.t.ppf(0.975, count - 1) / stats.norm.ppf(0.975)
        scale *= math.sqrt((count + 2) / (count + 1))
        centre, half = sum(theirs) / 2, (theirs[1] - theirs[0]) / 2 * scale
        assert ours == pytest.approx([centre - half, centre + half])


@pytest.mark.slow
@pytest.mark.parametrize("met", ["round robin", "baseline only", "some"])
def test_strengths_of_several_models_are_evalicas(met: str) -> None:
    names = ["m0", "m1", "m2", "m3", "m4", "m5"]
    pairs = {
        "round robin": list(itertools.combinations(names, 2)),
        "baseline only": [("m0", name) for name in names[1:]],
        "some": [
            ("m0", "m3"),
            ("m3", "m1"),
            ("m1", "m2"),
            ("m2", "m4"),
            ("m5", "m4"),
            ("m5", "m0"),
        ],
    }[met]
    rng = random.Random(met)
    pairings = []
    for first, second in pairs:
        count, chance = rng.randrange(20, 200), 0.15 + 0.7 * rng.random()
        scores = rng.choices([1.0, 0.5, 0.0], [chance, 0.2, 1 - chance], k=count)
        pairings.append(PairingScores(first, second, scores, [f"prompt {n}" for n in range(count)]))
    strengths = ask("evalica", EVALICA, [(p.first, p.second, p.scores) for p in pairings])
    board = rank(pairings, baseline="m0", confidence_level=0.95)
    for each in board.models:
        theirs = strengths[each.model] / (strengths[each.model] + strengths["m0"])
        assert each.win_rate == pytest.approx(theirs, abs=1e-5)


NO_DATA = pytest.mark.skipif(
    not PREFERENCES.exists(), reason="AlpacaEval's data is not part of the project"
)
COLUMNS = "name win_rate standard_error n_wins n_wins_base n_draws n_total discrete_win_rate mode"
COLUMNS += " avg_length length_controlled_winrate lc_standard_error"


def alpaca_eval() -> list[dict[str, Any]]:
    with gzip.open(PREFERENCES, "rt") as rows:
        return [json.loads(row) for row in rows]


def values(candidate: str) -> list[float]:
    return [row["preference"][candidate] for row in alpaca_eval()]


def published(candidate: str) -> dict[str, str]:
    with LEADERBOARD.open() as file:
        rows = [dict(zip(COLUMNS.split(), row, strict=True)) for row in csv.reader(file)]
    return next(row for row in rows if row["name"] == candidate)


@NO_DATA
@pytest.mark.parametrize("candidate", CANDIDATES)
class TestAlpacaEval:
    """The published table of 805 prompts, one judgment each, whose value is from 1 to 2."""

    def test_wins_losses_ties_and_discrete_win_rate_are_reproduced(self, candidate: str) -> None:
        verdicts = [
            WIN if value > 1.5 else LOSS if value < 1.5 else TIE for value in values(candidate)
        ]
        pairs = [Pair(f"p{i}", "q", "x", "y", "judged") for i in range(len(verdicts))]
        judgments = [
            Judgment(pair.prompt_id, order, verdict)
            for pair, both in zip(pairs, verdicts, strict=True)
            for order, verdict in zip(("forward", "backward"), both, strict=True)
        ]
        result = winrate.compare(
            baseline="gpt4_1106_preview",
            candidate=candidate,
            prompts=len(pairs),
            generation_errors=GenerationErrors(0, 0),
            pairs=pairs,
            output=JudgeOutput({}, judgments),
            confidence_level=0.95,
            min_consistency=0.5,
            max_error_rate=0.05,
        )
        counts, known = result.counts, published(candidate)
        assert [counts.candidate_wins, counts.baseline_wins, counts.ties, counts.pairs] == [
            int(known[key]) for key in ("n_wins", "n_wins_base", "n_draws", "n_total")
        ]
        assert 100 * result.win_rate.estimate == pytest.approx(
            float(known["discrete_win_rate"]), rel=1e-12
        )
        better = "candidate_better" if candidate.startswith("FuseChat") else "baseline_better"
        assert result.verdict == better and mismatches(result) == []

    def test_weighted_win_rate_and_standard_error_are_reproduced(self, candidate: str) -> None:
        scores = [value - 1 for value in values(candidate)]
        found = cluster_t_interval(scores, [str(i) for i in range(len(scores))], 0.95)
        known = published(candidate)
        # The preferences are rounded to six decimals, the table is not.
        assert 100 * found.estimate == pytest.approx(float(known["win_rate"]), abs=5e-5)
        assert 100 * found.standard_error == pytest.approx(float(known["standard_error"]), abs=5e-5)


@NO_DATA
class TestAlpacaEvalAtEqualLength:
    """Its length-controlled win rates, whose model has the prompts' difficulty too, penalized."""

    def found(self, candidate: str) -> Interval:
        rows = alpaca_eval()
        lengths = [
            [len(row["responses"][model]) for row in rows]
            for model in (candidate, "gpt4_1106_preview")
        ]
        return equal_length_interval(
            [row["preference"][candidate] - 1 for row in rows],
            [its - baselines for its, baselines in zip(*lengths, strict=True)],
            [str(row["id"]) for row in rows],
            0.95,
        )

    def controlled(self, candidate: str) -> float:
        return float(published(candidate)["length_controlled_winrate"]) / 100

    def test_the_candidates_are_in_the_published_order(self) -> None:
        ours = sorted(CANDIDATES, key=lambda each: self.found(each).estimate)
        assert ours == sorted(CANDIDATES, key=self.controlled)
        assert ours == ["gemma-2b-it", "Qwen-14B-Chat", "claude-2.1", CANDIDATES[-1]]

    @pytest.mark.parametrize("candidate", CANDIDATES)
    def test_the_win_rate_moves_to_the_side_that_the_published_one_does(
        self, candidate: str
    ) -> None:
        raw = float(published(candidate)["win_rate"]) / 100
        assert (self.found(candidate).estimate > raw) == (self.controlled(candidate) > raw)

    def test_the_published_standard_error_is_less_than_half_of_one_that_holds(self) -> None:
        known = published(CANDIDATES[-1])
        error = self.found(CANDIDATES[-1]).standard_error
        assert float(known["lc_standard_error"]) < 100 * error / 2
        assert float(known["standard_error"]) < 100 * error


@NO_DATA
class TestAlpacaEvalRoundRobin:
    """Five models on 805 prompts, of which the data hold four pairings, each with the baseline.

    Here model i beats model j on a prompt where its recorded preference over the baseline is
    higher; equal ones are a tie, and the baseline's own is 1.5. Nobody judged two candidates side
    by side.
    """

    BASELINE = "gpt4_1106_preview"

    @pytest.fixture
    def pairings(self) -> list[PairingScores]:
        rows, found = alpaca_eval(), []
        for first, second in itertools.combinations([self.BASELINE, *CANDIDATES], 2):
            scores = []
            for row in rows:
                recorded = {self.BASELINE: 1.5, **row["preference"]}
                gap = recorded[second] - recorded[first]
                scores.append(0.5 if gap == 0 else float(gap > 0))
            found.append(
                PairingScores(first, second, scores, [f"prompt {row['id']}" for row in rows])
            )
        return found

    @pytest.fixture
    def order(self) -> list[str]:
        """The models by their published win rate; the baseline's is 50 %."""
        rates = {name: float(published(name)["win_rate"]) for name in CANDIDATES}
        return sorted([*rates, self.BASELINE], key=lambda name: -rates.get(name, 50.0))

    def test_the_sets_of_ranks_hold_the_published_order(
        self, pairings: list[PairingScores], order: list[str]
    ) -> None:
        board = rank(pairings, baseline=self.BASELINE, confidence_level=0.95)
        sets = {each.model: (each.best_rank, each.worst_rank) for each in board.models}
        for place, name in enumerate(order, start=1):
            best, worst = sets[name]
            assert best <= place <= worst
        assert all(best == worst for best, worst in sets.values())

    def test_they_also_do_with_the_four_recorded_pairings_only(
        self, pairings: list[PairingScores], order: list[str]
    ) -> None:
        recorded = [each for each in pairings if each.first == self.BASELINE]
        board = rank(recorded, baseline=self.BASELINE, confidence_level=0.95)
        assert [each.model for each in board.models] == order
        assert all(each.best_rank == each.worst_rank for each in board.models)
        assert board.only_with_baseline

    def test_with_every_twentieth_prompt_they_hold_it_and_are_wider(
        self, pairings: list[PairingScores], order: list[str]
    ) -> None:
        few = [
            PairingScores(each.first, each.second, each.scores[::20], each.units[::20])
            for each in pairings
        ]
        board = rank(few, baseline=self.BASELINE, confidence_level=0.95)
        sets = {each.model: (each.best_rank, each.worst_rank) for each in board.models}
        for place, name in enumerate(order, start=1):
            best, worst = sets[name]
            assert best <= place <= worst
        assert any(best < worst for best, worst in sets.values())


@pytest.mark.parametrize("intervals", [0, 1, 2, 3, 60])
def test_the_level_of_each_interval_is_bonferronis_and_leads_back(intervals):
    each = level_of_each(0.95, intervals)
    # p.adjust(p, "bonferroni") rejects where n * p < 0.05
    assert 1 - each == pytest.approx(0.05 / max(1, intervals))
    assert level_together(each, intervals) == pytest.approx(0.95)
