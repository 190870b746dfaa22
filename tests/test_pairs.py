"""Facts about pairs and the judge's input."""

import json

import pytest

from include.pairs import MAX_TOKENS, fits, judge_input, make_pairs
from include.records import Prompt, Response, Turn


def prompt(number: int, **more: str) -> Prompt:
    return Prompt(prompt_id=f"p{number}", text=f"Question {number}?", **more)


def response(number: int, text: str | None, outcome: str = "ok") -> Response:
    return Response(prompt_id=f"p{number}", model="m", outcome=outcome, text=text)


@pytest.mark.parametrize(
    ("baseline", "candidate", "status"),
    [
        (response(1, "a"), response(1, "b"), "judged"),
        (response(1, "a"), response(1, "b", "truncated"), "judged"),
        (response(1, "a"), response(1, "a"), "identical"),
        (response(1, "a"), response(1, "a "), "judged"),
        (response(1, None, "error"), response(1, "b"), "baseline_failed"),
        (response(1, "a"), response(1, None, "refused"), "candidate_failed"),
        (response(1, "a"), None, "candidate_failed"),
        (response(1, None, "empty"), None, "both_failed"),
        (response(1, "a" * (4 * MAX_TOKENS)), response(1, "b"), "too_long"),
    ],
)
def test_status_says_what_becomes_of_a_pair(
    baseline: Response, candidate: Response | None, status: str
) -> None:
    answers = [{"p1": baseline}, {"p1": candidate} if candidate else {}]
    (pair,) = make_pairs([prompt(1)], *answers)
    assert pair.status == status


def test_every_prompt_makes_one_pair_in_the_prompts_order() -> None:
    prompts = [prompt(2), prompt(1)]
    assert [pair.prompt_id for pair in make_pairs(prompts, {}, {})] == ["p2", "p1"]


def test_the_judge_sees_three_fields_with_the_baseline_in_a() -> None:
    pairs = make_pairs([prompt(1)], {"p1": response(1, "mine")}, {"p1": response(1, "yours")})
    assert json.loads(judge_input(pairs)) == {
        "prompt": "Question 1?",
        "response_A": "mine",
        "response_B": "yours",
    }


def test_the_judge_sees_the_system_prompt_too() -> None:
    (pair,) = make_pairs([prompt(1, system="Be brief.")], {}, {})
    assert pair.prompt == "Be brief.\n\nQuestion 1?"


def test_pairs_that_need_no_judge_do_not_reach_it() -> None:
    same = {"p1": response(1, "same")}
    assert judge_input(make_pairs([prompt(1), prompt(2)], same, same)) == b""


def test_a_line_separator_in_a_response_does_not_break_the_line() -> None:
    pairs = make_pairs(
        [prompt(1)], {"p1": response(1, "a\u2028b\n\ud800")}, {"p1": response(1, "c")}
    )
    (line,) = judge_input(pairs).splitlines()
    assert json.loads(line)["response_A"] == "a\u2028b\n\ud800"


def test_the_judge_reads_a_conversation_with_who_speaks() -> None:
    turns = (Turn("user", "Hello"), Turn("assistant", "Hi"))
    asked = Prompt("p1", "Why?", system="Be brief.", turns=turns)
    (pair,) = make_pairs([asked], {"p1": response(1, "a")}, {"p1": response(1, "b")})
    assert pair.prompt == "Be brief.\n\nUser: Hello\n\nAssistant: Hi\n\nUser: Why?"


def test_of_scripts_without_an_alphabet_every_character_counts_as_a_token() -> None:
    japanese = "\u3042" * (MAX_TOKENS // 2)
    assert fits("", japanese, japanese)
    assert not fits("a" * 4, japanese, japanese)
