"""Airflow and the sandbox on this machine: up, down, status, logs, reset.

Airflow forks, renames its processes and leaves children behind when it is stopped. So each part is
started in a session of its own and with a mark in its environment, and `down` ends whatever has
either: renaming overwrites the environment, and a daemon leaves its session, but none does both.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import requests
from requests.adapters import HTTPAdapter
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_fixed
from urllib3 import Retry

from scripts.command import LocalError as LocalError
from scripts.command import plainly

ROOT = Path(__file__).resolve().parent.parent
MARK = "NOVA_JUDGE_LOCAL"
"""Environment variable that every started process carries: its part, and its state folder."""

CALLED_WITH = dict(os.environ)
"""The caller's environment, before this program adds Airflow's to its own."""

SANDBOX_CONNECTION = "AIRFLOW_CONN_AWS_SANDBOX"
JUDGE_POOL = "nova_judge"
JUDGE_JOBS_AT_ONCE = 2

WATCHED = ("AIRFLOW__", "AIRFLOW_CONN_", "AIRFLOW_VAR_", "AWS_", "NOVA_JUDGE_", "HF_")
"""Variables that Airflow has to be started anew for."""


@dataclass(frozen=True)
class Place:
    """One copy: its state folder and its two ports."""

    state: Path
    airflow_port: int
    sandbox_port: int

    @classmethod
    def from_environment(cls) -> Place:
        """Read STATE_DIR, AIRFLOW_PORT and SANDBOX_PORT."""
        state = Path(os.environ.get("STATE_DIR") or ROOT / ".local")
        return cls(
            state=(ROOT / state).resolve(),
            airflow_port=_port("AIRFLOW_PORT", 8080),
            sandbox_port=_port("SANDBOX_PORT", 4566),
        )

    @property
    def airflow_url(self) -> str:
        """Where the Airflow UI is."""
        return f"http://localhost:{self.airflow_port}{self.airflow_path}"

    @property
    def airflow_path(self) -> str:
        """Below which path it is: that of AIRFLOW__API__BASE_URL, for whoever has a proxy."""
        return urlsplit(CALLED_WITH.get("AIRFLOW__API__BASE_URL", "")).path.rstrip("/")

    @property
    def sandbox_url(self) -> str:
        """Where the local AWS is."""
        return f"http://127.0.0.1:{self.sandbox_port}"

    def mark(self, part: str) -> str:
        """Return what the processes of `airflow` or `sandbox` carry."""
        return f"{part} {self.state}"

    def log(self, name: str) -> Path:
        """Return the log file of `airflow` or `sandbox`."""
        return self.state / f"{name}.log"


def _port(variable: str, default: int) -> int:
    text = os.environ.get(variable) or str(default)
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise LocalError(f"{variable}={text}: expected a port number, 1 to 65535")
    return int(text)


def airflow_environment(place: Place) -> dict[str, str]:
    """Return the environment of every Airflow process of this copy."""
    direct = ["localhost", "127.0.0.1", *filter(None, [CALLED_WITH.get("NO_PROXY")])]
    settings = {
        "core__load_examples": "False",
        "core__dags_folder": ROOT / "dags",
        "core__plugins_folder": ROOT / "plugins",
        "core__parallelism": "4",
        "core__default_task_retry_delay": "5",
        "core__execution_api_server_url": (
            f"http://127.0.0.1:{place.airflow_port}{place.airflow_path}/execution/"
        ),
        "api__host": "127.0.0.1",
        "api__port": place.airflow_port,
        "api__base_url": place.airflow_url,
        "api__workers": "1",
        "dag_processor__refresh_interval": "10",
        "dag_processor__min_file_process_interval": "30",
        # On a busy machine a file that is parsed for a minute must not make its DAGs vanish.
        "dag_processor__dag_file_processor_timeout": "300",
        "dag_processor__stale_dag_threshold": "600",
        "scheduler__scheduler_idle_sleep_time": "0.3",
        # Its processes share one SQLite file: they wait for each other, not 5 s but a minute.
        "database__sql_alchemy_conn": f"sqlite:///{place.state}/airflow/airflow.db?timeout=60",
        "logging__worker_log_server_port": free_port(),
        "logging__trigger_log_server_port": free_port(),
        "usage_data_collection__enabled": "False",
    }
    connection = {
        "conn_type": "aws",
        "login": "sandbox",
        "password": "kept-from-nobody",  # Airflow masks it in every log, so no word that is in one
        "extra": {"endpoint_url": place.sandbox_url, "region_name": "us-east-1"},
    }
    return {
        **CALLED_WITH,
        "NO_PROXY": ",".join(direct),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{CALLED_WITH.get('PATH', '')}",
        "PYTHONPATH": str(ROOT),
        "AIRFLOW_HOME": str(place.state / "airflow"),
        "NOVA_JUDGE_POOL": JUDGE_POOL,
        SANDBOX_CONNECTION: json.dumps(connection),
        MARK: place.mark("airflow"),
        **{
            name: CALLED_WITH.get(name, str(value))
            for name, value in ((f"AIRFLOW__{k.upper()}", v) for k, v in settings.items())
        },
    }


def start_sandbox(place: Place) -> None:
    """Start the sandbox; restart it if a SANDBOX_* variable has changed since."""
    with _alone(place):
        _start_sandbox(place)


def _start_sandbox(place: Place) -> None:
    wanted = _fingerprint(CALLED_WITH, ("SANDBOX_",), str(place.sandbox_port))
    running = list(_processes(place, "sandbox"))
    if running and _remembered(place, "sandbox") == wanted:
        return
    if running:
        print("Sandbox: its settings have changed, restarting it")
        _end(running)
    _refuse_busy_port(place.sandbox_port, "SANDBOX_PORT")
    print("Starting the sandbox")
    command = [
        *(sys.executable, "-m", "include.sandbox", "--port", str(place.sandbox_port)),
        *("--state", str(place.state / "sandbox")),
    ]
    process = _spawn(place, "sandbox", command, {**CALLED_WITH, MARK: place.mark("sandbox")})
    _wait(place, "sandbox", process, lambda: _answers(f"{place.sandbox_url}/sandbox/health"), 60)
    _remember(place, "sandbox", wanted)


def start_airflow(place: Place) -> None:
    """Start Airflow and wait until it knows our DAG; restart it if its settings have changed."""
    with _alone(place):
        _start_airflow(place)


def _start_airflow(place: Place) -> None:
    wanted = _fingerprint(CALLED_WITH, WATCHED, str(place.airflow_port), str(place.sandbox_port))
    running = list(_processes(place, "airflow"))
    if running and _remembered(place, "airflow") == wanted:
        return
    if running:
        print("Airflow: its settings have changed, restarting it")
        _end(running)
    _refuse_busy_port(place.airflow_port, "AIRFLOW_PORT")
    print("Starting Airflow (half a minute; some minutes on a busy machine)")
    command = [str(Path(sys.executable).with_name("airflow")), "standalone"]
    process = _spawn(place, "airflow", command, airflow_environment(place))
    api, started = Api(place), datetime.now(UTC)
    _wait(place, "airflow", process, lambda: api.ready(started), 300)
    api.set_pool(JUDGE_POOL, JUDGE_JOBS_AT_ONCE, "Nova judge jobs at once: your quota")
    _remember(place, "airflow", wanted)


@contextmanager
def _alone(place: Place) -> Iterator[None]:
    """Let one command of this copy at a time start something; the next finds it running."""
    place.state.mkdir(parents=True, exist_ok=True)
    with (place.state / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


PARTS, LOCK = ("airflow", "sandbox"), "start.lock"

ENDED = ("success", "failed")
"""States of a DAG run that is over."""

PAGE = 100
"""Airflow answers with no more at once."""

Get = Callable[[str], Any]
"""Asks Airflow's REST API for a path."""


