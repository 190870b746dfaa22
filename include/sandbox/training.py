"""Training jobs: their life from Starting to Completed, which goes on after a restart."""

from __future__ import annotations

import threading
import time
from typing import Any

from include.sandbox.dice import chance
from include.sandbox.entities import Entities, Entity, now
from include.sandbox.errors import ContainerError
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
LOOK_EVERY = 0.05


class JobEnded(Exception):
    """The job was stopped, ran too long or is gone; its thread has nothing more to do."""


def job_status(job: Entity) -> str:
    """Return a job's TrainingJobStatus."""
    last: str = job.get("transitions", [{"Status": "Starting"}])[-1]["Status"]
    if last == "MaxRuntimeExceeded":
        return "Stopped"
    return last if last in (*ENDED, "Stopping") else "InProgress"


class TrainingJobs:
    """Runs judge jobs, and takes up again those that a killed sandbox left running."""

    def __init__(self, settings: Settings, judge: Judge, endpoint_url: str) -> None:
        self._faults, self._delays = settings.faults, settings.delays
        self._container = JudgeContainer(judge, settings.judge, endpoint_url)
        self.entities = Entities(settings.state / "sagemaker" / "training_jobs")

    def resume(self) -> None:
        """Go on with what was running."""
        for job in self.entities.all():
            if job_status(job) not in ENDED:
                self._spawn(job["name"])

    def start(self, job: Entity) -> None:
        """Store a new job and run it.

        Args:
            job: Name, ARN, request and time of creation; `failure`, the reason why it is to fail,
                if any; `denied`, what the role may not do, by secondary status.
        """
        self.entities.put({**job, "transitions": [_transition("Starting")]})
        self._spawn(job["name"])

    def stop(self, job: Entity) -> None:
        """Ask a job to stop; its thread sees it."""
        self._enter(job["name"], "Stopping")

    def _spawn(self, name: str) -> None:
        threading.Thread(target=self._run, args=(name,), name=name, daemon=True).start()

    def _run(self, name: str) -> None:
        try:
            self._live(name)
        except JobEnded:
            return
        except ContainerError as error:
            self._enter(name, "Failed", str(error))
        except Exception as error:  # a job must end, whatever happens in it
            self._enter(name, "Failed", f"InternalServerError: {error!r}")

    def _live(self, name: str) -> None:
        job = self.entities.get(name)
        assert job is not None
        request, region = job["request"], job["arn"].split(":")[3]
        self._pass("Starting", job)
        self._wait_for_capacity(job)
        self._pass("Downloading", job)
        files = self._container.download(request)
        self._enter(name, "Training")
        self._fail_if_meant_to(job)
        packed = self._container.run(
            request, files, region, lambda done: self._pass("Training", job, done)
        )
        self._pass("Training", job)
        self._pass("Uploading", job)
        self._container.upload(request, packed)
        self._enter(name, "Completed")

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
        self._enter(job["name"], phase)
        current = self._go_on(job["name"])
        began = next(t["StartTime"] for t in current["transitions"] if t["Status"] == phase)
        share = SHARES.get(phase)
        lasts = part * (self._delays.pending if share is None else share * self._delays.job)
        while time.time() < began + lasts:
            time.sleep(min(LOOK_EVERY, max(0.0, began + lasts - time.time())))
            self._go_on(job["name"])
        denied = job.get("denied", {}).get(phase)
        if denied:
            raise ContainerError(denied)

    def _go_on(self, name: str) -> Entity:
        """Return the job as it is now.

        Raises:
            JobEnded: It is over.
        """
        job = self.entities.get(name)
        if job is None:
            raise JobEnded
        if job_status(job) == "Stopping":
            self._enter(name, "Stopped")
            raise JobEnded
        stopping = job["request"].get("StoppingCondition", {})
        started = _started(job["transitions"])
        limit = stopping.get("MaxRuntimeInSeconds", DEFAULT_RUNTIME)
        if started and time.time() > started + limit:
            self._enter(name, "MaxRuntimeExceeded")
            raise JobEnded
        return job

    def _enter(self, name: str, status: str, failure: str | None = None) -> None:
        with self.entities.lock:
            job = self.entities.get(name)
            if job is None or job_status(job) in ENDED:
                return
            if job_status(job) == "Stopping" and status not in ENDED:
                return
            transitions = list(job["transitions"])
            if status in [transition["Status"] for transition in transitions]:
                return  # taken up again after a restart
            new = _transition(status)
            transitions[-1] = {**transitions[-1], "EndTime": new["StartTime"]}
            entered = {**job, "transitions": [*transitions, new]}
            self.entities.put({**entered, "failure": failure} if failure else entered)

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
