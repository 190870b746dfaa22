"""A prompt in, the request of its service out; and back: what came, or why nothing came.

A dialect is how one model is asked: the AWS operation, the request for a prompt and what its answer
says. `ask` sends one request, once; whether and when it is sent again is `generate`'s business.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from include.async_client import AsyncClient
from include.config import AskedModel, BedrockModel, Parameters, SageMakerModel
from include.records import Outcome, Prompt, Response

if TYPE_CHECKING:
    from botocore.client import BaseClient
    from botocore.exceptions import BotoCoreError, ClientError

Again = Literal["throttled", "overloaded", "slow", "again", "once", "never"]
"""What a failed request calls for: more patience, fewer at once, fewer at once and few tries (for
each takes long), another try, only one, or none."""

STOPPED_EARLY = {"max_tokens", "length", "model_context_window_exceeded"}
REFUSED = {"content_filtered", "guardrail_intervened", "refusal", "content_filter"}

BY_CODE: dict[str, Again] = {
    "ModelNotReadyException": "overloaded",
    "ServiceUnavailableException": "overloaded",
    "ServiceUnavailable": "overloaded",
    "ModelTimeoutException": "slow",
    "ModelErrorException": "once",
    "ServiceQuotaExceededException": "never",
    "ExpiredTokenException": "again",  # the next request is signed with fresh credentials
    "ExpiredToken": "again",
    "RequestExpired": "again",
}
"""What the errors of Bedrock Runtime and SageMaker Runtime call for, where the status misleads."""

THROTTLED = re.compile("Throttl|TooManyRequests|SlowDown|RequestLimitExceeded")
TIMED_OUT = re.compile("timed out", re.IGNORECASE)
CONTAINER = re.compile(r"Received \w+ error \((\d{3})\)")
"""How SageMaker quotes the status of the endpoint's container."""

UNREADABLE = (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError)
"""What reading an answer of another shape than any known one ends in."""

MOST_TOKENS = 10**12
"""No answer has as many."""
LONGEST_MESSAGE = 2000
LONGEST_QUOTE = 300


@dataclass(frozen=True)
class Answer:
    """What a service said, before it is judged usable or not."""

    text: str
    stop_reason: str | None
    input_tokens: int | None
    output_tokens: int | None

    @property
    def outcome(self) -> Outcome:
        """What becomes of it; never `error`."""
        if self.stop_reason in REFUSED:
            return "refused"
        if not self.text.strip():
            return "empty"
        return "truncated" if self.stop_reason in STOPPED_EARLY else "ok"

    def response(self, prompt: Prompt, model: str, **more: Any) -> Response:
        """Return it as the response to a prompt; the text is kept only if it can be used.

        Args:
            prompt: What was asked.
            model: The model's name in the evaluation.
            more: Other fields of the response, e.g. its latency.
        """
        outcome = self.outcome
        return Response(
            prompt_id=prompt.prompt_id,
            model=model,
            outcome=outcome,
            text=self.text if outcome in ("ok", "truncated") else None,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            stop_reason=self.stop_reason,
            **more,
        )


class AskError(Exception):
    """No answer came."""

    def __init__(
        self, kind: str, message: str, again: Again, retry_after: float | None = None
    ) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        """AWS's error code, or the class of what went wrong on the way."""
        # Half a character, which JSON can hold, would end whoever prints it.
        self.message = message[:LONGEST_MESSAGE].encode("utf-8", "replace").decode()
        self.again = again
        self.retry_after = retry_after
        """Seconds that the service wants to be left alone, if it said so."""


@dataclass(frozen=True)
class Dialect:
    """How one model is asked."""

    service: str
    """boto3's name of the service."""
    operation: str
    request: Callable[[Prompt], dict[str, Any]]
    read: Callable[[Mapping[str, Any]], Answer]


def dialect(model: AskedModel, endpoint_name: str | None = None) -> Dialect:
    """Return how a model is asked.

    Args:
        model: A model; each provider has its dialect here.
        endpoint_name: Of the endpoint that it is behind, if it is behind one.

    Raises:
        TypeError: Nobody has said how it is asked.
    """
    if isinstance(model, BedrockModel):
        return bedrock(model, model.parameters)
    if isinstance(model, SageMakerModel) and endpoint_name:
        return sagemaker(model, endpoint_name, model.parameters)
    raise TypeError(f"{model.name} of {type(model).__name__} has no dialect")


def bedrock(model: BedrockModel, parameters: Parameters) -> Dialect:
    """Ask a Bedrock model (Bedrock Runtime: Converse)."""
    inference = _without_none(
        maxTokens=parameters.max_tokens,
        temperature=parameters.temperature,
        topP=parameters.top_p,
        stopSequences=parameters.stop,
    )

    def request(prompt: Prompt) -> dict[str, Any]:
        body: dict[str, Any] = {
            "modelId": model.model_id,
            "messages": [
                {"role": role, "content": [{"text": text}]} for role, text in _messages(prompt)
            ],
            "inferenceConfig": inference,
        }
        if prompt.system:
            body["system"] = [{"text": prompt.system}]
        return body

    return Dialect("bedrock-runtime", "Converse", request, read_converse)


