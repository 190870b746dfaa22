"""Config files in, a RunConfig out; or one error that names every mistake and its line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

from include.config import (
    BedrockModel,
    Environment,
    Evaluation,
    Judge,
    Model,
    Parameters,
    ResponsesModel,
    RunConfig,
    SageMakerModel,
)
from include.errors import ConfigError
from include.files import MOST_LEVELS, Place, is_deep, is_there, read_yaml
from include.prices import Prices
from include.wording import by_line, printable, short

ROOT = Path(__file__).resolve().parent.parent / "dags"
"""Where `evaluations/`, `models/` and `environments/` are; $NOVA_JUDGE_CONFIG_DIR overrides it."""

EXAMPLE = "qwen-vs-claude.yaml"
"""The evaluation that `make run` and the trigger form start with."""

Checked = TypeVar("Checked", bound=BaseModel)


class _Source:
    """Where data came from: its name, and the line of each of its keys where there is a file."""

    def __init__(self, name: str, lines: Mapping[Place, int] | None = None) -> None:
        self.name = name
        self.lines = lines or {}

    def at(self, place: Place) -> str:
        while place and place not in self.lines:
            place = place[:-1]
        line = self.lines.get(place)
        return f"{self.name}:{line}" if line else self.name


def folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder that holds the three kinds of files."""
    return Path(environ.get("NOVA_JUDGE_CONFIG_DIR") or ROOT)


def evaluation_files() -> list[Path]:
    """Return the files of all evaluations that have a DAG of their own."""
    return sorted((folder() / "evaluations").glob("*.yaml"))


def example() -> dict[str, Any] | None:
    """Return the evaluation that comes with the project, None if it was deleted."""
    path = folder() / "evaluations" / EXAMPLE
    return load_evaluation(path) if is_there(path) else None


def read_config(path: Path) -> dict[str, Any]:
    """Read a YAML or JSON file that holds a mapping.

    Raises:
        ConfigError: Not there, not YAML, not a mapping, or a key is there twice.
    """
    return _read(path)[0]


def load_evaluation(path: Path) -> dict[str, Any]:
    """Read an evaluation's file and check what can be checked without the other files.

    Raises:
        ConfigError: Naming every mistake with its line.
    """
    data, source = _read(path)
    checked: Evaluation = _check(Evaluation, data, source)
    if checked.schedule:  # what Airflow gets of it has the types that it expects
        data["schedule"] = checked.schedule.model_dump(exclude_unset=True)
    return data


def check_file(kind: str, path: Path) -> None:
    """Check one file and all that it refers to.

    Args:
        kind: The folder that it lies in: environments, models or evaluations.
        path: The file.

    Raises:
        ConfigError: Naming every mistake with its line.
    """
    if kind == "environments":
        _load_prices(_load(folder(), kind, path.stem, Environment))
    elif kind == "models":
        _load_model(folder(), path.stem)
    else:
        resolve_config(load_evaluation(path), name=path.name)


SECTIONS = ("schedule", "dataset", "parameters", "generation", "judge", "gate")
"""Keys of an evaluation that are groups of keys."""


def overridden(evaluation: Mapping[str, Any], conf: Mapping[str, Any]) -> dict[str, Any]:
    """Return an evaluation in which the conf of a run has changed some keys.

    Sections are changed key by key: who raises the gate's margin keeps its rule. All else, models
    included, is taken as a whole.
    """
    changed = {**evaluation, **conf}
    for key in SECTIONS:
        known, wanted = evaluation.get(key), conf.get(key)
        if isinstance(known, Mapping) and isinstance(wanted, Mapping):
            changed[key] = {**known, **wanted}
    return changed


