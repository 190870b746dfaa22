"""The run folder on S3: records in, objects out, and back."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING, Any, TypeVar, get_type_hints

from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

if TYPE_CHECKING:
    from botocore.client import BaseClient

Record = TypeVar("Record")

IN_MEMORY = 8 * 1024**2
"""Bytes of a file that are kept in memory; a larger one moves to disk."""

RANGE = 64 * 1024
"""Bytes of an object that are fetched at once where less is wanted."""

CONFIG = "config.json"
RECIPE = "recipe/recipe.yaml"
SECOND_RECIPE = "second/recipe.yaml"
RECIPES = (RECIPE, SECOND_RECIPE)
"""Of the judge, and of the second one."""
PROMPTS = "prompts/index.json"
"""What there is of prompts; they themselves lie in blocks beside it."""
ESTIMATE = "estimate.json"
SUMMARY = "summary.json"
REPORT = "report.html"

DIGESTS = "digests.jsonl"
"""Beside prompts, responses and pairs: what is left of them in a run that keeps no texts."""
NO_TEXTS = "no-texts.json"
"""Written when the texts of a run go: its other tasks have nothing left to work on."""
ENDED = "ended.json"
"""Written by the gate, which is the last to work on a run."""


@dataclass(frozen=True)
class RunFolder:
    """One run's folder.

    Objects are whole or absent, as S3 promises; what grows while work goes on is written as
    parts named by their content, so that writing a part twice changes nothing.
    """

    s3: BaseClient
    uri: str
    """`s3://bucket/prefix`, without a slash at the end."""

    def at(self, name: str) -> str:
        """Return the URI of the object `name` in this folder."""
        return f"{self.uri}/{name}"

    def write(self, name: str, body: bytes | str, content_type: str = "application/json") -> str:
        """Store one object and return its URI."""
        bucket, key = split_uri(self.at(name))
        data = body.encode() if isinstance(body, str) else body
        self.s3.put_object(Bucket=bucket, Key=key, Body=data, ContentType=content_type)
        return self.at(name)

    def read(self, name: str) -> bytes:
        """Return one object's content."""
        return read_uri(self.s3, self.at(name))

    def read_json(self, name: str) -> Any:
        """Return what a JSON object holds; None if there is no such object."""
        try:
            return json.loads(self.read(name))
        except self.s3.exceptions.NoSuchKey:
            return None

    def open(self, name: str) -> IO[bytes]:
        """Return one object as a file that can be read and searched, on disk if it is large."""
        file = SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - the caller's
        download(self.s3, self.at(name), file)
        file.seek(0)
        return file

    def lines(self, name: str) -> Iterator[bytes]:
        """Yield the lines of one object, from disk if it is large."""
        with self.open(name) as file:
            yield from file

    def ranges(self, name: str) -> IO[bytes]:
        """Return one object as a file of which only the parts are fetched that are read."""
        return io.BufferedReader(_Ranges(self.s3, *split_uri(self.at(name))), RANGE)

    def names(self, prefix: str) -> list[str]:
        """Return the names below `prefix`, sorted."""
        return sorted(self.written(prefix))

    def upload(self, name: str, file: IO[bytes], content_type: str) -> str:
        """Store a file as one object, in pieces if it is large, and return its URI."""
        bucket, key = split_uri(self.at(name))
        file.seek(0)
        extra = {"ContentType": content_type}
        self.s3.upload_fileobj(file, bucket, key, extra, Config=_one_piece_at_a_time())
        return self.at(name)

    def folders(self) -> list[str]:
        """Return the names of the folders right below this one, sorted."""
        bucket, key = split_uri(f"{self.uri}/")
        pages = self.s3.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=key, Delimiter="/"
        )
        found = (item["Prefix"] for page in pages for item in page.get("CommonPrefixes", []))
        return sorted(prefix.removeprefix(key).rstrip("/") for prefix in found)

    def written(self, prefix: str) -> dict[str, datetime]:
        """Return the names below `prefix` and when each was last written."""
        bucket, key = split_uri(self.at(prefix))
        start = len(key) - len(prefix)
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
        return {
            item["Key"][start:]: item["LastModified"]
            for page in pages
            for item in page.get("Contents", [])
        }

    def write_records(self, name: str, records: Iterable[Any]) -> str:
        """Store dataclass records as JSON lines and return the URI."""
        return self.write(name, to_lines(map(vars, records)), "application/x-ndjson")

    def read_records(self, name: str, record_type: type[Record]) -> Iterator[Record]:
        """Yield the records that `write_records` stored, in their order."""
        for line in self.read(name).splitlines():
            yield record_type(**json.loads(line))

    def add_part(self, prefix: str, records: Iterable[Any]) -> str:
        """Store records as a part below `prefix`, named by its content, and return the URI."""
        body = to_lines(map(vars, records))
        return self.write(f"{prefix}/part-{hashlib.sha256(body).hexdigest()[:24]}.jsonl", body)


