"""A system's name in, where to run it out: each in an environment of its own, kept for next time.

Python packages come with uv from the pinned lists in peers/*.txt, promptfoo with npm from
peers/package.json.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from bench.processes import ROOT, STATE

PEERS = ROOT / "bench" / "peers"
INSTALL_SECONDS = 900


class InstallError(Exception):
    """A system cannot be installed here; the message says why."""


def own_python() -> Path:
    """Return the interpreter of this project."""
    return Path(sys.executable)


def python_of(peer: str) -> Callable[[], Path]:
    """Return what installs `peers/{peer}.txt` and returns its interpreter."""

    def install() -> Path:
        folder, pinned = STATE / "venvs" / peer, PEERS / f"{peer}.txt"
        python = folder / "bin" / "python"
        if not _is_fresh(folder, pinned):
            shutil.rmtree(folder, ignore_errors=True)
            uv = str(Path(sys.executable).parent / "uv")
            _run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
            _run([uv, "pip", "sync", "--quiet", "--python", str(python), str(pinned)])
            _mark(folder, pinned)
        return python

    return install


def promptfoo() -> Path:
    """Install promptfoo and return its program."""
    folder, pinned = STATE / "promptfoo", PEERS / "package.json"
    if not _is_fresh(folder, pinned):
        npm = shutil.which("npm")
        if npm is None:
            raise InstallError("npm is needed, and is not there")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        shutil.copy(pinned, folder)
        _run([npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--silent"])
        _mark(folder, pinned)
    return folder / "node_modules" / ".bin" / "promptfoo"


def _is_fresh(folder: Path, pinned: Path) -> bool:
    mark = folder / ".installed"
    return mark.exists() and mark.read_text() == _digest(pinned)


def _mark(folder: Path, pinned: Path) -> None:
    (folder / ".installed").write_text(_digest(pinned))


def _digest(pinned: Path) -> str:
    return hashlib.sha256(pinned.read_bytes()).hexdigest()


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallError(str(error)) from None
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise InstallError(f"{Path(command[0]).name}: {lines[0] if lines else done.returncode}")
