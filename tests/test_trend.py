"""Facts about the history: one flat row per comparison, once per run, and where its line breaks."""

import io
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from pyarrow import BufferReader, parquet
from sandbox_server import Sandbox
from summaries import CHANGE, make_comparison, make_model, make_summary

from include import storage, trend
from include.records import Cost
from include.storage import RunFolder

PROVENANCE = {
    "digests": {"config": "c", "dataset": "d", "recipe": "r"},
    "judge_image": "image:1",
    "judge_image_digest": None,
}


@pytest.fixture
def output(sandbox: Sandbox) -> RunFolder:
    return RunFolder(sandbox.client("s3"), f"s3://nova-judge-sandbox/{uuid4()}")


def summary(day=5, **changes):
    models = [make_model("qwen"), make_model("claude", model_id="claude-v1")]
    return make_summary(
        replace(make_comparison(), change=CHANGE),
        **{
            "started_at": f"2026-01-{day:02}T06:00:00+00:00",
            "run_id": f"run {day}",
            "provenance": PROVENANCE,
            "models": models,
            **changes,
        },
    )


def store(output, found):
    return trend.write(output, found, RunFolder(output.s3, output.at(f"e/{found.run_id}")))


def test_a_row_is_flat_and_says_what_the_summary_says(output):
    store(output, summary(cost=Cost(1.5, None, "USD", "2026-01-01")))
    (row,) = trend.read(output, "qwen-vs-claude")
    rate = summary().comparisons[0].win_rate
    assert (row.win_rate, row.low, row.high) == (rate.estimate, rate.low, rate.high)
    assert (row.candidate, row.baseline, row.pairs, row.verdict) == (
        "claude",
        "qwen",
        66,
        "candidate_better",
    )
    assert (row.change, row.change_low, row.gate) == (-0.17, -0.3, "pass")
    assert (row.candidate_model, row.dataset_digest, row.cost) == ("claude-v1", "d", 1.5)
    assert row.started_at == datetime(2026, 1, 5, 6, tzinfo=UTC)
    assert row.run_folder == output.at("e/run 5")


def test_a_run_that_is_reported_twice_is_there_once(output):
    assert store(output, summary()) == store(output, summary(ended_at="2026-01-05T09:00:00Z"))
    (row,) = trend.read(output, "qwen-vs-claude")
    assert row.ended_at.hour == 9


def test_rows_come_in_the_order_of_their_runs(output):
    for day in (7, 5, 6):
        store(output, summary(day))
    store(output, summary(8, evaluation="another"))
    assert [row.started_at.day for row in trend.read(output, "qwen-vs-claude")] == [5, 6, 7]


def test_a_run_without_a_comparison_has_no_row(output):
    assert store(output, replace(summary(), comparisons=[])) is None
    assert trend.read(output, "qwen-vs-claude") == []


def test_what_is_not_known_is_null_with_its_type(output):
    uri = store(output, replace(summary(), comparisons=[make_comparison(details=False)]))
    table = parquet.read_table(BufferReader(output.read(uri.removeprefix(f"{output.uri}/"))))
    assert table.column("pairs").to_pylist() == [None]
    types = {field.name: str(field.type) for field in table.schema}
    assert types["pairs"] == "int64" and types["win_rate"] == types["cost"] == "double"
    assert types["started_at"] == "timestamp[us, tz=UTC]" and types["gate"] == "string"


def test_rows_of_another_version_are_read(output):
    uri = store(output, summary()).removeprefix(f"{output.uri}/")
    table = parquet.read_table(BufferReader(output.read(uri)))
    older = table.drop_columns(["currency"]).append_column("novelty", [["x"]])
    output.write(uri, storage.to_parquet([], trend.TrendRow))
    sink = io.BytesIO()
    parquet.write_table(older, sink)
    output.write(uri, sink.getvalue())
    (row,) = trend.read(output, "qwen-vs-claude")
    assert row.currency is None and row.pairs == 66


def test_a_line_breaks_where_something_else_has_changed(output):
    for day in (5, 6):
        known = {**PROVENANCE, "judge_image_digest": "sha256:old"}
        store(output, summary(day, provenance=known))
    store(output, summary(7, provenance={**PROVENANCE, "judge_image_digest": "sha256:new"}))
    other = {**PROVENANCE, "digests": {**PROVENANCE["digests"], "config": "x", "dataset": "e"}}
    store(output, summary(8, provenance={**other, "judge_image_digest": "sha256:new"}))
    changed = [found for _, found in trend.lines(trend.read(output, "qwen-vs-claude"))]
    assert changed == [[], [], ["judge image's digest"], ["prompts"]]


def test_every_candidate_has_a_line_of_its_own(output):
    rows = [
        replace(row, candidate=name, candidate_model=name)
        for name in ("a", "b")
        for row in [trend._row(summary(), summary().comparisons[0], output)]
    ]
    assert [found for _, found in trend.lines([*rows, *rows])] == [[], [], [], []]


def test_a_verdict_costs_its_share_of_the_run(output):
    two = [make_comparison(), replace(make_comparison(), candidate="other")]
    store(output, summary(cost=Cost(9.0, 3.0, "USD", "2026-01-01"), comparisons=two))
    store(output, summary(6))
    first, second, free = trend.read(output, "qwen-vs-claude")
    assert [row.cost for row in (first, second)] == [3.0, 3.0]
    assert [row.cost_per_verdict for row in (first, second)] == [1.5, 1.5]
    assert free.cost_per_verdict is None
