"""AWS's refusals, as exceptions that the server turns into AWS's error shapes."""

from __future__ import annotations


class AwsError(Exception):
    """An error that AWS answers with."""

    def __init__(self, code: str, message: str, status: int = 400, retry_after: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.headers = {"Retry-After": str(retry_after)} if retry_after else {}


def validation(message: str) -> AwsError:
    """Return what AWS calls a ValidationException."""
    return AwsError("ValidationException", message)


class ContainerError(Exception):
    """Why a job fails: its FailureReason."""


def refusal(message: str) -> ContainerError:
    """Return what the judge's container says about input that it does not take."""
    return ContainerError(f"AlgorithmError: {message}, exit code: 1")
