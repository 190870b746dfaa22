"""Two texts in, the same texts in pieces out: which words only one of them has."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

MOST_WORDS = 2_000
"""Of one text: what comparing takes grows faster than the texts."""

LEAST_COMMON = 0.35
"""Share of words in common below which marks would cover most of both texts and tell nothing."""


class Piece(NamedTuple):
    """Some words of a text."""

    text: str
    is_own: bool
    """Whether the other text does not have them there."""


def marked(one: str, other: str) -> tuple[list[Piece], list[Piece]] | None:
    """Return the pieces of both texts, or None where marks would be slow or tell nothing.

    Args:
        one: A text.
        other: The text beside it.
    """
    if one == other:
        return [Piece(one, False)], [Piece(other, False)]
    here, there = (re.findall(r"\s+|\S+\s*", text) for text in (one, other))
    if max(len(here), len(there)) > MOST_WORDS:
        return None
    # Its shortcut, to leave out words that a long text is full of, keeps it quick.
    matcher = SequenceMatcher(None, here, there)
    if matcher.quick_ratio() < LEAST_COMMON or matcher.ratio() < LEAST_COMMON:
        return None
    blocks = matcher.get_matching_blocks()
    return (
        list(_pieces(here, [(block.a, block.size) for block in blocks])),
        list(_pieces(there, [(block.b, block.size) for block in blocks])),
    )


def _pieces(words: Sequence[str], common: Sequence[tuple[int, int]]) -> Iterator[Piece]:
    """Cut words at the stretches, start and length each, that both texts have."""
    at = 0
    for start, length in common:
        if start > at:
            yield Piece("".join(words[at:start]), True)
        if length:
            yield Piece("".join(words[start : start + length]), False)
        at = start + length
