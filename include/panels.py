"""What is drawn of comparisons: numbers in, Panels out.

A panel is a drawing with the numbers in it and a sentence that says what it shows. Baseline,
candidate and ties are told apart by name, place, lightness and hatching, so that a panel also
reads in grey and for people who see few colours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from include.records import (
    Board,
    BoardModel,
    Comparison,
    MarginBin,
    OrderCount,
    Preference,
    WinRate,
)
from include.wording import count, level, percent, ranks_told, with_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BASELINE, CANDIDATE, TIE, ERROR = "#7FB2D9", "#0B4F85", "#D9D4CA", "#B2452B"
HATCHES = {BASELINE: "//", CANDIDATE: "", TIE: "--", ERROR: "xx"}
INK, FAINT, GRID, PAGE = "#22262B", "#59616A", "#E4E7EA", "#FFFFFF"
HEAD, STRIPE = "#DCE6EE", "#F4F5F6"
COLOURS = {
    BASELINE: "baseline",
    CANDIDATE: "candidate",
    TIE: "tie",
    ERROR: "error",
    INK: "ink",
    FAINT: "soft",
    GRID: "line",
    PAGE: "page",
}
"""What each colour is for, as a page with colours of its own calls it."""
NAME_LENGTH = 24
MOST_ROWS = 100
"""Of one drawing: more take a minute and a gigabyte, and nobody reads them."""
NOTHING = "nothing to show"

Row = dict[str, str | float | None]


@dataclass(frozen=True)
class Panel:
    """One drawing."""

    name: str
    """Of its files."""
    title: str
    unit: str
    """What is counted in it: judgments or pairs."""
    text: str
    """What it shows, in words."""
    rows: list[Row]
    """The numbers in it."""
    paint: Callable[[Axes], None]
    height: float = 3.5
    """In inches, at `WIDTH`."""
    note: str = ""
    """What keeps a reader from concluding more than it shows."""


WIDTH = 4.8
"""Of every panel, in inches: its letters stay legible on a phone."""


def six(comparison: Comparison, threshold: float | None = None) -> list[Panel]:
    """Return the panels that AWS's notebook draws, each with its unit and its interval."""
    return [
        judgments(comparison),
        win_rate(comparison, threshold),
        preferences(comparison),
        wins(comparison),
        gauge(comparison),
        statistics(comparison),
    ]


def beside_the_six(comparison: Comparison) -> list[Panel]:
    """Draw what else there is to see of a comparison: each where there are numbers for it."""
    found = (orders(comparison), lengths(comparison), margins(comparison))
    return [panel for panel in found if panel]


def judgments(comparison: Comparison) -> Panel:
    """Judgments by what they say, each pair in both orders."""
    said = _said(comparison)
    labels = ["baseline", "candidate", "tie", "error"]

    def paint(axes: Axes) -> None:
        _bars(axes, labels, said, [BASELINE, CANDIDATE, TIE, ERROR])
        axes.set_ylabel("judgments, two per pair", color=INK)

    return Panel(
        name="judgments",
        title="What the judge said",
        unit="judgments",
        text=f"Judgments: {_listed(zip(labels, said, strict=True))}.",
        rows=[{"said": label, "judgments": n} for label, n in zip(labels, said, strict=True)],
        paint=paint,
    )


def win_rate(comparison: Comparison, threshold: float | None = None) -> Panel:
    """The win rate and its interval, against 50 % and what the gate asks for."""
    rate = comparison.win_rate

    def paint(axes: Axes) -> None:
        _scale(axes, threshold)
        axes.set_ylim(-1, 1.4)
        axes.set_yticks([])
        axes.set_xlabel("pairs won by the candidate, % (ties half)", color=INK)
        if rate.estimate is None:
            return _say(axes, "no win rate")
        axes.barh(0, 100 * rate.estimate, height=0.5, color=BASELINE, alpha=0.6)
        text = percent(rate.estimate)
        if rate.low is None or rate.high is None:
            text += "\nno interval"
            axes.plot(100 * rate.estimate, 0, "o", color=INK, markersize=8)
        else:
            sides = [[100 * side] for side in _sides(rate)]
            axes.errorbar(
                100 * rate.estimate, 0, xerr=sides, fmt="o", color=INK, capsize=8, capthick=2, lw=2
            )
            text += f"\n{percent(rate.low)} to {percent(rate.high)}"
        x = min(78.0, max(22.0, 100 * rate.estimate))
        box = {"facecolor": PAGE, "edgecolor": "none", "pad": 2}
        axes.text(x, 0.36, text, ha="center", va="bottom", weight="bold", color=INK, bbox=box)
        return None

    return Panel(
        name="win_rate",
        title=f"Win rate with {level(rate.confidence_level)} interval",
        unit="pairs",
        text=f"Win rate of {comparison.candidate}: {_told(rate)}.",
        rows=[_rate_row(comparison.candidate, "", rate, comparison.counts.pairs)],
        paint=paint,
    )


