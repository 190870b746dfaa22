"""Facts about the sandbox's SageMaker, seen by boto3 over HTTP."""

import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from botocore.exceptions import ClientError
from sandbox_server import ALPACA_EVAL, ROOT, Sandbox, running_sandbox

BUCKET = "nova-judge-sandbox"
ROLE = "arn:aws:iam::000000000000:role/nova-judge-execution"
COUNTER = iter(range(10_000))


def name(prefix: str) -> str:
    return f"{prefix}-{next(COUNTER)}"


def create_model(sandbox: Sandbox, model: str, **environment: str) -> None:
    sandbox.client("sagemaker").create_model(
        ModelName=model,
        ExecutionRoleArn=ROLE,
        PrimaryContainer={
            "Image": "tgi",
            "Environment": {"HF_MODEL_ID": "Tiny/Tiny-1B", **environment},
        },
        Tags=[{"Key": "team", "Value": "search"}],
    )


def create_endpoint(sandbox: Sandbox, endpoint: str, **environment: str) -> None:
    sagemaker = sandbox.client("sagemaker")
    create_model(sandbox, endpoint, **environment)
    sagemaker.create_endpoint_config(
        EndpointConfigName=endpoint,
        ProductionVariants=[
            {
                "VariantName": "AllTraffic",
                "ModelName": endpoint,
                "InstanceType": "ml.g5.2xlarge",
                "InitialInstanceCount": 1,
            }
        ],
    )
    sagemaker.create_endpoint(EndpointName=endpoint, EndpointConfigName=endpoint)


def wait(sandbox: Sandbox, endpoint: str, *states: str) -> dict[str, Any]:
    sagemaker = sandbox.client("sagemaker")
    end = time.monotonic() + 10
    while time.monotonic() < end:
        description = sagemaker.describe_endpoint(EndpointName=endpoint)
        if description["EndpointStatus"] in states:
            return description
        time.sleep(0.05)
    raise AssertionError(description)


def refused(call: Any, code: str = "ValidationException", **request: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**request)
    assert caught.value.response["Error"]["Code"] == code
    return caught.value.response["Error"]["Message"]


def test_an_endpoint_comes_into_service_answers_and_goes(sandbox: Sandbox) -> None:
    endpoint = name("life")
    create_endpoint(sandbox, endpoint)
    sagemaker, runtime = sandbox.client("sagemaker"), sandbox.client("sagemaker-runtime")
    body = json.dumps({"messages": [{"role": "user", "content": "Why is the sky blue?"}]})
    wait(sandbox, endpoint, "InService")
    answer = json.loads(runtime.invoke_endpoint(EndpointName=endpoint, Body=body)["Body"].read())
    assert answer["choices"][0]["message"]["content"]
    assert answer["choices"][0]["finish_reason"] == "stop"
    sagemaker.delete_endpoint(EndpointName=endpoint)
    sagemaker.get_waiter("endpoint_deleted").wait(
        EndpointName=endpoint, WaiterConfig={"Delay": 1, "MaxAttempts": 5}
    )
    sagemaker.delete_endpoint_config(EndpointConfigName=endpoint)
    sagemaker.delete_model(ModelName=endpoint)


def test_an_endpoint_that_is_being_created_neither_answers_nor_can_be_deleted(
    tmp_path: Path,
) -> None:
    with running_sandbox(tmp_path, sandbox_delays="endpoint=600") as slow:
        create_endpoint(slow, "early")
        invoke = slow.client("sagemaker-runtime").invoke_endpoint
        assert "not found" in refused(invoke, "ValidationError", EndpointName="early", Body="{}")
        message = refused(slow.client("sagemaker").delete_endpoint, EndpointName="early")
        assert message.startswith("Cannot update in-progress endpoint")


def test_a_container_that_does_not_start_makes_the_endpoint_fail(sandbox: Sandbox) -> None:
    endpoint = name("broken")
    create_endpoint(sandbox, endpoint, SANDBOX_FAIL="the ping health check failed")
    assert "ping" in wait(sandbox, endpoint, "Failed")["FailureReason"]


def test_what_exists_is_not_created_again_and_what_does_not_is_not_found(sandbox: Sandbox) -> None:
    model = name("twice")
    create_model(sandbox, model)
    sagemaker = sandbox.client("sagemaker")
    again = refused(
        sagemaker.create_model,
        ModelName=model,
        ExecutionRoleArn=ROLE,
        PrimaryContainer={"Image": "tgi"},
    )
    assert again.startswith("Cannot create already existing model")
    for call, request in (
        (sagemaker.describe_model, {"ModelName": "absent"}),
        (sagemaker.delete_endpoint_config, {"EndpointConfigName": "absent"}),
        (sagemaker.describe_endpoint, {"EndpointName": "absent"}),
        (sagemaker.create_endpoint, {"EndpointName": "x", "EndpointConfigName": "absent"}),
    ):
        assert refused(call, **request).startswith("Could not find")


def test_a_list_is_filtered_and_paged(sandbox: Sandbox) -> None:
    sagemaker, prefix = sandbox.client("sagemaker"), name("paged")
    for number in range(5):
        create_model(sandbox, f"{prefix}-{number}")
    pages = list(
        sagemaker.get_paginator("list_models").paginate(
            NameContains=prefix,
            SortBy="Name",
            SortOrder="Ascending",
            PaginationConfig={"PageSize": 2},
        )
    )
    found = [model["ModelName"] for page in pages for model in page["Models"]]
    assert found == [f"{prefix}-{number}" for number in range(5)]
    assert len(pages) == 3


