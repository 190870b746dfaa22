"""One evaluation from config to verdict, through Airflow's scheduler, watched task by task."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any
from urllib.parse import quote

import requests

from include.config import RunConfig
from include.config_files import example, read_config, resolve_config
from include.errors import ConfigError
from include.files import is_there
from include.names import GENERAL_DAG, slug
from scripts import local
from scripts.command import plainly

ENDED = {*local.ENDED, "skipped", "upstream_failed", "removed"}
"""States of a task that is over."""
TOLD = {"running", "up_for_retry", "awaiting_input"}
CANCEL_SECONDS = 900
PATHS = ("source", "system_prompt_file", "recipe", "anchor_pairs")
"""Keys that may hold the path of a file."""


def load(config: Path | None, environment: str | None, cwd: Path) -> dict[str, Any]:
    """Read an evaluation; the paths in it are meant from where the command was given."""
    conf = read_config(cwd / config) if config else example()
    if conf is None:
        raise ConfigError("the example evaluation is gone: say which one with CONFIG=")
    whole: dict[str, Any] = _whole_paths(conf, cwd)
    return {**whole, "environment": environment} if environment else whole


def _whole_paths(part: Any, cwd: Path) -> Any:
    """Write out the paths of files that are there: Airflow works in another folder."""
    if isinstance(part, list):
        return [_whole_paths(each, cwd) for each in part]
    if not isinstance(part, dict):
        return part
    whole = {key: _whole_paths(value, cwd) for key, value in part.items()}
    for key in PATHS:
        path = part.get(key)
        if isinstance(path, str) and is_there(cwd / path):
            whole[key] = str((cwd / path).resolve())
    return whole


def check_account(config: RunConfig) -> None:
    """Fail before anything is started if the environment's AWS is not there or not the one."""
    from include import account
    from include.tasks import aws

    client = aws(config.environment.aws_conn_id)
    account.check(client("sts", **account.QUICK), config.environment)


class Watch:
    """Prints every change of every task until the run ends."""

    def __init__(self, api: local.Api, run_id: str) -> None:
        self.api = api
        self.path = f"/dags/{GENERAL_DAG}/dagRuns/{quote(run_id, safe='')}"
        self.seen: dict[tuple[str, int], str] = {}
        self.started = time.monotonic()

    def tasks(self) -> list[dict[str, Any]]:
        """Return all task instances, and print what has changed."""
        instances = self.api.tasks(self.path)
        for each in sorted(instances, key=lambda t: t["start_date"] or "~"):
            key, state = (each["task_id"], each["map_index"]), each["state"] or "waiting"
            if self.seen.get(key) != state and state in ENDED | TOLD:
                label = each["rendered_map_index"] or (key[1] if key[1] >= 0 else "")
                name = f"{key[0]} [{label}]" if label != "" else key[0]
                print(f"{time.monotonic() - self.started:6.0f} s  {name:<44} {state}", flush=True)
                if state == "awaiting_input":
                    where = f"{self.api.place.airflow_url}/required_actions"
                    print(f"{'':10}a person is asked: {where}", flush=True)
            self.seen[key] = state
        return instances

    def until_end(self) -> str:
        """Wait for the run; return its state."""
        while True:
            state: str = self.api.call("GET", self.path)["state"]
            self.tasks()
            if state in local.ENDED:
                return state
            time.sleep(1)

    def cancel(self) -> None:
        """Mark the run failed and wait until its teardown has deleted the endpoints."""
        print("\nCancelling: waiting until the run's endpoints are gone", flush=True)
        self.api.call("PATCH", self.path, state="failed")
        end = time.monotonic() + CANCEL_SECONDS
        while time.monotonic() < end:
            tasks = self.tasks()
            if all(each["state"] in ENDED for each in tasks):
                deleted = [each["state"] for each in tasks if each["task_id"] == "delete"]
                if set(deleted) <= {"success", "skipped"}:
                    print("Cancelled; nothing of it is left on AWS")
                    return
                print("An endpoint could not be deleted; the janitor tries again", file=sys.stderr)
                return
            time.sleep(1)
        print("Some tasks did not end; look at the endpoints in the AWS console", file=sys.stderr)


