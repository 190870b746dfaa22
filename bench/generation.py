"""`make bench-generation`: our generation step beside other ways of asking a model many prompts.

Four parts, one command. *throughput*: a server that answers after 100 ms. *bucket*: a server that
grants 50 requests per second. *refusals*: a server that refuses a fifth of the requests at random.
*memory*: a hundred times as many prompts. What each means is in bench/README.md.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from bench.memory import memory
from bench.processes import ROOT, sandbox
from bench.systems import NOVA_JUDGE, PACED, PATIENT, QUICK, SYSTEMS, System, versions
from bench.table import OURS, Result, machine, say, show, write
from bench.throttling import bucket, refused_at_random
from bench.throughput import Load, throughput

BY_PART = {
    "throughput": SYSTEMS,
    "bucket": PACED,
    "refusals": PATIENT,
    "memory": [NOVA_JUDGE],
}
PARTS = tuple(BY_PART)
RESULTS = ROOT / "bench" / "results" / "generation.json"


def main(arguments: list[str] | None = None) -> int:
    """Run the parts that are asked for, print their tables and store the results."""
    options = read_options(arguments)
    facts, results = machine(versions=versions()), list[Result]()
    with sandbox() as url:
        for part in options.only:
            say(f"{part}:")
            chosen = [
                replace(system, arguments=(f"--s3={url}",)) if system.name == OURS else system
                for system in systems_of(part, options)
            ]
            found = list(run_part(part, chosen, options)) if chosen else []
            results += found
            TABLES[part](found)
    out = options.out or (RESULTS if options.everything else None)
    if out:
        write(out, facts, results)
        say(f"\nWritten to {out}")
    return 0


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    """Return the command line's options; `everything` says whether all is measured in full."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    names = sorted({system.name for part in PARTS for system in BY_PART[part]})
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument(
        "--systems", nargs="+", choices=names, metavar="SYSTEM", help=", ".join(names)
    )
    parser.add_argument("--rounds", type=int, default=3, help="of the throughput part")
    parser.add_argument("--minutes", type=float, default=3, help="of the bucket part")
    parser.add_argument("--quick", action="store_true", help="a smoke test of a few seconds")
    parser.add_argument("--out", type=Path, help="where to write; default: only a full run writes")
    options = parser.parse_args(arguments)
    options.everything = not (options.only or options.systems or options.quick)
    options.only = options.only or (("throughput",) if options.quick else PARTS)
    return options


def systems_of(part: str, options: argparse.Namespace) -> list[System]:
    """Return the systems that a part compares, as far as they are asked for."""
    known = QUICK if options.quick and part == "throughput" else BY_PART[part]
    return [s for s in known if not options.systems or s.name in options.systems]


def run_part(part: str, systems: list[System], options: argparse.Namespace) -> Iterable[Result]:
    """Yield the results of one part."""
    if part == "throughput":
        load = Load(latency_ms=20, rows=200, in_flight=(10, 20)) if options.quick else Load()
        return throughput(systems, 1 if options.quick else options.rounds, load)
    if part == "bucket":
        return bucket(systems, options.minutes)
    if part == "refusals":
        return refused_at_random(systems)
    return memory(systems[0], 100, 1_000) if options.quick else memory(systems[0])


def _table(title: str, columns: dict[str, tuple[str, str]], results: list[Result]) -> None:
    """Print a line for each system and case; columns map a head to a metric and its format."""
    lines: dict[tuple[str, str], dict[str, Result]] = {}
    for result in results:
        lines.setdefault((result.case, result.system), {})[result.metric] = result
    rows: list[list[str]] = []
    under: list[str] = []
    for (case, system), metrics in sorted(lines.items(), key=lambda line: _natural(line[0][0])):
        cells = [
            format(metrics[name].value, form)
            if name in metrics and metrics[name].value is not None
            else "-"
            for name, form in columns.values()
        ]
        notes = [result.note for result in metrics.values() if result.note]
        rows.append([case, system, *cells])
        under += [f"{case} {system}: {note}" for note in notes]
    show(title, ["case", "system", *columns], rows)
    for line in under:
        say(line)


def _natural(case: str) -> tuple[int, str]:
    number = case.rpartition("=")[2]
    return (int(number) if number.isdigit() else 0, case)


def throughput_table(results: list[Result]) -> None:
    """Print what the throughput part found."""
    columns = {
        "requests/s": ("requests_per_second", ".0f"),
        "of ideal": ("share_of_ideal", ".3f"),
        "ours/theirs": ("ours_to_theirs", ".2f"),
        "CPU ms": ("cpu_per_request", ".2f"),
        "cores": ("cores_used", ".2f"),
        "whole run s": ("wall", ".1f"),
        "peak MB": ("peak_memory", ".0f"),
        "errors": ("errors", ".0f"),
    }
    _table("Steady state, a server that answers after a fixed time", columns, results)


def bucket_table(results: list[Result]) -> None:
    """Print what the bucket part found."""
    columns = {
        "bucket used": ("share_of_bucket", ".3f"),
        "throttled": ("share_throttled", ".4f"),
        "in minute 1": ("share_throttled_first_minute", ".4f"),
        "rows lost": ("rows_lost", ".0f"),
        "rows twice": ("rows_twice", ".0f"),
    }
    _table("A token bucket, after the first minute", columns, results)


def refusals_table(results: list[Result]) -> None:
    """Print what the refusals part found."""
    columns = {
        "rows lost": ("rows_lost", ".0f"),
        "rows twice": ("rows_twice", ".0f"),
        "seconds": ("window", ".1f"),
        "best": ("best_possible", ".1f"),
        "time/best": ("time_to_best", ".2f"),
    }
    _table("A fifth of the requests refused at random", columns, results)


def memory_table(results: list[Result]) -> None:
    """Print what the memory part found."""
    columns = {
        "peak MB": ("peak_memory", ".0f"),
        "to few": ("memory_to_few", ".2f"),
        "rows lost": ("rows_lost", ".0f"),
        "seconds": ("wall", ".0f"),
    }
    _table("Memory", columns, results)


TABLES = {
    "throughput": throughput_table,
    "bucket": bucket_table,
    "refusals": refusals_table,
    "memory": memory_table,
}

if __name__ == "__main__":
    # As Ctrl-C does, so that what was started is ended too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    raise SystemExit(main())
