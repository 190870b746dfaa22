"""Facts about `make doctor`: one line for each thing, what to do, and an exit code."""

import os
import subprocess
import sys
from pathlib import Path

from sandbox_server import ROOT, Sandbox, free_port

from include.config import Environment, RunConfig
from include.config_files import resolve_config
from include.findings import Finding
from scripts import doctor

CONF = {
    "evaluation": "doctor",
    "dataset": {"source": "x.jsonl"},
    "baseline": "qwen2.5-1.5b",
    "candidates": ["claude"],
}


def config(**environment: str) -> RunConfig:
    resolved = resolve_config(CONF, environ={})
    changed = {**resolved.environment.model_dump(), **environment}
    return resolved.model_copy(update={"environment": Environment.model_validate(changed)})


def doctor_command(port: int, state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scripts.doctor", *arguments],
        cwd=ROOT,
        env={**os.environ, "SANDBOX_PORT": str(port), "STATE_DIR": str(state)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_healthy_account_is_looked_at_whole(sandbox: Sandbox) -> None:
    findings = doctor.diagnose(config(), sandbox.client)
    assert findings[0].message == "account 000000000000 in us-east-1"
    assert {"identity", "judge", "bucket", "role", "model claude"} <= {f.what for f in findings}
    assert doctor.exit_code(findings) == 0


def test_another_account_is_refused_and_not_looked_at_further(sandbox: Sandbox) -> None:
    (finding,) = doctor.diagnose(config(account_id="111122223333"), sandbox.client)
    assert "leads to account 000000000000, the environment says 111122223333" in finding.message
    assert finding.fix and "aws_sandbox" in finding.fix
    assert doctor.exit_code([finding]) == 1


def test_another_region_is_refused(sandbox: Sandbox) -> None:
    (finding,) = doctor.diagnose(config(region="us-west-2"), sandbox.client)
    assert "region is us-east-1, the environment says us-west-2" in finding.message


def test_each_finding_is_a_line_and_each_command_is_there_once_at_the_end() -> None:
    text = doctor.text(
        [
            Finding("ok", "bucket", "b is in us-east-1"),
            Finding("refused", "quota", "it is 0", "request 1", "aws request"),
            Finding("warning", "quota", "it is 1", "request 2", "aws request"),
        ]
    )
    assert text.splitlines() == [
        "ok       bucket: b is in us-east-1",
        "refused  quota: it is 0",
        "         -> request 1",
        "warning  quota: it is 1",
        "         -> request 2",
        "",
        "To request it all (read each command before you run it):",
        "",
        "aws request",
    ]


def test_only_a_refusal_makes_the_exit_code_one() -> None:
    assert doctor.exit_code([Finding("ok", "a", "b"), Finding("warning", "a", "b")]) == 0
    assert doctor.exit_code([Finding("ok", "a", "b"), Finding("refused", "a", "b")]) == 1


def test_the_command_needs_no_airflow_that_runs(sandbox: Sandbox, tmp_path: Path) -> None:
    answer = doctor_command(sandbox.port, tmp_path, "--env", "sandbox")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert answer.stdout.startswith("ok       identity: account 000000000000 in us-east-1\n")
    assert "Traceback" not in answer.stderr


def test_a_sandbox_that_is_not_running_is_said_in_one_sentence(tmp_path: Path) -> None:
    answer = doctor_command(free_port(), tmp_path, "--env", "sandbox")
    assert answer.returncode == 1
    assert answer.stdout == (
        "refused  identity: the sandbox is not running; start it with `make up`\n"
    )


def test_an_environment_that_does_not_exist_is_an_error_without_a_traceback(tmp_path: Path) -> None:
    answer = doctor_command(free_port(), tmp_path, "--env", "nowhere")
    assert answer.returncode == 2
    assert "there is no environment 'nowhere'" in answer.stderr
    assert "Traceback" not in answer.stderr
