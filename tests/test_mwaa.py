"""Facts about what `make mwaa` writes, and about a run from it in MWAA's folders and versions."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zipfile import ZipFile

import psutil
import pytest
import requests
from mwaa_versions import CONSTRAINTS, PYTHON
from sandbox_server import ROOT, Sandbox, free_port, running_sandbox

from scripts.mwaa import VERSIONS, build

DAG = "nova_llm_judge"
LONGEST_INSTALL = 9 * 60
"""Seconds that MWAA gives to pip."""
LARGEST_ARCHIVE = 1024**3

needs_versions = pytest.mark.skipif(
    not CONSTRAINTS.exists() or not PYTHON,
    reason="MWAA's constraints or a Python 3.12 are not at hand",
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist") / "mwaa"
    build(out, VERSIONS[0])
    return out


def test_the_archive_has_what_the_dags_need_and_no_sandbox(built: Path) -> None:
    with ZipFile(built / "plugins.zip") as archive:
        names = archive.namelist()
        ignored = archive.read(".airflowignore").decode().splitlines()
        assert [line for line in ignored if line[0] != "#"] == ["include/", "recipes/"]
    assert {"nova_judge.py", "include/steps.py", "include/web/templates/run.html.j2"} <= set(names)
    assert "include/samples/prompts.jsonl" in names
    assert not [name for name in names if "sandbox" in name or "__pycache__" in name]
    assert not list(built.glob("dags/environments/sandbox*"))
    assert (built / "plugins.zip").stat().st_size < LARGEST_ARCHIVE / 100


def test_the_same_tree_makes_the_same_archive(built: Path, tmp_path: Path) -> None:
    build(tmp_path / "again", VERSIONS[0])
    assert (tmp_path / "again/plugins.zip").read_bytes() == (built / "plugins.zip").read_bytes()


@pytest.mark.parametrize("version", VERSIONS)
def test_requirements_begin_with_the_constraints_of_their_version(
    tmp_path: Path, version: str
) -> None:
    build(tmp_path / "mwaa", version)
    first, *rest = (tmp_path / "mwaa/requirements.txt").read_text().splitlines()
    assert first.startswith("--constraint ") and f"constraints-{version}/" in first
    assert "apache-airflow" not in " ".join(rest)


def test_a_version_that_mwaa_does_not_have_is_refused() -> None:
    command = [sys.executable, "-m", "scripts.mwaa", "--airflow", "2.11.0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "expected one of 3.3.1, 3.2.1" in done.stderr


class Environment:
    """An Airflow with MWAA's versions and folders."""

    def __init__(self, folder: Path, built: Path, sandbox: Sandbox) -> None:
        self.folder, self.home, self.port = folder, folder / "usr/local/airflow", free_port()
        self.venv = folder / "venv"
        (self.home / "plugins").mkdir(parents=True)
        with ZipFile(built / "plugins.zip") as archive:
            archive.extractall(self.home / "plugins")
        shutil.copytree(built / "dags", self.home / "dags")
        # MWAA has no sandbox, but this machine has no AWS.
        sandboxs = ROOT / "dags/environments/sandbox.yaml"
        shutil.copy(sandboxs, self.home / "dags/environments")
        self.environ = {
            "PATH": f"{self.venv}/bin:{os.environ['PATH']}",
            "HOME": str(folder),
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{self.port}/execution/",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": f"http://localhost:{self.port}",
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW_CONN_AWS_SANDBOX": sandbox.airflow_connection(),
            "NO_PROXY": "127.0.0.1,localhost",
            **self.startup(built / "startup.sh"),
        }

    def startup(self, script: Path) -> dict[str, str]:
        """Return what MWAA's startup script exports, its folder being this one's."""
        text = script.read_text().replace("/usr/local/airflow", str(self.home))
        done = subprocess.run(
            ["bash", "-c", f"{text}\nenv -0"], env={}, capture_output=True, text=True, check=True
        )
        found = dict(each.split("=", 1) for each in done.stdout.split("\0") if "=" in each)
        return {key: value for key, value in found.items() if key.startswith("NOVA_JUDGE")}

    def install(self, built: Path) -> float:
        """Install Airflow as MWAA has it, then requirements.txt with pip; return its seconds."""
        uv = str(Path(sys.executable).with_name("uv"))
        subprocess.run(
            [uv, "venv", "--quiet", "--seed", "--python", str(PYTHON), str(self.venv)], check=True
        )
        base = [
            *(uv, "pip", "install", "--quiet", "--python", f"{self.venv}/bin/python"),
            *("--constraint", str(CONSTRAINTS), "apache-airflow==3.3.1"),
            "apache-airflow-providers-amazon[aiobotocore]==9.34.0",
        ]
        subprocess.run(base, check=True)
        given = (built / "requirements.txt").read_text().splitlines()
        file = self.folder / "requirements.txt"
        file.write_text("\n".join([f"--constraint {CONSTRAINTS}", *given[1:]]) + "\n")
        started = time.monotonic()
        subprocess.run(
            [f"{self.venv}/bin/pip", "install", "--quiet", "--requirement", str(file)], check=True
        )
        return time.monotonic() - started

    def start(self) -> None:
        with (self.folder / "airflow.log").open("wb") as log:
            self.process = subprocess.Popen(
                [f"{self.venv}/bin/airflow", "standalone"],
                env=self.environ,
                cwd=self.home,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def stop(self) -> None:
        for process in psutil.process_iter():
            try:
                ours = str(self.folder) in " ".join(process.cmdline())
                if ours or process.environ().get("AIRFLOW_HOME") == str(self.home):
                    process.kill()
            except psutil.Error:
                continue
        self.process.wait(10)

    def call(self, path: str, method: str = "GET", **body: Any) -> Any:
        file = self.home / "simple_auth_manager_passwords.json.generated"
        ((name, password),) = json.loads(file.read_text()).items()
        url = f"http://127.0.0.1:{self.port}"
        login = {"username": name, "password": password}
        token = requests.post(f"{url}/auth/token", json=login, timeout=60).json()["access_token"]
        return requests.request(
            method,
            f"{url}{path}",
            json=body or None,
            headers={"Authorization": f"Bearer {token}"},
            timeout=60,
        )

    def log(self) -> str:
        return (self.folder / "airflow.log").read_text(errors="replace")[-3000:]


@pytest.fixture(scope="module")
def environment(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    folder = tmp_path_factory.mktemp("mwaa")
    with running_sandbox(folder / "sandbox", sandbox_delays="endpoint=1,job=1") as sandbox:
        environment = Environment(folder, built, sandbox)
        environment.took = environment.install(built)  # type: ignore[attr-defined]
        environment.start()
        try:
            yield environment
        finally:
            environment.stop()


def until(done: Any, seconds: float) -> Any:
    """Return what is said as soon as it is something; None while nobody answers."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if found := done():
                return found
        except (requests.RequestException, OSError, ValueError, KeyError):
            pass
        time.sleep(1)
    return None


@pytest.mark.slow
@needs_versions
def test_requirements_are_installed_in_the_time_that_mwaa_gives(environment: Environment) -> None:
    assert environment.took < LONGEST_INSTALL / 3  # type: ignore[attr-defined]


@pytest.mark.slow
@needs_versions
def test_an_evaluation_runs_from_it_and_its_page_is_there(environment: Environment) -> None:
    def dags() -> Any:
        return DAG in [each["dag_id"] for each in environment.call("/api/v2/dags").json()["dags"]]

    assert until(dags, 240), environment.log()
    assert environment.call("/api/v2/importErrors").json()["import_errors"] == []
    assert environment.call("/api/v2/plugins/importErrors").json()["import_errors"] == []
    model = {"provider": "bedrock", "model_id": "us.amazon.nova-micro-v1:0"}
    conf = {
        "evaluation": "on-mwaa",
        "environment": "sandbox",
        "dataset": {"source": "include/samples/prompts.jsonl", "id_field": "id", "limit": 8},
        "baseline": {**model, "name": "micro"},
        "candidates": [{**model, "name": "lite", "model_id": "us.amazon.nova-lite-v1:0"}],
    }
    path = f"/api/v2/dags/{DAG}/dagRuns"
    run_id = environment.call(path, "POST", logical_date=None, conf=conf).json()["dag_run_id"]
    run = f"{path}/{quote(run_id)}"
    ended = ("success", "failed")
    state = until(lambda: (found := environment.call(run).json()["state"]) in ended and found, 400)
    assert state == "success", environment.log()
    shown = environment.call(f"/nova-judge/runs/{DAG}/{quote(run_id)}")
    assert shown.status_code == 200 and "of 8 pairs" in shown.text
