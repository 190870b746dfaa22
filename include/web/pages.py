"""What the pages show, from what is stored: points, rows and texts in, lines of tables out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from include.browse import IndexRow
from include.examples import Kind
from include.overview import Point
from include.paired import compare_runs
from include.preferences import ResolvedPair
from include.records import Change, Pair
from include.report import KINDS
from include.wording import with_interval

WIDTH, HEIGHT = 160.0, 36.0
"""Of a sparkline, in its own units."""

PAGE = 50
"""Pairs of a list."""

GATES = ("fail", "inconclusive", "pass", "none")


@dataclass(frozen=True)
class Spark:
    """A line of win rates over time, as SVG takes it."""

    lines: list[str]
    """Points of polylines; a line ends where the question has changed."""
    spans: list[tuple[float, float, float]]
    """x, top and bottom of each interval."""
    dots: list[tuple[float, float]]
    breaks: list[float]
    label: str
    """For those who cannot see it."""


def spark(points: Sequence[Point]) -> Spark:
    """Draw the win rates of one candidate, the oldest first."""
    known = [each for each in points if each.win_rate is not None]
    step = WIDTH / max(1, len(known))
    lines, spans, dots, breaks = [[]], [], [], []  # type: ignore[var-annotated]
    for number, each in enumerate(known):
        x = round((number + 0.5) * step, 1)
        if number and not each.continues(known[number - 1]):
            breaks.append(round(number * step, 1))
            lines.append([])
        y = _height(each.win_rate or 0.0)
        lines[-1].append(f"{x},{y}")
        dots.append((x, y))
        if each.low is not None and each.high is not None:
            spans.append((x, _height(each.high), _height(each.low)))
    said = ", ".join(f"{100 * (each.win_rate or 0):.0f} %" for each in known[-5:])
    return Spark(
        [" ".join(line) for line in lines if len(line) > 1],
        spans,
        dots,
        breaks,
        f"win rates of {len(known)} runs, the last ones {said}" if known else "no win rate yet",
    )


def runs(points: Iterable[Point]) -> list[Point]:
    """Return one point of each run, the oldest first; runs differ in the candidates that they have.

    Args:
        points: Of one evaluation.
    """
    by_run = {each.run_id: each for each in points}
    return sorted(by_run.values(), key=lambda each: each.started_at)


def _height(share: float) -> float:
    return round(HEIGHT - 2 - (HEIGHT - 4) * share, 1)


@dataclass(frozen=True)
class Line:
    """One candidate of one evaluation, with its last run."""

    environment: str
    last: Point
    spark: Spark
    next_run: datetime | None

    @property
    def rate(self) -> str:
        """The last win rate with its interval."""
        return rate(self.last)


def rate(point: Point) -> str:
    """A win rate with its interval, as text."""
    if point.win_rate is None:
        return "none"
    return with_interval(point.win_rate, point.low, point.high)


def evaluation_lines(
    environment: str,
    evaluations: dict[str, list[Point]],
    readable: set[str],
    next_runs: dict[str, datetime],
) -> list[Line]:
    """Return a line for every candidate that its reader may see.

    Args:
        environment: Its name.
        evaluations: What `overview.read` returned.
        readable: DAGs that the reader may see.
        next_runs: When DAGs start next.
    """
    found = []
    for _, points in sorted(evaluations.items()):
        seen = [each for each in points if each.dag_id in readable]
        for candidate in dict.fromkeys(each.candidate for each in seen):
            mine = [each for each in seen if each.candidate == candidate]
            found.append(Line(environment, mine[-1], spark(mine), next_runs.get(mine[-1].dag_id)))
    return found


SORTS: dict[str, Callable[[Line], Any]] = {
    "name": lambda line: (line.last.evaluation, line.last.candidate),
    "gate": lambda line: GATES.index(line.last.gate) if line.last.gate in GATES else len(GATES),
    "rate": lambda line: (line.last.win_rate is None, line.last.win_rate),
    "cost": lambda line: -(line.last.cost or 0.0),
    "last": lambda line: -datetime.fromisoformat(line.last.started_at).timestamp(),
}
"""What the list of evaluations can be sorted by."""


def chosen(lines: Iterable[Line], *, words: str, gate: str, sort: str) -> list[Line]:
    """Filter and sort lines.

    Args:
        lines: All that there are.
        words: Each must be in the name of evaluation, candidate or environment.
        gate: The gate's outcome; empty: any.
        sort: A key of `SORTS`.
    """
    wanted = words.lower().split()
    kept = [
        line
        for line in lines
        if (not gate or line.last.gate == gate)
        and all(
            word in f"{line.last.evaluation} {line.last.candidate} {line.environment}".lower()
            for word in wanted
        )
    ]
    return sorted(kept, key=SORTS.get(sort, SORTS["name"]))


@dataclass(frozen=True)
class Filter:
    """Which pairs of a comparison are listed."""

    kind: str = ""
    category: str = ""
    words: str = ""
    """Each must be in the prompt's beginning or its id."""
    disagree: bool = False
    """Only where the two orders do not agree."""

    def takes(self, row: IndexRow) -> bool:
        """Whether a pair is listed."""
        text = f"{row.title} {row.prompt_id}".lower()
        return (
            (not self.kind or row.kind == self.kind)
            and (not self.category or row.category == self.category)
            and (not self.disagree or row.consistent is False)
            and all(word in text for word in self.words.lower().split())
        )

    def query(self) -> dict[str, str]:
        """Return what a link needs to carry on."""
        found = {"kind": self.kind, "category": self.category, "words": self.words}
        found["disagree"] = "1" if self.disagree else ""
        return {key: value for key, value in found.items() if value}


def kinds(rows: Sequence[IndexRow]) -> list[tuple[Kind, str, int]]:
    """Return the kinds of pairs that there are, with their words and how many."""
    counted = Counter(row.kind for row in rows)
    return [(kind, words, counted[kind]) for kind, words in KINDS.items() if counted[kind]]


def categories(rows: Sequence[IndexRow]) -> list[str]:
    """Return the categories that there are."""
    return sorted({row.category for row in rows if row.category})


def neighbours(rows: Sequence[IndexRow], place: int) -> tuple[int | None, int | None]:
    """Return the places of the listed pairs before and after one."""
    places = [row.place for row in rows]
    before = [each for each in places if each < place]
    after = [each for each in places if each > place]
    return (before[-1] if before else None, after[0] if after else None)


def change(
    earlier: Sequence[IndexRow], later: Sequence[IndexRow], candidate: str, config: dict[str, Any]
) -> Change:
    """Compare two runs, prompt by prompt, as the later one's report does.

    Args:
        earlier: Its pairs.
        later: Its pairs.
        candidate: Whose.
        config: Of the later run, as its folder has it.
    """
    return compare_runs(
        map(_resolved, earlier),
        map(_resolved, later),
        candidate=candidate,
        confidence_level=config["confidence_level"],
        candidates=len(config["candidates"]),
    )


def _resolved(row: IndexRow) -> ResolvedPair:
    pair = Pair(row.prompt_id, row.prompt_digest, "", "", "judged", row.category, row.group)
    return ResolvedPair(pair, (), row.preference, row.consistent)


def moment(at: datetime | str | None) -> str:
    """Return a moment as text, in UTC."""
    if at is None:
        return ""
    found = datetime.fromisoformat(at) if isinstance(at, str) else at
    return found.astimezone(UTC).strftime("%Y-%m-%d %H:%M")
