"""SageMaker's operations on training jobs: what is refused, what starts, what is told about it."""

from __future__ import annotations

from typing import Any

from include.sandbox import iam
from include.sandbox.entities import Entity
from include.sandbox.errors import AwsError, validation
from include.sandbox.judge_container import output_prefix, split
from include.sandbox.listing import page, summary_of
from include.sandbox.quotas import Quotas
from include.sandbox.resources import Caller, arn_of, new_entity
from include.sandbox.s3_store import keys_below
from include.sandbox.training import ENDED, TrainingJobs, job_status

Request = dict[str, Any]


class TrainingJobOperations:
    """CreateTrainingJob and what follows it."""

    def __init__(self, jobs: TrainingJobs, quotas: Quotas) -> None:
        self._jobs, self._quotas = jobs, quotas

    def create_training_job(self, request: Request, caller: Caller) -> Request:
        """Check a job and start it."""
        name = request["TrainingJobName"]
        arn = arn_of(caller.region, "training-job", name)
        check_role(request["RoleArn"])
        _check_input(request, caller.region)
        denied = _denied(request)
        with self._jobs.entities.lock:
            if self._jobs.entities.get(name):
                raise AwsError(
                    "ResourceInUse",
                    "Training job names must be unique within an AWS account and region, and a "
                    f"job with this name already exists ({arn})",
                )
            self._check_quota(request.get("ResourceConfig", {}))
            entity = new_entity(name, arn, request)
            self._jobs.start({**entity, "failure": caller.failure_reason, "denied": denied})
        return {"TrainingJobArn": arn}

    def _check_quota(self, wanted: Request) -> None:
        instance_type = wanted.get("InstanceType", "")
        used = sum(
            job["request"]["ResourceConfig"].get("InstanceCount", 1)
            for job in self._jobs.entities.all()
            if job_status(job) not in ENDED
            and job["request"].get("ResourceConfig", {}).get("InstanceType") == instance_type
        )
        count = wanted.get("InstanceCount", 1)
        self._quotas.refuse_beyond(instance_type, "training job", used, count)

    def describe_training_job(self, request: Request, caller: Caller) -> Request:
        """Describe a job."""
        return self._jobs.describe(self._job(request))

    def stop_training_job(self, request: Request, caller: Caller) -> Request:
        """Stop a job that is not over."""
        job = self._job(request)
        status = job_status(job)
        if status in ENDED:
            raise validation(
                f"The request was rejected because the training job is in status {status}."
            )
        self._jobs.stop(job)
        return {}

    def delete_training_job(self, request: Request, caller: Caller) -> Request:
        """Forget a job that is over."""
        job = self._job(request)
        if job_status(job) not in ENDED:
            raise validation(f"The training job is in status {job_status(job)}: stop it first.")
        self._jobs.entities.delete(job["name"])
        return {}

    def list_training_jobs(self, request: Request, caller: Caller) -> Request:
        """List jobs."""
        summaries = [self._summary(job) for job in self._jobs.entities.all()]
        return page(request, "TrainingJobSummaries", "TrainingJob", summaries, "Ascending")

    def _summary(self, job: Entity) -> Request:
        description = self._jobs.describe(job)
        keys = ("TrainingEndTime", "LastModifiedTime", "TrainingJobStatus", "SecondaryStatus")
        told = {key: description[key] for key in keys if key in description}
        return {**summary_of("TrainingJob")(job), **told}

    def _job(self, request: Request) -> Entity:
        job = self._jobs.entities.get(request["TrainingJobName"])
        if job is None:
            raise validation("Requested resource not found.")
        return job


def check_role(role_arn: str) -> None:
    """Refuse a role that SageMaker cannot take on.

    Raises:
        AwsError: There is no such role, or it does not trust SageMaker.
    """
    if not iam.assumable(role_arn, "sagemaker.amazonaws.com"):
        raise validation(
            f"Could not assume role {role_arn}. Please ensure that the role exists and allows "
            "principal 'sagemaker.amazonaws.com' to assume the role."
        )


def _check_input(request: Request, region: str) -> None:
    for bucket, key in _inputs(request):
        if not keys_below(bucket, key):
            raise validation(
                f'No S3 objects found under S3 URL "s3://{bucket}/{key}" given in input data '
                "source. Please ensure that the bucket exists in the selected region "
                f"({region}), that objects exist under that S3 prefix, and that the role "
                f'"{request["RoleArn"]}" has "s3:ListBucket" permissions on bucket "{bucket}".'
            )


def _inputs(request: Request) -> list[tuple[str, str]]:
    """Return bucket and key of every channel that S3 feeds."""
    sources = [
        c.get("DataSource", {}).get("S3DataSource") for c in request.get("InputDataConfig", [])
    ]
    return [split(source["S3Uri"]) for source in sources if source]


def _denied(request: Request) -> dict[str, str]:
    """Return why a job will fail for its role's sake, by secondary status.

    Looked up when the job is created: roles do not outlive a restart, jobs do.
    """
    role = request["RoleArn"]
    denied: dict[str, str] = {}
    for bucket, prefix in _inputs(request):
        arn = f"arn:aws:s3:::{bucket}"
        needed = [("s3:ListBucket", arn)]
        needed += [("s3:GetObject", f"{arn}/{key}") for key in keys_below(bucket, prefix)]
        for action, resource in needed:
            if not iam.allows(role, action, resource):
                message = f"ClientError: Data download failed: {_refused(role, action, resource)}"
                denied.setdefault("Downloading", message)
    bucket, key = split(f"{output_prefix(request)}/output.tar.gz")
    action, resource = "s3:PutObject", f"arn:aws:s3:::{bucket}/{key}"
    if not iam.allows(role, action, resource):
        message = f"ClientError: Artifact upload failed: {_refused(role, action, resource)}"
        denied["Uploading"] = message
    return denied


def _refused(role: str, action: str, resource: str) -> str:
    return (
        f'{role} is not authorized to perform: {action} on resource: "{resource}" '
        f"because no identity-based policy allows the {action} action"
    )
