"""Files that people name and write: whether one is there, and what its YAML or JSON says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FAST = 4096
"""Characters up to which libyaml reads a text: in a tenth of the time, and Airflow reads all files
twice a minute. A longer one could be nested so deeply that it crashes."""

LONGEST = 1_000_000
"""Characters of a text that is read at all: config, recipes and prices have some thousand."""

MOST_VALUES = 100_000
"""Keys and values of one text. What an alias stands for counts wherever the alias is: ten lines
with aliases of aliases are as many values as a disk of text."""

MOST_LEVELS = 50
"""How deeply keys may be nested in each other."""

HALVES = re.compile(
    r"(?<!\\)((?:\\\\)*)\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})", re.IGNORECASE
)
"""A character beyond U+FFFF as JSON escapes it, which YAML takes for two that do not exist."""

Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """What a text of YAML or JSON says, and where."""

    data: Any
    lines: dict[Place, int]
    """The line of each key and item, from 1."""
    twice: list[tuple[str, int]]
    """Keys that a mapping has more than once, with their lines."""


def is_there(path: Path) -> bool:
    """Say whether there is such a file; a path that cannot be one is none."""
    try:
        return path.is_file()
    except OSError:  # a name that is too long, a folder that may not be looked into
        return False


def read_yaml(text: str) -> Document:
    """Read YAML or JSON.

    Raises:
        ValueError: It is neither, or so large that it cannot be meant.
    """
    if len(text) > LONGEST:
        raise ValueError(f"it has {len(text):,} characters, and at most {LONGEST:,} are read")
    if text.lstrip().startswith("{"):
        text = HALVES.sub(_whole, text)
    try:
        loader = _loader(text)
        try:
            node = loader.get_single_node()
            # Before the data is made: that writes merged keys into the nodes.
            lines, twice = dict(_at_most(_lines(node))), list(_duplicates(node))
            data = loader.construct_document(node) if node else None
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        marks = [each.line + 1 for each in (error.context_mark, error.problem_mark) if each]
        where = f"line {' to '.join(map(str, sorted(set(marks))))}: " if marks else ""
        said = ", ".join(filter(None, (error.context, error.problem)))
        raise ValueError(f"{where}{said}; {LIKELY}") from None
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (KeyError, IndexError, AttributeError, TypeError):
        raise ValueError("a value is not what its tag says, like `!!bool maybe`") from None
    return Document(data, lines, twice)


def is_deep(data: Any, levels: int = MOST_LEVELS) -> bool:
    """Say whether data is nested more deeply than anything that is meant."""
    if isinstance(data, Mapping):
        data = list(data.values())
    if not isinstance(data, list):
        return False
    return levels == 0 or any(is_deep(each, levels - 1) for each in data)


LIKELY = (
    "a value that begins with * & @ % { or [, or has a colon and a space in it, needs quotes; "
    "quotes and brackets are closed; keys of one level begin in one column, without tabs"
)
"""What is wrong with most texts that cannot be read."""


def _whole(halves: re.Match[str]) -> str:
    before, first, second = halves.groups()
    whole: str = json.loads(f'"\\u{first}\\u{second}"')
    return f"{before}\\U{ord(whole):08x}"


BOOLEAN = "tag:yaml.org,2002:bool"


def _with_words(loader: Any) -> Any:
    """Return a loader that takes on, off, yes and no for words, as YAML 1.2 does, not for truth."""
    kept = {
        sign: [(tag, form) for tag, form in forms if tag != BOOLEAN]
        for sign, forms in loader.yaml_implicit_resolvers.items()
    }
    made: Any = type("Loader", (loader,), {"yaml_implicit_resolvers": kept})
    made.add_implicit_resolver(BOOLEAN, re.compile("(true|false)$", re.IGNORECASE), list("tTfF"))
    return made


CAREFUL = _with_words(yaml.SafeLoader)
QUICK = _with_words(getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _loader(text: str) -> Any:
    return (QUICK if len(text) <= FAST else CAREFUL)(text)


def _at_most(found: Iterator[tuple[Place, int]]) -> Iterator[tuple[Place, int]]:
    for number, each in enumerate(found):
        if number == MOST_VALUES:
            raise ValueError(
                f"it has more than {MOST_VALUES:,} keys and values, those behind aliases counted"
            )
        yield each


def _lines(node: Any, place: Place = ()) -> Iterator[tuple[Place, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in _entries(node):
            yield (*place, key.value), key.start_mark.line + 1
            yield from _lines(value, (*place, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*place, index), value.start_mark.line + 1
            yield from _lines(value, (*place, index))


def _duplicates(node: Any) -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in _entries(node):
            if key.value in seen:
                yield key.value, key.start_mark.line + 1
            seen.add(key.value)
            yield from _duplicates(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _duplicates(value)


def _entries(node: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the keys of a mapping that are text or numbers, with their values."""
    return ((key, value) for key, value in node.value if isinstance(key, yaml.ScalarNode))
