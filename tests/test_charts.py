"""Facts about the drawings: never a crash, the right way round, and no harm to a page."""

import re
import sys
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from summaries import make_board

from include import charts, panels, rubric
from include.records import (
    GenerationErrors,
    JudgeOutput,
    Judgment,
    OrderCount,
    Pair,
    RubricScore,
)
from include.winrate import compare

SIX_PANELS = [
    "What the judge said",
    "Win rate with 95 % interval",
    "Whom the judge prefers",
    "Wins without the ties",
    "Win rate of the candidate, % of pairs",
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
    original = charts._empty
    monkeypatch.setattr(charts, "_empty", lambda *size: drawn.append(original(*size)) or drawn[-1])
    return drawn


def draw(comparison):
    return charts.together(panels.six(comparison), f"{comparison.candidate} against it")


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_six_panels_are_drawn_with_their_units(figures):
    png, svg = draw(make(12, 6, 2))
    assert png.startswith(b"\x89PNG") and b"<svg" in svg
    assert [axes.get_title() for axes in figures[0].axes] == SIX_PANELS
    assert "judgments" in figures[0].axes[0].get_ylabel()
    assert "pairs" in figures[0].axes[1].get_xlabel() and "20\npairs" in texts(figures[0].axes[2])
    assert "pairs" in figures[0].axes[3].get_ylabel() and "pairs" in SIX_PANELS[4]


def test_totals_alone_are_drawn_as_judgments(figures):
    draw(make(12, 6, 2, details=False))
    assert "40\njudgments" in texts(figures[0].axes[2])
    assert figures[0].axes[3].get_ylabel() == "judgments won"
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
    drawn = charts.draw([comparison], threshold=0.45)
    assert {"charts/evaluation_metrics.png", "charts/win_rates.svg"} <= set(drawn.files)
    assert ("charts/orders.csv" in drawn.files) == bool(comparison.orders), "or nobody has told"
    for drawing in drawn.drawings:
        root = ElementTree.fromstring(drawing.svg)
        assert root.tag == "svg" and drawing.panel.text and drawing.panel.unit


def test_more_categories_than_anybody_reads_are_numbers_and_no_drawing():
    result = make(30, 20)
    (row, *_) = make(30, 20, category=lambda n: "a").by_category
    many = replace(result, by_category=[replace(row, category=f"c{n}") for n in range(300)])
    panel = panels.forest([many])
    assert panel.height < 2 and len(panel.rows) == 301
    assert panel.note == "300 categories are too many to draw; the numbers have them all."


def test_a_share_is_not_rounded_onto_what_decides():
    assert [panels._share(each) for each in (0.50021, 0.5, 0.0001, 0.774)] == [
        "50.02 %",
        "50.0 %",
        "0.01 %",
        "77.4 %",
    ]


def test_every_chart_is_png_svg_and_csv():
    files = charts.draw([make(12, 6, 2)], None).files
    names = {name.rpartition(".")[0] for name in files}
    assert names == {
        f"charts/{n}" for n in ("evaluation_metrics", "lengths", "orders", "win_rates")
    }
    assert len(files) == 3 * len(names)


def test_charts_of_further_candidates_carry_their_names():
    first, second = make(12, 6, 2), replace(make(3, 9), candidate="mistral")
    drawn = charts.draw([first, second], None)
    assert "charts/evaluation_metrics-mistral.png" in drawn.files
    assert [drawing.candidate for drawing in drawn.drawings][:2] == [None, "claude"]


def test_without_comparisons_nothing_is_drawn():
    assert charts.draw([], None) == charts.Charts([], {})


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
    assert says in panels.wins(make(wins, losses)).text


def test_the_gauge_is_not_mirrored():
    assert panels.gauge_point(0.0) == pytest.approx((-1, 0))
    assert panels.gauge_point(0.5) == pytest.approx((0, 1))
    assert panels.gauge_point(1.0) == pytest.approx((1, 0))


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
    charts.alone(panels.forest([make(9, 4, category="code"), make(3, 2)]))
    names = [text for text in texts(figures[0].axes[0]) if "%" not in text]
    assert names == ["claude", "code", "claude"]


def test_ranks_are_bars_from_the_best_to_the_worst_that_a_model_may_have(figures):
    panel = panels.ranks(make_board())
    charts.alone(panel)
    (axes,) = figures[0].axes
    spans = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches]
    assert spans == [pytest.approx(span) for span in [(0.6, 2.4), (0.6, 2.4), (2.6, 3.4)]]
    assert texts(axes) == ["claude", "1 to 2", "mistral", "1 to 2", "qwen (baseline)", "3"]
    assert panel.text == "Ranks: claude 1 to 2; mistral 1 to 2; qwen 3."
    assert axes.get_xlabel() == "rank, 95 % for all together"


