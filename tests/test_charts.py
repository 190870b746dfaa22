"""Facts about the drawings: they are PNGs, never crash, and point the right way."""

import io
import struct
import sys
from dataclasses import replace

import pytest

from include import charts
from include.charts import evaluation_metrics, gauge_point, win_rates
from include.records import GenerationErrors, JudgeOutput, Judgment, Pair
from include.winrate import compare

SIX_PANELS = [
    "Judgments by verdict",
    "Win rate, 95 % interval",
    "Preferences, share of pairs",
    "Wins, pairs",
    "Win rate of the candidate, %",
    "Statistics",
]


def make(wins, losses, ties=0, errors=0, *, details=True, group=None, category=None):
    said = [("B>A", "A>B")] * wins + [("A>B", "B>A")] * losses
    said += [("A=B", "A=B")] * ties + [(None, None)] * errors
    pairs = [
        Pair(f"p{i}", "q", "x", "y", "judged", category=category, group=group)
        for i in range(len(said))
    ]
    judgments = [
        Judgment(pair.prompt_id, order, verdict)
        for pair, both in zip(pairs, said, strict=True)
        for order, verdict in zip(("forward", "backward"), both, strict=True)
    ]
    metrics = {"a_scores": 2.0 * losses, "b_scores": 2.0 * wins, "ties": 2.0 * ties}
    return compare(
        baseline="qwen",
        candidate="claude",
        prompts=len(pairs),
        generation_errors=GenerationErrors(0, 0),
        pairs=pairs,
        output=JudgeOutput(metrics, judgments if details else None),
        confidence_level=0.95,
        min_consistency=0.5,
        max_error_rate=0.05,
    )


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn, to read their texts."""
    drawn = []
    original = charts._figure
    monkeypatch.setattr(charts, "_figure", lambda *size: drawn.append(original(*size)) or drawn[-1])
    return drawn


def draw(comparison, chart=evaluation_metrics):
    target = io.BytesIO()
    chart(comparison, target)
    return target.getvalue()


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_six_panels_are_drawn_with_their_units(figures):
    png = draw(make(12, 6, 2))
    assert png.startswith(b"\x89PNG")
    assert [axes.get_title() for axes in figures[0].axes] == SIX_PANELS
    assert "judgments" in figures[0].axes[0].get_ylabel()
    assert "pairs" in figures[0].axes[3].get_ylabel()


def test_totals_alone_are_drawn_as_judgments(figures):
    draw(make(12, 6, 2, details=False))
    titles = [axes.get_title() for axes in figures[0].axes]
    assert titles[2:4] == ["Preferences, share of judgments", "Wins, judgments"]
    assert "24" in texts(figures[0].axes[3])


@pytest.mark.parametrize(
    "comparison",
    [
        make(0, 0),
        make(0, 0, 5),
        make(0, 0, 0, 5),
        make(1, 0),
        make(5, 5, group="one"),
        make(20, 0),
        make(0, 20),
        make(0, 0, details=False),
        make(3, 2, details=False),
        replace(make(3, 2), reconciliation=[], nova={}),
        replace(make(9, 4), candidate="$\\frac{$ & <b> _x^2 {", baseline="w" * 300),
    ],
)
def test_degenerate_numbers_are_drawn(comparison):
    assert draw(comparison).startswith(b"\x89PNG")
    assert draw([comparison], win_rates).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("wins", "losses", "says"),
    [
        (7, 7, "equal: neither leads"),
        (9, 7, "the candidate leads by 2"),
        (7, 9, "the baseline leads by 2"),
        (0, 0, "nobody has won any"),
    ],
)
def test_the_lead_is_stated_also_when_there_is_none(figures, wins, losses, says):
    draw(make(wins, losses))
    assert says in texts(figures[0].axes[3])


def test_the_gauge_is_not_mirrored():
    assert gauge_point(0.0) == pytest.approx((-1, 0))
    assert gauge_point(0.5) == pytest.approx((0, 1))
    assert gauge_point(1.0) == pytest.approx((1, 0))


def test_the_needle_of_a_winning_candidate_points_right(figures):
    draw(make(15, 5))
    needle = figures[0].axes[4].lines[1].get_xdata()
    assert needle[0] == 0 and needle[1] == pytest.approx(0.9 * 2**-0.5)


def test_an_estimate_at_its_bound_does_not_break_the_error_bar():
    comparison = make(20, 0)
    beside = replace(comparison.win_rate, estimate=1.0, high=1.0 - 1e-12)
    assert draw(replace(comparison, win_rate=beside))


def test_no_interval_is_said(figures):
    draw(make(5, 5, group="one"))
    assert any("no interval" in text for text in texts(figures[0].axes[1]))
    assert any("no interval" in text for text in texts(figures[0].axes[4]))


def test_a_dollar_in_a_name_is_not_mathematics(figures):
    draw(replace(make(3, 2), candidate="a$b$c"))
    assert r"a\$b\$c" in figures[0].get_suptitle()


def test_long_names_are_shortened_in_the_middle(figures):
    draw(replace(make(3, 2), candidate="us.anthropic.claude-3-7-sonnet-20250219-v1:0"))
    labels = [label.get_text() for label in figures[0].axes[3].get_xticklabels()]
    assert labels == ["qwen", "us.anthrop…19-v1:0"]


def test_win_rates_show_candidates_and_categories(figures):
    draw([make(9, 4, category="code"), make(3, 2)], win_rates)
    labels = [label.get_text() for label in figures[0].axes[0].get_yticklabels()]
    assert labels == ["claude", "code", "claude"]


def test_win_rates_of_nothing_are_drawn():
    png = draw([], win_rates)
    width, height = struct.unpack(">II", png[16:24])
    assert width > 500 and height > 100


def test_roles_differ_in_lightness():
    def lightness(colour):
        red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    roles = sorted(map(lightness, (charts.CANDIDATE, charts.BASELINE, charts.TIE)))
    assert roles[1] - roles[0] > 0.3 and roles[2] - roles[1] > 0.1


def test_no_global_state_of_pyplot_is_used(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    assert draw(make(3, 2))
