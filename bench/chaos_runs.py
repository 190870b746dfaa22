"""Runs of a copy of the product that is killed while its AWS fails: start, strike, wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import quote

import requests
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from bench import chaos_counted
from bench.chaos_counted import PROMPTS, Row
from bench.chaos_plan import REQUEST_TIMEOUT, STAGES, WAITING, Plan
from bench.nights_counted import left
from bench.parts import QUICK, Parts
from bench.processes import aws_client, local_command
from include.names import GENERAL_DAG
from scripts import local

LONGEST_WAVE = timedelta(minutes=15)
"""After which a run counts as one that does not end."""

LOOK_SECONDS = 1.0
RUNS = f"/dags/{GENERAL_DAG}/dagRuns"
JANITOR = "/dags/nova_judge_janitor"
SETTINGS = {
    # In seconds; on AWS minutes, and no wait is over before Airflow knows of it.
    "SANDBOX_DELAYS": "endpoint=12,delete=0.3,job=15",
    "SANDBOX_FAULTS": "latency_ms=500",
    **{f"AIRFLOW__{key.upper()}": value for key, value in QUICK.items()},
}
"""What a copy is started with, to be killed."""

CONF: dict[str, Any] = {
    "dataset": {"source": "include/samples/prompts.jsonl", "id_field": "id", "limit": PROMPTS},
    "baseline": {
        "name": "small",
        "provider": "sagemaker",
        "deploy": {
            "model_id": "Small/Small-1B",
            "instance_types": ["ml.g5.2xlarge", "ml.g5.4xlarge"],
        },
        "limits": {"max_concurrency": 2},
    },
    "candidates": [
        {
            "name": "lite",
            "provider": "bedrock",
            "model_id": "us.amazon.nova-lite-v1:0",
            "limits": {"max_concurrency": 2},
        }
    ],
    "generation": {"shard_size": 8, "request_timeout_seconds": REQUEST_TIMEOUT},
}

ask_again = retry(
    retry=retry_if_exception_type(requests.RequestException),
    stop=stop_after_delay(180),
    wait=wait_fixed(1),
    reraise=True,
)
"""What is asked of an Airflow or a sandbox that may just have been killed."""


Strike = Callable[["Run", dict[str, Any]], bool]
"""Strikes a run that is at a task (as Airflow's API has it); says whether it could."""


@dataclass
class Run:
    """One run, on its way, and what strikes it on it."""

    evaluation: str
    """Its run id, too."""
    stage: str = ""
    """In which it is struck."""
    strike: Strike | None = None
    waits: bool = False
    """Whether it is struck while its task waits in the triggerer."""
    delay: float = 0.0
    """Seconds between its coming to its stage and the blow."""
    stops_job: bool = False
    """Whether somebody stops its judge job."""
    state: str = "queued"
    reached: float | None = None
    """When it came to its stage."""
    struck: bool = False
    job_stopped: bool = False
    late: bool = False
    """Whether it did not end by itself."""

    @property
    def path(self) -> str:
        """Return where Airflow's API has it."""
        return f"{RUNS}/{quote(self.evaluation, safe='')}"


class Chaos:
    """One copy of the product.

    Args:
        place: Where it is.
        settings: Environment variables that it is started with.
    """

    def __init__(self, place: local.Place, settings: Mapping[str, str]) -> None:
        self.place, self.settings, self.started = place, settings, False
        self.api, self.parts = local.Api(place), Parts(place.state, place.state)

    def up(self) -> None:
        """Start what is not running."""
        self.started = True
        self._local("up")

    def down(self) -> None:
        """Stop what was started here."""
        if self.started:
            self._local("down")
            self.parts.end()

    def undisturbed(self) -> dict[str, Any]:
        """Let a run pass that nothing disturbs; return the essence of its summary.

        Raises:
            LocalError: It fails or does not end.
        """
        run = Run(f"undisturbed-{time.time_ns()}")
        self.let_pass([run])
        if run.state != "success":
            raise local.LocalError("the run that nothing disturbs has failed")
        return self.essence(run)

    def essence(self, run: Run) -> dict[str, Any]:
        """Return what a run that has succeeded came to."""
        found = chaos_counted.summary(self._get, self.client("s3"), run.path)
        assert found
        return chaos_counted.essence(found)

    def wave(self, plans: Sequence[Plan], undisturbed: dict[str, Any]) -> list[Row]:
        """Let some runs pass at once, each with its faults and its blow; say what came of them."""
        self._faults("DELETE")
        for each in plans:
            for order in each.orders:
                self._faults("POST", **order)
        runs = [
            Run(
                each.evaluation,
                each.stage,
                partial(self._kill, each.part),
                waits=each.waits,
                delay=each.delay * (each.stage in WAITING),
                stops_job=each.stops_job,
            )
            for each in plans
        ]
        still = self.let_pass(runs)
        return [
            chaos_counted.count(
                self._get,
                self.client,
                each,
                run.path,
                struck=run.struck,
                late=run.late,
                undisturbed=undisturbed,
                still_there=[one for one in still if run.evaluation in one],
            )
            for each, run in zip(plans, runs, strict=True)
        ]

    def let_pass(self, runs: Sequence[Run]) -> list[str]:
        """Start runs at once, strike each in its stage, wait for all, then let the janitor pass.

        Returns:
            What is left in the sandbox: kind and name.
        """
        for run in runs:
            self._trigger(run.evaluation)
        self.until_ended(runs)
        self._faults("DELETE")
        self._let_the_janitor_pass()
        return self.left()

    def left(self) -> list[str]:
        """Return what in the sandbox costs money: kind and name."""
        return list(left(self.client("sagemaker"), self.client("bedrock")))

    def until_ended(self, runs: Sequence[Run]) -> None:
        """Watch runs until they end and their endpoints are deleted; strike each once."""
        end = time.monotonic() + LONGEST_WAVE.total_seconds()
        while going := [run for run in runs if run.state not in local.ENDED]:
            for run in going:
                if time.monotonic() > end and not run.late:
                    run.late = True
                    self.ask("PATCH", run.path, state="failed")
                self._look(run)
            time.sleep(LOOK_SECONDS)
        end = time.monotonic() + LONGEST_WAVE.total_seconds()
        while any(map(self._is_deleting, runs)) and time.monotonic() < end:
            time.sleep(1)

    def _is_deleting(self, run: Run) -> bool:
        """Whether endpoints are still to be deleted: a run may end before its teardown."""
        tasks = [task for task in self._tasks(run) if task["task_id"] == "delete"]
        return any(task["end_date"] is None for task in tasks)

    def _look(self, run: Run) -> None:
        run.state = self._get(run.path)["state"]
        if run.state in local.ENDED:
            return
        if run.strike and not run.struck:
            run.struck = self._strike(run, run.strike)
        if run.stops_job and not run.job_stopped:
            run.job_stopped = self._stop_job(run)

    def _strike(self, run: Run, strike: Strike) -> bool:
        """Strike a run if it is in its stage, and has been for long enough; return whether."""
        state = "deferred" if run.waits else "running"
        for task in self._tasks(run):
            if (task["task_id"], task["state"]) == (STAGES[run.stage], state):
                run.reached = run.reached or time.monotonic()
                if time.monotonic() >= run.reached + run.delay and strike(run, task):
                    return True
        return False

    def _kill(self, part: str, _: Run, task: dict[str, Any]) -> bool:
        """Kill -9 a part; return whether it was there."""
        if part == "worker":
            return self.parts.kill_worker(task["id"])
        if part == "sandbox":
            standing = self._faults("GET")["faults"]
            self.parts.kill_sandbox()
            self._local("up")
            for order in standing:
                used, times = order.pop("used"), order["times"]
                del order["id"]
                self._faults("POST", **{**order, "times": times and times - used})
            return True
        self.parts.kill(part)
        return True

    def _stop_job(self, run: Run) -> bool:
        """Stop the run's judge job as somebody else may; return whether it was there."""
        sagemaker = self.client("sagemaker")
        named = {"NameContains": run.evaluation, "StatusEquals": "InProgress"}
        for job in sagemaker.list_training_jobs(**named)["TrainingJobSummaries"]:
            sagemaker.stop_training_job(TrainingJobName=job["TrainingJobName"])
            return True
        return False

    @ask_again
    def _trigger(self, evaluation: str) -> None:
        there = self.api.call("GET", f"{RUNS}?run_id_pattern={evaluation}")["dag_runs"]
        if evaluation not in [run["dag_run_id"] for run in there]:
            conf = {**CONF, "evaluation": evaluation}
            self.api.call("POST", RUNS, logical_date=None, dag_run_id=evaluation, conf=conf)

    def _let_the_janitor_pass(self) -> None:
        run_id = f"chaos-{time.time_ns()}"
        path = f"{JANITOR}/dagRuns"
        self.ask("PATCH", JANITOR, is_paused=False)
        self.ask("POST", path, logical_date=None, dag_run_id=run_id)
        end = time.monotonic() + LONGEST_WAVE.total_seconds()
        while self._get(f"{path}/{run_id}")["state"] not in local.ENDED:
            if time.monotonic() > end:
                raise local.LocalError("the janitor does not end")
            time.sleep(1)

    def _tasks(self, run: Run) -> list[dict[str, Any]]:
        return list(local.pages(self._get, f"{run.path}/taskInstances", "task_instances"))

    @ask_again
    def ask(self, method: str, path: str, **body: Any) -> Any:
        """Ask Airflow's REST API, which may just have been killed, and return its answer.

        Raises:
            requests.RequestException: It says the same for minutes, or nothing.
        """
        return self.api.call(method, path, **body)

    def _get(self, path: str) -> Any:
        return self.ask("GET", path)

    @ask_again
    def _faults(self, method: str, **order: Any) -> Any:
        url = f"{self.place.sandbox_url}/sandbox/faults"
        answer = requests.request(method, url, json=order or None, timeout=10)
        answer.raise_for_status()
        return answer.json()

    def _local(self, command: str) -> None:
        local_command(self.place, command, **self.settings)

    def client(self, service: str) -> Any:
        """Return boto3's client of the sandbox."""
        return aws_client(self.place.sandbox_url, service)
