"""A data set in, Prompts out, one after the other: files of rows, Hugging Face ids with `datasets`.

Memory does not grow with the number of prompts: what was seen before is kept on disk.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import sqlite3
import string
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

from include import conversation, rows
from include.config import Dataset
from include.errors import DatasetError, UnreachableError
from include.records import Notice, Prompt, SystemPrompt, Turn
from include.rows import Problems, Row, Rows
from include.wording import short

if TYPE_CHECKING:
    from botocore.client import BaseClient

SHOWN = 5
"""Repeated prompts that a notice names; all are counted."""
LONGEST_NAME = 4096
"""Characters of an id, a category or a group."""
HALF = re.compile("[\ud800-\udfff]")
"""What JSON can write and no file can hold: half of a character beyond U+FFFF."""


@contextmanager
def open_prompts(dataset: Dataset, s3: BaseClient | None = None) -> Iterator[PromptSource]:
    """Open the prompts of an evaluation.

    Args:
        dataset: Where they are and which columns mean what.
        s3: For `s3://` sources.

    Yields:
        The prompts, which can be read until the context ends.

    Raises:
        DatasetError: There is no such data set, it has no rows or not the columns.
    """
    system, record = _system_prompt(dataset, s3)
    with _open_source(dataset, s3) as source:
        yield PromptSource(dataset, source, system, record)


class PromptSource:
    """The prompts of an evaluation in the order of their source.

    They can be passed over more than once. No row is left out silently.
    """

    def __init__(
        self, dataset: Dataset, source: Rows, system: str | None, record: SystemPrompt | None
    ) -> None:
        self.system_prompt = record
        """Where the system prompt came from; None unless it came from a file."""
        self.notices: list[Notice] = []
        """What a reader of the results must know; complete after a pass."""
        self._dataset = dataset
        self._source = source
        self._maker = _Maker(dataset, system)
        source.check_columns(self._maker.columns)

    def __iter__(self) -> Iterator[Prompt]:
        """Yield the selected prompts.

        Nothing is yielded after the first faulty row; those that follow are still looked at.

        Raises:
            DatasetError: After the last row, naming file and rows; or at a line that cannot be
                read. What was yielded before is then not to be used.
        """
        problems = Problems(self._source.name)
        with closing(_Seen()) as seen:
            for number, row in _select(self._dataset, self._source):
                try:
                    prompt = self._maker.prompt(number, row)
                    self._refuse_known_id(seen, number, prompt)
                except ValueError as error:
                    problems.add(number + 1, error)
                    continue
                seen.note(prompt)
                if not problems.count:
                    yield prompt
            problems.refuse()
            self.notices = seen.notices(self._source.name)

    def _refuse_known_id(self, seen: _Seen, number: int, prompt: Prompt) -> None:
        first = seen.first(["id", prompt.prompt_id], f"row {number + 1}")
        if first:
            raise ValueError(
                f"{self._dataset.id_field} {short(prompt.prompt_id)} is there more than once, "
                f"first in {first}"
            )


class _Maker:
    """Makes prompts of rows, as the data set's config says."""

    def __init__(self, dataset: Dataset, system: str | None) -> None:
        self.dataset = dataset
        self.system = system
        self.text = _Template("prompt_template", dataset.prompt_template)
        self.system_template = (
            _Template("system_prompt", dataset.system_prompt) if dataset.system_prompt else None
        )

    @property
    def columns(self) -> list[tuple[str, str]]:
        """Pairs of a config key and a column that it names."""
        fields = ["id", "category", "group", "reference", "messages"]
        keys = [f"{field}_field" for field in fields]
        named = [(f"dataset.{key}", getattr(self.dataset, key)) for key in keys]
        wanted = [(key, column) for key, column in named if column]
        if not self.dataset.messages_field:
            wanted += self.text.columns
        return wanted + (self.system_template.columns if self.system_template else [])

    def prompt(self, number: int, row: Row) -> Prompt:
        """Make the prompt of row `number`, counted from 0.

        Raises:
            ValueError: Saying what is wrong with the row.
        """
        system, turns, text = self._conversation(row)
        if not text.strip():
            raise ValueError("the prompt is empty")
        category = _label(row, self.dataset.category_field)
        group = _label(row, self.dataset.group_field)
        reference = self.dataset.reference_field
        named = rows.text(row, self.dataset.id_field) if self.dataset.id_field else None
        if named == "":
            raise ValueError(f"{self.dataset.id_field} is empty")
        for column, name in (
            (self.dataset.id_field, named),
            (self.dataset.category_field, category),
            (self.dataset.group_field, group),
        ):
            _check_name(column, name)
        return Prompt(
            prompt_id=named or f"row-{number:06d}",
            text=text,
            system=system,
            turns=turns,
            category=category,
            group=group,
            reference=rows.text(row, reference) if reference else None,
        )

    def _conversation(self, row: Row) -> tuple[str | None, tuple[Turn, ...], str]:
        """Return system prompt, earlier turns and the last thing that the user says."""
        system = self.system_template.fill(row) if self.system_template else self.system
        column = self.dataset.messages_field
        if not column:
            return system, (), self.text.fill(row)
        try:
            own, messages = conversation.read(rows.value(row, column))
        except ValueError as error:
            raise ValueError(f"{column}: {error}") from None
        if own is not None and system is not None:
            key = "system_prompt" if self.system_template else "system_prompt_file"
            raise ValueError(
                f"{column}: it has a system message, and dataset.{key} says another one"
            )
        *turns, last = messages
        return own if system is None else system, tuple(turns), last.text


