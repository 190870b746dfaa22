"""SageMaker Runtime and Bedrock Runtime: requests in the shapes of engines and vendors, answered.

Each function takes a parsed body and returns one; faults and time are the server's business.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from include.sandbox import iam
from include.sandbox.conversation import Conversation, End, Reply, Turn
from include.sandbox.errors import AwsError, validation
from include.sandbox.models import Models
from include.sandbox.openai_backend import ServerError

Body = dict[str, Any]

NO_SAMPLING = re.compile(r"claude-(sonnet-[5-9]|opus-(4-[7-9]|[5-9]))")
NOT_BOTH = re.compile(r"claude-(sonnet|haiku|opus)-4-[56]")
END_OF_LIFE = re.compile(r"claude-3-7-sonnet|claude-sonnet-4-20250514|nova-premier")
VENDORS = re.compile(
    r"(^|\.)(anthropic|amazon|meta|mistral|cohere|ai21|deepseek|qwen|openai"
    r"|google|minimax|moonshot|nvidia|writer|zai)\."
)

OPENAI: dict[End, str] = {"end": "stop", "cut": "length", "filtered": "content_filter"}
BEDROCK: dict[End, str] = {"end": "end_turn", "cut": "max_tokens", "filtered": "content_filtered"}
TGI: dict[End, str] = {"end": "eos_token", "cut": "length", "filtered": "eos_token"}
ANTHROPIC: dict[End, str] = {"end": "end_turn", "cut": "max_tokens", "filtered": "refusal"}
"""How each protocol says why a reply ends."""
ENDPOINT_TIMED_OUT = (
    "Your invocation timed out while waiting for a response from container primary. Review the "
    "latency metrics for each container in Amazon CloudWatch, resolve the issue, and try again."
)
BEDROCK_TIMED_OUT = (
    "The request took too long to process. Processing time exceeded the model timeout length."
)
MODEL_FAILED = "The request failed due to an error while processing the model"


def endpoint_model(container: Body) -> str:
    """Name the model in a container: its Hugging Face id, else where its data lies."""
    environment = container.get("Environment", {})
    return str(environment.get("HF_MODEL_ID") or container.get("ModelDataUrl") or "unknown")


def invoke_endpoint(models: Models, container: Body, body: Body) -> Any:
    """Answer as the engine in the container does (TGI: list, LMI: dict, all: chat messages)."""
    model, image = endpoint_model(container), str(container.get("Image", ""))
    if "messages" in body:
        _check_top_p(image, body.get("top_p"))
        asked = _conversation(
            body["messages"],
            max_tokens=body.get("max_tokens"),
            temperature=body.get("temperature"),
            top_p=body.get("top_p"),
            stop=_texts(body.get("stop")),
        )
        with _refused_by(_endpoint_error):
            return _chat(model, models.answer(model, asked))
    if "inputs" not in body or "vllm" in image:
        needed = "messages" if "vllm" in image else "inputs or messages"
        raise _endpoint_error(ServerError(f"{needed} is required", 400))
    given = body.get("parameters") or {}
    _check_top_p(image, given.get("top_p"))
    asked = Conversation(
        (Turn("user", str(body["inputs"])),),
        raw=True,
        max_tokens=given.get("max_new_tokens"),
        temperature=given.get("temperature"),
        top_p=given.get("top_p"),
        stop=_texts(given.get("stop")),
    )
    with _refused_by(_endpoint_error):
        reply = models.answer(model, asked)
    is_lmi = "djl" in image or "lmi" in image
    whole = given.get("return_full_text", not is_lmi)  # TGI puts the prompt in front, unless asked
    generated: Body = {"generated_text": f"{body['inputs']}{reply.text}" if whole else reply.text}
    if given.get("details"):
        reason = TGI[reply.end]
        generated["details"] = {"finish_reason": reason, "generated_tokens": reply.output_tokens}
    return generated if is_lmi else [generated]


def _check_top_p(image: str, top_p: Any) -> None:
    """Refuse what TGI refuses (router/src/validation.rs): a top_p that leaves nothing out."""
    if "tgi" in image and top_p is not None and not 0 < top_p < 1:
        message = "Input validation error: `top_p` must be > 0.0 and < 1.0"
        raise _endpoint_error(ServerError(message, 422))


@contextmanager
def _refused_by(service: Callable[[ServerError], AwsError]) -> Iterator[None]:
    """Let a service say in its own way that the real model has not answered."""
    try:
        yield
    except ServerError as error:
        raise service(error) from None


def _endpoint_error(error: ServerError) -> AwsError:
    """Return what SageMaker Runtime says when the container does not answer, or not with 200."""
    if error.timed_out:
        status, message = 0, ENDPOINT_TIMED_OUT
    else:
        status, message = error.status or 503, error.message
    who = "client" if 400 <= status < 500 else "server"
    return AwsError(
        "ModelError",
        f'Received {who} error ({status}) from primary with message "{message}".',
        424,
        error.retry_after or 0,
    )


def _bedrock_error(error: ServerError) -> AwsError:
    """Return what Bedrock Runtime says when the model does not answer."""
    if error.timed_out:
        return AwsError("ModelTimeoutException", BEDROCK_TIMED_OUT, 408)
    if error.status == 429:
        message, after = f"Too many requests: {error.message}", error.retry_after or 0
        return AwsError("ThrottlingException", message, 429, after)
    if error.refused:
        return validation(error.message)
    status = f" ({error.status})" if error.status else ""
    return AwsError("ModelErrorException", f"{MODEL_FAILED}{status}: {error.message}", 424)


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
                "finish_reason": OPENAI[reply.end],
            }
        ],
        "usage": {
            "prompt_tokens": reply.input_tokens,
            "completion_tokens": reply.output_tokens,
            "total_tokens": reply.input_tokens + reply.output_tokens,
        },
    }


def converse(models: Models, model: str, body: Body) -> Body:
    """Answer Bedrock's Converse."""
    inference = body.get("inferenceConfig") or {}
    check_model(models, model)
    _check_sampling(model, "temperature" in inference, "topP" in inference)
    asked = _conversation(
        body.get("messages"),
        system=_text(body.get("system"), "\n"),
        max_tokens=inference.get("maxTokens"),
        temperature=inference.get("temperature"),
        top_p=inference.get("topP"),
        stop=_texts(inference.get("stopSequences")),
    )
    started = time.monotonic()
    with _refused_by(_bedrock_error):
        reply = models.answer(model, asked)
    return {
        "output": {"message": {"role": "assistant", "content": [{"text": reply.text}]}},
        "stopReason": BEDROCK[reply.end],
        "usage": {
            "inputTokens": reply.input_tokens,
            "outputTokens": reply.output_tokens,
            "totalTokens": reply.input_tokens + reply.output_tokens,
        },
        "metrics": {"latencyMs": int((time.monotonic() - started) * 1000)},
    }


