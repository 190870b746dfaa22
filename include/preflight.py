"""A resolved config and the way to AWS in, everything out that would stop the run.

All of it reads only. What AWS does not let us look at is a warning: it may be fine all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from include import bedrock_models, costs, deploy, judge_table, permissions, quotas, recipes
from include.config import BedrockModel, Environment, RunConfig, SageMakerModel
from include.errors import ConfigError, UnreachableError
from include.findings import Finding, Level, attempt, code, refusals
from include.judge import max_runtime_seconds
from include.ownership import is_gone
from include.recipes import Recipe
from include.storage import read_uri, split_uri

__all__ = ["Finding", "check", "refusals"]

Client = Callable[..., Any]
"""Makes a boto3 client: service name, then botocore config options."""

GIGABYTE = 1024**3

QUICK = {
    "connect_timeout": 5,
    "read_timeout": 15,
    "retries": {"mode": "standard", "total_max_attempts": 4},
}


def check(
    config: RunConfig,
    client: Client,
    sent: Sequence[Recipe] = (),
    *,
    prompts: int | None = None,
    batch_bytes: Mapping[str, int] | None = None,
) -> list[Finding]:
    """Look at everything that a run needs before it costs money.

    Args:
        config: The run, resolved.
        client: Makes boto3 clients for the environment's connection.
        sent: The judges' recipes as they will be sent; default: those that the config names.
        prompts: How many the run has, where that is known.
        batch_bytes: Size of a batch job's input for all prompts, by the model's name.

    Returns:
        Findings of all levels, in the order of a run. An error of AWS is a finding, too.
    """
    environment = config.environment
    image = environment.judge_image_uri or judge_table.image_uri(environment.region)

    def service(name: str) -> Any:
        return client(name, **QUICK)

    s3, bedrock = service("s3"), service("bedrock")
    judged, replicas = judges(config, sent, partial(read_uri, s3))
    return [
        *judged,
        *([] if prompts is None else judging_time(config, prompts)),
        *images(config),
        *volumes(config),
        *bucket(environment, s3),
        *permissions.check(config, service("iam"), service("sts"), s3, bedrock, image),
        *quotas.check(config, service("service-quotas"), replicas),
        *bedrock_models.check(config, bedrock),
        *batches(config, service, prompts, batch_bytes or {}),
        *endpoints(config, service("sagemaker")),
    ]


def batches(
    config: RunConfig, service: Client, prompts: int | None, sizes: Mapping[str, int]
) -> list[Finding]:
    """Look whether batch jobs have neither too few nor too many records: each model's quotas."""
    findings = []
    for model in config.models:
        if prompts is None or not isinstance(model, BedrockModel) or not model.batch:
            continue
        limits = quotas.batch_limits(service("service-quotas"), model.model_id)
        what, takes = f"batch of {model.name}", f"a batch job of {model.model_id} takes"
        size = sizes.get(model.name, 0)
        # Of a baseline whose responses are reused, a job may ask for a part only.
        partly = config.generation.reuse == "baseline" and model == config.baseline
        level: Level = "warning" if partly else "refused"
        fix = "write batch: false on the model, or take fewer prompts: dataset.limit"
        if prompts < limits.least:
            message = f"{prompts} prompts; {takes} {limits.least} or more"
            less = "write batch: false on the model, or take more prompts"
            findings.append(Finding("refused", what, message, less))
        elif prompts > limits.most:
            message = f"{prompts} prompts; {takes} {limits.most} or fewer"
            findings.append(Finding(level, what, message, fix))
        elif size > limits.gigabytes * GIGABYTE:
            message = f"{size / GIGABYTE:.2f} GB of records; {takes} {limits.gigabytes:g} GB"
            findings.append(Finding(level, what, message, fix))
        else:
            findings.append(Finding("ok", what, f"{prompts} prompts, {limits.least} are needed"))
    return findings


def endpoints(config: RunConfig, sagemaker: Any) -> list[Finding]:
    """Look whether endpoints that the run does not deploy are there (SageMaker: DescribeEndpoint).

    Of one with inference components also whether the component is (DescribeInferenceComponent).
    """
    return [
        finding
        for model in config.models
        if isinstance(model, SageMakerModel) and model.endpoint_name
        for finding in attempt(
            f"endpoint of {model.name}",
            "sagemaker:DescribeEndpoint",
            partial(_endpoint, model, sagemaker),
        )
    ]


def _endpoint(model: SageMakerModel, sagemaker: Any) -> list[Finding]:
    from botocore.exceptions import ClientError

    what, component = f"endpoint of {model.name}", model.inference_component_name
    try:
        name, status = model.endpoint_name, None
        status = sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"]
        if component and status == "InService":
            name = component
            described = sagemaker.describe_inference_component(InferenceComponentName=component)
            status = described["InferenceComponentStatus"]
            if described["EndpointName"] != model.endpoint_name:
                message = f"{component} belongs to endpoint {described['EndpointName']}"
                return [Finding("refused", what, message, "correct the model's file")]
    except ClientError as error:
        if not is_gone(error):
            raise
        fix = f"correct the model's file, or deploy {name} first"
        return [Finding("refused", what, f"there is no {name}", fix)]
    if status != "InService":
        message = f"{name} is {status}, not InService"
        return [Finding("refused", what, message, "wait until it is in service")]
    return [Finding("ok", what, f"{name} is in service")]


