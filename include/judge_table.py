"""A judge's model, task, instance type and region in, what is wrong with them out.

The facts are in judge_table.yaml, dated; $NOVA_JUDGE_TABLE names another file of the same form.
"""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from pydantic import Field, ValidationError

from include.errors import ConfigError
from include.files import read_yaml
from include.strict import Strict

FILE = Path(__file__).with_suffix(".yaml")
VARIABLE = "NOVA_JUDGE_TABLE"

FAMILY_WITH_DISK = re.compile(r"^[a-z]+\d+[a-z]*d[a-z]*$")
"""A d among the attributes behind the generation: instance store volumes (EC2's naming rules)."""

REPOSITORY = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com[a-z.]*/"
    r"(?P<name>[^:@]+)(:(?P<tag>[^@]+))?(@(?P<digest>sha256:[0-9a-f]{64}))?"
)
"""An image in one of AWS's registries."""


class Image(Strict):
    """The judge's container."""

    repository: str
    tag: str
    accounts: dict[str, str] = Field(description="Account of AWS's registry by region.")


class JudgeModel(Strict):
    """One model with its task, and where it runs."""

    recipe: str
    model_type: str
    model_name_or_path: str
    task: str
    instance_types: list[str] = Field(min_length=1)


class Table(Strict):
    """Everything that the judge runs on, as of a day."""

    as_of: datetime.date
    image: Image
    judges: list[JudgeModel] = Field(min_length=1)
    local_storage_families: list[str]


def table() -> Table:
    """Return the table: the project's own, or the one that $NOVA_JUDGE_TABLE names.

    Raises:
        ConfigError: The file cannot be read, or a key in it is wrong.
    """
    return _read(Path(os.environ.get(VARIABLE) or FILE))


@cache
def _read(path: Path) -> Table:
    try:
        return Table.model_validate(read_yaml(path.read_text(encoding="utf-8")).data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{VARIABLE}: {path}: {key}: {first['msg']}; see {FILE.name}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{VARIABLE}: {path} cannot be read: {error}") from None


def image_uri(region: str) -> str | None:
    """Return the judge's container for a region, None where AWS publishes none."""
    image = table().image
    account = image.accounts.get(region)
    if account is None:
        return None
    return f"{account}.dkr.ecr.{region}.amazonaws.com/{image.repository}:{image.tag}"


def regions() -> list[str]:
    """Return the regions in which AWS publishes the judge's container."""
    return sorted(table().image.accounts)


def has_local_storage(instance_type: str) -> bool:
    """Whether an instance type has disks of its own, which no KMS key of ours encrypts.

    CreateTrainingJob refuses a `VolumeKmsKeyId` for them (API reference, ResourceConfig).

    Example:
        >>> has_local_storage("ml.g5.12xlarge"), has_local_storage("ml.m5.large")
        (True, False)
    """
    family = instance_type.removeprefix("ml.").partition(".")[0]
    return family in table().local_storage_families or bool(FAMILY_WITH_DISK.match(family))


def check(
    model_type: str, task: str, instance_type: str, region: str, image: str | None = None
) -> list[str]:
    """Say what of a judge AWS does not offer, each with the nearest choice that it does.

    Args:
        model_type: The recipe's `run.model_type`.
        task: The recipe's `evaluation.task`.
        instance_type: Where the job is to run.
        region: Where the environment is.
        image: The environment's own container; None for AWS's.

    Returns:
        Sentences, none if all is well.
    """
    return [
        *_model_problems(model_type, task, instance_type),
        *_image_problems(region, image),
    ]


def _model_problems(model_type: str, task: str, instance_type: str) -> list[str]:
    judges = table().judges
    of_model = [judge for judge in judges if judge.model_type == model_type]
    if not of_model:
        known = [judge.model_type for judge in judges]
        return [f"{model_type} is no judge{_choices(model_type, known)}"]
    fitting = [judge for judge in of_model if judge.task == task]
    if not fitting:
        tasks = [judge.task for judge in of_model]
        others = [judge.recipe for judge in judges if judge.task == task]
        instead = f", or use the recipe {' or '.join(others)}" if others else ""
        return [f"{model_type} has no task {task}{_choices(task, tasks)}{instead}"]
    possible = [each for judge in fitting for each in judge.instance_types]
    if instance_type in possible:
        return []
    return [f"{model_type} does not run on {instance_type}{_choices(instance_type, possible)}"]


def _image_problems(region: str, image: str | None) -> list[str]:
    if image is None:
        if image_uri(region):
            return []
        return [
            f"AWS publishes the judge's container in {', '.join(regions())}, not in {region}; "
            "run there, or set the environment's judge_image_uri"
        ]
    registry = REPOSITORY.match(image)
    if registry and registry["region"] != region:
        return [
            f"judge_image_uri is in {registry['region']}, and SageMaker takes images of {region} "
            "only; " + (f"use {image_uri(region)}" if image_uri(region) else "copy it there")
        ]
    return []


def _choices(given: str, known: Sequence[str]) -> str:
    nearest = get_close_matches(given, known, n=len(known), cutoff=0.0)
    return f"; as of {table().as_of} there is {', '.join(nearest)}"
