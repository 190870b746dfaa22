"""Facts about the files in dags/: a new one is right from the start, and mistakes have a line."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import yaml
from pydantic import BaseModel

from include.config import Evaluation
from include.config_files import SECTIONS, load_evaluation, overridden, resolve_config
from include.errors import ConfigError
from scripts import evaluations

ROOT = Path(__file__).parent.parent


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A copy of the files that come with the project."""
    shutil.copytree(ROOT / "dags", tmp_path / "dags")
    monkeypatch.setenv("NOVA_JUDGE_CONFIG_DIR", str(tmp_path / "dags"))
    return tmp_path / "dags"


def problems():
    return {name: problem for name, problem in evaluations.check() if problem}


def test_a_new_evaluation_is_right_from_the_start(home):
    path = evaluations.new("nightly")
    assert path == home / "evaluations/nightly.yaml"
    evaluation = load_evaluation(path)
    assert evaluation["evaluation"] == "nightly"
    assert resolve_config(evaluation).gate.margin == 0.05
    assert problems() == {}


def test_what_the_template_offers_can_be_switched_on(home):
    path = evaluations.new("nightly")
    offered = "\n".join(
        line.replace("# ", "", 1) if line.startswith(("# alerts:", "#   - {channel")) else line
        for line in path.read_text().splitlines()
    )
    path.write_text(offered)
    (alert,) = load_evaluation(path)["alerts"]
    assert alert["on"] == ["fail", "inconclusive", "capped", "failed", "stuck"]
    assert problems() == {}


def test_the_alerts_in_the_documents_are_read(home):
    text = (ROOT / "docs/recurring.md").read_text()
    (block,) = re.findall(r"```yaml\n(alerts:\n.*?)```", text, re.DOTALL)
    path = evaluations.new("nightly")
    written = path.read_text()
    path.write_text(f"{written}\n{block}")
    assert [each["channel"] for each in load_evaluation(path)["alerts"]] == ["smtp", "sns", "slack"]
    assert problems() == {}


@pytest.mark.parametrize("name", ["history", "anchors"])
def test_a_name_that_is_taken_is_refused_before_it_is_written(home, name):
    with pytest.raises(ConfigError, match=f"{name!r} cannot be a name"):
        evaluations.new(name)


@pytest.mark.parametrize("name", ["2026", "no"])
def test_a_name_may_look_like_something_else(home, name):
    assert load_evaluation(evaluations.new(name))["evaluation"] == name


def test_a_new_evaluation_explains_its_keys(home):
    text = evaluations.new("nightly").read_text()
    keys = set(Evaluation.model_fields) - {"generation", "confidence_level"}
    assert all(f"\n{key}:" in f"\n{text}" or f"# {key}:" in text for key in keys)
    assert text.count("#") > 12 and "NAME" not in text


@pytest.mark.parametrize("name", ["My Night", "", "../up", "UPPER", "x" * 64, "-a"])
def test_a_name_that_cannot_be_one_is_refused_with_one_that_can(home, name):
    with pytest.raises(ConfigError, match=r"write for example NAME=[a-z0-9]"):
        evaluations.new(name)


def test_nothing_is_written_over(home):
    with pytest.raises(ConfigError, match="is there already"):
        evaluations.new("qwen-vs-claude")


def test_mistakes_are_named_with_file_and_line(home):
    (home / "evaluations/broken.yaml").write_text("evaluation: broken\nbaselin: claude\n")
    (home / "models/poor.yaml").write_text("provider: bedrock\nmodel: x\n")
    (home / "environments/half.yaml").write_text("kind: aws\naccount_id: 123\n")
    found = problems()
    assert set(found) == {"evaluations/broken.yaml", "models/poor.yaml", "environments/half.yaml"}
    assert "broken.yaml:2: baselin" in found["evaluations/broken.yaml"]
    assert "poor.yaml:2: model" in found["models/poor.yaml"]
    assert "half.yaml:2: account_id" in found["environments/half.yaml"]


