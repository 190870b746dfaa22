"""Endpoints: their life from Creating to Deleting, a function of stored times.

So it goes on where it was after the sandbox was killed.
"""

from __future__ import annotations

from typing import Any

from include.sandbox import logs
from include.sandbox.components import Components, takes_components
from include.sandbox.dice import Counted
from include.sandbox.entities import Entity, now
from include.sandbox.errors import AwsError, validation
from include.sandbox.listing import page, summary_of
from include.sandbox.quotas import Quotas
from include.sandbox.resources import FAIL_VARIABLE, Caller, Kind, modified, status
from include.sandbox.s3_store import ACCOUNT
from include.sandbox.settings import Delays, Faults

Request = dict[str, Any]

NO_CAPACITY = (
    "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error. "
    "Please retry using a different ML instance type or after some time."
)

NO_COMPONENT_NAMED = (
    "Inference Component Name header is required for endpoints to which you plan to deploy "
    "inference components. Please include Inference Component Name header or consider using "
    "SageMaker models."
)
COMPONENT_NAMED = (
    "Inference Component Name header is not allowed for endpoints to which you dont plan to deploy "
    "inference components. Please remove the Inference Component Name header and try again."
)


class Endpoints:
    """SageMaker's operations on endpoints."""

    def __init__(
        self,
        kind: Kind,
        configs: Kind,
        models: Kind,
        components: Components,
        quotas: Quotas,
        delays: Delays,
        faults: Faults,
    ) -> None:
        self._kind, self._configs, self._models = kind, configs, models
        self._components = components
        self._quotas, self._delays, self._faults = quotas, delays, faults
        self._dice = Counted()

    def create_endpoint(self, request: Request, caller: Caller) -> Request:
        """Create an endpoint, which comes into service later, or fails."""
        name, region = request["EndpointName"], caller.region
        config = self._configs.find(region, request["EndpointConfigName"])["request"]
        self._sweep()
        with self._kind.entities.lock:
            if self._kind.entities.get(name) is None:
                self._check_quota(config, name)
            container = self._container(config, region)
            failure = self._failure(config, container, caller)
            more = {"failure": failure, "deleted": None, "config": config, "container": container}
            arn = self._kind.create(region, name, request, **more)
        _log(name, config, container, region, failure)
        return {"EndpointArn": arn}

    def update_endpoint(self, request: Request, caller: Caller) -> Request:
        """Move an endpoint to another config."""
        name = request["EndpointName"]
        config = self._configs.find(caller.region, request["EndpointConfigName"])["request"]
        with self._kind.entities.lock:
            self._sweep()
            found = self._kind.find(caller.region, name)
            if self.status(found) != "InService":
                raise _in_progress(found)
            self._check_quota(config, name)
            new = {**found["request"], "EndpointConfigName": request["EndpointConfigName"]}
            entity = {**found, "request": new, "config": config, "updated": now()}
            container = self._container(config, caller.region)
            changed = {"container": container, "previous": found.get("container")}
            self._kind.entities.put({**entity, **changed})
        return {"EndpointArn": found["arn"]}

    def describe_endpoint(self, request: Request, caller: Caller) -> Request:
        """Describe an endpoint."""
        self._sweep()
        found = self._kind.find(caller.region, request["EndpointName"])
        status = self.status(found)
        answer = {
            "EndpointName": found["name"],
            "EndpointArn": found["arn"],
            "EndpointConfigName": found["request"]["EndpointConfigName"],
            "EndpointStatus": status,
            "CreationTime": found["created"],
            "LastModifiedTime": self._modified(found),
        }
        if status == "Failed":
            answer["FailureReason"] = found["failure"]
        elif status != "Creating":
            image, since = found.get("container", {}).get("Image", ""), self._modified(found)
            variants = found.get("config", {}).get("ProductionVariants", [])
            answer["ProductionVariants"] = [_variant(each, image, since) for each in variants]
        return answer

    def delete_endpoint(self, request: Request, caller: Caller) -> Request:
        """Delete an endpoint, unless something is going on with it."""
        with self._kind.entities.lock:
            self._sweep()
            found = self._kind.find(caller.region, request["EndpointName"])
            if self.status(found) not in ("InService", "Failed"):
                raise _in_progress(found)
            if self._components.on(found["name"]):
                raise validation(
                    "Cannot delete endpoint with inference component associated. "
                    "Please delete inference component and try it again."
                )
            self._kind.entities.put({**found, "deleted": now()})
        return {}

    def list_endpoints(self, request: Request, caller: Caller) -> Request:
        """List endpoints."""
        self._sweep()
        summaries = [
            {
                **summary_of("Endpoint")(endpoint),
                "LastModifiedTime": self._modified(endpoint),
                "EndpointStatus": self.status(endpoint),
            }
            for endpoint in self._kind.entities.all()
        ]
        return page(request, "Endpoints", "Endpoint", summaries)

    def status(self, endpoint: Entity) -> str:
        """Return what an endpoint is doing now."""
        return status(endpoint, self._delays.endpoint)

    def container(self, name: str, component: str | None = None) -> Request:
        """Return the container that answers for an endpoint.

        Raises:
            AwsError: It is not in service, or it is asked for an inference component that it does
                not have, or for none where it has nothing else.
        """
        self._sweep()
        endpoint = self._kind.entities.get(name)
        state = self.status(endpoint) if endpoint else None
        if endpoint is None or state not in ("InService", "Updating"):
            raise AwsError("ValidationError", f"Endpoint {name} of account {ACCOUNT} not found.")
        if takes_components(endpoint.get("config", {})):
            if not component:
                raise AwsError("ValidationError", NO_COMPONENT_NAMED)
            return self._components.container(name, component)
        if component:
            raise AwsError("ValidationError", COMPONENT_NAMED)
        return dict(endpoint["previous" if state == "Updating" else "container"])

    def _container(self, config: Request, region: str) -> Request:
        """Return what runs behind a config's first variant; it is kept, models may be deleted."""
        if takes_components(config):
            return {}
        name = config["ProductionVariants"][0].get("ModelName", "")
        model = self._models.find(region, name)["request"]
        several = model.get("Containers") or [{}]
        return dict(model.get("PrimaryContainer") or several[0])

    def _failure(self, config: Request, container: Request, caller: Caller) -> str | None:
        """Why the endpoint will not come into service, if it will not."""
        reason = caller.failure_reason or container.get("Environment", {}).get(FAIL_VARIABLE)
        if reason:
            return str(reason)
        instance_type = config["ProductionVariants"][0].get("InstanceType")
        roll = self._dice.chance("capacity", instance_type, self._faults.seed)
        return NO_CAPACITY if roll < self._faults.capacity else None

    def _check_quota(self, config: Request, name: str) -> None:
        for instance_type, count in _instances(config).items():
            used = sum(
                _instances(other.get("config", {})).get(instance_type, 0)
                for other in self._kind.entities.all()
                if other["name"] != name and self.status(other) not in ("Failed", "Deleting")
            )
            self._quotas.refuse_beyond(instance_type, "endpoint", used, count)

    def _modified(self, endpoint: Entity) -> float:
        return modified(endpoint, self._delays.endpoint)

    def _sweep(self) -> None:
        self._kind.sweep(self._delays.delete)


