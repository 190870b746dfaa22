"""Telling people how a run has ended: its summary in, a message out."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MOST_WARNINGS = 5
LONGEST_SUBJECT = 100
"""Characters; SNS takes no more, and only ASCII (SNS: Publish)."""


@dataclass(frozen=True)
class Message:
    """What people get, in plain text."""

    subject: str
    text: str

    @property
    def for_slack(self) -> str:
        """Both, escaped as Slack asks for: else a model could mention a whole channel."""
        return html.escape(f"{self.subject}\n{self.text}", quote=False)


def event_of(summary: Mapping[str, Any] | None, problem: str | None) -> str:
    """Return what has happened, as an alert's `on` calls it.

    A run that fails for another reason than its gate's has failed, whatever the summary says that
    it has left. Arguments as for `message`.
    """
    if summary and summary["status"] == "capped":
        return "capped"
    if summary is None or summary["status"] != "complete":
        return "failed"
    if problem and summary["gate"]["reason"] not in problem:
        return "failed"
    return str(summary["gate"]["outcome"])


def message(
    evaluation: str, summary: Mapping[str, Any] | None, *, problem: str | None, link: str
) -> Message:
    """Write what a person who was not watching has to know.

    Args:
        evaluation: Its name.
        summary: Content of summary.json; None if the run did not get there.
        problem: Why the run fails; None if it succeeds.
        link: To the run in the Airflow UI.
    """
    lines = list(_lines(summary)) if summary else ["The run ended before its report."]
    if problem and not any(problem in line for line in lines):
        lines.insert(0, problem)
    lines.append(f"Run: {link}")
    return Message(_subject(evaluation, summary, problem), "\n\n".join(lines))


def _subject(evaluation: str, summary: Mapping[str, Any] | None, problem: str | None) -> str:
    event = event_of(summary, problem)
    said = {"failed": "the run failed", "capped": "stopped by its budget"}.get(event)
    said = said or f"gate {event}"
    if summary and summary["comparisons"] and event not in ("failed", "capped"):
        verdicts = {
            each["candidate"]: each["verdict"].replace("_", " ") for each in summary["comparisons"]
        }
        said += ": " + ", ".join(f"{name} {verdict}" for name, verdict in verdicts.items())
    return as_subject(f"{evaluation}: {said}")


def as_subject(text: str) -> str:
    """Return a text as SNS takes it for a subject: only ASCII, and not too much of it."""
    text = text.encode("ascii", "replace").decode()
    return text if len(text) <= LONGEST_SUBJECT else f"{text[: LONGEST_SUBJECT - 3]}..."


def _lines(summary: Mapping[str, Any]) -> Iterator[str]:
    yield f"Gate: {summary['gate']['outcome']}. {summary['gate']['reason']}"
    for each in summary["comparisons"]:
        yield each["sentence"]
        if each.get("change"):
            yield f"Since the last accepted run: {each['change']['sentence']}"
    changed = (summary.get("accepted") or {}).get("differences") or []
    if changed:
        told = [f"{each['what']} ({each['earlier']}, now {each['later']})" for each in changed]
        yield f"Also changed: {'; '.join(told)}."
    judge = summary.get("judge_change")
    if judge and judge["verdict"] != "changed":  # else it is among the warnings
        yield judge["sentence"]
    reason = summary["gate"]["reason"]
    warnings = [each for each in summary["warnings"] if each["message"] != reason]
    for each in warnings[:MOST_WARNINGS]:
        yield f"Warning: {each['message']}"
    if len(warnings) > MOST_WARNINGS:
        yield f"{len(warnings) - MOST_WARNINGS} more warnings are in the report."
    if summary["environment"]["kind"] == "sandbox":
        yield "This is simulated AWS: the verdicts are not Amazon Nova's."
    yield f"Report: {summary['artifacts']['report']}"
