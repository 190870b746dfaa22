"""`make bench-statistics`: processor time from what the judge left to the numbers of a comparison.

Beside ours is what inspect_ai has of it: a clustered interval of a mean, by t and by bootstrap.
It has no pairs in two orders, no reliability and no bounds to compare with.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import subprocess
from pathlib import Path

from bench.installs import PEERS, InstallError, own_python
from bench.processes import ROOT
from bench.systems import INSPECT_AI, versions
from bench.table import OURS, Result, machine, say, show, write

RESULTS = ROOT / "bench" / "results" / "statistics.json"
SIZES = (500, 5_000, 50_000)
"""Pairs; each is judged twice."""

METRICS = {
    "cpu_t": "the clustered t interval alone",
    "cpu_bootstrap": "the clustered bootstrap interval, 1,000 rounds",
    "cpu_compare": "all numbers of a comparison, ten categories",
    "cpu_read": "reading the judge's archive",
    "cpu_report": "drawing all charts and writing the report, once, matplotlib's import included",
    "cpu_import": "importing what the rest needs",
}
"""In seconds of processor time; the median of the rounds but where it says once."""


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table and store the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a smoke test of ours, few pairs")
    parser.add_argument("--out", type=Path, help="where to write; default: only a full run writes")
    options = parser.parse_args(arguments)
    facts, results = machine(versions=versions()), list[Result]()
    for pairs in (200,) if options.quick else SIZES:
        results += measure(OURS, pairs, options.rounds)
        if not options.quick:
            results += measure(INSPECT_AI.name, pairs, options.rounds)
    table(results)
    different = disagreements(results)
    for line in different:
        say(line)
    out = options.out or (None if options.quick else RESULTS)
    if out:
        write(out, facts, results)
        say(f"\nWritten to {out}")
    return int(bool(different))


def measure(system: str, pairs: int, rounds: int) -> list[Result]:
    """Let one system compute on the same scores, in a process of its own."""
    case = f"{2 * pairs:,} judgments"
    script = "nova_judge_verdict.py" if system == OURS else "inspect_ai_ci.py"
    try:
        python = (own_python if system == OURS else INSPECT_AI.install)()
    except InstallError as error:
        return [Result(system, case, "cpu_t", None, "s", f"cannot be installed: {error}")]
    done = subprocess.run(
        [str(python), str(PEERS / script)],
        input=json.dumps({**sample(pairs), "rounds": rounds}),
        env={**os.environ, "PYTHONPATH": str(ROOT) if system == OURS else ""},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return [Result(system, case, "cpu_t", None, "s", last[:300])]
    said = json.loads(done.stdout.splitlines()[-1])
    found = [Result(system, case, name, said[name], "s") for name in METRICS if name in said]
    return [*found, Result(system, case, "standard_error", said["standard_error"], "share")]


def sample(pairs: int) -> dict[str, object]:
    """Scores of pairs, in groups of five that move together; the same ones each time."""
    rng = random.Random(pairs)
    ease = [rng.random() for _ in range(math.ceil(pairs / 5))]
    groups = [i // 5 for i in range(pairs)]
    scores = [
        rng.choices([1.0, 0.5, 0.0], [ease[group], 0.4, 1 - ease[group]])[0] for group in groups
    ]
    return {"scores": scores, "clusters": [f"article {group}" for group in groups]}


def disagreements(results: list[Result]) -> list[str]:
    """Name the cases in which systems computed different standard errors of the same scores."""
    ours = {r.case: r.value for r in results if r.metric == "standard_error" and r.system == OURS}
    return [
        f"{result.case}: the standard error of {result.system} is {result.value}, ours "
        f"{ours.get(result.case)}"
        for result in results
        if result.metric == "standard_error"
        and not math.isclose(result.value or 0.0, ours.get(result.case) or 0.0, rel_tol=1e-9)
    ]


def table(results: list[Result]) -> None:
    """Print a line for each system and case."""
    lines: dict[tuple[str, str], dict[str, Result]] = {}
    for result in results:
        lines.setdefault((result.case, result.system), {})[result.metric] = result
    rows = [
        [
            case,
            system,
            *(
                f"{found[name].value:.4f}"
                if name in found and found[name].value is not None
                else "-"
                for name in METRICS
            ),
        ]
        for (case, system), found in lines.items()
    ]
    show("Processor seconds", ["case", "system", *METRICS], rows)
    for name, meaning in METRICS.items():
        say(f"{name}: {meaning}")
    for result in results:
        if result.note:
            say(f"{result.case} {result.system}: {result.note}")


if __name__ == "__main__":
    raise SystemExit(main())
