"""All steps of a run in one process, without Airflow: the sum of the work that a run is.

    python FILE URL CONFIG

URL is a running sandbox, CONFIG a JSON file. Prints how many `pairs` were judged.
"""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
from botocore.config import Config

from include import judging, runs, steps

EVERY_SECOND = {"Delay": 1, "MaxAttempts": 600}


def main(url: str, conf: dict[str, Any]) -> None:
    """Do what the tasks do, one after the other."""
    session = boto3.session.Session()

    def client(service: str, **config: Any) -> Any:
        return session.client(service, endpoint_url=url, config=Config(**config))

    record = steps.resolve(
        conf,
        dag_id="bench",
        run_id=uuid4().hex,
        started_at=datetime.now(UTC).isoformat(),
        connect=lambda _: client,
    )
    run, sagemaker = runs.open_run(record, client), client("sagemaker")
    shards = steps.load_prompts(run)
    keys = steps.plan(run, shards)
    deployments = steps.reserve(run, keys)
    endpoints = [each for each in deployments if each["requests"]]
    for each in endpoints:
        create(sagemaker, each)
        steps.try_endpoint(run, each)
    generated = [steps.generate(run, deployments, shard) for shard in shards]
    for each in endpoints:
        sagemaker.delete_endpoint(EndpointName=each["endpoint_name"])
    for key in keys:
        judging.summarize(run, judged(sagemaker, judging.write_judge_input(run, key, generated)))
    steps.report(run)
    summary = json.loads(run.folder.read("summary.json"))
    pairs = summary["comparisons"][0]["counts"]["pairs"]
    sys.stdout.write(json.dumps({"pairs": pairs}) + "\n")


def create(sagemaker: Any, deployment: Any) -> None:
    """Create an endpoint and wait for it."""
    requests = deployment["requests"]
    sagemaker.create_model(**requests["Model"])
    config = requests["EndpointConfigs"][0]
    sagemaker.create_endpoint_config(**config)
    name = deployment["endpoint_name"]
    sagemaker.create_endpoint(
        EndpointName=name, EndpointConfigName=config["EndpointConfigName"], Tags=requests["Tags"]
    )
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig=EVERY_SECOND)


def judged(sagemaker: Any, job: Any) -> Any:
    """Start a judge job, wait for it, and return its record."""
    name = f"{job['request']['TrainingJobName']}-1"
    arn = sagemaker.create_training_job(**{**job["request"], "TrainingJobName": name})
    waiter = sagemaker.get_waiter("training_job_completed_or_stopped")
    waiter.wait(TrainingJobName=name, WaiterConfig=EVERY_SECOND)
    return {**job, "job_name": name, "job_arn": arn["TrainingJobArn"]}


if __name__ == "__main__":
    main(sys.argv[1], json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")))
