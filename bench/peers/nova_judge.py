"""Our own steps: resolve, load prompts, generate, with the ledger on S3, as the DAG's tasks do.

    python FILE URL PROMPTS IN_FLIGHT --s3=URL [--shard-size=N]

URL is where the model answers, `--s3` a running sandbox, which keeps the run folder. Without
`--shard-size` one task asks for all prompts. Also prints `stored_twice`, rows that the ledger has
more than once, and `peak_bytes` of memory, before anything is read back.
"""

import argparse
import json
import resource
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
from botocore.config import Config

from include import ledger, runs, steps

MODEL = "asked"


def main(options: argparse.Namespace) -> None:
    """Run the steps up to the last response and print what the ledger holds then."""
    session = boto3.session.Session()

    def client(service: str, **config: Any) -> Any:
        url = options.url if service == "bedrock-runtime" else options.s3
        return session.client(service, endpoint_url=url, config=Config(**config))

    with Path(options.prompts).open(encoding="utf-8") as file:
        rows = sum(1 for _ in file)
    record = steps.resolve(
        evaluation(options, options.shard_size or rows),
        dag_id="bench",
        run_id=uuid4().hex,
        started_at=datetime.now(UTC).isoformat(),
        connect=lambda _: client,
    )
    run = runs.open_run(record, client)
    shards = [shard for shard in steps.load_prompts(run) if shard["model"] == MODEL]
    deployments = steps.reserve(run, [])
    for shard in shards:
        steps.generate(run, deployments, shard)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    stored = Counter(row.prompt_id for row in ledger.Parts(run.folder, MODEL).read() if row.usable)
    counts = {
        "answered": len(stored),
        "errors": rows - len(stored),
        "stored_twice": stored.total() - len(stored),
        "peak_bytes": peak if sys.platform == "darwin" else peak * 1024,
    }
    sys.stdout.write(json.dumps(counts) + "\n")


def evaluation(options: argparse.Namespace, shard_size: int) -> dict[str, Any]:
    """Return the conf of a run that asks one Bedrock model for everything."""
    asked = {
        "name": MODEL,
        "provider": "bedrock",
        "model_id": "us.anthropic.claude-sonnet-4-6",
        "limits": {"max_concurrency": options.in_flight},
    }
    there = {
        "name": "there",
        "provider": "responses",
        "source": options.prompts,
        "response_field": "prompt",
    }
    return {
        "evaluation": "bench",
        "environment": "sandbox",
        "dataset": {"source": options.prompts, "id_field": "prompt_id"},
        "parameters": {"max_tokens": 512, "temperature": 0.7},
        "baseline": asked,
        "candidates": [there],
        "generation": {"shard_size": shard_size, "max_error_rate": 1},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("prompts")
    parser.add_argument("in_flight", type=int)
    parser.add_argument("--s3", required=True)
    parser.add_argument("--shard-size", type=int)
    main(parser.parse_args())
