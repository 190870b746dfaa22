"""Scores and differences of length in, the win rate at equal length with its interval out.

Written out rather than taken from statsmodels, which takes three seconds of processor time to
import in every task that counts, and has no cluster jackknife of this model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from include.intervals import NOTHING, SINGLE_UNIT, Interval, cluster_t_interval, rough

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

LONGER = "none: the candidate's responses are all longer, so nothing shows equal length"
SHORTER = "none: the candidate's responses are all shorter, so nothing shows equal length"
SEPARATED = "none: length alone tells who wins, so nothing is left to the models"
UNKNOWN = "none: too few of the units show what length does"
MOST_STEPS = 100
"""Of Newton's method, none of them longer than 1."""


def equal_length_interval(
    scores: Sequence[float],
    differences: Sequence[float],
    clusters: Sequence[str],
    confidence_level: float,
    unit: str = "prompts",
) -> Interval:
    """Interval of the mean score that two responses of equal length would have, by a model.

    Args:
        scores: Each from 0 to 1, the candidate's.
        differences: The candidate's length minus the baseline's, in any unit, one per score.
        clusters: What each score belongs to; clusters, not scores, are independent.
        confidence_level: For example 0.95.
        unit: What the clusters are called.

    Returns:
        An interval without numbers where the model has no answer; `method` says why.

    Notes:
        The model: E[score] = expit(a + b · tanh(difference / s)), with the differences' standard
        deviation s. a and b maximize the binomial likelihood, which for scores between 0 and 1 is a
        quasi-likelihood; the mean score at equal length is expit(a).
        Its interval is that of a, a ± t · SE on G-1 degrees of freedom for G clusters, put through
        expit. The standard error is that of the linearized cluster jackknife:
        SE² = (G-1)/G · Σ_g d_g², where d_g is how far one Newton step moves a when cluster g is
        left out. The usual sandwich is smaller, and too small with few clusters or rare losses.
        `standard_error` is expit(a) · (1 - expit(a)) · SE (delta method).
        Where all lengths or all scores are equal, length cannot matter: `cluster_t_interval`.
        No interval: one cluster; no response of the candidate that is as short, or as long, as the
        baseline's, where the answer would be the model's alone; wins and losses that a threshold of
        length separates, where the likelihood has no maximum.

    References:
        Dubois et al., Length-Controlled AlpacaEval, arXiv 2404.04475 (2024), for the model; their
        standard error, of the predictions over prompts, leaves out that a and b are estimates.
        Papke and Wooldridge, Econometric Methods for Fractional Response Variables, J. Applied
        Econometrics 11(6), 1996, for scores that are neither 0 nor 1.
        MacKinnon, Nielsen and Webb, Cluster-Robust Jackknife and Bootstrap Inference for Logistic
        Regression Models, arXiv 2406.00650 (2024), for the standard error (CV3L) and t on G-1.
        Albert and Anderson, Biometrika 71 (1984), pages 1-10, for separation.

    Example:
        >>> scores = [1, 1, 1, 0, 1, 0, 0, 1, 0, 0, 1, 0]
        >>> differences = [90, 80, 60, 50, 30, 10, 0, -10, -20, -40, -60, -90]
        >>> found = equal_length_interval(scores, differences, list("abcdefghijkl"), 0.95)
        >>> round(found.estimate, 3), round(found.low, 3), round(found.high, 3)
        (0.465, 0.138, 0.825)
    """
    from scipy.special import expit, stdtrit

    units = len(set(clusters))
    equal = _all_equal(scores, differences)
    if equal:
        raw = cluster_t_interval(scores, clusters, confidence_level, unit)
        return replace(raw, method=f"{raw.method}; {equal}")
    reason = _no_answer(scores, differences, units)
    found = None if reason else _fit(scores, differences, clusters)
    if found is None:
        return Interval(None, None, None, None, units, reason or UNKNOWN)
    half = float(stdtrit(units - 1, (1 + confidence_level) / 2)) * found.standard_error
    low, mean, high = (float(expit(found.logit + side)) for side in (-half, 0.0, half))
    method = f"logistic in length, cluster jackknife t on {units} {unit}" + rough(units)
    return Interval(mean, low, high, mean * (1 - mean) * found.standard_error, units, method)


def _all_equal(scores: Sequence[float], differences: Sequence[float]) -> str | None:
    """Say what is equal so that length cannot matter."""
    if scores and not any(differences):
        return "all lengths are equal"
    if scores and min(scores) == max(scores) and min(differences) <= 0 <= max(differences):
        return "all scores are equal"
    return None


def _no_answer(scores: Sequence[float], differences: Sequence[float], units: int) -> str | None:
    """Say why the model has no answer for these scores."""
    if not scores:
        return NOTHING
    if units < 2:
        return SINGLE_UNIT
    if min(differences) > 0:
        return LONGER
    if max(differences) < 0:
        return SHORTER
    won = [x for x, score in zip(differences, scores, strict=True) if score > 0]
    lost = [x for x, score in zip(differences, scores, strict=True) if score < 1]
    return SEPARATED if max(lost) <= min(won) or max(won) <= min(lost) else None


class _Fit(NamedTuple):
    logit: float
    """Of the mean score at equal length."""
    standard_error: float


def _fit(
    scores: Sequence[float], differences: Sequence[float], clusters: Sequence[str]
) -> _Fit | None:
    """Fit the model; None where that takes too long, or cannot be done without one cluster."""
    import numpy as np

    lengths = np.array(differences, dtype=float)
    scaled = np.tanh(lengths / lengths.std(ddof=1))
    x, y = np.column_stack([np.ones_like(scaled), scaled]), np.array(scores, dtype=float)
    try:
        coefficients = _most_likely(x, y)
        error = None if coefficients is None else _jackknife(x, y, coefficients, clusters)
    except np.linalg.LinAlgError:  # all scores so near to 0 or 1 that none of them tells
        return None
    if coefficients is None or error is None:
        return None
    return _Fit(float(coefficients[0]), error)


def _most_likely(x: Numbers, y: Numbers) -> Numbers | None:
    """Maximize the likelihood by Newton's method."""
    import numpy as np
    from scipy.special import expit

    coefficients = np.zeros(2)
    for _ in range(MOST_STEPS):
        mean = expit(x @ coefficients)
        step = np.linalg.solve((x.T * (mean * (1 - mean))) @ x, x.T @ (y - mean))
        size = float(abs(step).max())
        coefficients += step / max(1.0, size)
        if size < 1e-9:
            return coefficients
    return None


def _jackknife(
    x: Numbers, y: Numbers, coefficients: Numbers, clusters: Sequence[str]
) -> float | None:
    """Compute the standard error of the first coefficient; None if it hangs on one cluster."""
    import numpy as np
    from scipy.special import expit

    mean = expit(x @ coefficients)
    # Not np.unique: its texts all take as much room as the longest, and "a\0" is "a".
    places = {name: place for place, name in enumerate(dict.fromkeys(clusters))}
    cluster_of = [places[name] for name in clusters]
    units = len(places)
    score, information = np.zeros((units, 2)), np.zeros((units, 2, 2))
    np.add.at(score, cluster_of, (y - mean)[:, None] * x)
    weight = (mean * (1 - mean))[:, None, None]
    np.add.at(information, cluster_of, weight * x[:, :, None] * x[:, None, :])
    total = information.sum(axis=0)
    without = total - information
    if (np.linalg.det(without) < 1e-9 * np.linalg.det(total)).any():
        return None
    moved = np.linalg.solve(without, score[:, :, None])[:, 0, 0]
    return float(np.sqrt((units - 1) / units * (moved**2).sum()))
