"""Instance types and batch jobs of a run in, what AWS's quotas say about them out."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from include.config import RunConfig, SageMakerModel, is_second
from include.findings import Finding, attempt

LISTS = ("list_service_quotas", "list_aws_default_service_quotas")
"""Applied values first; Service Quotas leaves out of them what nobody ever changed."""

BATCH_MINIMUM = "Minimum number of records per batch inference job for "
"""How the name of a quota of Bedrock begins; a model's name follows."""
BATCH_RECORDS = (
    "Records per batch inference job for ",
    "Records per input file per batch inference job for ",
)
"""The same of the quotas of most records; a job of ours has one file."""
BATCH_GIGABYTES = "Batch inference input file size (in GB) for "
DATE = re.compile(r"\d{8}")


@dataclass(frozen=True)
class Need:
    """Instances that a run wants at once."""

    quota: str
    """The quota's name, as Service Quotas spells it."""
    least: int
    """With fewer the run cannot succeed."""
    most: int
    """With fewer, parts of it have to wait or fail and be tried again."""


@dataclass(frozen=True)
class BatchLimits:
    """What a batch job of one model takes; by default what AWS gives."""

    least: int = 100
    """Records."""
    most: int = 50_000
    """Records."""
    gigabytes: float = 1.0
    """Size of the input file."""


def needs(config: RunConfig, instances_per_job: Sequence[int]) -> list[Need]:
    """Return what a run needs: its endpoints at once, its judge jobs one by one or together.

    An instance type that a model can do without, because another may serve in its place, is wanted,
    not needed.
    """
    deployed = [m.deploy for m in config.models if isinstance(m, SageMakerModel) and m.deploy]
    types = [list(dict.fromkeys(deploy.instance_types)) for deploy in deployed]
    most = Counter(each for choices in types for each in choices)
    only = Counter(choices[0] for choices in types if len(choices) == 1)
    endpoints = [Need(_endpoints(each), only[each], n) for each, n in most.items()]
    jobs: defaultdict[str, list[int]] = defaultdict(list)
    for key in config.judge_jobs(1):
        jobs[config.judge_of(key).instance_type].append(instances_per_job[is_second(key)])
    return [*endpoints, *(_judging(each, instances) for each, instances in jobs.items())]


def _judging(instance_type: str, instances: Sequence[int]) -> Need:
    return Need(f"{instance_type} for training job usage", max(instances), sum(instances))


def check(
    config: RunConfig, client: Any, instances_per_job: Sequence[int] = (1, 1)
) -> list[Finding]:
    """Compare quotas with what a run needs (Service Quotas: ListServiceQuotas).

    Args:
        config: The run.
        client: boto3's client for `service-quotas`.
        instances_per_job: `run.replicas` of each judge's recipe.
    """
    wanted = needs(config, instances_per_job)
    region = config.environment.region

    def look() -> list[Finding]:
        found = find(client, {need.quota for need in wanted})
        findings = [_finding(need, found.get(need.quota), region) for need in wanted]
        return [*findings, *_nowhere(config, found)]

    return attempt("quotas", "servicequotas:ListServiceQuotas", look)


def _nowhere(config: RunConfig, found: dict[str, dict[str, Any]]) -> list[Finding]:
    """Find the models of which no instance type at all has a quota."""
    findings = []
    for model in config.models:
        if not isinstance(model, SageMakerModel) or model.deploy is None:
            continue
        types = model.deploy.instance_types
        values = [found.get(_endpoints(each), {"Value": 1})["Value"] for each in types]
        if len(types) > 1 and not any(values):
            message = f"{model.name} can be deployed on none of {', '.join(types)}: each quota is 0"
            findings.append(Finding("refused", "quota", message, "request one of them, see above"))
    return findings


def _endpoints(instance_type: str) -> str:
    return f"{instance_type} for endpoint usage"


def find(client: Any, names: set[str]) -> dict[str, dict[str, Any]]:
    """Return SageMaker's quotas of these names; those that AWS does not list are missing."""
    found: dict[str, dict[str, Any]] = {}
    for operation in LISTS:
        for page in client.get_paginator(operation).paginate(
            ServiceCode="sagemaker", PaginationConfig={"PageSize": 100}
        ):
            listed = {quota["QuotaName"]: quota for quota in page["Quotas"]}
            found = {name: listed[name] for name in names & set(listed)} | found
            if len(found) == len(names):
                return found
    return found


