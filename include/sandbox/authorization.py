"""A call and whose key signed it in; a refusal out where the caller's policies do not allow it.

Bound by policies are the keys of IAM users and of roles that STS has handed out. Any other key is
taken for the account's own, which may do everything: so nobody has to set up IAM for a first run.
Which actions and resources a call takes is from AWS's Service Authorization Reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote
from xml.etree import ElementTree

from starlette.types import ASGIApp, Receive, Scope, Send

from include.sandbox import iam
from include.sandbox.errors import AwsError
from include.sandbox.s3_store import ACCOUNT
from include.sandbox.watch import again, read
from include.sandbox.wire import Call, error_response

FREE = ("GetCallerIdentity",)
"""What nobody needs a permission for."""

LISTS = ("ListObjects", "ListObjectsV2", "HeadBucket")
WRITES = ("CopyObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload")
S3_ACTIONS = {
    **dict.fromkeys(LISTS, "ListBucket"),
    **dict.fromkeys(WRITES, "PutObject"),
    "HeadObject": "GetObject",
}
"""Where an operation's name is not the action's."""

SAGEMAKER = (
    ("TrainingJobName", "training-job"),
    ("InferenceComponentName", "inference-component"),
    ("EndpointName", "endpoint"),
    ("EndpointConfigName", "endpoint-config"),
    ("ModelName", "model"),
)
"""Fields that name a resource, and its kind; the first one that is there counts."""

PASSED = {
    "CreateTrainingJob": ("RoleArn", "sagemaker.amazonaws.com"),
    "CreateModel": ("ExecutionRoleArn", "sagemaker.amazonaws.com"),
    "CreateModelInvocationJob": ("roleArn", "bedrock.amazonaws.com"),
}
"""Operations that hand a role to a service: the field, and which service."""


@dataclass(frozen=True)
class Need:
    """One action on one resource."""

    action: str
    resource: str
    context: dict[str, list[str]] = field(default_factory=dict)


class Authorized:
    """An ASGI application that answers only calls that their callers may make."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        call: Call | None = scope.get("call")
        caller = principal(call.access_key) if call and not call.own else None
        if call is None or caller is None or call.operation in FREE:
            await self._app(scope, receive, send)
            return
        body = b""
        if call.operation == "DeleteObjects":
            body = await read(receive)
            receive = again(body, receive)
        refusal = refused(call, caller, scope["query_string"].decode("latin-1"), body)
        if refusal is None:
            await self._app(scope, receive, send)
            return
        await read(receive)  # what is left of a body would be taken for the next request
        await error_response(call, refusal)(scope, receive, send)


def refused(call: Call, caller: str, query: str = "", body: bytes = b"") -> AwsError | None:
    """Return why a caller may not make a call; None if it may.

    Args:
        call: The call.
        caller: ARN of a user or a role.
        query: Of the address; S3 has parameters there.
        body: Of DeleteObjects, which has its keys there.
    """
    policies = iam.policies_of(caller)
    for need in _s3_deletions(call, body) if body else needs(call, query):
        decision = iam.decide(policies, need.action, need.resource, need.context).decision
        if decision != "allowed":
            return _refusal(call, caller, need, explicitly=decision == "explicitDeny")
    return None


def _refusal(call: Call, caller: str, need: Need, *, explicitly: bool) -> AwsError:
    xml = call.service in ("s3", "iam", "sts", "sns")
    kind = "AccessDenied" if xml else "AccessDeniedException"
    why = (
        "with an explicit deny in an identity-based policy"
        if explicitly
        else f"because no identity-based policy allows the {need.action} action"
    )
    who = caller.replace(":role/", ":assumed-role/") + ("/session" if ":role/" in caller else "")
    what = f"to perform: {need.action} on resource: {need.resource}"
    message = f"User: {who} is not authorized {what} {why}"
    return AwsError(kind, message, 403 if xml else 400)


def principal(access_key: str) -> str | None:
    """Return the ARN of the user or role that a key belongs to; None if it is nobody's."""
    from moto.iam.models import iam_backends
    from moto.sts.models import sts_backends

    role = sts_backends[ACCOUNT]["aws"].get_assumed_role_from_access_key(access_key)
    if role is not None:
        return str(role.role_arn)
    user = iam_backends[ACCOUNT]["aws"].get_user_from_access_key_id(access_key)
    return None if user is None else str(user.arn)


