"""Facts about what `make run` sends and brings back, and what `make reset` takes away."""

import json
from pathlib import Path
from uuid import uuid4

import pytest
from sandbox_server import Sandbox

from include import storage
from include.config_files import example, resolve_config
from include.storage import RunFolder
from scripts import local
from scripts.run import copy_results, load


def test_paths_are_meant_from_where_the_command_was_given(tmp_path: Path) -> None:
    names = ("p.jsonl", "old.jsonl", "new.jsonl", "system.txt", "recipe.yaml", "anchors.jsonl")
    for name in names:
        (tmp_path / name).write_text("")
    conf = {
        "dataset": {"source": "p.jsonl", "system_prompt_file": "system.txt"},
        "baseline": {"provider": "responses", "source": "old.jsonl"},
        "candidates": ["claude", {"source": "new.jsonl"}, {"source": "not-there.jsonl"}],
        "judge": {"anchor_pairs": "anchors.jsonl", "second": {"recipe": "recipe.yaml"}},
        "evaluation": "p.jsonl",
    }
    (tmp_path / "conf.json").write_text(json.dumps(conf))
    here = str(tmp_path)
    assert load(Path("conf.json"), "prod", tmp_path) == {
        "dataset": {"source": f"{here}/p.jsonl", "system_prompt_file": f"{here}/system.txt"},
        "baseline": {"provider": "responses", "source": f"{here}/old.jsonl"},
        "candidates": [
            "claude",
            {"source": f"{here}/new.jsonl"},
            {"source": "not-there.jsonl"},
        ],
        "judge": {
            "anchor_pairs": f"{here}/anchors.jsonl",
            "second": {"recipe": f"{here}/recipe.yaml"},
        },
        "evaluation": "p.jsonl",
        "environment": "prod",
    }


def test_what_is_not_given_is_not_made_up(tmp_path: Path) -> None:
    (tmp_path / "conf.json").write_text(json.dumps({"evaluation": "x", "candidates": "wrong"}))
    loaded = load(Path("conf.json"), None, tmp_path)
    assert loaded == {"evaluation": "x", "candidates": "wrong"}


def test_reset_deletes_what_was_made_and_nothing_else(tmp_path: Path) -> None:
    place = local.Place(tmp_path, 8080, 4566)
    (tmp_path / "notes.txt").write_text("mine")
    for name in ("airflow/airflow.db", "sandbox/s3/b/x.object", "runs/r/report.html"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("")
    for name in ("sandbox.log", "airflow.settings", "airflow.session", "start.lock"):
        (tmp_path / name).write_text("")
    local.forget(place)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_results_that_cannot_be_copied_are_named_with_where_they_are(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = RunFolder(sandbox.client("s3"), f"s3://nova-judge-sandbox/{uuid4()}/run")
    monkeypatch.setattr("include.tasks.aws", lambda _: sandbox.client)
    config = resolve_config(example(), environ={})
    assert copy_results(config, folder.uri, tmp_path) is None
    folder.write(storage.SUMMARY, '{"gate": {}}')
    folder.write(storage.REPORT, "<html>")
    assert copy_results(config, folder.uri, tmp_path / "out") == {"gate": {}}
    (tmp_path / "file").write_text("")
    with pytest.raises(local.LocalError, match=f"its results are in {folder.uri}"):
        copy_results(config, folder.uri, tmp_path / "file" / "out")
