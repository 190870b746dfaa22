"""Facts about what outlived its run: seen by tag, removed by the run's state or by age."""

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
import requests
import stacks
from botocore.exceptions import ClientError
from sandbox_server import SESSION, Sandbox, running_sandbox

from include import names, ownership

ROLE = "arn:aws:iam::000000000000:role/nova-judge-execution"
OUTPUT = "s3://bucket/nova"
LATER = datetime.now(UTC) + timedelta(hours=27)


@pytest.fixture
def aws(tmp_path: Path) -> Iterator[Sandbox]:
    with running_sandbox(tmp_path, sandbox_delays="endpoint=0,delete=0,job=600") as running:
        yield running


def tags(run_id: str, output: str = OUTPUT) -> list[dict[str, str]]:
    return ownership.tags("prod", "e", f"{output}/e/{run_id}", "dag", run_id, {"team": "search"})


def deployed(aws: Sandbox, run_id: str, **more: str) -> str:
    """Create a model with config and endpoint; return their name."""
    sagemaker, name = aws.client("sagemaker"), names.resource_name("e", "m", run_id)
    owner = tags(run_id, **more)
    sagemaker.create_model(
        ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer={"Image": "i"}, Tags=owner
    )
    variant = {"VariantName": "v", "ModelName": name, "InstanceType": "ml.g5.2xlarge"}
    sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[{**variant, "InitialInstanceCount": 1}],
        Tags=owner,
    )
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name, Tags=owner)
    return name


def clean(aws: Sandbox, state: str | None, **options: Any) -> list[str]:
    options.setdefault("output_uri", OUTPUT)
    removals = ownership.clean(
        aws.client("sagemaker"),
        aws.client("bedrock"),
        run_state=lambda dag_id, run_id: state,
        **options,
    )
    return [f"{removal.resource.kind}: {removal.outcome}" for removal in removals]


WHOLE = ["endpoint: deleted", "endpoint config: deleted", "model: deleted"]


def test_what_an_ended_run_left_is_deleted_in_one_pass(aws: Sandbox) -> None:
    deployed(aws, "manual__2026-11-24T06:00:00+00:00")
    assert clean(aws, "ended") == WHOLE
    assert clean(aws, "ended") == []


def test_what_a_running_run_uses_is_left_alone_however_old(aws: Sandbox) -> None:
    deployed(aws, "r")
    assert clean(aws, "active", now=LATER) == []


def test_what_belongs_to_no_known_run_goes_by_age(aws: Sandbox) -> None:
    deployed(aws, "r")
    assert clean(aws, None) == []
    assert clean(aws, None, now=LATER) == WHOLE


def test_a_dry_run_only_says_what_it_would_do(aws: Sandbox) -> None:
    deployed(aws, "r")
    would = ["endpoint: would be deleted", "endpoint config: would be deleted"]
    assert clean(aws, "ended", dry_run=True) == [*would, "model: would be deleted"]
    assert clean(aws, "ended") == WHOLE


def test_what_another_airflow_writes_elsewhere_is_not_ours_to_judge(aws: Sandbox) -> None:
    deployed(aws, "r", output="s3://bucket/nova-of-others")
    assert clean(aws, "ended") == []
    assert clean(aws, "ended", output_uri="s3://bucket/nova-of-others/") == WHOLE


def test_what_carries_no_tag_of_ours_is_not_touched(aws: Sandbox) -> None:
    aws.client("sagemaker").create_model(
        ModelName="nj-not-ours", ExecutionRoleArn=ROLE, PrimaryContainer={"Image": "i"}
    )
    assert clean(aws, None, now=LATER) == []


def test_what_only_contains_our_prefix_is_not_even_asked_about(aws: Sandbox) -> None:
    aws.client("sagemaker").create_model(
        ModelName="fraud-nj-churn", ExecutionRoleArn=ROLE, PrimaryContainer={"Image": "i"}
    )
    deployed(aws, "r")
    forbidden = {"code": "AccessDeniedException", "message": "not authorized", "status": 403}
    order(aws, operation="ListTags", resource="fraud-nj-churn", **forbidden)
    assert clean(aws, "ended") == WHOLE


def test_a_judge_job_that_ended_meanwhile_needs_no_stop(aws: Sandbox) -> None:
    job(aws, "nj-e-1", "r")
    said = "The request was rejected because the training job is in status Completed."
    order(aws, operation="StopTrainingJob", code="ValidationException", message=said)
    assert clean(aws, "ended") == ["training job: stopped"]


def job(aws: Sandbox, name: str, run_id: str) -> None:
    """Start a training job."""
    aws.client("sagemaker").create_training_job(
        TrainingJobName=name,
        RoleArn=ROLE,
        AlgorithmSpecification={"TrainingImage": "i", "TrainingInputMode": "File"},
        OutputDataConfig={"S3OutputPath": OUTPUT},
        ResourceConfig={
            "InstanceType": "ml.g5.12xlarge",
            "InstanceCount": 1,
            "VolumeSizeInGB": 30,
        },
        StoppingCondition={"MaxRuntimeInSeconds": 3600},
        Tags=tags(run_id),
    )


