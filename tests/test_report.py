"""Facts about the page: it says what the numbers say, and nothing in it can do harm."""

from dataclasses import replace

import pytest
from summaries import (
    CHANGE,
    SETTINGS,
    Page,
    make_board,
    make_comparison,
    make_model,
    make_summary,
)

from include import charts
from include.preferences import resolve_pairs
from include.records import (
    Cost,
    CostPart,
    Criterion,
    CriterionResult,
    Difference,
    EarlierRun,
    ErrorExample,
    Gate,
    GenerationErrors,
    Judgment,
    Notice,
    Pair,
    Reconciliation,
    RubricResult,
    RubricScore,
)
from include.report import (
    LONGEST_TEXT,
    ReportPair,
    ReportPairs,
    duration,
    interval_places,
    longest_text,
    render,
    report_pair,
    some_names,
    worst_category,
)
from include.trust import trust

HOSTILE = "<script>alert(1)</script></iframe><img src=x onerror=alert(1)> {{ 7 * 7 }} \u202e"

NONE = GenerationErrors(0, 0)


def make_loss(i=0, text="plain", **changes):
    pair = ReportPair(f"p{i}", "code", f"prompt {i}", text, text, "baseline", "A>B", "B>A")
    return replace(pair, **changes)


def page(*comparisons, drawings=(), examples=(), **changes):
    summary = make_summary(*comparisons, **changes)
    groups = [ReportPairs("lost", list(examples), len(examples))] if examples else []
    return Page(render(summary, drawings=drawings, examples=groups))


def test_the_page_says_verdict_interval_pairs_and_gate():
    result = make_comparison()
    shown = page(result)
    assert shown.open == []
    assert shown.says(result.sentence)
    assert shown.says("66 pairs of 66 prompts") and shown.says("percentage points from 50 %")
    assert shown.says("gate: pass") and shown.says("superiority needs a win rate")


def test_simulated_aws_says_so_and_real_aws_does_not():
    assert page(make_comparison()).says("simulated AWS")
    assert not page(make_comparison(), kind="aws").says("simulated AWS")


def test_model_output_is_harmless():
    hostile = make_loss(
        text=HOSTILE, prompt=HOSTILE, category=HOSTILE, prompt_id=HOSTILE, candidate_name=HOSTILE
    )
    result = make_comparison()
    result = replace(result, candidate=HOSTILE, baseline=HOSTILE, sentence=HOSTILE)
    shown = page(
        result,
        result,
        examples=[hostile],
        drawings=charts.draw([result], None).drawings,
        warnings=[Notice(HOSTILE, HOSTILE)],
        provenance={HOSTILE: {"x": HOSTILE}},
        evaluation=HOSTILE,
    )
    assert shown.open == []
    assert "script" not in shown.tags and "iframe" not in shown.tags
    assert "img" not in shown.tags
    assert not [name for _, name, _ in shown.attributes if name.startswith("on")]
    assert shown.says("{{ 7 * 7 }}")


def test_nothing_is_fetched_from_elsewhere():
    result = make_comparison()
    drawings = charts.draw([result], 0.45).drawings
    shown = page(result, drawings=drawings, examples=[make_loss()])
    links = [
        value
        for _, name, value in shown.attributes
        if name in ("src", "href", "srcset", "xlink:href")
    ]
    assert links and all(link.startswith("#") for link in links)
    assert not {"link", "img", "image"} & set(shown.tags)
    assert any("default-src 'none'" in value for _, _, value in shown.attributes)


def test_every_drawing_says_what_it_shows_and_has_its_numbers():
    result = make_comparison()
    shown = page(result, drawings=charts.draw([result], None).drawings)
    labels = [value for tag, name, value in shown.attributes if name == "aria-label"]
    labels = [label.replace("\N{NO-BREAK SPACE}", " ") for label in labels]
    assert any(label.startswith("Win rate 77 %, interval 66 % to 87 %") for label in labels)
    assert any("Of 66 judged pairs: candidate in both 51" in label for label in labels)
    assert shown.tags.count("figure") == 8
    assert shown.tags.count("summary") == 8 and shown.says("forward backward come to pairs")
    assert shown.says("unit: judgments") and shown.says("unit: pairs")


def test_drawings_of_several_candidates_stand_below_their_names():
    first, second = make_comparison(), replace(make_comparison(3, 9), candidate="mistral")
    shown = page(first, second, drawings=charts.draw([first, second], None).drawings)
    assert shown.tags.count("figure") == 1 + 2 * 7 and shown.tags.count("h3") == 2


