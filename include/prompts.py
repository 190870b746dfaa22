"""A data set in, Prompts out: files with pyarrow, Hugging Face ids with `datasets`."""

from __future__ import annotations

import gzip
import io
import json
import random
import string
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.config import Dataset
from include.errors import DatasetError
from include.records import Prompt
from include.storage import read_uri

if TYPE_CHECKING:
    from botocore.client import BaseClient

ROOT = Path(__file__).resolve().parent.parent
FORMATS = (".jsonl", ".ndjson", ".json", ".csv", ".parquet")
SHOWN = 5
"""Faulty rows that an error names; the rest are counted."""

Row = Mapping[str, Any]


def load_prompts(dataset: Dataset, s3: BaseClient | None = None) -> list[Prompt]:
    """Read the prompts of an evaluation.

    Args:
        dataset: Where they are and which columns mean what.
        s3: For `s3://` sources.

    Returns:
        The selected prompts in the order of the source. No row is left out silently.

    Raises:
        DatasetError: Naming file and rows.
    """
    rows = _rows(dataset, s3)
    if not rows:
        raise DatasetError(f"{dataset.source} holds no rows")
    _check_columns(dataset, rows)
    prompts, problems = [], []
    for number, row in _select(dataset, rows):
        try:
            prompts.append(_prompt(dataset, number, row))
        except ValueError as error:
            problems.append(f"  row {number + 1}: {error}")
    twice = [name for name, count in Counter(p.prompt_id for p in prompts).items() if count > 1]
    problems += [f"  {dataset.id_field} {name!r} is there more than once" for name in twice]
    if problems:
        hidden = len(problems) - SHOWN
        more = f"\n  and {hidden} more" if hidden > 0 else ""
        listed = "\n".join(problems[:SHOWN])
        raise DatasetError(f"{dataset.source} has rows that cannot be used:\n{listed}{more}")
    return prompts


def _select(dataset: Dataset, rows: Sequence[Row]) -> list[tuple[int, Row]]:
    numbered = list(enumerate(rows))
    if dataset.limit is None or dataset.limit >= len(numbered):
        return numbered
    if dataset.select == "first":
        return numbered[: dataset.limit]
    chosen = random.Random(dataset.seed).sample(range(len(numbered)), dataset.limit)
    return [numbered[number] for number in sorted(chosen)]


def _prompt(dataset: Dataset, number: int, row: Row) -> Prompt:
    text = _fill(dataset.prompt_template, row)
    if not text.strip():
        raise ValueError("the prompt is empty")
    return Prompt(
        prompt_id=_text(row, dataset.id_field) or f"row-{number:06d}",
        text=text,
        system=_fill(dataset.system_prompt, row) if dataset.system_prompt else None,
        category=_text(row, dataset.category_field),
        group=_text(row, dataset.group_field),
        reference=_text(row, dataset.reference_field),
    )


def _columns(template: str, key: str) -> list[str]:
    """Return the columns that a template names."""
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise DatasetError(
            f"dataset.{key}: {error}; write {{{{ and }}}} for braces that are text"
        ) from None
    if "" in fields:
        raise DatasetError(f"dataset.{key}: {{}} names no column; write {{column}}")
    return fields


def _fill(template: str, row: Row) -> str:
    parts = []
    for literal, name, _, _ in string.Formatter().parse(template):
        parts.append(literal)
        if name is None:
            continue
        value = _value(row, name)
        if value is None:
            raise ValueError(f"{name} is empty (null)")
        parts.append(value if isinstance(value, str) else json.dumps(value, default=str))
    return "".join(parts)


