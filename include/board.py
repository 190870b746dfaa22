"""Several models on one scale: who was preferred to whom in, a Board with sets of ranks out.

Every model has one strength, and the gap between two says how often one is preferred to the other.
The prompt (or its group) is the unit here too, over all pairings together: one prompt asks every
model, so what it says of one pairing is not independent of what it says of another.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from include.intervals import FEW_UNITS, SINGLE_UNIT, level_of_each, rough
from include.preferences import ResolvedPair
from include.records import Board, BoardModel, BoardPairing
from include.wording import level, listed, percent

RESAMPLES = 1_000
SEED = 0
NEGLIGIBLE = 1e-6
"""Of a win and of a loss: so little changes no number, but a model that wins all has a strength."""
MOST_STEPS = 100
MOST_NAMES = 6
"""In a sentence; of more models it says how many they are."""
DIGITS = 6
"""After the point, of win rates and strengths: beyond them `NEGLIGIBLE` shows."""

Floats = NDArray[np.float64]
Integers = NDArray[np.intp]


@dataclass(frozen=True)
class PairingScores:
    """All that is known about two models from the prompts that both have answered."""

    first: str
    second: str
    scores: Sequence[float]
    """The second model's, each from 0 to 1."""
    units: Sequence[str]
    """What each score is independent of all others with, by one name in all pairings."""
    unit: str = "prompts"
    """What the units are called."""


@dataclass(frozen=True)
class _Table:
    """Pairings as arrays; a pairing's model is its row's number in `models`."""

    models: list[str]
    first: Integers
    second: Integers
    scores: list[Floats]
    units: list[Integers]
    unit_count: int

    @property
    def wins(self) -> Floats:
        """Of the second model, ties half."""
        return np.array([scores.sum() for scores in self.scores])

    @property
    def pairs(self) -> Floats:
        return np.array([float(len(scores)) for scores in self.scores])

    @property
    def sides(self) -> Floats:
        """A row per pairing: 1 for its second model, -1 for its first."""
        rows = np.arange(len(self.scores))
        sides = np.zeros((len(self.scores), len(self.models)))
        sides[rows, self.second] += 1
        sides[rows, self.first] -= 1
        return sides

    def by_unit(self, pairing: int, values: Floats) -> Floats:
        """Sum something about the scores of a pairing over each unit."""
        sums = np.bincount(self.units[pairing], weights=values, minlength=self.unit_count)
        return sums.astype(np.float64)


def scores_of(first: str, second: str, rows: Iterable[ResolvedPair]) -> PairingScores:
    """Return the scores of these pairs, in which `second` is the candidate."""
    scores, units, grouped = list[float](), list[str](), False
    for row in rows:
        grouped = grouped or row.pair.group is not None
        if row.score is not None:
            scores.append(row.score)
            units.append(row.unit)
    return PairingScores(first, second, scores, units, "groups" if grouped else "prompts")


def unconnected(pairings: Sequence[PairingScores], baseline: str) -> list[str]:
    """Name the models that no chain of pairings with scores links to the baseline.

    Example:
        >>> one = PairingScores("a", "b", [1], ["p1"])
        >>> unconnected([one, PairingScores("c", "d", [1], ["p1"])], "a")
        ['c', 'd']
    """
    names, reached = _names(pairings), {baseline}
    for _ in names:
        for each in pairings:
            if each.scores and reached & {each.first, each.second}:
                reached |= {each.first, each.second}
    return [name for name in names if name not in reached]


