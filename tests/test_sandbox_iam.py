"""Facts about SimulatePrincipalPolicy, and about jobs whose role may not do enough."""

import json
import re
from typing import Any

import pytest
from sandbox_server import Sandbox
from sandbox_work import BUCKET, ONE, ROLE, end_of, job_request, name, put_input, refused, start_job

BUCKET_ARN = f"arn:aws:s3:::{BUCKET}"
TRUSTED = {
    "Effect": "Allow",
    "Principal": {"Service": ["ecs.amazonaws.com", "sagemaker.amazonaws.com"]},
    "Action": "sts:AssumeRole",
}
READ = {"Effect": "Allow", "Action": ["s3:Get*", "s3:List*"], "Resource": "*"}
LIST = {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": BUCKET_ARN}
WRITE = {"Effect": "Allow", "Action": "S3:PUTOBJECT", "Resource": f"{BUCKET_ARN}/*/out/*"}

INPUT = f"{BUCKET_ARN}/*/in/*"


def policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def make_role(sandbox: Sandbox, *statements: dict[str, Any], trust: Any = TRUSTED) -> str:
    iam, role = sandbox.client("iam"), name("role")
    made = iam.create_role(RoleName=role, Path="/own/", AssumeRolePolicyDocument=policy(trust))
    if statements:
        iam.put_role_policy(RoleName=role, PolicyName="inline", PolicyDocument=policy(*statements))
    return str(made["Role"]["Arn"])


def decide(sandbox: Sandbox, arn: str, action: str, resource: str, **more: Any) -> str:
    return decisions(sandbox, arn, [action], [resource], **more)[0]["EvalDecision"]


def decisions(
    sandbox: Sandbox, arn: str, actions: list[str], resources: list[str], **more: Any
) -> list[dict[str, Any]]:
    pages = sandbox.client("iam").get_paginator("simulate_principal_policy")
    found = pages.paginate(PolicySourceArn=arn, ActionNames=actions, ResourceArns=resources, **more)
    return [result for page in found for result in page["EvaluationResults"]]


@pytest.mark.parametrize(
    ("action", "resource", "decision"),
    [
        ("s3:GetObject", f"{BUCKET_ARN}/any/key", "allowed"),
        ("s3:PutObject", f"{BUCKET_ARN}/any/key", "allowed"),
        ("s3:ListBucket", BUCKET_ARN, "allowed"),
        ("s3:GetObject", "arn:aws:s3:::sagemaker-us-east-1-000000000000/x", "allowed"),
        ("logs:PutLogEvents", "*", "allowed"),
        ("ecr:BatchGetImage", "*", "allowed"),
        ("s3:GetObject", "arn:aws:s3:::somebody-elses/x", "implicitDeny"),
        ("s3:DeleteBucket", BUCKET_ARN, "implicitDeny"),
        ("iam:CreateUser", "*", "implicitDeny"),
    ],
)
def test_the_sandboxs_role_may_do_what_a_judge_job_needs(
    sandbox: Sandbox, action: str, resource: str, decision: str
) -> None:
    assert decide(sandbox, ROLE, action, resource) == decision


def test_an_explicit_deny_beats_every_allow(sandbox: Sandbox) -> None:
    deny = {"Effect": "Deny", "Action": "s3:*", "Resource": f"{BUCKET_ARN}/secret/*"}
    arn = make_role(sandbox, READ, deny)
    assert decide(sandbox, arn, "s3:GetObject", f"{BUCKET_ARN}/open/x") == "allowed"
    assert decide(sandbox, arn, "s3:GetObject", f"{BUCKET_ARN}/secret/x") == "explicitDeny"


def test_attached_policies_count_and_are_named(sandbox: Sandbox) -> None:
    iam, arn = sandbox.client("iam"), make_role(sandbox)
    assert decide(sandbox, arn, "s3:GetObject", f"{BUCKET_ARN}/x") == "implicitDeny"
    attached = iam.create_policy(PolicyName=name("attached"), PolicyDocument=policy(READ))["Policy"]
    role = arn.rsplit("/", 1)[1]
    iam.attach_role_policy(RoleName=role, PolicyArn=attached["Arn"])
    (result,) = decisions(sandbox, arn, ["s3:GetObject"], [f"{BUCKET_ARN}/x"])
    assert result["EvalDecision"] == "allowed"
    assert result["MatchedStatements"][0]["SourcePolicyId"] == attached["PolicyName"]


def test_everything_but_what_is_named_works_too(sandbox: Sandbox) -> None:
    but = {"Effect": "Allow", "NotAction": "iam:*", "NotResource": f"{BUCKET_ARN}/private/*"}
    arn = make_role(sandbox, but)
    assert decide(sandbox, arn, "s3:GetObject", f"{BUCKET_ARN}/x") == "allowed"
    assert decide(sandbox, arn, "iam:GetRole", "*") == "implicitDeny"
    assert decide(sandbox, arn, "s3:GetObject", f"{BUCKET_ARN}/private/x") == "implicitDeny"


@pytest.mark.parametrize(
    ("condition", "value", "decision"),
    [
        ({"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}, None, "missing"),
        ({"StringEquals": {"iam:PassedToService": ["a", "b"]}}, "b", "allowed"),
        ({"StringEquals": {"iam:PassedToService": ["a", "b"]}}, "c", "implicitDeny"),
        ({"StringLike": {"iam:PassedToService": "sage*"}}, "sagemaker", "allowed"),
        ({"StringNotEquals": {"iam:PassedToService": "ec2"}}, "sagemaker", "allowed"),
        ({"StringNotEquals": {"iam:PassedToService": "ec2"}}, "ec2", "implicitDeny"),
        ({"StringEqualsIfExists": {"iam:PassedToService": "ec2"}}, None, "allowed"),
        ({"Null": {"iam:PassedToService": "true"}}, None, "allowed"),
        ({"NumericLessThan": {"iam:PassedToService": "3"}}, "2", "implicitDeny"),
    ],
)
def test_conditions_are_evaluated_with_the_context_that_is_given(
    sandbox: Sandbox, condition: dict[str, Any], value: str | None, decision: str
) -> None:
    passing = {"Effect": "Allow", "Action": "iam:PassRole", "Resource": "*", "Condition": condition}
    arn = make_role(sandbox, passing)
    key = {"ContextKeyName": "iam:PassedToService", "ContextKeyType": "string"}
    context = [{**key, "ContextKeyValues": [value]}] if value else []
    (result,) = decisions(sandbox, arn, ["iam:PassRole"], ["*"], ContextEntries=context)
    if decision == "missing":
        assert result["MissingContextValues"] == ["iam:PassedToService"]
        decision = "implicitDeny"
    assert result["EvalDecision"] == decision


def test_actions_and_resources_are_combined_and_paged(sandbox: Sandbox) -> None:
    actions, resources = ["s3:GetObject", "s3:PutObject", "s3:ListBucket"], [BUCKET_ARN, "*"]
    client = sandbox.client("iam")
    request = {"PolicySourceArn": ROLE, "ActionNames": actions, "ResourceArns": resources}
    first = client.simulate_principal_policy(**request, MaxItems=4)
    assert first["IsTruncated"]
    second = client.simulate_principal_policy(**request, MaxItems=4, Marker=first["Marker"])
    assert not second["IsTruncated"]
    found = [
        (result["EvalActionName"], result["EvalResourceName"])
        for page in (first, second)
        for result in page["EvaluationResults"]
    ]
    assert found == [(action, resource) for action in actions for resource in resources]


def test_a_principal_that_is_not_there_is_no_entity(sandbox: Sandbox) -> None:
    simulate = sandbox.client("iam").simulate_principal_policy
    for arn, code in (
        ("arn:aws:iam::000000000000:role/nobody", "NoSuchEntity"),
        ("arn:aws:iam::111122223333:role/nova-judge-execution", "NoSuchEntity"),
        ("arn:aws:sts::000000000000:assumed-role/a/session", "InvalidInput"),
    ):
        refused(simulate, code, PolicySourceArn=arn, ActionNames=["s3:GetObject"])


def test_the_caller_may_do_everything(sandbox: Sandbox) -> None:
    caller = sandbox.client("sts").get_caller_identity()["Arn"]
    assert decide(sandbox, caller, "sagemaker:CreateTrainingJob", "*") == "allowed"


UNTRUSTED = {**TRUSTED, "Principal": {"Service": "ec2.amazonaws.com"}}


def test_a_role_that_sagemaker_cannot_assume_starts_no_job(sandbox: Sandbox) -> None:
    job, create = name("role"), sandbox.client("sagemaker").create_training_job
    put_input(sandbox, job, ONE)
    absent = "arn:aws:iam::000000000000:role/absent"
    for role in (absent, make_role(sandbox, READ, trust=UNTRUSTED)):
        message = refused(create, **job_request(job, job, RoleArn=role))
        assert message.startswith(f"Could not assume role {role}.")


@pytest.mark.parametrize(
    ("statements", "reason"),
    [
        ([WRITE], "ClientError: Data download failed: .* perform: s3:ListBucket on resource"),
        ([READ], "ClientError: Artifact upload failed: .* perform: s3:PutObject on resource"),
        ([READ, {**WRITE, "Resource": f"{BUCKET_ARN}/elsewhere/*"}], "Artifact upload failed"),
        ([LIST, {**READ, "Resource": INPUT}, WRITE], "s3:GetObject on .*recipe.yaml"),
        ([LIST, {**READ, "Resource": [INPUT, f"{BUCKET_ARN}/*/recipe/*"]}, WRITE], None),
        ([READ, WRITE], None),
    ],
)
def test_a_role_that_may_not_read_or_write_fails_the_job(
    sandbox: Sandbox, statements: list[dict[str, Any]], reason: str | None
) -> None:
    job = name("access")
    put_input(sandbox, job, ONE)
    start_job(sandbox, job, job, RoleArn=make_role(sandbox, *statements))
    description = end_of(sandbox, job)
    assert description["TrainingJobStatus"] == ("Failed" if reason else "Completed")
    assert re.search(reason or "", description.get("FailureReason", ""))
