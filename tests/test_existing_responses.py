"""Facts about responses that exist already."""

import json
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sandbox_server import ROOT, Sandbox

from include.config import Dataset, ResponsesModel
from include.errors import DatasetError
from include.existing_responses import open_responses
from include.records import Prompt, Response, Turn

BY_ID = Dataset(source="p.jsonl", id_field="id")
BY_PROMPT = Dataset(source="p.jsonl")

PROMPTS = [Prompt("a", "One?"), Prompt("b", "Two?"), Prompt("c", "Three?")]


def row(name: Any, response: Any, **others: Any) -> dict[str, Any]:
    return {"id": name, "response": response, **others}


def write(folder: Path, rows: Sequence[dict[str, Any]]) -> str:
    path = folder / "r.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return str(path)


def join(
    folder: Path,
    rows: Sequence[dict[str, Any]],
    prompts: Sequence[Prompt] = PROMPTS,
    dataset: Dataset = BY_ID,
    **options: Any,
) -> tuple[list[Response], dict[str, str]]:
    """Return the responses to the prompts, and the notices without the folder's name."""
    source = write(folder, rows)
    model = ResponsesModel(name="old", provider="responses", source=source, **options)
    with open_responses(model, dataset) as existing:
        answers = list(existing.answer(prompts))
        notices = {n.code: n.message.replace(source, "r.jsonl") for n in existing.notices()}
    return answers, notices


def test_every_prompt_gets_its_response_and_nothing_is_reported(tmp_path: Path) -> None:
    rows = [row("c", "3"), row("a", " 1\n"), row("b", "zwei ß \ud800")]
    answers, notices = join(tmp_path, rows)
    assert answers == [
        Response("a", "old", "ok", " 1\n", attempts=0),
        Response("b", "old", "ok", "zwei ß \ud800", attempts=0),
        Response("c", "old", "ok", "3", attempts=0),
    ]
    assert notices == {}


def test_the_models_own_columns_are_used_where_they_are_named(tmp_path: Path) -> None:
    rows = [{"id": "x", "key": name, "answer": {"text": name * 2}} for name in "abc"]
    answers, _ = join(tmp_path, rows, id_field="key", response_field="answer.text")
    assert [answer.text for answer in answers] == ["aa", "bb", "cc"]


def test_numbers_are_ids_as_they_are_in_the_data_set(tmp_path: Path) -> None:
    answers, _ = join(tmp_path, [row(7, "seven")], [Prompt("7", "?")])
    assert answers[0].text == "seven"


def test_responses_on_s3_are_read(sandbox: Sandbox) -> None:
    s3 = sandbox.client("s3")
    s3.put_object(Bucket="nova-judge-sandbox", Key="data/r.csv", Body=b"id,response\na,1\n")
    source = "s3://nova-judge-sandbox/data/r.csv"
    model = ResponsesModel(name="old", provider="responses", source=source)
    with open_responses(model, BY_ID, s3) as existing:
        assert [r.text for r in existing.answer(PROMPTS[:1])] == ["1"]


def test_what_is_missing_null_or_empty_is_a_typed_row(tmp_path: Path) -> None:
    answers, notices = join(tmp_path, [row("b", None), row("c", " \n")])
    source = str(tmp_path / "r.jsonl")
    assert [(r.outcome, r.text, r.error_type, r.error_message) for r in answers] == [
        ("error", None, "MissingResponse", f"{source} has no response for 'a'"),
        ("error", None, "MissingResponse", f"{source} row 1: no text for 'b' (null)"),
        ("empty", None, None, None),
    ]
    assert notices == {
        "responses_missing": "old: 2 of 3 prompts have no response in r.jsonl, joined by id (id): "
        "'a', 'b'"
    }


def test_rows_for_no_prompt_are_counted_and_the_first_named(tmp_path: Path) -> None:
    extra = [row(f"x{n}", "?") for n in range(7)]
    answers, notices = join(tmp_path, [*extra, *(row(p.prompt_id, "!") for p in PROMPTS)])
    assert [answer.text for answer in answers] == ["!", "!", "!"]
    assert notices == {
        "responses_extra": "old: 7 responses in r.jsonl are to no prompt of the data set: "
        "'x0', 'x1', 'x2', 'x3', 'x4', and 2 more"
    }


