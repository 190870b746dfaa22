"""A judge's input on S3 in, the CreateTrainingJob request out."""

from __future__ import annotations

from typing import Any

from include.config import Environment
from include.errors import ConfigError
from include.recipes import Recipe

IMAGE_ACCOUNTS = {
    "us-east-1": "708977205387",
    "us-west-2": "176779409107",
    "ap-northeast-1": "878185805882",
}
"""Where Nova's evaluation container lives (sagemaker-hyperpod-recipes, June 2026)."""

IMAGE = "{account}.dkr.ecr.{region}.amazonaws.com/nova-evaluation-repo:SM-TJ-Eval-V2-latest"

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
    if environment.judge_image_uri:
        return environment.judge_image_uri
    if environment.region not in IMAGE_ACCOUNTS:
        raise ConfigError(
            f"environment {environment.name}: AWS publishes the Nova judge in "
            f"{', '.join(sorted(IMAGE_ACCOUNTS))}, not in {environment.region}; "
            "run there, or set judge_image_uri"
        )
    return IMAGE.format(account=IMAGE_ACCOUNTS[environment.region], region=environment.region)


def max_runtime_seconds(pairs: int, max_runtime_minutes: int | None) -> int:
    """Bound the job: what the evaluation says, else an hour and some seconds for each pair."""
    if max_runtime_minutes is not None:
        return min(max_runtime_minutes * 60, LONGEST_JOB)
    return min(STARTUP + SECONDS_PER_PAIR * pairs, LONGEST_JOB)


def training_job(
    environment: Environment,
    recipe: Recipe,
    *,
    name: str,
    instance_type: str,
    input_uri: str,
    recipe_uri: str,
    output_uri: str,
    max_runtime: int,
    tags: list[dict[str, str]],
) -> dict[str, Any]:
    """Build the request for one judge job (SageMaker: CreateTrainingJob).

    Field by field what sagemaker 2.257.7 sends for a Nova recipe, plus tags.

    Args:
        environment: Where the job runs.
        recipe: The judge's recipe, as uploaded.
        name: Name of the job.
        instance_type: For example `ml.g5.12xlarge`.
        input_uri: `llm_judge.jsonl` on S3.
        recipe_uri: The folder on S3 that holds `recipe.yaml` and nothing else.
        output_uri: The folder on S3 that gets `{name}/output/output.tar.gz`.
        max_runtime: Seconds after which SageMaker stops the job.
        tags: AWS tags.
    """
    run = recipe["run"]
    request: dict[str, Any] = {
        "TrainingJobName": name,
        "AlgorithmSpecification": {
            "TrainingImage": image_uri(environment),
            "TrainingInputMode": "File",
        },
        "RoleArn": environment.execution_role_arn,
        "InputDataConfig": [
            {"ChannelName": "train", "DataSource": _s3(input_uri)},
            {"ChannelName": "recipe", "DataSource": _s3(recipe_uri), "InputMode": "File"},
        ],
        "OutputDataConfig": {"S3OutputPath": output_uri},
        "ResourceConfig": {
            "InstanceType": instance_type,
            "InstanceCount": run["replicas"],
            "VolumeSizeInGB": 30,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": max_runtime},
        "HyperParameters": {
            "model_type": run["model_type"],
            "base_model": run["model_name_or_path"],
            "sagemaker_recipe_local_path": "/opt/ml/input/data/recipe/recipe.yaml",
        },
        "ProfilerConfig": {"DisableProfiler": True},
        "RemoteDebugConfig": {"EnableRemoteDebug": False},
        "Tags": tags,
    }
    if environment.kms_key_arn:
        request["OutputDataConfig"]["KmsKeyId"] = environment.kms_key_arn
        request["ResourceConfig"]["VolumeKmsKeyId"] = environment.kms_key_arn
    if environment.vpc:
        request["VpcConfig"] = {
            "Subnets": list(environment.vpc.subnets),
            "SecurityGroupIds": list(environment.vpc.security_group_ids),
        }
    return request


def _s3(uri: str) -> dict[str, Any]:
    return {
        "S3DataSource": {
            "S3DataType": "S3Prefix",
            "S3Uri": uri,
            "S3DataDistributionType": "FullyReplicated",
        }
    }
