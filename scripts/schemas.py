"""Write what is generated from the code: docs/config.md and the JSON schemas in docs/schemas/."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter

from include import config, prices
from include.records import Summary

DOCS = Path(__file__).resolve().parent.parent / "docs"

SCHEMAS: dict[str, Any] = {
    "evaluation": config.Evaluation,
    "environment": config.Environment,
    "model": config.Model,
    "prices": prices.Prices,
    "summary": Summary,
}

WHERE = "`dags/models/NAME.yaml`, or inline."
SECTIONS: list[tuple[str, str, type[BaseModel]]] = [
    ("Evaluation", "`dags/evaluations/NAME.yaml`, or the conf of a run.", config.Evaluation),
    ("dataset", "In an evaluation.", config.Dataset),
    ("parameters", "In an evaluation, for every model; in a model, over those.", config.Parameters),
    ("generation", "In an evaluation.", config.Generation),
    ("judge", "In an evaluation.", config.Judge),
    ("gate", "In an evaluation.", config.Gate),
    ("alerts", "In an evaluation, a list.", config.Alert),
    ("schedule", "In an evaluation's file.", config.Schedule),
    *(
        (f"Model: {get_args(each.model_fields['provider'].annotation)[0]}", WHERE, each)
        for each in get_args(get_args(config.Model)[0])
    ),
    ("deploy", "In a `sagemaker` model.", config.Deploy),
    ("limits", "In a `sagemaker` or `bedrock` model.", config.Limits),
    ("Environment", "`dags/environments/NAME.yaml`.", config.Environment),
    ("vpc", "In an environment.", config.Vpc),
    ("Price file", "Named by `prices` of an environment.", prices.Prices),
    ("instances", "In a price file, USD per instance and hour.", prices.InstancePrices),
    ("models", "In a price file, USD per million tokens.", prices.ModelPrices),
]

INTRODUCTION = """# Config

Every key, generated from `include/config.py` by `make docs`. Unknown keys are errors. A key that
is "Reserved" takes only its default so far.

`make render CONFIG=file` prints what a config resolves to, and its digest.
"""


def files() -> Iterator[tuple[Path, str]]:
    """Yield every generated file with its content."""
    for name, source in SCHEMAS.items():
        schema = TypeAdapter(source).json_schema(by_alias=True)
        yield DOCS / "schemas" / f"{name}.json", json.dumps(schema, indent=2) + "\n"
    yield DOCS / "config.md", "\n".join([INTRODUCTION, *_sections()])


def _sections() -> Iterator[str]:
    for title, where, model in SECTIONS:
        yield f"## {title}\n\n{where}\n\n| Key | Type | Default | Meaning |\n|---|---|---|---|"
        schema = model.model_json_schema(by_alias=True)
        required = schema.get("required", [])
        meaning = {(f.alias or n): f.description or "" for n, f in model.model_fields.items()}
        for key, part in schema["properties"].items():
            default = "needed" if key in required else _default(part.get("default"))
            yield f"| `{key}` | {_type(part)} | {default} | {meaning[key]} |"
        yield ""


def _default(value: Any) -> str:
    if isinstance(value, dict):
        value = {key: item for key, item in value.items() if item is not None}
        return f"`{json.dumps(value)}`" if len(value) < 2 else "see below"
    return f"`{json.dumps(value)}`"


def _type(part: dict[str, Any]) -> str:
    if "enum" in part or "const" in part:
        return ", ".join(f"`{value}`" for value in part.get("enum", [part.get("const")]))
    if "$ref" in part:
        return "section"
    options = part.get("anyOf") or part.get("oneOf")
    if options:
        return " or ".join(dict.fromkeys(_type(option) for option in options))
    if part.get("type") == "array":
        return f"list of {_type(part.get('items', {}))}"
    bounds = [
        f"{sign} {part[key]}"
        for key, sign in (
            ("minimum", "≥"),
            ("exclusiveMinimum", ">"),
            ("maximum", "≤"),
            ("exclusiveMaximum", "<"),
        )
        if key in part
    ]
    return " ".join([str(part.get("type", "anything")), *bounds])


def main() -> int:
    """Write the files, or say which are out of date."""
    parser = argparse.ArgumentParser(prog="python -m scripts.schemas", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if outdated")
    check = parser.parse_args().check
    outdated = []
    for path, content in files():
        if path.exists() and path.read_text(encoding="utf-8") == content:
            continue
        outdated.append(path.name)
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
    if check and outdated:
        print(f"Out of date: {', '.join(outdated)}. Run make docs.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
