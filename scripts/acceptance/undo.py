"""What a run has made on AWS in; it is deleted, whatever happens, and what stays is named."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from include import cloudwatch, ownership, storage
from include.storage import RunFolder
from scripts.acceptance.journal import Client

LONGEST_CREATION = 7200
"""Seconds after which an endpoint that is still being created is given up on."""
LONGEST_DELETION = 1800

ENDED = ("Completed", "Failed", "Stopped")
"""Statuses of a training job that costs nothing any more."""


class Undo:
    """Deletes one run's resources, one by one; what fails does not keep the others.

    Args:
        client: Makes boto3 clients.
        poll: Seconds between two looks.
    """

    def __init__(self, client: Client, poll: float) -> None:
        self.client, self.poll = client, poll
        self.left: list[str] = []
        """What could not be deleted, and why."""

    def attempt(self, what: str, undo: Callable[..., None], *arguments: Any) -> None:
        """Undo one thing, up to three times; if that fails, go on with the others."""
        for last in (False, False, True):
            try:
                return undo(*arguments)
            except Exception as error:  # whatever it is, more has to be deleted
                if last:
                    self.left.append(f"{what}: {error}")
            time.sleep(self.poll)

    def endpoint(self, deployment: Mapping[str, Any]) -> None:
        """Delete an endpoint, its config and its model; AWS refuses while it is being created."""
        sagemaker, requests = self.client("sagemaker"), deployment["requests"] or {}
        name, model = str(deployment["endpoint_name"]), requests["Model"]["ModelName"]

        def status() -> dict[str, Any]:
            try:
                found: dict[str, Any] = sagemaker.describe_endpoint(EndpointName=name)
            except sagemaker.exceptions.ClientError as error:
                if not _is_gone(error):
                    raise
                return {"EndpointStatus": "gone"}
            return found

        found = wait(
            self.poll, status, lambda each: each["EndpointStatus"] != "Creating", LONGEST_CREATION
        )
        if found["EndpointStatus"] != "gone":
            if found["EndpointStatus"] != "Deleting":
                sagemaker.delete_endpoint(EndpointName=name)
            refused(sagemaker.delete_endpoint, EndpointName=name)
            wait(self.poll, status, lambda each: each["EndpointStatus"] == "gone", LONGEST_DELETION)
        for config in requests["EndpointConfigs"]:
            self._delete(
                f"endpoint config {name}",
                sagemaker.delete_endpoint_config,
                EndpointConfigName=config["EndpointConfigName"],
            )
        self._delete(f"model {model}", sagemaker.delete_model, ModelName=model)
        group = f"{cloudwatch.ENDPOINTS}{name}"
        self._delete(f"log {group}", self.client("logs").delete_log_group, logGroupName=group)

    def job(self, name: str) -> None:
        """Stop the job if it runs; delete its log, and what AWS remembers of it if it lets us."""
        sagemaker, logs = self.client("sagemaker"), self.client("logs")
        try:
            found = sagemaker.describe_training_job(TrainingJobName=name)
        except sagemaker.exceptions.ClientError as error:
            if _is_gone(error):
                return  # it was never started
            raise
        if found["TrainingJobStatus"] not in ENDED:
            sagemaker.stop_training_job(TrainingJobName=name)
            wait(
                self.poll,
                lambda: sagemaker.describe_training_job(TrainingJobName=name),
                lambda each: each["TrainingJobStatus"] in ENDED,
                LONGEST_DELETION,
            )
        if hasattr(sagemaker, "delete_training_job"):
            refused(sagemaker.delete_training_job, TrainingJobName=name)
        for stream in self._streams(logs, name):
            self._delete(
                f"log {stream['logStreamName']}",
                logs.delete_log_stream,
                logGroupName=cloudwatch.TRAINING_JOBS,
                logStreamName=stream["logStreamName"],
            )

    def _streams(self, logs: Any, prefix: str) -> list[dict[str, Any]]:
        try:
            streams: list[dict[str, Any]] = logs.describe_log_streams(
                logGroupName=cloudwatch.TRAINING_JOBS, logStreamNamePrefix=prefix
            )["logStreams"]
        except logs.exceptions.ResourceNotFoundException:
            return []
        return streams

    def objects(self, uri: str) -> None:
        """Delete everything below an S3 URI."""
        s3 = self.client("s3")
        folder = RunFolder(s3, uri)
        bucket, prefix = storage.split_uri(uri)
        keys = [f"{prefix}/{name}" for name in folder.names("")]
        for start in range(0, len(keys), 1000):
            some = [{"Key": key} for key in keys[start : start + 1000]]
            answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": some})
            self.left += [f"{each['Key']}: {each['Message']}" for each in answer.get("Errors", [])]

    def object(self, uri: str) -> None:
        """Delete one object, if it is there."""
        bucket, key = storage.split_uri(uri)
        self.client("s3").delete_object(Bucket=bucket, Key=key)

    def look_for_what_is_left(self, dag_id: str, run_id: str) -> None:
        """List what carries this run's tags: there should be nothing."""
        for resource in ownership.owned(self.client("sagemaker"), self.client("bedrock")):
            if resource.run == (dag_id, run_id) and resource.status != "Deleting":
                self.left.append(f"{resource.kind} {resource.name} is still there")

    def _delete(self, what: str, call: Callable[..., Any], **request: Any) -> None:
        """Delete or stop; remember what does not go, unless there is nothing."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            call(**request)
        except (BotoCoreError, ClientError) as error:
            if not _is_gone(error):
                self.left.append(f"{what}: {error}")


def wait(
    poll: float,
    look: Callable[[], dict[str, Any]],
    done: Callable[[dict[str, Any]], bool],
    seconds: float,
) -> dict[str, Any]:
    """Look until it is done or the time is up; return what was seen last."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if done(found) or time.monotonic() >= end:
            return found
        time.sleep(poll)


def refused(call: Callable[..., Any], **request: Any) -> None:
    """Call what AWS refuses; its words are in the journal."""
    from botocore.exceptions import ClientError

    try:
        call(**request)
    except ClientError:
        return


def _is_gone(error: Exception) -> bool:
    return any(words in str(error) for words in ("Could not find", "not found", "does not exist"))


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let no Ctrl-C interrupt what follows: it deletes what costs money."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def patience(*_: Any) -> None:
        print("Deleting what costs money; please wait", file=sys.stderr, flush=True)

    before = {number: signal.signal(number, patience) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
