"""`make bench-scale`: one run of many prompts: what its stages take, and what it leaves behind.

Airflow and the sandbox are started with a state folder of their own, in `.local/bench/scale`;
models answer at once, so what is measured is Airflow, S3 and ourselves. The numbers are for one
machine with Airflow's LocalExecutor and SQLite: the least that anyone runs it on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import requests

from bench.processes import ROOT, aws_client, fresh_place, local_command
from bench.table import OURS, Result, machine, say, show, write
from include.names import GENERAL_DAG
from include.storage import RunFolder
from scripts import local

RESULTS = ROOT / "bench" / "results" / "scale.json"
PROMPTS = 100_000


def main(arguments: list[str] | None = None) -> int:
    """Run, measure, print the table and store the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--prompts", type=int, default=PROMPTS)
    parser.add_argument("--shard-size", type=int, default=5_000)
    parser.add_argument("--out", type=Path, help="where to write; default: only a full run writes")
    options = parser.parse_args(arguments)
    place = fresh_place("scale", 8092, 4578)
    facts = machine()
    try:
        say(f"A run of {options.prompts:,} prompts is made, which takes a while")
        local_command(place, "up")
        before = database(place)
        summary = run(place, options.prompts, options.shard_size)
        results = list(measured(place, summary, options.prompts, before))
    except (local.LocalError, requests.RequestException) as error:
        say(f"Error: {error}")
        return 2
    finally:
        local_command(place, "down")
    rows = [[each.case, each.metric, f"{each.value or 0:,.4g}", each.unit] for each in results]
    show("What a run comes to", ["case", "metric", "value", "unit"], rows)
    out = options.out or (RESULTS if options.prompts == PROMPTS else None)
    if out:
        write(out, facts, results)
        say(f"\nWritten to {out}")
    return 0


def run(place: local.Place, prompts: int, shard_size: int) -> dict[str, Any]:
    """Let two models of Bedrock answer so many prompts, and Nova judge them."""
    folder = place.state / "data"
    folder.mkdir()
    source = folder / "prompts.jsonl"
    with source.open("w", encoding="utf-8") as lines:
        for n in range(prompts):
            lines.write(json.dumps({"id": f"p{n}", "prompt": f"What is {n} plus {n}?"}) + "\n")
    models = [
        {"name": name, "provider": "bedrock", "model_id": model, "limits": {"max_concurrency": 64}}
        for name, model in (
            ("micro", "us.amazon.nova-micro-v1:0"),
            ("lite", "us.amazon.nova-lite-v1:0"),
        )
    ]
    config = {
        "evaluation": "scale",
        "dataset": {"source": str(source), "id_field": "id"},
        "parameters": {"max_tokens": 64},
        "baseline": models[0],
        "candidates": models[1:],
        "generation": {"shard_size": shard_size},
    }
    file = folder / "config.json"
    file.write_text(json.dumps(config), encoding="utf-8")
    local_command(place, "scripts.run", "--config", str(file), "--out", str(folder / "out"))
    found: dict[str, Any] = json.loads((folder / "out/summary.json").read_text(encoding="utf-8"))
    return found


def measured(
    place: local.Place, summary: dict[str, Any], prompts: int, before: int
) -> Iterator[Result]:
    """Yield seconds of the stages, requests, bytes and processor time."""
    case = f"{prompts:,} prompts, two models"
    run = f"/dags/{GENERAL_DAG}/dagRuns/{quote(summary['run_id'])}"
    tasks = local.Api(place).tasks(run)
    stages: dict[str, list[tuple[datetime, datetime]]] = {}
    for task in tasks:
        if task["start_date"] and task["end_date"]:
            span = (datetime.fromisoformat(task[key]) for key in ("start_date", "end_date"))
            stages.setdefault(task["task_id"], []).append(tuple(span))  # type: ignore[arg-type]
    whole = [span for spans in stages.values() for span in spans]
    for name, spans in [("run", whole), *stages.items()]:
        seconds = (max(end for _, end in spans) - min(start for start, _ in spans)).total_seconds()
        yield Result(OURS, case, name, seconds, "s")
    yield Result(OURS, case, "tasks", len(tasks), "tasks")
    pairs = summary["comparisons"][0]["counts"]["pairs"]
    yield Result(OURS, case, "pairs_judged", pairs, "pairs")
    yield Result(OURS, case, "database_growth", (database(place) - before) / 1024**2, "MiB")
    counts = requests.get(f"{place.sandbox_url}/sandbox/requests", timeout=60).json()["counts"]
    for service in ("s3", "bedrock", "sagemaker"):
        asked = sum(n for name, n in counts.items() if name.startswith(f"{service}:"))
        yield Result(OURS, case, f"requests_{service}", asked, "requests")
    s3 = aws_client(place.sandbox_url, "s3")
    folder = RunFolder(s3, summary["artifacts"]["config"].rpartition("/")[0])
    yield Result(OURS, case, "objects", len(folder.names("")), "objects")
    for part in ("scheduler", "dag-processor", "triggerer"):
        yield Result(OURS, case, f"cpu_{part}", processor(place, part), "s")


def database(place: local.Place) -> int:
    """Return the bytes of Airflow's database."""
    files = (place.state / "airflow").glob("airflow.db*")
    return sum(file.stat().st_size for file in files)


def processor(place: local.Place, part: str) -> float:
    """Return the processor time that a part of Airflow has used since it was started."""
    used = 0.0
    for process in psutil.process_iter():
        try:
            if process.cmdline()[-1:] == [part] and str(place.state) in str(process.environ()):
                times = process.cpu_times()
                used += times.user + times.system
        except psutil.Error:
            continue
    return used


if __name__ == "__main__":
    raise SystemExit(main())
