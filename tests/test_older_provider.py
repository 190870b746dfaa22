"""Facts about the operators on the versions of MWAA: Python 3.12, Airflow 3.3.1, provider 9.34."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sandbox_server import ROOT

CONSTRAINTS = ROOT.parent / "shared" / "facts" / "constraints-airflow-3.3.1-mwaa-py3.12.txt"


def python_3_12() -> str | None:
    """Find a Python 3.12 that starts: on the path, else among pyenv's."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for candidate in (shutil.which("python3.12"), *versions.glob("3.12.*/bin/python3.12")):
        if candidate and not subprocess.run([candidate, "-V"], capture_output=True).returncode:
            return str(candidate)
    return None


PYTHON = python_3_12()

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CONSTRAINTS.exists(), reason="MWAA's constraints are not at hand"),
    pytest.mark.skipif(not PYTHON, reason="there is no Python 3.12"),
]

TESTS = ("tests/test_operators.py", "tests/test_batch.py")

ASKED = (
    "apache-airflow==3.3.1",
    "apache-airflow-providers-amazon[aiobotocore]==9.34.0",
    "pydantic",
    "pyyaml",
    "pytest<9",
    "hypothesis",
    "requests",
)


def test_the_operators_keep_their_promises_there(tmp_path: Path) -> None:
    venv, uv = tmp_path / "venv", str(Path(sys.executable).with_name("uv"))
    python = str(venv / "bin" / "python")
    subprocess.run([uv, "venv", "--quiet", "--python", str(PYTHON), str(venv)], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", python]
    subprocess.run([*install, "--constraint", str(CONSTRAINTS), *ASKED], check=True)
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS],
        cwd=ROOT,
        env={**os.environ, "PYTHON_OF_THE_SANDBOX": sys.executable},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