def test_a_running_judge_job_is_stopped_once(aws: Sandbox) -> None:
    job(aws, "nj-job-1", "r")
    assert clean(aws, "ended") == ["training job: stopped"]
    assert clean(aws, "ended") == []


def batch(aws: Sandbox, run_id: str, name: str = "nj-batch-1", owner: Any = None) -> str:
    """Start a batch job; return its ARN."""
    bucket = "s3://nova-judge-sandbox"
    owner = tags(run_id) if owner is None else owner
    job = aws.client("bedrock").create_model_invocation_job(
        jobName=name,
        roleArn=ROLE,
        modelId="us.amazon.nova-micro-v1:0",
        inputDataConfig={"s3InputDataConfig": {"s3Uri": f"{bucket}/in.jsonl"}},
        outputDataConfig={"s3OutputDataConfig": {"s3Uri": f"{bucket}/out/"}},
        tags=[{"key": tag["Key"], "value": tag["Value"]} for tag in owner],
    )
    return str(job["jobArn"])


def test_a_running_batch_job_is_stopped_once_its_run_has_ended(aws: Sandbox) -> None:
    arn = batch(aws, "manual__2026-11-24T06:00:00+00:00~1")
    assert clean(aws, "active", now=LATER) == []
    assert clean(aws, "generated") == []
    assert clean(aws, None) == []
    assert clean(aws, "ended", dry_run=True) == ["batch job: would be stopped"]
    assert clean(aws, "ended") == ["batch job: stopped"]
    status = aws.client("bedrock").get_model_invocation_job(jobIdentifier=arn)["status"]
    assert status in ("Stopping", "Stopped")
    assert clean(aws, "ended") == []


def test_a_batch_job_of_no_known_run_goes_by_age(aws: Sandbox) -> None:
    batch(aws, "r")
    assert clean(aws, None, now=LATER) == ["batch job: stopped"]


def test_a_batch_job_of_anybody_else_is_not_touched(aws: Sandbox) -> None:
    batch(aws, "r", "nj-untagged", [])
    batch(aws, "r", "not-nj-named")
    batch(aws, "r", "nj-elsewhere", tags("r", "s3://bucket/nova-of-others"))
    assert clean(aws, "ended", now=LATER) == []


@pytest.mark.parametrize(
    ("code", "message", "outcome"),
    [
        ("ValidationException", "It cannot be stopped. State was: Completed", "stopped"),
        ("ConflictException", "It has ended", "stopped"),
        ("ResourceNotFoundException", "There is none", "stopped"),
        ("AccessDeniedException", "not authorized", "refused"),
    ],
)
def test_a_batch_job_that_ended_meanwhile_needs_no_stop(
    aws: Sandbox, code: str, message: str, outcome: str
) -> None:
    batch(aws, "r")
    order(aws, operation="StopModelInvocationJob", code=code, message=message)
    assert clean(aws, "ended") == [f"batch job: {outcome}"]


def test_who_may_not_list_batch_jobs_still_cleans_up_the_rest(aws: Sandbox) -> None:
    deployed(aws, "r")
    batch(aws, "r")
    order(aws, operation="ListModelInvocationJobs", code="AccessDeniedException", status=403)
    assert clean(aws, "ended") == WHOLE
    order(aws, operation="ListModelInvocationJobs", code="ThrottlingException", status=429)
    with pytest.raises(ClientError, match="ThrottlingException"):
        clean(aws, "ended")


def test_a_region_without_bedrock_has_no_batch_jobs(aws: Sandbox) -> None:
    nowhere = SESSION.client("bedrock", endpoint_url="http://127.0.0.1:9")
    assert list(ownership.owned(aws.client("sagemaker"), nowhere)) == []


def test_an_endpoint_that_is_being_created_is_tried_again_by_the_next_pass(tmp_path: Path) -> None:
    with running_sandbox(tmp_path, sandbox_delays="endpoint=600") as aws:
        deployed(aws, "r")
        config = "endpoint config: not yet"  # without it nobody sees what the endpoint costs
        assert clean(aws, "ended") == ["endpoint: not yet", config, "model: not yet"]


def test_what_is_left_of_another_endpoint_goes_all_the_same(aws: Sandbox) -> None:
    kept, other = deployed(aws, "r"), deployed(aws, "s")
    order(aws, operation="DeleteEndpoint", resource=kept, code="AccessDeniedException")
    clean(aws, "ended")
    models = aws.client("sagemaker").list_models()["Models"]
    assert [each["ModelName"] for each in models] == [kept] != [other]


