"""Price List: GetProducts, with products in AWS's form. All prices are invented."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from include.sandbox.errors import AwsError, validation
from include.sandbox.listing import cut
from include.sandbox.settings import INSTANCE_SIZES, INSTANCE_TYPES
from include.sandbox.shapes import check

Request = dict[str, Any]

PREFIXES = {"us-east-1": "USE1", "us-west-2": "USW2", "ap-northeast-1": "APN1"}
"""How usage types begin, by the regions that have prices here."""

OWN = {"Nova Micro": (0.04, 0.16), "Nova Lite": (0.08, 0.32), "Nova Pro": (1.0, 4.0)}
MARKETPLACE = {"Claude Sonnet 4.6": (4.0, 20.0), "Claude Haiku 4.5": (1.5, 7.5)}
"""Input and output per million tokens."""


def answer(operation: str, request: Request) -> Request:
    """Answer one operation.

    Raises:
        AwsError: What AWS refuses.
    """
    if operation != "GetProducts":
        raise AwsError("UnknownOperationException", f"the sandbox has no {operation}")
    check("pricing", operation, request)
    wanted = {}
    for each in request.get("Filters", []):
        if each["Type"] not in ("TERM_MATCH", "EQUALS"):
            raise validation(f"the sandbox has no filter of type {each['Type']}")
        wanted[each["Field"]] = each["Value"]
    offers = [
        json.dumps(offer)
        for offer in _offers(request["ServiceCode"])
        if all(offer["product"]["attributes"].get(key) == value for key, value in wanted.items())
    ]
    return {"FormatVersion": "aws_v1", **cut(request, "PriceList", offers, page_size=100)}


def _offers(service: str) -> Iterator[Request]:
    for region, prefix in PREFIXES.items():
        if service == "AmazonSageMaker":
            yield from _instances(service, region, prefix)
        elif service == "AmazonBedrock":
            yield from _own_models(service, region, prefix)
        elif service == "AmazonBedrockFoundationModels":
            yield from _marketplace(service, region, prefix)


def _instances(service: str, region: str, prefix: str) -> Iterator[Request]:
    for instance_type in INSTANCE_TYPES:
        size = INSTANCE_SIZES.index(instance_type.rsplit(".", 1)[1])
        hourly = float(size + 1)
        for usage, component, price in (
            ("Train", "Training", hourly),
            ("Host", "Hosting", 1.1 * hourly),
            ("Notebk", "Notebook", 0.9 * hourly),
        ):
            attributes = {"instanceName": instance_type, "component": component}
            usage_type = f"{prefix}-{usage}:{instance_type}"
            yield _offer(service, region, usage_type, attributes, price, "Hrs")


def _own_models(service: str, region: str, prefix: str) -> Iterator[Request]:
    for name, prices in OWN.items():
        for kind, price in zip(("input", "output"), prices, strict=True):
            usage_type = f"{prefix}-{name.replace(' ', '')}-{kind}-tokens"
            told = {"model": name, "inferenceType": f"{kind.capitalize()} tokens"}
            for end, feature, share in (
                ("", "On-demand Inference", 1.0),
                ("-batch", "Batch Inference", 0.5),
                ("-priority", "On-demand Inference", 1.75),
                ("-custom-model", "On-demand Inference", 1.0),
            ):
                attributes = {**told, "feature": feature}
                each = share * price / 1000
                yield _offer(service, region, usage_type + end, attributes, each, "1K tokens")


def _marketplace(service: str, region: str, prefix: str) -> Iterator[Request]:
    for name, prices in MARKETPLACE.items():
        attributes = {"servicename": f"{name} (Amazon Bedrock Edition)"}
        for kind, price in zip(("Input", "Output"), prices, strict=True):
            for usage, share in (
                (f"{kind}TokenCount", 1.0),
                (f"{kind}TokenCount_Batch", 0.5),
                (f"{kind}TokenCount_Global", 0.9),
                (f"{kind}TokenCount_Global_Batch", 0.45),
                (f"CacheRead{kind}TokenCount", 0.1),
            ):
                usage_type = f"{prefix}-MP:{prefix}_{usage}-Units"
                each = share * price
                yield _offer(service, region, usage_type, attributes, each, "1M tokens")


def _offer(
    service: str,
    region: str,
    usage_type: str,
    attributes: dict[str, str],
    price: float,
    unit: str,
) -> Request:
    sku = hashlib.sha256(usage_type.encode()).hexdigest()[:16].upper()
    dimension = {
        "unit": unit,
        "beginRange": "0",
        "endRange": "Inf",
        "description": f"an invented price per {unit}",
        "appliesTo": [],
        "rateCode": f"{sku}.JRTCKXETXF.6YS6EN2CT7",
        "pricePerUnit": {"USD": f"{price:.10f}"},
    }
    term = {
        "priceDimensions": {dimension["rateCode"]: dimension},
        "sku": sku,
        "effectiveDate": "2026-01-01T00:00:00Z",
        "offerTermCode": "JRTCKXETXF",
        "termAttributes": {},
    }
    return {
        "product": {
            "productFamily": "ML Instance" if unit == "Hrs" else "Amazon Bedrock",
            "attributes": {
                "regionCode": region,
                "servicecode": service,
                "servicename": service,
                "usagetype": usage_type,
                **attributes,
            },
            "sku": sku,
        },
        "serviceCode": service,
        "terms": {"OnDemand": {f"{sku}.JRTCKXETXF": term}},
        "version": "20260101000000",
        "publicationDate": "2026-01-01T00:00:00Z",
    }
