"""Resolved pairs in, two objects that pages read a little of; a page of pairs, or one pair, out.

The index has one short row per pair and is read whole, in one request. The texts lie beside it in
row groups, of which one is read for a pair: ten thousand pairs page as quickly as ten.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from include.examples import Kind, kind_of
from include.preferences import ResolvedPair
from include.records import Preference, RubricScore, Verdict
from include.rubric import from_lines
from include.storage import RunFolder, to_parquet

ROWS = 50
"""Pairs of a row group: so many texts are read to show one pair."""

TITLE = 160
"""Characters of the prompt that a list shows."""


@dataclass(frozen=True)
class IndexRow:
    """One pair in a list."""

    place: int
    """Among the run's pairs, from 0."""
    prompt_id: str
    title: str
    """How the prompt begins; empty where texts are not kept."""
    prompt_digest: str
    """Of the whole prompt, as the judge saw it."""
    kind: Kind
    preference: Preference | None
    forward: Verdict | None
    backward: Verdict | None
    consistent: bool | None
    category: str | None
    group: str | None
    baseline_characters: int | None
    candidate_characters: int | None


@dataclass(frozen=True)
class Texts:
    """What one pair says, and how a rubric judge scored it."""

    prompt: str
    baseline: str | None
    candidate: str | None
    rubric: str | None
    """A `RubricScore` as JSON."""


def write(
    folder: RunFolder,
    candidate: str,
    pairs: Sequence[ResolvedPair],
    scores: Iterable[RubricScore],
    *,
    with_texts: bool = True,
) -> None:
    """Store the pairs of one comparison for `Pairs`.

    Args:
        folder: The run folder.
        candidate: Its name.
        pairs: Every pair, in the data set's order.
        scores: A rubric judge's, if it is one.
        with_texts: Whether texts are kept; else there is only the index, without the prompts.
    """
    index = [_storable(_index_row(place, row)) for place, row in enumerate(pairs)]
    kind = "application/vnd.apache.parquet"
    if not with_texts:
        bare = [dataclasses.replace(row, title="") for row in index]
        folder.write(_index(candidate), to_parquet(bare, IndexRow), kind)
        return
    by_prompt = {each.prompt_id: json.dumps(dataclasses.asdict(each)) for each in scores}
    texts = [
        _storable(Texts(p.prompt, p.baseline, p.candidate, by_prompt.get(p.prompt_id)))
        for p in (row.pair for row in pairs)
    ]
    folder.write(_texts(candidate), to_parquet(texts, Texts, row_group_size=ROWS), kind)
    folder.write(_index(candidate), to_parquet(index, IndexRow), kind)


def _index_row(place: int, row: ResolvedPair) -> IndexRow:
    pair = row.pair
    return IndexRow(
        place=place,
        prompt_id=pair.prompt_id,
        prompt_digest=pair.prompt_sha256[:16],
        title=" ".join(pair.prompt[: 4 * TITLE].split())[:TITLE],
        kind=kind_of(row),
        preference=row.preference,
        forward=row.verdict("forward"),
        backward=row.verdict("backward"),
        consistent=row.consistent,
        category=pair.category,
        group=pair.group,
        baseline_characters=None if pair.baseline is None else len(pair.baseline),
        candidate_characters=None if pair.candidate is None else len(pair.candidate),
    )


class Pairs:
    """The stored pairs of one comparison.

    Args:
        folder: The run folder.
        candidate: Its name.
    """

    def __init__(self, folder: RunFolder, candidate: str) -> None:
        self._folder, self._candidate = folder, candidate

    def index(self) -> list[IndexRow]:
        """Return every pair as a short row, in order."""
        from pyarrow import BufferReader, parquet

        # `parquet.read_table` would import pandas first, for a second.
        file = parquet.ParquetFile(BufferReader(self._folder.read(_index(self._candidate))))
        return [IndexRow(**row) for row in file.read().to_pylist()]

    def has_texts(self) -> bool:
        """Whether the run keeps texts."""
        name = _texts(self._candidate)
        return name in self._folder.names(name)

    def texts(self, place: int) -> Texts | None:
        """Return the texts of one pair; None where they are not kept, or there is no such pair."""
        return self.texts_of([place]).get(place)

    def texts_of(self, places: Iterable[int]) -> dict[int, Texts]:
        """Return the texts of some pairs by place, without those that `texts` has not."""
        from pyarrow import parquet

        if not self.has_texts():
            return {}
        found: dict[int, Texts] = {}
        with self._folder.ranges(_texts(self._candidate)) as file:
            stored = parquet.ParquetFile(file)
            there = sorted(each for each in places if 0 <= each < stored.metadata.num_rows)
            for group, members in groupby(there, key=lambda place: place // ROWS):
                rows = stored.read_row_group(group)
                for place in members:
                    found[place] = Texts(**rows.slice(place % ROWS, 1).to_pylist()[0])
        return found


def score_of(texts: Texts) -> RubricScore | None:
    """Return how a rubric judge scored a pair."""
    return from_lines(texts.rubric.encode())[0] if texts.rubric else None


def _storable(row: Any) -> Any:
    """Return a row that parquet takes: half a character, which JSON can hold, is replaced."""
    texts = {name: value for name, value in vars(row).items() if isinstance(value, str)}
    clean = {name: text.encode("utf-8", "replace").decode() for name, text in texts.items()}
    return dataclasses.replace(row, **clean)


def _index(candidate: str) -> str:
    return f"browse/{candidate}/index.parquet"


def _texts(candidate: str) -> str:
    return f"browse/{candidate}/texts.parquet"