def ranked_page(board):
    results = make_comparison(), replace(make_comparison(3, 9), candidate="mistral")
    drawings = charts.draw(list(results), None, board).drawings
    return page(*results, drawings=drawings, board=board)


def test_the_board_says_who_may_be_the_best_before_any_single_comparison():
    board = make_board()
    shown = ranked_page(board)
    assert shown.open == [] and shown.says(board.sentence)
    text = " ".join(" ".join(shown.text).split())
    assert text.index("one of them is the best") < text.index("candidate better")
    assert shown.says("claude 1 to 2 80 %")
    assert shown.says("qwen 3 the baseline none") and shown.says(board.method)


def test_the_ranks_are_drawn_in_the_board_and_nowhere_else():
    shown = ranked_page(make_board())
    labels = [
        value for tag, name, value in shown.attributes if (tag, name) == ("figure", "aria-label")
    ]
    assert sum(label.startswith("Ranks that each model may have") for label in labels) == 1
    assert "claude 1 to 2; mistral 1 to 2; qwen 3" in labels[0]


def test_pairings_are_listed_where_candidates_met_and_those_that_do_not_fit_are_bold():
    assert not ranked_page(make_board()).says("Every pairing")
    shown = ranked_page(make_board(met=True))
    assert shown.says("Every pairing: seen and expected")
    assert shown.says("In 2 of 3 pairings more than chance") or shown.says("In 3 of 3 pairings")
    assert ("strong", "class", "inconclusive") in shown.attributes


def test_of_many_models_that_cannot_be_told_apart_the_table_says_how_many():
    assert some_names([]) == "none" and some_names(["a", "b"]) == "a and b"
    assert some_names(list("abcdef")) == "6 models"


def test_one_candidate_has_no_board():
    assert not page(make_comparison()).says("Not told from")


def test_the_first_screen_shows_what_the_gate_asks_for():
    gate = Gate("fail", "non-inferiority needs more.", 0.45)
    shown = page(make_comparison(), gate=gate)
    lines = [value for tag, name, value in shown.attributes if (tag, name) == ("line", "x1")]
    assert "290.0" in lines and shown.says("what the gate asks for, 45 %")


def test_three_lost_pairs_are_linked_from_the_first_screen():
    shown = page(make_comparison(), examples=[make_loss(n) for n in range(5)])
    links = [value for tag, name, value in shown.attributes if (tag, name) == ("a", "href")]
    places = [value for tag, name, value in shown.attributes if (tag, name) == ("h4", "id")]
    assert links == ["#pair-0", "#pair-1", "#pair-2"] and set(links) <= {f"#{p}" for p in places}


def test_the_worst_category_is_named_where_there_are_several():
    result = make_comparison()
    (only,) = result.by_category
    assert worst_category(result) is None
    low = replace(only, category="law", win_rate=replace(only.win_rate, estimate=0.2))
    none = replace(only, category="none", win_rate=replace(only.win_rate, estimate=None))
    several = replace(result, by_category=[only, low, none])
    assert worst_category(several) == low
    assert page(several).says("Worst category law : 20 %")


def doubts(comparison):
    return {row.what for row in trust(comparison) if row.doubtful}


def test_what_a_verdict_rests_on_is_told_and_doubts_are_marked():
    sound = make_comparison()
    assert doubts(replace(sound, counts=replace(sound.counts, generation_errors=NONE))) == set()
    failed = replace(sound.counts, generation_errors=GenerationErrors(0, 9))
    assert doubts(replace(sound, counts=failed)) == {"Missing"}
    uneven = replace(sound, missing=replace(sound.missing, asymmetry_p_value=0.001))
    assert "Missing" in doubts(uneven) and "fails more often" in trust(uneven)[0].text
    swaying = replace(sound, position=replace(sound.position, consistency=0.55))
    assert doubts(swaying) == {"Judge's two orders"}
    lean = replace(sound.reliability.preference_for_a, estimate=0.8, low=0.7, high=0.9)
    leaning = replace(sound, reliability=replace(sound.reliability, preference_for_a=lean))
    assert "position A wins 80 %" in trust(leaning)[1].text
    assert doubts(make_comparison(details=False)) >= {"Evidence", "Judge's two orders"}


