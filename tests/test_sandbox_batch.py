"""Facts about the sandbox's batch inference jobs, seen by boto3 and by the provider's operator."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from airflow.exceptions import AirflowException
from airflow.providers.amazon.aws.hooks.bedrock import BedrockHook
from airflow.providers.amazon.aws.operators.bedrock import BedrockBatchInferenceOperator
from airflow.sdk.exceptions import TaskDeferred
from sandbox_server import Sandbox, running_sandbox
from sandbox_work import BUCKET, ROLE, name, refused

NOVA = "us.amazon.nova-micro-v1:0"
CLAUDE = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
MINIMUM = "Minimum number of records per batch inference job for Nova Micro V1"
ENDED = ("Completed", "PartiallyCompleted", "Failed", "Stopped", "Expired")
BEDROCK = {"Principal": {"Service": "bedrock.amazonaws.com"}, "Action": "sts:AssumeRole"}
TRUSTED = {"Effect": "Allow", **BEDROCK}
S3 = {
    "Effect": "Allow",
    "Action": ["s3:GetObject", "s3:PutObject", "s3:ListBucket"],
    "Resource": "*",
}
INVOKE = {"Effect": "Allow", "Action": "bedrock:InvokeModel", "Resource": "*"}


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Three records are enough for Nova Micro."""
    settings = {"sandbox_quotas": f"{MINIMUM}=3", "sandbox_delays": "job=0.3"}
    with running_sandbox(tmp_path_factory.mktemp("few"), **settings) as running:
        yield running


def asked(text: str) -> dict[str, Any]:
    """Return a body of Converse, which is Nova's body of InvokeModel, too."""
    message = {"role": "user", "content": [{"text": text}]}
    return {"messages": [message], "inferenceConfig": {"maxTokens": 100}}


def record(number: int) -> dict[str, Any]:
    return {"recordId": f"R{number:09}", "modelInput": asked(f"What is {number}?")}


def put(sandbox: Sandbox, key: str, *rows: Any) -> str:
    """Upload a file of records; return its URI."""
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    body = "".join(f"{line}\n" for line in lines)
    sandbox.client("s3").put_object(Bucket=BUCKET, Key=key, Body=body.encode())
    return f"s3://{BUCKET}/{key}"


def request(job: str, uri: str, **changes: Any) -> dict[str, Any]:
    return {
        "jobName": job,
        "roleArn": ROLE,
        "modelId": NOVA,
        "inputDataConfig": {"s3InputDataConfig": {"s3Uri": uri, "s3InputFormat": "JSONL"}},
        "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": f"s3://{BUCKET}/{job}/out/"}},
        **changes,
    }


def start(sandbox: Sandbox, job: str, records: int = 3, **changes: Any) -> str:
    uri = put(sandbox, f"{job}/in.jsonl", *map(record, range(records)))
    arn = sandbox.client("bedrock").create_model_invocation_job(**request(job, uri, **changes))
    return str(arn["jobArn"])


def get(sandbox: Sandbox, arn: str) -> dict[str, Any]:
    found: dict[str, Any] = sandbox.client("bedrock").get_model_invocation_job(jobIdentifier=arn)
    return found


def until(sandbox: Sandbox, arn: str, *statuses: str) -> dict[str, Any]:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        found = get(sandbox, arn)
        if found["status"] in statuses:
            return found
        time.sleep(0.03)
    raise AssertionError(found)


def ended(sandbox: Sandbox, arn: str) -> dict[str, Any]:
    return until(sandbox, arn, *ENDED)


def read(sandbox: Sandbox, key: str) -> str:
    body = sandbox.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read()
    return str(body.decode())


def output(sandbox: Sandbox, job: str, arn: str, file: str = "in.jsonl") -> list[dict[str, Any]]:
    text = read(sandbox, f"{job}/out/{arn.rsplit('/', 1)[1]}/{file}.out")
    return [json.loads(line) for line in text.splitlines()]


