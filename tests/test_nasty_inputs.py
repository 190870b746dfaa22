"""What a judge job may leave at its worst, read and counted: an archive in, a Comparison out."""

import io
import json
import math
import random
import tarfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet
from summaries import Page, make_summary

from include import examples, judge_output, preferences, winrate
from include.gate import decide_gate
from include.reconcile import mismatches, severity
from include.records import (
    Comparison,
    GenerationErrors,
    JudgeOutput,
    Notice,
    Pair,
    Summary,
)
from include.report import ReportPairs, render, report_pair

WIN, LOSS, TIE = ("[[B>A]]", "[[A>B]]"), ("[[A>B]]", "[[B>A]]"), ("[[A=B]]", "[[A=B]]")
ALWAYS_A, NOTHING = ("[[A>B]]", "[[A>B]]"), ("I cannot say", "I cannot say")

Said = Sequence[tuple[str, str]]


def make_pairs(count: int, *, group: str | None = None, status: Any = "judged") -> list[Pair]:
    return [
        Pair(f"p{i}", f"What is {i}?", f"a{i}", f"b{i}", status, group=group) for i in range(count)
    ]


def totals(said: Said) -> dict[str, Any]:
    forward, backward = [both[0] for both in said], [both[1] for both in said]
    found = {
        "a_scores": forward.count("[[A>B]]") + backward.count("[[B>A]]"),
        "b_scores": forward.count("[[B>A]]") + backward.count("[[A>B]]"),
        "ties": forward.count("[[A=B]]") + backward.count("[[A=B]]"),
    }
    return {**found, "inference_error": 2 * len(said) - sum(found.values())}


def row(pair: Pair, said: tuple[str, str], **more: Any) -> dict[str, str]:
    texts = {"prompt": pair.prompt, "response_A": pair.baseline, "response_B": pair.candidate}
    outputs = {"forward_output": said[0], "backward_output": said[1], **more}
    return {"metrics": repr(outputs), "specifics": repr(texts)}


def archive(metrics: dict[str, Any], rows: Sequence[dict[str, Any]] | None) -> io.BytesIO:
    files = {"results_x.json": json.dumps({"results": {"all": metrics}}).encode()}
    if rows is not None:
        table = io.BytesIO()
        empty = {"metrics": pyarrow.string(), "specifics": pyarrow.string()}
        schema = pyarrow.schema(list(empty.items()))
        parquet.write_table(pyarrow.Table.from_pylist(list(rows), schema), table)
        files["details_x.parquet"] = table.getvalue()
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as tar:
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    target.seek(0)
    return target


def summarize(
    pairs: Sequence[Pair],
    metrics: dict[str, Any] | None,
    rows: Sequence[dict[str, Any]] | None = None,
) -> tuple[Comparison, list[Notice]]:
    """As the step does it; metrics None: there was nothing to judge. What is left is JSON."""
    output = None if metrics is None else judge_output.read(archive(metrics, rows), pairs)
    result = winrate.compare(
        baseline="qwen",
        candidate="claude",
        prompts=len(pairs),
        generation_errors=GenerationErrors(
            sum(pair.status == "baseline_failed" for pair in pairs),
            sum(pair.status == "candidate_failed" for pair in pairs),
        ),
        pairs=pairs,
        output=output,
        confidence_level=0.95,
        min_consistency=0.5,
        max_error_rate=0.05,
    )
    json.dumps(asdict(result), allow_nan=False)
    gate = decide_gate([result], "superiority", 0.0)
    assert gate.outcome in ("pass", "fail", "inconclusive")
    warnings = output.warnings if output else []
    read_page(replace(make_summary(result), gate=gate, warnings=warnings), pairs, output)
    return result, warnings


def read_page(summary: Summary, pairs: Sequence[Pair], output: JudgeOutput | None) -> None:
    """See that the report of it says what it must, with every pair that is shown closed again."""
    judgments = output.judgments if output and output.judgments else []
    shown = [
        ReportPairs(sample.kind, [report_pair(pair) for pair in sample.pairs], sample.total)
        for sample in examples.pick(preferences.resolve_pairs(pairs, judgments))
    ]
    page = Page(render(summary, drawings=[], examples=shown))
    assert page.open == []
    assert page.says(" ".join(summary.comparisons[0].sentence.split()))
    assert page.says(f"gate: {summary.gate.outcome}")
    assert all(page.says(warning.code) for warning in summary.warnings)


