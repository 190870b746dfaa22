"""Facts about the services of docker-compose.yaml, run on this machine: its commands, its settings.

Postgres and Redis are Debian's. Airflow's services come from requirements-image.txt, as in the
image; hosts become ports of this machine, and time-outs are shortened, nothing else is changed.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import compose
import psutil
import pytest
import requests
from sandbox_server import ROOT, SESSION, free_port

from include import ownership

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("redis-server"), reason="redis-server is not installed"),
    pytest.mark.skipif(
        not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")),
        reason="postgresql is not installed",
    ),
]

DAG = "nova_llm_judge"
HOST = socket.gethostname()
QUICK = {
    "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "1",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "2",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
}
SERVICES = ("api-server", "scheduler", "dag-processor", "triggerer")


class Cluster:
    """The services of docker-compose.yaml as processes of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "airflow"
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.bin = installed(folder / "venv")
        for name in ("dags", "include", "plugins", "recipes"):
            self.home.mkdir(exist_ok=True)
            (self.home / name).symlink_to(ROOT / name)
        file = folder / ".env"
        env = [sys.executable, "-m", "scripts.env", "--out", str(file)]
        subprocess.run(env, cwd=ROOT, check=True, capture_output=True)
        self.given = compose.env_file(file)
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

    def environment(self, service: str, **more: str) -> dict[str, str]:
        return {
            **{key: os.environ[key] for key in ("LANG", "HOME") if key in os.environ},
            **{key: str(value) for key, value in self.services[service]["environment"].items()},
            **QUICK,
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
            **more,
        }

    def start(self, service: str, name: str = "", *arguments: str, **more: str) -> None:
        """Start a service by its own command."""
        command = [*map(str, self.services[service]["command"]), *arguments]
        with (self.folder / f"{name or service}.log").open("wb") as log:
            self.running[name or service] = subprocess.Popen(
                command,
                cwd=self.home,
                env=self.environment(service, **more),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def log(self, name: str) -> str:
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
        self.postgres()
        self.redis()
        self.start("sandbox")
        self.start("init")
        assert self.running["init"].wait(240) == 0, self.log("init")
        for service in SERVICES:
            self.start(service)
        for service in ("sandbox", *SERVICES):
            assert until(lambda service=service: self.is_healthy(service), 240), self.log(service)

    def down(self) -> None:
        for process in self.running.values():
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
        for process in psutil.process_iter():  # postgres has sessions of its own
            with suppress(psutil.Error):
                if str(self.folder) in " ".join(process.cmdline()):
                    process.kill()

    def client(self, service: str) -> Any:
        url = f"http://127.0.0.1:{self.ports['4566']}"
        return SESSION.client(service, endpoint_url=url)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['8080']}"

    def token(self) -> dict[str, str]:
        login = {"username": "admin", "password": self.given["ADMIN_PASSWORD"]}
        answer = requests.post(f"{self.url}/auth/token", json=login, timeout=60)
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}

    def airflow(self, path: str, method: str = "GET", **body: Any) -> Any:
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


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("celery"))
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()


def models() -> tuple[dict[str, Any], ...]:
    ids = {"micro": "us.amazon.nova-micro-v1:0", "lite": "us.amazon.nova-lite-v1:0"}
    return tuple(
        {"name": name, "provider": "bedrock", "model_id": model} for name, model in ids.items()
    )


def test_a_run_outlives_a_worker_that_is_killed_while_it_generates(cluster: Cluster) -> None:
    cluster.start("worker")
    second = ("--celery-hostname", f"second@{HOST}")
    cluster.start("worker", "second", *second)
    assert until(lambda: cluster.is_healthy("worker"), 120), cluster.log("worker")
    slow = {"operation": "Converse", "resource": "*", "latency_ms": 1500, "times": None}
    faults = f"http://127.0.0.1:{cluster.ports['4566']}/sandbox/faults"
    assert requests.post(faults, json=slow, timeout=10).ok
    assert until(lambda: DAG in [each["dag_id"] for each in cluster.airflow("/dags")["dags"]], 120)
    baseline, candidate = models()
    conf = {
        "evaluation": "celery",
        "dataset": {"source": "include/samples/prompts.jsonl", "id_field": "id"},
        "baseline": {**baseline, "limits": {"max_concurrency": 2}},
        "candidates": [{**candidate, "limits": {"max_concurrency": 2}}],
        "generation": {"shard_size": 20},
    }
    cluster.airflow(f"/dags/{DAG}", "PATCH", is_paused=False)
    path = f"/dags/{DAG}/dagRuns"
    run_id = cluster.airflow(path, "POST", logical_date=None, conf=conf)["dag_run_id"]
    run = f"{path}/{quote(run_id)}"

    def generating() -> list[psutil.Process]:
        """Return what runs a generate task in the second worker."""
        tasks = cluster.airflow(f"{run}/taskInstances?limit=100")["task_instances"]
        shards = [t for t in tasks if t["task_id"] == "generate" and t["state"] == "running"]
        children = psutil.Process(cluster.running["second"].pid).children(recursive=True)
        held = {pid for task in shards if (pid := task.get("pid"))}
        return [child for child in children if child.pid in held]

    assert until(generating, 180), cluster.log("second")
    os.killpg(cluster.running["second"].pid, signal.SIGKILL)
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if "second@" in " ".join(process.cmdline()):
                process.kill()
    ended = until(
        lambda: (found := cluster.airflow(run))["state"] in ("success", "failed") and found, 400
    )
    assert ended, cluster.log("worker")
    tasks = cluster.airflow(f"{run}/taskInstances?limit=100")["task_instances"]
    assert ended["state"] == "success", [(t["task_id"], t["state"]) for t in tasks]
    assert max(t["try_number"] for t in tasks if t["task_id"] == "generate") > 1
    uri = cluster.airflow(f"{run}/taskInstances/resolve/xcomEntries/uri")["value"].strip('"')
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    body = cluster.client("s3").get_object(Bucket=bucket, Key=f"{prefix}/summary.json")["Body"]
    summary = json.loads(body.read())
    assert summary["comparisons"][0]["counts"]["pairs"] == 60
    assert [each["responses"]["ok"] for each in summary["models"]] == [60, 60]
    assert jobs(cluster, run_id) == ["Completed"]


def jobs(cluster: Cluster, run_id: str) -> list[str]:
    """Return the status of every judge job of a run."""
    sagemaker = cluster.client("sagemaker")
    found = []
    for job in sagemaker.list_training_jobs()["TrainingJobSummaries"]:
        tags = sagemaker.list_tags(ResourceArn=job["TrainingJobArn"])["Tags"]
        if {"Key": ownership.RUN_ID, "Value": run_id} in tags:
            found.append(job["TrainingJobStatus"])
    return found


def test_logs_are_kept_on_s3(cluster: Cluster) -> None:
    place = {"Bucket": "nova-judge-sandbox", "Prefix": f"logs/dag_id={DAG}/"}
    assert cluster.client("s3").list_objects_v2(**place).get("Contents")


def test_the_pages_are_there_for_whoever_has_logged_in(cluster: Cluster) -> None:
    address = f"{cluster.url}/nova-judge/"
    assert requests.get(address, timeout=60).status_code == 401
    answer = requests.get(address, headers=cluster.token(), timeout=60)
    assert answer.status_code == 200
    assert "/evaluations/sandbox/celery" in answer.text
