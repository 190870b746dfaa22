"""Training jobs: their life from Starting to Completed, which goes on after a restart."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from include.sandbox.dice import chance
from include.sandbox.entities import Entities, Entity, now
from include.sandbox.errors import ContainerError
from include.sandbox.jobs import JobEnded, Jobs
from include.sandbox.judge import Judge
from include.sandbox.judge_container import JudgeContainer, output_prefix
from include.sandbox.settings import Settings

SHARES = {"Starting": 0.2, "Downloading": 0.2, "Training": 0.5, "Uploading": 0.1}
"""Share of SANDBOX_DELAYS' `job` that each secondary status takes."""

MESSAGES = {
    "Starting": "Starting the training job",
    "Pending": "Training job waiting for capacity",
    "Downloading": "Downloading input data",
    "Training": "Training image download completed. Training in progress.",
    "Uploading": "Uploading generated training model",
    "Completed": "Training job completed",
    "Failed": "Training job failed",
    "Stopping": "Stopping the training job",
    "Stopped": "Training job stopped",
    "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds provided",
}
NO_CAPACITY = (
    "CapacityError: Unable to provision requested ML compute capacity. "
    "Please retry using a different ML instance type."
)
INTERNAL = "InternalServerError: We encountered an internal error. Please try again."

ENDED = ("Completed", "Failed", "Stopped")
DEFAULT_RUNTIME = 86400


def job_status(job: Entity) -> str:
    """Return a job's TrainingJobStatus."""
    last: str = job.get("transitions", [{"Status": "Starting"}])[-1]["Status"]
    if last == "MaxRuntimeExceeded":
        return "Stopped"
    return last if last in (*ENDED, "Stopping") else "InProgress"


class TrainingJobs(Jobs):
    """Runs judge jobs."""

    ended, internal = ENDED, "InternalServerError:"

    def __init__(self, settings: Settings, judge: Judge, endpoint_url: str) -> None:
        self._faults, self._delays = settings.faults, settings.delays
        self._container = JudgeContainer(judge, settings.judge, endpoint_url)
        super().__init__(Entities(settings.state / "sagemaker" / "training_jobs"))

    def start(self, job: Entity) -> None:
        """Store a new job and run it.

        Args:
            job: Name, ARN, request and time of creation; `failure`, the reason why it is to fail,
                if any; `denied`, what the role may not do, by secondary status.
        """
        self.entities.put({**job, "transitions": [_transition("Starting")]})
        self.spawn(job["name"])

    def live(self, job: Entity) -> None:
        """Take a job from Starting to its end."""
        request, region = job["request"], job["arn"].split(":")[3]
        self._pass("Starting", job)
        self._wait_for_capacity(job)
        self._pass("Downloading", job)
        files = self._container.download(request)
        self.enter(job["name"], "Training")
        self._fail_if_meant_to(job)
        packed = self._container.run(
            request, files, region, lambda done: self._pass("Training", job, done)
        )
        self._pass("Training", job)
        self._pass("Uploading", job)
        self._container.upload(request, packed)
        self.enter(job["name"], "Completed")

    def _wait_for_capacity(self, job: Entity) -> None:
        """Fail for want of an instance, at once or after the pending time that the job allows."""
        failure = job.get("failure") or ""
        roll = chance("job capacity", job["name"], self._faults.seed)
        if not failure.startswith("CapacityError") and roll >= self._faults.capacity:
            return
        if "MaxPendingTimeInSeconds" in job["request"].get("StoppingCondition", {}):
            self._pass("Pending", job)
        raise ContainerError(failure or NO_CAPACITY)

    def _fail_if_meant_to(self, job: Entity) -> None:
        if job.get("failure"):
            raise ContainerError(job["failure"])
        if chance("job", job["name"], self._faults.seed) < self._faults.job_failure:
            raise ContainerError(INTERNAL)

    def _pass(self, phase: str, job: Entity, part: float = 1.0) -> None:
        """Enter a phase and let a part of its time go by; after a restart, what is left of it."""
        self.enter(job["name"], phase)
        current = self.go_on(job["name"])
        began = next(t["StartTime"] for t in current["transitions"] if t["Status"] == phase)
        share = SHARES.get(phase)
        lasts = part * (self._delays.pending if share is None else share * self._delays.job)
        self.wait(job["name"], began + lasts)
        denied = job.get("denied", {}).get(phase)
        if denied:
            raise ContainerError(denied)

    def go_on(self, name: str) -> Entity:
        """Return the job as it is now.

        Raises:
            JobEnded: It was stopped, has no time left or is gone.
        """
        job = self.entities.get(name)
        if job is None:
            raise JobEnded(None)
        if job_status(job) == "Stopping":
            raise JobEnded("Stopped")
        stopping = job["request"].get("StoppingCondition", {})
        started = _started(job["transitions"])
        limit = stopping.get("MaxRuntimeInSeconds", DEFAULT_RUNTIME)
        if started and time.time() > started + limit:
            raise JobEnded("MaxRuntimeExceeded")
        return job

    def status(self, job: Entity) -> str:
        """Return the job's TrainingJobStatus."""
        return job_status(job)

    def passed(self, job: Entity) -> Collection[str]:
        """Return all secondary statuses that it has had."""
        return [transition["Status"] for transition in job["transitions"]]

    def moved(self, job: Entity, status: str, reason: str | None) -> Entity:
        """Return the job in another secondary status."""
        *before, last = job["transitions"]
        new = _transition(status)
        transitions = [*before, {**last, "EndTime": new["StartTime"]}, new]
        entered = {**job, "transitions": transitions}
        return {**entered, "failure": reason} if reason else entered

    def describe(self, job: Entity) -> dict[str, Any]:
        """Return what DescribeTrainingJob answers."""
        request, transitions = job["request"], job["transitions"]
        status, last = job_status(job), transitions[-1]
        answer: dict[str, Any] = {
            "EnableNetworkIsolation": False,
            "EnableInterContainerTrafficEncryption": False,
            "EnableManagedSpotTraining": False,
            **{key: value for key, value in request.items() if key != "Tags"},
            "TrainingJobArn": job["arn"],
            "TrainingJobStatus": status,
            "SecondaryStatus": last["Status"],
            "SecondaryStatusTransitions": transitions,
            "CreationTime": job["created"],
            "LastModifiedTime": last["StartTime"],
            "ModelArtifacts": {"S3ModelArtifacts": f"{output_prefix(request)}/model.tar.gz"},
        }
        started = _started(transitions)
        if started:
            answer["TrainingStartTime"] = started
        if status in ENDED:
            answer["TrainingEndTime"] = last["StartTime"]
            lasted = int(last["StartTime"] - started) + 1 if started else 0
            answer["TrainingTimeInSeconds"] = answer["BillableTimeInSeconds"] = lasted
        if status == "Failed":
            answer["FailureReason"] = job.get("failure") or last["StatusMessage"]
        return answer


def _started(transitions: list[dict[str, Any]]) -> float | None:
    """Return when a job had its instances, from which on it is paid for."""
    return next((t["StartTime"] for t in transitions if t["Status"] == "Downloading"), None)


def _transition(status: str) -> dict[str, Any]:
    return {"Status": status, "StartTime": now(), "StatusMessage": MESSAGES[status]}
