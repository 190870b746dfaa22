"""Facts about runs that are interrupted in every stage, on a real Airflow with its real processes.

Four runs go at once, one for each stage; when a run has reached its stage, it is struck, and the
other three feel it too where it strikes a part of Airflow. Heartbeats, their time-outs and retry
delays are shortened to seconds (QUICK); all else is as `make up` starts it.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest
import requests
from local_copy import Copy
from sandbox_server import ROOT

from include import ownership
from include.storage import RunFolder

pytestmark = pytest.mark.slow

DAG = "nova_llm_judge"

QUICK = {
    "airflow__core__default_task_retry_delay": "1",
    "airflow__core__parallelism": "8",
    "airflow__scheduler__scheduler_heartbeat_sec": "1",
    "airflow__scheduler__scheduler_health_check_threshold": "15",
    "airflow__scheduler__orphaned_tasks_check_interval": "4",
    "airflow__scheduler__task_instance_heartbeat_sec": "2",
    "airflow__scheduler__task_instance_heartbeat_timeout": "45",
    "airflow__scheduler__task_instance_heartbeat_timeout_detection_interval": "3",
    "airflow__triggerer__job_heartbeat_sec": "1",
    "airflow__scheduler__task_queued_timeout": "90",
    "airflow__scheduler__task_queued_timeout_check_interval": "5",
    "airflow__triggerer__triggerer_health_check_threshold": "15",
    "airflow__workers__min_heartbeat_interval": "1",
}
SANDBOX = {
    "sandbox_delays": "endpoint=12,delete=0.3,job=25",
    "sandbox_faults": "latency_ms=1000",
}
CONF = {
    "evaluation": "interrupted",
    "dataset": {"source": "include/samples/prompts.jsonl", "id_field": "id", "limit": 16},
    "baseline": {
        "name": "small",
        "provider": "sagemaker",
        "deploy": {"model_id": "Small/Small-1B", "instance_types": ["ml.g5.2xlarge"]},
        "limits": {"max_concurrency": 2},
    },
    "candidates": [
        {
            "name": "large",
            "provider": "sagemaker",
            "deploy": {"model_id": "Large/Large-70B", "instance_types": ["ml.g5.2xlarge"]},
            "limits": {"max_concurrency": 2},
        }
    ],
}
STAGES = {
    "creating": "deploy",
    "generating": "generate",
    "judging": "compare.judge",
    "summarizing": "compare.summarize",
}
WAITING = ("deploy", "compare.judge")
"""Tasks that wait in the triggerer, without a worker."""

SETTLED = 5
"""Seconds after which the triggerer has taken over a task that has just begun to wait."""

SLOW = {"CreateEndpoint": "*", "CreateTrainingJob": "*", "GetObject": "*/output.tar.gz"}
"""What the sandbox takes some seconds for, so that a stage lasts long enough to be struck in."""

ENDED = ("success", "failed")
VOLATILE = ("run_id", "started_at", "ended_at", "artifacts", "accepted")


@dataclass
class Run:
    """One run that is to be struck in one stage."""

    stage: str
    run_id: str
    reached: float = 0.0
    struck: bool = False
    state: str = "queued"

    @property
    def path(self) -> str:
        return f"/dags/{DAG}/dagRuns/{quote(self.run_id, safe='')}"


Strike = Callable[[Run, dict[str, Any]], None]


class Interrupted(Copy):
    """A copy whose parts can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.sessions: set[int] = set()

    def up(self) -> None:
        settings = {**QUICK, **SANDBOX}
        self.environ |= {key.upper(): value for key, value in settings.items()}
        output, _ = self.command("scripts.local", "up").communicate(timeout=300)
        assert "Log in" in output, output
        for operation, resource in SLOW.items():
            order = {"operation": operation, "resource": resource, "latency_ms": 3000}
            url = f"http://127.0.0.1:{self.sandbox_port}/sandbox/faults"
            answer = requests.post(url, json={**order, "times": None}, timeout=10)
            assert answer.ok, answer.text

    def start(self, stage: str, name: str) -> Run:
        run = Run(stage, f"{name}-{stage}")
        path = f"/dags/{DAG}/dagRuns"
        self.airflow(path, "POST", logical_date=None, dag_run_id=run.run_id, conf=CONF)
        return run

    def tasks(self, run: Run) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.airflow(f"{run.path}/taskInstances?limit=100")[
            "task_instances"
        ]
        return found

    def until_ended(
        self, runs: list[Run], strike: Strike | None, seconds: int, waiting: str = "deferred"
    ) -> None:
        """Watch runs; strike each once when the task of its stage runs, or waits in `waiting`."""
        end = time.monotonic() + seconds
        while any(run.state not in ENDED for run in runs):
            assert time.monotonic() < end, self.unfinished(runs)
            for run in runs:
                if run.state in ENDED:
                    continue
                run.state = self.airflow(run.path)["state"]
                task_id = STAGES[run.stage]
                state = waiting if task_id in WAITING else "running"
                if strike and not run.struck:
                    for task in self.tasks(run):
                        if task["task_id"] == task_id and task["state"] == state:
                            run.reached = run.reached or time.monotonic()
                            if state == "running" or time.monotonic() - run.reached > SETTLED:
                                run.struck = True
                                strike(run, task)
                            break
            time.sleep(0.3)

    def unfinished(self, runs: list[Run]) -> str:
        """Say what every run still waits for, and what the scheduler last wrote."""
        waits = [
            (run.run_id, run.state, task["task_id"], task["state"], task["try_number"])
            for run in runs
            for task in self.tasks(run)
            if task["state"] not in ("success", "failed", "skipped", "upstream_failed")
        ]
        logs = [log for log in self.folder.rglob("*.log") if log.stem in ("airflow", "scheduler")]
        return "\n".join([str(waits), *(log.read_text(errors="replace")[-2000:] for log in logs)])

    def settled(self, run: Run) -> None:
        """Wait for the teardown, which a run that was marked failed still has before it."""
        end = time.monotonic() + 120
        while any(
            task["state"] in ("running", "queued", "scheduled", "deferred", "up_for_retry", None)
            for task in self.tasks(run)
            if task["task_id"] == "delete"
        ):
            assert time.monotonic() < end, run.run_id
            time.sleep(0.5)

    def processes(self, *title: str) -> list[psutil.Process]:
        """Find this copy's processes by the last words of their command line."""
        home = str(self.folder / "state" / "airflow")
        found = []
        for process in psutil.process_iter():
            try:
                words = " ".join(process.cmdline()).split()
                if words[-len(title) :] == list(title) and self._is_ours(process, home):
                    found.append(process)
            except (psutil.Error, IndexError):
                continue
        return found

    def _is_ours(self, process: psutil.Process, home: str) -> bool:
        lineage = [process, *process.parents()]
        return any(each.environ().get("AIRFLOW_HOME") == home for each in lineage if each.pid > 1)

    def kill(self, part: str) -> None:
        """Kill -9 a part of Airflow and start it again, as a supervisor would.

        What the scheduler leaves behind, its workers, goes on like any orphan.
        """
        found = self.processes(part)
        assert found, part
        environ, command = found[0].environ(), found[0].cmdline()
        for process in found:
            for child in process.children():
                if "serve-logs" in " ".join(child.cmdline()):
                    child.kill()  # it holds the port that the next one needs
            process.kill()
        psutil.wait_procs(found, timeout=10)
        with (self.folder / f"{part}.log").open("ab") as log:
            new_session = ["setsid", "--fork", *command]
            subprocess.run(new_session, env=environ, cwd=ROOT, stdout=log, stderr=log, check=True)
        end = time.monotonic() + 10
        while not (started := self.processes(part)):
            assert time.monotonic() < end, part
            time.sleep(0.1)
        self.sessions |= {os.getsid(process.pid) for process in started}

    def down(self) -> str:
        """Stop everything, also what was started again in a session of its own."""
        output = super().down()
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if os.getsid(process.pid) in self.sessions:
                    process.kill()
        return output

    def scale_in(self, task: dict[str, Any]) -> None:
        """Ask the worker that holds a task to end (SIGTERM), as a platform does."""
        for process in self.processes("LocalExecutor:", task["id"]):
            process.terminate()

    def kill_worker(self, task: dict[str, Any]) -> None:
        """Kill -9 the worker that holds a task, and the process that runs it.

        Idle workers are spared: LocalExecutor never recovers from one that dies holding the lock
        of its queue.
        """
        for process in self.processes(task["id"]):
            process.kill()

    def summary(self, run: Run) -> dict[str, Any]:
        uri = self.airflow(f"{run.path}/taskInstances/resolve/xcomEntries/uri")["value"].strip('"')
        body: dict[str, Any] = json.loads(RunFolder(self.client("s3"), uri).read("summary.json"))
        return body

    def jobs(self, run: Run) -> list[str]:
        """Return the status of every judge job that a run has started."""
        sagemaker = self.client("sagemaker")
        pages = sagemaker.get_paginator("list_training_jobs").paginate()
        found = []
        for job in [job for page in pages for job in page["TrainingJobSummaries"]]:
            tags = sagemaker.list_tags(ResourceArn=job["TrainingJobArn"])["Tags"]
            if {"Key": ownership.RUN_ID, "Value": run.run_id} in tags:
                found.append(job["TrainingJobStatus"])
        return found

    def janitor(self) -> None:
        """Let the janitor pass once."""
        path = "/dags/nova_judge_janitor/dagRuns"
        run_id = self.airflow(path, "POST", logical_date=None)["dag_run_id"]
        end = time.monotonic() + 120
        while (state := self.airflow(f"{path}/{quote(run_id)}")["state"]) not in ENDED:
            assert time.monotonic() < end
            time.sleep(0.5)
        assert state == "success"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Interrupted]:
    copy = Interrupted(tmp_path_factory.mktemp("interrupted"))
    try:
        copy.up()
        yield copy
    finally:
        copy.down()


