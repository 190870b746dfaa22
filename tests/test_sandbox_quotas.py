"""Facts about Service Quotas, and what exceeds one."""

from collections.abc import Iterator
from typing import Any

import pytest
from sandbox_server import Sandbox, running_sandbox
from sandbox_work import (
    ONE,
    create_endpoint,
    end_of,
    job_request,
    name,
    put_input,
    refused,
    start_job,
    wait,
)

JOBS, ENDPOINTS = "ml.g5.12xlarge for training job usage", "ml.g5.2xlarge for endpoint usage"
RECORDS = "Minimum number of records per batch inference job for Nova Micro V1"


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    settings = {
        "sandbox_quotas": f"{JOBS}=1, {ENDPOINTS}=1, ml.p5.48xlarge for training job usage=0,"
        f"{RECORDS}=3",
        "sandbox_delays": "endpoint=0,delete=0,job=3",
    }
    with running_sandbox(tmp_path_factory.mktemp("tight"), **settings) as running:
        yield running


def quotas(
    sandbox: Sandbox, operation: str = "list_service_quotas", service: str = "sagemaker"
) -> dict[str, dict[str, Any]]:
    pages = sandbox.client("service-quotas").get_paginator(operation)
    found = pages.paginate(ServiceCode=service, PaginationConfig={"PageSize": 10})
    return {quota["QuotaName"]: quota for page in found for quota in page["Quotas"]}


def test_quotas_are_listed_page_by_page_under_awss_names(tight: Sandbox) -> None:
    applied, defaults = quotas(tight), quotas(tight, "list_aws_default_service_quotas")
    assert applied[JOBS]["Value"] == 1
    assert defaults[JOBS]["Value"] == 8
    assert applied.keys() == defaults.keys()
    assert len({quota["QuotaCode"] for quota in applied.values()}) == len(applied) > 20
    one = tight.client("service-quotas").get_service_quota(
        ServiceCode="sagemaker", QuotaCode=applied[ENDPOINTS]["QuotaCode"]
    )
    assert one["Quota"] == applied[ENDPOINTS]


def test_bedrocks_quotas_say_how_many_records_a_batch_job_needs(tight: Sandbox) -> None:
    applied = quotas(tight, service="bedrock")
    assert applied[RECORDS]["Value"] == 3
    assert quotas(tight, "list_aws_default_service_quotas", "bedrock")[RECORDS]["Value"] == 100
    assert {quota["ServiceCode"] for quota in applied.values()} == {"bedrock"}
    assert not applied.keys() & quotas(tight).keys()
    get, code = tight.client("service-quotas").get_service_quota, applied[RECORDS]["QuotaCode"]
    assert get(ServiceCode="bedrock", QuotaCode=code)["Quota"]["Value"] == 3
    refused(get, "NoSuchResourceException", ServiceCode="sagemaker", QuotaCode=code)


def test_an_unknown_quota_is_none(tight: Sandbox) -> None:
    get = tight.client("service-quotas").get_service_quota
    refused(get, "NoSuchResourceException", ServiceCode="sagemaker", QuotaCode="L-00000000")


def test_an_increase_is_asked_for_once_and_stays_pending(tight: Sandbox) -> None:
    client = tight.client("service-quotas")
    request = {"ServiceCode": "sagemaker", "QuotaCode": quotas(tight)[JOBS]["QuotaCode"]}
    asked = client.request_service_quota_increase(**request, DesiredValue=4)["RequestedQuota"]
    assert (asked["Status"], asked["DesiredValue"]) == ("PENDING", 4)
    ask = client.request_service_quota_increase
    refused(ask, "ResourceAlreadyExistsException", **request, DesiredValue=5)
    assert quotas(tight)[JOBS]["Value"] == 1


def test_a_job_beyond_the_quota_is_refused_until_another_one_ends(tight: Sandbox) -> None:
    job = name("quota")
    put_input(tight, job, ONE)
    start_job(tight, job, job)
    message = refused(
        tight.client("sagemaker").create_training_job,
        "ResourceLimitExceeded",
        **job_request(job, f"{job}-2"),
    )
    assert message.startswith(
        f"The account-level service limit '{JOBS}' is 1 Instances, with current utilization of "
        "1 Instances and a request delta of 1 Instances. Please use AWS Service Quotas to "
        "request an increase for this quota."
    )
    tight.client("sagemaker").stop_training_job(TrainingJobName=job)
    end_of(tight, job)
    start_job(tight, job, f"{job}-2")
    end_of(tight, f"{job}-2")


def test_a_quota_of_none_refuses_the_first_job(tight: Sandbox) -> None:
    job = name("none")
    put_input(tight, job, ONE)
    resources = {"InstanceType": "ml.p5.48xlarge", "InstanceCount": 2, "VolumeSizeInGB": 30}
    message = refused(
        tight.client("sagemaker").create_training_job,
        "ResourceLimitExceeded",
        **job_request(job, job, ResourceConfig=resources),
    )
    assert "is 0 Instances, with current utilization of 0 Instances" in message
    assert "a request delta of 2 Instances" in message


def test_an_endpoint_counts_until_it_is_deleted_and_not_once_it_failed(tight: Sandbox) -> None:
    first, failed, second = name("first"), name("failed"), name("second")
    sagemaker = tight.client("sagemaker")
    create_endpoint(tight, failed, SANDBOX_FAIL="no disk")
    create_endpoint(tight, first)
    with pytest.raises(Exception, match="ResourceLimitExceeded") as caught:
        create_endpoint(tight, second)
    assert ENDPOINTS in str(caught.value)
    wait(tight, first, "InService")
    sagemaker.delete_endpoint(EndpointName=first)
    sagemaker.create_endpoint(EndpointName=second, EndpointConfigName=second)
