"""Write requirements*.txt from requirements*.in: complete, pinned and hashed, for plain pip and uv.

pip before 23.3, which Python 3.11 brings, takes `name[extra]` and `name` for two packages in hash
mode. So what is pinned with an extra is pinned without it, too.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMPILE = (
    *("pip", "compile", "--quiet", "--python-version", "3.11", "--generate-hashes"),
    *("--no-header", "--no-strip-extras", "--no-emit-index-url", "--no-emit-find-links"),
)
WITH_EXTRA = re.compile(r"^([\w.-]+)\[[^]]+\](==.*\\\n(?:    --hash=.*\n)+)", re.MULTILINE)


def main(arguments: list[str] | None = None) -> int:
    """Write all of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument(
        "--upgrade", action="store_true", help="take the newest versions; default: keep what fits"
    )
    upgrade = ["--upgrade"] if parser.parse_args(arguments).upgrade else []
    uv = Path(sys.executable).with_name("uv")
    for name in ("requirements", "requirements-dev", "requirements-image"):
        lock = ROOT / f"{name}.txt"
        subprocess.run(
            [str(uv), *COMPILE, *upgrade, f"{name}.in", "-o", lock.name], cwd=ROOT, check=True
        )
        lock.write_text(WITH_EXTRA.sub(r"\g<0>\1\2", lock.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