def _check_writable(target: Path) -> None:
    """Make a folder, or find out that nothing can be written into it.

    Raises:
        OSError: That is so.
    """
    target.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=target):
        pass


def copy_results(config: RunConfig, folder_uri: str, target: Path) -> dict[str, Any] | None:
    """Copy summary, report and charts to this machine; return the summary if there is one.

    Raises:
        LocalError: They cannot be copied; where they are.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return _copied(config, folder_uri, target)
    except (BotoCoreError, ClientError, OSError) as error:
        raise local.LocalError(
            f"the run has ended, and its results are in {folder_uri}; they cannot be copied to "
            f"{target}: {error}"
        ) from None


def _copied(config: RunConfig, folder_uri: str, target: Path) -> dict[str, Any] | None:
    from include import storage
    from include.tasks import aws

    folder = storage.RunFolder(aws(config.environment.aws_conn_id)("s3"), folder_uri)
    summary: dict[str, Any] | None = folder.read_json(storage.SUMMARY)
    if summary is None:
        return None
    for name in [storage.SUMMARY, storage.REPORT, *folder.names("charts/")]:
        file = target / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(folder.read(name))
    return summary


def run(arguments: argparse.Namespace) -> int:
    """Do it all; return the exit code."""
    conf = load(arguments.config, arguments.env, arguments.cwd)
    conf.pop("schedule", None)  # it runs now
    config = resolve_config(conf)
    place = local.Place.from_environment()
    if arguments.out:
        _check_writable(arguments.cwd / arguments.out)  # before it costs money
    os.environ.update(local.airflow_environment(place))
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"  # of this command, not of Airflow
    if config.environment.name == "sandbox":
        local.start_sandbox(place)
    else:
        check_account(config)
    local.start_airflow(place)
    api = local.Api(place)
    started = api.call("POST", f"/dags/{GENERAL_DAG}/dagRuns", logical_date=None, conf=conf)
    run_id = started["dag_run_id"]
    watch = Watch(api, run_id)
    url = f"{place.airflow_url}/dags/{GENERAL_DAG}/runs/{quote(run_id)}"
    print(f"Run {run_id}: {url}")
    target = arguments.cwd / (arguments.out or place.state / "runs" / slug(run_id))
    try:
        state = watch.until_end()
    except KeyboardInterrupt:
        watch.cancel()
        _results(api, watch, config, target)
        return 130
    summary = _results(api, watch, config, target)
    _say(summary, state, target, url, api)
    return 0 if state == "success" else 1


def _results(
    api: local.Api, watch: Watch, config: RunConfig, target: Path
) -> dict[str, Any] | None:
    try:
        entry = api.call("GET", f"{watch.path}/taskInstances/resolve/xcomEntries/uri")
    except requests.HTTPError:
        return None  # the run ended before it had a folder
    return copy_results(config, entry["value"].strip('"'), target)


def _say(
    summary: dict[str, Any] | None, state: str, target: Path, url: str, api: local.Api
) -> None:
    print()
    for comparison in (summary or {}).get("comparisons", []):
        print(comparison["sentence"])
    if summary:
        print(f"Gate: {summary['gate']['outcome']}. {summary['gate']['reason']}")
        print(f"\nReport    {target / 'report.html'}")
    if state != "success":
        print(f"The run has failed; its tasks' logs say why: {url}", file=sys.stderr)
    print(f"Airflow   {api.place.airflow_url}   log in as {' / '.join(api.login)}")


@plainly
def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="make run", description=__doc__)
    parser.add_argument("--config", type=Path, help="JSON or YAML file (CONFIG=)")
    parser.add_argument("--out", type=Path, help="folder for summary, report and charts (OUT=)")
    parser.add_argument("--env", help="environment instead of the config's (ENV=)")
    parser.add_argument("--cwd", type=Path, default=Path.cwd(), help="where paths start")
    try:
        return run(parser.parse_args())
    except requests.RequestException as error:
        raise local.LocalError(f"Airflow refuses: {error}") from None


if __name__ == "__main__":
    sys.exit(main())
