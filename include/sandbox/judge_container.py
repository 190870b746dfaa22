"""The judge's container: reads its two channels, judges, writes `output.tar.gz` and its log."""

from __future__ import annotations

import io
import json
import math
import random
import tarfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import yaml

from include.sandbox.judge import Judge, Judged
from include.sandbox.settings import JudgeDials

TASK = "custom|llm_judge_judge|0"
FIELDS = ("prompt", "response_A", "response_B")
MODELS = {
    "amazon.nova-micro-v1:0:128k": "nova-micro/prod",
    "amazon.nova-lite-v1:0:300k": "nova-lite/prod",
    "amazon.nova-pro-v1:0:300k": "nova-pro/prod",
}
MAX_TOKENS = 12_000
BYTES_PER_TOKEN = 4
BOOTSTRAP = 1000
LOG_GROUP = "/aws/sagemaker/TrainingJobs"

Row = dict[str, str]


class ContainerError(Exception):
    """Why a job fails: its FailureReason."""


def _refusal(message: str) -> ContainerError:
    return ContainerError(f"AlgorithmError: {message}, exit code: 1")


class JudgeContainer:
    """Does what Nova's evaluation container does for `llm_judge`."""

    def __init__(self, judge: Judge, dials: JudgeDials, endpoint_url: str) -> None:
        self._judge = judge
        self._dials = dials
        self._endpoint_url = endpoint_url

    def run(self, request: dict[str, Any]) -> bytes:
        """Judge every pair in both orders and return the archive.

        Raises:
            ContainerError: The input or the recipe is not what the container takes.
        """
        channels = {channel["ChannelName"]: channel for channel in request["InputDataConfig"]}
        lines = [f"Starting evaluation of {request['TrainingJobName']}"]
        try:
            recipe = self._recipe(channels)
            rows = self._rows(channels)
            lines.append(f"{len(rows)} pairs, each judged in both orders")
            judged = [self._judge.judge(*(row[field] for field in FIELDS)) for row in rows]
            archive = self._archive(recipe["run"]["name"], rows, judged)
            lines.append("Evaluation complete")
        except ContainerError as error:
            lines.append(str(error))
            raise
        finally:
            self._log(request["TrainingJobName"], lines)
        return archive

    def upload(self, request: dict[str, Any], archive: bytes) -> None:
        """Store the archive where the job's output belongs."""
        root = request["OutputDataConfig"]["S3OutputPath"].rstrip("/")
        bucket, key = _split(f"{root}/{request['TrainingJobName']}/output/output.tar.gz")
        self._client("s3").put_object(Bucket=bucket, Key=key, Body=archive)

    def _client(self, service: str) -> Any:
        import boto3

        return boto3.session.Session(
            aws_access_key_id="sandbox", aws_secret_access_key="sandbox", region_name="us-east-1"
        ).client(service, endpoint_url=self._endpoint_url)

    def _files(self, channel: dict[str, Any]) -> dict[str, bytes]:
        """Return what SageMaker would put into the channel's folder, by file name."""
        s3 = self._client("s3")
        bucket, prefix = _split(channel["DataSource"]["S3DataSource"]["S3Uri"])
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        try:
            keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        except s3.exceptions.ClientError as error:
            raise ContainerError(f"ClientError: Data download failed: {error}") from None
        if not keys:
            raise ContainerError(
                f"ClientError: Data download failed: No S3 objects found under S3 URL s3://{bucket}/{prefix}"
            )
        return {
            key.rsplit("/", 1)[-1]: s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            for key in keys
            if not key.endswith("/")
        }

    def _recipe(self, channels: dict[str, Any]) -> dict[str, Any]:
        if "recipe" not in channels:
            raise _refusal("no recipe channel")
        files = self._files(channels["recipe"])
        recipes = [body for name, body in files.items() if name.endswith((".yaml", ".yml"))]
        if len(recipes) != 1:
            raise _refusal(f"expected one recipe, found {sorted(files)}")
        try:
            recipe: dict[str, Any] = yaml.safe_load(recipes[0])
            run, evaluation = recipe["run"], recipe["evaluation"]
            task, model_type = evaluation["task"], run["model_type"]
        except (yaml.YAMLError, KeyError, TypeError) as error:
            raise _refusal(f"ConfigValidationError: the recipe cannot be read: {error!r}") from None
        if task != "llm_judge":
            raise _refusal(f"the sandbox judges llm_judge, not {task}")
        if (evaluation.get("strategy"), evaluation.get("metric")) != ("judge", "all"):
            raise _refusal("ConfigValidationError: llm_judge needs strategy judge and metric all")
        if MODELS.get(model_type) != run.get("model_name_or_path"):
            raise _refusal("RuntimeError: Engine core initialization failed.")
        return recipe

    def _rows(self, channels: dict[str, Any]) -> list[Row]:
        if "train" not in channels:
            raise _refusal("no train channel")
        files = self._files(channels["train"])
        if sorted(files) != ["llm_judge.jsonl"]:
            raise _refusal(f"expected one file llm_judge.jsonl, found {sorted(files)}")
        rows = []
        for number, line in enumerate(files["llm_judge.jsonl"].split(b"\n"), 1):
            if line.strip():
                rows.append(_row(number, line))
        if not rows:
            raise _refusal("llm_judge.jsonl holds no records")
        return rows

    def _archive(self, name: str, rows: Sequence[Row], judged: Sequence[Judged]) -> bytes:
        now = datetime.now(UTC)
        stamp = now.strftime("%Y-%m-%dT%H-%M-%S.%f")
        metrics = aggregate(judged, self._dials.seed)
        results = {
            "config_general": {
                "lighteval_sha": "sandbox",
                "num_fewshot_seeds": 1,
                "max_samples": None,
                "job_id": "",
                "start_time": now.timestamp(),
                "end_time": time.time(),
                "total_evaluation_time_secondes": str(time.time() - now.timestamp()),
                "model_name": "judge_model",
                "model_sha": "",
                "model_dtype": None,
                "model_size": "",
            },
            "results": {TASK: metrics, "all": metrics},
            "versions": {TASK: 0},
        }
        folder = f"{name}/eval_results"
        files = {f"{folder}/results_{stamp}.json": json.dumps(results, indent=2).encode()}
        if self._dials.details:
            zone = f"{stamp}+00-00"
            path = f"{folder}/details/judge_model/{zone}/details_{TASK}_{zone}.parquet"
            files[path] = _details(rows, judged, self._dials.seed)
        files[f"{name}/tensorboard_results/eval/events.out.tfevents.{int(time.time())}"] = b""
        return _tar(files)

    def _log(self, job: str, lines: Sequence[str]) -> None:
        logs = self._client("logs")
        stream = f"{job}/algo-1-{int(time.time())}"
        for create, request in (
            (logs.create_log_group, {"logGroupName": LOG_GROUP}),
            (logs.create_log_stream, {"logGroupName": LOG_GROUP, "logStreamName": stream}),
        ):
            try:
                create(**request)
            except logs.exceptions.ResourceAlreadyExistsException:
                continue
        now = int(time.time() * 1000)
        logs.put_log_events(
            logGroupName=LOG_GROUP,
            logStreamName=stream,
            logEvents=[{"timestamp": now, "message": line} for line in lines],
        )


