"""Facts about several judges and models: two judges of the same pairs, and every two candidates."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from run_work import CLAUDE, NOVA, config, new_run, prompts, whole, write_rows
from sandbox_server import Sandbox
from summaries import make_comparison

from include.config_files import resolve_config
from include.errors import ConfigError
from include.preferences import ResolvedPair
from include.records import BothPrefer, Pair, SecondJudge
from include.second_judge import compare_judges

RUBRIC = {"recipe": "nova_2_lite_rubric_llm_judge", "instance_type": "ml.p5.48xlarge"}
HAIKU = {"name": "haiku", "provider": "bedrock", "model_id": "us.anthropic.claude-haiku-4-5"}


def resolved(*preferences: Any, **changes: Any) -> Iterator[ResolvedPair]:
    for n, preference in enumerate(preferences):
        pair = replace(Pair(f"p{n}", "", "a", "b", "judged"), **changes)
        yield ResolvedPair(pair, (), preference, None)


def compared(first: Any, second: Any) -> SecondJudge | None:
    return compare_judges(
        first, second, recipe="rubric", found=make_comparison(), confidence_level=0.95
    )


def test_judges_agree_where_both_prefer_the_same_and_what_one_does_not_say_is_left_out() -> None:
    found = compared(
        resolved("candidate", "candidate", "baseline", "tie", None),
        resolved("candidate", "baseline", "baseline", None, "tie"),
    )
    assert found
    assert (found.agreement.count, found.agreement.of) == (2, 3)
    assert found.opposed == ["p1"]
    assert BothPrefer("candidate", "baseline", 1) in found.table


def test_pairs_that_no_judge_was_asked_about_are_no_agreement() -> None:
    same = [resolved("tie", "tie", status="identical") for _ in range(2)]
    assert compared(*same) is None


def test_a_second_judge_is_asked_about_the_same_pairs_and_decides_nothing(
    sandbox: Sandbox, tmp_path: Any
) -> None:
    source = write_rows(tmp_path / "p.jsonl", prompts(12))
    run = new_run(sandbox, config(source, judge={"second": RUBRIC}))
    whole(sandbox, run)
    summary = json.loads(run.folder.read("summary.json"))
    (comparison,) = summary["comparisons"]
    second = comparison["second"]
    assert second["recipe"] == "amazon.nova-2-lite-v1:0:256k, rubric_llm_judge"
    assert second["agreement"]["of"] == comparison["counts"]["pairs"] == 12
    assert 0 < second["agreement"]["count"] < 12, "a judge of rubrics has its own taste"
    assert second["rubric"]["criteria"] and comparison["rubric"] is None
    same = [run.folder.read(f"pairs/{key}/llm_judge.jsonl") for key in ("claude", "~claude")]
    assert same[0] == same[1]
    page = run.folder.read("report.html").decode()
    assert "Both judges: claude" in page and "by the second judge" in page


def test_in_a_round_robin_every_two_models_are_judged_and_answers_are_asked_for_once(
    sandbox: Sandbox, tmp_path: Any
) -> None:
    source = write_rows(tmp_path / "p.jsonl", prompts(10))
    conf = config(source, candidates=[CLAUDE, HAIKU], comparison="round_robin")
    run = new_run(sandbox, conf)
    whole(sandbox, run)
    found = json.loads(run.folder.read("comparisons/haiku~claude.json"))["comparison"]
    assert (found["baseline"], found["candidate"]) == ("claude", "haiku")
    assert found["counts"]["pairs"] == 10
    summary = json.loads(run.folder.read("summary.json"))
    assert [each["candidate"] for each in summary["comparisons"]] == ["claude", "haiku"]
    parts = [run.folder.names(f"responses/{name}/0") for name in ("nova", "claude", "haiku")]
    assert [len(each) for each in parts] == [1, 1, 1]


def test_judge_jobs_have_keys_that_no_model_has() -> None:
    conf = config(
        "prompts.jsonl",
        candidates=[CLAUDE, HAIKU],
        comparison="round_robin",
        judge={"second": RUBRIC, "canaries": 8},
    )
    found = resolve_config(conf, environ={})
    assert found.judge_jobs(5) == {
        **{"claude": 5, "haiku": 5, "haiku~claude": 5, "~claude": 5, "~haiku": 5},
        "_canaries": 30,
    }
    assert found.judge_of("~claude").recipe == RUBRIC["recipe"]
    assert found.judge_of("haiku~claude").recipe == "nova_micro_llm_judge"
    with pytest.raises(ConfigError, match="name"):
        resolve_config(config("p.jsonl", candidates=[{**NOVA, "name": "~nova"}]), environ={})
