"""Every request in: identified, written down, and gone wrong where somebody asked for it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, defaultdict, deque
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from include.sandbox.faults import Orders
from include.sandbox.wire import Call, error_response, identify

KEPT_EACH = 200
"""Requests that are kept of each operation."""
LONGEST_BODY = 32 * 1024
"""Longer ones are kept without their body."""


class Requests:
    """The last requests of each operation, and how many there were."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._kept: dict[str, deque[dict[str, Any]]] = defaultdict(lambda: deque(maxlen=KEPT_EACH))

    def add(self, call: Call, size: int) -> dict[str, Any]:
        """Write a request down; return the row, whose status is still to come."""
        row = {
            "time": time.time(),
            "service": call.service,
            "operation": call.operation,
            "region": call.region,
            "path": call.path,
            "body": call.body if size <= LONGEST_BODY else None,
            "status": None,
        }
        with self._lock:
            self._kept[call.operation].append(row)
            self._counts[f"{call.service}:{call.operation}"] += 1
        return row

    def counts(self) -> dict[str, int]:
        """Return how many requests of each operation there were since they were forgotten."""
        with self._lock:
            return dict(self._counts)

    def all(self, operation: str | None) -> list[dict[str, Any]]:
        """Return what was kept, oldest first; of one operation or of all."""
        with self._lock:
            chosen = [operation] if operation else list(self._kept)
            rows = [row for name in chosen for row in self._kept.get(name, ())]
        return sorted(rows, key=lambda row: float(row["time"]))

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._kept.clear()
            self._counts.clear()


class Watched:
    """An ASGI application whose requests are watched; /sandbox/ itself is not."""

    def __init__(self, app: ASGIApp, orders: Orders, requests: Requests) -> None:
        self._app, self._orders, self._requests = app, orders, requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"].startswith("/sandbox/"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        body = None
        if "/s3/aws4_request" not in headers.get("authorization", ""):
            body = await read(receive)
            receive = again(body, receive)
        query = scope["query_string"].decode("latin-1")
        call = identify(scope["method"], scope["path"], query, headers, body)
        scope["call"] = call
        if call.own:
            await self._app(scope, receive, send)
            return
        row = self._requests.add(call, len(body or b""))
        await self._answer(scope, receive, _noting(row, send))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        call: Call = scope["call"]
        fault = self._orders.take(call)
        if fault and fault.latency_ms:
            await asyncio.sleep(fault.latency_ms / 1000)
        error = fault.error() if fault else None
        is_lost = fault and (error or fault.cut)
        if fault and (fault.carried_out or not is_lost):
            scope["failure_reason"] = fault.failure_reason
        if not is_lost:
            await self._app(scope, receive, send)
            return
        if fault and fault.carried_out:
            await self._app(scope, receive, _nowhere)
        else:
            await read(receive)  # what is left of a body would be taken for the next request
        if error:
            await error_response(call, error)(scope, receive, send)
        else:
            await _cut(send)


async def read(receive: Receive) -> bytes:
    """Return the body of a request."""
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def again(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body that was read already."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _noting(row: dict[str, Any], send: Send) -> Send:
    async def noting(message: Message) -> None:
        if message["type"] == "http.response.start":
            row["status"] = message["status"]
        await send(message)

    return noting


async def _cut(send: Send) -> None:
    """Promise an answer and send its first byte; the server closes what ends too early."""
    headers = [(b"content-length", b"1000"), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{", "more_body": True})


async def _nowhere(message: Message) -> None:
    """Lose an answer."""
