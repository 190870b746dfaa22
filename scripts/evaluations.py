"""`make new-evaluation NAME=` and `make check-evaluations`: the files in dags/."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from include import config_files, names, recipes, rows
from include.errors import ConfigError, JudgeError
from include.wording import printable
from scripts.command import plainly

TEMPLATE = Path(__file__).with_name("new_evaluation.yaml")
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def new(name: str) -> Path:
    """Write a commented evaluation; return its path.

    Raises:
        ConfigError: The name cannot be one, or there is such a file.
    """
    if not NAME.fullmatch(name):
        wanted = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "nightly"
        raise ConfigError(
            f"{name!r} cannot be a name: expected small letters, digits and hyphens; write for "
            f"example NAME={wanted}"
        )
    if name in names.TAKEN:
        raise ConfigError(f"{name!r} cannot be a name: runs of all evaluations share such a folder")
    path = config_files.folder() / "evaluations" / f"{name}.yaml"
    if path.exists():
        raise ConfigError(f"{path} is there already")
    path.parent.mkdir(parents=True, exist_ok=True)
    text = TEMPLATE.read_text(encoding="utf-8").replace("NAME", name)
    path.write_text(text, encoding="utf-8")
    return path


def check() -> Iterator[tuple[str, str | None]]:
    """Yield every file of the three kinds and what is wrong with it; None if nothing is."""
    home = config_files.folder()
    for kind in ("environments", "models", "evaluations"):
        for path in sorted((home / kind).glob("*.yaml")):
            name = printable(path.name)
            try:
                config_files.check_file(kind, path)
                if kind == "evaluations":
                    _check_what_is_read(path)
            except JudgeError as error:
                yield f"{kind}/{name}", _with_file(str(error), name)
            else:
                yield f"{kind}/{name}", None
    yield from _twice(home / "evaluations")


def _check_what_is_read(path: Path) -> None:
    """Refuse a recipe, or a file of prompts, that is not here; what lies on S3 is not looked at.

    Raises:
        JudgeError: Naming the key.
    """
    config = config_files.resolve_config(config_files.load_evaluation(path), name=path.name)
    for judge in config.judges:
        recipes.load_here(judge.recipe, judge.overrides)
    source = config.dataset.source
    if not source.startswith("s3://") and rows.is_file(source):
        with rows.local_file(source, key="dataset.source"):
            pass


def _with_file(problem: str, name: str) -> str:
    """Begin each line of a problem with the file's name."""
    lines = problem.splitlines()
    return "\n".join(line if name in line else f"{name}: {line}" for line in lines)


def _twice(folder: Path) -> Iterator[tuple[str, str]]:
    """Name evaluations that would share a history."""
    seen: dict[str, str] = {}
    for path in sorted(folder.glob("*.yaml")):
        try:
            name = str(config_files.load_evaluation(path)["evaluation"])
        except ConfigError:
            continue
        if name in seen:
            yield (
                f"evaluations/{path.name}",
                f"{path.name}: evaluation: {name!r} is also that of {seen[name]}, and their "
                "results would belong together; give each its own",
            )
        seen.setdefault(name, path.name)


@plainly
def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="make", description=__doc__)
    parser.add_argument("command", choices=["new", "check"])
    parser.add_argument("--name", help="of the new evaluation (NAME=)")
    arguments = parser.parse_args()
    if arguments.command == "new":
        if not arguments.name:
            raise ConfigError("expected a name, for example make new-evaluation NAME=nightly")
        path = new(arguments.name)
        print(f"{path}\nEdit it, then: make check-evaluations; make run CONFIG={path}")
        return 0
    found = list(check())
    for name, problem in found:
        print(f"{'refused' if problem else 'ok':<8} {name}")
        if problem:
            print("".join(f"{'':<8} {line}\n" for line in problem.splitlines()), end="")
    problems = sum(problem is not None for _, problem in found)
    print(f"{len(found)} files, {problems} with mistakes" if problems else f"{len(found)} files")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
