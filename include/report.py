"""The page that people read: Summary, charts and pairs in, one self-contained HTML text out."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from include import parity
from include.examples import Kind
from include.parity import SettingRow
from include.reconcile import contradictions, severity
from include.records import (
    Comparison,
    ModelSummary,
    Pair,
    Preference,
    RubricScore,
    Summary,
    Verdict,
)
from include.winrate import ResolvedPair, percent

TEMPLATES = Path(__file__).parent / "templates"

LONGEST_TEXT = 20_000
"""Characters of a prompt or response that are shown: a page has room for 150 of them."""

VERDICTS = {
    "candidate_better": "candidate better",
    "baseline_better": "baseline better",
    "inconclusive": "inconclusive",
}


KINDS: dict[Kind, str] = {
    "lost": "Pairs that the candidate lost",
    "disagreement": "Pairs on which the judge disagrees with itself",
    "no_verdict": "Pairs without a verdict of their own",
    "too_long": "Pairs that are too long for the judge",
    "baseline_failed": "Prompts that the baseline failed on",
    "candidate_failed": "Prompts that the candidate failed on",
    "both_failed": "Prompts that both failed on",
    "won": "Pairs that the candidate won",
    "tie": "Pairs that the judge calls a tie",
    "identical": "Pairs with identical responses",
}


@dataclass(frozen=True)
class ReportPair:
    """A pair to read, with what the judge said about it in both orders."""

    prompt_id: str
    category: str | None
    prompt: str
    baseline: str | None
    candidate: str | None
    preference: Preference | None
    verdict_forward: Verdict | None
    verdict_backward: Verdict | None
    candidate_name: str | None = None
    """Whose pair it is, where a run has several candidates."""
    rubric: RubricScore | None = None
    """What a rubric judge scored and why."""


@dataclass(frozen=True)
class ReportPairs:
    """Pairs of one kind to read, and how many of that kind there are."""

    kind: Kind
    pairs: list[ReportPair]
    total: int


@dataclass(frozen=True)
class IntervalDrawing:
    """Where the parts of the inline drawing sit, in its own units; None is not drawn."""

    estimate: float | None
    low: float | None
    high: float | None


def render(
    summary: Summary, *, charts: Mapping[str, bytes], examples: Sequence[ReportPairs]
) -> str:
    """Write the report.

    Args:
        summary: The numbers of the run.
        charts: PNGs by the text that describes them to those who cannot see them.
        examples: Pairs to show, by kind.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    # Autoescape whatever the file is called: all that models wrote is hostile.
    templates = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(percent=_percent, count=_count, number=_number, cut=_cut)
    return templates.get_template("report.html.j2").render(
        summary=summary,
        verdicts=VERDICTS,
        drawing=interval_drawing,
        contradictions=contradictions,
        severity=severity,
        charts={alt: base64.b64encode(png).decode("ascii") for alt, png in charts.items()},
        examples=examples,
        kinds=KINDS,
        pairs_shown=sum(len(group.pairs) for group in examples),
        pairs_total=sum(group.total for group in examples),
        models=model_rows(summary),
        settings=parity.table(summary.models),
        several=len(summary.comparisons) > 1,
        missing=missing_prompts,
        provenance=_flat(summary.provenance),
    )


def report_pair(
    resolved: ResolvedPair,
    candidate_name: str | None = None,
    rubric: RubricScore | None = None,
) -> ReportPair:
    """A resolved pair as the report shows it, with its scores if a rubric judge gave any."""
    pair: Pair = resolved.pair
    return ReportPair(
        prompt_id=pair.prompt_id,
        category=pair.category,
        prompt=pair.prompt,
        baseline=pair.baseline,
        candidate=pair.candidate,
        preference=resolved.preference,
        verdict_forward=resolved.verdict("forward"),
        verdict_backward=resolved.verdict("backward"),
        candidate_name=candidate_name,
        rubric=rubric,
    )


def interval_drawing(comparison: Comparison) -> IntervalDrawing:
    """The win rate's place on a scale of 600 units that begins at 20."""
    rate = comparison.win_rate

    def place(share: float | None) -> float | None:
        return None if share is None else round(20 + 600 * share, 1)

    return IntervalDrawing(place(rate.estimate), place(rate.low), place(rate.high))


def missing_prompts(comparison: Comparison) -> int | None:
    """Prompts without a preference; None where aggregate evidence cannot tell."""
    counts = comparison.counts
    return None if counts.pairs is None else max(0, counts.prompts - counts.pairs)


def model_rows(summary: Summary) -> list[SettingRow]:
    """What became of each model's responses, as rows of a table with a column per model."""
    ended = datetime.fromisoformat(summary.ended_at)
    columns = [_model_column(model, ended) for model in summary.models]
    return [
        SettingRow(name, [column[name] for column in columns], [False] * len(columns))
        for name in (columns[0] if columns else ())
    ]


def _model_column(model: ModelSummary, ended: datetime) -> dict[str, str]:
    found, latency = model.responses, model.latency_ms
    return {
        "role": model.role,
        "provider": model.provider,
        "model": model.model_id or "not known",
        "prompts": _count(found.total),
        "usable responses": _count(found.usable),
        "of these cut off": _count(found.truncated if model.settings else None),
        "empty": _count(found.empty),
        "refused": _count(found.refused),
        "errors": _count(found.error),
        "never asked": _count(found.missing),
        "latency, median": _milliseconds(latency.median if latency else None),
        "latency, 95th percentile": _milliseconds(latency.p95 if latency else None),
        "input tokens": _count(model.input_tokens),
        "output tokens": _count(model.output_tokens),
        "median characters": _count(model.median_characters),
        "median output tokens": _count(model.median_output_tokens),
        "retries": _count(model.retries),
        "taken from earlier runs": _reused(model, ended),
    }


def _milliseconds(value: float | None) -> str:
    return "not known" if value is None else f"{value:,.0f} ms"


def _reused(model: ModelSummary, ended: datetime) -> str:
    """How many responses are reused, and the age of the oldest."""
    if not model.oldest:
        return _count(model.reused)
    hours = max(0, round((ended - datetime.fromisoformat(model.oldest)).total_seconds() / 3600))
    age = f"{hours} hours" if hours < 48 else f"{hours // 24} days"
    return f"{_count(model.reused)}, up to {age} old"


def _cut(text: str) -> str:
    """Keep a page readable: one text may be a book."""
    hidden = len(text) - LONGEST_TEXT
    return text if hidden <= 0 else f"{text[:LONGEST_TEXT]} [{hidden:,} more characters]"


def _percent(share: float | None) -> str:
    return "not known" if share is None else percent(share)


def _count(value: float | None) -> str:
    return "not known" if value is None else f"{value:,.0f}"


def _number(value: float | None) -> str:
    """Four digits at most, without trailing zeros."""
    return "not known" if value is None else f"{value:,.4f}".rstrip("0").rstrip(".")


def _flat(tree: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """Nested provenance as rows."""
    rows: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            rows |= _flat(value, f"{prefix}{key} / ")
        elif isinstance(value, list | tuple):
            rows[f"{prefix}{key}"] = ", ".join(str(item) for item in value)
        elif value is not None:
            rows[f"{prefix}{key}"] = str(value)
    return rows
