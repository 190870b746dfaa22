"""inspect_ai: a task that only generates, with the settings that make it fastest.

No live log, no live scores, a large log buffer and no display: about half as fast without.
"""

import json
import os
import sys
from pathlib import Path

from inspect_ai import Task, eval  # type: ignore[import-not-found]
from inspect_ai.dataset import Sample  # type: ignore[import-not-found]
from inspect_ai.model import get_model  # type: ignore[import-not-found]
from inspect_ai.solver import generate  # type: ignore[import-not-found]


def main(url: str, prompts: list[str], in_flight: int) -> None:
    """Ask every prompt, `in_flight` at once."""
    os.environ["BENCH_API_KEY"] = "none"  # the provider's name, in upper case, is its prefix
    model = get_model("openai-api/bench/bench", base_url=f"{url}/v1")
    task = Task(dataset=[Sample(input=prompt) for prompt in prompts], solver=generate())
    (log,) = eval(
        task,
        model=model,
        max_connections=in_flight,
        max_samples=in_flight,
        max_tokens=512,
        temperature=0.7,
        display="none",
        log_dir="logs",
        log_realtime=False,
        log_buffer=1000,
        score_display=False,
        fail_on_error=False,
    )
    samples = log.samples or []
    answered = sum(bool(sample.output.completion) and not sample.error for sample in samples)
    counts = {"answered": answered, "errors": len(prompts) - answered}
    sys.stdout.write(json.dumps(counts) + "\n")


if __name__ == "__main__":
    rows = [json.loads(line) for line in Path(sys.argv[2]).read_text().splitlines()]
    main(sys.argv[1], [row["prompt"] for row in rows], int(sys.argv[3]))
