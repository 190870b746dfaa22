"""Facts about `make chaos`: what a seed stands for, what a difference is, what is written."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench import chaos_counted, pages
from bench.chaos_counted import Row, differences
from bench.chaos_plan import PARTS, STAGES, WAITING, plan

ROW = Row(
    seed=7,
    part="triggerer",
    stage="judging",
    struck=True,
    kinds=["slow", "S3 error"],
    state="success",
    seconds=81.4,
    rows_lost=0,
    rows_doubled=0,
    jobs=1,
    jobs_completed=1,
    left=0,
    asked_again=3,
    tried_again=2,
)


def test_a_seed_always_stands_for_the_same() -> None:
    assert [plan(seed) for seed in range(50)] == [plan(seed) for seed in range(50)]


def test_twenty_seeds_kill_every_part_in_every_stage_it_has_a_part_in() -> None:
    struck = {(each.part, each.stage) for each in map(plan, range(20))}
    elsewhere = {(part, stage) for part in PARTS if part != "triggerer" for stage in STAGES}
    assert struck == elsewhere | {("triggerer", stage) for stage in WAITING}


def test_faults_strike_one_runs_resources() -> None:
    for each in map(plan, range(50)):
        for order in each.orders:
            wanted = None if order["operation"] == "Converse" else f"*{each.evaluation}*"
            assert order["resource"] == wanted


def test_a_job_that_ends_badly_is_followed_by_another() -> None:
    for each in map(plan, range(200)):
        in_vain = sum(
            order["operation"] == "CreateTrainingJob" and "failure_reason" in order
            for order in each.orders
        )
        assert each.jobs == 1 + in_vain + ("job stopped" in each.kinds)
    assert any(each.is_refused for each in map(plan, range(20)))


def test_differences_are_told_with_their_place() -> None:
    wanted = {"status": "complete", "models": [{"retries": 1}, {"retries": 2}], "cost": None}
    found = {"status": "complete", "models": [{"retries": 1}, {"retries": 3}]}
    assert list(differences(wanted, found)) == ["models[1].retries is 3, not 2"]
    assert list(differences(wanted, {**wanted, "models": []})) == [
        'models is [], not [{"retries": 1}, {"retries": 2}]'
    ]


def test_rows_are_kept_for_the_next_time(tmp_path: Path) -> None:
    file = tmp_path / "chaos.json"
    assert chaos_counted.read(file) == {}
    chaos_counted.write(file, {"cores": 2}, {7: ROW})
    assert chaos_counted.read(file) == {7: ROW}


def test_what_is_wrong_is_in_the_table_and_in_the_sum() -> None:
    wrong = replace(ROW, seed=8, rows_lost=2, problems=["2 rows lost | 0 double"])
    *_, good, bad = chaos_counted.table([ROW, wrong])
    assert good.startswith(
        "| 7 | triggerer | judging | slow, S3 error | success | 81 | 0 | 0 | 1 |"
    )
    assert bad.endswith("| 2 rows lost / 0 double |")
    (said,) = chaos_counted.sentences([ROW, wrong])
    assert said.startswith("2 runs, 1 as they have to be")
    assert "rows lost 2" in said


def test_a_page_is_filled_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n\n<!-- a -->\nold\n<!-- /a -->\n\nafter\n")
    for _ in range(2):
        pages.fill(page, "a", pages.table(["x"], [[r"\1"]]))
        filled = "<!-- a -->\n\n| x |\n| --- |\n| \\1 |\n\n<!-- /a -->"
        assert page.read_text() == f"before\n\n{filled}\n\nafter\n"
    with pytest.raises(ValueError, match=r"page.md has no <!-- b -->"):
        pages.fill(page, "b", [])
