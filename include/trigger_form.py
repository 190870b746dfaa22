"""An evaluation in, the fields of Airflow's trigger form out: sections, help and choices."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from include import recipes
from include.config import Evaluation
from include.config_files import environment_names, model_names

SECTIONS = {
    None: ("evaluation", "baseline", "candidates", "dataset", "parameters"),
    "How it is judged": ("comparison", "judge", "confidence_level", "gate"),
    "How it runs": ("environment", "generation", "budget_usd", "store_text", "alerts"),
}
"""Keys in the order in which the form shows them, by the heading above them; without one, they are
under Airflow's own, which alone is open at first."""

Field = tuple[dict[str, Any], Any]
"""JSON schema and default."""


def fields(evaluation: Mapping[str, Any] | None) -> dict[str, Field]:
    """Return the field of each key of an evaluation.

    Args:
        evaluation: What the form starts with, as `load_evaluation` returned it; None leaves
            required fields empty.
    """
    defaults = {}
    if evaluation is not None:
        defaults = Evaluation.model_validate(evaluation).model_dump(mode="json", by_alias=True)
    found = {key: (part, defaults.get(key, default)) for key, (part, default) in _form().items()}
    return {key: (_with_choices(key, part, value), value) for key, (part, value) in found.items()}


@functools.cache
def _form() -> dict[str, Field]:
    """Return the field of each key, whatever the evaluation."""
    schema = Evaluation.model_json_schema(by_alias=True)
    parts, definitions = schema["properties"], schema["$defs"]
    return {
        key: (_shape(parts[key], definitions, section), parts[key].get("default"))
        for section, keys in SECTIONS.items()
        for key in keys
    }


def _shape(
    schema: Mapping[str, Any], definitions: Mapping[str, Any], section: str | None
) -> dict[str, Any]:
    """Return how a key is called, what it means and which types it takes.

    What an object may hold is not in the schema, only in the words: Airflow checks all schemas, and
    the defaults by them, whenever it reads the files and again before each task. `resolve` says
    what is wrong inside.
    """
    inside = schema.get("$ref") or schema.get("items", {}).get("$ref")
    known = {**(definitions[inside.rsplit("/", 1)[-1]] if inside else {}), **schema}
    shaped: dict[str, Any] = {
        key: value
        for key, value in known.items()
        if isinstance(value, str | float | int)
        and key not in ("default", "$ref", "additionalProperties", "description")
    }
    if section:
        shaped["section"] = section
    shaped["description_md"] = _help(known)
    types = _types(known)
    shaped["type"] = types if len(types) > 1 else types[0]
    if "items" in known:
        shaped["items"] = {"type": _types(known["items"])}
    return shaped


def _help(schema: Mapping[str, Any]) -> str:
    """Return what a key means and, if it is a section, what each key in it does (Markdown)."""
    lines = [schema["description"]]
    for key, part in schema.get("properties", {}).items():
        meaning = part.get("description", "")
        if key == "recipe":
            meaning += f" There are {', '.join(recipes.names())}."
        lines.append(f"- **{key}**: {meaning}")
    return "\n".join([lines[0], "", *lines[1:]]).rstrip()


def _types(schema: Mapping[str, Any]) -> list[str]:
    """Return the types that a schema allows; what it refers to are objects."""
    options = schema.get("anyOf") or schema.get("oneOf") or [schema]
    return sorted({each.get("type", "object") for each in options})


def _with_choices(key: str, schema: dict[str, Any], value: Any) -> dict[str, Any]:
    """Offer names where the form starts with names; a model that is written out is shown as JSON.

    They are offers: whatever else is written is for `resolve` to look up.
    """
    if key == "environment":
        return {**schema, "examples": environment_names()}
    if key == "baseline" and not isinstance(value, Mapping):
        return {**schema, "type": ["string", "object"], "examples": model_names()}
    if key == "candidates" and all(isinstance(each, str) for each in value or []):
        return {**schema, "examples": model_names()}
    return schema
