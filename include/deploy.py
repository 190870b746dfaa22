"""A model to deploy in, the requests that create its endpoint out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from include.config import Deploy, Environment, SageMakerModel
from include.errors import ConfigError

TGI_VERSION = "3.0.1"
"""The engine whose deployment was captured from the SageMaker SDK; others through `image_uri`."""


TGI = "tgi"
"""Part of the name of Hugging Face's text-generation-inference images."""

CUDA_13_AMI = "al2023-ami-sagemaker-inference-gpu-4-1"
CUDA_13_FAMILIES = ("g4dn", "g5", "g6", "g6e", "p4d", "p4de", "p5", "p5e", "p5en")
"""What SDK 3.27.0 chooses by itself for an image with cu130 in its tag, and where."""


def knows_images() -> bool:
    """Whether `default_image` can work: sagemaker-core is installed. Quick: nothing is imported."""
    from importlib.util import find_spec

    found = find_spec("sagemaker")  # to look for sagemaker.core would import all of it
    places = found.submodule_search_locations if found else None
    return any((Path(place) / "core" / "image_uris.py").is_file() for place in places or ())


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

    Raises:
        ValueError: A model without `deploy`.
    """
    deploy = model.deploy
    if deploy is None:
        raise ValueError(f"{model.name} is not deployed by the run")
    image = deploy.image_uri or default_image(environment.region, deploy.instance_types[0])
    container: dict[str, Any] = {
        "Image": image,
        "Environment": _environment(environment, model, image),
    }
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
            _endpoint_config(environment, model, image, name, index, instance_type, tags)
            for index, instance_type in enumerate(deploy.instance_types)
        ],
        "Tags": tags,
    }


def _environment(environment: Environment, model: SageMakerModel, image: str) -> dict[str, str]:
    """Return the container's variables: for each engine what its SDK class sends, then ours."""
    deploy = model.deploy
    assert deploy is not None
    variables = {"HF_MODEL_ID": deploy.model_id} if deploy.model_id else {}
    if TGI in image:
        variables |= {
            "SAGEMAKER_PROGRAM": "",
            "SAGEMAKER_SUBMIT_DIRECTORY": "",
            "SAGEMAKER_CONTAINER_LOG_LEVEL": "20",
            "SAGEMAKER_REGION": environment.region,
        }
        if deploy.model_id:
            variables["HF_TASK"] = "text-generation"
        if model.schema_ == "messages":
            variables["MESSAGES_API_ENABLED"] = "true"  # without it TGI takes `inputs` only
    if deploy.revision:
        variables[_revision(image)] = deploy.revision
    return {**variables, **deploy.environment}


def _revision(image: str) -> str:
    """Name the variable that an engine reads the commit or tag of its model from."""
    if "djl" in image or "lmi" in image:
        return "OPTION_REVISION"
    return "SM_VLLM_REVISION" if "vllm" in image else "HF_MODEL_REVISION"


def _ami(deploy: Deploy, image: str, instance_type: str) -> str | None:
    """Return the AMI whose driver a CUDA 13 image needs: without it the container fails unheard."""
    family = instance_type.removeprefix("ml.").partition(".")[0]
    if deploy.ami_version or "cu130" not in image or family not in CUDA_13_FAMILIES:
        return deploy.ami_version
    return CUDA_13_AMI


def _endpoint_config(
    environment: Environment,
    model: SageMakerModel,
    image: str,
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
    ami = _ami(deploy, image, instance_type)
    if ami:
        variant["InferenceAmiVersion"] = ami
    request: dict[str, Any] = {
        "EndpointConfigName": name if index == 0 else f"{name}-{index + 1}",
        "ProductionVariants": [variant],
        "Tags": tags,
    }
    if environment.volume_kms_key_arn:
        request["KmsKeyId"] = environment.volume_kms_key_arn
    return request
