"""Facts about the models' services: requests, answers, and what their errors call for."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Literal, cast

import pytest
from botocore import exceptions as botocore
from botocore.exceptions import ClientError

from include import providers
from include.async_client import AsyncClient
from include.config import AskedModel, BedrockModel, Parameters, SageMakerModel
from include.providers import Answer, AskError
from include.records import Prompt, Turn

PROMPT = Prompt("p", "Hello", system="Be kind.")
CONVERSATION = Prompt(
    "c", "And now?", system="Be kind.", turns=(Turn("user", "Hello"), Turn("assistant", "Hi"))
)
ASKED = {"return_full_text": False}
"""What `inputs` always asks for: the new text alone."""
EVERYTHING = Parameters(max_tokens=9, temperature=0.5, top_p=0.9, stop=["END"])


def claude(parameters: Parameters = EVERYTHING) -> providers.Dialect:
    model = BedrockModel(name="c", provider="bedrock", model_id="us.anthropic.claude-sonnet-4-6")
    return providers.bedrock(model, parameters)


def endpoint(parameters: Parameters = EVERYTHING, **more: Any) -> providers.Dialect:
    model = SageMakerModel(name="m", provider="sagemaker", **{"endpoint_name": "e", **more})
    return providers.sagemaker(model, "e", parameters)


def body(dialect: providers.Dialect, prompt: Prompt) -> Any:
    return json.loads(dialect.request(prompt)["Body"])


def test_a_provider_is_a_model_and_a_dialect() -> None:
    class Echo(AskedModel):
        provider: Literal["echo"] = "echo"
        voice: str = "low"

        @property
        def target(self) -> str:
            return f"echo of {self.name}"

    model = Echo(name="mine", parameters=Parameters(temperature=0))
    assert model.is_there
    assert model.shaping() == {"parameters": {"temperature": 0}, "voice": "low"}
    with pytest.raises(TypeError, match="mine of Echo has no dialect"):
        providers.dialect(model)


class Service:
    """Stands in for the client: it answers, or raises what it is given."""

    def __init__(self, answer: Mapping[str, Any] | Exception) -> None:
        self.answer = answer
        self.asked: list[tuple[str, dict[str, Any]]] = []

    async def call(self, operation: str, **params: Any) -> Mapping[str, Any]:
        self.asked.append((operation, params))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def asked(dialect: providers.Dialect, answer: Mapping[str, Any] | Exception) -> Answer:
    """Send one prompt."""
    coroutine = providers.ask(cast(AsyncClient, Service(answer)), dialect, PROMPT)
    try:
        coroutine.send(None)
    except StopIteration as done:
        return cast(Answer, done.value)
    raise AssertionError("it waits for something")


def failed(answer: Mapping[str, Any] | Exception, dialect: providers.Dialect | None = None) -> Any:
    with pytest.raises(AskError) as caught:
        asked(dialect or endpoint(), answer)
    return caught.value


def said(answer: Any) -> dict[str, Any]:
    return {"Body": json.dumps(answer).encode()}


# answers


@pytest.mark.parametrize(
    ("answer", "outcome", "text"),
    [
        ([{"generated_text": " Hi "}], "ok", " Hi "),
        ({"generated_text": "Hi"}, "ok", "Hi"),
        ({"generated_text": "Hi", "details": None}, "ok", "Hi"),
        ({"generated_text": "Hi", "details": {"finish_reason": "eos_token"}}, "ok", "Hi"),
        ({"generated_text": "Hi", "details": {"finish_reason": "length"}}, "truncated", "Hi"),
        ([{"generated_text": "Hi", "details": {"finish_reason": "length"}}], "truncated", "Hi"),
        ({"generated_text": None}, "empty", ""),
        ({"generated_text": "  \n"}, "empty", "  \n"),
        ({"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}, "ok", "Hi"),
        (
            {"choices": [{"message": {"content": "Hi"}, "finish_reason": "length"}]},
            "truncated",
            "Hi",
        ),
        ({"choices": [{"text": "Hi", "finish_reason": "stop"}]}, "ok", "Hi"),
        ({"choices": [{"text": "Hi", "finish_reason": "length"}]}, "truncated", "Hi"),
        ({"choices": [{"message": {"content": None}, "finish_reason": "stop"}]}, "empty", ""),
        (
            {
                "choices": [
                    {"message": {"content": None, "reasoning_content": "So"}, "finish_reason": "x"}
                ]
            },
            "empty",
            "",
        ),
        (
            {"choices": [{"message": {"content": "x"}, "finish_reason": "content_filter"}]},
            "refused",
            "x",
        ),
        (
            {"choices": [{"message": {"content": None, "refusal": "I won't"}}]},
            "refused",
            "",
        ),
        (
            {"choices": [{"message": {"content": [{"type": "text", "text": "Hi"}]}}]},
            "ok",
            "Hi",
        ),
    ],
)
def test_every_engines_answer_is_typed(answer: Any, outcome: str, text: str) -> None:
    found = asked(endpoint(), said(answer))
    assert (found.outcome, found.text) == (outcome, text)


def test_engines_tokens_are_counted_where_they_say_so() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 5}
    chat = asked(endpoint(), said({"choices": [{"message": {"content": "x"}}], "usage": usage}))
    assert (chat.input_tokens, chat.output_tokens) == (3, 5)
    tgi = asked(endpoint(), said([{"generated_text": "x", "details": {"generated_tokens": 5}}]))
    assert (tgi.input_tokens, tgi.output_tokens) == (None, 5)
    silent = asked(endpoint(), said({"choices": [{"message": {"content": "x"}}], "usage": None}))
    assert (silent.input_tokens, silent.output_tokens) == (None, None)


@pytest.mark.parametrize(
    "answer",
    [
        {"something": "else"},
        [],
        {},
        "Hi",
        None,
        7,
        {"choices": []},
        {"choices": [None]},
        {"generated_text": {"a": 1}},
    ],
)
def test_an_answer_of_another_shape_is_quoted_and_asked_for_once_more(answer: Any) -> None:
    error = failed(said(answer))
    assert (error.kind, error.again) == ("UnknownAnswer", "once")
    assert json.dumps(answer) in error.message


@pytest.mark.parametrize("payload", [b"", b"<html>", b"\xff\xfe", b"[" * 100_000])
def test_an_answer_that_is_no_json_is_a_typed_error(payload: bytes) -> None:
    error = failed({"Body": payload})
    assert error.kind == "UnknownAnswer"
    assert len(error.message) < 1000


def test_an_engine_that_gave_up_in_the_middle_is_asked_again() -> None:
    details = {"finish_reason": "error"}
    error = failed(said({"generated_text": "Hi th", "details": details}))
    assert (error.kind, error.again) == ("EngineError", "again")


def converse(blocks: list[Any], stop: str = "end_turn") -> dict[str, Any]:
    return {
        "output": {"message": {"role": "assistant", "content": blocks}},
        "stopReason": stop,
        "usage": {"inputTokens": 3, "outputTokens": 5, "totalTokens": 8},
    }


THOUGHT = {"reasoningContent": {"reasoningText": {"text": "Let me think"}}}


@pytest.mark.parametrize(
    ("answer", "outcome", "text"),
    [
        (converse([{"text": "Hi"}]), "ok", "Hi"),
        (converse([{"text": "H"}, {"text": "i"}]), "ok", "Hi"),
        (converse([THOUGHT, {"text": "Hi"}]), "ok", "Hi"),
        (converse([{"text": "Hi"}], "stop_sequence"), "ok", "Hi"),
        (converse([{"text": "Hi"}], "max_tokens"), "truncated", "Hi"),
        (converse([{"text": "Hi"}], "model_context_window_exceeded"), "truncated", "Hi"),
        (converse([THOUGHT], "max_tokens"), "empty", ""),
        (converse([]), "empty", ""),
        (converse([{"text": " \n"}]), "empty", " \n"),
        (converse([{"text": "No."}], "content_filtered"), "refused", "No."),
        (converse([{"text": "No."}], "guardrail_intervened"), "refused", "No."),
        (converse([], "refusal"), "refused", ""),
    ],
)
def test_converses_answer_is_typed_and_thoughts_are_no_part_of_it(
    answer: Any, outcome: str, text: str
) -> None:
    found = asked(claude(), answer)
    assert (found.outcome, found.text) == (outcome, text)
    assert (found.input_tokens, found.output_tokens) == (3, 5)


def test_converses_answer_without_a_message_is_a_typed_error() -> None:
    assert failed({"output": {}}, claude()).kind == "UnknownAnswer"


# requests


def test_converse_carries_system_turns_and_parameters() -> None:
    dialect = claude()
    assert (dialect.service, dialect.operation) == ("bedrock-runtime", "Converse")
    assert dialect.request(CONVERSATION) == {
        "modelId": "us.anthropic.claude-sonnet-4-6",
        "system": [{"text": "Be kind."}],
        "messages": [
            {"role": "user", "content": [{"text": "Hello"}]},
            {"role": "assistant", "content": [{"text": "Hi"}]},
            {"role": "user", "content": [{"text": "And now?"}]},
        ],
        "inferenceConfig": {
            "maxTokens": 9,
            "temperature": 0.5,
            "topP": 0.9,
            "stopSequences": ["END"],
        },
    }


def test_what_is_null_is_not_sent() -> None:
    bare, plain = Parameters(), Prompt("p", "Hello")
    sent = claude(bare).request(plain)
    assert sent["inferenceConfig"] == {}
    assert "system" not in sent
    assert body(endpoint(bare), plain) == {"messages": [{"role": "user", "content": "Hello"}]}
    assert body(endpoint(bare, schema="inputs"), plain) == {"inputs": "Hello", "parameters": ASKED}
    assert set(endpoint(bare).request(plain)) == {"EndpointName", "ContentType", "Accept", "Body"}


def test_zero_is_not_null() -> None:
    cold = Parameters(temperature=0)
    assert claude(cold).request(PROMPT)["inferenceConfig"] == {"temperature": 0}
    assert body(endpoint(cold), PROMPT)["temperature"] == 0


def test_messages_carry_a_chat() -> None:
    dialect = endpoint()
    assert (dialect.service, dialect.operation) == ("sagemaker-runtime", "InvokeEndpoint")
    assert body(dialect, CONVERSATION) == {
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hi"},
            {"role": "user", "content": "And now?"},
        ],
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop": ["END"],
    }


def test_inputs_carry_raw_text() -> None:
    assert body(endpoint(schema="inputs"), PROMPT) == {
        "inputs": "Be kind.\n\nHello",
        "parameters": {
            "max_new_tokens": 9,
            "temperature": 0.5,
            "top_p": 0.9,
            "stop": ["END"],
            **ASKED,
        },
    }


def test_inputs_do_not_say_what_tgi_refuses() -> None:
    greedy = endpoint(Parameters(temperature=0, top_p=1), schema="inputs")
    assert body(greedy, PROMPT)["parameters"] == {"do_sample": False, **ASKED}


@pytest.mark.parametrize(("image", "sent"), [(None, None), ("a/tgi:3", None), ("a/vllm:1", 1)])
def test_a_top_p_of_one_is_not_sent_to_tgi_which_refuses_it(image: Any, sent: Any) -> None:
    deploy = {"model_id": "m", "image_uri": image, "instance_types": ["ml.g5.2xlarge"]}
    asked = endpoint(Parameters(top_p=1), endpoint_name=None, deploy=deploy)
    assert body(asked, PROMPT).get("top_p") == sent


@pytest.mark.parametrize(("image", "asks"), [(None, True), ("djl-lmi", True), ("own", False)])
def test_raw_texts_come_with_why_they_end_where_the_engine_is_known(image: Any, asks: bool) -> None:
    deploy = {"model_id": "m", "image_uri": image, "instance_types": ["ml.g5.2xlarge"]}
    asked = endpoint(schema="inputs", endpoint_name=None, deploy=deploy)
    assert body(asked, PROMPT)["parameters"].get("details", False) == asks


def test_raw_texts_with_the_prompt_in_front_are_not_used_again() -> None:
    model = SageMakerModel(name="m", provider="sagemaker", endpoint_name="e", schema="inputs")
    assert model.shaping()["return_full_text"] is False
    chat = SageMakerModel(name="m", provider="sagemaker", endpoint_name="e")
    assert "return_full_text" not in chat.shaping()


def test_an_inference_component_is_named_beside_its_endpoint() -> None:
    request = endpoint(inference_component_name="part").request(PROMPT)
    assert (request["EndpointName"], request["InferenceComponentName"]) == ("e", "part")
    assert request["ContentType"] == request["Accept"] == "application/json"


# errors


def refusal(code: str, status: int, message: str = "", **more: Any) -> ClientError:
    headers = more.pop("headers", {})
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": headers}
    response: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": metadata,
        **more,
    }
    return ClientError(response, "Operation")


@pytest.mark.parametrize(
    ("code", "status", "again"),
    [
        ("ThrottlingException", 429, "throttled"),
        ("ThrottlingException", 400, "throttled"),
        ("TooManyRequestsException", 429, "throttled"),
        ("ModelNotReadyException", 429, "overloaded"),
        ("ServiceUnavailableException", 503, "overloaded"),
        ("ServiceUnavailable", 503, "overloaded"),
        ("InternalServerException", 500, "again"),
        ("InternalFailure", 500, "again"),
        ("InternalDependencyException", 530, "again"),
        ("ModelTimeoutException", 408, "slow"),
        ("ModelErrorException", 424, "once"),
        ("ValidationException", 400, "never"),
        ("ValidationError", 400, "never"),
        ("AccessDeniedException", 403, "never"),
        ("ResourceNotFoundException", 404, "never"),
        ("ServiceQuotaExceededException", 400, "never"),
        ("UnrecognizedClientException", 403, "never"),
        ("ExpiredTokenException", 403, "again"),
    ],
)
def test_aws_errors_call_for_what_they_deserve(code: str, status: int, again: str) -> None:
    error = failed(refusal(code, status, "why"))
    assert (error.kind, error.message, error.again) == (code, "why", again)
    assert error.retry_after is None


@pytest.mark.parametrize(
    ("status", "again"),
    [
        (403, "never"),
        (404, "never"),
        (408, "slow"),
        (429, "throttled"),
        (500, "again"),
        (502, "again"),
        (503, "overloaded"),
        (504, "slow"),
    ],
)
def test_a_proxys_status_calls_for_what_it_deserves(status: int, again: str) -> None:
    error = failed(refusal(str(status), status))
    assert (error.kind, error.again) == (f"HTTP {status}", again)


QUOTED = 'Received {} error ({}) from primary with message "{{}}". See https://x.test in account 1'


@pytest.mark.parametrize(
    ("message", "original", "again"),
    [
        ("", 429, "throttled"),
        ("", 500, "again"),
        ("", 503, "overloaded"),
        ("", 400, "never"),
        ("", 422, "never"),
        ("", None, "again"),
        (QUOTED.format("client", 429), None, "throttled"),
        (QUOTED.format("client", 400), None, "never"),
        (QUOTED.format("server", 500), None, "again"),
        (QUOTED.format("server", 503), 503, "overloaded"),
        (
            "Your invocation timed out while waiting for a response from container primary.",
            None,
            "slow",
        ),
        ("Your invocation timed out while waiting for a response", 500, "slow"),
    ],
)
def test_the_status_of_the_endpoints_container_decides(
    message: str, original: int | None, again: str
) -> None:
    more = {} if original is None else {"OriginalStatusCode": original}
    error = failed(refusal("ModelError", 424, message, **more))
    assert (error.kind, error.again) == ("ModelError", again)


@pytest.mark.parametrize(
    ("problem", "kind", "again"),
    [
        (botocore.ReadTimeoutError(endpoint_url="u", error="e"), "ReadTimeout", "slow"),
        (
            botocore.EndpointConnectionError(endpoint_url="u", error="reset"),
            "ConnectionFailed",
            "again",
        ),
        (
            botocore.ConnectionClosedError(endpoint_url="u", request=None),
            "ConnectionFailed",
            "again",
        ),
        (botocore.SSLError(endpoint_url="u", error="self signed"), "SSLError", "never"),
        (botocore.NoCredentialsError(), "NoCredentialsError", "never"),
        (
            botocore.CredentialRetrievalError(provider="p", error_msg="x"),
            "CredentialRetrievalError",
            "again",
        ),
    ],
)
def test_trouble_on_the_way_calls_for_what_it_deserves(
    problem: Exception, kind: str, again: str
) -> None:
    error = failed(problem)
    assert (error.kind, error.again) == (kind, again)


def test_a_failed_connection_says_why() -> None:
    cause = OSError("name not known")
    error = failed(botocore.EndpointConnectionError(endpoint_url="http://u", error=cause))
    assert "http://u" in error.message
    assert "name not known" in error.message


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7.0), ("0.5", 0.5), ("-3", 0.0), ("soon", None), ("", None)],
)
def test_retry_after_may_be_seconds(header: str, seconds: float | None) -> None:
    error = failed(refusal("ThrottlingException", 429, headers={"retry-after": header}))
    assert error.retry_after == seconds


@pytest.mark.parametrize("header", ["nan", "inf", "1e999", "NaN"])
def test_a_retry_after_that_is_no_number_of_seconds_is_ignored(header: str) -> None:
    error = failed(refusal("ThrottlingException", 429, headers={"retry-after": header}))
    assert error.retry_after is None


def test_retry_after_may_be_a_date() -> None:
    def waits(at: datetime) -> float:
        headers = {"retry-after": format_datetime(at, usegmt=True)}
        return cast(float, failed(refusal("ThrottlingException", 429, headers=headers)).retry_after)

    now = datetime.now(UTC)
    assert 25 < waits(now + timedelta(seconds=30)) <= 30
    assert waits(now - timedelta(seconds=30)) == 0


def test_a_long_message_is_cut_and_half_characters_are_replaced() -> None:
    error = failed(refusal("ValidationException", 400, "\ud800" + "x" * 10_000))
    assert len(error.message) == providers.LONGEST_MESSAGE
    error.message.encode()


@pytest.mark.parametrize(
    ("model_id", "weight"),
    [
        ("us.anthropic.claude-3-7-sonnet-20250219-v1:0", 5),
        ("us.anthropic.claude-sonnet-4-6", 5),
        ("global.anthropic.claude-haiku-4-5-20251001-v1:0", 5),
        ("anthropic.claude-3-5-sonnet-20241022-v2:0", 1),
        ("us.amazon.nova-micro-v1:0", 1),
    ],
)
def test_a_quota_counts_newer_claudes_output_five_times(model_id: str, weight: float) -> None:
    assert providers.output_token_weight(model_id) == weight