@pytest.fixture(scope="module")
def undisturbed(copy: Interrupted) -> dict[str, Any]:
    run = copy.start("summarizing", "undisturbed")
    copy.until_ended([run], None, 400)
    assert run.state == "success"
    return essence(copy.summary(run))


def essence(summary: dict[str, Any]) -> dict[str, Any]:
    """A summary without what differs between any two runs."""
    kept = {key: value for key, value in summary.items() if key not in VOLATILE}
    kept["provenance"] = {k: v for k, v in kept["provenance"].items() if k != "judge_jobs"}
    kept["comparisons"] = [{**each, "change": None} for each in kept["comparisons"]]
    timing = ("latency_ms", "retries")
    kept["models"] = [{k: m[k] for k in m if k not in timing} for m in kept["models"]]
    return kept


def struck(
    copy: Interrupted,
    name: str,
    strike: Strike,
    waiting: str = "deferred",
    stages: Iterable[str] = tuple(STAGES),
) -> Any:
    """Run some at once, strike each in its own stage, and let the janitor pass."""
    runs = {stage: copy.start(stage, name) for stage in stages}
    copy.until_ended(list(runs.values()), strike, 600, waiting)
    assert all(run.struck for run in runs.values())
    for run in runs.values():
        copy.settled(run)
    copy.janitor()
    assert copy.left_over() == []
    jobs = {stage: copy.jobs(run) for stage, run in runs.items()}
    assert not any("InProgress" in statuses for statuses in jobs.values())
    return runs, jobs


