"""A small server of OpenAI's protocol for tests: answers as told, and keeps what it was asked."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-a-secret-of-the-tests"
Body = dict[str, Any]


def chat(text: str | None, finish_reason: str = "stop", **usage: int) -> Body:
    """Return a chat completion; without usage it has none."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "text": text, "finish_reason": finish_reason}
    answer: Body = {"object": "chat.completion", "choices": [choice]}
    return {**answer, "usage": usage} if usage else answer


@dataclass
class Asked:
    """One request."""

    path: str
    key: str | None
    body: Body


@dataclass
class FakeOpenAI:
    """One running server."""

    url: str
    answer: Callable[[Body], Body | tuple[int, Any]] = lambda body: chat(f"I am {body['model']}.")
    """Takes a request's body and returns a reply, or a status and whatever comes with it."""
    models: tuple[int, Any] = (200, {"data": [{"id": "small"}, {"id": "judge"}]})
    asked: list[Asked] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def bodies(self) -> list[Body]:
        return [asked.body for asked in self.asked]

    def take(self, path: str, key: str | None, body: Body) -> tuple[int, Any]:
        with self.lock:
            self.asked.append(Asked(path, key, body))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            answer = self.answer(body)
        finally:
            with self.lock:
                self.at_once -= 1
        return answer if isinstance(answer, tuple) else (200, answer)


@contextmanager
def fake_openai() -> Iterator[FakeOpenAI]:
    """Run a server, with its API below /v1."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send(*(fake.models if self.path == "/v1/models" else (404, "no such page")))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.send(*fake.take(self.path, self.headers.get("Authorization"), body))

        def send(self, status: int, answer: Any) -> None:
            content = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            self.send_response(status)
            for name, value in {**fake.headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            with suppress(BrokenPipeError):  # whoever asked is gone
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    fake = FakeOpenAI(f"http://127.0.0.1:{server.server_address[1]}/v1")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
