"""A batch job's files: JSON lines with a `modelInput` in, the same with answers or errors out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from include.sandbox.dice import chance
from include.sandbox.errors import AwsError, ContainerError
from include.sandbox.judge_container import split
from include.sandbox.s3_store import keys_below
from include.sandbox.wire import OWN_KEY

Body = dict[str, Any]
Answer = Callable[[str, Body], Body]
"""A model's id and a request's body in, the answer's body out."""


@dataclass(frozen=True)
class Record:
    """One line of an input file."""

    file: str
    """The file's name, below the input's folder."""
    id: str
    input: Body


@dataclass
class Counts:
    """A job's summary: what GetModelInvocationJob tells, and the tokens beside it."""

    total: int = 0
    success: int = 0
    error: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def add(self, line: Body) -> None:
        """Count one line of an output."""
        if "error" in line:
            self.error += 1
            return
        self.success += 1
        usage = line["modelOutput"].get("usage", {})
        self.input_tokens += usage.get("inputTokens", usage.get("input_tokens", 0))
        self.output_tokens += usage.get("outputTokens", usage.get("output_tokens", 0))

    def told(self) -> dict[str, int]:
        """Return the counts under AWS's names."""
        return {
            "totalRecordCount": self.total,
            "processedRecordCount": self.success + self.error,
            "successRecordCount": self.success,
            "errorRecordCount": self.error,
        }

    def manifest(self) -> bytes:
        """Return the content of `manifest.json.out`."""
        tokens = {"inputTokenCount": self.input_tokens, "outputTokenCount": self.output_tokens}
        return json.dumps({**self.told(), **tokens}).encode()


@dataclass
class Output:
    """What a job has answered so far."""

    counts: Counts
    lines: dict[str, list[Body]] = field(default_factory=dict)
    """By input file."""

    def add(self, record: Record, line: Body) -> None:
        """Take one answered line."""
        self.lines.setdefault(record.file, []).append(line)
        self.counts.add(line)


def input_keys(uri: str) -> list[str]:
    """Return the keys of a job's input files: of one file, or of all JSON lines in a folder."""
    bucket, key = split(uri)
    return [found for found in keys_below(bucket, key) if _belongs(found, key)]


def _belongs(found: str, key: str) -> bool:
    inside = found == key or found.startswith(f"{key.rstrip('/')}/" if key else "")
    return inside and found.endswith(".jsonl")


def parse(files: Mapping[str, bytes]) -> list[Record]:
    """Read all records; what a model is asked is not looked at.

    Raises:
        ContainerError: A line that is no record.
    """
    records = []
    for name, content in files.items():
        for number, line in enumerate(content.split(b"\n"), 1):
            if line.strip():
                records.append(_record(name, number, line))
    return records


def _record(name: str, number: int, line: bytes) -> Record:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict) or not isinstance(row.get("modelInput"), dict):
        raise ContainerError(
            f"Line {number} of {name} is not a JSON object with recordId and modelInput"
        )
    made_up = hashlib.sha256(f"{name}\0{number}".encode()).hexdigest()[:11].upper()
    return Record(name, str(row.get("recordId") or made_up), row["modelInput"])


def answered(record: Record, model: str, answer: Answer, fails: bool) -> Body:
    """Return one line of the output: an error takes the place of the answer."""
    line: Body = {"recordId": record.id, "modelInput": record.input}
    try:
        if fails:
            raise AwsError("ServiceUnavailableException", "Service unavailable", 503)
        line["modelOutput"] = answer(model, record.input)
    except AwsError as error:
        line["error"] = {"errorCode": error.status, "errorMessage": error.message}
    except Exception as error:  # the other records of the job are not to blame
        line["error"] = {"errorCode": 500, "errorMessage": f"Internal server error: {error!r}"}
    return line


class BatchFiles:
    """Reads and writes S3 as Bedrock does for a job."""

    def __init__(self, endpoint_url: str) -> None:
        self._s3 = cache(lambda: _s3_client(endpoint_url))

    def read(self, uri: str) -> dict[str, bytes]:
        """Return a job's input files by their name below the input's folder.

        Raises:
            ContainerError: There is none.
        """
        bucket, key = split(uri)
        folder = key.rpartition("/")[0] if key.endswith(".jsonl") else key.rstrip("/")
        files = {
            found.removeprefix(folder).lstrip("/"): self._body(bucket, found)
            for found in input_keys(uri)
        }
        if not files:
            raise ContainerError(f"There are no .jsonl files at {uri}")
        return files

    def write(self, folder: str, output: Output) -> None:
        """Store the answers, in an order that is not the input's, and the summary.

        Raises:
            ContainerError: There is no such bucket.
        """
        for file, lines in output.lines.items():
            mixed = sorted(lines, key=lambda line: chance(line["recordId"]))
            body = "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in mixed)
            self._put(f"{folder}/{file}.out", body.encode(errors="replace"))
        self._put(f"{folder}/manifest.json.out", output.counts.manifest())

    def _body(self, bucket: str, key: str) -> bytes:
        body: bytes = self._s3().get_object(Bucket=bucket, Key=key)["Body"].read()
        return body

    def _put(self, uri: str, body: bytes) -> None:
        from botocore.exceptions import ClientError

        bucket, key = split(uri)
        try:
            self._s3().put_object(Bucket=bucket, Key=key, Body=body)
        except ClientError as error:
            raise ContainerError(f"The output could not be written: {error}") from None


def _s3_client(endpoint_url: str) -> Any:
    import boto3

    return boto3.session.Session(
        aws_access_key_id=OWN_KEY, aws_secret_access_key="sandbox", region_name="us-east-1"
    ).client("s3", endpoint_url=endpoint_url)


def slices(records: Sequence[Record]) -> list[Sequence[Record]]:
    """Cut a job's records into pieces, between which it can be stopped."""
    step = min(100, max(1, -(-len(records) // 20)))
    return [records[start : start + step] for start in range(0, len(records), step)]
