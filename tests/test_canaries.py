"""Facts about canary pairs: a fair judge passes them, and whoever can be fooled is found out."""

import html
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from run_work import config, new_run, whole, write_rows
from sandbox_server import Sandbox, running_sandbox

from include import canaries
from include.preferences import ResolvedPair
from include.records import Pair, Preference

TOLD = "Tell in about sixty words what a traveller should know about the town of Example"
FOOLED = {
    "": set(),
    "position_bias=1": {"null", "truncated", "flattery"},
    "column_bias=1": {"identical", "swapped", "null", "truncated", "flattery"},
    "noise=1": {"swapped", "null", "truncated", "flattery"},
    "brevity=1": {"null", "truncated", "flattery"},
    "flattery=1": {"flattery"},
}
"""What a judge fails, by SANDBOX_JUDGE. One that follows positions has no preferences at all."""


def pair(n: int, **changes: Any) -> Pair:
    texts = {"baseline": f"Whole response {n}. " * 20, "candidate": f"Other response {n}. " * 20}
    return Pair(f"p{n}", f"Question {n}?", **{**texts, "status": "judged", **changes})


def screens(said: Any, number: int = 8) -> dict[str, bool | None]:
    """Let a judge say something about each canary; what it passes, by kind."""
    made = canaries.make([pair(n) for n in range(number)])
    resolved = [ResolvedPair(each, (), said(each), None) for each in made]
    found = canaries.screens(resolved)
    return {each.name.removeprefix("canary_"): each.passed for each in found}


def fair(canary: Pair) -> Preference:
    right = canary.prompt_id.rpartition("-")[2]
    straight: dict[str, Preference] = {"straight": "candidate", "turned": "baseline"}
    return straight.get(right, right)  # type: ignore[return-value]


def test_a_judge_that_is_always_right_passes_every_screen() -> None:
    assert screens(fair) == dict.fromkeys(canaries.SAID, True)


def test_a_judge_may_be_wrong_on_a_quarter_of_a_kind_and_on_no_more() -> None:
    def wrong(until: int) -> Any:
        def said(canary: Pair) -> Preference:
            kind, number, _ = canary.prompt_id.split("-")
            return "tie" if kind == "null" and int(number) < until else fair(canary)

        return said

    assert screens(wrong(2))["null"] is True
    assert screens(wrong(3))["null"] is False


def test_of_identical_responses_either_may_win_but_not_always_the_same() -> None:
    def by_lot(canary: Pair) -> Preference:
        return "candidate" if int(canary.prompt_id.split("-")[1]) % 2 else "baseline"

    assert screens(by_lot)["identical"] is True
    assert screens(lambda _: "candidate")["identical"] is False
    assert screens(lambda _: "candidate", number=5)["identical"] is True, "five may be chance"


def test_a_judge_that_says_nothing_passes_and_fails_nothing() -> None:
    assert screens(lambda _: None) == dict.fromkeys(canaries.SAID, None)


def test_canaries_are_made_of_long_responses_that_were_judged_and_always_of_the_same() -> None:
    pairs = [pair(n) for n in range(30)]
    short, failed = pair(40, candidate="Yes."), pair(41, status="candidate_failed", candidate=None)
    chosen = canaries.choose([short, *pairs, failed], 8)
    assert len(chosen) == 8
    assert chosen == canaries.choose([*reversed(pairs), failed, short], 8)
    assert not {"p40", "p41"} & {each.prompt_id for each in chosen}


def test_the_worse_response_is_in_either_position() -> None:
    made = [each for each in canaries.make([pair(n) for n in range(2)]) if each.category == "null"]
    assert [each.candidate == canaries.NULL for each in made] == [True, False]
    assert [each.baseline == canaries.NULL for each in made] == [False, True]


def test_a_canary_that_is_too_long_for_the_judge_is_left_out() -> None:
    long = pair(0, baseline="x" * 40_000)
    kinds = {each.category for each in canaries.make([long])}
    assert kinds == {"swapped", "null", "flattery"}


@pytest.fixture(scope="module", params=list(FOOLED))
def judged(request: Any, tmp_path_factory: Any) -> Iterator[tuple[str, Sandbox, Path]]:
    state = tmp_path_factory.mktemp("sandbox")
    quick = "endpoint=0,delete=0,job=0"
    with running_sandbox(state, sandbox_judge=request.param, sandbox_delays=quick) as sandbox:
        yield request.param, sandbox, state


def test_a_judge_fails_the_canaries_that_its_dials_are_turned_for(
    judged: tuple[str, Sandbox, Path],
) -> None:
    dials, sandbox, state = judged
    rows = [{"id": f"p{n}", "prompt": f"{TOLD} {n}."} for n in range(24)]
    source = write_rows(state / "prompts.jsonl", rows)
    run = new_run(sandbox, config(source, judge={"canaries": 12}))
    whole(sandbox, run)
    summary = json.loads(run.folder.read("summary.json"))
    found = [each for each in summary["screens"] if each["model"] is None]
    failed = {each["name"].removeprefix("canary_") for each in found if each["passed"] is False}
    assert len(found) == 5
    assert failed == FOOLED[dials], [each["text"] for each in found]
    (comparison,) = summary["comparisons"]
    if failed:
        assert comparison["verdict"] == "inconclusive"
        assert comparison["unreliable"] in comparison["sentence"]
        page = html.unescape(run.folder.read("report.html").decode())
        assert comparison["sentence"].partition(" %")[0] in page
