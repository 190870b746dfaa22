"""The base of what reads files that people write: unknown keys are errors, truth is no number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, model_validator


class Strict(BaseModel):
    """Unknown keys are errors, and nothing changes once it is read."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _truth_is_no_number(cls, data: Any) -> Any:
        """Make true and false the words that they are where a number is wanted."""
        if not isinstance(data, Mapping):
            return data
        return {
            name: str(value).lower() if isinstance(value, bool) and cls._counts(name) else value
            for name, value in data.items()
        }

    @classmethod
    def _counts(cls, name: str) -> bool:
        field = cls.model_fields.get(name)
        kinds = _kinds(field.annotation) if field else set()
        return bool(kinds & {int, float}) and bool not in kinds


def _kinds(annotation: Any) -> set[Any]:
    """Return the types that an annotation is made of."""
    inner = get_args(annotation)
    return set().union(*map(_kinds, inner)) if inner else {annotation}
