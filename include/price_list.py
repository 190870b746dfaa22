"""AWS's Price List in, prices of instance types and Bedrock models out (Price List: GetProducts).

The usage types tell what a product is; other attributes differ from service to service. Their forms
are those that public price lists of 2026 have; whatever has another form counts as not found.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from datetime import date
from typing import Any

from include.prices import InstancePrices, ModelPrices, Prices

REGION = "us-east-1"
"""Where the Price List API is; it knows the prices of all regions."""

SAGEMAKER = "AmazonSageMaker"
BEDROCK = ("AmazonBedrock", "AmazonBedrockFoundationModels")
"""Service codes: Amazon's own and open models, and those of the marketplace, as Claude."""

HOURS = re.compile(r"(?:^|-)(?P<use>Host|Train):(?P<type>ml\.[a-z0-9.-]+)$")
USES = {"Host": "hosting", "Train": "training"}

TOKENS = (
    # USE1-NovaMicro-input-tokens-batch, USE1-qwen.qwen3-32b-mantle-input-tokens-standard
    re.compile(
        r"^[A-Z0-9]+-(?P<name>[^:]+?)(-mantle)?-(text-)?(?P<kind>input|output)-tokens"
        r"(?P<world>-cross-region-global)?(-standard|(?P<batch>-batch))?$"
    ),
    # USE1-MP:USE1_InputTokenCount_Global_Batch-Units
    re.compile(
        r"-MP:\w+?_(?P<name>)(?P<kind>Input|Output)TokenCount(?P<world>_Global)?"
        r"(?P<batch>_Batch)?-Units$"
    ),
    # USE1-MP:USE1_input_tokens_global_standard-Units
    re.compile(
        r"-MP:[A-Z0-9]+_(?P<name>)(?P<kind>input|output)_tokens(?P<world>_global)?"
        r"_(standard|(?P<batch>batch))-Units$"
    ),
)
PER_MILLION = {"1K tokens": 1000.0, "1M tokens": 1.0}
"""By the unit of a price."""

EDITION = " (Amazon Bedrock Edition)"
GEOGRAPHY = re.compile(r"^(us|eu|apac|jp|au|ca|us-gov|global)\.")
VERSION = re.compile(r"(-\d{8})?(-v\d+(:.*)?|-\d+:.*)?$")
Offers = dict[tuple[str, str], set[float]]
"""By what is priced and which of its prices it is."""


def fetch(
    pricing: Any, region: str, instance_types: Collection[str], models: Collection[str], day: date
) -> Prices:
    """Look up what some instance types and Bedrock models cost; what is not found is None.

    Args:
        pricing: boto3's client.
        region: Whose prices.
        instance_types: SageMaker's.
        models: Bedrock's model ids; a profile of a geography has the prices of its region.
        day: Today.
    """
    hours = _hours(_products(pricing, SAGEMAKER, region))
    tokens: Offers = defaultdict(set)
    for service in BEDROCK:
        for key, found in _tokens(_products(pricing, service, region)).items():
            tokens[key] |= found
    return Prices(
        priced_at=day,
        region=region,
        instances={
            each: InstancePrices(**{use: _only(hours, each, use) for use in USES.values()})
            for each in sorted(instance_types)
        },
        models={each: _model_prices(tokens, each) for each in sorted(models)},
    )


def _model_prices(tokens: Offers, model_id: str) -> ModelPrices:
    world = "global " if model_id.startswith("global.") else ""
    names = _names(model_id)
    known = next((name for name in names if any(key[0] == name for key in tokens)), names[0])
    return ModelPrices(
        **{field: _only(tokens, known, f"{world}{field}") for field in ModelPrices.model_fields}
    )


def _only(offers: Offers, what: str, which: str) -> float | None:
    """Return a price; None where there is none, or several."""
    found = offers.get((what, which), set())
    return next(iter(found)) if len(found) == 1 else None


def _names(model_id: str) -> list[str]:
    """Return what products may call a model: without its vendor, or with it.

    Example:
        >>> _names("us.anthropic.claude-sonnet-4-5-20250929-v1:0")
        ['claudesonnet45', 'anthropicclaudesonnet45']
    """
    whole = VERSION.sub("", GEOGRAPHY.sub("", model_id))
    return [_normal(whole.partition(".")[2] or whole), _normal(whole)]


def _normal(name: str) -> str:
    """Reduce a name to what its spellings have in common.

    Example:
        >>> _normal("Claude Sonnet 4.6 (Amazon Bedrock Edition)"), _normal("Llama 3.1 8B Instruct")
        ('claudesonnet46', 'llama318b')
    """
    lowered = name.removesuffix(EDITION).lower().replace("instruct", "")
    return re.sub(r"[^a-z0-9]", "", lowered)


def _products(pricing: Any, service: str, region: str) -> Iterator[tuple[Mapping[str, str], Any]]:
    """Yield every product's attributes and its prices on demand."""
    pages = pricing.get_paginator("get_products").paginate(
        ServiceCode=service,
        Filters=[{"Type": "TERM_MATCH", "Field": "regionCode", "Value": region}],
    )
    for page in pages:
        for text in page["PriceList"]:
            offer = json.loads(text)
            terms = offer.get("terms", {}).get("OnDemand", {}).values()
            dimensions = [d for term in terms for d in term["priceDimensions"].values()]
            yield offer["product"]["attributes"], dimensions


def _hours(products: Iterator[tuple[Mapping[str, str], Any]]) -> Offers:
    found: Offers = defaultdict(set)
    for attributes, dimensions in products:
        usage = HOURS.search(attributes.get("usagetype", ""))
        if usage:
            for each in dimensions:
                found[usage["type"], USES[usage["use"]]].add(float(each["pricePerUnit"]["USD"]))
    return found


def _tokens(products: Iterator[tuple[Mapping[str, str], Any]]) -> Offers:
    found: Offers = defaultdict(set)
    for attributes, dimensions in products:
        matches = (form.search(attributes.get("usagetype", "")) for form in TOKENS)
        usage = next(filter(None, matches), None)
        if usage is None:
            continue
        batch = usage["batch"] or "batch" in attributes.get("feature", "").lower()
        which = f"{'global ' if usage['world'] else ''}{'batch_' if batch else ''}"
        name = attributes.get("model") or usage["name"] or attributes.get("servicename", "")
        for each in dimensions:
            if each["unit"] in PER_MILLION:
                price = float(each["pricePerUnit"]["USD"]) * PER_MILLION[each["unit"]]
                found[_normal(name), f"{which}{usage['kind'].lower()}"].add(round(price, 9))
    return found
