"""`make bench-parse`: what evaluation files cost Airflow's DAG processor, beside plain DAGs.

The peer is one file that builds as many DAGs of as many provider operators in a loop, and reads
and checks nothing: what is more than that is ours. What is measured how is in bench/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from bench.processes import ROOT
from bench.table import OURS, Result, machine, say, show, write

RESULTS = ROOT / "bench" / "results" / "parse.json"
PEER = "plain-loop"
COUNTS = (1, 10, 30, 100)
"""Evaluation files."""

TASKS = 14
"""Of one of our DAGs, and of the peer's."""

GOAL = 10.0
"""Milliseconds of parsing, at the most, that an evaluation may cost beyond the first."""

HEAVY = {
    *("aiohttp", "datasets", "duckdb", "jinja2", "matplotlib", "moto", "numpy", "openai", "pandas"),
    *("pyarrow", "sagemaker", "scipy", "sklearn", "statsmodels", "torch", "transformers"),
}
"""Packages that parsing must not import."""

ALERTS = "alerts:\n  - {channel: smtp, to: team@example.com}\n"

LOOP = f"""
from airflow.providers.amazon.aws.operators.sagemaker import SageMakerTrainingOperator
from airflow.sdk import DAG, CronTriggerTimetable

for number in range(COUNT):
    with DAG(
        f"plain_{{number}}",
        schedule=CronTriggerTimetable("0 6 * * 1", timezone="UTC"),
        default_args={{"retries": 2}},
    ):
        before = None
        for step in range({TASKS}):
            task = SageMakerTrainingOperator(task_id=f"step_{{step}}", config={{}})
            if before:
                before >> task
            before = task
"""


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table and store the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=5, help="interpreters for each case")
    parser.add_argument("--times", type=int, default=3, help="parses in each of them")
    parser.add_argument("--quick", action="store_true", help="a smoke test, few files, one round")
    parser.add_argument("--out", type=Path, help="where to write; default: only a full run writes")
    options = parser.parse_args(arguments)
    facts, results = machine(), list[Result]()
    rounds, times = (1, 1) if options.quick else (options.rounds, options.times)
    for count in (1, 3) if options.quick else COUNTS:
        for system in (OURS, PEER):
            results += measure(system, count, rounds, times)
    results += beyond_the_first(results)
    table(results)
    out = options.out or (None if options.quick else RESULTS)
    if out:
        write(out, facts, results)
        say(f"\nWritten to {out}")
    return 0


def measure(system: str, count: int, rounds: int, times: int) -> Iterator[Result]:
    """Yield what so many evaluations, or plain DAGs, cost: medians, and what was imported."""
    with TemporaryDirectory(prefix="bench-parse-") as folder:
        file = write_files(system, count, Path(folder))
        said = [parse_once(file, times) for _ in range(rounds)]
    children = [child for each in said for child in each["children"]]
    found, case = children[-1], case_of(count)
    built = found["dags"] - (1 if system == OURS else 0)  # ours is also the general DAG
    if found["errors"] or found["broken"] or built != count or found["tasks"] != TASKS:
        raise RuntimeError(f"{system} does not build {count} DAGs of {TASKS} tasks: {found}")
    say(f"  {case}, {system}: {median(c['parse'] for c in children):.3f} s")
    for metric in ("parse", "parse_cpu", "serialize", "fork"):
        yield Result(system, case, metric, median(child[metric] for child in children), "s")
    yield Result(system, case, "ahead", median(each["ahead"] for each in said), "s")
    imported = packages(said[-1]["modules"] + found["modules"])
    note = ", ".join(imported)
    yield Result(system, case, "packages_imported", len(imported), "packages", note)
    heavy = sorted(HEAVY.intersection(imported))
    yield Result(system, case, "heavy_packages", len(heavy), "packages", ", ".join(heavy) or None)


def case_of(count: int) -> str:
    """Return how a case is called."""
    return f"{count} evaluation{'s' if count > 1 else ''}"