def _label(row: Row, column: str | None) -> str | None:
    """Return a prompt's category or group; None where it has none: its cell is empty or absent."""
    found = rows.value(row, column) if column else None
    return None if found is None or found == "" else rows.as_text(found)


def _check_name(column: str | None, name: str | None) -> None:
    """Refuse what no table, page or file name can hold.

    Raises:
        ValueError: Saying why.
    """
    if name and len(name) > LONGEST_NAME:
        raise ValueError(
            f"{column} has {len(name):,} characters, and a name has at most {LONGEST_NAME:,}"
        )
    if name and HALF.search(name):
        raise ValueError(f"{column} {short(name)} holds half a character, which is no text")


class _Template:
    """A text of the config with {column} for values; {{ and }} are braces."""

    def __init__(self, key: str, template: str) -> None:
        """Take a template apart.

        Raises:
            DatasetError: It is none, naming the key.
        """
        self.key = f"dataset.{key}"
        self.parts: list[tuple[str, str | None]] = []
        braces = "write {{ and }} for braces that are text"
        try:
            for literal, column, form, conversion in string.Formatter().parse(template):
                if column == "" and not form:
                    raise DatasetError(f"{self.key}: {{}} names no column; write {{column}}")
                if form or conversion:
                    raise ValueError(f"expected {{column}}, found a format after {{{column}")
                self.parts.append((literal, column))
        except ValueError as error:
            raise DatasetError(f"{self.key}: {error}; {braces}") from None

    @property
    def columns(self) -> list[tuple[str, str]]:
        """Pairs of the config key and a column that the template names."""
        return [(self.key, column) for _, column in self.parts if column is not None]

    def fill(self, row: Row) -> str:
        """Return the text for one row.

        Raises:
            ValueError: A value is null.
        """
        return "".join(
            literal + ("" if column is None else rows.text(row, column))
            for literal, column in self.parts
        )


