"""What can go wrong, as types.

Each message says where (file, row, key or resource), what was expected and what to do.

    JudgeError
    ├── ConfigError        a key of an evaluation, model or environment is wrong
    ├── DatasetError       the prompts cannot be read
    ├── AccountError       AWS does not answer, or is not the account that the environment names
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
    """AWS does not answer, or is not the account that the environment names."""


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
