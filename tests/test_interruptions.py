"""Facts about runs that are interrupted in every stage, on a real Airflow with its real processes.

Some runs go at once; when one has reached its stage, it is struck, and the others feel it too where
it strikes a part of Airflow. Heartbeats, their time-outs and retry delays are shortened to seconds
(QUICK); all else is as `make up` starts it. `make chaos` does more of it.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from local_copy import Copy

from bench import chaos_counted, chaos_plan
from bench.chaos_counted import essence, judge_jobs
from bench.chaos_plan import STAGES
from bench.chaos_runs import CONF, Chaos
from bench.parts import QUICK, Parts
from scripts.local import Place

pytestmark = pytest.mark.slow

DAG = "nova_llm_judge"

SANDBOX = {
    "sandbox_delays": "endpoint=12,delete=0.3,job=25",
    "sandbox_faults": "latency_ms=1000",
}
WAITING = [STAGES[stage] for stage in chaos_plan.WAITING]
"""Tasks that wait in the triggerer, without a worker."""

SETTLED = 5
"""Seconds after which the triggerer has taken over a task that has just begun to wait."""

ENDED = ("success", "failed")


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
        self.parts = Parts(folder / "state", folder)

    def up(self) -> None:
        settings = {**{f"airflow__{key}": value for key, value in QUICK.items()}, **SANDBOX}
        self.environ |= {key.upper(): value for key, value in settings.items()}
        output, _ = self.command("scripts.local", "up").communicate(timeout=300)
        assert "Log in" in output, output

    def start(self, stage: str, name: str) -> Run:
        run = Run(stage, f"{name}-{stage}")
        path = f"/dags/{DAG}/dagRuns"
        conf = {**CONF, "evaluation": "interrupted"}
        self.airflow(path, "POST", logical_date=None, dag_run_id=run.run_id, conf=conf)
        return run

    def tasks(self, run: Run) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.airflow(f"{run.path}/taskInstances?limit=100")[
            "task_instances"
        ]
        return found

    def until_ended(self, runs: list[Run], strike: Strike | None, seconds: int) -> None:
        """Watch runs; strike each once when the task of its stage runs, or waits."""
        end = time.monotonic() + seconds
        while any(run.state not in ENDED for run in runs):
            assert time.monotonic() < end, self.unfinished(runs)
            for run in runs:
                if run.state in ENDED:
                    continue
                run.state = self.airflow(run.path)["state"]
                task_id = STAGES[run.stage]
                state = "deferred" if task_id in WAITING else "running"
                if strike and not run.struck:
                    for task in self.tasks(run):
                        if task["task_id"] == task_id and task["state"] == state:
                            run.reached = run.reached or time.monotonic()
                            if state == "running" or time.monotonic() - run.reached > SETTLED:
                                run.struck = True
                                strike(run, task)
                            break
            time.sleep(1)

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

    def down(self) -> str:
        output = super().down()
        self.parts.end()
        return output

    def summary(self, run: Run) -> dict[str, Any]:
        found = chaos_counted.summary(self.airflow, self.client("s3"), run.path)
        assert found
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


def struck(
    copy: Interrupted,
    name: str,
    strike: Strike,
    *,
    stages: Iterable[str],
) -> Any:
    """Run some at once, strike each in its own stage, and let the janitor pass."""
    runs = {stage: copy.start(stage, name) for stage in stages}
    copy.until_ended(list(runs.values()), strike, 600)
    assert all(run.struck for run in runs.values())
    for run in runs.values():
        copy.settled(run)
    copy.janitor()
    assert copy.left_over() == []
    jobs = {stage: judge_jobs(copy.client("sagemaker"), run.run_id) for stage, run in runs.items()}
    assert not any("InProgress" in statuses for statuses in jobs.values())
    return runs, jobs


def goes_on(copy: Interrupted, undisturbed: dict[str, Any], outcome: Any) -> None:
    """Every run ends as if nothing had happened, and has paid for one job."""
    runs, jobs = outcome
    assert {stage: run.state for stage, run in runs.items()} == dict.fromkeys(runs, "success")
    assert jobs == {stage: ["Completed"] for stage in runs}
    for run in runs.values():
        assert essence(copy.summary(run)) == undisturbed


SEEDS = (5, 7, 8, 11, 14)
"""Of runs whose worker, triggerer, api-server, scheduler and sandbox are killed."""


def test_whatever_is_killed_while_aws_fails_costs_nothing(
    copy: Interrupted, undisturbed: dict[str, Any]
) -> None:
    plans = [chaos_plan.plan(seed) for seed in SEEDS]
    assert {plan.part for plan in plans} == set(chaos_plan.PARTS)
    place = Place(copy.folder / "state", copy.airflow_port, copy.sandbox_port)
    chaos = Chaos(place, copy.environ)
    chaos.parts = copy.parts
    rows = chaos.wave(plans, undisturbed)
    assert [row for row in rows if row.problems] == []
    # A stage may be over before it is seen where the others' blows have delayed the look at it.
    assert sum(row.struck for row in rows) >= 3


def test_a_worker_that_is_scaled_in_costs_nothing(
    copy: Interrupted, undisturbed: dict[str, Any]
) -> None:
    def scale_in(run: Run, task: dict[str, Any]) -> None:
        copy.parts.scale_in(task["id"])

    goes_on(copy, undisturbed, struck(copy, "scaled-in", scale_in, stages=("generating",)))


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

    stages = ("creating", "generating", "judging")
    goes_on(copy, undisturbed, struck(copy, "cleared", clear, stages=stages))


STOPPED_WHERE_IT_WAS: dict[str, list[str]] = {
    "creating": [],
    "generating": [],
    "judging": ["Stopped"],
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
    def mark(run: Run, task: dict[str, Any]) -> None:
        copy.airflow(run.path, "PATCH", state="failed")

    stages = ("creating", "judging")  # an endpoint that may not be deleted yet, and a job
    runs, jobs = struck(copy, "run-failed", mark, stages=stages)
    assert {stage: run.state for stage, run in runs.items()} == dict.fromkeys(stages, "failed")
    assert jobs == {stage: STOPPED_WHERE_IT_WAS[stage] for stage in stages}


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
    assert judge_jobs(copy.client("sagemaker"), run.run_id) == ["Completed", "Completed"]
    assert essence(copy.summary(run)) == undisturbed
    assert copy.left_over() == []