def goes_on(copy: Interrupted, undisturbed: dict[str, Any], outcome: Any) -> None:
    """Every run ends as if nothing had happened, and has paid for one job."""
    runs, jobs = outcome
    assert {stage: run.state for stage, run in runs.items()} == dict.fromkeys(runs, "success")
    assert jobs == {stage: ["Completed"] for stage in runs}
    for run in runs.values():
        assert essence(copy.summary(run)) == undisturbed


def test_a_killed_worker_costs_nothing(copy: Interrupted, undisturbed: dict[str, Any]) -> None:
    outcome = struck(copy, "worker", lambda run, task: copy.kill_worker(task), "running")
    goes_on(copy, undisturbed, outcome)


def test_a_worker_that_is_scaled_in_costs_nothing(
    copy: Interrupted, undisturbed: dict[str, Any]
) -> None:
    # Tasks that wait have no worker to lose.
    stages = ("generating", "summarizing")
    outcome = struck(copy, "scaled-in", lambda run, task: copy.scale_in(task), "running", stages)
    goes_on(copy, undisturbed, outcome)


def test_a_killed_triggerer_costs_nothing(copy: Interrupted, undisturbed: dict[str, Any]) -> None:
    stages = ("creating", "judging")  # the ones that wait there
    outcome = struck(copy, "triggerer", lambda run, task: copy.kill("triggerer"), stages=stages)
    goes_on(copy, undisturbed, outcome)


