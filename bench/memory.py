"""Numbers of prompts in, the most memory that loading them and asking a model takes out."""

from __future__ import annotations

from collections.abc import Iterator

from bench.processes import serving
from bench.systems import CannotRun, System, measure
from bench.table import Result, say

LATENCY_MS = 10.0
"""Short: memory is measured, not time."""

IN_FLIGHT = 50
SHARD_SIZE = 500
FEW, MANY = 1_000, 100_000


def memory(ours: System, few: int = FEW, many: int = MANY) -> Iterator[Result]:
    """Yield the peak of resident memory with few and with many prompts, and their ratio."""
    peaks = []
    with serving(latency_ms=LATENCY_MS) as server:
        for rows in (few, many):
            case = f"prompts={rows}"
            try:
                seen = measure(ours, server, rows, IN_FLIGHT, f"--shard-size={SHARD_SIZE}")
            except CannotRun as error:
                yield Result(ours.name, case, "peak_memory", None, "MB", str(error))
                return
            said = seen.outcome.said()
            peaks.append(said["peak_bytes"] / 1024**2)
            say(f"  {rows} prompts: {peaks[-1]:.0f} MB at the most, {seen.outcome.seconds:.0f} s")
            yield Result(ours.name, case, "peak_memory", peaks[-1], "MB")
            yield Result(ours.name, case, "rows_lost", rows - seen.stats["rows"], "rows")
            yield Result(ours.name, case, "wall", seen.outcome.seconds, "s")
    yield Result(ours.name, case, "memory_to_few", peaks[1] / peaks[0], "ratio")
