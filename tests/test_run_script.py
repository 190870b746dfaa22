"""Facts about what `make run` sends and brings back, and what `make reset` takes away."""

import json
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path
from uuid import uuid4

import pytest
from sandbox_server import ROOT, Sandbox

from include import storage
from include.config_files import example, resolve_config
from include.storage import RunFolder
from scripts import local
from scripts import run as run_script
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
    for name in ("poetry.lock", "mine.log"):
        (tmp_path / name).write_text("mine")
    for name in ("bench", "elsewhere"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_text("mine")
    shutil.rmtree(tmp_path / "runs")
    (tmp_path / "runs").symlink_to(tmp_path / "elsewhere")
    local.forget(place)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    mine = {"notes.txt", "poetry.lock", "mine.log", "bench/mine.py", "elsewhere/mine.py"}
    assert left == mine and not (tmp_path / "runs").exists()


@pytest.mark.parametrize("flags", [["-C"], ["-s", "-C"], ["--no-print-directory", "-C"], ["-sC"]])
def test_paths_begin_where_make_is_called_from(tmp_path: Path, flags: list[str]) -> None:
    ran = subprocess.run(
        ["make", "-n", *flags, str(ROOT), "render", "CONFIG=mine.yaml"],
        cwd=tmp_path,
        env={**os.environ, "PWD": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert f'--cwd "{tmp_path}"' in ran.stdout, ran.stdout + ran.stderr


def test_paths_begin_here_without_another_folder_whatever_the_environment_says() -> None:
    ran = subprocess.run(
        ["make", "-n", "-s", "render", "CONFIG=mine.yaml"],
        cwd=ROOT,
        env={**os.environ, "PWD": "/somewhere/else"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert f'--cwd "{ROOT}"' in ran.stdout, ran.stdout + ran.stderr


def test_a_folder_that_cannot_be_written_to_is_found_out_first(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        run_script._check_writable(tmp_path / "file")
    with pytest.raises(OSError, match="/proc"):  # is there, and takes no file, not even root's
        run_script._check_writable(Path("/proc"))
    run_script._check_writable(tmp_path / "new/folder")
    assert list((tmp_path / "new/folder").iterdir()) == []


def test_two_starts_of_one_copy_wait_for_each_other(tmp_path: Path) -> None:
    place, told = local.Place(tmp_path, 8080, 4566), list[str]()

    def second() -> None:
        with local._alone(place):
            told.append("second")

    thread = threading.Thread(target=second)
    with local._alone(place):
        thread.start()
        time.sleep(0.2)
        told.append("first")
    thread.join(10)
    assert told == ["first", "second"]


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
