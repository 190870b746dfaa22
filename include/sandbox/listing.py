"""Entities and a List request in, the page that AWS answers out."""

from __future__ import annotations

import base64
import binascii
import operator
from collections.abc import Callable, Sequence
from typing import Any

from include.sandbox.errors import validation

Request = dict[str, Any]
Summary = dict[str, Any]

TIMES = {
    "CreationTimeAfter": ("CreationTime", operator.ge),
    "CreationTimeBefore": ("CreationTime", operator.lt),
    "LastModifiedTimeAfter": ("LastModifiedTime", operator.ge),
    "LastModifiedTimeBefore": ("LastModifiedTime", operator.lt),
}


def page(
    request: Request, key: str, what: str, summaries: Sequence[Summary], order: str = "Descending"
) -> Request:
    """Filter, sort and cut a list.

    Args:
        request: The List request.
        key: The answer's key of the list.
        what: `Model`, `Endpoint`: the prefix of the summaries' keys.
        summaries: All there are.
        order: AWS's default of SortOrder for this operation.
    """
    contains, status = request.get("NameContains", "").lower(), request.get("StatusEquals")
    found = [
        summary
        for summary in summaries
        if contains in summary[f"{what}Name"].lower()
        and status in (None, summary.get(f"{what}Status"))
        and _in_time(request, summary)
    ]
    by = {"Name": f"{what}Name", "Status": f"{what}Status"}.get(
        request.get("SortBy", ""), "CreationTime"
    )
    found.sort(key=lambda summary: (summary[by], summary["CreationTime"], summary[f"{what}Name"]))
    if request.get("SortOrder", order) == "Descending":
        found.reverse()
    return cut(request, key, found, page_size=10)


def _in_time(request: Request, summary: Summary) -> bool:
    for parameter, (field, holds) in TIMES.items():
        limit = moment(request.get(parameter))
        if limit is not None and not holds(summary[field], limit):
            return False
    return True


def moment(given: Any) -> float | None:
    """Return a request's time in seconds since 1970, to the millisecond; None if it has none."""
    from botocore.utils import parse_to_aware_datetime

    return None if given is None else round(parse_to_aware_datetime(given).timestamp(), 3)


def cut(request: Request, key: str, items: Sequence[Any], page_size: int) -> Request:
    """Cut one page out of a list.

    Raises:
        AwsError: A NextToken that no answer held.
    """
    start = _start(request.get("NextToken"), len(items))
    end = start + int(request.get("MaxResults", page_size))
    answer: Request = {key: list(items[start:end])}
    if end < len(items):
        answer["NextToken"] = base64.b64encode(str(end).encode()).decode()
    return answer


def _start(token: str | None, size: int) -> int:
    if not token:
        return 0
    try:
        start = int(base64.b64decode(token, validate=True))
    except (ValueError, binascii.Error):
        raise validation("Invalid pagination token.") from None
    return min(max(start, 0), size)


def summary_of(what: str) -> Callable[[dict[str, Any]], Summary]:
    """Return a function that makes an entity's summary: its name, ARN and time of creation."""

    def summary(entity: dict[str, Any]) -> Summary:
        return {
            f"{what}Name": entity["name"],
            f"{what}Arn": entity["arn"],
            "CreationTime": entity["created"],
        }

    return summary
