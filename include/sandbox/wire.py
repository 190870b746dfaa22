"""An HTTP request in, the AWS call that it is out; an error in, its protocol's answer out."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote
from uuid import uuid4
from xml.sax.saxutils import escape

from starlette.responses import JSONResponse, Response

from include.sandbox.errors import AwsError

OWN_KEY = "SANDBOXITSELF"
"""The access key of the sandbox's own containers: their requests are neither kept nor disturbed."""

SCOPE = re.compile(r"([^/=\s]+)/\d{8}/([^/]+)/([^/]+)/aws4_request")
SERVICES = {"SageMaker": "sagemaker"}
PATHS = (
    (re.compile(r"^/endpoints/[^/]+/invocations$"), "InvokeEndpoint"),
    (
        re.compile(r"^/endpoints/[^/]+/invocations-response-stream$"),
        "InvokeEndpointWithResponseStream",
    ),
    (re.compile(r"^/model/.+/converse$"), "Converse"),
    (re.compile(r"^/model/.+/invoke$"), "InvokeModel"),
    (re.compile(r"^/foundation-models/.+$"), "GetFoundationModel"),
    (re.compile(r"^/inference-profiles/.+$"), "GetInferenceProfile"),
    (re.compile(r"^/model-invocation-job$"), "CreateModelInvocationJob"),
    (re.compile(r"^/model-invocation-job/.+/stop$"), "StopModelInvocationJob"),
    (re.compile(r"^/model-invocation-job/.+$"), "GetModelInvocationJob"),
    (re.compile(r"^/model-invocation-jobs$"), "ListModelInvocationJobs"),
    (re.compile(r"^/listTagsForResource$"), "ListTagsForResource"),
    (re.compile(r"^/tagResource$"), "TagResource"),
    (re.compile(r"^/untagResource$"), "UntagResource"),
    (re.compile(r"^/service/[^/]+/operation/(\w+)$"), ""),
)
S3_BY_PARAMETER = {
    ("GET", False, "list-type"): "ListObjectsV2",
    ("GET", False, "location"): "GetBucketLocation",
    ("POST", False, "delete"): "DeleteObjects",
    ("PUT", True, "partNumber"): "UploadPart",
    ("POST", True, "uploads"): "CreateMultipartUpload",
    ("POST", True, "uploadId"): "CompleteMultipartUpload",
    ("DELETE", True, "uploadId"): "AbortMultipartUpload",
}
S3_BY_METHOD = {
    ("GET", True): "GetObject",
    ("GET", False): "ListObjects",
    ("PUT", True): "PutObject",
    ("PUT", False): "CreateBucket",
    ("HEAD", True): "HeadObject",
    ("HEAD", False): "HeadBucket",
    ("DELETE", True): "DeleteObject",
    ("DELETE", False): "DeleteBucket",
}


@dataclass(frozen=True)
class Call:
    """One call of an AWS operation."""

    service: str
    """As in the request's signature: `sagemaker`, `s3`, `iam`, `bedrock`."""
    operation: str
    region: str
    path: str
    body: dict[str, Any] | None
    """JSON or form fields; None for S3 and whatever else has no fields."""
    own: bool = False
    access_key: str = ""
    """Of whoever signed it."""

    def names(self) -> set[str]:
        """Everything in the call that may name what it is about."""
        path = unquote(self.path).strip("/")
        found = {path, *path.split("/")}
        for value in (self.body or {}).values():
            if isinstance(value, str):
                found |= {value, value.rsplit("/", 1)[-1]}
        return found


def identify(
    method: str, path: str, query: str, headers: Mapping[str, str], body: bytes | None
) -> Call:
    """Find out which operation a request calls."""
    scope = SCOPE.search(unquote(headers.get("authorization", "") or query))
    key, region, service = scope.groups() if scope else ("", "us-east-1", "")
    target = headers.get("x-amz-target", "")
    service = service or SERVICES.get(target.partition(".")[0], "")
    fields = None if service == "s3" else _fields(headers.get("content-type", ""), body)
    if target:
        operation = target.rpartition(".")[2]
    elif service == "s3":
        operation = _s3_operation(method, path, query, headers)
    elif fields and "Action" in fields:
        operation = str(fields["Action"])
    else:
        operation = _by_path(method, path)
    own = key == OWN_KEY
    return Call(service, operation, region, path, fields, own=own, access_key=key)


def _fields(content_type: str, body: bytes | None) -> dict[str, Any] | None:
    if not body:
        return None
    if content_type.startswith("application/x-www-form-urlencoded"):
        pairs = parse_qs(body.decode(errors="replace"), keep_blank_values=True)
        return {name: values[0] for name, values in pairs.items()}
    try:
        fields = json.loads(body)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) else None


def _by_path(method: str, path: str) -> str:
    for pattern, operation in PATHS:
        found = pattern.match(path)
        if found:
            return operation or found[1]
    return f"{method} {path}"


def _s3_operation(method: str, path: str, query: str, headers: Mapping[str, str]) -> str:
    bucket, _, key = path.strip("/").partition("/")
    if not bucket:
        return "ListBuckets"
    for parameter in parse_qs(query, keep_blank_values=True):
        operation = S3_BY_PARAMETER.get((method, bool(key), parameter))
        if operation:
            return operation
    if "x-amz-copy-source" in headers:
        return "CopyObject"
    return S3_BY_METHOD.get((method, bool(key)), f"{method} {path}")


def request_id() -> dict[str, str]:
    """Return the header that every answer of AWS carries."""
    return {"x-amzn-requestid": str(uuid4())}


def error_response(call: Call | None, error: AwsError) -> Response:
    """Answer with an error as the call's protocol writes it: XML for S3 and IAM, else JSON."""
    code, message = escape(error.code), escape(error.message)
    if call and call.service == "s3":
        xml = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        return _xml(xml, error)
    if call and call.body and "Action" in call.body:
        kind = "Sender" if error.status < 500 else "Receiver"
        inner = f"<Type>{kind}</Type><Code>{code}</Code><Message>{message}</Message>"
        return _xml(f"<ErrorResponse><Error>{inner}</Error></ErrorResponse>", error)
    return JSONResponse(
        {"__type": error.code, "message": error.message, "Message": error.message},
        status_code=error.status,
        headers={**request_id(), **error.headers, "x-amzn-errortype": error.code},
    )


def _xml(body: str, error: AwsError) -> Response:
    return Response(
        f'<?xml version="1.0" encoding="UTF-8"?>\n{body}',
        status_code=error.status,
        media_type="text/xml",
        headers={**request_id(), **error.headers},
    )