def manifest(sandbox: Sandbox, job: str, arn: str) -> dict[str, int]:
    text = read(sandbox, f"{job}/out/{arn.rsplit('/', 1)[1]}/manifest.json.out")
    counts: dict[str, int] = json.loads(text)
    return counts


def order(sandbox: Sandbox, **fault: Any) -> None:
    assert requests.post(f"{sandbox.url}/sandbox/faults", json=fault, timeout=10).ok


def test_a_job_answers_every_record_and_counts_them(few: Sandbox) -> None:
    job = name("whole")
    arn = start(few, job, 30, modelInvocationType="Converse")
    assert arn.startswith("arn:aws:bedrock:us-east-1:000000000000:model-invocation-job/")
    first = get(few, arn)
    assert first["status"] in ("Submitted", "Validating")
    assert first["totalRecordCount"] == 0
    done = ended(few, arn)
    assert done["status"] == "Completed"
    assert (done["totalRecordCount"], done["successRecordCount"]) == (30, 30)
    assert done["endTime"] > done["submitTime"]
    assert (done["jobExpirationTime"] - done["submitTime"]).total_seconds() == 24 * 3600
    lines = output(few, job, arn)
    assert {line["recordId"]: line["modelInput"] for line in lines} == {
        row["recordId"]: row["modelInput"] for row in map(record, range(30))
    }
    direct = few.client("bedrock-runtime").converse(modelId=NOVA, **lines[0]["modelInput"])
    assert lines[0]["modelOutput"]["output"] == direct["output"]
    counts = manifest(few, job, arn)
    used = [line["modelOutput"]["usage"] for line in lines]
    assert counts == {
        "totalRecordCount": 30,
        "processedRecordCount": 30,
        "successRecordCount": 30,
        "errorRecordCount": 0,
        "inputTokenCount": sum(usage["inputTokens"] for usage in used),
        "outputTokenCount": sum(usage["outputTokens"] for usage in used),
    }


def test_the_answers_are_not_in_the_order_of_the_records(few: Sandbox) -> None:
    orders = []
    for _ in range(2):
        job = name("order")
        arn = start(few, job, 30)
        ended(few, arn)
        orders.append([line["recordId"] for line in output(few, job, arn)])
    assert orders[0] == orders[1]
    assert orders[0] != sorted(orders[0])


def test_a_job_goes_through_all_statuses(tmp_path: Path) -> None:
    settings = {"sandbox_quotas": f"{MINIMUM}=3", "sandbox_delays": "job=2"}
    with running_sandbox(tmp_path, **settings) as slow:
        arn, seen = start(slow, "life"), []
        while not seen or seen[-1] not in ENDED:
            status = get(slow, arn)["status"]
            if status not in seen:
                seen.append(status)
        assert seen == ["Submitted", "Validating", "Scheduled", "InProgress", "Completed"]


def test_a_record_that_the_model_refuses_is_an_error_among_answers(few: Sandbox) -> None:
    job = name("faulty")
    rows = [record(1), record(2), {"recordId": "BAD", "modelInput": {"messages": []}}]
    uri = put(few, f"{job}/in.jsonl", *rows, {"modelInput": asked("No id?")})
    arn = few.client("bedrock").create_model_invocation_job(**request(job, uri))["jobArn"]
    done = ended(few, arn)
    assert (done["status"], done["errorRecordCount"]) == ("Completed", 1)
    lines = {line["recordId"]: line for line in output(few, job, arn)}
    assert lines["BAD"]["error"] == {
        "errorCode": 400,
        "errorMessage": "messages: at least one message is required",
    }
    assert "modelOutput" not in lines["BAD"]
    (made_up,) = set(lines) - {"BAD", "R000000001", "R000000002"}
    assert lines[made_up]["modelOutput"]
    assert manifest(few, job, arn)["successRecordCount"] == 3


