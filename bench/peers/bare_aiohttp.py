"""aiohttp and nothing else: workers that take the next prompt. Shows what the rig can carry."""

import asyncio
import json
import sys
from pathlib import Path

import aiohttp


async def main(url: str, prompts: list[str], in_flight: int) -> None:
    """Ask every prompt, `in_flight` at once."""
    counts = {"answered": 0, "errors": 0}
    todo = iter(prompts)
    connector = aiohttp.TCPConnector(limit=in_flight)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def work() -> None:
            for prompt in todo:
                body = {"model": "bench", "messages": [{"role": "user", "content": prompt}]}
                async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
                    content = await answer.json()
                    good = answer.status == 200 and content["choices"][0]["message"]["content"]
                counts["answered" if good else "errors"] += 1

        await asyncio.gather(*(work() for _ in range(in_flight)))
    sys.stdout.write(json.dumps(counts) + "\n")


if __name__ == "__main__":
    rows = [json.loads(line) for line in Path(sys.argv[2]).read_text().splitlines()]
    asyncio.run(main(sys.argv[1], [row["prompt"] for row in rows], int(sys.argv[3])))
