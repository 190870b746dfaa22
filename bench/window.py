"""The server's log in, how fast the answers came out: one definition for every system."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

TRIM_SECONDS = 1.0
TRIM_SHARE = 0.2
"""What is cut off at both ends: a second, or a fifth of a window that lasts less than five."""

Entry = tuple[float, float, int]
"""A request in the server's log: when it arrived, when it was answered (s), and the status."""


@dataclass(frozen=True)
class Window:
    """The time in which requests were answered, and its steady part."""

    start: float
    """When the first request arrived, in seconds of the machine's monotonic clock."""
    end: float
    """When the last answer left."""
    answered: int
    steady_start: float
    steady_end: float
    steady_answered: int

    @property
    def rate(self) -> float:
        """Answers per second over the whole window."""
        return self.answered / (self.end - self.start)

    @property
    def steady_rate(self) -> float:
        """Answers per second in steady state."""
        return self.steady_answered / (self.steady_end - self.steady_start)


def window(log: Iterable[Entry], in_flight: int) -> Window:
    """Find the steady state in a log.

    Requests in flight come and go in waves, so counting the answers between two moments would be
    off by up to a wave. The steady state therefore lasts from one answer to another that is a
    multiple of `in_flight` answers later: as many whole waves as fit between the cut ends.

    Raises:
        ValueError: Nothing was answered.
    """
    answered = sorted((left, arrived) for arrived, left, status in log if status == 200)
    if not answered:
        raise ValueError("the server answered no request")
    start, end = min(arrived for _, arrived in answered), answered[-1][0]
    trim = min(TRIM_SECONDS, (end - start) * TRIM_SHARE)
    times = [left for left, _ in answered if start + trim <= left <= end - trim]
    waves = (len(times) - 1) // in_flight
    if waves < 1:
        return Window(start, end, len(answered), start, end, len(answered))
    count = waves * in_flight
    return Window(start, end, len(answered), times[0], times[count], count)


class Second(NamedTuple):
    """What arrived within one second."""

    granted: int
    throttled: int


def by_second(log: Iterable[Entry]) -> list[Second]:
    """Return what became of the requests of each second since the first one arrived."""
    entries = sorted(log)
    if not entries:
        return []
    start = entries[0][0]
    counts = Counter((int(arrived - start), status) for arrived, _, status in entries)
    last = int(entries[-1][0] - start)
    return [Second(counts[second, 200], counts[second, 429]) for second in range(last + 1)]
