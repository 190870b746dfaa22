"""Facts about the house: who may import whom."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
INCLUDE = ROOT / "include"

GROUND = {"errors", "records", "ownership", "names", "storage", "config", "config_files"}
GROUND |= {"recipes", "account"}
"""Rooms that every other may use."""

MAY_IMPORT: dict[str, set[str]] = {
    # ground floor
    "errors": set(),
    "records": set(),
    "ownership": set(),
    "names": {"ownership"},
    "cloudwatch": set(),
    "wording": set(),
    "files": set(),
    "storage": set(),
    "strict": set(),
    "prices": {"strict"},
    "config": {"names", "prices", "strict"},
    "config_files": {"config", "errors", "files", "prices", "wording"},
    "recipes": {"errors", "files", "judge_table", "wording"},
    "trigger_form": {"config", "config_files", "recipes"},
    "account": {"config", "errors"},
    # what a run needs of an account, looked at before it costs money
    "findings": set(),
    "judge_table": {"errors", "files", "strict"},
    "bedrock_models": {"config", "findings"},
    "permissions": {"bedrock_models", "config", "findings", "judge_table", "storage"},
    "quotas": {"config", "findings"},
    "preflight": {"bedrock_models", "config", "errors", "findings", "judge_table", "permissions"}
    | {"costs", "deploy", "judge", "ownership", "quotas", "recipes", "storage"},
    # stages: they meet in records, and some stand on others (decision 26)
    "rows": {"errors", "files", "storage", "wording"},
    "conversation": {"records"},
    "prompts": {"config", "conversation", "errors", "records", "rows", "wording"},
    "existing_responses": {"config", "errors", "records", "rows"},
    "async_client": set(),
    "providers": {"async_client", "config", "records"},
    "pace": set(),
    "ledger": {"records", "storage"},
    "batch": {"config", "providers", "records"},
    "generate": {"errors", "ledger", "pace", "providers", "records"},
    "pairs": {"records", "storage"},
    "deploy": {"config", "errors"},
    "judge": {"config", "errors", "judge_table", "recipes", "records"},
    "costs": {"config", "errors", "judge", "prices", "records"},
    "spending": {"config", "costs", "ledger", "ownership", "prices", "records", "storage"},
    "price_list": {"prices"},
    "cells": set(),
    "rubric": {"cells", "intervals", "records"},
    "judge_output": {"cells", "errors", "records", "rubric", "wording"},
    "intervals": set(),
    "rates": {"intervals", "records"},
    "agreement": {"intervals", "rates", "records"},
    "preferences": {"records"},
    "reconcile": {"records", "rubric"},
    "human": {"agreement", "intervals", "preferences", "rates", "records", "winrate", "wording"},
    "labels": {"browse", "errors", "preferences", "records", "rows", "storage", "wording"},
    "winrate": {"intervals", "lengths", "preferences", "rates", "reconcile", "records", "rubric"}
    | {"wording"},
    "board": {"intervals", "preferences", "records", "wording"},
    "equal_length": {"intervals"},
    "lengths": {"equal_length", "intervals", "preferences", "rates", "records"},
    "gate": {"config", "records", "wording"},
    "gate_power": {"config", "gate", "intervals", "preferences", "records"},
    "paired": {"intervals", "preferences", "records", "wording"},
    "planning": {"config", "gate", "intervals", "records", "wording"},
    "panels": {"records", "wording"},
    "charts": {"panels", "records", "wording"},
    "erasure": {"errors", "storage"},
    "texts": {"erasure", "errors", "ledger", "ownership", "pairs", "records", "storage"},
    "canaries": {"config", "intervals", "pairs", "preferences", "records", "wording"},
    "screens": {"model_summary", "records", "wording"},
    "second_judge": {"agreement", "preferences", "records"},
    "evidence": {"preferences", "records", "rubric", "storage"},
    "history": {"parity", "records", "storage"},
    "trend": {"records", "storage"},
    "overview": {"storage", "trend"},
    "bundle": {"storage"},
    "browse": {"examples", "preferences", "records", "rubric", "storage"},
    "drift": {"config", "history", "paired", "pairs", "preferences", "records", "rows", "storage"}
    | {"wording"},
    "examples": {"preferences"},
    "model_summary": {"records"},
    "parity": {"config", "records", "wording"},
    "trust": {"reconcile", "records", "wording"},
    "report": {"charts", "examples", "panels", "parity", "preferences", "reconcile", "records"}
    | {"trust", "wording"},
    # where they are put together
    "publish": {"charts", "config", "costs", "drift", "evidence", "examples", "gate", "history"}
    | {"board", "human", "judge", "labels", "ledger", "model_summary", "paired", "parity"}
    | {"overview", "recipes", "reconcile", "records", "report", "screens", "second_judge"}
    | {"spending", "storage", "trend", "wording"},
    "runs": GROUND,
    "asking": GROUND
    | {"batch", "existing_responses", "generate", "ledger", "pace", "providers", "quotas"}
    | {"runs", "spending"},
    "judging": GROUND
    | {"asking", "browse", "canaries", "costs", "drift", "generate", "judge", "judge_output"}
    | {"ledger", "pairs", "preferences", "runs", "spending", "texts", "winrate"},
    "steps": GROUND
    | {"asking", "costs", "deploy", "drift", "generate", "history", "judge", "judging", "planning"}
    | {"preflight", "prompts", "publish", "runs", "spending", "texts", "trend", "wording"},
    "forgetting": {"erasure", "errors", "history", "names", "overview", "ownership", "storage"}
    | {"texts", "trend"},
    # the glue to Airflow
    "tasks": {"account", "config", "config_files", "errors", "forgetting", "ownership", "runs"}
    | {"links", "spending", "steps", "storage", "texts"},
    "links": {"storage"},
    "approval": {"runs", "steps", "tasks"},
    "alerts": set(),
    "notify": {"alerts", "config", "config_files", "errors", "links", "names", "runs", "storage"}
    | {"tasks"},
    "operators": {"asking", "cloudwatch", "errors", "judge", "ownership", "runs", "spending"}
    | {"judging", "links", "steps", "storage", "tasks"},
}

GLUE = {"approval", "links", "notify", "operators", "tasks"}
"""The rooms that know Airflow."""

HEAVY = {
    "pyarrow",
    "matplotlib",
    "scipy",
    "statsmodels",
    "datasets",
    "sagemaker",
    "aiohttp",
    "boto3",
    "jinja2",
}
"""Slow to import; what the DAG file imports may need them inside functions only."""


SEEN_BY_THE_DAG_FILE = {
    "approval",
    "asking",
    "judge",
    "judging",
    "ledger",
    "operators",
    "runs",
    "steps",
    "tasks",
}


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def rooms(found: set[str]) -> set[str]:
    parts = {m[1] for name in found if (m := re.match(r"include\.(\w+)", name))}
    return {part for part in parts if (INCLUDE / f"{part}.py").exists() or part == "sandbox"}


def test_every_room_is_in_the_plan() -> None:
    assert {path.stem for path in INCLUDE.glob("*.py")} - {"__init__"} == set(MAY_IMPORT)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_the_plan_allows(room: str) -> None:
    assert rooms(imports(INCLUDE / f"{room}.py")) <= MAY_IMPORT[room]


@pytest.mark.parametrize("path", sorted((INCLUDE / "sandbox").glob("*.py")), ids=lambda p: p.stem)
def test_the_sandbox_is_an_island(path: Path) -> None:
    found = imports(path)
    assert rooms(found) <= {"sandbox"}
    assert not any(name.split(".")[0] == "airflow" for name in found)


@pytest.mark.parametrize(
    "path",
    [p for p in sorted(ROOT.glob("*/**/*.py")) if p.parts[len(ROOT.parts)] in ("dags", "plugins")]
    + sorted(INCLUDE.glob("*.py")),
    ids=lambda p: p.stem,
)
def test_nobody_imports_the_sandbox(path: Path) -> None:
    assert "sandbox" not in rooms(imports(path))


@pytest.mark.parametrize("room", sorted(set(MAY_IMPORT) - GLUE))
def test_only_the_glue_knows_airflow(room: str) -> None:
    assert not any(n.split(".")[0] == "airflow" for n in imports(INCLUDE / f"{room}.py"))


@pytest.mark.parametrize(
    "room",
    sorted(
        GROUND
        | {
            "asking",
            "costs",
            "judge",
            "judging",
            "operators",
            "prices",
            "runs",
            "spending",
            "steps",
            "tasks",
        }
    ),
)
def test_what_the_dag_file_imports_is_light(room: str) -> None:
    found = imports(INCLUDE / f"{room}.py", top_level_only=True)
    assert not {name.split(".")[0] for name in found} & HEAVY


def test_no_room_shadows_the_standard_library_or_says_nothing() -> None:
    banned = {"statistics", "types", "utils", "common", "helpers", "misc"}
    assert not {path.stem for path in ROOT.glob("include/**/*.py")} & banned


def test_the_tests_of_a_file_run_in_one_process(request: pytest.FixtureRequest) -> None:
    if not getattr(request.config.option, "loadgroup", False):
        pytest.skip("the tests are not grouped, as make test does")
    assert request.node.nodeid.endswith("@test_architecture")
