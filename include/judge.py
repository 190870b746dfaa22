"""A judge's input on S3 in, the CreateTrainingJob request out."""

from __future__ import annotations

from collections.abc import Mapping
from logging import getLogger
from typing import TYPE_CHECKING, Any

from include import judge_table
from include.config import Environment, Judge
from include.errors import ConfigError
from include.recipes import Recipe
from include.records import JudgeImage

if TYPE_CHECKING:
    from botocore.client import BaseClient

log = getLogger(__name__)

LONGEST_JOB = 86_400
"""Seconds: what the SageMaker SDK sends, and the most that we allow."""

STARTUP = 3_600
SECONDS_PER_PAIR = 15
"""Generous guesses: the limit exists to end a job that hangs, not one that is slow."""


def image_uri(environment: Environment) -> str:
    """Return the judge's container image for the environment's region.

    Raises:
        ConfigError: AWS publishes none there, and the environment names none.
    """
    image = environment.judge_image_uri or judge_table.image_uri(environment.region)
    if image is None:
        regions = ", ".join(judge_table.regions())
        raise ConfigError(
            f"environment {environment.name}: AWS publishes the Nova judge in {regions}, not in "
            f"{environment.region}; run there, or set judge_image_uri"
        )
    return image


def image(environment: Environment, ecr: BaseClient) -> JudgeImage:
    """Look which image the judge's tag points to now (ECR: BatchGetImage).

    AWS moves the tag whenever it likes. Where ECR does not tell, the log says why.

    Args:
        environment: Where the judge runs.
        ecr: boto3's client.

    Raises:
        ConfigError: There is no image for the region.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    uri = image_uri(environment)
    found = judge_table.REPOSITORY.match(uri)
    if found is None or found["digest"]:
        return JudgeImage(uri, found["digest"] if found else None)
    try:
        images = ecr.batch_get_image(
            registryId=found["account"],
            repositoryName=found["name"],
            imageIds=[{"imageTag": found["tag"] or "latest"}],
        )["images"]
    except (BotoCoreError, ClientError) as error:
        log.warning("the digest of %s is not known: %s", uri, error)
        return JudgeImage(uri, None)
    return JudgeImage(uri, images[0]["imageId"]["imageDigest"] if images else None)


def max_runtime_seconds(pairs: int, max_runtime_minutes: int | None) -> int:
    """Bound the job: what the evaluation says, else an hour and some seconds for each pair."""
    if max_runtime_minutes is not None:
        return min(max_runtime_minutes * 60, LONGEST_JOB)
    return min(STARTUP + SECONDS_PER_PAIR * pairs, LONGEST_JOB)


def training_job(
    environment: Environment,
    options: Judge,
    recipe: Recipe,
    *,
    name: str,
    input_uri: str,
    recipe_uri: str,
    output_uri: str,
    max_runtime: int,
    tags: list[dict[str, str]],
) -> dict[str, Any]:
    """Build the request for one judge job (SageMaker: CreateTrainingJob).

    Field by field what the SageMaker SDK sends for a Nova recipe, plus tags: 2.257.7, or 3.27.0
    where `options.request_form` is `v3`.

    Args:
        environment: Where the job runs.
        options: Instance type, volume, waiting for capacity, form of the request.
        recipe: The judge's recipe, as uploaded.
        name: Name of the job.
        input_uri: `llm_judge.jsonl` on S3.
        recipe_uri: The recipe on S3; the folder that holds it has nothing else.
        output_uri: The folder on S3 that gets `{name}/output/output.tar.gz`.
        max_runtime: Seconds after which SageMaker stops the job.
        tags: AWS tags.
    """
    v2 = options.request_form == "v2"
    folder, _, file = recipe_uri.rpartition("/")
    recipe_channel = _channel("recipe", folder if v2 else recipe_uri) | {"InputMode": "File"}
    request: dict[str, Any] = {
        "TrainingJobName": name,
        "AlgorithmSpecification": {
            "TrainingImage": image_uri(environment),
            "TrainingInputMode": "File",
        },
        "RoleArn": environment.execution_role_arn,
        "InputDataConfig": [_channel("train", input_uri), recipe_channel],
        "OutputDataConfig": {"S3OutputPath": output_uri},
        "ResourceConfig": {
            "InstanceType": options.instance_type,
            "InstanceCount": recipe["run"]["replicas"],
            "VolumeSizeInGB": options.volume_size_gb,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": max_runtime},
        "HyperParameters": _hyperparameters(recipe, file, with_model_type=v2),
        "Tags": tags,
    }
    if v2:
        request["ProfilerConfig"] = {"DisableProfiler": True}
        request["RemoteDebugConfig"] = {"EnableRemoteDebug": False}
    else:
        request["OutputDataConfig"]["CompressionType"] = "GZIP"
    if options.max_pending_minutes:
        request["StoppingCondition"]["MaxPendingTimeInSeconds"] = options.max_pending_minutes * 60
    _secure(request, environment)
    return request


def differences(request: Mapping[str, Any], description: Mapping[str, Any]) -> list[str]:
    """Name what an existing job (SageMaker: DescribeTrainingJob) does differently from a request.

    Only what decides the result is compared: AWS's description is full of defaults.
    """
    wanted, found = _essence(request), _essence(description)
    return [key for key in wanted if wanted[key] != found[key]]


def _essence(job: Mapping[str, Any]) -> dict[str, Any]:
    channels = job.get("InputDataConfig", [])
    return {
        "TrainingImage": job["AlgorithmSpecification"].get("TrainingImage"),
        "HyperParameters": job.get("HyperParameters", {}),
        "S3OutputPath": job["OutputDataConfig"]["S3OutputPath"].rstrip("/"),
        "InputDataConfig": {
            channel["ChannelName"]: channel["DataSource"]["S3DataSource"]["S3Uri"].rstrip("/")
            for channel in channels
        },
    }


def _hyperparameters(recipe: Recipe, file: str, with_model_type: bool) -> dict[str, str]:
    """Name model and recipe to the container, in the SDK's keys; a checkpoint has its own."""
    run = recipe["run"]
    model = str(run["model_name_or_path"])
    key = "base_model_location" if model.startswith("s3://") else "base_model"
    return {
        **({"model_type": str(run["model_type"])} if with_model_type else {}),
        key: model,
        "sagemaker_recipe_local_path": f"/opt/ml/input/data/recipe/{file}",
    }


def _secure(request: dict[str, Any], environment: Environment) -> None:
    if environment.kms_key_arn:
        request["OutputDataConfig"]["KmsKeyId"] = environment.kms_key_arn
    if environment.volume_kms_key_arn:
        request["ResourceConfig"]["VolumeKmsKeyId"] = environment.volume_kms_key_arn
    if environment.vpc:
        request["VpcConfig"] = {
            "Subnets": list(environment.vpc.subnets),
            "SecurityGroupIds": list(environment.vpc.security_group_ids),
        }
    if environment.encrypt_traffic:
        request["EnableInterContainerTrafficEncryption"] = True


def _channel(name: str, uri: str) -> dict[str, Any]:
    source = {
        "S3DataType": "S3Prefix",
        "S3Uri": uri,
        "S3DataDistributionType": "FullyReplicated",
    }
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}
