"""Print an evaluation with everything resolved, and its digest."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml

from include import recipes
from include.config_files import example, read_config, resolve_config
from include.errors import ConfigError, JudgeError


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="make render", description=__doc__)
    parser.add_argument("config", type=Path, nargs="?", help="JSON or YAML file (CONFIG=)")
    parser.add_argument("--env", help="environment instead of the config's (ENV=)")
    arguments = parser.parse_args()
    try:
        conf = read_config(arguments.config) if arguments.config else example()
        if conf is None:
            raise ConfigError("the example evaluation is gone: say which one with CONFIG=")
        if arguments.env:
            conf["environment"] = arguments.env
        name = arguments.config.name if arguments.config else "conf"
        config = resolve_config(conf, name=name)
        for judge in config.judges:
            recipes.load_here(judge.recipe, judge.overrides)
    except JudgeError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    print(f"# digest {config.digest()}")
    print(yaml.safe_dump(config.model_dump(mode="json", by_alias=True), sort_keys=False), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
