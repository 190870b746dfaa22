"""What goes wrong on purpose: by chance, as SANDBOX_FAULTS and SANDBOX_RATE say, or on demand."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from fnmatch import fnmatch
from typing import Any

from include.sandbox.dice import Counted
from include.sandbox.errors import AwsError, validation
from include.sandbox.rates import Limit, Rates
from include.sandbox.settings import Faults
from include.sandbox.wire import Call

LONGEST_TIMEOUT = 120


TOO_MANY = "Too many {}, please wait before trying again."
"""Of requests or of tokens: as Bedrock says it."""


@dataclass
class Spent:
    """What a request has used; its handler writes it down."""

    tokens: float = 0.0


class Chance:
    """Makes requests to models slow, throttled, failing or never answered."""

    def __init__(self, faults: Faults, rates: Rates) -> None:
        self._faults, self._rates = faults, rates
        self._dice = Counted()

    @asynccontextmanager
    async def request(self, model: str, tokens: float = 0.0) -> AsyncIterator[Spent]:
        """Let one request to a model through, or let it go wrong.

        A bucket that is empty says so at once; all else takes the time that answers take.

        Args:
            model: Id of a model, or name of an endpoint.
            tokens: What the request reserves; what it did not spend goes back when it is over.

        Raises:
            AwsError: The request is throttled or fails.
        """
        limit = self._rates.start(model, tokens)
        if limit:
            raise self._throttled(limit)
        spent = Spent()
        try:
            await self._strike(model)
            yield spent
        finally:
            self._rates.end(model, tokens, spent.tokens)

    async def _strike(self, model: str) -> None:
        faults = self._faults
        if faults.latency_ms:
            await asyncio.sleep(faults.latency_ms / 1000)
        roll = self._dice.chance("request", model, faults.seed)
        if roll < faults.throttle:
            raise self._throttled("requests")
        if roll < faults.throttle + faults.error:
            raise AwsError("ServiceUnavailableException", "Service unavailable", 503)
        if roll < faults.throttle + faults.error + faults.timeout:
            await asyncio.sleep(LONGEST_TIMEOUT)

    def _throttled(self, limit: Limit) -> AwsError:
        after = self._faults.retry_after
        return AwsError("ThrottlingException", TOO_MANY.format(limit), 429, after)


@dataclass
class Fault:
    """One order of POST /sandbox/faults."""

    operation: str
    """AWS's name of the operation, `*` for every one."""
    service: str | None = None
    """As in the request's signature; None for any."""
    resource: str | None = None
    """A name in the request, or a pattern with `*`: a job, a model, `bucket/key`; None for any."""
    times: int | None = 1
    """How many requests it strikes; None for all until it is cleared."""
    skip: int = 0
    """How many requests it lets pass before."""
    code: str | None = None
    """AWS's error code; None lets the request through."""
    status: int = 400
    message: str = "This error was asked for."
    retry_after: int = 0
    """Seconds that the error's Retry-After names; 0: no such header."""
    latency_ms: float = 0
    cut: bool = False
    """Whether the connection is cut in the middle of the answer."""
    carried_out: bool = False
    """Whether the operation is carried out before its answer is lost to the error or the cut."""
    failure_reason: str | None = None
    """Why the job or endpoint that the request creates will fail."""
    id: int = 0
    used: int = 0

    def error(self) -> AwsError | None:
        """Return what the client gets to see, if it is an error."""
        if self.code is None:
            return None
        return AwsError(self.code, self.message, self.status, self.retry_after)

    def strikes(self, call: Call) -> bool:
        """Whether the fault is meant for this call."""
        return (
            self.operation in ("*", call.operation)
            and self.service in (None, call.service)
            and (self.resource is None or any(fnmatch(n, self.resource) for n in call.names()))
        )


class Orders:
    """Faults on demand, oldest first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._orders: list[Fault] = []
        self._count = 0

    def add(self, order: dict[str, Any]) -> dict[str, Any]:
        """Take an order; return it as it is kept.

        Raises:
            AwsError: A key that no order has, or no operation.
        """
        known = {field.name for field in fields(Fault)} - {"id", "used"}
        for key in order:
            if key not in known:
                close = get_close_matches(key, known, n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                raise validation(f"{key!r} is not a key of a fault{hint}")
        if not isinstance(order.get("operation"), str):
            raise validation("operation: a fault needs the name of an AWS operation, or *")
        with self._lock:
            self._count += 1
            fault = Fault(**order, id=self._count)
            self._orders.append(fault)
            return asdict(fault)

    def all(self) -> list[dict[str, Any]]:
        """Return the orders that still stand, and how often each has struck."""
        with self._lock:
            return [asdict(fault) for fault in self._orders]

    def clear(self) -> None:
        """Drop all orders."""
        with self._lock:
            self._orders.clear()

    def take(self, call: Call) -> Fault | None:
        """Return the fault that strikes this call, and count it."""
        with self._lock:
            for fault in self._orders:
                if not fault.strikes(call):
                    continue
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.used += 1
                if fault.times is not None and fault.used >= fault.times:
                    self._orders.remove(fault)
                return fault
        return None
