"""Prompts in, the records of a Bedrock batch inference job out; and back: what it wrote, read.

Sources: Bedrock user guide, "Format and upload your batch inference data" and "View the results of
a batch inference job"; CreateModelInvocationJob.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterable
from types import TracebackType
from typing import IO, Any

from include.config import BedrockModel, Environment
from include.providers import LONGEST_MESSAGE, UNREADABLE, Dialect, read_converse
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
    name: str,
    input_uri: str,
    output_uri: str,
    tags: list[dict[str, str]],
) -> dict[str, Any]:
    """Build a job's request (Bedrock: CreateModelInvocationJob).

    Args:
        environment: Where it runs.
        model: What is asked.
        name: The job's, and its token: a second request of the same name starts nothing.
        input_uri: The records.
        output_uri: A folder.
        tags: As SageMaker writes them.
    """
    output: dict[str, Any] = {"s3Uri": output_uri}
    if environment.kms_key_arn:
        output["s3EncryptionKeyId"] = environment.kms_key_arn
    request: dict[str, Any] = {
        "jobName": name,
        "clientRequestToken": name,
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

    Nothing of it is trusted: lines that are no records are as if they were not there.

    Args:
        files: The `.jsonl.out` objects; they are closed at the end.
        count: How many prompts the data set has.
        ended: What became of the job, for the prompts that it left without an answer.
    """

    def __init__(self, files: Iterable[IO[bytes]], count: int, ended: str) -> None:
        self._files = list(files)
        self._ended = ended
        # Eight bytes and two for each prompt, however many there are.
        self._lines, self._where = array("q", [-1]) * count, array("H", [0]) * count
        for number, file in enumerate(self._files):
            self._find_lines(number, file)

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

    def _find_lines(self, number: int, file: IO[bytes]) -> None:
        """Note where each record begins: answers are read when their prompt's turn comes."""
        at = 0
        for line in file:
            row = _parsed(line)
            place = _place(row.get("recordId"))
            if place is not None and place < len(self._lines):
                is_better = self._lines[place] < 0 or not row.get("error")
                if is_better:
                    self._lines[place], self._where[place] = at, number
            at += len(line)

    def response(self, place: int, prompt: Prompt, model: str) -> Response:
        """Return what the job says to one prompt.

        Args:
            place: The prompt's place in the data set.
            prompt: The prompt.
            model: The model's name in the evaluation.
        """
        if self._lines[place] < 0:
            message = f"{self._ended} without an answer to it"
            return _failed(prompt, model, "NotProcessed", message)
        file = self._files[self._where[place]]
        file.seek(self._lines[place])
        line = _parsed(file.readline())
        error = line.get("error")
        if error:
            said = error if isinstance(error, dict) else {"errorMessage": str(error)}
            code = str(said.get("errorCode", "BatchError"))
            return _failed(prompt, model, code, str(said.get("errorMessage", "")))
        try:
            answer = read_converse(line["modelOutput"])
            return answer.response(prompt, model)
        except UNREADABLE as problem:
            message = f"the answer has a shape that is not known: {problem!r}"
            return _failed(prompt, model, "UnknownAnswer", message)


def _place(record_id: Any) -> int | None:
    """Return the place that a record's id stands for; None if it is none of ours."""
    if isinstance(record_id, str) and re.fullmatch(r"P[0-9]{10}", record_id):
        return int(record_id[1:])
    return None


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
        error_message=message[:LONGEST_MESSAGE],
    )
