"""Compare language models with the Amazon Nova judge.

Every prompt is answered once by the baseline and once by each candidate; Nova judges each pair of
responses in both orders; the run ends in win rates with intervals, a report and a gate.

`nova_llm_judge` takes any evaluation as conf. Each file in `evaluations/` is a DAG of its own.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

# What this file names of Airflow its DAG processor imports once, and the rest each time it parses.
import airflow.providers.amazon.aws.operators.bedrock
import airflow.providers.amazon.aws.operators.sagemaker
import airflow.providers.standard.operators.hitl  # noqa: F401
from airflow.sdk import (
    DAG,
    Asset,
    AssetOrTimeSchedule,
    BaseOperator,
    CronTriggerTimetable,
    task_group,
)

from include import judging, names, steps, trigger_form
from include.approval import GateApprovalOperator
from include.config_files import evaluation_files, example, load_evaluation
from include.errors import JudgeError
from include.notify import after_gate, when_stuck
from include.operators import (
    BatchOperator,
    DeleteEndpointOperator,
    DeployEndpointOperator,
    NovaJudgeOperator,
)
from include.tasks import as_airflow_param, broken, gate, resolve, step

ATTEMPTS = {
    "retries": 2,
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=10),
}
WAITING = 4
"""Retries of tasks that wait in the triggerer. Airflow counts it as a failure when a wait is over
before its scheduler has heard that the task began to wait (docs/decisions/0020)."""
JUDGE_POOL = os.environ.get("NOVA_JUDGE_POOL", "default_pool")


def pipeline(evaluation: dict[str, Any] | None, outlet: Asset | None) -> None:
    """Wire the tasks of one run; the names are the ones that the Airflow UI shows."""
    run = resolve(evaluation)
    shards = step(steps.load_prompts)(run)
    judged = step(steps.plan)(run, shards)

    reserved = step(steps.reserve)(run, judged)
    deploy = for_each_model(DeployEndpointOperator, "deploy", run, reserved)
    generate = (
        step(steps.generate, map_index_template="{{ task.op_kwargs['shard']['model'] }}")
        .partial(run=run, deployments=deploy.output)
        .expand(shard=shards)
    )
    # Beside the endpoints, not before them: a batch job may take a day, and they cost by the hour.
    batch = for_each_model(BatchOperator, "batch", run, reserved)
    delete = for_each_model(DeleteEndpointOperator, "delete", run, reserved)
    # An endpoint that cannot be deleted fails the run.
    generate >> delete.as_teardown(setups=[reserved, deploy], on_failure_fail_dagrun=True)

    @task_group
    def compare(key: str) -> None:
        # One model's failed generation must not take the others down, so this looks for itself.
        written = step(
            judging.write_judge_input,
            trigger_rule="all_done",
            map_index_template="{{ task.op_args[1] }}",
        )(run, key, generate, batch.output)
        verdicts = NovaJudgeOperator(
            task_id="judge",
            run=run,
            config=written,
            aws_conn_id=run["aws_conn_id"],
            pool=JUDGE_POOL,
            retries=WAITING,
            doc_md=NovaJudgeOperator.__doc__,
            map_index_template="{{ task.config['key'] }}",
        )
        step(judging.summarize, map_index_template="{{ task.op_args[1]['key'] }}")(
            run, verdicts.output
        )

    compared = compare.expand(key=judged)
    published = step(steps.report, linked=True, trigger_rule="all_done")(run)
    compared >> published
    approved = GateApprovalOperator(
        task_id="approve", run=run, summary_uri=published, doc_md=GateApprovalOperator.__doc__
    )
    # As a teardown it also runs when a person ends the run, which would else end in success.
    tell = after_gate(evaluation)
    decide = gate(outlet, on_success_callback=tell, on_failure_callback=tell)
    decide(run, published, approved.output).as_teardown(on_failure_fail_dagrun=True)


def for_each_model(operator: type[BaseOperator], task_id: str, run: Any, reserved: Any) -> Any:
    """Make a task of an operator that works on one model, mapped over all of them."""
    return operator.partial(
        task_id=task_id,
        run=run,
        aws_conn_id=run["aws_conn_id"],
        retries=WAITING,
        doc_md=operator.__doc__,
        map_index_template="{{ task.config['model'] }}",
    ).expand(config=reserved)


def dag(dag_id: str, evaluation: dict[str, Any] | None) -> DAG:
    """Build one DAG: that of an evaluation file with its schedule, or the general one."""
    schedule = (evaluation or {}).get("schedule") or {}
    begin = since(schedule)
    outlet = Asset(f"nova_judge/{evaluation['evaluation']}") if evaluation else None
    with DAG(
        dag_id,
        dag_display_name=f"{evaluation['evaluation']} (Nova judge)" if evaluation else dag_id,
        description=(__doc__ or "").splitlines()[0],
        doc_md=__doc__,
        schedule=when(schedule),
        start_date=begin,
        catchup=begin is not None,
        deadline=when_stuck(dag_id, evaluation) or None,
        max_active_runs=schedule.get("max_active_runs", 1 if evaluation else 16),
        is_paused_upon_creation=evaluation is not None,
        default_args=ATTEMPTS,
        tags=["nova-judge", *(["scheduled"] if evaluation else [])],
    ) as built:
        pipeline(evaluation, outlet)
        # Not before: each task would carry a copy, which Airflow checks several times over.
        fields = trigger_form.fields(evaluation or starting_point())
        built.params.update({key: as_airflow_param(*field) for key, field in fields.items()})
    return built


def when(schedule: dict[str, Any]) -> Any:
    """Return what starts the runs: times, updated assets, either, or nothing but people."""
    # Only named, not made: another DAG's asset of that name may have a URI of its own.
    named = {each: Asset(each) for each in schedule.get("assets", [])}  # as Airflow spells them
    assets = [
        Asset.ref(uri=asset.uri) if "://" in each else Asset.ref(name=asset.name)
        for each, asset in named.items()
    ]
    times = None
    if schedule.get("cron"):
        times = CronTriggerTimetable(schedule["cron"], timezone=schedule.get("timezone", "UTC"))
    if times and assets:
        return AssetOrTimeSchedule(timetable=times, assets=assets)
    return times or assets or None


def since(schedule: dict[str, Any]) -> datetime | None:
    """Return the day from which on missed times are made up for."""
    day = schedule.get("catchup_from")
    zone = ZoneInfo(schedule.get("timezone", "UTC"))
    return datetime.fromisoformat(str(day)).replace(tzinfo=zone) if day else None


def starting_point() -> dict[str, Any] | None:
    """Return what the general form starts with; nothing, while the example cannot be read."""
    try:
        return example()
    except JudgeError:
        return None


def broken_dag(dag_id: str, problem: str) -> DAG:
    """Show an evaluation file that cannot be read, without harming the others."""
    with DAG(
        dag_id,
        doc_md=f"This evaluation cannot be read:\n\n```\n{problem}\n```",
        schedule=None,
        is_paused_upon_creation=True,
        tags=["nova-judge", "broken"],
    ) as built:
        broken(problem)
    return built


def from_file(path: Path) -> DAG:
    """Build the DAG of one evaluation file."""
    name = names.dag_id(path.stem)
    try:
        return dag(name, load_evaluation(path))
    except JudgeError as error:
        return broken_dag(name, str(error))
    except Exception as error:  # whatever Airflow has against it, the others must be there
        return broken_dag(name, f"{type(error).__name__}: {error}")


dag(names.GENERAL_DAG, None)
for file in evaluation_files():
    from_file(file)
