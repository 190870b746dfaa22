"""A fact about many nights: a command that is interrupted goes on and loses nothing."""

import json
import signal
import time
from pathlib import Path

import pytest
from local_copy import Copy

pytestmark = pytest.mark.slow


def test_nights_that_are_interrupted_go_on_without_a_run_lost_or_doubled(tmp_path: Path) -> None:
    copy, out = Copy(tmp_path), tmp_path / "nights.json"
    arguments = ("--nights", "2", "--evaluations", "1", "--out", str(out))
    first = copy.command("bench.nights", *arguments)
    assert first.stdout
    lines = [first.stdout.readline()]
    assert "1 of 1 ended" in lines[0], first.communicate(timeout=120)
    time.sleep(12)  # now the second night's run is on its way
    first.send_signal(signal.SIGINT)
    rest, _ = first.communicate(timeout=120)
    assert first.returncode == 130, rest
    again = copy.command("bench.nights", *arguments)
    output, _ = again.communicate(timeout=300)
    assert again.returncode == 0, output
    rows = json.loads(out.read_text())["results"]
    found = {row["metric"]: row["value"] for row in rows if row["case"] == rows[0]["case"]}
    wanted = {"runs_triggered": 2, "runs_ended": 2, "history_rows": 2, "runs_lost": 0}
    wanted |= {"runs_doubled": 0, "judge_jobs_paid_twice": 0, "resources_left": 0}
    assert {metric: found[metric] for metric in wanted} == wanted
