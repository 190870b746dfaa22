"""Alerts through Airflow's notifiers: after the gate, and when a run does not end."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from logging import getLogger
from typing import Any

from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference  # type: ignore[attr-defined]

from include import alerts, links, storage
from include.config import Alert
from include.config_files import chosen_environment, load_environment
from include.errors import JudgeError
from include.names import GENERAL_DAG
from include.runs import RunRecord, open_run
from include.tasks import aws

log = getLogger(__name__)


def after_gate(evaluation: Mapping[str, Any] | None) -> Callable[[Any], None]:
    """Return a callback of the gate's task: it tells those who asked for what has happened.

    Args:
        evaluation: Content of its file, for runs that end before their config is resolved.
    """

    def tell(context: Any) -> None:
        name, asked, aws_conn_id, summary = _known_without_run(evaluation)
        record, error = context["ti"].xcom_pull(task_ids="resolve"), context.get("exception")
        problem = str(error) if error else None
        if record:
            try:
                name, asked, aws_conn_id, summary = _known(record)
            except Exception as trouble:
                log.exception("the run cannot be read")
                problem = problem or f"the run cannot be read: {trouble}"
        dag_run = context["dag_run"]
        message = alerts.message(
            name,
            summary,
            problem=problem,
            link=links.run_address(dag_run.dag_id, dag_run.run_id),
        )
        for alert in asked:
            if alerts.event_of(summary, problem) in alert.on:
                _send(alert, message, context, aws_conn_id)

    return tell


Known = tuple[str, list[Alert], str | None, dict[str, Any] | None]
"""An evaluation's name, whom to tell, the connection to AWS and the summary, if there are any."""


def _known(record: RunRecord) -> Known:
    """Return what a run says of itself."""
    run = open_run(record, aws(record["aws_conn_id"]), without_texts=True)
    there = run.folder.names(storage.SUMMARY)
    summary = json.loads(run.folder.read(storage.SUMMARY)) if there else None
    return run.config.evaluation, run.config.alerts, record["aws_conn_id"], summary


def _known_without_run(evaluation: Mapping[str, Any] | None) -> Known:
    """Return what is known of a run that has no config yet, or one that nobody can read."""
    if evaluation is None:
        return GENERAL_DAG, [], None, None
    asked = [Alert.model_validate(each) for each in evaluation.get("alerts", [])]
    return evaluation["evaluation"], asked, _aws_conn_id(evaluation, asked), None


def _send(alert: Alert, message: alerts.Message, context: Any, aws_conn_id: str | None) -> None:
    """Send one message; a way that does not work must not keep the others from being told."""
    try:
        # Not called as a callback, which would take braces in a model's name for a template.
        kind, settings = _settings(alert, message, aws_conn_id)
        kind(**settings).notify(context)
    except Exception:
        log.exception("cannot tell %s by %s", alert.to, alert.channel)
    else:
        log.info("told %s by %s: %s", alert.to, alert.channel, message.subject)


def _settings(
    alert: Alert, message: alerts.Message, aws_conn_id: str | None
) -> tuple[Any, dict[str, Any]]:
    """Return the notifier's class and its arguments."""
    if alert.channel == "sns":
        from airflow.providers.amazon.aws.notifications.sns import SnsNotifier

        return SnsNotifier, {
            "aws_conn_id": alert.conn_id or aws_conn_id or "aws_default",
            "region_name": alert.to.split(":")[3],  # of the topic's ARN
            "target_arn": alert.to,
            "subject": message.subject,
            "message": message.text,
        }
    if alert.channel == "smtp":
        from airflow.providers.smtp.notifications.smtp import SmtpNotifier

        return SmtpNotifier, {
            "smtp_conn_id": alert.conn_id or "smtp_default",
            "to": [address.strip() for address in alert.to.split(",")],
            "subject": message.subject,
            "html_content": f"<pre style='white-space:pre-wrap'>{html.escape(message.text)}</pre>",
        }
    from airflow.providers.slack.notifications.slack import SlackNotifier

    return SlackNotifier, {
        "slack_conn_id": alert.conn_id or "slack_api_default",
        "channel": alert.to,
        "text": message.for_slack,
    }


def when_stuck(dag_id: str, evaluation: Mapping[str, Any] | None) -> list[DeadlineAlert]:
    """Return what tells those who asked that a run has not ended in time; it ends nothing."""
    if not evaluation:
        return []
    asked = [Alert.model_validate(each) for each in evaluation.get("alerts", [])]
    stuck = [alert for alert in asked if "stuck" in alert.on]
    aws_conn_id = _aws_conn_id(evaluation, stuck)
    return [_deadline(dag_id, alert, aws_conn_id) for alert in stuck]


def _aws_conn_id(evaluation: Mapping[str, Any], asked: Sequence[Alert]) -> str | None:
    """Return the connection of an evaluation's environment, if an alert needs it."""
    if not any(alert.channel == "sns" and not alert.conn_id for alert in asked):
        return None
    try:
        return load_environment(chosen_environment(evaluation.get("environment"))).aws_conn_id
    except JudgeError:
        return None  # the run itself says what is wrong with it


def _deadline(dag_id: str, alert: Alert, aws_conn_id: str | None) -> DeadlineAlert:
    message = alerts.Message(
        alerts.as_subject(f"{dag_id} has not ended after {alert.stuck_after_hours:g} hours"),
        f"A run of {dag_id} was queued {alert.stuck_after_hours:g} hours ago and has not ended; it "
        f"goes on.\n\n{links.runs_address(dag_id)}",
    )
    kind, settings = _settings(alert, message, aws_conn_id)
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(hours=alert.stuck_after_hours),
        callback=AsyncCallback(kind, kwargs=settings),
    )
