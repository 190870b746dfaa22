"""Facts about the documents: they tell the truth."""

import doctest
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from include import config_files, errors
from include.config import Environment, Evaluation
from include.files import read_yaml
from scripts import local, schemas

ROOT = Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")]


@pytest.mark.parametrize("path_and_content", list(schemas.files()), ids=lambda pair: pair[0].name)
def test_generated_files_are_up_to_date(path_and_content: tuple[Path, str]) -> None:
    path, content = path_and_content
    assert path.read_text(encoding="utf-8") == content, "run make docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!http|#)([^)#]+)", text)
    for target in targets + re.findall(r'src(?:set)?="([^"]+)"', text):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    targets |= {"up", "down", "status", "logs", "reset"}
    named = re.findall(r"`(?:\$ )?make ([a-z-]+)", page.read_text(encoding="utf-8"))
    assert set(named) <= targets


HANDBOOK = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "bench/README.md",
    *ROOT.glob("docs/*.md"),
]


@pytest.fixture(scope="module")
def handbook() -> str:
    return "\n".join(page.read_text(encoding="utf-8") for page in HANDBOOK)


def test_every_make_target_is_told(handbook: str) -> None:
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    missing = [each for each in targets if not re.search(rf"make {each}\b|`{each}`", handbook)]
    assert missing == ["help"] and len(targets) > 30


def test_every_variable_is_told(handbook: str) -> None:
    files = [*ROOT.glob("include/**/*.py"), *ROOT.glob("dags/*.py"), *ROOT.glob("scripts/*.py")]
    named = {
        name
        for file in files
        for name in re.findall(r'"((?:NOVA_JUDGE|SANDBOX)_[A-Z_]+)"', file.read_text())
    }
    assert {name for name in named if name not in handbook} == {local.MARK}
    assert len(named) > 15


def test_every_error_is_told_with_what_to_do(handbook: str) -> None:
    kinds = [kind.__name__ for kind in errors.JudgeError.__subclasses__()]
    assert [kind for kind in kinds if f"| `{kind}` |" not in handbook] == []
    assert len(kinds) >= 11


def test_the_readmes_evaluation_resolves(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    path = tmp_path / "my-evaluation.yaml"
    path.write_text(block)
    read = config_files.read_config(path)
    assert config_files.resolve_config(read, environ={}).gate.margin == 0.05


def test_every_piece_of_yaml_in_the_documents_has_keys_that_exist() -> None:
    pieces = [
        (page.name, piece)
        for page in HANDBOOK
        for piece in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
    ]
    assert len(pieces) >= 4
    for page, piece in pieces:
        data = read_yaml(piece).data
        found = [mistakes(kind, data) for kind in (Evaluation, Environment)]
        assert [] in found, (page, piece, found)


def mistakes(kind: type[BaseModel], data: Any) -> list[Any]:
    """Return what is wrong with a piece, but for what it lacks."""
    try:
        kind.model_validate(data)
    except ValidationError as error:
        return [each for each in error.errors() if each["type"] != "missing"]
    return []


def test_the_production_example_is_a_whole_environment(tmp_path: Path) -> None:
    (tmp_path / "environments").mkdir()
    example = ROOT / "dags/environments/production.yaml.example"
    (tmp_path / "environments/production.yaml").write_text(example.read_text())
    given = {
        "evaluation": "x",
        "environment": "production",
        "dataset": {"source": "a"},
        "baseline": {"name": "a", "provider": "bedrock", "model_id": "a"},
        "candidates": [{"name": "b", "provider": "bedrock", "model_id": "b"}],
    }
    config = config_files.resolve_config(given, environ={"NOVA_JUDGE_CONFIG_DIR": str(tmp_path)})
    assert config.environment.kind == "aws"


def test_commands_refuse_a_wrong_config_and_render_prints_a_good_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scripts.render"]
    good = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert good.stdout.startswith("# digest ")
    assert read_yaml(good.stdout).data["environment"]["name"] == "sandbox"
    (tmp_path / "bad.json").write_text(json.dumps({"evaluation": "x"}))
    bad = subprocess.run(
        [*command, "--config", str(tmp_path / "bad.json")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert bad.returncode == 2
    assert "dataset: is needed" in bad.stderr
    assert "Traceback" not in bad.stderr
    given = {**(config_files.example() or {}), "judge": {"recipe": "nova_mico_llm_judge"}}
    (tmp_path / "recipe.json").write_text(json.dumps(given))
    for module in ("scripts.render", "scripts.plan"):
        asked = [sys.executable, "-m", module, "--config", str(tmp_path / "recipe.json")]
        done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "did you mean 'nova_micro_llm_judge'" in done.stderr


WITH_EXAMPLES = [path.stem for path in ROOT.glob("include/*.py") if ">>>" in path.read_text()]


@pytest.mark.parametrize("room", WITH_EXAMPLES)
def test_the_examples_in_docstrings_are_true(room: str) -> None:
    outcome = doctest.testmod(importlib.import_module(f"include.{room}"))
    assert outcome.attempted
    assert not outcome.failed


def test_the_locks_are_hashed_and_name_no_index() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        lines = (ROOT / name).read_text().splitlines()
        pinned = [line for line in lines if re.match(r"^[a-z0-9]", line)]
        assert pinned
        assert all("==" in line and line.endswith("\\") for line in pinned)
        assert not [line for line in lines if "://" in line or line.startswith("--")]
