"""One generate task as a process of its own, to be killed: asks one shard of prompts, then ends."""

import json
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

from sandbox_server import SESSION

from include import generate, ledger, pace, providers
from include.config import BedrockModel, Parameters
from include.records import Prompt
from include.storage import RunFolder

MODEL = BedrockModel(name="claude", provider="bedrock", model_id="us.anthropic.claude-sonnet-4-6")
AT_ONCE = 16


def prompts(number: int) -> list[Prompt]:
    """Return the shard."""
    return [Prompt(f"p{n}", f"What is {n} plus {n}?") for n in range(number)]


def main(url: str, run_uri: str, number: str, result: str) -> None:
    """Ask for what the ledger lacks and write all rows to a file."""
    s3 = SESSION.client("s3", endpoint_url=url)
    book = ledger.Ledger(RunFolder(s3, run_uri), MODEL.name, 0, prompts(int(number)), "settings")
    connect = partial(
        providers.connected,
        SESSION.client("bedrock-runtime", endpoint_url=url),
        providers.bedrock(MODEL, Parameters(max_tokens=60)),
        max_connections=AT_ONCE,
        timeout=30,
    )
    rows = generate.generate(book, connect, pace.Pace(AT_ONCE, AT_ONCE), max_tokens=60)
    Path(result).write_text(json.dumps([asdict(row) for row in rows]))


if __name__ == "__main__":
    main(*sys.argv[1:])