def preferences(comparison: Comparison) -> Panel:
    """Shares of baseline, candidate and ties."""
    unit, counted = _decided(comparison)
    labels, colours = ["baseline", "candidate", "tie"], [BASELINE, CANDIDATE, TIE]
    shown = [part for part in zip(labels, counted, colours, strict=True) if part[1] > 0]
    total = sum(counted)

    def paint(axes: Axes) -> None:
        axes.axis("off")
        if not shown:
            return _say(axes, NOTHING)
        wedges, _ = axes.pie(
            [value for _, value, _ in shown],
            labels=[f"{name}\n{percent(value / total)}" for name, value, _ in shown],
            colors=[colour for *_, colour in shown],
            startangle=90,
            counterclock=False,
            radius=0.95,
            labeldistance=1.14,
            wedgeprops={"width": 0.38, "edgecolor": PAGE, "linewidth": 2},
            textprops={"color": INK},
        )
        for wedge, (*_, colour) in zip(wedges, shown, strict=True):
            wedge.set_hatch(HATCHES[colour])
        axes.text(0, 0, f"{total:,.0f}\n{unit}", ha="center", va="center", fontsize=13, color=INK)
        return None

    return Panel(
        name="preferences",
        title="Whom the judge prefers",
        unit=unit,
        text=f"Of {total:,.0f} {unit}: {_listed(zip(labels, counted, strict=True))}.",
        rows=[{"preference": a, unit: n} for a, n in zip(labels, counted, strict=True)],
        paint=paint,
    )


def wins(comparison: Comparison) -> Panel:
    """Wins of either model, ties aside, and who leads by how much."""
    unit, (baseline, candidate, _) = _decided(comparison)
    if baseline + candidate == 0:
        text = "nobody has won any"
    elif baseline == candidate:
        text = "equal: neither leads"
    else:
        leader = "candidate" if candidate > baseline else "baseline"
        text = f"the {leader} leads by {abs(candidate - baseline):,.0f}"

    def paint(axes: Axes) -> None:
        labels = [_name(comparison.baseline, 18), _name(comparison.candidate, 18)]
        _bars(axes, labels, [baseline, candidate], [BASELINE, CANDIDATE])
        axes.set_ylabel(f"{unit} won", color=INK)
        axes.text(0.5, 0.97, text, ha="center", va="top", transform=axes.transAxes, color=INK)

    return Panel(
        name="wins",
        title="Wins without the ties",
        unit=unit,
        text=f"{unit.capitalize()} won: baseline {baseline:,.0f}, candidate {candidate:,.0f}: "
        f"{text}.",
        rows=[{"model": "baseline", unit: baseline}, {"model": "candidate", unit: candidate}],
        paint=paint,
    )


