"""Facts about steps as Airflow's tasks: what Airflow hands them, and what they hand on."""

import json
from dataclasses import asdict
from types import SimpleNamespace

import pytest
from airflow.sdk import DAG, Asset
from run_work import config, new_run
from sandbox_server import Sandbox
from summaries import make_comparison, make_summary

from include import storage
from include.tasks import aws, gate


def test_the_gate_of_an_evaluation_hands_its_verdict_to_those_who_wait_for_the_asset(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AWS_SANDBOX", sandbox.airflow_connection())
    run = new_run(sandbox, config("s3://b/p.jsonl"))
    uri = run.folder.write(
        storage.SUMMARY, json.dumps(asdict(make_summary(make_comparison())), default=str)
    )
    outlet = Asset("nova_judge/asking")
    with DAG("d", schedule=None):
        task = gate(outlet)(run.record, uri, None).operator
    event = SimpleNamespace(extra={})
    assert task.execute({"outlet_events": {outlet: event}}) == "pass"
    assert event.extra["gate"] == "pass"
    assert event.extra["verdicts"] == {"claude": "candidate_better"}


def test_what_a_connection_says_of_proxies_and_retries_holds_beside_what_a_step_adds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = {"proxies": {"https": "http://proxy:3128"}, "retries": {"mode": "adaptive"}}
    connection = {
        "conn_type": "aws",
        "login": "x",
        "password": "x",
        "extra": {"region_name": "us-east-1", "config_kwargs": said},
    }
    monkeypatch.setenv("AIRFLOW_CONN_AWS_PROXIED", json.dumps(connection))
    for added in ({}, {"max_pool_connections": 32}):
        used = aws("aws_proxied")("s3", **added).meta.config
        assert (used.proxies, used.retries["mode"]) == (said["proxies"], "adaptive")
        assert used.max_pool_connections == added.get("max_pool_connections", 10)
