"""Rows of a rubric judge's details in, RubricScore per pair and their means out.

Read leniently: a cell that makes no sense becomes None and is counted, it never stops a run.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from include import cells
from include.intervals import cluster_t_interval
from include.records import (
    Criterion,
    CriterionKind,
    CriterionResult,
    MarginBin,
    RubricResult,
    RubricScore,
)

MOST_CRITERIA = 50
"""Criteria that a summary lists; every one is in the run folder's rubric scores."""

MARGIN_BINS = 21

CELLS = ("weighted_score_A", "weighted_score_B", "score_margin", "criteria_breakdown")

ABSURD = 1e6
"""No score or weight is as large; sums of such numbers could leave those that JSON has."""

ROUNDING = 0.01
"""How far Nova's scores may lie from ours: it may round to two decimals."""


def read_score(row: Mapping[str, Any], prompt_id: str, unread: Counter[str]) -> RubricScore | None:
    """Read the scores of one pair.

    Args:
        row: One row of the details, its nested columns opened.
        prompt_id: Of the pair that the row is about.
        unread: Counts, by name, the cells that could not be read.

    Returns:
        None where the row holds nothing that a rubric judge writes.
    """
    if all(row.get(cell) is None for cell in CELLS):
        return None
    return RubricScore(
        prompt_id=prompt_id,
        baseline=_number(row, "weighted_score_A", unread),
        candidate=_number(row, "weighted_score_B", unread),
        margin=_number(row, "score_margin", unread),
        criteria=list(_criteria(row.get("criteria_breakdown"), unread)),
        justification=_text(row, "overall_justification", unread),
    )


def _criteria(cell: Any, unread: Counter[str]) -> Iterator[Criterion]:
    """Read criteria by name: a dict, or a list of pairs or of dicts with a name.

    A parquet struct has every pair's criteria as keys, None where a pair has them not.
    """
    found = cells.parse(cell)
    if isinstance(found, list):
        named = [_named(item) for item in found]
    elif isinstance(found, dict):
        named = list(found.items())
    else:
        unread["criteria_breakdown"] += cell not in (None, "")
        return
    for name, content in named:
        fields = cells.parse_mapping(content)
        if fields and isinstance(name, str) and name.strip():
            yield _criterion(name.strip(), fields, unread)
        else:
            unread["criteria_breakdown"] += content is not None


def _named(item: Any) -> tuple[Any, Any]:
    if isinstance(item, list | tuple) and len(item) == 2:
        return item[0], item[1]
    return cells.parse_mapping(item).get("name"), item


def _criterion(name: str, fields: Mapping[str, Any], unread: Counter[str]) -> Criterion:
    kind = _kind(fields.get("type"))
    unread["type"] += kind is None
    scores = {}
    for key in ("score_A", "score_B"):
        scores[key] = _number(fields, key, unread)
        if kind and scores[key] is not None and normalized(scores[key], kind) is None:
            unread[key] += 1
            scores[key] = None
    weight = _number(fields, "weight", unread)
    if weight is not None and weight < 0:
        unread["weight"] += 1
        weight = None
    return Criterion(
        name=name,
        kind=kind,
        weight=weight,
        description=_text(fields, "description", unread),
        baseline_score=scores["score_A"],
        candidate_score=scores["score_B"],
        baseline_justification=_text(fields, "justification_A", unread),
        candidate_justification=_text(fields, "justification_B", unread),
    )


def _kind(value: Any) -> CriterionKind | None:
    word = value.lower() if isinstance(value, str) else ""
    if "binary" in word or "bool" in word:
        return "binary"
    return "scale" if "scale" in word or "likert" in word else None


def _number(row: Mapping[str, Any], key: str, unread: Counter[str]) -> float | None:
    value = cells.loose_number(row.get(key))
    if value is not None and abs(value) > ABSURD:
        value = None
    unread[key] += value is None and row.get(key) not in (None, "")
    return value


def _text(row: Mapping[str, Any], key: str, unread: Counter[str]) -> str | None:
    value = row.get(key)
    unread[key] += value is not None and not isinstance(value, str)
    return cells.text(value)


def normalized(score: float | None, kind: CriterionKind | None) -> float | None:
    """Bring a score to 0 to 1 as Nova does: a scale's 1 to 5 evenly, a binary one as it is.

    Returns:
        None for a score that the kind does not have.

    Example:
        >>> normalized(4, "scale"), normalized(1, "binary"), normalized(6, "scale")
        (0.75, 1.0, None)
    """
    if score is None or kind is None:
        return None
    if kind == "binary":
        return float(score) if score in (0, 1) else None
    return (score - 1) / 4 if 1 <= score <= 5 else None


