"""Facts about asking models, against the sandbox over HTTP and against ways that misbehave."""

from functools import partial
from uuid import uuid4

import pytest
from sandbox_server import Sandbox

from include import providers
from include.config import BedrockModel, Parameters
from include.generate import Connect, generate
from include.ledger import Ledger, read
from include.pace import Pace
from include.records import Prompt
from include.storage import RunFolder

CLAUDE = BedrockModel(name="claude", provider="bedrock", model_id="us.anthropic.claude-sonnet-4-6")


def prompts(count: int) -> list[Prompt]:
    return [Prompt(f"p{n}", f"What is {n} plus {n}?") for n in range(count)]


def folder_at(sandbox: Sandbox) -> RunFolder:
    s3 = sandbox.client("s3", max_pool_connections=10)
    return RunFolder(s3, f"s3://nova-judge-sandbox/test/{uuid4()}")


@pytest.fixture
def folder(sandbox: Sandbox) -> RunFolder:
    return folder_at(sandbox)


def book(folder: RunFolder, count: int, start: int = 0) -> Ledger:
    return Ledger(folder, "claude", start, prompts(start + count)[start:], "settings")


def claude(sandbox: Sandbox) -> Connect:
    dialect = providers.bedrock(CLAUDE, Parameters(max_tokens=50))
    client = sandbox.client("bedrock-runtime")
    return partial(providers.connected, client, dialect, max_connections=50, timeout=60)


def test_there_is_one_response_per_prompt_in_the_prompts_order(
    sandbox: Sandbox, folder: RunFolder
) -> None:
    rows = generate(book(folder, 130), claude(sandbox), Pace(8, 16), max_tokens=50)
    assert [row.prompt_id for row in rows] == [p.prompt_id for p in prompts(130)]
    assert all(row.usable and row.text and row.attempts == 1 for row in rows)
    stored = [row.prompt_id for row in read(folder, "claude")]
    assert sorted(stored) == sorted(p.prompt_id for p in prompts(130))
