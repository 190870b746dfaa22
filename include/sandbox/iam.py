"""SimulatePrincipalPolicy, which moto lacks, on the roles and users that moto's IAM holds.

Evaluated are identity policies, inline and attached, with Action, NotAction, Resource, NotResource
and the Condition operators on strings, ARNs, booleans and absence. Boundaries, service control
policies, resource policies and policy variables are not.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from xml.sax.saxutils import escape

from include.sandbox.errors import AwsError
from include.sandbox.s3_store import ACCOUNT

Statement = dict[str, Any]
Context = Mapping[str, Sequence[str]]

NAMESPACE = "https://iam.amazonaws.com/doc/2010-05-08/"
ENTITY = re.compile(r"^arn:aws:(?:iam|sts)::(\d{12}):(role|user|group)/(.+)$")
PROFILE = re.compile(r"^(us|us-gov|eu|apac|jp|au|ca|global)\.(.+)$")
ROUTED = {
    "us": ("us-east-1", "us-east-2", "us-west-2"),
    "eu": ("eu-central-1", "eu-north-1", "eu-west-1", "eu-west-3"),
    "apac": ("ap-northeast-1", "ap-south-1", "ap-southeast-1", "ap-southeast-2"),
    "jp": ("ap-northeast-1", "ap-northeast-3"),
    "global": ("",),
}
"""Regions that a profile leads to beside the caller's; which they are AWS changes now and then."""
"""Id of an inference profile: where it routes to, and the model."""
DEFAULT_PAGE = 100


@dataclass(frozen=True)
class Policy:
    """One policy of a principal."""

    name: str
    statements: list[Statement]


@dataclass(frozen=True)
class Decision:
    """What the policies say about one action on one resource."""

    decision: str
    """`allowed`, `implicitDeny` or `explicitDeny`."""
    matched: list[str]
    """Names of the policies whose statements decided."""
    missing: list[str]
    """Condition keys that the request did not give a value for."""


def simulate(form: Mapping[str, str]) -> str:
    """Answer SimulatePrincipalPolicy.

    Args:
        form: The request's form fields.

    Returns:
        The XML answer.

    Raises:
        AwsError: NoSuchEntity, or input that IAM refuses.
    """
    actions, resources = _listed(form, "ActionNames"), _listed(form, "ResourceArns") or ["*"]
    if not actions:
        raise AwsError("ValidationError", "1 validation error detected: ActionNames is required")
    policies = [*policies_of(form.get("PolicySourceArn", "")), *_given(form)]
    context = _context(form)
    pairs = [(action, resource) for action in actions for resource in resources]
    start = int(base64.b64decode(form["Marker"])) if form.get("Marker") else 0
    end = start + int(form.get("MaxItems", DEFAULT_PAGE))
    results = "".join(
        _result(action, resource, decide(policies, action, resource, context))
        for action, resource in pairs[start:end]
    )
    truncated = end < len(pairs)
    marker = base64.b64encode(str(end).encode()).decode()
    return (
        f'<SimulatePrincipalPolicyResponse xmlns="{NAMESPACE}"><SimulatePrincipalPolicyResult>'
        f"<IsTruncated>{str(truncated).lower()}</IsTruncated>"
        + (f"<Marker>{marker}</Marker>" if truncated else "")
        + f"<EvaluationResults>{results}</EvaluationResults>"
        "</SimulatePrincipalPolicyResult><ResponseMetadata><RequestId>sandbox</RequestId>"
        "</ResponseMetadata></SimulatePrincipalPolicyResponse>"
    )


def _result(action: str, resource: str, found: Decision) -> str:
    matched = "".join(
        f"<member><SourcePolicyId>{escape(name)}</SourcePolicyId>"
        "<SourcePolicyType>IAM Policy</SourcePolicyType></member>"
        for name in found.matched
    )
    missing = "".join(f"<member>{escape(key)}</member>" for key in found.missing)
    return (
        f"<member><EvalActionName>{escape(action)}</EvalActionName>"
        f"<EvalResourceName>{escape(resource)}</EvalResourceName>"
        f"<EvalDecision>{found.decision}</EvalDecision>"
        f"<MatchedStatements>{matched}</MatchedStatements>"
        f"<MissingContextValues>{missing}</MissingContextValues></member>"
    )


def _listed(form: Mapping[str, str], name: str) -> list[str]:
    keys = [key for key in form if re.fullmatch(rf"{name}\.member\.\d+", key)]
    return [form[key] for key in sorted(keys, key=lambda key: int(key.rsplit(".", 1)[1]))]


def _given(form: Mapping[str, str]) -> Iterator[Policy]:
    for number, text in enumerate(_listed(form, "PolicyInputList"), 1):
        yield Policy(f"PolicyInputList.{number}", _statements(text))


def _context(form: Mapping[str, str]) -> dict[str, list[str]]:
    context: dict[str, list[str]] = {}
    for key, name in form.items():
        found = re.fullmatch(r"(ContextEntries\.member\.\d+\.)ContextKeyName", key)
        if found:
            context[name.lower()] = _listed(form, f"{re.escape(found[1])}ContextKeyValues")
    return context


