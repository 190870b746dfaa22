"""Bedrock's operations on batch jobs and their tags: what is refused, what starts, what is told."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, unquote

from include.sandbox import iam
from include.sandbox.batch import ENDED, BatchJobs, expiration
from include.sandbox.batch_records import input_keys
from include.sandbox.entities import Entity
from include.sandbox.errors import AwsError, validation
from include.sandbox.judge_container import split
from include.sandbox.listing import cut, moment
from include.sandbox.resources import Caller, new_entity
from include.sandbox.s3_store import ACCOUNT
from include.sandbox.shapes import check
from include.sandbox.wire import Call

Request = dict[str, Any]

SERVICE = "bedrock.amazonaws.com"
JOB_PATH = re.compile(r"^/model-invocation-job/(.+?)(/stop)?$")
JOB_ARN = ":model-invocation-job/"
MAY_NOT_INVOKE = "Customer doesn't have permissions to invokeModel"


class BatchOperations:
    """Answers what Bedrock offers for batch jobs."""

    def __init__(self, jobs: BatchJobs, check_model: Callable[[str], None]) -> None:
        self._jobs, self._check_model = jobs, check_model
        self._operations: Mapping[str, Callable[[Request, Caller], Request]] = {
            "CreateModelInvocationJob": self._create,
            "GetModelInvocationJob": self._get,
            "ListModelInvocationJobs": self._list,
            "StopModelInvocationJob": self._stop,
            "ListTagsForResource": self._list_tags,
            "TagResource": self._tag,
            "UntagResource": self._untag,
        }

    def concerns(self, call: Call) -> bool:
        """Whether a call is one of ours; tags of anything else than jobs are not."""
        if "ModelInvocationJob" in call.operation:
            return True
        return call.operation in self._operations and JOB_ARN in str(
            (call.body or {}).get("resourceARN")
        )

    def answer(self, call: Call, query: str, caller: Caller) -> Request:
        """Answer one call.

        Raises:
            AwsError: What AWS refuses.
        """
        request = {**(call.body or {}), **_query(query)}
        found = JOB_PATH.match(unquote(call.path))
        if found:
            request["jobIdentifier"] = found[1]
        check("bedrock", call.operation, request)
        return self._operations[call.operation](request, caller)

    def _create(self, request: Request, caller: Caller) -> Request:
        """Check a job and start it; a token that was there before names the same job."""
        source, target = _uris(request)
        self._check_model(request["modelId"].rsplit("/", 1)[-1])
        with self._jobs.entities.lock:
            for job in self._jobs.entities.all():
                token = job["request"].get("clientRequestToken")
                if token and token == request.get("clientRequestToken"):
                    return {"jobArn": job["arn"]}
                if job["request"]["jobName"] == request["jobName"]:
                    raise AwsError(
                        "ConflictException", "The provided job name is currently in use."
                    )
            _check_role(request["roleArn"], source)
            name = _identifier(request["jobName"])
            arn = f"arn:aws:bedrock:{caller.region}:{ACCOUNT}{JOB_ARN}{name}"
            more = {
                "failure": caller.failure_reason,
                "denied": _denied(request, target, caller.region),
            }
            self._jobs.start({**new_entity(name, arn, request), **more})
        return {"jobArn": arn}

    def _get(self, request: Request, caller: Caller) -> Request:
        return told(self._job(request["jobIdentifier"]))

    def _list(self, request: Request, caller: Caller) -> Request:
        after = moment(request.get("submitTimeAfter"))
        before = moment(request.get("submitTimeBefore"))
        found = [
            job
            for job in self._jobs.entities.all()
            if request.get("statusEquals") in (None, job["status"])
            and request.get("nameContains", "").lower() in job["request"]["jobName"].lower()
            and (after is None or job["created"] >= after)
            and (before is None or job["created"] < before)
        ]
        newest_first = request.get("sortOrder", "Descending") == "Descending"
        found.sort(key=lambda job: (job["created"], job["name"]), reverse=newest_first)
        asked = {"NextToken": request.get("nextToken"), "MaxResults": request.get("maxResults")}
        page = cut({k: v for k, v in asked.items() if v}, "jobs", found, page_size=100)
        answer: Request = {"invocationJobSummaries": [told(job) for job in page["jobs"]]}
        return {**answer, **({"nextToken": page["NextToken"]} if "NextToken" in page else {})}

    def _stop(self, request: Request, caller: Caller) -> Request:
        job = self._job(request["jobIdentifier"])
        if job["status"] in ENDED:
            raise validation(
                f"The job {job['arn']} cannot be stopped in its current state. "
                f"State was: {job['status']}"
            )
        self._jobs.stop(job)
        return {}

    def _list_tags(self, request: Request, caller: Caller) -> Request:
        return {"tags": self._job(request["resourceARN"])["request"].get("tags", [])}

    def _tag(self, request: Request, caller: Caller) -> Request:
        new = {tag["key"]: tag["value"] for tag in request["tags"]}
        self._retag(request["resourceARN"], lambda tags: {**tags, **new})
        return {}

    def _untag(self, request: Request, caller: Caller) -> Request:
        gone = request["tagKeys"]
        self._retag(
            request["resourceARN"],
            lambda tags: {key: value for key, value in tags.items() if key not in gone},
        )
        return {}

    def _retag(self, arn: str, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
        with self._jobs.entities.lock:
            job = self._job(arn)
            old = {tag["key"]: tag["value"] for tag in job["request"].get("tags", [])}
            tags = [{"key": key, "value": value} for key, value in change(old).items()]
            self._jobs.entities.put({**job, "request": {**job["request"], "tags": tags}})

    def _job(self, identifier: str) -> Entity:
        job = self._jobs.entities.get(identifier.rsplit("/", 1)[-1])
        if job is None:
            raise AwsError(
                "ResourceNotFoundException",
                f"Could not find a batch inference job with the identifier {identifier}.",
                404,
            )
        return job


def told(job: Entity) -> Request:
    """Return what GetModelInvocationJob answers."""
    repeated = {key: value for key, value in job["request"].items() if key != "tags"}
    answer = {
        "modelInvocationType": "InvokeModel",
        **repeated,
        "jobArn": job["arn"],
        "status": job["status"],
        "submitTime": _time(job["created"]),
        "lastModifiedTime": _time(job["modified"]),
        "jobExpirationTime": _time(expiration(job)),
        **job["counts"],
    }
    if job["status"] in ENDED:
        answer["endTime"] = _time(job["modified"])
    if job.get("message"):
        answer["message"] = job["message"]
    return answer


def _time(seconds: float) -> str:
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _query(text: str) -> Request:
    query: Request = dict(parse_qsl(text))
    if query.get("maxResults", "").isdecimal():
        query["maxResults"] = int(query["maxResults"])
    return query


def _identifier(job_name: str) -> str:
    """Return a new job's id: twelve letters and digits."""
    return hashlib.sha256(f"{job_name}\0{time.time_ns()}".encode()).hexdigest()[:12]


