"""Pairs, what a judge said of them, and the comparison that comes of it."""

from include import winrate
from include.records import GenerationErrors, JudgeOutput, Judgment, Pair

WIN, LOSS, TIE = ("B>A", "A>B"), ("A>B", "B>A"), ("A=B", "A=B")
ALWAYS_A, HALF_WIN, HALF_LOSS = ("A>B", "A>B"), ("B>A", "A=B"), ("A=B", "B>A")


def make_pairs(count, *, group=None, category=None, status="judged"):
    return [
        Pair(
            prompt_id=f"p{i}",
            prompt="q",
            baseline="x",
            candidate="y",
            status=status,
            group=group(i) if group else None,
            category=category(i) if category else None,
        )
        for i in range(count)
    ]


def judge(pairs, verdicts):
    """Judgments of pairs; verdicts are (forward, backward), None an inference error."""
    return [
        Judgment(pair.prompt_id, order, verdict, None if verdict else "unreadable")
        for pair, both in zip(pairs, verdicts, strict=True)
        for order, verdict in zip(("forward", "backward"), both, strict=True)
    ]


def compare(pairs, verdicts=None, *, metrics=None, output=True, **changes):
    judgments = None if verdicts is None else judge(pairs, verdicts)
    return count(pairs, JudgeOutput(metrics or {}, judgments) if output else None, **changes)


def count(pairs, output, **changes):
    """Compare by what the judge left; `changes` are arguments of `winrate.compare`."""
    asked = {
        "baseline": "qwen",
        "candidate": "claude",
        "prompts": len(pairs),
        "generation_errors": GenerationErrors(0, 0),
        "confidence_level": 0.95,
        "min_consistency": 0.5,
        "max_error_rate": 0.05,
    }
    return winrate.compare(pairs=pairs, output=output, **{**asked, **changes})
