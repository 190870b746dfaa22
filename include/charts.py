"""Panels in, files out: PNG and SVG drawings, and their numbers as CSV.

matplotlib's object API only: no pyplot, no state shared between threads but the way text is
written into an SVG.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include import panels
from include.panels import COLOURS, INK, PAGE, WIDTH, Panel, literal
from include.records import Board, Comparison
from include.wording import as_cell

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESOLUTION = 110
"""Dots per inch of a PNG."""
COLUMNS = 3


@dataclass(frozen=True)
class Drawing:
    """A panel, drawn for a page."""

    panel: Panel
    candidate: str | None
    """Whose it is; None: all candidates'."""
    svg: str
    """An SVG element that harms no page: names in it are escaped."""


@dataclass(frozen=True)
class Charts:
    """All charts of a run."""

    drawings: list[Drawing]
    files: dict[str, bytes]
    """By their name in the run folder."""


def draw(
    comparisons: Sequence[Comparison], threshold: float | None, board: Board | None = None
) -> Charts:
    """Draw every comparison, for a page and as files; the first one's have the plain names."""
    if not comparisons:
        return Charts([], {})
    overview = panels.forest(comparisons, threshold)
    shown: list[tuple[str | None, Panel]] = [(None, overview)]
    files = _files("charts/win_rates", overview)
    if board:
        ranks = panels.ranks(board)
        shown.append((None, ranks))
        files |= _files(f"charts/{ranks.name}", ranks)
    for comparison in comparisons:
        suffix = "" if comparison is comparisons[0] else f"-{comparison.candidate}"
        six = panels.six(comparison, threshold)
        more = panels.beside_the_six(comparison)
        shown += [(comparison.candidate, panel) for panel in (*more, *six[:-1])]
        name = f"charts/evaluation_metrics{suffix}"
        title = f"{comparison.candidate} against {comparison.baseline}"
        files[f"{name}.png"], files[f"{name}.svg"] = together(six, title)
        files[f"{name}.csv"] = table(six[-1]).encode()
        for panel in more:
            files |= _files(f"charts/{panel.name}{suffix}", panel)
    drawings = [
        Drawing(panel, candidate, inline(panel, place))
        for place, (candidate, panel) in enumerate(shown)
    ]
    return Charts(drawings, files)


def _files(name: str, panel: Panel) -> dict[str, bytes]:
    png, svg = alone(panel)
    return {f"{name}.png": png, f"{name}.svg": svg, f"{name}.csv": table(panel).encode()}


def alone(panel: Panel) -> tuple[bytes, bytes]:
    """Draw a panel by itself: PNG and SVG."""
    figure = _figure(panel)
    return _png(figure), _svg(figure, panel.name)


def inline(panel: Panel, place: int) -> str:
    """Draw a panel as an SVG element for a page that has its title and says what it shows.

    The page's own colours are used: custom properties named as in `COLOURS`, so that the drawing
    follows dark mode and print.

    Args:
        panel: What to draw.
        place: Differs for every drawing of a page, so that what they define does not mix.
    """
    text = _svg(_figure(panel, titled=False), f"{place}").decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = text.replace("xlink:href", "href")
    text = re.sub(
        r'^<svg[^>]*viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', text
    )
    for colour, name in COLOURS.items():
        text = text.replace(f": {colour.lower()}", f": var(--{name})")
        text = text.replace(f'fill="{colour.lower()}"', f'style="fill: var(--{name})"')
    return text


def together(panels: Sequence[Panel], title: str) -> tuple[bytes, bytes]:
    """Draw several panels as one chart: PNG and SVG."""
    rows = -(-len(panels) // COLUMNS)
    figure = _empty(5.3 * COLUMNS, 5.2 * rows)
    figure.suptitle(literal(title), fontsize=17, fontweight="bold", color=INK)
    for axes, panel in zip(figure.subplots(rows, COLUMNS).flatten(), panels, strict=True):
        axes.set_title(literal(panel.title), fontweight="bold", color=INK)
        panel.paint(axes)
    _lay_out(figure)
    return _png(figure), _svg(figure, title)


def table(panel: Panel) -> str:
    """Return a panel's numbers as CSV, without formulas."""
    target = io.StringIO()
    writer = csv.DictWriter(target, list(panel.rows[0]) if panel.rows else [])
    writer.writeheader()
    writer.writerows({key: as_cell(value) for key, value in row.items()} for row in panel.rows)
    return target.getvalue()


def _figure(panel: Panel, *, titled: bool = True) -> Figure:
    figure = _empty(WIDTH, panel.height + (0.3 if titled else 0))
    axes = figure.subplots()
    if titled:
        axes.set_title(literal(panel.title), fontweight="bold", color=INK)
    panel.paint(axes)
    _lay_out(figure)
    return figure


def _empty(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor=PAGE)
    FigureCanvasAgg(figure)
    return figure


def _lay_out(figure: Figure) -> None:
    """Make room for all texts, once: a layout engine would do it anew for every file."""
    from matplotlib.layout_engine import TightLayoutEngine

    TightLayoutEngine(pad=0.8).execute(figure)


def _png(figure: Figure) -> bytes:
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=RESOLUTION)
    return target.getvalue()


def _svg(figure: Figure, salt: str) -> bytes:
    """Text stays text, so that it can be read aloud and found; equal input makes equal bytes."""
    from matplotlib import rc_context

    target = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(target, format="svg", metadata={"Date": None}, transparent=True)
    return target.getvalue()
