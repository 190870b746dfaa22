"""Facts about the conf that `make run` sends."""

import json
from pathlib import Path

from scripts.run import load


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
