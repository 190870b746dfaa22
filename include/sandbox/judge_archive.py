"""Judged pairs in, `output.tar.gz` in Nova's layout out."""

from __future__ import annotations

import io
import json
import math
import random
import statistics
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from include.sandbox.judge import Judged
from include.sandbox.judge_input import Row
from include.sandbox.rubric import Rubric, written

BOOTSTRAP = 1000
FOLDERS = {"llm_judge": "judge_model", "rubric_llm_judge": "rubric_judge_model"}
"""Folder of the details, by task."""


@dataclass(frozen=True)
class JudgedRow:
    """One pair with its verdicts, and its rubric if the task makes one."""

    row: Row
    judged: Judged
    rubric: Rubric | None = None


def task_key(task: str) -> str:
    """Return the task's name in results and details."""
    return f"custom|{task}_judge|0"


def archive(name: str, task: str, rows: Sequence[JudgedRow], *, details: bool, seed: int) -> bytes:
    """Pack what the container leaves behind.

    Args:
        name: The recipe's `run.name`.
        task: The recipe's task.
        rows: All pairs.
        details: Whether to add the per-pair details.
        seed: Of the bootstrap, and of the order of the details.
    """
    now = datetime.now(UTC)
    stamp = now.strftime("%Y-%m-%dT%H-%M-%S.%f")
    key, folder = task_key(task), f"{name}/eval_results"
    results = _results(key, FOLDERS[task], now, aggregate(rows, seed))
    files = {f"{folder}/results_{stamp}.json": json.dumps(results, indent=2).encode()}
    if details:
        zone = f"{stamp}+00-00"
        path = f"{folder}/details/{FOLDERS[task]}/{zone}/details_{key}_{zone}.parquet"
        files[path] = _details(rows, seed)
    files[f"{name}/tensorboard_results/eval/events.out.tfevents.{int(time.time())}"] = b""
    return _tar(files)


def _results(key: str, model: str, now: datetime, metrics: dict[str, float]) -> dict[str, Any]:
    return {
        "config_general": {
            "lighteval_sha": "sandbox",
            "num_fewshot_seeds": 1,
            "max_samples": None,
            "job_id": "",
            "start_time": now.timestamp(),
            "end_time": time.time(),
            "total_evaluation_time_secondes": str(time.time() - now.timestamp()),
            "model_name": model,
            "model_sha": "",
            "model_dtype": None,
            "model_size": "",
        },
        "results": {key: metrics, "all": metrics},
        "versions": {key: 0},
    }


def aggregate(rows: Sequence[JudgedRow], seed: int) -> dict[str, float]:
    """Count judgments as the container does: over both passes, with a bootstrap over judgments."""
    said = [one for row in rows for one in row.judged.for_responses]
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
        metrics[f"{key}_stderr"] = _share_stderr([one == letter for one in said])
    metrics["score_stderr"] = metrics["b_scores_stderr"]
    metrics["winrate"] = sum(decided) / len(decided) if decided else math.nan
    metrics["lower_rate"], metrics["upper_rate"] = _bootstrap(decided, seed)
    return metrics | _rubric_metrics([row.rubric for row in rows if row.rubric])


def _share_stderr(hits: Sequence[bool]) -> float:
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


def _rubric_metrics(rubrics: Sequence[Rubric]) -> dict[str, float]:
    """Average both weighted scores and their margin over the pairs that have them."""
    if not rubrics:
        return {}
    weighted = [scores for rubric in rubrics if (scores := rubric.weighted())]
    columns = {
        "weighted_score_A": [a for a, _ in weighted],
        "weighted_score_B": [b for _, b in weighted],
        "score_margin": [a - b for a, b in weighted],
    }
    metrics = {}
    for key, values in columns.items():
        metrics[key] = statistics.fmean(values) if values else math.nan
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        metrics[f"{key}_stderr"] = spread / math.sqrt(len(values)) if values else math.nan
    return metrics


def _details(rows: Sequence[JudgedRow], seed: int) -> bytes:
    import pyarrow
    from pyarrow import parquet

    table = [
        {
            "full_prompt": row.row["prompt"],
            "gold": "",
            "predictions": repr(_outputs(row)),
            "pred_logits": "[]",
            "metrics": repr(_row_metrics(row)),
            "specifics": repr(row.row),
        }
        for row in rows
    ]
    random.Random(seed).shuffle(table)
    file = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(table), file)
    return file.getvalue()


def _row_metrics(row: JudgedRow) -> dict[str, Any]:
    said, (forward, backward) = row.judged.for_responses, _outputs(row)
    metrics: dict[str, Any] = {
        "forward_output": forward,
        "backward_output": backward,
        "a_scores": float(said.count("A")),
        "b_scores": float(said.count("B")),
        "ties": float(said.count("=")),
        "inference_error": float(said.count(None)),
        "score": float(said.count("B")),
    }
    if row.rubric is None:
        return metrics
    a, b = row.rubric.weighted() or (None, None)
    return {
        "predictions": [forward, backward],
        **metrics,
        "weighted_score_A": a,
        "weighted_score_B": b,
        "score_margin": row.rubric.margin(),
        "overall_justification": row.rubric.justification(),
        "criteria_breakdown": row.rubric.as_dict(),
    }


def _outputs(row: JudgedRow) -> list[str]:
    """Return what the judge wrote in the forward and in the backward pass."""
    judged, rubric = row.judged, row.rubric
    if rubric is None:
        return [f"[[{v}]]" if v else "" for v in (judged.forward, judged.backward)]
    return [written(rubric, judged.forward), written(rubric.turned(), judged.backward)]


def _tar(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(body), int(time.time())
            tar.addfile(info, io.BytesIO(body))
    return packed.getvalue()
