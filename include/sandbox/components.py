"""Inference components: models on an endpoint whose config names none, each with its own name."""

from __future__ import annotations

from typing import Any

from include.sandbox import logs
from include.sandbox.entities import Entity, now
from include.sandbox.errors import AwsError, validation
from include.sandbox.listing import page, summary_of
from include.sandbox.resources import FAIL_VARIABLE, Caller, Kind, modified, status
from include.sandbox.s3_store import ACCOUNT
from include.sandbox.settings import Delays

Request = dict[str, Any]

LOGS = "/aws/sagemaker/InferenceComponents"


def takes_components(config: Request) -> bool:
    """Whether an endpoint of this config answers by inference component: it names no model."""
    variants = config.get("ProductionVariants", [])
    return bool(variants) and not any("ModelName" in variant for variant in variants)


class Components:
    """SageMaker's operations on inference components."""

    def __init__(self, kind: Kind, endpoints: Kind, models: Kind, delays: Delays) -> None:
        self._kind, self._endpoints, self._models = kind, endpoints, models
        self._delays = delays

    def create_inference_component(self, request: Request, caller: Caller) -> Request:
        """Create a component, which comes into service later, or fails."""
        name, region = request["InferenceComponentName"], caller.region
        self._sweep()
        endpoint = self._endpoints.find(region, request["EndpointName"])
        variant = self._variant(request, endpoint)
        if request.get("RuntimeConfig", {}).get("CopyCount", 1) < 1:
            raise validation("Inference components copy count an integer larger than 0")
        container = self._container(_specification(request), region)
        failure = caller.failure_reason or container.get("Environment", {}).get(FAIL_VARIABLE)
        more = {"failure": failure, "deleted": None, "container": container, "variant": variant}
        arn = self._kind.create(region, name, request, **more, endpoint=endpoint["arn"])
        last = f"Error: {failure}" if failure else "Ready to serve requests"
        starting = f"Starting {container.get('Image', '')}"
        logs.write(region, f"{LOGS}/{name}", f"{variant}/i-0sandbox", [starting, last])
        return {"InferenceComponentArn": arn}

    def describe_inference_component(self, request: Request, caller: Caller) -> Request:
        """Describe a component."""
        self._sweep()
        found = self._kind.find(caller.region, request["InferenceComponentName"])
        asked, copies = found["request"], found["request"].get("RuntimeConfig", {})
        state = self._status(found)
        running = copies.get("CopyCount", 1) if state == "InService" else 0
        answer = {
            **self._summary(found),
            "Specification": _told(_specification(asked), found),
            "RuntimeConfig": {
                "DesiredCopyCount": copies.get("CopyCount", 1),
                "CurrentCopyCount": running,
            },
        }
        return {**answer, **({"FailureReason": found["failure"]} if state == "Failed" else {})}

    def delete_inference_component(self, request: Request, caller: Caller) -> Request:
        """Delete a component, unless something is going on with it."""
        with self._kind.entities.lock:
            self._sweep()
            found = self._kind.find(caller.region, request["InferenceComponentName"])
            if self._status(found) not in ("InService", "Failed"):
                arn = found["arn"]
                raise validation(f'Cannot update in-progress inference component "{arn}".')
            self._kind.entities.put({**found, "deleted": now()})
        return {}

    def list_inference_components(self, request: Request, caller: Caller) -> Request:
        """List components, of all endpoints or of one."""
        self._sweep()
        summaries = [
            summary
            for summary in map(self._summary, self._kind.entities.all())
            if request.get("EndpointNameEquals") in (None, summary["EndpointName"])
            and request.get("VariantNameEquals") in (None, summary["VariantName"])
        ]
        return page(request, "InferenceComponents", "InferenceComponent", summaries)

    def on(self, endpoint: str) -> bool:
        """Whether an endpoint has components, be they on their way out."""
        self._sweep()
        return any(
            each["request"]["EndpointName"] == endpoint for each in self._kind.entities.all()
        )

    def container(self, endpoint: str, name: str) -> Request:
        """Return the container that answers for a component of an endpoint.

        Raises:
            AwsError: The endpoint has no such component in service.
        """
        found = self._kind.entities.get(name)
        if (
            found is None
            or found["request"]["EndpointName"] != endpoint
            or self._status(found) != "InService"
        ):
            raise AwsError(
                "ValidationError",
                f"Inference Component {name} of account {ACCOUNT} not found.",
            )
        return dict(found["container"])

    def _variant(self, request: Request, endpoint: Entity) -> str:
        """Return the name of the endpoint's variant that a new component runs on.

        Raises:
            AwsError: The endpoint takes no components, or not now, or has no such variant.
        """
        if not takes_components(endpoint["config"]):
            raise validation(
                "Inference Components are not supported in this Endpoint. Please make sure this "
                "endpoint can deploy inference components."
            )
        if status(endpoint, self._delays.endpoint) != "InService":
            raise validation(f'Cannot update in-progress endpoint "{endpoint["arn"]}".')
        names = [variant["VariantName"] for variant in endpoint["config"]["ProductionVariants"]]
        wanted = str(request.get("VariantName", names[0]))
        if wanted not in names:
            raise validation(
                f'Could not find variant "{wanted}" of endpoint "{endpoint["arn"]}"; it has '
                f"{', '.join(names)}."
            )
        return wanted

    def _container(self, specification: Request, region: str) -> Request:
        """Return what runs in a component; it is kept, models may be deleted."""
        if "ModelName" in specification:
            model = self._models.find(region, specification["ModelName"])["request"]
            several = model.get("Containers") or [{}]
            return dict(model.get("PrimaryContainer") or several[0])
        if "BaseInferenceComponentName" in specification:
            base = self._kind.find(region, specification["BaseInferenceComponentName"])
            return dict(base["container"])
        if "Container" not in specification:
            raise validation(
                "Specification needs one of ModelName, Container and BaseInferenceComponentName."
            )
        given = dict(specification["Container"])
        artifact = given.pop("ArtifactUrl", None)
        return {**given, **({"ModelDataUrl": artifact} if artifact else {})}

    def _summary(self, component: Entity) -> Request:
        return {
            **summary_of("InferenceComponent")(component),
            "EndpointArn": component["endpoint"],
            "EndpointName": component["request"]["EndpointName"],
            "VariantName": component["variant"],
            "InferenceComponentStatus": self._status(component),
            "LastModifiedTime": modified(component, self._delays.endpoint),
        }

    def _status(self, component: Entity) -> str:
        return status(component, self._delays.endpoint)

    def _sweep(self) -> None:
        self._endpoints.sweep(self._delays.delete)
        self._kind.sweep(self._delays.delete)


def _specification(request: Request) -> Request:
    """Return what a component is made of; of several, for the first type of instance."""
    several = request.get("Specifications") or [{}]
    return dict(request.get("Specification") or several[0])


def _told(specification: Request, component: Entity) -> Request:
    """Return a specification as Describe repeats it."""
    if "Container" not in specification:
        return specification
    container = dict(specification["Container"])
    image = container.pop("Image", "")
    deployed = {
        "SpecifiedImage": image,
        "ResolvedImage": image,
        "DeploymentTime": component["created"],
    }
    return {**specification, "Container": {**container, "DeployedImage": deployed}}
