"""Service Quotas: instances of SageMaker's jobs and endpoints, records of Bedrock's batch jobs."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from typing import Any

from include.sandbox.errors import AwsError
from include.sandbox.listing import cut
from include.sandbox.s3_store import ACCOUNT
from include.sandbox.settings import BATCH_MINIMUM, BATCH_MODELS, QUOTAS, RECORDS
from include.sandbox.shapes import check

Request = dict[str, Any]

SERVICES = {"sagemaker": "Amazon SageMaker", "bedrock": "Amazon Bedrock"}
"""Service codes that are ours to answer, and AWS's names of the services."""


class Quotas:
    """Answers Service Quotas' operations, and refuses what exceeds one."""

    def __init__(self, changed: Mapping[str, int]) -> None:
        self._values = {**QUOTAS, **changed}
        self._requested: list[Request] = []

    def refuse_beyond(self, instance_type: str, usage: str, used: int, wanted: int) -> None:
        """Refuse a request for more instances than are left.

        Raises:
            AwsError: ResourceLimitExceeded.
        """
        name = f"{instance_type} for {usage} usage"
        limit = self._values.get(name)
        if limit is None or used + wanted <= limit:
            return
        raise AwsError(
            "ResourceLimitExceeded",
            f"The account-level service limit '{name}' is {limit} Instances, with current "
            f"utilization of {used} Instances and a request delta of {wanted} Instances. Please "
            "use AWS Service Quotas to request an increase for this quota. If AWS Service Quotas "
            "is not available, contact AWS support to request an increase for this quota.",
        )

    def batch_minimum(self, model: str) -> int:
        """Return how many records a batch job of a model needs; AWS's default for unknown ones."""
        known = next((name for part, name in BATCH_MODELS.items() if part in model), None)
        return self._values[f"{BATCH_MINIMUM}{known}"] if known else RECORDS

    def answer(self, operation: str, request: Request, region: str) -> Request:
        """Answer one operation for one of our service codes.

        Raises:
            AwsError: What AWS refuses.
        """
        handlers = {
            "ListServiceQuotas": self._list,
            "ListAWSDefaultServiceQuotas": self._list_defaults,
            "GetServiceQuota": self._get,
            "GetAWSDefaultServiceQuota": self._get_default,
            "RequestServiceQuotaIncrease": self._request_increase,
        }
        if operation not in handlers:
            raise AwsError("UnknownOperationException", f"the sandbox has no {operation}")
        check("service-quotas", operation, request)
        return handlers[operation](request, region)

    def _list(self, request: Request, region: str) -> Request:
        wanted = request.get("QuotaCode")
        listed = self._of_service(request, region)
        found = [quota for quota in listed if wanted in (None, quota["QuotaCode"])]
        return cut(request, "Quotas", found, page_size=100)

    def _of_service(self, request: Request, region: str) -> list[Request]:
        every = [_quota(name, value, region) for name, value in self._values.items()]
        return [quota for quota in every if quota["ServiceCode"] == request["ServiceCode"]]

    def _list_defaults(self, request: Request, region: str) -> Request:
        return Quotas({})._list(request, region)

    def _get(self, request: Request, region: str) -> Request:
        for quota in self._of_service(request, region):
            if quota["QuotaCode"] == request["QuotaCode"]:
                return {"Quota": quota}
        raise AwsError(
            "NoSuchResourceException",
            "The request failed because the specified service quota does not exist.",
        )

    def _get_default(self, request: Request, region: str) -> Request:
        return Quotas({})._get(request, region)

    def _request_increase(self, request: Request, region: str) -> Request:
        """Take a request; nobody here grants it."""
        quota = self._get(request, region)["Quota"]
        if any(pending["QuotaCode"] == quota["QuotaCode"] for pending in self._requested):
            raise AwsError(
                "ResourceAlreadyExistsException",
                "Only one open service quota increase request is allowed per quota.",
            )
        keys = ("ServiceCode", "ServiceName", "QuotaCode", "QuotaName", "Unit", "GlobalQuota")
        asked = {
            "Id": hashlib.sha256(quota["QuotaCode"].encode()).hexdigest()[:32],
            **{key: quota[key] for key in keys},
            "DesiredValue": request["DesiredValue"],
            "Status": "PENDING",
            "Created": time.time(),
        }
        self._requested.append(asked)
        return {"RequestedQuota": asked}


def _quota(name: str, value: int, region: str) -> Request:
    code = f"L-{hashlib.sha256(name.encode()).hexdigest()[:8].upper()}"
    service = "bedrock" if name.startswith(BATCH_MINIMUM) else "sagemaker"
    return {
        "ServiceCode": service,
        "ServiceName": SERVICES[service],
        "QuotaArn": f"arn:aws:servicequotas:{region}:{ACCOUNT}:{service}/{code}",
        "QuotaCode": code,
        "QuotaName": name,
        "Value": float(value),
        "Unit": "None",
        "Adjustable": True,
        "GlobalQuota": False,
    }