def gauge(comparison: Comparison) -> Panel:
    """The win rate on a dial, its interval as the dark part of the arc."""
    rate = comparison.win_rate

    def paint(axes: Axes) -> None:
        axes.set_xlim(-1.25, 1.25)
        axes.set_ylim(-0.35, 1.25)
        axes.set_aspect("equal")
        axes.axis("off")
        _arc(axes, 0, 1, GRID)
        for mark in (0.0, 0.25, 0.5, 0.75, 1.0):
            x, y = gauge_point(mark)
            text = f"{100 * mark:.0f}"
            axes.text(1.13 * x, 1.13 * y, text, ha="center", va="center", color=FAINT)
        if rate.estimate is None:
            axes.text(0, -0.24, "no win rate", ha="center", fontsize=13, color=INK)
            return
        if rate.low is not None and rate.high is not None:
            _arc(axes, rate.low, rate.high, CANDIDATE)
        x, y = gauge_point(0.5)
        axes.plot(
            [0.8 * x, 1.02 * x], [0.8 * y, 1.02 * y], color=INK, linestyle="--", linewidth=1.5
        )
        x, y = gauge_point(min(1.0, max(0.0, rate.estimate)))
        axes.plot([0, 0.9 * x], [0, 0.9 * y], color=ERROR, linewidth=3, solid_capstyle="round")
        axes.plot(0, 0, "o", color=ERROR, markersize=9)
        axes.text(0, -0.24, _told(rate), ha="center", fontsize=12, fontweight="bold", color=INK)

    return Panel(
        name="gauge",
        title="Win rate of the candidate, % of pairs",
        unit="pairs",
        text=f"A dial from 0 to 100 % that points to {_told(rate)}.",
        rows=[_rate_row(comparison.candidate, "", rate, comparison.counts.pairs)],
        paint=paint,
    )


def statistics(comparison: Comparison) -> Panel:
    """The numbers behind the other panels as a table."""
    rows = statistics_rows(comparison)

    def paint(axes: Axes) -> None:
        from matplotlib.transforms import Bbox

        axes.axis("off")
        table = axes.table(
            cellText=rows,
            colLabels=["number", "value", "unit"],
            cellLoc="left",
            bbox=Bbox.unit(),
            colWidths=[0.52, 0.24, 0.24],
        )
        table.auto_set_font_size(False)
        table.set_fontsize(10)
        for (row, _), cell in table.get_celld().items():
            cell.set_linewidth(0)
            cell.set_facecolor(HEAD if row == 0 else STRIPE if row % 2 else PAGE)
            cell.set_text_props(color=INK, fontweight="bold" if row == 0 else "normal")

    return Panel(
        name="statistics",
        title="Statistics",
        unit="judgments and pairs",
        text="The numbers of this comparison as a table.",
        rows=[{"number": name, "value": value, "unit": unit} for name, value, unit in rows],
        paint=paint,
    )


def statistics_rows(comparison: Comparison) -> list[list[str]]:
    """Return name, value and unit of the numbers in AWS's statistics table, and what it lacks."""
    counts, rate = comparison.counts, comparison.win_rate
    baseline, candidate, ties, errors = _said(comparison)
    asked = counts.judgments + counts.inference_errors
    interval = f"{level(rate.confidence_level)} interval"
    return [
        ["prompts", count(counts.prompts), "prompts"],
        ["with a preference", count(counts.pairs), "pairs"],
        ["judgments and errors", count(asked), "judgments"],
        ["for the baseline", count(baseline), "judgments"],
        ["for the candidate", count(candidate), "judgments"],
        ["tie", count(ties), "judgments"],
        ["inference errors", count(errors), "judgments"],
        ["error rate", _share(counts.inference_errors / asked if asked else None), "of judgments"],
        ["win rate, ties half", _share(rate.estimate), "of pairs"],
        [f"{interval}, low", _share(rate.low), "of pairs"],
        [f"{interval}, high", _share(rate.high), "of pairs"],
        ["both orders agree", _share(comparison.position.consistency), "of pairs"],
    ]


def forest(comparisons: Sequence[Comparison], threshold: float | None = None) -> Panel:
    """Every candidate's win rate and interval, its categories below it."""
    found: list[tuple[str, str, WinRate, int | None]] = []
    for each in comparisons:
        found.append((each.candidate, "", each.win_rate, each.counts.pairs))
        found += [
            (each.candidate, row.category, row.win_rate, row.counts.pairs)
            for row in each.by_category
        ]
    drawn = found if len(found) <= MOST_ROWS else [row for row in found if not row[1]]
    more = len(found) - len(drawn)
    levels = sorted({level(rate.confidence_level) for *_, rate, _ in found})
    baseline = comparisons[0].baseline if comparisons else "the baseline"

    def paint(axes: Axes) -> None:
        _scale(axes, threshold)
        for place, (candidate, category, rate, pairs) in enumerate(drawn):
            _forest_row(axes, place, _name(category or candidate, 30), rate, pairs, not category)
        axes.set_yticks([])
        axes.set_ylim(max(1, len(drawn)) - 0.45, -0.8)
        axes.set_xlabel(
            f"pairs won, % (ties half), with {' and '.join(levels) or 'no'} interval", color=INK
        )

    return Panel(
        name="win_rates",
        title=f"Win rate against {_short(baseline, 30)}",
        unit="pairs",
        text="Win rates: "
        + "; ".join(
            f"{category or candidate} {_told(rate)}" for candidate, category, rate, _ in drawn
        )
        + ".",
        rows=[_rate_row(*row) for row in found],
        paint=paint,
        height=1.1 + 0.5 * max(1, len(drawn)),
        note=f"{more:,} categories are too many to draw; the numbers have them all."
        if more
        else "",
    )


