"""Facts about reading what the judge wrote."""

import io
import json
import math
import random
import tarfile
from collections.abc import Sequence
from typing import Any

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from include import judge_output
from include.errors import ResultsError
from include.records import Pair

METRICS = {"a_scores": 1.0, "b_scores": 3.0, "ties": 0.0, "inference_error": 0.0, "winrate": 0.75}
RESULTS = "job/eval_results/results_2026-11-24T06-00-00.000000.json"
DETAILS = "job/eval_results/details/judge/x/details_custom|llm_judge_judge|0_x.parquet"

PAIRS = [
    Pair("p1", "One?", "a1", "b1", "judged"),
    Pair("p2", "Two?", "a2", "b2", "judged"),
    Pair("p3", "Three?", "same", "same", "identical"),
]


def archive(files: dict[str, bytes]) -> io.BytesIO:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    file.seek(0)
    return file


def results(metrics: dict[str, Any], key: str = "all") -> bytes:
    return json.dumps({"results": {key: metrics}}).encode()


def details(rows: Sequence[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(list(rows)), file)
    return file.getvalue()


def row(pair: Pair, forward: str, backward: str, spell: Any = repr, **metrics: Any) -> dict:
    return {
        "metrics": spell({"forward_output": forward, "backward_output": backward, **metrics}),
        "specifics": spell(
            {"prompt": pair.prompt, "response_A": pair.baseline, "response_B": pair.candidate}
        ),
    }


def read(rows: Sequence[dict[str, Any]], pairs: Sequence[Pair] = PAIRS) -> Any:
    files = {RESULTS: results(METRICS), DETAILS: details(rows)}
    return judge_output.read(archive(files), pairs)


@pytest.mark.parametrize("spell", [repr, json.dumps, dict], ids=["repr", "json", "struct"])
def test_rows_are_read_in_every_spelling(spell: Any) -> None:
    output = read(
        [
            row(PAIRS[1], "I say [[B>A]]", "[[A>B]]", spell),
            row(PAIRS[0], "[[A>B]]", "[[A>B]]", spell),
        ]
    )
    assert {(j.prompt_id, j.order): j.preference for j in output.judgments} == {
        ("p1", "forward"): "baseline",
        ("p1", "backward"): "candidate",
        ("p2", "forward"): "candidate",
        ("p2", "backward"): "candidate",
    }
    assert output.warnings == []


def test_rows_are_matched_by_content_whatever_their_order() -> None:
    pairs = [Pair(f"p{n}", f"Q{n}", f"a{n}", f"b{n}", "judged") for n in range(40)]
    rows = [row(p, "[[A>B]]" if n % 3 else "[[B>A]]", "[[A=B]]") for n, p in enumerate(pairs)]
    expected = sorted((j.prompt_id, j.order, j.verdict) for j in read(rows, pairs).judgments)
    random.Random(1).shuffle(rows)
    assert (
        sorted((j.prompt_id, j.order, j.verdict) for j in read(rows, pairs).judgments) == expected
    )


def test_equal_pairs_each_get_their_own_judgments() -> None:
    twins = [Pair("x", "Q", "a", "b", "judged"), Pair("y", "Q", "a", "b", "judged")]
    output = read([row(twins[0], "[[A>B]]", "[[B>A]]"), row(twins[0], "[[B>A]]", "[[A>B]]")], twins)
    assert {j.prompt_id for j in output.judgments} == {"x", "y"}
    assert len(output.judgments) == 4


def test_backward_outputs_that_are_already_turned_back_are_seen_by_the_counts() -> None:
    turned = [
        row(PAIRS[0], "[[A>B]]", "[[A>B]]", a_scores=2.0, b_scores=0.0, ties=0.0),
        row(PAIRS[1], "[[B>A]]", "[[B>A]]", a_scores=0.0, b_scores=2.0, ties=0.0),
    ]
    said = {(j.prompt_id, j.order): j.preference for j in read(turned).judgments}
    assert said["p1", "backward"] == "baseline"
    assert said["p2", "backward"] == "candidate"


def test_verdicts_that_differ_from_the_counts_beside_them_are_reported() -> None:
    rows = [row(PAIRS[0], "[[A>B]]", "[[B>A]]", a_scores=0.0, b_scores=1.0, ties=1.0)]
    assert [w.code for w in read(rows).warnings] == ["verdicts_differ_from_counts"]


def test_an_output_without_a_verdict_is_an_error_not_a_tie() -> None:
    output = read([row(PAIRS[0], "I cannot decide", "[[A>B]]")])
    forward = next(j for j in output.judgments if j.order == "forward")
    assert forward.verdict is None
    assert forward.error


def test_the_last_verdict_counts() -> None:
    output = read([row(PAIRS[0], "At first [[A>B]], but then [[B>A]]", "[[A=B]]")])
    assert output.judgments[0].verdict == "B>A"


def test_counts_without_verdicts_still_give_preferences_but_no_positions() -> None:
    rows = [
        {
            "metrics": repr({"a_scores": 0.0, "b_scores": 2.0, "ties": 0.0}),
            "specifics": row(PAIRS[0], "", "")["specifics"],
        }
    ]
    output = read(rows)
    assert [j.preference for j in output.judgments] == ["candidate", "candidate"]
    assert not output.orders_known


def test_details_of_other_pairs_leave_the_counts_to_speak() -> None:
    output = read([row(Pair("z", "Other?", "x", "y", "judged"), "[[A>B]]", "[[A>B]]")])
    assert output.judgments is None
    assert [w.code for w in output.warnings] == ["details_unreadable"]


def test_without_details_there_are_metrics_only() -> None:
    output = judge_output.read(archive({RESULTS: results(METRICS)}), PAIRS)
    assert output.judgments is None
    assert output.metrics == METRICS


def test_metrics_come_from_the_only_task_where_all_is_absent() -> None:
    body = results({"a_scores": 2, "winrate": float("nan")}, key="custom|llm_judge_judge|0")
    assert judge_output.read_metrics(body) == {"a_scores": 2.0, "winrate": None}


def test_an_archive_without_results_says_what_it_holds() -> None:
    with pytest.raises(ResultsError, match=r"it holds: notes\.txt"):
        judge_output.read(archive({"notes.txt": b"hi"}), PAIRS)


@pytest.mark.parametrize("body", [b"", b"not a tar", b"\x1f\x8b\x08\x00broken"])
def test_a_damaged_archive_is_refused(body: bytes) -> None:
    with pytest.raises(ResultsError):
        judge_output.read(io.BytesIO(body), PAIRS)


def test_an_archive_that_is_cut_short_is_refused() -> None:
    body = archive({RESULTS: results(METRICS), "big": random.Random(0).randbytes(100_000)})
    with pytest.raises(ResultsError):
        judge_output.read(io.BytesIO(body.getvalue()[:5000]), PAIRS)


def test_a_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_output, "MAX_ARCHIVE_BYTES", 1000)
    with pytest.raises(ResultsError, match="more than 1000 bytes"):
        judge_output.read(archive({"zeros": bytes(2000), RESULTS: results(METRICS)}), PAIRS)


def test_a_link_is_not_followed() -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        link = tarfile.TarInfo(RESULTS)
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    file.seek(0)
    with pytest.raises(ResultsError):
        judge_output.read(file, PAIRS)


@given(st.dictionaries(st.text(), st.floats() | st.text() | st.none() | st.booleans()))
def test_any_repr_of_a_dict_reads_back_with_none_for_what_is_no_number(value: dict) -> None:
    parsed = judge_output.parse_mapping(repr(value))
    assert parsed.keys() == value.keys()
    for key, item in value.items():
        real = not isinstance(item, float) or math.isfinite(item)
        assert parsed[key] == (item if real else None) or parsed[key] in (math.inf, -math.inf)


@given(st.text())
def test_any_other_text_is_no_mapping(text: str) -> None:
    assert isinstance(judge_output.parse_mapping(text), dict)