def rank(
    pairings: Sequence[PairingScores],
    *,
    baseline: str,
    confidence_level: float,
    doubt: str | None = None,
) -> Board:
    """Put the models of some pairings on one scale.

    Args:
        pairings: Any of them, each pair of models at most once, if some chain of them links every
            model to the baseline; see `unconnected`. Those without scores count for nothing.
        baseline: The model that win rates and strengths are told against.
        confidence_level: Of all intervals and all sets of ranks together; for example 0.95.
        doubt: Why no order must be believed, whatever the numbers say; begins the sentence.

    Raises:
        ValueError: Some model is not linked to the others, so it has no place on their scale.

    Notes:
        Bradley and Terry's model: with log-strengths s, model j is preferred to model i with
        probability 1 / (1 + exp(s_i - s_j)). The strengths are those of maximum likelihood, ties
        counted half, every pair with the same weight. `expected` and the estimate of `win_rate` are
        theirs: if all pairings are with the baseline, they are the observed win rates.

        What is sure rests on strengths with one imagined win and loss per candidate added, as in
        `intervals.cluster_t_interval`: spread evenly over the pairings, each an independent unit,
        each with the weight of one, the design effect. So a model that wins everything has a finite
        strength and an interval. Their covariance is the sandwich, robust to units: with r_g the
        sum of (score - expected) · (e_j - e_i) over unit g's scores of pairings (i, j), and H the
        information, V = G / (G - 1) · H⁻¹ (Σ_g r_g r_g') H⁻¹.

        Models i and j are told apart if |s_i - s_j| > c · SE(s_i - s_j). The critical value c holds
        for all pairs of models at once: it is the quantile of the largest |difference| / SE over
        1,000 resamples, in each of which units are drawn with replacement with all their scores in
        all pairings, and the strengths move by one step of Newton's from the estimate, H⁻¹ Σ r_g;
        it is then carried over from the normal to the t distribution on G - 1 degrees of freedom. A
        model's set of ranks reaches from 1 + the models that are told to be stronger, to all models
        but those told to be weaker. All sets hold together with the confidence level.
        The interval of a win rate against the baseline is the hull of two, with the same c: of the
        log-strength, and of the win rate itself by the delta method. The first is too short where
        a model wins nearly all, the second where there are few units. It excludes 50 % if, and only
        if, the model is told apart from the baseline.

        A pairing fits if observed and expected differ by no more than chance would have it, by the
        t distribution and Bonferroni for all pairings. One that does not fit says that there is no
        single scale: some model does better against another than their strengths allow.

        One unit has no intervals and says nothing about ranks. Below ten, all is rough.

    References:
        Bradley and Terry, Rank Analysis of Incomplete Block Designs, Biometrika 39 (1952).
        Mogstad, Romano, Shaikh and Wilhelm, Inference for Ranks with Applications to Mobility
        across Neighbourhoods and Academic Achievement across Countries, Review of Economic Studies
        91(1), 2024, section 3, for sets of ranks; Chatzi et al., arXiv 2402.17826 (2024), rank
        language models so.
        Kline and Santos, A Score Based Approach to Wild Bootstrap Inference, J. Econometric Methods
        1(1), 2012, for resamples without a new fit.
        Hothorn, Bretz and Westfall, Simultaneous Inference in General Parametric Models,
        Biometrical Journal 50(3), 2008, for the largest |t|.

    Example:
        >>> prompts = [f"prompt {n}" for n in range(40)]
        >>> one = PairingScores("old", "new", [1.0] * 30 + [0.0] * 10, prompts)
        >>> two = PairingScores("old", "worse", [0.0] * 30 + [1.0] * 10, prompts)
        >>> found = rank([one, two], baseline="old", confidence_level=0.95)
        >>> [(each.model, each.best_rank, each.worst_rank) for each in found.models]
        [('new', 1, 1), ('old', 2, 2), ('worse', 3, 3)]
    """
    alone = unconnected(pairings, baseline)
    if alone or not pairings:
        raise ValueError(f"no pairing links {listed(alone or ['any model'])} to {baseline}")
    table = _as_arrays([each for each in pairings if each.scores])
    unit = "groups" if any(each.unit == "groups" for each in pairings) else "prompts"
    home = table.models.index(baseline)
    fitted = _strengths(table, NEGLIGIBLE)
    expected = _logistic(table.sides @ fitted)
    against = _logistic(fitted - fitted[home])
    sure = _sure(table, fitted, confidence_level)
    apart = np.abs(sure.gaps) > sure.critical * sure.errors
    low, high = _bounds(sure, home, against)
    models = [
        BoardModel(
            model=name,
            log_strength=round(float(sure.gaps[place, home]), DIGITS),
            win_rate=round(float(against[place]), DIGITS),
            low=None if table.unit_count < 2 or place == home else float(low[place]),
            high=None if table.unit_count < 2 or place == home else float(high[place]),
            best_rank=1 + int((apart[place] & (sure.gaps[place] < 0)).sum()),
            worst_rank=len(apart) - int((apart[place] & (sure.gaps[place] > 0)).sum()),
            not_told_from=[
                other for n, other in enumerate(table.models) if n != place and not apart[place, n]
            ],
        )
        for place, name in enumerate(table.models)
    ]
    models.sort(key=lambda each: (-each.win_rate, each.model))
    fits = _fits(table, expected, sure, confidence_level)
    found = [
        BoardPairing(
            first=table.models[table.first[n]],
            second=table.models[table.second[n]],
            pairs=len(scores),
            observed=float(scores.mean()),
            expected=round(float(expected[n]), DIGITS),
            fits=bool(fits[n]),
        )
        for n, scores in enumerate(table.scores)
    ]
    star = len(models) > 2 and all(baseline in (each.first, each.second) for each in found)
    board = Board(
        baseline=baseline,
        models=models,
        pairings=found,
        units=table.unit_count,
        confidence_level=confidence_level,
        only_with_baseline=star,
        method=_method(table.unit_count, unit),
        sentence="",
    )
    return replace(board, sentence=_sentence(board, doubt))