class _Seen:
    """What a pass has seen, as digests in a temporary database that SQLite keeps on disk."""

    def __init__(self) -> None:
        self.database = sqlite3.connect("")
        self.database.execute("PRAGMA journal_mode = OFF")
        self.database.execute(
            "CREATE TABLE seen (digest BLOB PRIMARY KEY, label TEXT) WITHOUT ROWID"
        )
        self.prompts = 0
        self.repeated = 0
        self.examples: list[str] = []

    def first(self, key: Sequence[Any], label: str) -> str | None:
        """Return the label that `key` was first seen with; None if that is now."""
        digest = hashlib.sha256(json.dumps(key).encode()).digest()
        insert = "INSERT INTO seen VALUES (?, ?) ON CONFLICT DO NOTHING"
        if self.database.execute(insert, (digest, label)).rowcount:
            return None
        query = "SELECT label FROM seen WHERE digest = ?"
        (found,) = self.database.execute(query, (digest,)).fetchone()
        return str(found)

    def note(self, prompt: Prompt) -> None:
        """Look whether a prompt says the same as an earlier one."""
        self.prompts += 1
        turns = [[turn.role, turn.text] for turn in prompt.turns]
        name = repr(prompt.prompt_id)
        first = self.first(["prompt", prompt.system, turns, prompt.text], name)
        if first:
            self.repeated += 1
            if self.repeated <= SHOWN:
                self.examples.append(f"{name} repeats {first}")

    def notices(self, source: str) -> list[Notice]:
        """Return what a reader must know of the prompts that were seen."""
        if not self.repeated:
            return []
        hidden = self.repeated - len(self.examples)
        more = f", and {hidden} more" if hidden else ""
        message = (
            f"{self.repeated} of {self.prompts} prompts of {source} say the same as an earlier "
            f"one, and count as often as they are there: {', '.join(self.examples)}{more}"
        )
        return [Notice("duplicate_prompts", message)]

    def close(self) -> None:
        self.database.close()


def _select(dataset: Dataset, source: Rows) -> Iterable[tuple[int, Row]]:
    """Return the selected rows with their numbers from 0; `random` counts them in a first pass."""
    numbered = enumerate(source)
    if dataset.limit is None:
        return numbered
    if dataset.select == "first":
        return islice(numbered, dataset.limit)
    count = sum(1 for _ in source)
    if dataset.limit >= count:
        return numbered
    return _only(numbered, random.Random(dataset.seed).sample(range(count), dataset.limit))


def _only(numbered: Iterator[tuple[int, Row]], chosen: list[int]) -> Iterator[tuple[int, Row]]:
    wanted = iter(sorted(chosen))
    following = next(wanted)
    for number, row in numbered:
        if number == following:
            yield number, row
            if (following := next(wanted, -1)) < 0:
                return


def _system_prompt(
    dataset: Dataset, s3: BaseClient | None
) -> tuple[str | None, SystemPrompt | None]:
    name = dataset.system_prompt_file
    if not name:
        return None, None
    key = "dataset.system_prompt_file"
    with rows.local_file(name, s3, key=key) as path:
        try:
            content = path.read_bytes()
            text = content.decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise DatasetError(f"{key}: {name} cannot be read: {error}") from None
    if not text.strip():
        raise DatasetError(f"{key}: {name} is empty")
    digest = hashlib.sha256(content).hexdigest()
    return text, SystemPrompt(name, dataset.system_prompt_version, digest)


@contextmanager
def _open_source(dataset: Dataset, s3: BaseClient | None) -> Iterator[Rows]:
    if rows.is_file(dataset.source):
        with rows.open_rows(dataset.source, s3, key="dataset.source") as source:
            yield source
        return
    loaded = _from_hugging_face(dataset)
    yield Rows(dataset.source, lambda: iter(loaded))


def _is_passing(error: BaseException | None) -> bool:
    """Whether the hub, or the way to it, was not well: it has another error for each such case."""
    import httpx
    from huggingface_hub import constants

    while error is not None and not constants.HF_HUB_OFFLINE:
        status = getattr(getattr(error, "response", None), "status_code", None) or 0
        if isinstance(error, ConnectionError | TimeoutError | httpx.TransportError):
            return True
        if status == 429 or status >= 500:
            return True
        error = error.__cause__
    return False


def _from_hugging_face(dataset: Dataset) -> Iterable[Row]:
    try:
        import datasets
    except ImportError:
        raise DatasetError(
            f"dataset.source: {dataset.source} is not a file, and the package `datasets`, which "
            "loads Hugging Face ids, is not installed; give a file instead"
        ) from None
    try:
        loaded: Iterable[Row] = datasets.load_dataset(
            dataset.source, split=dataset.split, revision=dataset.revision
        )
    except Exception as error:  # the hub's errors have no common class
        if _is_passing(error):
            raise UnreachableError(
                f"dataset.source: {dataset.source} is not a file, and the Hugging Face Hub, which "
                f"may have it, does not answer: {error}"
            ) from None
        raise DatasetError(
            f"dataset.source: {dataset.source} is neither a file nor a Hugging Face data set "
            f"that can be loaded: {error}"
        ) from None
    return loaded
