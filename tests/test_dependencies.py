"""Facts about what the project depends on: each with a reason, listed with its licence."""

import subprocess
import sys
from pathlib import Path

import pytest
from sandbox_server import ROOT

from scripts import dependencies

FILES = ("requirements", "requirements-dev", "requirements-image")


@pytest.mark.parametrize("file", FILES)
def test_every_dependency_says_why_it_is_there(file: str) -> None:
    lines = (ROOT / f"{file}.in").read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith(("#", "-"))]
    assert len(list(dependencies.asked(file))) == len(wanted)


def test_the_page_lists_what_is_installed() -> None:
    assert dependencies.PAGE.read_text() == dependencies.page(), "make docs writes it"


def test_the_audit_finds_a_secret(tmp_path: Path) -> None:
    (makefile,) = [
        line for line in (ROOT / "Makefile").read_text().splitlines() if "NO_SECRETS :=" in line
    ]
    allowed = makefile.partition(":= ")[2].replace("$$", "$")
    file = tmp_path / "settings.py"

    def scanned(line: str) -> int:
        file.write_text(f"{line}\n")
        hook = Path(sys.executable).with_name("detect-secrets-hook")
        command = [str(hook), "--no-verify", "--exclude-secrets", allowed, str(file)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode

    assert scanned('aws_secret_access_key = "test"') == 0
    assert scanned('aws_access_key_id = "' + "AKIA" + 'QWERTYUIOPASDFGH"') == 1
