"""litellm's acompletion from workers that take the next prompt; settings as it comes."""

import asyncio
import json
import sys
from pathlib import Path

import litellm  # type: ignore[import-not-found]


async def main(url: str, prompts: list[str], in_flight: int) -> None:
    """Ask every prompt, `in_flight` at once."""
    counts = {"answered": 0, "errors": 0}
    todo = iter(prompts)

    async def work() -> None:
        for prompt in todo:
            try:
                answer = await litellm.acompletion(
                    model="openai/bench",
                    api_base=f"{url}/v1",
                    api_key="none",
                    messages=[{"role": "user", "content": prompt}],
                    max_tokens=512,
                    temperature=0.7,
                )
            except Exception:  # its many classes of errors all count as one
                counts["errors"] += 1
            else:
                counts["answered" if answer.choices[0].message.content else "errors"] += 1

    await asyncio.gather(*(work() for _ in range(in_flight)))
    sys.stdout.write(json.dumps(counts) + "\n")


if __name__ == "__main__":
    rows = [json.loads(line) for line in Path(sys.argv[2]).read_text().splitlines()]
    asyncio.run(main(sys.argv[1], [row["prompt"] for row in rows], int(sys.argv[3])))