def test_invoke_model_takes_the_vendors_body_and_gives_the_vendors_answer(few: Sandbox) -> None:
    job = name("vendor")
    body = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 50}
    rows = [
        {"recordId": str(n), "modelInput": {**body, "messages": [{"role": "user", "content": "?"}]}}
        for n in range(100)
    ]
    uri = put(few, f"{job}/in.jsonl", *rows)
    create = few.client("bedrock").create_model_invocation_job
    arn = create(**request(job, uri, modelId=CLAUDE))["jobArn"]
    assert ended(few, arn)["status"] == "Completed"
    lines = output(few, job, arn)
    assert all(line["modelOutput"]["content"][0]["text"] for line in lines)
    assert manifest(few, job, arn)["outputTokenCount"] > 0


def test_too_few_records_fail_the_job_with_the_models_own_minimum(few: Sandbox) -> None:
    for model, least in ((NOVA, 3), (CLAUDE, 100), ("amazon.unheard-of-v1:0", 100)):
        arn = start(few, name("few"), 2, modelId=model)
        done = ended(few, arn)
        assert done["status"] == "Failed"
        assert done["message"] == (
            f"Batch job {arn} contains less records (2) than the required minimum of: {least}"
        )
        assert done["totalRecordCount"] == 0


def test_a_folder_stands_for_all_its_files_of_records(few: Sandbox) -> None:
    job = name("folder")
    put(few, f"{job}/in/a.jsonl", record(1), "", record(2))
    put(few, f"{job}/in/deep/b.jsonl", record(3))
    put(few, f"{job}/in/notes.txt", "not a record")
    put(few, f"{job}/inside.jsonl", record(4))
    arn = few.client("bedrock").create_model_invocation_job(
        **request(job, f"s3://{BUCKET}/{job}/in/")
    )["jobArn"]
    assert ended(few, arn)["totalRecordCount"] == 3
    assert {line["recordId"] for line in output(few, job, arn, "a.jsonl")} == {
        "R000000001",
        "R000000002",
    }
    assert len(output(few, job, arn, "deep/b.jsonl")) == 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["{"], "Line 1 of in.jsonl is not a JSON object with recordId and modelInput"),
        ([record(1), {"recordId": "x"}], "Line 2 of in.jsonl"),
        ([record(1), {"recordId": "x", "modelInput": "text"}], "Line 2 of in.jsonl"),
    ],
)
def test_a_line_that_is_no_record_fails_the_job(
    few: Sandbox, rows: list[Any], message: str
) -> None:
    job = name("invalid")
    uri = put(few, f"{job}/in.jsonl", *rows)
    arn = few.client("bedrock").create_model_invocation_job(**request(job, uri))["jobArn"]
    done = ended(few, arn)
    assert done["status"] == "Failed"
    assert message in done["message"]


def test_an_input_without_a_file_fails_the_job(few: Sandbox) -> None:
    job = name("absent")
    create = few.client("bedrock").create_model_invocation_job
    arn = create(**request(job, f"s3://{BUCKET}/{job}/absent.jsonl"))["jobArn"]
    assert "There are no .jsonl files at" in ended(few, arn)["message"]


def test_a_name_is_given_once_and_a_token_starts_one_job(few: Sandbox) -> None:
    job, token = name("once"), name("token")
    first = start(few, job, clientRequestToken=token)
    assert start(few, job, clientRequestToken=token) == first
    create = few.client("bedrock").create_model_invocation_job
    again = request(job, f"s3://{BUCKET}/{job}/in.jsonl", clientRequestToken=name("token"))
    assert refused(create, "ConflictException", **again).startswith("The provided job name")
    ended(few, first)
    assert "currently in use" in refused(create, "ConflictException", **again)


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"jobName": "no_underscores"}, "ValidationException", "regular expression pattern"),
        ({"timeoutDurationInHours": 23}, "ValidationException", "valid min value: 24"),
        ({"timeoutDurationInHours": 169}, "ValidationException", "less than or equal to 168"),
        ({"modelInvocationType": "Chat"}, "ValidationException", "enum value set"),
        ({"inputDataConfig": {}}, "ValidationException", "tagged union"),
        ({"modelId": "us.nobody.knows"}, "ValidationException", "identifier is invalid"),
        (
            {"modelId": "us.anthropic.claude-3-7-sonnet-20250219-v1:0"},
            "ResourceNotFoundException",
            "end of its life",
        ),
        (
            {"roleArn": "arn:aws:iam::000000000000:role/nobody"},
            "ValidationException",
            "could not assume the role",
        ),
    ],
)
def test_what_bedrock_refuses_starts_no_job(
    few: Sandbox, changes: dict[str, Any], code: str, message: str
) -> None:
    job = name("refused")
    uri = put(few, f"{job}/in.jsonl", record(1))
    create = few.client("bedrock", parameter_validation=False).create_model_invocation_job
    assert message in refused(create, code, **request(job, uri, **changes))
    assert (
        few.client("bedrock").list_model_invocation_jobs(nameContains=job)["invocationJobSummaries"]
        == []
    )


