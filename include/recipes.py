"""A recipe's name and overrides in, the recipe that SageMaker gets out."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from include.errors import ConfigError

FOLDER = Path(__file__).resolve().parent.parent / "recipes"

FIXED = {
    "run.model_type",
    "run.model_name_or_path",
    "run.data_s3_path",
    "run.output_s3_path",
    "evaluation.task",
    "evaluation.strategy",
    "evaluation.metric",
}
"""Keys that the container does not let anyone change."""

Recipe = dict[str, dict[str, Any]]


def names() -> list[str]:
    """Return the names of the recipes that the project carries."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe and apply overrides.

    Args:
        name: One of `names()`.
        overrides: The recipe's own shape, e.g. `{"inference": {"top_p": 0.9}}`.

    Returns:
        The recipe's sections.

    Raises:
        ConfigError: No such recipe, or an override of an unknown or fixed key.
    """
    if name not in names():
        raise ConfigError(
            f"judge.recipe: there is no recipe {name!r}{_nearest(name, names())}; "
            f"the recipes are {', '.join(names())}"
        )
    recipe: Recipe = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return override(recipe, overrides or {})


def override(recipe: Recipe, overrides: Mapping[str, Any]) -> Recipe:
    """Return a copy of the recipe with overrides applied.

    Raises:
        ConfigError: Naming every override that cannot be applied.
    """
    known = set(_keys(recipe))
    wanted = dict(_items(overrides))
    free = sorted(known - FIXED)
    problems = [
        f"judge.overrides.{key}: the judge's container does not let this be changed"
        if key in FIXED
        else f"judge.overrides.{key}: the recipe has no such key{_nearest(key, free)}"
        for key in wanted
        if key in FIXED or key not in known
    ]
    if problems:
        raise ConfigError("\n".join(problems))
    changed = copy.deepcopy(recipe)
    for key, value in wanted.items():
        section, _, name = key.partition(".")
        changed[section][name] = value
    return changed


def to_yaml(recipe: Recipe) -> str:
    """Serialise a recipe for its channel of the training job."""
    return yaml.safe_dump(recipe, sort_keys=False)


def _items(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _items(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _keys(recipe: Recipe) -> Iterator[str]:
    return (key for key, _ in _items(recipe))


def _nearest(name: str, choices: list[str]) -> str:
    close = get_close_matches(name, choices, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
