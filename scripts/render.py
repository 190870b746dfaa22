"""Print an evaluation with everything resolved, and its digest."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml

from include import recipes
from include.config_files import resolve_config
from scripts.command import plainly
from scripts.run import load


@plainly
def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="make render", description=__doc__)
    parser.add_argument("--config", type=Path, help="JSON or YAML file (CONFIG=)")
    parser.add_argument("--env", help="environment instead of the config's (ENV=)")
    parser.add_argument("--cwd", type=Path, default=Path.cwd(), help="where paths start")
    arguments = parser.parse_args()
    conf = load(arguments.config, arguments.env, arguments.cwd)
    name = arguments.config.name if arguments.config else "conf"
    config = resolve_config(conf, name=name)
    for judge in config.judges:
        recipes.load_here(judge.recipe, judge.overrides)
    print(f"# digest {config.digest()}")
    print(yaml.safe_dump(config.model_dump(mode="json", by_alias=True), sort_keys=False), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
