"""Look at an AWS account without changing it; print what is fine, what is not and what to do."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from include import account, preflight
from include.config import Environment, RunConfig
from include.config_files import chosen_environment, load_environment, resolve_config
from include.errors import AccountError
from include.findings import Finding
from include.runs import Client
from include.storage import RunFolder
from scripts import local
from scripts.command import plainly
from scripts.run import load

NOT_UP = "the sandbox is not running; start it with `make up`"


def diagnose(config: RunConfig, client: preflight.Client) -> list[Finding]:
    """Look at identity and region first, and at the rest only if they are the environment's.

    Args:
        config: The run that the account is meant for.
        client: Makes boto3 clients: service name, then botocore config options.

    Returns:
        Findings of all levels.
    """
    environment = config.environment
    try:
        identify(environment, client)
    except AccountError as error:
        fix = f"correct the Airflow connection {environment.aws_conn_id}, or what AWS's tools use"
        return [Finding("refused", "identity", str(error), None if str(error) == NOT_UP else fix)]
    found = f"account {environment.account_id} in {environment.region}"
    return [Finding("ok", "identity", found), *preflight.check(config, client)]


def identify(environment: Environment, client: preflight.Client) -> None:
    """Compare the account with the environment's.

    Raises:
        AccountError: It is another one, or nobody answers.
    """
    try:
        account.check(client("sts", **account.QUICK), environment)
    except AccountError as error:
        if environment.kind == "sandbox" and "does not answer" in str(error):
            raise AccountError(NOT_UP) from None
        raise


def text(findings: Sequence[Finding]) -> str:
    """Write one line for each finding, its fix below it, and all commands at the end."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.level:<8} {finding.what}: {finding.message}")
        if finding.fix:
            lines.append(f"{'':<8} -> {finding.fix}")
    commands = list(dict.fromkeys(finding.command for finding in findings if finding.command))
    if commands:
        lines += ["", "To request it all (read each command before you run it):", "", *commands]
    return "\n".join(lines)


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 1 if anything is refused, else 0."""
    return int(any(finding.level == "refused" for finding in findings))


def connect(place: local.Place) -> None:
    """Give this process the connections that Airflow has, without starting Airflow."""
    os.environ.update(local.airflow_environment(place))
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"


def output(name: str | None) -> RunFolder:
    """Return where an environment's runs and their history lie, once its account is known.

    Args:
        name: The environment's; None for $NOVA_JUDGE_ENVIRONMENT, else the sandbox.

    Raises:
        AccountError: Its AWS is not there, or not the one.
        ConfigError: There is no such environment.
    """
    environment = load_environment(chosen_environment(name))
    return RunFolder(reach(environment)("s3"), environment.output_s3_uri)


def reach(environment: Environment, region: str | None = None) -> Client:
    """Return the way to an environment's AWS, once its account is known.

    Args:
        environment: The environment.
        region: Of the clients; default: the environment's.

    Raises:
        AccountError: Its AWS is not there, or not the one.
    """
    connect(local.Place.from_environment())
    from include.tasks import aws

    identify(environment, aws(environment.aws_conn_id))
    return aws(environment.aws_conn_id, region)


@plainly
def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="make doctor", description=__doc__)
    parser.add_argument("--env", help="environment to look at (ENV=)")
    parser.add_argument("--config", type=Path, help="evaluation that it is meant for (CONFIG=)")
    parser.add_argument("--cwd", type=Path, default=Path.cwd(), help="where paths start")
    arguments = parser.parse_args()
    config = resolve_config(load(arguments.config, arguments.env, arguments.cwd))
    connect(local.Place.from_environment())
    from include.tasks import aws

    findings = diagnose(config, aws(config.environment.aws_conn_id))
    print(text(findings))
    return exit_code(findings)


if __name__ == "__main__":
    sys.exit(main())
