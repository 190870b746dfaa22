"""What has become of a run of `make chaos`: Airflow, run folder and sandbox in, a row out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

from bench import pages
from bench.chaos_plan import REFUSED, Plan
from include import ledger, ownership, storage
from include.storage import RunFolder
from scripts import local

PROMPTS = 16
MODELS = ("small", "lite")
ORDERS = ("forward", "backward")

VOLATILE = ("evaluation", "run_id", "started_at", "ended_at", "artifacts", "accepted")
"""What differs between any two runs that have done the same."""


@dataclass(frozen=True)
class Row:
    """One run."""

    seed: int
    part: str
    stage: str
    struck: bool
    """Whether the part was killed; the run may be over before."""
    kinds: list[str]
    """Of its faults."""
    state: str
    """Airflow's, at the end."""
    seconds: float
    rows_lost: int
    """Responses and judgments that should be there and are not."""
    rows_doubled: int
    """Judged pairs and judgments that are there more than once."""
    jobs: int
    """Judge jobs that were started."""
    jobs_completed: int
    left: int
    """Resources that are still there after the janitor has passed."""
    asked_again: int
    """Requests to models beyond one for each response, as the run has recorded them."""
    tried_again: int
    """Tasks."""
    problems: list[str] = field(default_factory=list)
    """Whatever is not as it has to be."""

    def line(self) -> str:
        """Say it on the terminal."""
        blow = f"kill -9 {self.part}" if self.struck else "no kill"
        said = "; ".join(self.problems) or "as it has to be"
        return (
            f"{self.seed:4}  {blow}, {self.stage}; {', '.join(self.kinds)}: "
            f"{self.state} in {self.seconds:.0f} s, {said}"
        )


Get = Callable[[str], Any]


def summary(get: Get, s3: Any, path: str) -> dict[str, Any] | None:
    """Return the summary of a run; None if it has none."""
    return _summary(_folder(get, s3, path))


def _summary(folder: RunFolder | None) -> dict[str, Any] | None:
    found: dict[str, Any] | None = folder.read_json(storage.SUMMARY) if folder else None
    return found


