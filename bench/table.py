"""Results in, bench/results/NAME.json and lines on the terminal out: the same for each benchmark.

The file holds `{"machine": {...}, "results": [{"system", "case", "metric", "value", "unit"}]}`;
a result that could not be had has value null and a `note` that says why.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

OURS = "nova-judge"


@dataclass(frozen=True)
class Result:
    """One number."""

    system: str
    case: str
    metric: str
    value: float | None
    unit: str
    note: str | None = None

    def row(self) -> dict[str, Any]:
        """Return it as it is written."""
        return {key: value for key, value in asdict(self).items() if key != "note" or value}


def machine(**more: Any) -> dict[str, Any]:
    """Return what the machine is, and how busy it was before the benchmark."""
    return {
        "processor": _processor(),
        "cores": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1024**3, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **more,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def write(path: Path, facts: dict[str, Any], results: Iterable[Result]) -> None:
    """Store the results."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": facts, "results": [result.row() for result in results]}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def show(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table: the first two columns to the left, numbers to the right."""
    lines = [list(heads), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    say(f"\n{title}")
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line[:2], widths, strict=False)]
        cells += [cell.rjust(width) for cell, width in zip(line[2:], widths[2:], strict=True)]
        say("  ".join(cells).rstrip())
