"""Facts about the operators on the versions of MWAA: Python 3.12, Airflow 3.3.1, provider 9.34."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mwaa_versions import CONSTRAINTS, PYTHON
from sandbox_server import ROOT

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