def weighted(criteria: Sequence[Criterion], role: str) -> list[float]:
    """Compute the weighted score of one response from its criteria.

    Args:
        criteria: Of one pair.
        role: `baseline` or `candidate`.

    Returns:
        Two readings of AWS's "weighted sum": as it is, and for weights that do not add up to 1.
        Empty where a weight or a score is not known.
    """
    scores = [normalized(getattr(each, f"{role}_score"), each.kind) for each in criteria]
    known = [
        (each.weight, score)
        for each, score in zip(criteria, scores, strict=True)
        if each.weight is not None and score is not None
    ]
    total = sum(weight for weight, _ in known)
    if len(known) < len(criteria) or not total:
        return []
    points = sum(weight * score for weight, score in known)
    return [points, points / total]


def summarize(
    scores: Sequence[RubricScore], units: Mapping[str, str], confidence_level: float
) -> RubricResult | None:
    """Take the means of all scores; None without any.

    Args:
        scores: Of one comparison.
        units: What each prompt is independent of all others with, by the prompt's id.
        confidence_level: Of the interval of each criterion's lead; they are adjusted for nothing.
    """
    if not scores:
        return None
    by_name: defaultdict[str, list[tuple[str, Criterion]]] = defaultdict(list)
    for score in scores:
        for criterion in score.criteria:
            unit = units.get(score.prompt_id, score.prompt_id)
            by_name[_key(criterion.name)].append((unit, criterion))
    results = [_result(name, uses, confidence_level) for name, uses in by_name.items()]
    results.sort(key=lambda result: (-result.pairs, result.name))
    return RubricResult(
        pairs=len(scores),
        baseline=mean(score.baseline for score in scores),
        candidate=mean(score.candidate for score in scores),
        margin=mean(score.margin for score in scores),
        criteria=results[:MOST_CRITERIA],
        criteria_omitted=max(0, len(results) - MOST_CRITERIA),
        margins=_margin_bins([score.margin for score in scores if score.margin is not None]),
    )


def _margin_bins(margins: Sequence[float]) -> list[MarginBin]:
    """Count margins in equal bins around -1, ..., 0, ..., 1; what lies outside counts at the ends.

    The bin around 0 is on nobody's side.
    """
    steps = (MARGIN_BINS - 1) // 2
    # What lies between two bins belongs to the one nearer to 0: margins come in round numbers.
    found = (
        math.copysign(math.ceil(abs(margin) * steps - 0.5 - 1e-9), margin) for margin in margins
    )
    places = Counter(int(max(-steps, min(steps, place))) for place in found)
    return [
        MarginBin((n - 0.5) / steps, (n + 0.5) / steps, places[n]) for n in range(-steps, steps + 1)
    ]


def _key(name: str) -> str:
    """One spelling for `Factual_Accuracy` and `factual accuracy`."""
    return " ".join(name.replace("_", " ").replace("-", " ").casefold().split())


def _result(
    name: str, uses: Sequence[tuple[str, Criterion]], confidence_level: float
) -> CriterionResult:
    kinds = {each.kind for _, each in uses}
    both = [
        (baseline, candidate, unit)
        for unit, each in uses
        if (baseline := normalized(each.baseline_score, each.kind)) is not None
        and (candidate := normalized(each.candidate_score, each.kind)) is not None
    ]
    # A lead from -1 to 1 is a score from 0 to 1, stretched.
    halves = [(candidate - baseline + 1) / 2 for baseline, candidate, _ in both]
    found = cluster_t_interval(halves, [unit for *_, unit in both], confidence_level)
    lead, low, high = (
        None if share is None else 2 * share - 1
        for share in (found.estimate, found.low, found.high)
    )
    return CriterionResult(
        name=name,
        kind=kinds.pop() if len(kinds) == 1 else None,
        pairs=len(both),
        weight=mean(each.weight for _, each in uses),
        baseline=mean(baseline for baseline, *_ in both),
        candidate=mean(candidate for _, candidate, _ in both),
        lead=lead,
        low=low,
        high=high,
    )


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are known; None if none is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def from_lines(body: bytes) -> list[RubricScore]:
    """Read scores that a run folder's `write_records` has stored."""
    rows = [json.loads(line) for line in body.splitlines()]
    return [
        RubricScore(**{**row, "criteria": [Criterion(**each) for each in row["criteria"]]})
        for row in rows
    ]
