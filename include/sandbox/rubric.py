"""A judged pair in, the rubric that explains it out: criteria, weights, scores, justifications.

The verdicts come from the judge's two passes; criteria and scores are made from the texts, and
then brought into the verdicts' direction. Nova's container does the opposite order of work, with
the same outcome for whoever reads it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from include.sandbox.dice import chance
from include.sandbox.judge import Judged
from include.sandbox.models import FILLER

Scores = tuple[int, int]

SCALE = {
    "relevance": "Whether the response speaks about what the prompt asks.",
    "completeness": "Whether the response covers the prompt's points in enough depth.",
    "clarity": "Whether the response is worded without repetition.",
}
BINARY = {
    "conciseness": "Whether every sentence says something.",
    "structure": "Whether the response is ordered in parts.",
}


@dataclass(frozen=True)
class Criterion:
    """One criterion with both responses' scores: 1 to 5 on a scale, 0 or 1 if binary."""

    name: str
    type: Literal["scale", "binary"]
    weight: float
    description: str
    scores: Scores

    def normalised(self) -> tuple[float, float]:
        """Return both scores on 0 to 1."""
        a, b = self.scores
        return ((a - 1) / 4, (b - 1) / 4) if self.type == "scale" else (float(a), float(b))

    def as_dict(self) -> dict[str, Any]:
        """Return the criterion as the details hold it."""
        a, b = self.scores
        return {
            "score_A": a,
            "score_B": b,
            "weight": self.weight,
            "type": self.type,
            "description": self.description,
            "justification_A": self._justification("A", a),
            "justification_B": self._justification("B", b),
        }

    def _justification(self, letter: str, score: int) -> str:
        best = 5 if self.type == "scale" else 1
        return f"Response {letter} reaches {score} of {best} in {self.name}."


@dataclass(frozen=True)
class Rubric:
    """All criteria of one pair; none where the judge gave no verdict."""

    criteria: list[Criterion]

    def weighted(self) -> tuple[float, float] | None:
        """Return both weighted scores, 0 to 1."""
        if not self.criteria:
            return None
        total = sum(criterion.weight for criterion in self.criteria)
        parts = [(c.weight / total, c.normalised()) for c in self.criteria]
        a = sum(weight * scores[0] for weight, scores in parts)
        b = sum(weight * scores[1] for weight, scores in parts)
        return round(a, 6), round(b, 6)

    def margin(self) -> float | None:
        """Return weighted A less weighted B: negative favours B."""
        weighted = self.weighted()
        return None if weighted is None else round(weighted[0] - weighted[1], 6)

    def justification(self) -> str:
        """Say in a sentence which response is better."""
        margin = self.margin()
        if margin is None:
            return "No verdict could be read."
        if margin == 0:
            return "Both responses serve the prompt equally well."
        better = "A" if margin > 0 else "B"
        how = "narrowly" if abs(margin) < 0.1 else "clearly" if abs(margin) > 0.2 else "somewhat"
        return f"Response {better} is {how} better under this rubric."

    def turned(self) -> Rubric:
        """Return the rubric as the pass with swapped positions sees it."""
        return Rubric(
            [
                Criterion(c.name, c.type, c.weight, c.description, (c.scores[1], c.scores[0]))
                for c in self.criteria
            ]
        )

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Return the criteria by name."""
        return {criterion.name: criterion.as_dict() for criterion in self.criteria}


def assess(prompt: str, a: str, b: str, judged: Judged) -> Rubric:
    """Make the rubric of a judged pair.

    Args:
        prompt: The prompt, from which the criteria follow.
        a: Response A.
        b: Response B.
        judged: The verdicts that the scores have to fit.
    """
    said = judged.for_responses
    if not any(said):
        return Rubric([])
    direction = said.count("A") - said.count("B")
    return Rubric(_fit(_criteria(prompt, a, b), (direction > 0) - (direction < 0)))


def _criteria(prompt: str, a: str, b: str) -> list[Criterion]:
    drawn = {name: 1 + int(4 * chance("weight", prompt, name)) for name in SCALE}
    drawn |= {name: 1 for name in BINARY if chance("criterion", prompt, name) < 0.5}
    total = sum(drawn.values())
    return [
        Criterion(
            name=name,
            type="scale" if name in SCALE else "binary",
            weight=round(weight / total, 4),
            description={**SCALE, **BINARY}[name],
            scores=(_score(name, prompt, a), _score(name, prompt, b)),
        )
        for name, weight in drawn.items()
    ]


def _score(name: str, prompt: str, text: str) -> int:
    words, asked = re.findall(r"\w+", text.lower()), set(re.findall(r"\w{4,}", prompt.lower()))
    if name == "conciseness":
        return int(not any(sentence in text for sentence in FILLER))
    if name == "structure":
        return int("\n" in text.strip())
    shares = {
        "relevance": len(asked & set(words)) / len(asked) if asked else 0.5,
        "completeness": min(1.0, math.log1p(len(words)) / math.log1p(120)),
        "clarity": len(set(words)) / len(words) if words else 0.0,
    }
    return 1 + round(4 * shares[name])


def _fit(criteria: Sequence[Criterion], direction: int) -> list[Criterion]:
    """Bring the scores into the verdicts' direction: 1 for A, -1 for B, 0 for neither."""
    if direction == 0:
        return [_with(c, (min(c.scores), min(c.scores))) for c in criteria]
    margin = Rubric(list(criteria)).margin() or 0.0
    if margin * direction < 0:
        return [_with(c, (c.scores[1], c.scores[0])) for c in criteria]
    return list(criteria) if margin else _tip(criteria, direction)


def _tip(criteria: Sequence[Criterion], direction: int) -> list[Criterion]:
    """Give the better response one point more, or the other one less, where weights cancel out."""
    level = [_with(c, (min(c.scores), min(c.scores))) for c in criteria]
    first, score = level[0], level[0].scores[0]
    high, low = (score + 1, score) if score < 5 else (score, score - 1)
    return [_with(first, (high, low) if direction > 0 else (low, high)), *level[1:]]


def _with(criterion: Criterion, scores: Scores) -> Criterion:
    return Criterion(
        criterion.name, criterion.type, criterion.weight, criterion.description, scores
    )


def written(rubric: Rubric, verdict: str | None) -> str:
    """Return what the judge writes in one pass, as YAML; nothing if it gave no verdict."""
    if verdict is None:
        return ""
    text: str = yaml.safe_dump(
        {
            "criteria": rubric.as_dict(),
            "overall_justification": rubric.justification(),
            "preference": f"[[{verdict}]]",
        },
        sort_keys=False,
        allow_unicode=True,
    )
    return text
