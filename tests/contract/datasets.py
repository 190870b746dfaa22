"""Stands in for the library of this name: six questions of our own in SQuAD's shape, offline."""

from typing import Any

ROWS = [
    ("What makes the tide rise and fall?", "the pull of the moon and the sun"),
    ("Why does bread rise before it is baked?", "yeast makes gas"),
    ("Which metal is liquid at room temperature?", "mercury"),
    ("How many sides does a honeycomb's cell have?", "six"),
    ("What does a barometer measure?", "the pressure of the air"),
    ("Why is the sky blue by day?", "short waves of light are scattered most"),
]


def load_dataset(name: str, split: str) -> list[dict[str, Any]]:
    assert (name, split) == ("squad", "train[:20]"), "this stands in for nothing else"
    return [{"question": q, "answers": {"text": [a], "answer_start": [0]}} for q, a in ROWS]
