"""Facts about the form that people fill in and the command that reads it, over HTTP on S3."""

import json
from uuid import uuid4

import pytest
from labelled import as_csv, fill, make_form, make_pairs, summary_of, write_run
from sandbox_server import Sandbox

from include import forgetting, labels, publish, storage, texts
from include.charts import Charts
from include.errors import DatasetError, LabelsError
from include.records import Pair
from include.storage import RunFolder
from scripts import labels as command


@pytest.fixture
def folder(sandbox: Sandbox) -> RunFolder:
    return RunFolder(sandbox.client("s3"), f"s3://nova-judge-sandbox/{uuid4()}/nightly/run")


@pytest.fixture(autouse=True)
def without_charts(monkeypatch):
    """Drawing takes seconds, and labels are in no drawing."""
    monkeypatch.setattr(publish.charts, "draw", lambda *_: Charts([], {}))


@pytest.fixture
def run(folder):
    write_run(folder)
    return folder


def agree(n):
    return "baseline" if n % 3 == 0 else "candidate"


def add(folder, tmp_path, rows, **how):
    path = tmp_path / "labels.csv"
    path.write_bytes(as_csv(rows, **how))
    return command.add(folder, str(path))


def test_the_form_names_no_model_and_no_verdict(run):
    form = make_form(run)
    assert list(form[0]) == list(labels.COLUMNS)
    readable = json.dumps([{k: v for k, v in row.items() if k != "prompt"} for row in form])
    for word in ("claude", "qwen", "A>B", "won", "lost", "maths"):
        assert word not in readable
    assert {row["preference"] for row in form} == {""}


def test_the_order_of_the_responses_is_random_and_always_the_same(run):
    first = [row["response_1"] for row in make_form(run)]
    assert 40 < sum("baseline" in each for each in first) < 76
    assert first == [row["response_1"] for row in make_form(run)]
    by_pair = {row["pair"]: row["response_1"] for row in make_form(run)}
    assert all(by_pair[row["pair"]] == row["response_1"] for row in make_form(run, seed=7))


def test_a_larger_number_with_the_same_seed_begins_with_the_same_pairs(run):
    small, large = (make_form(run, number=number) for number in (10, 50))
    assert large[:10] == small and len(large) == 50
    assert [row["pair"] for row in make_form(run, number=10, seed=1)] != [r["pair"] for r in small]


def test_people_are_asked_only_about_pairs_that_the_judge_was_asked_about(run):
    assert len(make_form(run)) == 116
    assert not [row for row in make_form(run) if row["prompt"] in ("Same?", "Long?")]


def test_long_texts_are_cut_to_what_a_cell_takes(folder, tmp_path):
    pairs = [Pair("0", "Why?", f"0: baseline {'x' * 40_000}", "0: candidate", "judged")]
    write_run(folder, pairs)
    form = make_form(folder)
    assert max(len(value) for value in form[0].values()) == 32_000
    _, found, _ = add(folder, tmp_path, fill(form, lambda _: "candidate"))
    assert found.labels[0].preference == "candidate"


def test_answers_turn_back_into_roles_whatever_became_of_the_texts(run, tmp_path):
    rows = [
        {**row, "prompt": "'=mangled", "response_1": "#NAME?", "response_2": ""}
        for row in fill(make_form(run), agree)
    ]
    candidate, found, summary = add(run, tmp_path, rows)
    assert (candidate, len(found.labels), found.unlabelled) == ("claude", 116, 0)
    assert {label.preference for label in found.labels} == {"baseline", "candidate"}
    human = summary.comparisons[0].human
    assert human.agreement.estimate == human.kappa.estimate == 1.0
    assert human.corrected.estimate == pytest.approx(summary.comparisons[0].win_rate.estimate)


def test_what_spreadsheets_do_to_answers_and_rows_does_no_harm(run, tmp_path):
    written = {0: "1.0", 1: " TIE ", 2: ""}
    rows = fill(make_form(run), lambda n: written.get(n, "tie"))
    rows = [*rows, dict.fromkeys(rows[0], "")]
    for delimiter in (",", ";"):
        _, found, _ = add(run, tmp_path, rows, delimiter=delimiter)
        assert (len(found.labels), found.unlabelled) == (115, 1)


def test_half_characters_in_a_response_do_no_harm(folder, tmp_path):
    pairs = [Pair("0", "Why?", "0: baseline \ud83d", "0: candidate", "judged")]
    write_run(folder, pairs)
    _, found, _ = add(folder, tmp_path, fill(make_form(folder), lambda _: "baseline"))
    assert found.labels[0].preference == "baseline"


def test_of_several_people_more_than_half_decide_and_else_it_is_a_tie(run, tmp_path):
    form = make_form(run, number=1)
    rows = [row for said in ("candidate", "candidate", "baseline") for row in _says(form, said)]
    _, found, _ = add(run, tmp_path, rows)
    assert [(each.preference, each.people) for each in found.labels] == [("candidate", 3)]
    rows = [row for said in ("candidate", "tie", "baseline") for row in _says(form, said)]
    assert add(run, tmp_path, rows)[1].labels[0].preference == "tie"


