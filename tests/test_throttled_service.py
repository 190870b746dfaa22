"""Facts about asking a service that refuses: a fifth of all requests at full speed, or all."""

import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from uuid import uuid4

import pytest
from sandbox_server import SESSION, Sandbox

from bench.processes import serving
from bench.throttling import best_possible_seconds
from include import generate as generating
from include import providers
from include.config import BedrockModel, Parameters
from include.generate import Ask, generate
from include.ledger import Ledger, Parts
from include.pace import Pace
from include.records import Prompt
from include.storage import RunFolder

CLAUDE = BedrockModel(name="claude", provider="bedrock", model_id="us.anthropic.claude-sonnet-4-6")
ROWS, IN_FLIGHT, LATENCY = 2000, 50, 0.1


@pytest.mark.parametrize("retry_after", [0.0, 1.0])
def test_every_row_arrives_once_and_not_much_later_than_possible(
    sandbox: Sandbox, retry_after: float
) -> None:
    folder = RunFolder(sandbox.client("s3"), f"s3://nova-judge-sandbox/{uuid4()}")
    prompts = [Prompt(f"p{n}", f"prompt {n:06d}") for n in range(ROWS)]
    book = Ledger(folder, "claude", 0, prompts, "settings")
    dialect = providers.bedrock(CLAUDE, Parameters(max_tokens=50))
    pace = Pace(8, IN_FLIGHT)
    with serving(latency_ms=LATENCY * 1000, throttle=0.2, retry_after=retry_after) as server:
        client = SESSION.client("bedrock-runtime", endpoint_url=server.url)
        connect = partial(
            providers.connected, client, dialect, max_connections=IN_FLIGHT, timeout=60
        )
        started = time.monotonic()
        rows = generate(book, connect, pace, max_tokens=50)
        took = time.monotonic() - started
        stats = server.get("/stats")
    assert [row.prompt_id for row in rows] == [prompt.prompt_id for prompt in prompts]
    assert all(row.usable for row in rows)
    assert set(Counter(row.prompt_id for row in Parts(folder, "claude").read()).values()) == {1}
    assert (stats["rows"], stats["twice"]) == (ROWS, 0)
    assert stats["throttled"] == pace.throttled == sum(row.attempts - 1 for row in rows)
    assert stats["throttled"] > 0.15 * ROWS
    assert stats["max_in_flight"] <= IN_FLIGHT
    best = best_possible_seconds(ROWS, IN_FLIGHT, LATENCY, retry_after)
    # The clock of a machine that others use: tests/test_pace.py is strict, on a virtual one.
    assert took < 3 * best, f"{took:.1f} s where {best:.1f} s are possible"


def test_a_service_that_refuses_everything_is_given_up_once_and_not_prompt_by_prompt(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generating, "PATIENCE_SECONDS", 1.5)
    folder = RunFolder(sandbox.client("s3"), f"s3://nova-judge-sandbox/{uuid4()}")
    prompts = [Prompt(f"p{n}", f"prompt {n:06d}") for n in range(200)]
    sent: Counter[str] = Counter()

    async def refuse(prompt: Prompt) -> providers.Answer:
        sent[prompt.prompt_id] += 1
        raise providers.AskError("ThrottlingException", "Too many requests", "throttled")

    @asynccontextmanager
    async def connect() -> AsyncIterator[Ask]:
        yield refuse

    started = time.monotonic()
    book = Ledger(folder, "claude", 0, prompts, "settings")
    rows = generate(book, connect, Pace(8, 50), max_tokens=50)
    assert time.monotonic() - started < 15
    assert len(rows) == 200
    for row in rows:
        kind = "ThrottlingException" if sent[row.prompt_id] else "NotAsked"
        assert (row.outcome, row.error_type) == ("error", kind)
        assert row.attempts == sent[row.prompt_id]
    assert 0 < sent.total() < 100, "it went on asking as if nothing had been said"
    assert "all was throttled for" in (rows[-1].error_message or "")
    assert [p.prompt_id for p in book.missing()][-1] in sent, "those never asked come first"
    assert len(book.missing()) == 200
