"""Facts about a generate task that is killed again and again, over HTTP against the sandbox."""

import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from killed_worker import AT_ONCE, MODEL, prompts
from sandbox_server import ROOT, Sandbox, running_sandbox

from include.ledger import PART_ROWS, read
from include.storage import RunFolder

PROMPTS = 1500
KILLS = 10
VOLATILE = ("attempts", "latency_ms", "created_at")


def worker(sandbox: Sandbox, run_uri: str, result: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "tests/killed_worker.py", sandbox.url, run_uri, str(PROMPTS), str(result)],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PATH": "/usr/bin:/bin"},
    )


def rows(file: Path) -> list[dict[str, Any]]:
    stored: list[dict[str, Any]] = json.loads(file.read_text())
    return [{key: row[key] for key in row if key not in VOLATILE} for row in stored]


def answered(sandbox: Sandbox) -> int:
    with urlopen(f"{sandbox.url}/sandbox/rate") as answer:
        models = json.load(answer)["models"]
    return int(models.get(MODEL.model_id, {"granted": 0})["granted"])


def test_ten_kills_repeat_only_what_was_in_flight_or_not_yet_written(tmp_path: Path) -> None:
    seeded = random.Random(4)
    undisturbed, disturbed = tmp_path / "undisturbed.json", tmp_path / "disturbed.json"
    with running_sandbox(tmp_path / "state", sandbox_faults="latency_ms=40") as sandbox:
        home = "s3://nova-judge-sandbox/killed"
        assert worker(sandbox, f"{home}/undisturbed", undisturbed).wait(120) == 0
        before, killed = answered(sandbox), 0
        while killed < KILLS:
            process = worker(sandbox, f"{home}/disturbed", disturbed)
            had = answered(sandbox)
            while answered(sandbox) == had and process.poll() is None:
                time.sleep(0.02)
            time.sleep(seeded.uniform(0, 0.35))
            assert process.poll() is None, f"it had ended before kill {killed + 1}"
            process.kill()
            process.wait()
            killed += 1
        assert worker(sandbox, f"{home}/disturbed", disturbed).wait(120) == 0
        asked = answered(sandbox) - before
        folder = RunFolder(sandbox.client("s3"), f"{home}/disturbed")
        stored = Counter(row.prompt_id for row in read(folder, MODEL.name))
    assert rows(disturbed) == rows(undisturbed)
    assert [row["prompt_id"] for row in rows(disturbed)] == [p.prompt_id for p in prompts(PROMPTS)]
    assert set(stored.values()) == {1}, "a row is stored twice"
    assert asked - PROMPTS <= KILLS * (AT_ONCE + PART_ROWS)
    assert asked > PROMPTS, "no kill struck while requests were in flight"
