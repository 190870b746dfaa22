"""Facts about the judge's anchor pairs: judge drift is told from model drift."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from run_work import new_record, order, prompts, write_rows
from sandbox_server import Sandbox, running_sandbox
from summaries import make_summary

from include import account, drift, gate, history, judging, runs, steps, storage, trend
from include.config import ANCHORS
from include.config_files import load_environment
from include.errors import DatasetError
from include.judge import image
from include.preferences import ResolvedPair
from include.records import JudgeImage, JudgeRound, Pair
from include.runs import Run
from include.storage import RunFolder
from scripts import anchors

OLD, NEW = JudgeImage("judge:latest", "sha256:a"), JudgeImage("judge:latest", "sha256:b")


def anchor(n: int, **changes: str) -> dict[str, str]:
    return {"prompt": f"Why {n}?", "response_A": f"Because {n}.", "response_B": "Tides.", **changes}


def judge_round(day: int, image: JudgeImage = OLD, wins: int = 20, of: int = 40) -> JudgeRound:
    """A round in which response B wins the first anchors and loses the rest."""
    said = {f"a{n}": "candidate" if n < wins else "baseline" for n in range(of)}
    return JudgeRound(f"2026-11-{day:02d}T06:00:00+00:00", f"s3://b/e/run{day}", image, said)


def change(wins: int, **more: Any) -> Any:
    limits = {"margin": 0.05, "confidence_level": 0.95, **more}
    return drift.compare_rounds(judge_round(1, of=200), judge_round(2, wins=wins, of=200), **limits)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (anchor(0), "row 2: the same pair is there twice"),
        (anchor(1, response_A="Tides."), "row 2: the judge is not asked about it: identical"),
        (anchor(1, response_A="x" * 60_000), "row 2: the judge is not asked about it: too long"),
        ({**anchor(1), "response_A": None}, r"row 2: response_A is empty \(null\)"),
    ],
)
def test_an_anchor_that_the_judge_cannot_be_asked_about_is_refused(
    tmp_path: Path, row: Any, problem: str
) -> None:
    source = write_rows(tmp_path / "anchors.jsonl", [anchor(0), row])
    with pytest.raises(DatasetError, match=problem):
        drift.read_pairs(source)


def test_a_column_that_is_missing_is_named(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "a.jsonl", [{"prompt": "p", "response_a": "x"}])
    with pytest.raises(DatasetError, match="no column 'response_A'; did you mean 'response_a'"):
        drift.read_pairs(source)


def test_an_anchor_is_known_by_its_texts_not_by_its_place(tmp_path: Path) -> None:
    rows = [anchor(n) for n in range(3)]
    found = drift.read_pairs(write_rows(tmp_path / "a.jsonl", rows))
    turned = drift.read_pairs(write_rows(tmp_path / "b.jsonl", rows[::-1]))
    assert [each.prompt_id for each in found] == [each.prompt_id for each in reversed(turned)]


def test_anchors_are_judged_first_for_another_image_and_every_few_runs() -> None:
    rounds = [judge_round(1)]
    assert drift.why_due([], OLD, 0, 10) == "they were never judged"
    assert drift.why_due(rounds, NEW, 0, 10) == "the judge's image is another"
    unknown = replace(OLD, digest=None)
    assert drift.why_due(rounds, unknown, 0, 10) is None  # nor is a job paid when it is known again
    assert drift.why_due([replace(rounds[-1], image=unknown)], OLD, 0, 10) is None
    assert drift.why_due(rounds, OLD, 10, 10) == "10 runs since the last time"
    assert drift.why_due(rounds, OLD, 9, 10) is None


def test_a_judge_that_decides_otherwise_has_changed() -> None:
    found = change(wins=60)
    assert found.verdict == "changed"
    assert (found.anchors, found.same) == (200, 160)
    assert found.difference == pytest.approx(0.2)
    assert found.high < found.difference + 0.07 and found.low > 0


def test_an_interval_within_the_margin_says_that_the_judge_is_the_same() -> None:
    assert change(wins=20).verdict == "unchanged"
    assert change(wins=23).verdict == "unchanged"
    assert change(wins=23, margin=0.001).verdict == "inconclusive"


def test_a_round_stands_for_the_judge_of_a_run_only_with_its_image() -> None:
    first, second, third = judge_round(1), judge_round(5), judge_round(9, NEW)
    rounds = [first, second, third]
    accepted = ("2026-11-06T06:00:00+00:00", OLD)
    assert drift.between(rounds, NEW, accepted) == (second, third)
    assert drift.between(rounds, NEW, ("2026-11-02T06:00:00+00:00", OLD)) == (first, third)
    assert drift.between(rounds[:2], NEW, accepted) is None, "the new image was never tried"
    assert drift.between(rounds, NEW, ("2026-11-10T06:00:00+00:00", NEW)) is None, "the same round"
    assert drift.between(rounds, NEW, None) == (second, third)
    settled = [judge_round(9, NEW), judge_round(12, NEW)]
    assert drift.between(settled, NEW, ("2026-11-13T06:00:00+00:00", NEW)) is None, "both had it"
    assert drift.between(settled, NEW, ("2026-11-10T06:00:00+00:00", NEW)) == tuple(settled)
    assert drift.between([first], OLD, None) is None


def accepted(image: JudgeImage = OLD, recipe: str = "r") -> Any:
    known = {"judge_image": image.uri, "judge_image_digest": image.digest}
    return make_summary(provenance={**known, "digests": {"recipe": recipe}})


def test_the_judge_is_in_doubt_if_it_is_another_and_the_anchors_do_not_clear_it() -> None:
    same, moved = change(wins=20), change(wins=60)
    assert drift.doubt(None, NEW, "r", None) is None
    assert drift.doubt(accepted(), OLD, "r", None) is None
    assert drift.doubt(accepted(), NEW, "r", same) is None
    assert "image changed too, and no anchor pairs" in str(drift.doubt(accepted(), NEW, "r", None))
    assert "image and recipe changed" in str(drift.doubt(accepted(), NEW, "other", None))
    assert drift.doubt(accepted(), OLD, "r", moved) == moved.sentence
    assert "recipe changed" in str(drift.doubt(accepted(recipe="other"), OLD, "r", same)), (
        "anchors were judged by one recipe only"
    )
    unknown = JudgeImage(OLD.uri, None)
    assert drift.doubt(accepted(), unknown, "r", None) is None, "nobody knows of a change"


def test_a_regression_that_may_be_the_judges_is_inconclusive() -> None:
    from summaries import CHANGE, make_comparison

    worse = replace(make_comparison(), change=CHANGE)

    def decide(doubt: str | None) -> Any:
        return gate.decide_gate([worse], "no_regression", 0.03, first=False, judge_in_doubt=doubt)

    assert decide(None).outcome == "fail"
    found = decide("the judge's image changed too, and no anchor pairs tell it apart.")
    assert found.outcome == "inconclusive"
    assert "may be the judge's doing: the judge's image changed too" in found.reason


def test_an_image_whose_digest_is_not_known_breaks_no_line() -> None:
    def row(digest: str | None) -> trend.TrendRow:
        known = dict.fromkeys(trend.columns())
        return trend.TrendRow(**{**known, "judge_image_digest": digest})  # type: ignore[arg-type]

    assert trend.breaks(row("sha256:a"), row("sha256:b")) == ["judge image's digest"]
    assert trend.breaks(row("sha256:a"), row(None)) == []


def test_another_digest_of_the_judge_is_a_difference_between_runs() -> None:
    found = history.differences(accepted(OLD), accepted(NEW))
    assert [(each.what, each.earlier, each.later) for each in found] == [
        ("judge image's digest", "sha256:a", "sha256:b")
    ]
    assert not history.differences(accepted(OLD), accepted(JudgeImage(OLD.uri, None)))


def test_the_tag_of_aws_judge_has_a_digest_and_another_registry_none(sandbox: Sandbox) -> None:
    environment = load_environment("sandbox")
    found = image(environment, sandbox.client("ecr"))
    assert found.uri.endswith(":SM-TJ-Eval-V2-latest")
    assert found.digest is not None and found.digest.startswith("sha256:")
    pinned = environment.model_copy(update={"judge_image_uri": f"{found.uri}@{found.digest}"})
    assert image(pinned, None).digest == found.digest  # type: ignore[arg-type]
    own = environment.model_copy(update={"judge_image_uri": "registry.example.com/judge:1"})
    assert image(own, None).digest is None  # type: ignore[arg-type]


def test_anchors_are_chosen_of_every_kind_and_are_what_is_read_back(tmp_path: Path) -> None:
    kinds = ["candidate"] * 50 + ["baseline"] * 3 + ["tie"] * 3
    pairs = [
        ResolvedPair(Pair(str(n), f"Why {n}?", "a", f"b {n}", "judged"), (), kind, True)  # type: ignore[arg-type]
        for n, kind in enumerate(kinds)
    ]
    unread = ResolvedPair(Pair("x", "Why?", "a", "b", "judged"), (), None, None)
    chosen = anchors.choose([*pairs, unread], 12, seed=0)
    assert Counter(kinds[int(pair.prompt_id)] for pair in chosen) == {
        "candidate": 6,
        "baseline": 3,
        "tie": 3,
    }
    assert chosen != anchors.choose(pairs, 12, seed=1)
    (tmp_path / "anchors.jsonl").write_bytes(anchors.rows(chosen))
    found = drift.read_pairs(str(tmp_path / "anchors.jsonl"))
    assert [each.prompt for each in found] == [each.prompt for each in chosen]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What one sandbox leaves and the next finds."""
    yield tmp_path_factory.mktemp("sandbox")