def resolve_config(
    conf: Mapping[str, Any], environ: Mapping[str, str] = os.environ, name: str = "conf"
) -> RunConfig:
    """Look up environment and models by name and put everything into one config.

    Args:
        conf: An evaluation: a file's content, or the conf of a run.
        environ: For NOVA_JUDGE_ENVIRONMENT and NOVA_JUDGE_CONFIG_DIR.
        name: What to call `conf` in errors.

    Raises:
        ConfigError: Naming every mistake that was found.
    """
    source = _Source(name)
    evaluation = _check(Evaluation, conf, source)
    chosen = chosen_environment(evaluation.environment, environ)
    home = folder(environ)
    problems: list[str] = []
    environment = _try(problems, lambda: _load(home, "environments", chosen, Environment))
    models: list[Any] = []
    for each in (evaluation.baseline, *evaluation.candidates):
        if isinstance(each, str):
            found = _try(problems, lambda each=each: _load_model(home, each))
        else:
            found = each
        models.append(found and _with_parameters(found, evaluation.parameters))
    prices = environment and _try(problems, lambda: _load_prices(environment))
    if environment:
        problems += _refused_tags(environment, any(getattr(m, "batch", False) for m in models))
    if problems:
        raise ConfigError(by_line("\n".join(problems).splitlines()))
    budgets = [each.budget_usd for each in (evaluation, environment) if each.budget_usd]
    resolved = {
        "evaluation": evaluation.evaluation,
        "environment": environment,
        "dataset": evaluation.dataset,
        "baseline": models[0],
        "candidates": models[1:],
        "comparison": evaluation.comparison,
        "generation": evaluation.generation,
        "judge": evaluation.judge,
        "gate": evaluation.gate,
        "alerts": evaluation.alerts,
        "prices": prices and prices.only(*priced(models, [evaluation.judge])),
        "budget_usd": min(budgets, default=None),
        "store_text": evaluation.store_text,
        "confidence_level": evaluation.confidence_level,
    }
    checked: RunConfig = _check(RunConfig, resolved, source)
    return checked


def environment_names() -> list[str]:
    """Return the names of all environments."""
    return _names(folder(), "environments")


def model_names() -> list[str]:
    """Return the names of all models that have a file."""
    return _names(folder(), "models")


def _names(home: Path, kind: str) -> list[str]:
    return sorted(path.stem for path in (home / kind).glob("*.yaml"))


