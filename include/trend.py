"""Verdicts over time: a summary in, one flat row per comparison on S3 out, and back.

The rows are a contract with other tools: columns are added, never renamed or removed. One object
holds the rows of one run, named by the run, so that writing them again changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from include.records import Comparison, ModelSummary, Summary
from include.storage import RunFolder, column_types, to_parquet


@dataclass(frozen=True)
class TrendRow:
    """One comparison of one run. Shares are from 0 to 1; null is not known, never 0."""

    evaluation: str
    candidate: str
    baseline: str
    started_at: datetime
    ended_at: datetime
    dag_id: str
    run_id: str
    run_folder: str
    status: str
    environment: str
    environment_kind: str
    account_id: str
    region: str
    verdict: str
    gate: str
    """Of the run."""
    win_rate: float | None
    low: float | None
    high: float | None
    confidence_level: float
    standard_error: float | None
    evidence: str
    prompts: int
    pairs: int | None
    candidate_wins: int | None
    baseline_wins: int | None
    ties: int | None
    inconsistent: int | None
    judgments: int
    inference_errors: int
    baseline_failed: int
    candidate_failed: int
    consistency: float | None
    preference_for_a: float | None
    change: float | None
    """Win rate minus that of the accepted run on the prompts that both have, from -1 to 1."""
    change_low: float | None
    change_high: float | None
    baseline_model: str | None
    candidate_model: str | None
    config_digest: str | None
    dataset_digest: str | None
    recipe_digest: str | None
    judge_image: str | None
    judge_image_digest: str | None
    judge_change: float | None
    """Of the anchor pairs' win rate since the accepted run, from -1 to 1; null: not known."""
    judge_change_low: float | None
    judge_change_high: float | None
    cost: float | None
    """Of the run, actual if known, else estimated."""
    currency: str | None
    cost_per_verdict: float | None
    """Of the run, shared by its comparisons."""


BREAKS = {
    "environment": "environment",
    "baseline": "baseline",
    "baseline_model": "baseline's model",
    "candidate_model": "candidate's model",
    "dataset_digest": "prompts",
    "recipe_digest": "recipe",
    "judge_image": "judge image",
    "judge_image_digest": "judge image's digest",
}
"""Columns that end a line: what is before and after a change of these is not the same question."""


def write(output: RunFolder, summary: Summary, folder: RunFolder) -> str | None:
    """Store the rows of a run; return where, None if nothing was compared.

    Args:
        output: The environment's `output_s3_uri`.
        summary: Of the run.
        folder: Of the run.
    """
    found = rows(summary, folder)
    if not found:
        return None
    name = name_of(summary.evaluation, folder.uri.rpartition("/")[2])
    return output.write(name, to_parquet(found, TrendRow), "application/vnd.apache.parquet")


def rows(summary: Summary, folder: RunFolder) -> list[TrendRow]:
    """Return the rows of a run: one for each comparison."""
    return [_row(summary, comparison, folder) for comparison in summary.comparisons]


def name_of(evaluation: str, run_slug: str) -> str:
    """Return the name of a run's rows, below the environment's `output_s3_uri`."""
    return f"{_home(evaluation)}{run_slug}.parquet"


def run_slugs(output: RunFolder, evaluation: str) -> list[str]:
    """Return the names of the run folders that an evaluation has rows of, sorted."""
    there = output.names(_home(evaluation))
    return [name.rpartition("/")[2].removesuffix(".parquet") for name in there]


def read(output: RunFolder, evaluation: str) -> list[TrendRow]:
    """Return all rows of an evaluation, the oldest first."""
    found = [row for name in output.names(_home(evaluation)) for row in _rows(output.read(name))]
    return sorted(found, key=lambda row: (row.started_at, row.run_id, row.candidate))


def runs_since(output: RunFolder, evaluation: str, started_at: str) -> int:
    """Count the runs of an evaluation that started after a moment, by their rows.

    Only rows that were written since then are read: no other run can have started later.
    """
    since = _moment(started_at)
    second = since.replace(microsecond=0)  # S3 tells no fractions
    names = [name for name, at in output.written(_home(evaluation)).items() if at >= second]
    rows = (row for name in names for row in _rows(output.read(name)))
    return len({row.run_id for row in rows if row.started_at > since})


