"""A model and an AWS client in, answers out: one Response per Prompt, whatever happens.

Each provider is one function that sends one request; retries within a request are botocore's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypedDict

from include.config import BedrockModel, Parameters, SageMakerModel
from include.records import Outcome, Prompt, Response

if TYPE_CHECKING:
    from botocore.client import BaseClient

Ask = Callable[[Prompt], Response]
"""Sends one prompt to one model. Never raises for what the service answered."""

STOPPED_EARLY = {"max_tokens", "length", "model_context_window_exceeded"}
REFUSED = {"content_filtered", "guardrail_intervened", "refusal", "content_filter"}


class Answer(TypedDict):
    """What a service said, before it is judged usable or not."""

    text: str
    stop_reason: str | None
    input_tokens: int | None
    output_tokens: int | None


def bedrock(client: BaseClient, model: BedrockModel, parameters: Parameters) -> Ask:
    """Ask a Bedrock model (Bedrock Runtime: Converse)."""

    def send(prompt: Prompt) -> tuple[Answer, Any]:
        request: dict[str, Any] = {
            "modelId": model.model_id,
            "messages": [{"role": "user", "content": [{"text": prompt.text}]}],
            "inferenceConfig": _without_none(
                maxTokens=parameters.max_tokens,
                temperature=parameters.temperature,
                topP=parameters.top_p,
                stopSequences=parameters.stop,
            ),
        }
        if prompt.system:
            request["system"] = [{"text": prompt.system}]
        answer = client.converse(**request)
        blocks = answer["output"]["message"]["content"]
        usage = answer.get("usage", {})
        return {
            "text": "".join(block.get("text", "") for block in blocks),
            "stop_reason": answer.get("stopReason"),
            "input_tokens": usage.get("inputTokens"),
            "output_tokens": usage.get("outputTokens"),
        }, answer["ResponseMetadata"]

    return _recording(model.name, send)


def sagemaker(
    client: BaseClient, model: SageMakerModel, endpoint_name: str, parameters: Parameters
) -> Ask:
    """Ask a model behind an endpoint (SageMaker Runtime: InvokeEndpoint).

    `messages` bodies are OpenAI's chat completions, which TGI, LMI and vLLM all speak; `inputs`
    bodies carry raw text, without a chat template.
    """

    def send(prompt: Prompt) -> tuple[Answer, Any]:
        answer = client.invoke_endpoint(
            EndpointName=endpoint_name,
            ContentType="application/json",
            Accept="application/json",
            Body=json.dumps(_endpoint_body(model.schema_, prompt, parameters)).encode(),
        )
        return _read_endpoint_body(json.loads(answer["Body"].read())), answer["ResponseMetadata"]

    return _recording(model.name, send)


def _endpoint_body(schema: str, prompt: Prompt, parameters: Parameters) -> dict[str, Any]:
    if schema == "inputs":
        return {
            "inputs": f"{prompt.system}\n\n{prompt.text}" if prompt.system else prompt.text,
            "parameters": _without_none(
                max_new_tokens=parameters.max_tokens,
                temperature=parameters.temperature,
                top_p=parameters.top_p,
                stop=parameters.stop,
            ),
        }
    system = [{"role": "system", "content": prompt.system}] if prompt.system else []
    return {
        "messages": [*system, {"role": "user", "content": prompt.text}],
        **_without_none(
            max_tokens=parameters.max_tokens,
            temperature=parameters.temperature,
            top_p=parameters.top_p,
            stop=parameters.stop,
        ),
    }


def _read_endpoint_body(body: Any) -> Answer:
    """Read what the engines answer: chat completions, TGI's list or LMI's dict."""
    if isinstance(body, list):
        body = body[0]
    if "choices" in body:
        choice, usage = body["choices"][0], body.get("usage") or {}
        return {
            "text": choice["message"]["content"] or "",
            "stop_reason": choice.get("finish_reason"),
            "input_tokens": usage.get("prompt_tokens"),
            "output_tokens": usage.get("completion_tokens"),
        }
    details = body.get("details") or {}
    return {
        "text": body["generated_text"],
        "stop_reason": details.get("finish_reason"),
        "input_tokens": None,
        "output_tokens": details.get("generated_tokens"),
    }


def _recording(model: str, send: Callable[[Prompt], tuple[Answer, Any]]) -> Ask:
    """Turn a request into a record: the answer, or what went wrong."""

    def ask(prompt: Prompt) -> Response:
        from botocore.exceptions import BotoCoreError, ClientError

        started = time.monotonic()
        try:
            answer, metadata = send(prompt)
        except ClientError as error:
            problem = error.response.get("Error", {})
            metadata = error.response.get("ResponseMetadata", {})
            return _failed(
                prompt,
                model,
                problem.get("Code", "ClientError"),
                problem.get("Message", ""),
                metadata,
            )
        except BotoCoreError as error:
            return _failed(prompt, model, type(error).__name__, str(error), {})
        except (KeyError, IndexError, TypeError, ValueError) as error:
            message = f"the answer has a shape that is not known: {error!r}"
            return _failed(prompt, model, "UnknownAnswer", message, {})
        outcome = _outcome(answer)
        return Response(
            prompt_id=prompt.prompt_id,
            model=model,
            outcome=outcome,
            text=answer["text"] if outcome in ("ok", "truncated") else None,
            attempts=1 + metadata.get("RetryAttempts", 0),
            latency_ms=round((time.monotonic() - started) * 1000, 1),
            input_tokens=answer["input_tokens"],
            output_tokens=answer["output_tokens"],
            stop_reason=answer["stop_reason"],
        )

    return ask


def _outcome(answer: Answer) -> Outcome:
    if answer["stop_reason"] in REFUSED:
        return "refused"
    if not answer["text"].strip():
        return "empty"
    return "truncated" if answer["stop_reason"] in STOPPED_EARLY else "ok"


def _failed(prompt: Prompt, model: str, kind: str, message: str, metadata: Any) -> Response:
    return Response(
        prompt_id=prompt.prompt_id,
        model=model,
        outcome="error",
        text=None,
        error_type=kind,
        error_message=message[:2000],
        attempts=1 + metadata.get("RetryAttempts", 0),
    )


def _without_none(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
