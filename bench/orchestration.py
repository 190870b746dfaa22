"""`make bench-orchestration`: what Airflow adds to the work, and how long endpoints stand idle.

One sandbox that lets nobody wait, and the same evaluation three times: by the DAG, from trigger to
report; by the same steps in one process, which is the sum of the work; and by AWS's notebook as a
script. Airflow and the sandbox have a state folder of their own, in `.local/bench/orchestration`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote

import requests

from bench.processes import ROOT, aws_client, fresh_place, local_command
from bench.processes import run as run_process
from bench.table import OURS, Result, machine, say, show, write
from include.config_files import load_environment
from include.judge import image_uri
from include.names import GENERAL_DAG
from scripts import local

RESULTS = ROOT / "bench" / "results" / "orchestration.json"
IN_ONE_PROCESS, NOTEBOOK = "in-one-process", "notebook"
PROMPTS = (6, 500)
"""As many as the notebook asks, and as many as a verdict needs."""

ROUNDS = 3
RUNS = f"/dags/{GENERAL_DAG}/dagRuns"
NO_WAIT = "endpoint=0,delete=0,job=0"


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table and store the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--prompts", type=int, nargs="+", default=list(PROMPTS))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path, help="where to write; default: only a full run writes")
    options = parser.parse_args(arguments)
    place = fresh_place("orchestration", 8093, 4579)
    facts = machine()
    try:
        local_command(place, "up", SANDBOX_DELAYS=NO_WAIT)
        results = [
            result for count in options.prompts for result in measured(place, count, options.rounds)
        ]
    except (local.LocalError, requests.RequestException) as error:
        say(f"Error: {error}")
        return 2
    finally:
        local_command(place, "down", SANDBOX_DELAYS=NO_WAIT)
    rows = [
        [
            *(each.case, each.system, each.metric),
            "-" if each.value is None else f"{each.value:.3g}",
            each.unit,
        ]
        for each in results
    ]
    show("From trigger to report", ["case", "system", "metric", "value", "unit"], rows)
    whole = (tuple(options.prompts), options.rounds) == (PROMPTS, ROUNDS)
    out = options.out or (RESULTS if whole else None)
    if out:
        write(out, facts, results)
        say(f"\nWritten to {out}")
    return 0


def measured(place: local.Place, count: int, rounds: int) -> Iterator[Result]:
    """Yield the seconds of each way by the median, and their ratios; all take turns."""
    case = f"{count} prompts"
    source = place.state / f"prompts-{count}.jsonl"
    lines = (json.dumps({"id": f"p{n}", "prompt": f"What is {n} plus {n}?"}) for n in range(count))
    source.write_text("\n".join(lines) + "\n", encoding="utf-8")
    seconds: dict[str, list[float]] = {OURS: [], IN_ONE_PROCESS: [], NOTEBOOK: []}
    idle, whole = [], []
    for number in range(rounds):
        say(f"{case}, round {number + 1} of {rounds}")
        requests.delete(f"{place.sandbox_url}/sandbox/requests", timeout=30)
        to_report, to_end = by_the_dag(place, source)
        seconds[OURS].append(to_report)
        whole.append(to_end)
        idle.append(idle_seconds(place))
        seconds[IN_ONE_PROCESS].append(in_one_process(place, source))
        seconds[NOTEBOOK].append(by_the_notebook(place, source))
    medians = {system: median(found) for system, found in seconds.items()}
    for system, found in medians.items():
        yield Result(system, case, "trigger_to_report", found, "s")
        if system != OURS:
            yield Result(system, case, "ours_to_theirs", medians[OURS] / found, "ratio")
    yield Result(OURS, case, "trigger_to_end", median(whole), "s")
    yield Result(OURS, case, "endpoint_idle", max(idle), "s")
    note = "never deleted"
    yield Result(NOTEBOOK, case, "endpoint_idle", None, "s", note)


def conf(source: Path) -> dict[str, Any]:
    """Return the notebook's comparison as an evaluation."""
    return {
        "evaluation": "orchestration",
        "environment": "sandbox",
        "dataset": {"source": str(source), "id_field": "id"},
        "parameters": {"max_tokens": 512},
        "baseline": {
            "name": "qwen",
            "provider": "sagemaker",
            "deploy": {
                "model_id": "Qwen/Qwen2.5-1.5B-Instruct",
                "instance_types": ["ml.g5.2xlarge"],
            },
        },
        "candidates": [
            {
                "name": "claude",
                "provider": "bedrock",
                "model_id": "us.anthropic.claude-sonnet-4-6",
            }
        ],
    }