def _says(form, said):
    return fill(form, lambda _: said)


@pytest.mark.parametrize(
    ("changes", "column"),
    [
        ({"image": {"digest": "sha256:bb"}}, "judge_image_digest: sha256:aa there, sha256:bb in"),
        ({"dataset": "cd" * 32}, f"dataset_sha256: {'ab' * 32} there, {'cd' * 32} in this run"),
        ({"recipe": "run: {name: another}"}, "recipe_sha256: "),
    ],
)
def test_labels_of_another_judge_or_other_prompts_are_stale(run, tmp_path, changes, column):
    rows = fill(make_form(run), agree)
    other = RunFolder(run.s3, f"{run.uri}-other")
    write_run(other, **changes)
    with pytest.raises(LabelsError, match="is stale") as caught:
        add(other, tmp_path, rows)
    assert column in str(caught.value)
    assert other.names("labels/") == []


def test_labels_of_another_judge_image_are_stale(run, tmp_path):
    rows = [{**row, "judge_image": "another:2"} for row in fill(make_form(run), agree)]
    with pytest.raises(LabelsError, match="judge_image: another:2 there"):
        add(run, tmp_path, rows)


def test_a_digest_of_the_image_that_nobody_knows_is_no_other_one(run, tmp_path):
    rows = [{**row, "judge_image_digest": ""} for row in fill(make_form(run), agree)]
    assert add(run, tmp_path, rows)[0] == "claude"


def test_labels_of_other_responses_are_refused(run, tmp_path):
    rows = fill(make_form(run), agree)
    pairs = make_pairs()
    pairs[5] = Pair("p5", "Question 5?", "another", pairs[5].candidate, "judged", "maths")
    other = RunFolder(run.s3, f"{run.uri}-other")
    write_run(other, pairs)
    with pytest.raises(DatasetError, match=r"response_\d_sha256: .* another response"):
        add(other, tmp_path, rows)


def test_labels_of_another_comparison_are_refused(run, tmp_path):
    rows = [{**row, "comparison": "c-0"} for row in fill(make_form(run), agree)]
    with pytest.raises(LabelsError, match=r"comparison is c-0; expected .*\(claude\)"):
        add(run, tmp_path, rows)


@pytest.mark.parametrize(
    ("column", "written", "said"),
    [
        ("preference", "3", "row 1: preference: expected 1, 2 or tie, found '3'"),
        ("preference", "A", "found 'A'"),
        ("preference", "ties", "found 'ties'; did you mean 'tie'?"),
        ("pair", "p-0", "pair: 'p-0' is none of this run's with a preference"),
        ("drawn", "rnd", "expected random or chosen, found 'rnd'; did you mean 'random'?"),
        ("response_2_sha256", "", "response_2_sha256: none there"),
    ],
)
def test_what_is_wrong_is_told_with_row_and_column(run, tmp_path, column, written, said):
    first, *rows = fill(make_form(run), agree)
    with pytest.raises(DatasetError) as caught:
        add(run, tmp_path, [{**first, column: written}, *rows])
    assert said in str(caught.value) and "labels.csv has rows" in str(caught.value)


def test_a_form_without_a_label_or_a_column_is_refused(run, tmp_path):
    with pytest.raises(LabelsError, match="preference is empty in all of its 116 rows"):
        add(run, tmp_path, make_form(run))
    rows = [
        {name.replace("preference", "preferences"): value for name, value in row.items()}
        for row in make_form(run)
    ]
    with pytest.raises(DatasetError, match="'preference'; did you mean 'preferences'"):
        add(run, tmp_path, rows)


def test_a_run_without_a_verdict_has_nothing_to_compare_labels_with(folder, tmp_path):
    with pytest.raises(LabelsError, match="has no summary yet"):
        command.add(folder, "labels.csv")


def test_totals_alone_have_nothing_to_compare_labels_with(run):
    summary = summary_of(run)
    summary["comparisons"][0]["evidence"] = "aggregate"
    run.write(storage.SUMMARY, json.dumps(summary))
    with pytest.raises(LabelsError, match="no preferences of single pairs"):
        command.add(run, "labels.csv")


def test_labels_change_nothing_else_in_the_summary(run, tmp_path):
    before = summary_of(run)
    add(run, tmp_path, fill(make_form(run), lambda n: "tie" if n % 4 == 0 else agree(n)))
    after = summary_of(run)
    human = after["comparisons"][0].pop("human")
    assert before["comparisons"][0].pop("human") is None
    assert after == before
    assert human["labels"] == 116 and human["corrected"]["low"] is not None
    assert human["sentence"] in run.read(storage.REPORT).decode().replace("\u00a0", " ")


