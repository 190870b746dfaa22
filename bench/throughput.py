"""Systems in, how many requests per second each answers out, beside the ideal and beside ours."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from bench.processes import Server, serving
from bench.systems import CannotRun, Measured, System, measure
from bench.table import OURS, Result, say
from bench.window import Window, window


@dataclass(frozen=True)
class Load:
    """What is asked of each system."""

    latency_ms: float = 100.0
    """How long the server takes for an answer."""
    rows: int | None = None
    """Prompts; None: as many as the system's `rows`."""
    in_flight: tuple[int, ...] = ()
    """Requests at once, one measurement for each; empty: the system's `in_flight`."""

    def cases(self, system: System) -> tuple[int, ...]:
        """Return the numbers of requests at once that a system is measured at."""
        if not self.in_flight or max(system.in_flight) == 1:
            return system.in_flight
        return self.in_flight


def throughput(systems: list[System], rounds: int, load: Load) -> Iterator[Result]:
    """Yield how fast each system is: the median of several rounds, in which all take turns."""
    seen: dict[tuple[str, int], list[list[Result]]] = {}
    with serving(latency_ms=load.latency_ms) as server:
        for number in range(1, rounds + 1):
            for system in systems:
                for in_flight in load.cases(system):
                    results = _once(system, server, load, in_flight)
                    seen.setdefault((system.name, in_flight), []).append(results)
                    say(f"  round {number}, {in_flight} in flight, {_headline(results)}")
    results = [result for tries in seen.values() for result in medians(tries)]
    yield from results
    yield from ratios(results)


def _once(system: System, server: Server, load: Load, in_flight: int) -> list[Result]:
    case = f"in_flight={in_flight}"
    rows = load.rows or system.rows
    try:
        seen = measure(system, server, rows, in_flight)
        part = window(seen.log, in_flight)
    except (CannotRun, ValueError) as error:
        return [Result(system.name, case, "requests_per_second", None, "1/s", str(error))]
    ideal = in_flight / (load.latency_ms / 1000)
    numbers = {
        ("requests_per_second", "1/s"): part.steady_rate,
        ("share_of_ideal", "ratio"): part.steady_rate / ideal,
        ("requests_per_second_window", "1/s"): part.rate,
        ("window", "s"): part.end - part.start,
        ("steady_state", "s"): part.steady_end - part.steady_start,
        ("wall", "s"): seen.outcome.seconds,
        **_costs(seen, part),
        ("requests_expected", "requests"): rows * system.requests_per_row,
        ("requests", "requests"): seen.stats["requests"],
        ("answered", "requests"): seen.stats["answered"],
        ("max_in_flight", "requests"): seen.stats["max_in_flight"],
        ("errors", "rows"): seen.errors,
    }
    return [Result(system.name, case, name, value, unit) for (name, unit), value in numbers.items()]


def _costs(seen: Measured, part: Window) -> dict[tuple[str, str], float]:
    usage, requests = seen.outcome.usage, seen.stats["requests"]
    steady = usage.cpu_between(part.steady_start, part.steady_end)
    return {
        ("cpu_per_request", "ms"): 1000 * steady / part.steady_answered,
        ("cores_used", "cores"): steady / (part.steady_end - part.steady_start),
        ("cpu_per_request_with_start", "ms"): 1000 * seen.outcome.cpu_seconds / requests,
        ("server_cpu_per_request", "ms"): 1000 * seen.server_cpu / requests,
        ("peak_memory", "MB"): usage.peak_bytes / 1024**2,
    }


def _headline(results: list[Result]) -> str:
    found = {result.metric: result.value for result in results}
    first = results[0]
    if first.value is None:
        return f"{first.system}: {first.note}"
    return (
        f"{first.system}: {first.value:.0f}/s, {found['cpu_per_request']:.2f} ms processor time "
        f"a request, {found['errors']:.0f} errors"
    )


def medians(tries: list[list[Result]]) -> Iterator[Result]:
    """Yield the median of every metric; a system that failed in any round has failed."""
    for results in tries:
        if results[0].value is None:
            yield results[0]
            return
    for same in zip(*tries, strict=True):
        first = same[0]
        values = [result.value for result in same if result.value is not None]
        yield Result(first.system, first.case, first.metric, statistics.median(values), first.unit)
        if first.metric == "requests_per_second" and len(values) > 1:
            yield Result(first.system, first.case, f"{first.metric}_low", min(values), first.unit)
            yield Result(first.system, first.case, f"{first.metric}_high", max(values), first.unit)


def ratios(results: list[Result]) -> Iterator[Result]:
    """Yield how many times as fast ours is; the notebook's loop is held against 50 in flight."""
    rates = {(r.system, r.case): r.value for r in results if r.metric == "requests_per_second"}
    for (system, case), theirs in rates.items():
        ours = rates.get((OURS, case)) or rates.get((OURS, "in_flight=50"))
        if system != OURS and ours and theirs:
            yield Result(system, case, "ours_to_theirs", ours / theirs, "ratio")
