"""A sandbox of its own for tests: a real process on a free port, reached over HTTP."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import boto3
from botocore.config import Config

ROOT = Path(__file__).resolve().parent.parent
PYTHON = os.environ.get("PYTHON_OF_THE_SANDBOX", sys.executable)
"""The sandbox needs more than a test that is run on an older Airflow has."""

ALPACA_EVAL = ROOT.parent / "shared" / "data" / "alpaca_eval_2.jsonl.gz"


SESSION = boto3.session.Session(
    aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1"
)
"""One for all tests: making a client takes a tenth of what making a session takes."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Sandbox:
    """One running sandbox."""

    def __init__(self, state: Path, port: int, **settings: str) -> None:
        self.state, self.port, self.url = state, port, f"http://127.0.0.1:{port}"
        self.settings = settings
        self.clients: dict[tuple[str, str], Any] = {}
        self.start()

    def airflow_connection(self) -> str:
        """Return it as Airflow takes connections from the environment."""
        return json.dumps(
            {
                "conn_type": "aws",
                "login": "somebody",
                "password": "something",
                "extra": {"endpoint_url": self.url, "region_name": "us-east-1"},
            }
        )

    def start(self) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("SANDBOX_")}
        self.process = subprocess.Popen(
            [
                *(PYTHON, "-m", "include.sandbox"),
                *("--port", str(self.port), "--state", str(self.state)),
            ],
            cwd=ROOT,
            env={**kept, **{key.upper(): value for key, value in self.settings.items()}},
            start_new_session=True,
        )
        end = time.monotonic() + 60
        while True:
            try:
                with urlopen(f"{self.url}/sandbox/health", timeout=5):
                    return
            except OSError:
                assert self.process.poll() is None, "the sandbox ended at once"
                assert time.monotonic() < end, "the sandbox does not answer"
                time.sleep(0.1)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def client(self, service: str, **config: Any) -> Any:
        config.setdefault("retries", {"total_max_attempts": 1})
        key = (service, repr(config))
        if key not in self.clients:
            self.clients[key] = SESSION.client(
                service, endpoint_url=self.url, config=Config(**config)
            )
        return self.clients[key]


@contextmanager
def running_sandbox(state: Path, **settings: str) -> Iterator[Sandbox]:
    """Run a sandbox; settings are its environment variables in lower case."""
    sandbox = Sandbox(state, free_port(), **settings)
    try:
        yield sandbox
    finally:
        sandbox.stop()
