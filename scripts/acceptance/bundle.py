"""What an acceptance run saw, as a zip; two such zips in, where they differ out."""

from __future__ import annotations

import io
import json
import re
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from include.config import SECRET_KEY
from include.errors import ResultsError
from scripts.acceptance.journal import Call
from scripts.acceptance.redact import Redactor

TIME = re.compile(r"^\d{4}-\d\d-\d\d[T ]\d\d[:-]\d\d")
VARYING = re.compile(
    r"\"[^\"]*\"|'[^']*'|arn:aws[^\s,)\"]*|nj-[a-z0-9-]+"
    r"|\d{4}-\d\d-\d\d[T ][0-9.:+-]+|[0-9a-f]{8,}|\d+"
)
"""What differs between two runs of the same: quoted names, ARNs, times, digests, numbers."""

Place = tuple[str, ...]
Shape = dict[Place, set[str]]
"""Place of a value to the types that were seen there."""


@dataclass(frozen=True)
class Bundle:
    """What one acceptance run saw of a service that calls itself AWS."""

    manifest: dict[str, Any]
    """When, where, with what and how it ended."""
    calls: list[Call]
    archive: dict[str, Any] | None
    """The judge's archive: `members`, `results`, `tables`; None if there was none."""
    log: list[str]
    """The end of the judge's log."""
    summary: dict[str, Any] | None


def redacted(bundle: Bundle, redactor: Redactor) -> Bundle:
    """Return a bundle without the names and numbers of the account.

    Raises:
        ResultsError: Something is still in it that should have been redacted.
    """
    values = {**vars(bundle), "calls": [vars(call) for call in bundle.calls]}
    content = redactor.value(values)
    left = [name for name, value in content.items() if redactor.leaks(value)]
    if left:
        raise ResultsError(f"no bundle was written: names of the account are left in {left}")
    return Bundle(**{**content, "calls": [Call(**call) for call in content["calls"]]})


def write(bundle: Bundle, redactor: Redactor, path: Path) -> Path:
    """Write a bundle, redacted.

    Raises:
        ResultsError: It could not be redacted; nothing is written.
    """
    clean = redacted(bundle, redactor)
    content = {**vars(clean), "calls": [vars(call) for call in clean.calls]}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in content.items():
            archive.writestr(f"{name}.json", json.dumps(value, indent=1))
    return path


