"""The systems that are compared, and how one of them is let loose on a server once."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from bench.installs import PEERS, InstallError, own_python, promptfoo, python_of
from bench.processes import ROOT, STATE, Outcome, Server, run
from bench.table import OURS, say

TIMEOUT_SECONDS = 900.0
"""Of one measurement."""


@dataclass(frozen=True)
class System:
    """One way of asking."""

    name: str
    script: str
    """File in bench/peers."""
    install: Callable[[], Path] = own_python
    """Returns the interpreter, or for promptfoo its program."""
    rows: int = 5_000
    """Prompts in one measurement."""
    in_flight: tuple[int, ...] = (50, 100)
    requests_per_row: int = 1
    arguments: tuple[str, ...] = ()


NOVA_JUDGE = System(OURS, "nova_judge.py")
BARE = System("aiohttp", "bare_aiohttp.py")
THREADS = System("boto3-threads", "boto3_threads.py")
ADAPTIVE = System("boto3-adaptive", "boto3_threads.py", arguments=("adaptive",))
LITELLM = System("litellm", "run_litellm.py", python_of("litellm"), rows=1_000)
INSPECT_AI = System("inspect_ai", "run_inspect_ai.py", python_of("inspect_ai"), rows=1_000)
LM_EVAL = System("lm-eval", "run_lm_eval.py", python_of("lm_eval"))
PROMPTFOO = System("promptfoo", "run_promptfoo.py", promptfoo, rows=1_000)
NOTEBOOK = System("notebook", "notebook_loop.py", rows=100, in_flight=(1,), requests_per_row=2)

SYSTEMS = [NOVA_JUDGE, BARE, THREADS, LM_EVAL, LITELLM, PROMPTFOO, INSPECT_AI, NOTEBOOK]
QUICK = [NOVA_JUDGE, BARE, THREADS]
PACED = [NOVA_JUDGE, ADAPTIVE]
"""Those that find out by themselves how much is granted."""

PATIENT = [NOVA_JUDGE, THREADS, LM_EVAL, LITELLM, PROMPTFOO, INSPECT_AI]
"""Those that ask again what was refused."""


@dataclass(frozen=True)
class Measured:
    """One run of one system against one server."""

    outcome: Outcome
    log: list[tuple[float, float, int]]
    stats: dict[str, int]
    server_cpu: float
    """Processor seconds of the server."""

    @property
    def errors(self) -> float:
        """Rows that the system itself counts as failed."""
        return self.said("errors") or 0

    def said(self, name: str) -> float | None:
        """Return a number that the system printed; None if it printed none of that name."""
        found: float | None = self.outcome.said().get(name)
        return found


class CannotRun(Exception):
    """A system gave no result; the message says why."""


class GaveUp(CannotRun):
    """It ran, asked, and ended without a result: what it had got until then is lost."""


def versions() -> dict[str, str]:
    """Return the version of every system that is not ours."""
    promptfoo_wants = json.loads((PEERS / "package.json").read_text())["dependencies"]
    pinned = {}
    for peer, package in (("litellm",) * 2, ("inspect_ai", "inspect-ai"), ("lm_eval", "lm-eval")):
        lines = (PEERS / f"{peer}.txt").read_text().splitlines()
        (line,) = [line for line in lines if line.startswith(f"{package}==")]
        pinned[package] = line.partition("==")[2]
    return {
        "aiohttp": version("aiohttp"),
        "boto3": version("boto3"),
        **pinned,
        **promptfoo_wants,
    }


def measure(
    system: System,
    server: Server,
    rows: int,
    in_flight: int,
    *more: str,
    timeout: float = TIMEOUT_SECONDS,
) -> Measured:
    """Let a system ask `rows` prompts once.

    Raises:
        CannotRun: It cannot be installed, or was not done in time.
        GaveUp: It ended without a result.
    """
    try:
        program = system.install()
    except InstallError as error:
        raise CannotRun(f"not installed: {error}") from None
    work = STATE / "work" / system.name
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    interpreter = own_python() if system is PROMPTFOO else program
    arguments = [server.url, str(prompts_file(rows)), str(in_flight), *system.arguments, *more]
    server.get("/reset")
    cpu = server.cpu_seconds()
    outcome = run(
        [str(interpreter), str(PEERS / system.script), *arguments],
        env=environment(work, program),
        cwd=work,
        output=work / "output.txt",
        timeout=timeout,
    )
    if outcome.code is None:
        raise CannotRun(f"not done after {timeout:.0f} s")
    if not outcome.said():
        raise GaveUp(f"exit code {outcome.code}: {outcome.last_words()}")
    if outcome.code:
        say(f"  {system.name} ended with exit code {outcome.code}: {outcome.last_words()}")
    cpu = server.cpu_seconds() - cpu
    return Measured(outcome, server.log(), server.get("/stats"), cpu)


def environment(work: Path, program: Path) -> dict[str, str]:
    """Return a system's environment variables: nothing of ours, nothing that calls home."""
    kept = {key: os.environ[key] for key in ("PATH", "LANG", "LC_ALL", "TZ") if key in os.environ}
    return {
        **kept,
        "HOME": str(work),
        "PYTHONPATH": str(ROOT) if program == own_python() else "",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "HF_HUB_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
        "PROMPTFOO": str(program),
        "PROMPTFOO_CONFIG_DIR": str(work / "promptfoo"),
        "PROMPTFOO_DISABLE_TELEMETRY": "1",
        "PROMPTFOO_DISABLE_UPDATE": "1",
        "PROMPTFOO_DISABLE_REMOTE_GENERATION": "1",
    }


def prompts_file(rows: int) -> Path:
    """Write prompts that differ, each named by its row, and return the file."""
    path = STATE / f"prompts-{rows}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for row in range(rows):
            text = f"prompt {row:06d}: what would you tell a friend about the number {row}?"
            file.write(json.dumps({"prompt_id": f"{row:06d}", "prompt": text}) + "\n")
    return path