def policies_of(arn: str) -> list[Policy]:
    """Return all policies that apply to a role, a user or a group.

    Raises:
        AwsError: NoSuchEntity, or an ARN of something else.
    """
    found = ENTITY.match(arn)
    if found is None:
        raise AwsError(
            "InvalidInput",
            f"Invalid Entity Arn: {arn} does not clearly define entity type and name.",
        )
    account, kind, name = found[1], found[2], found[3].rsplit("/", 1)[-1]
    backend = _backend()
    known = {"role": {r.name: r for r in backend.roles.values()}, "user": backend.users}
    entity = {**known, "group": backend.groups}[kind].get(name)
    if entity is None or account != ACCOUNT:
        raise AwsError("NoSuchEntity", f"The {kind} with name {name} cannot be found.", 404)
    policies = list(_own(entity))
    if kind == "user":
        for group in backend.get_groups_for_user(name):
            policies += _own(group)
    return policies


def _own(entity: Any) -> Iterator[Policy]:
    for name, document in entity.policies.items():
        yield Policy(name, _statements(document))
    for policy in entity.managed_policies.values():
        version = next(version for version in policy.versions if version.is_default)
        yield Policy(policy.name, _statements(version.document))


def _statements(document: Any) -> list[Statement]:
    parsed = json.loads(document) if isinstance(document, str) else document
    return list(_many(parsed.get("Statement", [])))


def _many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def decide(policies: Sequence[Policy], action: str, resource: str, context: Context) -> Decision:
    """Decide as IAM does: an explicit deny wins, and what nothing allows is denied."""
    allowing: list[str] = []
    denying: list[str] = []
    missing: set[str] = set()
    for policy in policies:
        for statement in policy.statements:
            if not _concerns(statement, action, resource):
                continue
            holds, absent = _conditions(statement.get("Condition", {}), context)
            missing |= absent
            if holds:
                (allowing if statement["Effect"] == "Allow" else denying).append(policy.name)
    decision = "explicitDeny" if denying else "allowed" if allowing else "implicitDeny"
    return Decision(decision, list(dict.fromkeys(denying or allowing)), sorted(missing))


def _concerns(statement: Statement, action: str, resource: str) -> bool:
    if "NotAction" in statement:
        named = not _any(statement["NotAction"], action, ignore_case=True)
    else:
        named = _any(statement.get("Action", []), action, ignore_case=True)
    if "NotResource" in statement:
        return named and not _any(statement["NotResource"], resource)
    return named and _any(statement.get("Resource", []), resource)


def _any(patterns: Any, value: str, ignore_case: bool = False) -> bool:
    return any(_pattern(p, ignore_case).fullmatch(value) is not None for p in _many(patterns))


@cache
def _pattern(text: str, ignore_case: bool = False) -> re.Pattern[str]:
    parts = {"*": ".*", "?": "."}
    source = "".join(parts.get(letter) or re.escape(letter) for letter in text)
    return re.compile(source, re.DOTALL | (re.IGNORECASE if ignore_case else 0))


def _conditions(conditions: Mapping[str, Any], context: Context) -> tuple[bool, set[str]]:
    """Return whether all conditions hold, and the keys that had no value."""
    missing, holds = set(), True
    for operator, wanted in conditions.items():
        for key, values in wanted.items():
            actual = context.get(key.lower())
            if actual is None and not operator.startswith("Null"):
                missing.add(key)
            holds &= _holds(operator.rpartition(":")[2], _many(values), actual)
    return holds, missing


def _holds(operator: str, values: list[Any], actual: Sequence[str] | None) -> bool:
    name = operator.removesuffix("IfExists")
    if name == "Null":
        return (str(values[0]).lower() == "true") == (actual is None)
    negated = "Not" in name
    if actual is None:
        return negated or operator.endswith("IfExists")
    kind = name.replace("Not", "")
    wanted = [str(value) for value in values]
    if kind in ("StringLike", "ArnLike", "ArnEquals"):
        found = any(_any(wanted, each) for each in actual)
    elif kind in ("StringEqualsIgnoreCase", "Bool"):
        lowered = {value.lower() for value in wanted}
        found = any(each.lower() in lowered for each in actual)
    elif kind == "StringEquals":
        found = any(each in wanted for each in actual)
    else:
        return False  # numbers, dates and addresses are not evaluated
    return found != negated


def allows(arn: str, action: str, resource: str) -> bool:
    """Whether a principal's policies allow an action."""
    return decide(policies_of(arn), action, resource, {}).decision == "allowed"


def model_arns(model: str, region: str) -> list[str]:
    """Return all that has to be allowed for a model: its profile and what the profile leads to."""
    if model.startswith("arn:"):
        return [model]
    profile = PROFILE.match(model)
    foundation = profile[2] if profile else model
    routed = ROUTED.get(profile[1], ()) if profile else ()
    arns = [
        f"arn:aws:bedrock:{each}::foundation-model/{foundation}"
        for each in dict.fromkeys([region, *routed])
    ]
    if profile:
        arns.append(f"arn:aws:bedrock:{region}:{ACCOUNT}:inference-profile/{model}")
    return arns


def role_arn(name: str) -> str:
    """Return a role's ARN, path included; that of a role without a path if there is none."""
    role = next((r for r in _backend().roles.values() if r.name == name), None)
    return str(role.arn) if role else f"arn:aws:iam::{ACCOUNT}:role/{name}"


def assumable(role_arn: str, service: str) -> bool:
    """Whether a role exists and trusts a service."""
    role = next((r for r in _backend().roles.values() if r.arn == role_arn), None)
    if role is None:
        return False
    return any(
        statement.get("Effect") == "Allow"
        and _any(statement.get("Action", []), "sts:AssumeRole", ignore_case=True)
        and service in _many((statement.get("Principal") or {}).get("Service", []))
        for statement in _statements(role.assume_role_policy_document)
    )


def _backend() -> Any:
    from moto.iam.models import iam_backends

    return iam_backends[ACCOUNT]["aws"]
