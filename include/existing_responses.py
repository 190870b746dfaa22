"""A file of responses and the prompts in, Response records out: nothing is asked.

Memory does not grow with the file: its rows are kept in a temporary database on disk.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from include import rows
from include.config import Dataset, ResponsesModel
from include.errors import DatasetError
from include.records import Notice, Prompt, Response, sha256
from include.rows import Problems, Row, Rows

if TYPE_CHECKING:
    from botocore.client import BaseClient

SHOWN = 5
"""Ids that a notice names; all are counted."""

TABLES = """
CREATE TABLE responses (
    number INTEGER PRIMARY KEY,         -- row of the file, from 1
    id BLOB,                            -- digest of the id, without ids of the prompt
    prompt BLOB,                        -- digest of the prompt; empty: it is not compared
    label TEXT,                         -- the id in words
    text BLOB,                          -- null: there is no text
    rows INTEGER DEFAULT 1,             -- how often it is there
    asked_by TEXT,                      -- the prompt that it was joined with
    system BLOB,                        -- digest of that prompt's system prompt
    differs INTEGER DEFAULT 0,          -- 1: the prompt of this id is another one
    UNIQUE (id, prompt)
);
CREATE TABLE prompts (id BLOB PRIMARY KEY, label TEXT, missing INTEGER);
"""


@contextmanager
def open_responses(
    model: ResponsesModel, dataset: Dataset, s3: BaseClient | None = None, *, quote: bool = True
) -> Iterator[ExistingResponses]:
    """Read a model's responses.

    Args:
        model: Where they are and which columns mean what.
        dataset: Names the column of ids where the model does not.
        s3: For `s3://` sources.
        quote: Whether prompts may be named by their beginning where they have no ids.

    Yields:
        The responses, which can be joined with prompts until the context ends.

    Raises:
        DatasetError: There is no such file, it has not the columns, a response is not text, or
            two rows have different responses to the same prompt.
    """
    key = f"model {model.name}: source"
    with closing(sqlite3.connect("")) as database:
        database.execute("PRAGMA journal_mode = OFF")
        database.executescript(TABLES)
        with rows.open_rows(model.source, s3, key=key) as source:
            join = _join(model, dataset, source, quote)
            _store(database, source, join)
        yield ExistingResponses(database, model, join)


class ExistingResponses:
    """The responses of one model that exist already."""

    def __init__(self, database: sqlite3.Connection, model: ResponsesModel, join: _Join) -> None:
        self._database = database
        self._model = model
        self._join = join

    def answer(self, prompts: Iterable[Prompt]) -> Iterator[Response]:
        """Yield the response to each prompt.

        It has the outcome `ok`, `empty`, or `error` with the type `MissingResponse`; nothing is
        known of attempts (0), time and tokens. Prompts may come again: they count once.

        Raises:
            DatasetError: Rows are joined by prompt, and a prompt is a conversation, or two say
                the same under different system prompts.
        """
        for prompt in prompts:
            number, text, problem = self._look_up(prompt)
            missing = text is None
            self._database.execute(
                "INSERT OR REPLACE INTO prompts VALUES (?, ?, ?)",
                (_digest(prompt.prompt_id), repr(prompt.prompt_id), missing),
            )
            if number is not None:
                self._join_with(prompt, number)
            yield self._response(prompt, text, problem)

    def _response(self, prompt: Prompt, text: str | None, problem: str) -> Response:
        if text is None:
            return Response(
                prompt_id=prompt.prompt_id,
                model=self._model.name,
                outcome="error",
                text=None,
                error_type="MissingResponse",
                error_message=problem,
                attempts=0,
            )
        return Response(
            prompt_id=prompt.prompt_id,
            model=self._model.name,
            outcome="ok" if text.strip() else "empty",
            text=text if text.strip() else None,
            attempts=0,
        )

    def _look_up(self, prompt: Prompt) -> tuple[int | None, str | None, str]:
        """Return row number and text of the response to a prompt, or why there is none."""
        wanted_id, wanted_prompt = self._join.digests(prompt)
        query = "SELECT number, prompt, text FROM responses WHERE id = ? ORDER BY number"
        found = self._database.execute(query, (wanted_id,)).fetchall()
        others = [number for number, other, _ in found if other != wanted_prompt]
        for number in others:
            self._database.execute("UPDATE responses SET differs = 1 WHERE number = ?", (number,))
        source, name = self._model.source, repr(prompt.prompt_id)
        for number, other, text in found:
            if other == wanted_prompt:
                return number, _decoded(text), f"{source} row {number}: no text for {name} (null)"
        if others:
            problem = f"{source} row {others[0]}: the response to another prompt than {name} now is"
            return None, None, problem
        return None, None, f"{source} has no response for {name}"

    def _join_with(self, prompt: Prompt, number: int) -> None:
        system, name = _digest(prompt.system), repr(prompt.prompt_id)
        query = "SELECT system, asked_by FROM responses WHERE number = ?"
        other, asked_by = self._database.execute(query, (number,)).fetchone()
        if other is not None and other != system and self._join.id_field is None:
            raise DatasetError(
                f"model {self._model.name}: {asked_by} and {name} are the same prompt under "
                f"different system prompts, so whose response row {number} of "
                f"{self._model.source} is cannot be known; expected id_field"
            )
        update = "UPDATE responses SET asked_by = ?, system = ? WHERE number = ?"
        self._database.execute(update, (name, system, number))

    def notices(self) -> list[Notice]:
        """Return what a reader must know, as far as prompts were asked.

        Returns:
            Any of `responses_missing`, `responses_differ`, `responses_extra`, `responses_twice`.
        """
        (asked,) = self._database.execute("SELECT count(*) FROM prompts").fetchone()
        source = self._model.source
        told = (
            (
                "responses_missing",
                "prompts WHERE missing",
                f"of {asked} prompts have no response in {source}, joined by {self._join}",
            ),
            (
                "responses_differ",
                "responses WHERE differs",
                f"responses in {source} are to another prompt than the data set's of the same id "
                "and are left out; prompts are compared as the models see them, filled in",
            ),
            (
                "responses_extra",
                "responses WHERE asked_by IS NULL AND NOT differs",
                f"responses in {source} are to no prompt of the data set",
            ),
            (
                "responses_twice",
                "responses WHERE rows > 1",
                f"responses are in more than one row of {source} and are used once",
            ),
        )
        counted = [(code, message, *self._count(where)) for code, where, message in told]
        return [
            Notice(code, f"{self._model.name}: {count} {message}: {examples}")
            for code, message, count, examples in counted
            if count
        ]

    def _count(self, where: str) -> tuple[int, str]:
        """Return how many there are, and the first few."""
        (count,) = self._database.execute(f"SELECT count(*) FROM {where}").fetchone()
        query = f"SELECT label FROM {where} ORDER BY rowid LIMIT {SHOWN}"
        labels = [label for (label,) in self._database.execute(query)]
        more = [f"and {count - SHOWN} more"] if count > SHOWN else []
        return count, ", ".join(labels + more)


@dataclass(frozen=True)
class _Join:
    """Which columns join rows with prompts."""

    model: str
    id_field: str | None
    prompt_field: str | None
    response_field: str
    quote: bool

    def __str__(self) -> str:
        """Say it in a message."""
        return f"id ({self.id_field})" if self.id_field else f"prompt ({self.prompt_field})"

    def digests(self, prompt: Prompt) -> tuple[bytes, bytes]:
        """Return what a row has to have for a prompt: `id` and `prompt` of the table.

        Raises:
            DatasetError: A conversation, which is joined by id only.
        """
        if self.id_field is None:
            if prompt.turns:
                raise DatasetError(
                    f"model {self.model}: {prompt.prompt_id!r} is a conversation, and responses "
                    "to conversations are joined by id; expected id_field"
                )
            return _digest(prompt.text), b""
        return _digest(prompt.prompt_id), _digest(prompt.text) if self.prompt_field else b""

    def read(self, row: Row) -> tuple[bytes, bytes, str, bytes | None]:
        """Return `id`, `prompt`, `label` and `text` of a row.

        Raises:
            ValueError: A value is null or is not text.
        """
        text = rows.value(row, self.response_field)
        if text is not None:
            _check_text(self.response_field, text)
        prompt = _prompt(row, self.prompt_field) if self.prompt_field else None
        if self.id_field is None:
            label = self._label(prompt or "")
            return _digest(prompt), b"", label, _encoded(text)
        name = rows.text(row, self.id_field)
        compared = b"" if prompt is None else _digest(prompt)
        return _digest(name), compared, repr(name), _encoded(text)

    def _label(self, prompt: str) -> str:
        """Name a prompt that has no id."""
        if not self.quote:
            return f"the prompt with sha256 {sha256(prompt)[:12]}"
        return repr(prompt if len(prompt) < 60 else f"{prompt[:60]}...")


def _join(model: ResponsesModel, dataset: Dataset, source: Rows, quote: bool) -> _Join:
    id_field = model.id_field or dataset.id_field
    if not model.id_field and model.prompt_field and id_field and not source.has(id_field):
        id_field = None
    columns = {"id": id_field, "prompt": model.prompt_field, "response": model.response_field}
    source.check_columns(
        (f"model {model.name}: {name}_field", column) for name, column in columns.items() if column
    )
    return _Join(model.name, id_field, model.prompt_field, model.response_field, quote)


def _store(database: sqlite3.Connection, source: Rows, join: _Join) -> None:
    """Put every row into the table; the same response twice is there once."""
    insert = (
        "INSERT INTO responses (number, id, prompt, label, text) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (id, prompt) DO NOTHING"
    )
    problems = Problems(source.name)
    for number, row in enumerate(source, 1):
        try:
            values = join.read(row)
            if not database.execute(insert, (number, *values)).rowcount:
                _merge(database, *values)
        except ValueError as error:
            problems.add(number, error)
    problems.refuse()


def _merge(
    database: sqlite3.Connection, row_id: bytes, prompt: bytes, label: str, text: bytes | None
) -> None:
    """Add a row whose id, or prompt, is there already; a text is more than null.

    Raises:
        ValueError: It has another text.
    """
    query = "SELECT number, text FROM responses WHERE id = ? AND prompt = ?"
    number, known = database.execute(query, (row_id, prompt)).fetchone()
    if text is not None and known is not None and text != known:
        raise ValueError(
            f"another response to {label} than in row {number}; which one is meant cannot be known"
        )
    update = "UPDATE responses SET rows = rows + 1, text = ? WHERE number = ?"
    database.execute(update, (text if known is None else known, number))


def _prompt(row: Row, column: str) -> str:
    prompt = rows.value(row, column)
    if prompt is None:
        raise ValueError(f"{column} is empty (null)")
    _check_text(column, prompt)
    return str(prompt)


def _check_text(column: str, value: Any) -> None:
    if not isinstance(value, str):
        raise ValueError(f"{column}: expected text, found {type(value).__name__}")


def _digest(text: str | None) -> bytes:
    return hashlib.sha256(json.dumps(text).encode()).digest()


def _encoded(text: str | None) -> bytes | None:
    """Return a text as bytes: SQLite takes no lone surrogates."""
    return None if text is None else text.encode("utf-8", "surrogatepass")


def _decoded(content: bytes | None) -> str | None:
    return None if content is None else content.decode("utf-8", "surrogatepass")
