"""Files in models/ and environments/: one key is wrong in each."""

from functools import partial
from typing import Any

from hostile import Case, refused
from include.errors import ConfigError

no = partial(refused, ConfigError)

ENVIRONMENT: dict[str, Any] = {
    "account_id": "111122223333",
    "region": "us-east-1",
    "execution_role_arn": "arn:aws:iam::111122223333:role/nova-judge",
    "output_s3_uri": "s3://my-bucket/nova-judge",
}


def bedrock(**more: Any) -> dict[str, Any]:
    return {"provider": "bedrock", "model_id": "us.amazon.nova-pro-v1:0", **more}


def deployed(**more: Any) -> dict[str, Any]:
    deploy = {"model_id": "Q/q", "instance_types": ["ml.g5.2xlarge"], **more}
    return {"provider": "sagemaker", "deploy": deploy}


MODELS: list[Case] = [
    no("no provider", {"model_id": "x"}, "m.yaml", "provider", "sagemaker, bedrock or responses"),
    no("a provider of nobody", {"provider": "azure"}, "m.yaml:1: provider", "found azure"),
    no("a key that is nearly one", bedrock(modl_id="x"), "m.yaml:3: modl_id", "mean 'model_id'"),
    no("no model", {"provider": "bedrock"}, "m.yaml", "model_id: is needed"),
    no("a model that has ended", bedrock(model_id="amazon.nova-premier-v1:0"), "end of life"),
    no("an empty name", bedrock(model_id=""), "model_id", "at least 1 character"),
    no("a number as name", bedrock(model_id=7), "model_id", "write it in quotes, found 7"),
    no("a role that is none", bedrock(role_arn="x"), "role_arn", "arn:aws"),
    no("a limit of none", bedrock(limits={"max_concurrency": 0}), "limits.max_concurrency"),
    no("a limit of 10^9", bedrock(limits={"max_concurrency": 10**9}), "or equal to 512"),
    no("another name within", bedrock(name="../../x"), "name", "pattern"),
    no("an endpoint and none", {"provider": "sagemaker"}, "expected one of deploy and endpoint"),
    no("an instance of EC2", deployed(instance_types=["g5.xlarge"]), "instance_types.0", "ml"),
    no("no instance", deployed(instance_types=[]), "instance_types", "at least 1"),
    no("an archive elsewhere", deployed(model_data="/etc/passwd"), "deploy.model_data", "pattern"),
    no("a secret", deployed(environment={"API_KEY": "x"}), "API_KEY looks like a secret"),
    no(
        "a number as variable",
        deployed(environment={"N": 1}),
        "deploy.environment.N",
        "write it in quotes, found 1",
    ),
    no("responses of nowhere", {"provider": "responses", "source": ""}, "source", "at least 1"),
    Case("text that an interpreter would run", bedrock(model_id="$(rm -rf ~); `ls`")),
]

ENVIRONMENTS: list[Case] = [
    no("a number as account", {"account_id": 111122223333}, "e.yaml:1: account_id", "in quotes"),
    no("an account of letters", {"account_id": "x" * 12}, "account_id", "pattern"),
    no("a role of another form", {"execution_role_arn": "admin"}, "execution_role_arn", "pattern"),
    no("a folder on this machine", {"output_s3_uri": "/var/judge"}, "output_s3_uri", "s3://"),
    no("a bucket of capitals", {"output_s3_uri": "s3://BUCKET"}, "output_s3_uri", "pattern"),
    no("tags of numbers", {"tags": {"team": 7}}, "tags.team", "write it in quotes, found 7"),
    no("a tag in a tag", {"tags": {"team": {"a": "b"}}}, "tags.team", "expected text"),
    no("prices of nowhere", {"prices": "absent.yaml"}, "there is no price file absent.yaml"),
    no("prices of a long name", {"prices": "x" * 5000}, "there is no price file xxx"),
    no("prices of a NUL", {"prices": "a\0b"}, "there is no price file a\\x00b"),
    no("prices of a device", {"prices": "/dev/zero"}, "there is no price file /dev/zero"),
    no("a budget of NaN", {"budget_usd": float("nan")}, "budget_usd", "finite"),
    no("10^12 days", {"keep_runs_days": 10**12}, "keep_runs_days", "or equal to 36500"),
    no("a look every 10^12 s", {"poll_seconds": 10**12}, "poll_seconds", "or equal to"),
    no("a network of nothing", {"vpc": {}}, "vpc.subnets: is needed"),
    no("alerts that are not there yet", {"notify": ["x"]}, "notify", "at most 0"),
    Case("an unknown region", {"region": "eu-nowhere-1"}),
]