class _Ranges(io.RawIOBase):
    """An object on S3, read in parts (S3: GetObject with Range)."""

    def __init__(self, s3: BaseClient, bucket: str, key: str) -> None:
        self._s3, self._what, self._at = s3, {"Bucket": bucket, "Key": key}, 0
        self._size: int = s3.head_object(**self._what)["ContentLength"]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self._size)
        if end <= self._at:
            return 0
        body = _content(self._s3, **self._what, Range=f"bytes={self._at}-{end - 1}")
        buffer[: len(body)] = body
        self._at += len(body)
        return len(body)


def download(s3: BaseClient, uri: str, file: IO[bytes]) -> None:
    """Copy an object into a file (S3: GetObject, in pieces if it is large).

    Raises:
        BotoCoreError, ClientError, OSError: It cannot be read, or not to its end.
    """
    from s3transfer.exceptions import RetriesExceededError

    bucket, key = split_uri(uri)
    try:
        s3.download_fileobj(bucket, key, file, Config=_one_piece_at_a_time())
    except RetriesExceededError as error:
        raise error.last_exception from None


def _one_piece_at_a_time() -> Any:
    """Return how to transfer large files: boto3's threads would hold ten pieces of 8 MB each."""
    from boto3.s3.transfer import TransferConfig

    return TransferConfig(use_threads=False)


def read_uri(s3: BaseClient, uri: str) -> bytes:
    """Return what is behind an S3 URI (S3: GetObject)."""
    bucket, key = split_uri(uri)
    return _content(s3, Bucket=bucket, Key=key)


def _is_cut(error: BaseException) -> bool:
    """Whether a connection broke while an answer was being read."""
    from botocore.exceptions import IncompleteReadError, ReadTimeoutError, ResponseStreamingError

    return isinstance(error, IncompleteReadError | ReadTimeoutError | ResponseStreamingError)


@retry(
    retry=retry_if_exception(_is_cut),
    stop=stop_after_attempt(5),
    wait=wait_random_exponential(0.2, 5),
    reraise=True,
)
def _content(s3: BaseClient, **what: str) -> bytes:
    """Return an object's content; ask again where it breaks off, which botocore itself does not."""
    body: bytes = s3.get_object(**what)["Body"].read()
    return body


def to_lines(rows: Iterable[dict[str, Any]]) -> bytes:
    r"""Return rows as JSON lines in ASCII: a lone surrogate or U+2028 in a text does no harm.

    A record inside a row becomes an object of its fields.
    """
    return b"".join(json.dumps(row, default=vars).encode() + b"\n" for row in rows)


def to_parquet(
    records: Sequence[Any], record_type: type, *, row_group_size: int | None = None
) -> bytes:
    """Return records as a parquet file with the columns of `record_type`, even without rows.

    Args:
        records: Dataclass records; their texts must be encodable.
        record_type: Their class; what is none of its columns' simple types is text.
        row_group_size: Rows that are read together; default: pyarrow's.
    """
    import pyarrow
    from pyarrow import parquet

    types = {
        int: pyarrow.int64(),
        float: pyarrow.float64(),
        bool: pyarrow.bool_(),
        datetime: pyarrow.timestamp("us", tz="UTC"),
    }
    kinds = column_types(record_type)
    schema = pyarrow.schema([(n, types.get(kind, pyarrow.string())) for n, kind in kinds.items()])
    columns = {name: [getattr(record, name) for record in records] for name in kinds}
    sink = io.BytesIO()
    table = pyarrow.table(columns, schema=schema)
    parquet.write_table(table, sink, row_group_size=row_group_size)
    return sink.getvalue()


def column_types(record_type: type) -> dict[str, type]:
    """Return a dataclass's fields in their order, each with its type, None left aside.

    Literals are str.
    """
    hints = get_type_hints(record_type)
    return {
        field.name: _without_none(hints[field.name]) for field in dataclasses.fields(record_type)
    }


def _without_none(hint: Any) -> type:
    kinds = (each for each in getattr(hint, "__args__", (hint,)) if each is not type(None))
    return next((each for each in kinds if isinstance(each, type)), str)


def split_uri(uri: str) -> tuple[str, str]:
    """Split an S3 URI.

    Example:
        >>> split_uri("s3://bucket/a/b.json")
        ('bucket', 'a/b.json')
    """
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key