def _names(pairings: Sequence[PairingScores]) -> list[str]:
    return list(dict.fromkeys(name for each in pairings for name in (each.first, each.second)))


def _as_arrays(pairings: Sequence[PairingScores]) -> _Table:
    models = _names(pairings)
    place = {name: n for n, name in enumerate(models)}
    units = {name: n for n, name in enumerate(dict.fromkeys(u for p in pairings for u in p.units))}
    return _Table(
        models=models,
        first=np.array([place[each.first] for each in pairings], dtype=np.intp),
        second=np.array([place[each.second] for each in pairings], dtype=np.intp),
        scores=[np.array(each.scores, dtype=np.float64) for each in pairings],
        units=[np.array([units[u] for u in each.units], dtype=np.intp) for each in pairings],
        unit_count=len(units),
    )


def _logistic(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))


def _strengths(table: _Table, imagined: float) -> Floats:
    """Maximum likelihood of the log-strengths, their sum 0, with a win and a loss per pairing.

    Args:
        table: The scores.
        imagined: Weight of the win, and of the loss.

    Notes:
        Newton's method, each step shortened by log(1 + d) / d for a step that changes some pairing
        by d: so it converges from anywhere.

    References:
        Sun and Tran-Dinh, Generalized Self-Concordant Functions: A Recipe for Newton-Type Methods,
        Mathematical Programming 178 (2019), section 4.
    """
    strengths = np.zeros(len(table.models))
    wins, pairs = table.wins + imagined, table.pairs + 2 * imagined
    for _ in range(MOST_STEPS):
        missing = wins - pairs * _logistic(table.sides @ strengths)
        step = _inverse_information(table, strengths, imagined) @ (table.sides.T @ missing)
        change = float(np.abs(table.sides @ step).max())
        if change < 1e-9:
            break
        strengths += step * math.log1p(change) / change
    return strengths


def _inverse_information(table: _Table, strengths: Floats, imagined: float) -> Floats:
    """H⁻¹ among strengths with the sum 0."""
    rate = _logistic(table.sides @ strengths)
    weight = (table.pairs + 2 * imagined) * rate * (1 - rate)
    information = table.sides.T @ (weight[:, None] * table.sides)
    inverse: Floats = np.linalg.inv(information + weight.mean())
    return inverse


@dataclass(frozen=True)
class _Sure:
    """What is sure of the differences between strengths, by pair of models."""

    gaps: Floats
    errors: Floats
    """Standard errors; infinite with a single unit."""
    critical: float
    pulls: Floats
    """How far each unit, and each imagined score after them, moves each strength."""


def _sure(table: _Table, fitted: Floats, confidence_level: float) -> _Sure:
    from scipy.special import ndtr, stdtrit

    models, units = len(table.models), table.unit_count
    imagined = _design_effect(table, fitted) * (models - 1) / len(table.scores)
    strengths = _strengths(table, imagined)
    gaps = strengths[:, None] - strengths
    pulls = _residuals(table, strengths, imagined) @ _inverse_information(
        table, strengths, imagined
    )
    if units < 2:
        return _Sure(gaps, np.full((models, models), np.inf), 1.0, pulls)
    first, second = np.triu_indices(models, 1)
    moves = pulls.T @ pulls
    squares = moves.diagonal()[:, None] + moves.diagonal() - 2 * moves
    spread = np.sqrt(squares[first, second])
    largest = np.empty(RESAMPLES)
    rng = np.random.default_rng(SEED)
    for n in range(RESAMPLES):
        times = np.bincount(rng.integers(len(pulls), size=len(pulls)), minlength=len(pulls))
        moved = times @ pulls
        largest[n] = (np.abs(moved[first] - moved[second]) / spread).max()
    quantile = float(np.quantile(largest, confidence_level))
    critical = float(stdtrit(units - 1, ndtr(quantile)))
    return _Sure(gaps, np.sqrt(units / (units - 1) * np.abs(squares)), critical, pulls)


def _residuals(table: _Table, strengths: Floats, imagined: float) -> Floats:
    """Of each unit, then of each imagined win and loss: its part of the likelihood's slope."""
    rate = _logistic(table.sides @ strengths)
    found = np.zeros((table.unit_count, len(table.models)))
    for n, scores in enumerate(table.scores):
        found += table.by_unit(n, scores - rate[n])[:, None] * table.sides[n]
    won = imagined * (1 - rate[:, None]) * table.sides
    lost = -imagined * rate[:, None] * table.sides
    return np.vstack([found, won, lost])


