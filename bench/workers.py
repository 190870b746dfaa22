"""`make bench-workers`: what a second Celery worker gains where models take time; a limit holds.

The services of docker-compose.yaml run on this machine (bench/cluster.py). Each worker runs one
task at a time, the sandbox's models take their time to answer, and the prompts are in shards, all
of whose requests are in flight at once: whatever two workers gain, they gain by waiting for two
shards at once. Where a model's limits bound what is in flight, workers share them and gain nothing.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests

from bench.cluster import HOST, Cluster, until
from bench.processes import STATE
from bench.table import OURS, Result, machine, say, show, write
from include.names import GENERAL_DAG
from scripts.local import ENDED, pages

RESULTS = Path(__file__).resolve().parent / "results" / "workers.json"
PROMPTS, SHARD = 160, 40
LATENCY = 30.0
"""Seconds that an answer takes."""
BOUNDLESS = {"start_concurrency": SHARD, "max_concurrency": 2 * SHARD}
"""Limits of models that bear all that two workers ask at once."""
LIMITED, LIMIT = 90, 60
"""Prompts and requests per minute of the run that has a limit: of so many all requests are kept."""


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table and store the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=RESULTS, help="where to write")
    options = parser.parse_args(arguments)
    folder = STATE / "workers"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    cluster = Cluster(folder, WORKER_CONCURRENCY="1", REMOTE_LOGGING="false")
    facts = machine()
    try:
        cluster.up()
        results = list(measured(cluster))
    finally:
        cluster.down()
    show(
        "Celery workers",
        ["case", "metric", "value"],
        [[each.case, each.metric, f"{each.value:.3g}"] for each in results],
    )
    write(options.out, facts, results)
    say(f"\nWritten to {options.out}")
    return 0


def measured(cluster: Cluster) -> Iterator[Result]:
    """Yield the seconds of generating with one worker and with two, and the rate under a limit."""
    faults = f"http://127.0.0.1:{cluster.ports['4566']}/sandbox/faults"
    slow: Any = {"operation": "Converse", "resource": "*", "times": None}
    slow |= {"latency_ms": 1000 * LATENCY}
    requests.post(faults, json=slow, timeout=10).raise_for_status()
    cluster.start("worker")
    until(lambda: GENERAL_DAG in known(cluster), 120)
    cluster.airflow(f"/dags/{GENERAL_DAG}", "PATCH", is_paused=False)
    one, _ = generated(cluster, "one", **BOUNDLESS)
    yield Result(OURS, "one worker", "generating", one, "s")
    cluster.start("worker", "second", "--celery-hostname", f"second@{HOST}")
    until(lambda: "ready" in cluster.log("second"), 60)
    two, _ = generated(cluster, "two", **BOUNDLESS)
    yield Result(OURS, "two workers", "generating", two, "s")
    yield Result(OURS, "two workers", "times_as_fast", one / two, "ratio")
    seconds, asked = generated(cluster, "limited", LIMITED, requests_per_minute=LIMIT)
    yield Result(OURS, "two workers, a limit", "generating", seconds, "s")
    yield Result(OURS, "two workers, a limit", "share_of_limit", fastest(asked) / LIMIT, "share")


def known(cluster: Cluster) -> list[str]:
    """Return the DAGs that Airflow knows."""
    return [each["dag_id"] for each in cluster.airflow("/dags")["dags"]]


def generated(
    cluster: Cluster, name: str, prompts: int = PROMPTS, **limits: int
) -> tuple[float, list[float]]:
    """Let a run ask its models; return how long that took (s), and when one of them was asked."""
    watched = f"http://127.0.0.1:{cluster.ports['4566']}/sandbox/requests"
    requests.delete(watched, timeout=10)
    source = cluster.folder / "prompts.jsonl"
    rows = ({"id": f"p{n}", "prompt": f"What is {n} plus {n}?"} for n in range(prompts))
    source.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")

    def model(name: str, model_id: str) -> dict[str, Any]:
        return {"name": name, "provider": "bedrock", "model_id": model_id, "limits": limits}

    conf = {
        "evaluation": f"workers-{name}",
        "dataset": {"source": str(source), "id_field": "id"},
        "baseline": model("micro", "us.amazon.nova-micro-v1:0"),
        "candidates": [model("lite", "us.amazon.nova-lite-v1:0")],
        "generation": {"shard_size": SHARD},
    }
    path = f"/dags/{GENERAL_DAG}/dagRuns"
    run_id = cluster.airflow(path, "POST", logical_date=None, conf=conf)["dag_run_id"]
    run = f"{path}/{quote(run_id)}"
    ended = until(lambda: cluster.airflow(run)["state"] in ENDED, 1200)
    tasks = list(pages(cluster.airflow, f"{run}/taskInstances", "task_instances"))
    shards = [each for each in tasks if each["task_id"] == "generate"]
    if not ended or {each["state"] for each in shards} != {"success"}:
        raise RuntimeError(f"{name}: {[(t['task_id'], t['state']) for t in tasks]}")
    began = min(datetime.fromisoformat(each["start_date"]) for each in shards)
    over = max(datetime.fromisoformat(each["end_date"]) for each in shards)
    kept = requests.get(f"{watched}?operation=Converse", timeout=10).json()["requests"]
    return (over - began).total_seconds(), [row["time"] for row in kept if "lite" in row["path"]]


def fastest(times: list[float]) -> int:
    """Return the most requests within any minute."""
    return max(sum(start <= each < start + 60 for each in times) for start in times)


if __name__ == "__main__":
    raise SystemExit(main())