def test_a_killed_scheduler_costs_nothing(copy: Interrupted, undisturbed: dict[str, Any]) -> None:
    stages = ("generating", "judging")  # a task that runs, and one that waits
    outcome = struck(copy, "scheduler", lambda run, task: copy.kill("scheduler"), stages=stages)
    goes_on(copy, undisturbed, outcome)


def test_a_cleared_task_goes_on_where_it_was(
    copy: Interrupted, undisturbed: dict[str, Any]
) -> None:
    def clear(run: Run, task: dict[str, Any]) -> None:
        copy.airflow(
            f"/dags/{DAG}/clearTaskInstances",
            "POST",
            dry_run=False,
            dag_run_id=run.run_id,
            task_ids=[[task["task_id"], task["map_index"]]],
            only_failed=False,
            include_downstream=True,
            reset_dag_runs=True,
        )

    goes_on(copy, undisturbed, struck(copy, "cleared", clear))


STOPPED_WHERE_IT_WAS = {
    "creating": [],
    "generating": [],
    "judging": ["Stopped"],
    "summarizing": ["Completed"],
}
"""The judge jobs of a run that a person has ended, by the stage it was in."""


def test_a_task_that_is_marked_failed_ends_its_run_and_leaves_nothing(copy: Interrupted) -> None:
    def mark(run: Run, task: dict[str, Any]) -> None:
        path = f"{run.path}/taskInstances/{task['task_id']}/{task['map_index']}"
        copy.airflow(path, "PATCH", new_state="failed")

    stages = ("generating", "judging")  # a task that runs, and one that waits for a job
    runs, jobs = struck(copy, "task-failed", mark, stages=stages)
    assert {stage: run.state for stage, run in runs.items()} == dict.fromkeys(stages, "failed")
    assert jobs == {stage: STOPPED_WHERE_IT_WAS[stage] for stage in stages}


def test_a_run_that_is_marked_failed_leaves_nothing(copy: Interrupted) -> None:
    runs, jobs = struck(
        copy, "run-failed", lambda run, task: copy.airflow(run.path, "PATCH", state="failed")
    )
    assert {stage: run.state for stage, run in runs.items()} == dict.fromkeys(STAGES, "failed")
    assert jobs == STOPPED_WHERE_IT_WAS


def test_a_judge_that_had_succeeded_and_is_cleared_judges_again(
    copy: Interrupted, undisturbed: dict[str, Any]
) -> None:
    run = copy.start("summarizing", "again")
    copy.until_ended([run], None, 400)
    copy.airflow(
        f"/dags/{DAG}/clearTaskInstances",
        "POST",
        dry_run=False,
        dag_run_id=run.run_id,
        task_ids=["compare.judge"],
        only_failed=False,
        include_downstream=True,
        reset_dag_runs=True,
    )
    run.state = "queued"
    copy.until_ended([run], None, 400)
    assert run.state == "success"
    assert copy.jobs(run) == ["Completed", "Completed"]
    assert essence(copy.summary(run)) == undisturbed
    assert copy.left_over() == []
