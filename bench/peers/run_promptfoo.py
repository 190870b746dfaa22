"""promptfoo's command line: `eval` with one assertion-free test per prompt, nothing cached."""

import json
import os
import subprocess
import sys
from pathlib import Path


def main(url: str, rows: list[dict[str, str]], in_flight: int) -> int:
    """Ask every prompt, `in_flight` at once, and return promptfoo's exit code."""
    provider = {
        "id": "openai:chat:bench",
        "config": {
            "apiBaseUrl": f"{url}/v1",
            "apiKey": "none",
            "max_tokens": 512,
            "temperature": 0.7,
        },
    }
    config = {
        "prompts": ["{{prompt}}"],
        "providers": [provider],
        "tests": [{"vars": {"prompt": row["prompt"]}} for row in rows],
    }
    Path("promptfooconfig.json").write_text(json.dumps(config))
    command = [
        *(os.environ["PROMPTFOO"], "eval", "--config", "promptfooconfig.json"),
        *("--output", "out.json", "--max-concurrency", str(in_flight)),
        *("--no-cache", "--no-table", "--no-progress-bar", "--no-write"),
    ]
    code = subprocess.run(command, check=False).returncode
    out = json.loads(Path("out.json").read_text())
    answered = sum(bool((row["response"] or {}).get("output")) for row in out["results"]["results"])
    counts = {"answered": answered, "errors": len(rows) - answered}
    sys.stdout.write(json.dumps(counts) + "\n")
    return code


if __name__ == "__main__":
    given = [json.loads(line) for line in Path(sys.argv[2]).read_text().splitlines()]
    sys.exit(main(sys.argv[1], given, int(sys.argv[3])))
