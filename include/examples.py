"""Resolved pairs in, streamed; a few of every kind, picked at random, out for people to read."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from include.preferences import ResolvedPair

Kind = Literal[
    "lost",
    "disagreement",
    "no_verdict",
    "too_long",
    "baseline_failed",
    "candidate_failed",
    "both_failed",
    "won",
    "tie",
    "identical",
]
"""What became of a pair, as seen from the candidate."""

SHOWN: dict[Kind, int] = {
    "lost": 1_000,
    "disagreement": 10,
    "no_verdict": 2,
    "too_long": 2,
    "baseline_failed": 2,
    "candidate_failed": 2,
    "both_failed": 2,
    "won": 5,
    "tie": 3,
    "identical": 2,
}
"""How many pairs of each kind a report shows: nearly always all that the candidate lost."""


@dataclass(frozen=True)
class Sample:
    """Some pairs of one kind, in their order, and how many of that kind there are."""

    kind: Kind
    pairs: list[ResolvedPair]
    total: int


def pick(pairs: Iterable[ResolvedPair], *, candidates: int = 1, seed: int = 0) -> list[Sample]:
    """Pick pairs of every kind that there is.

    Args:
        pairs: Of one candidate; read once, and only those picked are kept.
        candidates: How many share the report; each gets its part, but one of every kind.
        seed: The same one picks the same pairs.

    Returns:
        In the order of `SHOWN`; kinds without pairs are left out.

    References:
        J. S. Vitter, "Random sampling with a reservoir" (1985), algorithm R.
    """
    rng = random.Random(seed)
    totals: Counter[Kind] = Counter()
    kept: defaultdict[Kind, list[tuple[int, ResolvedPair]]] = defaultdict(list)
    for number, pair in enumerate(pairs):
        kind = kind_of(pair)
        totals[kind] += 1
        room = max(1, SHOWN[kind] // candidates)
        place = rng.randrange(totals[kind])
        if len(kept[kind]) < room:
            kept[kind].append((number, pair))
        elif place < room:
            kept[kind][place] = (number, pair)
    return [
        Sample(kind, [pair for _, pair in sorted(kept[kind], key=lambda each: each[0])], total)
        for kind in SHOWN
        if (total := totals[kind])
    ]


def kind_of(resolved: ResolvedPair) -> Kind:
    """Tell what became of a pair."""
    status = resolved.pair.status
    if status != "judged":
        return status
    if resolved.preference is None:
        return "no_verdict"
    if not resolved.consistent:
        return "disagreement"
    if resolved.preference == "tie":
        return "tie"
    return "won" if resolved.preference == "candidate" else "lost"