def test_the_same_response_twice_is_used_once(tmp_path: Path) -> None:
    rows = [row("a", "1"), row("b", None), row("a", "1"), row("b", "2"), row("b", None)]
    answers, notices = join(tmp_path, rows, PROMPTS[:2])
    assert [answer.text for answer in answers] == ["1", "2"]
    assert notices == {
        "responses_twice": "old: 2 responses are in more than one row of r.jsonl and are used "
        "once: 'a', 'b'"
    }


def test_two_responses_to_one_prompt_are_refused(tmp_path: Path) -> None:
    rows = [row("a", "1"), row("b", "2"), row("a", "3"), row("b", "2"), row("a", "")]
    with pytest.raises(DatasetError) as caught:
        join(tmp_path, rows)
    assert str(caught.value).splitlines()[1:] == [
        "  row 3: another response to 'a' than in row 1; which one is meant cannot be known",
        "  row 5: another response to 'a' than in row 1; which one is meant cannot be known",
    ]


def test_a_response_to_another_prompt_of_the_same_id_is_left_out(tmp_path: Path) -> None:
    rows = [
        row("a", "old", q="One??"),
        row("a", "new", q="One?"),
        row("b", "2", q="Two??"),
        row("c", "3", q="Three?"),
    ]
    answers, notices = join(tmp_path, rows, prompt_field="q")
    assert [answer.text for answer in answers] == ["new", None, "3"]
    assert answers[1].error_type == "MissingResponse"
    assert "row 3: the response to another prompt than 'b'" in str(answers[1].error_message)
    assert set(notices) == {"responses_missing", "responses_differ"}
    assert notices["responses_missing"].startswith("old: 1 of 3 prompts")
    assert notices["responses_differ"].startswith("old: 2 responses in r.jsonl are to another ")
    assert notices["responses_differ"].endswith(": 'a', 'b'")


@pytest.mark.parametrize("dataset", [BY_ID, BY_PROMPT])
def test_without_ids_rows_are_joined_by_prompt(tmp_path: Path, dataset: Dataset) -> None:
    rows = [{"prompt": text, "response": text[:1]} for text in ("Two?", "One?", "x" * 99)]
    answers, notices = join(tmp_path, rows, dataset=dataset, prompt_field="prompt")
    assert [answer.text for answer in answers] == ["O", "T", None]
    assert notices == {
        "responses_missing": "old: 1 of 3 prompts have no response in r.jsonl, joined by prompt "
        "(prompt): 'c'",
        "responses_extra": "old: 1 responses in r.jsonl are to no prompt of the data set: "
        f"'{'x' * 60}...'",
    }


def test_prompts_that_say_the_same_share_a_response_unless_their_system_prompts_differ(
    tmp_path: Path,
) -> None:
    rows = [{"prompt": "One?", "response": "1"}]
    same = [Prompt("a", "One?", system="x"), Prompt("b", "One?", system="x")]
    answers, notices = join(tmp_path, rows, same, BY_PROMPT, prompt_field="prompt")
    assert [answer.text for answer in answers] == ["1", "1"]
    assert notices == {}
    differing = [same[0], Prompt("b", "One?")]
    with pytest.raises(DatasetError, match=r"'a' and 'b' are the same prompt .* expected id_field"):
        join(tmp_path, rows, differing, BY_PROMPT, prompt_field="prompt")
    by_id = [row(name, name, prompt="One?") for name in "ab"]
    answers, _ = join(tmp_path, by_id, differing, prompt_field="prompt")
    assert [answer.text for answer in answers] == ["a", "b"]


def test_conversations_are_joined_by_id_only(tmp_path: Path) -> None:
    prompt = Prompt("a", "And?", turns=(Turn("user", "x"), Turn("assistant", "y")))
    with pytest.raises(DatasetError, match=r"'a' is a conversation, .* expected id_field"):
        rows = [{"prompt": "And?", "response": "1"}]
        join(tmp_path, rows, [prompt], BY_PROMPT, prompt_field="prompt")
    answers, _ = join(tmp_path, [row("a", "1", prompt="And?")], [prompt], prompt_field="prompt")
    assert answers[0].text == "1"


