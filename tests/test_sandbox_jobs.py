"""Facts about the sandbox's training jobs, seen by boto3 over HTTP."""

import gzip
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from botocore.exceptions import ClientError
from sandbox_server import ALPACA_EVAL, ROOT, Sandbox, running_sandbox
from sandbox_work import (
    BUCKET,
    ONE,
    archive,
    create_endpoint,
    end_of,
    job_request,
    name,
    put_input,
    refused,
    rows,
    start_job,
    wait,
)


def test_a_job_goes_through_its_statuses_and_leaves_an_archive_and_a_log(sandbox: Sandbox) -> None:
    folder = job = name("job")
    put_input(sandbox, folder, rows(("Why?", "Because.", "Because of the tides, every day.")))
    start_job(sandbox, folder, job)
    description = end_of(sandbox, job)
    assert description["TrainingJobStatus"] == "Completed"
    assert [t["Status"] for t in description["SecondaryStatusTransitions"]] == [
        "Starting",
        "Downloading",
        "Training",
        "Uploading",
        "Completed",
    ]
    files = archive(sandbox, folder, job)
    (results,) = [body for path, body in files.items() if path.endswith(".json")]
    metrics = json.loads(results)["results"]["all"]
    assert metrics["a_scores"] + metrics["b_scores"] + metrics["ties"] == 2
    assert any(path.endswith(".parquet") for path in files)
    logs = sandbox.client("logs")
    (stream,) = logs.describe_log_streams(
        logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=job
    )["logStreams"]
    events = logs.get_log_events(
        logGroupName="/aws/sagemaker/TrainingJobs", logStreamName=stream["logStreamName"]
    )["events"]
    assert "1 pairs" in events[1]["message"]


@pytest.mark.parametrize(
    ("body", "file", "reason"),
    [
        (rows(("a", "b", "c")), "pairs.jsonl", "expected one file llm_judge.jsonl"),
        ("not json\n", "llm_judge.jsonl", "line 1 is not JSON"),
        ('{"prompt": "a", "response_A": "b"}\n', "llm_judge.jsonl", "expected the fields"),
        (rows(("a", "b", 3)), "llm_judge.jsonl", "must be a string"),  # type: ignore[arg-type]
        (rows(("a", "b" * 60_000, "c")), "llm_judge.jsonl", "longer than 12000 tokens"),
    ],
)
def test_a_job_fails_on_input_that_the_container_refuses(
    sandbox: Sandbox, body: str, file: str, reason: str
) -> None:
    folder = job = name("bad")
    put_input(sandbox, folder, body, file)
    start_job(sandbox, folder, job)
    description = end_of(sandbox, job)
    assert description["TrainingJobStatus"] == "Failed"
    assert description["FailureReason"].startswith("AlgorithmError")
    assert reason in description["FailureReason"]


def test_a_job_name_is_used_once(sandbox: Sandbox) -> None:
    folder = job = name("once")
    put_input(sandbox, folder, rows(("a", "b", "c")))
    start_job(sandbox, folder, job)
    with pytest.raises(ClientError, match="already exists"):
        start_job(sandbox, folder, job)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox whose jobs take long enough to be met at every stage."""
    delays = "job=4,pending=600"
    with running_sandbox(tmp_path_factory.mktemp("calm"), sandbox_delays=delays) as running:
        yield running


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Sandbox]:
    with running_sandbox(tmp_path, sandbox_delays="endpoint=2,job=3") as running:
        yield running


def until(sandbox: Sandbox, job: str, status: str) -> dict[str, Any]:
    """Return the job's description once it has this secondary status."""
    sagemaker = sandbox.client("sagemaker")
    end = time.monotonic() + 30
    while time.monotonic() < end:
        description = sagemaker.describe_training_job(TrainingJobName=job)
        if description["SecondaryStatus"] == status:
            return description
        time.sleep(0.02)
    raise AssertionError(description)


@pytest.mark.parametrize("stage", ["Starting", "Downloading", "Training"])
def test_a_job_can_be_stopped_at_every_stage(calm: Sandbox, stage: str) -> None:
    job = name("stop")
    put_input(calm, job, ONE)
    start_job(calm, job, job)
    until(calm, job, stage)
    calm.client("sagemaker").stop_training_job(TrainingJobName=job)
    description = end_of(calm, job)
    reached = [t["Status"] for t in description["SecondaryStatusTransitions"]]
    assert reached[reached.index(stage) :] == [stage, "Stopping", "Stopped"]
    assert description["TrainingJobStatus"] == "Stopped"
    assert ("TrainingStartTime" in description) == (stage != "Starting")
    again = refused(calm.client("sagemaker").stop_training_job, TrainingJobName=job)
    assert again.endswith("the training job is in status Stopped.")