def judges(
    config: RunConfig, sent: Sequence[Recipe], read: recipes.Read
) -> tuple[list[Finding], list[int]]:
    """Look at each judge, and return on how many instances a job of it runs."""
    findings, replicas = [], []
    for number, asked in enumerate(config.judges):
        try:
            used = sent[number] if sent else recipes.load(asked.recipe, asked.overrides, read=read)
        except (ConfigError, UnreachableError) as error:
            passing = isinstance(error, UnreachableError)
            findings.append(Finding("warning" if passing else "refused", "recipe", str(error)))
            replicas.append(1)
        else:
            findings += judge(config.environment, asked.instance_type, used)
            replicas.append(int(used["run"].get("replicas") or 1))
    return findings, replicas


def judge(environment: Environment, instance_type: str, recipe: Recipe) -> list[Finding]:
    """Compare a judge with the table of what AWS offers."""
    model_type = str(recipe["run"]["model_type"])
    problems = judge_table.check(
        model_type,
        str(recipe["evaluation"]["task"]),
        instance_type,
        environment.region,
        environment.judge_image_uri,
    )
    fix = f"or correct the table: ${judge_table.VARIABLE}"
    if problems:
        return [Finding("refused", "judge", problem, fix) for problem in problems]
    where = f"{model_type} on {instance_type} in {environment.region}"
    as_of = judge_table.table().as_of
    return [Finding("ok", "judge", f"{where}: offered as of {as_of}")]


def judging_time(config: RunConfig, prompts: int) -> list[Finding]:
    """Look whether a judge job of so many pairs ends before SageMaker stops it."""
    pairs = max(config.judge_jobs(prompts).values())
    limit = max_runtime_seconds(pairs, config.judge.max_runtime_minutes)
    expected = costs.JUDGE_START_SECONDS + costs.JUDGE_SECONDS_PER_PAIR * pairs
    if expected <= limit:
        return []
    message = (
        f"{pairs:,} pairs may take {expected / 3600:.0f} h, and the job is stopped after "
        f"{limit / 3600:.1f} h"
    )
    fix = "take fewer prompts (dataset.limit), or raise judge.max_runtime_minutes if it is set"
    return [Finding("warning", "judge", message, fix)]


def images(config: RunConfig) -> list[Finding]:
    """Look whether the default container of models that name none can be looked up here."""
    unnamed = [
        model.name
        for model in config.models
        if isinstance(model, SageMakerModel) and model.deploy and not model.deploy.image_uri
    ]
    if not unnamed or deploy.knows_images():
        return []
    message = f"{', '.join(unnamed)}: deploy.image_uri is not given, and sagemaker-core, which "
    message += "looks up the default, is not installed"
    return [Finding("refused", "image", message, "set image_uri in the model's file")]


def volumes(config: RunConfig) -> list[Finding]:
    """Look for instance types whose own disks a KMS key cannot encrypt.

    CreateTrainingJob refuses `VolumeKmsKeyId` for them; for CreateEndpointConfig AWS's pages
    disagree whether `KmsKeyId` is refused or has no effect.
    """
    if not config.environment.volume_kms_key_arn:
        return []
    findings = []
    types = dict.fromkeys(judge.instance_type for judge in config.judges)
    for instance_type in filter(judge_table.has_local_storage, types):
        message = (
            f"{instance_type} has disks of its own, which the instance encrypts; "
            "AWS refuses volume_kms_key_arn for it"
        )
        fix = "set volume_kms_key_arn to null; kms_key_arn still encrypts the output"
        findings.append(Finding("refused", "volume key", message, fix))
    for model in config.models:
        if isinstance(model, SageMakerModel) and model.deploy:
            local = list(filter(judge_table.has_local_storage, model.deploy.instance_types))
            if local:
                message = (
                    f"{model.name}: {', '.join(local)} has disks of its own, which the instance "
                    "encrypts; volume_kms_key_arn does not reach them, and AWS may refuse it"
                )
                findings.append(Finding("warning", "volume key", message))
    return findings


def bucket(environment: Environment, s3: Any) -> list[Finding]:
    """Look whether the bucket is there and in the environment's region (S3: HeadBucket)."""
    from botocore.exceptions import ClientError

    name, region = split_uri(environment.output_s3_uri)[0], environment.region
    create = f"aws s3 mb s3://{name} --region {region}"

    def look() -> list[Finding]:
        try:
            headers = s3.head_bucket(Bucket=name)["ResponseMetadata"]["HTTPHeaders"]
        except ClientError as error:
            if code(error) in ("404", "NoSuchBucket"):
                message = f"there is no bucket {name}"
                return [Finding("refused", "bucket", message, "create it", create)]
            headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
            if code(error) not in ("301", "400", "403") or "x-amz-bucket-region" not in headers:
                raise
            if code(error) == "403":
                message = f"{name} is there, but we may not look into it: it may be another's"
                fix = "allow s3:ListBucket on it, or choose another name"
                return [Finding("refused", "bucket", message, fix)]
        found = headers.get("x-amz-bucket-region") or _location(s3, name)
        if found != region:
            message = f"{name} is in {found}, the environment in {region}"
            fix = f"use a bucket in {region}: SageMaker reads and writes in its own region only"
            return [Finding("refused", "bucket", message, fix)]
        return [Finding("ok", "bucket", f"{name} is in {region}")]

    return attempt("bucket", "s3:ListBucket", look)


def _location(s3: Any, name: str) -> str:
    location = s3.get_bucket_location(Bucket=name)["LocationConstraint"]
    return {None: "us-east-1", "": "us-east-1", "EU": "eu-west-1"}.get(location) or str(location)
