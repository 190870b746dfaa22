"""`make bench`: every benchmark against its peers in one run, and docs/performance.md from it.

`--report` only writes the page anew, from what bench/results/ holds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import generation, orchestration, pages, parse, ui, verdict
from bench.processes import ROOT
from bench.table import OURS, say

RESULTS = ROOT / "bench" / "results"
PAGE = ROOT / "docs" / "performance.md"
BENCHMARKS = {
    "generation": generation.main,
    "statistics": verdict.main,
    "parse": parse.main,
    "ui": ui.main,
    "orchestration": orchestration.main,
}
"""By the name of their file of results, in the order in which they run; about an hour in all."""


@dataclass(frozen=True)
class Line:
    """One number of the page, beside every peer that has it, too."""

    about: str
    file: str
    case: str
    metric: str
    is_rate: bool = False
    """Whether more is better."""


def _asked(about: str, case: str, metric: str, *, is_rate: bool = False) -> Line:
    return Line(about, "generation", case, metric, is_rate)


LINES = (
    _asked("requests a second, 50 in flight", "in_flight=50", "requests_per_second", is_rate=True),
    _asked(
        "requests a second, 100 in flight", "in_flight=100", "requests_per_second", is_rate=True
    ),
    _asked("processor time of a request, 50 in flight", "in_flight=50", "cpu_per_request"),
    _asked("peak memory, 50 in flight", "in_flight=50", "peak_memory"),
    _asked("rows lost, a fifth refused", "refused=0.2,retry_after=0", "rows_lost"),
    _asked("time ÷ best possible, a fifth refused", "refused=0.2,retry_after=0", "time_to_best"),
    _asked("the same, with Retry-After", "refused=0.2,retry_after=1", "time_to_best"),
    _asked("share of a token bucket used (of 1)", "bucket", "share_of_bucket"),
    _asked("share throttled meanwhile", "bucket", "share_throttled"),
    _asked("memory with 100,000 prompts ÷ with 1,000", "prompts=100000", "memory_to_few"),
    Line(
        "reading the judge's archive, processor time", "statistics", "10,000 judgments", "cpu_read"
    ),
    Line("all numbers of a comparison", "statistics", "10,000 judgments", "cpu_compare"),
    Line("charts and report", "statistics", "10,000 judgments", "cpu_report"),
    Line("clustered interval alone", "statistics", "10,000 judgments", "cpu_t"),
    Line("20 models ranked", "statistics", "20 models, 9,500 pairs", "cpu_board"),
    Line("20 models ranked", "statistics", "20 models, 95,000 pairs", "cpu_board"),
    Line("parsing", "parse", "30 evaluations", "parse"),
    Line(
        "parsing, each evaluation beyond the first",
        "parse",
        "30 evaluations",
        "parse_per_evaluation_beyond_the_first",
    ),
    Line("list of evaluations, first time", "ui", "200 evaluations, 100 runs each", "list_first"),
    Line("list of evaluations, median", "ui", "200 evaluations, 100 runs each", "list_median"),
    Line("a run's page, median", "ui", "10,000 pairs", "run_median"),
    Line("pairs of a run shown, first time", "ui", "10,000 pairs", "pairs_first"),
    Line("pairs of a run shown, median", "ui", "10,000 pairs", "pairs_median"),
    Line("one pair, median", "ui", "10,000 pairs", "pair_median"),
    Line("trigger to report", "orchestration", "6 prompts", "trigger_to_report"),
    Line("trigger to report", "orchestration", "500 prompts", "trigger_to_report"),
    Line("endpoint idle after its last response", "orchestration", "500 prompts", "endpoint_idle"),
)


def main(arguments: list[str] | None = None) -> int:
    """Run all, then write the page; 1 if one of them did not end well."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--report", action="store_true", help="only write the page anew")
    options = parser.parse_args(arguments)
    codes = {}
    if not options.report:
        for number, (name, benchmark) in enumerate(BENCHMARKS.items(), 1):
            say(f"\n{name} ({number} of {len(BENCHMARKS)})")
            codes[name] = benchmark([])
    found = {name: read(RESULTS / f"{name}.json") for name in BENCHMARKS}
    pages.fill(PAGE, "ratios", pages.table(HEADS, rows(found)))
    pages.fill(PAGE, "machines", pages.table(["", "taken", "processor", "load before"], on(found)))
    failed = [name for name, code in codes.items() if code]
    if failed:
        say(f"Not ended well: {', '.join(failed)}")
    say(f"Written to {PAGE.relative_to(ROOT)}")
    return int(bool(failed))


HEADS = ["what", "case", "ours", "theirs (ours ÷ theirs)"]


def rows(found: dict[str, Any]) -> Iterator[list[str]]:
    """Yield each line of the page, with every peer that has the same number."""
    for line in LINES:
        values = {
            row["system"]: row
            for row in found[line.file].get("results", [])
            if (row["case"], row["metric"]) == (line.case, line.metric)
        }
        ours = values.pop(OURS, None)
        if ours is None or ours["value"] is None:
            continue
        about = f"{line.about}{' (more is better)' if line.is_rate else ''}"
        theirs = ", ".join(_beside(peer, row, ours["value"]) for peer, row in values.items())
        yield [about, line.case, _said(ours), theirs or "-"]


def _beside(peer: str, theirs: dict[str, Any], ours: float) -> str:
    ratio = f" ({ours / theirs['value']:.3g})" if ours and theirs["value"] else ""
    return f"{peer} {_said(theirs)}{ratio}"


def _said(row: dict[str, Any]) -> str:
    if row["value"] is None:
        return str(row.get("note") or "-")
    unit = {"ratio": "", "1/s": "/s"}.get(row["unit"], f" {row['unit']}")
    rounded = float(f"{row['value']:.3g}")
    note = f" ({row['note']})" if row.get("note") else ""
    return f"{rounded:,g}{unit}{note}"


def on(found: dict[str, Any]) -> Iterator[list[str]]:
    """Yield when and on what each file was taken."""
    for name, content in found.items():
        if content:
            facts = content["machine"]
            processor = f"{facts['cores']} x {facts['processor']}"
            yield [name, facts["started_at"][:10], processor, str(facts["load_before"])]


def read(file: Path) -> dict[str, Any]:
    """Return the content of a file of results; nothing if it is not there."""
    if not file.exists():
        return {}
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


if __name__ == "__main__":
    raise SystemExit(main())
