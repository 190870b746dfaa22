"""Facts about who may call what in the sandbox: keys of users and roles are bound by policies."""

import json
from typing import Any
from uuid import uuid4

import boto3
import pytest
from botocore.exceptions import ClientError
from sandbox_server import Sandbox

BUCKET = "nova-judge-sandbox"
ROLE = "arn:aws:iam::000000000000:role/nova-judge-execution"


class Somebody:
    """A user, or a role that was taken on, with one policy."""

    def __init__(
        self, sandbox: Sandbox, *statements: dict[str, Any], as_role: bool = False
    ) -> None:
        iam, name = sandbox.client("iam"), f"somebody-{uuid4().hex[:8]}"
        policy = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
        if as_role:
            trust = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
            document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
            arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=document)["Role"]["Arn"]
            iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=policy)
            taken = sandbox.client("sts").assume_role(RoleArn=arn, RoleSessionName="session")
            keys = taken["Credentials"]
        else:
            iam.create_user(UserName=name)
            if statements:
                iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=policy)
            keys = iam.create_access_key(UserName=name)["AccessKey"]
        self.session = boto3.session.Session(
            keys["AccessKeyId"],
            keys["SecretAccessKey"],
            keys.get("SessionToken"),
            region_name="us-east-1",
        )
        self.url = sandbox.url

    def client(self, service: str) -> Any:
        return self.session.client(service, endpoint_url=self.url)


def allow(actions: Any, resources: Any, **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": actions, "Resource": resources, **more}


def refused(call: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as error:
        call(**arguments)
    assert error.value.response["Error"]["Code"].startswith("AccessDenied")
    return str(error.value)


def test_the_accounts_own_keys_may_do_everything(sandbox: Sandbox) -> None:
    assert sandbox.client("sagemaker").list_models()["Models"] is not None


def test_who_has_no_policy_may_only_ask_who_they_are(sandbox: Sandbox) -> None:
    somebody = Somebody(sandbox)
    assert ":user/somebody" in somebody.client("sts").get_caller_identity()["Arn"]
    said = refused(somebody.client("sagemaker").list_models)
    assert "is not authorized to perform: sagemaker:ListModels on resource: *" in said
    refused(somebody.client("s3").list_objects_v2, Bucket=BUCKET)
    refused(somebody.client("iam").get_role, RoleName="nova-judge-execution")


@pytest.mark.parametrize("as_role", [False, True])
def test_a_prefix_of_a_bucket_is_all_that_is_allowed(sandbox: Sandbox, as_role: bool) -> None:
    mine = f"arn:aws:s3:::{BUCKET}/mine/*"
    s3 = Somebody(sandbox, allow(["s3:GetObject", "s3:PutObject"], mine), as_role=as_role).client(
        "s3"
    )
    s3.put_object(Bucket=BUCKET, Key="mine/a", Body=b"x" * 100_000)
    assert len(s3.get_object(Bucket=BUCKET, Key="mine/a")["Body"].read()) == 100_000
    refused(s3.put_object, Bucket=BUCKET, Key="yours/a", Body=b"x" * 100_000)
    refused(s3.delete_object, Bucket=BUCKET, Key="mine/a")
    keys = {"Objects": [{"Key": "mine/a"}]}
    assert "s3:DeleteObject" in refused(s3.delete_objects, Bucket=BUCKET, Delete=keys)


def test_keys_that_are_deleted_together_are_looked_at_one_by_one(sandbox: Sandbox) -> None:
    s3 = Somebody(sandbox, allow("s3:DeleteObject", f"arn:aws:s3:::{BUCKET}/mine/*")).client("s3")
    mine, yours = {"Key": "mine/a"}, {"Key": "yours/a"}
    s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [mine]})
    refused(s3.delete_objects, Bucket=BUCKET, Delete={"Objects": [mine, yours]})


def test_a_role_is_passed_only_to_the_service_that_the_policy_names(sandbox: Sandbox) -> None:
    models = allow("sagemaker:CreateModel", "arn:aws:sagemaker:us-east-1:000000000000:model/nj-*")
    model = {"ModelName": f"nj-{uuid4().hex[:8]}", "ExecutionRoleArn": ROLE}
    model["PrimaryContainer"] = {"Image": "763104351884.dkr.ecr.us-east-1.amazonaws.com/a:b"}

    def client(service: str) -> Any:
        condition = {"StringEquals": {"iam:PassedToService": service}}
        passing = allow("iam:PassRole", ROLE, Condition=condition)
        return Somebody(sandbox, models, passing).client("sagemaker")

    assert "iam:PassRole" in refused(client("bedrock.amazonaws.com").create_model, **model)
    client("sagemaker.amazonaws.com").create_model(**model)
    other = {**model, "ModelName": "other"}
    said = refused(client("sagemaker.amazonaws.com").create_model, **other)
    assert "model/other" in said


def test_a_profile_takes_the_permission_on_itself_and_on_its_model(sandbox: Sandbox) -> None:
    foundation = "arn:aws:bedrock:*::foundation-model/*"
    profiles = "arn:aws:bedrock:us-east-1:000000000000:inference-profile/*"
    asked = {"modelId": "us.amazon.nova-micro-v1:0"}
    asked["messages"] = [{"role": "user", "content": [{"text": "Why?"}]}]  # type: ignore[assignment]

    def client(*resources: str) -> Any:
        return Somebody(sandbox, allow("bedrock:InvokeModel", list(resources))).client(
            "bedrock-runtime"
        )

    assert "inference-profile" in refused(client(foundation).converse, **asked)
    assert "foundation-model" in refused(client(profiles).converse, **asked)
    assert client(foundation, profiles).converse(**asked)["output"]


def test_an_explicit_deny_wins(sandbox: Sandbox) -> None:
    deny = {"Effect": "Deny", "Action": "sagemaker:List*", "Resource": "*"}
    somebody = Somebody(sandbox, allow("*", "*"), deny)
    assert "explicit deny" in refused(somebody.client("sagemaker").list_models)
    assert somebody.client("s3").list_buckets()["Buckets"]
