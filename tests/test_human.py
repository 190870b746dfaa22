"""Facts about what people's labels say of the judge, in numbers, in words and on the page."""

from dataclasses import replace

import pytest
from judged import LOSS, TIE, WIN, compare, judge, make_pairs
from summaries import Page, make_summary

from include import report
from include.human import summarize
from include.preferences import resolve_pairs
from include.records import Judged, Label, Labels
from include.trust import trust

ABOUT = Judged("c-1", "ab", "judge:1", None, "cd")


def labels_of(said, drawn="random", unlabelled=0):
    found = [Label(f"p{n}", preference, "x", "y") for n, preference in said.items()]
    return Labels(ABOUT, drawn, found, unlabelled)


def human(pairs, verdicts, said, **how):
    comparison = compare(pairs, verdicts)
    rows = resolve_pairs(pairs, judge(pairs, verdicts))
    return replace(comparison, human=summarize(labels_of(said, **how), rows, comparison))


def lenient(labelled, better):
    """A judge that calls nine of ten pairs for the candidate, and people who do so less often."""
    verdicts = [LOSS if n % 10 == 9 else WIN for n in range(600)]
    said = {n: "candidate" if n % 10 < better else "baseline" for n in range(labelled)}
    return human(make_pairs(600), verdicts, said)


def test_every_combination_is_counted_overall_and_by_category():
    pairs = make_pairs(6, category=lambda n: "code" if n < 2 else None)
    verdicts = [WIN, WIN, LOSS, LOSS, TIE, WIN]
    said = {0: "candidate", 1: "baseline", 2: "baseline", 3: "tie", 4: "tie"}
    found = human(pairs, verdicts, said, unlabelled=1).human
    counted = {(each.human, each.judge): each.pairs for each in found.confusion if each.pairs}
    assert counted == {
        ("candidate", "candidate"): 1,
        ("baseline", "candidate"): 1,
        ("baseline", "baseline"): 1,
        ("tie", "baseline"): 1,
        ("tie", "tie"): 1,
    }
    assert len(found.confusion) == 9
    assert (found.agreement.count, found.agreement.of) == (3, 5)
    none, code = found.by_category
    assert (none.category, none.agreement.of, code.category, code.agreement.of) == (
        "(none)",
        3,
        "code",
        2,
    )
    assert sum(each.pairs for each in code.confusion) == 2


def test_identical_responses_count_without_being_labelled():
    pairs = [*make_pairs(40), *(replace(p, status="identical") for p in _more(40, 20))]
    verdicts = [WIN] * 30 + [LOSS] * 10
    comparison = compare(pairs[:40], verdicts)
    rows = resolve_pairs(pairs, judge(pairs[:40], verdicts))
    said = {n: "candidate" if n < 10 else "baseline" for n in range(20)}
    found = summarize(labels_of(said), rows, comparison)
    assert found.labels == 20
    assert found.alone.estimate == pytest.approx(0.5 * 40 / 60 + 0.5 * 20 / 60)


def _more(start, count):
    return [replace(pair, prompt_id=f"p{start + n}") for n, pair in enumerate(make_pairs(count))]


def test_groups_are_the_units_of_every_number():
    pairs = make_pairs(60, group=lambda n: str(n // 5))
    said = {n: "candidate" if n % 4 else "baseline" for n in range(50)}
    found = human(pairs, [WIN if n % 3 else LOSS for n in range(60)], said).human
    assert found.corrected.units == 10
    for method in (found.corrected.method, found.kappa.method, found.agreement.method):
        assert "10 labelled groups" in method or "10 groups" in method


def test_a_lenient_judge_is_contradicted_by_a_hundred_people():
    comparison = lenient(100, better=4)
    found = comparison.human
    assert comparison.verdict == "candidate_better" and comparison.win_rate.low > 0.85
    assert found.corrected.high < 0.55
    assert "contradicts the verdict" in found.sentence and found.sentence.endswith(".")
    (line,) = [each for each in trust(comparison) if each.what == "People"]
    assert line.doubtful and "agree with the judge on 50 %" in line.text


def test_a_few_labels_neither_bear_out_nor_contradict():
    found = lenient(8, better=6).human
    assert found.corrected.low < 0.5
    assert "too few labels to bear the verdict out" in found.sentence


def test_labels_that_agree_bear_the_verdict_out():
    comparison = lenient(100, better=9)
    assert comparison.human.doubt is None
    assert comparison.human.sentence.endswith("that is the verdict, too.")
    assert not [each for each in trust(comparison) if each.what == "People" and each.doubtful]


def test_agreement_by_chance_is_a_reason_to_doubt():
    verdicts = [WIN if n % 2 else LOSS for n in range(200)]
    said = {n: "candidate" if n // 2 % 2 else "baseline" for n in range(100)}
    found = human(make_pairs(200), verdicts, said).human
    assert found.kappa.low < 0 < found.kappa.high and "by chance" in found.doubt


def test_a_judge_that_says_the_opposite_is_not_called_one_that_agrees_by_chance():
    verdicts = [WIN if n % 2 else LOSS for n in range(200)]
    said = {n: "baseline" if n % 2 else "candidate" for n in range(100)}
    found = human(make_pairs(200), verdicts, said).human
    assert found.kappa.high < 0
    assert "disagree more than by chance" in found.doubt and "holds 0" not in found.doubt


def test_labels_decide_nothing_where_the_judge_is_unreliable():
    verdicts = [("A>B", "A>B") if n % 3 else WIN for n in range(300)]
    comparison = human(make_pairs(300), verdicts, dict.fromkeys(range(90), "candidate"))
    assert comparison.unreliable and comparison.verdict == "inconclusive"
    assert comparison.human.corrected.low > 0.5
    assert "inconclusive" not in comparison.human.sentence


def test_without_labels_nothing_is_said_of_people():
    assert "People" not in [each.what for each in trust(compare(make_pairs(9), [WIN] * 9))]


def page(*comparisons):
    return report.render(make_summary(*comparisons), drawings=[], examples=[])


def test_the_page_shows_agreement_confusion_and_both_win_rates():
    said = {n: "candidate" if n % 5 else "tie" for n in range(50)}
    pairs = make_pairs(100, category=lambda n: "<b>code</b>" if n % 2 else "maths")
    comparison = human(pairs, [WIN if n % 3 else LOSS for n in range(100)], said, unlabelled=3)
    html = page(comparison)
    found = Page(html)
    assert found.says(comparison.human.sentence)
    for words in ("People and the judge", "Cohen's kappa", "the judge corrected by the labels"):
        assert found.says(words)
    assert found.says("3 rows of the form were left empty") and found.says("Labels decide nothing")
    assert found.says("All 50 labelled pairs")
    assert "<b>" not in html and "&lt;b&gt;code" in html


def test_the_page_of_chosen_pairs_shows_no_corrected_win_rate():
    comparison = human(make_pairs(20), [WIN] * 20, {3: "tie"}, drawn="chosen")
    found = Page(page(comparison))
    assert found.says("they say nothing about the others")
    assert not found.says("corrected by the labels")


def test_the_page_says_nothing_of_people_who_were_not_asked():
    assert "People and the judge" not in page(compare(make_pairs(9), [WIN] * 9))