def _in_progress(endpoint: Entity) -> AwsError:
    return validation(f'Cannot update in-progress endpoint "{endpoint["arn"]}".')


def _log(name: str, config: Request, container: Request, region: str, failure: str | None) -> None:
    """Write what the container says as it starts; nothing where there is none, or no instance."""
    if not container or (failure and "capacity" in failure.lower()):
        return
    variant, image = config["ProductionVariants"][0]["VariantName"], container.get("Image", "")
    last = f"Error: {failure}" if failure else "Ready to serve requests"
    group = f"{logs.ENDPOINTS}/{name}"
    logs.write(region, group, f"{variant}/i-0sandbox", [f"Starting {image}", last])


def _variant(variant: Request, image: str, since: float) -> Request:
    count, weight = variant.get("InitialInstanceCount", 1), variant.get("InitialVariantWeight", 1.0)
    deployed = {"SpecifiedImage": image, "ResolvedImage": image, "DeploymentTime": since}
    return {
        "VariantName": variant["VariantName"],
        "DeployedImages": [deployed] if image else [],
        "CurrentWeight": weight,
        "DesiredWeight": weight,
        "CurrentInstanceCount": count,
        "DesiredInstanceCount": count,
    }


def _instances(config: Request) -> dict[str, int]:
    """Count a config's instances by type."""
    counts: dict[str, int] = {}
    for variant in config.get("ProductionVariants", []):
        if "InstanceType" in variant:
            count = variant.get("InitialInstanceCount", 1)
            counts[variant["InstanceType"]] = counts.get(variant["InstanceType"], 0) + count
    return counts
