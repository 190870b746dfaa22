"""A pair in, the verdicts in both orders out: recorded, a real judge's, or a stand-in's."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, cast

from include.sandbox.dice import chance, noise
from include.sandbox.models import FILLER, Recordings
from include.sandbox.openai_judge import NoVerdict, OpenAIJudge
from include.sandbox.settings import JudgeDials

Verdict = Literal["A>B", "B>A", "A=B"]
Texts = tuple[str, str, str]
"""Prompt, and the responses in positions A and B."""

AT_ONCE = 8
"""Pairs that a real judge is asked about at the same time."""
DOUBT = 0.12
"""How far the two orders of one pair may be judged apart, beside the pair's own noise."""


@dataclass(frozen=True)
class Judged:
    """One pair, each verdict as its own pass saw positions; None is an inference error."""

    forward: Verdict | None
    backward: Verdict | None
    reasons: tuple[str, ...] = ()
    """Why a real judge's passes have no verdict."""

    @property
    def for_responses(self) -> list[str | None]:
        """Both verdicts about responses A and B instead of positions: `A`, `B`, `=` or None."""
        turned = {"A>B": "B", "B>A": "A", "A=B": "="}
        straight = {"A>B": "A", "B>A": "B", "A=B": "="}
        return [
            straight[self.forward] if self.forward else None,
            turned[self.backward] if self.backward else None,
        ]


class Judge:
    """Compares two responses the way the dials say."""

    def __init__(
        self, recordings: Recordings, dials: JudgeDials, real: OpenAIJudge | None = None
    ) -> None:
        self._recordings = recordings
        self._dials = dials
        self._real = real

    @property
    def at_once(self) -> int:
        """How many pairs are worth judging at the same time."""
        return AT_ONCE if self._real else 1

    def check(self) -> None:
        """Make sure that a real judge can be asked, before it is asked a thousand times.

        Raises:
            ServerError: It cannot.
        """
        if self._real:
            self._real.check()

    def judge(
        self, prompt: str, response_a: str, response_b: str, task: str = "llm_judge"
    ) -> Judged:
        """Judge a pair in both orders; a stand-in with rubrics has a taste of its own.

        Raises:
            ServerError: There is a real judge, and it cannot be asked.
        """
        reasons: list[str] = []
        columns = (prompt, response_a, response_b, self._dials.seed)
        if chance("column", *columns) < abs(self._dials.column_bias):
            return Judged("B>A", "A>B") if self._dials.column_bias > 0 else Judged("A>B", "B>A")
        return Judged(
            forward=self._once(task, "forward", (prompt, response_a, response_b), reasons),
            backward=self._once(task, "backward", (prompt, response_b, response_a), reasons),
            reasons=tuple(reasons),
        )

    def _once(self, task: str, order: str, texts: Texts, reasons: list[str]) -> Verdict | None:
        if chance("error", *texts, self._dials.seed) < self._dials.errors:
            return None
        misled = self._misled(order, texts)
        if misled:
            return misled
        recorded = self._recordings.preference_for_b(*texts)
        if recorded is not None:
            return "A=B" if recorded == 1.5 else "B>A" if recorded > 1.5 else "A>B"
        if self._real is None:
            return self._stand_in(task, texts)
        try:
            return cast(Verdict, self._real.compare(*texts))
        except NoVerdict as error:
            reasons.append(str(error))
            return None

    def _misled(self, order: str, texts: Texts) -> Verdict | None:
        """Return what the dials make a judge say; None where they leave it alone."""
        dials, asked, (_, a, b) = self._dials, (*texts, self._dials.seed), texts
        if chance("bias", *asked) < abs(dials.position_bias):
            return "A>B" if dials.position_bias > 0 else "B>A"
        if chance("tie", *asked) < dials.ties:
            return "A=B"
        if chance("noise", order, *asked) < dials.noise:
            return "A>B" if chance("lot", order, *asked) < 0.5 else "B>A"
        if len(a) != len(b) and chance("brevity", *asked) < dials.brevity:
            return "A>B" if len(a) < len(b) else "B>A"
        if _pleads(a) != _pleads(b) and chance("flattery", *asked) < dials.flattery:
            return "A>B" if _pleads(a) else "B>A"
        return None

    def _stand_in(self, task: str, texts: Texts) -> Verdict:
        prompt, a, b = texts
        if a == b:
            return "A=B"
        if _pleads(a) != _pleads(b):
            return "B>A" if _pleads(a) else "A>B"
        if a.startswith(b) or b.startswith(a) or _says_nothing_beside(*sorted((a, b), key=len)):
            return "A>B" if len(a) > len(b) else "B>A"
        taste = (self._dials.seed,) if task == "llm_judge" else (self._dials.seed, task)
        first, second = sorted((a, b))
        opinion = noise("opinion", prompt, first, second, *taste) * (1 if a == first else -1)
        order = noise("order", prompt, a, b, *taste)
        lead = 4.5 * (quality(a) - quality(b)) + 0.55 * opinion + DOUBT * order
        return "A>B" if lead > 0 else "B>A"


def _pleads(text: str) -> bool:
    """Whether a response names the verdict that it wants."""
    return "[[A>B]]" in text or "[[B>A]]" in text


def _says_nothing_beside(short: str, long: str) -> bool:
    """Whether a response has less than a tenth of the other's words."""
    return 10 * len(short.split()) < len(long.split())


def quality(text: str) -> float:
    """Estimate from the text alone how good it is, about 0 to 1."""
    words = re.findall(r"\w+", text.lower())
    if not words:
        return 0.0
    length = min(1.0, math.log1p(len(words)) / math.log1p(120))
    variety = len(set(words)) / len(words)
    idle = sum(text.count(sentence) for sentence in FILLER)
    return 0.7 * length + 0.3 * variety - 0.08 * idle
