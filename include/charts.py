"""Drawings of comparisons: Comparison in, PNG out.

matplotlib's object API only: no pyplot, no state shared between threads. Roles are told apart by
name, position and lightness, so the charts also read in grey and for colour-blind people.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from include.records import Comparison, WinRate
from include.winrate import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BASELINE, CANDIDATE, TIE, ERROR = "#7FB2D9", "#0B4F85", "#D9D4CA", "#B2452B"
HATCHES = {BASELINE: "//", CANDIDATE: "", TIE: "..", ERROR: "xx"}
INK, FAINT = "#22262B", "#8A9099"
NAME_LENGTH = 24
NOTHING = "nothing to show"


def evaluation_metrics(comparison: Comparison, target: Path | str | BinaryIO) -> None:
    """Draw the six panels: judgments, win rate, preferences, lead, gauge and statistics."""
    figure = _figure(16, 10.5)
    panels = figure.subplots(2, 3).flatten()
    figure.suptitle(
        f"{_name(comparison.candidate, 40)} against {_name(comparison.baseline, 40)}",
        fontsize=17,
        fontweight="bold",
        color=INK,
    )
    _judgments(panels[0], comparison)
    _win_rate(panels[1], comparison.win_rate)
    _preferences(panels[2], comparison)
    _lead(panels[3], comparison)
    _gauge(panels[4], comparison.win_rate)
    _statistics(panels[5], comparison)
    figure.savefig(target, format="png", dpi=110)


def win_rates(comparisons: Sequence[Comparison], target: Path | str | BinaryIO) -> None:
    """Draw every candidate's win rate and interval, its categories below it, against 50 %."""
    rows: list[tuple[str, WinRate, int | None, bool]] = []
    for comparison in comparisons:
        pairs = comparison.counts.pairs
        rows.append((_name(comparison.candidate, 34), comparison.win_rate, pairs, True))
        for result in comparison.by_category:
            rows.append((_name(result.category, 34), result.win_rate, result.counts.pairs, False))
    figure = _figure(10, 1.9 + 0.42 * max(1, len(rows)))
    axes = figure.subplots()
    axes.axvline(50, color=INK, linestyle="--", linewidth=1)
    for place, (_, rate, pairs, overall) in enumerate(rows):
        _forest_row(axes, place, rate, pairs, overall)
    axes.set_yticks(range(len(rows)), [row[0] for row in rows])
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if row[3] else "normal")
    axes.set_ylim(max(1, len(rows)) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    baseline = _name(comparisons[0].baseline, 40) if comparisons else "the baseline"
    axes.set_title(f"Win rate against {baseline}", fontweight="bold", color=INK)
    level = percent(comparisons[0].win_rate.confidence_level) if comparisons else ""
    axes.set_xlabel(f"win rate, % of pairs (ties half), with {level} interval")
    _plain(axes, "x")
    axes.tick_params(axis="y", length=0)
    figure.savefig(target, format="png", dpi=110)


def _forest_row(axes: Axes, place: int, rate: WinRate, pairs: int | None, overall: bool) -> None:
    count = "" if pairs is None else f"  (n = {pairs:,})"
    if rate.estimate is None:
        text = f"no win rate{count}"
    else:
        size, colour = (9, CANDIDATE) if overall else (6, BASELINE)
        axes.plot(100 * rate.estimate, place, "D", color=colour, markersize=size, zorder=3)
        text = f"{percent(rate.estimate)}{count}"
        if rate.low is None or rate.high is None:
            text += ", no interval"
        else:
            width = 3.0 if overall else 1.8
            axes.plot([100 * rate.low, 100 * rate.high], [place] * 2, color=colour, linewidth=width)
    axes.annotate(
        text, (1.01, place), xycoords=("axes fraction", "data"), va="center", color=INK, fontsize=9
    )


def _judgments(axes: Axes, comparison: Comparison) -> None:
    counted = _said(comparison)
    labels = ["baseline", "candidate", "ties", "errors"]
    _bars(axes, labels, counted, [BASELINE, CANDIDATE, TIE, ERROR])
    axes.set_title("Judgments by verdict", fontweight="bold", color=INK)
    axes.set_ylabel("judgments (each pair in both orders)")


def _win_rate(axes: Axes, rate: WinRate) -> None:
    axes.set_title(f"Win rate, {percent(rate.confidence_level)} interval", fontweight="bold")
    axes.axvline(50, color=INK, linestyle="--", linewidth=1)
    axes.text(50, 0.93, " no preference", color=FAINT, transform=axes.get_xaxis_transform())
    axes.set_xlim(0, 100)
    axes.set_ylim(-1, 1)
    axes.set_yticks([])
    axes.set_xlabel("win rate of the candidate, % (ties half)")
    _plain(axes, "x")
    if rate.estimate is None:
        return _say(axes, "no win rate")
    axes.barh(0, 100 * rate.estimate, height=0.5, color=CANDIDATE, alpha=0.35)
    text = percent(rate.estimate)
    if rate.low is None or rate.high is None:
        text += "\nno interval"
        axes.plot(100 * rate.estimate, 0, "o", color=INK, markersize=8)
    else:
        # Clamped: an estimate a rounding error outside its interval must not make matplotlib raise.
        below, above = max(0.0, rate.estimate - rate.low), max(0.0, rate.high - rate.estimate)
        sides = [[100 * below], [100 * above]]
        axes.errorbar(
            100 * rate.estimate, 0, xerr=sides, fmt="o", color=INK, capsize=9, capthick=2, lw=2
        )
        text += f"\n{percent(rate.low)} to {percent(rate.high)}"
    x = min(82.0, max(18.0, 100 * rate.estimate))
    white = {"facecolor": "white", "edgecolor": "none", "pad": 2}
    axes.text(x, 0.34, text, ha="center", va="bottom", weight="bold", color=INK, bbox=white)


def _preferences(axes: Axes, comparison: Comparison) -> None:
    unit, (baseline, candidate, ties) = _decided(comparison)
    axes.set_title(f"Preferences, share of {unit}", fontweight="bold", color=INK)
    axes.axis("off")
    parts = [
        ("baseline", baseline, BASELINE),
        ("candidate", candidate, CANDIDATE),
        ("tie", ties, TIE),
    ]
    shown = [part for part in parts if part[1] > 0]
    if not shown:
        return _say(axes, NOTHING)
    total = sum(part[1] for part in shown)
    wedges, _ = axes.pie(
        [part[1] for part in shown],
        labels=[f"{name}\n{percent(value / total)}" for name, value, _ in shown],
        colors=[part[2] for part in shown],
        startangle=90,
        counterclock=False,
        radius=0.95,
        labeldistance=1.14,
        wedgeprops={"width": 0.38, "edgecolor": "white", "linewidth": 2},
        textprops={"color": INK, "fontsize": 11},
    )
    for wedge, part in zip(wedges, shown, strict=True):
        wedge.set_hatch(HATCHES[part[2]])
    axes.text(0, 0, f"{total:,.0f}\n{unit}", ha="center", va="center", fontsize=13, color=INK)
    return None


def _lead(axes: Axes, comparison: Comparison) -> None:
    unit, (baseline, candidate, _) = _decided(comparison)
    labels = [_name(comparison.baseline, 18), _name(comparison.candidate, 18)]
    _bars(axes, labels, [baseline, candidate], [BASELINE, CANDIDATE])
    axes.set_title(f"Wins, {unit}", fontweight="bold", color=INK)
    axes.set_ylabel(f"{unit} won")
    if baseline + candidate == 0:
        text = "nobody has won any"
    elif baseline == candidate:
        text = "equal: neither leads"
    else:
        leader = "candidate" if candidate > baseline else "baseline"
        text = f"the {leader} leads by {abs(candidate - baseline):,.0f}"
    axes.text(0.5, 0.96, text, ha="center", va="top", transform=axes.transAxes, color=INK)


def _gauge(axes: Axes, rate: WinRate) -> None:
    axes.set_title("Win rate of the candidate, %", fontweight="bold", color=INK)
    axes.set_xlim(-1.25, 1.25)
    axes.set_ylim(-0.35, 1.25)
    axes.set_aspect("equal")
    axes.axis("off")
    _arc(axes, 0, 1, "#E4E7EA")
    for mark in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = gauge_point(mark)
        axes.text(1.13 * x, 1.13 * y, f"{100 * mark:.0f}", ha="center", va="center", color=FAINT)
    if rate.estimate is None:
        axes.text(0, -0.22, "no win rate", ha="center", fontsize=15, color=INK)
        return
    text = percent(rate.estimate)
    if rate.low is not None and rate.high is not None:
        _arc(axes, rate.low, rate.high, CANDIDATE)
        text += f"  ({percent(rate.low)} to {percent(rate.high)})"
    else:
        text += "  (no interval)"
    x, y = gauge_point(0.5)
    axes.plot([0.8 * x, 1.02 * x], [0.8 * y, 1.02 * y], color=INK, linestyle="--", linewidth=1.5)
    x, y = gauge_point(min(1.0, max(0.0, rate.estimate)))
    axes.plot([0, 0.9 * x], [0, 0.9 * y], color=ERROR, linewidth=3, solid_capstyle="round")
    axes.plot(0, 0, "o", color=ERROR, markersize=9)
    axes.text(0, -0.22, text, ha="center", fontsize=14, fontweight="bold", color=INK)


def gauge_point(share: float) -> tuple[float, float]:
    """Where a share sits on the gauge's arc: 0 at the left, 1 at the right."""
    angle = math.pi * (1 - share)
    return math.cos(angle), math.sin(angle)


def _arc(axes: Axes, low: float, high: float, colour: str) -> None:
    from matplotlib.patches import Wedge

    start, end = 180 * (1 - min(1.0, high)), 180 * (1 - max(0.0, low))
    axes.add_patch(Wedge((0, 0), 1.0, start, end, width=0.16, color=colour, linewidth=0))


def _statistics(axes: Axes, comparison: Comparison) -> None:
    from matplotlib.transforms import Bbox

    axes.set_title("Statistics", fontweight="bold", color=INK)
    axes.axis("off")
    table = axes.table(
        cellText=_statistics_rows(comparison),
        colLabels=["metric", "value"],
        cellLoc="left",
        bbox=Bbox.unit(),
        colWidths=[0.58, 0.42],
    )
    table.auto_set_font_size(False)
    table.set_fontsize(10.5)
    for (row, _), cell in table.get_celld().items():
        cell.set_linewidth(0)
        cell.set_facecolor("#DCE6EE" if row == 0 else "#F4F5F6" if row % 2 else "white")
        cell.set_text_props(color=INK, fontweight="bold" if row == 0 else "normal")


def _statistics_rows(comparison: Comparison) -> list[list[str]]:
    counts, rate = comparison.counts, comparison.win_rate
    baseline, candidate, ties, errors = _said(comparison)
    asked = counts.judgments + counts.inference_errors
    return [
        ["prompts", _count(counts.prompts)],
        ["pairs with a preference", _count(counts.pairs)],
        ["judgments and errors", _count(asked)],
        ["judgments for the baseline", _count(baseline)],
        ["judgments for the candidate", _count(candidate)],
        ["judgments: tie", _count(ties)],
        ["inference errors", _count(errors)],
        ["error rate, % of judgments", _share(counts.inference_errors / asked if asked else None)],
        ["win rate (ties half)", _share(rate.estimate)],
        [f"{percent(rate.confidence_level)} interval, low", _share(rate.low)],
        [f"{percent(rate.confidence_level)} interval, high", _share(rate.high)],
        ["pairs on which both orders agree", _share(comparison.position.consistency)],
    ]


def _said(comparison: Comparison) -> list[float]:
    """Judgments for baseline, candidate and tie, and errors: our count, else Nova's."""
    known = {row.metric: row for row in comparison.reconciliation}

    def value(metric: str) -> float:
        row = known.get(metric)
        if row is None:
            return 0.0
        return row.recomputed if row.recomputed is not None else row.nova or 0.0

    errors = float(comparison.counts.inference_errors)
    return [value("a_scores"), value("b_scores"), value("ties"), errors]


def _decided(comparison: Comparison) -> tuple[str, tuple[float, float, float]]:
    """Unit, and how many of it went to baseline, candidate and tie."""
    counts = comparison.counts
    if counts.pairs is None:
        baseline, candidate, ties, _ = _said(comparison)
        return "judgments", (baseline, candidate, ties)
    return "pairs", (counts.baseline_wins or 0, counts.candidate_wins or 0, counts.ties or 0)


def _bars(
    axes: Axes, labels: Sequence[str], values: Sequence[float], colours: Sequence[str]
) -> None:
    bars = axes.bar(range(len(values)), values, color=colours, edgecolor="white", width=0.66)
    for bar, colour in zip(bars, colours, strict=True):
        bar.set_hatch(HATCHES[colour])
    axes.bar_label(bars, labels=[f"{value:,.0f}" for value in values], padding=3, color=INK)
    axes.set_xticks(range(len(labels)), labels)
    axes.set_ylim(0, 1.2 * max(1.0, *values))
    axes.locator_params(axis="y", integer=True)
    _plain(axes, "y")


def _plain(axes: Axes, grid: Literal["x", "y"]) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis=grid, color="#E9EBED", linewidth=0.8)
    axes.set_axisbelow(True)


def _say(axes: Axes, text: str) -> None:
    white = {"facecolor": "white", "edgecolor": "none"}
    place = axes.transAxes
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=place, color=FAINT, bbox=white)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(
        figsize=(width, height),
        layout=ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15),
        facecolor="white",
    )
    FigureCanvasAgg(figure)
    return figure


def _name(text: str, length: int = NAME_LENGTH) -> str:
    """A name that fits and that matplotlib does not take for mathematics."""
    short = text if len(text) <= length else f"{text[: length - 8]}…{text[-7:]}"
    return short.replace("$", r"\$")


def _count(value: float | None) -> str:
    return "not known" if value is None else f"{value:,.0f}"


def _share(value: float | None) -> str:
    return "not known" if value is None else f"{100 * value:.1f} %"