def read(path: Path) -> Bundle:
    """Read a bundle.

    Raises:
        ResultsError: The file is none.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            content = {
                Path(name).stem: json.loads(archive.read(name)) for name in archive.namelist()
            }
        return Bundle(**{**content, "calls": [Call(**call) for call in content["calls"]]})
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
        raise ResultsError(f"{path} is no bundle of make acceptance: {error!r}") from None


def open_archive(file: IO[bytes]) -> dict[str, Any]:
    """List a judge's archive; read its results and the form of its tables.

    Returns:
        `members` (name and size), `results` (the parsed results_*.json) and `tables` (name,
        columns with their types, and the first row).
    """
    members, results, tables = [], None, []
    with tarfile.open(fileobj=file, mode="r:gz") as tar:
        for member in tar:
            members.append({"name": member.name, "size": member.size})
            content = tar.extractfile(member) if member.isfile() else None
            if content and re.search(r"results_[^/]*\.json$", member.name):
                results = json.loads(content.read())
            elif content and member.name.endswith(".parquet"):
                tables.append({"name": member.name, **_table(content.read())})
    return {"members": members, "results": results, "tables": tables}


def _table(body: bytes) -> dict[str, Any]:
    from pyarrow import parquet

    table = parquet.ParquetFile(io.BytesIO(body)).read()
    columns = {each.name: str(each.type) for each in table.schema}
    return {"columns": columns, "rows": json.loads(json.dumps(table[:1].to_pylist(), default=str))}


def differences(theirs: Bundle, ours: Bundle) -> list[str]:
    """Say where two services answer in different forms, one sentence for each place.

    Compared are keys and types of answers, codes and texts of errors, names in the archive, keys
    of the results and columns of the tables; never values, times, how often something was said, or
    what a container got as a secret.

    Args:
        theirs: What is taken as true: AWS.
        ours: What is to be like it: the sandbox.
    """
    return [
        *_answers(theirs.calls, ours.calls),
        *_errors(theirs.calls, ours.calls),
        *_archives(theirs.archive, ours.archive),
    ]


def _answers(theirs: Iterable[Call], ours: Iterable[Call]) -> Iterator[str]:
    right, left = _shapes(theirs), _shapes(ours)
    for operation, shape in sorted(right.items()):
        if operation in left:
            yield from _compare(operation, shape, left[operation])
        else:
            yield f"{operation}: answered there, never here"


def _shapes(calls: Iterable[Call]) -> dict[str, Shape]:
    shapes: dict[str, Shape] = defaultdict(lambda: defaultdict(set))
    for call in calls:
        if call.error is None:
            shape = shapes[f"{call.service} {call.operation}"]
            for place, kind in _flat(call.response):
                shape[place].add(kind)
    return shapes


def _flat(value: Any, place: Place = ()) -> Iterator[tuple[Place, str]]:
    if isinstance(value, dict):
        yield place, "object"
        for key, each in value.items():
            if place[-1:] != ("Environment",) or not SECRET_KEY.search(key):
                yield from _flat(each, (*place, key))
    elif isinstance(value, list):
        yield place, "list"
        for each in value:
            yield from _flat(each, (*place, "[]"))
    else:
        yield place, _kind(value)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "time" if TIME.match(value) else "text"


def _compare(where: str, theirs: Shape, ours: Shape) -> Iterator[str]:
    for place in sorted(theirs.keys() | ours.keys()):
        right, left, said = theirs.get(place), ours.get(place), ".".join(place)
        # An empty list says nothing, and what a key holds is not told again below it.
        if place[-1:] == ("[]",) and not (right and left):
            continue
        if right is None and place[:-1] in theirs:
            yield f"{where}: {said}: only here"
        elif left is None and place[:-1] in ours:
            yield f"{where}: {said}: only there"
        elif right and left and right - {"null"} and left - {"null"} and not right & left:
            yield f"{where}: {said}: {_or(right)} there, {_or(left)} here"


def _or(kinds: set[str]) -> str:
    return " or ".join(sorted(kinds))


def _errors(theirs: Iterable[Call], ours: Iterable[Call]) -> Iterator[str]:
    right, left = _refusals(theirs), _refusals(ours)
    for operation in sorted(right.keys() | left.keys()):
        there, here = right.get(operation, {}), left.get(operation, {})
        for form in sorted(there.keys() - here.keys()):
            yield f"{operation}: refused there only: {there[form]}"
        for form in sorted(here.keys() - there.keys()):
            yield f"{operation}: refused here only: {here[form]}"


def _refusals(calls: Iterable[Call]) -> dict[str, dict[str, str]]:
    """Return, for each operation, the forms of its errors with one example of each."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for call in calls:
        if call.error:
            example = f"{call.status} {call.error['Code']}: {call.error['Message']}"
            form = f"{call.status} {call.error['Code']}: {VARYING.sub('*', call.error['Message'])}"
            found[f"{call.service} {call.operation}"].setdefault(form, example)
    return found


def _archives(theirs: dict[str, Any] | None, ours: dict[str, Any] | None) -> Iterator[str]:
    if theirs is None or ours is None:
        if theirs is not ours:
            yield f"archive: {'only here' if theirs is None else 'only there'}"
        return
    there, here = _member_forms(theirs), _member_forms(ours)
    for name in sorted(there - here):
        yield f"archive: {name}: only there"
    for name in sorted(here - there):
        yield f"archive: {name}: only here"
    yield from _compare("archive results", _shape(theirs["results"]), _shape(ours["results"]))
    yield from _compare("archive tables", _tables(theirs), _tables(ours))


def _member_forms(archive: dict[str, Any]) -> set[str]:
    return {VARYING.sub("*", member["name"]) for member in archive["members"]}


def _shape(value: Any) -> Shape:
    shape: Shape = defaultdict(set)
    for place, kind in _flat(value):
        shape[place].add(kind)
    return shape


def _tables(archive: dict[str, Any]) -> Shape:
    shape: Shape = defaultdict(set)
    shape[()].add("object")
    for table in archive["tables"]:
        for column, kind in table["columns"].items():
            shape[(column,)].add(kind)
    return shape
