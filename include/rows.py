"""A file or S3 object in, its rows out, one after the other: jsonl, json, csv, parquet, also .gz.

Memory does not grow with the file, except for one JSON list, which has to be read whole.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cached_property, partial
from itertools import chain, islice
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryFile
from typing import IO, TYPE_CHECKING, Any

from include.errors import DatasetError, unread
from include.files import is_there
from include.storage import download
from include.wording import by_line, printable, short

if TYPE_CHECKING:
    from botocore.client import BaseClient

ROOT = Path(__file__).resolve().parent.parent
SHOWN = 5
"""Faulty rows that an error names; the rest are counted."""
PEEKED = 1000
"""Rows that say which columns there are."""
BATCH = 200
"""Rows of a parquet file in memory at once."""
LONGEST_LINE = 256 * 1024**2
"""Bytes of one line. A gzipped file of some megabytes may hold one that fills any memory."""
LONGEST_LIST = 2 * 1024**3
"""Bytes of a JSON list, which is in memory as a whole."""
BUFFER = 64 * 1024
"""Bytes of a parquet column that are read at once, where a page is not larger."""

Row = Mapping[str, Any]


class Rows:
    """Rows that can be passed over more than once, from the start each time."""

    def __init__(self, name: str, read: Callable[[], Iterator[Row]]) -> None:
        self.name = name
        self._read = read

    def __iter__(self) -> Iterator[Row]:
        """Yield every row.

        Raises:
            DatasetError: Naming file and line.
        """
        return self._read()

    @cached_property
    def columns(self) -> list[str]:
        """The columns of the first rows, sorted.

        Raises:
            DatasetError: There are no rows.
        """
        found = [set(row) for row in islice(self, PEEKED)]
        if not found:
            raise DatasetError(f"{self.name} holds no rows")
        return sorted(set().union(*found))

    def has(self, column: str) -> bool:
        """Say whether one of the first rows has such a column; a dot reaches into a nested one."""
        top = column.split(".")[0]
        if column in self.columns or top not in self.columns:
            return column in self.columns
        known = [row for row in islice(self, PEEKED) if row.get(top) is not None]
        return not known or any(value(row, column, ABSENT) is not ABSENT for row in known)

    def check_columns(self, wanted: Iterable[tuple[str, str]]) -> None:
        """Refuse columns that no row has, with the nearest that there is.

        Args:
            wanted: Pairs of a config key and the column that it names; a dot reaches into one.

        Raises:
            DatasetError: Naming every such key, and the columns.
        """
        there, problems = self.columns, []
        for key, column in wanted:
            if not self.has(column):
                close = get_close_matches(column, there, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                problems.append(f"{key}: {self.name} has no column {short(column)}{hint}")
        if problems:
            raise DatasetError(by_line([*problems, f"its columns are {', '.join(there)}"]))


class Problems:
    """What is wrong with the rows of one file: the first few in words, the rest as a number."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        self._first: list[str] = []

    def add(self, number: int, problem: object) -> None:
        """Note what is wrong with row `number`, counted from 1."""
        self.count += 1
        if self.count <= SHOWN:
            self._first.append(f"  row {number}: {problem}")

    def refuse(self) -> None:
        """Raise if there was any.

        Raises:
            DatasetError: With the first few.
        """
        if self.count:
            more = f"\n  and {self.count - SHOWN} more" if self.count > SHOWN else ""
            raise DatasetError(
                f"{self.name} has rows that cannot be used:\n{by_line(self._first)}{more}"
            )


ABSENT = object()


def value(row: Row, column: str, absent: Any = None) -> Any:
    """Return a row's value; a dot in the column's name reaches into a nested one.

    Args:
        row: The row.
        column: The column.
        absent: What to return where the row has no such column.
    """
    if column in row:
        return row[column]
    found: Any = row
    for part in column.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return absent
        found = found[part]
    return found


def as_text(found: Any) -> str:
    """Return a value as text: texts as they are, all else as JSON."""
    return found if isinstance(found, str) else json.dumps(found, default=str, ensure_ascii=False)