def _forest_row(
    axes: Axes, place: int, name: str, rate: WinRate, pairs: int | None, overall: bool
) -> None:
    of = "" if pairs is None else f"  n = {pairs:,}"
    weight = "bold" if overall else "normal"
    if rate.estimate is None:
        text = f"no win rate{of}"
    else:
        size, colour = (9, CANDIDATE) if overall else (7, FAINT)
        axes.plot(100 * rate.estimate, place, "D", color=colour, markersize=size, zorder=3)
        text = f"{percent(rate.estimate)}{of}"
        if rate.low is None or rate.high is None:
            text += ", no interval"
        else:
            width = 3.5 if overall else 2.0
            axes.plot([100 * rate.low, 100 * rate.high], [place] * 2, color=colour, linewidth=width)
    box = {"facecolor": PAGE, "edgecolor": "none", "pad": 1}
    axes.text(0, place - 0.36, name, va="center", color=INK, weight=weight, bbox=box)
    axes.text(100, place - 0.36, text, va="center", ha="right", color=INK, weight=weight, bbox=box)


def ranks(board: Board) -> Panel:
    """The ranks that each model may have, the strongest model first."""
    last = len(board.models)

    def paint(axes: Axes) -> None:
        for place, each in enumerate(board.models):
            _ranks_row(axes, place, each, each.model == board.baseline, last)
        axes.set_xlim(0.5, last + 0.5)
        axes.set_xticks(sorted({1, *range(5, last, 5), last}) if last > 8 else range(1, last + 1))
        axes.set_yticks([])
        axes.set_ylim(last - 0.45, -0.8)
        axes.set_xlabel(f"rank, {level(board.confidence_level)} for all together", color=INK)
        _plain(axes, "x")

    return Panel(
        name="ranks",
        title="Ranks that each model may have",
        unit="pairs",
        text="Ranks: "
        + "; ".join(
            f"{each.model} {ranks_told(each.best_rank, each.worst_rank)}" for each in board.models
        )
        + ".",
        rows=[
            {
                "model": each.model,
                "best rank": each.best_rank,
                "worst rank": each.worst_rank,
                "win rate against the baseline": each.win_rate,
                "low": each.low,
                "high": each.high,
                "log-strength": each.log_strength,
            }
            for each in board.models
        ],
        paint=paint,
        height=1.1 + 0.5 * last,
    )


def _ranks_row(axes: Axes, place: int, each: BoardModel, is_baseline: bool, last: int) -> None:
    colour = BASELINE if is_baseline else CANDIDATE
    axes.barh(
        place,
        each.worst_rank - each.best_rank + 0.8,
        left=each.best_rank - 0.4,
        height=0.26,
        color=colour,
        hatch=HATCHES[colour],
        edgecolor=PAGE,
    )
    name = _name(each.model, 26) + (" (baseline)" if is_baseline else "")
    text = ranks_told(each.best_rank, each.worst_rank)
    box = {"facecolor": PAGE, "edgecolor": "none", "pad": 1}
    axes.text(0.5, place - 0.36, name, va="center", color=INK, weight="bold", bbox=box)
    axes.text(last + 0.5, place - 0.36, text, va="center", ha="right", color=INK, bbox=box)


BOTH_ORDERS = [
    ("candidate in both", CANDIDATE),
    ("baseline in both", BASELINE),
    ("tie in both", TIE),
    ("position A in both", ERROR),
    ("position B in both", ERROR),
    ("a win and a tie", FAINT),
    ("no verdict in one or both", GRID),
]
"""What both orders of a pair can come to, and how it is drawn."""


