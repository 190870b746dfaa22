"""A request in, AWS's refusal out where it does not fit botocore's description of the operation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from include.sandbox.errors import validation


def check(service: str, operation: str, request: dict[str, Any]) -> None:
    """Check names, types, lengths, patterns and the values of enumerations.

    Raises:
        AwsError: ValidationException, as AWS words it.
    """
    from botocore.validate import ParamValidator

    shape = _shape(service, operation)
    report = ParamValidator().validate(request, shape)
    if report.has_errors():
        raise validation(report.generate_report())
    broken = list(_broken(shape, request, ""))
    if broken:
        noun = "error" if len(broken) == 1 else "errors"
        raise validation(f"{len(broken)} validation {noun} detected: {'; '.join(broken)}")


@cache
def _shape(service: str, operation: str) -> Any:
    import botocore.session

    model = botocore.session.get_session().get_service_model(service)
    return model.operation_model(operation).input_shape


def _broken(shape: Any, value: Any, path: str) -> Iterator[str]:
    """Yield every constraint that a value breaks, deep first."""
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            if name in value:
                yield from _broken(member, value[name], f"{path}.{name[0].lower()}{name[1:]}")
    elif shape.type_name == "list":
        yield from _length(shape, value, path)
        for number, item in enumerate(value, 1):
            yield from _broken(shape.member, item, f"{path}.{number}.member")
    elif shape.type_name == "map":
        for key, item in value.items():
            yield from _broken(shape.key, key, path)
            yield from _broken(shape.value, item, f"{path}.{key}.member")
    elif shape.type_name == "string":
        yield from _string(shape, value, path)
    elif shape.type_name in ("integer", "long", "float", "double"):
        low, high = shape.metadata.get("min"), shape.metadata.get("max")
        if low is not None and value < low:
            yield _told(value, path, f"value greater than or equal to {low}")
        if high is not None and value > high:
            yield _told(value, path, f"value less than or equal to {high}")


def _string(shape: Any, value: str, path: str) -> Iterator[str]:
    yield from _length(shape, value, path)
    if shape.enum and value not in shape.enum:
        yield _told(value, path, f"enum value set: [{', '.join(shape.enum)}]", "satisfy")
    pattern = shape.metadata.get("pattern")
    if pattern and not _matches(pattern, value):
        yield _told(value, path, f"regular expression pattern: {pattern}", "satisfy")


def _length(shape: Any, value: Any, path: str) -> Iterator[str]:
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if low is not None and len(value) < low:
        yield _told(value, path, f"length greater than or equal to {low}")
    if high is not None and len(value) > high:
        yield _told(value, path, f"length less than or equal to {high}")


def _told(value: Any, path: str, constraint: str, verb: str = "have") -> str:
    return (
        f"Value '{value}' at '{path.lstrip('.')}' failed to satisfy constraint: "
        f"Member must {verb} {constraint}"
    )


@cache
def _compiled(pattern: str) -> re.Pattern[str] | None:
    try:
        return re.compile(pattern, re.DOTALL)
    except re.error:
        return None  # Java's classes, which Python does not know


def _matches(pattern: str, value: str) -> bool:
    compiled = _compiled(pattern)
    return compiled is None or compiled.fullmatch(value) is not None
