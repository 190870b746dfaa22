"""A prompt in, the request of its service out; and back: what came, or why nothing came.

A dialect is how one model is asked: the AWS operation, the request for a prompt and what its answer
says. `ask` sends one request, once; whether and when it is sent again is `generate`'s business.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from include.async_client import AsyncClient
from include.config import BedrockModel, Parameters, SageMakerModel
from include.records import Outcome, Prompt

if TYPE_CHECKING:
    from botocore.client import BaseClient
    from botocore.exceptions import ClientError

Again = Literal["throttled", "overloaded", "again", "once", "never"]
"""What a failed request calls for: more patience, fewer at once, another try, only one, or none."""

STOPPED_EARLY = {"max_tokens", "length", "model_context_window_exceeded"}
REFUSED = {"content_filtered", "guardrail_intervened", "refusal", "content_filter"}

BY_CODE: dict[str, Again] = {
    "ModelNotReadyException": "overloaded",
    "ServiceUnavailableException": "overloaded",
    "ServiceUnavailable": "overloaded",
    "ModelTimeoutException": "overloaded",
    "ModelErrorException": "once",
    "ServiceQuotaExceededException": "never",
    "ExpiredTokenException": "again",  # the next request is signed with fresh credentials
    "ExpiredToken": "again",
}
"""What the errors of Bedrock Runtime and SageMaker Runtime call for, where the status misleads."""

THROTTLED = re.compile("Throttl|TooManyRequests|SlowDown|RequestLimitExceeded")
TIMED_OUT = re.compile("timed out", re.IGNORECASE)
LONGEST_MESSAGE = 2000


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


class AskError(Exception):
    """No answer came."""

    def __init__(
        self, kind: str, message: str, again: Again, retry_after: float | None = None
    ) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        """AWS's error code, or the class of what went wrong on the way."""
        self.message = message[:LONGEST_MESSAGE]
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
        text="".join(block.get("text", "") for block in blocks),
        stop_reason=answer.get("stopReason"),
        input_tokens=usage.get("inputTokens"),
        output_tokens=usage.get("outputTokens"),
    )


def sagemaker(model: SageMakerModel, endpoint_name: str, parameters: Parameters) -> Dialect:
    """Ask a model behind an endpoint (SageMaker Runtime: InvokeEndpoint).

    `messages` bodies are OpenAI's chat completions, which TGI, LMI and vLLM all speak; `inputs`
    bodies carry raw text, without a chat template.
    """
    body = _inputs if model.schema_ == "inputs" else _chat
    target = _without_none(
        EndpointName=endpoint_name, InferenceComponentName=model.inference_component_name
    )

    def request(prompt: Prompt) -> dict[str, Any]:
        return {
            **target,
            "ContentType": "application/json",
            "Accept": "application/json",
            "Body": json.dumps(body(prompt, parameters)).encode(),
        }

    def read(answer: Mapping[str, Any]) -> Answer:
        return read_engine(json.loads(answer["Body"]))

    return Dialect("sagemaker-runtime", "InvokeEndpoint", request, read)


def _inputs(prompt: Prompt, parameters: Parameters) -> dict[str, Any]:
    return {
        "inputs": f"{prompt.system}\n\n{prompt.text}" if prompt.system else prompt.text,
        "parameters": _without_none(
            max_new_tokens=parameters.max_tokens,
            temperature=parameters.temperature,
            top_p=parameters.top_p,
            stop=parameters.stop,
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
    """Read what the engines answer: chat or text completions, TGI's list or LMI's dict."""
    if isinstance(body, list):
        body = body[0]
    if "choices" in body:
        choice, usage = body["choices"][0], body.get("usage") or {}
        text = choice["message"]["content"] if "message" in choice else choice["text"]
        return Answer(
            text=text or "",
            stop_reason=choice.get("finish_reason"),
            input_tokens=usage.get("prompt_tokens"),
            output_tokens=usage.get("completion_tokens"),
        )
    details = body.get("details") or {}
    return Answer(
        text=body["generated_text"],
        stop_reason=details.get("finish_reason"),
        input_tokens=None,
        output_tokens=details.get("generated_tokens"),
    )


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
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        EndpointConnectionError,
        ReadTimeoutError,
    )

    try:
        answer = await client.call(dialect.operation, **dialect.request(prompt))
    except ClientError as error:
        raise _refused(error) from None
    except ReadTimeoutError as error:
        raise AskError("ReadTimeout", str(error), "overloaded") from None
    except EndpointConnectionError as error:
        raise AskError("ConnectionFailed", str(error), "again") from None
    except BotoCoreError as error:
        raise AskError(type(error).__name__, str(error), "never") from None
    try:
        return dialect.read(answer)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        message = f"the answer has a shape that is not known: {error!r}"
        raise AskError("UnknownAnswer", message, "never") from None


def _refused(error: ClientError) -> AskError:
    """Classify an error that AWS answered with."""
    problem = error.response.get("Error", {})
    metadata = error.response.get("ResponseMetadata", {})
    code, message = problem.get("Code", "ClientError"), problem.get("Message", "")
    status = int(metadata.get("HTTPStatusCode", 400))
    if code == "ModelError":
        # The endpoint's container answered: its own status and words tell more.
        status = int(error.response.get("OriginalStatusCode") or status)
    if THROTTLED.search(code):
        again: Again = "throttled"
    elif code in BY_CODE:
        again = BY_CODE[code]
    elif TIMED_OUT.search(message) or status == 503:
        again = "overloaded"
    elif status == 429:
        again = "throttled"
    elif status >= 500 or (code == "ModelError" and status == 424):
        again = "again"
    else:
        again = "never"
    return AskError(code, message, again, _retry_after(metadata.get("HTTPHeaders", {})))


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Read the header: seconds, or a date (RFC 9110, 10.2.3)."""
    said = headers.get("retry-after")
    if said is None:
        return None
    try:
        return max(0.0, float(said))
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
