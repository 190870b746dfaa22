"""Training jobs: their life from Starting to Completed, which goes on after a restart."""

from __future__ import annotations

import threading
import time
from typing import Any

from include.sandbox.dice import chance
from include.sandbox.entities import Entities, Entity
from include.sandbox.judge import Judge
from include.sandbox.judge_container import ContainerError, JudgeContainer
from include.sandbox.settings import Settings

PHASES = (("Starting", 0.2), ("Downloading", 0.2), ("Training", 0.5), ("Uploading", 0.1))
"""Secondary statuses on the way, and their share of SANDBOX_DELAYS' `job`."""

ENDED = ("Completed", "Failed", "Stopped")


def job_status(job: Entity) -> str:
    """Return a job's TrainingJobStatus."""
    last: str = job.get("transitions", [{"Status": "Starting"}])[-1]["Status"]
    if last == "MaxRuntimeExceeded":
        return "Stopped"
    return last if last in (*ENDED, "Stopping") else "InProgress"


class TrainingJobs:
    """Runs judge jobs, and takes up again those that a killed sandbox left running."""

    def __init__(self, settings: Settings, judge: Judge, endpoint_url: str) -> None:
        self._settings = settings
        self._container = JudgeContainer(judge, settings.judge, endpoint_url)
        self.entities = Entities(settings.state / "sagemaker" / "training_jobs")

    def resume(self) -> None:
        """Go on with what was running."""
        for job in self.entities.all():
            if job_status(job) not in ENDED:
                self._spawn(job["name"])

    def start(self, job: Entity) -> None:
        """Store a new job and run it."""
        self.entities.put({**job, "transitions": [_transition("Starting")]})
        self._spawn(job["name"])

    def stop(self, job: Entity) -> None:
        """Ask a job to stop; its thread sees it."""
        self._enter(job["name"], "Stopping")

    def _spawn(self, name: str) -> None:
        threading.Thread(target=self._run, args=(name,), name=name, daemon=True).start()

    def _run(self, name: str) -> None:
        job = self.entities.get(name)
        assert job is not None
        reached = [transition["Status"] for transition in job["transitions"]]
        if "Stopping" in reached:
            self._enter(name, "Stopped")
            return
        try:
            for phase, share in PHASES:
                self._enter(name, phase)
                if not self._pass_time(job, share * self._settings.delays.job):
                    return
                if phase == "Training":
                    self._fail_by_chance(name)
                    archive = self._container.run(job["request"])
                if phase == "Uploading":
                    self._container.upload(job["request"], archive)
            self._enter(name, "Completed")
        except ContainerError as error:
            self._enter(name, "Failed", str(error))
        except Exception as error:  # a job must end, whatever happens in it
            self._enter(name, "Failed", f"InternalServerError: {error!r}")

    def _fail_by_chance(self, name: str) -> None:
        faults = self._settings.faults
        if chance("job", name, faults.seed) < faults.job_failure:
            raise ContainerError("InternalServerError: We encountered an internal error.")

    def _pass_time(self, job: Entity, seconds: float) -> bool:
        """Let time go by; False if the job was stopped or has run too long."""
        limit = job["request"]["StoppingCondition"].get("MaxRuntimeInSeconds", 86400)
        end = time.time() + seconds
        while True:
            now = self.entities.get(job["name"])
            if now is None:
                return False
            if job_status(now) == "Stopping":
                self._enter(job["name"], "Stopped")
                return False
            if time.time() > job["created"] + limit:
                self._enter(job["name"], "MaxRuntimeExceeded", "Training job runtime exceeded.")
                return False
            if time.time() >= end:
                return True
            time.sleep(min(0.05, max(0.0, end - time.time())))

    def _enter(self, name: str, status: str, message: str = "") -> None:
        with self.entities.lock:
            job = self.entities.get(name)
            if job is None or job_status(job) in ENDED:
                return
            if job_status(job) == "Stopping" and status not in ENDED:
                return
            transitions = list(job["transitions"])
            if status in [transition["Status"] for transition in transitions]:
                return  # taken up again after a restart
            transitions[-1] = {**transitions[-1], "EndTime": time.time()}
            transitions.append(_transition(status, message))
            self.entities.put({**job, "transitions": transitions})

    def describe(self, job: Entity) -> dict[str, Any]:
        """Return what DescribeTrainingJob answers."""
        request, transitions = job["request"], job["transitions"]
        status, last = job_status(job), transitions[-1]
        answer: dict[str, Any] = {
            **{key: value for key, value in request.items() if key != "Tags"},
            "TrainingJobArn": job["arn"],
            "TrainingJobStatus": status,
            "SecondaryStatus": last["Status"],
            "SecondaryStatusTransitions": transitions,
            "CreationTime": job["created"],
            "LastModifiedTime": last["StartTime"],
            "ModelArtifacts": {"S3ModelArtifacts": f"{output_prefix(request)}/model.tar.gz"},
        }
        started = [t["StartTime"] for t in transitions if t["Status"] == "Downloading"]
        if started:
            answer["TrainingStartTime"] = started[0]
        if status in ENDED:
            answer["TrainingEndTime"] = last["StartTime"]
            lasted = int(last["StartTime"] - (started[0] if started else last["StartTime"])) + 1
            answer["TrainingTimeInSeconds"] = answer["BillableTimeInSeconds"] = lasted
        if status == "Failed":
            answer["FailureReason"] = last["StatusMessage"]
        return answer


def output_prefix(request: dict[str, Any]) -> str:
    """Return the S3 URI below which a job's archives go."""
    root = request["OutputDataConfig"]["S3OutputPath"].rstrip("/")
    return f"{root}/{request['TrainingJobName']}/output"


def _transition(status: str, message: str = "") -> dict[str, Any]:
    return {"Status": status, "StartTime": time.time(), "StatusMessage": message}
