"""Facts about steps as Airflow's tasks: what Airflow hands them, and what they hand on."""

import json
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, Asset
from airflow.sdk.exceptions import AirflowFailException
from run_work import config, new_run
from sandbox_server import Sandbox
from summaries import make_comparison, make_summary

from include import history, steps, storage
from include.errors import ResultsError
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
    context = {"outlet_events": {outlet: event}, "ti": a_try(report="success", approve="success")}
    assert task.execute(context) == "pass"
    assert event.extra["gate"] == "pass"
    assert event.extra["verdicts"] == {"claude": "candidate_better"}
    context["ti"] = a_try(report="skipped", approve="success")  # cleared, and ended by a person
    with pytest.raises(AirflowFailException, match="ended before its report"):
        task.execute(context)


def a_try(**states: str) -> Any:
    """Stands for the task instance, which knows the states of others."""
    known = {"r": states}
    return SimpleNamespace(dag_id="d", run_id="r", get_task_states=lambda **_: known)


def test_a_run_that_begins_anew_has_no_verdict_and_is_not_accepted(sandbox: Sandbox) -> None:
    run = new_run(sandbox, config("s3://b/p.jsonl", evaluation="again"), "again")
    run.folder.write(storage.SUMMARY, "{}")
    run.folder.write("comparisons/claude.json", '{"comparison": "of other prompts"}')
    history.accept(run.folder, run.record["started_at"])
    home = storage.RunFolder(run.folder.s3, run.folder.uri.rpartition("/")[0])
    accepted = history.reference(home)
    assert accepted and accepted.uri == run.folder.uri
    again = new_run(
        sandbox, config("s3://b/p.jsonl", evaluation="again"), "again"
    )  # its first task is cleared
    assert again.folder.uri == run.folder.uri
    assert again.folder.read_json("comparisons/claude.json") is None
    with pytest.raises(ResultsError, match="ended before its report"):
        steps.gate(again, None)
    assert history.reference(home) is None
    history.accept(run.folder, run.record["started_at"])
    accepted = history.reference(home)
    assert accepted and accepted.uri == run.folder.uri


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