def night(sandbox: Sandbox, tmp_path: Path, day: int, name: str) -> Run:
    """Do what the tasks of one run do, with responses that exist already."""
    there = {"provider": "responses", "id_field": "id"}
    answers = [
        {"id": f"p{n}", "a": f"It is {n}.", "b": f"{n} and {n} is {2 * n}."} for n in range(8)
    ]
    source = write_rows(tmp_path / "answers.jsonl", answers)
    conf = {
        "evaluation": name,
        "dataset": {"source": write_rows(tmp_path / "p.jsonl", prompts(8)), "id_field": "id"},
        "baseline": {"name": "a", "source": source, "response_field": "a", **there},
        "candidates": [{"name": "b", "source": source, "response_field": "b", **there}],
        "judge": {
            "anchor_pairs": write_rows(tmp_path / "anchors.jsonl", [anchor(n) for n in range(60)]),
            "anchor_every": 3,
        },
        "gate": {"rule": "no_regression", "margin": 0.05},
    }
    started = f"2026-11-{day:02d}T06:00:00+00:00"
    record = {**new_record(sandbox, conf, f"night {day}"), "started_at": started}
    run = runs.open_run(record, sandbox.client)  # type: ignore[arg-type]
    shards = steps.load_prompts(run)
    asked = steps.plan(run, shards)
    generated = [steps.generate(run, steps.reserve(run, asked), shard) for shard in shards]
    for each in asked:
        job = judging.write_judge_input(run, each, generated)
        request = job["request"]
        assert request is not None
        sagemaker, job_name = sandbox.client("sagemaker"), f"{request['TrainingJobName']}-1"
        sagemaker.create_training_job(**{**request, "TrainingJobName": job_name})
        while (status := sagemaker.describe_training_job(TrainingJobName=job_name))[
            "TrainingJobStatus"
        ] == "InProgress":
            time.sleep(0.1)
        arn = status["TrainingJobArn"]
        judging.summarize(run, {**job, "job_name": job_name, "job_arn": arn})
    steps.gate(run, steps.report(run), approved=True)
    return run


