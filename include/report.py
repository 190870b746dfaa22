"""The page that people read: Summary, charts and pairs in, one self-contained HTML text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from include import parity
from include.charts import Drawing
from include.examples import Kind
from include.panels import statistics_rows
from include.parity import SettingRow
from include.preferences import ResolvedPair
from include.reconcile import severity
from include.records import (
    CategoryResult,
    Comparison,
    ModelSummary,
    Pair,
    Preference,
    RubricScore,
    Summary,
    Verdict,
)
from include.trust import trust
from include.wording import count, exact, level, listed, percent, ranks_told

TEMPLATES = Path(__file__).parent / "templates"

MOST_NAMES = 4
"""Of models that one cannot be told apart from; of more, the table says how many they are."""
LONGEST_TEXT = 20_000
"""Characters of a prompt or response that are shown."""
SHORTEST_CUT = 2_000
"""So many are shown however many pairs there are."""
MOST_TEXT = 12_000_000
"""Characters that a page has room for."""

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
    prompt: str | None
    """None, as both responses are, in a run that keeps no texts."""
    baseline: str | None
    candidate: str | None
    preference: Preference | None
    verdict_forward: Verdict | None
    verdict_backward: Verdict | None
    candidate_name: str | None = None
    """Whose pair it is, where a run has several candidates."""
    rubric: RubricScore | None = None
    """What a rubric judge scored and why."""

    @property
    def head(self) -> str:
        """What it is called in a list."""
        return self.prompt_id if self.prompt is None else self.prompt


@dataclass(frozen=True)
class ReportPairs:
    """Pairs of one kind to read, and how many of that kind there are."""

    kind: Kind
    pairs: list[ReportPair]
    total: int


@dataclass(frozen=True)
class Places:
    """Where the parts of the interval's drawing sit, in its own units; None is not drawn."""

    estimate: float | None
    low: float | None
    high: float | None
    threshold: float | None


def render(
    summary: Summary, *, drawings: Sequence[Drawing], examples: Sequence[ReportPairs]
) -> str:
    """Write the report.

    Args:
        summary: The numbers of the run.
        drawings: The charts.
        examples: Pairs to show, by kind.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    # Autoescape whatever the file is called: all that models wrote is hostile.
    templates = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pairs_shown = len(_pairs(examples))
    templates.filters.update(
        percent=lambda share: _bound(_percent(share)),
        exact=lambda share: _bound(exact(share)),
        bound=_bound,
        level=level,
        count=count,
        number=_number,
        small=_small,
        day=lambda moment: moment[:10],
        cut=partial(_cut, longest=longest_text(pairs_shown)),
    )
    return templates.get_template("report.html.j2").render(
        summary=summary,
        verdicts=VERDICTS,
        place=partial(interval_places, threshold=summary.gate.threshold),
        trust=trust,
        worst=worst_category,
        to_read=partial(first_losses, examples),
        anchor=partial(_anchor, {id(pair): n for n, pair in enumerate(_pairs(examples))}),
        duration=duration(summary.started_at, summary.ended_at),
        severity=severity,
        ranks=ranks_told,
        some=some_names,
        drawings=drawings,
        svg=Markup,
        statistics=statistics_rows,
        examples=examples,
        kinds=KINDS,
        pairs_shown=pairs_shown,
        pairs_total=sum(group.total for group in examples),
        models=model_rows(summary),
        settings=parity.table(summary.models),
        several=len(summary.comparisons) > 1,
        missing=missing_prompts,
        provenance=_flat(summary.provenance),
        unpriced=any(warning.code == "cost_unknown" for warning in summary.warnings),
    )


def report_pair(
    resolved: ResolvedPair,
    candidate_name: str | None = None,
    rubric: RubricScore | None = None,
    *,
    with_texts: bool = True,
) -> ReportPair:
    """A resolved pair as the report shows it, with its scores if a rubric judge gave any.

    Args:
        resolved: The pair.
        candidate_name: Whose it is.
        rubric: Its scores.
        with_texts: Whether its texts are shown.
    """
    pair: Pair = resolved.pair
    return ReportPair(
        prompt_id=pair.prompt_id,
        category=pair.category,
        prompt=pair.prompt if with_texts else None,
        baseline=pair.baseline if with_texts else None,
        candidate=pair.candidate if with_texts else None,
        preference=resolved.preference,
        verdict_forward=resolved.verdict("forward"),
        verdict_backward=resolved.verdict("backward"),
        candidate_name=candidate_name,
        rubric=rubric,
    )


def interval_places(comparison: Comparison, threshold: float | None = None) -> Places:
    """Return the win rate's place on a scale of 600 units that begins at 20."""
    rate = comparison.win_rate
    places = (
        None if share is None else round(20 + 600 * share, 1)
        for share in (rate.estimate, rate.low, rate.high, threshold)
    )
    return Places(*places)