def write_files(system: str, count: int, folder: Path) -> Path:
    """Write what Airflow is to parse; return the DAG file.

    Ours is a copy of dags/ with as many evaluations, each as `make new-evaluation` writes it, with
    an alert.
    """
    if system == PEER:
        file = folder / "plain_loop.py"
        file.write_text(LOOP.replace("COUNT", str(count)), encoding="utf-8")
        return file
    home = folder / "dags"
    shutil.copytree(ROOT / "dags", home, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    for file in (home / "evaluations").glob("*.yaml"):
        file.unlink()
    template = (ROOT / "scripts" / "new_evaluation.yaml").read_text(encoding="utf-8")
    for number in range(count):
        name = f"evaluation-{number:03d}"
        content = template.replace("NAME", name) + ALERTS
        (home / "evaluations" / f"{name}.yaml").write_text(content, encoding="utf-8")
    return home / "nova_llm_judge.py"


def parse_once(file: Path, times: int) -> dict[str, Any]:
    """Let a new interpreter parse a DAG file some times; return what it says."""
    with TemporaryDirectory(prefix="bench-airflow-") as home:
        done = subprocess.run(
            [
                sys.executable,
                "-W",
                "ignore",
                "-m",
                "bench.parse_once",
                str(file),
                f"--times={times}",
            ],
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW")},
                "AIRFLOW_HOME": home,
                "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
                "NOVA_JUDGE_CONFIG_DIR": str(file.parent),
                "PYTHONPATH": str(ROOT),
            },
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"{file.name} cannot be parsed:\n{done.stderr[-2000:]}")
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def packages(modules: list[str]) -> list[str]:
    """Return the packages that modules belong to, without the standard library's and ours.

    Airflow is left out, too, but not its providers.
    """
    ours = {"airflow", "bench", "include", *sys.stdlib_module_names}
    return sorted(
        name
        for name in {_package(module) for module in modules} - ours
        if not name.startswith(("_", "unusual_prefix"))  # the latter is the DAG file itself
    )


def _package(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[: 3 if parts[:2] == ["airflow", "providers"] else 1])


def beyond_the_first(results: list[Result]) -> Iterator[Result]:
    """Yield what each DAG beyond the first costs, in ms: of parsing, and of serializing."""
    known = {(each.system, each.case, each.metric): each.value for each in results}
    for system, case, metric in known:
        count, one = int(case.split()[0]), known.get((system, case_of(1), metric))
        value = known[system, case, metric]
        if metric in ("parse", "parse_cpu", "serialize") and count > 1 and value and one:
            each = 1000 * (value - one) / (count - 1)
            yield Result(system, case, f"{metric}_per_evaluation_beyond_the_first", each, "ms")


COLUMNS = {
    "parse": "parsing, s",
    "serialize": "serializing, s",
    "fork": "the whole child, s",
    "ahead": "imported ahead, s",
    "parse_per_evaluation_beyond_the_first": "each parsing, ms",
    "serialize_per_evaluation_beyond_the_first": "each serializing, ms",
    "packages_imported": "packages",
}


def table(results: list[Result]) -> None:
    """Print a line for each case and system, what only ours imports, and the goal."""
    known = {(each.system, each.case, each.metric): each for each in results}
    lines = dict.fromkeys((each.case, each.system) for each in results)
    rows = [
        [case, system, *(_cell(known.get((system, case, metric))) for metric in COLUMNS)]
        for case, system in lines
    ]
    show("What parsing costs", ["case", "system", *COLUMNS.values()], rows)
    say(f"\nGoal: an evaluation beyond the first costs {GOAL:g} ms of parsing at the most")
    last = max((case for case, _ in lines), key=lambda case: int(case.split()[0]))
    ours, peers = (
        set((known[system, last, "packages_imported"].note or "").split(", "))
        for system in (OURS, PEER)
    )
    say(f"Imported for ours and not for the peer: {', '.join(sorted(ours - peers)) or 'nothing'}")
    heavy = known[OURS, last, "heavy_packages"]
    say(f"Heavy packages imported: {heavy.note or 'none'}")


def _cell(result: Result | None) -> str:
    return "-" if result is None or result.value is None else f"{result.value:.3f}"


if __name__ == "__main__":
    raise SystemExit(main())
