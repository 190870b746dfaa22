"""`make bench-from-nothing`: from a clone to a verdict with an empty home and empty caches, timed.

Runs the README's two commands in a new folder: what is committed here is cloned, installed over the
network, started and run once. The phases are told by what `make run` prints.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.processes import ROOT
from bench.table import OURS, Result, machine, say, show, write

RESULTS = ROOT / "bench" / "results" / "from-nothing.json"
GOAL_SECONDS = 300

KEPT = ("PATH", "LANG", "TERM", "AIRFLOW_PORT", "SANDBOX_PORT")
NETWORK = ("PIP_", "UV_", "SSL_", "HTTP", "NO_PROXY", "ALL_PROXY")
"""Variables that a new person on this machine would have, too."""

STEPS: dict[str, Callable[[str], bool]] = {
    "install": lambda line: line.startswith("Starting the sandbox"),
    "start the sandbox and Airflow": lambda line: line.startswith("Run "),
    "run, up to the verdict": lambda line: line.startswith("Gate:"),
}
"""What `make run` does, and the line with which each is over."""


def main(arguments: list[str] | None = None) -> int:
    """Time it, print the table and store it; 1 if there is no verdict."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    facts = machine()
    with TemporaryDirectory(prefix="from-nothing-") as folder:
        seconds = timed(Path(folder))
    total = sum(seconds.values())
    results = [Result(OURS, "from nothing", phase, took, "s") for phase, took in seconds.items()]
    results.append(Result(OURS, "from nothing", "all", total, "s"))
    shown = [[each.metric, f"{each.value:.0f}"] for each in results]
    show("From nothing to a verdict", ["phase", "s"], shown)
    if set(STEPS) - set(seconds):
        say("Error: it did not come to a verdict")
        return 1
    write(options.out, facts, results)
    say(f"\nWritten to {options.out}; the goal is {GOAL_SECONDS} s")
    return 0


def timed(folder: Path) -> dict[str, float]:
    """Clone and run in an empty folder; return the seconds of each phase that ended."""
    home, copy = folder / "home", folder / "nova-judge"
    home.mkdir()
    environment = {
        **{k: v for k, v in os.environ.items() if k in KEPT or k.upper().startswith(NETWORK)},
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "PYTHON": os.path.realpath(sys.executable),
        "PYTHONUNBUFFERED": "1",  # the lines tell when a phase is over
    }
    seconds, began = {}, time.monotonic()
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(copy)], check=True)
    seconds["clone"] = time.monotonic() - began
    began, waiting = time.monotonic(), list(STEPS)
    process = subprocess.Popen(
        ["make", "run"],
        cwd=copy,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout
    for line in process.stdout:
        say(f"{time.monotonic() - began:6.0f} s  {line.rstrip()}")
        if waiting and STEPS[waiting[0]](line):
            now = time.monotonic()
            seconds[waiting.pop(0)], began = now - began, now
    process.wait()
    subprocess.run(["make", "down"], cwd=copy, env=environment, check=False)
    return seconds


if __name__ == "__main__":
    raise SystemExit(main())
