"""Facts about reading what the judge wrote."""

import io
import json
import math
import random
import tarfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import judged
import pyarrow
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from sandbox_server import Sandbox

from include import judge, judge_output, recipes, rubric
from include.cells import parse_mapping
from include.config import Environment, Judge
from include.errors import ResultsError
from include.pairs import judge_input
from include.preferences import resolve_pairs
from include.reconcile import mismatches
from include.records import Criterion, Pair

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
    (found,) = resolve_pairs(PAIRS[:1], output.judgments)
    assert found.preference == "candidate" and found.consistent
    assert found.verdict("forward") is found.verdict("backward") is None, "nobody said which"


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


@pytest.mark.parametrize(
    ("output", "verdict"),
    [
        ("[[ A > B ]]", "A>B"),
        ("B>A", "B>A"),
        ("criteria: x\npreference: 'A>B'\n", "A>B"),
        ('"final_verdict": "A = B",', "A=B"),
        ("**Overall preference:** B > A", "B>A"),
        ("At first A>B.\nThen I was cut", None),
        ("preference: neither", None),
        ("[[C]]", None),
        ("", None),
    ],
)
def test_a_verdict_is_found_by_pattern_and_never_guessed(output: str, verdict: str) -> None:
    said = read([row(PAIRS[0], output, "[[A>B]]")]).judgments
    assert said[0].verdict == verdict


@pytest.mark.parametrize("cell", ["{[1]: 2}", "{" * 5000, "[1]", 7.5, None, "nan", "{'a': "])
def test_a_malformed_cell_is_counted_and_stops_nothing(cell: Any) -> None:
    good = row(PAIRS[1], "[[B>A]]", "[[A>B]]")
    output = read([good, {"metrics": repr(cell), "specifics": row(PAIRS[0], "", "")["specifics"]}])
    assert [j.verdict for j in output.judgments] == ["B>A", "A>B", None, None]
    assert [w.code for w in output.warnings] == ["details_malformed"]
    assert output.warnings[0].message.endswith(": metrics 1")


def test_texts_that_are_no_texts_match_no_pair() -> None:
    strange = {**row(PAIRS[0], "[[A>B]]", "[[A>B]]"), "specifics": "{'prompt': ['One?']}"}
    output = read([strange, row(PAIRS[1], "[[A>B]]", "[[B>A]]")])
    assert [j.prompt_id for j in output.judgments] == ["p2", "p2"]
    assert [w.code for w in output.warnings] == ["details_unmatched"]


def test_absurd_counts_make_two_judgments_all_the_same() -> None:
    counts = repr({"a_scores": 1e300, "b_scores": -3.0, "ties": 9.0})
    output = read([{"metrics": counts, "specifics": row(PAIRS[0], "", "")["specifics"]}])
    assert [j.preference for j in output.judgments] == ["baseline", "baseline"]


def scores(a: float, b: float, **more: Any) -> dict[str, Any]:
    """The metrics of one pair of `rubric_llm_judge`, as AWS's notebook reads them."""
    return {"a_scores": a, "b_scores": b, **more}


ACCURACY = {
    "score_A": 2,
    "score_B": 4,
    "weight": 0.6,
    "type": "scale",
    "description": "Facts are right.",
    "justification_A": "Wrong year.",
    "justification_B": "Right year.",
}
POLITE = {"score_A": True, "score_B": False, "weight": 0.4, "type": "binary"}
RUBRIC = scores(
    0.0,
    2.0,
    weighted_score_A=0.55,
    weighted_score_B=0.45,
    score_margin=0.1,
    overall_justification="B knows more.",
    criteria_breakdown={"accuracy": ACCURACY, "polite": POLITE},
)


def rubric_row(pair: Pair, metrics: Any, spell: Any = repr) -> dict[str, Any]:
    return {"metrics": spell(metrics), "specifics": row(pair, "", "", spell)["specifics"]}


@pytest.mark.parametrize("spell", [repr, json.dumps, dict], ids=["repr", "json", "struct"])
def test_a_rubrics_scores_are_read_in_every_spelling_with_positions_as_roles(spell: Any) -> None:
    output = read([rubric_row(PAIRS[0], RUBRIC, spell)])
    assert [j.preference for j in output.judgments] == ["candidate", "candidate"]
    (score,) = output.rubric
    assert (score.prompt_id, score.baseline, score.candidate, score.margin) == (
        *("p1", 0.55, 0.45, 0.1),
    )
    assert score.justification == "B knows more."
    assert score.criteria == [
        Criterion("accuracy", "scale", 0.6, "Facts are right.", 2, 4, "Wrong year.", "Right year."),
        Criterion("polite", "binary", 0.4, None, 1.0, 0.0, None, None),
    ]
    assert [w.code for w in output.warnings] == ["orders_unknown"]