def text(row: Row, column: str) -> str:
    """Return a row's value as text.

    Raises:
        ValueError: It is null or absent.
    """
    found = value(row, column)
    if found is None:
        raise ValueError(f"{column} is empty (null)")
    return as_text(found)


def is_file(source: str) -> bool:
    """Say whether a source is meant as a file: on S3, there, or named like one."""
    named = source.removesuffix(".gz").endswith(FORMATS)
    return named or source.startswith("s3://") or _find(source) is not None


@contextmanager
def open_rows(source: str, s3: BaseClient | None = None, *, key: str) -> Iterator[Rows]:
    """Open a file of rows.

    Args:
        source: A path, from where one is or from the project's root; or an `s3://` URI, which is
            copied to disk first.
        s3: For `s3://` sources.
        key: The config key that names the source, for messages.

    Yields:
        Its rows, which can be read until the context ends. Values are what the file says: texts
        keep every character, and all that a CSV file holds is text.

    Raises:
        DatasetError: There is no such file, or it is of another format.
    """
    read = _reader(source)
    with local_file(source, s3, key=key) as path:
        yield Rows(source, partial(_read, source, path, read))


@contextmanager
def local_file(source: str, s3: BaseClient | None = None, *, key: str) -> Iterator[Path]:
    """Give a source as a file on disk: its own, or a copy of an S3 object (S3: GetObject).

    Raises:
        DatasetError: There is no such file, or it cannot be had.
    """
    if source.startswith("s3://"):
        with NamedTemporaryFile() as copy:
            _copy(source, s3, copy)
            copy.flush()
            yield Path(copy.name)
        return
    path = _find(source)
    if path is None:
        places = " nor in ".join(dict.fromkeys(map(str, (Path.cwd(), ROOT))))
        neither = "neither in" if " nor in " in places else "not in"
        raise DatasetError(f"{key}: there is no file {printable(source)[:500]}, {neither} {places}")
    yield path


def _find(source: str) -> Path | None:
    return next((path for path in (Path(source), ROOT / source) if is_there(path)), None)


def _copy(uri: str, s3: BaseClient | None, file: IO[bytes]) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    if s3 is None:
        raise DatasetError(f"{uri}: no S3 client to read it with")
    try:
        download(s3, uri, file)
    except (BotoCoreError, ClientError, ConnectionError, TimeoutError) as error:
        raise unread(f"{uri} cannot be read", error, DatasetError) from None


Read = Callable[[str, io.BufferedIOBase], Iterator[Row]]
"""Takes a file's name for messages and the open file, without its gzip."""


def _reader(name: str) -> Read:
    for ending, read in READERS.items():
        if name.removesuffix(".gz").endswith(ending):
            return read
    raise DatasetError(
        f"{printable(name)[:500]}: expected a file ending in {', '.join(FORMATS)}, or in .gz"
    )


def _read(name: str, path: Path, read: Read) -> Iterator[Row]:
    try:
        with gzip.open(path) if name.endswith(".gz") else path.open("rb") as file:
            yield from read(name, file)
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{name} cannot be read: {error}") from None


def _lines(name: str, file: io.BufferedIOBase) -> Iterator[str]:
    """Yield lines with their ends; only a line feed ends one."""
    for number, line in enumerate(iter(partial(file.readline, LONGEST_LINE + 1), b""), 1):
        if len(line) > LONGEST_LINE:
            raise DatasetError(f"{name}:{number}: this line has more than {LONGEST_LINE:,} bytes")
        try:
            decoded = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise DatasetError(f"{name}:{number} cannot be read: not UTF-8: {error}") from None
        yield decoded