def at_equal_length(result, low, high, method="logistic"):
    middle = None if low is None else (low + high) / 2
    rate = replace(result.win_rate, estimate=middle, low=low, high=high, method=method)
    return replace(result, lengths=replace(result.lengths, at_equal_length=rate))


@pytest.mark.parametrize(
    ("wins", "losses", "low", "high", "doubtful"),
    [
        (51, 15, 0.55, 0.85, False),
        (51, 15, 0.45, 0.85, True),
        (51, 15, 0.15, 0.45, True),
        (15, 51, 0.15, 0.45, False),
        (15, 51, 0.15, 0.55, True),
        (33, 33, 0.55, 0.85, False),
        (33, 33, 0.45, 0.85, False),
    ],
)
def test_a_verdict_that_does_not_hold_at_equal_length_is_doubtful(
    wins, losses, low, high, doubtful
):
    found = trust(at_equal_length(make_comparison(wins, losses), low, high))[-1]
    assert found.what == "At equal length" and found.doubtful == doubtful
    assert found.text.startswith("wins ") and ("may be one about length" in found.text) == doubtful


def test_a_verdict_is_doubtful_where_nothing_is_known_at_equal_length():
    unknown = at_equal_length(make_comparison(), None, None, "none: all are longer")
    found = trust(unknown)[-1]
    assert found.doubtful and found.text.startswith("no win rate (all are longer); ")


def test_nothing_is_said_at_equal_length_where_nobody_computed_it():
    result = make_comparison()
    old = replace(result, lengths=replace(result.lengths, at_equal_length=None))
    for each in (old, make_comparison(details=False)):
        assert "At equal length" not in [row.what for row in trust(each)]


def test_the_page_says_what_the_win_rate_at_equal_length_does_not_mean():
    result = make_comparison()
    shown = page(result, drawings=charts.draw([result], None).drawings)
    assert shown.says("A better response may be longer because it is better")


def test_the_change_since_the_accepted_run_stands_first_with_what_else_changed():
    other = [Difference(f"{what} of claude", "a", HOSTILE) for what in ("x", "y", "z", "temper")]
    accepted = EarlierRun("earlier__1", "2026-01-04T06:00:00Z", "s3://b/e", other)
    shown = page(replace(make_comparison(), change=CHANGE), accepted=accepted)
    assert shown.says("Since 2026-01-04 claude wins 60 % of 66 shared prompts, 77 % before.")
    assert shown.says("Also changed: x of claude, y of claude, z of claude and 1 more.")
    assert shown.says("temper of claude a <script>") and "script" not in shown.tags
    same = replace(accepted, differences=[])
    assert page(replace(make_comparison(), change=CHANGE), accepted=same).says(
        "Models, settings, prompts, recipe and judge image are the same."
    )
    assert not page(make_comparison()).says("Since the last accepted run")


@pytest.mark.parametrize(
    ("end", "says"),
    [("06:00:59", "59 s"), ("06:20:20", "20 min"), ("08:05:10", "2 h 5 min"), ("05:59:00", "0 s")],
)
def test_how_long_a_run_took_is_told_in_words(end, says):
    assert duration("2026-01-05T06:00:00Z", f"2026-01-05T{end}+00:00") == says


def test_the_more_pairs_a_page_has_the_less_of_each_text_is_shown():
    assert longest_text(10) == LONGEST_TEXT and longest_text(1_000) == 4_000
    assert longest_text(100_000) == 2_000


def test_the_page_says_how_many_pairs_of_each_kind_it_shows():
    groups = [
        ReportPairs("lost", [make_loss(i) for i in range(20)], 23),
        ReportPairs("candidate_failed", [make_loss(99, candidate=None, verdict_forward=None)], 1),
    ]
    shown = Page(render(make_summary(make_comparison()), drawings=[], examples=groups))
    assert shown.tags.count("details") == 21 and shown.open == []
    assert shown.says("21 of 24 pairs; where not all of a kind are shown they are picked at random")
    assert shown.says("Pairs that the candidate lost 20 of 23 shown")
    assert shown.says("Prompts that the candidate failed on 1 of 1 shown")
    assert shown.says("Candidate No usable response.")


def test_a_very_long_text_is_cut_and_says_so():
    shown = page(make_comparison(), examples=[make_loss(text="x" * (LONGEST_TEXT + 1234))])
    assert shown.says("x [1,234 more characters]") and not shown.says("x" * (LONGEST_TEXT + 1))


