"""What can go wrong, as types.

Each message says where (file, row, key or resource), what was expected and what to do.

    JudgeError
    ├── ConfigError        a key of an evaluation, model or environment is wrong
    ├── DatasetError       the prompts cannot be read
    ├── AccountError       AWS is not the account that the environment names, or nobody knows
    ├── UnreachableError   AWS or the Hugging Face Hub did not answer this time; a retry may do
    ├── DeploymentError    an endpoint did not come into service
    ├── GenerationError    more responses failed than the evaluation allows
    ├── BudgetError        what the run may cost does not suffice for this
    ├── ResponsesError     responses that a comparison needs are not there; a retry finds no others
    ├── JudgeJobError      the judge's training job failed or was stopped
    ├── ResultsError       what the judge wrote cannot be read
    ├── LabelsError        people's labels cannot be read, or are not about this run
    └── ErasureError       what should be gone is still on S3
"""


class JudgeError(Exception):
    """Base of all errors that a person can act on; shown without a traceback."""


class ConfigError(JudgeError):
    """A key of an evaluation, model or environment is wrong."""


class DatasetError(JudgeError):
    """The prompts cannot be read."""


class AccountError(JudgeError):
    """AWS is not the account that the environment names, or nobody knows."""


class UnreachableError(JudgeError):
    """AWS or the Hugging Face Hub did not answer this time: another try may find them well."""


class AccountUnreachableError(AccountError, UnreachableError):
    """AWS did not say which account it is."""


class DeploymentError(JudgeError):
    """An endpoint did not come into service."""


class GenerationError(JudgeError):
    """More responses failed than the evaluation allows."""


class ResponsesError(JudgeError):
    """Responses that a comparison needs are not there, or not usable: to be asked for first."""


class JudgeJobError(JudgeError):
    """The judge's training job failed or was stopped."""


class ResultsError(JudgeError):
    """What the judge wrote cannot be read."""


class BudgetError(JudgeError):
    """What the run may cost does not suffice for this."""


class LabelsError(JudgeError):
    """People's labels cannot be read, or are not about this run."""


class ErasureError(JudgeError):
    """What should be gone is still on S3."""


TRANSIENT = ("RequestLimitExceeded", "RequestTimeout", "SlowDown", "Throttling", "TooManyRequests")
"""How the code of an error begins that another try may not meet."""


def is_transient(error: Exception) -> bool:
    """Whether it was AWS's moment: no answer, too many requests, or a fault of its own (5xx).

    So are credentials that could not be had: a busy machine's own service gives none now and then.

    Args:
        error: Of botocore, or on the way to AWS.
    """
    from botocore import exceptions as botocore

    if isinstance(error, botocore.SSLError):  # of a wrong certificate, or of a cut handshake
        return "CERTIFICATE" not in str(error)
    if not isinstance(error, botocore.ClientError):
        unanswered = (
            botocore.ConnectionError,
            botocore.CredentialRetrievalError,
            botocore.HTTPClientError,
            botocore.IncompleteReadError,
            botocore.NoCredentialsError,
            ConnectionError,
            TimeoutError,
        )
        return isinstance(error, unanswered)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400)
    return bool(status >= 500 or error.response["Error"]["Code"].startswith(TRANSIENT))


def unread(message: str, error: Exception, otherwise: type[JudgeError]) -> JudgeError:
    """Return what to raise where something on AWS cannot be read.

    Args:
        message: What cannot be read.
        error: Of botocore or boto3.
        otherwise: What it is unless it may pass.
    """
    kind = UnreachableError if is_transient(error) else otherwise
    return kind(f"{message}: {error}")
