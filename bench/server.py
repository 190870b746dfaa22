"""A local server that answers like several model services after a fixed time, and keeps a log.

It speaks OpenAI chat completions and completions, Bedrock's Converse and InvokeModel, and
SageMaker's InvokeEndpoint. It does as little as it can per request, so that what is measured is
the client. `GET /stats` tells counts, `GET /log` every request, `POST /reset` forgets both.

    python -m bench.server --port 9900 --latency-ms 100
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, cast

TEXT = "A response of sixty words, as short answers of chat models are. " * 5
THROTTLED = "Too many requests, please wait before trying again."

ROW = re.compile(rb"prompt (\d{6})")
"""How a prompt of the benchmark starts: its row, whatever protocol it is wrapped in."""


@dataclass(frozen=True)
class Settings:
    """What the server is asked to do."""

    latency: float = 0.1
    """Seconds from a request to its answer."""
    rate: float = 0.0
    """Requests per second that the token bucket grants; 0: no bucket."""
    burst: float = 0.0
    """Size of the bucket, which is full at the start."""
    throttle: float = 0.0
    """Share of requests that are refused at random."""
    retry_after: float = 0.0
    """Seconds that a refusal asks to wait, as Retry-After; 0: it does not say."""
    seed: int = 0


def refusals(row: int, share: float, seed: int) -> int:
    """Return how often a row is refused before it is answered, the same in every run."""
    dice = random.Random(f"{seed} {row}")
    count = 0
    while dice.random() < share:
        count += 1
    return count


class Service:
    """The state behind all connections: the bucket, the log and the counts."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.reset()

    def reset(self) -> None:
        """Forget all requests and fill the bucket."""
        self.log: list[tuple[float, float, int]] = []
        self.answered: Counter[tuple[bytes, int]] = Counter()
        self.refused: Counter[tuple[bytes, int]] = Counter()
        self.in_flight = self.max_in_flight = 0
        self.tokens, self.filled_at = self.settings.burst, time.monotonic()

    def grants(self, path: bytes, row: int) -> bool:
        """Decide whether a request is answered or throttled."""
        if self.settings.rate and not self._token():
            return False
        if not self.settings.throttle or row < 0:
            return True
        already = self.refused[path, row]
        if already >= refusals(row, self.settings.throttle, self.settings.seed):
            return True
        self.refused[path, row] = already + 1
        return False

    def _token(self) -> bool:
        now = time.monotonic()
        gained = (now - self.filled_at) * self.settings.rate
        self.tokens, self.filled_at = min(self.tokens + gained, self.settings.burst), now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def stats(self) -> dict[str, Any]:
        """Return counts; `twice` are answers beyond a row's first."""
        return {
            "requests": len(self.log) + self.in_flight,
            "answered": sum(status == 200 for _, _, status in self.log),
            "throttled": sum(status == 429 for _, _, status in self.log),
            "rows": len(self.answered),
            "twice": sum(self.answered.values()) - len(self.answered),
            "in_flight": self.in_flight,
            "max_in_flight": self.max_in_flight,
        }


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection, read by hand: a framework would cost more than all the rest."""

    transport: asyncio.Transport

    def __init__(self, service: Service) -> None:
        self.service = service
        self.read = b""
        self.loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self.read += data
        while (end := self.read.find(b"\r\n\r\n")) >= 0:
            head = self.read[:end].lower()
            at = head.find(b"\r\ncontent-length:")
            length = int(head[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.read) < end + 4 + length:
                return
            body = self.read[end + 4 : end + 4 + length]
            method, path, _ = self.read.split(b" ", 2)
            self.read = self.read[end + 4 + length :]
            self._request(method, path, body, b"\r\nconnection: close" in head)

    def _request(self, method: bytes, path: bytes, body: bytes, close: bool) -> None:
        service, now = self.service, time.monotonic()
        if path in (b"/stats", b"/log", b"/reset"):
            self._control(path)
            return
        template = answer_to(path, body) if method == b"POST" else None
        if template is None:
            self._send(reply(404, {"message": f"nothing at {path.decode(errors='replace')}"}))
            return
        found = ROW.search(body)
        row = int(found[1]) if found else -1
        granted = service.grants(path, row)
        service.in_flight += 1
        service.max_in_flight = max(service.max_in_flight, service.in_flight)
        if granted:
            self.loop.call_later(
                service.settings.latency, self._finish, now, path, row, template, close
            )
        else:
            self._finish(now, path, row, None, close)

    def _finish(
        self, arrived: float, path: bytes, row: int, answer: bytes | None, close: bool
    ) -> None:
        service = self.service
        service.in_flight -= 1
        if self.transport.is_closing():
            service.log.append((arrived, time.monotonic(), 499))
            return
        self.transport.write(answer or refusal(service.settings.retry_after))
        if close:
            self.transport.close()
        service.log.append((arrived, time.monotonic(), 200 if answer else 429))
        if answer and row >= 0:
            service.answered[path, row] += 1

    def _control(self, path: bytes) -> None:
        if path == b"/reset":
            self.service.reset()
        content = self.service.log if path == b"/log" else self.service.stats()
        self._send(reply(200, content))

    def _send(self, answer: bytes) -> None:
        self.transport.write(answer)


def reply(status: int, content: Any, *headers: str) -> bytes:
    """Return a whole HTTP answer with a JSON body."""
    body = json.dumps(content).encode()
    lines = [
        f"HTTP/1.1 {status} {'OK' if status == 200 else 'No'}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def refusal(retry_after: float) -> bytes:
    """Return a 429 that AWS's and OpenAI's clients both understand."""
    headers = ["x-amzn-errortype: ThrottlingException"]
    if retry_after:
        headers.append(f"Retry-After: {retry_after:g}")
    error = {"message": THROTTLED, "type": "rate_limit_error", "code": "rate_limit_exceeded"}
    return reply(429, {"message": THROTTLED, "error": error}, *headers)


_USAGE = {"prompt_tokens": 12, "completion_tokens": 60, "total_tokens": 72}
_OPENAI = {"id": "bench-1", "created": 1, "model": "bench", "usage": _USAGE}
_MESSAGE = {"role": "assistant", "content": TEXT}

CHAT = reply(
    200,
    {
        **_OPENAI,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": _MESSAGE, "finish_reason": "stop"}],
    },
)
COMPLETION = reply(
    200,
    {
        **_OPENAI,
        "object": "text_completion",
        "choices": [{"index": 0, "text": TEXT, "finish_reason": "stop", "logprobs": None}],
    },
)
CONVERSE = reply(
    200,
    {
        "output": {"message": {"role": "assistant", "content": [{"text": TEXT}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 12, "outputTokens": 60, "totalTokens": 72},
        "metrics": {"latencyMs": 100},
    },
)
ANTHROPIC = reply(
    200,
    {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": TEXT}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 12, "output_tokens": 60},
    },
)
TGI = reply(200, [{"generated_text": TEXT}])


def answer_to(path: bytes, body: bytes) -> bytes | None:
    """Return the answer to a POST; None where nothing is."""
    if path.endswith(b"/chat/completions"):
        return CHAT
    if path.endswith(b"/completions"):
        return COMPLETION
    if path.startswith(b"/model/"):
        return {b"converse": CONVERSE, b"invoke": ANTHROPIC}.get(path.rpartition(b"/")[2])
    if path.startswith(b"/endpoints/") and path.endswith(b"/invocations"):
        return TGI if body.lstrip(b"{ ").startswith(b'"inputs"') else CHAT
    return None


async def serve(port: int, settings: Settings) -> None:
    """Listen on the loopback address until cancelled; prints the port once it does."""
    service = Service(settings)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(service), "127.0.0.1", port, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - whoever starts it reads it
    await server.serve_forever()


def main() -> None:
    """Run the server as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--port", type=int, default=0, help="0: a free one, which is printed")
    parser.add_argument("--latency-ms", type=float, default=100)
    parser.add_argument("--rate", type=float, default=0, help="requests/s that a bucket grants")
    parser.add_argument("--burst", type=float, default=0, help="size of the bucket")
    parser.add_argument("--throttle", type=float, default=0, help="share refused at random")
    parser.add_argument("--retry-after", type=float, default=0, help="seconds")
    parser.add_argument("--seed", type=int, default=0, help="of the random refusals")
    args = parser.parse_args()
    settings = Settings(
        latency=args.latency_ms / 1000,
        rate=args.rate,
        burst=args.burst,
        throttle=args.throttle,
        retry_after=args.retry_after,
        seed=args.seed,
    )
    import uvloop

    uvloop.run(serve(args.port, settings))


if __name__ == "__main__":
    main()
