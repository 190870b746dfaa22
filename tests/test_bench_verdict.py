"""Facts about the benchmark of the statistics."""

import json
from pathlib import Path

from bench import verdict
from bench.table import OURS, Result


def test_a_quick_run_measures_every_part_of_ours(tmp_path: Path) -> None:
    out = tmp_path / "statistics.json"
    assert verdict.main(["--quick", "--rounds", "2", "--out", str(out)]) == 0
    rows = json.loads(out.read_text())["results"]
    assert {row["metric"] for row in rows} == {
        "cpu_t",
        "cpu_compare",
        "cpu_read",
        "cpu_report",
        "cpu_board",
        "cpu_import",
        "standard_error",
        "best_win_rate",
    }
    assert {row["case"] for row in rows} == {"400 judgments", "4 models, 120 pairs"}
    assert all(row["value"] > 0 for row in rows)


def test_systems_that_compute_different_things_are_named() -> None:
    ours, same, other = (
        Result(system, "400 judgments", "standard_error", value, "share")
        for system, value in ((OURS, 0.02), ("a", 0.02), ("b", 0.03))
    )
    assert verdict.disagreements([ours, same]) == []
    (line,) = verdict.disagreements([ours, same, other])
    assert "standard error of b is 0.03, ours 0.02" in line
