"""A recipe's name, path or URI and overrides in, the recipe that SageMaker gets out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from include import judge_table
from include.errors import ConfigError, unread
from include.files import is_deep, read_yaml
from include.wording import by_line, printable, short

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
"""Keys that AWS's recipes mark as unmodifiable: no override changes them."""

RUBRIC_ONLY = ("max_new_tokens", "reasoning_effort")
"""Keys of `inference` that only the rubric judge takes."""

Recipe = dict[str, dict[str, Any]]

Read = Callable[[str], bytes]
"""Returns what is behind an S3 URI."""

Text = Annotated[str, Field(description="a text")]
Empty = Annotated[Literal[""], Field(description='"", as for every training job')]


class _Section(BaseModel):
    """Nothing is converted: what the file says is what the container gets."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Run(_Section):
    """Which model judges, on how many instances."""

    name: str = Field(min_length=1, description="a name, the top folder of the job's output")
    model_type: str = Field(description="a model that judges")
    model_name_or_path: str = Field(description="the path that belongs to the model_type")
    replicas: int = Field(ge=1, le=16, description="a whole number from 1 to 16")
    data_s3_path: Empty = ""
    output_s3_path: Empty = ""
    mlflow_tracking_uri: Text = ""
    mlflow_experiment_name: Text = ""
    mlflow_run_name: Text = ""


class Evaluation(_Section):
    """What the container does; there is no choice beyond the task."""

    task: Literal["llm_judge", "rubric_llm_judge"] = Field(
        description="llm_judge or rubric_llm_judge"
    )
    strategy: Literal["judge"] = Field(description="judge")
    metric: Literal["all"] = Field(description="all")


class Inference(_Section):
    """How the judge samples."""

    max_new_tokens: int = Field(
        32_768, ge=1, le=32_768, description="a whole number from 1 to 32768"
    )
    top_k: int = Field(50, ge=-1, description="a whole number, -1 for no limit")
    top_p: float = Field(1.0, ge=0, le=1, description="a number from 0 to 1")
    temperature: float = Field(0.0, ge=0, le=2, description="a number from 0 to 2")
    top_logprobs: int = Field(0, ge=0, le=20, description="a whole number from 0 to 20")
    reasoning_effort: Literal["low", "high"] | None = Field(None, description="null, low or high")


class Schema(_Section):
    """AWS's schema of a judge's recipe."""

    run: Run = Field(description="a section")
    evaluation: Evaluation = Field(description="a section")
    inference: Inference = Field(description="a section")


SECTIONS: dict[str, type[_Section]] = {"run": Run, "evaluation": Evaluation, "inference": Inference}
KEYS = [f"{section}.{key}" for section, model in SECTIONS.items() for key in model.model_fields]


def names() -> list[str]:
    """Return the names of the recipes that the project carries."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(
    name: str, overrides: Mapping[str, Any] | None = None, *, read: Read | None = None
) -> Recipe:
    """Read a recipe, check it against AWS's schema and apply overrides.

    Args:
        name: One of `names()`; or a YAML file of one's own, relative to the project's root or
            absolute; or an `s3://` URI.
        overrides: The recipe's own shape, e.g. `{"inference": {"top_p": 0.9}}`.
        read: Reads S3; without it an `s3://` URI is refused.

    Returns:
        The recipe's sections.

    Raises:
        ConfigError: No such recipe, or naming everything in it or in the overrides that AWS's
            container would refuse.
    """
    return override(_parse(_content(name, read), name), overrides or {}, name=name)


def load_here(name: str, overrides: Mapping[str, Any]) -> Recipe | None:
    """Return a recipe as `load` does; None if it lies on S3, where commands do not look.

    Raises:
        ConfigError: As `load`.
    """
    return None if name.startswith("s3://") else load(name, overrides)


def override(recipe: Recipe, overrides: Mapping[str, Any], *, name: str = "recipe") -> Recipe:
    """Return a copy of the recipe with overrides applied.

    Raises:
        ConfigError: Naming every override that cannot be applied.
    """
    wanted = dict(_items(overrides))
    problems = [problem for key in wanted if (problem := _refusal(key))]
    if problems:
        raise ConfigError(by_line(problems))
    changed = copy.deepcopy(recipe)
    for key, value in wanted.items():
        section, _, last = key.partition(".")
        changed[section][last] = value
    _check(
        changed, lambda key: f"{'judge.overrides.' if key in wanted else f'recipe {name}: '}{key}"
    )
    return changed


def to_yaml(recipe: Recipe) -> str:
    """Serialise a recipe for its channel of the training job."""
    return yaml.safe_dump(recipe, sort_keys=False)


def from_yaml(body: bytes) -> Recipe:
    """Read what `to_yaml` wrote."""
    recipe: Recipe = yaml.safe_load(body)
    return recipe


