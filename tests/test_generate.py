"""Facts about asking models, over HTTP against the sandbox and an endpoint that misbehaves."""

import io
import json
from typing import Any
from uuid import uuid4

import pytest
from sandbox_server import Sandbox, running_sandbox

from include import providers
from include.config import BedrockModel, Parameters, SageMakerModel
from include.errors import GenerationError
from include.generate import check_error_rate, generate, latest, read_responses
from include.records import Prompt, Response
from include.storage import RunFolder

CLAUDE = BedrockModel(name="claude", provider="bedrock", model_id="us.anthropic.claude-sonnet-4-6")
PROMPTS = [Prompt(f"p{n}", f"What is {n} plus {n}?") for n in range(130)]


@pytest.fixture
def folder(sandbox: Sandbox) -> RunFolder:
    s3 = sandbox.client("s3", max_pool_connections=32)
    return RunFolder(s3, f"s3://nova-judge-sandbox/test/{uuid4()}")


class Body:
    """A client whose endpoint answers one body."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[dict[str, Any]] = []

    def invoke_endpoint(self, **request: Any) -> dict[str, Any]:
        self.asked.append(json.loads(request["Body"]))
        body = io.BytesIO(json.dumps(self.answer).encode())
        return {"Body": body, "ResponseMetadata": {"RetryAttempts": 2}}


def ask(answer: Any, schema: str = "messages") -> tuple[Response, dict[str, Any]]:
    model = SageMakerModel(name="m", provider="sagemaker", endpoint_name="e", schema=schema)
    client = Body(answer)
    parameters = Parameters(max_tokens=9, temperature=0.5)
    prompt = Prompt("p", "Hello", system="Be kind.")
    response = providers.sagemaker(client, model, "e", parameters)(prompt)
    return response, client.asked[0]


@pytest.mark.parametrize(
    ("answer", "outcome", "text"),
    [
        ([{"generated_text": " Hi "}], "ok", " Hi "),
        ({"generated_text": "Hi"}, "ok", "Hi"),
        ({"generated_text": "Hi", "details": {"finish_reason": "length"}}, "truncated", "Hi"),
        ({"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}, "ok", "Hi"),
        ({"choices": [{"message": {"content": None}, "finish_reason": "stop"}]}, "empty", None),
        (
            {"choices": [{"message": {"content": "x"}, "finish_reason": "content_filter"}]},
            "refused",
            None,
        ),
        ({"generated_text": "  \n"}, "empty", None),
        ({"something": "else"}, "error", None),
        ([], "error", None),
    ],
)
def test_every_engines_answer_becomes_a_typed_response(
    answer: Any, outcome: str, text: str | None
) -> None:
    response, _ = ask(answer)
    assert (response.outcome, response.text) == (outcome, text)


def test_attempts_count_the_retries() -> None:
    assert ask({"generated_text": "Hi"})[0].attempts == 3


def test_messages_carry_a_chat_and_inputs_carry_raw_text() -> None:
    assert ask({"generated_text": "x"})[1] == {
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Hello"},
        ],
        "max_tokens": 9,
        "temperature": 0.5,
    }
    assert ask({"generated_text": "x"}, "inputs")[1] == {
        "inputs": "Be kind.\n\nHello",
        "parameters": {"max_new_tokens": 9, "temperature": 0.5},
    }


def test_a_service_error_is_a_record_not_an_exception(sandbox: Sandbox) -> None:
    gone = CLAUDE.model_copy(update={"model_id": "no-such-model"})
    response = providers.bedrock(sandbox.client("bedrock-runtime"), gone, Parameters())(PROMPTS[0])
    assert response.outcome == "error"
    assert response.error_type == "ValidationException"
    assert response.text is None


def test_throttling_is_retried_until_the_answer_comes(tmp_path_factory: Any) -> None:
    state = tmp_path_factory.mktemp("throttled")
    with running_sandbox(state, sandbox_faults="throttle=0.3,seed=1") as running:
        client = running.client(
            "bedrock-runtime", retries={"mode": "standard", "total_max_attempts": 8}
        )
        asked = [providers.bedrock(client, CLAUDE, Parameters())(p) for p in PROMPTS[:8]]
    assert {response.outcome for response in asked} == {"ok"}
    assert max(response.attempts for response in asked) > 1


def test_every_prompt_gets_one_response_in_the_prompts_order(
    sandbox: Sandbox, folder: RunFolder
) -> None:
    client = sandbox.client("bedrock-runtime", max_pool_connections=16)
    asked = providers.bedrock(client, CLAUDE, Parameters(max_tokens=50))
    responses = generate(folder, "claude", PROMPTS, asked, max_concurrency=16)
    assert [r.prompt_id for r in responses] == [p.prompt_id for p in PROMPTS]
    assert len(latest(read_responses(folder, "claude"))) == len(PROMPTS)


def test_a_second_try_asks_only_for_what_is_missing(folder: RunFolder) -> None:
    asked: list[str] = []

    def flaky(prompt: Prompt) -> Response:
        asked.append(prompt.prompt_id)
        failed = len(asked) <= len(PROMPTS) and prompt.prompt_id.endswith("7")
        if failed:
            return Response(prompt.prompt_id, "m", "error", None, error_type="Throttling")
        return Response(prompt.prompt_id, "m", "ok", "text")

    first = generate(folder, "m", PROMPTS, flaky, max_concurrency=4)
    failed = {r.prompt_id for r in first if not r.usable}
    second = generate(folder, "m", PROMPTS, flaky, max_concurrency=4)
    assert set(asked[len(PROMPTS) :]) == failed
    assert all(response.usable for response in second)
    assert [r.prompt_id for r in second] == [p.prompt_id for p in PROMPTS]


def test_a_killed_try_loses_at_most_one_part(folder: RunFolder) -> None:
    asked: list[str] = []

    def dies(prompt: Prompt) -> Response:
        asked.append(prompt.prompt_id)
        if len(asked) > 110:
            raise KeyboardInterrupt
        return Response(prompt.prompt_id, "m", "ok", "text")

    with pytest.raises(KeyboardInterrupt):
        generate(folder, "m", PROMPTS, dies, max_concurrency=1)
    assert len(latest(read_responses(folder, "m"))) == 100


def test_too_many_failures_name_the_commonest_with_an_example() -> None:
    failed = [
        Response(f"p{n}", "m", "error", None, error_type="Throttling", error_message="slow down")
        for n in range(3)
    ]
    fine = [Response(f"q{n}", "m", "ok", "text") for n in range(7)]
    check_error_rate("m", [*failed, *fine], 0.3)
    with pytest.raises(GenerationError, match=r"3 x Throttling, e\.g\. prompt p0: slow down"):
        check_error_rate("m", [*failed, *fine], 0.29)


def test_records_read_back_as_they_were_written(folder: RunFolder) -> None:
    written = [Response("p", "m", "ok", "a\u2028b\ud800 \x00", input_tokens=3)]
    folder.write_records("x.jsonl", written)
    assert list(folder.read_records("x.jsonl", Response)) == written
