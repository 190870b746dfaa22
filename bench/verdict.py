"""`make bench-statistics`: processor time from what the judge left to the numbers of a comparison.

Beside ours is what inspect_ai has of it: a clustered interval of a mean, by t and by bootstrap.
It has no pairs in two orders, no reliability and no bounds to compare with. And what evalica has:
strengths of many models. It has no ranks and resamples rows, so whole prompts are drawn for it, and
it fits every draw anew where ours takes one step from the fit.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.installs import PEERS, InstallError, own_python, python_of
from bench.processes import ROOT
from bench.systems import INSPECT_AI, versions
from bench.table import OURS, Result, machine, say, show, write

RESULTS = ROOT / "bench" / "results" / "statistics.json"
SIZES = (500, 5_000, 50_000)
"""Pairs; each is judged twice."""
EVALICA = "evalica"
MODELS = 20
PROMPTS = (50, 500)
"""That all of the models answer, each of them compared with each other."""
RESAMPLES = 1_000

METRICS = {
    "cpu_t": "the clustered t interval alone",
    "cpu_bootstrap": "the clustered bootstrap interval, 1,000 rounds",
    "cpu_compare": "all numbers of a comparison, ten categories",
    "cpu_read": "reading the judge's archive",
    "cpu_report": "drawing all charts and writing the report, once, matplotlib's import included",
    "cpu_board": "strengths of all models, 1,000 resamples of prompts; evalica once",
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
    for prompts in (20,) if options.quick else PROMPTS:
        models = 4 if options.quick else MODELS
        results += measure_board(OURS, models, prompts, options.rounds)
        if not options.quick:
            results += measure_board(EVALICA, models, prompts, options.rounds)
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
    install = own_python if system == OURS else INSPECT_AI.install
    said = answer(system, install, script, {**sample(pairs), "rounds": rounds})
    if isinstance(said, str):
        return [Result(system, case, "cpu_t", None, "s", said)]
    found = [Result(system, case, name, said[name], "s") for name in METRICS if name in said]
    return [*found, Result(system, case, "standard_error", said["standard_error"], "share")]


def measure_board(system: str, models: int, prompts: int, rounds: int) -> list[Result]:
    """Let one system rank the same models, in a process of its own."""
    pairings = round_robin(models, prompts)
    case = f"{models} models, {len(pairings) * prompts:,} pairs"
    script = "nova_judge_board.py" if system == OURS else "evalica_board.py"
    install = own_python if system == OURS else python_of(EVALICA)
    asked = {"pairings": pairings, "rounds": rounds, "resamples": RESAMPLES}
    said = answer(system, install, script, asked)
    if isinstance(said, str):
        return [Result(system, case, "cpu_board", None, "s", said)]
    found = [Result(system, case, name, said[name], "s") for name in METRICS if name in said]
    best = max(said["win_rates"].values())
    return [*found, Result(system, case, "best_win_rate", best, "share")]


def answer(
    system: str, install: Callable[[], Path], script: str, question: dict[str, Any]
) -> dict[str, Any] | str:
    """Return what a script of bench/peers answers; a text says why there is no answer."""
    try:
        python = install()
    except InstallError as error:
        return f"cannot be installed: {error}"
    done = subprocess.run(
        [str(python), str(PEERS / script)],
        input=json.dumps(question),
        env={**os.environ, "PYTHONPATH": str(ROOT) if system == OURS else ""},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no output"])[-1][:300]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def sample(pairs: int) -> dict[str, object]:
    """Scores of pairs, in groups of five that move together; the same ones each time."""
    rng = random.Random(pairs)
    ease = [rng.random() for _ in range(math.ceil(pairs / 5))]
    groups = [i // 5 for i in range(pairs)]
    scores = [
        rng.choices([1.0, 0.5, 0.0], [ease[group], 0.4, 1 - ease[group]])[0] for group in groups
    ]
    return {"scores": scores, "clusters": [f"article {group}" for group in groups]}


def round_robin(models: int, prompts: int) -> list[dict[str, Any]]:
    """Every model against every other on the same prompts, later ones better; always the same."""
    rng = random.Random(models * prompts)
    quality = [[rng.gauss(n / models, 0.5) for n in range(models)] for _ in range(prompts)]
    units = [f"prompt {n}" for n in range(prompts)]

    def score(gap: float) -> float:
        return 0.5 if abs(gap) < 0.3 else float(gap > 0)

    return [
        {
            "first": f"model {i}",
            "second": f"model {j}",
            "scores": [score(each[j] - each[i] + rng.gauss(0, 1)) for each in quality],
            "units": units,
        }
        for i, j in itertools.combinations(range(models), 2)
    ]


CHECKED = {"standard_error": 1e-9, "best_win_rate": 1e-4}
"""What all systems must find, and by how much they may differ: evalica stops before it is there."""


def disagreements(results: list[Result]) -> list[str]:
    """Name the cases in which systems computed different numbers from the same scores."""
    ours = {(r.case, r.metric): r.value for r in results if r.system == OURS}
    found = []
    for result in results:
        own = ours.get((result.case, result.metric))
        tolerance = CHECKED.get(result.metric)
        if tolerance and not math.isclose(result.value or 0.0, own or 0.0, rel_tol=tolerance):
            what = result.metric.replace("_", " ")
            found.append(
                f"{result.case}: the {what} of {result.system} is {result.value}, ours {own}"
            )
    return found


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
