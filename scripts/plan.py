"""Say how many prompts find which win rate: from a config, or from what a past run has shown."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from include import costs, drift, planning, recipes, rows
from include.config import ANCHORS, Dataset, RunConfig
from include.config_files import resolve_config
from include.errors import DatasetError, ResultsError, UnreachableError
from include.intervals import level_of_each, level_together
from include.planning import Assumptions, Groups
from include.prompts import open_prompts
from include.records import Comparison
from include.wording import level, percent
from scripts.command import plainly
from scripts.run import load

COMPARISONS: TypeAdapter[list[Comparison]] = TypeAdapter(list[Comparison])


@dataclass(frozen=True)
class Size:
    """How many prompts there are to be, and their groups."""

    prompts: int | None
    """None where the data set cannot be read here."""
    groups: Groups | None
    note: str | None = None
    characters: int | None = None
    """Of all prompts; None where they are not read."""


def read_comparisons(path: Path) -> list[Comparison]:
    """Read the comparisons of a run's summary.json.

    Raises:
        ResultsError: It is not there, or no summary.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = COMPARISONS.validate_python(content["comparisons"])
    except OSError as error:
        raise ResultsError(
            f"{path}: {error.strerror}; give the summary.json of a run, as `make run OUT=folder` "
            "or `aws s3 cp` leaves it on this machine"
        ) from None
    except (ValueError, KeyError, TypeError, ValidationError, RecursionError):
        raise ResultsError(f"{path} is no summary.json of a run") from None
    if not found:
        raise ResultsError(f"{path}: the run has no comparison to learn from")
    return found


def measure(dataset: Dataset) -> Size:
    """Count the prompts that a run would have; reads them as a run does.

    Raises:
        DatasetError: A file on this machine that a run could not read either.
    """
    if dataset.source.startswith("s3://"):
        return Size(dataset.limit, None, _unread(dataset, "it is on S3"))
    try:
        with open_prompts(dataset) as source:
            found = [(prompt.group, prompt.characters) for prompt in source]
    except (DatasetError, UnreachableError) as error:
        if rows.is_file(dataset.source):
            raise
        return Size(dataset.limit, None, _unread(dataset, str(error)))
    groups = planning.measure(group for group, _ in found)
    return Size(len(found), groups, characters=sum(count for _, count in found))


def _unread(dataset: Dataset, why: str) -> str:
    taken = f"its limit, {dataset.limit:,}, is taken" if dataset.limit else "say how many: PROMPTS="
    ignored = "; its groups are not counted" if dataset.group_field else ""
    return f"The prompts are not counted here ({why}): {taken}{ignored}."


def from_config(
    config: RunConfig, arguments: argparse.Namespace, past: list[Comparison]
) -> Iterator[str]:
    """Yield the lines of a plan for a config, with what a past run has shown if there is one."""
    sent = [recipes.load_here(each.recipe, each.overrides) for each in config.judges]
    size = Size(arguments.prompts, None) if arguments.prompts else measure(config.dataset)
    if size.note:
        yield size.note
    asked, candidates = config.confidence_level, len(config.candidates)
    yield f"{config.evaluation}: {_levels(asked, candidates)}"
    plans = {
        f"With the ties of {each.candidate} in the past run": planning.learn(
            each, confidence_level=asked, candidates=candidates
        )
        for each in past
    }
    if not past:
        plans[""] = planning.assume(
            confidence_level=asked,
            candidates=candidates,
            consistency=arguments.consistency,
            correlation=arguments.correlation,
            groups=size.groups,
        )
    for title, assumptions in plans.items():
        yield from _plan(title, size.prompts, assumptions)
        gate = planning.gate_line(size.prompts, config.gate.rule, config.gate.margin, assumptions)
        if gate:
            yield gate
    if not past:
        yield "What a past run has shown is better than what is assumed: RUN=summary.json"
    replicas = [int(recipe["run"]["replicas"]) if recipe else 1 for recipe in sent]
    yield from _cost(config, size, replicas)


