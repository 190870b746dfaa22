"""The parts of one running copy of the product: found, killed -9, started again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from bench.processes import ROOT

QUICK = {
    "core__default_task_retry_delay": "1",
    "core__parallelism": "8",
    "scheduler__scheduler_heartbeat_sec": "1",
    "scheduler__scheduler_health_check_threshold": "15",
    "scheduler__orphaned_tasks_check_interval": "4",
    "scheduler__task_instance_heartbeat_sec": "2",
    "scheduler__task_instance_heartbeat_timeout": "45",
    "scheduler__task_instance_heartbeat_timeout_detection_interval": "3",
    "scheduler__task_queued_timeout": "90",
    "scheduler__task_queued_timeout_check_interval": "5",
    "triggerer__job_heartbeat_sec": "1",
    "triggerer__triggerer_health_check_threshold": "15",
    "workers__min_heartbeat_interval": "1",
}
"""Airflow's settings (AIRFLOW__...) with which it notices a death in seconds, not in minutes."""

RENAMED = {"api-server": "airflow api_server"}
"""How a part is called that names itself; the others keep their command line."""


class Parts:
    """The processes of one copy, known by its state folder.

    Args:
        state: Its STATE_DIR.
        logs: Folder that gets what parts write that were started again.
    """

    def __init__(self, state: Path, logs: Path) -> None:
        self._home, self._sandbox, self._logs = state / "airflow", state / "sandbox", logs
        self._started: list[subprocess.Popen[bytes]] = []

    def find(self, *title: str) -> list[psutil.Process]:
        """Return this copy's Airflow processes by the last words of their command line."""
        return self._found(lambda words: words[-len(title) :] == list(title))

    def kill(self, part: str) -> None:
        """Kill -9 scheduler, triggerer, dag-processor or api-server and start it again.

        As a supervisor would. What a scheduler leaves behind, its workers, goes on like any orphan.
        """
        found = self._part(part)
        assert found, part
        environ = (self.find("triggerer") + self.find("scheduler"))[0].environ()
        for process in found:
            for child in process.children():
                if "serve-logs" in " ".join(child.cmdline()):
                    child.kill()  # it holds the port that the next one needs
        _kill(found)
        command = [sys.executable, str(Path(sys.executable).with_name("airflow")), part]
        with (self._logs / f"{part}.log").open("ab") as log:
            started = subprocess.Popen(
                command, env=environ, cwd=ROOT, stdout=log, stderr=log, start_new_session=True
            )
        self._started.append(started)

    def kill_worker(self, task_id: str) -> bool:
        """Kill -9 the worker that holds a task, and the process that runs it; say if it was there.

        Idle workers are spared: LocalExecutor never recovers from one that dies holding the lock
        of its queue.
        """
        found = self.find(task_id)
        _kill(found)
        return bool(found)

    def scale_in(self, task_id: str) -> bool:
        """Ask the worker that holds a task to end (SIGTERM), as a platform does; say if it is."""
        found = self.find("LocalExecutor:", task_id)
        for process in found:
            process.terminate()
        return bool(found)

    def kill_sandbox(self) -> None:
        """Kill -9 the sandbox; its state stays."""
        state = str(self._sandbox)
        found = [p for p in psutil.process_iter(["cmdline"]) if state in (p.info["cmdline"] or ())]
        _kill(found)

    def end(self) -> None:
        """Kill what was started again here."""
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if os.getsid(process.pid) in self._sessions:
                    process.kill()
        for started in self._started:
            started.wait(10)

    @property
    def _sessions(self) -> set[int]:
        return {started.pid for started in self._started}

    def _part(self, part: str) -> list[psutil.Process]:
        if part not in RENAMED:
            return self.find(part)
        title = RENAMED[part].split()
        return self._found(lambda words: words[: len(title)] == title)

    def _found(self, fits: Callable[[list[str]], bool]) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if fits(" ".join(process.cmdline()).split()) and self._is_ours(process):
                    found.append(process)
        return found

    def _is_ours(self, process: psutil.Process) -> bool:
        """Whether it, or what started it, says so; renaming overwrites the environment."""
        if os.getsid(process.pid) in self._sessions:
            return True
        lineage = [process, *process.parents()]
        home = str(self._home)
        return any(each.environ().get("AIRFLOW_HOME") == home for each in lineage if each.pid > 1)


def _kill(processes: list[psutil.Process]) -> None:
    """Kill -9, and wait until they do nothing any more; their parents may never ask for them."""
    for process in processes:
        with suppress(psutil.Error):
            process.kill()
    end = time.monotonic() + 10
    while any(map(_works, processes)) and time.monotonic() < end:
        time.sleep(0.05)


def _works(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False
