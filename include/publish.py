"""A run folder with comparisons in, summary.json, charts and report.html in it out."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from pyarrow import BufferReader, parquet
from pydantic import TypeAdapter

from include import charts, gate, judge, reconcile, report, rubric, storage, winrate
from include.config import BedrockModel, Model, RunConfig, SageMakerModel
from include.records import (
    Comparison,
    Gate,
    Judgment,
    Notice,
    Pair,
    RubricScore,
    RunStatus,
    Summary,
    SummaryEnvironment,
)
from include.storage import RunFolder

SCHEMA_VERSION = "1.0"
PACKAGES = ("apache-airflow", "apache-airflow-providers-amazon", "boto3", "nova-judge-airflow")

COMPARISON: TypeAdapter[Comparison] = TypeAdapter(Comparison)


def publish(
    config: RunConfig, folder: RunFolder, *, dag_id: str, run_id: str, started_at: str
) -> str:
    """Write what a person and a program want to know of a run.

    A candidate without a comparison is a warning and makes the run partial, or failed if there is
    no comparison at all; what there is, is published.

    Returns:
        The URI of summary.json.
    """
    results = _results(config, folder)
    comparisons = [COMPARISON.validate_python(result["comparison"]) for result in results]
    drawings = _draw(comparisons, folder)
    summary = Summary(
        schema_version=SCHEMA_VERSION,
        status=_status(config, comparisons),
        evaluation=config.evaluation,
        dag_id=dag_id,
        run_id=run_id,
        started_at=started_at,
        ended_at=datetime.now(UTC).isoformat(timespec="seconds"),
        environment=SummaryEnvironment(
            name=config.environment.name,
            kind=config.environment.kind,
            account_id=config.environment.account_id,
            region=config.environment.region,
        ),
        provenance=_provenance(config, folder, results),
        gate=_gate(config, comparisons),
        warnings=_warnings(config, comparisons, results),
        cost=None,
        artifacts={
            "config": folder.at(storage.CONFIG),
            "report": folder.at(storage.REPORT),
            **{name: folder.at(f"charts/{name}.png") for name in drawings},
        },
        comparisons=comparisons,
    )
    page = report.render(
        summary,
        charts={_caption(name): png for name, png in drawings.items()},
        examples=_examples(config, comparisons, folder),
    )
    folder.write(storage.REPORT, page, "text/html; charset=utf-8")
    body = json.dumps(dataclasses.asdict(summary), indent=2, allow_nan=False)
    return folder.write(storage.SUMMARY, body)


def _results(config: RunConfig, folder: RunFolder) -> list[dict[str, Any]]:
    there = set(folder.names("comparisons/"))
    wanted = [f"comparisons/{candidate.name}.json" for candidate in config.candidates]
    found = [json.loads(folder.read(name)) for name in wanted if name in there]
    return [result for result in found if result is not None]  # null: taken back, to be made anew


def _status(config: RunConfig, comparisons: Sequence[Comparison]) -> RunStatus:
    if len(comparisons) == len(config.candidates):
        return "complete"
    return "partial" if comparisons else "failed"


def _gate(config: RunConfig, comparisons: Sequence[Comparison]) -> Gate:
    if not comparisons:
        undecided = config.gate.rule != "none"
        return Gate("inconclusive" if undecided else "none", "There is no comparison to decide on.")
    return gate.decide_gate(comparisons, config.gate.rule, config.gate.margin)


def _warnings(
    config: RunConfig, comparisons: Sequence[Comparison], results: Sequence[dict[str, Any]]
) -> list[Notice]:
    compared = {comparison.candidate for comparison in comparisons}
    missing = [
        Notice("comparison_missing", f"{model.name} was not compared; see its failed tasks")
        for model in config.candidates
        if model.name not in compared
    ]
    from_judge = [Notice(**warning) for result in results for warning in result["warnings"]]
    differing = [
        Notice("nova_differs", f"{comparison.candidate}: {row.metric}: {row.note}")
        for comparison in comparisons
        for row in reconcile.mismatches(comparison)
    ]
    return [*missing, *from_judge, *differing]


def _provenance(
    config: RunConfig, folder: RunFolder, results: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    digests = {"config": config.digest()}
    for key, name in (("dataset", "prompts/prompts.jsonl"), ("recipe", "recipe/recipe.yaml")):
        digests[key] = hashlib.sha256(folder.read(name)).hexdigest()
    return {
        "digests": digests,
        "judge_image": judge.image_uri(config.environment),
        "judge_image_digest": None,
        "models": {model.name: _model_id(model) for model in config.models},
        "judge_jobs": {result["comparison"]["candidate"]: result["job_arn"] for result in results},
        "versions": {name: _version(name) for name in PACKAGES},
        "git_sha": _git_sha(),
    }


def _model_id(model: Model) -> str | None:
    if isinstance(model, BedrockModel):
        return model.model_id
    if isinstance(model, SageMakerModel):
        if model.deploy:
            return model.deploy.model_id or model.deploy.model_data
        return model.endpoint_name
    return model.source


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_sha() -> str | None:
    """Return the commit of this code, None where it does not run from a git checkout."""
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def _draw(comparisons: Sequence[Comparison], folder: RunFolder) -> dict[str, bytes]:
    """Draw and store every chart; the first candidate's has the plain name."""
    if not comparisons:
        return {}
    drawings = {}
    for index, comparison in enumerate(comparisons):
        name = f"evaluation_metrics-{comparison.candidate}" if index else "evaluation_metrics"
        png = io.BytesIO()
        charts.evaluation_metrics(comparison, png)
        drawings[name] = png.getvalue()
    png = io.BytesIO()
    charts.win_rates(comparisons, png)
    drawings["win_rates"] = png.getvalue()
    for name, body in drawings.items():
        folder.write(f"charts/{name}.png", body, "image/png")
    return drawings


def _caption(name: str) -> str:
    if name == "win_rates":
        return "Win rates with their intervals, by category"
    candidate = name.removeprefix("evaluation_metrics").removeprefix("-")
    return "Six panels: judgments, win rate, preferences, lead, gauge and statistics" + (
        f" of {candidate}" if candidate else ""
    )


def _examples(
    config: RunConfig, comparisons: Sequence[Comparison], folder: RunFolder
) -> list[report.ReportPair]:
    shown = []
    for comparison in comparisons:
        name = comparison.candidate
        pairs = list(folder.read_records(f"pairs/{name}/pairs.jsonl", Pair))
        table = parquet.read_table(BufferReader(folder.read(f"judgments/{name}.parquet")))
        judgments = [Judgment(**row) for row in table.to_pylist()]
        scores = _scores(folder, name)
        candidate_name = name if len(config.candidates) > 1 else None
        shown += [
            report.report_pair(resolved, candidate_name, scores.get(resolved.pair.prompt_id))
            for resolved in winrate.resolve_pairs(pairs, judgments)
        ]
    return shown


def _scores(folder: RunFolder, candidate: str) -> dict[str, RubricScore]:
    """Return a rubric judge's scores by prompt; empty for a judge without a rubric."""
    name = f"judgments/{candidate}.rubric.jsonl"
    if name not in folder.names(name):
        return {}
    return {score.prompt_id: score for score in rubric.from_lines(folder.read(name))}
