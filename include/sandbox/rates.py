"""Token buckets as Bedrock keeps them for each model, and what was granted and throttled.

A request takes one of the model's requests and reserves its input tokens and maxTokens; when it is
over, what it did not use goes back. All of it happens in the server's one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from include.sandbox.conversation import rough_tokens
from include.sandbox.settings import Rate

Body = dict[str, Any]
Limit = Literal["requests", "tokens"]

DEFAULT_MAX_TOKENS = 4096
"""What is reserved where a request does not say how long its answer may be."""


@dataclass
class Bucket:
    """A level that rises with time, up to a size. It may be below zero."""

    size: float
    per_second: float
    level: float
    then: float
    offered: float
    """What could have been taken since the counting began."""

    def rise(self, now: float) -> None:
        """Let the time since the last look go by."""
        came = (now - self.then) * self.per_second
        self.level = min(self.size, self.level + came)
        self.offered += came
        self.then = now


@dataclass
class Counts:
    """What became of a model's requests since the counting began."""

    began: float
    last: float
    """When one began or was over the last time."""
    granted: int = 0
    throttled: dict[Limit, int] = field(default_factory=lambda: {"requests": 0, "tokens": 0})
    reserved: float = 0.0
    """Tokens that were reserved when requests began."""
    used: float = 0.0
    """Tokens that they had used when they were over."""


class Rates:
    """The buckets of all models."""

    def __init__(self, rate: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = rate, clock
        self._per_second: dict[Limit, float] = {}
        self._sizes: dict[Limit, float] = {}
        if rate.requests_per_second:
            self._per_second["requests"] = rate.requests_per_second
            self._sizes["requests"] = max(rate.burst, 1.0)
        if rate.tokens_per_minute:
            self._per_second["tokens"] = rate.tokens_per_minute / 60
            self._sizes["tokens"] = rate.tokens_per_minute
        self._buckets: dict[str, dict[Limit, Bucket]] = {}
        self._counts: dict[str, Counts] = {}

    def reservation(self, body: Body) -> float:
        """Return the tokens that a Bedrock request reserves; 0 where tokens have no limit."""
        if "tokens" not in self._sizes:
            return 0.0
        inference = body.get("inferenceConfig")
        limit = inference.get("maxTokens") if isinstance(inference, dict) else None
        limit = limit or body.get("max_tokens") or DEFAULT_MAX_TOKENS
        said = _text(body.get("system")) + _text(body.get("messages"))
        return rough_tokens(said) + (limit if isinstance(limit, int) else DEFAULT_MAX_TOKENS)

    def usage(self, answer: Body) -> float:
        """Return the tokens that an answer of Bedrock counts."""
        usage = answer["usage"]
        asked = usage.get("inputTokens", usage.get("input_tokens", 0))
        said = usage.get("outputTokens", usage.get("output_tokens", 0))
        return float(asked + self._rate.output_token_weight * said)

    def start(self, model: str, tokens: float = 0.0) -> Limit | None:
        """Let a request begin, or name the limit that throttles it, which then takes nothing."""
        now = self._clock()
        counts = self._counted(model, now)
        wanted: dict[Limit, float] = {"requests": 1.0, "tokens": tokens}
        buckets = self._buckets_of(model, now)
        for limit, bucket in buckets.items():
            if bucket.level < wanted[limit]:
                counts.throttled[limit] += 1
                return limit
        for limit, bucket in buckets.items():
            bucket.level -= wanted[limit]
        counts.granted += 1
        counts.reserved += tokens
        return None

    def end(self, model: str, reserved: float, used: float) -> None:
        """Settle a request that `start` let begin."""
        now = self._clock()
        self._counted(model, now).used += used
        bucket = self._buckets_of(model, now).get("tokens")
        if bucket:
            bucket.level = min(bucket.size, bucket.level + reserved - used)

    def report(self) -> dict[str, Any]:
        """Return each model's counts, and what its buckets offered until its last request."""
        return {model: self._report(model, counts) for model, counts in self._counts.items()}

    def reset(self) -> None:
        """Begin to count anew; the buckets stay as full as they are."""
        now = self._clock()
        self._counts = {model: Counts(now, now) for model in self._counts}
        for buckets in self._buckets.values():
            for bucket in buckets.values():
                bucket.rise(now)
                bucket.offered = bucket.level

    def _report(self, model: str, counts: Counts) -> dict[str, Any]:
        buckets = self._buckets.get(model, {})
        return {
            "seconds": round(counts.last - counts.began, 3),
            "granted": counts.granted,
            "throttled": counts.throttled,
            "tokens": {"reserved": counts.reserved, "used": counts.used},
            "offered": {limit: round(bucket.offered, 1) for limit, bucket in buckets.items()},
            "left": {limit: round(bucket.level, 1) for limit, bucket in buckets.items()},
        }

    def _counted(self, model: str, now: float) -> Counts:
        counts = self._counts.setdefault(model, Counts(now, now))
        counts.last = now
        return counts

    def _buckets_of(self, model: str, now: float) -> dict[Limit, Bucket]:
        buckets = self._buckets.get(model)
        if buckets is None:
            buckets = self._buckets[model] = {
                limit: Bucket(size, self._per_second[limit], size, now, size)
                for limit, size in self._sizes.items()
            }
        for bucket in buckets.values():
            bucket.rise(now)
        return buckets


def _text(content: Any) -> str:
    """Return all text in a system prompt or in messages, whatever their shape."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(map(_text, content))
    if isinstance(content, dict):
        return _text(content.get("text")) + _text(content.get("content"))
    return ""
