"""Facts about faults on demand and about the requests that the sandbox keeps."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from botocore.exceptions import BotoCoreError, ClientError
from sandbox_server import Sandbox
from sandbox_work import (
    BUCKET,
    ONE,
    create_endpoint,
    create_model,
    end_of,
    job_request,
    name,
    put_input,
    refused,
    start_job,
    wait,
)

from include.storage import RunFolder

THROTTLED = {"code": "ThrottlingException", "status": 400, "message": "Rate exceeded"}


@pytest.fixture
def faulty(sandbox: Sandbox) -> Iterator[Sandbox]:
    yield sandbox
    requests.delete(f"{sandbox.url}/sandbox/faults", timeout=10)


def order(sandbox: Sandbox, **fault: Any) -> requests.Response:
    return requests.post(f"{sandbox.url}/sandbox/faults", json=fault, timeout=10)


def orders(sandbox: Sandbox) -> list[dict[str, Any]]:
    return requests.get(f"{sandbox.url}/sandbox/faults", timeout=10).json()["faults"]


def kept(sandbox: Sandbox, **query: str) -> list[dict[str, Any]]:
    url = f"{sandbox.url}/sandbox/requests"
    return requests.get(url, params=query, timeout=10).json()["requests"]


def test_a_fault_strikes_as_often_as_asked_and_is_over(faulty: Sandbox) -> None:
    describe = faulty.client("sagemaker").list_models
    order(faulty, operation="ListModels", times=2, **THROTTLED)
    for _ in range(2):
        assert refused(describe, "ThrottlingException") == "Rate exceeded"
    describe()
    assert orders(faulty) == []


def test_a_fault_may_let_some_requests_pass_first(faulty: Sandbox) -> None:
    listing = faulty.client("sagemaker").list_models
    order(faulty, operation="ListModels", skip=2, **THROTTLED)
    order(faulty, operation="ListModels", skip=1, code="InternalFailure", status=500)
    listing()
    refused(listing, "InternalFailure")
    refused(listing, "ThrottlingException")
    listing()


def test_a_fault_without_an_end_stands_until_it_is_cleared(faulty: Sandbox) -> None:
    listing = faulty.client("sagemaker").list_models
    order(faulty, operation="ListModels", times=None, **THROTTLED)
    for _ in range(3):
        refused(listing, "ThrottlingException")
    (standing,) = orders(faulty)
    assert standing["used"] == 3
    requests.delete(f"{faulty.url}/sandbox/faults", timeout=10)
    listing()


def test_a_fault_may_be_meant_for_one_resource(faulty: Sandbox) -> None:
    mine, other = name("mine"), name("other")
    for model in (mine, other):
        create_model(faulty, model)
    order(faulty, operation="DescribeModel", resource=mine, **THROTTLED)
    describe = faulty.client("sagemaker").describe_model
    describe(ModelName=other)
    refused(describe, "ThrottlingException", ModelName=mine)


@pytest.mark.parametrize(
    ("service", "operation"),
    [("sagemaker", "ListModels"), ("bedrock-runtime", "Converse"), ("s3", "PutObject")],
)
def test_a_fault_may_say_when_to_try_again(faulty: Sandbox, service: str, operation: str) -> None:
    for after in (3, 0):
        order(faulty, operation=operation, **{**THROTTLED, "status": 429}, retry_after=after)
        with pytest.raises(ClientError) as caught:
            call(faulty, service, operation)
        headers = caught.value.response["ResponseMetadata"]["HTTPHeaders"]
        assert headers.get("retry-after") == ("3" if after else None)


def call(sandbox: Sandbox, service: str, operation: str) -> None:
    """Make one harmless call."""
    client = sandbox.client(service)
    if operation == "PutObject":
        client.put_object(Bucket=BUCKET, Key="faults/x", Body=b"x")
    elif operation == "ListObjectsV2":
        client.list_objects_v2(Bucket=BUCKET, Prefix="faults/")
    elif operation == "CopyObject":
        source = {"Bucket": BUCKET, "Key": "faults/x"}
        client.copy_object(Bucket=BUCKET, Key="faults/y", CopySource=source)
    elif operation == "Converse":
        content = [{"text": "Why?"}]
        client.converse(
            modelId="us.anthropic.claude-sonnet-4-6",
            messages=[{"role": "user", "content": content}],
        )
    elif operation == "ListModels":
        client.list_models()
    elif operation == "GetRole":
        client.get_role(RoleName="nova-judge-execution")
    elif operation == "GetCallerIdentity":
        client.get_caller_identity()
    elif operation == "DescribeLogGroups":
        client.describe_log_groups()
    else:
        client.list_service_quotas(ServiceCode="sagemaker")


@pytest.mark.parametrize(
    ("service", "operation"),
    [
        ("s3", "PutObject"),
        ("s3", "ListObjectsV2"),
        ("s3", "CopyObject"),
        ("iam", "GetRole"),
        ("sts", "GetCallerIdentity"),
        ("logs", "DescribeLogGroups"),
        ("service-quotas", "ListServiceQuotas"),
        ("bedrock-runtime", "Converse"),
    ],
)
def test_every_service_can_fail_in_its_own_protocol(
    faulty: Sandbox, service: str, operation: str
) -> None:
    call(faulty, "s3", "PutObject")
    order(faulty, operation=operation, code="AccessDenied", status=403, message="not & you")
    with pytest.raises(ClientError) as caught:
        call(faulty, service, operation)
    error = caught.value.response
    assert error["Error"]["Code"] == "AccessDenied"
    assert error["Error"]["Message"] == "not & you"
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 403
    call(faulty, service, operation)
    assert kept(faulty, operation=operation)[-2]["status"] == 403


def test_a_fault_may_only_be_slow(faulty: Sandbox) -> None:
    order(faulty, operation="ListModels", latency_ms=400)
    started = time.monotonic()
    faulty.client("sagemaker").list_models()
    assert time.monotonic() - started >= 0.4


def test_an_answer_may_be_lost_after_the_work_was_done(faulty: Sandbox) -> None:
    model = name("lost")
    order(faulty, operation="CreateModel", code="InternalFailure", status=500, carried_out=True)
    with pytest.raises(ClientError, match="InternalFailure"):
        create_model(faulty, model)
    assert faulty.client("sagemaker").describe_model(ModelName=model)["ModelName"] == model


@pytest.mark.parametrize("carried_out", [True, False])
def test_a_connection_may_be_cut_in_the_middle_of_the_answer(
    faulty: Sandbox, carried_out: bool
) -> None:
    s3, key = faulty.client("s3"), f"faults/cut-{carried_out}"
    order(faulty, operation="PutObject", times=None, cut=True, carried_out=carried_out)
    with pytest.raises((BotoCoreError, ClientError)):
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")
    assert s3.list_objects_v2(Bucket=BUCKET, Prefix=key)["KeyCount"] == carried_out


def test_what_is_read_from_s3_survives_connections_that_are_cut(faulty: Sandbox) -> None:
    s3, body = faulty.client("s3"), b"x" * 3000
    s3.put_object(Bucket=BUCKET, Key="faults/read", Body=body)
    folder = RunFolder(s3, f"s3://{BUCKET}/faults")
    order(faulty, operation="GetObject", times=2, cut=True)
    assert folder.read("read") == body
    order(faulty, operation="GetObject", times=2, cut=True)
    assert folder.ranges("read").read() == body
    order(faulty, operation="GetObject", times=None, cut=True)
    with pytest.raises(BotoCoreError):
        folder.read("read")


def test_a_job_and_an_endpoint_may_be_told_to_fail_later(faulty: Sandbox) -> None:
    job, endpoint = name("doomed"), name("doomed")
    put_input(faulty, job, ONE)
    order(faulty, operation="CreateTrainingJob", failure_reason="InternalServerError: disk")
    order(faulty, operation="CreateEndpoint", failure_reason="The container did not start")
    start_job(faulty, job, job)
    create_endpoint(faulty, endpoint)
    assert end_of(faulty, job)["FailureReason"] == "InternalServerError: disk"
    assert wait(faulty, endpoint, "Failed")["FailureReason"] == "The container did not start"
    start_job(faulty, job, f"{job}-again")
    assert end_of(faulty, f"{job}-again")["TrainingJobStatus"] == "Completed"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"operation": "ListModels", "time": 1}, "did you mean times?"),
        ({"times": 1}, "needs the name of an AWS operation"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(
    faulty: Sandbox, fault: dict[str, Any], message: str
) -> None:
    answer = order(faulty, **fault)
    assert answer.status_code == 400
    assert message in answer.json()["message"]
    assert orders(faulty) == []


def test_requests_are_kept_as_they_came(sandbox: Sandbox) -> None:
    job = name("kept")
    put_input(sandbox, job, ONE)
    start_job(sandbox, job, job)
    (row,) = [
        row
        for row in kept(sandbox, operation="CreateTrainingJob")
        if row["body"]["TrainingJobName"] == job
    ]
    assert row["body"] == json.loads(json.dumps(job_request(job, job)))
    assert (row["service"], row["region"], row["status"]) == ("sagemaker", "us-east-1", 200)
    assert abs(row["time"] - time.time()) < 60


def test_of_each_operation_only_the_last_requests_are_kept_and_all_are_counted(
    sandbox: Sandbox,
) -> None:
    client = sandbox.client("sts")
    for _ in range(205):
        client.get_caller_identity()
    assert len(kept(sandbox, operation="GetCallerIdentity")) == 200
    counts = requests.get(f"{sandbox.url}/sandbox/requests", timeout=10).json()["counts"]
    assert counts["sts:GetCallerIdentity"] >= 205


def test_the_sandboxs_own_requests_are_neither_kept_nor_struck(faulty: Sandbox) -> None:
    job = name("undisturbed")
    put_input(faulty, job, ONE)
    order(faulty, operation="GetObject", times=None, code="SlowDown", status=503)
    before = len(kept(faulty, operation="GetObject"))
    start_job(faulty, job, job)
    assert end_of(faulty, job)["TrainingJobStatus"] == "Completed"
    assert len(kept(faulty, operation="GetObject")) == before
