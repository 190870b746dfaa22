"""The real SageMaker SDKs for tests: each in its own virtual environment, against a sandbox."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from sandbox_server import ROOT, Sandbox

HERE = Path(__file__).parent
V2, V3 = "2.257.7", "3.27.0"
DRIVERS = {V2: HERE / "drive_v2.py", V3: HERE / "drive_v3.py"}
BUCKET = "nova-judge-sandbox"
ROLE = "arn:aws:iam::000000000000:role/nova-judge-execution"

DEFAULTS = f"""\
SchemaVersion: '1.0'
SageMaker:
  PythonSDK:
    Modules:
      TelemetryOptOut: true
      Session:
        DefaultS3Bucket: {BUCKET}
"""
"""The SDK's own settings file. Without a default bucket both SDKs ask STS for the account's number,
at AWS's address: they pass it as endpoint_url, over AWS_ENDPOINT_URL."""


def python(version: str) -> Path:
    """Return the Python that has this SDK; the first call installs what its lock file says."""
    lock = HERE / f"sagemaker-{version}.txt"
    digest = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = ROOT / ".local" / "sdks" / f"sagemaker-{version}-{digest}"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        uv = [str(Path(sys.executable).with_name("uv")), "--quiet"]
        into = ["--python", str(folder / "bin" / "python")]
        subprocess.run([*uv, "venv", "--python", sys.executable, str(folder)], check=True)
        subprocess.run([*uv, "pip", "install", "--no-deps", *into, "-r", str(lock)], check=True)
        (folder / "complete").touch()
    return folder / "bin" / "python"


def environ(sandbox: Sandbox, home: Path) -> dict[str, str]:
    """Return the environment of a user of the sandbox whose home folder is `home`."""
    (home / "sagemaker.yaml").write_text(DEFAULTS)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "SANDBOX_"))}
    return {
        **kept,
        "HOME": str(home),
        "AWS_ENDPOINT_URL": sandbox.url,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "SAGEMAKER_USER_CONFIG_OVERRIDE": str(home / "sagemaker.yaml"),
        "SAGEMAKER_SUPPRESS_V2_WARNING": "1",
        "MPLBACKEND": "agg",
    }


def drive(
    version: str, sandbox: Sandbox, scenarios: dict[str, Any], home: Path
) -> dict[str, dict[str, str]]:
    """Let an SDK do scenarios; return each one's `name`, or the `error` that ended it."""
    done = subprocess.run(
        [str(python(version)), str(DRIVERS[version])],
        input=json.dumps(scenarios),
        capture_output=True,
        text=True,
        env=environ(sandbox, home),
        cwd=home,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    outcomes: dict[str, dict[str, str]] = json.loads(done.stdout.splitlines()[-1])
    return outcomes