def test_what_aws_refuses_to_delete_is_a_complaint_after_the_whole_pass(aws: Sandbox) -> None:
    deployed(aws, "r")
    order(aws, operation="DeleteEndpoint", code="AccessDeniedException", message="not authorized")
    removals = ownership.clean(
        aws.client("sagemaker"), run_state=lambda dag_id, run_id: "ended", output_uri=OUTPUT
    )
    assert [r.outcome for r in removals] == ["refused", "not yet", "not yet"]
    problem = ownership.complaint(removals)
    assert problem
    assert "not authorized" in problem
    assert ownership.complaint(removals[1:]) is None


def test_what_goes_while_it_is_looked_at_does_not_end_the_pass(aws: Sandbox) -> None:
    first, _ = deployed(aws, "r"), deployed(aws, "s")
    gone = {"code": "ValidationException", "message": f'Could not find endpoint "{first}".'}
    order(aws, operation="ListTags", **gone)
    done = clean(aws, "ended")
    assert done.count("endpoint: deleted") == 1
    assert done.count("model: deleted") == 2


def test_what_should_be_gone_after_generation_goes_while_the_judge_still_works(
    aws: Sandbox,
) -> None:
    deployed(aws, "r")
    assert clean(aws, "generated") == WHOLE


def order(aws: Sandbox, **fault: Any) -> None:
    assert requests.post(f"{aws.url}/sandbox/faults", json=fault, timeout=10).ok


def test_the_environments_own_tags_are_written_as_they_are() -> None:
    own = {"cost": "a=b"}
    written = ownership.tags("prod", "e", "s3://b/r", "dag", "r~1", own)
    assert {"Key": "cost", "Value": "a=b"} in written
    assert {"Key": ownership.RUN_ID, "Value": "r=7E1"} in written


@pytest.mark.parametrize(
    "run_id", ["a~b", "a=7Eb", "prüfung 5 %", "manual__2026-11-24T06:00:00+00:00"]
)
def test_a_tag_gives_back_the_run_id(aws: Sandbox, run_id: str) -> None:
    deployed(aws, run_id)
    (endpoint, *_) = ownership.owned(aws.client("sagemaker"))
    assert endpoint.run == ("dag", run_id)


def test_the_lambda_goes_by_age_alone(aws: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": aws.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    deployed(aws, "r")
    assert ownership.handler({}, None) == []
    monkeypatch.setenv("MAX_AGE_HOURS", "0")
    assert len(ownership.handler({}, None)) == 3


def stack_statements() -> list[dict[str, Any]]:
    """Return what infra/janitor.yaml allows; the sandbox knows no conditions on tags."""
    stack = stacks.janitor(Partition="aws", Region="us-east-1", AccountId="0" * 12)
    (policy,) = stack["Resources"]["JanitorRole"]["Properties"]["Policies"]
    found: list[dict[str, Any]] = policy["PolicyDocument"]["Statement"]
    return [{key: value for key, value in each.items() if key != "Condition"} for each in found]


def actions(statement: dict[str, Any]) -> list[str]:
    found = statement["Action"]
    return [found] if isinstance(found, str) else found


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    quick = "endpoint=0,delete=0,job=600"
    with running_sandbox(tmp_path_factory.mktemp("stack"), sandbox_delays=quick) as running:
        yield running


def left_after(aws: Sandbox, statements: list[dict[str, Any]]) -> list[str]:
    """Leave an endpoint and two jobs behind; return what is still there when the stack has run."""
    name, iam = f"janitor-{uuid4().hex[:8]}", aws.client("iam")
    trust = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps({"Statement": trust}))
    document = json.dumps({"Version": "2012-10-17", "Statement": statements})
    iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=document)
    keys = aws.client("sts").assume_role(RoleArn=role["Role"]["Arn"], RoleSessionName="janitor")
    keys = keys["Credentials"]
    session = boto3.session.Session(
        keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"], "us-east-1"
    )
    deployed(aws, name)
    batch(aws, name, f"nj-{name}")
    job(aws, f"nj-{name}", name)
    with suppress(ClientError):
        ownership.clean(
            session.client("sagemaker", endpoint_url=aws.url),
            session.client("bedrock", endpoint_url=aws.url),
            run_state=lambda dag_id, run_id: "ended" if run_id == name else "active",
            output_uri=OUTPUT,
        )
    everything = ownership.owned(aws.client("sagemaker"), aws.client("bedrock"))
    return [each.kind for each in everything if each.run[1] == name]


def test_the_stack_may_remove_whatever_is_left(shared: Sandbox) -> None:
    assert left_after(shared, stack_statements()) == []


@pytest.mark.parametrize("action", [each for s in stack_statements() for each in actions(s)])
def test_without_one_of_its_rights_the_stack_leaves_something(shared: Sandbox, action: str) -> None:
    statements = [
        {**each, "Action": [one for one in actions(each) if one != action]}
        for each in stack_statements()
    ]
    assert left_after(shared, [each for each in statements if each["Action"]])
