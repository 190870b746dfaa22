"""Chance that can be repeated: the same question always falls the same way."""

from __future__ import annotations

import hashlib
import math
import threading
from collections import Counter


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
