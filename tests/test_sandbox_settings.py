"""Facts about the sandbox's settings: what they do, and what a wrong one is answered with."""

import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from sandbox_server import ROOT, Sandbox, running_sandbox
from sandbox_work import create_endpoint, wait

from include.sandbox.faults import Fault
from include.sandbox.settings import KNOWN


def test_faults_come_as_often_as_they_are_asked_for(tmp_path: Path) -> None:
    settings = {
        "sandbox_faults": "throttle=0.3,error=0.1,capacity=1",
        "sandbox_delays": "endpoint=0",
    }
    with running_sandbox(tmp_path, **settings) as running:
        bedrock = running.client("bedrock-runtime")
        codes = []
        for number in range(200):
            content = [{"text": f"Question {number}"}]
            try:
                bedrock.converse(
                    modelId="us.anthropic.claude-sonnet-4-6",
                    messages=[{"role": "user", "content": content}],
                )
                codes.append("ok")
            except ClientError as error:
                codes.append(error.response["Error"]["Code"])
        assert 40 <= codes.count("ThrottlingException") <= 80
        assert 8 <= codes.count("ServiceUnavailableException") <= 36
        create_endpoint(running, "none")
        failed = wait(running, "none", "Failed")
        assert "InsufficientInstanceCapacity" in failed["FailureReason"]


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("SANDBOX_JUDGE", "tie=1", "did you mean ties?"),
        ("SANDBOX_FAULTS", "throttle=often", "expected a number"),
        ("SANDBOX_RECORDINGS", "absent.jsonl", "no such file"),
        ("SANDBOX_FAULT", "", "did you mean SANDBOX_FAULTS?"),
        ("SANDBOX_QUOTAS", "ml.g5.12xlarge for training usage=0", "for training job usage?"),
        ("SANDBOX_QUOTAS", "ml.g5.xlarge for endpoint usage=-1", "expected a number of instances"),
    ],
)
def test_a_wrong_setting_is_named(variable: str, value: str, message: str, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "include.sandbox", "--port", "0", "--state", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, variable: value},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 2
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_busy_port_is_named(sandbox: Sandbox, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "include.sandbox", "--state", str(tmp_path)]
    ended = subprocess.run(
        [*command, "--port", str(sandbox.port)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr == f"Error: port {sandbox.port} cannot be used: Address already in use\n"


PAGE = (ROOT / "docs/sandbox.md").read_text()


@pytest.mark.parametrize("variable", [*KNOWN, "SANDBOX_RECORDINGS", "SANDBOX_QUOTAS"])
def test_the_page_about_the_sandbox_names_every_setting_with_its_default(variable: str) -> None:
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{variable}`")]
    if variable in KNOWN:
        defaults = (f"{field.name}={field.default:g}" for field in fields(KNOWN[variable]))
        assert f"`{','.join(defaults)}`" in row


def test_the_page_about_the_sandbox_names_every_key_of_a_fault() -> None:
    for field in fields(Fault):
        assert field.name in ("id", "used") or f"`{field.name}`" in PAGE
