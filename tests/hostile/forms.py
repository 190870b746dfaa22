"""Forms that people have filled in, or somebody else: given are the file's name and its content."""

import csv
import io
from typing import Any

from hostile import Case, refused
from include.errors import DatasetError, JudgeError, LabelsError
from include.labels import COLUMNS
from include.records import Judged, Pair, sha256

ABOUT = Judged(
    comparison="c-1", dataset="ab", judge_image="judge:1", judge_image_digest=None, recipe="cd"
)
PAIR = Pair("p1", "What?", "one", "two", "judged")
ROW = {
    "pair": f"p-{sha256('p1')[:16]}",
    "preference": "1",
    "drawn": "random",
    "comparison": "c-1",
    "dataset_sha256": "ab",
    "judge_image": "judge:1",
    "recipe_sha256": "cd",
    "response_1_sha256": sha256("one"),
    "response_2_sha256": sha256("two"),
}


def form(*rows: dict[str, Any]) -> bytes:
    file = io.StringIO()
    table = csv.DictWriter(file, COLUMNS, restval="")
    table.writeheader()
    table.writerows(rows)
    return file.getvalue().encode("utf-8", "surrogatepass")


def with_one(**changes: Any) -> tuple[str, bytes]:
    return "f.csv", form({**ROW, **changes})


def no(what: str, given: Any, *words: str, error: type[JudgeError] = LabelsError) -> Case:
    return refused(error, what, given, *words)


def unread(what: str, given: Any, *words: str) -> Case:
    return no(what, given, *words, error=DatasetError)


LONG = "x" * 1_000_000

CASES: list[Case] = [
    unread("an empty form", ("f.csv", form()), "f.csv holds no rows"),
    no("empty rows", ("f.csv", form({}, {})), "f.csv: comparison is nowhere told", "c-1 (claude)"),
    no("nothing filled in", with_one(preference=""), "preference is empty in all of its 1 rows"),
    no("another comparison", with_one(comparison="c-2"), "comparison is c-2", "c-1 (claude)"),
    no(
        "a comparison of 1 MB",
        with_one(comparison=LONG),
        "comparison is xxx",
        "c-1 (claude)",
    ),
    no("a comparison in colour", with_one(comparison="\x1b[31m"), "comparison is \\x1b[31m"),
    no("another data set", with_one(dataset_sha256="zz"), "f.csv is stale", "dataset_sha256: zz"),
    no("a recipe of 1 MB", with_one(recipe_sha256=LONG), "f.csv is stale", "recipe_sha256: xxx"),
    unread("another answer", with_one(preference="3"), "row 1: preference: expected 1, 2 or tie"),
    unread("an answer of 1 MB", with_one(preference=LONG), "expected 1, 2 or tie, found 'xxx"),
    unread("a formula as answer", with_one(preference="=1+1"), "row 1: preference", "'=1+1'"),
    unread("a pair of nobody", with_one(pair="p-0"), "row 1: pair: 'p-0' is none of this run's"),
    unread("another response", with_one(response_1_sha256="zz"), "row 1: response_1_sha256: zz"),
    unread("one response twice", with_one(response_2_sha256=sha256("one")), "another response"),
    unread("drawn by somebody", with_one(drawn="me"), "row 1: drawn", "found 'me'"),
    unread("no form", ("f.csv", b"a,b\n1,2\n"), "FILE: f.csv has no column 'pair'", "are a, b"),
    unread("nothing", ("f.csv", b""), "f.csv cannot be read: expected a header"),
    unread("UTF-16", ("f.csv", form(ROW).decode().encode("utf-16")), "f.csv:1", "not UTF-8"),
    unread("half a character", with_one(pair="\ud83d"), "f.csv:2", "not UTF-8"),
    unread("a spreadsheet", ("f.xlsx", b"PK\x03\x04"), "f.xlsx: expected a file ending in .jsonl"),
    Case("cells that hold anything", with_one(prompt="=1+1", response_1="\0", response_2="\x1b")),
    Case("a person twice", ("f.csv", form(ROW, ROW, {**ROW, "preference": "2"}))),
]