def _design_effect(table: _Table, strengths: Floats) -> float:
    """How many scores of a pairing count as one independent unit, from 1 to a unit's mean size.

    The largest where the scores have no spread, which does not tell.
    """
    rate = _logistic(table.sides @ strengths)
    together, alone, sizes = 0.0, 0.0, []
    for n, scores in enumerate(table.scores):
        left = scores - rate[n]
        together += float((table.by_unit(n, left) ** 2).sum())
        alone += float((left**2).sum())
        sizes.append(table.by_unit(n, np.ones(len(scores))))
    of = np.concatenate(sizes)
    most = float((of**2).sum() / of.sum())
    return most if alone < 1e-9 else min(most, max(1.0, together / alone))


def _bounds(sure: _Sure, home: int, against: Floats) -> tuple[Floats, Floats]:
    """Interval of each model's win rate against the one at `home`."""
    gap, half = sure.gaps[:, home], sure.critical * sure.errors[:, home]
    rate = _logistic(gap)
    flat = half * rate * (1 - rate)
    low = np.minimum(_logistic(gap - half), rate - flat)
    high = np.maximum(_logistic(gap + half), rate + flat)
    # At a low confidence level what was imagined could push the estimate out of its own interval.
    return np.clip(np.minimum(low, against), 0, 1), np.clip(np.maximum(high, against), 0, 1)


def _fits(
    table: _Table, expected: Floats, sure: _Sure, confidence_level: float
) -> NDArray[np.bool_]:
    """Whether each pairing's observed win rate is what the strengths say, but for chance."""
    from scipy.special import stdtrit

    units, fits = table.unit_count, np.ones(len(table.scores), dtype=np.bool_)
    if units < 2:
        return fits
    each = level_of_each(confidence_level, len(table.scores))
    critical = float(stdtrit(units - 1, (1 + each) / 2))
    slope = expected * (1 - expected)
    for n, scores in enumerate(table.scores):
        moves = -slope[n] * (sure.pulls @ table.sides[n])
        moves[:units] += table.by_unit(n, scores - expected[n]) / len(scores)
        error = math.sqrt(units / (units - 1) * float((moves**2).sum()))
        fits[n] = abs(float(scores.mean()) - expected[n]) <= critical * error
    return fits


def _method(units: int, unit: str) -> str:
    if units < 2:
        return SINGLE_UNIT
    return (
        f"Bradley-Terry, ties half; largest |t| of all pairs of models over {RESAMPLES:,} resamples"
        f" of {units:,} {unit}, one win and one loss per candidate added{rough(units)}"
    )


def _sentence(board: Board, doubt: str | None) -> str:
    """Say who can be called the best and who cannot be told apart."""
    models, pairings = board.models, board.pairings
    first = [each.model for each in models if each.best_rank == 1]
    rest = [each for each in models if each.best_rank > 1]
    unsure = [each.model for each in rest if each.best_rank < each.worst_rank]
    sure = f"({level(board.confidence_level)} for all ranks together)"
    if not rest:
        said = [f"No two of the {len(models)} models can be told apart {sure}."]
    elif len(first) == 1:
        said = [f"{first[0]} is the best of the {len(models)} models {sure}."]
    else:
        said = [
            f"{_some(first)} cannot be told apart; one of them is the best of the"
            f" {len(models)} models {sure}."
        ]
    if unsure:
        said.append(
            f"Below, {_some(unsure)} {'have' if len(unsure) > 1 else 'has'} no single rank."
        )
    if board.only_with_baseline:
        said.append(
            f"No two candidates were compared with each other: their order rests on how each does"
            f" against {board.baseline}, and on the assumption that this tells who would win."
        )
    off = [each for each in pairings if not each.fits]
    if off:
        worst = max(off, key=lambda each: abs(each.observed - each.expected))
        said.append(
            f"In {len(off)} of {len(pairings)} pairings more than chance lies between what was seen"
            f" and what the strengths say: {worst.second} wins {percent(worst.observed)} against"
            f" {worst.first}, not {percent(worst.expected)}."
        )
    if board.units < 2:
        doubt = doubt or "all that counts is a single independent unit"
    elif board.units < FEW_UNITS:
        said.append(f"With only {board.units} independent units all this is rough.")
    if doubt:
        said.insert(0, f"Inconclusive: {doubt}. By the numbers alone:")
    return " ".join(said)


def _some(names: Sequence[str]) -> str:
    return listed(names) if len(names) <= MOST_NAMES else f"{len(names)} models"
