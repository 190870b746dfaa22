"""Systems in, what becomes of their rows out where a server refuses requests."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from itertools import accumulate, takewhile

from bench.processes import Server, serving
from bench.server import refusals
from bench.systems import CannotRun, GaveUp, Measured, System, measure
from bench.table import Result
from bench.window import Second, by_second, window

LATENCY_MS = 100.0

BUCKET_RATE = 50.0
BUCKET_BURST = 50.0
BUCKET_IN_FLIGHT = 50
SETTLED_AFTER = 60
"""Seconds after which a client should have found the rate that it is granted."""

REFUSED = 0.2
REFUSALS_IN_FLIGHT = 50
REFUSALS_TIMEOUT = 300.0
"""Seconds; twenty times what the best possible client would take."""


def bucket(systems: list[System], minutes: float) -> Iterator[Result]:
    """Yield how well each system uses a token bucket."""
    rows = int(BUCKET_RATE * 60 * minutes + BUCKET_BURST)
    with serving(latency_ms=LATENCY_MS, rate=BUCKET_RATE, burst=BUCKET_BURST) as server:
        for system in systems:
            try:
                seen = measure(system, server, rows, BUCKET_IN_FLIGHT)
                numbers = _bucket_numbers(seen, rows)
            except CannotRun as error:
                yield Result(system.name, "bucket", "share_of_bucket", None, "ratio", str(error))
                continue
            for (name, unit), value in numbers.items():
                yield Result(system.name, "bucket", name, value, unit)


def _bucket_numbers(seen: Measured, rows: int) -> dict[tuple[str, str], float]:
    """Count from the first minute's end until fewer rows are left than may be in flight."""
    seconds = by_second(seen.log)
    first, settled = seconds[:SETTLED_AFTER], seconds[SETTLED_AFTER:]
    left = rows - BUCKET_IN_FLIGHT - sum(s.granted for s in first)
    full = takewhile(lambda so_far: so_far < left, accumulate(s.granted for s in settled))
    settled = settled[: len(list(full))]
    if len(settled) < 10:
        raise CannotRun(f"only {len(settled)} s were left after the first {SETTLED_AFTER} s")
    return {
        ("share_of_bucket", "ratio"): sum(s.granted for s in settled)
        / (BUCKET_RATE * len(settled)),
        ("share_throttled", "ratio"): _share_throttled(settled),
        ("share_throttled_first_minute", "ratio"): _share_throttled(first),
        ("settled", "s"): len(settled),
        **_rows(seen, rows),
    }


def _share_throttled(seconds: list[Second]) -> float:
    throttled = sum(second.throttled for second in seconds)
    return throttled / max(1, throttled + sum(second.granted for second in seconds))


def _rows(seen: Measured, rows: int) -> dict[tuple[str, str], float]:
    """Return what became of the rows, in the server's eyes and in the system's own."""
    found: dict[tuple[str, str], float] = {
        ("rows_lost", "rows"): rows - seen.stats["rows"],
        ("rows_twice", "rows"): seen.stats["twice"],
        ("errors", "rows"): seen.errors,
        ("requests", "requests"): seen.stats["requests"],
        ("throttled", "requests"): seen.stats["throttled"],
    }
    twice = seen.said("stored_twice")
    if twice is not None:
        found["stored_twice", "rows"] = twice
    return found


def refused_at_random(systems: list[System]) -> Iterator[Result]:
    """Yield what becomes of rows when a fifth of the requests is refused."""
    for retry_after in (1.0, 0.0):
        options = {"latency_ms": LATENCY_MS, "throttle": REFUSED, "retry_after": retry_after}
        with serving(**options) as server:
            for system in systems:
                yield from _refused(system, server, retry_after)


def _refused(system: System, server: Server, retry_after: float) -> Iterator[Result]:
    case = f"refused={REFUSED:g},retry_after={retry_after:g}"
    rows = system.rows
    try:
        seen = measure(system, server, rows, REFUSALS_IN_FLIGHT, timeout=REFUSALS_TIMEOUT)
        part = window(seen.log, REFUSALS_IN_FLIGHT)
    except GaveUp as error:
        yield Result(system.name, case, "rows_lost", rows, "rows", str(error))
        return
    except (CannotRun, ValueError) as error:
        yield Result(system.name, case, "rows_lost", None, "rows", str(error))
        return
    best = best_possible_seconds(rows, REFUSALS_IN_FLIGHT, LATENCY_MS / 1000, retry_after)
    numbers = {
        **_rows(seen, rows),
        ("window", "s"): part.end - part.start,
        ("best_possible", "s"): best,
    }
    if seen.stats["rows"] == rows:  # less work takes less time
        numbers["time_to_best", "ratio"] = (part.end - part.start) / best
    for (name, unit), value in numbers.items():
        yield Result(system.name, case, name, value, unit)


def best_possible_seconds(
    rows: int,
    in_flight: int,
    latency: float,
    retry_after: float,
    share: float = REFUSED,
    seed: int = 0,
) -> float:
    """Return how long a client without any cost of its own would take.

    It asks the rows in order, `in_flight` at once. A refusal comes at once; the row then waits for
    `retry_after` seconds without occupying a place, and is asked again the moment that is over.
    Without Retry-After that is `ceil(rows / in_flight) * latency`.
    """
    now, free, asked = 0.0, in_flight, 0
    busy: list[float] = []
    waiting: list[tuple[float, int, int]] = []  # when it may be asked, row, refusals left
    while asked < rows or waiting or busy:
        while free and (asked < rows or (waiting and waiting[0][0] <= now)):
            if waiting and waiting[0][0] <= now:
                _, row, left = heapq.heappop(waiting)
            else:
                row, left, asked = asked, refusals(asked, share, seed), asked + 1
            if left:
                heapq.heappush(waiting, (now + retry_after, row, left - 1))
            else:
                free -= 1
                heapq.heappush(busy, now + latency)
        due = waiting[0][0] if waiting and free else math.inf
        now = min(busy[0] if busy else math.inf, due)
        while busy and busy[0] <= now:
            heapq.heappop(busy)
            free += 1
    return now
