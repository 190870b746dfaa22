"""What a run folder holds about pairs: a folder and a candidate in, resolved pairs out."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Container, Iterator
from typing import Any

from pyarrow import BufferReader, parquet

from include import rubric, storage
from include.preferences import ResolvedPair, resolve_pairs
from include.records import Judgment, Pair, PairDigests, RubricScore
from include.storage import RunFolder

JUDGMENT = tuple(field.name for field in dataclasses.fields(Judgment))
"""A judgment's columns, in the order of its fields; the folder of an older run lacks the last."""


def stored_pairs(folder: RunFolder, candidate: str) -> str | None:
    """Return which object holds a candidate's pairs, or their digests; None if neither is there."""
    home = f"pairs/{candidate}"
    there = folder.names(f"{home}/")
    names = (f"{home}/pairs.jsonl", f"{home}/{storage.DIGESTS}")
    return next((name for name in names if name in there), None)


def resolved_pairs(folder: RunFolder, candidate: str) -> Iterator[ResolvedPair]:
    """Yield every pair of a candidate with its judgments; without texts if the run keeps none."""
    said = _said(folder, candidate)
    for line in folder.lines(stored_pairs(folder, candidate) or f"pairs/{candidate}/pairs.jsonl"):
        pair = _pair(line)
        judgments = [Judgment(pair.prompt_id, *each) for each in said.get(pair.prompt_id, ())]
        yield from resolve_pairs([pair], judgments)


def _pair(line: bytes) -> Pair:
    row = json.loads(line)
    digests = row.pop("digests", None)
    return Pair(**row, digests=PairDigests(**digests) if digests else None)


def rubric_scores(folder: RunFolder, candidate: str, ids: Container[str]) -> dict[str, RubricScore]:
    """Return a rubric judge's scores of some prompts; empty for a judge without a rubric."""
    name = f"judgments/{candidate}.rubric.jsonl"
    if name not in folder.names(name):
        return {}
    scores = (rubric.from_lines(row)[0] for row in folder.lines(name))
    return {score.prompt_id: score for score in scores if score.prompt_id in ids}


def _said(folder: RunFolder, candidate: str) -> dict[str, tuple[tuple[Any, ...], ...]]:
    """Return what each prompt's judgments say, its id aside; equal ones are one object."""
    table = parquet.ParquetFile(BufferReader(folder.read(f"judgments/{candidate}.parquet"))).read()
    said: dict[str, tuple[tuple[Any, ...], ...]] = {}
    known: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    there = [name for name in JUDGMENT if name in table.column_names]
    for batch in table.to_batches(max_chunksize=10_000):
        for prompt_id, *rest in zip(*(batch.column(n).to_pylist() for n in there), strict=True):
            each = known.setdefault(tuple(rest), tuple(rest))
            said[prompt_id] = (*said.get(prompt_id, ()), each)
    return said
