"""A copy of the product for tests, used through its commands: own ports, state and config."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from sandbox_server import ROOT, SESSION, free_port


@dataclass
class Outcome:
    code: int
    output: str
    summary: dict[str, Any]
    out: Path
    seconds: float

    @property
    def comparison(self) -> dict[str, Any]:
        (only,) = self.summary["comparisons"]
        return only


class Copy:
    """One copy of the product: its own ports, state folder and config folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.token = ""
        self.airflow_port, self.sandbox_port = free_port(), free_port()
        self.config = folder / "config"
        for kind in ("environments", "models", "evaluations"):
            (self.config / kind).mkdir(parents=True)
            for file in (ROOT / "dags" / kind).glob("*.yaml"):
                (self.config / kind / file.name).write_text(file.read_text())
        self.environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("SANDBOX_", "AIRFLOW"))},
            "STATE_DIR": str(folder / "state"),
            "AIRFLOW_PORT": str(self.airflow_port),
            "SANDBOX_PORT": str(self.sandbox_port),
            "NOVA_JUDGE_CONFIG_DIR": str(self.config),
            "PYTHONPATH": str(ROOT),
        }

    def command(self, module: str, *arguments: str, **settings: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env={**self.environ, **{key.upper(): value for key, value in settings.items()}},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, config: dict[str, Any] | None, *arguments: str, **settings: str) -> Outcome:
        out = self.folder / f"out-{time.monotonic_ns()}"
        given: list[str] = []
        if config is not None:
            file = self.folder / f"config-{time.monotonic_ns()}.json"
            file.write_text(json.dumps(config))
            given = ["--config", str(file)]
        started = time.monotonic()
        process = self.command("scripts.run", *given, "--out", str(out), *arguments, **settings)
        output, _ = process.communicate(timeout=420)
        summary = out / "summary.json"
        return Outcome(
            code=process.returncode,
            output=output,
            summary=json.loads(summary.read_text()) if summary.exists() else {},
            out=out,
            seconds=time.monotonic() - started,
        )

    def client(self, service: str) -> Any:
        return SESSION.client(service, endpoint_url=f"http://127.0.0.1:{self.sandbox_port}")

    def left_over(self) -> list[Any]:
        sagemaker = self.client("sagemaker")
        return [
            *sagemaker.list_endpoints()["Endpoints"],
            *sagemaker.list_endpoint_configs()["EndpointConfigs"],
            *sagemaker.list_models()["Models"],
        ]

    def airflow(self, path: str, method: str = "GET", **body: Any) -> Any:
        below = urlsplit(self.environ.get("AIRFLOW__API__BASE_URL", "")).path
        url = f"http://127.0.0.1:{self.airflow_port}{below}"
        if not self.token:
            login = {"username": "admin", "password": self.password("admin")}
            answer = requests.post(f"{url}/auth/token", json=login, timeout=30)
            self.token = answer.json()["access_token"]
        headers = {"Authorization": f"Bearer {self.token}"}
        address = f"{url}/api/v2{path}"
        for _ in range(3):
            answer = requests.request(
                method, address, json=body or None, headers=headers, timeout=150
            )  # longer than Airflow waits for its database
            if answer.status_code < 500:
                break  # SQLite is locked now and then when processes are killed
            time.sleep(1)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text[:1000]}"
        return answer.json() if answer.content else None

    def password(self, user: str) -> str:
        """Return what Airflow's simple auth manager has made up for a user."""
        file = self.folder / "state/airflow/simple_auth_manager_passwords.json.generated"
        found: str = json.loads(file.read_text())[user]
        return found

    def down(self) -> str:
        output, _ = self.command("scripts.local", "down").communicate(timeout=60)
        return output