def read_converse(answer: Mapping[str, Any]) -> Answer:
    """Read Converse's answer; what a model only thought is no part of it."""
    blocks, usage = answer["output"]["message"]["content"], answer.get("usage") or {}
    return Answer(
        text="".join(_text(block.get("text")) for block in blocks),
        stop_reason=_word(answer.get("stopReason")),
        input_tokens=_count(usage.get("inputTokens")),
        output_tokens=_count(usage.get("outputTokens")),
    )


def sagemaker(model: SageMakerModel, endpoint_name: str, parameters: Parameters) -> Dialect:
    """Ask a model behind an endpoint (SageMaker Runtime: InvokeEndpoint).

    `messages` bodies are OpenAI's chat completions, which TGI, LMI and vLLM all speak; `inputs`
    bodies carry raw text, without a chat template.
    """
    tells_details = model.schema_ == "inputs" and _is(model, "tgi", "lmi", "djl")
    if _is(model, "tgi") and parameters.top_p == 1:  # which it refuses; it means as much as nothing
        parameters = parameters.model_copy(update={"top_p": None})
    target = _without_none(
        EndpointName=endpoint_name, InferenceComponentName=model.inference_component_name
    )

    def request(prompt: Prompt) -> dict[str, Any]:
        body = (_inputs if model.schema_ == "inputs" else _chat)(prompt, parameters)
        if tells_details:  # why the text ends, and how many tokens it has
            body["parameters"]["details"] = True
        return {
            **target,
            "ContentType": "application/json",
            "Accept": "application/json",
            "Body": json.dumps(body).encode(),
        }

    def read(answer: Mapping[str, Any]) -> Answer:
        body = answer["Body"]
        try:
            return read_engine(json.loads(body))
        except UNREADABLE as error:
            quote = body[:LONGEST_QUOTE].decode("utf-8", "replace")
            raise ValueError(f"{error!r}: {quote}") from None

    return Dialect("sagemaker-runtime", "InvokeEndpoint", request, read)


def _is(model: SageMakerModel, *engines: str) -> bool:
    """Whether the run deploys one of these engines; TGI is the default, others are not known."""
    image = (model.deploy.image_uri or "tgi") if model.deploy else ""
    return any(engine in image for engine in engines)


def _inputs(prompt: Prompt, parameters: Parameters) -> dict[str, Any]:
    # TGI refuses the values that mean "do not": a temperature of 0 and a top_p of 1. Unless it is
    # told otherwise it puts the prompt in front of what it generates.
    return {
        "inputs": f"{prompt.system}\n\n{prompt.text}" if prompt.system else prompt.text,
        "parameters": _without_none(
            max_new_tokens=parameters.max_tokens,
            temperature=parameters.temperature or None,
            do_sample=False if parameters.temperature == 0 else None,
            top_p=None if parameters.top_p == 1 else parameters.top_p,
            stop=parameters.stop,
            return_full_text=False,
        ),
    }


def _chat(prompt: Prompt, parameters: Parameters) -> dict[str, Any]:
    system = [("system", prompt.system)] if prompt.system else []
    return {
        "messages": [
            {"role": role, "content": text} for role, text in (*system, *_messages(prompt))
        ],
        **_without_none(
            max_tokens=parameters.max_tokens,
            temperature=parameters.temperature,
            top_p=parameters.top_p,
            stop=parameters.stop,
        ),
    }


def read_engine(body: Any) -> Answer:
    """Read what the engines answer: chat or text completions, TGI's list or LMI's dict.

    Raises:
        AskError: The engine says that it failed.
    """
    if isinstance(body, list):
        body = body[0]
    if "choices" in body:
        return _completion(body["choices"][0], body.get("usage") or {})
    details, text = body.get("details") or {}, _text(body["generated_text"])
    if details.get("finish_reason") == "error":
        raise AskError("EngineError", f"the engine gave up after: {text}", "again")
    return Answer(
        text=text,
        stop_reason=_word(details.get("finish_reason")),
        input_tokens=None,
        output_tokens=_count(details.get("generated_tokens")),
    )


def _completion(choice: Mapping[str, Any], usage: Mapping[str, Any]) -> Answer:
    """Read OpenAI's shape; what a model only thought stands beside `content`, and is left."""
    message = choice.get("message")
    text = _text(message.get("content") if message else choice["text"])
    refused = bool(message and message.get("refusal") and not text)
    return Answer(
        text=text,
        stop_reason="refusal" if refused else _word(choice.get("finish_reason")),
        input_tokens=_count(usage.get("prompt_tokens")),
        output_tokens=_count(usage.get("completion_tokens")),
    )


