"""A command in, what it cost out: processor time and memory of a process and its children."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from socket import socket
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import urlopen

import psutil

from scripts.local import LocalError, Place

ROOT = Path(__file__).resolve().parent.parent
STATE = Path(os.environ.get("STATE_DIR") or ROOT / ".local").resolve() / "bench"
LOOK_SECONDS = 0.2
"""Between two looks at a running process."""


@dataclass
class Usage:
    """What a process and its children used, looked at every now and then."""

    times: list[float] = field(default_factory=list)
    """Of the looks, in seconds of the machine's monotonic clock."""
    cpu: list[float] = field(default_factory=list)
    """Processor seconds used until then."""
    peak_bytes: int = 0
    """The largest sum of resident memory."""

    def cpu_between(self, start: float, end: float) -> float:
        """Return processor seconds used between two moments, interpolated."""
        return self._at(end) - self._at(start)

    def _at(self, moment: float) -> float:
        after = bisect(self.times, moment)
        if after == 0 or after == len(self.times):
            return self.cpu[min(after, len(self.cpu) - 1)]
        share = (moment - self.times[after - 1]) / (self.times[after] - self.times[after - 1])
        return self.cpu[after - 1] + share * (self.cpu[after] - self.cpu[after - 1])


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int | None
    """Exit code; None: it was ended because it took too long."""
    seconds: float
    """From its start to its end."""
    cpu_seconds: float
    """Of the process and all its children, from its start to its end."""
    usage: Usage
    output: Path
    """What it printed."""

    def said(self) -> dict[str, Any]:
        """Return the JSON object that the command printed last, {} if none."""
        for line in reversed(self.output.read_text(errors="replace").splitlines()):
            with suppress(ValueError):
                if isinstance(found := json.loads(line), dict):
                    return found
        return {}

    def last_words(self) -> str:
        """Return the last line that it printed, with paths as seen from the project."""
        lines = self.output.read_text(errors="replace").replace(f"{ROOT}/", "").split("\n")
        return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")


def run(
    command: Sequence[str], *, env: Mapping[str, str], cwd: Path, output: Path, timeout: float
) -> Outcome:
    """Run a command to its end and watch it.

    Args:
        command: Program and arguments.
        env: All of its environment variables.
        cwd: Its working folder.
        output: File that gets what it prints.
        timeout: Seconds after which it and its children are ended.
    """
    before = _children_cpu()
    started = time.monotonic()
    with output.open("wb") as sink:
        process = subprocess.Popen(
            command,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            usage, in_time = _watch(process, started + timeout)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    seconds = time.monotonic() - started
    return Outcome(
        code=process.returncode if in_time else None,
        seconds=seconds,
        cpu_seconds=_children_cpu() - before,
        usage=usage,
        output=output,
    )


def _watch(process: subprocess.Popen[bytes], end: float) -> tuple[Usage, bool]:
    """Look at a process until it ends; return what it used and whether it ended in time."""
    usage, looks = Usage(), 0
    family: list[psutil.Process] = []
    spent: dict[int, float] = {}
    while process.poll() is None:
        if time.monotonic() > end:
            return usage, False
        with suppress(psutil.Error):
            if looks % 5 == 0:  # finding children reads all of /proc
                parent = psutil.Process(process.pid)
                family = [parent, *parent.children(recursive=True)]
            _look(family, spent, usage)
        looks += 1
        with suppress(subprocess.TimeoutExpired):
            process.wait(LOOK_SECONDS)
    return usage, True


def _look(family: list[psutil.Process], spent: dict[int, float], usage: Usage) -> None:
    memory = 0
    for member in family:
        with suppress(psutil.Error):
            times = member.cpu_times()
            spent[member.pid] = times.user + times.system
            memory += member.memory_info().rss
    usage.times.append(time.monotonic())
    usage.cpu.append(sum(spent.values()))
    usage.peak_bytes = max(usage.peak_bytes, memory)


def _children_cpu() -> float:
    times = os.times()
    return times.children_user + times.children_system


class Server:
    """A running bench.server, reached over HTTP."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        if not port:
            raise RuntimeError("the server did not start")
        self.process = process
        self.url = f"http://127.0.0.1:{port}"

    def log(self) -> list[tuple[float, float, int]]:
        """Return every request: when it arrived, when it was answered (s), and the status."""
        return [(arrived, left, status) for arrived, left, status in self.get("/log")]

    def get(self, path: str) -> Any:
        """Return what the server says at `path`: /stats, /log or /reset."""
        with urlopen(f"{self.url}{path}", timeout=60) as answer:
            return json.load(answer)

    def cpu_seconds(self) -> float:
        """Return the processor time that the server has used."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)


@contextmanager
def serving(**options: float) -> Iterator[Server]:
    """Run a server of its own; options are those of bench.server, with underscores."""
    arguments = [f"--{name.replace('_', '-')}={value:g}" for name, value in options.items()]
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.server", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Server(process)
    finally:
        process.terminate()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def fresh_place(name: str, airflow_port: int, sandbox_port: int) -> Place:
    """Return a copy of the product that knows nothing yet, in `.local/bench/` (or STATE_DIR).

    Args:
        name: Of its state folder, which is emptied.
        airflow_port: Where $AIRFLOW_PORT says nothing.
        sandbox_port: Where $SANDBOX_PORT says nothing.
    """
    state = STATE / name
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir(parents=True)
    return Place(
        state=state,
        airflow_port=int(os.environ.get("AIRFLOW_PORT") or airflow_port),
        sandbox_port=int(os.environ.get("SANDBOX_PORT") or sandbox_port),
    )


def local_command(place: Place, command: str, *arguments: str, **settings: str) -> str:
    """Run one of the commands that start, stop or use a copy of the product; return what it said.

    Args:
        place: Of the copy.
        command: A module, or one of scripts.local's commands.
        arguments: Of the command.
        settings: Environment variables; SANDBOX_* and AIRFLOW__* are only these.

    Raises:
        LocalError: It failed.
    """
    module = [command] if command.startswith("scripts.") else ["scripts.local", command]
    done = subprocess.run(
        [sys.executable, "-m", *module, *arguments],
        cwd=ROOT,
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith(("SANDBOX_", "AIRFLOW__"))},
            **settings,
            "STATE_DIR": str(place.state),
            "AIRFLOW_PORT": str(place.airflow_port),
            "SANDBOX_PORT": str(place.sandbox_port),
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise LocalError(said.removeprefix("Error: "))
    return done.stdout


def aws_client(url: str, service: str) -> Any:
    """Return boto3's client of a sandbox."""
    import boto3

    session = boto3.session.Session("sandbox", "sandbox", region_name="us-east-1")
    return session.client(service, endpoint_url=url)


@contextmanager
def sandbox() -> Iterator[str]:
    """Run the project's sandbox, which keeps what our step stores, and yield its URL."""
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    kept = {key: value for key, value in os.environ.items() if not key.startswith("SANDBOX_")}
    with TemporaryDirectory(prefix="bench-sandbox-") as state:
        process = subprocess.Popen(
            [sys.executable, "-m", "include.sandbox", "--port", str(port), "--state", state],
            cwd=ROOT,
            env=kept,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            _wait_for(f"{url}/sandbox/health", process)
            yield url
        finally:
            process.terminate()
            process.wait()


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            with urlopen(url, timeout=5):
                return
        except OSError:
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError("the sandbox did not start") from None
            time.sleep(0.1)
