"""Facts about what we send, against what the SDKs sent when tests/contract/kept.json was written.

test_contract.py asks the SDKs themselves, and finds where kept.json has become old.
"""

import json

import pytest
from contract.cases import ENDPOINTS, Endpoint, Job
from contract.compare import only_known
from contract.keep import KEPT, KEPT_JOBS
from contract.ours import known, our_endpoint, our_job

SENT = json.loads(KEPT.read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", KEPT_JOBS, ids=lambda case: case.key)
def test_the_judge_job_is_what_the_sdk_sent(case: Job) -> None:
    only_known(our_job(case, SENT[case.key]), SENT[case.key], known(case))


@pytest.mark.parametrize("case", ENDPOINTS, ids=lambda case: case.key)
def test_the_endpoint_is_what_the_sdk_sent(case: Endpoint) -> None:
    only_known(our_endpoint(case), SENT[case.key], known(case))
