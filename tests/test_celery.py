"""Facts about the services of docker-compose.yaml, which bench.cluster runs on this machine."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest
import requests

from bench.chaos_counted import judge_jobs
from bench.cluster import HOST, Cluster, until
from scripts.local import pages

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("redis-server"), reason="redis-server is not installed"),
    pytest.mark.skipif(
        not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")),
        reason="postgresql is not installed",
    ),
]

DAG = "nova_llm_judge"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("celery"))
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()


def models() -> tuple[dict[str, Any], ...]:
    ids = {"micro": "us.amazon.nova-micro-v1:0", "lite": "us.amazon.nova-lite-v1:0"}
    return tuple(
        {"name": name, "provider": "bedrock", "model_id": model} for name, model in ids.items()
    )


def test_a_run_outlives_a_worker_that_is_killed_while_it_generates(cluster: Cluster) -> None:
    cluster.start("worker")
    second = ("--celery-hostname", f"second@{HOST}")
    cluster.start("worker", "second", *second)
    assert until(lambda: cluster.is_healthy("worker"), 120), cluster.log("worker")
    slow = {"operation": "Converse", "resource": "*", "latency_ms": 1500, "times": None}
    faults = f"http://127.0.0.1:{cluster.ports['4566']}/sandbox/faults"
    assert requests.post(faults, json=slow, timeout=10).ok
    assert until(lambda: DAG in [each["dag_id"] for each in cluster.airflow("/dags")["dags"]], 120)
    baseline, candidate = models()
    conf = {
        "evaluation": "celery",
        "dataset": {"source": "include/samples/prompts.jsonl", "id_field": "id"},
        "baseline": {**baseline, "limits": {"max_concurrency": 2}},
        "candidates": [{**candidate, "limits": {"max_concurrency": 2}}],
        "generation": {"shard_size": 20},
    }
    cluster.airflow(f"/dags/{DAG}", "PATCH", is_paused=False)
    path = f"/dags/{DAG}/dagRuns"
    run_id = cluster.airflow(path, "POST", logical_date=None, conf=conf)["dag_run_id"]
    run = f"{path}/{quote(run_id)}"

    def generating() -> list[psutil.Process]:
        """Return what runs a generate task in the second worker."""
        tasks = list(pages(cluster.airflow, f"{run}/taskInstances", "task_instances"))
        shards = [t for t in tasks if t["task_id"] == "generate" and t["state"] == "running"]
        children = psutil.Process(cluster.running["second"].pid).children(recursive=True)
        held = {pid for task in shards if (pid := task.get("pid"))}
        return [child for child in children if child.pid in held]

    assert until(generating, 180), cluster.log("second")
    cluster.kill("second")
    ended = until(
        lambda: (found := cluster.airflow(run))["state"] in ("success", "failed") and found, 600
    )
    tasks = list(pages(cluster.airflow, f"{run}/taskInstances", "task_instances"))
    states = [(t["task_id"], t["map_index"], t["state"], t["try_number"]) for t in tasks]
    assert ended, (states, cluster.log("worker"))
    assert ended["state"] == "success", states
    assert max(t["try_number"] for t in tasks if t["task_id"] == "generate") > 1
    uri = cluster.airflow(f"{run}/taskInstances/resolve/xcomEntries/uri")["value"].strip('"')
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    body = cluster.client("s3").get_object(Bucket=bucket, Key=f"{prefix}/summary.json")["Body"]
    summary = json.loads(body.read())
    assert summary["comparisons"][0]["counts"]["pairs"] == 60
    assert [each["responses"]["ok"] for each in summary["models"]] == [60, 60]
    assert judge_jobs(cluster.client("sagemaker"), run_id) == ["Completed"]


def test_logs_are_kept_on_s3(cluster: Cluster) -> None:
    place = {"Bucket": "nova-judge-sandbox", "Prefix": f"logs/dag_id={DAG}/"}
    assert cluster.client("s3").list_objects_v2(**place).get("Contents")


def test_the_pages_are_there_for_whoever_has_logged_in(cluster: Cluster) -> None:
    address = f"{cluster.url}/nova-judge/"
    assert requests.get(address, timeout=60).status_code == 401
    answer = requests.get(address, headers=cluster.token(), timeout=60)
    assert answer.status_code == 200
    assert "/evaluations/sandbox/celery" in answer.text
