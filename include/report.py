"""The page that people read: Summary, charts and pairs in, one self-contained HTML text out."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from include.reconcile import contradictions, severity
from include.records import Comparison, Pair, Preference, RubricScore, Summary, Verdict
from include.winrate import ResolvedPair, percent

TEMPLATES = Path(__file__).parent / "templates"
LOSSES_SHOWN = 20

VERDICTS = {
    "candidate_better": "candidate better",
    "baseline_better": "baseline better",
    "inconclusive": "inconclusive",
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
class IntervalDrawing:
    """Where the parts of the inline drawing sit, in its own units; None is not drawn."""

    estimate: float | None
    low: float | None
    high: float | None


def render(summary: Summary, *, charts: Mapping[str, bytes], examples: Sequence[ReportPair]) -> str:
    """Write the report.

    Args:
        summary: The numbers of the run.
        charts: PNGs by the text that describes them to those who cannot see them.
        examples: Pairs; those that the candidate lost are shown, at most 20.
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
    templates.filters.update(percent=_percent, count=_count, number=_number)
    losses = [pair for pair in examples if pair.preference == "baseline"]
    return templates.get_template("report.html.j2").render(
        summary=summary,
        verdicts=VERDICTS,
        drawing=interval_drawing,
        contradictions=contradictions,
        severity=severity,
        charts={alt: base64.b64encode(png).decode("ascii") for alt, png in charts.items()},
        losses=losses[:LOSSES_SHOWN],
        losses_hidden=max(0, len(losses) - LOSSES_SHOWN),
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