def worst_category(comparison: Comparison) -> CategoryResult | None:
    """Return the category with the lowest win rate; None with fewer than two to choose from."""
    known = [each for each in comparison.by_category if each.win_rate.estimate is not None]
    if len(known) < 2:
        return None
    return min(known, key=lambda each: (each.win_rate.estimate, each.category))


def some_names(names: Sequence[str]) -> str:
    """Return names as a cell of a table has room for."""
    if len(names) > MOST_NAMES:
        return f"{len(names)} models"
    return listed(names) if names else "none"


def first_losses(examples: Sequence[ReportPairs], candidate: str) -> list[ReportPair]:
    """Return three pairs of the page that a candidate lost, if there are as many."""
    return [
        pair
        for group in examples
        for pair in group.pairs
        if group.kind == "lost" and pair.candidate_name in (None, candidate)
    ][:3]


def duration(start: str, end: str) -> str:
    """Return how long a run took, in words.

    Example:
        >>> duration("2026-01-05T06:00:00Z", "2026-01-05T08:05:10Z")
        '2 h 5 min'
    """
    seconds = datetime.fromisoformat(end) - datetime.fromisoformat(start)
    total = max(0, round(seconds.total_seconds()))
    if total < 120:
        return f"{total} s"
    hours, minutes = divmod(round(total / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _pairs(examples: Sequence[ReportPairs]) -> list[ReportPair]:
    return [pair for group in examples for pair in group.pairs]


def _anchor(numbers: Mapping[int, int], pair: ReportPair) -> str:
    """Name the place of a pair on the page: prompt ids may hold anything."""
    return f"pair-{numbers[id(pair)]}"


def longest_text(pairs: int) -> int:
    """Return how many characters of a text are shown, so that a page of many pairs still opens."""
    return max(SHORTEST_CUT, min(LONGEST_TEXT, MOST_TEXT // max(1, 3 * pairs)))


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
        "prompts": count(found.total),
        "usable responses": count(found.usable),
        "of these cut off": count(found.truncated if model.settings else None),
        "empty": count(found.empty),
        "refused": count(found.refused),
        "errors": count(found.error),
        "never asked": count(found.missing),
        "latency, median": _milliseconds(latency.median if latency else None),
        "latency, 95th percentile": _milliseconds(latency.p95 if latency else None),
        "input tokens": count(model.input_tokens),
        "output tokens": count(model.output_tokens),
        "median characters": count(model.median_characters),
        "median output tokens": count(model.median_output_tokens),
        "retries": count(model.retries),
        "taken from earlier runs": _reused(model, ended),
    }


def _milliseconds(value: float | None) -> str:
    return "not known" if value is None else f"{value:,.0f} ms"


def _reused(model: ModelSummary, ended: datetime) -> str:
    """How many responses are reused, and the age of the oldest."""
    if not model.oldest:
        return count(model.reused)
    hours = max(0, round((ended - datetime.fromisoformat(model.oldest)).total_seconds() / 3600))
    age = f"{hours} hours" if hours < 48 else f"{hours // 24} days"
    return f"{count(model.reused)}, up to {age} old"


def _cut(text: str, longest: int) -> str:
    """Keep a page readable: one text may be a book."""
    hidden = len(text) - longest
    return text if hidden <= 0 else f"{text[:longest]} [{hidden:,} more characters]"


def _percent(share: float | None) -> str:
    return "not known" if share is None else percent(share)


def _bound(text: str) -> str:
    """Keep a number and its percent sign on one line."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


def _number(value: float | None) -> str:
    """Four digits at most, without trailing zeros."""
    return "not known" if value is None else f"{value:,.4f}".rstrip("0").rstrip(".")


def _small(value: float | None) -> str:
    """Three digits that say something: money and its quantities may be tiny."""
    if value is None:
        return "not known"
    return f"{value:,.2f}" if abs(value) >= 1 else f"{value:.3g}"


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
