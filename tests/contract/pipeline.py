"""The tasks of the DAG up to the judge, in their order, without a scheduler around them."""

from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import yaml
from airflow.sdk.exceptions import TaskDeferred
from contract.cases import Json
from sandbox_server import ROOT, Sandbox

from include import judging, runs, steps
from include.config import Environment
from include.operators import DeployEndpointOperator, NovaJudgeOperator

CONNECTION = "aws_sandbox"
CLAUDE = {"name": "claude", "provider": "bedrock", "model_id": "us.anthropic.claude-sonnet-4-6"}


def configure(folder: Path, environment: Environment) -> None:
    """Write a config folder that has this environment."""
    for kind in ("environments", "models", "evaluations"):
        (folder / kind).mkdir(parents=True)
    said = environment.model_dump(mode="json", exclude={"name"}, exclude_defaults=True)
    file = folder / "environments" / f"{environment.name}.yaml"
    file.write_text(yaml.safe_dump({**said, "aws_conn_id": CONNECTION, "poll_seconds": 1}))


def send(sandbox: Sandbox, environment: str, model: Json, judge: Json, run_id: str) -> Json:
    """Do what a run does until its endpoint and its judge job are created.

    Returns:
        `endpoint` and `job`: the names that were sent; the job's with the number of the attempt.
    """
    conf = {
        "evaluation": "contract",
        "environment": environment,
        "dataset": {"source": str(ROOT / "include/samples/prompts.jsonl"), "limit": 2},
        "baseline": model,
        "candidates": [CLAUDE],
        "judge": judge,
    }
    record = steps.resolve(
        conf,
        dag_id="contract",
        run_id=run_id,
        started_at="2026-11-24T06:00:00+00:00",
        connect=lambda _: sandbox.client,
    )
    run = runs.open_run(record, sandbox.client)
    shards = steps.load_prompts(run)
    deployments = steps.reserve(run, steps.plan(run, shards))
    for deployment in deployments:
        _execute(DeployEndpointOperator, record, deployment)
    endpoint = str(deployments[0].get("endpoint_name"))
    sandbox.client("sagemaker").get_waiter("endpoint_in_service").wait(
        EndpointName=endpoint, WaiterConfig={"Delay": 1, "MaxAttempts": 30}
    )
    generated = [steps.generate(run, deployments, shard) for shard in shards]
    job = cast(Json, judging.write_judge_input(run, "claude", generated))
    _execute(NovaJudgeOperator, record, job)
    return {"endpoint": endpoint, "job": f"{job['request']['TrainingJobName']}-1"}


def _execute(operator: Any, record: Any, config: Any) -> None:
    """Let an operator begin; what it waits for is nobody's business here."""
    with suppress(TaskDeferred):
        operator(
            task_id=operator.__name__, run=record, config=config, aws_conn_id=CONNECTION
        ).execute({})
