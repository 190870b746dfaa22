"""Write .env for docker-compose.yaml: the settings of .env.example, with fresh keys."""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

from cryptography.fernet import Fernet

ROOT = Path(__file__).resolve().parent.parent

KEYS: dict[str, Callable[[], str]] = {
    "FERNET_KEY": lambda: Fernet.generate_key().decode(),
    **dict.fromkeys(
        ("JWT_SECRET", "API_SECRET_KEY", "POSTGRES_PASSWORD", "REDIS_PASSWORD", "ADMIN_PASSWORD"),
        lambda: secrets.token_hex(32),
    ),
}
"""How each key is made."""


def filled(example: str) -> str:
    """Return the example without its comments, every key made anew.

    Compose would read a comment behind a value that has quotes as a part of the value.
    """
    lines = []
    for line in example.splitlines():
        name, sign, value = line.partition("=")
        if line.startswith("#") or not sign:
            lines.append(line)
        elif name in KEYS:
            lines.append(f"{name}={KEYS[name]()}")
        else:
            lines.append(f"{name}={value.partition('  #')[0].strip()}")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="make env", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / ".env", help=argparse.SUPPRESS)
    out = parser.parse_args().out
    if out.exists():
        print(
            f"Error: {out} is there already; whoever replaces its FERNET_KEY loses the connections "
            "that Airflow keeps. Move it away to begin anew",
            file=sys.stderr,
        )
        return 1
    text = filled((ROOT / ".env.example").read_text(encoding="utf-8"))
    out.touch(mode=0o600)
    out.write_text(text, encoding="utf-8")
    print(
        f"{out}\nLog in as admin with its ADMIN_PASSWORD. Then, with the sandbox:\n"
        "docker compose --profile sandbox up --build --detach"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