def make_role(sandbox: Sandbox, *statements: Any, trust: Any = TRUSTED) -> str:
    def policy(*parts: Any) -> str:
        return json.dumps({"Version": "2012-10-17", "Statement": list(parts)})

    iam, role = sandbox.client("iam"), name("batch-role")
    made = iam.create_role(RoleName=role, AssumeRolePolicyDocument=policy(trust))
    if statements:
        iam.put_role_policy(RoleName=role, PolicyName="p", PolicyDocument=policy(*statements))
    return str(made["Role"]["Arn"])


def test_a_role_that_may_not_read_the_input_or_is_anothers_starts_no_job(few: Sandbox) -> None:
    job = name("role")
    uri = put(few, f"{job}/in.jsonl", record(1))
    create = few.client("bedrock").create_model_invocation_job
    sagemaker = {**TRUSTED, "Principal": {"Service": "sagemaker.amazonaws.com"}}
    for role, message in (
        (make_role(few, S3, INVOKE, trust=sagemaker), "could not assume the role"),
        (make_role(few, INVOKE), f"Could not validate ListBucket permissions for S3URI {uri}"),
        (
            make_role(few, {**S3, "Action": "s3:ListBucket"}),
            "Could not validate GetObject permissions to access Amazon S3 bucket: "
            f"{BUCKET} at key {job}/in.jsonl.",
        ),
    ):
        assert message in refused(create, **request(job, uri, roleArn=role))


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        ([S3], "Customer doesn't have permissions to invokeModel"),
        (
            [S3, {**INVOKE, "Resource": "arn:aws:bedrock:us-east-1::foundation-model/*"}],
            "Customer doesn't have permissions to invokeModel",
        ),
        ([{**S3, "Action": ["s3:Get*", "s3:List*"]}, INVOKE], "PutObject permissions"),
        ([S3, INVOKE], None),
    ],
)
def test_a_role_that_may_not_ask_the_model_or_write_fails_the_job(
    few: Sandbox, statements: list[Any], message: str | None
) -> None:
    arn = start(few, name("denied"), roleArn=make_role(few, *statements))
    done = ended(few, arn)
    assert done["status"] == ("Failed" if message else "Completed")
    assert (message or "") in done.get("message", "")


def test_jobs_are_listed_by_status_name_and_time_in_pages(few: Sandbox) -> None:
    prefix, bedrock = name("listed"), few.client("bedrock")
    arns = [start(few, f"{prefix}-{number}", 2 + number) for number in range(4)]
    last = [ended(few, arn) for arn in arns][-1]

    def listed(**query: Any) -> list[str]:
        pages = bedrock.get_paginator("list_model_invocation_jobs").paginate(
            nameContains=prefix, PaginationConfig={"PageSize": 3}, **query
        )
        found = [job for page in pages for job in page["invocationJobSummaries"]]
        return [job["jobName"].rsplit("-", 1)[1] for job in found]

    assert listed() == ["3", "2", "1", "0"]
    assert listed(sortBy="CreationTime", sortOrder="Ascending") == ["0", "1", "2", "3"]
    assert listed(statusEquals="Failed") == ["0"]
    assert listed(statusEquals="Completed") == ["3", "2", "1"]
    assert listed(submitTimeAfter=last["submitTime"]) == ["3"]
    assert listed(submitTimeBefore=last["submitTime"]) == ["2", "1", "0"]
    (summary,) = bedrock.list_model_invocation_jobs(nameContains=f"{prefix}-3")[
        "invocationJobSummaries"
    ]
    told = {key: value for key, value in last.items() if key != "ResponseMetadata"}
    assert summary == told
    assert "pagination" in refused(bedrock.list_model_invocation_jobs, nextToken="nothing")


