"""Facts about runs that are interrupted in every stage, on a real Airflow with its real processes.

Some runs go at once; when one has reached its stage, it is struck, and the others feel it too where
it strikes a part of Airflow. All else is as `make chaos` does it, which does more of it.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from sandbox_server import free_port

from bench import chaos_plan
from bench.chaos_counted import judge_jobs
from bench.chaos_runs import RUNS, SETTINGS, Chaos, Run, Strike
from scripts.local import Place

pytestmark = pytest.mark.slow

SLOWER = {"SANDBOX_DELAYS": "endpoint=12,delete=0.3,job=25", "SANDBOX_FAULTS": "latency_ms=1000"}
"""So that no stage is over before it is seen on a busy machine."""

SETTLED = 5
"""Seconds after which the triggerer has taken over a task that has just begun to wait."""


@pytest.fixture(scope="module")
def chaos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chaos]:
    place = Place(tmp_path_factory.mktemp("interrupted"), free_port(), free_port())
    chaos = Chaos(place, {**SETTINGS, **SLOWER})
    try:
        chaos.up()
        yield chaos
    finally:
        chaos.down()


@pytest.fixture(scope="module")
def undisturbed(chaos: Chaos) -> dict[str, Any]:
    return chaos.undisturbed()


def struck(chaos: Chaos, name: str, strike: Strike, *, stages: Iterable[str]) -> dict[str, Run]:
    """Let some runs pass at once, strike each in its own stage, and let the janitor pass."""
    runs = {}
    for stage in stages:
        waits = stage in chaos_plan.WAITING
        runs[stage] = Run(f"{name}-{stage}", stage, strike, waits=waits, delay=SETTLED * waits)
    assert chaos.let_pass(list(runs.values())) == []
    assert all(run.struck and not run.late for run in runs.values())
    return runs


def states(runs: dict[str, Run]) -> dict[str, str]:
    return {stage: run.state for stage, run in runs.items()}


def jobs(chaos: Chaos, runs: dict[str, Run]) -> dict[str, list[str]]:
    sagemaker = chaos.client("sagemaker")
    return {stage: judge_jobs(sagemaker, run.evaluation) for stage, run in runs.items()}


def goes_on(chaos: Chaos, undisturbed: dict[str, Any], runs: dict[str, Run]) -> None:
    """Every run ends as if nothing had happened, and has paid for one job."""
    assert states(runs) == dict.fromkeys(runs, "success")
    assert jobs(chaos, runs) == {stage: ["Completed"] for stage in runs}
    for run in runs.values():
        assert chaos.essence(run) == undisturbed


SEEDS = (5, 7, 8, 11, 14)
"""Of runs whose worker, triggerer, api-server, scheduler and sandbox are killed."""


def test_whatever_is_killed_while_aws_fails_costs_nothing(
    chaos: Chaos, undisturbed: dict[str, Any]
) -> None:
    plans = [chaos_plan.plan(seed) for seed in SEEDS]
    assert {plan.part for plan in plans} == set(chaos_plan.PARTS)
    rows = chaos.wave(plans, undisturbed)
    assert [row for row in rows if row.problems] == []
    # A stage may be over before it is seen where the others' blows have delayed the look at it.
    assert sum(row.struck for row in rows) >= 3


def test_a_worker_that_is_scaled_in_costs_nothing(
    chaos: Chaos, undisturbed: dict[str, Any]
) -> None:
    def scale_in(_: Run, task: dict[str, Any]) -> bool:
        return chaos.parts.scale_in(task["id"])

    goes_on(chaos, undisturbed, struck(chaos, "scaled-in", scale_in, stages=("generating",)))


def clear(chaos: Chaos, run: Run, task_ids: list[Any]) -> None:
    chaos.ask(
        "POST",
        f"{RUNS.removesuffix('dagRuns')}clearTaskInstances",
        dry_run=False,
        dag_run_id=run.evaluation,
        task_ids=task_ids,
        only_failed=False,
        include_downstream=True,
        reset_dag_runs=True,
    )


def test_a_cleared_task_goes_on_where_it_was(chaos: Chaos, undisturbed: dict[str, Any]) -> None:
    def clear_it(run: Run, task: dict[str, Any]) -> bool:
        clear(chaos, run, [[task["task_id"], task["map_index"]]])
        return True

    stages = ("creating", "generating", "judging")
    goes_on(chaos, undisturbed, struck(chaos, "cleared", clear_it, stages=stages))


STOPPED_WHERE_IT_WAS: dict[str, list[str]] = {
    "creating": [],
    "generating": [],
    "judging": ["Stopped"],
}
"""The judge jobs of a run that a person has ended, by the stage it was in."""


def test_a_task_that_is_marked_failed_ends_its_run_and_leaves_nothing(chaos: Chaos) -> None:
    def mark(run: Run, task: dict[str, Any]) -> bool:
        path = f"{run.path}/taskInstances/{task['task_id']}/{task['map_index']}"
        chaos.ask("PATCH", path, new_state="failed")
        return True

    stages = ("generating", "judging")  # a task that runs, and one that waits for a job
    runs = struck(chaos, "task-failed", mark, stages=stages)
    assert states(runs) == dict.fromkeys(stages, "failed")
    assert jobs(chaos, runs) == {stage: STOPPED_WHERE_IT_WAS[stage] for stage in stages}


def test_a_run_that_is_marked_failed_leaves_nothing(chaos: Chaos) -> None:
    def mark(run: Run, _: dict[str, Any]) -> bool:
        chaos.ask("PATCH", run.path, state="failed")
        return True

    stages = ("creating", "judging")  # an endpoint that may not be deleted yet, and a job
    runs = struck(chaos, "run-failed", mark, stages=stages)
    assert states(runs) == dict.fromkeys(stages, "failed")
    assert jobs(chaos, runs) == {stage: STOPPED_WHERE_IT_WAS[stage] for stage in stages}


def test_a_judge_that_had_succeeded_and_is_cleared_judges_again(
    chaos: Chaos, undisturbed: dict[str, Any]
) -> None:
    run = Run("again")
    chaos.let_pass([run])
    clear(chaos, run, ["compare.judge"])
    run.state = "queued"
    chaos.until_ended([run])
    assert run.state == "success"
    assert judge_jobs(chaos.client("sagemaker"), run.evaluation) == ["Completed", "Completed"]
    assert chaos.essence(run) == undisturbed
    assert chaos.left() == []
