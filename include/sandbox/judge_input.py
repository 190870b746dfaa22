"""Files of the channels in, recipe and pairs out; what Nova's container refuses is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from include.sandbox.errors import refusal

Row = dict[str, str]
Recipe = dict[str, Any]

FIELDS = ("prompt", "response_A", "response_B")
INPUT = "llm_judge.jsonl"
"""The one file of the channel `train`, for both tasks."""
TASKS = ("llm_judge", "rubric_llm_judge")
MAX_TOKENS = 12_000
BYTES_PER_TOKEN = 4
RECIPE_FOLDER = "/opt/ml/input/data/recipe/"


@dataclass(frozen=True)
class JudgeModel:
    """One model that judges."""

    path: str
    task: str
    instances: tuple[str, ...]
    """Instance types that any of AWS's sources names for its evaluations."""


_G5_G6 = tuple(f"ml.{f}.{s}" for f in ("g5", "g6") for s in ("12xlarge", "24xlarge"))
_SMALL = tuple(f"ml.{f}.{s}" for f in ("g5", "g6") for s in ("4xlarge", "8xlarge", "16xlarge"))

MODELS = {
    "amazon.nova-micro-v1:0:128k": JudgeModel(
        "nova-micro/prod",
        "llm_judge",
        (*_SMALL, *_G5_G6, "ml.g6.48xlarge", "ml.p5.48xlarge"),
    ),
    "amazon.nova-lite-v1:0:300k": JudgeModel(
        "nova-lite/prod", "llm_judge", (*_G5_G6, "ml.g6.48xlarge", "ml.p5.48xlarge")
    ),
    "amazon.nova-pro-v1:0:300k": JudgeModel("nova-pro/prod", "llm_judge", ("ml.p5.48xlarge",)),
    "amazon.nova-2-lite-v1:0:256k": JudgeModel(
        "nova-lite-2/prod", "rubric_llm_judge", ("ml.p4d.24xlarge", "ml.p5.48xlarge")
    ),
}

ENGINE = "RuntimeError: Engine core initialization failed."
"""What the container says when a model's type and path do not belong together."""

BOUNDS = {
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "top_logprobs": (0, 20),
    "max_new_tokens": (0, 100_000),
}


def read_recipe(files: Mapping[str, bytes], request: Mapping[str, Any]) -> Recipe:
    """Read and check the recipe.

    Args:
        files: Of the channel `recipe`, by path in its folder.
        request: The job's, whose hyperparameters and instance type have to fit.

    Raises:
        ContainerError: The recipe is not what the container takes.
    """
    given: Mapping[str, str] = request.get("HyperParameters", {})
    body = _recipe_file(files, given.get("sagemaker_recipe_local_path"))
    try:
        recipe: Recipe = yaml.safe_load(body)
        run, evaluation = recipe["run"], recipe["evaluation"]
        task, model_type, name = evaluation["task"], run["model_type"], run["name"]
        inference = recipe.get("inference") or {}
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise _invalid(f"the recipe cannot be read: {error!r}") from None
    if task not in TASKS:
        raise refusal(f"the sandbox judges {' and '.join(TASKS)}, not {task}")
    if (evaluation.get("strategy"), evaluation.get("metric")) != ("judge", "all"):
        raise _invalid(f"{task} needs strategy judge and metric all")
    if not isinstance(name, str) or not name:
        raise _invalid("run.name must be a name")
    model = MODELS.get(model_type)
    if model is None or model.path != run.get("model_name_or_path"):
        raise refusal(ENGINE)
    if model.task != task:
        raise _invalid(f"task {task} is not supported for model {model_type}")
    _check_hyperparameters(given, model_type, model)
    _check_inference(inference, model_type)
    instance = request.get("ResourceConfig", {}).get("InstanceType")
    if instance not in model.instances:
        raise _invalid(
            f"instance type {instance} is not supported for {model_type}; "
            f"supported are {', '.join(model.instances)}"
        )
    return recipe


def _invalid(message: str) -> Exception:
    return refusal(f"ConfigValidationError: {message}")


def _recipe_file(files: Mapping[str, bytes], path: str | None) -> bytes:
    """Return the file that the hyperparameter names, else the only recipe there is."""
    if path is not None:
        body = files.get(path.removeprefix(RECIPE_FOLDER))
        if body is None:
            raise refusal(f"FileNotFoundError: [Errno 2] No such file or directory: '{path}'")
        return body
    recipes = [body for name, body in files.items() if name.endswith((".yaml", ".yml"))]
    if len(recipes) != 1:
        raise refusal(f"expected one recipe, found {sorted(files)}")
    return recipes[0]


def _check_hyperparameters(given: Mapping[str, str], model_type: str, model: JudgeModel) -> None:
    """The SDK copies both from the recipe; v3 leaves out `model_type`."""
    if given.get("model_type", model_type) != model_type:
        raise refusal(ENGINE)
    for key in ("base_model", "base_model_location"):
        if given.get(key, model.path) != model.path:
            raise refusal(ENGINE)


def _check_inference(inference: Mapping[str, Any], model_type: str) -> None:
    for key, (low, high) in BOUNDS.items():
        value = inference.get(key, low)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _invalid(f"inference.{key} must be a number, not {value!r}")
        if not low <= value <= high:
            raise _invalid(f"inference.{key} must be between {low} and {high}, not {value}")
    if inference.get("reasoning_effort") and "nova-2" not in model_type:
        raise _invalid(
            f"Reasoning mode is enabled but model '{model_type}' does not support reasoning"
        )


def read_rows(files: Mapping[str, bytes]) -> list[Row]:
    """Read the pairs.

    Args:
        files: Of the channel `train`, by path in its folder.

    Raises:
        ContainerError: Not the one file that the container takes, or a line that it does not.
    """
    if sorted(files) != [INPUT]:
        raise refusal(f"expected one file {INPUT}, found {sorted(files)}")
    rows = [
        _row(number, line)
        for number, line in enumerate(files[INPUT].split(b"\n"), 1)
        if line.strip()
    ]
    if not rows:
        raise refusal(f"{INPUT} holds no records")
    return rows


def _row(number: int, line: bytes) -> Row:
    try:
        row = json.loads(line)
    except ValueError:
        raise refusal(f"{INPUT} line {number} is not JSON") from None
    if not isinstance(row, dict) or sorted(row) != sorted(FIELDS):
        raise refusal(f"{INPUT} line {number}: expected the fields {', '.join(FIELDS)}")
    if not all(isinstance(row[field], str) for field in FIELDS):
        raise refusal(f"{INPUT} line {number}: every field must be a string")
    size = sum(len(row[field].encode(errors="replace")) for field in FIELDS)
    if size > MAX_TOKENS * BYTES_PER_TOKEN:
        raise refusal(f"{INPUT} line {number} is longer than {MAX_TOKENS} tokens")
    return row