def _content(name: str, read: Read | None) -> bytes:
    if name.startswith("s3://"):
        return _from_s3(name, read)
    if name in names():
        return (FOLDER / f"{name}.yaml").read_bytes()
    if not name.endswith((".yaml", ".yml")):
        raise ConfigError(
            f"judge.recipe: there is no recipe {short(name)}{_nearest(name, names())}; the recipes "
            f"are {', '.join(names())}; one of your own is a .yaml file or an s3:// URI"
        )
    path = FOLDER.parent / name
    try:
        return (FOLDER.parent / Path(name).expanduser()).read_bytes()
    except (OSError, ValueError, RuntimeError) as error:  # the last two: no path, nobody's home
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(
            f"judge.recipe: {printable(str(path))[:500]} cannot be read: {why}; "
            "a relative path begins at the project's root"
        ) from None


def _from_s3(uri: str, read: Read | None) -> bytes:
    from botocore.exceptions import BotoCoreError, ClientError

    if read is None:
        raise ConfigError(f"judge.recipe: {uri} can be read only where there is a way to AWS")
    try:
        return read(uri)
    except (BotoCoreError, ClientError) as error:
        raise unread(f"judge.recipe: {uri} cannot be read", error, ConfigError) from error


def _parse(body: bytes, name: str) -> Recipe:
    try:
        recipe = read_yaml(body.decode("utf-8")).data
    except ValueError as error:
        raise ConfigError(f"recipe {name}: expected YAML: {error}") from error
    if not isinstance(recipe, dict) or is_deep(recipe):
        raise ConfigError(f"recipe {name}: expected the sections {', '.join(SECTIONS)}")
    _check(recipe, lambda key: f"recipe {name}: {key}")
    return recipe


def _check(recipe: dict[str, Any], place: Callable[[str], str]) -> None:
    """Raise one error for all that is wrong; `place` says where a key comes from."""
    try:
        Schema.model_validate(recipe)
        problems = list(_mismatches(recipe))
    except ValidationError as error:
        problems = [_explain(problem) for problem in error.errors()]
    if problems:
        raise ConfigError(by_line(f"{place(printable(key))}: {said}" for key, said in problems))


def _explain(problem: Any) -> tuple[str, str]:
    key = ".".join(map(str, problem["loc"]))
    if problem["type"] in ("extra_forbidden", "invalid_key"):
        return key, f"a judge's recipe has no such key{_nearest(key, KEYS)}"
    expected = _expected(problem["loc"])
    if problem["type"] == "missing":
        return key, f"is missing; expected {expected}"
    return key, f"expected {expected}, is {short(problem['input'])}"


def _expected(place: tuple[int | str, ...]) -> str:
    if not place:
        return "text as keys"
    fields = Schema.model_fields if len(place) == 1 else SECTIONS[str(place[0])].model_fields
    return fields[str(place[min(1, len(place) - 1)])].description or "something else"


def _mismatches(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Yield keys that do not go together: the container would fail with them."""
    run, task = recipe["run"], recipe["evaluation"]["task"]
    model_type, path = run["model_type"], run["model_name_or_path"]
    judges = {judge.model_type: judge for judge in judge_table.table().judges}
    if model_type not in judges:
        near = _nearest(model_type, list(judges))
        yield "run.model_type", f"expected one of {', '.join(judges)}, is {short(model_type)}{near}"
        return
    own_path, own_task = judges[model_type].model_name_or_path, judges[model_type].task
    if task != own_task:
        yield "evaluation.task", f"expected {own_task} for {model_type}, is {task!r}"
    if path != own_path and not path.startswith("s3://"):
        expected = f"{own_path} or the s3:// URI of a checkpoint of it for {model_type}"
        yield "run.model_name_or_path", f"expected {expected}, is {short(path)}"
    if own_task != "rubric_llm_judge":
        for key in RUBRIC_ONLY:
            if key in recipe["inference"]:
                yield f"inference.{key}", f"does not exist for {model_type}; leave it out"


def _refusal(key: str) -> str | None:
    """Say why no override may have this key, whatever its value."""
    if key in FIXED:
        return (
            f"judge.overrides.{key}: the judge's container does not let this be changed; "
            "a checkpoint needs a recipe of your own"
            if key == "run.model_name_or_path"
            else f"judge.overrides.{key}: the judge's container does not let this be changed"
        )
    if key in KEYS:
        return None
    free = sorted(set(KEYS) - FIXED)
    return f"judge.overrides.{key}: the recipe has no such key{_nearest(key, free)}"


def _items(tree: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield every key of every section, with its section's name before it."""
    for section, keys in tree.items():
        if section not in SECTIONS or not isinstance(keys, Mapping):
            yield str(section), keys
            continue
        for key, value in keys.items():
            yield f"{section}.{key}", value


def _nearest(name: str, choices: list[str]) -> str:
    """Suggest what was meant; a key without or in a wrong section is known by its last part."""
    close = get_close_matches(name, choices, n=1)
    last = name.rpartition(".")[2]
    close = [choice for choice in choices if choice.rpartition(".")[2] == last] or close
    return f"; did you mean {close[0]!r}?" if close else ""