def summary(run: Run) -> Any:
    return json.loads(run.folder.read(storage.SUMMARY))


def judged(run: Run) -> bool:
    return bool(run.folder.names(f"pairs/{ANCHORS}/llm_judge.jsonl"))


def test_a_judge_that_changes_is_told_from_models_that_change(state: Path, tmp_path: Path) -> None:
    with running_sandbox(state, sandbox_delays="job=0.1") as sandbox:
        first = night(sandbox, tmp_path, 1, "drifting")
        second = night(sandbox, tmp_path, 2, "drifting")
        digest = summary(first)["provenance"]["judge_image_digest"]
        assert judged(first) and not judged(second), "the judge is the same"
        assert summary(second)["judge_change"] is None
        assert summary(second)["provenance"]["judge_image_digest"] == digest
    changed = "seed=7,position_bias=0.8,image=2"
    with running_sandbox(state, sandbox_delays="job=0.1", sandbox_judge=changed) as sandbox:
        third = night(sandbox, tmp_path, 3, "drifting")
        told = summary(third)
        assert judged(third)
        assert told["provenance"]["judge_image_digest"] != digest
        assert told["judge_change"]["verdict"] == "changed"
        assert [w["code"] for w in told["warnings"] if w["code"] == "judge_drift"]
        assert told["gate"]["outcome"] != "fail"
        page = third.folder.read(storage.REPORT).decode()
        assert "Judge since" in page and "The judge has changed: of 60 anchor pairs" in page
        output = RunFolder(third.folder.s3, third.config.environment.output_s3_uri)
        rows = trend.read(output, "drifting")
        assert [row.judge_change for row in rows[:2]] == [None, None]
        assert rows[2].judge_change == told["judge_change"]["difference"]
        assert trend.breaks(rows[1], rows[2]) == ["judge image's digest"]


def test_anchors_are_judged_again_after_so_many_runs(state: Path, tmp_path: Path) -> None:
    with running_sandbox(state, sandbox_delays="job=0.1") as sandbox:
        again = [judged(night(sandbox, tmp_path, day, "steady")) for day in range(10, 15)]
    assert again == [True, False, False, False, True]


def test_a_moment_of_trouble_does_not_hide_which_image_judges(sandbox: Sandbox) -> None:
    environment, ecr = load_environment("sandbox"), sandbox.client("ecr", **account.PATIENT)
    known = image(environment, ecr).digest
    order(sandbox, operation="BatchGetImage", code="ServerException", status=503, times=3)
    assert image(environment, ecr).digest == known
    assert known
