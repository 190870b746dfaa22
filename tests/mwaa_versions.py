"""Where MWAA's versions are on this machine: the constraints of its image, and its Python."""

import os
import shutil
import subprocess
from pathlib import Path

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