def _text(content: Any) -> str:
    """Return a text that may be null, or a list of parts."""
    if isinstance(content, list):
        return "".join(_text(part.get("text")) for part in content)
    if content is None or isinstance(content, str):
        return content or ""
    raise TypeError(f"a text was expected, not {content!r:.100}")


def _word(said: Any) -> str | None:
    if said is None or isinstance(said, str):
        return said
    raise TypeError(f"a word was expected, not {said!r:.100}")


def _count(number: Any) -> int | None:
    return number if isinstance(number, int) and 0 <= number < MOST_TOKENS else None


@asynccontextmanager
async def connected(
    client: BaseClient, dialect: Dialect, *, max_connections: int, timeout: float
) -> AsyncIterator[Callable[[Prompt], Awaitable[Answer]]]:
    """Open the way to a model: yield what sends one prompt and raises AskError.

    Args:
        client: A boto3 client of the dialect's service.
        dialect: How the model is asked.
        max_connections: Requests in flight at the most.
        timeout: Seconds that one request may take.
    """
    async with AsyncClient(client, max_connections=max_connections, timeout=timeout) as opened:
        yield partial(ask, opened, dialect)


async def ask(client: AsyncClient, dialect: Dialect, prompt: Prompt) -> Answer:
    """Send one request, once.

    Raises:
        AskError: No answer, or none that can be read.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        answer = await client.call(dialect.operation, **dialect.request(prompt))
    except ClientError as error:
        raise _refused(error) from None
    except BotoCoreError as error:
        raise _failed(error) from None
    try:
        return dialect.read(answer)
    except UNREADABLE as error:
        message = f"the answer has a shape that is not known: {error}"
        raise AskError("UnknownAnswer", message, "once") from None


def _failed(error: BotoCoreError) -> AskError:
    """Classify what went wrong on the way."""
    from botocore import exceptions as botocore

    again: Again = "never"
    kind, cause = type(error).__name__, error.kwargs.get("error")
    if isinstance(error, botocore.ReadTimeoutError):
        kind, again = "ReadTimeout", "slow"
    elif isinstance(error, botocore.SSLError):
        again = "never"
    elif isinstance(error, botocore.ConnectionError | botocore.HTTPClientError):
        kind, again = "ConnectionFailed", "again"
    elif isinstance(error, botocore.CredentialRetrievalError):
        again = "again"
    message = str(error)
    if cause and str(cause) not in message:
        message = f"{message} ({cause})"
    return AskError(kind, message, again)


def _refused(error: ClientError) -> AskError:
    """Classify an error that AWS, or something on the way to it, answered with."""
    problem = error.response.get("Error", {})
    metadata = error.response.get("ResponseMetadata", {})
    status = int(metadata.get("HTTPStatusCode", 400))
    code, message = str(problem.get("Code") or status), str(problem.get("Message") or "")
    return AskError(
        f"HTTP {code}" if code.isdigit() else code,
        message,
        _again(code, message, _original(error.response, code, message) or status),
        _retry_after(metadata.get("HTTPHeaders", {})),
    )


def _original(response: Mapping[str, Any], code: str, message: str) -> int | None:
    """Return the status of the endpoint's container, which tells more than SageMaker's 424."""
    if code != "ModelError":
        return None
    said = response.get("OriginalStatusCode")
    quoted = CONTAINER.search(message)
    return int(said or (quoted[1] if quoted else 500))


def _again(code: str, message: str, status: int) -> Again:
    if THROTTLED.search(code):
        return "throttled"
    if code in BY_CODE:
        return BY_CODE[code]
    if status in (408, 504) or (status >= 500 and TIMED_OUT.search(message)):
        return "slow"
    if status in (429, 503):
        return "throttled" if status == 429 else "overloaded"
    return "again" if status >= 500 else "never"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Read the header: seconds, or a date (RFC 9110, 10.2.3)."""
    said = headers.get("retry-after", "")
    try:
        seconds = float(said)
        return max(0.0, seconds) if math.isfinite(seconds) else None
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
    except ValueError:
        return None


def _messages(prompt: Prompt) -> Iterable[tuple[str, str]]:
    for turn in prompt.turns:
        yield turn.role, turn.text
    yield "user", prompt.text


def _without_none(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def output_token_weight(model_id: str) -> float:
    """Return how often Bedrock's quota counts an output token (AWS: burndown rate).

    Five times for Claude since 3.7 (Bedrock user guide, "How tokens are counted").
    """
    return 5.0 if re.search(r"claude-(3-7|(sonnet|opus|haiku)-\d)", model_id) else 1.0
