"""A model to deploy in, the requests that create its endpoint out."""

from __future__ import annotations

from typing import Any

from include.config import Environment, SageMakerModel
from include.errors import ConfigError

TGI_VERSION = "3.0.1"
"""The engine whose deployment was captured from the SageMaker SDK; others through `image_uri`."""


def default_image(region: str, instance_type: str) -> str:
    """Look up Hugging Face's text-generation-inference container.

    Raises:
        ConfigError: sagemaker-core is not installed, or knows no image for the region.
    """
    try:
        from sagemaker.core import image_uris
    except ImportError as error:
        raise ConfigError(
            "deploy.image_uri: not given, and sagemaker-core, which looks up the default, is not "
            "installed; set image_uri in the model's file"
        ) from error
    try:
        image: str = image_uris.retrieve(
            "huggingface-llm",
            region,
            version=TGI_VERSION,
            image_scope="inference",
            instance_type=instance_type,
        )
    except ValueError as error:
        raise ConfigError(f"deploy.image_uri: not given, and no default: {error}") from error
    return image


def requests(
    environment: Environment,
    model: SageMakerModel,
    *,
    name: str,
    tags: list[dict[str, str]],
) -> dict[str, Any]:
    """Build what creates one endpoint.

    Args:
        environment: Where the endpoint runs.
        model: A model with `deploy`.
        name: Name of model, endpoint and first endpoint config.
        tags: AWS tags.

    Returns:
        `Model` (SageMaker: CreateModel), `EndpointConfigs` (CreateEndpointConfig, one per instance
        type, in the order to try) and `Tags` for the endpoint (CreateEndpoint).
    """
    deploy = model.deploy
    if deploy is None:
        raise ValueError(f"{model.name} is not deployed by the run")
    image = deploy.image_uri or default_image(environment.region, deploy.instance_types[0])
    container: dict[str, Any] = {"Image": image, "Environment": _environment(environment, model)}
    if deploy.model_data:
        container["ModelDataUrl"] = deploy.model_data
    request: dict[str, Any] = {
        "ModelName": name,
        "ExecutionRoleArn": environment.execution_role_arn,
        "PrimaryContainer": container,
        "Tags": tags,
    }
    if environment.vpc:
        request["VpcConfig"] = {
            "Subnets": list(environment.vpc.subnets),
            "SecurityGroupIds": list(environment.vpc.security_group_ids),
        }
    return {
        "Model": request,
        "EndpointConfigs": [
            _endpoint_config(environment, model, name, index, instance_type, tags)
            for index, instance_type in enumerate(deploy.instance_types)
        ],
        "Tags": tags,
    }


def _environment(environment: Environment, model: SageMakerModel) -> dict[str, str]:
    deploy = model.deploy
    assert deploy is not None
    variables = {
        "SAGEMAKER_PROGRAM": "",
        "SAGEMAKER_SUBMIT_DIRECTORY": "",
        "SAGEMAKER_CONTAINER_LOG_LEVEL": "20",
        "SAGEMAKER_REGION": environment.region,
    }
    if deploy.model_id:
        variables |= {"HF_TASK": "text-generation", "HF_MODEL_ID": deploy.model_id}
    if deploy.revision:
        variables["HF_MODEL_REVISION"] = deploy.revision
    if model.schema_ == "messages":
        variables["MESSAGES_API_ENABLED"] = "true"  # without it TGI takes `inputs` only
    return {**variables, **deploy.environment}


def _endpoint_config(
    environment: Environment,
    model: SageMakerModel,
    name: str,
    index: int,
    instance_type: str,
    tags: list[dict[str, str]],
) -> dict[str, Any]:
    deploy = model.deploy
    assert deploy is not None
    variant: dict[str, Any] = {
        "VariantName": "AllTraffic",
        "ModelName": name,
        "InitialVariantWeight": 1,
        "InitialInstanceCount": 1,
        "InstanceType": instance_type,
        "ContainerStartupHealthCheckTimeoutInSeconds": deploy.container_startup_timeout,
        "RoutingConfig": {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"},
    }
    if deploy.ami_version:
        variant["InferenceAmiVersion"] = deploy.ami_version
    request: dict[str, Any] = {
        "EndpointConfigName": name if index == 0 else f"{name}-{index + 1}",
        "ProductionVariants": [variant],
        "Tags": tags,
    }
    if environment.volume_kms_key_arn:
        request["KmsKeyId"] = environment.volume_kms_key_arn
    return request
