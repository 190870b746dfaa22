"""The services of docker-compose.yaml as processes of this machine: its commands, its settings.

Postgres and Redis are Debian's. Airflow's services come from requirements-image.txt, as in the
image; hosts become ports of this machine, and time-outs are shortened, nothing else is changed.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import requests

from bench import compose
from bench.processes import ROOT, aws_client
from scripts.local import free_port

HOST = socket.gethostname()
SHORTENED = {
    "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "1",
    # What a killed worker had received and not begun is asked for again after this.
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "60",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "2",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
}
SERVICES = ("api-server", "scheduler", "dag-processor", "triggerer")


class Cluster:
    """The services of docker-compose.yaml as processes of this machine.

    Args:
        folder: For all that they write; new or empty.
        settings: Instead of those in .env.
    """

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder, self.home = folder, folder / "airflow"
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.bin = installed(folder / "venv")
        for name in ("dags", "include", "plugins", "recipes"):
            self.home.mkdir(exist_ok=True)
            (self.home / name).symlink_to(ROOT / name)
        file = folder / ".env"
        env = [sys.executable, "-m", "scripts.env", "--out", str(file)]
        subprocess.run(env, cwd=ROOT, check=True, capture_output=True)
        self.given = {**compose.env_file(file), **settings}
        self.ports = {port: free_port() for port in ("4566", "5432", "6379", "8080", "8974")}
        self.services = {
            name: self.here(service) for name, service in compose.services(self.given).items()
        }

    def here(self, node: Any) -> Any:
        """Put ports of this machine in the place of other containers."""
        if isinstance(node, dict):
            return {key: self.here(each) for key, each in node.items()}
        if isinstance(node, list):
            return [self.here(each) for each in node]
        if not isinstance(node, str):
            return node
        if node in self.ports:  # of an option
            return str(self.ports[node])
        node = node.replace("@postgres/", "@postgres:5432/")
        for host in ("postgres", "redis", "sandbox", "api-server", "localhost"):
            for port, here in self.ports.items():
                node = node.replace(f"{host}:{port}", f"127.0.0.1:{here}")
        return str(self.folder / "sandbox") if node == "/opt/airflow/sandbox" else node

    def environment(self, service: str) -> dict[str, str]:
        """Return the variables of a service, as this machine needs them."""
        return {
            **{key: os.environ[key] for key in ("LANG", "HOME") if key in os.environ},
            **{key: str(value) for key, value in self.services[service]["environment"].items()},
            **SHORTENED,
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "HOSTNAME": HOST,
            "AIRFLOW_HOME": str(self.home),
            "PYTHONPATH": str(self.home),
            "NO_PROXY": "127.0.0.1,localhost",
            "AIRFLOW__CORE__HOSTNAME_CALLABLE": "socket.gethostname",
            "AIRFLOW__API__PORT": str(self.ports["8080"]),
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": str(self.ports["8974"]),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        }

    def start(self, service: str, name: str = "", *arguments: str) -> None:
        """Start a service by its own command."""
        command = [*map(str, self.services[service]["command"]), *arguments]
        with (self.folder / f"{name or service}.log").open("wb") as log:
            self.running[name or service] = subprocess.Popen(
                command,
                cwd=self.home,
                env=self.environment(service),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        """Kill -9 a process and all that it has started."""
        family = [psutil.Process(self.running[name].pid)]
        family += family[0].children(recursive=True)
        for process in family:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(family, timeout=10)

    def log(self, name: str) -> str:
        """Return the end of what a process has written."""
        return (self.folder / f"{name}.log").read_text(errors="replace")[-3000:]

    def postgres(self) -> None:
        """Start Debian's Postgres with what the image is told to make."""
        settings = self.services["postgres"]["environment"]
        (binaries,) = Path("/usr/lib/postgresql").glob("*/bin")
        data, password = self.folder / "postgres", self.folder / "password"
        data.mkdir()
        password.write_text(settings["POSTGRES_PASSWORD"])
        for file in (data, password):
            shutil.chown(file, "postgres")
        for parent in (self.folder, *self.folder.parents):
            with suppress(OSError):
                parent.chmod(parent.stat().st_mode | 0o011)
        user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        subprocess.run(
            [
                *(
                    *user,
                    str(binaries / "initdb"),
                    "--pgdata",
                    str(data),
                    "--auth",
                    "scram-sha-256",
                ),
                *("--username", settings["POSTGRES_USER"], "--pwfile", str(password)),
            ],
            check=True,
            capture_output=True,
        )
        port = str(self.ports["5432"])
        self.running["postgres"] = subprocess.Popen(
            [*user, str(binaries / "postgres"), "-D", str(data), "-p", port, "-k", str(data)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        login = {"PGHOST": "127.0.0.1", "PGPORT": port}
        login["PGPASSWORD"] = settings["POSTGRES_PASSWORD"]
        assert until(lambda: self.is_healthy("postgres", **login), 30)
        create = [str(binaries / "createdb"), "--username", settings["POSTGRES_USER"]]
        subprocess.run([*create, settings["POSTGRES_DB"]], env={**os.environ, **login}, check=True)

    def redis(self) -> None:
        """Start Debian's Redis with the settings of its service."""
        port = str(self.ports["6379"])
        settings = {**os.environ, **self.services["redis"]["environment"]}
        shell, flag, script = self.services["redis"]["command"]
        script = script.replace("requirepass", f"port {port}\nrequirepass")
        self.running["redis"] = subprocess.Popen(
            [shell, flag, script],
            cwd=self.folder,
            env=settings,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert until(
            lambda: b"PONG" in self.checked(["redis-cli", "-p", port, "ping"], settings), 30
        )

    def checked(self, command: list[str], environment: dict[str, str]) -> bytes:
        """Run a command and return what it prints."""
        return subprocess.run(
            command, env=environment, capture_output=True, check=False, timeout=60
        ).stdout

    def is_healthy(self, service: str, **more: str) -> bool:
        """Ask a service how it is, as compose does."""
        kind, *test = self.services[service]["healthcheck"]["test"]
        command = ["sh", "-c", *test] if kind == "CMD-SHELL" else test
        environment = {**self.environment(service), **more}
        done = subprocess.run(command, env=environment, capture_output=True, check=False)
        return done.returncode == 0

    def up(self) -> None:
        """Start everything but the workers, and wait until all are healthy."""
        self.postgres()
        self.redis()
        self.start("sandbox")
        self.start("init")
        assert self.running["init"].wait(240) == 0, self.log("init")
        for service in SERVICES:
            self.start(service)
        for service in ("sandbox", *SERVICES):
            assert until(partial(self.is_healthy, service), 240), self.log(service)

    def down(self) -> None:
        """End everything."""
        for process in self.running.values():
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
        for process in psutil.process_iter():  # postgres has sessions of its own
            with suppress(psutil.Error):
                if str(self.folder) in " ".join(process.cmdline()):
                    process.kill()

    def client(self, service: str) -> Any:
        """Return boto3's client of the sandbox."""
        return aws_client(f"http://127.0.0.1:{self.ports['4566']}", service)

    @property
    def url(self) -> str:
        """Where the Airflow UI is."""
        return f"http://127.0.0.1:{self.ports['8080']}"

    def token(self) -> dict[str, str]:
        """Log in as admin; return the header that says so."""
        login = {"username": "admin", "password": self.given["ADMIN_PASSWORD"]}
        answer = requests.post(f"{self.url}/auth/token", json=login, timeout=60)
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}

    def airflow(self, path: str, method: str = "GET", **body: Any) -> Any:
        """Call Airflow's REST API and return what it answers."""
        address = f"{self.url}/api/v2{path}"
        answer = requests.request(
            method, address, json=body or None, headers=self.token(), timeout=60
        )
        assert answer.ok, answer.text
        return answer.json()


def installed(venv: Path) -> Path:
    """Install what the image has, and return its bin folder."""
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, venv], check=True)
    subprocess.run(
        [
            *(uv, "pip", "sync", "--quiet", "--require-hashes", "--python", venv / "bin/python"),
            ROOT / "requirements-image.txt",
        ],
        check=True,
    )
    return venv / "bin"


def until(done: Callable[[], Any], seconds: float) -> Any:
    """Return what is said as soon as it is not nothing; nothing if that takes too long."""
    end = time.monotonic() + seconds
    while not (found := done()) and time.monotonic() < end:
        time.sleep(1)
    return found