def _value(row: Row, name: str) -> Any:
    """Return a column; a dot reaches into a nested one."""
    if name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _text(row: Row, name: str | None) -> str | None:
    value = _value(row, name) if name else None
    if value is None:
        if name:
            raise ValueError(f"{name} is empty (null)")
        return None
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _check_columns(dataset: Dataset, rows: Sequence[Row]) -> None:
    """Refuse columns that no row has, with the nearest that there is."""
    there = sorted({column for row in rows[:1000] for column in row})
    wanted = [(f"{key}_field", getattr(dataset, f"{key}_field")) for key in FIELDS]
    wanted += [
        ("prompt_template", name) for name in _columns(dataset.prompt_template, "prompt_template")
    ]
    if dataset.system_prompt:
        wanted += [
            ("system_prompt", name) for name in _columns(dataset.system_prompt, "system_prompt")
        ]
    problems = []
    for key, name in wanted:
        if name and name not in there and name.split(".")[0] not in there:
            close = get_close_matches(name, there, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            problems.append(f"dataset.{key}: {dataset.source} has no column {name!r}{hint}")
    if problems:
        raise DatasetError("\n".join([*problems, f"its columns are {', '.join(there)}"]))


FIELDS = ("id", "category", "group", "reference")


def _rows(dataset: Dataset, s3: BaseClient | None) -> Sequence[Row]:
    source = dataset.source
    if source.startswith("s3://"):
        return _parse(source, _from_s3(source, s3))
    for path in (Path(source), ROOT / source):
        if path.is_file():
            return _parse(source, path.read_bytes())
    if source.removesuffix(".gz").endswith(FORMATS):
        raise DatasetError(
            f"dataset.source: there is no file {source}, neither in {Path.cwd()} nor in {ROOT}"
        )
    return _from_hugging_face(dataset)


def _from_s3(uri: str, s3: BaseClient | None) -> bytes:
    from botocore.exceptions import BotoCoreError, ClientError

    if s3 is None:
        raise DatasetError(f"{uri}: no S3 client to read it with")
    try:
        return read_uri(s3, uri)
    except (BotoCoreError, ClientError) as error:
        raise DatasetError(f"{uri} cannot be read: {error}") from None


def _from_hugging_face(dataset: Dataset) -> Sequence[Row]:
    try:
        import datasets
    except ImportError:
        raise DatasetError(
            f"dataset.source: {dataset.source} is not a file, and the package `datasets`, which "
            "loads Hugging Face ids, is not installed; give a file instead"
        ) from None
    try:
        loaded = datasets.load_dataset(
            dataset.source, split=dataset.split, revision=dataset.revision
        )
    except Exception as error:  # the hub's errors have no common class
        raise DatasetError(
            f"dataset.source: {dataset.source} is neither a file nor a Hugging Face data set "
            f"that can be loaded: {error}"
        ) from None
    return list(loaded)


def _parse(name: str, body: bytes) -> Sequence[Row]:
    import pyarrow

    plain = name.removesuffix(".gz")
    try:
        content = gzip.decompress(body) if name.endswith(".gz") else body
        if plain.endswith(".parquet"):
            from pyarrow import parquet

            rows: list[Row] = parquet.read_table(io.BytesIO(content)).to_pylist()
            return rows
        if plain.endswith(".csv"):
            return _from_csv(content)
        if plain.endswith((".jsonl", ".ndjson", ".json")):
            return list(_from_json(name, content))
    except (pyarrow.ArrowException, OSError, EOFError, UnicodeDecodeError) as error:
        raise DatasetError(f"{name} cannot be read: {error}") from None
    raise DatasetError(f"{name}: expected a file ending in {', '.join(FORMATS)}, or in .gz")


def _from_csv(content: bytes) -> list[Row]:
    """Read columns as text: an id 007 stays one."""
    from pyarrow import csv

    header = csv.open_csv(io.BytesIO(content)).schema.names
    options = csv.ConvertOptions(
        column_types=dict.fromkeys(header, "string"), strings_can_be_null=False
    )
    parsing = csv.ParseOptions(newlines_in_values=True)
    table = csv.read_csv(io.BytesIO(content), convert_options=options, parse_options=parsing)
    rows: list[Row] = table.to_pylist()
    return rows


def _from_json(name: str, content: bytes) -> Iterator[Row]:
    """Read JSON lines, or one JSON list of objects; texts stay exactly what they are.

    The standard library, not pyarrow: that guesses dates from texts and stops at mixed columns.
    """
    text = content.decode("utf-8-sig")
    if text.lstrip().startswith("["):
        items = list(enumerate(_loads(name, text, 1), 1))
    else:
        lines = enumerate(text.split("\n"), 1)
        items = [(number, _loads(name, line, number)) for number, line in lines if line.strip()]
    for number, row in items:
        if not isinstance(row, dict):
            raise DatasetError(f"{name}:{number}: expected an object, found {type(row).__name__}")
        yield row


def _loads(name: str, text: str, line: int) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{name}:{line}: not JSON: {error}") from None
