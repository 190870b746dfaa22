"""Bedrock's batch jobs: their life from Submitted to Completed, which goes on after a restart."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from include.sandbox.batch_records import (
    Answer,
    BatchFiles,
    Counts,
    Output,
    Record,
    answered,
    parse,
    slices,
)
from include.sandbox.dice import chance
from include.sandbox.entities import Entities, Entity, now
from include.sandbox.errors import ContainerError
from include.sandbox.jobs import JobEnded, Jobs
from include.sandbox.quotas import Quotas
from include.sandbox.settings import Settings

SHARES = {"Submitted": 0.2, "Validating": 0.2, "Scheduled": 0.1, "InProgress": 0.5}
"""Share of SANDBOX_DELAYS' `job` that each status takes."""

ENDED = ("Completed", "PartiallyCompleted", "Failed", "Stopped", "Expired")
OUT_OF_TIME = ("Expired", "PartiallyCompleted")
"""A failure that is asked for and begins with one of these makes the job end so."""

INTERNAL = "Internal server error. Please try again."
DEFAULT_HOURS = 24
ASKED_AT_ONCE = 8


class BatchJobs(Jobs):
    """Runs batch jobs."""

    ended, internal = ENDED, INTERNAL

    def __init__(
        self, settings: Settings, quotas: Quotas, answers: Mapping[str, Answer], endpoint_url: str
    ) -> None:
        self._faults, self._delay = settings.faults, settings.delays.job
        self._quotas, self._answers = quotas, answers
        self._files = BatchFiles(endpoint_url)
        super().__init__(Entities(settings.state / "bedrock" / "model_invocation_jobs"))

    def start(self, job: Entity) -> None:
        """Store a new job and run it.

        Args:
            job: Name (its id), ARN, request and time of creation; `failure`, the reason why it is
                to fail, if any; `denied`, what its role may not do.
        """
        born = {"status": "Submitted", "modified": now(), "began": {"Submitted": now()}}
        self.entities.put({**job, **born, "counts": Counts().told()})
        self.spawn(job["name"])

    def live(self, job: Entity) -> None:
        """Take a job from Submitted to its end."""
        self._pass("Submitted", job)
        self._pass("Validating", job)
        records = self._validated(job)
        self._pass("Scheduled", job)
        if (job["failure"] or "").startswith("Expired"):
            raise JobEnded("Expired")
        self.enter(job["name"], "InProgress")
        self._work(job, records)

    def _validated(self, job: Entity) -> list[Record]:
        """Read a job's records and count them.

        Raises:
            ContainerError: A file, a line or their number that Bedrock does not take.
        """
        request = job["request"]
        source = request["inputDataConfig"]["s3InputDataConfig"]
        records = parse(self._files.read(source["s3Uri"]))
        least = self._quotas.batch_minimum(request["modelId"])
        if len(records) < least:
            raise ContainerError(
                f"Batch job {job['arn']} contains less records ({len(records)}) than the "
                f"required minimum of: {least}"
            )
        return records

    def _work(self, job: Entity, records: list[Record]) -> None:
        """Answer all records, piece by piece, and store what was answered before the job ends."""
        output, status = Output(Counts(total=len(records))), "Completed"
        partly = (job["failure"] or "").startswith("PartiallyCompleted")
        self._count(job, output)
        try:
            with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
                for piece in slices(records):
                    for record, line in pool.map(lambda each: self._answered(job, each), piece):
                        output.add(record, line)
                    self._count(job, output)
                    done = (output.counts.success + output.counts.error) / len(records)
                    self._pass("InProgress", job, done)
                    if partly and done >= 0.5:
                        raise JobEnded("PartiallyCompleted")
        except JobEnded as ended:
            if ended.status is None:
                raise
            status = ended.status
        self._fail_if_meant_to(job)
        folder = job["request"]["outputDataConfig"]["s3OutputDataConfig"]["s3Uri"].rstrip("/")
        self._files.write(f"{folder}/{job['name']}", output)
        self.enter(job["name"], status)

    def _answered(self, job: Entity, record: Record) -> tuple[Record, dict[str, Any]]:
        model = job["request"]["modelId"].rsplit("/", 1)[-1]
        answer = self._answers[job["request"].get("modelInvocationType", "InvokeModel")]
        roll = chance("record", job["request"]["jobName"], record.id, self._faults.seed)
        return record, answered(record, model, answer, roll < self._faults.error)

    def _fail_if_meant_to(self, job: Entity) -> None:
        reason = job["failure"]
        if reason and not reason.startswith(OUT_OF_TIME):
            raise ContainerError(reason)
        if chance("job", job["request"]["jobName"], self._faults.seed) < self._faults.job_failure:
            raise ContainerError(INTERNAL)
        if job["denied"]:
            raise ContainerError(job["denied"])

    def _count(self, job: Entity, output: Output) -> None:
        with self.entities.lock:
            current = self.entities.get(job["name"])
            if current:
                self.entities.put({**current, "counts": output.counts.told()})

    def _pass(self, phase: str, job: Entity, part: float = 1.0) -> None:
        """Enter a phase and let a part of its time go by; after a restart, what is left of it."""
        self.enter(job["name"], phase)
        current = self.go_on(job["name"])
        until = current["began"][phase] + part * SHARES[phase] * self._delay
        self.wait(job["name"], until)

    def go_on(self, name: str) -> Entity:
        """Return the job as it is now.

        Raises:
            JobEnded: It was stopped, has no time left or is gone.
        """
        job = self.entities.get(name)
        if job is None:
            raise JobEnded(None)
        if job["status"] == "Stopping":
            raise JobEnded("Stopped")
        if time.time() > expiration(job):
            raise JobEnded("PartiallyCompleted" if job["status"] == "InProgress" else "Expired")
        return job

    def status(self, job: Entity) -> str:
        """Return the job's status."""
        return str(job["status"])

    def passed(self, job: Entity) -> Collection[str]:
        """Return all statuses that it has had."""
        began: dict[str, float] = job["began"]
        return began

    def moved(self, job: Entity, status: str, reason: str | None) -> Entity:
        """Return the job in another status."""
        began = {**job["began"], status: now()}
        entered = {**job, "status": status, "began": began, "modified": now()}
        return {**entered, "message": reason} if reason else entered


def expiration(job: Entity) -> float:
    """Return when a job's time is up."""
    hours = job["request"].get("timeoutDurationInHours", DEFAULT_HOURS)
    return float(job["created"] + hours * 3600)
