"""Ids of Bedrock models in, what they lead to and whether they still live out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from include.config import ENDED, BedrockModel, RunConfig
from include.findings import Finding, attempt, code

PROFILE_REGIONS = ("us", "us-gov", "eu", "apac", "jp", "au", "ca", "global")
"""What inference profiles put before the id of the model that they lead to."""

GEOGRAPHIES = {
    "us": ("us", "us-gov", "global"),
    "eu": ("eu", "global"),
    "ap": ("apac", "jp", "au", "global"),
    "ca": ("ca", "us", "global"),
}
"""Profiles that may be asked from a region, by its first part."""

END = "end of its life"
"""What Bedrock says of a model that is no more."""

UNKNOWN = ("ResourceNotFoundException", "ValidationException")


def check(config: RunConfig, bedrock: Any) -> list[Finding]:
    """Ask Bedrock whether its models of the run still live (Bedrock: GetFoundationModel)."""
    return [
        finding
        for model in config.models
        if isinstance(model, BedrockModel)
        for finding in _model(model, bedrock, config.environment.region)
    ]


def _model(model: BedrockModel, bedrock: Any, region: str) -> list[Finding]:
    from botocore.exceptions import ClientError

    foundation = foundation_model(model.model_id)
    what = f"model {model.name}"
    if foundation is None:
        message = f"{model.model_id} is of the account's own making; its life is not looked at"
        return [Finding("warning", what, message)]

    def look() -> list[Finding]:
        try:
            details = bedrock.get_foundation_model(modelIdentifier=foundation)["modelDetails"]
        except ClientError as error:
            if code(error) not in UNKNOWN:
                raise
            message = f"Bedrock has no {foundation} in {region}: {_message(error)}"
            # A profile may lead to regions that have the model where this one has not.
            surely = model.model_id == foundation or END in _message(error)
            return [
                Finding("refused" if surely else "warning", what, message, _successor(foundation))
            ]
        kinds = details.get("inferenceTypesSupported") or ["ON_DEMAND"]
        if model.model_id == foundation and "ON_DEMAND" not in kinds:
            message = f"{foundation} answers through an inference profile only"
            fix = f"write us.{foundation}, or the prefix of your part of the world"
            return [Finding("refused", what, message, fix)]
        return [_lifecycle(what, model.model_id, details.get("modelLifecycle") or {})]

    return [*_geography(model, what, region), *attempt(what, "bedrock:GetFoundationModel", look)]


def _geography(model: BedrockModel, what: str, region: str) -> list[Finding]:
    """Warn of an inference profile that Bedrock hardly has in a region."""
    prefix, belongs = model.model_id.partition(".")[0], GEOGRAPHIES.get(region.partition("-")[0])
    if not belongs or prefix not in PROFILE_REGIONS or prefix in belongs:
        return []
    message = f"{model.model_id} is a profile of another part of the world than {region}"
    fix = f"write one that begins with {' or '.join(f'{each}.' for each in belongs)}"
    return [Finding("warning", what, message, fix)]


def led_to(model: BedrockModel, bedrock: Any) -> list[str]:
    """Return the ARNs of the models that an inference profile leads to, in all of its regions.

    Empty where the id is no profile's, or Bedrock does not tell (Bedrock: GetInferenceProfile).
    """
    from botocore.exceptions import BotoCoreError, ClientError

    named = model.model_id
    is_arn = named.startswith("arn:")
    is_profile = "profile/" in named if is_arn else named != foundation_model(named)
    if not is_profile:
        return []
    try:
        found = bedrock.get_inference_profile(inferenceProfileIdentifier=named)
    except (BotoCoreError, ClientError):
        return []
    return [each["modelArn"] for each in found["models"]]


def foundation_model(model_id: str) -> str | None:
    """Return the id of the foundation model behind a model's id, profile or ARN; None if unclear.

    Example:
        >>> foundation_model("us.anthropic.claude-sonnet-4-6")
        'anthropic.claude-sonnet-4-6'
        >>> foundation_model("arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-micro-v1:0")
        'amazon.nova-micro-v1:0'
    """
    if model_id.startswith("arn:"):
        kind, _, model_id = model_id.split(":", 5)[5].partition("/")
        if kind not in ("foundation-model", "inference-profile"):
            return None
    prefix, _, rest = model_id.partition(".")
    return rest if prefix in PROFILE_REGIONS else model_id


def _lifecycle(what: str, model_id: str, lifecycle: dict[str, Any]) -> Finding:
    end, fix = lifecycle.get("endOfLifeTime"), _successor(model_id)
    if end and end <= datetime.now(UTC):
        message = f"{model_id} reached its end of life on {end:%Y-%m-%d}"
        return Finding("refused", what, message, fix)
    if lifecycle.get("status") == "LEGACY":
        until = f" and ends on {end:%Y-%m-%d}" if end else ""
        message = f"{model_id} is legacy{until}; accounts that did not use it lately are refused"
        return Finding("warning", what, message, fix)
    return Finding("ok", what, f"{model_id} is {str(lifecycle.get('status', 'there')).lower()}")


def _successor(model_id: str) -> str:
    for part, date, successor in ENDED:
        if part in model_id:
            return f"it ended on {date}; use {successor}"
    return "choose one that `aws bedrock list-foundation-models` names as ACTIVE"


def _message(error: Any) -> str:
    return str(error.response["Error"].get("Message", ""))