def test_criteria_that_another_pair_has_are_not_this_pairs() -> None:
    # As a parquet struct, each pair has the criteria of all, None where it has them not.
    other = {**RUBRIC, "criteria_breakdown": {"tone": ACCURACY}}
    output = read([rubric_row(PAIRS[0], RUBRIC, dict), rubric_row(PAIRS[1], other, dict)])
    assert [[c.name for c in s.criteria] for s in output.rubric] == [
        ["accuracy", "polite"],
        ["tone"],
    ]
    assert [w.code for w in output.warnings] == ["orders_unknown"]


@pytest.mark.parametrize(
    "breakdown",
    [
        [{"name": "accuracy", **ACCURACY}],
        [["accuracy", ACCURACY]],
        json.dumps({"accuracy": ACCURACY}),
        repr({"accuracy": repr(ACCURACY)}),
    ],
    ids=["list", "pairs", "json", "repr"],
)
def test_criteria_are_read_in_every_form(breakdown: Any) -> None:
    output = read([rubric_row(PAIRS[0], {**RUBRIC, "criteria_breakdown": breakdown})])
    assert [(c.name, c.candidate_score) for c in output.rubric[0].criteria] == [("accuracy", 4)]


def test_rubric_cells_that_make_no_sense_are_left_out_and_counted() -> None:
    odd = {
        "score_A": "good",
        "score_B": 9,
        "weight": -1,
        "type": "stars",
        "description": 5,
    }
    broken = {
        **RUBRIC,
        "score_margin": "large",
        "criteria_breakdown": {"odd": odd, "high": {**ACCURACY, "score_B": 6}, "none": "x", "": {}},
    }
    output = read([rubric_row(PAIRS[0], broken)])
    (score,) = output.rubric
    assert score.margin is None
    assert score.criteria == [
        Criterion("odd", None, None, None, None, 9, None, None),
        Criterion(
            *("high", "scale", 0.6, "Facts are right.", 2, None, "Wrong year.", "Right year.")
        ),
    ]
    assert output.warnings[-1].message.endswith(
        ": criteria_breakdown 2, description 1, score_A 1, score_B 1, score_margin 1, type 1, "
        "weight 1"
    )


def test_verdicts_of_a_rubric_judge_are_read_where_they_are_there() -> None:
    metrics = {**RUBRIC, "forward_output": "preference: B>A", "backward_output": "[[A>B]]"}
    output = read([rubric_row(PAIRS[0], metrics)])
    assert output.orders_known and output.warnings == []
    assert [j.verdict for j in output.judgments] == ["B>A", "A>B"]
    assert len(output.rubric) == 1


def test_ties_that_a_rubric_judge_leaves_out_follow_from_the_totals() -> None:
    rows = [rubric_row(PAIRS[0], scores(0.0, 2.0)), rubric_row(PAIRS[1], scores(0.0, 1.0))]
    totals = {"a_scores": 0.0, "b_scores": 3.0, "ties": 1.0, "inference_error": 0.0}
    files = {RESULTS: results(totals), DETAILS: details(rows)}
    said = judge_output.read(archive(files), PAIRS).judgments
    assert [j.preference for j in said] == ["candidate", "candidate", "candidate", "tie"]


def test_what_may_be_a_tie_or_an_error_is_not_guessed() -> None:
    rows = [rubric_row(PAIRS[0], scores(0.0, 2.0)), rubric_row(PAIRS[1], scores(0.0, 0.0))]
    totals = {"a_scores": 0.0, "b_scores": 2.0, "ties": 1.0, "inference_error": 1.0}
    files = {RESULTS: results(totals), DETAILS: details(rows)}
    said = judge_output.read(archive(files), PAIRS).judgments
    assert [j.preference for j in said] == ["candidate", "candidate", None, None]


def test_a_judge_without_a_rubric_leaves_no_scores() -> None:
    assert read([row(PAIRS[0], "[[A>B]]", "[[B>A]]")]).rubric == []


def test_stored_scores_read_back() -> None:
    output = read([rubric_row(PAIRS[0], RUBRIC), rubric_row(PAIRS[1], scores(1, 1))])
    assert len(output.rubric) == 1
    body = b"".join(json.dumps(asdict(score)).encode() + b"\n" for score in output.rubric)
    assert rubric.from_lines(body) == output.rubric


CELL = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=6,
)


