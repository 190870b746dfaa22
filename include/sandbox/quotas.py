"""Service Quotas for SageMaker: how many instances of each type jobs and endpoints may use."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from typing import Any

from include.sandbox.errors import AwsError
from include.sandbox.listing import cut
from include.sandbox.s3_store import ACCOUNT
from include.sandbox.settings import QUOTAS
from include.sandbox.shapes import check

Request = dict[str, Any]


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

    def answer(self, operation: str, request: Request, region: str) -> Request:
        """Answer one operation for the service code `sagemaker`.

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
        listed = [_quota(name, value, region) for name, value in self._values.items()]
        wanted = request.get("QuotaCode")
        found = [quota for quota in listed if wanted in (None, quota["QuotaCode"])]
        return cut(request, "Quotas", found, page_size=100)

    def _list_defaults(self, request: Request, region: str) -> Request:
        return Quotas({})._list(request, region)

    def _get(self, request: Request, region: str) -> Request:
        for name, value in self._values.items():
            quota = _quota(name, value, region)
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
    return {
        "ServiceCode": "sagemaker",
        "ServiceName": "Amazon SageMaker",
        "QuotaArn": f"arn:aws:servicequotas:{region}:{ACCOUNT}:sagemaker/{code}",
        "QuotaCode": code,
        "QuotaName": name,
        "Value": float(value),
        "Unit": "None",
        "Adjustable": True,
        "GlobalQuota": False,
    }
