"""SageMaker Runtime and Bedrock Runtime: requests in the shapes of engines and vendors, answered.

Each function takes a parsed body and returns one; faults and time are the server's business.
"""

from __future__ import annotations

import re
import time
from typing import Any

from include.sandbox.errors import AwsError, validation
from include.sandbox.models import Recordings, Reply, answer

Body = dict[str, Any]

NO_SAMPLING = re.compile(r"claude-(sonnet-[5-9]|opus-(4-[7-9]|[5-9]))")
NOT_BOTH = re.compile(r"claude-(sonnet|haiku|opus)-4-[56]")
END_OF_LIFE = re.compile(r"claude-3-7-sonnet|claude-sonnet-4-20250514|nova-premier")
VENDORS = re.compile(r"(^|\.)(anthropic|amazon|meta|mistral|cohere|ai21|deepseek|qwen|openai)\.")


def endpoint_model(container: Body) -> str:
    """Name the model in a container: its Hugging Face id, else where its data lies."""
    environment = container.get("Environment", {})
    return str(environment.get("HF_MODEL_ID") or container.get("ModelDataUrl") or "unknown")


def invoke_endpoint(recordings: Recordings, container: Body, body: Body) -> Any:
    """Answer as the engine in the container does (TGI: list, LMI: dict, all: chat messages)."""
    model, image = endpoint_model(container), str(container.get("Image", ""))
    if "messages" in body:
        system, prompt = _conversation(body["messages"])
        return _chat(model, answer(recordings, model, system, prompt, body.get("max_tokens")))
    if "inputs" not in body or "vllm" in image:
        needed = "messages" if "vllm" in image else "inputs or messages"
        raise AwsError(
            "ModelError",
            f'Received client error (400) from primary with message "{needed} is required".',
            424,
        )
    limit = body.get("parameters", {}).get("max_new_tokens")
    reply = answer(recordings, model, "", body["inputs"], limit)
    generated = {"generated_text": reply.text}
    return generated if "djl" in image or "lmi" in image else [generated]


def _chat(model: str, reply: Reply) -> Body:
    return {
        "id": "chatcmpl-sandbox",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": reply.text},
                "finish_reason": "length" if reply.cut else "stop",
            }
        ],
        "usage": {
            "prompt_tokens": reply.input_tokens,
            "completion_tokens": reply.output_tokens,
            "total_tokens": reply.input_tokens + reply.output_tokens,
        },
    }


def converse(recordings: Recordings, model: str, body: Body) -> Body:
    """Answer Bedrock's Converse."""
    inference = body.get("inferenceConfig", {})
    check_model(recordings, model)
    _check_sampling(model, "temperature" in inference, "topP" in inference)
    system = "\n".join(block.get("text", "") for block in body.get("system", []))
    _, prompt = _conversation(body.get("messages", []))
    started = time.monotonic()
    reply = answer(recordings, model, system, prompt, inference.get("maxTokens"))
    return {
        "output": {"message": {"role": "assistant", "content": [{"text": reply.text}]}},
        "stopReason": "max_tokens" if reply.cut else "end_turn",
        "usage": {
            "inputTokens": reply.input_tokens,
            "outputTokens": reply.output_tokens,
            "totalTokens": reply.input_tokens + reply.output_tokens,
        },
        "metrics": {"latencyMs": int((time.monotonic() - started) * 1000)},
    }


def invoke_model(recordings: Recordings, model: str, body: Body) -> Body:
    """Answer Bedrock's InvokeModel, for the bodies of Anthropic and Amazon Nova."""
    if "anthropic_version" not in body:
        return converse(recordings, model, body)  # Nova's body is Converse's
    check_model(recordings, model)
    _check_sampling(model, "temperature" in body, "top_p" in body)
    if "max_tokens" not in body:
        raise validation("max_tokens: Field required")
    _, prompt = _conversation(body.get("messages", []))
    reply = answer(recordings, model, str(body.get("system", "")), prompt, body["max_tokens"])
    return {
        "id": "msg_sandbox",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": reply.text}],
        "stop_reason": "max_tokens" if reply.cut else "end_turn",
        "usage": {"input_tokens": reply.input_tokens, "output_tokens": reply.output_tokens},
    }


def check_model(recordings: Recordings, model: str) -> None:
    """Refuse models that Bedrock no longer has, and those that it never had."""
    if END_OF_LIFE.search(model):
        raise AwsError(
            "ResourceNotFoundException",
            "This model version has reached the end of its life. "
            "Please refer to the AWS documentation for more details.",
            404,
        )
    if not VENDORS.search(model) and not recordings.knows(model):
        raise validation("The provided model identifier is invalid.")


def _check_sampling(model: str, temperature: bool, top_p: bool) -> None:
    if NO_SAMPLING.search(model) and (temperature or top_p):
        key = "temperature" if temperature else "top_p"
        raise validation(f"`{key}` is deprecated for this model.")
    if NOT_BOTH.search(model) and temperature and top_p:
        raise validation(
            "`temperature` and `top_p` cannot both be specified for this model. "
            "Please use only one."
        )


def _conversation(messages: Any) -> tuple[str, str]:
    """Return the system text and the last user text of chat messages."""
    if not isinstance(messages, list) or not messages:
        raise validation("messages: at least one message is required")
    texts = {"system": "", "user": ""}
    for message in messages:
        if not isinstance(message, dict):
            raise validation("messages: every message must be an object")
        content = message.get("content", "")
        if isinstance(content, list):
            content = "".join(block.get("text", "") for block in content)
        texts[str(message.get("role"))] = str(content)
    return texts["system"], texts["user"]


def foundation_model(recordings: Recordings, model: str, region: str) -> Body:
    """Answer Bedrock's GetFoundationModel."""
    check_model(recordings, model)
    vendor = model.split(".")[-2] if "." in model else "unknown"
    return {
        "modelDetails": {
            "modelArn": f"arn:aws:bedrock:{region}::foundation-model/{model}",
            "modelId": model,
            "modelName": model,
            "providerName": vendor,
            "inputModalities": ["TEXT"],
            "outputModalities": ["TEXT"],
            "responseStreamingSupported": True,
            "inferenceTypesSupported": ["ON_DEMAND"],
            "modelLifecycle": {"status": "ACTIVE"},
        }
    }
