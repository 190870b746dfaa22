"""Steps as Airflow tasks: a run's record in from XCom, the opened run on to the step."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import Asset, Connection, Param, task
from airflow.sdk.bases.decorator import DecoratedOperator, task_decorator_factory
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException

from include import account, ownership, spending, steps, texts
from include.config import Environment
from include.config_files import load_environment, overridden
from include.errors import (
    AccountError,
    ErasureError,
    GenerationError,
    JudgeError,
    UnreachableError,
)
from include.links import ReportLink, RunFolderLink
from include.runs import Client, Run, RunRecord, open_run
from include.storage import RunFolder


@contextmanager
def readable_errors() -> Iterator[None]:
    """Fail at once, without a traceback, on what a person has to correct; let the rest retry.

    Raises:
        AirflowFailException: In the place of a JudgeError.
        GenerationError: As it is: another try asks for what is missing.
        UnreachableError: As it is: another try may get an answer.
    """
    try:
        yield
    except (GenerationError, UnreachableError):
        raise
    except JudgeError as error:
        raise AirflowFailException(f"{type(error).__name__}: {error}") from None


def aws(aws_conn_id: str, region: str | None = None) -> Client:
    """Return a function that makes boto3 clients of an Airflow connection.

    Args:
        aws_conn_id: The connection.
        region: Instead of the connection's.
    """

    def client(service: str, **config: Any) -> Any:
        from botocore.config import Config

        # A config given to the hook would take the place of the connection's: its proxies, retries.
        hook = AwsBaseHook(aws_conn_id, client_type=service, region_name=region)
        return hook.get_client_type(config=hook.config.merge(Config(**config)))

    return client


@contextmanager
def opened(run: RunRecord | None, *, without_texts: bool = False) -> Iterator[Run]:
    """Open a run for a task's work; what a person has to correct fails the task at once.

    Raises:
        AirflowFailException: There is no run, or what `readable_errors` says.
    """
    if run is None:
        raise AirflowFailException("resolve has not succeeded, so there is no run to work on")
    with readable_errors():
        yield open_run(run, aws(run["aws_conn_id"]), without_texts=without_texts)


class LinkedOperator(DecoratedOperator, PythonOperator):
    """What `@task` makes of a function, with links to the report and to the run folder."""

    custom_operator_name = "@task"
    operator_extra_links = (ReportLink(), RunFolderLink())

    def __init__(
        self, *, python_callable: Any, op_args: Any, op_kwargs: Any, **options: Any
    ) -> None:
        call = {"python_callable": python_callable, "op_args": op_args, "op_kwargs": op_kwargs}
        super().__init__(kwargs_to_upstream=call, **call, **options)


linked_task = functools.partial(task_decorator_factory, decorated_operator_class=LinkedOperator)


def step(work: Callable[..., Any], *, linked: bool = False, **options: Any) -> Any:
    """Make a task of a function in `steps`: the run's record in, the opened run for the work.

    Args:
        work: The function.
        linked: Whether the task shows links to the report and to the run folder.
        options: Of the task.
    """
    make = linked_task if linked else task

    @make(task_id=work.__name__, doc_md=work.__doc__, multiple_outputs=False, **options)
    @functools.wraps(work)
    def execute(run: RunRecord | None, *args: Any, **kwargs: Any) -> Any:
        with opened(run) as known:
            return work(known, *args, **kwargs)

    return execute


def gate(outlet: Asset | None, **options: Any) -> Any:
    """Make the task that acts on the verdict.

    Args:
        outlet: Updated when the task succeeds; the event's extra is a `runs.Outcome`.
        options: Of the task.
    """
    outlets = [outlet] if outlet else []

    # Without functools.wraps: Airflow hands a task what the signature of the wrapped one asks for.
    @linked_task(doc_md=steps.gate.__doc__, outlets=outlets, multiple_outputs=False, **options)
    def gate(
        run: RunRecord | None, summary_uri: str | None, approved: bool | None, **context: Any
    ) -> str:
        done = _succeeded(context["ti"], "report", "approve")
        with opened(run, without_texts=True) as known:
            outcome = steps.gate(
                known,
                summary_uri if "report" in done else None,
                approved if "approve" in done else None,
            )
        if outlet:
            context["outlet_events"][outlet].extra = dict(outcome)
        return outcome["gate"]

    return gate


def _succeeded(ti: Any, *task_ids: str) -> set[str]:
    """Return which tasks of this run have succeeded.

    What a task has returned does not tell: a cleared one keeps its XCom until it starts again, and
    where a person ends the run it does not start.
    """
    found = ti.get_task_states(dag_id=ti.dag_id, task_ids=list(task_ids), run_ids=[ti.run_id])
    return {name for name, state in found.get(ti.run_id, {}).items() if state == "success"}


@linked_task(multiple_outputs=True, doc_md=steps.resolve.__doc__)
def resolve(evaluation: dict[str, Any] | None = None, **context: Any) -> dict[str, Any]:
    """Turn the run's conf into a checked, complete config in a new run folder."""
    dag_run, params = context["dag_run"], dict(context["params"])
    # Given conf stands alone in the general DAG: half of it from the form's example would surprise.
    conf = overridden(evaluation or {}, dag_run.conf or {}) or params
    with readable_errors():
        record = steps.resolve(
            conf,
            dag_id=dag_run.dag_id,
            run_id=dag_run.run_id,
            started_at=(dag_run.start_date or dag_run.run_after).isoformat(),
            connect=aws,
        )
    return dict(record)


