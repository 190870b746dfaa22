"""A process that asks a model for one shard, to be killed: see test_killed_workers.py."""

import json
import sys
from functools import partial
from typing import Any

import boto3
from botocore.config import Config

from include import providers
from include.config import BedrockModel, Parameters
from include.generate import generate
from include.ledger import Ledger
from include.pace import Pace
from include.records import Prompt, Response
from include.storage import RunFolder

CLAUDE = BedrockModel(name="claude", provider="bedrock", model_id="us.anthropic.claude-sonnet-4-6")
MOST = 16


def work(s3_url: str, model_url: str, uri: str, count: int) -> list[Response]:
    """Ask the model behind one URL, keep what it says behind the other."""
    session = boto3.session.Session("test", "test", region_name="us-east-1")
    once = Config(retries={"total_max_attempts": 1})

    def client(service: str, url: str) -> Any:
        return session.client(service, endpoint_url=url, config=once)

    prompts = [Prompt(f"p{n}", f"What is {n} plus {n}?") for n in range(count)]
    book = Ledger(RunFolder(client("s3", s3_url), uri), "claude", 0, prompts, "settings")
    dialect = providers.bedrock(CLAUDE, Parameters(max_tokens=50))
    connect = partial(
        providers.connected,
        client("bedrock-runtime", model_url),
        dialect,
        max_connections=MOST,
        timeout=60,
    )
    return generate(book, connect, Pace(MOST, MOST), max_tokens=50)


if __name__ == "__main__":
    work(**json.loads(sys.argv[1]))
