"""`make gate-power CONFIG=`: how often a gate cries wolf, and how small a drop it catches."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from include import evidence, gate_power, trend
from include.config import RunConfig
from include.config_files import resolve_config
from include.errors import ConfigError, ResultsError
from include.gate_power import GatePower
from include.storage import RunFolder
from include.wording import percent, plural, points
from scripts import doctor
from scripts.command import plainly
from scripts.run import load

MOST_RUNS = 10

UNDECIDED = 0.5
"""Share of calm nights that decide nothing, above which more prompts are tried."""
MORE = 4
"""Times as many: intervals are half as wide."""


def past_runs(output: RunFolder, evaluation: str, candidate: str) -> list[RunFolder]:
    """Return the folders of the last runs that still have their pairs, the latest first."""
    rows = [row for row in trend.read(output, evaluation) if row.candidate == candidate]
    folders = [RunFolder(output.s3, row.run_folder) for row in reversed(rows) if row.pairs]
    return [each for each in folders if evidence.stored_pairs(each, candidate)][:MOST_RUNS]


def text(
    config: RunConfig, candidate: str, found: GatePower, more: GatePower | None
) -> Iterator[str]:
    """Yield the lines about one candidate.

    Args:
        config: Of the evaluation.
        candidate: Its name.
        found: About its gate.
        more: The same with more prompts, if it needs them.
    """
    gate = config.gate
    yield (
        f"{candidate}: gate {gate.rule}, margin {gate.margin:g}; simulated from "
        f"{plural(found.prompts, 'prompt')} of {plural(found.runs, 'past run')}"
    )
    if found.runs == 1:
        yield (
            "  A single run does not show how much nights differ: assumed that "
            f"{percent(gate_power.FORGETS)} of the prompts come out anew."
        )
    yield (
        f"  If nothing has changed, {percent(found.false_alarms)} of the nights fail and "
        f"{percent(found.inconclusive)} are inconclusive."
    )
    often = percent(gate_power.WANTED)
    yield f"  Within two nights it catches, {often} of the time, {_caught(found)}."
    if more:
        yield (
            f"  With {more.prompts:,} such prompts, {MORE} times as many, it would catch "
            f"{_caught(more)}; {percent(more.inconclusive)} of the nights would be inconclusive."
        )
    yield f"  {'drop':>6}  {'fails in one night':>18}  in two"
    for each in found.drops:
        yield (
            f"  {points(-each.drop):>6}  {percent(each.one_night):>18}  {percent(each.two_nights)}"
        )


def _caught(found: GatePower) -> str:
    if found.smallest is None:
        return f"no drop up to {points(gate_power.DROPS[-1]).lstrip('+')} percentage points"
    return f"a drop of {points(found.smallest).lstrip('+')} percentage points or more"


@plainly
def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="make gate-power", description=__doc__)
    parser.add_argument("--config", type=Path, help="the evaluation (CONFIG=)")
    parser.add_argument("--env", help="environment that it ran in (ENV=)")
    parser.add_argument("--cwd", type=Path, default=Path.cwd(), help="where paths start")
    arguments = parser.parse_args()
    config = resolve_config(load(arguments.config, arguments.env, arguments.cwd))
    if config.gate.rule == "none":
        raise ConfigError(
            f"{config.evaluation} has no gate; write for example "
            "gate: {rule: no_regression, margin: 0.05}"
        )
    s3 = doctor.reach(config.environment)("s3")
    output = RunFolder(s3, config.environment.output_s3_uri)
    for model in config.candidates:
        folders = past_runs(output, config.evaluation, model.name)
        past = gate_power.gather(evidence.resolved_pairs(each, model.name) for each in folders)
        if not past:
            raise ResultsError(
                f"{config.evaluation} has no past run of {model.name} with details per pair; "
                "before the first one, make plan CONFIG= says what the prompts can find"
            )
        simulate = partial(
            gate_power.simulate,
            rule=config.gate.rule,
            margin=config.gate.margin,
            confidence_level=config.confidence_level,
            candidates=len(config.candidates),
        )
        found, more = simulate(past), None
        if found.smallest is None or found.inconclusive > UNDECIDED:
            more = simulate(gate_power.multiplied(past, MORE), simulations=100)
        print("\n".join(text(config, model.name, found, more)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
