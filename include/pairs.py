"""Prompts and two models' responses in, Pairs and the judge's input out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from include.records import Pair, PairStatus, Prompt, Response
from include.storage import to_lines

MAX_TOKENS = 12_000
"""Longest record that Nova's judge takes (Nova model evaluation, limits)."""

LONG = 7_000
"""Tokens of a record: the limit on one of AWS's pages. Longer ones are judged, and said."""

BYTES_PER_TOKEN = 4
"""A cautious guess for alphabets; of Chinese, Japanese and the like a character is a token."""
WIDE = re.compile("[\u0800-\U0010ffff]")
"""Characters of three bytes and more."""


def make_pairs(
    prompts: Sequence[Prompt],
    baseline: Mapping[str, Response],
    candidate: Mapping[str, Response],
) -> list[Pair]:
    """Put the two responses to each prompt side by side.

    Args:
        prompts: Every prompt of the run.
        baseline: Responses by prompt id; a prompt without one counts as failed.
        candidate: The same for the candidate.

    Returns:
        One pair per prompt, in the prompts' order; its status says what becomes of it.
    """
    return [_pair(p, baseline.get(p.prompt_id), candidate.get(p.prompt_id)) for p in prompts]


def _pair(prompt: Prompt, baseline: Response | None, candidate: Response | None) -> Pair:
    text = shown(prompt)
    left = baseline.text if baseline and baseline.usable else None
    right = candidate.text if candidate and candidate.usable else None
    return Pair(
        prompt_id=prompt.prompt_id,
        prompt=text,
        baseline=left,
        candidate=right,
        status=_status(text, left, right),
        category=prompt.category,
        group=prompt.group,
    )


def shown(prompt: Prompt) -> str:
    """Return a prompt as the judge reads it: system prompt, conversation, what the user says last.

    Nova's judge takes one text; a conversation is written out with who speaks.
    """
    said = prompt.text
    if prompt.turns:
        speakers = {"user": "User", "assistant": "Assistant"}
        lines = [f"{speakers[turn.role]}: {turn.text}" for turn in prompt.turns]
        said = "\n\n".join([*lines, f"User: {prompt.text}"])
    return f"{prompt.system}\n\n{said}" if prompt.system else said


def _status(prompt: str, baseline: str | None, candidate: str | None) -> PairStatus:
    if baseline is None or candidate is None:
        if baseline is None and candidate is None:
            return "both_failed"
        return "baseline_failed" if baseline is None else "candidate_failed"
    if baseline == candidate:
        return "identical"
    return "judged" if fits(prompt, baseline, candidate) else "too_long"


def fits(prompt: str, baseline: str, candidate: str) -> bool:
    """Whether the judge takes a pair of this length."""
    return tokens(prompt, baseline, candidate) <= MAX_TOKENS


def is_long(pair: Pair) -> bool:
    """Whether a pair that is judged is longer than the judge is known to take."""
    texts = (pair.prompt, pair.baseline or "", pair.candidate or "")
    return pair.status == "judged" and tokens(*texts) > LONG


def tokens(*texts: str) -> float:
    """Guess how many tokens the judge makes of some texts.

    Example:
        >>> tokens("What is it?"), tokens("これは何ですか")
        (2.75, 7.0)
    """
    return sum(map(_tokens, texts))


def _tokens(text: str) -> float:
    if text.isascii():
        return len(text) / BYTES_PER_TOKEN
    narrow, wide = WIDE.subn("", text)
    return wide + len(narrow.encode(errors="replace")) / BYTES_PER_TOKEN


def judge_input(pairs: Iterable[Pair]) -> bytes:
    """Write `llm_judge.jsonl`: Nova's three fields, the baseline in A, the candidate in B."""
    return to_lines(
        {"prompt": pair.prompt, "response_A": pair.baseline, "response_B": pair.candidate}
        for pair in pairs
        if pair.status == "judged"
    )