def test_a_job_is_deleted_when_it_is_over(calm: Sandbox) -> None:
    sagemaker, job = calm.client("sagemaker"), name("gone")
    put_input(calm, job, ONE)
    start_job(calm, job, job)
    assert "InProgress" in refused(sagemaker.delete_training_job, TrainingJobName=job)
    sagemaker.stop_training_job(TrainingJobName=job)
    end_of(calm, job)
    sagemaker.delete_training_job(TrainingJobName=job)
    message = refused(sagemaker.describe_training_job, TrainingJobName=job)
    assert message == "Requested resource not found."


def test_a_job_that_runs_too_long_is_stopped(calm: Sandbox) -> None:
    job = name("long")
    put_input(calm, job, ONE)
    start_job(calm, job, job, StoppingCondition={"MaxRuntimeInSeconds": 1})
    description = end_of(calm, job)
    assert description["TrainingJobStatus"] == "Stopped"
    assert description["SecondaryStatus"] == "MaxRuntimeExceeded"
    began, ended = description["TrainingStartTime"], description["TrainingEndTime"]
    assert (ended - began).total_seconds() >= 1


def test_transitions_follow_each_other_without_a_gap(sandbox: Sandbox) -> None:
    job = name("gapless")
    put_input(sandbox, job, ONE)
    start_job(sandbox, job, job)
    description = end_of(sandbox, job)
    transitions = description["SecondaryStatusTransitions"]
    for one, following in itertools.pairwise(transitions):
        assert one["EndTime"] == following["StartTime"]
    assert all(transition["StatusMessage"] for transition in transitions)
    assert description["LastModifiedTime"] == transitions[-1]["StartTime"]
    assert description["TrainingEndTime"] == transitions[-1]["StartTime"]
    assert description["BillableTimeInSeconds"] >= 1


def test_a_log_grows_while_the_job_runs(calm: Sandbox) -> None:
    job, logs = name("log"), calm.client("logs")
    put_input(calm, job, rows(*((f"Why {n}?", "Because.", "So.") for n in range(20))))
    start_job(calm, job, job)
    group = {"logGroupName": "/aws/sagemaker/TrainingJobs"}

    def messages() -> list[str]:
        try:
            found = logs.describe_log_streams(**group, logStreamNamePrefix=f"{job}/")["logStreams"]
        except logs.exceptions.ResourceNotFoundException:
            return []
        if not found:
            return []
        stream = found[0]["logStreamName"]
        return [e["message"] for e in logs.get_log_events(**group, logStreamName=stream)["events"]]

    until(calm, job, "Training")
    while not (early := messages()):
        time.sleep(0.02)
    end_of(calm, job)
    said = messages()
    assert early == said[: len(early)]
    assert len(early) < len(said)
    assert said[0] == f"Starting evaluation of {job}"
    assert [line for line in said if line.endswith("judged")] == [
        f"{done} of 20 pairs judged" for done in range(2, 21, 2)
    ]
    assert said[-1] == "Evaluation complete"


