"""Facts about the sandbox's token buckets: what they let through, take back and tell."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from botocore.exceptions import ClientError
from sandbox_server import Sandbox, running_sandbox
from sandbox_work import create_endpoint, wait

from include.sandbox.rates import Rates
from include.sandbox.settings import Rate

NOVA, CLAUDE = "us.amazon.nova-micro-v1:0", "us.anthropic.claude-sonnet-4-6"
PROMPT = "Why is the sky blue? " * 20
"""420 characters: 105 tokens."""


class Clock:
    """Time that stands still until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def body(max_tokens: int | None = 95) -> dict[str, Any]:
    message = {"role": "user", "content": [{"text": PROMPT}]}
    limit = {} if max_tokens is None else {"inferenceConfig": {"maxTokens": max_tokens}}
    return {"messages": [message], **limit}


def converse(sandbox: Sandbox, model: str = NOVA, max_tokens: int | None = 95) -> Any:
    client = sandbox.client("bedrock-runtime", max_pool_connections=20)
    return client.converse(modelId=model, **body(max_tokens))


def throttled(sandbox: Sandbox, **request: Any) -> dict[str, Any]:
    with pytest.raises(ClientError) as caught:
        converse(sandbox, **request)
    assert caught.value.response["Error"]["Code"] == "ThrottlingException"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429
    return caught.value.response


def rate(sandbox: Sandbox) -> dict[str, Any]:
    return requests.get(f"{sandbox.url}/sandbox/rate", timeout=10).json()["models"]


@pytest.fixture
def thousand(tmp_path: Path) -> Iterator[Sandbox]:
    """A thousand tokens a minute, and answers after half a second."""
    settings = {
        "sandbox_rate": "tokens_per_minute=1000",
        "sandbox_faults": "latency_ms=500,retry_after=7",
    }
    with running_sandbox(tmp_path, **settings) as running:
        yield running


def test_requests_under_way_reserve_their_input_and_max_tokens(thousand: Sandbox) -> None:
    def one(_: int) -> bool:
        try:
            return bool(converse(thousand))
        except ClientError:
            return False

    with ThreadPoolExecutor(10) as pool:
        granted = list(pool.map(one, range(10)))
    assert granted.count(True) == 5  # 200 tokens each
    told = rate(thousand)[NOVA]
    assert (told["granted"], told["throttled"]) == (5, {"requests": 0, "tokens": 5})
    assert told["tokens"]["reserved"] == 1000


def test_what_a_request_did_not_use_goes_back(thousand: Sandbox) -> None:
    usage = converse(thousand, max_tokens=800)["usage"]
    assert usage["totalTokens"] < 500
    converse(thousand, max_tokens=400)
    told = rate(thousand)[NOVA]
    assert told["tokens"]["reserved"] == 105 + 800 + 105 + 400
    assert told["tokens"]["used"] == 2 * usage["totalTokens"]
    assert told["left"]["tokens"] == pytest.approx(1000 - 2 * usage["totalTokens"], abs=40)


def test_a_request_that_says_no_limit_reserves_the_models_own(thousand: Sandbox) -> None:
    said = throttled(thousand, max_tokens=None)
    assert said["Error"]["Message"] == "Too many tokens, please wait before trying again."
    assert said["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "7"


def test_every_model_has_buckets_of_its_own(thousand: Sandbox) -> None:
    throttled(thousand, max_tokens=None)
    converse(thousand, model=CLAUDE)
    assert rate(thousand)[CLAUDE]["throttled"] == {"requests": 0, "tokens": 0}


def test_an_empty_bucket_says_so_without_the_latency_of_an_answer(tmp_path: Path) -> None:
    settings = {
        "sandbox_rate": "requests_per_second=0.001,burst=2",
        "sandbox_faults": "latency_ms=5",
    }
    with running_sandbox(tmp_path, **settings) as running:
        for _ in range(2):
            converse(running)
        said = throttled(running)
        assert said["Error"]["Message"] == "Too many requests, please wait before trying again."
        assert "retry-after" not in said["ResponseMetadata"]["HTTPHeaders"]
        told = rate(running)[NOVA]
        assert (told["granted"], told["throttled"]) == (2, {"requests": 1, "tokens": 0})
        assert told["offered"]["requests"] == pytest.approx(2, abs=0.1)


def test_counting_begins_anew_with_the_buckets_as_they_are(tmp_path: Path) -> None:
    with running_sandbox(tmp_path, sandbox_rate="requests_per_second=0.001,burst=2") as running:
        converse(running)
        requests.delete(f"{running.url}/sandbox/rate", timeout=10)
        assert rate(running)[NOVA]["granted"] == 0
        converse(running)
        throttled(running)
        told = rate(running)[NOVA]
        assert (told["granted"], told["throttled"]["requests"]) == (1, 1)
        assert told["offered"]["requests"] == pytest.approx(1, abs=0.1)


def test_an_endpoint_has_requests_but_no_tokens_to_spend(tmp_path: Path) -> None:
    settings = {
        "sandbox_rate": "requests_per_second=0.001,burst=1,tokens_per_minute=1",
        "sandbox_delays": "endpoint=0",
    }
    with running_sandbox(tmp_path, **settings) as running:
        create_endpoint(running, "busy")
        wait(running, "busy", "InService")
        ask = running.client("sagemaker-runtime").invoke_endpoint
        message = {"role": "user", "content": PROMPT}
        ask(EndpointName="busy", Body=json.dumps({"messages": [message]}))
        with pytest.raises(ClientError, match="ThrottlingException"):
            ask(EndpointName="busy", Body=json.dumps({"messages": [message]}))


def test_a_bucket_fills_up_again_and_no_further_than_its_size() -> None:
    clock = Clock()
    rates = Rates(Rate(tokens_per_minute=600), clock)
    assert rates.start("m", 600) is None
    assert rates.start("m", 1) == "tokens"
    rates.end("m", 600, 600)
    clock.now = 10
    assert rates.start("m", 101) == "tokens"
    assert rates.start("m", 100) is None
    clock.now = 1000
    assert rates.start("m", 601) == "tokens"
    assert rates.start("m", 600) is None


def test_output_may_count_several_times_and_leave_a_debt() -> None:
    clock = Clock()
    rates = Rates(Rate(tokens_per_minute=600, output_token_weight=5), clock)
    answer = {"usage": {"input_tokens": 100, "output_tokens": 200}}
    assert rates.usage(answer) == 1100
    assert rates.start("m", 300) is None
    rates.end("m", 300, rates.usage(answer))
    clock.now = 49
    assert rates.start("m", 1) == "tokens"
    clock.now = 51
    assert rates.start("m", 1) is None


def test_a_request_that_tokens_throttle_takes_no_request() -> None:
    rates = Rates(Rate(requests_per_second=1, burst=1, tokens_per_minute=10), Clock())
    assert rates.start("m", 11) == "tokens"
    assert rates.start("m", 10) is None
    assert rates.start("m", 0) == "requests"
