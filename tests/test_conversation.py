"""Facts about conversations in a data set."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include import conversation
from include.records import Turn

TEXT = st.text(st.characters(), min_size=1).filter(str.strip)


@given(st.lists(TEXT).filter(lambda texts: len(texts) % 2), st.none() | TEXT, st.booleans())
def test_any_texts_in_turn_come_out_as_they_went_in(
    texts: list[str], system: str | None, as_text: bool
) -> None:
    roles = ["user", "assistant"] * len(texts)
    messages = [{"role": "system", "content": system}] if system else []
    messages += [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    found, turns = conversation.read(json.dumps(messages) if as_text else messages)
    assert found == system
    assert turns == [Turn(role, text) for role, text in zip(roles, texts, strict=False)]


def test_parts_are_put_together_and_nulls_are_nothing() -> None:
    parts = [{"type": "text", "text": "a ", "image": None}, {"text": "b"}]
    message = {"role": "user", "content": parts, "tool_calls": None}
    assert conversation.read([message]) == (None, [Turn("user", "a b")])


def user(content: Any, **others: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **others}


ASSISTANT = {"role": "assistant", "content": "x"}
SYSTEM = {"role": "system", "content": "x"}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "expected a list of messages, found null"),
        ({"role": "user"}, "expected a list of messages, found dict"),
        ("{", "expected a list of messages, found a text: "),
        ("[" * 100_000, "expected a list of messages, found a text: "),
        ("7", "expected a list of messages, found int"),
        ([], "expected a conversation that ends with the user; the user says nothing"),
        ([SYSTEM], "expected a conversation that ends with the user; the user says nothing"),
        (
            [user("a"), ASSISTANT],
            "expected a conversation that ends with the user; the assistant is last",
        ),
        ([ASSISTANT, user("a")], "message 1: expected role user, found assistant"),
        ([user("a"), user("b")], "message 2: expected role assistant, found user"),
        ([SYSTEM, SYSTEM, user("b")], "message 2: expected role user, found system"),
        ([SYSTEM, user("b"), SYSTEM], "message 3: expected role assistant, found system"),
        (["hi"], "message 1: expected an object, found str"),
        (
            [{"from": "human", "value": "hi"}],
            "message 1: expected role and content, found from, value too",
        ),
        ([user("a", tool_calls=[])], "message 1: expected role and content, found tool_calls too"),
        (
            [{"role": "tool", "content": "a"}],
            "message 1: expected a role of system, user, assistant, found 'tool'",
        ),
        ([{"content": "a"}], "message 1: expected a role of system, user, assistant, found None"),
        ([user("a"), user(" ")], "message 2 is empty"),
        ([user([])], "message 1 is empty"),
        ([user(None)], "message 1: expected text as content, found null"),
        ([user(7)], "message 1: expected text as content, found int"),
        ([user(["a"])], "message 1, part 1: expected an object, found str"),
        (
            [user([{"text": "a"}, {"type": "image_url", "image_url": "x"}])],
            "message 1, part 2: expected text, found image_url",
        ),
        ([user([{"image": {}}])], "message 1, part 1: expected text, found null"),
        ([user([{"text": "a", "image": 1}])], "message 1, part 1: expected text, found image too"),
    ],
)
def test_what_is_no_conversation_is_refused_with_the_place(value: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        conversation.read(value)
    assert str(caught.value).startswith(message)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["role", "content", "type", "text", "x"]),
                inner | st.sampled_from(["user", "assistant", "system", "text"]),
                max_size=3,
            )
        ),
    )
)
def test_no_value_ends_otherwise_than_in_turns_or_a_refusal(value: Any) -> None:
    try:
        _, turns = conversation.read(value)
    except ValueError:
        return
    assert turns[-1].role == "user"
    assert all(turn.text.strip() for turn in turns)
