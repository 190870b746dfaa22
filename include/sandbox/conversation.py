"""What a model is asked and what it replies, in no vendor's words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

End = Literal["end", "cut", "filtered"]
"""Why a reply ends: it is complete, max_tokens was reached, or a filter of contents stepped in."""


@dataclass(frozen=True)
class Turn:
    """One message of a conversation."""

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True)
class Conversation:
    """What a model is asked; what is None is the model's own default."""

    turns: tuple[Turn, ...]
    system: str = ""
    raw: bool = False
    """Whether the only turn is text to go on with, without a chat template."""
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()

    @property
    def only_prompt(self) -> str | None:
        """Return the prompt, where nothing was said before it."""
        return self.turns[0].text if len(self.turns) == 1 else None


@dataclass(frozen=True)
class Reply:
    """What a model says."""

    text: str
    input_tokens: int
    output_tokens: int
    end: End = "end"


def rough_tokens(text: str) -> int:
    """Estimate how many tokens a text has, where nobody has counted them."""
    return max(1, len(text) // 4)