def batch_limits(client: Any, model_id: str) -> BatchLimits:
    """Return what a batch job of a model takes (Service Quotas: ListServiceQuotas).

    Args:
        client: boto3's client for `service-quotas`.
        model_id: Id or ARN of a model or of an inference profile.

    Returns:
        The quotas' values; AWS's defaults where Service Quotas names no such model or does not let
        us look: Bedrock itself refuses what is too little or too much.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        values = _batch_values(client)
    except (BotoCoreError, ClientError):
        return BatchLimits()

    def value(prefix: str) -> float | None:
        fitting = [name for name in values[prefix] if names_model(name, model_id)]
        return values[prefix][max(fitting, key=len)] if fitting else None

    most = [found for found in map(value, BATCH_RECORDS) if found]
    return BatchLimits(
        int(value(BATCH_MINIMUM) or BatchLimits.least),
        int(min(most, default=BatchLimits.most)),
        value(BATCH_GIGABYTES) or BatchLimits.gigabytes,
    )


def _batch_values(client: Any) -> dict[str, dict[str, float]]:
    """Return the quotas of batch jobs, by how their names begin and what they call a model."""
    prefixes = (BATCH_MINIMUM, *BATCH_RECORDS, BATCH_GIGABYTES)
    found: dict[str, dict[str, float]] = {prefix: {} for prefix in prefixes}
    for operation in LISTS:
        for page in client.get_paginator(operation).paginate(
            ServiceCode="bedrock", PaginationConfig={"PageSize": 100}
        ):
            for quota in page["Quotas"]:
                name = quota["QuotaName"]
                for prefix in prefixes:
                    if name.startswith(prefix):
                        found[prefix].setdefault(name.removeprefix(prefix), quota["Value"])
    return found


def names_model(name: str, model_id: str) -> bool:
    """Whether the name that quotas call a model by may mean this model; the longest one does.

    Example:
        >>> names_model("Claude Sonnet 4.5", "us.anthropic.claude-sonnet-4-5-20250929-v1:0")
        True
        >>> names_model("Claude Sonnet 4", "us.anthropic.claude-sonnet-4-5-20250929-v1:0")
        False
    """
    wanted = _words(name)
    words = _words(DATE.sub("", model_id.rsplit("/", 1)[-1].partition(":")[0]))
    for start in range(len(words) - len(wanted) + 1):
        after = words[start + len(wanted) :][:1]
        goes_on = wanted[-1].isdecimal() and bool(after) and after[0].isdecimal()
        if words[start : start + len(wanted)] == wanted and not goes_on:
            return True
    return False


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+|\d+", text.lower())


def _finding(need: Need, quota: dict[str, Any] | None, region: str) -> Finding:
    if quota is None:
        message = f"Service Quotas does not list {need.quota!r} in {region}"
        return Finding("warning", "quota", message, "check the instance type's spelling")
    value = int(quota["Value"])
    said = f"{need.quota} is {value}"
    if value >= need.most:
        return Finding("ok", "quota", said)
    page = f"https://{region}.console.aws.amazon.com/servicequotas/home/services/sagemaker/quotas"
    request = (
        "aws service-quotas request-service-quota-increase --service-code sagemaker "
        f"--quota-code {quota['QuotaCode']} --desired-value {need.most} --region {region}"
    )
    fix = f"request {need.most} at {page}/{quota['QuotaCode']}"
    if value < need.least:
        return Finding("refused", "quota", f"{said}, the run needs {need.least}", fix, request)
    if "endpoint" in need.quota:
        message = f"{said}: the run may want {need.most} there, else it tries another type"
        return Finding("warning", "quota", message, fix, request)
    pool = f"or let fewer judge jobs run at once: a pool of {value} slots (docs/airflow.md)"
    message = f"{said}, judge jobs at once may want {need.most}"
    return Finding("warning", "quota", message, f"{fix}; {pool}", request)
