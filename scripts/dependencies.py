"""Write docs/dependencies.md: what is asked for and why, and the licence of all that is installed.

The reasons are the comments in requirements*.in; versions and licences come from the packages.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "dependencies.md"
ASKED = re.compile(r"^([A-Za-z0-9._-]+)[^#\n]*#\s*(.+)$", re.MULTILINE)
LOCKED = re.compile(r"^([a-z0-9._-]+)==", re.MULTILINE)
OSI = "License :: OSI Approved :: "
LONGEST = 60
"""A longer field `License` is the licence's whole text."""


def main() -> int:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")
    return 0


def page() -> str:
    """Return the page's text, for the packages of this environment."""
    lines = [
        "# Dependencies",
        "",
        "`make docs` writes this page. `make audit` looks for known holes in what is locked and",
        "for secrets in what is committed; `make upgrade` locks the newest versions and runs all",
        "tests.",
    ]
    for file, title in (
        ("requirements", "What it runs on"),
        ("requirements-dev", "What the checks need"),
        ("requirements-image", "What the containers of docker-compose.yaml need on top"),
    ):
        lines += ["", f"## {title}", "", "| package | why | licence |", "|---|---|---|"]
        lines += [f"| {name} | {why} | {licence(name)} |" for name, why in asked(file)]
    lines += ["", "## Licences of all that is locked in requirements.txt", ""]
    lines += ["| licence | packages |", "|---|---|"]
    lines += [f"| {name} | {', '.join(found)} |" for name, found in by_licence()]
    return "\n".join(lines) + "\n"


def asked(file: str) -> Iterator[tuple[str, str]]:
    """Yield what a file asks for, and why."""
    text = (ROOT / f"{file}.in").read_text(encoding="utf-8")
    yield from ((name, why.strip()) for name, why in ASKED.findall(text))


def by_licence() -> Iterator[tuple[str, list[str]]]:
    """Yield each licence and the packages that are under it, in their order."""
    found = defaultdict(list)
    locked = LOCKED.findall((ROOT / "requirements.txt").read_text(encoding="utf-8"))
    for name in sorted(set(locked)):
        found[licence(name)].append(name)
    yield from sorted(found.items())


def licence(name: str) -> str:
    """Return a package's licence as it states it; says so if it is not installed here."""
    try:
        package = distribution(name)
    except PackageNotFoundError:
        return "not installed here"
    return _stated(package) or "not stated"


def _stated(package: Distribution) -> str:
    """Return the SPDX expression, else the classifiers, else the field."""
    stated = package.metadata
    if "License-Expression" in stated:
        return stated["License-Expression"]
    classifiers = [each for each in stated.get_all("Classifier") or [] if each.startswith(OSI)]
    if classifiers:
        return "; ".join(each.removeprefix(OSI) for each in classifiers)
    field = stated["License"].strip() if "License" in stated else ""
    return field if len(field) <= LONGEST else field.splitlines()[0][:LONGEST]


if __name__ == "__main__":
    sys.exit(main())
