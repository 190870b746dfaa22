"""The judge's container: reads its two channels, judges, writes `output.tar.gz` and its log."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from multiprocessing.pool import IMapIterator, ThreadPool
from typing import Any

from include.sandbox import logs
from include.sandbox.errors import ContainerError, refusal
from include.sandbox.judge import Judge
from include.sandbox.judge_archive import JudgedRow, archive
from include.sandbox.judge_input import FIELDS, Row, read_recipe, read_rows
from include.sandbox.openai_backend import ServerError
from include.sandbox.rubric import assess
from include.sandbox.settings import JudgeDials
from include.sandbox.wire import OWN_KEY

Request = dict[str, Any]
Files = Mapping[str, Mapping[str, bytes]]

CHUNKS = 10
"""How often a job writes into its log how far it is."""
LOOK_EVERY = 1.0
"""Seconds after which a job that judges looks whether it is to end."""
REASONS = 10
"""Passes without a verdict that the log gives the reasons of."""


class JudgeContainer:
    """Does what Nova's evaluation container does for `llm_judge` and `rubric_llm_judge`."""

    def __init__(self, judge: Judge, dials: JudgeDials, endpoint_url: str) -> None:
        self._judge = judge
        self._dials = dials
        self._s3 = cache(lambda: _s3_client(endpoint_url))

    def download(self, request: Request) -> Files:
        """Return what SageMaker puts into the channels' folders, by channel and path.

        Raises:
            ContainerError: A channel that cannot be read, or is empty.
        """
        return {
            channel["ChannelName"]: self._files(channel)
            for channel in request.get("InputDataConfig", [])
        }

    def run(
        self, request: Request, files: Files, region: str, go_on: Callable[[float], object]
    ) -> bytes:
        """Judge every pair in both orders and return the archive.

        Args:
            request: The job's.
            files: What `download` returned.
            region: Of the job, and of its log.
            go_on: Called with the share of the work that is done, 0 to 1; it takes the time that
                the job takes, and raises when the job is to end.

        Raises:
            ContainerError: The input or the recipe is not what the container takes.
        """
        log = JobLog(request["TrainingJobName"], region)
        log.write(f"Starting evaluation of {request['TrainingJobName']}")
        try:
            for channel in ("recipe", "train"):
                if channel not in files:
                    raise refusal(f"no {channel} channel")
            recipe, rows = read_recipe(files["recipe"], request), read_rows(files["train"])
            task = recipe["evaluation"]["task"]
            log.write(f"{len(rows)} pairs, each judged in both orders")
            judged = self._judge_all(task, rows, log, go_on)
            packed = archive(
                recipe["run"]["name"],
                task,
                judged,
                details=bool(self._dials.details),
                seed=self._dials.seed,
            )
        except ServerError as error:
            failure = refusal(f"the judge cannot be asked: {error}")
            log.write(str(failure))
            raise failure from None
        except ContainerError as error:
            log.write(str(error))
            raise
        log.write("Evaluation complete")
        return packed

    def upload(self, request: Request, packed: bytes) -> None:
        """Store the archive where the job's output belongs.

        Raises:
            ContainerError: There is no such bucket.
        """
        from botocore.exceptions import ClientError

        bucket, key = split(f"{output_prefix(request)}/output.tar.gz")
        try:
            self._s3().put_object(Bucket=bucket, Key=key, Body=packed)
        except ClientError as error:
            raise ContainerError(f"ClientError: Artifact upload failed: {error}") from None

    def _judge_all(
        self, task: str, rows: Sequence[Row], log: JobLog, go_on: Callable[[float], object]
    ) -> list[JudgedRow]:
        """Judge all pairs, in their order; a job that is to end waits for no answer.

        Raises:
            ServerError: A real judge cannot be asked.
        """
        judged: list[JudgedRow] = []
        step, told = -(-len(rows) // CHUNKS), 0
        with ThreadPool(self._judge.at_once) as pool:
            checked = pool.apply_async(self._judge.check)
            while not checked.ready():
                go_on(0.0)
                checked.wait(LOOK_EVERY)
            checked.get()
            results = pool.imap(partial(self._judged, task), rows)
            for row in _as_they_come(results, lambda: go_on(len(judged) / len(rows))):
                judged.append(row)
                if row.judged.reasons and told < REASONS:
                    told += 1
                    log.write(f"Pair {len(judged)}: {'; '.join(row.judged.reasons)}")
                if len(judged) % step == 0 or len(judged) == len(rows):
                    log.write(f"{len(judged)} of {len(rows)} pairs judged")
                    go_on(len(judged) / len(rows))
        return judged

    def _judged(self, task: str, row: Row) -> JudgedRow:
        prompt, a, b = (row[field] for field in FIELDS)
        judged = self._judge.judge(prompt, a, b, task)
        rubric = assess(prompt, a, b, judged) if task == "rubric_llm_judge" else None
        return JudgedRow(row, judged, rubric)

    def _files(self, channel: Request) -> dict[str, bytes]:
        from botocore.exceptions import ClientError

        s3 = self._s3()
        bucket, prefix = split(channel["DataSource"]["S3DataSource"]["S3Uri"])
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        try:
            keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        except ClientError as error:
            raise ContainerError(f"ClientError: Data download failed: {error}") from None
        if not keys:
            raise ContainerError(
                "ClientError: Data download failed: No S3 objects found under S3 URL "
                f"s3://{bucket}/{prefix}"
            )
        return {
            _below(prefix, key): s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            for key in keys
            if not key.endswith("/")
        }


def _as_they_come(
    results: IMapIterator[JudgedRow], look: Callable[[], object]
) -> Iterator[JudgedRow]:
    """Yield results in order; look up from the work every now and then, also while none comes."""
    looked = time.monotonic()
    while True:
        try:
            yield results.next(LOOK_EVERY)
        except StopIteration:
            return
        except multiprocessing.TimeoutError:
            pass
        if time.monotonic() > looked + LOOK_EVERY:
            look()
            looked = time.monotonic()


class JobLog:
    """The log stream of a job's only instance."""

    def __init__(self, job: str, region: str) -> None:
        self._region = region
        self._stream = f"{job}/algo-1-{int(time.time())}"

    def write(self, line: str) -> None:
        """Append a line."""
        logs.write(self._region, logs.JOBS, self._stream, [line])


def output_prefix(request: Request) -> str:
    """Return the S3 URI below which a job's archives go."""
    root = request["OutputDataConfig"]["S3OutputPath"].rstrip("/")
    return f"{root}/{request['TrainingJobName']}/output"


def split(uri: str) -> tuple[str, str]:
    """Split an S3 URI into bucket and key."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def _below(prefix: str, key: str) -> str:
    """Return a file's path in its channel's folder; the prefix may be a folder or a file."""
    if key.startswith(f"{prefix.rstrip('/')}/"):
        return key.removeprefix(prefix).lstrip("/")
    return key[len(prefix.rpartition("/")[0]) :].lstrip("/")


def _s3_client(endpoint_url: str) -> Any:
    import boto3

    return boto3.session.Session(
        aws_access_key_id=OWN_KEY, aws_secret_access_key="sandbox", region_name="us-east-1"
    ).client("s3", endpoint_url=endpoint_url)
