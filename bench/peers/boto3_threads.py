"""boto3's Converse from a pool of threads; with `adaptive`, botocore paces the requests itself."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

RETRIES = {
    "standard": {"mode": "standard"},
    "adaptive": {"mode": "adaptive", "total_max_attempts": 20},
}


def main(url: str, prompts: list[str], in_flight: int, mode: str) -> None:
    """Ask every prompt, `in_flight` at once."""
    config: Any = Config(max_pool_connections=in_flight, retries=RETRIES[mode])
    client: Any = boto3.client("bedrock-runtime", endpoint_url=url, config=config)

    def ask(prompt: str) -> bool:
        try:
            answer = client.converse(
                modelId="us.anthropic.claude-sonnet-4-6",
                messages=[{"role": "user", "content": [{"text": prompt}]}],
                inferenceConfig={"maxTokens": 512, "temperature": 0.7},
            )
        except (ClientError, BotoCoreError):
            return False
        return bool(answer["output"]["message"]["content"][0]["text"])

    with ThreadPoolExecutor(in_flight) as pool:
        answered = sum(pool.map(ask, prompts))
    counts = {"answered": answered, "errors": len(prompts) - answered}
    sys.stdout.write(json.dumps(counts) + "\n")


if __name__ == "__main__":
    rows = [json.loads(line) for line in Path(sys.argv[2]).read_text().splitlines()]
    mode = sys.argv[4] if len(sys.argv) > 4 else "standard"
    main(sys.argv[1], [row["prompt"] for row in rows], int(sys.argv[3]), mode)