def invoke_model(models: Models, model: str, body: Body) -> Body:
    """Answer Bedrock's InvokeModel, for the bodies of Anthropic and Amazon Nova."""
    if "anthropic_version" not in body:
        return converse(models, model, body)  # Nova's body is Converse's
    check_model(models, model)
    _check_sampling(model, "temperature" in body, "top_p" in body)
    if "max_tokens" not in body:
        raise validation("max_tokens: Field required")
    asked = _conversation(
        body.get("messages"),
        system=_text(body.get("system"), "\n"),
        max_tokens=body["max_tokens"],
        temperature=body.get("temperature"),
        top_p=body.get("top_p"),
        stop=_texts(body.get("stop_sequences")),
    )
    with _refused_by(_bedrock_error):
        reply = models.answer(model, asked)
    return {
        "id": "msg_sandbox",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": reply.text}],
        "stop_reason": ANTHROPIC[reply.end],
        "usage": {"input_tokens": reply.input_tokens, "output_tokens": reply.output_tokens},
    }


def check_model(models: Models, model: str) -> None:
    """Refuse models that Bedrock no longer has, and those that it never had."""
    if END_OF_LIFE.search(model):
        raise AwsError(
            "ResourceNotFoundException",
            "This model version has reached the end of its life. "
            "Please refer to the AWS documentation for more details.",
            404,
        )
    if not VENDORS.search(model) and not models.knows(model):
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


def _conversation(messages: Any, system: str = "", **parameters: Any) -> Conversation:
    """Read chat messages; what they hold of a system prompt is added to the given one."""
    if not isinstance(messages, list) or not messages:
        raise validation("messages: at least one message is required")
    systems, turns = [system], []
    for message in messages:
        if not isinstance(message, dict):
            raise validation("messages: every message must be an object")
        role, text = message.get("role"), _text(message.get("content"))
        if role in ("system", "developer"):
            systems.append(text)
        elif role in ("user", "assistant"):
            turns.append(Turn(role, text))
        else:
            raise validation(f"messages: {role!r} is not a role; user, assistant and system are")
    if not turns:
        raise validation("messages: at least one message must be the user's")
    return Conversation(tuple(turns), "\n".join(filter(None, systems)), **parameters)


def _text(content: Any, between: str = "") -> str:
    """Return the text in a content: a text, or blocks of which some are text."""
    if isinstance(content, list):
        texts = [block.get("text") for block in content if isinstance(block, dict)]
        return between.join(text for text in texts if isinstance(text, str))
    return "" if content is None else str(content)


def _texts(value: Any) -> tuple[str, ...]:
    """Return a text or a list of texts as texts."""
    if isinstance(value, str):
        return (value,)
    return tuple(str(text) for text in value) if isinstance(value, list) else ()


def inference_profile(models: Models, model: str, region: str) -> Body:
    """Answer Bedrock's GetInferenceProfile."""
    check_model(models, model)
    *led_to, own = iam.model_arns(model, region)
    if not led_to:
        raise AwsError("ResourceNotFoundException", f"There is no inference profile {model}.", 404)
    return {
        "inferenceProfileName": model,
        "inferenceProfileId": model,
        "inferenceProfileArn": own,
        "models": [{"modelArn": arn} for arn in led_to],
        "status": "ACTIVE",
        "type": "SYSTEM_DEFINED",
    }


def foundation_model(models: Models, model: str, region: str) -> Body:
    """Answer Bedrock's GetFoundationModel."""
    check_model(models, model)
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
