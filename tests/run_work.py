"""A run for tests, opened without Airflow: what its first tasks do, and what the sandbox saw."""

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import requests
from sandbox_server import Sandbox
from sandbox_work import end_of

from include import judging, ledger, runs, steps
from include.records import Response
from include.runs import Deployment, Generated, Run
from include.storage import RunFolder

CLAUDE = {"name": "claude", "provider": "bedrock", "model_id": "us.anthropic.claude-sonnet-4-6"}
NOVA = {"name": "nova", "provider": "bedrock", "model_id": "us.amazon.nova-micro-v1:0"}


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def prompts(count: int) -> list[dict[str, Any]]:
    return [{"id": f"p{n}", "prompt": f"What is {n} plus {n}?"} for n in range(count)]


def config(source: str, **changes: Any) -> dict[str, Any]:
    return {
        "evaluation": "asking",
        "dataset": {"source": source, "id_field": "id"},
        "baseline": NOVA,
        "candidates": [CLAUDE],
        **changes,
    }


def new_record(sandbox: Sandbox, conf: dict[str, Any], run_id: str | None = None) -> runs.RunRecord:
    """Resolve a run; the same run id again is the same run, its first task cleared."""
    return steps.resolve(
        conf,
        dag_id="d",
        run_id=run_id or str(uuid4()),
        started_at="2026-11-24T06:00:00+00:00",
        connect=lambda _: sandbox.client,
    )


def new_run(sandbox: Sandbox, conf: dict[str, Any], run_id: str | None = None) -> Run:
    return runs.open_run(new_record(sandbox, conf, run_id), sandbox.client)


def generate(run: Run, shards: Sequence[runs.Shard]) -> list[Generated | None]:
    """Do what the `generate` tasks do, one after the other."""
    deployments = steps.reserve(run, [])
    return [steps.generate(run, deployments, shard) for shard in shards]


def deployment(run: Run, model: str) -> Deployment:
    return next(each for each in steps.reserve(run, []) if each["model"] == model)


def stored(run: Run, model: str) -> list[Response]:
    """Return every stored response of a model, the latest of each prompt, in the prompts' order."""
    known = ledger.latest(ledger.Parts(run.folder, model).read())
    return [known[each.prompt_id] for each in run.prompts() if each.prompt_id in known]


def asked(sandbox: Sandbox, operation: str, what: str = "body") -> list[Any]:
    """Return the bodies of the requests that the sandbox got since they were forgotten."""
    url = f"{sandbox.url}/sandbox/requests?operation={operation}"
    return [row[what] for row in requests.get(url, timeout=10).json()["requests"]]


def forget(sandbox: Sandbox) -> None:
    """Forget what was asked, and the faults."""
    for what in ("requests", "faults"):
        assert requests.delete(f"{sandbox.url}/sandbox/{what}", timeout=10).ok


def order(sandbox: Sandbox, **fault: Any) -> None:
    assert requests.post(f"{sandbox.url}/sandbox/faults", json=fault, timeout=10).ok


def listings(folder: RunFolder) -> AbstractContextManager[list[str]]:
    """Note the prefixes that S3 is asked to list."""
    return _noted(folder, "ListObjectsV2", "Prefix")


def reads(folder: RunFolder) -> AbstractContextManager[list[str]]:
    """Note the keys of the objects that are read."""
    return _noted(folder, "GetObject", "Key")


@contextmanager
def _noted(folder: RunFolder, operation: str, parameter: str) -> Iterator[list[str]]:
    seen: list[str] = []

    def note(params: dict[str, Any], **_: Any) -> None:
        seen.append(params[parameter])

    events = folder.s3.meta.events
    events.register(f"provide-client-params.s3.{operation}", note)
    try:
        yield seen
    finally:
        events.unregister(f"provide-client-params.s3.{operation}", note)


def whole(sandbox: Sandbox, run: Run) -> None:
    """Do what all tasks of a run do before its gate; its models are asked in the open."""
    shards = steps.load_prompts(run)
    done = generate(run, shards)
    for key in run.config.judge_jobs(run.index()["count"]):
        job = judging.write_judge_input(run, key, done)
        name = f"{job['request']['TrainingJobName']}-1"
        sagemaker = sandbox.client("sagemaker")
        arn = sagemaker.create_training_job(**{**job["request"], "TrainingJobName": name})
        found = end_of(sandbox, name)
        assert found["TrainingJobStatus"] == "Completed", found.get("FailureReason")
        ended = {"job_name": name, "job_arn": arn["TrainingJobArn"]}
        judging.summarize(run, {**job, **ended})
    steps.report(run)
