"""Files of responses that exist already: given are rows or bytes, and keys of the model."""

from typing import Any

from hostile import Case, refused
from hostile.datasets import lines, not_utf8, table
from include.errors import DatasetError


def no(what: str, body: Any, *words: str, name: str = "r.jsonl", **keys: Any) -> Case:
    return refused(DatasetError, what, (name, body, keys), *words)


def row(**more: Any) -> dict[str, Any]:
    return {"id": "1", "response": "x", **more}


CASES: list[Case] = [
    no("no rows", b"", "r.jsonl holds no rows"),
    no("no object", b"7\n", "r.jsonl:1: expected an object, found int"),
    no("half a row", lines(row())[:-5], "r.jsonl:1: not JSON"),
    no("another encoding", "{}".encode("utf-16"), "r.jsonl:1", "not UTF-8"),
    no("a list as response", lines(row(response=["x"])), "row 1: response: expected text", "list"),
    no("a number as response", lines(row(response=7)), "row 1: response", "found int"),
    no("no id", lines(row(id=None)), "row 1: id is empty (null)"),
    no("two responses", lines(row(), row(response="y")), "row 2: another response to '1'", "row 1"),
    no(
        "a column that is nearly one",
        lines(row()),
        "model old: response_field",
        "mean 'response'",
        response_field="respons",
    ),
    no(
        "texts that are no UTF-8",
        table({"id": ["1"], "response": not_utf8()}),
        "utf-8",
        name="r.parquet",
    ),
    no("no parquet", b"PAR1", "r.parquet cannot be read", name="r.parquet"),
    no("a formula as header", b"=1+1\nx\n", "no column 'id'", "columns are =1+1", name="r.csv"),
    Case("half a character as response", ("r.jsonl", lines(row(response="\ud83d")), {})),
    Case("half a character as id", ("r.jsonl", lines(row(), row(id="\ud83d")), {})),
    Case("a response of 10 MB", ("r.jsonl", lambda: lines(row(response="x" * 10_000_000)), {})),
    Case("NUL bytes", ("r.jsonl", lines(row(response="a\0b", more="\0")), {})),
    Case("the same row twice", ("r.jsonl", lines(row(), row()), {})),
]
