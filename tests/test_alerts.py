"""Facts about what people are told: the verdict, the interval, what changed and where to look."""

from dataclasses import asdict, replace

import pytest
from summaries import CHANGE, make_comparison, make_summary

from include import alerts
from include.records import Difference, EarlierRun, Gate, Notice

LINK = "http://airflow/dags/d/runs/r"


def told(*, problem=None, **changes):
    accepted = EarlierRun(
        "r0", "2026-01-04T06:00:00Z", "s3://b/e", [Difference("model of claude", "v1", "v2")]
    )
    found = make_summary(
        replace(make_comparison(), change=CHANGE),
        **{
            "accepted": accepted,
            "artifacts": {"report": "s3://b/report.html"},
            "gate": Gate("fail", "no-regression allows a drop of 5 percentage points."),
            **changes,
        },
    )
    return alerts.message("nightly", asdict(found), problem=problem, link=LINK)


def test_the_message_holds_verdict_interval_change_and_link():
    message = told()
    assert message.subject == "nightly: gate fail: claude candidate better"
    for words in (
        "Gate: fail. no-regression allows a drop of 5 percentage points.",
        make_comparison().sentence,
        "Since the last accepted run: claude wins 60 % of 66 shared prompts, 77 % before.",
        "Also changed: model of claude (v1, now v2).",
        "This is simulated AWS",
        "Report: s3://b/report.html",
        f"Run: {LINK}",
    ):
        assert words in message.text


def test_a_run_without_a_report_is_told_with_its_problem():
    message = alerts.message("nightly", None, problem="no verdict", link=LINK)
    assert message.subject == "nightly: the run failed"
    assert message.text.startswith("no verdict\n\nThe run ended before its report.")


def test_what_the_gate_says_is_not_said_twice():
    reason = "no-regression allows a drop of 5 percentage points."
    assert told(problem=reason).text.count(reason) == 1
    assert told(problem="the endpoint stayed").text.startswith("the endpoint stayed")


@pytest.mark.parametrize(
    ("status", "outcome", "event"),
    [
        ("complete", "pass", "pass"),
        ("complete", "inconclusive", "inconclusive"),
        ("partial", "pass", "failed"),
        ("failed", "inconclusive", "failed"),
        ("capped", "inconclusive", "capped"),
    ],
)
def test_what_has_happened_is_what_the_gate_says_of_a_complete_run(status, outcome, event):
    found = make_summary(status=status, gate=Gate(outcome, ""))
    assert alerts.event_of(asdict(found), None) == event
    assert alerts.event_of(None, None) == "failed"


def test_a_run_that_fails_for_another_reason_than_its_gates_has_failed():
    passed = asdict(make_summary(gate=Gate("pass", "Wins 60 %.")))
    assert alerts.event_of(passed, "ErasureError: texts are still there") == "failed"
    refused = asdict(make_summary(gate=Gate("fail", "Wins 40 %.")))
    assert alerts.event_of(refused, "ResultsError: the gate says fail: Wins 40 %.") == "fail"
    assert told(problem="texts are still there").subject == "nightly: the run failed"


def test_a_model_mentions_nobody_in_slack():
    said = alerts.Message("m: gate fail", "says <!channel> and <https://evil|click> & more")
    wanted = "m: gate fail\nsays &lt;!channel&gt; and &lt;https://evil|click&gt; &amp; more"
    assert said.for_slack == wanted


def test_a_subject_is_one_that_sns_takes():
    several = [replace(make_comparison(), candidate=f"modèle-{n}") for n in range(9)]
    found = make_summary(*several)
    subject = alerts.message("n" * 60, asdict(found), problem=None, link=LINK).subject
    assert len(subject) == 100 and subject.isascii() and "\n" not in subject


def test_of_many_warnings_the_first_are_told():
    message = told(warnings=[Notice("code", f"warning {n}") for n in range(8)])
    assert "Warning: warning 4" in message.text and "warning 5" not in message.text
    assert "3 more warnings are in the report." in message.text


def test_a_run_that_its_budget_stopped_is_told_as_that_and_once():
    reason = "The budget stopped the run at asking claude: 4.10 USD of 5.00 USD are spent."
    notice = Notice("capped", reason)
    message = told(status="capped", gate=Gate("inconclusive", reason), warnings=[notice])
    assert message.subject == "nightly: stopped by its budget"
    assert message.text.count(reason) == 1
