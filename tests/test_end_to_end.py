"""Facts about whole runs: real Airflow and scheduler, the sandbox over HTTP, as `make run` does."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from local_copy import Copy
from sandbox_server import ALPACA_EVAL, ROOT

SAGEMAKER_MODEL = {
    "name": "tiny-1b",
    "provider": "sagemaker",
    "deploy": {"model_id": "Tiny/Tiny-1B", "instance_types": ["ml.g5.2xlarge"]},
}
PROMPTS = {"source": "include/samples/prompts.jsonl", "id_field": "id", "limit": 12}
ALPACA = {"source": str(ALPACA_EVAL), "id_field": "id"}


def bedrock(name: str) -> dict[str, str]:
    return {"name": name, "provider": "bedrock", "model_id": name}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    copy = Copy(tmp_path_factory.mktemp("copy"))
    yield copy
    copy.down()


@pytest.fixture
def nothing_left(copy: Copy) -> Iterator[None]:
    yield
    assert copy.left_over() == []


def test_the_example_ends_in_a_verdict_a_report_and_charts(copy: Copy, nothing_left: None) -> None:
    outcome = copy.run(None)
    assert outcome.code == 0, outcome.output
    summary = outcome.summary
    assert summary["status"] == "complete"
    assert summary["environment"]["kind"] == "sandbox"
    assert outcome.comparison["counts"]["pairs"] == 60
    assert outcome.comparison["verdict"] == "candidate_better"
    assert outcome.comparison["sentence"] in outcome.output
    assert outcome.comparison["sentence"] in (ROOT / "README.md").read_text()
    assert len(outcome.comparison["by_category"]) == 6
    assert "simulated AWS" in (outcome.out / "report.html").read_text()
    assert (outcome.out / "charts/evaluation_metrics.png").read_bytes().startswith(b"\x89PNG")
    assert str(outcome.out / "report.html") in outcome.output
    states = {
        (task["task_id"], task["map_index"]): task["state"]
        for task in copy.airflow(
            f"/dags/nova_llm_judge/dagRuns/{summary['run_id']}/taskInstances?limit=100"
        )["task_instances"]
    }
    assert set(states.values()) == {"success"}
    assert {task for task, _ in states} >= {"resolve", "deploy", "compare.judge", "delete", "gate"}


def test_the_form_knows_every_key_of_an_evaluation(copy: Copy) -> None:
    params = copy.airflow("/dags/nova_llm_judge/details")["params"]
    assert params["judge"]["value"]["recipe"] == "nova_micro_llm_judge"
    assert params["baseline"]["value"] == "qwen2.5-1.5b"
    assert "schedule" not in params


def test_an_evaluation_file_is_a_scheduled_dag_that_waits_to_be_switched_on(copy: Copy) -> None:
    dag = copy.airflow("/dags/nova_llm_judge__qwen-vs-claude")
    assert dag["is_paused"]
    assert dag["timetable_summary"] == "0 6 * * 1"


@pytest.mark.skipif(not ALPACA_EVAL.exists(), reason="AlpacaEval's data is not beside the project")
def test_alpaca_eval_is_counted_as_published(copy: Copy, nothing_left: None) -> None:
    qwen = {**SAGEMAKER_MODEL, "name": "Qwen-14B-Chat"}
    qwen["deploy"] = {"model_id": "Qwen/Qwen-14B-Chat", "instance_types": ["ml.g5.12xlarge"]}
    config = {
        "evaluation": "alpaca-eval",
        "dataset": ALPACA,
        "baseline": bedrock("gpt4_1106_preview"),
        "candidates": [bedrock("claude-2.1"), qwen],
    }
    outcome = copy.run(config, sandbox_recordings=str(ALPACA_EVAL))
    assert outcome.code == 0, outcome.output
    counted = {
        c["candidate"]: tuple(
            c["counts"][key] for key in ("candidate_wins", "baseline_wins", "ties", "pairs")
        )
        for c in outcome.summary["comparisons"]
    }
    assert counted == {"claude-2.1": (115, 688, 2, 805), "Qwen-14B-Chat": (57, 742, 6, 805)}
    rows, low, high = _win_rate(outcome.summary["comparisons"][0])

    config["candidates"] = [bedrock("claude-2.1")]
    config["confidence_level"] = 0.975  # what each of two candidates has of 0.95
    without = copy.run(config, sandbox_recordings=str(ALPACA_EVAL), sandbox_judge="details=0")
    assert without.code == 0, without.output
    assert without.comparison["evidence"] == "aggregate"
    estimate, wide_low, wide_high = _win_rate(without.comparison)
    assert estimate == pytest.approx(rows)
    assert wide_high - wide_low >= high - low
    unknown = without.comparison["counts"] | without.comparison["position"]
    for key in ("pairs", "candidate_wins", "baseline_wins", "ties", "inconsistent", "consistency"):
        assert unknown[key] is None


def _win_rate(comparison: dict[str, Any]) -> tuple[float, float, float]:
    rate = comparison["win_rate"]
    return rate["estimate"], rate["low"], rate["high"]


def test_the_rubric_judge_says_on_what_the_candidate_lost(copy: Copy, nothing_left: None) -> None:
    outcome = copy.run(
        {
            "evaluation": "rubric",
            "dataset": PROMPTS,
            "baseline": SAGEMAKER_MODEL,
            "candidates": ["claude"],
            "judge": {
                "recipe": "nova_2_lite_rubric_llm_judge",
                "instance_type": "ml.p5.48xlarge",
            },
        }
    )
    assert outcome.code == 0, outcome.output
    assert outcome.comparison["counts"]["pairs"] == 12
    criteria = outcome.comparison["rubric"]["criteria"]
    assert all(criterion["weight"] > 0 for criterion in criteria)
    assert criteria[0]["name"] in (outcome.out / "report.html").read_text()


@pytest.mark.slow
def test_of_a_run_without_texts_none_is_in_the_folder_the_logs_or_airflows_database(
    copy: Copy, nothing_left: None
) -> None:
    word, source = b"xylophone", copy.folder / "private.jsonl"
    rows = [{"id": f"p{n}", "prompt": f"What is xylophone {n} for?"} for n in range(12)]
    source.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    outcome = copy.run(
        {
            "evaluation": "private",
            "dataset": {"source": str(source), "id_field": "id"},
            "baseline": SAGEMAKER_MODEL,
            "candidates": ["claude"],
            "store_text": False,
        }
    )
    assert outcome.code == 0, outcome.output
    assert outcome.comparison["counts"]["pairs"] == 12
    s3, bucket = copy.client("s3"), "nova-judge-sandbox"
    found = s3.list_objects_v2(Bucket=bucket, Prefix="nova-judge/private/")["Contents"]
    names = [each["Key"] for each in found]
    assert any(name.endswith("pairs/claude/digests.jsonl") for name in names)
    assert not any(word in s3.get_object(Bucket=bucket, Key=name)["Body"].read() for name in names)
    home = copy.folder / "state/airflow"
    logs = [file for file in home.glob("logs/**/*") if file.is_file()]
    assert any("evaluation" in file.name or "run_id" in str(file) for file in logs)
    assert [file for file in [*logs, *home.glob("*.db*")] if word in file.read_bytes()] == []
    assert word not in (outcome.out / "report.html").read_bytes()


def test_conversations_go_to_a_batch_job_and_meet_responses_that_exist(
    copy: Copy, nothing_left: None
) -> None:
    source, known = copy.folder / "talks.jsonl", copy.folder / "known.jsonl"
    talks = [
        [
            {"role": "user", "content": f"What is {n}?"},
            {"role": "assistant", "content": "A number."},
            {"role": "user", "content": "Which one?"},
        ]
        for n in range(12)
    ]
    rows = [{"id": f"t{n}", "talk": talk} for n, talk in enumerate(talks)]
    source.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    answers = [{"id": f"t{n}", "response": f"The number {n}, of course."} for n in range(12)]
    known.write_text("".join(f"{json.dumps(row)}\n" for row in answers))
    batched = {**bedrock("us.amazon.nova-micro-v1:0"), "name": "nova", "batch": True}
    outcome = copy.run(
        {
            "evaluation": "batch",
            "dataset": {"source": str(source), "id_field": "id", "messages_field": "talk"},
            "baseline": {"name": "known", "provider": "responses", "source": str(known)},
            "candidates": [batched],
        },
        sandbox_quotas="Minimum number of records per batch inference job for Nova Micro V1=3",
    )
    assert outcome.code == 0, outcome.output
    assert outcome.comparison["counts"]["pairs"] == 12
    models = outcome.summary["models"]
    assert [(model["name"], model["responses"]["ok"]) for model in models] == [
        ("known", 12),
        ("nova", 12),
    ]
    (job,) = copy.client("bedrock").list_model_invocation_jobs()["invocationJobSummaries"]
    assert (job["status"], job["totalRecordCount"]) == ("Completed", 12)


def test_what_would_stop_a_run_is_said_with_its_fix_before_anything_is_deployed(
    copy: Copy, nothing_left: None
) -> None:
    quota = "ml.g5.12xlarge for training job usage"
    outcome = copy.run(
        {
            "evaluation": "no-quota",
            "dataset": PROMPTS,
            "baseline": SAGEMAKER_MODEL,
            "candidates": ["claude"],
        },
        sandbox_quotas=f"{quota}=0",
    )
    assert outcome.code == 1, outcome.output
    (run,) = copy.airflow("/dags/nova_llm_judge/dagRuns?order_by=-run_after&limit=1")["dag_runs"]
    path = f"/dags/nova_llm_judge/dagRuns/{run['dag_run_id']}/taskInstances"
    states = {
        task["task_id"]: task["state"]
        for task in copy.airflow(f"{path}?limit=50")["task_instances"]
    }
    assert states["plan"] == "failed"
    assert states["deploy"] == "upstream_failed"
    log = json.dumps(copy.airflow(f"{path}/plan/logs/1"))
    assert quota in log
    assert "request" in log.lower()


def test_a_failed_deployment_leaves_nothing_and_the_others_go_on(
    copy: Copy, nothing_left: None
) -> None:
    broken = {**SAGEMAKER_MODEL, "name": "broken"}
    broken["deploy"] = {**SAGEMAKER_MODEL["deploy"], "environment": {"SANDBOX_FAIL": "no disk"}}
    outcome = copy.run(
        {
            "evaluation": "failing-deployment",
            "dataset": PROMPTS,
            "baseline": SAGEMAKER_MODEL,
            "candidates": [broken, "claude"],
        }
    )
    assert outcome.code == 1, outcome.output
    assert outcome.summary["status"] == "partial"
    assert [c["candidate"] for c in outcome.summary["comparisons"]] == ["claude"]
    assert outcome.summary["warnings"][0]["code"] == "comparison_missing"


def test_failed_generation_leaves_nothing(copy: Copy, nothing_left: None) -> None:
    outcome = copy.run(
        {
            "evaluation": "failing-generation",
            "dataset": PROMPTS,
            "baseline": SAGEMAKER_MODEL,
            "candidates": [
                {"name": "gone", "provider": "sagemaker", "endpoint_name": "no-such-endpoint"}
            ],
        }
    )
    assert outcome.code == 1, outcome.output
    assert outcome.summary["status"] == "failed"
    assert outcome.summary["comparisons"] == []


@pytest.mark.slow
def test_a_run_that_exceeds_its_budget_on_the_way_ends_capped_with_nothing_left(
    copy: Copy, nothing_left: None
) -> None:
    prices = copy.folder / "prices.yaml"
    known = {
        "priced_at": "2026-11-25",
        "region": "us-east-1",
        "instances": {"ml.g5.12xlarge": {"training": 7.2}, "ml.g5.2xlarge": {"hosting": 1.8}},
        "models": {"us.anthropic.claude-sonnet-4-6": {"input": 0, "output": 15_000}},
    }
    prices.write_text(yaml.safe_dump(known))
    file = copy.config / "environments/sandbox.yaml"
    before = file.read_text()
    file.write_text(yaml.safe_dump({**yaml.safe_load(before), "prices": str(prices)}))
    one_by_one = {"max_concurrency": 1, "start_concurrency": 1}
    claude = {**bedrock("us.anthropic.claude-sonnet-4-6"), "name": "claude", "limits": one_by_one}
    config = {
        "evaluation": "capped",
        "dataset": {**PROMPTS, "limit": 40},
        "parameters": {"max_tokens": 20},
        "baseline": SAGEMAKER_MODEL,
        "candidates": [claude],
    }
    try:
        refused = copy.run({**config, "budget_usd": 5})
        outcome = copy.run({**config, "budget_usd": 9}, sandbox_faults="latency_ms=400")
    finally:
        file.write_text(before)
    assert refused.code == 1
    assert refused.summary["status"] == "failed" and refused.summary["comparisons"] == []
    assert outcome.code == 1, outcome.output
    assert outcome.summary["status"] == "capped"
    comparison, cost = outcome.comparison, outcome.summary["cost"]
    assert 3 < comparison["counts"]["prompts"] < 40
    assert comparison["partial"].endswith("prompts were left out when the budget was reached")
    assert {part["what"] for part in cost["parts"]} == {
        "endpoint of tiny-1b",
        "output of claude",
        "judge of claude",
        "input of claude",
    }
    assert cost["actual"] == pytest.approx(sum(part["amount"] for part in cost["parts"]))
    assert "asking claude" in outcome.summary["gate"]["reason"]
    (run,) = copy.airflow("/dags/nova_llm_judge/dagRuns?order_by=-run_after&limit=1")["dag_runs"]
    path = f"/dags/nova_llm_judge/dagRuns/{run['dag_run_id']}/taskInstances?limit=50"
    states = {task["task_id"]: task["state"] for task in copy.airflow(path)["task_instances"]}
    assert {task for task, state in states.items() if state != "success"} == {"gate"}
    jobs = copy.client("sagemaker").list_training_jobs(StatusEquals="InProgress")
    assert jobs["TrainingJobSummaries"] == []


def test_ctrl_c_cancels_the_run_and_waits_for_its_endpoints(copy: Copy, nothing_left: None) -> None:
    config = copy.folder / "cancelled.json"
    config.write_text(
        json.dumps(
            {
                "evaluation": "cancelled",
                "dataset": PROMPTS,
                "baseline": SAGEMAKER_MODEL,
                "candidates": ["claude"],
            }
        )
    )
    delays = "endpoint=8"
    process = copy.command("scripts.run", "--config", str(config), sandbox_delays=delays)
    assert process.stdout
    seen = []
    for line in process.stdout:
        seen.append(line)
        if "deploy [" in line and "running" in line:
            break
    _until(lambda: bool(copy.client("sagemaker").list_endpoints()["Endpoints"]))
    process.send_signal(2)
    rest, _ = process.communicate(timeout=200)
    assert process.returncode == 130, "".join(seen) + rest
    assert "nothing of it is left" in rest


@pytest.mark.parametrize("answer", ["Approve", "Reject"])
def test_a_person_decides_about_what_the_gate_did_not_pass(
    copy: Copy, nothing_left: None, answer: str
) -> None:
    config = copy.folder / "asked.json"
    evaluation = {
        "evaluation": f"asked-{answer.lower()}",
        "dataset": PROMPTS,
        "baseline": {**bedrock("nova"), "model_id": "us.amazon.nova-micro-v1:0"},
        "candidates": ["claude"],
        "gate": {"rule": "superiority", "margin": 0.45, "on_fail": "approve"},
    }
    config.write_text(json.dumps(evaluation))
    process = copy.command("scripts.run", "--config", str(config))
    assert process.stdout
    seen = []
    for line in process.stdout:
        seen.append(line)
        if "a person is asked" in line:
            break
    (run,) = copy.airflow("/dags/nova_llm_judge/dagRuns?order_by=-run_after&limit=1")["dag_runs"]
    run_path = f"/dags/nova_llm_judge/dagRuns/{run['dag_run_id']}"
    path = f"{run_path}/taskInstances/approve/-1/hitlDetails"
    question = copy.airflow(path)
    assert question["subject"].startswith(f"{evaluation['evaluation']}: the gate says")
    assert "superiority needs a win rate above 95 %" in question["body"]
    time.sleep(5)  # before the scheduler has heard that a task waits, an end counts as a failure
    copy.airflow(path, "PATCH", chosen_options=[answer], params_input={})
    rest, _ = process.communicate(timeout=200)
    assert process.returncode == (0 if answer == "Approve" else 1), "".join(seen) + rest
    found = copy.client("s3").list_objects_v2(
        Bucket="nova-judge-sandbox", Prefix=f"nova-judge/{evaluation['evaluation']}/accepted/"
    )
    assert found["KeyCount"] == (1 if answer == "Approve" else 0)


def _until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not done():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("endpoint", "account", "message"),
    [
        ("http://127.0.0.1:9", "000000000000", "AWS does not answer"),
        ("the sandbox", "111122223333", "leads to account 000000000000"),
    ],
)
def test_the_wrong_aws_is_refused_at_once(
    copy: Copy, endpoint: str, account: str, message: str
) -> None:
    where = yaml.safe_load((copy.config / "environments/sandbox.yaml").read_text())
    where |= {"account_id": account, "aws_conn_id": "elsewhere"}
    (copy.config / "environments/elsewhere.yaml").write_text(yaml.safe_dump(where))
    if endpoint == "the sandbox":
        endpoint = f"http://127.0.0.1:{copy.sandbox_port}"
    connection = {
        "conn_type": "aws",
        "login": "somebody",
        "password": "something",
        "extra": {"endpoint_url": endpoint, "region_name": "us-east-1"},
    }
    outcome = copy.run(None, "--env", "elsewhere", airflow_conn_elsewhere=json.dumps(connection))
    assert outcome.code == 2
    assert message in outcome.output
    assert "Traceback" not in outcome.output
    assert outcome.seconds < 30


def test_a_wrong_key_is_refused_before_anything_starts(copy: Copy) -> None:
    outcome = copy.run({"evaluation": "x", "datset": {}, "baseline": "a", "candidates": ["b"]})
    assert outcome.code == 2
    assert "did you mean 'dataset'" in outcome.output
    assert "Traceback" not in outcome.output


def test_down_leaves_no_process(copy: Copy) -> None:
    assert "Stopped" in copy.down()
    assert "Nothing was running" in copy.down()