def pages(get: Get, path: str, key: str) -> Iterator[dict[str, Any]]:
    """Yield everything below a path of Airflow's API, page by page."""
    offset = 0
    while True:
        answer = get(f"{path}?limit={PAGE}&offset={offset}")
        yield from answer[key]
        offset += len(answer[key])
        if not answer[key] or offset >= answer["total_entries"]:
            return


class Api:
    """Airflow's REST API, as far as the commands need it."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.session = requests.Session()
        self.session.trust_env = False  # it is on this machine: no proxy
        # Airflow on SQLite answers 500 while another of its processes holds the database.
        busy = Retry(
            5,
            backoff_factor=0.5,
            status_forcelist=[500, 503],
            allowed_methods=["GET", "PATCH"],
            raise_on_status=False,
        )
        self.session.mount("http://", HTTPAdapter(max_retries=busy))
        self.token_age = 0.0

    @property
    def login(self) -> tuple[str, str]:
        """Return the user and password that Airflow has generated."""
        home = self.place.state / "airflow"
        file = home / "simple_auth_manager_passwords.json.generated"
        name, password = next(iter(json.loads(file.read_text(encoding="utf-8")).items()))
        return name, password

    def log_in(self) -> None:
        """Make the session one of a user, if it is not, or not any more.

        Raises:
            requests.RequestException: No answer, or an error.
        """
        if self.token_age and time.monotonic() - self.token_age <= 3600:
            return
        name, password = self.login
        answer = self.session.post(
            f"{self.place.airflow_url}/auth/token",
            json={"username": name, "password": password},
            timeout=30,
        )
        answer.raise_for_status()
        self.session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        self.token_age = time.monotonic()

    def call(self, method: str, path: str, **body: Any) -> Any:
        """Send one request and return what it answers.

        Raises:
            requests.RequestException: No answer, or an error.
        """
        self.log_in()
        answer = self.session.request(
            method, f"{self.place.airflow_url}/api/v2{path}", json=body or None, timeout=30
        )
        if not answer.ok:
            raise requests.HTTPError(f"{method} {path}: {answer.status_code} {answer.text[:2000]}")
        return answer.json() if answer.content else None

    def tasks(self, run: str) -> list[dict[str, Any]]:
        """Return all task instances of a run, which is named by its path."""
        get = partial(self.call, "GET")
        return list(pages(get, f"{run}/taskInstances", "task_instances"))

    def ready(self, since: datetime | None = None) -> bool:
        """Whether the scheduler is alive and the DAG is known, as its file has been since then."""
        try:
            health = self.call("GET", "/monitor/health")
            parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")
            alive = all(health[part]["status"] == "healthy" for part in parts)
            if not alive:
                return False
            parsed = self.call("GET", "/dags/nova_llm_judge")["last_parsed_time"]
            return since is None or datetime.fromisoformat(parsed) >= since
        except (requests.RequestException, OSError, KeyError, ValueError, StopIteration):
            return False

    @retry(
        retry=retry_if_exception_type(requests.HTTPError),
        stop=stop_after_attempt(5),
        wait=wait_fixed(1),
        reraise=True,
    )
    def set_pool(self, name: str, slots: int, description: str) -> None:
        """Create a pool unless it is there; deferred tasks count, for their jobs run."""
        known = [pool["name"] for pool in self.call("GET", "/pools")["pools"]]
        if name not in known:
            pool = {"name": name, "slots": slots, "description": description}
            self.call("POST", "/pools", **pool, include_deferred=True)


def down(place: Place) -> None:
    """End everything that was started with this state folder."""
    ended = _end(list(_processes(place)))
    print(f"Stopped {ended} processes" if ended else "Nothing was running")


def status(place: Place) -> bool:
    """Say what runs where; return whether all of it does."""
    airflow = bool(list(_processes(place, "airflow"))) and Api(place).ready()
    sandbox = _answers(f"{place.sandbox_url}/sandbox/health") and bool(
        list(_processes(place, "sandbox"))
    )
    print(f"Airflow   {'up   ' + place.airflow_url if airflow else 'down'}")
    print(f"Sandbox   {'up   ' + place.sandbox_url if sandbox else 'down'}")
    print(f"State     {place.state}")
    if airflow:
        print("Log in    {} / {}".format(*Api(place).login))
    return airflow and sandbox


def _processes(place: Place, *parts: str) -> Iterator[psutil.Process]:
    """Yield running processes of this copy."""
    parts = parts or PARTS
    marks = {place.mark(part) for part in parts}
    sessions = {_session(place, part) for part in parts} - {None}
    me = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    for process in psutil.process_iter():
        try:
            ours = os.getsid(process.pid) in sessions or process.environ().get(MARK) in marks
            if process.pid not in me and ours and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except (psutil.Error, OSError):
            continue  # it has just ended, or is not ours to look at


def _session(place: Place, part: str) -> int | None:
    """Return the session that a part was started in, unless its number is another's by now."""
    try:
        leader = json.loads((place.state / f"{part}.session").read_text(encoding="utf-8"))
        alive = psutil.Process(leader["pid"])
    except psutil.NoSuchProcess:
        return int(leader["pid"])  # its children may have outlived it
    except (OSError, ValueError):
        return None
    return int(leader["pid"]) if alive.create_time() == leader["created"] else None


