"""boto3 clients in, what they sent and what AWS answered out."""

from __future__ import annotations

import io
import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Any

Client = Callable[..., Any]

LONGEST_LIST = 20
KEPT_ALIKE = 3
"""How many calls that differ in nothing but values and times are kept."""

STATUSES = ("TrainingJobStatus", "SecondaryStatus", "EndpointStatus")

BLANKED = ("iam", "sts")
"""Services of which only shapes are kept: an account's names and policies are nobody's business."""

OPEN_BODIES = ("sagemaker-runtime",)
"""Services whose bodies are JSON that we want to see."""


@dataclass(frozen=True)
class Call:
    """One request and its answer."""

    service: str
    operation: str
    request: Any
    status: int
    """HTTP status."""
    response: Any = None
    error: dict[str, str] | None = None
    """AWS's `Code` and `Message`; None if the request succeeded."""


@dataclass
class Journal:
    """Writes down what the clients that it watches say and hear."""

    calls: list[Call] = field(default_factory=list)
    _lock: Any = field(default_factory=threading.Lock)

    def watching(self, client: Client) -> Client:
        """Return a maker of clients whose calls are written down; it makes each only once."""
        known: dict[str, Any] = {}

        def watched(service: str, **config: Any) -> Any:
            key = f"{service} {config}"
            if key not in known:
                made = known[key] = client(service, **config)
                made.meta.events.register("before-parameter-build", self._sent)
                made.meta.events.register("after-call", self._heard)
            return known[key]

        return watched

    def _sent(self, params: dict[str, Any], model: Any, context: dict[str, Any], **_: Any) -> None:
        context["journal"] = _plain(params, model.service_model.service_name)

    def _heard(self, parsed: dict[str, Any], model: Any, context: Any, **_: Any) -> None:
        service = model.service_model.service_name
        if service in OPEN_BODIES and hasattr(parsed.get("Body"), "read"):
            from botocore.response import StreamingBody

            body = parsed["Body"].read()
            parsed["Body"] = StreamingBody(io.BytesIO(body), len(body))
            answer = {**parsed, "Body": body}
        else:
            answer = dict(parsed)
        status = answer.pop("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        error = answer.pop("Error", None) if status >= 300 else None
        call = Call(
            service,
            model.name,
            context.get("journal"),
            status,
            None if error else _plain(answer, service),
            {key: str(error.get(key, "")) for key in ("Code", "Message")} if error else None,
        )
        with self._lock:
            self.calls.append(call)

    def kept(self) -> list[Call]:
        """Return the calls, without those that only repeat what others have shown."""
        seen: Counter[str] = Counter()
        kept = []
        for call in self.calls:
            answer = call.response if isinstance(call.response, dict) else {}
            status = [answer.get(key) for key in STATUSES]
            told = [call.service, call.operation, status, sorted(answer), call.error]
            key = json.dumps(told)
            seen[key] += 1
            if seen[key] <= KEPT_ALIKE:
                kept.append(call)
        return kept


def _plain(value: Any, service: str) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each, service) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each, service) for each in value[:LONGEST_LIST]]
    if isinstance(value, bytes | bytearray):
        return _body(bytes(value), service)
    if isinstance(value, date):
        return value.isoformat()
    if service in BLANKED and isinstance(value, str):
        return "(not shown)"
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return f"({type(value).__name__})"


def _body(body: bytes, service: str) -> Any:
    if service in OPEN_BODIES:
        try:
            return json.loads(body)
        except ValueError:
            pass
    return f"({len(body)} bytes)"