def test_the_baseline_is_hatched_among_the_ranks(figures):
    charts.alone(panels.ranks(make_board()))
    hatches = [bar.get_hatch() for bar in figures[0].axes[0].patches]
    assert hatches[2] == panels.HATCHES[panels.BASELINE] and not any(hatches[:2])


def test_of_many_ranks_some_are_marked(figures):
    board = make_board()
    many = replace(board, models=[replace(board.models[0], model=f"m{n}") for n in range(20)])
    charts.alone(panels.ranks(many))
    assert list(figures[0].axes[0].get_xticks()) == [1, 5, 10, 15, 20]


def test_ranks_of_all_models_are_files_of_their_own():
    drawn = charts.draw([make(12, 6), make(3, 9)], None, make_board())
    assert {"charts/ranks.png", "charts/ranks.svg", "charts/ranks.csv"} <= set(drawn.files)
    assert [each.panel.name for each in drawn.drawings][:2] == ["win_rates", "ranks"]
    first = drawn.files["charts/ranks.csv"].decode().splitlines()[1]
    assert first.startswith("claude,1,2,0.8,")


def test_what_the_gate_asks_for_is_a_line_of_its_own(figures):
    charts.alone(panels.forest([make(9, 4)], 0.45))
    charts.alone(panels.forest([make(9, 4)], 0.5))
    places = [
        {line.get_xdata()[0] for line in figure.axes[0].lines if line.get_linestyle() == ":"}
        for figure in figures
    ]
    assert places == [{45.0}, set()]


def test_the_level_of_an_interval_is_not_rounded():
    bonferroni = replace(make(9, 4).win_rate, confidence_level=0.975)
    assert "97.5 %" in panels.win_rate(replace(make(9, 4), win_rate=bonferroni)).title


def both(forward, backward):
    return OrderCount(forward, backward, 1)


@pytest.mark.parametrize(
    ("said", "come_to"),
    [
        (both("candidate", "candidate"), "candidate in both"),
        (both("tie", "tie"), "tie in both"),
        (both("baseline", "candidate"), "position A in both"),
        (both("candidate", "baseline"), "position B in both"),
        (both("candidate", "tie"), "a win and a tie"),
        (both(None, "baseline"), "no verdict in one or both"),
        (both(None, None), "no verdict in one or both"),
    ],
)
def test_what_both_orders_come_to(said, come_to):
    panel = panels.orders(replace(make(3, 2), orders=[said]))
    assert panel.rows == [
        {
            "forward": said.forward or "no verdict",
            "backward": said.backward or "no verdict",
            "come to": come_to,
            "pairs": 1,
        }
    ]
    assert f"{come_to} 1" in panel.text


def test_a_judge_without_a_rubric_has_no_margins():
    assert panels.margins(make(3, 2)) is None
    assert panels.lengths(make(3, 2, details=False)) is None


