"""Two requests in, what differs between them out, leaf by leaf."""

import copy
import re
from typing import Any

from contract.cases import Json

ABSENT = "(absent)"

Differences = dict[str, tuple[Any, Any]]
"""Path of a leaf, e.g. `ResourceConfig.InstanceType`, to our value and the SDK's."""

OWN = re.compile(
    r"TrainingJobName|RoleArn|ExecutionRoleArn|ModelName|EndpointConfigName|EndpointName"
    r"|S3Uri|S3OutputPath|ModelDataUrl|sagemaker_recipe_local_path|MaxRuntimeInSeconds"
)
"""Leaves that every run has its own values for."""


def leaves(tree: Any, path: str = "") -> Json:
    """Flatten a request: path to value, for every leaf."""
    if isinstance(tree, dict) and tree:
        parts = [leaves(v, f"{path}.{k}" if path else k) for k, v in tree.items()]
    elif isinstance(tree, list) and tree:
        parts = [leaves(v, f"{path}[{i}]") for i, v in enumerate(tree)]
    else:
        return {path: tree}
    return {key: value for part in parts for key, value in part.items()}


def differences(ours: Json, theirs: Json) -> Differences:
    """Return every leaf that is not the same on both sides."""
    mine, yours = leaves(ours), leaves(theirs)
    pairs = {p: (mine.get(p, ABSENT), yours.get(p, ABSENT)) for p in sorted({*mine, *yours})}
    # 0 is not False, and 1 is not 1.0: AWS takes them for different types.
    return {p: (a, b) for p, (a, b) in pairs.items() if (type(a), a) != (type(b), b)}


def only_known(ours: Json, theirs: Json, known: Differences) -> None:
    """Fail on a difference without a reason, and on a reason without its difference."""
    found = differences(ours, theirs)
    lines = [
        f"{path}: ours and the SDK's are {found.get(path, 'equal')}, expected {known.get(path)}"
        for path in sorted({*found, *known})
        if found.get(path) != known.get(path)
    ]
    assert not lines, "\n".join(["", *lines])


def blurred(request: Json) -> Json:
    """Return the leaves of a request, with nothing in those that every run has its own for."""
    return {p: "(its own)" if OWN.search(p) else v for p, v in leaves(request).items()}


def replaced(request: Json, path: str, value: Any) -> Json:
    """Return a copy with one leaf replaced, or without it where the value is ABSENT."""
    changed = copy.deepcopy(request)
    steps = [int(s) if s.isdigit() else s for s in re.findall(r"[^.\[\]]+", path)]
    place: Any = changed
    for step in steps[:-1]:
        place = place[step]
    if value == ABSENT:
        del place[steps[-1]]
    else:
        place[steps[-1]] = value
    return changed


def other(value: Any) -> Any:
    """Return another value of the same type."""
    return not value if isinstance(value, bool) else value + ("x" if isinstance(value, str) else 1)
