"""What a look at an account found, as records; an error of AWS in, a finding out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["ok", "warning", "refused"]
"""`refused`: the run cannot succeed. `warning`: it may, or nobody can say."""

DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "UnauthorizedException")

UNCHECKED = "cannot be checked"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    what: str
    """What was looked at, in one or two words."""
    message: str
    fix: str | None = None
    """What to do about it, as a sentence."""
    command: str | None = None
    """The same as a command for a shell, where there is one."""


def attempt(what: str, action: str, look: Callable[[], list[Finding]]) -> list[Finding]:
    """Look, and make a warning of any error of AWS: what cannot be checked is not refused.

    Args:
        what: What is looked at.
        action: The IAM action that the look needs.
        look: Asks AWS; refusals that it understands are its own findings.
    """
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        return look()
    except (BotoCoreError, ClientError, ResponseParserError) as error:
        fix = f"allow {action} to whoever runs this" if code(error) in DENIED else None
        return [Finding("warning", what, f"{UNCHECKED}: {_first_line(error)}", fix)]


def code(error: Any) -> str:
    """Return the code of an AWS error, empty for one that did not come from AWS."""
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def refusals(findings: Sequence[Finding]) -> str:
    """Make one message of everything that is refused; empty if nothing is."""
    refused = [finding for finding in findings if finding.level == "refused"]
    return "\n".join(
        f"{each.what}: {each.message}" + (f"; {each.fix}" if each.fix else "") for each in refused
    )
