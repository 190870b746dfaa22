"""Facts about a fresh machine: what is locked can be installed, and is enough."""

import subprocess
import sys
from pathlib import Path

import pytest
from sandbox_server import ROOT

pytestmark = pytest.mark.slow


def test_plain_pip_installs_the_lock(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = str(tmp_path / "venv/bin/python")
    lock = str(ROOT / "requirements.txt")
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", lock], check=True
    )
    subprocess.run([python, "-m", "pip", "check"], check=True)
    code = "import include.publish, include.operators, include.sandbox.server"
    subprocess.run([python, "-c", code], cwd=ROOT, check=True)