def essence(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return a summary without what differs between any two runs."""
    kept = {key: value for key, value in summary.items() if key not in VOLATILE}
    kept["provenance"] = {k: v for k, v in kept["provenance"].items() if k != "judge_jobs"}
    digests = kept["provenance"]["digests"]
    kept["provenance"]["digests"] = {**digests, "config": None}  # it holds the evaluation's name
    kept["comparisons"] = [{**each, "change": None} for each in kept["comparisons"]]
    timing = ("latency_ms", "retries")
    kept["models"] = [{k: m[k] for k in m if k not in timing} for m in kept["models"]]
    return kept


def count(
    get: Get,
    client: Callable[[str], Any],
    plan: Plan,
    path: str,
    *,
    struck: bool,
    late: bool,
    undisturbed: Mapping[str, Any],
    still_there: Sequence[str],
) -> Row:
    """Look at a run that has ended.

    Args:
        get: Asks Airflow's REST API.
        client: Makes boto3 clients of the sandbox.
        plan: What the run had to bear.
        path: Where Airflow's API has it.
        struck: Whether its part was killed.
        late: Whether it did not end by itself.
        undisturbed: Essence of the summary of a run that had nothing to bear.
        still_there: Its resources that are.
    """
    run = get(path)
    tasks = list(local.pages(get, f"{path}/taskInstances", "task_instances"))
    folder = _folder(get, client("s3"), path)
    found = _summary(folder)
    counted = _rows(folder) if folder else Counter(lost=PROMPTS * len(MODELS))
    if plan.is_refused:
        counted["lost"] -= PROMPTS * len(ORDERS)  # nobody could judge them
    jobs = judge_jobs(client("sagemaker"), plan.evaluation)
    started, ended = (datetime.fromisoformat(run[key]) for key in ("queued_at", "end_date"))
    row = Row(
        seed=plan.seed,
        part=plan.part,
        stage=plan.stage,
        struck=struck,
        kinds=list(plan.kinds),
        state=run["state"],
        seconds=(ended - started).total_seconds(),
        rows_lost=counted["lost"],
        rows_doubled=counted["doubled"],
        jobs=len(jobs),
        jobs_completed=jobs.count("Completed"),
        left=len(still_there),
        asked_again=counted["asked_again"],
        tried_again=sum(max(0, task["try_number"] - 1) for task in tasks),
    )
    problems = list(_problems(row, plan, found, undisturbed))
    if plan.is_refused and not _says(get, path, tasks, REFUSED):
        problems.append(f"no task says {REFUSED}")
    if late:
        problems.append("did not end by itself")
    problems += [f"left: {each}" for each in still_there]
    return Row(**{**asdict(row), "problems": problems})


def _problems(
    row: Row, plan: Plan, summary: Mapping[str, Any] | None, undisturbed: Mapping[str, Any]
) -> Iterator[str]:
    wanted = "failed" if plan.is_refused else "success"
    if row.state != wanted:
        yield f"ended as {row.state}, not as {wanted}"
    if summary is None:
        yield "no summary"
    elif plan.is_refused and summary["status"] != "failed":
        yield f"its summary says {summary['status']}"
    elif not plan.is_refused:
        yield from (f"summary: {where}" for where in differences(undisturbed, essence(summary)))
    if row.rows_lost or row.rows_doubled:
        yield f"{row.rows_lost} rows lost, {row.rows_doubled} double"
    if not plan.is_refused and (row.jobs, row.jobs_completed) != (plan.jobs, 1):
        yield f"{row.jobs} judge jobs, {row.jobs_completed} completed; {plan.jobs} would do"


def differences(wanted: Any, found: Any, where: str = "") -> Iterator[str]:
    """Yield the places where two JSON values differ, with both."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key in sorted({*wanted, *found}):
            yield from differences(wanted.get(key), found.get(key), f"{where}.{key}".lstrip("."))
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for n, pair in enumerate(zip(wanted, found, strict=True)):
            yield from differences(*pair, f"{where}[{n}]")
    elif wanted != found:
        yield f"{where} is {json.dumps(found)[:80]}, not {json.dumps(wanted)[:80]}"


def _folder(get: Get, s3: Any, path: str) -> RunFolder | None:
    """Return the run folder; None if the run did not come so far as to have one."""
    import requests

    with suppress(requests.HTTPError):
        uri = get(f"{path}/taskInstances/resolve/xcomEntries/uri")["value"]
        return RunFolder(s3, uri.strip('"'))
    return None


def _rows(folder: RunFolder) -> Counter[str]:
    """Count rows that are lost and double, and requests that were repeated."""
    from pyarrow import parquet

    counted: Counter[str] = Counter()
    for model in MODELS:
        stored = list(ledger.Parts(folder, model).read())
        there = {each.prompt_id for each in stored if each.usable}
        counted["lost"] += PROMPTS - len(there)
        counted["asked_again"] += sum(each.attempts for each in stored) - len(there)
    names = folder.names("judgments/")
    rows = [
        (row["prompt_id"], row["order"])
        for name in names
        for row in parquet.read_table(BytesIO(folder.read(name))).to_pylist()
    ]
    counted["lost"] += PROMPTS * len(ORDERS) - len(set(rows))
    counted["doubled"] += len(rows) - len(set(rows))
    for name in folder.names("pairs/"):
        if name.endswith("/pairs.jsonl"):
            ids = [json.loads(line)["prompt_id"] for line in folder.lines(name)]
            counted["doubled"] += len(ids) - len(set(ids))
    return counted


def judge_jobs(sagemaker: Any, run_id: str) -> list[str]:
    """Return the status of every judge job of a run, by its tag."""
    tag = {"Key": ownership.RUN_ID, "Value": run_id}
    return [
        job["TrainingJobStatus"]
        for page in sagemaker.get_paginator("list_training_jobs").paginate()
        for job in page["TrainingJobSummaries"]
        if tag in sagemaker.list_tags(ResourceArn=job["TrainingJobArn"])["Tags"]
    ]


def _says(get: Get, path: str, tasks: Iterable[Mapping[str, Any]], reason: str) -> bool:
    """Whether the log of a failed task holds the reason."""
    for task in tasks:
        if task["state"] == "failed":
            log = f"{path}/taskInstances/{task['task_id']}/logs/{task['try_number']}"
            if reason in json.dumps(get(f"{log}?map_index={task['map_index']}")):
                return True
    return False


def read(file: Path) -> dict[int, Row]:
    """Return the rows that were kept, by seed."""
    if not file.exists():
        return {}
    rows = (Row(**row) for row in json.loads(file.read_text(encoding="utf-8"))["runs"])
    return {row.seed: row for row in rows}


def write(file: Path, machine: Mapping[str, Any], rows: Mapping[int, Row]) -> None:
    """Keep the rows, in the order of their seeds."""
    content = {"machine": machine, "runs": [asdict(rows[seed]) for seed in sorted(rows)]}
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def table(rows: Iterable[Row]) -> list[str]:
    """Return the table of docs/reliability.md."""
    heads = ["seed", "killed", "while", "faults", "end", "s", "rows lost", "double", "jobs"]
    heads += ["left", "requests again", "tasks again", "not as it has to be"]
    return pages.table(
        heads,
        (
            [
                str(row.seed),
                row.part if row.struck else "-",
                row.stage,
                ", ".join(row.kinds),
                row.state,
                f"{row.seconds:.0f}",
                *map(str, (row.rows_lost, row.rows_doubled, row.jobs, row.left)),
                *map(str, (row.asked_again, row.tried_again)),
                "; ".join(row.problems).replace("|", "/") or "-",
            ]
            for row in rows
        ),
    )


def sentences(rows: Sequence[Row]) -> list[str]:
    """Say what all rows come to."""
    if not rows:
        return ["No run has been kept yet."]
    refused = [row for row in rows if "job refused" in row.kinds]
    wrong = [row for row in rows if row.problems]
    struck = Counter(row.part for row in rows if row.struck)
    kills = ", ".join(f"{part} {times}" for part, times in sorted(struck.items()))
    return [
        f"{len(rows)} runs, {len(rows) - len(wrong)} as they have to be "
        f"({len(refused)} of all had to fail); "
        f"rows lost {sum(row.rows_lost for row in rows)}, "
        f"double {sum(row.rows_doubled for row in rows)}; "
        f"resources left {sum(row.left for row in rows)}; "
        f"judge jobs that completed {sum(row.jobs_completed for row in rows)}, "
        f"started {sum(row.jobs for row in rows)}; "
        f"requests to models repeated {sum(row.asked_again for row in rows)}, "
        f"tasks tried again {sum(row.tried_again for row in rows)}. "
        f"kill -9: {kills}."
    ]
