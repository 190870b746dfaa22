"""All evaluations of an environment at a glance: rows of runs in, one small object on S3 out.

The history has an object per run, too many to read for a page. This one holds the last points of
every evaluation; each run adds its own, and two that end together do not lose each other's.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from include.storage import RunFolder, split_uri
from include.trend import BREAKS, TrendRow

NAME = "history/overview.json"

MOST_POINTS = 30
"""Of each candidate: what a sparkline shows."""

TRIES = 20
"""Of a write that others were quicker with."""


Points = dict[str, list[dict[str, Any]]]
"""Points by evaluation, as they are stored: the oldest first."""


@dataclass(frozen=True)
class Point:
    """One comparison of one run; shares are from 0 to 1."""

    evaluation: str
    candidate: str
    baseline: str
    started_at: str
    """ISO 8601, UTC."""
    dag_id: str
    run_id: str
    run_folder: str
    status: str
    verdict: str
    gate: str
    win_rate: float | None
    low: float | None
    high: float | None
    cost: float | None
    currency: str | None
    question: str
    """Digest of what was asked of whom and by which judge, its image's digest included."""
    asked: str | None = None
    """The same without the image's digest; older points have none."""
    judge_image_digest: str | None = None

    def continues(self, earlier: Point) -> bool:
        """Whether it answers the same question as an earlier one; if not, the line breaks.

        An image's digest that is not known is no other one, as for `trend.breaks`.
        """
        if self.asked is None or earlier.asked is None:
            return self.question == earlier.question
        digests = {earlier.judge_image_digest, self.judge_image_digest} - {None}
        return self.asked == earlier.asked and len(digests) < 2


def add(output: RunFolder, rows: Sequence[TrendRow]) -> None:
    """Add the rows of one run; those of the same run that are there are replaced.

    Args:
        output: The environment's `output_s3_uri`.
        rows: Of one run.

    Raises:
        ClientError: S3 refuses, for another reason than that others were quicker every time.
    """
    if rows:
        _change(output, lambda points: _merged(points, rows))


def remove(output: RunFolder, run_folder: str) -> None:
    """Take the points of one run away, if it has any.

    Args:
        output: The environment's `output_s3_uri`.
        run_folder: Its URI.

    Raises:
        ClientError: As for `add`.
    """

    def others(points: Points) -> Points:
        kept = {
            name: [each for each in mine if each["run_folder"] != run_folder]
            for name, mine in points.items()
        }
        return {name: mine for name, mine in kept.items() if mine}

    _change(output, others)


def _change(output: RunFolder, change: Callable[[Points], Points]) -> None:
    """Read, change and write, again if another run was quicker (S3: PutObject with If-Match)."""
    from botocore.exceptions import ClientError
    from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random

    def is_outrun(error: BaseException) -> bool:
        codes = ("PreconditionFailed", "ConditionalRequestConflict")
        return isinstance(error, ClientError) and error.response["Error"]["Code"] in codes

    def once() -> None:
        bucket, key = split_uri(output.at(NAME))
        found, etag = _read(output)
        changed = change(found)
        if changed == found:
            return
        if not changed:  # nothing is left behind by the only run that there was
            output.s3.delete_object(Bucket=bucket, Key=key)
            return
        output.s3.put_object(
            Bucket=bucket,
            Key=key,
            Body=json.dumps(changed).encode(),
            ContentType="application/json",
            **({"IfMatch": etag} if etag else {"IfNoneMatch": "*"}),
        )

    again = Retrying(
        retry=retry_if_exception(is_outrun),
        stop=stop_after_attempt(TRIES),
        wait=wait_random(0, 0.5),
        reraise=True,
    )
    again(once)


def read(output: RunFolder) -> dict[str, list[Point]]:
    """Return the points of every evaluation by its name, the oldest first."""
    found, _ = _read(output)
    known = {field.name for field in dataclasses.fields(Point)}  # a newer version may write more
    return {
        name: [Point(**{key: each[key] for key in known & each.keys()}) for each in points]
        for name, points in found.items()
    }


def _read(output: RunFolder) -> tuple[Points, str | None]:
    """Return the points and the object's ETag; None if there is no object yet."""
    if not output.names(NAME):
        return {}, None
    bucket, key = split_uri(output.at(NAME))
    answer = output.s3.get_object(Bucket=bucket, Key=key)
    return json.loads(answer["Body"].read()), answer["ETag"]


def _merged(found: Points, rows: Sequence[TrendRow]) -> Points:
    merged = {name: list(points) for name, points in found.items()}
    for row in rows:
        others = [
            each
            for each in merged.get(row.evaluation, [])
            if (each["run_folder"], each["candidate"]) != (row.run_folder, row.candidate)
        ]
        points = sorted([*others, dataclasses.asdict(_point(row))], key=lambda p: p["started_at"])
        merged[row.evaluation] = _last(points)
    return merged


def _point(row: TrendRow) -> Point:
    same = {
        field.name: getattr(row, field.name)
        for field in dataclasses.fields(Point)
        if field.name not in ("started_at", "question", "asked")
    }
    without_digest = [name for name in BREAKS if name != "judge_image_digest"]
    return Point(
        started_at=row.started_at.isoformat(),
        question=_digest(row, BREAKS),
        asked=_digest(row, without_digest),
        **same,
    )


def _digest(row: TrendRow, columns: Iterable[str]) -> str:
    values = json.dumps([getattr(row, name) for name in columns])
    return hashlib.sha256(values.encode()).hexdigest()[:12]


def _last(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep the last points of each candidate."""
    counted: defaultdict[str, int] = defaultdict(int)
    kept = []
    for point in reversed(points):
        counted[point["candidate"]] += 1
        if counted[point["candidate"]] <= MOST_POINTS:
            kept.append(point)
    return kept[::-1]