def test_a_part_of_the_prompts_may_be_asked_and_asked_again(tmp_path: Path) -> None:
    source = write(tmp_path, [row("a", "1"), row("b", "2"), row("x", "?")])
    model = ResponsesModel(name="old", provider="responses", source=source)
    with open_responses(model, BY_ID) as existing:
        assert [notice.code for notice in existing.notices()] == ["responses_extra"]
        assert [r.text for r in existing.answer(PROMPTS[1:2])] == ["2"]
        for _ in range(2):
            assert [r.text for r in existing.answer(PROMPTS)] == ["1", "2", None]
        messages = [notice.message for notice in existing.notices()]
    assert messages[0].startswith("old: 1 of 3 prompts have no response")
    assert messages[1].startswith("old: 1 responses in")


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([row("a", 7)], {}, "row 1: response: expected text, found int"),
        ([row("a", "x"), row("b", ["x"])], {}, "row 2: response: expected text, found list"),
        ([row(None, "x")], {}, r"row 1: id is empty \(null\)"),
        ([row("a", "x", p=None)], {"prompt_field": "p"}, r"row 1: p is empty \(null\)"),
        ([row("a", "x", p=[])], {"prompt_field": "p"}, "row 1: p: expected text, found list"),
        ([{"ID": "a", "response": "x"}], {}, "model old: id_field: .* no column 'id'"),
        ([{"i": "a", "response": "x"}], {"id_field": "id"}, "model old: id_field.*mean 'i'"),
        ([row("a", "x")], {"prompt_field": "prompt"}, "model old: prompt_field: .*'prompt'"),
        (
            [row("a", "x")],
            {"response_field": "respnse"},
            "(?s)model old: response_field: .*did you mean 'response'.*its columns are id, resp",
        ),
        ([], {}, "holds no rows"),
    ],
)
def test_a_file_that_cannot_be_joined_says_where_and_why(
    tmp_path: Path, rows: list[dict[str, Any]], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        join(tmp_path, rows, **options)


def test_a_file_that_is_not_there_is_named_with_its_model() -> None:
    model = ResponsesModel(name="old", provider="responses", source="absent.csv")
    with (
        pytest.raises(DatasetError, match=r"^model old: source: there is no file absent\.csv"),
        open_responses(model, BY_ID),
    ):
        pytest.fail("it was opened")


TEXT = st.text(st.characters())


@given(st.dictionaries(TEXT, TEXT), st.sets(TEXT), st.randoms(use_true_random=False))
def test_any_ids_and_texts_are_joined_in_any_order(
    tmp_path_factory: pytest.TempPathFactory,
    responses: dict[str, str],
    others: set[str],
    chance: random.Random,
) -> None:
    rows = [row(name, text) for name, text in responses.items()] or [row("", None)]
    chance.shuffle(rows)
    prompts = [Prompt(name, "?") for name in sorted(others | set(responses))]
    answers, notices = join(tmp_path_factory.mktemp("r"), rows, prompts)
    for prompt, answer in zip(prompts, answers, strict=True):
        text = responses.get(prompt.prompt_id)
        assert answer.prompt_id == prompt.prompt_id
        assert answer.text == (text if text and text.strip() else None)
        assert answer.outcome == ("error" if text is None else "ok" if text.strip() else "empty")
    missing = len(prompts) - len(responses)
    assert ("responses_missing" in notices) == bool(missing)
    assert f"old: {missing} of" in notices.get("responses_missing", "old: 0 of")


PEAK = """
import sys
from pathlib import Path
from include.config import Dataset, ResponsesModel
from include.existing_responses import open_responses
from include.records import Prompt
model = ResponsesModel(name="old", provider="responses", source=sys.argv[1])
prompts = (Prompt(f"prompt {n}", "?") for n in range(int(sys.argv[2])))
with open_responses(model, Dataset(source="p.csv", id_field="id")) as existing:
    count = sum(response.usable for response in existing.answer(prompts))
    assert existing.notices() == []
status = Path("/proc/self/status").read_text().splitlines()
print(count, *[line.split()[1] for line in status if line.startswith("VmHWM")])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is Linux's to say")
def test_memory_does_not_grow_with_the_responses(tmp_path: Path) -> None:
    peaks = {}
    for count in (1_000, 100_000):
        source = write(tmp_path, [row(f"prompt {n}", f"{n} and so on " * 20) for n in range(count)])
        command = [sys.executable, "-c", PEAK, source, str(count)]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
        assert run.stdout.split()[0] == str(count)
        peaks[count] = int(run.stdout.split()[1])
    assert peaks[100_000] < 1.2 * peaks[1_000]