@given(
    st.dictionaries(st.sampled_from([*RUBRIC, "forward_output", "ties", "prompt"]), CELL),
    st.dictionaries(st.sampled_from([*ACCURACY]), CELL),
    st.sampled_from([repr, json.dumps, str]),
)
@settings(max_examples=150)
def test_whatever_the_cells_hold_reading_raises_nothing(
    metrics: dict[str, Any], criterion: dict[str, Any], spell: Any
) -> None:
    metrics.setdefault("criteria_breakdown", {"x": criterion})
    rows = [rubric_row(PAIRS[0], metrics, spell), rubric_row(PAIRS[1], RUBRIC, spell)]
    files = {RESULTS: results(METRICS), DETAILS: details(rows)}
    output = judge_output.read(archive(files), PAIRS)
    json.dumps([asdict(score) for score in output.rubric], allow_nan=False)


@given(st.dictionaries(st.text(), st.floats() | st.text() | st.none() | st.booleans()))
def test_any_repr_of_a_dict_reads_back_with_none_for_what_is_no_number(value: dict) -> None:
    parsed = parse_mapping(repr(value))
    assert parsed.keys() == value.keys()
    for key, item in value.items():
        real = not isinstance(item, float) or math.isfinite(item)
        assert parsed[key] == (item if real else None) or (not real and parsed[key] == item)


@given(st.text().filter(lambda text: not text.lstrip().startswith("{")))
def test_any_other_text_is_no_mapping(text: str) -> None:
    assert parse_mapping(text) == {}


ROOT = Path(__file__).resolve().parent.parent


def judged_by(sandbox: Sandbox, recipe: str, pairs: Sequence[Pair]) -> io.BytesIO:
    """Have the sandbox judge pairs as a run would; return the archive."""
    s3, sagemaker = sandbox.client("s3"), sandbox.client("sagemaker")
    settings = yaml.safe_load((ROOT / "dags/environments/sandbox.yaml").read_text())
    environment = Environment.model_validate({"name": "sandbox", **settings})
    bucket = environment.output_s3_uri.split("/")[2]
    name = f"output-{recipe.replace('_', '-')}"
    for key, body in (
        ("in/llm_judge.jsonl", judge_input(pairs)),
        ("recipe/recipe.yaml", recipes.to_yaml(recipes.load(recipe)).encode()),
    ):
        s3.put_object(Bucket=bucket, Key=f"{name}/{key}", Body=body)
    instance = "ml.p5.48xlarge" if "rubric" in recipe else "ml.g5.12xlarge"
    root = f"s3://{bucket}/{name}"
    request = judge.training_job(
        environment,
        Judge(recipe=recipe, instance_type=instance),
        recipes.load(recipe),
        name=name,
        input_uri=f"{root}/in/llm_judge.jsonl",
        recipe_uri=f"{root}/recipe/recipe.yaml",
        output_uri=f"{root}/out",
        max_runtime=3600,
        tags=[],
    )
    sagemaker.create_training_job(**request)
    end = time.monotonic() + 60
    while True:
        description = sagemaker.describe_training_job(TrainingJobName=name)
        if description["TrainingJobStatus"] != "InProgress":
            break
        assert time.monotonic() < end, description
        time.sleep(0.1)
    assert description["TrainingJobStatus"] == "Completed", description["FailureReason"]
    key = f"{name}/out/{name}/output/output.tar.gz"
    return io.BytesIO(s3.get_object(Bucket=bucket, Key=key)["Body"].read())


@pytest.mark.parametrize("recipe", ["nova_micro_llm_judge", "nova_2_lite_rubric_llm_judge"])
def test_what_a_judge_job_leaves_is_read_and_agrees_with_itself(
    sandbox: Sandbox, recipe: str
) -> None:
    answers = [
        ("It is so.", "It is so, because of the moon's pull on the sea."),
        ("Yes; {1}.", "No"),
    ]
    pairs = [
        Pair(f"p{n}", f"Why is number {n} 'odd'?", *answers[n % 2], "judged") for n in range(12)
    ]
    output = judge_output.read(judged_by(sandbox, recipe, pairs), pairs)
    assert output.warnings == [] and output.orders_known
    assert len(output.judgments) == 24 and all(j.verdict for j in output.judgments)
    comparison = judged.count(pairs, output, min_consistency=0.0, max_error_rate=0.0)
    assert mismatches(comparison) == []
    if "rubric" not in recipe:
        assert (output.rubric, comparison.rubric) == ([], None)
        return
    assert sorted(score.prompt_id for score in output.rubric) == sorted(p.prompt_id for p in pairs)
    assert all(score.justification and score.criteria for score in output.rubric)
    checked = {row.metric: row.nova for row in comparison.reconciliation if row.unit == "pairs"}
    assert checked == {
        "pair_margins_identity": 12,
        "pair_margins_in_range": 12,
        "pair_scores_from_criteria": 12,
    }
    assert {row.kind for row in comparison.rubric.criteria} <= {"scale", "binary"}
