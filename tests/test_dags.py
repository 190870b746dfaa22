"""Facts about the DAG files as Airflow parses them."""

import itertools
import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent

PARSE = """
import json, sys
from airflow.dag_processing.dagbag import DagBag

bag = DagBag(dag_folder=sys.argv[1], bundle_path=None, bundle_name="dags-folder")
print("PARSED" + json.dumps({
    "errors": bag.import_errors,
    "imported": sorted(set(sys.modules) & {"matplotlib", "pyarrow", "scipy", "datasets", "boto3"}),
    "dags": {
        dag.dag_id: {
            "tags": sorted(dag.tags),
            "paused": dag.is_paused_upon_creation,
            "doc": dag.doc_md,
            "timeout": dag.dagrun_timeout,
            "catchup": dag.catchup,
            "at_once": dag.max_active_runs,
            "timetable": type(dag.timetable).__name__,
            "waits_for": repr(getattr(dag.timetable, "asset_condition", None)),
            "tasks": {
                task.task_id: {
                    "needs": sorted(task.upstream_task_ids),
                    "teardown": task.is_teardown,
                    "outlets": [outlet.name for outlet in task.outlets],
                    "doc": task.doc_md or type(task).__doc__,
                }
                for task in dag.tasks
            },
        }
        for dag in bag.dags.values()
    },
}))
"""


def parse(config: Path | None = None) -> dict[str, Any]:
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PARSE, str(ROOT / "dags")],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
            **({"NOVA_JUDGE_CONFIG_DIR": str(config)} if config else {}),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = [x for x in ended.stdout.splitlines() if x.startswith("PARSED")]
    return json.loads(line.removeprefix("PARSED"))


@pytest.fixture(scope="module")
def parsed() -> dict[str, Any]:
    return parse()


def test_the_files_parse_without_error(parsed: dict[str, Any]) -> None:
    assert parsed["errors"] == {}
    assert set(parsed["dags"]) == {
        "nova_judge_janitor",
        "nova_judge_retention",
        "nova_llm_judge",
        "nova_llm_judge__qwen-vs-claude",
    }


def test_parsing_imports_nothing_heavy(parsed: dict[str, Any]) -> None:
    assert set(parsed["imported"]) <= {"boto3"}  # which the provider itself imports


def test_the_pipeline_reads_like_its_sentence(parsed: dict[str, Any]) -> None:
    tasks = parsed["dags"]["nova_llm_judge"]["tasks"]
    order = ["resolve", "load_prompts", "plan", "reserve", "deploy", "generate"]
    order += ["compare.write_judge_input", "compare.judge", "compare.summarize", "report"]
    order += ["approve", "gate"]
    for before, after in itertools.pairwise(order):
        assert before in tasks[after]["needs"], (before, after)


def test_endpoints_are_deleted_by_a_teardown_of_reserve_and_deploy(parsed: dict[str, Any]) -> None:
    delete = parsed["dags"]["nova_llm_judge"]["tasks"]["delete"]
    assert delete["teardown"]
    assert {"reserve", "deploy", "generate"} <= set(delete["needs"])


def test_no_dag_has_a_timeout_that_would_skip_the_teardown(parsed: dict[str, Any]) -> None:
    assert all(dag["timeout"] is None for dag in parsed["dags"].values())


def test_every_task_says_what_it_does(parsed: dict[str, Any]) -> None:
    for task_id, task in parsed["dags"]["nova_llm_judge"]["tasks"].items():
        assert task["doc"], task_id


def test_the_general_dag_is_on_and_scheduled_ones_wait(parsed: dict[str, Any]) -> None:
    dags = parsed["dags"]
    assert dags["nova_llm_judge"]["paused"] is False
    assert dags["nova_llm_judge__qwen-vs-claude"]["paused"] is True


def test_a_broken_file_becomes_a_dag_that_says_so_and_harms_no_other(tmp_path: Path) -> None:
    (tmp_path / "evaluations").mkdir()
    (tmp_path / "evaluations/broken.yaml").write_text("evaluation: broken\ndatset: {}\n")
    (tmp_path / "evaluations/not yaml.yaml").write_text("a: [\n")
    good = (ROOT / "dags/evaluations/qwen-vs-claude.yaml").read_text()
    (tmp_path / "evaluations/good.yaml").write_text(good)
    found = parse(tmp_path)
    assert found["errors"] == {}
    broken = found["dags"]["nova_llm_judge__broken"]
    assert broken["tags"] == ["broken", "nova-judge"]
    assert broken["paused"] is True
    assert "broken.yaml:2: datset" in broken["doc"]
    assert "scheduled" in found["dags"]["nova_llm_judge__good"]["tags"]
    assert "nova_llm_judge" in found["dags"]


def test_the_gate_of_an_evaluation_updates_its_asset(parsed: dict[str, Any]) -> None:
    dags = parsed["dags"]
    assert dags["nova_llm_judge__qwen-vs-claude"]["tasks"]["gate"]["outlets"] == [
        "nova_judge/qwen-vs-claude"
    ]
    assert dags["nova_llm_judge"]["tasks"]["gate"]["outlets"] == []


def test_runs_start_by_time_by_asset_or_by_both(tmp_path: Path) -> None:
    (tmp_path / "evaluations").mkdir()
    good = yaml.safe_load((ROOT / "dags/evaluations/qwen-vs-claude.yaml").read_text())
    cron = {"cron": "0 6 * * *", "timezone": "Europe/Berlin"}
    later = {"catchup_from": date(2026, 1, 5), "max_active_runs": 3}
    for name, schedule in {
        "time": cron,
        "asset": {"assets": ["registry", "s3://bucket/new/"]},
        "both": {**cron, "assets": ["registry"], **later},
        "never": None,
    }.items():
        content = {**good, "evaluation": name, "schedule": schedule}
        (tmp_path / f"evaluations/{name}.yaml").write_text(yaml.safe_dump(content))
    found = parse(tmp_path)
    assert found["errors"] == {}
    kinds = {
        name: found["dags"][f"nova_llm_judge__{name}"]["timetable"]
        for name in ("time", "asset", "both", "never")
    }
    assert kinds == {
        "time": "CronTriggerTimetable",
        "asset": "AssetTriggeredTimetable",
        "both": "AssetOrTimeSchedule",
        "never": "NullTimetable",
    }
    # Named, not made: an asset of that name may have a URI of its own.
    named = "AssetAll(AssetNameRef(name='registry'), AssetUriRef(uri='s3://bucket/new'))"
    assert found["dags"]["nova_llm_judge__asset"]["waits_for"] == named
    both, time = (found["dags"][f"nova_llm_judge__{name}"] for name in ("both", "time"))
    assert (both["catchup"], both["at_once"]) == (True, 3)
    assert (time["catchup"], time["at_once"]) == (False, 1)
