"""Facts about errors: what may pass is tried again, what may not is said at once, in a sentence."""

from typing import Any

import botocore.exceptions as botocore
import pytest
from airflow.sdk.exceptions import AirflowFailException
from botocore.exceptions import ClientError

from include import account, prompts, rows
from include.config_files import load_environment
from include.errors import (
    AccountError,
    AccountUnreachableError,
    ConfigError,
    DatasetError,
    UnreachableError,
    is_transient,
)
from include.tasks import readable_errors
from scripts.command import INTERRUPTED, WRONG, plainly

NOWHERE = botocore.EndpointConnectionError(endpoint_url="https://s3")


def refusal(code: str, status: int) -> ClientError:
    answer: Any = {
        "Error": {"Code": code, "Message": "no"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(answer, "GetObject")


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (refusal("SlowDown", 503), True),
        (refusal("InternalError", 500), True),
        (refusal("ThrottlingException", 400), True),
        (refusal("NoSuchKey", 404), False),
        (refusal("AccessDenied", 403), False),
        (NOWHERE, True),
        (botocore.NoCredentialsError(), True),
        (botocore.SSLError(endpoint_url="s3", error="[SSL: CERTIFICATE_VERIFY_FAILED]"), False),
        (botocore.SSLError(endpoint_url="s3", error="[SSL: UNEXPECTED_EOF_WHILE_READING]"), True),
        (botocore.ProfileNotFound(profile="typo"), False),
        (ConnectionResetError("reset"), True),
        (OSError(28, "No space left on device"), False),
    ],
)
def test_what_may_pass_is_told_from_what_a_person_has_to_mend(
    error: Exception, passes: bool
) -> None:
    assert is_transient(error) == passes


class Refusing:
    """A client that refuses everything."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getattr__(self, name: str) -> Any:
        def refuse(*_: Any, **__: Any) -> Any:
            raise self.error

        return refuse


@pytest.mark.parametrize(
    ("error", "kind"),
    [(refusal("SlowDown", 503), UnreachableError), (refusal("404", 404), DatasetError)],
)
def test_prompts_on_s3_that_cannot_be_read_now_are_no_mistake_in_the_config(
    error: Exception, kind: type[Exception]
) -> None:
    s3: Any = Refusing(error)
    with (
        pytest.raises(kind, match="cannot be read"),
        rows.open_rows("s3://b/p.jsonl", s3, key="dataset.source"),
    ):
        pass


@pytest.mark.parametrize(
    ("error", "kind"),
    [(NOWHERE, AccountUnreachableError), (refusal("AccessDenied", 403), AccountError)],
)
def test_an_account_that_does_not_answer_now_is_asked_again(
    error: Exception, kind: type[Exception]
) -> None:
    sts: Any = Refusing(error)
    with pytest.raises(AccountError) as caught:
        account.check(sts, load_environment("sandbox"))
    assert type(caught.value) is kind


def test_a_task_is_tried_again_only_where_that_may_help() -> None:
    with pytest.raises(AirflowFailException, match="ConfigError: wrong"), readable_errors():
        raise ConfigError("wrong")
    with pytest.raises(UnreachableError), readable_errors():
        raise UnreachableError("not now")


def test_a_hub_that_is_not_well_is_told_from_a_data_set_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import httpx

    broken = RuntimeError("cannot load")
    broken.__cause__ = httpx.ReadTimeout("slow")
    assert prompts._is_passing(broken)
    assert prompts._is_passing(ConnectionError("the Hub"))
    assert not prompts._is_passing(FileNotFoundError("no such data set"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert not prompts._is_passing(ConnectionError("(OfflineModeIsEnabled)"))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConfigError("judge.recipe: wrong"), "Error: judge.recipe: wrong\n"),
        (refusal("NoSuchBucket", 404), "Error: ClientError: An error occurred (NoSuchBucket)"),
        (botocore.ProfileNotFound(profile="typo"), "Error: ProfileNotFound: The config profile"),
        (PermissionError(13, "Permission denied", "out"), "Error: PermissionError: [Errno 13]"),
    ],
)
def test_a_command_says_what_went_wrong_without_a_traceback(
    error: Exception, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    @plainly
    def main() -> int:
        raise error

    assert main() == WRONG
    assert capsys.readouterr().err.startswith(said)


def test_a_command_keeps_the_traceback_of_a_mistake_of_ours_and_ends_quietly_on_ctrl_c() -> None:
    @plainly
    def wrong() -> int:
        raise AssertionError

    @plainly
    def ended() -> int:
        raise KeyboardInterrupt

    with pytest.raises(AssertionError):
        wrong()
    assert ended() == INTERRUPTED