def orders(comparison: Comparison) -> Panel | None:
    """What the judge said of the same pair in both orders: where it follows the position.

    None where the judge has not told.
    """
    if not comparison.orders:
        return None
    labels = [label for label, _ in BOTH_ORDERS]
    counted = dict.fromkeys(labels, 0)
    for each in comparison.orders:
        counted[_come_to(each)] += each.pairs
    total = sum(counted.values())

    def paint(axes: Axes) -> None:
        values = list(counted.values())
        bars = axes.barh(
            range(len(values)),
            values,
            color=[colour for _, colour in BOTH_ORDERS],
            edgecolor=PAGE,
            height=0.66,
        )
        for bar, (_, colour) in zip(bars, BOTH_ORDERS, strict=True):
            bar.set_hatch(HATCHES.get(colour, ""))
        texts = [f"{n:,}  ({percent(n / total)})" if total else "0" for n in values]
        axes.bar_label(bars, labels=texts, padding=4, color=INK)
        axes.set_yticks(range(len(labels)), labels)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.45 * max(1, *values))
        axes.set_xlabel("pairs, judged in both orders", color=INK)
        axes.tick_params(axis="y", length=0)
        axes.locator_params(axis="x", integer=True, nbins=5)
        _plain(axes, "x")

    return Panel(
        name="orders",
        title="The same pair in both orders",
        unit="pairs",
        text=f"Of {total:,} judged pairs: {_listed(counted.items())}.",
        rows=[
            {
                "forward": each.forward or "no verdict",
                "backward": each.backward or "no verdict",
                "come to": _come_to(each),
                "pairs": each.pairs,
            }
            for each in comparison.orders
        ],
        paint=paint,
    )


def _come_to(each: OrderCount) -> str:
    """Put both orders into words; `forward` has the baseline in position A."""
    both: tuple[Preference | None, Preference | None] = (each.forward, each.backward)
    if None in both:
        return "no verdict in one or both"
    if both[0] == both[1]:
        return f"{both[0]} in both"
    if both == ("baseline", "candidate"):
        return "position A in both"
    return "position B in both" if both == ("candidate", "baseline") else "a win and a tie"


EQUAL_LENGTH = (
    "It is where a logistic curve through these pairs passes equal length, and no surer than that"
    " such a curve fits. A better response may be longer because it is better, so it is not the"
    " fairer win rate, and no verdict rests on it."
)


class _LengthPoint(NamedTuple):
    label: str
    shortest: float
    """Ratio of lengths, the candidate's by the baseline's."""
    longest: float
    rate: WinRate
    pairs: int | None


def lengths(comparison: Comparison) -> Panel | None:
    """The win rate by how long the candidate's responses are; of all pairs; at equal length."""
    found = comparison.lengths
    if found is None:
        return None
    parts = [
        _LengthPoint(
            _times(each.shortest, each.longest),
            each.shortest,
            each.longest,
            each.win_rate,
            each.pairs,
        )
        for each in found.bins
    ]
    shortest, longest = parts[0].shortest, parts[-1].longest
    whole = [
        _LengthPoint("all\npairs", shortest, longest, comparison.win_rate, comparison.counts.pairs)
    ]
    if equal := found.at_equal_length:
        pairs = sum(each.pairs for each in found.bins)
        whole.append(_LengthPoint("equal\nlength", 1.0, 1.0, equal, pairs))
    points = [*parts, *whole]

    def paint(axes: Axes) -> None:
        for place, point in enumerate(points):
            _length_point(axes, place, point.rate, of_part=place < len(parts))
        axes.axvline(len(parts) - 0.5, color=FAINT, linewidth=1)
        axes.axhline(50, color=INK, linestyle="--", linewidth=1)
        axes.set_ylim(0, 100)
        axes.set_xlim(-0.6, len(points) - 0.4)
        axes.set_xticks(range(len(points)), [point.label for point in points])
        axes.set_ylabel("pairs won, % (ties half)", color=INK)
        axes.set_xlabel(
            "length of the candidate's response, times the baseline's\n"
            f"{found.bins[0].pairs:,} pairs at a diamond",
            color=INK,
        )
        _plain(axes, "y")

    longer = found.longer_wins
    share = "" if longer.estimate is None else f" ({percent(longer.estimate)})"
    at_equal_length = f"At equal length: {_told(equal)}." if equal else ""
    return Panel(
        name="lengths",
        title="Length against outcome",
        unit="pairs",
        text=f"The longer response won {longer.count} of {longer.of} pairs with a winner{share}. "
        + "Win rate where the candidate's response is "
        + "; ".join(f"{_in_line(part.label)} times as long: {_told(part.rate)}" for part in parts)
        + f". {at_equal_length}".rstrip(),
        rows=[
            {
                "point": _in_line(point.label),
                "shortest ratio": round(point.shortest, 4),
                "longest ratio": round(point.longest, 4),
                **_rate_row(comparison.candidate, "", point.rate, point.pairs),
            }
            for point in points
        ],
        paint=paint,
        note=f"{at_equal_length} {EQUAL_LENGTH}" if equal else "",
    )


