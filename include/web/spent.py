"""A run that goes on in, what it has cost so far out."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from include import costs
from include.asking import spending_of
from include.runs import Client, RunRecord, open_run
from include.spending import Spending

MOST = 32
"""Runs that are remembered: a page that looks again every few seconds reads only what is new."""

_known: OrderedDict[str, Spending | None] = OrderedDict()
_one_at_a_time = Lock()


def so_far(record: RunRecord, client: Client) -> str | None:
    """Return what a run has cost, as text; None where prices are missing.

    Args:
        record: Of the run.
        client: Makes boto3 clients of its account.

    Raises:
        ClientError: AWS refuses, for example because the role may not describe training jobs.
    """
    with _one_at_a_time:
        uri = record["uri"]
        if uri not in _known:
            _known[uri] = _spending(record, client)
            while len(_known) > MOST:
                _known.popitem(last=False)
        spending = _known[uri]
        uses = spending.uses() if spending else []
        return None if spending is None or costs.unpriced(uses) else costs.usd(costs.total(uses))


def _spending(record: RunRecord, client: Client) -> Spending | None:
    run = open_run(record, client, without_texts=True)
    return None if run.config.prices is None else spending_of(run)
