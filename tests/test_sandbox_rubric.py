"""Facts about the sandbox's rubric judge: what it leaves behind, and that it hangs together."""

import ast
import io
import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet
from sandbox_server import Sandbox, running_sandbox
from sandbox_work import archive, end_of, job_request, name, put_input, rows, start_job

from include.sandbox.judge import Judge, Judged
from include.sandbox.models import Recordings, stand_in
from include.sandbox.rubric import Rubric, assess
from include.sandbox.settings import JudgeDials

RECIPE = "nova_2_lite_rubric_llm_judge"
P5 = {"InstanceType": "ml.p5.48xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30}
PROMPTS = [f"How does a tide form in bay {n}, and what keeps it going?" for n in range(40)]
WEAK, STRONG = "Tiny/Tiny-1B", "us.anthropic.claude-sonnet-4-6"
PAIRS = [(p, stand_in(WEAK, p), stand_in(STRONG, p)) for p in PROMPTS]


def rubric_job(sandbox: Sandbox, job: str, pairs: list[tuple[str, str, str]]) -> dict[str, Any]:
    put_input(sandbox, job, rows(*pairs), recipe=RECIPE)
    start_job(sandbox, job, job, ResourceConfig=P5)
    return end_of(sandbox, job)


@pytest.fixture(scope="module")
def files(sandbox: Sandbox) -> dict[str, bytes]:
    job = name("rubric")
    assert rubric_job(sandbox, job, PAIRS)["TrainingJobStatus"] == "Completed"
    return archive(sandbox, job, job)


def results(files: dict[str, bytes]) -> dict[str, Any]:
    (body,) = [content for path, content in files.items() if "/eval_results/results_" in path]
    return json.loads(body)


def details(files: dict[str, bytes]) -> list[dict[str, Any]]:
    (body,) = [content for path, content in files.items() if path.endswith(".parquet")]
    return parquet.read_table(io.BytesIO(body)).to_pylist()


def metrics(files: dict[str, bytes]) -> list[dict[str, Any]]:
    return [ast.literal_eval(row["metrics"]) for row in details(files)]


def test_files_lie_where_nova_leaves_them(files: dict[str, bytes]) -> None:
    (path,) = [path for path in files if path.endswith(".parquet")]
    run, *folders, stamp, file = path.split("/")
    assert run == "nova-lite-v2-rubric-llm-judge-eval-job"
    assert folders == ["eval_results", "details", "rubric_judge_model"]
    assert file == f"details_custom|rubric_llm_judge_judge|0_{stamp}.parquet"
    assert stamp.endswith("+00-00")


def test_results_hold_counts_and_weighted_scores(files: dict[str, bytes]) -> None:
    found, each = results(files)["results"], metrics(files)
    assert found["all"] == found["custom|rubric_llm_judge_judge|0"]
    total = found["all"]
    counted = ("a_scores", "b_scores", "ties", "inference_error")
    assert sum(total[key] for key in counted) == 2 * len(PAIRS)
    for key in counted:
        assert total[key] == sum(row[key] for row in each)
    for key in ("weighted_score_A", "weighted_score_B", "score_margin"):
        assert total[key] == pytest.approx(statistics.fmean(row[key] for row in each))
        assert total[f"{key}_stderr"] > 0
    assert total["score_margin"] < 0  # the stronger model is B


def test_each_pair_has_a_rubric_whose_scores_give_its_margin(files: dict[str, bytes]) -> None:
    for row in metrics(files):
        weighted = {"A": 0.0, "B": 0.0}
        criteria = row["criteria_breakdown"].values()
        total = sum(criterion["weight"] for criterion in criteria)
        for criterion in criteria:
            assert set(criterion) == {
                *("score_A", "score_B", "weight", "type", "description"),
                *("justification_A", "justification_B"),
            }
            for letter in "AB":
                score = criterion[f"score_{letter}"]
                assert score in ((1, 2, 3, 4, 5) if criterion["type"] == "scale" else (0, 1))
                share = (score - 1) / 4 if criterion["type"] == "scale" else score
                weighted[letter] += criterion["weight"] / total * share
        assert total == pytest.approx(1, abs=0.001)
        assert row["weighted_score_A"] == pytest.approx(weighted["A"], abs=1e-5)
        assert row["weighted_score_B"] == pytest.approx(weighted["B"], abs=1e-5)
        assert row["score_margin"] == pytest.approx(weighted["A"] - weighted["B"], abs=1e-5)


def test_the_margin_has_the_verdicts_direction(files: dict[str, bytes]) -> None:
    seen = set()
    for row in metrics(files):
        lead = row["a_scores"] - row["b_scores"]
        sign = (row["score_margin"] > 0) - (row["score_margin"] < 0)
        assert sign == (lead > 0) - (lead < 0)
        seen.add(sign)
    assert {-1, 1} <= seen


def test_both_passes_are_written_out_with_their_own_positions(files: dict[str, bytes]) -> None:
    for row in details(files):
        own = ast.literal_eval(row["metrics"])
        forward, backward = own["predictions"]
        assert ast.literal_eval(row["predictions"]) == [forward, backward]
        assert "[[A>B]]" in forward or "[[B>A]]" in forward or "[[A=B]]" in forward
        said = (forward.count("[[A>B]]") + backward.count("[[B>A]]"), own["a_scores"])
        assert said[0] == said[1]


JUDGE = Judge(Recordings(None), JudgeDials())


def rubric(judged: Judged, a: str = "Water rises.", b: str = "The moon pulls.") -> Rubric:
    return assess("Why do tides rise?", a, b, judged)


def test_the_same_texts_get_the_same_rubric_and_swapped_texts_the_swapped_one() -> None:
    for prompt, a, b in PAIRS:
        forward = assess(prompt, a, b, JUDGE.judge(prompt, a, b))
        assert forward == assess(prompt, a, b, JUDGE.judge(prompt, a, b))
        backward = assess(prompt, b, a, JUDGE.judge(prompt, b, a))
        assert forward.margin() == -(backward.margin() or 0)


@pytest.mark.parametrize(
    ("judged", "sign"),
    [
        (Judged("A>B", "B>A"), 1),
        (Judged("B>A", "A>B"), -1),
        (Judged("A>B", "A>B"), 0),
        (Judged("A=B", "A=B"), 0),
        (Judged("A>B", "A=B"), 1),
        (Judged(None, "A>B"), -1),
    ],
)
@pytest.mark.parametrize("texts", [("same", "same"), ("a b c", ""), ("", "a b c")])
def test_scores_fit_the_verdicts_whatever_the_texts(
    judged: Judged, sign: int, texts: tuple[str, str]
) -> None:
    margin = rubric(judged, *texts).margin()
    assert margin is not None
    assert (margin > 0) - (margin < 0) == sign


def test_without_a_verdict_there_is_no_rubric() -> None:
    none = rubric(Judged(None, None))
    assert (none.criteria, none.weighted(), none.margin()) == ([], None, None)


def test_errors_of_the_judge_leave_details_that_can_be_read(tmp_path: Path) -> None:
    settings = {"sandbox_judge": "errors=0.5", "sandbox_delays": "job=0"}
    with running_sandbox(tmp_path, **settings) as running:
        assert rubric_job(running, "errors", PAIRS)["TrainingJobStatus"] == "Completed"
        files = archive(running, "errors", "errors")
    both_failed = [row for row in metrics(files) if row["inference_error"] == 2]
    assert both_failed
    assert all(row["score_margin"] is None for row in both_failed)
    assert all(row["criteria_breakdown"] == {} for row in both_failed)
    assert 10 < results(files)["results"]["all"]["inference_error"] < 70


def test_the_rubric_judge_needs_its_own_model_and_instance(sandbox: Sandbox) -> None:
    job = name("rubric")
    put_input(sandbox, job, rows(*PAIRS[:1]), recipe=RECIPE)
    sandbox.client("sagemaker").create_training_job(**job_request(job, job))
    reason = end_of(sandbox, job)["FailureReason"]
    assert "instance type ml.g5.12xlarge is not supported for amazon.nova-2-lite" in reason
