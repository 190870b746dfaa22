"""Facts about alerts: they reach an SNS topic and an SMTP server, and none silences another."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from aiosmtpd.controller import Controller
from mailbox_server import Mailbox, smtp_connection
from run_work import config, new_run
from sandbox_server import Sandbox, free_port
from summaries import make_comparison, make_summary

from include import storage
from include.notify import after_gate, when_stuck
from include.records import Gate


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    box = Mailbox()
    server = Controller(box, hostname="127.0.0.1", port=free_port())
    server.start()
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", smtp_connection(server.port))
    yield box
    server.stop()


@pytest.fixture
def aws(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    monkeypatch.setenv("AIRFLOW_CONN_AWS_SANDBOX", sandbox.airflow_connection())
    return sandbox


@pytest.fixture
def topic(aws: Sandbox) -> Iterator[tuple[str, Any]]:
    """An SNS topic, and a function that returns what it was sent."""
    sns, sqs = aws.client("sns"), aws.client("sqs")
    arn = sns.create_topic(Name=f"t{uuid4().hex}")["TopicArn"]
    url = sqs.create_queue(QueueName=f"q{uuid4().hex}")["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=attributes["QueueArn"])

    def received() -> list[dict[str, Any]]:
        found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        return [json.loads(message["Body"]) for message in found]

    yield arn, received


def mail(**changes: Any) -> dict[str, Any]:
    return {"channel": "smtp", "to": "team@example.com, boss@example.com", **changes}


def ended(
    sandbox: Sandbox,
    alerts: list[dict[str, Any]],
    *,
    outcome: str = "fail",
    error: str | None = None,
) -> None:
    """Let a run end, as the task of its gate sees it."""
    run = new_run(sandbox, config("s3://b/p.jsonl", alerts=alerts))
    summary = make_summary(make_comparison(), gate=Gate(outcome, "Because {{ 7 * 7 }} < 50."))
    found = {**asdict(summary), "artifacts": {"report": run.folder.at("report.html")}}
    run.folder.write(storage.SUMMARY, json.dumps(found))
    after_gate(None)(context(run.record))


def context(record: Any, error: str | None = None) -> dict[str, Any]:
    return {
        "ti": SimpleNamespace(xcom_pull=lambda **_: record),
        "dag_run": SimpleNamespace(dag_id="nova_llm_judge", run_id="manual__2026+00:00"),
        **({"exception": RuntimeError(error)} if error else {}),
    }


def test_an_alert_reaches_an_smtp_server(aws: Sandbox, mailbox: Mailbox) -> None:
    ended(aws, [mail()])
    (letter,) = mailbox.letters
    assert letter.rcpt_tos == ["team@example.com", "boss@example.com"]
    text = letter.content.decode()
    assert "Subject: asking: gate fail: claude candidate better" in text
    assert "/dags/nova_llm_judge/runs/manual__2026%2B00%3A00" in _plain(text)


def _plain(letter: str) -> str:
    import email
    import email.policy

    message = email.message_from_string(letter, policy=email.policy.default)
    return "".join(part.get_content() for part in message.walk() if not part.is_multipart())


def test_an_alert_reaches_an_sns_topic(aws: Sandbox, topic: tuple[str, Any]) -> None:
    arn, received = topic
    ended(aws, [{"channel": "sns", "to": arn}])
    (message,) = received()
    assert message["Subject"] == "asking: gate fail: claude candidate better"
    assert make_comparison().sentence in message["Message"]


def test_braces_are_no_template_and_signs_no_html(
    aws: Sandbox, mailbox: Mailbox, topic: tuple[str, Any]
) -> None:
    arn, received = topic
    ended(aws, [mail(), {"channel": "sns", "to": arn}])
    assert "Because {{ 7 * 7 }} < 50." in received()[0]["Message"]
    assert "Because {{ 7 * 7 }} &lt; 50." in _plain(mailbox.letters[0].content.decode())


@pytest.mark.parametrize(("outcome", "letters"), [("pass", 0), ("inconclusive", 1), ("fail", 1)])
def test_only_what_was_asked_for_is_told(
    aws: Sandbox, mailbox: Mailbox, outcome: str, letters: int
) -> None:
    ended(aws, [mail()], outcome=outcome)
    assert len(mailbox.letters) == letters


def test_a_way_that_does_not_work_silences_no_other(
    aws: Sandbox, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    missing = "arn:aws:sns:us-east-1:000000000000:missing"
    ended(aws, [{"channel": "sns", "to": missing}, mail()])
    assert len(mailbox.letters) == 1
    assert f"cannot tell {missing} by sns" in caplog.text


def test_a_run_that_cannot_be_read_is_told_by_its_file(aws: Sandbox, mailbox: Mailbox) -> None:
    record = {**new_run(aws, config("s3://b/p.jsonl")).record, "uri": "s3://b/gone"}
    after_gate({"evaluation": "nightly", "alerts": [mail()]})(context(record))
    (letter,) = mailbox.letters
    text = letter.content.decode()
    assert "Subject: nightly: the run failed" in text
    assert "the run cannot be read" in _plain(text)


def test_a_run_that_ends_before_its_config_is_told_by_its_file(
    aws: Sandbox, mailbox: Mailbox
) -> None:
    after_gate({"evaluation": "nightly", "alerts": [mail()]})(context(None, "no such account"))
    (letter,) = mailbox.letters
    text = letter.content.decode()
    assert "Subject: nightly: the run failed" in text and "no such account" in _plain(text)


def test_who_wants_to_hear_of_stuck_runs_has_a_deadline() -> None:
    asked = [mail(stuck_after_hours=6), mail(on=["fail"])]
    (deadline,) = when_stuck("d", {"evaluation": "nightly", "alerts": asked})
    assert deadline.interval.total_seconds() == 6 * 3600
    assert "has not ended after 6 hours" in deadline.callback.kwargs["subject"]
    (deadline,) = when_stuck("prüfung", {"evaluation": "nightly", "alerts": asked[:1]})
    assert deadline.callback.kwargs["subject"].startswith("pr?fung has"), "SNS takes ASCII"
    assert when_stuck("d", None) == []


def test_a_topic_is_told_through_its_environments_connection_in_its_own_region() -> None:
    topic = {"channel": "sns", "to": "arn:aws:sns:eu-west-1:000000000000:t", "on": ["stuck"]}
    (deadline,) = when_stuck("d", {"evaluation": "nightly", "alerts": [topic]})
    told = deadline.callback.kwargs
    assert (told["aws_conn_id"], told["region_name"]) == ("aws_sandbox", "eu-west-1")
    other = {**topic, "conn_id": "aws_other"}
    (deadline,) = when_stuck("d", {"evaluation": "nightly", "alerts": [other]})
    assert deadline.callback.kwargs["aws_conn_id"] == "aws_other"
    nowhere = {"evaluation": "nightly", "environment": "not-there", "alerts": [topic]}
    assert when_stuck("d", nowhere)
