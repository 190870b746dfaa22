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
from include.sandbox.settings import KNOWN, OTHERS, SettingsError, read


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
        ("SANDBOX_FAULTS", "throttle=20", "throttle=20: expected a number from 0 to 1"),
        ("SANDBOX_FAULTS", "error=nan", "error=nan: expected a number from 0 to 1"),
        ("SANDBOX_FAULTS", "latency_ms=-5", "latency_ms=-5: expected a number that is not"),
        ("SANDBOX_RECORDINGS", "absent.jsonl", "no such file"),
        ("SANDBOX_FAULT", "", "did you mean SANDBOX_FAULTS?"),
        ("SANDBOX_QUOTAS", "ml.g5.12xlarge for training usage=0", "for training job usage?"),
        ("SANDBOX_QUOTAS", "ml.g5.xlarge for endpoint usage=-1", "expected a number of instances"),
        ("SANDBOX_OPENAI_KEY", "", "did you mean SANDBOX_OPENAI_API_KEY?"),
        ("SANDBOX_OPENAI_MODEL", "small", "SANDBOX_OPENAI_MODEL needs SANDBOX_OPENAI_BASE_URL"),
        ("SANDBOX_OPENAI_BASE_URL", "localhost:11434/v1", "like http://localhost:11434/v1"),
        ("SANDBOX_OPENAI_BASE_URL", "http://localhost:one/v1", "SANDBOX_OPENAI_BASE_URL: Port"),
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


SERVER = {"SANDBOX_OPENAI_BASE_URL": "http://localhost:11434/v1/"}


@pytest.mark.parametrize(
    ("value", "models", "rest"),
    [
        ("", {}, None),
        ("small", {}, "small"),
        ("a/b:0=small, c=big", {"a/b:0": "small", "c": "big"}, None),
        ("c=big,small", {"c": "big"}, "small"),
    ],
)
def test_a_server_has_one_model_for_all_or_one_for_each(
    value: str, models: dict[str, str], rest: str | None
) -> None:
    settings = read({**SERVER, "SANDBOX_OPENAI_MODEL": value}, Path()).openai
    assert settings
    assert (settings.base_url, settings.models, settings.model) == (
        "http://localhost:11434/v1",
        models,
        rest,
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("a=", "'a=': expected a model's id = its name on the server"),
        ("=small", "'=small': expected a model's id"),
        ("a=small,a=big", "a is there twice"),
        ("small,big", "small and big cannot both be every other model"),
    ],
)
def test_a_wrong_name_of_a_servers_model_is_named(value: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read({**SERVER, "SANDBOX_OPENAI_MODEL": value}, Path())


@pytest.mark.parametrize(
    "wrong",
    [
        {"SANDBOX_OPENAI_BASE_URL": "https://me:sk-secret@localhost/v1"},
        {"SANDBOX_OPENAI_BASE_URL": "https://localhost/v1?key=sk-secret"},
        {**SERVER, "SANDBOX_OPENAI_API_KEY": "sk-secret\nX-Header: 1"},
    ],
)
def test_a_key_in_the_wrong_place_or_form_is_refused_and_not_shown(wrong: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="key") as caught:
        read(wrong, Path())
    assert "secret" not in str(caught.value)


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


@pytest.mark.parametrize("variable", sorted({*KNOWN, *OTHERS} - {"SANDBOX_PORT"}))
def test_the_page_about_the_sandbox_names_every_setting_with_its_default(variable: str) -> None:
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{variable}`")]
    if variable in KNOWN:
        defaults = (f"{field.name}={field.default:g}" for field in fields(KNOWN[variable]))
        assert f"`{','.join(defaults)}`" in row


def test_the_page_about_the_sandbox_names_every_key_of_a_fault() -> None:
    for field in fields(Fault):
        assert field.name in ("id", "used") or f"`{field.name}`" in PAGE
