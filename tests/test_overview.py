"""Facts about the object that shows all evaluations at a glance, over HTTP on S3."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import uuid4

import pytest
from sandbox_server import Sandbox

from include import overview, trend
from include.storage import RunFolder
from include.trend import TrendRow

FIRST = datetime(2026, 11, 1, 6, tzinfo=UTC)


@pytest.fixture
def output(sandbox: Sandbox) -> RunFolder:
    s3 = sandbox.client("s3", max_pool_connections=20)
    return RunFolder(s3, f"s3://nova-judge-sandbox/{uuid4()}")


def row(night: int, evaluation: str = "nightly", candidate: str = "claude") -> TrendRow:
    known: dict[str, object] = {
        **dict.fromkeys(trend.columns()),
        "evaluation": evaluation,
        "candidate": candidate,
        "baseline": "qwen",
        "started_at": FIRST + timedelta(days=night),
        "dag_id": "d",
        "run_id": f"run {night}",
        "run_folder": f"s3://bucket/{evaluation}/run-{night}",
        "status": "complete",
        "verdict": "inconclusive",
        "gate": "pass",
        "win_rate": 0.5,
    }
    return TrendRow(**known)  # type: ignore[arg-type]


def nights(output: RunFolder, evaluation: str = "nightly") -> list[str]:
    return [point.run_id for point in overview.read(output)[evaluation]]


def test_an_environment_without_runs_has_no_evaluations(output: RunFolder) -> None:
    assert overview.read(output) == {}


def test_points_are_in_the_order_of_their_runs_whenever_they_ended(output: RunFolder) -> None:
    for night in (2, 0, 1):
        overview.add(output, [row(night)])
    assert nights(output) == ["run 0", "run 1", "run 2"]


def test_a_run_that_is_reported_again_is_there_once_with_its_last_numbers(
    output: RunFolder,
) -> None:
    overview.add(output, [row(0), row(0, candidate="nova")])
    overview.add(output, [replace(row(0), win_rate=0.75), row(0, candidate="nova")])
    found = overview.read(output)["nightly"]
    assert sorted((each.candidate, each.win_rate) for each in found) == [
        ("claude", 0.75),
        ("nova", 0.5),
    ]


def test_each_candidate_keeps_its_last_points(output: RunFolder) -> None:
    every = [row(night, candidate=name) for night in range(40) for name in ("claude", "nova")]
    overview.add(output, every)
    found = overview.read(output)["nightly"]
    for name in ("claude", "nova"):
        mine = [each.run_id for each in found if each.candidate == name]
        assert mine == [f"run {night}" for night in range(40 - overview.MOST_POINTS, 40)]


def test_runs_that_end_together_do_not_lose_each_others_points(output: RunFolder) -> None:
    names = [f"evaluation-{number}" for number in range(12)]
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(lambda name: overview.add(output, [row(0, evaluation=name)]), names))
    assert sorted(overview.read(output)) == sorted(names)


def test_a_run_is_forgotten_and_the_others_stay(output: RunFolder) -> None:
    overview.add(output, [row(0), row(1)])
    overview.add(output, [row(0, evaluation="weekly")])
    overview.remove(output, row(0).run_folder)
    overview.remove(output, row(0, evaluation="weekly").run_folder)
    assert set(overview.read(output)) == {"nightly"}
    assert nights(output) == ["run 1"]
    overview.remove(output, "s3://bucket/nightly/run-9")
    assert nights(output) == ["run 1"]
    overview.remove(output, row(1).run_folder)
    assert output.names("history/") == []


def test_another_model_breaks_the_line_and_another_verdict_does_not(output: RunFolder) -> None:
    better = replace(row(1), verdict="candidate_better", win_rate=0.9)
    overview.add(output, [row(0), better, replace(row(2), candidate_model="claude-5")])
    first, second, third = overview.read(output)["nightly"]
    assert second.continues(first)
    assert not third.continues(second)


def test_points_of_another_version_are_read_and_break_no_line(output: RunFolder) -> None:
    overview.add(output, [row(0), row(1)])
    stored = json.loads(output.read(overview.NAME))
    older, newer = stored["nightly"]
    del older["asked"], older["judge_image_digest"]
    newer["what_comes_later"] = 1
    output.write(overview.NAME, json.dumps(stored))
    first, second = overview.read(output)["nightly"]
    assert first.asked is None and second.continues(first)


def test_an_image_whose_digest_is_not_known_breaks_no_line(output: RunFolder) -> None:
    digests = ("sha256:a", None, "sha256:a", "sha256:b")
    rows = [replace(row(n), judge_image_digest=digest) for n, digest in enumerate(digests)]
    overview.add(output, rows)
    found = overview.read(output)["nightly"]
    assert [after.continues(before) for before, after in pairwise(found)] == [True, True, False]