def test_labels_are_kept_when_the_report_is_made_again(run, tmp_path):
    add(run, tmp_path, fill(make_form(run), agree))
    human = summary_of(run)["comparisons"][0]["human"]
    write_run(run)
    assert summary_of(run)["comparisons"][0]["human"] == human


def test_labels_that_have_become_stale_are_a_warning(run, tmp_path):
    add(run, tmp_path, fill(make_form(run), agree))
    for changes, why in (
        ({"image": {"digest": "sha256:bb"}}, "judge_image_digest"),
        ({"pairs": [Pair(f"p{n}", "q", "x", "y", "judged") for n in range(9)]}, "other responses"),
    ):
        write_run(run, **changes)
        summary = summary_of(run)
        assert summary["comparisons"][0]["human"] is None
        (warning,) = [each for each in summary["warnings"] if each["code"] == "labels_stale"]
        assert why in warning["message"]
    write_run(run)
    assert "labels_stale" not in json.dumps(summary_of(run)["warnings"])
    assert summary_of(run)["comparisons"][0]["human"] is not None


def test_chosen_pairs_correct_no_win_rate(run, tmp_path):
    rows = fill(make_form(run, drawn="chosen"), agree)
    _, _, summary = add(run, tmp_path, rows)
    human = summary.comparisons[0].human
    assert human.corrected is human.alone is human.weight is None
    assert human.agreement.estimate == 1.0 and "they say nothing about the others" in human.sentence
    some = [*fill(make_form(run, number=20), agree), *rows[50:]]
    assert add(run, tmp_path, some)[2].comparisons[0].human.corrected is None


def test_with_several_candidates_labels_find_theirs_and_share_its_confidence(folder, tmp_path):
    write_run(folder, candidates=("claude", "nova"))
    candidate, _, summary = add(folder, tmp_path, fill(make_form(folder, "nova"), agree))
    assert candidate == "nova"
    claude, nova = summary.comparisons
    assert claude.human is None
    assert nova.human.corrected.confidence_level == nova.win_rate.confidence_level == 0.975
    assert nova.human.kappa.confidence_level == pytest.approx(0.95)
    both = [*make_form(folder, "nova"), *make_form(folder, "claude")]
    with pytest.raises(LabelsError, match="the same in all rows"):
        add(folder, tmp_path, fill(both, agree))


def test_summaries_without_labels_still_load(run):
    summary = summary_of(run)
    del summary["comparisons"][0]["human"]
    assert publish.SUMMARY.validate_python(summary).comparisons[0].human is None


def test_labels_of_a_run_that_keeps_no_texts_are_kept_and_compared_by_digest(run, tmp_path):
    rows = fill(make_form(run), agree)
    texts.remove(run)
    add(run, tmp_path, rows)
    assert texts.left(run) == []
    stored = labels.stored(run, "claude")
    assert len(stored.labels) == 116 and "Question" not in json.dumps(vars(stored), default=vars)


def test_a_run_that_had_ended_has_ended_when_labels_are_added(run, tmp_path):
    run.write(storage.ENDED, "{}")
    add(run, tmp_path, fill(make_form(run), agree))
    assert forgetting.going_on(run) is None


def main(folder, monkeypatch, *arguments):
    home, slug = folder.uri.removesuffix("/nightly/run"), "nightly/run"
    monkeypatch.setattr(command.doctor, "output", lambda name: RunFolder(folder.s3, home))
    monkeypatch.setattr("sys.argv", ["labels", "--run", slug, *arguments])
    return command.main()


def test_the_command_says_what_the_labels_say(run, tmp_path, monkeypatch, capsys):
    rows = fill(make_form(run), lambda n: "" if n < 10 else agree(n))
    (tmp_path / "labels.csv").write_bytes(as_csv(rows))
    assert main(run, monkeypatch, "--file", "labels.csv", "--cwd", str(tmp_path)) == 0
    said = capsys.readouterr().out
    assert "claude: 106 labelled pairs; 10 rows left empty." in said
    assert "People and the judge agree on 100 %" in said and f"{run.uri}/report.html" in said


def test_the_command_reads_labels_from_s3(run, monkeypatch, capsys):
    run.write("mine.csv", as_csv(fill(make_form(run), agree)))
    assert main(run, monkeypatch, "--file", run.at("mine.csv")) == 0


def test_the_command_refuses_without_a_traceback(run, tmp_path, monkeypatch, capsys):
    assert main(run, monkeypatch, "--file", "absent.csv", "--cwd", str(tmp_path)) == 2
    assert "Error: FILE: there is no file" in capsys.readouterr().err
    (tmp_path / "old.csv").write_bytes(as_csv([{"id": "1"}]))
    assert main(run, monkeypatch, "--file", "old.csv", "--cwd", str(tmp_path)) == 2
    assert "has no column 'pair'" in capsys.readouterr().err