def _end(processes: list[psutil.Process]) -> int:
    for process in processes:
        _quietly(process.terminate)
    _, alive = psutil.wait_procs(processes, timeout=10)
    for process in alive:
        _quietly(process.kill)
    psutil.wait_procs(alive, timeout=10)
    return len(processes)


def _quietly(action: Any) -> None:
    try:
        action()
    except psutil.NoSuchProcess:
        return


def _spawn(
    place: Place, name: str, command: list[str], environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    place.state.mkdir(parents=True, exist_ok=True)
    with place.log(name).open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    leader = {"pid": process.pid, "created": psutil.Process(process.pid).create_time()}
    (place.state / f"{name}.session").write_text(json.dumps(leader), encoding="utf-8")
    return process


def _wait(
    place: Place, name: str, process: subprocess.Popen[bytes], ready: Any, seconds: float
) -> None:
    end = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            last = place.log(name).read_text(errors="replace").splitlines()[-15:]
            _end(list(_processes(place, name)))
            raise LocalError(
                f"{name} did not start; the end of {place.log(name)}:\n  " + "\n  ".join(last)
            )
        time.sleep(0.3)


def _answers(url: str) -> bool:
    try:
        with requests.Session() as session:
            session.trust_env = False
            return session.get(url, timeout=5).ok
    except requests.RequestException:
        return False


def _refuse_busy_port(port: int, variable: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise LocalError(
                f"port {port} is in use by another program; choose one with {variable}="
            ) from None


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _fingerprint(environment: Mapping[str, str], prefixes: tuple[str, ...], *more: str) -> str:
    watched = sorted(f"{k}={v}" for k, v in environment.items() if k.startswith(prefixes))
    return hashlib.sha256("\0".join([*watched, *more]).encode()).hexdigest()


def _remember(place: Place, name: str, fingerprint: str) -> None:
    (place.state / f"{name}.settings").write_text(fingerprint, encoding="utf-8")


def _remembered(place: Place, name: str) -> str | None:
    file = place.state / f"{name}.settings"
    return file.read_text(encoding="utf-8") if file.exists() else None


def forget(place: Place) -> None:
    """Delete what the commands have made below `STATE_DIR`, and nothing that was there before."""
    files = (f"{part}.{kind}" for part in PARTS for kind in ("log", "session", "settings"))
    for name in (*PARTS, "runs", *files, LOCK):
        path = place.state / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    with suppress(OSError):
        place.state.rmdir()  # if nothing else is in it


@plainly
def main() -> int:
    """Run one command."""
    parser = argparse.ArgumentParser(prog="python -m scripts.local", description=__doc__)
    parser.add_argument("command", choices=["up", "down", "status", "logs", "reset", "airflow"])
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of `airflow`: its own command")
    given = parser.parse_args()
    command = given.command
    place = Place.from_environment()
    if command == "up":
        start_sandbox(place)
        start_airflow(place)
        status(place)
    elif command == "down":
        down(place)
    elif command == "airflow":
        program = str(Path(sys.executable).with_name("airflow"))
        return subprocess.call([program, *given.arguments], env=airflow_environment(place))
    elif command == "status":
        return 0 if status(place) else 1
    elif command == "logs":
        logs = [str(place.log(name)) for name in ("sandbox", "airflow")]
        return subprocess.call(["tail", "-n", "40", "-F", *logs])
    else:
        down(place)
        forget(place)
        print(f"Forgot {place.state}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