@pytest.fixture(scope="module")
def scarce(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox without a single instance."""
    settings = {"sandbox_faults": "capacity=1", "sandbox_delays": "endpoint=0,job=0,pending=0.3"}
    with running_sandbox(tmp_path_factory.mktemp("scarce"), **settings) as running:
        yield running


@pytest.mark.parametrize("patience", [None, 7200])
def test_a_job_without_an_instance_fails_or_waits_first(
    scarce: Sandbox, patience: int | None
) -> None:
    job = name("scarce")
    put_input(scarce, job, ONE)
    stopping = {"MaxRuntimeInSeconds": 3600}
    if patience:
        stopping["MaxPendingTimeInSeconds"] = patience
    start_job(scarce, job, job, StoppingCondition=stopping)
    description = end_of(scarce, job)
    assert description["TrainingJobStatus"] == "Failed"
    assert description["FailureReason"].startswith("CapacityError: Unable to provision")
    reached = [t["Status"] for t in description["SecondaryStatusTransitions"]]
    assert reached == (["Starting", "Pending", "Failed"] if patience else ["Starting", "Failed"])
    assert "TrainingStartTime" not in description
    assert description["BillableTimeInSeconds"] == 0


def test_a_job_that_waits_for_an_instance_can_be_stopped_also_after_kill_9(calm: Sandbox) -> None:
    job = name("pending")
    put_input(calm, job, ONE)
    fault = {"operation": "CreateTrainingJob", "failure_reason": "CapacityError: none today"}
    requests.post(f"{calm.url}/sandbox/faults", json={**fault, "resource": job}, timeout=10)
    stopping = {"MaxRuntimeInSeconds": 1, "MaxPendingTimeInSeconds": 86400}
    start_job(calm, job, job, StoppingCondition=stopping)
    assert until(calm, job, "Pending")["TrainingJobStatus"] == "InProgress"
    calm.kill()
    calm.start()
    assert until(calm, job, "Pending")["TrainingJobStatus"] == "InProgress"
    calm.client("sagemaker").stop_training_job(TrainingJobName=job)
    description = end_of(calm, job)
    assert description["TrainingJobStatus"] == "Stopped"
    assert "FailureReason" not in description


def test_jobs_are_listed_oldest_first_and_by_status(sandbox: Sandbox) -> None:
    prefix, sagemaker = name("listed"), sandbox.client("sagemaker")
    put_input(sandbox, prefix, ONE)
    for number in range(3):
        given = {"base_model": "nova-lite/prod"} if number == 1 else {}
        start_job(sandbox, prefix, f"{prefix}-{number}", HyperParameters=given)
        end_of(sandbox, f"{prefix}-{number}")

    def listed(**query: Any) -> list[str]:
        page = sagemaker.list_training_jobs(NameContains=prefix, **query)
        return [job["TrainingJobName"].rsplit("-", 1)[1] for job in page["TrainingJobSummaries"]]

    assert listed() == ["0", "1", "2"]
    assert listed(SortOrder="Descending") == ["2", "1", "0"]
    assert listed(StatusEquals="Failed") == ["1"]
    assert listed(SortBy="Status") == ["0", "2", "1"]
    last = sagemaker.describe_training_job(TrainingJobName=f"{prefix}-2")
    assert listed(LastModifiedTimeAfter=last["LastModifiedTime"]) == ["2"]
    first = sagemaker.list_training_jobs(NameContains=prefix, MaxResults=2)
    rest = listed(MaxResults=2, NextToken=first["NextToken"])
    assert rest == ["2"]


def test_input_that_is_not_there_starts_no_job(sandbox: Sandbox) -> None:
    create = sandbox.client("sagemaker").create_training_job
    message = refused(create, **job_request("nowhere", name("absent")))
    assert message.startswith(f'No S3 objects found under S3 URL "s3://{BUCKET}/nowhere/in"')


V2 = {
    "model_type": "amazon.nova-micro-v1:0:128k",
    "base_model": "nova-micro/prod",
    "sagemaker_recipe_local_path": "/opt/ml/input/data/recipe/recipe.yaml",
}


def test_both_sdks_forms_are_taken(sandbox: Sandbox) -> None:
    job = name("v3")
    put_input(sandbox, job, ONE)
    v3 = {key: value for key, value in V2.items() if key != "model_type"}
    request = job_request(job, f"{job}-file", HyperParameters=v3)
    source = request["InputDataConfig"][1]["DataSource"]["S3DataSource"]
    source["S3Uri"] += "/recipe.yaml"
    request["OutputDataConfig"]["CompressionType"] = "GZIP"
    sandbox.client("sagemaker").create_training_job(**request)
    start_job(sandbox, job, f"{job}-folder", HyperParameters=V2)
    for form in ("file", "folder"):
        assert end_of(sandbox, f"{job}-{form}")["TrainingJobStatus"] == "Completed"


ENGINE = "RuntimeError: Engine core initialization failed."


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"model_type": "amazon.nova-lite-v1:0:300k"}, ENGINE),
        ({"base_model": "nova-lite/prod"}, ENGINE),
        ({"base_model_location": "s3://bucket/checkpoint"}, ENGINE),
        ({"sagemaker_recipe_local_path": "/opt/ml/input/data/recipe/other.yaml"}, "No such file"),
    ],
)
def test_hyperparameters_have_to_say_what_the_recipe_says(
    sandbox: Sandbox, given: dict[str, str], reason: str
) -> None:
    job = name("hyper")
    put_input(sandbox, job, ONE)
    start_job(sandbox, job, job, HyperParameters={**V2, **given})
    assert reason in end_of(sandbox, job)["FailureReason"]


MICRO = (ROOT / "recipes/nova_micro_llm_judge.yaml").read_text()


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("model_name_or_path: nova-micro/prod", "model_name_or_path: nova-lite/prod", ENGINE),
        ("task: llm_judge", "task: rubric_llm_judge", "not supported for model amazon.nova-micro"),
        ("task: llm_judge", "task: mmlu", "not mmlu"),
        ("strategy: judge", "strategy: zs", "needs strategy judge"),
        ("top_p: 1.0", "top_p: 1.5", "inference.top_p must be between 0.0 and 1.0, not 1.5"),
        ("temperature: 0", "temperature: cold", "inference.temperature must be a number"),
        ("inference:", "inference:\n  reasoning_effort: high", "does not support reasoning"),
        ("run:", "walk:", "the recipe cannot be read: KeyError('run')"),
    ],
)
def test_a_recipe_that_the_container_refuses_fails_the_job(
    sandbox: Sandbox, old: str, new: str, reason: str
) -> None:
    assert MICRO.count(old) >= 1
    job = name("recipe")
    put_input(sandbox, job, ONE, recipe=MICRO.replace(old, new, 1).encode())
    start_job(sandbox, job, job)
    assert reason in end_of(sandbox, job)["FailureReason"]


@pytest.mark.parametrize(
    ("recipe", "instance_type"),
    [("nova_micro_llm_judge", "ml.m5.large"), ("nova_pro_llm_judge", "ml.g5.12xlarge")],
)
def test_a_model_needs_an_instance_that_can_hold_it(
    sandbox: Sandbox, recipe: str, instance_type: str
) -> None:
    job = name("small")
    put_input(sandbox, job, ONE, recipe=recipe)
    resources = {"InstanceType": instance_type, "InstanceCount": 1, "VolumeSizeInGB": 30}
    start_job(sandbox, job, job, ResourceConfig=resources)
    reason = end_of(sandbox, job)["FailureReason"]
    assert f"instance type {instance_type} is not supported" in reason
    assert "ml.p5.48xlarge" in reason


def test_entities_and_running_jobs_survive_kill_9(slow: Sandbox) -> None:
    put_input(slow, "kill", rows(("a", "b", "c")))
    start_job(slow, "kill", "kill")
    create_endpoint(slow, "kill")
    time.sleep(1)
    slow.kill()
    slow.start()
    wait(slow, "kill", "InService")
    sagemaker = slow.client("sagemaker")
    arn = sagemaker.describe_model(ModelName="kill")["ModelArn"]
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "team", "Value": "search"}]
    assert end_of(slow, "kill")["TrainingJobStatus"] == "Completed"
    assert archive(slow, "kill", "kill")


@pytest.mark.skipif(not ALPACA_EVAL.exists(), reason="AlpacaEval's data is not beside the project")
@pytest.mark.parametrize("swapped", [False, True])
def test_recorded_preferences_are_given_back_whatever_the_position(
    tmp_path: Path, swapped: bool
) -> None:
    lines = gzip.decompress(ALPACA_EVAL.read_bytes()).splitlines()
    recorded = [json.loads(line) for line in lines]
    models = ("gpt4_1106_preview", "claude-2.1")
    a, b = models[::-1] if swapped else models
    body = rows(*((r["prompt"], r["responses"][a], r["responses"][b]) for r in recorded))
    settings = {"sandbox_recordings": str(ALPACA_EVAL), "sandbox_delays": "job=0.2"}
    with running_sandbox(tmp_path, **settings) as running:
        put_input(running, "alpaca", body)
        start_job(running, "alpaca", "alpaca")
        assert end_of(running, "alpaca")["TrainingJobStatus"] == "Completed"
        files = archive(running, "alpaca", "alpaca")
    (results,) = [content for path, content in files.items() if path.endswith(".json")]
    metrics = json.loads(results)["results"]["all"]
    claude, gpt, ties = 2 * 115, 2 * 688, 2 * 2
    counted = [metrics[key] for key in ("a_scores", "b_scores", "ties", "inference_error")]
    assert counted == [*((claude, gpt) if swapped else (gpt, claude)), ties, 0]
