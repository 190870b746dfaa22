"""The stacks in infra/, as tests read them."""

from typing import Any

import yaml
from sandbox_server import ROOT


class _CloudFormation(yaml.SafeLoader):
    """Reads `!Ref x` and its like as plain values."""


_CloudFormation.add_multi_constructor("!", lambda loader, tag, node: node.value)


def janitor(**values: str) -> Any:
    """Return infra/janitor.yaml, with values in the place of `${AWS::Name}`."""
    text = (ROOT / "infra" / "janitor.yaml").read_text()
    for name, value in values.items():
        text = text.replace(f"${{AWS::{name}}}", value)
    return yaml.load(text, _CloudFormation)
