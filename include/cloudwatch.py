"""A log group in, its last lines out: what a container said before it failed."""

from __future__ import annotations

from typing import Any

TRAINING_JOBS = "/aws/sagemaker/TrainingJobs"
ENDPOINTS = "/aws/sagemaker/Endpoints/"


def tail(logs: Any, group: str, stream_prefix: str = "", lines: int = 10) -> list[str]:
    """Return the last lines of the newest stream (CloudWatch Logs: GetLogEvents).

    A log that is absent, empty or forbidden gives no lines: it must not hide the error that it
    would explain.

    Args:
        logs: boto3's client.
        group: Name of the log group.
        stream_prefix: How the stream's name begins: the training job's name.
        lines: How many at the most.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        prefix = {"logStreamNamePrefix": stream_prefix} if stream_prefix else {}
        found = logs.describe_log_streams(logGroupName=group, **prefix)["logStreams"]
        if not found:
            return []
        newest = max(found, key=lambda stream: stream.get("lastEventTimestamp", 0))
        events = logs.get_log_events(
            logGroupName=group, logStreamName=newest["logStreamName"], limit=lines
        )["events"]
    except (BotoCoreError, ClientError):
        return []
    return [str(event["message"]).rstrip() for event in events][-lines:]