def test_the_win_rates_of_all_pairs_and_at_equal_length_stand_beside_those_by_length(figures):
    result = make(12, 6, 2)
    panel = panels.lengths(result)
    assert [row["point"] for row in panel.rows] == ["1 to 1", "1 to 1", "all pairs", "equal length"]
    assert [row["pairs"] for row in panel.rows] == [10, 10, 20, 20]
    assert "At equal length: 65 % (43 % to 85 %)" in panel.text and "no verdict" in panel.note
    charts.alone(panel)
    labels = [label.get_text() for label in figures[0].axes[0].get_xticklabels()]
    assert labels[-2:] == ["all\npairs", "equal\nlength"]


def test_without_a_win_rate_at_equal_length_the_chart_says_none(figures):
    result = make(12, 6, 2)
    unknown = replace(result.win_rate, estimate=None, low=None, high=None, method="none: so")
    lengths = replace(result.lengths, at_equal_length=unknown)
    charts.alone(panels.lengths(replace(result, lengths=lengths)))
    assert texts(figures[0].axes[0]) == ["none"]


def test_a_summary_from_before_the_win_rate_at_equal_length_is_drawn_without():
    result = make(12, 6, 2)
    panel = panels.lengths(replace(result, lengths=replace(result.lengths, at_equal_length=None)))
    assert panel.note == "" and panel.rows[-1]["point"] == "all pairs"
    assert charts.alone(panel)[0].startswith(b"\x89PNG")


def test_margins_are_told_with_their_side():
    scores = [
        RubricScore(f"p{n}", 0.2, 0.6, margin) for n, margin in enumerate((-0.4, -0.2, 0, 0.3))
    ]
    panel = panels.margins(replace(make(3, 2), rubric=rubric.summarize(scores, {}, 0.95)))
    assert panel.text == (
        "Mean margin -0.075, baseline minus candidate; of 4 pairs 2 lie on the candidate's side, "
        "1 on the baseline's, the others around 0."
    )
    assert sum(row["pairs"] for row in panel.rows) == 4
    around_zero = next(row for row in panel.rows if row["low"] < 0 < row["high"])
    assert (around_zero["low"], around_zero["high"], around_zero["pairs"]) == (-0.05, 0.05, 1)
    assert charts.alone(panel)[0].startswith(b"\x89PNG")


def test_round_margins_fall_into_bins_evenly():
    scores = [RubricScore(f"p{n}", 0.2, 0.6, n / 20) for n in range(-20, 21)]
    panel = panels.margins(replace(make(3, 2), rubric=rubric.summarize(scores, {}, 0.95)))
    assert [row["pairs"] for row in panel.rows] == [1, *[2] * 9, 3, *[2] * 9, 1]


def test_a_spreadsheet_takes_no_name_for_a_formula():
    panel = panels.forest([replace(make(3, 2), candidate="=HYPERLINK(1)")])
    assert "'=HYPERLINK(1)" in charts.table(panel)


def test_a_drawing_for_a_page_uses_the_pages_colours_and_nothing_from_elsewhere():
    hostile = replace(make(9, 4), candidate="<script>alert(1)</script>", baseline="</svg><b>")
    board = make_board()
    board = replace(board, models=[replace(each, model="</svg><b>") for each in board.models])
    for drawing in charts.draw([hostile], 0.45, board).drawings:
        tags = {node.tag.rpartition("}")[2] for node in ElementTree.fromstring(drawing.svg).iter()}
        assert not tags & {"script", "b", "style", "metadata", "image", "foreignObject"}
        assert not re.search(r"#[0-9a-f]{6}", drawing.svg.lower().replace("#000000", ""))
        assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', drawing.svg))


def test_equal_numbers_make_equal_files():
    assert charts.draw([make(9, 4)], None).files == charts.draw([make(9, 4)], None).files


def test_roles_differ_in_lightness():
    def lightness(colour):
        red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    roles = sorted(map(lightness, (panels.CANDIDATE, panels.BASELINE, panels.TIE)))
    assert roles[1] - roles[0] > 0.3 and roles[2] - roles[1] > 0.1


def test_no_global_state_of_pyplot_is_used(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    assert draw(make(3, 2))
