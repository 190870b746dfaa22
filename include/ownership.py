"""Whose is this on AWS? Tags for what a run creates; what outlived its run is deleted or stopped.

Only the standard library and a client that is passed in: the same file is the janitor's part in
Airflow and, where Airflow itself is dead, a Lambda function (infra/janitor.yaml).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.parse import quote, unquote

PREFIX = "nj-"
"""How every name on AWS begins that the project makes."""

ENVIRONMENT = "nova-judge:environment"
EVALUATION = "nova-judge:evaluation"
RUN = "nova-judge:run"
DAG_ID = "nova-judge:dag-id"
RUN_ID = "nova-judge:run-id"

MAX_AGE = timedelta(hours=26)
"""What is older and belongs to no run that is known has outlived it: a judge job has 24 hours."""

Kind = Literal["endpoint", "endpoint config", "model", "training job", "batch job"]

JOBS: tuple[Kind, ...] = ("training job", "batch job")
"""Kinds that are stopped, not deleted, and that a run needs until its end."""

PARTS: tuple[Kind, ...] = ("endpoint config", "model")
"""Kinds that an endpoint is made of; they have its name."""

Stage = Literal["active", "generated", "ended"]
"""Of a run: `generated` when it goes on, but its endpoints should be gone."""

RunState = Callable[[str, str], Stage | None]
"""How far a run is, by DAG id and run id; None if this Airflow does not know it."""

IN_PROGRESS = "Cannot update in-progress endpoint"
"""How AWS begins to refuse what it will allow a little later."""

GONE = ("Could not find", "Requested resource not found")

OVER = ("ConflictException", "ResourceNotFoundException")
"""How Bedrock refuses to stop a job that has ended or is not there."""
STATE = ("State was: ", "training job is in status")
"""What stands in a ValidationException of Bedrock's, or of SageMaker's, that says so, too."""

BATCH_RUNNING = ("Submitted", "Validating", "Scheduled", "InProgress")
NOT_HERE = ("AccessDeniedException", "UnrecognizedClientException")
"""Who may not list batch jobs has none: a run that starts some needs that permission."""


def is_gone(error: Any) -> bool:
    """Whether SageMaker refuses (botocore's ClientError) because what it was asked for is gone."""
    return str(error.response["Error"]["Message"]).startswith(GONE)


def tags(
    environment: str,
    evaluation: str,
    run_uri: str,
    dag_id: str,
    run_id: str,
    own: Mapping[str, str],
) -> list[dict[str, str]]:
    """Return AWS tags that say which run a resource belongs to, the environment's own first."""
    ours = {
        ENVIRONMENT: environment,
        EVALUATION: evaluation,
        RUN: run_uri,
        DAG_ID: dag_id,
        RUN_ID: run_id,
    }
    values = {**own, **{key: _value(value) for key, value in ours.items()}}
    return [{"Key": key, "Value": value[:256]} for key, value in values.items()]


def _value(text: str) -> str:
    """Write what run and DAG ids may hold and Bedrock's tags may not (TagValue) as =XX of UTF-8."""
    return quote(text, safe=" .:/+@_-").replace("%", "=").replace("~", "=7E")


def _text(value: str) -> str:
    return unquote(value.replace("=", "%"))


@dataclass(frozen=True)
class Resource:
    """Something on AWS that costs money, or will when it is forgotten."""

    kind: Kind
    name: str
    status: str | None
    created: datetime
    arn: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def run_uri(self) -> str:
        """Folder of the run that created it."""
        return _text(self.tags.get(RUN, ""))

    @property
    def run(self) -> tuple[str, str]:
        """DAG id and run id of the run that created it."""
        return _text(self.tags.get(DAG_ID, "")), _text(self.tags.get(RUN_ID, ""))


Outcome = Literal[
    "deleted", "stopped", "would be deleted", "would be stopped", "not yet", "refused"
]


@dataclass(frozen=True)
class Removal:
    """What was done about one resource, and why."""

    resource: Resource
    reason: str
    outcome: Outcome
    """`not yet`: the next pass will do it. `refused`: no pass will, before a person helps."""
    said: str = ""
    """What AWS said, where it did not do it."""

    def __str__(self) -> str:
        """Return one line for a log."""
        said = f": {self.said}" if self.said else ""
        return f"{self.resource.kind} {self.resource.name}: {self.outcome}{said} ({self.reason})"


def clean(
    sagemaker: Any,
    bedrock: Any = None,
    *,
    run_state: RunState,
    output_uri: str = "s3://",
    max_age: timedelta = MAX_AGE,
    dry_run: bool = False,
    now: datetime | None = None,
) -> list[Removal]:
    """Delete or stop what outlived its run.

    Endpoints go before their configs and models, so one pass takes a whole deployment down. What
    AWS refuses (an endpoint that is being created) is said, and tried again by the next pass; its
    config and model stay as long, for without them nobody sees what the endpoint costs (AWS,
    DeleteEndpointConfig).

    Args:
        sagemaker: boto3's client.
        bedrock: boto3's client; without it batch jobs are not looked at.
        run_state: Asks Airflow for a run.
        output_uri: Only runs that write below it: another Airflow's are not ours to judge.
        max_age: When to give up on a resource whose run nobody knows.
        dry_run: Say what would be done.
        now: For tests.
    """
    now = now or datetime.now(UTC)
    removals: list[Removal] = []
    kept: list[str] = []
    for resource in owned(sagemaker, bedrock):
        if not f"{resource.run_uri}/".startswith(f"{output_uri.rstrip('/')}/"):
            continue
        reason = outlived(resource, run_state, max_age, now)
        if reason and dry_run:
            would: Outcome = "would be stopped" if resource.kind in JOBS else "would be deleted"
            removals.append(Removal(resource, reason, would))
        elif reason and any(_is_of(resource, endpoint) for endpoint in kept):
            removals.append(Removal(resource, reason, "not yet", "its endpoint is still there"))
        elif reason:
            removals.append(_remove(sagemaker, bedrock, resource, reason))
            if resource.kind == "endpoint" and removals[-1].outcome != "deleted":
                kept.append(resource.name)
    return removals


def _is_of(resource: Resource, endpoint: str) -> bool:
    """Whether it is a config (one for each instance type) or the model of an endpoint."""
    name = resource.name
    return resource.kind in PARTS and (name == endpoint or name.startswith(f"{endpoint}-"))


def outlived(
    resource: Resource, run_state: RunState, max_age: timedelta, now: datetime
) -> str | None:
    """Say why a resource should be gone; None while its run may still need it."""
    dag_id, run_id = resource.run
    state = run_state(dag_id, run_id) if dag_id and run_id else None
    if state == "ended":
        return f"run {run_id} of {dag_id} has ended"
    if state == "generated" and resource.kind not in JOBS:
        return f"run {run_id} of {dag_id} goes on, but has tried to delete it"
    if state is None and now - resource.created > max_age:
        hours = (now - resource.created) / timedelta(hours=1)
        return f"its run {run_id or '(untagged)'} is not known here, and it is {hours:.0f} h old"
    return None


def owned(sagemaker: Any, bedrock: Any = None) -> Iterator[Resource]:
    """Yield what carries our tags: endpoints, their configs and models, running jobs."""
    yield from _listed(sagemaker, "endpoint", "list_endpoints", "Endpoint", "Endpoints")
    yield from _listed(
        sagemaker, "endpoint config", "list_endpoint_configs", "EndpointConfig", "EndpointConfigs"
    )
    yield from _listed(sagemaker, "model", "list_models", "Model", "Models")
    yield from _listed(
        sagemaker,
        "training job",
        "list_training_jobs",
        "TrainingJob",
        "TrainingJobSummaries",
        StatusEquals="InProgress",
    )
    if bedrock is not None:
        yield from _batch_jobs(bedrock)


def _listed(
    sagemaker: Any, kind: Kind, operation: str, prefix: str, key: str, **filters: str
) -> Iterator[Resource]:
    pages = sagemaker.get_paginator(operation).paginate(NameContains=PREFIX, **filters)
    for entry in [entry for page in pages for entry in page[key]]:
        name = entry[f"{prefix}Name"]
        if not name.startswith(PREFIX):
            continue  # others' names contain it, too, and nobody may ask for their tags
        found = _tags_of(sagemaker, entry[f"{prefix}Arn"])
        if RUN in found:
            yield Resource(
                kind,
                name,
                entry.get(f"{prefix}Status"),
                entry["CreationTime"],
                tags=found,
            )


def _batch_jobs(bedrock: Any) -> Iterator[Resource]:
    """Yield Bedrock's running batch jobs; each once, though it may move on meanwhile."""
    from botocore.exceptions import EndpointConnectionError

    found: dict[str, Any] = {}
    pages = bedrock.get_paginator("list_model_invocation_jobs")
    try:
        for status in BATCH_RUNNING:
            for page in pages.paginate(nameContains=PREFIX, statusEquals=status):
                found |= {job["jobArn"]: job for job in page["invocationJobSummaries"]}
    except EndpointConnectionError:
        return  # a region without Bedrock
    except bedrock.exceptions.ClientError as error:
        if error.response["Error"]["Code"] in NOT_HERE:
            return
        raise
    for arn, job in found.items():
        tags = _batch_tags(bedrock, arn)
        if RUN in tags and job["jobName"].startswith(PREFIX):
            name, created = job["jobName"], job["submitTime"]
            yield Resource("batch job", name, job.get("status"), created, arn, tags)


def _batch_tags(bedrock: Any, arn: str) -> dict[str, str]:
    """Return a batch job's tags; none if it has gone since it was listed."""
    try:
        tags = bedrock.list_tags_for_resource(resourceARN=arn)["tags"]
    except bedrock.exceptions.ClientError as error:
        if error.response["Error"]["Code"] in OVER:
            return {}
        raise
    return {tag["key"]: tag["value"] for tag in tags}


def _tags_of(sagemaker: Any, arn: str) -> dict[str, str]:
    """Return a resource's tags; none if it has gone since it was listed."""
    try:
        pages = sagemaker.get_paginator("list_tags").paginate(ResourceArn=arn)
        return {tag["Key"]: tag["Value"] for page in pages for tag in page["Tags"]}
    except sagemaker.exceptions.ClientError as error:
        if is_gone(error):
            return {}
        raise


def _remove(sagemaker: Any, bedrock: Any, resource: Resource, reason: str) -> Removal:
    name, client = resource.name, bedrock if resource.kind == "batch job" else sagemaker
    calls: dict[str, Callable[[], Any]] = {
        "endpoint": lambda: sagemaker.delete_endpoint(EndpointName=name),
        "endpoint config": lambda: sagemaker.delete_endpoint_config(EndpointConfigName=name),
        "model": lambda: sagemaker.delete_model(ModelName=name),
        "training job": lambda: sagemaker.stop_training_job(TrainingJobName=name),
        "batch job": lambda: bedrock.stop_model_invocation_job(jobIdentifier=resource.arn),
    }
    try:
        calls[resource.kind]()
    except client.exceptions.ClientError as error:
        said, code = error.response["Error"]["Message"], error.response["Error"]["Code"]
        if not (is_gone(error) or code in OVER or any(each in said for each in STATE)):
            later = said.startswith(IN_PROGRESS)
            return Removal(resource, reason, "not yet" if later else "refused", said)
    return Removal(resource, reason, "stopped" if resource.kind in JOBS else "deleted")


def complaint(removals: Sequence[Removal]) -> str | None:
    """Say what AWS refuses to remove, so that somebody looks; None if nothing."""
    refused = [str(removal) for removal in removals if removal.outcome == "refused"]
    return (
        "\n".join(["this is not removed and goes on costing money:", *refused]) if refused else None
    )


def handler(event: Any, context: Any) -> list[str]:
    """Run as a Lambda function: whatever is older than MAX_AGE_HOURS goes, whoever's run it was.

    Environment: MAX_AGE_HOURS (default 26), DRY_RUN (`true` to only say it).

    Raises:
        RuntimeError: AWS refuses to remove something.
    """
    import boto3

    removals = clean(
        boto3.client("sagemaker"),
        boto3.client("bedrock"),
        run_state=lambda dag_id, run_id: None,
        max_age=timedelta(hours=float(os.environ.get("MAX_AGE_HOURS", "26"))),
        dry_run=os.environ.get("DRY_RUN", "").lower() == "true",
    )
    lines = [str(removal) for removal in removals]
    print("\n".join(lines) or "nothing has outlived its run")  # noqa: T201 - a Lambda's log
    problem = complaint(removals)
    if problem:
        raise RuntimeError(problem)  # so that the function's error metric can raise an alarm
    return lines