def test_tags_are_kept_and_changed(few: Sandbox) -> None:
    bedrock = few.client("bedrock")
    arn = start(few, name("tagged"), tags=[{"key": "team", "value": "search"}])
    bedrock.tag_resource(resourceARN=arn, tags=[{"key": "nova-judge:run", "value": "s3://b/r"}])
    bedrock.untag_resource(resourceARN=arn, tagKeys=["team"])
    tags = bedrock.list_tags_for_resource(resourceARN=arn)["tags"]
    assert tags == [{"key": "nova-judge:run", "value": "s3://b/r"}]
    assert ended(few, arn)["status"] == "Completed"
    assert "tags" not in get(few, arn)
    assert bedrock.list_tags_for_resource(resourceARN=arn)["tags"] == tags
    absent = f"{arn[:-12]}abcdefabcdef"
    for call in (bedrock.list_tags_for_resource,):
        refused(call, "ResourceNotFoundException", resourceARN=absent)
    for call in (bedrock.get_model_invocation_job, bedrock.stop_model_invocation_job):
        refused(call, "ResourceNotFoundException", jobIdentifier=absent)


@pytest.fixture
def calm(tmp_path: Path) -> Iterator[Sandbox]:
    settings = {"sandbox_quotas": f"{MINIMUM}=3", "sandbox_delays": "job=6"}
    with running_sandbox(tmp_path, **settings) as running:
        yield running


def test_a_stopped_job_keeps_what_it_has_answered(calm: Sandbox) -> None:
    stop = calm.client("bedrock").stop_model_invocation_job
    early, late = start(calm, "early", 100), start(calm, "late", 100)
    stop(jobIdentifier=early)
    assert ended(calm, early)["status"] == "Stopped"
    until(calm, late, "InProgress")
    end = time.monotonic() + 10
    while not 0 < get(calm, late)["processedRecordCount"] < 100:
        assert time.monotonic() < end
    stop(jobIdentifier=late.rsplit("/", 1)[1])
    done = ended(calm, late)
    assert done["status"] == "Stopped"
    assert 0 < len(output(calm, "late", late)) == done["processedRecordCount"] < 100
    said = refused(stop, jobIdentifier=late)
    assert "State was: Stopped" in said


def test_a_job_goes_on_after_kill_9(calm: Sandbox) -> None:
    arn = start(calm, "kill", 40, tags=[{"key": "team", "value": "search"}])
    until(calm, arn, "InProgress")
    before = get(calm, arn)
    calm.kill()
    calm.start()
    assert get(calm, arn)["submitTime"] == before["submitTime"]
    tags = calm.client("bedrock").list_tags_for_resource(resourceARN=arn)["tags"]
    assert tags == [{"key": "team", "value": "search"}]
    done = ended(calm, arn)
    assert (done["status"], done["successRecordCount"]) == ("Completed", 40)
    assert len(output(calm, "kill", arn)) == 40


@pytest.mark.parametrize(
    ("reason", "status", "answered"),
    [
        ("The model is not available", "Failed", None),
        ("PartiallyCompleted: no time left", "PartiallyCompleted", 20),
        ("Expired: it never began", "Expired", None),
    ],
)
def test_a_job_may_be_told_to_end_otherwise(
    few: Sandbox, reason: str, status: str, answered: int | None
) -> None:
    job = name("doomed")
    order(few, operation="CreateModelInvocationJob", resource=job, failure_reason=reason)
    arn = start(few, job, 40)
    done = ended(few, arn)
    assert done["status"] == status
    assert done.get("message") == (reason if status == "Failed" else None)
    if answered:
        assert len(output(few, job, arn)) == done["processedRecordCount"] == answered
        assert done["totalRecordCount"] == 40


