"""Facts about the benchmark of many nights: what it evaluates, and what it counts as what."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest
from summaries import make_comparison, make_summary

from bench import nights, nights_evaluations
from bench.nights_counted import Counted, Run
from include import trend
from include.config_files import load_evaluation, resolve_config
from include.storage import RunFolder
from scripts.local import pages

NAMES = list(nights_evaluations.EVALUATIONS)
BEGAN = datetime(2026, 1, 5, 6, tzinfo=UTC)
ROW = trend._row(make_summary(make_comparison()), make_comparison(), RunFolder(None, "s3://b/r"))


def run(night: int, *gates: str, evaluation: str = "a", state: str = "success") -> Run:
    """A run with a row for each gate: what it said about a candidate."""
    rows = [replace(ROW, gate=gate, change=-0.01) for gate in gates]
    ended = BEGAN + timedelta(minutes=night)
    return Run(evaluation, night, state, BEGAN, ended, rows, Counter())


def counted(*runs: Run, **found: Any) -> Counted:
    rules = {"a": "no_regression", "b": "non_inferiority"}
    return Counted(list(runs), {"a": 1, "b": 2}, rules, **found)


def test_the_ten_evaluations_are_valid_and_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOVA_JUDGE_CONFIG_DIR", str(tmp_path))
    nights_evaluations.write(tmp_path, NAMES)
    files = [tmp_path / "evaluations" / f"{name}.yaml" for name in NAMES]
    configs = [resolve_config(load_evaluation(file)) for file in files]
    assert len(configs) == 10
    assert {model.provider for config in configs for model in config.models} == {
        "sagemaker",
        "bedrock",
        "responses",
    }
    assert {config.gate.rule for config in configs} == set(nights.RULES)
    nights_evaluations.write(tmp_path, NAMES[:3])
    assert len(list((tmp_path / "evaluations").iterdir())) == 3


def test_existing_responses_are_others_every_night_and_the_same_when_it_is_taken_up_again(
    tmp_path: Path,
) -> None:
    def written(night: int) -> str:
        nights_evaluations.write_responses(tmp_path, night)
        return (tmp_path / "responses/files-parity-new.jsonl").read_text()

    assert written(1) == written(1) != written(2)


def test_a_run_without_an_end_or_without_a_verdict_is_lost() -> None:
    found = counted(
        run(1, "pass"),
        run(2, "fail", state="failed"),
        run(3, state="failed"),
        run(4, "pass", state="running"),
    )
    assert found.lost == [
        "a night-003 (failed, 0 rows)",
        "a night-004 (running, 1 rows)",
    ]


def test_more_rows_than_candidates_are_doubled_and_fewer_partial() -> None:
    found = counted(
        run(1, "pass", "pass"),
        run(1, "pass", evaluation="b"),
        run(2, "pass", "pass", evaluation="b"),
    )
    assert found.doubled == ["a night-001 (success, 2 rows)"]
    assert found.partial == ["b night-001 (success, 1 rows)"]
    assert found.lost == []


def test_a_run_that_does_not_end_as_its_gate_says_is_wrong() -> None:
    found = counted(
        run(1, "inconclusive"),
        run(2, "inconclusive", state="failed"),
        run(3, "fail", state="failed"),
        run(4, "fail"),
    )
    assert found.wrong == ["a night-002 (failed, 1 rows)", "a night-004 (success, 1 rows)"]


def test_the_first_run_of_a_regression_gate_decides_nothing() -> None:
    first = run(1, "pass")
    first = replace(first, rows=[replace(row, change=None) for row in first.rows])
    found = counted(first, run(2, "fail"), run(1, "inconclusive", "inconclusive", evaluation="b"))
    assert found.decisions() == ["fail", "inconclusive"]
    assert found.decisions("no_regression") == ["fail"]


def test_shares_have_wilson_intervals() -> None:
    expected = binomtest(3, 200).proportion_ci(0.95, method="wilson")
    values = {each.metric: each.value for each in nights.shares("c", "false_alarms", 3, 200)}
    assert values["false_alarms_share"] == 0.015
    assert values["false_alarms_low"] == pytest.approx(expected.low)
    assert values["false_alarms_high"] == pytest.approx(expected.high)
    assert [each.value for each in nights.shares("c", "false_alarms", 0, 0)] == [0]


def test_what_must_not_be_is_named() -> None:
    found = counted(
        run(1, "pass"), run(3, "pass", state="failed"), left=["endpoint e"], paid_twice=["nj-x"]
    )
    assert list(nights.problems_of(found, 2, ["a"])) == [
        "Not triggered: a night-002",
        "Not what the gate says: a night-003 (failed, 1 rows)",
        "Paid twice: nj-x",
        "Left: endpoint e",
    ]
    assert list(nights.problems_of(counted(run(1, "pass")), 1, ["a"])) == []


def test_a_nights_length_is_that_of_its_last_run() -> None:
    found = counted(run(1, "pass"), run(3, "pass"), run(1, "pass", "pass", evaluation="b"))
    assert sorted(found.seconds_of_nights()) == [60, 180]


def test_everything_is_read_page_by_page() -> None:
    rows = [{"n": n} for n in range(250)]

    def get(path: str) -> dict[str, Any]:
        query = dict(part.split("=") for part in path.partition("?")[2].split("&"))
        offset = int(query["offset"])
        return {"dag_runs": rows[offset : offset + 100], "total_entries": 250}

    assert list(pages(get, "/dags", "dag_runs")) == rows