def _from_json(name: str, file: io.BufferedIOBase) -> Iterator[Row]:
    """Read JSON lines, or one JSON list of objects; texts stay exactly what they are.

    The standard library, not pyarrow: that guesses dates from texts and stops at mixed columns.
    """
    lines = enumerate(_lines(name, file), 1)
    is_first = True
    for number, line in lines:
        if not line.strip():
            continue
        if is_first and line.lstrip().startswith("["):
            whole = line + "".join(_at_most(name, (rest for _, rest in lines)))
            for place, item in enumerate(_loads(name, whole, number), 1):
                yield _object(f"{name}: item {place}", item)
            return
        is_first = False
        yield _object(f"{name}:{number}", _loads(name, line.rstrip(), number))


def _at_most(name: str, lines: Iterator[str]) -> Iterator[str]:
    left = LONGEST_LIST
    for line in lines:
        left -= len(line)
        if left < 0:
            raise DatasetError(
                f"{name}: a JSON list is read as a whole, and this one has more than "
                f"{LONGEST_LIST:,} bytes; write one object per line into a .jsonl file"
            )
        yield line


def _loads(name: str, content: str, line: int) -> Any:
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        place = f"{name}:{line + error.lineno - 1}"
        raise DatasetError(f"{place}: not JSON: {error.msg} at column {error.colno}") from None
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{name}:{line}: not JSON: {error}") from None


def _object(place: str, item: Any) -> Row:
    if not isinstance(item, dict):
        raise DatasetError(f"{place}: expected an object, found {type(item).__name__}")
    return item


def _from_csv(name: str, file: io.BufferedIOBase) -> Iterator[Row]:
    """Read columns as text: an id 007 stays one. Semicolons may stand for the commas.

    The standard library, not pyarrow: rows may be of any size, and errors name the line.
    """
    csv.field_size_limit(sys.maxsize)  # of the process; there is no other way to lift it
    # Cells may hold line ends, and a lone carriage return may end a row.
    lines = (part for line in _lines(name, file) for part in io.StringIO(line, newline=""))
    above, first = next(((n, line) for n, line in enumerate(lines) if line.strip()), (0, None))
    if first is None:
        raise DatasetError(f"{name} cannot be read: expected a header, found nothing")
    table = csv.reader(chain([first], lines), delimiter=_separator(first), strict=True)
    try:
        header = next(table)
        twice = sorted({column for column in header if header.count(column) > 1})
        if twice:
            raise DatasetError(
                f"{name}:{above + table.line_num}: column {twice[0]!r} is there more than once"
            )
        for cells in table:
            if not cells:  # a blank line
                continue
            if len(cells) != len(header):
                raise DatasetError(
                    f"{name}:{above + table.line_num}: expected {len(header)} cells as in the "
                    f"header, found {len(cells)}"
                )
            yield dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise DatasetError(f"{name}:{above + table.line_num}: not CSV: {error}") from None


def _separator(header: str) -> str:
    """Return what parts the columns; semicolons where a decimal comma is usual."""

    def columns(separator: str) -> int:
        try:
            return len(next(csv.reader([header], delimiter=separator, strict=True)))
        except csv.Error:
            return 0

    return ";" if columns(",") < 2 <= columns(";") else ","


def _from_parquet(name: str, file: io.BufferedIOBase) -> Iterator[Row]:
    import pyarrow
    from pyarrow import parquet

    with TemporaryFile() as plain:
        if name.endswith(".gz"):  # its index is at the end
            shutil.copyfileobj(file, plain)
        content = plain if name.endswith(".gz") else file
        try:
            with parquet.ParquetFile(content, buffer_size=BUFFER, pre_buffer=False) as table:
                for batch in table.iter_batches(BATCH, use_threads=False):
                    yield from batch.to_pylist()
                    # Or the pool keeps what it held: half as much again for 60,000 rows.
                    pyarrow.default_memory_pool().release_unused()
        # The latter two: a text is not UTF-8, a day is in no calendar.
        except (pyarrow.ArrowException, ValueError, OverflowError) as error:
            raise DatasetError(f"{name} cannot be read: {error}") from None


READERS: dict[str, Read] = {
    ".jsonl": _from_json,
    ".ndjson": _from_json,
    ".json": _from_json,
    ".csv": _from_csv,
    ".parquet": _from_parquet,
}
FORMATS = tuple(READERS)