def _cost(config: RunConfig, size: Size, replicas: list[int]) -> Iterator[str]:
    """Yield what a run will cost, where there is a price file.

    Args:
        config: Of the run.
        size: How many prompts it has.
        replicas: Instances of a job of each judge.

    Raises:
        ConfigError: More than its budget.
    """
    if size.prompts is None or (config.prices is None and config.budget_usd is None):
        return
    characters = size.characters
    if characters is None:
        characters = size.prompts * costs.CHARACTERS_PER_PROMPT
        each = f"{costs.CHARACTERS_PER_PROMPT:,} characters"
        yield f"The prompts are not read: each is taken to have {each}."
    judged = config.judge_jobs(size.prompts)
    anchors = config.judge.anchor_pairs
    if anchors and not anchors.startswith("s3://"):
        judged[ANCHORS] = len(drift.read_pairs(anchors))
    found = costs.plan(config, costs.Work(size.prompts, characters, judged, replicas))
    if found and config.prices:
        yield from costs.lines(found, config.prices)


def from_run(past: list[Comparison], prompts: int | None) -> Iterator[str]:
    """Yield the lines of a plan for another run like a past one."""
    for comparison in past:
        rate = comparison.win_rate
        asked = level_together(rate.confidence_level, rate.adjusted_for)
        assumptions = planning.learn(
            comparison, confidence_level=asked, candidates=rate.adjusted_for
        )
        title = f"{comparison.candidate} against {comparison.baseline}"
        yield f"{title}: {_levels(asked, rate.adjusted_for)}"
        yield from _plan("", prompts or comparison.counts.prompts, assumptions)


def _levels(confidence_level: float, candidates: int) -> str:
    text = f"{level(confidence_level)} intervals"
    if candidates > 1:
        each = level_of_each(confidence_level, candidates)
        text += f" for {candidates} candidates together, {level(each)} each"
    return text


def _plan(title: str, prompts: int | None, assumptions: Assumptions) -> Iterator[str]:
    yield ""
    if title:
        yield f"{title}:"
    yield planning.line(prompts, assumptions) if prompts else f"{assumptions.told}."
    yield ""
    heads = [f"prompts for {percent(wanted)} power" for wanted in planning.POWERS]
    yield f"{'win rate':>8}  {'of decided pairs':>16}  " + "  ".join(f"{h:>22}" for h in heads)
    for plan in planning.table(assumptions):
        decided = "not possible" if plan.of_decided is None else f"{100 * plan.of_decided:.1f} %"
        cells = [
            "-" if plan.of_decided is None else "over 100,000" if n is None else f"{n:,}"
            for n in plan.prompts.values()
        ]
        row = "  ".join(f"{cell:>22}" for cell in cells)
        yield f"{percent(plan.win_rate):>8}  {decided:>16}  {row}"
    yield ""


@plainly
def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="make plan", description=__doc__)
    parser.add_argument("--config", type=Path, help="evaluation to plan (CONFIG=)")
    parser.add_argument("--run", type=Path, help="summary.json of a past run (RUN=)")
    parser.add_argument("--prompts", type=_count, help="how many, instead of the data set's")
    parser.add_argument("--consistency", type=_share, default=planning.CONSISTENCY)
    parser.add_argument("--correlation", type=_share, default=planning.CORRELATION)
    parser.add_argument("--env", help="environment instead of the config's (ENV=)")
    parser.add_argument("--cwd", type=Path, default=Path.cwd(), help="where paths start")
    arguments = parser.parse_args()
    past = read_comparisons(arguments.cwd / arguments.run) if arguments.run else []
    if past and not arguments.config:
        lines = from_run(past, arguments.prompts)
    else:
        config = resolve_config(load(arguments.config, arguments.env, arguments.cwd))
        lines = from_config(config, arguments, past)
    for text in lines:
        print(text)
    return 0


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no share from 0 to 1")
    return value


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of prompts")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
