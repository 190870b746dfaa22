"""What models, configs, endpoints and jobs share: names, ARNs, tags, making and finding."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from include.sandbox.entities import Entities, Entity, now
from include.sandbox.errors import validation
from include.sandbox.listing import cut
from include.sandbox.s3_store import ACCOUNT

Request = dict[str, Any]

FAIL_VARIABLE = "SANDBOX_FAIL"
"""A container with this variable fails to start, for the reason that it holds."""


@dataclass(frozen=True)
class Caller:
    """What comes with a request beside its body."""

    region: str
    failure_reason: str | None = None
    """Why what the request creates is to fail, where somebody asked for it."""


class Kind:
    """One kind of resource: its entities, and how AWS speaks of it."""

    def __init__(self, folder: Path, what: str, resource: str) -> None:
        self.entities = Entities(folder)
        self._what, self._resource = what, resource

    def arn(self, region: str, name: str) -> str:
        """Return a resource's ARN."""
        return arn_of(region, self._resource, name)

    def create(self, region: str, name: str, request: Request, **more: Any) -> str:
        """Store a new resource; return its ARN.

        Raises:
            AwsError: The name is taken.
        """
        arn = self.arn(region, name)
        with self.entities.lock:
            if self.entities.get(name):
                raise validation(f'Cannot create already existing {self._what} "{arn}".')
            self.entities.put({**new_entity(name, arn, request), **more})
        return arn

    def find(self, region: str, name: str) -> Entity:
        """Return a resource.

        Raises:
            AwsError: There is none of this name.
        """
        found = self.entities.get(name)
        if found is None:
            raise validation(f'Could not find {self._what} "{self.arn(region, name)}".')
        return found

    def delete(self, region: str, name: str) -> None:
        """Forget a resource, whatever depends on it."""
        self.find(region, name)
        self.entities.delete(name)

    def sweep(self, lasts: float) -> None:
        """Forget what was marked as deleted, once that is over."""
        for entity in self.entities.all():
            if entity["deleted"] and time.time() >= entity["deleted"] + lasts:
                self.entities.delete(entity["name"])


def arn_of(region: str, resource: str, name: str) -> str:
    """Return an ARN of SageMaker's."""
    return f"arn:aws:sagemaker:{region}:{ACCOUNT}:{resource}/{name.lower()}"


def new_entity(name: str, arn: str, request: Request) -> Entity:
    """Return a resource as it is stored."""
    return {"name": name, "arn": arn, "request": request, "created": now()}


def status(entity: Entity, lasts: float) -> str:
    """Return what an endpoint or a component is doing now.

    Args:
        entity: With `created`, `deleted`, `failure` and, where it is being changed, `updated`.
        lasts: Seconds that creating and updating take.
    """
    if entity["deleted"]:
        return "Deleting"
    if time.time() < entity["created"] + lasts:
        return "Creating"
    if entity["failure"]:
        return "Failed"
    if time.time() < entity.get("updated", 0) + lasts:
        return "Updating"
    return "InService"


def modified(entity: Entity, lasts: float) -> float:
    """Return when an endpoint or a component last changed."""
    changed, doing = entity["deleted"] or entity.get("updated"), status(entity, lasts)
    if changed and doing in ("Deleting", "Updating"):
        return float(changed)
    since = float(changed or entity["created"])
    return round(since + (0 if doing == "Creating" else lasts), 3)


def told(entity: Entity) -> Request:
    """Return what was asked for, as Describe operations repeat it: without tags."""
    return {key: value for key, value in entity["request"].items() if key != "Tags"}


class Tags:
    """AddTags, DeleteTags and ListTags, on every kind of resource."""

    def __init__(self, kinds: list[Entities]) -> None:
        self._kinds = kinds

    def add_tags(self, request: Request, caller: Caller) -> Request:
        """Add tags, or change their values."""
        new = {tag["Key"]: tag["Value"] for tag in request["Tags"]}
        kind, entity = self._tagged(request["ResourceArn"])
        return {"Tags": self._retag(kind, entity, _tags(entity) | new)}

    def delete_tags(self, request: Request, caller: Caller) -> Request:
        """Take tags away."""
        kind, entity = self._tagged(request["ResourceArn"])
        gone = request["TagKeys"]
        self._retag(kind, entity, {k: v for k, v in _tags(entity).items() if k not in gone})
        return {}

    def list_tags(self, request: Request, caller: Caller) -> Request:
        """List tags, page by page."""
        _, entity = self._tagged(request["ResourceArn"])
        return cut(request, "Tags", entity["request"].get("Tags", []), page_size=50)

    def _retag(
        self, kind: Entities, entity: Entity, tags: Mapping[str, str]
    ) -> list[dict[str, str]]:
        listed = [{"Key": key, "Value": value} for key, value in tags.items()]
        with kind.lock:
            current = kind.get(entity["name"]) or entity
            kind.put({**current, "request": {**current["request"], "Tags": listed}})
        return listed

    def _tagged(self, arn: str) -> tuple[Entities, Entity]:
        for kind in self._kinds:
            for entity in kind.all():
                if entity["arn"] == arn:
                    return kind, entity
        raise validation(f"Could not find resource {arn}")


def _tags(entity: Entity) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in entity["request"].get("Tags", [])}