@task
def clean(environment: str, **context: Any) -> list[str]:
    """Delete or stop what outlived its run in one environment; say what was done.

    Then the texts of ended runs that keep none.

    Raises:
        AirflowFailException: AWS refuses to remove something.
    """
    ti, params = context["ti"], context["params"]
    dry_run, max_age = params["dry_run"], timedelta(hours=params["max_age_hours"])
    state = functools.cache(lambda dag_id, run_id: _run_state(ti, dag_id, run_id))
    with readable_errors():
        where = load_environment(environment)
        client = _reached(where)
        if client is None:
            return []
        removals = ownership.clean(
            client("sagemaker"),
            client("bedrock"),
            run_state=state,
            output_uri=where.output_s3_uri,
            max_age=max_age,
            dry_run=dry_run,
        )
        lines = [str(removal) for removal in removals]
        print("\n".join(lines) or "Nothing has outlived its run")  # noqa: T201 - the task's log
        for each in removals:
            if (each.resource.kind, each.outcome) == ("endpoint", "deleted"):
                folder = RunFolder(client("s3"), each.resource.run_uri)
                spending.endpoint_removed(folder, each.resource.name)
        problem = ownership.complaint(removals)
        output = RunFolder(client("s3"), where.output_s3_uri)
        try:
            swept = texts.sweep(output, state, max_age=max_age, dry_run=dry_run)
        except ErasureError as error:  # told beside what costs money, not instead of it
            raise AirflowFailException("\n".join(filter(None, [problem, str(error)]))) from None
    print("\n".join(swept) or "No text is to go")  # noqa: T201
    if problem:
        raise AirflowFailException(problem)
    return [*lines, *swept]


@task
def expire(environment: str, **context: Any) -> list[str]:
    """Delete the folders of old runs in one environment; say which."""
    from include import forgetting

    with readable_errors():
        where = load_environment(environment)
        if where.keep_runs_days is None:
            return []
        client = _reached(where)
        if client is None:
            return []
        output = RunFolder(client("s3"), where.output_s3_uri)
        age = timedelta(days=where.keep_runs_days)
        lines = forgetting.expire(output, age, dry_run=context["params"]["dry_run"])
    print("\n".join(lines) or "No run folder is old enough")  # noqa: T201 - the task's log
    return lines


def _reached(where: Environment) -> Client | None:
    """Return the way to an environment's AWS; None where this Airflow has nothing to do with it.

    Raises:
        AccountError: There is a connection, and it leads elsewhere or nowhere.
    """
    client = aws(where.aws_conn_id)
    try:
        account.check(client("sts", **account.QUICK), where)
    except AccountError as error:
        if _is_defined(where.aws_conn_id):
            raise
        print(f"Skipped: {error}")  # noqa: T201 - the task's log
        return None
    return client


def _is_defined(aws_conn_id: str) -> bool:
    try:
        Connection.get(aws_conn_id)
    except AirflowNotFoundException:
        return False
    return True


FINISHED = ("success", "failed", "upstream_failed", "skipped", "removed")


def _run_state(ti: Any, dag_id: str, run_id: str) -> ownership.Stage | None:
    """Ask for a run's state by counting: unlike asking for it, an unknown run is no error."""

    def is_in(*states: str) -> bool:
        return bool(ti.get_dr_count(dag_id=dag_id, run_ids=[run_id], states=list(states)))

    if is_in("queued", "running"):
        found = ti.get_task_states(dag_id=dag_id, task_ids=["delete"], run_ids=[run_id])
        deletions = found.get(run_id, {}).values()
        over = bool(deletions) and all(state in FINISHED for state in deletions)
        return "generated" if over else "active"
    return "ended" if is_in("success", "failed") else None


def as_airflow_param(schema: dict[str, Any], default: Any) -> Param:
    """Make a field of the trigger form; without a default it has to be filled in."""
    return (
        Param(**schema)
        if default is None and "null" not in schema["type"]
        else Param(default, **schema)
    )


@task
def broken(message: str) -> None:
    """Fail with what is wrong with an evaluation's file."""
    raise AirflowFailException(message)
