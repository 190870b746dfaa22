"""Chance that can be repeated: the same question always falls the same way."""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections import Counter

from include.sandbox.settings import Rate


def chance(*parts: object) -> float:
    """Return a number in [0, 1) that depends on the parts alone."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def noise(*parts: object) -> float:
    """Return a number from the standard logistic distribution that depends on the parts alone."""
    share = min(max(chance(*parts), 1e-12), 1 - 1e-12)
    return math.log(share / (1 - share))


class Counted:
    """Chance that moves on: the n-th time the same thing is asked falls its own way."""

    def __init__(self) -> None:
        self._asked: Counter[tuple[object, ...]] = Counter()
        self._lock = threading.Lock()

    def chance(self, *parts: object) -> float:
        """Return a number in [0, 1) that depends on the parts and how often they came."""
        with self._lock:
            self._asked[parts] += 1
            return chance(*parts, self._asked[parts])


class TokenBuckets:
    """One token bucket for each model."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._size = max(rate.burst, 1.0)
        self._levels: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def take(self, model: str) -> bool:
        """Whether the model may be asked now."""
        if not self._rate.requests_per_second:
            return True
        now = time.monotonic()
        with self._lock:
            level, then = self._levels.get(model, (self._size, now))
            level = min(self._size, level + (now - then) * self._rate.requests_per_second)
            granted = level >= 1
            self._levels[model] = (level - granted, now)
        return granted
