"""Facts about the form in which a run is triggered."""

import json
from typing import Any

import jsonschema
import pytest

from include.config import Evaluation
from include.config_files import environment_names, example, model_names, resolve_config
from include.recipes import names
from include.trigger_form import SECTIONS, fields

INLINE = {"name": "mine", "provider": "bedrock", "model_id": "us.amazon.nova-micro-v1:0"}


def test_it_has_every_key_but_the_schedule_in_a_section_and_no_references() -> None:
    found = fields(example())
    assert set(found) == set(Evaluation.model_fields) - {"schedule"}
    assert [key for keys in SECTIONS.values() for key in keys] == list(found)
    text = json.dumps([schema for schema, _ in found.values()])
    assert "$ref" not in text
    assert all(schema["type"] for schema, _ in found.values())
    assert {schema.get("section") for schema, _ in found.values()} == set(SECTIONS)


def test_what_it_starts_with_resolves_to_the_example() -> None:
    given = example()
    assert given is not None
    started = {key: default for key, (_, default) in fields(given).items()}
    assert resolve_config(started, environ={}) == resolve_config(given, environ={})


def test_models_and_environments_are_choices_and_recipes_are_named() -> None:
    found = {key: schema for key, (schema, _) in fields(example()).items()}
    assert found["baseline"]["examples"] == found["candidates"]["examples"] == model_names()
    assert found["environment"]["examples"] == environment_names()
    assert all(name in found["judge"]["description_md"] for name in names())


def test_help_says_what_each_key_of_a_section_does() -> None:
    (dataset, _) = fields(None)["dataset"]
    assert "- **limit**: " in dataset["description_md"]


def test_a_model_that_is_written_out_is_not_offered_as_a_name() -> None:
    given = {**(example() or {}), "baseline": INLINE, "candidates": ["claude", INLINE]}
    found = fields(given)
    assert "examples" not in found["baseline"][0] and "examples" not in found["candidates"][0]


@pytest.mark.parametrize("given", [{}, {"baseline": INLINE, "candidates": [INLINE]}])
def test_what_it_starts_with_is_valid_by_its_own_schemas(given: dict[str, Any]) -> None:
    for schema, default in fields({**(example() or {}), **given}).values():
        jsonschema.validate(default, schema)


def test_without_an_example_required_fields_are_empty() -> None:
    assert fields(None)["baseline"][1] is None
    assert fields(None)["gate"][1]["rule"] == "none"
