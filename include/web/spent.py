"""A run that goes on in, what it has cost so far out."""

from __future__ import annotations

import functools
from collections import OrderedDict
from threading import Lock
from typing import Any

from include import account, costs
from include.asking import spending_of
from include.runs import Client, RunRecord, open_run
from include.spending import Spending

MOST = 32
"""Runs that are remembered: a page that looks again every few seconds reads only what is new."""


class Spent:
    """What a run has cost, looked at by one request at a time; the others get the last answer."""

    def __init__(self, record: RunRecord, client: Client) -> None:
        @functools.cache
        def quick(service: str, **config: Any) -> Any:
            return client(service, **{**config, **account.QUICK})

        run = open_run(record, quick, without_texts=True)
        self._spending: Spending | None = spending_of(run) if run.config.prices else None
        self._lock = Lock()
        self._last: str | None = None

    def look(self) -> str | None:
        """Return what it has cost, as text; None where prices are missing, or nobody knows yet."""
        if self._spending is not None and self._lock.acquire(blocking=False):
            try:
                uses = self._spending.uses()
                self._last = None if costs.unpriced(uses) else costs.usd(costs.total(uses))
            finally:
                self._lock.release()
        return self._last


_known: OrderedDict[tuple[str, str], Spent] = OrderedDict()


def so_far(record: RunRecord, since: str, client: Client) -> str | None:
    """Return what a run has cost, as text; None where prices are missing, or nobody knows yet.

    Args:
        record: Of the run.
        since: When it was started: a run that is cleared begins to count anew.
        client: Makes boto3 clients of its account.

    Raises:
        ClientError: AWS refuses, for example because the role may not describe training jobs.
    """
    key = record["uri"], since
    found = _known.get(key) or _known.setdefault(key, Spent(record, client))
    _known.move_to_end(key)
    while len(_known) > MOST:
        _known.popitem(last=False)
    return found.look()