def _length_point(axes: Axes, place: int, rate: WinRate, *, of_part: bool) -> None:
    marker, colour = ("D", CANDIDATE) if of_part else ("o", INK)
    if rate.estimate is None:
        axes.text(place, 3, "none", ha="center", color=FAINT)
        return
    if rate.low is not None and rate.high is not None:
        axes.plot([place] * 2, [100 * rate.low, 100 * rate.high], color=colour, linewidth=3)
    axes.plot(place, 100 * rate.estimate, marker, color=colour, markersize=8, zorder=3)


def _in_line(label: str) -> str:
    return label.replace("\n", " ")


def _times(low: float, high: float) -> str:
    low_text, high_text = (f"{x:.2g}" if x < 10 else f"{x:,.0f}" for x in (low, high))
    return f"{low_text}\nto {high_text}"


def margins(comparison: Comparison) -> Panel | None:
    """How the margins of a rubric judge spread over the pairs."""
    rubric = comparison.rubric
    if rubric is None or not any(each.pairs for each in rubric.margins):
        return None
    total = sum(each.pairs for each in rubric.margins)
    for_candidate = sum(each.pairs for each in rubric.margins if _colour_of(each) == CANDIDATE)
    for_baseline = sum(each.pairs for each in rubric.margins if _colour_of(each) == BASELINE)

    def paint(axes: Axes) -> None:
        for each in rubric.margins:
            colour = _colour_of(each)
            axes.bar(
                each.low,
                each.pairs,
                width=each.high - each.low,
                align="edge",
                color=colour,
                hatch=HATCHES[colour],
                edgecolor=PAGE,
            )
        axes.axvline(0, color=INK, linestyle="--", linewidth=1)
        if rubric.margin is not None:
            axes.axvline(rubric.margin, color=ERROR, linewidth=2)
        axes.set_xlim(rubric.margins[0].low, rubric.margins[-1].high)
        axes.set_xlabel("score of the baseline minus the candidate's\nred line: mean", color=INK)
        axes.set_ylabel("pairs", color=INK)
        axes.locator_params(axis="y", integer=True)
        _plain(axes, "y")

    mean = "not known" if rubric.margin is None else f"{rubric.margin:+.3f}"
    return Panel(
        name="margins",
        title="Margins of the rubric judge",
        unit="pairs",
        text=f"Mean margin {mean}, baseline minus candidate; of {total:,} pairs {for_candidate:,} "
        f"lie on the candidate's side, {for_baseline:,} on the baseline's, the others around 0.",
        rows=[{"low": each.low, "high": each.high, "pairs": each.pairs} for each in rubric.margins],
        paint=paint,
    )


def _colour_of(margins: MarginBin) -> str:
    """Return whose side margins are on; that of a tie where they lie around 0."""
    if margins.low < -1e-9 and margins.high > 1e-9:
        return TIE
    return CANDIDATE if margins.high <= 1e-9 else BASELINE


def gauge_point(share: float) -> tuple[float, float]:
    """Return where a share sits on the gauge's arc: 0 at the left, 1 at the right."""
    angle = math.pi * (1 - share)
    return math.cos(angle), math.sin(angle)