def _uris(request: Request) -> tuple[str, str]:
    source = request["inputDataConfig"]["s3InputDataConfig"]["s3Uri"]
    return source, request["outputDataConfig"]["s3OutputDataConfig"]["s3Uri"]


def _check_role(role: str, source: str) -> None:
    """Refuse a role that Bedrock cannot take on, or that cannot read the input.

    Raises:
        AwsError: Why not.
    """
    if not iam.assumable(role, SERVICE):
        raise validation(
            f"Bedrock could not assume the role {role}: it has to exist, and its trust policy to "
            f"allow {SERVICE} to assume it."
        )
    bucket, _ = split(source)
    if not iam.allows(role, "s3:ListBucket", f"arn:aws:s3:::{bucket}"):
        raise validation(f"Could not validate ListBucket permissions for S3URI {source}")
    for key in input_keys(source):
        if not iam.allows(role, "s3:GetObject", f"arn:aws:s3:::{bucket}/{key}"):
            raise validation(
                "Could not validate GetObject permissions to access Amazon S3 bucket: "
                f"{bucket} at key {key}."
            )


def _denied(request: Request, target: str, region: str) -> str | None:
    """Return why a job will fail for its role's sake.

    Looked up when the job is created: roles do not outlive a restart, jobs do.
    """
    role, (bucket, prefix) = request["roleArn"], split(target)
    models = iam.model_arns(request["modelId"], region)
    if not all(iam.allows(role, "bedrock:InvokeModel", arn) for arn in models):
        return MAY_NOT_INVOKE
    key = f"{prefix.rstrip('/')}/x".lstrip("/")
    if not iam.allows(role, "s3:PutObject", f"arn:aws:s3:::{bucket}/{key}"):
        return f"Could not validate PutObject permissions to access Amazon S3 bucket: {bucket}"
    return None
