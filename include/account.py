"""Which account is this? Asked of STS before anything else happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.config import Environment
from include.errors import AccountError, AccountUnreachableError, is_transient

if TYPE_CHECKING:
    from botocore.client import BaseClient

QUICK = {"connect_timeout": 5, "read_timeout": 5, "retries": {"total_max_attempts": 2}}
"""botocore config for the check: a dead address is known within 20 seconds."""

PATIENT = {
    "connect_timeout": 5,
    "read_timeout": 15,
    "retries": {"mode": "standard", "total_max_attempts": 8},
}
"""For what is asked once and can be done without: half a minute of trouble is borne, and where
nobody ever answers, a good minute is lost."""


def check(sts: BaseClient, environment: Environment) -> None:
    """Compare the account behind a connection with the environment's (STS: GetCallerIdentity).

    Raises:
        AccountError: No answer (then an `UnreachableError`, too), no right to one, another account
            or another region.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    where = f"environment {environment.name} (connection {environment.aws_conn_id})"
    try:
        account = sts.get_caller_identity()["Account"]
    except (BotoCoreError, ClientError) as error:
        if is_transient(error):
            raise AccountUnreachableError(f"{where}: AWS does not answer: {error}") from None
        raise AccountError(f"{where}: AWS does not say which account it is: {error}") from None
    if account != environment.account_id:
        raise AccountError(
            f"{where}: the connection leads to account {account}, the environment says "
            f"{environment.account_id}; correct the connection, or account_id"
        )
    if sts.meta.region_name != environment.region:
        raise AccountError(
            f"{where}: the connection's region is {sts.meta.region_name}, the environment says "
            f"{environment.region}; set region_name in the connection's extra"
        )
