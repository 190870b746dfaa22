"""Models' responses and the judge's canaries in, what makes a verdict worthless out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from include.model_summary import (
    FEWEST_RESPONSES,
    addresses_too_often,
    is_constant,
    share_of_repetition,
)
from include.records import Comparison, ModelSummary, Screen
from include.wording import plural

ALIKE = 0.5
"""A model that repeats itself half as often as another has the same kind of prompts to answer."""


def of_responses(models: Sequence[ModelSummary]) -> list[Screen]:
    """Look at what each model says: the same to everybody, or something to the judge.

    A model that says the same to most prompts fails only where another of the run does not: prompts
    that are answered by yes or no make every model repeat itself.

    Args:
        models: All models of the run.
    """
    return [screen for model in models for screen in _screens(model, models)]


def _screens(model: ModelSummary, models: Sequence[ModelSummary]) -> Iterator[Screen]:
    said, usable = model.repetition, model.responses.usable
    if said:
        # A model that has hardly answered cannot say what the prompts are like.
        heard = [each for each in models if each.responses.usable >= FEWEST_RESPONSES]
        least = min((share_of_repetition(each) for each in heard), default=0.0)
        alone = least < ALIKE * share_of_repetition(model)
        text = f"{model.name} says the same to {said.count:,} of {plural(said.prompts, 'prompt')}"
        passed = not (is_constant(model) and alone)
        others = said.prompts - said.count
        yield Screen("constant_answers", passed, text, others, said.prompts, model.name)
    if usable:
        spoken = model.addressing_judge.count
        text = f"{model.name} speaks to the judge in {spoken:,} of {plural(usable, 'response')}"
        passed = not addresses_too_often(model)
        yield Screen("addresses_the_judge", passed, text, usable - spoken, usable, model.name)


def applied(comparisons: Sequence[Comparison], screens: Sequence[Screen]) -> list[Comparison]:
    """Take back the verdicts that a failed screen makes worthless; the numbers stay as they are.

    Args:
        comparisons: Of a run.
        screens: Of its models and its judge.
    """
    failed = [screen for screen in screens if screen.passed is False]
    return [_applied(comparison, failed) for comparison in comparisons]


def _applied(comparison: Comparison, failed: Sequence[Screen]) -> Comparison:
    about = (None, comparison.baseline, comparison.candidate)
    reasons = [screen.text for screen in failed if screen.model in about]
    if not reasons or comparison.unreliable:
        return comparison
    reason = "; ".join(reasons)
    return replace(
        comparison,
        verdict="inconclusive",
        unreliable=reason,
        sentence=f"Inconclusive: {reason}.",
    )