def by_the_dag(place: local.Place, source: Path) -> tuple[float, float]:
    """Trigger a run; return the seconds to its report and to its end.

    Raises:
        LocalError: The run fails.
    """
    api, run_id = local.Api(place), f"bench-{time.time_ns()}"
    api.call("POST", RUNS, logical_date=None, dag_run_id=run_id, conf=conf(source))
    path = f"{RUNS}/{quote(run_id)}"
    while (run := api.call("GET", path))["state"] not in local.ENDED:
        time.sleep(1)
    if run["state"] == "failed":
        raise local.LocalError(f"the run failed; see {place.state}/airflow/logs")
    (report,) = [task["end_date"] for task in api.tasks(path) if task["task_id"] == "report"]
    since, *until = map(datetime.fromisoformat, (run["queued_at"], report, run["end_date"]))
    to_report, to_end = ((each - since).total_seconds() for each in until)
    return to_report, to_end


def idle_seconds(place: local.Place) -> float:
    """Return how long the endpoint stood idle between its last response and its deletion."""
    asked, deleted = (
        requests.get(
            f"{place.sandbox_url}/sandbox/requests", params={"operation": operation}, timeout=60
        ).json()["requests"][-1]["time"]
        for operation in ("InvokeEndpoint", "DeleteEndpoint")
    )
    return float(deleted - asked)


def in_one_process(place: local.Place, source: Path) -> float:
    """Let all steps pass in one process; return the seconds, start of Python included."""
    config = source.with_suffix(".json")
    config.write_text(json.dumps(conf(source)), encoding="utf-8")
    return alone(place, "in_one_process.py", config)


def by_the_notebook(place: local.Place, source: Path) -> float:
    """Let the notebook's script pass; return the seconds, start of Python included."""
    environment = load_environment("sandbox")
    role = environment.execution_role_arn
    seconds = alone(place, "notebook_run.py", source, role, image_uri(environment))
    sandbox = aws_client(place.sandbox_url, "sagemaker")
    sandbox.delete_endpoint(EndpointName="qwen25")
    sandbox.delete_endpoint_config(EndpointConfigName="qwen25")
    sandbox.delete_model(ModelName="qwen25")
    sandbox.get_waiter("endpoint_deleted").wait(
        EndpointName="qwen25", WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    return seconds


def alone(place: local.Place, script: str, *arguments: Any) -> float:
    """Run a script of peers/ and return its seconds.

    Raises:
        LocalError: It fails.
    """
    outcome = run_process(
        [
            *(sys.executable, str(ROOT / "bench" / "peers" / script), place.sandbox_url),
            *map(str, arguments),
        ],
        env={
            **{key: value for key, value in os.environ.items() if not key.startswith("AWS_")},
            "AWS_ACCESS_KEY_ID": "sandbox",
            "AWS_SECRET_ACCESS_KEY": "sandbox",
            "AWS_DEFAULT_REGION": "us-east-1",
            "PYTHONPATH": str(ROOT),
        },
        cwd=ROOT,
        output=place.state / f"{script}.log",
        timeout=900,
    )
    if outcome.code != 0:
        raise local.LocalError(f"{script}: {outcome.last_words()}")
    return outcome.seconds


if __name__ == "__main__":
    raise SystemExit(main())