def test_model_text_may_run_from_right_to_left():
    shown = page(make_comparison(), examples=[make_loss(text="שלום")])
    assert [value for _, name, value in shown.attributes if name == "dir"].count("auto") >= 3


def test_totals_alone_are_said_to_be_totals():
    shown = page(make_comparison(details=False))
    assert shown.says("Nova's totals only") and shown.says("132 judgments")


def test_no_interval_is_said():
    shown = page(make_comparison(group="one"))
    assert shown.says("No interval") and shown.says("single independent unit")


def test_contradictions_with_nova_are_named():
    result = make_comparison()
    rows = [
        replace(row, nova=999.0) if row.metric == "ties" else row for row in result.reconciliation
    ]
    assert page(replace(result, reconciliation=rows)).says("contradict ours: ties")


@pytest.mark.parametrize("status", ["complete", "partial", "capped", "failed"])
def test_a_run_without_comparisons_has_a_page(status):
    shown = page(status=status, gate=Gate("none", "No gate was asked for."))
    assert shown.open == [] and shown.says("No candidate could be compared")


def test_numbers_that_only_differ_are_not_called_contradictions():
    result = make_comparison()
    score = Reconciliation("score", 3.0, 4.0, "score", "documented as b_scores")
    shown = page(replace(result, reconciliation=[*result.reconciliation, score]))
    assert shown.says("Nova's own numbers differ from ours in score")
    assert shown.says("differs : documented as b_scores") and not shown.says("contradicts")


CRITERION = Criterion("accuracy", "scale", 0.6, "Facts are right.", 2, 4, "Wrong year.", "Right.")


def with_rubric(result, **changes):
    found = RubricResult(
        pairs=66,
        baseline=0.495,
        candidate=0.63,
        margin=-0.135,
        criteria=[CriterionResult("accuracy", "scale", 41, 0.6, 0.25, 0.75)],
        criteria_omitted=7,
    )
    return replace(result, rubric=replace(found, **changes))


def test_a_rubrics_criteria_are_a_table_of_means_and_weights():
    shown = page(with_rubric(make_comparison()))
    assert shown.says("Weighted score 66 0.495 0.63")
    assert shown.says("accuracy scale 41 0.6 0.25 0.75")
    assert shown.says("margin -0.135, baseline minus candidate") and shown.says("7 more are not")
    assert shown.open == []


def test_without_a_rubric_there_is_no_such_table():
    shown = page(make_comparison(), examples=[make_loss()])
    assert not shown.says("Scores by criterion") and not shown.says("Why, says the judge")


def test_a_lost_pair_shows_why_the_judge_preferred_the_baseline():
    score = RubricScore("p0", 0.6, 0.2, 0.4, [CRITERION], "A is clearly better.")
    shown = page(with_rubric(make_comparison()), examples=[make_loss(rubric=score)])
    assert shown.says("A is clearly better.") and shown.says("A is the baseline")
    assert shown.says("Facts are right. 0.6 2 of 5 Wrong year. 4 of 5 Right.")
    assert shown.open == []


def test_a_judges_text_is_harmless():
    hostile = Criterion(HOSTILE, None, None, HOSTILE, None, None, HOSTILE, HOSTILE)
    score = RubricScore("p0", None, None, None, [hostile], HOSTILE)
    row = CriterionResult(HOSTILE, None, 0, None, None, None)
    result = with_rubric(make_comparison(), criteria=[row], baseline=None, margin=None)
    shown = page(result, examples=[make_loss(rubric=score)])
    assert shown.open == []
    assert not {"script", "iframe", "img"} & set(shown.tags)
    assert not [name for _, name, _ in shown.attributes if name.startswith("on")]
    assert shown.text.count(HOSTILE) == 6


def test_models_stand_side_by_side_with_what_became_of_their_responses():
    old = {"reused": 1_200, "oldest": "2026-01-02T06:00:00Z"}
    shown = page(make_comparison(), models=[make_model(), make_model("claude", **old)])
    assert shown.open == []
    assert shown.says("prompts 1,200 1,200 usable responses 1,195 1,195 of these cut off 5 5")
    assert shown.says("latency, median 812 ms 812 ms latency, 95th percentile 2,040 ms 2,040 ms")
    assert shown.says("input tokens 120,000 120,000 output tokens not known not known")
    assert shown.says("retries 7 7 taken from earlier runs 0 1,200, up to 3 days old")


def test_responses_of_today_are_hours_old():
    reused = make_model(reused=3, oldest="2026-01-04T23:00:00+00:00")
    assert page(models=[reused]).says("3, up to 7 hours old")


