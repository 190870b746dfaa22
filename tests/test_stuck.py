"""Facts about runs that do not end: real Airflow tells whoever asked, by mail and by SNS."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiosmtpd.controller import Controller
from local_copy import Copy
from mailbox_server import Mailbox, smtp_connection
from sandbox_server import free_port

pytestmark = pytest.mark.slow

DAG = "nova_llm_judge__stuck"
TOPIC = "arn:aws:sns:us-east-1:000000000000:stuck"


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    box = Mailbox()
    server = Controller(box, hostname="127.0.0.1", port=free_port())
    server.start()
    yield box, server.port
    server.stop()


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Copy]:
    copy = Copy(tmp_path)
    yield copy
    copy.down()


def until(done: Callable[[], Any], seconds: float) -> Any:
    end = time.monotonic() + seconds
    while not (found := done()):
        assert time.monotonic() < end
        time.sleep(1)
    return found


def test_a_run_that_does_not_end_is_told_by_mail_and_sns_and_goes_on(
    copy: Copy, mailbox: tuple[Mailbox, int]
) -> None:
    box, port = mailbox
    about_ten_seconds = {"on": ["stuck"], "stuck_after_hours": 0.003}
    evaluation = {
        "evaluation": "stuck",
        "dataset": {"source": "include/samples/prompts.jsonl", "id_field": "id", "limit": 2},
        "baseline": {
            "name": "nova",
            "provider": "bedrock",
            "model_id": "us.amazon.nova-micro-v1:0",
        },
        "candidates": ["claude"],
        "alerts": [
            {"channel": "smtp", "to": "team@example.com", **about_ten_seconds},
            {"channel": "sns", "to": TOPIC, **about_ten_seconds},
        ],
    }
    (copy.config / "evaluations/stuck.yaml").write_text(yaml.safe_dump(evaluation))
    up = copy.command(
        "scripts.local",
        "up",
        airflow_conn_smtp_default=smtp_connection(port),
        sandbox_delays="job=600",
    )
    said, _ = up.communicate(timeout=400)
    assert up.returncode == 0, said
    received = subscribed(copy)
    until(lambda: DAG in [dag["dag_id"] for dag in copy.airflow("/dags")["dags"]], 120)
    copy.airflow(f"/dags/{DAG}", "PATCH", is_paused=False)
    run_id = copy.airflow(f"/dags/{DAG}/dagRuns", "POST", logical_date=None, conf={})["dag_run_id"]
    letter = until(lambda: box.letters and box.letters[0], 240)
    assert letter.rcpt_tos == ["team@example.com"]
    assert f"Subject: {DAG} has not ended after 0.003 hours" in letter.content.decode()
    (message,) = until(received, 60)
    assert message["Subject"] == f"{DAG} has not ended after 0.003 hours"
    assert f"/dags/{DAG}/runs" in message["Message"]
    assert copy.airflow(f"/dags/{DAG}/dagRuns/{run_id}")["state"] == "running"
    copy.airflow(f"/dags/{DAG}/dagRuns/{run_id}", "PATCH", state="failed")


def subscribed(copy: Copy) -> Callable[[], list[dict[str, Any]]]:
    """Make the topic; return what tells what it was sent."""
    sns, sqs = copy.client("sns"), copy.client("sqs")
    assert sns.create_topic(Name="stuck")["TopicArn"] == TOPIC
    url = sqs.create_queue(QueueName="stuck")["QueueUrl"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    sns.subscribe(TopicArn=TOPIC, Protocol="sqs", Endpoint=found["Attributes"]["QueueArn"])

    def received() -> list[dict[str, Any]]:
        messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        return [json.loads(each["Body"]) for each in messages]

    return received