def breaks(before: TrendRow, after: TrendRow) -> list[str]:
    """Name what has changed between two rows of one candidate, the verdict aside."""
    found = ((name, getattr(before, key), getattr(after, key)) for key, name in BREAKS.items())
    return [name for name, then, now in found if then != now and not _unknown(name, then, now)]


def _unknown(name: str, *digests: str | None) -> bool:
    """Whether nobody can say that an image is another: one of its digests is not known."""
    return name == BREAKS["judge_image_digest"] and None in digests


def lines(rows: Sequence[TrendRow]) -> Iterator[tuple[TrendRow, list[str]]]:
    """Yield every row with what has changed since the same candidate's last one."""
    last: dict[str, TrendRow] = {}
    for row in rows:
        earlier = last.get(row.candidate)
        yield row, breaks(earlier, row) if earlier else []
        last[row.candidate] = row


def _home(evaluation: str) -> str:
    return f"history/{evaluation}/"


def _row(summary: Summary, comparison: Comparison, folder: RunFolder) -> TrendRow:
    where, rate, counts = summary.environment, comparison.win_rate, comparison.counts
    digests = summary.provenance.get("digests", {})
    models = {model.name: model for model in summary.models}
    change, cost, judge = comparison.change, summary.cost, summary.judge_change
    paid = (cost.estimated if cost.actual is None else cost.actual) if cost else None
    return TrendRow(
        evaluation=summary.evaluation,
        candidate=comparison.candidate,
        baseline=comparison.baseline,
        started_at=_moment(summary.started_at),
        ended_at=_moment(summary.ended_at),
        dag_id=summary.dag_id,
        run_id=summary.run_id,
        run_folder=folder.uri,
        status=summary.status,
        environment=where.name,
        environment_kind=where.kind,
        account_id=where.account_id,
        region=where.region,
        verdict=comparison.verdict,
        gate=summary.gate.outcome,
        win_rate=rate.estimate,
        low=rate.low,
        high=rate.high,
        confidence_level=rate.confidence_level,
        standard_error=rate.standard_error,
        evidence=comparison.evidence,
        prompts=counts.prompts,
        pairs=counts.pairs,
        candidate_wins=counts.candidate_wins,
        baseline_wins=counts.baseline_wins,
        ties=counts.ties,
        inconsistent=counts.inconsistent,
        judgments=counts.judgments,
        inference_errors=counts.inference_errors,
        baseline_failed=counts.generation_errors.baseline,
        candidate_failed=counts.generation_errors.candidate,
        consistency=comparison.position.consistency,
        preference_for_a=comparison.position.preference_for_a,
        change=change.difference if change else None,
        change_low=change.low if change else None,
        change_high=change.high if change else None,
        baseline_model=_model_id(models.get(comparison.baseline)),
        candidate_model=_model_id(models.get(comparison.candidate)),
        config_digest=digests.get("config"),
        dataset_digest=digests.get("dataset"),
        recipe_digest=digests.get("recipe"),
        judge_image=summary.provenance.get("judge_image"),
        judge_image_digest=summary.provenance.get("judge_image_digest"),
        judge_change=judge.difference if judge else None,
        judge_change_low=judge.low if judge else None,
        judge_change_high=judge.high if judge else None,
        cost=paid,
        currency=cost.currency if cost else None,
        cost_per_verdict=None if paid is None else paid / len(summary.comparisons),
    )


def _model_id(model: ModelSummary | None) -> str | None:
    return model.model_id if model else None


def _moment(iso: str) -> datetime:
    return datetime.fromisoformat(iso).astimezone(UTC)


def columns() -> dict[str, type]:
    """Return the columns in their order, each with its type: str, int, float or datetime."""
    return column_types(TrendRow)


def _rows(body: bytes) -> Iterator[TrendRow]:
    """Read rows; columns that this version does not know are left out, absent ones are null."""
    from pyarrow import BufferReader, parquet

    names = columns()
    for row in parquet.ParquetFile(BufferReader(body)).read().to_pylist():
        yield TrendRow(**{name: row.get(name) for name in names})
