"""SageMaker's control plane: models, endpoint configs, endpoints, training jobs and their tags.

Requests are checked with botocore's own description of the service. Statuses are functions of
stored times, so they go on where they were after the sandbox was killed.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from include.sandbox.dice import Counted
from include.sandbox.entities import Entities, Entity
from include.sandbox.errors import AwsError, validation
from include.sandbox.s3_store import ACCOUNT
from include.sandbox.settings import Settings
from include.sandbox.training import TrainingJobs, job_status

Request = dict[str, Any]

NAME = re.compile(r"^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$")
NO_CAPACITY = (
    "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error. "
    "Please retry using a different ML instance type or after some time."
)
FAIL_VARIABLE = "SANDBOX_FAIL"
"""A container with this variable fails to start, for the reason that it holds."""


class SageMaker:
    """Answers SageMaker's JSON operations."""

    def __init__(self, settings: Settings, jobs: TrainingJobs) -> None:
        folder = settings.state / "sagemaker"
        self._delays, self._faults = settings.delays, settings.faults
        self._dice = Counted()
        self._jobs = jobs
        self.models = Entities(folder / "models")
        self.endpoint_configs = Entities(folder / "endpoint_configs")
        self.endpoints = Entities(folder / "endpoints")

    def answer(self, operation: str, request: Request, region: str) -> Request:
        """Answer one operation.

        Raises:
            AwsError: What AWS refuses, and operations that the sandbox does not know.
        """
        handler = getattr(self, f"_{_snake(operation)}", None)
        if handler is None:
            raise AwsError("UnknownOperationException", f"the sandbox has no {operation}")
        _validate(operation, request)
        answer: Request = handler(request, region)
        return answer

    # Models

    def _create_model(self, request: Request, region: str) -> Request:
        arn = _arn(region, "model", request["ModelName"])
        self._create(self.models, request["ModelName"], arn, request, "model")
        return {"ModelArn": arn}

    def _describe_model(self, request: Request, region: str) -> Request:
        found = self._find(self.models, request["ModelName"], region, "model")
        return {
            **found["request"],
            "ModelArn": found["arn"],
            "CreationTime": found["created"],
            "EnableNetworkIsolation": False,
        }

    def _delete_model(self, request: Request, region: str) -> Request:
        self._find(self.models, request["ModelName"], region, "model")
        self.models.delete(request["ModelName"])
        return {}

    def _list_models(self, request: Request, region: str) -> Request:
        return _page(request, "Models", self.models.all(), _summary("Model"))

    # Endpoint configs

    def _create_endpoint_config(self, request: Request, region: str) -> Request:
        name = request["EndpointConfigName"]
        for variant in request["ProductionVariants"]:
            self._find(self.models, variant["ModelName"], region, "model")
        arn = _arn(region, "endpoint-config", name)
        self._create(self.endpoint_configs, name, arn, request, "endpoint configuration")
        return {"EndpointConfigArn": arn}

    def _describe_endpoint_config(self, request: Request, region: str) -> Request:
        found = self._find(
            self.endpoint_configs,
            request["EndpointConfigName"],
            region,
            "endpoint configuration",
            "endpoint-config",
        )
        return {
            **found["request"],
            "EndpointConfigArn": found["arn"],
            "CreationTime": found["created"],
        }

    def _delete_endpoint_config(self, request: Request, region: str) -> Request:
        self._describe_endpoint_config(request, region)
        self.endpoint_configs.delete(request["EndpointConfigName"])
        return {}

    def _list_endpoint_configs(self, request: Request, region: str) -> Request:
        summary = _summary("EndpointConfig")
        return _page(request, "EndpointConfigs", self.endpoint_configs.all(), summary)

    # Endpoints

    def _create_endpoint(self, request: Request, region: str) -> Request:
        name = request["EndpointName"]
        config = self._describe_endpoint_config(
            {"EndpointConfigName": request["EndpointConfigName"]}, region
        )
        self._sweep()
        arn = _arn(region, "endpoint", name)
        failure = self._failure(config, region)
        self._create(self.endpoints, name, arn, request, "endpoint", failure=failure, deleted=None)
        return {"EndpointArn": arn}

    def _failure(self, config: Request, region: str) -> str | None:
        """Why the endpoint will not come into service, if it will not."""
        variant = config["ProductionVariants"][0]
        model = self._find(self.models, variant["ModelName"], region, "model")["request"]
        reason = model.get("PrimaryContainer", {}).get("Environment", {}).get(FAIL_VARIABLE)
        if reason:
            return str(reason)
        roll = self._dice.chance("capacity", variant["InstanceType"], self._faults.seed)
        return NO_CAPACITY if roll < self._faults.capacity else None

    def _describe_endpoint(self, request: Request, region: str) -> Request:
        self._sweep()
        found = self._find(self.endpoints, request["EndpointName"], region, "endpoint")
        status = self.status(found)
        answer = {
            "EndpointName": found["name"],
            "EndpointArn": found["arn"],
            "EndpointConfigName": found["request"]["EndpointConfigName"],
            "EndpointStatus": status,
            "CreationTime": found["created"],
            "LastModifiedTime": found["created"],
        }
        if status == "Failed":
            answer["FailureReason"] = found["failure"]
        return answer

    def _delete_endpoint(self, request: Request, region: str) -> Request:
        self._sweep()
        found = self._find(self.endpoints, request["EndpointName"], region, "endpoint")
        if self.status(found) in ("Creating", "Deleting"):
            raise validation(f'Cannot update in-progress endpoint "{found["arn"]}".')
        self.endpoints.put({**found, "deleted": time.time()})
        return {}

    def _list_endpoints(self, request: Request, region: str) -> Request:
        self._sweep()

        def summary(entity: Entity) -> Request:
            times = {"LastModifiedTime": entity["created"], "EndpointStatus": self.status(entity)}
            return {**_summary("Endpoint")(entity), **times}

        wanted = request.get("StatusEquals")
        found = [e for e in self.endpoints.all() if wanted in (None, self.status(e))]
        return _page(request, "Endpoints", found, summary)

    def status(self, endpoint: Entity) -> str:
        """Return what an endpoint is doing now."""
        if endpoint["deleted"]:
            return "Deleting"
        if time.time() < endpoint["created"] + self._delays.endpoint:
            return "Creating"
        return "Failed" if endpoint["failure"] else "InService"

    def container(self, endpoint_name: str) -> Request | None:
        """Return the container behind an endpoint in service."""
        self._sweep()
        endpoint = self.endpoints.get(endpoint_name)
        if endpoint is None or self.status(endpoint) != "InService":
            return None
        config = self.endpoint_configs.get(endpoint["request"]["EndpointConfigName"])
        variant = config["request"]["ProductionVariants"][0] if config else {}
        model = self.models.get(variant.get("ModelName", ""))
        return dict(model["request"]["PrimaryContainer"]) if model else None

    def _sweep(self) -> None:
        """Forget the endpoints whose deletion is over."""
        for endpoint in self.endpoints.all():
            deleted = endpoint["deleted"]
            if deleted and time.time() >= deleted + self._delays.delete:
                self.endpoints.delete(endpoint["name"])

    # Training jobs

    def _create_training_job(self, request: Request, region: str) -> Request:
        name = request["TrainingJobName"]
        _check_name("trainingJobName", name)
        arn = _arn(region, "training-job", name)
        with self._jobs.entities.lock:
            if self._jobs.entities.get(name):
                raise AwsError(
                    "ResourceInUse",
                    "Training job names must be unique within an AWS account and region, and a "
                    f"job with this name already exists ({arn})",
                )
            self._jobs.start(_entity(name, arn, request))
        return {"TrainingJobArn": arn}

    def _describe_training_job(self, request: Request, region: str) -> Request:
        return self._jobs.describe(self._job(request["TrainingJobName"]))

    def _stop_training_job(self, request: Request, region: str) -> Request:
        job = self._job(request["TrainingJobName"])
        status = job_status(job)
        if status not in ("InProgress", "Stopping"):
            raise validation(
                f"The request was rejected because the training job is in status {status}."
            )
        self._jobs.stop(job)
        return {}

    def _list_training_jobs(self, request: Request, region: str) -> Request:
        wanted = request.get("StatusEquals")
        found = [e for e in self._jobs.entities.all() if wanted in (None, job_status(e))]

        def summary(entity: Entity) -> Request:
            description = self._jobs.describe(entity)
            keys = ("TrainingStartTime", "TrainingEndTime", "LastModifiedTime", "TrainingJobStatus")
            times = {key: description[key] for key in keys if key in description}
            return {**_summary("TrainingJob")(entity), **times}

        return _page(request, "TrainingJobSummaries", found, summary)

    def _job(self, name: str) -> Entity:
        job = self._jobs.entities.get(name)
        if job is None:
            raise validation("Requested resource not found.")
        return job

    # Tags

    def _add_tags(self, request: Request, region: str) -> Request:
        kind, entity = self._tagged(request["ResourceArn"])
        new = {tag["Key"]: tag["Value"] for tag in request["Tags"]}
        kept = {tag["Key"]: tag["Value"] for tag in entity["request"].get("Tags", [])} | new
        self._retag(kind, entity, kept)
        return {"Tags": [{"Key": key, "Value": value} for key, value in kept.items()]}

    def _delete_tags(self, request: Request, region: str) -> Request:
        kind, entity = self._tagged(request["ResourceArn"])
        tags = entity["request"].get("Tags", [])
        kept = {t["Key"]: t["Value"] for t in tags if t["Key"] not in request["TagKeys"]}
        self._retag(kind, entity, kept)
        return {}

    def _list_tags(self, request: Request, region: str) -> Request:
        _, entity = self._tagged(request["ResourceArn"])
        return {"Tags": entity["request"].get("Tags", [])}

    def _retag(self, kind: Entities, entity: Entity, tags: Mapping[str, str]) -> None:
        listed = [{"Key": key, "Value": value} for key, value in tags.items()]
        kind.put({**entity, "request": {**entity["request"], "Tags": listed}})

    def _tagged(self, arn: str) -> tuple[Entities, Entity]:
        kinds = (self.models, self.endpoint_configs, self.endpoints, self._jobs.entities)
        for kind in kinds:
            for entity in kind.all():
                if entity["arn"] == arn:
                    return kind, entity
        raise validation(f"Could not find resource {arn}")

    # What they share

    def _create(
        self, kind: Entities, name: str, arn: str, request: Request, what: str, **more: Any
    ) -> None:
        _check_name(what, name)
        with kind.lock:
            if kind.get(name):
                raise validation(f'Cannot create already existing {what} "{arn}".')
            kind.put({**_entity(name, arn, request), **more})

    def _find(
        self, kind: Entities, name: str, region: str, what: str, resource: str | None = None
    ) -> Entity:
        found = kind.get(name)
        if found is None:
            raise validation(f'Could not find {what} "{_arn(region, resource or what, name)}".')
        return found