def test_tags_are_kept_and_changed(sandbox: Sandbox) -> None:
    model = name("tagged")
    create_model(sandbox, model)
    sagemaker = sandbox.client("sagemaker")
    arn = sagemaker.describe_model(ModelName=model)["ModelArn"]
    sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "run", "Value": "1"}])
    sagemaker.delete_tags(ResourceArn=arn, TagKeys=["team"])
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "run", "Value": "1"}]


def test_a_request_without_a_required_field_is_refused_as_aws_does(sandbox: Sandbox) -> None:
    answer = requests.post(
        sandbox.url,
        data="{}",
        headers={
            "X-Amz-Target": "SageMaker.CreateModel",
            "Content-Type": "application/x-amz-json-1.1",
        },
        timeout=10,
    )
    assert answer.status_code == 400
    assert answer.json()["__type"] == "ValidationException"
    assert "ModelName" in answer.json()["message"]


def put_input(sandbox: Sandbox, folder: str, body: str, file: str = "llm_judge.jsonl") -> None:
    s3 = sandbox.client("s3")
    s3.put_object(Bucket=BUCKET, Key=f"{folder}/in/{file}", Body=body.encode())
    recipe = (ROOT / "recipes/nova_micro_llm_judge.yaml").read_bytes()
    s3.put_object(Bucket=BUCKET, Key=f"{folder}/recipe/recipe.yaml", Body=recipe)


def rows(*pairs: tuple[str, str, str]) -> str:
    keys = ("prompt", "response_A", "response_B")
    return "".join(json.dumps(dict(zip(keys, pair, strict=True))) + "\n" for pair in pairs)


def start_job(sandbox: Sandbox, folder: str, job: str, max_runtime: int = 3600) -> None:
    def channel(which: str, uri: str) -> dict[str, Any]:
        source = {"S3DataType": "S3Prefix", "S3Uri": uri}
        return {"ChannelName": which, "DataSource": {"S3DataSource": source}}

    root = f"s3://{BUCKET}/{folder}"
    sandbox.client("sagemaker").create_training_job(
        TrainingJobName=job,
        AlgorithmSpecification={"TrainingImage": "judge", "TrainingInputMode": "File"},
        RoleArn=ROLE,
        InputDataConfig=[channel("train", f"{root}/in"), channel("recipe", f"{root}/recipe")],
        OutputDataConfig={"S3OutputPath": f"{root}/out"},
        ResourceConfig={
            "InstanceType": "ml.g5.12xlarge",
            "InstanceCount": 1,
            "VolumeSizeInGB": 30,
        },
        StoppingCondition={"MaxRuntimeInSeconds": max_runtime},
    )


def end_of(sandbox: Sandbox, job: str) -> dict[str, Any]:
    sagemaker = sandbox.client("sagemaker")
    end = time.monotonic() + 30
    while time.monotonic() < end:
        description = sagemaker.describe_training_job(TrainingJobName=job)
        if description["TrainingJobStatus"] in ("Completed", "Failed", "Stopped"):
            return description
        time.sleep(0.1)
    raise AssertionError(description)


def archive(sandbox: Sandbox, folder: str, job: str) -> dict[str, bytes]:
    key = f"{folder}/out/{job}/output/output.tar.gz"
    body = sandbox.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}


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


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Sandbox]:
    with running_sandbox(tmp_path, sandbox_delays="endpoint=2,job=3") as running:
        yield running


def test_a_job_can_be_stopped(slow: Sandbox) -> None:
    put_input(slow, "stop", rows(("a", "b", "c")))
    start_job(slow, "stop", "stop")
    slow.client("sagemaker").stop_training_job(TrainingJobName="stop")
    assert end_of(slow, "stop")["TrainingJobStatus"] == "Stopped"


def test_a_job_that_runs_too_long_is_stopped(slow: Sandbox) -> None:
    put_input(slow, "long", rows(("a", "b", "c")))
    start_job(slow, "long", "long", max_runtime=1)
    description = end_of(slow, "long")
    assert description["TrainingJobStatus"] == "Stopped"
    assert description["SecondaryStatus"] == "MaxRuntimeExceeded"


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


def test_faults_come_as_often_as_they_are_asked_for(tmp_path: Path) -> None:
    settings = {
        "sandbox_faults": "throttle=0.3,error=0.1,capacity=1",
        "sandbox_delays": "endpoint=0",
    }
    with running_sandbox(tmp_path, **settings) as running:
        bedrock = running.client("bedrock-runtime")
        codes = []
        for number in range(200):
            content = [{"text": f"Question {number}"}]
            try:
                bedrock.converse(
                    modelId="us.anthropic.claude-sonnet-4-6",
                    messages=[{"role": "user", "content": content}],
                )
                codes.append("ok")
            except ClientError as error:
                codes.append(error.response["Error"]["Code"])
        assert 40 <= codes.count("ThrottlingException") <= 80
        assert 8 <= codes.count("ServiceUnavailableException") <= 36
        create_endpoint(running, "none")
        failed = wait(running, "none", "Failed")
        assert "InsufficientInstanceCapacity" in failed["FailureReason"]


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("SANDBOX_JUDGE", "tie=1", "did you mean ties?"),
        ("SANDBOX_FAULTS", "throttle=often", "expected a number"),
        ("SANDBOX_RECORDINGS", "absent.jsonl", "no such file"),
        ("SANDBOX_FAULT", "", "did you mean SANDBOX_FAULTS?"),
    ],
)
def test_a_wrong_setting_is_named(variable: str, value: str, message: str, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "include.sandbox", "--port", "0", "--state", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, variable: value},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 2
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_busy_port_is_named(sandbox: Sandbox, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "include.sandbox", "--state", str(tmp_path)]
    ended = subprocess.run(
        [*command, "--port", str(sandbox.port)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr == f"Error: port {sandbox.port} cannot be used: Address already in use\n"
