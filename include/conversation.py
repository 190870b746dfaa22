"""A list of messages in, its system prompt and its turns out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from include.records import Turn

ROLES = ("system", "user", "assistant")


def read(value: Any) -> tuple[str | None, list[Turn]]:
    """Take a conversation apart.

    Args:
        value: A list of {role, content}, or a JSON text of one, as in a CSV file; content is a
            text or a list of {"type": "text", "text": ...}. Keys that are null count as absent:
            parquet gives every key to every object of a list.

    Returns:
        What a system message at its start says, and the turns: user and assistant alternate,
        the user is first and last.

    Raises:
        ValueError: It is something else; the message counts from 1.
    """
    if isinstance(value, str):
        value = _from_text(value)
    if not isinstance(value, list):
        raise ValueError(f"expected a list of messages, found {_kind(value)}")
    messages = [_message(f"message {number}", item) for number, item in enumerate(value, 1)]
    has_system = bool(messages) and messages[0][0] == "system"
    said = messages[1:] if has_system else messages
    turns = []
    for place, (role, text) in enumerate(said):
        expected: Literal["user", "assistant"] = "assistant" if place % 2 else "user"
        if role != expected:
            number = place + 1 + has_system
            raise ValueError(f"message {number}: expected role {expected}, found {role}")
        turns.append(Turn(expected, text))
    if len(turns) % 2 == 0:
        found = "the assistant is last" if turns else "the user says nothing"
        raise ValueError(f"expected a conversation that ends with the user; {found}")
    return messages[0][1] if has_system else None, turns


def _from_text(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected a list of messages, found a text: {error}") from None


def _message(place: str, item: Any) -> tuple[str, str]:
    """Return role and text of one message."""
    message = _without_nulls(place, item)
    others = sorted(set(message) - {"role", "content"})
    if others:
        raise ValueError(f"{place}: expected role and content, found {', '.join(others)} too")
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise ValueError(f"{place}: expected a role of {', '.join(ROLES)}, found {role!r}")
    text = content if isinstance(content, str) else "".join(_parts(place, content))
    if not text.strip():
        raise ValueError(f"{place} is empty")
    return role, text


def _parts(place: str, content: Any) -> list[str]:
    if not isinstance(content, list):
        raise ValueError(f"{place}: expected text as content, found {_kind(content)}")
    return [_part(f"{place}, part {number}", item) for number, item in enumerate(content, 1)]


def _part(place: str, item: Any) -> str:
    part = _without_nulls(place, item)
    kind = part.get("type", "text")
    if kind != "text":
        raise ValueError(f"{place}: expected text, found {kind}")
    text = part.get("text")
    if not isinstance(text, str):
        raise ValueError(f"{place}: expected text, found {_kind(text)}")
    others = sorted(set(part) - {"type", "text"})
    if others:
        raise ValueError(f"{place}: expected text, found {', '.join(others)} too")
    return text


def _without_nulls(place: str, item: Any) -> dict[str, Any]:
    if not isinstance(item, Mapping):
        raise ValueError(f"{place}: expected an object, found {_kind(item)}")
    return {key: value for key, value in item.items() if value is not None}


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__
