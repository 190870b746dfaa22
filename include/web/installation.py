"""What this Airflow knows: environments and the way to them, runs and how far they are."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from logging import getLogger
from typing import Any, Literal

from airflow.models import DagModel, DagRun, TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import select

from include import account, names
from include.config import Environment
from include.config_files import (
    chosen_environment,
    environment_names,
    evaluation_files,
    load_environment,
    load_evaluation,
)
from include.errors import JudgeError
from include.runs import RunRecord
from include.storage import RunFolder
from include.tasks import aws
from include.web import spent

log = getLogger(__name__)

CLIENT_SECONDS = 60
"""After which a connection that was changed counts."""

TEXTS = "NOVA_JUDGE_TEXTS"
"""Variable: who may read prompts and responses."""

Readers = Literal["trigger", "view"]


def readers() -> Readers:
    """Return who may read texts: those who may trigger a DAG (default), or all who may see it."""
    return "view" if os.environ.get(TEXTS, "trigger").strip().lower() == "view" else "trigger"


@dataclass(frozen=True)
class Place:
    """An environment, opened; or why it cannot be."""

    name: str
    output: RunFolder | None
    problem: str | None = None


def places() -> Iterator[Place]:
    """Yield every environment of this project."""
    for name in environment_names():
        try:
            environment = load_environment(name)
            yield Place(name, _output(environment))
        except JudgeError as error:
            yield Place(name, None, str(error))
        except Exception as error:  # a connection that is not there has no class of its own
            yield Place(name, None, f"{type(error).__name__}: {error}")


def _output(environment: Environment) -> RunFolder:
    """Return where an environment's runs are.

    Raises:
        AccountError: The api-server's connection leads to another account, or nowhere.
    """
    period = int(time.monotonic() // CLIENT_SECONDS)
    _checked(environment.model_dump_json(), period)
    return RunFolder(_s3(environment.aws_conn_id, period), environment.output_s3_uri)


@lru_cache(maxsize=32)
def _checked(environment: str, period: int) -> None:
    """Look whose account an environment, written as JSON, leads to; once a period."""
    where = Environment.model_validate_json(environment)
    account.check(aws(where.aws_conn_id)("sts", **account.QUICK), where)


@lru_cache(maxsize=32)
def _s3(aws_conn_id: str, period: int) -> Any:
    """Return boto3's client of a connection; another period, another client.

    Making one takes a tenth of a second, and leaves so much behind that every few requests
    Python's collector looked through all that the api-server has in memory, for a second.
    """
    return aws(aws_conn_id)("s3", max_pool_connections=32, **account.QUICK)


@dataclass(frozen=True)
class Planned:
    """An evaluation's file."""

    environment: str
    evaluation: str
    candidates: list[str]
    dag_id: str


def planned() -> Iterator[Planned]:
    """Yield every evaluation that has a file; the DAG of one that cannot be read says so itself."""
    for path in evaluation_files():
        try:
            found = load_evaluation(path)
        except JudgeError:
            continue
        asked = [each if isinstance(each, str) else each["name"] for each in found["candidates"]]
        environment = chosen_environment(found.get("environment"))
        yield Planned(environment, found["evaluation"], asked, names.dag_id(path.stem))


@dataclass(frozen=True)
class Stage:
    """One task of a run, all of its mapped ones together."""

    name: str
    states: dict[str, int]
    """How many are in which state."""


@dataclass(frozen=True)
class AirflowRun:
    """One DAG run as Airflow knows it."""

    dag_id: str
    run_id: str
    state: str
    started_at: datetime | None
    ended_at: datetime | None
    record: RunRecord | None
    """What `resolve` returned; None until then."""
    stages: list[Stage] = field(default_factory=list)

    def has_reported(self, started_at: str) -> bool:
        """Whether a summary that began at this moment is what the run has come to now."""
        began = self.record.get("started_at") if self.record else None
        reports = [stage.states for stage in self.stages if stage.name == "report"]
        return began in (None, started_at) and all(set(each) <= {"success"} for each in reports)

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.state in ("success", "failed")


def find_run(dag_id: str, run_id: str) -> AirflowRun | None:
    """Return a run; None if there is none."""
    with create_session() as session:
        found = session.scalar(
            select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)
        )
        if found is None:
            return None
        said = session.scalar(
            XComModel.get_many(
                run_id=run_id, dag_ids=dag_id, task_ids="resolve", key="return_value"
            )
        )
        tasks = session.execute(
            select(TaskInstance.task_id, TaskInstance.state, TaskInstance.start_date)
            .where(TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id)
            .order_by(TaskInstance.start_date)
        ).all()
        return AirflowRun(
            dag_id=dag_id,
            run_id=run_id,
            state=str(found.state),
            started_at=found.start_date,
            ended_at=found.end_date,
            record=XComModel.deserialize_value(said) if said is not None else None,
            stages=_stages([(task_id, str(state or "waiting")) for task_id, state, _ in tasks]),
        )


def _stages(tasks: Sequence[tuple[str, str]]) -> list[Stage]:
    stages: dict[str, dict[str, int]] = {}
    for task_id, state in tasks:
        states = stages.setdefault(task_id, {})
        states[state] = states.get(state, 0) + 1
    return [Stage(name, states) for name, states in stages.items()]


def open_folder(run: AirflowRun) -> RunFolder | None:
    """Open a run's folder; None if it has none, one outside of all environments, or another run's.

    The record is XCom, which whoever may write to one DAG's can set: it must not lead to another's.
    """
    if run.record is None:
        return None
    uri = run.record["uri"]
    if uri.rpartition("/")[2] != names.run_slug(run.dag_id, run.run_id):
        return None
    for name in environment_names():
        try:
            environment = load_environment(name)
        except JudgeError:
            continue  # the list of evaluations says which, and why
        inside = uri.startswith(f"{environment.output_s3_uri}/")
        if inside and environment.aws_conn_id == run.record["aws_conn_id"]:
            return RunFolder(_output(environment).s3, uri)
    return None


def cost_so_far(run: AirflowRun) -> str | None:
    """Return what a run has cost so far; None where that cannot be told, or not yet."""
    if run.record is None:
        return None
    client = aws(run.record["aws_conn_id"])
    try:
        return spent.so_far(run.record, str(run.started_at), client)
    except Exception as error:  # whatever it is, progress must not hide behind it
        log.warning("What %s has cost so far is not known: %s", run.run_id, error)
        return None


def next_runs(dag_ids: Sequence[str]) -> dict[str, datetime]:
    """Return when each of some DAGs starts next; those that do not, or are paused, are left out."""
    with create_session() as session:
        rows: Any = session.execute(
            select(DagModel.dag_id, DagModel.next_dagrun_create_after).where(
                DagModel.dag_id.in_(dag_ids), DagModel.is_paused.is_(False)
            )
        ).all()
    return {dag_id: at for dag_id, at in rows if at is not None}