def _entity(name: str, arn: str, request: Request) -> Entity:
    return {"name": name, "arn": arn, "request": request, "created": time.time()}


def _check_name(what: str, name: str) -> None:
    if not NAME.match(name):
        raise validation(
            f"1 validation error detected: Value '{name}' at '{what}' failed to satisfy "
            f"constraint: Member must satisfy regular expression pattern: {NAME.pattern}"
        )


def _arn(region: str, resource: str, name: str) -> str:
    return f"arn:aws:sagemaker:{region}:{ACCOUNT}:{resource}/{name.lower()}"


def _summary(what: str) -> Callable[[Entity], Request]:
    def summary(entity: Entity) -> Request:
        return {
            f"{what}Name": entity["name"],
            f"{what}Arn": entity["arn"],
            "CreationTime": entity["created"],
        }

    return summary


def _page(
    request: Request, key: str, entities: list[Entity], summary: Callable[[Entity], Request]
) -> Request:
    """Filter, sort and cut a list as AWS's List operations do."""
    after, before = request.get("CreationTimeAfter"), request.get("CreationTimeBefore")
    found = [
        entity
        for entity in entities
        if request.get("NameContains", "").lower() in entity["name"].lower()
        and (after is None or entity["created"] > after)
        and (before is None or entity["created"] < before)
    ]
    by_name = request.get("SortBy") == "Name"
    found.sort(key=lambda entity: entity["name"] if by_name else entity["created"])
    if request.get("SortOrder", "Descending" if not by_name else "Ascending") == "Descending":
        found.reverse()
    start = int(base64.b64decode(request["NextToken"])) if request.get("NextToken") else 0
    end = start + int(request.get("MaxResults", 10))
    page: Request = {key: [summary(entity) for entity in found[start:end]]}
    if end < len(found):
        page["NextToken"] = base64.b64encode(str(end).encode()).decode()
    return page


def _snake(operation: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower()


@cache
def _shape(operation: str) -> Any:
    import botocore.session

    model = botocore.session.get_session().get_service_model("sagemaker")
    return model.operation_model(operation).input_shape


def _validate(operation: str, request: Request) -> None:
    from botocore.validate import ParamValidator

    report = ParamValidator().validate(request, _shape(operation))
    if report.has_errors():
        raise validation(report.generate_report())


def parse(body: bytes) -> Request:
    """Read a JSON request.

    Raises:
        AwsError: Not a JSON object.
    """
    try:
        request = json.loads(body or b"{}")
    except ValueError:
        raise AwsError("SerializationException", "the request is not JSON") from None
    if not isinstance(request, dict):
        raise AwsError("SerializationException", "the request is not a JSON object")
    return request