def _row(number: int, line: bytes) -> Row:
    try:
        row = json.loads(line)
    except ValueError:
        raise _refusal(f"llm_judge.jsonl line {number} is not JSON") from None
    if not isinstance(row, dict) or sorted(row) != sorted(FIELDS):
        raise _refusal(f"llm_judge.jsonl line {number}: expected the fields {', '.join(FIELDS)}")
    if not all(isinstance(row[field], str) for field in FIELDS):
        raise _refusal(f"llm_judge.jsonl line {number}: every field must be a string")
    size = sum(len(row[field].encode(errors="replace")) for field in FIELDS)
    if size > MAX_TOKENS * BYTES_PER_TOKEN:
        raise _refusal(f"llm_judge.jsonl line {number} is longer than {MAX_TOKENS} tokens")
    return row


def aggregate(judged: Sequence[Judged], seed: int) -> dict[str, float]:
    """Count judgments as the container does: over both passes, with a bootstrap over judgments."""
    said = [one for pair in judged for one in pair.for_responses]
    a, b, ties = (float(said.count(letter)) for letter in "AB=")
    errors = float(said.count(None))
    decided = [letter == "B" for letter in said if letter in ("A", "B")]
    metrics = {"a_scores": a, "b_scores": b, "ties": ties, "inference_error": errors, "score": b}
    for key, letter in (
        ("a_scores", "A"),
        ("b_scores", "B"),
        ("ties", "="),
        ("inference_error", None),
    ):
        metrics[f"{key}_stderr"] = _stderr([one == letter for one in said])
    metrics["score_stderr"] = metrics["b_scores_stderr"]
    metrics["winrate"] = sum(decided) / len(decided) if decided else math.nan
    metrics["lower_rate"], metrics["upper_rate"] = _bootstrap(decided, seed)
    return metrics


def _stderr(hits: Sequence[bool]) -> float:
    share = sum(hits) / len(hits)
    return math.sqrt(share * (1 - share) / len(hits))


def _bootstrap(decided: Sequence[bool], seed: int) -> tuple[float, float]:
    if not decided:
        return math.nan, math.nan
    import numpy

    size, share = len(decided), sum(decided) / len(decided)
    draws = numpy.random.default_rng(seed).binomial(size, share, BOOTSTRAP) / size
    low, high = numpy.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def _details(rows: Sequence[Row], judged: Sequence[Judged], seed: int) -> bytes:
    import pyarrow
    from pyarrow import parquet

    table = [
        {
            "full_prompt": row["prompt"],
            "predictions": repr([_output(pair.forward), _output(pair.backward)]),
            "metrics": repr(_row_metrics(pair)),
            "specifics": repr(row),
        }
        for row, pair in zip(rows, judged, strict=True)
    ]
    random.Random(seed).shuffle(table)
    file = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(table), file)
    return file.getvalue()


def _row_metrics(pair: Judged) -> dict[str, Any]:
    said = pair.for_responses
    return {
        "forward_output": _output(pair.forward),
        "backward_output": _output(pair.backward),
        "a_scores": float(said.count("A")),
        "b_scores": float(said.count("B")),
        "ties": float(said.count("=")),
        "inference_error": float(said.count(None)),
        "score": float(said.count("B")),
    }


def _output(verdict: str | None) -> str:
    return f"[[{verdict}]]" if verdict else ""


def _tar(files: dict[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(body), int(time.time())
            tar.addfile(info, io.BytesIO(body))
    return archive.getvalue()


def _split(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key