def test_what_is_not_as_for_the_baseline_is_bold():
    other = make_model("claude", settings=replace(SETTINGS, temperature=None))
    shown = page(make_comparison(), models=[make_model(), other])
    assert shown.says("temperature 0.7 not sent") and shown.says("max_tokens 512 512")
    alike = page(make_comparison(), models=[make_model(), make_model("claude")])
    assert shown.tags.count("strong") == alike.tags.count("strong") + 1


def test_settings_that_nobody_knows_are_said_to_be_unknown():
    shown = page(models=[make_model(), make_model("old", settings=None, latency_ms=None)])
    assert shown.says("temperature 0.7 not known")
    assert shown.says("latency, median 812 ms not known")
    assert shown.says("of these cut off 5 not known")


def test_errors_are_told_with_an_example():
    shown = page(make_comparison(), models=[make_model(), make_model("claude", errors=[])])
    assert shown.says("qwen Throttling 2 p7: Slow down")
    assert not page(models=[make_model(errors=[])]).says("Responses that cannot be used")


def test_what_a_service_says_is_harmless():
    error = ErrorExample(HOSTILE, 1, HOSTILE, HOSTILE)
    settings = replace(SETTINGS, prompt_template=HOSTILE, stop=[HOSTILE])
    hostile = make_model(HOSTILE, errors=[error], model_id=HOSTILE, settings=settings)
    shown = page(models=[hostile])
    assert shown.open == [] and not {"script", "iframe", "img"} & set(shown.tags)
    assert not [name for _, name, _ in shown.attributes if name.startswith("on")]


def test_a_summary_without_models_has_no_table_of_them():
    assert not page(make_comparison()).says("What each model was asked with")


def test_no_pairs_at_all_have_a_page():
    assert page(make_comparison(0, 0)).says("no win rate")


def test_cost_warnings_and_provenance_are_shown():
    cost = Cost(1.5, None, "USD", "2026-01-01")
    warnings = [Notice("mismatch", "The counts differ.")]
    shown = page(make_comparison(), cost=cost, warnings=warnings)
    assert shown.says("estimated 1.50, actual not known USD")
    assert shown.says("The counts differ.") and shown.says("versions / airflow")
    assert page(make_comparison()).says("not known: no prices given")


def test_what_a_run_has_cost_is_a_line_and_a_table():
    parts = [
        CostPart("endpoint of qwen", 0.25, "instance hours", 1.8, 0.45),
        CostPart("input of claude", 0.000123, "million tokens", 3.0, 0.000369),
    ]
    shown = page(make_comparison(), cost=Cost(1.5, 0.450369, "USD", "2026-01-01", parts))
    assert shown.says("cost 0.45 USD")
    assert shown.says("endpoint of qwen 0.25 instance hours 1.80 0.45")
    assert shown.says("input of claude 0.000123 million tokens 3.00 0.000369")
    assert shown.says("Estimated before the run: 1.50 USD. Prices of 2026-01-01")
    missing = [Notice("cost_unknown", "the price file has no models.x.input")]
    assert page(make_comparison(), warnings=missing).says("not known: see the warnings")


def test_a_comparison_of_a_run_that_its_budget_stopped_is_marked_partial():
    partial = replace(make_comparison(), partial="2 of 68 prompts were left out")
    assert page(partial).says("Partial 2 of 68 prompts were left out")
    assert not page(make_comparison()).says("Partial")


def test_the_interval_is_on_a_scale_from_0_to_100_percent():
    result = make_comparison()
    half = replace(result, win_rate=replace(result.win_rate, estimate=0.5, low=0.0, high=1.0))
    at = interval_places(half, 0.25)
    assert (at.low, at.threshold, at.estimate, at.high) == (20, 170, 320, 620)


def test_a_resolved_pair_becomes_a_pair_to_read():
    pair = Pair("p1", "q", "x", "y", "judged", category="code")
    judgments = [Judgment("p1", "forward", "A>B"), Judgment("p1", "backward", "B>A")]
    resolved = resolve_pairs([pair], judgments)[0]
    score = RubricScore("p1", 0.6, 0.2, 0.4)
    assert report_pair(resolved, None, score).rubric == score
    shown = report_pair(resolved, "claude")
    assert shown == ReportPair("p1", "code", "q", "x", "y", "baseline", "A>B", "B>A", "claude")