def _arc(axes: Axes, low: float, high: float, colour: str) -> None:
    from matplotlib.patches import Wedge

    start, end = 180 * (1 - min(1.0, high)), 180 * (1 - max(0.0, low))
    axes.add_patch(Wedge((0, 0), 1.0, start, end, width=0.16, color=colour, linewidth=0))


def _said(comparison: Comparison) -> list[float]:
    """Return the judgments for baseline, candidate and tie, and errors: our count, else Nova's."""
    known = {row.metric: row for row in comparison.reconciliation}

    def value(metric: str) -> float:
        row = known.get(metric)
        if row is None:
            return 0.0
        return row.recomputed if row.recomputed is not None else row.nova or 0.0

    errors = float(comparison.counts.inference_errors)
    return [value("a_scores"), value("b_scores"), value("ties"), errors]


def _decided(comparison: Comparison) -> tuple[str, tuple[float, float, float]]:
    """Return the unit, and how many of it went to baseline, candidate and tie."""
    counts = comparison.counts
    if counts.pairs is None:
        baseline, candidate, ties, _ = _said(comparison)
        return "judgments", (baseline, candidate, ties)
    return "pairs", (counts.baseline_wins or 0, counts.candidate_wins or 0, counts.ties or 0)


def _sides(rate: WinRate) -> tuple[float, float]:
    """How far the interval reaches down and up; never below 0, which matplotlib refuses."""
    estimate = rate.estimate or 0.0
    return max(0.0, estimate - (rate.low or 0.0)), max(0.0, (rate.high or 0.0) - estimate)


def _rate_row(candidate: str, category: str, rate: WinRate, pairs: int | None) -> Row:
    return {
        "candidate": candidate,
        "category": category,
        "pairs": pairs,
        "win rate": rate.estimate,
        "low": rate.low,
        "high": rate.high,
        "confidence level": rate.confidence_level,
    }


def _told(rate: WinRate) -> str:
    if rate.estimate is None:
        return "no win rate"
    return with_interval(rate.estimate, rate.low, rate.high)


def _listed(counted: object) -> str:
    return ", ".join(f"{name} {n:,.0f}" for name, n in counted)  # type: ignore[attr-defined]


def _scale(axes: Axes, threshold: float | None) -> None:
    """Prepare a scale of win rates, with a line at 50 % and one at what the gate asks for."""
    axes.set_xlim(0, 100)
    axes.set_xticks([0, 25, 50, 75, 100])
    _plain(axes, "x")
    axes.axvline(50, color=INK, linestyle="--", linewidth=1)
    if threshold is not None and not math.isclose(threshold, 0.5):
        axes.axvline(100 * threshold, color=ERROR, linestyle=":", linewidth=2)


def _bars(
    axes: Axes, labels: Sequence[str], values: Sequence[float], colours: Sequence[str]
) -> None:
    bars = axes.bar(range(len(values)), values, color=colours, edgecolor=PAGE, width=0.66)
    for bar, colour in zip(bars, colours, strict=True):
        bar.set_hatch(HATCHES[colour])
    axes.bar_label(bars, labels=[f"{value:,.0f}" for value in values], padding=3, color=INK)
    axes.set_xticks(range(len(labels)), labels)
    axes.set_ylim(0, 1.25 * max(1.0, *values))
    axes.locator_params(axis="y", integer=True)
    _plain(axes, "y")


def _plain(axes: Axes, grid: Literal["x", "y"]) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.tick_params(colors=FAINT, labelcolor=INK)
    axes.grid(axis=grid, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def _say(axes: Axes, text: str) -> None:
    box = {"facecolor": PAGE, "edgecolor": "none"}
    place = axes.transAxes
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=place, color=FAINT, bbox=box)


def _name(text: str, length: int = NAME_LENGTH) -> str:
    return literal(_short(text, length))


def literal(text: str) -> str:
    """Keep matplotlib from taking a name for mathematics."""
    return text.replace("$", r"\$")


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 8]}…{text[-7:]}"


def _share(value: float | None) -> str:
    """A share with one digit, with more where that would be 0, 50 or 100 and it is not."""
    if value is None:
        return "not known"
    short = f"{100 * value:.1f}"
    whole = math.isclose(float(short), 100 * value, abs_tol=1e-9)
    return f"{short} %" if float(short) not in (0, 50, 100) or whole else percent(value)
