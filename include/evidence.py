"""What a run folder holds about pairs: a folder and a candidate in, resolved pairs out."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator
from typing import Any

from pyarrow import BufferReader, parquet

from include import rubric
from include.preferences import ResolvedPair, resolve_pairs
from include.records import Judgment, Pair, RubricScore
from include.storage import RunFolder

JUDGMENT = ("prompt_id", "order", "verdict", "error")
"""A judgment's columns, in the order of its fields."""


def resolved_pairs(folder: RunFolder, candidate: str) -> Iterator[ResolvedPair]:
    """Yield every pair of a candidate with its judgments."""
    said = _said(folder, candidate)
    for row in _lines(folder, f"pairs/{candidate}/pairs.jsonl"):
        pair = Pair(**json.loads(row))
        judgments = [Judgment(pair.prompt_id, *each) for each in said.get(pair.prompt_id, ())]
        yield from resolve_pairs([pair], judgments)


def rubric_scores(folder: RunFolder, candidate: str, ids: Container[str]) -> dict[str, RubricScore]:
    """Return a rubric judge's scores of some prompts; empty for a judge without a rubric."""
    name = f"judgments/{candidate}.rubric.jsonl"
    if name not in folder.names(name):
        return {}
    scores = (rubric.from_lines(row)[0] for row in _lines(folder, name))
    return {score.prompt_id: score for score in scores if score.prompt_id in ids}


def _said(folder: RunFolder, candidate: str) -> dict[str, tuple[tuple[Any, ...], ...]]:
    """Return order, verdict and error of each prompt's judgments; equal ones are one object."""
    table = parquet.read_table(BufferReader(folder.read(f"judgments/{candidate}.parquet")))
    said: dict[str, tuple[tuple[Any, ...], ...]] = {}
    known: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for batch in table.to_batches(max_chunksize=10_000):
        for prompt_id, *rest in zip(*(batch.column(n).to_pylist() for n in JUDGMENT), strict=True):
            each = known.setdefault(tuple(rest), tuple(rest))
            said[prompt_id] = (*said.get(prompt_id, ()), each)
    return said


def _lines(folder: RunFolder, name: str) -> Iterator[bytes]:
    """Yield the lines of one object, from disk if it is large."""
    with folder.open(name) as file:
        yield from file
