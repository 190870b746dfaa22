"""What the judge said in both orders, put together: pairs and judgments in, preferences out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from include.records import Judgment, Order, OrderCount, Pair, Preference, Verdict

SCORE: dict[Preference, float] = {"candidate": 1.0, "tie": 0.5, "baseline": 0.0}


@dataclass(frozen=True)
class ResolvedPair:
    """A pair with its judgments and what they come to."""

    pair: Pair
    judgments: tuple[Judgment, ...]
    preference: Preference | None
    """None: no valid judgment in one of the orders, or the pair never reached the judge."""
    consistent: bool | None
    """Whether both orders agree; None where the judge was not asked or one order is missing."""

    @property
    def score(self) -> float | None:
        """The candidate's: 1, 0.5 or 0; None without a preference."""
        return None if self.preference is None else SCORE[self.preference]

    @property
    def unit(self) -> str:
        """What it is independent of all others with: its group, else its prompt."""
        return unit_of(self.pair)

    def verdict(self, order: Order) -> Verdict | None:
        """What the judge said in one order; None also where it did not tell which was which."""
        told = (j for j in self.judgments if j.order == order and j.order_known)
        return next((j.verdict for j in told if j.verdict), None)


def unit_of(pair: Pair) -> str:
    """Name the independent unit that a pair belongs to: its group, else its prompt."""
    return f"prompt {pair.prompt_id}" if pair.group is None else f"group {pair.group}"


def resolve_preference(
    forward: Sequence[Judgment], backward: Sequence[Judgment]
) -> Preference | None:
    """One preference from the judgments of a pair in both orders.

    Orders that disagree make a tie, also when only one of them names a winner. None unless there is
    exactly one valid judgment per order: a preference is never guessed.

    Example:
        >>> first = Judgment("p1", "forward", "A>B")
        >>> second = Judgment("p1", "backward", "A>B")
        >>> resolve_preference([first], [second])  # the judge follows the position
        'tie'
    """
    valid = [[j.preference for j in order if j.preference] for order in (forward, backward)]
    if [len(order) for order in valid] != [1, 1]:
        return None
    first, second = valid[0][0], valid[1][0]
    return first if first == second else "tie"


def resolve_pairs(pairs: Sequence[Pair], judgments: Sequence[Judgment]) -> list[ResolvedPair]:
    """Every pair with its judgments; judgments of pairs that were not judged are ignored."""
    by_prompt: defaultdict[str, list[Judgment]] = defaultdict(list)
    for judgment in judgments:
        by_prompt[judgment.prompt_id].append(judgment)
    return [_resolve(pair, by_prompt.get(pair.prompt_id, [])) for pair in pairs]


def _resolve(pair: Pair, judgments: Sequence[Judgment]) -> ResolvedPair:
    if pair.status != "judged":
        return ResolvedPair(pair, (), "tie" if pair.status == "identical" else None, None)
    forward = [j for j in judgments if j.order == "forward"]
    backward = [j for j in judgments if j.order == "backward"]
    preference = resolve_preference(forward, backward)
    agreed = len({j.preference for j in judgments if j.preference}) == 1
    return ResolvedPair(
        pair, tuple(judgments), preference, agreed if preference is not None else None
    )


UNCATEGORIZED = "(none)"
"""The category of prompts without one, where others have one."""


def in_categories(rows: Iterable[ResolvedPair]) -> dict[str, list[ResolvedPair]]:
    """Part pairs by their categories, in the order of their names; empty if none has one."""
    groups: defaultdict[str, list[ResolvedPair]] = defaultdict(list)
    for row in rows:
        groups[UNCATEGORIZED if row.pair.category is None else row.pair.category].append(row)
    return {} if set(groups) <= {UNCATEGORIZED} else dict(sorted(groups.items()))


def units_of(rows: Sequence[ResolvedPair]) -> str:
    """What the independent units of these pairs are called."""
    return "groups" if any(row.pair.group is not None for row in rows) else "prompts"


def count_orders(rows: Sequence[ResolvedPair]) -> list[OrderCount]:
    """Count the judged pairs by what both of their orders prefer, the commonest first."""
    said = Counter(
        (_only(row, "forward"), _only(row, "backward"))
        for row in rows
        if row.pair.status == "judged"
    )
    return [OrderCount(*both, count) for both, count in said.most_common()]


def _only(row: ResolvedPair, order: Order) -> Preference | None:
    """Return what one order prefers; None unless it has exactly one valid judgment."""
    valid = [j.preference for j in row.judgments if j.order == order and j.preference]
    return valid[0] if len(valid) == 1 else None
