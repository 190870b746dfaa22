"""What many nights have come to: Airflow, the history and the sandbox in, numbers out."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median
from typing import Any
from urllib.parse import quote

from include import names, storage, trend
from include.config_files import load_environment
from include.storage import RunFolder
from include.trend import TrendRow
from scripts.local import ENDED, Get, pages

NIGHT = re.compile(r"night-(\d+)$")


def run_id_of(night: int) -> str:
    """Return the run id of a night, so that no night is run twice."""
    return f"night-{night:03d}"


@dataclass(frozen=True)
class Run:
    """One run of one evaluation."""

    evaluation: str
    night: int
    state: str
    started: datetime
    ended: datetime | None
    rows: list[TrendRow]
    """Of the history."""
    retries: Counter[str]
    """By task: how often it was tried again."""

    @property
    def has_ended(self) -> bool:
        """Whether the run is over, and not only its gate."""
        return self.state in ENDED


@dataclass(frozen=True)
class Counted:
    """What has become of all runs that were triggered."""

    runs: list[Run]
    candidates: Mapping[str, int]
    """By evaluation."""
    rules: Mapping[str, str]
    """Of the gates, by evaluation."""
    left: list[str] = field(default_factory=list)
    """Resources that are still there: kind and name."""
    failed_jobs: int = 0
    """Judge and batch jobs that failed."""
    paid_twice: list[str] = field(default_factory=list)
    """Judge jobs that completed more than once."""
    asked_again: int = 0
    """Requests to models."""

    @property
    def lost(self) -> list[str]:
        """Runs that have not ended, or have no verdict."""
        return [_named(run) for run in self.runs if not run.has_ended or not run.rows]

    @property
    def doubled(self) -> list[str]:
        """Runs that are in the history more than once."""
        return [_named(run) for run in self.runs if len(run.rows) > self.candidates[run.evaluation]]

    @property
    def wrong(self) -> list[str]:
        """Runs that failed though their gate did not, or the other way round."""
        return [
            _named(run)
            for run in self.runs
            if run.has_ended
            and run.rows
            and (run.state == "failed") != (run.rows[0].gate == "fail")
            and run not in self._partial
        ]

    @property
    def partial(self) -> list[str]:
        """Runs that have a verdict about some candidates, but not about all."""
        return [_named(run) for run in self._partial]

    @property
    def _partial(self) -> list[Run]:
        return [run for run in self.runs if 0 < len(run.rows) < self.candidates[run.evaluation]]

    @property
    def retries(self) -> Counter[str]:
        """By task: how often it was tried again, over all runs."""
        return sum((run.retries for run in self.runs), Counter())

    def decisions(self, rule: str | None = None) -> list[str]:
        """Return what the gates said, where there was something to decide on.

        The first run of `no_regression` has nothing to be compared with.

        Args:
            rule: Of these gates only.
        """
        return [
            run.rows[0].gate
            for run in self.runs
            if run.rows
            and rule in (None, self.rules[run.evaluation])
            and not (
                self.rules[run.evaluation] == "no_regression"
                and all(row.change is None for row in run.rows)
            )
        ]

    def seconds_of_nights(self) -> list[float]:
        """Return how long each night lasted whose runs have all ended."""
        nights: defaultdict[int, list[Run]] = defaultdict(list)
        for run in self.runs:
            nights[run.night].append(run)
        return [
            (max(ends) - min(run.started for run in found)).total_seconds()
            for found in nights.values()
            if len(ends := [run.ended for run in found if run.ended]) == len(found)
        ]

    @property
    def night_seconds(self) -> float | None:
        """Return how long a night lasts, by the median."""
        found = self.seconds_of_nights()
        return median(found) if found else None


def _named(run: Run) -> str:
    return f"{run.evaluation} {run_id_of(run.night)} ({run.state}, {len(run.rows)} rows)"


def count(
    get: Get, client: Callable[[str], Any], evaluations: Mapping[str, Mapping[str, Any]]
) -> Counted:
    """Look at all runs, at the history and at what is left in the sandbox.

    Args:
        get: Asks Airflow.
        client: Makes boto3 clients of the sandbox.
        evaluations: By name, as in their files.
    """
    sagemaker, bedrock, s3 = client("sagemaker"), client("bedrock"), client("s3")
    runs = [run for name in evaluations for run in runs_of(get, s3, name)]
    completed = _jobs(sagemaker, "Completed")
    attempts = Counter(re.sub(r"-\d+$", "", name) for name in completed)
    return Counted(
        runs=runs,
        candidates={name: len(each["candidates"]) for name, each in evaluations.items()},
        rules={name: each["gate"]["rule"] for name, each in evaluations.items()},
        left=list(left(sagemaker, bedrock)),
        failed_jobs=len(_jobs(sagemaker, "Failed")) + len(_batch_jobs(bedrock, "Failed")),
        paid_twice=sorted(name for name, times in attempts.items() if times > 1),
        asked_again=sum(_asked_again(s3, run.rows[0].run_folder) for run in runs if run.rows),
    )


def left(sagemaker: Any, bedrock: Any) -> Iterator[str]:
    """Yield whatever in the sandbox costs money, whoever made it."""
    for kind, operation, key in (
        ("endpoint", "list_endpoints", "Endpoint"),
        ("endpoint config", "list_endpoint_configs", "EndpointConfig"),
        ("model", "list_models", "Model"),
    ):
        for page in sagemaker.get_paginator(operation).paginate():
            yield from (f"{kind} {each[f'{key}Name']}" for each in page[f"{key}s"])
    for status in ("InProgress", "Stopping"):
        yield from (f"training job {name}" for name in _jobs(sagemaker, status))
    for status in ("Submitted", "Validating", "Scheduled", "InProgress", "Stopping"):
        yield from (f"batch job {name}" for name in _batch_jobs(bedrock, status))


def _jobs(sagemaker: Any, status: str) -> list[str]:
    pages = sagemaker.get_paginator("list_training_jobs").paginate(StatusEquals=status)
    return [job["TrainingJobName"] for page in pages for job in page["TrainingJobSummaries"]]


def _batch_jobs(bedrock: Any, status: str) -> list[str]:
    pages = bedrock.get_paginator("list_model_invocation_jobs").paginate(statusEquals=status)
    return [job["jobName"] for page in pages for job in page["invocationJobSummaries"]]


def runs_of(get: Get, s3: Any, evaluation: str, night: int | None = None) -> Iterator[Run]:
    """Yield the runs of an evaluation: of all nights, or of one."""
    rows: defaultdict[str, list[TrendRow]] = defaultdict(list)
    output = RunFolder(s3, load_environment("sandbox").output_s3_uri)
    for row in trend.read(output, evaluation):
        rows[row.run_id].append(row)
    path = f"/dags/{names.dag_id(evaluation)}/dagRuns"
    for run in pages(get, path, "dag_runs"):
        found = NIGHT.match(run["dag_run_id"])
        if found and night in (None, int(found[1])):
            tasks = f"{path}/{quote(run['dag_run_id'])}/taskInstances"
            yield Run(
                evaluation=evaluation,
                night=int(found[1]),
                state=run["state"],
                started=datetime.fromisoformat(run["queued_at"] or run["run_after"]),
                ended=datetime.fromisoformat(run["end_date"]) if run["end_date"] else None,
                rows=rows[run["dag_run_id"]],
                retries=_retries(pages(get, tasks, "task_instances")),
            )


def _retries(tasks: Iterator[dict[str, Any]]) -> Counter[str]:
    retries: Counter[str] = Counter()
    for each in tasks:
        retries[each["task_id"]] += max(0, each["try_number"] - 1)
    return +retries


def _asked_again(s3: Any, run_folder: str) -> int:
    summary = json.loads(RunFolder(s3, run_folder).read(storage.SUMMARY))
    return sum(model["retries"] for model in summary["models"])
