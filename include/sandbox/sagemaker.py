"""SageMaker's control plane: which part answers an operation; models and endpoint configs.

Requests are checked with botocore's own description of the service.
"""

from __future__ import annotations

import re
from typing import Any

from include.sandbox.components import Components, takes_components
from include.sandbox.endpoints import Endpoints
from include.sandbox.errors import AwsError, validation
from include.sandbox.listing import page, summary_of
from include.sandbox.quotas import Quotas
from include.sandbox.resources import Caller, Kind, Tags, told
from include.sandbox.settings import Settings
from include.sandbox.shapes import check
from include.sandbox.training import TrainingJobs
from include.sandbox.training_api import TrainingJobOperations

Request = dict[str, Any]


class SageMaker:
    """Answers SageMaker's JSON operations."""

    def __init__(self, settings: Settings, jobs: TrainingJobs, quotas: Quotas) -> None:
        folder = settings.state / "sagemaker"
        models = Kind(folder / "models", "model", "model")
        configs = Kind(folder / "endpoint_configs", "endpoint configuration", "endpoint-config")
        endpoints = Kind(folder / "endpoints", "endpoint", "endpoint")
        placed = Kind(folder / "inference_components", "inference component", "inference-component")
        components = Components(placed, endpoints, models, settings.delays)
        self.endpoints = Endpoints(
            endpoints, configs, models, components, quotas, settings.delays, settings.faults
        )
        kinds = (models, configs, endpoints, placed)
        tagged = [*(kind.entities for kind in kinds), jobs.entities]
        self._parts = (
            Models(models),
            EndpointConfigs(configs, models),
            self.endpoints,
            components,
            TrainingJobOperations(jobs, quotas),
            Tags(tagged),
        )

    def answer(self, operation: str, request: Request, caller: Caller) -> Request:
        """Answer one operation.

        Raises:
            AwsError: What AWS refuses, and operations that the sandbox does not know.
        """
        name = _snake(operation)
        for part in self._parts:
            handler = getattr(part, name, None)
            if handler is not None and re.fullmatch(r"[a-z]+(_[a-z]+)+", name):
                check("sagemaker", operation, request)
                answer: Request = handler(request, caller)
                return answer
        raise AwsError("UnknownOperationException", f"the sandbox has no {operation}")


class Models:
    """SageMaker's operations on models."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind

    def create_model(self, request: Request, caller: Caller) -> Request:
        """Create a model."""
        return {"ModelArn": self._kind.create(caller.region, request["ModelName"], request)}

    def describe_model(self, request: Request, caller: Caller) -> Request:
        """Describe a model."""
        found = self._kind.find(caller.region, request["ModelName"])
        return {
            "EnableNetworkIsolation": False,
            **told(found),
            "ModelArn": found["arn"],
            "CreationTime": found["created"],
        }

    def delete_model(self, request: Request, caller: Caller) -> Request:
        """Delete a model, whatever uses it."""
        self._kind.delete(caller.region, request["ModelName"])
        return {}

    def list_models(self, request: Request, caller: Caller) -> Request:
        """List models."""
        summaries = [summary_of("Model")(model) for model in self._kind.entities.all()]
        return page(request, "Models", "Model", summaries)


class EndpointConfigs:
    """SageMaker's operations on endpoint configs."""

    def __init__(self, kind: Kind, models: Kind) -> None:
        self._kind, self._models = kind, models

    def create_endpoint_config(self, request: Request, caller: Caller) -> Request:
        """Create a config of models that exist."""
        for variant in request["ProductionVariants"]:
            if "ModelName" in variant:
                self._models.find(caller.region, variant["ModelName"])
        if takes_components(request) and "ExecutionRoleArn" not in request:
            raise validation(
                "ExecutionRoleArn is required for endpoint configs whose variants name no model."
            )
        name = request["EndpointConfigName"]
        return {"EndpointConfigArn": self._kind.create(caller.region, name, request)}

    def describe_endpoint_config(self, request: Request, caller: Caller) -> Request:
        """Describe a config."""
        found = self._kind.find(caller.region, request["EndpointConfigName"])
        described = {"EndpointConfigArn": found["arn"], "CreationTime": found["created"]}
        return {"EnableNetworkIsolation": False, **told(found), **described}

    def delete_endpoint_config(self, request: Request, caller: Caller) -> Request:
        """Delete a config, whatever uses it."""
        self._kind.delete(caller.region, request["EndpointConfigName"])
        return {}

    def list_endpoint_configs(self, request: Request, caller: Caller) -> Request:
        """List configs."""
        summaries = [summary_of("EndpointConfig")(each) for each in self._kind.entities.all()]
        return page(request, "EndpointConfigs", "EndpointConfig", summaries)


def _snake(operation: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower()
