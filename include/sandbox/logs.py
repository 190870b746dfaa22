"""Lines of a container in, events in CloudWatch Logs out."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from include.sandbox.s3_store import ACCOUNT

JOBS = "/aws/sagemaker/TrainingJobs"
ENDPOINTS = "/aws/sagemaker/Endpoints"

_lock = threading.Lock()


def write(region: str, group: str, stream: str, lines: Sequence[str]) -> None:
    """Append lines to a log stream, which is made if need be."""
    from moto.logs.models import logs_backends

    backend: Any = logs_backends[ACCOUNT][region]
    now = int(time.time() * 1000)
    with _lock:
        if group not in backend.groups:
            backend.create_log_group(group, {})
        backend.ensure_log_stream(group, stream)
        events = [{"timestamp": now, "message": line} for line in lines]
        backend.put_log_events(group, stream, events)