def chosen_environment(name: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """Return which environment counts: the named one, $NOVA_JUDGE_ENVIRONMENT's, the sandbox."""
    return name or environ.get("NOVA_JUDGE_ENVIRONMENT") or "sandbox"


def load_environment(name: str, environ: Mapping[str, str] = os.environ) -> Environment:
    """Read one environment.

    Raises:
        ConfigError: No such file, or mistakes in it.
    """
    return _load(folder(environ), "environments", name, Environment)


def load_model(name: str, environ: Mapping[str, str] = os.environ) -> Any:
    """Read one model.

    Raises:
        ConfigError: No such file, or mistakes in it.
    """
    return _load_model(folder(environ), name)


def price_file(environment: Environment) -> Path | None:
    """Return where an environment's price file is; None where there is none.

    A relative path begins in the working folder or at the project's root, as a data set's does.
    """
    given = environment.prices
    # The last one where only the files in dags/ are where the project's root would be (MWAA).
    places = (Path(given), ROOT.parent / given, folder().parent / given) if given else ()
    return next((path for path in places if is_there(path)), None)


def _with_parameters(model: Any, shared: Parameters) -> Any:
    if isinstance(model, ResponsesModel):
        return model
    merged = {
        "max_tokens": 512,
        **shared.model_dump(exclude_unset=True),
        **model.parameters.model_dump(exclude_unset=True),
    }
    return model.model_copy(update={"parameters": Parameters.model_validate(merged)})


def _load_model(home: Path, name: str) -> Any:
    path = _find(home, "models", name)
    data, source = _read(path)
    return _check(TypeAdapter(Model), {"name": name, **data}, source)


def _load(home: Path, kind: str, name: str, cls: type[Checked]) -> Checked:
    path = _find(home, kind, name)
    data, source = _read(path)
    checked: Checked = _check(cls, {"name": name, **data}, source)
    return checked


def _load_prices(environment: Environment) -> Prices | None:
    """Read the price file of an environment, if it names one.

    Raises:
        ConfigError: It is not there, has mistakes, or is of another region.
    """
    if environment.prices is None:
        return None
    path = price_file(environment)
    if path is None:
        raise ConfigError(
            f"environment {environment.name}: there is no price file "
            f"{printable(environment.prices)[:500]}; "
            f"make prices ENV={environment.name} writes one"
        )
    data, source = _read(path)
    prices: Prices = _check(Prices, data, source)
    if prices.region != environment.region:
        raise ConfigError(
            f"{source.at(('region',))}: region: these are prices of {prices.region}, and "
            f"environment {environment.name} is in {environment.region}"
        )
    return prices


def priced(models: Iterable[Any], judges: Iterable[Judge]) -> tuple[set[str], set[str]]:
    """Return the instance types and the Bedrock models that have to be paid for."""
    known = list(models)
    deployed = [m.deploy for m in known if isinstance(m, SageMakerModel) and m.deploy]
    types = {each for deploy in deployed for each in deploy.instance_types}
    types |= {each.instance_type for judge in judges for each in (judge, judge.second) if each}
    return types, {model.model_id for model in known if isinstance(model, BedrockModel)}


def _find(home: Path, kind: str, name: str) -> Path:
    path = home / kind / f"{name}.yaml"
    if not is_there(path):
        known = _names(home, kind)
        raise ConfigError(
            f"there is no {kind[:-1]} {short(name)}{_nearest(name, known)}; "
            f"{home / kind} has {', '.join(known) or 'none'}"
        )
    return path


MOST_TAGS = 40
SIGNS = "_.:/=+-@ "
"""Besides letters and digits, what keys and values of tags may hold (SageMaker: Tag)."""


def _refused_tags(environment: Environment, is_batched: bool) -> Iterator[str]:
    """Yield what AWS would refuse when something is made, late and perhaps when it has cost money.

    Args:
        environment: Whose tags.
        is_batched: Whether Bedrock's batch jobs get them, too, which take ASCII only (TagKey).
    """
    where = f"environment {environment.name}: tags"
    if len(environment.tags) > MOST_TAGS:
        yield f"{where}: {len(environment.tags)} are there, and {MOST_TAGS} have room beside ours"
    for key, value in environment.tags.items():
        for text, what, most in ((key, "a key", 128), (value, "a value", 256)):
            allowed = all(each.isalnum() or each in SIGNS for each in text)
            if is_batched and not text.isascii():
                yield f"{where}.{key}: Bedrock's batch jobs take ASCII only, found {text!r}"
            elif not allowed or len(text) > most:
                signs = f"at most {most} letters, digits, spaces and {SIGNS.strip()}"
                yield f"{where}.{key}: {what} has {signs}, found {text!r}"
        if not key or key.lower().startswith("aws:"):
            yield f"{where}: {key!r} is no key: AWS keeps those that begin with aws: for itself"


def _try(problems: list[str], look: Any) -> Any:
    try:
        return look()
    except ConfigError as error:
        problems.append(str(error))
        return None


def _read(path: Path) -> tuple[dict[str, Any], _Source]:
    name = printable(path.name)
    try:
        document = read_yaml(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} cannot be read: expected UTF-8: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    except ValueError as error:
        raise ConfigError(f"{name} is not YAML or JSON: {error}") from None
    if document.twice:
        twice = (f"{name}:{n}: {printable(key)} is there twice" for key, n in document.twice)
        raise ConfigError(by_line(twice))
    data = document.data
    if not isinstance(data, dict):
        raise ConfigError(f"{name}: expected keys and values, found {type(data).__name__}")
    return data, _Source(name, document.lines)


def _check(cls: Any, data: Any, source: _Source) -> Any:
    """Validate data; turn pydantic's errors into lines that a person can act on."""
    if is_deep(data):
        raise ConfigError(f"{source.name}: keys are nested more than {MOST_LEVELS} deep")
    try:
        return (
            cls.validate_python(data) if isinstance(cls, TypeAdapter) else cls.model_validate(data)
        )
    except ValidationError as error:
        model = Model if isinstance(cls, TypeAdapter) else cls
        problems = dict.fromkeys(
            _problem(model, data, each, source) for each in error.errors() if not _beside(each)
        )
        raise ConfigError(by_line(problems)) from None


def _beside(error: Any) -> bool:
    """Whether an error is about the other half of "a name or a model inline"."""
    in_union = error["loc"][:1] in (("baseline",), ("candidates",))
    if isinstance(error["input"], Mapping):
        return bool(in_union and error["type"] == "string_type" and len(error["input"]))
    return bool(in_union and error["type"] == "model_attributes_type")


def _problem(model: Any, data: Any, error: Any, source: _Source) -> str:
    place, known = _walk(model, data, error["loc"], missing=error["type"] == "missing")
    if error["type"].startswith("union_tag"):
        place = (*place, "provider")
    key = ".".join(map(str, place))
    where = source.at(place)
    if error["type"] == "extra_forbidden":
        name = str(place[-1])
        message = f"there is no such key{_nearest(name, known)} (known: {', '.join(known)})"
    elif error["type"] == "missing":
        message = "is needed"
    elif error["type"].startswith("union_tag"):
        tag = error["ctx"].get("tag")
        message = f"expected sagemaker, bedrock or responses, found {tag or 'nothing'}"
    elif error["type"] == "string_type" and place[-1:] == ("account_id",):
        message = "expected 12 digits in quotes; without quotes YAML reads a number"
    elif error["type"] == "string_type" and isinstance(error["input"], Mapping):
        message = (
            f"expected text; one that begins with {{ needs quotes, found {short(error['input'])}"
        )
    elif error["type"] in WANTED:
        message = f"{WANTED[error['type']]}, found {_found(error['input'])}"
    else:
        message = re.sub("^(Value error, |Input |String )", "", error["msg"])
        if error["type"] != "value_error":
            message += f", found {short(error['input'])}"
    return f"{where}: {printable(key) + ': ' if key else ''}{message}"


WANTED = {
    "string_type": "expected text; write it in quotes",
    "list_type": "expected a list, such as [a, b]",
    "model_type": "expected keys with their values",
    "model_attributes_type": "expected keys with their values",
    "dict_type": "expected keys with their values",
    "date_from_datetime_inexact": "expected a day, such as 2026-01-31",
    "date_from_datetime_parsing": "expected a day, such as 2026-01-31",
    "date_type": "expected a day, such as 2026-01-31",
}
"""By pydantic's kind of error, what to write instead."""


def _found(value: Any) -> str:
    if value is None:
        return "nothing: write it, or take the line away; what begins with # needs quotes"
    if isinstance(value, int | float | date) and not isinstance(value, bool):
        return f"{value} (read as {type(value).__name__})"
    return short(value)


def _walk(model: Any, data: Any, loc: tuple[Any, ...], missing: bool) -> tuple[Place, list[str]]:
    """Follow pydantic's location through data and types: the keys on the way, and those allowed.

    Pydantic also names the member of a union on the way; those parts are not keys.
    """
    place: list[str | int] = []
    known: list[str] = []
    here: Any = model
    for index, part in enumerate(loc):
        options = [cls for cls in _classes(here) if _accepts(cls, data)]
        absent = missing and index == len(loc) - 1
        is_key = isinstance(data, Mapping) and (part in data or absent)
        is_index = isinstance(data, list) and isinstance(part, int) and part < len(data)
        if not is_key and not is_index:
            continue  # the member of a union
        place.append(part)
        if is_key and get_origin(here) is dict:  # any key, one kind of value
            here, data, known = get_args(here)[1], data[part], []
            continue
        if is_key:
            fields = {
                (field.alias or name): field.annotation
                for cls in options
                for name, field in cls.model_fields.items()
            }
            known = sorted(fields)
            here, data = fields.get(part), data.get(part)
        else:
            data = data[part]
    return tuple(place), known


def _classes(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [cls for argument in get_args(annotation) for cls in _classes(argument)]


def _accepts(cls: type[BaseModel], data: Any) -> bool:
    """Whether data is meant to be of this class, by its `provider` where there is one."""
    field = cls.model_fields.get("provider")
    if (
        field is None
        or not isinstance(data, Mapping)
        or get_origin(field.annotation) is not Literal
    ):
        return True
    return data.get("provider") in get_args(field.annotation)


def _nearest(name: str, choices: list[str]) -> str:
    close = get_close_matches(name, choices, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
