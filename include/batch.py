"""Prompts in, the records of a Bedrock batch inference job out; and back: what it wrote, read.

Sources: Bedrock user guide, "Format and upload your batch inference data" and "View the results of
a batch inference job"; CreateModelInvocationJob.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from types import TracebackType
from typing import IO, Any

from include.config import BedrockModel, Environment
from include.providers import Dialect, read_converse
from include.records import Prompt, Response


def record(place: int, dialect: Dialect, prompt: Prompt) -> bytes:
    """Write one line of a job's input; the record's id is the prompt's place in the data set."""
    request = dialect.request(prompt)
    request.pop("modelId")  # the job says it once for all
    return json.dumps({"recordId": _record_id(place), "modelInput": request}).encode() + b"\n"


def _record_id(place: int) -> str:
    """Return the eleven letters and digits that Bedrock's own examples have."""
    return f"P{place:010d}"


def job(
    environment: Environment,
    model: BedrockModel,
    *,
    input_uri: str,
    output_uri: str,
    tags: list[dict[str, str]],
) -> dict[str, Any]:
    """Build a job's request (Bedrock: CreateModelInvocationJob), without its names.

    Args:
        environment: Where it runs.
        model: What is asked.
        input_uri: The records.
        output_uri: A folder.
        tags: As SageMaker writes them.
    """
    output: dict[str, Any] = {"s3Uri": output_uri}
    if environment.kms_key_arn:
        output["s3EncryptionKeyId"] = environment.kms_key_arn
    request: dict[str, Any] = {
        "roleArn": model.role_arn or environment.execution_role_arn,
        "modelId": model.model_id,
        "modelInvocationType": "Converse",
        "inputDataConfig": {"s3InputDataConfig": {"s3Uri": input_uri, "s3InputFormat": "JSONL"}},
        "outputDataConfig": {"s3OutputDataConfig": output},
        "timeoutDurationInHours": 24,
        "tags": [{"key": tag["Key"], "value": tag["Value"]} for tag in tags],
    }
    if environment.vpc:
        request["vpcConfig"] = {
            "subnetIds": list(environment.vpc.subnets),
            "securityGroupIds": list(environment.vpc.security_group_ids),
        }
    return request


class Output:
    """What a job wrote: one answer or error a line, in any order; a context manager.

    Args:
        files: The `.jsonl.out` objects; they are closed at the end.
    """

    def __init__(self, files: Iterable[IO[bytes]]) -> None:
        self._files = list(files)
        self._lines: dict[str, tuple[IO[bytes], int]] = {}
        for file in self._files:
            self._find_lines(file)

    def __enter__(self) -> Output:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the files."""
        for file in self._files:
            file.close()

    def _find_lines(self, file: IO[bytes]) -> None:
        """Note where each record begins: answers are read when their prompt's turn comes."""
        at = 0
        for line in file:
            record_id = _parsed(line).get("recordId")
            if isinstance(record_id, str):
                self._lines[record_id] = (file, at)
            at += len(line)

    def response(self, place: int, prompt: Prompt, model: str) -> Response:
        """Return what the job says to one prompt.

        Args:
            place: The prompt's place in the data set.
            prompt: The prompt.
            model: The model's name in the evaluation.
        """
        if _record_id(place) not in self._lines:
            message = "the batch job ended without an answer to it"
            return _failed(prompt, model, "NotProcessed", message)
        file, at = self._lines[_record_id(place)]
        file.seek(at)
        line = _parsed(file.readline())
        error = line.get("error")
        if error:
            said = error if isinstance(error, dict) else {"errorMessage": str(error)}
            code = str(said.get("errorCode", "BatchError"))
            return _failed(prompt, model, code, str(said.get("errorMessage", "")))
        try:
            answer = read_converse(line["modelOutput"])
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as problem:
            message = f"the answer has a shape that is not known: {problem!r}"
            return _failed(prompt, model, "UnknownAnswer", message)
        outcome = answer.outcome
        return Response(
            prompt_id=prompt.prompt_id,
            model=model,
            outcome=outcome,
            text=answer.text if outcome in ("ok", "truncated") else None,
            input_tokens=answer.input_tokens,
            output_tokens=answer.output_tokens,
            stop_reason=answer.stop_reason,
        )


def _parsed(line: bytes) -> dict[str, Any]:
    """Return a line as an object; an empty one if it is none."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _failed(prompt: Prompt, model: str, kind: str, message: str) -> Response:
    return Response(
        prompt_id=prompt.prompt_id,
        model=model,
        outcome="error",
        text=None,
        error_type=kind,
        error_message=message[:2000],
    )
