"""Facts about docker-compose.yaml, the Dockerfile and .env; test_celery.py runs what they say."""

import base64
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from sandbox_server import ROOT

from bench import compose

EXAMPLE = ROOT / ".env.example"


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """What `make env` writes."""
    file = tmp_path / ".env"
    command = [sys.executable, "-m", "scripts.env", "--out", str(file)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return file


def test_it_is_valid_by_the_specifications_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema"]
    command += ["--builtin-schema", "vendor.compose-spec", "docker-compose.yaml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_variable_is_explained_and_every_explained_one_is_used() -> None:
    assert compose.variables() == set(compose.env_file(EXAMPLE))


def test_fresh_keys_are_keys_and_differ(written: Path) -> None:
    found = compose.env_file(written)
    assert len(base64.urlsafe_b64decode(found["FERNET_KEY"])) == 32
    keys = [key for key, value in compose.env_file(EXAMPLE).items() if value.startswith(" ")]
    assert len({found[key] for key in keys}) == len(keys) == 6
    assert all(len(found[key]) >= 32 for key in keys)
    assert written.stat().st_mode & 0o077 == 0
    for connection in ("AIRFLOW_CONN_AWS_DEFAULT", "AIRFLOW_CONN_AWS_SANDBOX"):
        assert json.loads(found[connection])["conn_type"] == "aws"


def test_keys_are_never_replaced(written: Path) -> None:
    before = written.read_text()
    command = [sys.executable, "-m", "scripts.env", "--out", str(written)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "FERNET_KEY" in done.stderr
    assert written.read_text() == before


def test_without_its_keys_nothing_starts(written: Path) -> None:
    given = compose.env_file(written)
    for key in ("FERNET_KEY", "JWT_SECRET", "POSTGRES_PASSWORD", "ADMIN_PASSWORD"):
        with pytest.raises(KeyError, match="make env"):
            compose.services({**given, key: ""})


def test_what_is_mounted_and_copied_is_there() -> None:
    declared = yaml.safe_load(compose.FILE.read_text())["volumes"]
    for service in compose.services(dict.fromkeys(compose.variables(), "x")).values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert source in declared or (ROOT / source).exists(), mount
    sent = (ROOT / ".dockerignore").read_text().splitlines()
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY "):
            source = next(word for word in line.split()[1:] if not word.startswith("--"))
            assert (ROOT / source).exists(), line
            assert f"!{source}" in sent, line


def test_volumes_of_the_image_lie_where_it_has_folders_that_its_user_may_write() -> None:
    made = {"logs", *re.findall(r"^RUN mkdir (\w+)$", (ROOT / "Dockerfile").read_text(), re.M)}
    found = compose.services(dict.fromkeys(compose.variables(), "x"))
    for name in ("scheduler", "worker", "sandbox"):
        for mount in found[name]["volumes"]:
            source, target = mount.split(":")[:2]
            if not source.startswith("."):
                assert target.removeprefix("/opt/airflow/") in made, mount


def test_compose_puts_no_setting_into_a_command_line() -> None:
    found = compose.services({name: f"secret-{name}" for name in compose.variables()})
    for name, service in found.items():
        assert "secret-" not in json.dumps(service.get("command", "")), name


def test_what_serves_is_looked_after() -> None:
    found = compose.services(dict.fromkeys(compose.variables(), "x"))
    for name, service in found.items():
        assert name in ("init", "flower") or service["healthcheck"]["test"], name
