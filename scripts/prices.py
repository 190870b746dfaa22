"""`make prices ENV=`: a dated price file from AWS's Price List, for all that the files here use."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel

from include import config_files, price_list
from include.config import Environment, Evaluation, Judge
from include.prices import Prices
from scripts import doctor
from scripts.command import plainly


def used() -> tuple[set[str], set[str]]:
    """Return the instance types and Bedrock models of all models and evaluations.

    Raises:
        ConfigError: A file has mistakes.
    """
    home, judges = config_files.folder(), [Judge()]
    models = [
        config_files.load_model(path.stem) for path in sorted((home / "models").glob("*.yaml"))
    ]
    for path in config_files.evaluation_files():
        evaluation = Evaluation.model_validate(config_files.load_evaluation(path))
        judges.append(evaluation.judge)
        models += [
            m for m in (evaluation.baseline, *evaluation.candidates) if not isinstance(m, str)
        ]
    return config_files.priced(models, judges)


def text(prices: Prices) -> Iterator[str]:
    """Yield the lines of a price file; what is not known is a comment."""
    yield f"# What AWS charges on demand in {prices.region}, from its Price List. Correct what is"
    yield "# different for you, as discounts; docs/recurring.md says what is counted."
    yield f"priced_at: {prices.priced_at}"
    yield f"currency: {prices.currency}"
    yield f"region: {prices.region}"
    for key, about in (("instances", "per hour"), ("models", "per million tokens")):
        entries: dict[str, BaseModel] = getattr(prices, key)
        known = any(each.model_dump(exclude_none=True) for each in entries.values())
        yield f"{key}: # {about}" if known else f"{key}: {{}}"
        for name, each in entries.items():
            found, told = each.model_dump(exclude_none=True), json.dumps(name)
            if found:
                yield f"  {told}: {json.dumps(found).replace(chr(34), '')}"
            missing = [field for field in type(each).model_fields if field not in found]
            if missing:
                yield f"  # {told}: {', '.join(missing)}: not found in the Price List"


def target(environment: Environment) -> tuple[Path, str | None]:
    """Return where the file goes, and what to write into the environment for it to count."""
    if environment.prices:
        path = config_files.price_file(environment) or Path(environment.prices)
        return path, None
    path = config_files.folder() / "prices" / f"{environment.name}.yaml"
    root = config_files.ROOT.parent
    name = path.relative_to(root) if path.is_relative_to(root) else path
    return path, f"prices: {name}"


@plainly
def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="make prices", description=__doc__)
    parser.add_argument("--env", help="environment whose region and account count (ENV=)")
    chosen = config_files.chosen_environment(parser.parse_args().env)
    environment = config_files.load_environment(chosen)
    instance_types, models = used()
    prices = price_list.fetch(
        doctor.reach(environment, price_list.REGION)("pricing"),
        environment.region,
        instance_types,
        models,
        datetime.now(UTC).date(),
    )
    path, key = target(environment)
    lines = list(text(prices))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(line.strip() for line in lines if line.startswith("  #")))
    print(path)
    if key:
        print(f"Write into the environment {environment.name}: {key}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