def test_jobs_and_records_fail_as_often_as_they_are_asked_to(tmp_path: Path) -> None:
    settings = {
        "sandbox_quotas": f"{MINIMUM}=3",
        "sandbox_delays": "job=0",
        "sandbox_faults": "job_failure=0.5,error=0.2",
    }
    with running_sandbox(tmp_path, **settings) as running:
        done = [ended(running, start(running, f"chance-{n}", 50)) for n in range(20)]
        assert 4 <= [job["status"] for job in done].count("Failed") <= 16
        errors = sum(job["errorRecordCount"] for job in done)
        assert 140 <= errors <= 260


def test_every_operation_can_fail_on_demand(few: Sandbox) -> None:
    bedrock = few.client("bedrock")
    arn = start(few, name("struck"))
    calls: dict[str, Callable[[], Any]] = {
        "GetModelInvocationJob": lambda: bedrock.get_model_invocation_job(jobIdentifier=arn),
        "StopModelInvocationJob": lambda: bedrock.stop_model_invocation_job(jobIdentifier=arn),
        "ListModelInvocationJobs": bedrock.list_model_invocation_jobs,
        "CreateModelInvocationJob": lambda: start(few, name("struck")),
        "ListTagsForResource": lambda: bedrock.list_tags_for_resource(resourceARN=arn),
    }
    for operation, call in calls.items():
        throttled = {"code": "ThrottlingException", "status": 429, "message": "Rate exceeded"}
        order(few, operation=operation, service="bedrock", **throttled)
        assert refused(call, "ThrottlingException") == "Rate exceeded"


@pytest.fixture
def connected(few: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    connection = {
        "conn_type": "aws",
        "login": "somebody",
        "password": "something",
        "extra": {"endpoint_url": few.url, "region_name": "us-east-1"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_AWS_SANDBOX", json.dumps(connection))
    return few


def operator(job: str, uri: str, **options: Any) -> BedrockBatchInferenceOperator:
    return BedrockBatchInferenceOperator(
        task_id="batch",
        job_name=job,
        role_arn=ROLE,
        model_id=NOVA,
        input_uri=uri,
        output_uri=f"s3://{BUCKET}/{job}/out",
        invoke_kwargs={"modelInvocationType": "Converse"},
        aws_conn_id="aws_sandbox",
        waiter_delay=1,
        **options,
    )


def test_the_providers_operator_waits_for_the_end(connected: Sandbox) -> None:
    job = name("operator")
    uri = put(connected, f"{job}/in.jsonl", *map(record, range(5)))
    arn = operator(job, uri, deferrable=False).execute({})
    assert len(output(connected, job, arn)) == 5


@pytest.mark.parametrize(("records", "status"), [(5, "success"), (2, "failed")])
def test_the_providers_trigger_sees_how_a_job_ends(
    connected: Sandbox, records: int, status: str
) -> None:
    job = name("trigger")
    uri = put(connected, f"{job}/in.jsonl", *map(record, range(records)))
    task = operator(job, uri, deferrable=True)
    with pytest.raises(TaskDeferred) as caught:
        task.execute({})

    async def first_event() -> Any:
        return await anext(aiter(caught.value.trigger.run()))

    event = asyncio.run(first_event()).payload
    if status == "success":
        assert task.execute_complete({}, event).startswith("arn:aws:bedrock:")
        return
    assert "batch inference job failed" in json.dumps(event)
    with pytest.raises(AirflowException):
        task.execute_complete({}, event)


def test_the_providers_waiter_knows_a_scheduled_job(connected: Sandbox) -> None:
    arn = start(connected, name("scheduled"))
    waiter = BedrockHook("aws_sandbox").get_waiter("batch_inference_scheduled")
    waiter.wait(jobIdentifier=arn, WaiterConfig={"Delay": 1, "MaxAttempts": 5})
    assert get(connected, arn)["status"] in ("Scheduled", "InProgress", "Completed")
