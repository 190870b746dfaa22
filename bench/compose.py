"""docker-compose.yaml as compose reads it: variables filled in, one service's settings out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from bench.processes import ROOT

FILE = ROOT / "docker-compose.yaml"
VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?::([-?])([^}]*))?\})")


def variables() -> set[str]:
    """Return the variables that the file asks for."""
    return {found[1] for found in VARIABLE.findall(FILE.read_text()) if found[1]}


def env_file(path: Path) -> dict[str, str]:
    """Return what a file like .env holds."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def services(given: Mapping[str, str]) -> dict[str, Any]:
    """Return the services, with variables filled in."""

    def value(match: re.Match[str]) -> str:
        dollar, name, sign, text = match.groups()
        if dollar:
            return "$"
        if not given.get(name) and sign == "?":
            raise KeyError(f"{name}: {text}")
        return given.get(name) or (text if sign == "-" else "") or ""

    def filled(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: filled(each) for key, each in node.items()}
        if isinstance(node, list):
            return [filled(each) for each in node]
        return VARIABLE.sub(value, node) if isinstance(node, str) else node

    found: dict[str, Any] = filled(yaml.safe_load(FILE.read_text())["services"])
    return found
