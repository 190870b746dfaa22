"""Facts about one run after the other: which was accepted last, and what else has changed since."""

from dataclasses import replace
from uuid import uuid4

import pytest
from sandbox_server import Sandbox
from summaries import SETTINGS, make_model, make_summary

from include import history, storage
from include.records import Difference, SummaryEnvironment
from include.storage import RunFolder


@pytest.fixture
def home(sandbox: Sandbox) -> RunFolder:
    return RunFolder(sandbox.client("s3"), f"s3://nova-judge-sandbox/{uuid4()}")


def run(home, slug, *, accepted=None):
    """A run's folder, with a summary if it was accepted."""
    folder = RunFolder(home.s3, home.at(slug))
    if accepted:
        folder.write(storage.SUMMARY, "{}")
        history.accept(folder, accepted)
    return folder


def test_the_first_run_has_nothing_to_be_compared_with(home):
    assert history.last_accepted(run(home, "a"), "2026-01-05T06:00:00Z") is None


def test_the_run_that_started_last_before_this_one_is_found(home):
    run(home, "a", accepted="2026-01-03T06:00:00+00:00")
    second = run(home, "b", accepted="2026-01-04T06:00:00+00:00")
    run(home, "c", accepted="2026-01-06T06:00:00+00:00")
    assert history.last_accepted(run(home, "d"), "2026-01-05T06:00:00Z") == second


def test_a_run_that_is_cleared_is_not_compared_with_itself(home):
    first = run(home, "a", accepted="2026-01-03T06:00:00+00:00")
    moment = "2026-01-04T06:00:00+00:00"
    again = run(home, "b", accepted=moment)
    assert history.last_accepted(again, moment) == first
    assert history.last_accepted(again, "2026-01-07T06:00:00+00:00") == first


def test_moments_of_other_time_zones_are_put_in_order(home):
    run(home, "a", accepted="2026-01-04T23:00:00+00:00")
    later = run(home, "b", accepted="2026-01-04T20:00:00-05:00")
    assert history.last_accepted(run(home, "c"), "2026-01-05T06:00:00Z") == later


def test_a_run_whose_folder_is_gone_is_passed_over(home):
    kept = run(home, "a", accepted="2026-01-03T06:00:00+00:00")
    history.accept(run(home, "gone"), "2026-01-04T06:00:00+00:00")
    assert history.last_accepted(run(home, "c"), "2026-01-05T06:00:00Z") == kept


PROVENANCE = {
    "digests": {"dataset": "a" * 64, "recipe": "b" * 64, "config": "c" * 64},
    "judge_image": "image:1",
}


def model(name, role="candidate", **changes):
    return make_model(name, role=role, **{"model_id": f"{name}-v1", **changes})


def summary(**changes):
    models = [model("qwen", "baseline"), model("claude")]
    return make_summary(**{"provenance": PROVENANCE, "models": models, **changes})


def test_nothing_that_decides_has_changed():
    later = summary(
        run_id="other",
        ended_at="2026-02-01T00:00:00Z",
        provenance={
            **PROVENANCE,
            "digests": {**PROVENANCE["digests"], "config": "d" * 64},
            "git_sha": "abc",
        },
    )
    assert history.differences(summary(), later) == []


def test_everything_that_has_changed_is_named():
    digests = {"dataset": "d" * 64, "recipe": "e" * 64}
    later = summary(
        provenance={"digests": digests, "judge_image": "image:2"},
        environment=SummaryEnvironment("production", "aws", "111122223333", "eu-west-1"),
        models=[
            model("qwen", "baseline", settings=replace(SETTINGS, temperature=None)),
            model("claude", model_id="claude-v2"),
            model("mistral"),
        ],
    )
    assert history.differences(summary(), later) == [
        Difference(
            "environment",
            "sandbox (000000000000, us-east-1)",
            "production (111122223333, eu-west-1)",
        ),
        Difference("prompts", f"sha256 {'a' * 12}", f"sha256 {'d' * 12}"),
        Difference("judge image", "image:1", "image:2"),
        Difference("recipe", f"sha256 {'b' * 12}", f"sha256 {'e' * 12}"),
        Difference("temperature of qwen", "0.7", "not sent"),
        Difference("model of claude", "claude-v1", "claude-v2"),
    ]


def test_another_container_behind_the_same_name_is_named():
    def deployed(digest):
        digests = {**PROVENANCE["digests"], "models": {"qwen": digest * 64, "claude": None}}
        return summary(provenance={**PROVENANCE, "digests": digests})

    assert history.differences(deployed("1"), deployed("2")) == [
        Difference("deployment of qwen", "1" * 12, "2" * 12)
    ]
    assert history.differences(deployed("1"), deployed("1")) == []
    assert history.differences(summary(), deployed("1")) == []  # not known then


def test_another_baseline_is_another_comparison():
    later = summary(models=[model("llama", "baseline"), model("claude")])
    assert history.differences(summary(), later) == [Difference("baseline", "qwen", "llama")]


def test_the_run_that_the_next_one_is_compared_with_is_known(home):
    assert history.reference(home) is None
    first = run(home, "a", accepted="2026-01-03T06:00:00+00:00")
    assert history.reference(home) == first
    second = run(home, "b", accepted="2026-01-04T06:00:00+00:00")
    history.accept(run(home, "gone"), "2026-01-05T06:00:00+00:00")
    assert history.reference(home) == second


@pytest.mark.parametrize(("slug", "is_its"), [("run-1", True), ("1", False), ("run-10", False)])
def test_a_note_is_of_one_run_only(slug, is_its):
    assert history.is_note_of("x/accepted/20260105T060000.000000Z_run-1.json", slug) is is_its
