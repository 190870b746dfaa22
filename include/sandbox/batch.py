"""Bedrock's batch jobs: their life from Submitted to Completed, which goes on after a restart."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
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
from include.sandbox.quotas import Quotas
from include.sandbox.settings import Settings

SHARES = {"Submitted": 0.2, "Validating": 0.2, "Scheduled": 0.1, "InProgress": 0.5}
"""Share of SANDBOX_DELAYS' `job` that each status takes."""

ENDED = ("Completed", "PartiallyCompleted", "Failed", "Stopped", "Expired")
OUT_OF_TIME = ("Expired", "PartiallyCompleted")
"""A failure that is asked for and begins with one of these makes the job end so."""

INTERNAL = "Internal server error. Please try again."
DEFAULT_HOURS = 24
LOOK_EVERY = 0.05
ASKED_AT_ONCE = 8


class JobEnded(Exception):
    """The job is to end, or is gone; its thread has nothing more to do."""

    def __init__(self, status: str | None) -> None:
        super().__init__(status)
        self.status = status
        """What it ends as; None if it is gone."""


class BatchJobs:
    """Runs batch jobs, and takes up again those that a killed sandbox left running."""

    def __init__(
        self, settings: Settings, quotas: Quotas, answers: Mapping[str, Answer], endpoint_url: str
    ) -> None:
        self._faults, self._delay = settings.faults, settings.delays.job
        self._quotas, self._answers = quotas, answers
        self._files = BatchFiles(endpoint_url)
        self.entities = Entities(settings.state / "bedrock" / "model_invocation_jobs")

    def resume(self) -> None:
        """Go on with what was running."""
        for job in self.entities.all():
            if job["status"] not in ENDED:
                self._spawn(job["name"])

    def start(self, job: Entity) -> None:
        """Store a new job and run it.

        Args:
            job: Name (its id), ARN, request and time of creation; `failure`, the reason why it is
                to fail, if any; `denied`, what its role may not do.
        """
        born = {"status": "Submitted", "modified": now(), "began": {"Submitted": now()}}
        self.entities.put({**job, **born, "counts": Counts().told()})
        self._spawn(job["name"])

    def stop(self, job: Entity) -> None:
        """Ask a job to stop; its thread sees it."""
        self._enter(job["name"], "Stopping")

    def _spawn(self, name: str) -> None:
        threading.Thread(target=self._run, args=(name,), name=name, daemon=True).start()

    def _run(self, name: str) -> None:
        try:
            self._live(name)
        except JobEnded as ended:
            if ended.status:
                self._enter(name, ended.status)
        except ContainerError as error:
            self._enter(name, "Failed", str(error))
        except Exception as error:  # a job must end, whatever happens in it
            self._enter(name, "Failed", f"{INTERNAL} {error!r}")

    def _live(self, name: str) -> None:
        job = self.entities.get(name)
        assert job is not None
        self._pass("Submitted", job)
        self._pass("Validating", job)
        records = self._validated(job)
        self._pass("Scheduled", job)
        if (job["failure"] or "").startswith("Expired"):
            raise JobEnded("Expired")
        self._enter(name, "InProgress")
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
        self._enter(job["name"], status)

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
        self._enter(job["name"], phase)
        current = self._go_on(job["name"])
        until = current["began"][phase] + part * SHARES[phase] * self._delay
        while time.time() < until:
            time.sleep(min(LOOK_EVERY, max(0.0, until - time.time())))
            self._go_on(job["name"])

    def _go_on(self, name: str) -> Entity:
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

    def _enter(self, name: str, status: str, message: str | None = None) -> None:
        with self.entities.lock:
            job = self.entities.get(name)
            if job is None or job["status"] in ENDED:
                return
            if job["status"] == "Stopping" and status not in ENDED:
                return
            if status in job["began"]:
                return  # taken up again after a restart
            began = {**job["began"], status: now()}
            entered = {**job, "status": status, "began": began, "modified": now()}
            self.entities.put({**entered, "message": message} if message else entered)


def expiration(job: Entity) -> float:
    """Return when a job's time is up."""
    hours = job["request"].get("timeoutDurationInHours", DEFAULT_HOURS)
    return float(job["created"] + hours * 3600)