def judged(pairs: Sequence[Pair], said: Said) -> tuple[Comparison, list[Notice]]:
    rows = [row(pair, both) for pair, both in zip(pairs, said, strict=True)]
    return summarize(pairs, totals(said), rows)


def test_no_pairs() -> None:
    result, _ = summarize([], None)
    assert result.sentence == "Inconclusive: no pair of claude and qwen has a preference."
    assert result.win_rate.method == "none: no pair has a preference"
    result, _ = summarize([], totals([]), [])
    assert (result.verdict, result.win_rate.estimate) == ("inconclusive", None)


def test_all_ties() -> None:
    result, _ = judged(make_pairs(40), [TIE] * 40)
    assert (result.counts.ties, result.counts.inconsistent) == (40, 0)
    assert result.win_rate.estimate == 0.5
    assert result.win_rate.low < 0.5 < result.win_rate.high
    assert result.sentence.startswith("Inconclusive: claude wins 50 % of 40 pairs against qwen")
    assert result.reliability.ties.estimate == 1.0 and result.reliability.consistency.estimate == 1
    assert result.reliability.preference_for_a.estimate is None
    assert result.sign_test_p_value is None and result.needed_pairs is None


def test_all_errors() -> None:
    result, _ = judged(make_pairs(8), [NOTHING] * 8)
    assert (result.counts.pairs, result.counts.unresolved) == (0, 8)
    assert result.sentence == (
        "Inconclusive: 100 % of 16 expected judgments are invalid or absent, "
        "and at most 5 % may be."
    )
    assert result.reliability.errors.estimate == 1.0
    assert (result.missing.no_verdict, result.missing.coverage) == (8, 0.0)


def test_one_prompt() -> None:
    result, _ = judged(make_pairs(1), [WIN])
    assert result.sentence == (
        "Inconclusive: claude wins 100 % of 1 pair against qwen, but all that counts is a single "
        "independent unit, which has no interval."
    )
    assert (result.win_rate.low, result.win_rate.standard_error) == (None, None)


def test_one_cluster() -> None:
    result, _ = judged(make_pairs(30, group="notre dame"), [WIN] * 25 + [LOSS] * 5)
    assert result.win_rate.units == 1 and result.win_rate.low is None
    assert "single independent unit" in result.sentence
    assert result.reliability.consistency.low is None


def test_nan_in_the_details() -> None:
    pairs = make_pairs(30)
    rows = [row(p, WIN, a_scores=math.nan, b_scores=math.nan, ties=math.nan) for p in pairs]
    rows[0]["metrics"] = "nan"
    result, warnings = summarize(pairs, {**totals([WIN] * 30), "score": math.nan}, rows)
    assert result.counts.candidate_wins == 29 and result.nova["score"] is None
    assert result.verdict == "candidate_better"
    assert [notice.code for notice in warnings] == ["details_malformed"]


def test_a_candidate_identical_to_the_baseline() -> None:
    pairs = [Pair(f"p{i}", f"Q{i}", "same", "same", "identical") for i in range(50)]
    result, _ = summarize(pairs, None)
    assert (result.counts.pairs, result.counts.ties, result.counts.judgments) == (50, 50, 0)
    assert (result.win_rate.estimate, result.verdict) == (0.5, "inconclusive")
    assert result.missing.coverage == 1.0
    assert "includes 50 %" in result.sentence and result.position.consistency is None


@pytest.mark.parametrize("details", [True, False])
def test_a_judge_that_always_names_position_a(details: bool) -> None:
    pairs, said = make_pairs(60), [ALWAYS_A] * 60
    result, _ = judged(pairs, said) if details else summarize(pairs, totals(said))
    assert result.win_rate.estimate == 0.5 and result.verdict == "inconclusive"
    assert result.win_rate.low < 0.5 < result.win_rate.high
    if details:
        assert result.reliability.preference_for_a.estimate == 1.0
        assert "two orders agree on only 0 % of the pairs" in result.sentence
    else:
        assert result.reliability.preference_for_a.estimate is None
        assert "no details per pair" in result.sentence


@pytest.mark.parametrize("lacking", ["a_scores", "b_scores", "ties", "inference_error"])
@pytest.mark.parametrize("details", [True, False])
def test_a_results_key_that_is_lacking(lacking: str, details: bool) -> None:
    pairs, said = make_pairs(40), [WIN] * 34 + [LOSS] * 6
    metrics = totals(said)
    del metrics[lacking]
    rows = [row(pair, both) for pair, both in zip(pairs, said, strict=True)]
    result, _ = summarize(pairs, metrics, rows if details else None)
    lost = lacking in ("a_scores", "b_scores") and not details
    assert result.verdict == ("inconclusive" if lost else "candidate_better")
    assert not [r for r in mismatches(result) if severity(r) == "contradiction"]
    assert lacking not in result.nova
    found = {r.metric: r for r in result.reconciliation}[lacking]
    assert found.nova is None and found.note == "not in the judge's metrics"


