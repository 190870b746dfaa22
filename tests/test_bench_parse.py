"""Facts about what parsing imports and bears, and about the benchmark of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench import parse
from bench.table import OURS
from include.files import FAST


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a DAG file has imported that uses one of the provider's operators and nothing else."""
    file = parse.write_files(parse.PEER, 1, tmp_path_factory.mktemp("plain"))
    return parse.parse_once(file, 1)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of dags/ with thirty evaluations, some of which cannot be read."""
    file = parse.write_files(OURS, 30, tmp_path_factory.mktemp("ours"))
    evaluations = file.parent / "evaluations"
    (evaluations / "evaluation-003.yaml").write_text("evaluation: [\n")
    (evaluations / "evaluation-007.yaml").write_bytes(b"evaluation: \xff\xfe\n")
    (evaluations / "evaluation-011.yaml").write_text("datset: {}\n")
    (evaluations / "evaluation-013.yaml").write_text("[" * 100_000)
    (evaluations / "evaluation-014.yaml").write_text("[" * FAST)
    (evaluations / "evaluation-015.yaml").write_text("[a]: b\n")
    (evaluations / "evaluation-017.yaml").unlink()
    (evaluations / "evaluation-017.yaml").mkdir()
    return file


@pytest.fixture(scope="module")
def ours(home: Path) -> dict[str, Any]:
    return parse.parse_once(home, 1)


def imported(said: dict[str, Any]) -> set[str]:
    return set(parse.packages(said["modules"] + said["children"][0]["modules"]))


def test_parsing_imports_nothing_heavier_than_the_providers_operators(
    plain: dict[str, Any], ours: dict[str, Any]
) -> None:
    assert not imported(ours) & parse.HEAVY
    # To tell who has asked by mail, and what a cron expression is made of.
    light = {"airflow.providers.smtp", "aiosmtplib", "croniter", "packaging"}
    assert imported(ours) - imported(plain) <= light


def test_files_that_cannot_be_read_harm_no_other(ours: dict[str, Any]) -> None:
    (child,) = ours["children"]
    assert child["errors"] == {}
    assert child["dags"] == 31
    assert child["broken"] == [
        f"nova_llm_judge__evaluation-{n:03d}" for n in (3, 7, 11, 13, 14, 15, 17)
    ]


def test_a_quick_run_measures_ours_and_the_peer(tmp_path: Path) -> None:
    out = tmp_path / "parse.json"
    assert parse.main(["--quick", "--out", str(out)]) == 0
    rows = json.loads(out.read_text())["results"]
    each = "parse_per_evaluation_beyond_the_first"
    found = {(row["system"], row["case"]): row for row in rows if row["metric"] == each}
    assert set(found) == {(OURS, "3 evaluations"), (parse.PEER, "3 evaluations")}
    heavy = [row["value"] for row in rows if row["metric"] == "heavy_packages"]
    assert heavy == [0, 0, 0, 0]