def test_a_model_that_does_not_exist_is_named_with_the_nearest_one(home):
    path = evaluations.new("nightly")
    path.write_text(path.read_text().replace("[claude]", "[claudee]"))
    assert "did you mean 'claude'" in problems()["evaluations/nightly.yaml"]


def test_two_evaluations_of_one_name_would_share_a_history(home):
    path = evaluations.new("nightly")
    path.write_text(path.read_text().replace('evaluation: "nightly"', "evaluation: qwen-vs-claude"))
    assert "is also that of nightly.yaml" in problems()["evaluations/qwen-vs-claude.yaml"]


@pytest.mark.parametrize(
    ("gate", "says"),
    [
        ({"rule": "no_regression"}, "needs a margin above 0"),
        ({"on_fail": "ask"}, "'fail', 'warn' or 'approve'"),
        ({"approval_hours": 0}, "greater than 0"),
    ],
)
def test_a_gate_that_cannot_decide_is_refused(home, gate, says):
    path = evaluations.new("nightly")
    content = {**yaml.safe_load(path.read_text()), "gate": gate}
    path.write_text(yaml.safe_dump(content))
    assert says in problems()["evaluations/nightly.yaml"]


def test_a_schedule_needs_a_time_or_an_asset(home):
    path = evaluations.new("nightly")
    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**content, "schedule": {"timezone": "UTC"}}))
    assert "expected cron, assets or both" in problems()["evaluations/nightly.yaml"]
    path.write_text(yaml.safe_dump({**content, "schedule": {"assets": ["registry"]}}))
    assert problems() == {}


def test_the_command_says_what_is_wrong_and_fails(home):
    command = [sys.executable, "-m", "scripts.evaluations", "check"]
    fine = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "ok       evaluations/qwen-vs-claude.yaml" in fine.stdout
    (home / "models/poor.yaml").write_text("provider: bedrock\n")
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and "refused  models/poor.yaml" in ended.stdout
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("baseline", "claud", "there is no model 'claud'; did you mean 'claude'"),
        ("environment", "sandbo", "'sandbo'"),
        ("judge", {"recipe": "nova_mikro_llm_judge"}, "nova_mikro_llm_judge"),
        ("dataset", {"source": "no-such-prompts.jsonl"}, "there is no file no-such-prompts.jsonl"),
    ],
)
def test_what_an_evaluation_refers_to_is_looked_for_and_named_with_the_file(home, key, value, says):
    path = evaluations.new("nightly")
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), key: value}))
    (found,) = problems().values()
    assert says in found
    assert all(line.startswith("nightly.yaml: ") for line in found.splitlines())


def test_conf_changes_a_section_key_by_key_and_all_else_as_a_whole():
    evaluation = {
        "baseline": {"name": "a", "provider": "bedrock", "model_id": "x"},
        "gate": {"rule": "superiority", "margin": 0.1},
        "dataset": {"source": "p.jsonl", "limit": 10},
        "schedule": None,
    }
    changed = overridden(
        evaluation,
        {"gate": {"margin": 0.2}, "dataset": {"limit": None}, "baseline": {"name": "b"}},
    )
    assert changed["gate"] == {"rule": "superiority", "margin": 0.2}
    assert changed["dataset"] == {"source": "p.jsonl", "limit": None}
    assert changed["baseline"] == {"name": "b"}
    assert evaluation["gate"]["margin"] == 0.1, "the file's content is not touched"
    assert overridden({}, {"gate": {"margin": 0.2}}) == {"gate": {"margin": 0.2}}


def test_the_sections_of_an_evaluation_are_its_groups_of_keys():
    groups = {
        name
        for name, field in Evaluation.model_fields.items()
        if any(
            isinstance(kind, type) and issubclass(kind, BaseModel)
            for kind in (field.annotation, *get_args(field.annotation))
        )
        and name not in ("baseline", "candidates", "alerts")
    }
    assert groups == set(SECTIONS)