def needs(call: Call, query: str = "") -> Iterator[Need]:
    """Yield every action that a call takes, each with its resource."""
    body = call.body or {}
    if call.service == "s3":
        yield from _s3(call, query)
    elif call.service == "sagemaker":
        yield Need(f"sagemaker:{call.operation}", _sagemaker(call, body))
        if call.operation == "CreateEndpoint":
            config = {"EndpointConfigName": body.get("EndpointConfigName")}
            yield Need("sagemaker:CreateEndpoint", _sagemaker(call, config))
        if call.operation.startswith("Create") and body.get("Tags"):
            yield Need("sagemaker:AddTags", _sagemaker(call, body))
    elif call.service == "bedrock":
        yield from _bedrock(call, body)
    else:
        yield Need(f"{call.service}:{call.operation}", _other(call, body))
    if call.operation in PASSED:
        name, service = PASSED[call.operation]
        if body.get(name):
            context = {"iam:passedtoservice": [service]}
            yield Need("iam:PassRole", str(body[name]), context)


def _s3(call: Call, query: str) -> Iterator[Need]:
    bucket, _, key = unquote(call.path).strip("/").partition("/")
    asked = parse_qs(query, keep_blank_values=True)
    action = S3_ACTIONS.get(call.operation, call.operation)
    if "versions" in asked and not key:
        action = "ListBucketVersions"
    elif "uploads" in asked and not key:
        action = "ListBucketMultipartUploads"
    elif "policy" in asked:
        action = "GetBucketPolicy"
    elif action == "DeleteObject" and "versionId" in asked:
        action = "DeleteObjectVersion"
    elif " " in action:
        action = "Unknown"  # allowed to those who may do everything
    resource = f"arn:aws:s3:::{bucket}/{key}" if key else f"arn:aws:s3:::{bucket}"
    yield Need(f"s3:{action}", resource)


def _s3_deletions(call: Call, body: bytes) -> Iterator[Need]:
    """Yield what DeleteObjects takes for each key in its body."""
    bucket = unquote(call.path).strip("/").partition("/")[0]
    for item in ElementTree.fromstring(body):
        if not item.tag.endswith("Object"):
            continue
        told = {child.tag.rpartition("}")[2]: child.text or "" for child in item}
        action = "DeleteObjectVersion" if told.get("VersionId") else "DeleteObject"
        yield Need(f"s3:{action}", f"arn:aws:s3:::{bucket}/{told['Key']}")


def _sagemaker(call: Call, body: dict[str, Any]) -> str:
    home = f"arn:aws:sagemaker:{call.region}:{ACCOUNT}"
    if call.operation == "InvokeEndpoint":
        return f"{home}:endpoint/{unquote(call.path).split('/')[2]}"
    if body.get("ResourceArn"):
        return str(body["ResourceArn"])
    if not call.operation.startswith("List"):
        for name, kind in SAGEMAKER:
            if body.get(name):
                return f"{home}:{kind}/{body[name]}"
    return "*"


def _bedrock(call: Call, body: dict[str, Any]) -> Iterator[Need]:
    path = unquote(call.path).strip("/").split("/")
    if call.operation in ("Converse", "InvokeModel"):
        model = "/".join(path[1:-1])
        yield from (Need("bedrock:InvokeModel", arn) for arn in iam.model_arns(model, call.region))
    elif call.operation == "GetFoundationModel":
        foundation = f"arn:aws:bedrock:{call.region}::foundation-model/{path[-1]}"
        yield Need("bedrock:GetFoundationModel", foundation)
    elif call.operation == "GetInferenceProfile":
        yield Need("bedrock:GetInferenceProfile", iam.model_arns(path[-1], call.region)[-1])
    elif call.operation == "CreateModelInvocationJob":
        action = "bedrock:CreateModelInvocationJob"
        yield from (Need(action, arn) for arn in iam.model_arns(str(body["modelId"]), call.region))
        job = f"arn:aws:bedrock:{call.region}:{ACCOUNT}:model-invocation-job/new"
        yield Need(action, job)
        if body.get("tags"):
            yield Need("bedrock:TagResource", job)
    elif call.operation in ("GetModelInvocationJob", "StopModelInvocationJob"):
        arn = "/".join(part for part in path[1:] if part != "stop")
        home = f"arn:aws:bedrock:{call.region}:{ACCOUNT}:model-invocation-job"
        yield Need(f"bedrock:{call.operation}", arn if arn.startswith("arn:") else f"{home}/{arn}")
    else:
        yield Need(f"bedrock:{call.operation}", str(body.get("resourceARN") or "*"))


def _other(call: Call, body: dict[str, Any]) -> str:
    """Return the resource of a call of a service that a run needs little of."""
    if call.service == "ecr" and body.get("repositoryName"):
        account = body.get("registryId") or ACCOUNT
        return f"arn:aws:ecr:{call.region}:{account}:repository/{body['repositoryName']}"
    if call.service == "logs" and body.get("logGroupName"):
        return f"arn:aws:logs:{call.region}:{ACCOUNT}:log-group:{body['logGroupName']}"
    if call.service == "iam" and body.get("RoleName"):
        return iam.role_arn(str(body["RoleName"]))
    for name in ("PolicySourceArn", "RoleArn", "TopicArn", "TargetArn"):
        if body.get(name):
            return str(body[name])
    return "*"
