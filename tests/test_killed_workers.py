"""Facts about workers that are killed while they ask a model."""

import json
import random
import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import uuid4

from killable_worker import MOST, work
from recording_server import JSON, Answer, Recording, Request, recording_server
from sandbox_server import ROOT, Sandbox

from include.ledger import PART_ROWS, Parts, latest
from include.records import Response
from include.storage import RunFolder

COUNT = 600
KILLS = 10
VOLATILE = {"latency_ms", "attempts", "created_at"}


def number_of(request: Request) -> int:
    found = re.search(rb"What is (\d+) plus", request.body)
    assert found
    return int(found[1])


def is_answered(number: int) -> bool:
    return number % 50 != 7


def answer(request: Request) -> Answer:
    """Say of every prompt the same each time, after 20 to 50 ms; refuse one in 50 for good."""
    number = number_of(request)
    time.sleep(random.uniform(0.02, 0.05))
    if not is_answered(number):
        error = {"x-amzn-errortype": "ValidationException", **JSON}
        return 400, error, json.dumps({"message": f"{number} is no number"}).encode()
    said = {
        "output": {"message": {"role": "assistant", "content": [{"text": f"It is {2 * number}."}]}},
        "stopReason": "max_tokens" if number % 9 == 0 else "end_turn",
        "usage": {"inputTokens": 9, "outputTokens": 5, "totalTokens": 14},
    }
    return 200, JSON, json.dumps(said).encode()


class Shard:
    """One shard whose workers may be killed."""

    def __init__(self, sandbox: Sandbox, recording: Recording) -> None:
        self.recording = recording
        self.folder = RunFolder(sandbox.client("s3"), f"s3://nova-judge-sandbox/{uuid4()}")
        self.job: dict[str, Any] = {
            "s3_url": sandbox.url,
            "model_url": recording.url,
            "uri": self.folder.uri,
            "count": COUNT,
        }

    def stored(self) -> dict[str, Response]:
        return latest(Parts(self.folder, "claude").read())

    def usable(self) -> set[int]:
        return {int(row.prompt_id[1:]) for row in self.stored().values() if row.usable}

    def start(self) -> subprocess.Popen[bytes]:
        script = Path(__file__).with_name("killable_worker.py")
        return subprocess.Popen(
            [sys.executable, str(script), json.dumps(self.job)],
            cwd=ROOT,
            env={"PYTHONPATH": f"{ROOT}:{script.parent}"},
        )

    def kill_after(self, requests: int) -> int:
        """Kill a worker when it has sent so many; return how many answers that lost."""
        before, known = len(self.recording.requests), self.usable()
        worker = self.start()
        end = time.monotonic() + 60
        while len(self.recording.requests) < before + requests:
            assert worker.poll() is None, "it ended before it was killed"
            assert time.monotonic() < end, "it does not ask"
            time.sleep(0.002)
        worker.kill()
        worker.wait()
        time.sleep(0.1)  # what was in flight is answered to nobody
        sent = list(filter(is_answered, map(number_of, self.recording.requests[before:])))
        assert not known & set(sent), "what was stored was asked for again"
        return len(sent) - len(self.usable() - known)


def lasting(row: Response) -> dict[str, Any]:
    return {name: value for name, value in asdict(row).items() if name not in VOLATILE}


def test_workers_killed_at_ten_moments_repeat_little_and_end_with_the_same_rows(
    sandbox: Sandbox,
) -> None:
    rng = random.Random(20)
    with recording_server(answer) as recording:
        shard = Shard(sandbox, recording)
        lost = [shard.kill_after(rng.randint(1, 150)) for _ in range(KILLS)]
        assert shard.start().wait(60) == 0
        sent = Counter(number_of(request) for request in recording.requests)
    with recording_server(answer) as recording:
        undisturbed = work(sandbox.url, recording.url, f"{shard.folder.uri}-2", COUNT)
        assert len(recording.requests) == COUNT
    assert max(lost) <= MOST + PART_ROWS, "a kill lost more than was in flight and one part"
    assert set(sent) == set(range(COUNT))
    repeated = sum(times - 1 for number, times in sent.items() if is_answered(number))
    assert repeated == sum(lost)
    stored = shard.stored()
    assert len(stored) == COUNT
    assert [lasting(stored[row.prompt_id]) for row in undisturbed] == [
        lasting(row) for row in undisturbed
    ]
    assert Counter(row.outcome for row in undisturbed) == {"ok": 522, "truncated": 66, "error": 12}