def test_no_results_keys_at_all() -> None:
    result, _ = summarize(make_pairs(20), {})
    assert "100 % of 40 expected judgments" in result.sentence


def test_eleven_judgments_for_seven_prompts() -> None:
    # AWS's rubric sample: 3 + 7 + 0 + 1 = 11 of 14, called "statistical confidence" there.
    metrics = {"a_scores": 3, "b_scores": 7, "ties": 0, "inference_error": 1, "winrate": 0.7}
    result, _ = summarize(make_pairs(7), {**metrics, "lower_rate": 0.4, "upper_rate": 0.909})
    assert result.verdict == "inconclusive"
    assert "of 14 expected judgments are invalid or absent" in result.sentence
    (flagged,) = mismatches(result)
    assert (flagged.metric, flagged.nova, flagged.recomputed) == ("total", 11, 14)
    assert severity(flagged) == "warning"


def test_details_without_a_row() -> None:
    pairs, said = make_pairs(60), [WIN] * 60
    result, warnings = summarize(pairs, totals(said), [])
    assert (result.evidence, result.verdict) == ("aggregate", "candidate_better")
    assert [notice.code for notice in warnings] == ["details_unreadable"]


def test_details_with_too_few_rows() -> None:
    pairs, said = make_pairs(60), [WIN] * 60
    rows = [row(pair, both) for pair, both in zip(pairs[:50], said, strict=False)]
    result, _ = summarize(pairs, totals(said), rows)
    assert (result.counts.pairs, result.counts.unresolved) == (50, 10)
    assert result.verdict == "inconclusive" and "17 % of 120 expected" in result.sentence
    assert {r.metric for r in mismatches(result)} == {"b_scores"}


def test_details_in_another_order() -> None:
    pairs, said = make_pairs(90), [WIN] * 50 + [LOSS] * 25 + [ALWAYS_A] * 15
    expected, _ = judged(pairs, said)
    rows = [row(pair, both) for pair, both in zip(pairs, said, strict=True)]
    random.Random(5).shuffle(rows)
    result, warnings = summarize(pairs, totals(said), rows)
    assert result == expected and warnings == []


class TestPublished:
    """AWS's notebook calls these "high confidence" and "significantly outperformed"."""

    def test_sixteen_to_ten_is_inconclusive_and_its_standard_errors_are_impossible(self) -> None:
        published = {
            "a_scores": 16.0,
            "a_scores_stderr": 0.03,
            "b_scores": 10.0,
            "b_scores_stderr": 0.09,
            "ties": 0.0,
            "ties_stderr": 0.0,
            "inference_error": 0.0,
            "inference_error_stderr": 0.0,
            "score": 10.0,
            "score_stderr": 0.09,
            "winrate": 0.38,
            "lower_rate": 0.23,
            "upper_rate": 0.56,
        }
        result, _ = summarize(make_pairs(13), published)
        assert result.verdict == "inconclusive"
        assert result.sentence == (
            "Inconclusive: claude wins 38 % of 13 pairs against qwen, and the 95 % interval 11 % "
            "to 69 % (conservative: the judge left no details per pair) includes 50 %. A win rate "
            "of 38 % takes about 157 pairs to show."
        )
        (flagged,) = mismatches(result)
        assert (flagged.metric, severity(flagged)) == ("stderr_identity", "contradiction")
        assert "impossible" in flagged.note

    def test_nine_to_three_is_inconclusive(self) -> None:
        published = {"a_scores": 3.0, "b_scores": 9.0, "ties": 0.0, "inference_error": 0.0}
        published |= {"winrate": 0.75, "lower_rate": 0.091, "upper_rate": 0.917}
        result, _ = summarize(make_pairs(6), published)
        assert result.verdict == "inconclusive" and result.evidence == "aggregate"
        assert result.win_rate.low < 0.468 and result.win_rate.high > 0.911  # Wilson on judgments
        assert "includes 50 %" in result.sentence and "interval is rough" in result.sentence
        grouped, _ = summarize(make_pairs(6, group="University of Notre Dame"), published)
        assert "single independent unit" in grouped.sentence
